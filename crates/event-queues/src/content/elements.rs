//! Cuts a JSON document of any length into its elements, one a line, without holding more than one of them. What stood in an
//! array or an envelope is in an array on its line, too, so that the decoder reads it as an element: `null`, say, is one there.
//!
//! An element of a top-level array is one; so is an element of the array under the key `events` of a top-level object,
//! wherever in it that key comes; and so is any other top-level object. Top-level values may follow one another. The
//! other members of an object with `events` are dropped: they are no events.
//!
//! The splitter follows brackets and strings only: the decoder checks whether an element is JSON. It drops commas and white
//! space between elements; any other bytes there become a line of their own, for the decoder to book. Some rules keep a
//! broken element from taking its neighbours along, beyond what the decoder makes good within one line: a raw newline ends a
//! string (JSON has none inside); a byte that can't follow a closing quote is in a string again, because a quote is missing;
//! a `{` where an object needs a key starts the next element, and so does one in an array in an element that is half as long
//! as the limit; the rest behind an array that was closed too early is split like a new document.
//!
//! A JSON parser can't do this: for a broken element it reports where it noticed, but not where the element ends nor which
//! part is whole. So these rules would be needed behind it all the same, and elements would be read twice.

mod container;
mod ending;

use std::mem;

pub(super) use self::container::Container;
use super::Cut;

/// The key whose array holds the events of an envelope.
const EVENTS: &[u8] = b"events";
/// [`Element::previous`] where white space follows a closing quote.
const BLANK: u8 = b' ';
/// How many levels of nesting the splitter knows the kind of bracket of; deeper ones are only counted.
const LEVELS_KNOWN: u64 = u128::BITS as u64;

/// The state between two bytes of a document.
#[derive(Debug, Default)]
pub(crate) struct ElementSplitter {
    container: Container,
    /// The element that is being read; None between two of them.
    element: Option<Element>,
    /// Whole elements, followed by the bytes read of the next.
    out: Vec<u8>,
    /// The length of the whole elements in `out`.
    complete: usize,
    /// Offset in this call's input up to which the element has been copied to `out`.
    held_to: usize,
    oversized: u32,
    /// Whether the last element that was taken is whole; None before the first.
    is_last_taken_whole: Option<bool>,
    /// The position in the content where the next bytes begin; during a call, those of the call.
    position: u64,
    /// Where the last element ended.
    element_end: u64,
    /// Elements that end here or before have been settled in an earlier run.
    settled: u64,
    element_bytes_max: usize,
}

/// The kind of an element, as far as its first byte and its place tell.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ElementKind {
    /// An object or an array.
    #[default]
    Value,
    /// A top-level object, which may turn out to be an envelope.
    TopObject,
    /// The rest of an envelope behind its events: it is dropped.
    Remainder,
    /// Neither object nor array: a number, a string, garbage.
    Loose,
}

/// The state of an element that is being read.
#[derive(Debug, Default)]
struct Element {
    /// Its position in the content.
    start: u64,
    kind: ElementKind,
    in_string: bool,
    escaped: bool,
    /// How many brackets are open.
    depth: u64,
    /// Bit n says that bracket n is a brace.
    braces: u128,
    /// The last byte that is neither white space nor inside a string; [`BLANK`] for white space behind one.
    previous: u8,
    /// The least depth at which an object began in an array of an element that has grown long.
    object_depth: Option<u64>,
    /// How many bytes of [`EVENTS`] the present key of the envelope has matched, as long as it does.
    key: Option<usize>,
}

/// Why reading an element stops.
enum Stop {
    /// The bytes are at their end, or another function reads what follows.
    Open,
    /// It ends here.
    End,
    /// It is an envelope, and its events begin here.
    Events,
}

impl ElementSplitter {
    /// Starts at the beginning of a document, which has this `position` in its content. Elements that end at or
    /// before `settled` are left out.
    pub(crate) fn new(position: u64, settled: u64, element_bytes_max: usize) -> Self {
        Self { position, element_end: position, settled, element_bytes_max, ..Self::default() }
    }

    /// Reads on. The output does not depend on how the document is divided into calls.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.held_to = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let Some(element) = &mut self.element else {
                at = self.between(byte, at);
                continue;
            };
            if element.in_string {
                at = element.string(bytes, at);
                continue;
            }
            let stop;
            (at, stop) = match element.kind {
                ElementKind::Loose => element.loose(bytes, at, self.container),
                _ => element.value(bytes, at, self.position, self.element_bytes_max),
            };
            match stop {
                Stop::Open => {}
                Stop::End => self.end_element(bytes, at),
                Stop::Events => {
                    self.drop_element();
                    self.container = Container::Events;
                }
            }
        }
        self.hold_up_to(bytes, at);
        self.position += bytes.len() as u64;
    }

    /// Bytes of whole elements that wait to be taken.
    pub(crate) fn waiting(&self) -> usize {
        self.complete
    }

    /// The elements that have ended since the last call, one a line.
    pub(crate) fn take(&mut self) -> Option<Cut> {
        if self.complete == 0 && self.oversized == 0 {
            return None;
        }
        self.is_last_taken_whole = self.is_last_whole();
        // The next body will probably be as long.
        let mut next = Vec::with_capacity(self.out.len());
        next.extend_from_slice(&self.out[self.complete..]);
        let mut body = mem::replace(&mut self.out, next);
        body.truncate(self.complete);
        self.complete = 0;
        Some(Cut::lines(body.into(), mem::take(&mut self.oversized), self.element_end))
    }

    /// Takes one byte, or begins an element with it. Returns where to read on.
    fn between(&mut self, byte: u8, at: usize) -> usize {
        let mut element = Element { start: self.position + at as u64, ..Element::default() };
        match (byte, self.container) {
            (b' ' | b'\t' | b'\r' | b'\n' | b',', _) => return at + 1,
            (b'[', Container::Document) => self.container = Container::Array,
            (b']', Container::Array) => self.container = Container::Document,
            (b']', Container::Events) => {
                self.container = Container::Document;
                element.kind = ElementKind::Remainder;
                element.open(b'{');
                element.previous = byte;
                self.element = Some(element);
            }
            (_, container) => {
                element.kind = match (byte, container) {
                    (b'{', Container::Document) => ElementKind::TopObject,
                    (b'{' | b'[', _) => ElementKind::Value,
                    _ => ElementKind::Loose,
                };
                self.out.extend_from_slice(container.around().0);
                self.element = Some(element);
                self.held_to = at;
                return at;
            }
        }
        at + 1
    }

    /// Copies the part of the element that has been read and not been copied yet, unless it is too long.
    fn hold_up_to(&mut self, bytes: &[u8], at: usize) {
        let Some(element) = &self.element else { return };
        if element.kind == ElementKind::Remainder
            || element.length(self.position, at) > self.element_bytes_max as u64
        {
            self.out.truncate(self.complete);
        } else {
            self.out.extend_from_slice(&bytes[self.held_to..at]);
        }
        self.held_to = at;
    }

    /// The element, if there is one, ends before `at`.
    fn end_element(&mut self, bytes: &[u8], at: usize) {
        self.hold_up_to(bytes, at);
        let Some(element) = &self.element else { return };
        let end = self.position + at as u64;
        if element.kind != ElementKind::Remainder && end > self.settled {
            self.element_end = end;
            if end - element.start > self.element_bytes_max as u64 {
                self.oversized = self.oversized.saturating_add(1);
            } else {
                while let Some(newline) = memchr::memchr(b'\n', &self.out[self.complete..]) {
                    self.complete += newline + 1;
                    self.out[self.complete - 1] = b' ';
                }
                self.out.extend_from_slice(self.container.around().1);
                self.out.push(b'\n');
                self.complete = self.out.len();
            }
        }
        self.drop_element();
    }

    /// Drops the bytes held of an unfinished element.
    fn drop_element(&mut self) {
        self.out.truncate(self.complete);
        self.element = None;
    }
}

impl Element {
    /// Its length, up to `at` in bytes that begin at `position`.
    fn length(&self, position: u64, at: usize) -> u64 {
        position + at as u64 - self.start
    }

    /// Reads an object or an array.
    fn value(&mut self, bytes: &[u8], mut at: usize, position: u64, bytes_max: usize) -> (usize, Stop) {
        while let Some(&byte) = bytes.get(at) {
            if self.previous == b'"'
                && !matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
            {
                // This byte can't follow a closing quote: a quote is missing, so treat it as inside a string.
                self.previous = BLANK;
                self.in_string = true;
                at = self.string(bytes, at);
                continue;
            }
            match byte {
                b'"' => {
                    let is_key = self.is_member_of_envelope() && matches!(self.previous, b'{' | b',');
                    self.key = is_key.then_some(0);
                    self.in_string = true;
                    at = self.string(bytes, at + 1);
                    continue;
                }
                b'{' if self.is_next_element(self.length(position, at), bytes_max as u64) => {
                    return (at, Stop::End);
                }
                b'[' if self.is_member_of_envelope()
                    && self.previous == b':'
                    && self.key == Some(EVENTS.len()) =>
                {
                    return (at + 1, Stop::Events);
                }
                b'{' | b'[' => self.open(byte),
                b'}' | b']' => {
                    self.depth -= 1;
                    self.previous = byte;
                    if self.depth == 0 {
                        return (at + 1, Stop::End);
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' => {
                    if self.previous == b'"' {
                        self.previous = BLANK;
                    }
                }
                _ => self.previous = byte,
            }
            at += 1;
        }
        (at, Stop::Open)
    }

    /// Reads on in a string, to its end if that is at hand. Inlined, because strings are short and many.
    #[inline]
    fn string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while at < bytes.len() {
            if mem::take(&mut self.escaped) && bytes[at] != b'\n' {
                at += 1;
                continue;
            }
            let rest = &bytes[at..];
            let length = memchr::memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len());
            self.compare_key(&rest[..length]);
            at += length;
            match rest.get(length) {
                None => {}
                Some(b'\\') => {
                    self.key = None;
                    self.escaped = true;
                    at += 1;
                }
                Some(b'"') => {
                    self.in_string = false;
                    self.previous = b'"';
                    return at + 1;
                }
                // A newline belongs to whatever holds the string.
                Some(_) => {
                    self.key = None;
                    self.in_string = false;
                    self.previous = BLANK;
                    return at;
                }
            }
        }
        at
    }

    /// Reads what is neither object nor array.
    fn loose(&mut self, bytes: &[u8], at: usize, container: Container) -> (usize, Stop) {
        let is_top = container == Container::Document;
        let is_end = |byte: u8| match byte {
            b',' | b'{' | b'[' => true,
            b']' => !is_top,
            b'\n' => is_top,
            _ => false,
        };
        match bytes[at..].iter().position(|byte| *byte == b'"' || is_end(*byte)).map(|length| at + length) {
            Some(at) if bytes[at] == b'"' => {
                self.in_string = true;
                (at + 1, Stop::Open)
            }
            Some(at) => (at, Stop::End),
            None => (bytes.len(), Stop::Open),
        }
    }

    fn open(&mut self, bracket: u8) {
        if self.depth < LEVELS_KNOWN {
            let bit = 1 << self.depth;
            self.braces = if bracket == b'{' { self.braces | bit } else { self.braces & !bit };
        }
        self.depth += 1;
        self.previous = bracket;
    }

    fn is_member_of_envelope(&self) -> bool {
        matches!(self.kind, ElementKind::TopObject | ElementKind::Remainder) && self.depth == 1
    }

    fn compare_key(&mut self, bytes: &[u8]) {
        let Some(matched) = self.key else { return };
        let is_part = EVENTS[matched..].starts_with(bytes);
        self.key = is_part.then_some(matched + bytes.len());
    }

    /// Whether a brace that comes now begins the next element, because this one is broken: either an object needs a key
    /// here; or the element is longer than any event, and the brace is as deep as those of the objects before it (objects
    /// inside them are deeper).
    fn is_next_element(&mut self, length: u64, bytes_max: u64) -> bool {
        let is_known = (1..=LEVELS_KNOWN).contains(&self.depth);
        if is_known && self.braces >> (self.depth - 1) & 1 == 1 && self.previous != b':' {
            return true;
        }
        if !matches!(self.previous, b',' | b'[') || self.kind == ElementKind::Remainder {
            return false;
        }
        if length > bytes_max / 4 && length <= bytes_max / 2 {
            self.object_depth = Some(self.object_depth.map_or(self.depth, |depth| depth.min(self.depth)));
        }
        let is_as_deep = self.object_depth.is_none_or(|depth| self.depth <= depth);
        length > bytes_max / 2 && is_as_deep || length > bytes_max
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn split_within(text: &[u8], step: usize, settled: u64, element_bytes_max: usize) -> Vec<Cut> {
        let mut splitter = ElementSplitter::new(0, settled, element_bytes_max);
        let mut all = Vec::new();
        for bytes in text.chunks(step) {
            splitter.push(bytes);
            all.extend(splitter.take());
        }
        splitter.finish();
        all.extend(splitter.take());
        all
    }

    fn split(text: &str) -> Vec<String> {
        let whole = split_within(text.as_bytes(), usize::MAX, 0, 1000);
        let bodies = whole.into_iter().flat_map(|pieces| pieces.body).collect();
        let bare = |line: &str| String::from_utf8(Container::strip(line.as_bytes()).to_vec()).unwrap();
        String::from_utf8(bodies).unwrap().lines().map(bare).collect()
    }

    #[test]
    fn the_elements_of_an_array_become_lines() {
        assert_eq!(
            split(r#"[{"a":1},{"a":[2,{"b":3}]} , 4,"x,]",null]"#),
            [r#"{"a":1}"#, r#"{"a":[2,{"b":3}]}"#, "4", r#""x,]""#, "null",]
        );
        assert!(split(" [ ] ").is_empty());
        assert_eq!(split("[[1,2],[3]]"), ["[1,2]", "[3]"]);
    }

    /// `null` and `{}` are no events at the top, and malformed ones in an array.
    #[test]
    fn what_stood_in_an_array_stands_in_one_again() {
        let text = br#"[null,{}]{"x":1,"events":[{"a":1}, oops]}{}{"b":[1]}[[2]]"#;
        for step in [1, usize::MAX] {
            let body: Vec<u8> =
                split_within(text, step, 0, 1000).into_iter().flat_map(|cut| cut.body).collect();
            let lines = "[null]\n[{}]\n[{\"a\":1}]\n[oops]\n{}\n{\"b\":[1]}\n[[2]]\n";
            assert_eq!(String::from_utf8(body).unwrap(), lines);
        }
    }

    #[test]
    fn newlines_outside_strings_become_spaces() {
        assert_eq!(split("[\n{\n\"a\":\n1\n}\n]"), ["{ \"a\": 1 }"]);
    }

    #[test]
    fn the_events_of_an_envelope_become_lines_whatever_stands_around_them() {
        for text in [
            r#"{"events":[{"a":1},{"a":2}]}"#,
            r#"{"version":{"events":[9]},"x":["events"],"events" : [{"a":1},{"a":2}],"after":[{"b":{}}]}"#,
            r#"{"e\"vents":"events","events":[{"a":1}],"events":[{"a":2}]}"#,
            r#"{"events":[{"a":1}]} {"events":[]} [{"a":2}]"#,
        ] {
            assert_eq!(split(text), [r#"{"a":1}"#, r#"{"a":2}"#], "{text}");
        }
    }

    #[test]
    fn an_object_without_an_array_of_events_is_an_event() {
        for text in [
            r#"{"id":"events"}"#,
            r#"{"events":{"a":[1]}}"#,
            r#"{"events":null,"b":[1]}"#,
            r#"{"event":[1]}"#,
            r#"{"eventss":[1]}"#,
            r#"{"a":{"events":[1]}}"#,
        ] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn values_that_follow_one_another_are_split_too() {
        assert_eq!(
            split("{\n\"a\": 1\n}\n{\n\"a\": 2\n}\n[3]{\"a\":4},{}"),
            ["{ \"a\": 1 }", "{ \"a\": 2 }", "3", "{\"a\":4}", "{}",]
        );
    }

    /// What Amazon Data Firehose writes to a bucket, whose records no newline divides unless it is asked to.
    #[test]
    fn events_that_firehose_has_put_one_behind_the_other_are_divided() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/intermediaries/firehose-concatenated.json");
        let text = std::fs::read(path).unwrap();
        assert!(!text.contains(&b'\n'));
        let events = String::from_utf8(text.clone()).unwrap().matches("\"event_type\"").count();
        for step in [1, 4096, usize::MAX] {
            let all = split_within(&text, step, 0, 100_000);
            let body: Vec<u8> = all.into_iter().flat_map(|cut| cut.body).collect();
            let lines: Vec<&[u8]> =
                body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
            assert_eq!(lines.len(), events);
            assert!(lines.iter().all(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok()));
            // Nothing but newlines has been added.
            assert_eq!(lines.concat(), text);
        }
    }

    #[test]
    fn garbage_between_elements_is_handed_on() {
        assert_eq!(
            split(r#"[{"a":1} oops, {"a":2}}, : {"a":3}{"a":4}] tail"#),
            [r#"{"a":1}"#, "oops", r#"{"a":2}"#, "}", ": ", r#"{"a":3}"#, r#"{"a":4}"#, "tail",]
        );
    }

    #[test]
    fn what_the_file_ends_inside_of_is_handed_on() {
        assert_eq!(split(r#"[{"a":1},{"a":"#), [r#"{"a":1}"#, r#"{"a":"#]);
        assert_eq!(split(r#"[{"a":1},{"a":"x\"#), [r#"{"a":1}"#, r#"{"a":"x\"#]);
        assert_eq!(split(r#"[{"a":1},tru"#), [r#"{"a":1}"#, "tru"]);
        assert_eq!(split(r#"{"even"#), [r#"{"even"#]);
        // Nothing that could be an event is lost here.
        assert_eq!(split(r#"{"events":[{"a":1}],"x":1"#), [r#"{"a":1}"#]);
    }

    #[test]
    fn a_broken_element_harms_no_neighbour() {
        for broken in [
            r#"{"b":1"#,
            r#"{"b":"#,
            r#"{"b""#,
            r#"{"b":{"c":1}"#,
            r#"{"b" 1}"#,
            r#"{"b":[1}"#,
            r#"{"b":1]"#,
            r#"{"b":1}}"#,
            "{bad}",
            "{\"b\":\"unterminated\n}",
            "{\"b\":\"un\\\nterminated\n}",
            "nul",
            "\u{1}",
        ] {
            for text in [
                format!("[{{\"a\":1}},\n{broken},\n{{\"a\":2}},{{\"a\":3}}]"),
                format!("{{\"events\":[{{\"a\":1}},{broken},{{\"a\":2}}]}}{{\"a\":3}}"),
            ] {
                let lines = split(&text);
                let good = lines.iter().filter(|line| line.starts_with("{\"a\":"));
                assert_eq!(good.collect::<Vec<_>>(), ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"], "{text}");
                assert!(lines.len() > 3, "{text}");
            }
        }
    }

    #[test]
    fn a_missing_quote_or_bracket_never_swallows_what_follows() {
        let element = |number: usize| format!(r#"{{"a":"{number}","b":["x",{{"c":"y, z"}}],"d":"e"}}"#);
        let whole = element(3);
        let at = |byte: &u8| b"\"{}[]:,".contains(byte);
        for place in (0..whole.len()).filter(|place| at(&whole.as_bytes()[*place])) {
            for head in ["[", "{\"events\":[", "{\"evente\":["] {
                let mut broken = whole.clone();
                broken.remove(place);
                let mut elements: Vec<_> = (0..100).map(element).collect();
                elements[3].clone_from(&broken);
                let text = format!("{head}{}]", elements.join(","));
                let all = split_within(text.as_bytes(), 9, 0, 1000);
                assert!(all.iter().all(|pieces| pieces.oversized == 0), "{broken}");
                let body = all.into_iter().flat_map(|pieces| pieces.body).collect();
                let body = String::from_utf8(body).unwrap();
                // What lies in one line with damage, the decoder finds.
                for number in (0..100).filter(|number| *number != 3) {
                    assert_eq!(body.matches(&element(number)).count(), 1, "{number} behind {broken}: {body}");
                }
            }
        }
    }

    #[test]
    fn a_piece_that_is_too_long_is_counted_and_not_held() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
        let text = format!("[1,{long},2]{long}{{\"pad\":\"{}\",\"events\":[3]}}4", "x".repeat(100));
        for step in [1, 7, 1000] {
            let mut splitter = ElementSplitter::new(0, 0, 50);
            for bytes in text.as_bytes().chunks(step) {
                splitter.push(bytes);
                assert!(splitter.out.len() - splitter.waiting() <= "[".len() + 50);
            }
            splitter.finish();
            let Cut { body, oversized, position, .. } = splitter.take().unwrap();
            assert_eq!((&body[..], oversized, position), (&b"[1]\n[2]\n[3]\n4\n"[..], 2, text.len() as u64));
        }
    }

    #[test]
    fn nesting_of_any_depth_costs_no_memory() {
        let mut splitter = ElementSplitter::new(0, 0, 1000);
        for _ in 0..1000 {
            splitter.push(&[b'['; 1000]);
        }
        for _ in 0..1000 {
            splitter.push(&[b']'; 1000]);
        }
        splitter.push(b"{}");
        assert!(splitter.out.capacity() < 10_000);
        assert_eq!(splitter.take().unwrap().oversized, 1);
    }

    fn jsonish() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\""),
            Just("\\"),
            Just("\n"),
            Just(" "),
            Just("1"),
            Just("\"events\":["),
            Just("{\"a\":1}"),
            Just("x"),
        ];
        vec(token, 0..60).prop_map(|tokens| tokens.concat().into_bytes())
    }

    proptest! {
        /// For any bytes: how they are divided into calls changes nothing, and what was settled and what is
        /// left add up to the whole at every piece's end.
        #[test]
        fn pieces_depend_on_the_bytes_alone(text in jsonish(), step in 1_usize..9, max in 1_usize..20) {
            let join = |all: Vec<Cut>| all.into_iter().fold((Vec::new(), 0), |(mut body, oversized), next| {
                body.extend(next.body);
                (body, oversized + next.oversized)
            });
            let whole = join(split_within(&text, usize::MAX, 0, max));
            let steps = split_within(&text, step, 0, max);
            prop_assert_eq!(&join(steps.clone()), &whole);
            for stop in 0..steps.len() {
                let settled = steps[stop].position;
                let mut both = steps[..=stop].to_vec();
                both.extend(split_within(&text, 3, settled, max));
                prop_assert_eq!(&join(both), &whole);
            }
        }

        /// For any bytes: nothing but white space, commas, the brackets of containers and what surrounds the
        /// events in their envelope is left out.
        #[test]
        fn nothing_is_lost_outside_envelopes(text in jsonish().prop_filter("an envelope", |text| {
            !text.windows(6).any(|window| window == EVENTS)
        })) {
            let count = |bytes: &[u8]| bytes.iter().filter(|byte| !b" \n,[]".contains(byte)).count();
            let out: Vec<_> = split_within(&text, 5, 0, 1000).into_iter().flat_map(|pieces| pieces.body).collect();
            prop_assert_eq!(count(&out), count(&text));
        }
    }
}
