//! Splits a JSON document of any length into its events, one a line, without holding more than one of them.
//!
//! What is an event here: an element of a top-level array; an element of the array under the key `events` of
//! a top-level object, wherever in it that key comes; any other top-level object. Top-level values may follow
//! one another. The other members of an object with `events` are dropped: they are no events.
//!
//! The splitter follows brackets and strings and judges nothing else: whether an element is JSON is the
//! decoder's business. Commas and white space between elements are all that it drops; whatever else stands
//! there becomes a line of its own, for the decoder to book. Some rules keep a broken element from taking its
//! neighbours along, beyond what the decoder makes good within one line: a raw newline ends a string (JSON has none
//! inside); what follows a closing quote and can't, is in a string again, for a quote is missing; a `{` where an object
//! needs a key starts the next element, and so does one in an array of what has grown half as long as may be held; what
//! remains after an array was closed too early is split like a new document.

mod place;

use std::mem;

use self::place::{Container, Keep, Place};

/// The key whose array holds the events of an envelope.
const EVENTS: &[u8] = b"events";
/// [`Splitter::key`] while no key is being compared, or once it differs.
const NO_KEY: usize = usize::MAX;
/// [`Splitter::previous`] where white space follows a closing quote.
const BLANK: u8 = b' ';
/// How many levels of nesting the splitter knows the kind of bracket of; deeper ones are only counted.
const LEVELS_KNOWN: u64 = u128::BITS as u64;

/// Some lines of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pieces {
    /// One piece a line, each with its newline.
    pub(super) body: Vec<u8>,
    /// How many pieces before `position` were too long to be held.
    pub(super) oversized: u32,
    /// The position in the content that comes after the last of them.
    pub(super) position: u64,
}

/// The state between two bytes of a document.
#[derive(Debug)]
pub(super) struct Splitter {
    container: Container,
    place: Place,
    keep: Keep,
    in_string: bool,
    escaped: bool,
    /// The value is a top-level object, which may turn out to be an envelope.
    maybe_envelope: bool,
    /// How many brackets are open in the value.
    depth: u64,
    /// Bit n says that bracket n is a brace.
    braces: u128,
    /// The last byte of the value that is neither white space nor inside a string; [`BLANK`] for white space behind one.
    previous: u8,
    /// The least depth at which an object began in an array of what has grown long.
    element_depth: u64,
    /// How many bytes of [`EVENTS`] the present key of the envelope has matched.
    key: usize,
    /// Where in the bytes of this call begins what is still to be kept of the piece.
    kept_from: usize,
    out: Vec<u8>,
    /// How much of `out` is whole pieces.
    complete: usize,
    oversized: u32,
    /// The position in the content of the bytes that come next, or of those of this call.
    position: u64,
    /// Where the last piece ended.
    piece_end: u64,
    /// Pieces that end here or before have been settled in an earlier run.
    settled: u64,
    piece_bytes_max: usize,
}

impl Splitter {
    /// Starts at the beginning of a document, which has this `position` in its content. Pieces that end at or
    /// before `settled` are left out.
    pub(super) fn new(position: u64, settled: u64, piece_bytes_max: usize) -> Self {
        Self {
            container: Container::Top,
            place: Place::Between,
            keep: Keep::Copy,
            in_string: false,
            escaped: false,
            maybe_envelope: false,
            depth: 0,
            braces: 0,
            previous: 0,
            element_depth: u64::MAX,
            key: NO_KEY,
            kept_from: 0,
            out: Vec::new(),
            complete: 0,
            oversized: 0,
            position,
            piece_end: position,
            settled,
            piece_bytes_max,
        }
    }

    /// Reads on. What comes out does not depend on how the document is divided into calls.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.kept_from = 0;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at = match self.place {
                _ if self.in_string => self.string(bytes, at),
                Place::Between => self.between(byte, at),
                Place::Value => self.value(bytes, at),
                Place::Loose => self.loose(bytes, at),
            };
        }
        if self.place != Place::Between {
            self.keep_up_to(bytes, at);
        }
        self.position += bytes.len() as u64;
    }

    /// The document has ended: a piece that has not is handed on as it is.
    pub(super) fn finish(&mut self) {
        self.kept_from = 0;
        if self.place != Place::Between {
            self.end_piece(&[], 0);
        }
    }

    /// Bytes of whole pieces that wait to be taken.
    pub(super) fn waiting(&self) -> usize {
        self.complete
    }

    /// The pieces that have come to their end since the last call.
    pub(super) fn take(&mut self) -> Option<Pieces> {
        if self.complete == 0 && self.oversized == 0 {
            return None;
        }
        // The next body will probably be as long.
        let mut next = Vec::with_capacity(self.out.len());
        next.extend_from_slice(&self.out[self.complete..]);
        let mut body = mem::replace(&mut self.out, next);
        body.truncate(self.complete);
        self.complete = 0;
        Some(Pieces { body, oversized: mem::take(&mut self.oversized), position: self.piece_end })
    }

    // Each of the following reads on from `at` in one state and says where it stopped. One that stops where it
    // started has changed the state to one that will not.

    fn between(&mut self, byte: u8, at: usize) -> usize {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => at + 1,
            b'[' if self.container == Container::Top => {
                self.container = Container::Array;
                at + 1
            }
            b']' if self.container == Container::Array => {
                self.container = Container::Top;
                at + 1
            }
            b']' if self.container == Container::Events => {
                self.container = Container::Top;
                self.start(Place::Value, Keep::Remainder, at + 1);
                self.maybe_envelope = true;
                self.open(b'{');
                self.previous = byte;
                at + 1
            }
            b'{' | b'[' => {
                self.start(Place::Value, Keep::Copy, at);
                self.maybe_envelope = byte == b'{' && self.container == Container::Top;
                at
            }
            _ => {
                self.start(Place::Loose, Keep::Copy, at);
                at
            }
        }
    }

    fn value(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = bytes.get(at) {
            if self.previous == b'"'
                && !matches!(byte, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
            {
                // Nothing follows a closing quote like that: it opens a string, for another quote is missing.
                self.previous = BLANK;
                self.in_string = true;
                return at;
            }
            match byte {
                b'"' => {
                    let is_key = self.is_member_of_envelope() && matches!(self.previous, b'{' | b',');
                    self.key = if is_key { 0 } else { NO_KEY };
                    self.in_string = true;
                    return at + 1;
                }
                b'{' if self.in_braces() && self.previous != b':' => {
                    self.end_piece(bytes, at);
                    return at;
                }
                b'{' if matches!(self.previous, b',' | b'[') && self.is_no_event(bytes, at) => {
                    self.end_piece(bytes, at);
                    return at;
                }
                b'[' if self.is_member_of_envelope() && self.previous == b':' && self.key == EVENTS.len() => {
                    self.drop_piece();
                    self.container = Container::Events;
                    return at + 1;
                }
                b'{' | b'[' => self.open(byte),
                b'}' | b']' => {
                    self.depth -= 1;
                    self.previous = byte;
                    if self.depth == 0 {
                        self.end_piece(bytes, at + 1);
                        return at + 1;
                    }
                }
                b'\n' => {
                    self.keep_newline(bytes, at);
                    self.note_blank();
                }
                b' ' | b'\t' | b'\r' => self.note_blank(),
                _ => self.previous = byte,
            }
            at += 1;
        }
        at
    }

    fn string(&mut self, bytes: &[u8], at: usize) -> usize {
        if mem::take(&mut self.escaped) && bytes[at] != b'\n' {
            return at + 1;
        }
        let rest = &bytes[at..];
        let length = memchr::memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len());
        self.compare_key(&rest[..length]);
        match rest.get(length) {
            None => at + length,
            Some(b'\\') => {
                self.key = NO_KEY;
                self.escaped = true;
                at + length + 1
            }
            Some(b'"') => {
                self.in_string = false;
                self.previous = b'"';
                at + length + 1
            }
            // A newline, which belongs to what the string stands in.
            Some(_) => {
                self.key = NO_KEY;
                self.in_string = false;
                self.previous = BLANK;
                at + length
            }
        }
    }

    fn loose(&mut self, bytes: &[u8], mut at: usize) -> usize {
        let at_top = self.container == Container::Top;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b',' | b'{' | b'[' => {
                    self.end_piece(bytes, at);
                    return at;
                }
                b']' if !at_top => {
                    self.end_piece(bytes, at);
                    return at;
                }
                b'\n' if at_top => {
                    self.end_piece(bytes, at);
                    return at;
                }
                b'"' => {
                    self.in_string = true;
                    return at + 1;
                }
                b'\n' => self.keep_newline(bytes, at),
                _ => {}
            }
            at += 1;
        }
        at
    }

    fn start(&mut self, place: Place, keep: Keep, at: usize) {
        self.place = place;
        self.keep = keep;
        self.kept_from = at;
        self.maybe_envelope = false;
        self.depth = 0;
        self.previous = 0;
        self.element_depth = u64::MAX;
        self.key = NO_KEY;
    }

    fn open(&mut self, bracket: u8) {
        if self.depth < LEVELS_KNOWN {
            let bit = 1 << self.depth;
            self.braces = if bracket == b'{' { self.braces | bit } else { self.braces & !bit };
        }
        self.depth += 1;
        self.previous = bracket;
    }

    /// Whether the innermost open bracket is known to be a brace.
    fn in_braces(&self) -> bool {
        (1..=LEVELS_KNOWN).contains(&self.depth) && self.braces >> (self.depth - 1) & 1 == 1
    }

    fn is_member_of_envelope(&self) -> bool {
        self.maybe_envelope && self.depth == 1
    }

    fn compare_key(&mut self, bytes: &[u8]) {
        if self.key == NO_KEY {
            return;
        }
        self.key = match EVENTS.get(self.key..self.key + bytes.len()) {
            Some(part) if part == bytes => self.key + bytes.len(),
            _ => NO_KEY,
        };
    }

    /// Keeps what has been read of the piece and not been kept yet.
    fn keep_up_to(&mut self, bytes: &[u8], at: usize) {
        self.keep(&bytes[self.kept_from..at]);
        self.kept_from = at;
    }

    /// Whether the piece has grown so long that it is no event but damage, and another event begins here: as deep as
    /// those before it, for the objects in them are deeper.
    fn is_no_event(&mut self, bytes: &[u8], at: usize) -> bool {
        self.keep_up_to(bytes, at);
        let held = self.out.len() - self.complete;
        if held > self.piece_bytes_max / 4 && held <= self.piece_bytes_max / 2 {
            self.element_depth = self.element_depth.min(self.depth);
        }
        let is_long = held > self.piece_bytes_max / 2 && self.depth <= self.element_depth;
        is_long || self.keep == Keep::Oversized
    }

    fn note_blank(&mut self) {
        if self.previous == b'"' {
            self.previous = BLANK;
        }
    }

    fn keep_newline(&mut self, bytes: &[u8], at: usize) {
        self.keep_up_to(bytes, at);
        self.keep(b" ");
        self.kept_from = at + 1;
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.keep != Keep::Copy {
            return;
        }
        if self.out.len() - self.complete + bytes.len() > self.piece_bytes_max {
            self.out.truncate(self.complete);
            self.keep = Keep::Oversized;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    /// The piece ends before `at`.
    fn end_piece(&mut self, bytes: &[u8], at: usize) {
        self.keep_up_to(bytes, at);
        let end = self.position + at as u64;
        if self.keep == Keep::Remainder || end <= self.settled {
            self.drop_piece();
            return;
        }
        if self.keep == Keep::Oversized {
            self.oversized = self.oversized.saturating_add(1);
        } else {
            self.out.push(b'\n');
            self.complete = self.out.len();
        }
        self.piece_end = end;
        self.drop_piece();
    }

    /// Forgets what has been kept of a piece that is not complete.
    fn drop_piece(&mut self) {
        self.out.truncate(self.complete);
        self.place = Place::Between;
        self.in_string = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn split_within(text: &[u8], step: usize, settled: u64, piece_bytes_max: usize) -> Vec<Pieces> {
        let mut splitter = Splitter::new(0, settled, piece_bytes_max);
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
        String::from_utf8(bodies).unwrap().lines().map(str::to_owned).collect()
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
            let mut splitter = Splitter::new(0, 0, 50);
            for bytes in text.as_bytes().chunks(step) {
                splitter.push(bytes);
                assert!(splitter.out.len() - splitter.waiting() <= 50);
            }
            splitter.finish();
            let Pieces { body, oversized, position } = splitter.take().unwrap();
            assert_eq!((&body[..], oversized, position), (&b"1\n2\n3\n4\n"[..], 2, text.len() as u64));
        }
    }

    #[test]
    fn nesting_of_any_depth_costs_no_memory() {
        let mut splitter = Splitter::new(0, 0, 1000);
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
            let join = |all: Vec<Pieces>| all.into_iter().fold((Vec::new(), 0), |(mut body, oversized), next| {
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
