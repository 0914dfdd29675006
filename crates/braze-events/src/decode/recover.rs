//! Reads on behind damage: what makes one event unreadable takes no other along.
//!
//! Where the grammar breaks, nothing is known of the brackets any more. So every `{` from the broken element on is
//! tried as the start of an event, and taken if the object there is whole and says what it is. No `{` within a string
//! can be mistaken for one: the quotes in a string are escaped, and no key begins with a backslash.

use super::cursor::{Broken, Fault};
use super::{Element, Pass, Place};
use crate::Skipped;

/// Bytes that may be read in vain, for each byte of the document: what is nested without end would be read once for
/// every level.
const VAIN_BYTES_FACTOR: usize = 8;

/// What can be relied on around an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The grammar holds: the value of a key is a part of something, and no event.
    Structure,
    /// It does not: the key in front of an object may be all that is left of the element before.
    Nothing,
}

/// What was read behind damage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RecoveredElement {
    pub(super) events: u32,
    pub(super) skipped: Skipped,
}

impl Pass<'_> {
    /// Refuses an object, from `start` up to the cursor, that says neither what it is nor which, if it holds events: it
    /// is another's envelope, or one whose key is damaged.
    #[inline]
    pub(super) fn ensure_no_envelope(&mut self, start: usize, place: Place) -> Result<(), Broken> {
        if !self.found.event_type.is_empty() || !self.found.id.is_empty() || place == Place::Envelope {
            return Ok(());
        }
        let end = self.cursor.pos;
        if self.hides_events(start) {
            return self.cursor.fail(start, Fault::NotAnEnvelope);
        }
        // What was found in it is gone.
        self.cursor.pos = start;
        self.object(Place::Envelope, &mut |_| ())?;
        self.cursor.pos = end;
        Ok(())
    }

    /// Whether there are events in the text from `start` on up to the cursor. Leaves all as it was but for what was
    /// found in the last object.
    #[cold]
    pub(super) fn hides_events(&mut self, start: usize) -> bool {
        let end = self.cursor.pos;
        if memchr::memchr(b'{', self.cursor.text().get(start + 1..end).unwrap_or_default()).is_none() {
            return false;
        }
        let settled = std::mem::replace(&mut self.settled, start);
        let hidden = self.recover(end, Trust::Structure, &mut |_| ()).events;
        (self.settled, self.cursor.pos) = (settled, end);
        hidden > 0
    }

    /// Hands out every event that is whole from where the last element ended up to `end`.
    #[cold]
    pub(super) fn recover(
        &mut self,
        end: usize,
        trust: Trust,
        emit: &mut dyn FnMut(Element<'_>),
    ) -> RecoveredElement {
        let text = self.cursor.text();
        let mut recovered = RecoveredElement::default();
        let mut vain_bytes_max = (end - self.settled).saturating_mul(VAIN_BYTES_FACTOR);
        let mut at = self.settled;
        while let Some(length) = memchr::memchr(b'{', &text[at..end]) {
            let start = at + length;
            self.cursor.pos = start;
            // As in an envelope: an envelope in it is found by its events.
            let is_whole = self.object(Place::Envelope, emit).is_ok() && self.cursor.pos <= end;
            if is_whole && self.says_what_it_is(start, trust) {
                recovered.skip(&text[self.settled..start]);
                recovered.events = recovered.events.saturating_add(1);
                emit(Element::Event(self.found.event(text)));
                self.settled = self.cursor.pos;
                at = self.settled;
                continue;
            }
            let Some(left) = vain_bytes_max.checked_sub(self.cursor.pos - start) else { break };
            vain_bytes_max = left;
            at = start + 1;
        }
        recovered.skip(&text[self.settled..end]);
        recovered
    }

    /// Whether the object that was read last is an event by what stands in it, rather than a part of one.
    fn says_what_it_is(&self, start: usize, trust: Trust) -> bool {
        let has_type = !self.found.event_type.is_empty();
        if has_type && trust == Trust::Nothing {
            return true;
        }
        let has_id_and_time = !self.found.id.is_empty() && self.found.time.seconds().is_some();
        (has_type || has_id_and_time) && !ends_with_key(&self.cursor.text()[self.start..start])
    }
}

impl RecoveredElement {
    /// Books what lies between two events, or behind the last. Commas and brackets are no loss.
    fn skip(&mut self, between: &[u8]) {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let is_structure = |byte: &u8| is_blank(byte) || matches!(byte, b'[' | b']' | b'}');
        if between.iter().all(is_structure) {
            return;
        }
        let blanks = between.iter().take_while(|byte| is_blank(byte)).count()
            + between.iter().rev().take_while(|byte| is_blank(byte)).count();
        self.skipped.stretches = self.skipped.stretches.saturating_add(1);
        self.skipped.bytes += (between.len() - blanks) as u64;
    }
}

/// Whether what follows `text` is the value of a key.
fn ends_with_key(text: &[u8]) -> bool {
    text.trim_ascii_end().strip_suffix(b":").is_some_and(|key| key.trim_ascii_end().ends_with(b"\""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reference::{EMAIL, Element, decode_with, skipped};
    use crate::Malformed;
    use crate::{Framing, Origin, Part};

    fn decode(body: &str) -> Vec<Element> {
        decode_with(body.as_bytes(), &Framing::Document, false, &Origin::default())
    }

    fn ignored(event_type: &str) -> Element {
        Element::Ignored(event_type.into())
    }

    #[test]
    fn what_is_whole_behind_damage_is_read_and_what_is_not_is_booked() {
        for (body, elements) in [
            (r#"[{"event_type":"a"},{"event_type":"b",,{"event_type":"c"}]"#, &["a", "", "c"][..]),
            (r#"{"events":[{"event_type":"a"},{"event_type":"b"}"#, &["a", "b", "?"]),
            (r#"{"events":{"event_type":"a"},{"event_type":"b"}]}"#, &["", "a", "b"]),
            (r#"{"evente":[{"event_type":"a"},{"event_type":"b"}]}"#, &["", "a", "b"]),
            (r#"[[{"event_type":"a"},{"event_type":"b"}],{"event_type":"c"}]"#, &["a", "b", "c"]),
            (r#"[{"event_type":"a"}{"event_type":"b"}]]"#, &["a", "b"]),
            (r#"{"event_type":"a"} {"event_type":"b"}"#, &["a", "b"]),
            (r#"{"event_type":"a"} x"#, &["a", ""]),
            (r#"[{"event_type":"a}, {"event_type":"b"}, {"event_type":"c"}]"#, &["", "b", "c"]),
            (r#"[{"event_type":a","x":{"event_type":"b"}}, {"event_type":"c"}]"#, &["", "b", "c"]),
        ] {
            let found = decode(body);
            let named: Vec<_> = elements.iter().filter(|name| name.len() == 1 && **name != "?").collect();
            let read: Vec<_> =
                found.iter().filter(|element| matches!(element, Element::Ignored(_))).collect();
            assert_eq!(
                read,
                named.iter().map(|name| ignored(name)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
            );
            let damage = found.iter().find(|element| matches!(element, Element::Skipped(_)));
            let expected = elements.iter().filter(|name| name.is_empty() || **name == "?").count();
            assert_eq!(damage.is_some(), expected > 0, "{body}: {found:?}");
            assert!(elements.contains(&"?") == (damage == Some(&skipped(1, 0))), "{body}: {found:?}");
        }
    }

    #[test]
    fn a_part_of_an_event_is_no_event() {
        let body =
            r#"[{"event_type":"a","properties":{"campaign_id":"c","id":"1","time":5},,"x":[{"id":"2"}]}]"#;
        assert_eq!(decode(body), [skipped(1, body.len() as u64 - 1)]);
        // Of a whole document even one that says its type.
        let body = r#"{"detail":{"event_type":"a","id":"1"}}"#;
        assert_eq!(decode(body), [Element::Malformed(Malformed::NoEventType)]);
    }

    #[test]
    fn an_event_whose_type_comes_from_outside_is_known_by_its_id_and_time() {
        let origin = Origin { event_type: Some(EMAIL.into()), ..Origin::default() };
        let body = br#"[{"id":"1","time":1,},{"id":"2","time":2,"x":{"id":"3","time":3}},{"id":"4"}]"#;
        let found = decode_with(body, &Framing::Document, false, &origin);
        assert!(
            matches!(&found[..], [Element::Send { id, .. }, Element::Skipped(_)] if id == "2"),
            "{found:?}"
        );
    }

    #[test]
    fn nesting_without_end_is_read_a_few_times_and_not_once_for_every_level() {
        let body = r#"[{"a":"#.repeat(200_000);
        assert_eq!(decode(&body), [skipped(1, body.len() as u64 - 1)]);
    }

    /// No damage in one place makes another's of it.
    fn id(number: usize) -> String {
        number.to_string().repeat(9)
    }

    fn event(number: usize) -> String {
        let id = id(number);
        format!(
            r#"{{"event_type":"{EMAIL}","id":"{id}","time":1795771955,"user":{{"user_id":"u","x":[1,{{"y":null}}]}},"subject":"Caf\u00e9 {{$\u007d}} \"now\" 😀","properties":{{"campaign_id":"c","n":-1.5e3}}}}"#
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Whatever is done to an envelope in one place, the events that it does not touch are all counted, once.
        #[test]
        fn damage_harms_the_events_that_it_touches_and_no_other(
            envelope in 0..4usize,
            events in 1..6usize,
            at: prop::sample::Index,
            removed in prop_oneof![3 => Just(0), 3 => Just(1), 2 => 0..40usize],
            inserted in proptest::collection::vec(
                prop_oneof![3 => prop::sample::select(b"\"\"\\{}[]:,0-e\n\r\t \0\xed\xa0\xff".to_vec()), 1 => any::<u8>()],
                0..3
            ),
        ) {
            let (head, tail) = [("{\"events\":[", "]}"), ("[", "]"), ("{\"x\":1,\"events\": [\n", "\n]}\n"), ("[{\"events\":[", "]}]")][envelope];
            let (mut body, mut places) = (head.as_bytes().to_vec(), Vec::new());
            for number in 0..events {
                if number > 0 {
                    body.push(b',');
                }
                let start = body.len();
                body.extend(event(number).bytes());
                places.push(start..body.len());
            }
            body.extend(tail.bytes());
            let start = at.index(body.len() + 1);
            let end = (start + removed).min(body.len());
            body.splice(start..end, inserted.iter().copied());
            let is_untouched = |place: &std::ops::Range<usize>| end <= place.start || place.end <= start;
            // A push, a line of a file, a message.
            let message = Part { end: body.len(), framing: Framing::Document };
            for framing in [Framing::Document, Framing::Lines, Framing::Parts([message].into())] {
                let found = decode_with(&body, &framing, true, &Origin::default());
                let count = |number: usize| {
                    let wanted = id(number);
                    let is_it = |element: &&Element| matches!(element, Element::Send { id, .. } if *id == wanted);
                    found.iter().filter(is_it).count()
                };
                for (number, place) in places.iter().enumerate() {
                    let times = count(number);
                    prop_assert!(times == 1 || (times == 0 && !is_untouched(place)), "{} of {}: {:?}",
                        number, String::from_utf8_lossy(&body), found);
                }
            }
        }
    }
}
