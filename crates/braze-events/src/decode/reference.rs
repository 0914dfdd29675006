//! The decoder's reference: `serde_json`'s own reading of every element, and the rules written once more, slowly.
//! Tests and the fuzz target `decode` hold the decoder against it.

use std::cell::LazyCell;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::decode::{Decoder, extract};
use crate::{Decoded, FIELDS, Field, Malformed, SendEvent, Skipped};
use crate::{EventDefaults, Framing};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(crate) const EMAIL: &str = "users.messages.email.Send";
pub(crate) const SMS: &str = "users.messages.sms.Send";

/// [`Decoded`], owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Element {
    Send { event_type: usize, id: String, time: Option<u64>, fields: Box<[String; FIELDS]> },
    Ignored(String),
    Malformed(Malformed),
    Skipped(Skipped),
}

pub(crate) fn owned(decoded: Decoded<'_>) -> Element {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("every slice is UTF-8");
    match decoded {
        Decoded::Send(SendEvent { event_type, id, time, fields }) => {
            Element::Send { event_type, id: text(id), time, fields: Box::new(fields.map(text)) }
        }
        Decoded::Ignored { event_type } => Element::Ignored(text(event_type)),
        Decoded::Malformed(malformed) => Element::Malformed(malformed),
        Decoded::Skipped(skipped) => Element::Skipped(skipped),
    }
}

pub(crate) fn counted() -> [Box<str>; 2] {
    [EMAIL.into(), SMS.into()]
}

pub(crate) fn decode_with(
    body: &[u8],
    framing: &Framing,
    time_needed: bool,
    defaults: &EventDefaults,
) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut decoder = Decoder::new(&counted(), time_needed);
    decoder.decode(body, framing, defaults, |decoded| elements.push(owned(decoded)));
    elements
}

pub(crate) const fn bad(malformed: Malformed) -> Element {
    Element::Malformed(malformed)
}

#[cfg(test)]
pub(crate) const fn skipped(stretches: u32, bytes: u64) -> Element {
    Element::Skipped(Skipped { stretches, bytes })
}

/// A plain reading of a document: its elements up to the first error.
struct Reference<'a> {
    defaults: &'a EventDefaults,
    time_needed: bool,
    elements: Vec<Element>,
    /// What stands before the damage in a wrapper that nothing else tells to be one.
    before_damage: Vec<Element>,
    /// There is an event in an array in an array, or damage in a wrapper.
    is_odd: bool,
    /// How many wrappers the reader is in.
    depth: u8,
    /// How many of the elements name their type, and whether one states its id and time.
    typed: usize,
    identified: bool,
}

/// Where intermediaries put what they wrap, the first that has an event first.
pub(crate) const WRAPPERS: [&str; 11] = [
    "detail",
    "Message",
    "Records",
    "body",
    "Sns",
    "kinesis",
    "records",
    "payload",
    "data",
    "data_base64",
    "message",
];

/// The kinds of documents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    /// JSON in an envelope of Braze, or a bare event.
    Whole,
    /// JSON, but neither; there may be events in it.
    Odd,
    /// The elements are those up to the first error.
    Broken,
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    TopArray,
    Envelope,
}

/// The kinds of values at the top of a valid document, or in the place of one element.
enum Node {
    Nothing,
    Event(Map<String, Value>),
    Envelope,
    Other,
}

impl<'a> Reference<'a> {
    fn new(defaults: &'a EventDefaults, time_needed: bool) -> Self {
        let (elements, before_damage) = (Vec::new(), Vec::new());
        let (is_odd, depth, typed, identified) = (false, 0, 0, false);
        Self { defaults, time_needed, elements, before_damage, is_odd, depth, typed, identified }
    }

    /// The kind of the document. `None` where `serde_json` stopped at the size of a number, the one thing that it refuses
    /// and the decoder does not.
    fn read(&mut self, document: &[u8]) -> Option<Read> {
        if document.trim_ascii().is_empty() {
            // Form feeds are white space to std and not to JSON.
            return Some(if document.contains(&0x0c) { Read::Broken } else { Read::Whole });
        }
        let document = characters_of(document);
        let mut json = serde_json::Deserializer::from_str(&document);
        json.disable_recursion_limit();
        loop {
            let node = NodeSeed { reference: self, place: Place::Top }.deserialize(&mut json);
            let is_last = json.end().is_ok();
            match node {
                Ok(Node::Nothing | Node::Envelope) => {}
                Ok(Node::Event(event)) if self.unwrap(&event) => {}
                Ok(Node::Event(event)) => {
                    self.event(&event);
                    self.is_odd |= text_of(event.get("event_type")).is_empty() && !says(&event, "id");
                }
                Ok(Node::Other) if is_last => {
                    self.elements.push(bad(Malformed::NotAnObject));
                    return Some(Read::Odd);
                }
                Err(error) if error.to_string().contains("number out of range") => return None,
                Ok(Node::Other) | Err(_) => return Some(Read::Broken),
            }
            if is_last {
                break;
            }
        }
        Some(if self.is_odd { Read::Odd } else { Read::Whole })
    }

    /// Every event that stands anywhere in a document, whatever is around it; in what is wrapped, a type from outside will do.
    /// `None` where there is a number of a size that `serde_json` refuses, and with it perhaps an event.
    fn anywhere(&self, document: &[u8], is_wrapped: bool) -> Option<Vec<Element>> {
        if numbers(document).any(|(_, number)| number.is_infinite()) {
            return None;
        }
        let document = characters_of(document);
        let mut found = Vec::new();
        for (start, _) in document.match_indices('{') {
            let mut json = serde_json::Deserializer::from_str(&document[start..]);
            json.disable_recursion_limit();
            let Ok(Value::Object(event)) = serde::Deserialize::deserialize(&mut json) else { continue };
            let says_when = event.get("time").and_then(time_value).is_some();
            let is_told = is_wrapped && self.defaults.event_type.is_some();
            if !text_of(event.get("event_type")).is_empty() || (says(&event, "id") && (says_when || is_told))
            {
                found.push(self.classify(&event));
            }
            for content in WRAPPERS.into_iter().filter_map(|key| event.get(key)?.as_str()) {
                if let Some(content) = content_of(content) {
                    found.extend(self.anywhere(&content, true)?);
                }
            }
        }
        Some(found)
    }

    /// Replaces the event by the one that it wraps, if it wraps any.
    fn unwrap(&mut self, event: &Map<String, Value>) -> bool {
        if !text_of(event.get("event_type")).is_empty() || is_event(event) || self.depth >= 5 {
            return false;
        }
        for value in WRAPPERS.into_iter().filter_map(|key| event.get(key)) {
            let content = match value {
                Value::Object(_) | Value::Array(_) => value.to_string().into_bytes(),
                Value::String(text) => match content_of(text) {
                    Some(content) => content,
                    None => continue,
                },
                _ => continue,
            };
            let (defaults, time_needed, depth) = (self.defaults, self.time_needed, self.depth + 1);
            let mut inner = Reference { depth, ..Reference::new(defaults, time_needed) };
            let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
            let read = inner.read(content);
            // A map keeps one value per key, and turns some numbers into an f64.
            let is_vague = has_vague_number(content) || value.to_string().contains("events");
            self.is_odd |= inner.is_odd || is_vague || read != Some(Read::Whole);
            if inner.typed > 0 || (inner.identified && !says(event, "id")) {
                self.typed += inner.typed;
                self.identified |= inner.identified;
                self.elements.extend(inner.elements);
                return true;
            }
            self.before_damage.append(&mut inner.before_damage);
            if read == Some(Read::Broken) {
                self.before_damage.append(&mut inner.elements);
            }
        }
        false
    }

    fn event(&mut self, event: &Map<String, Value>) {
        self.typed += usize::from(!text_of(event.get("event_type")).is_empty());
        self.identified |= says(event, "id") && event.get("time").and_then(time_value).is_some();
        let element = self.classify(event);
        self.elements.push(element);
    }

    fn classify(&self, event: &Map<String, Value>) -> Element {
        let top = |key: &str| text_of(event.get(key));
        let tag = |text: String| if text == "[REDACTED]" { String::new() } else { text };
        let find = |key: &str| {
            let inner = tag(text_of(event.get("properties").and_then(|inner| inner.get(key))));
            if inner.is_empty() { tag(top(key)) } else { inner }
        };
        let or = |text: String, default: &Option<Box<str>>| match default {
            Some(default) if text.is_empty() => default.to_string(),
            _ => text,
        };
        let name = or(top("event_type"), &self.defaults.event_type);
        if name.is_empty() {
            return bad(Malformed::NoEventType);
        }
        let Some(event_type) = counted().iter().position(|counted| **counted == name) else {
            return Element::Ignored(name);
        };
        let id = tag(top("id"));
        let time = event.get("time").and_then(time_value);
        if id.is_empty() || (self.time_needed && time.is_none()) {
            let says_time = event.get("time").is_some_and(|time| !is_silent(time));
            return bad(match (id.is_empty(), says_time) {
                (true, _) => Malformed::NoId,
                (_, true) => Malformed::BadTime,
                (_, false) => Malformed::NoTime,
            });
        }
        let mut fields = Box::new(Field::ALL.map(|field| {
            let api = field.name().replace("_id", "_api_id");
            let api = if field.name().ends_with("_id") { find(&api) } else { String::new() };
            if api.is_empty() { find(field.name()) } else { api }
        }));
        fields[0] = or(fields[0].clone(), &self.defaults.app_group_id);
        fields[1] = or(fields[1].clone(), &self.defaults.app_group_name);
        Element::Send { event_type, id, time, fields }
    }
}

/// The document with U+FFFD for every invalid character: half of a surrogate pair, invalid UTF-8, NUL.
fn characters_of(document: &[u8]) -> String {
    let document = String::from_utf8_lossy(document).replace('\0', "\u{fffd}");
    let unit = |rest: &str| rest.strip_prefix("\\u").and_then(|hex| u16_of(hex.get(..4)?));
    let (mut out, mut rest) = (String::new(), &*document);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let pair = [unit(rest), rest.get(6..).and_then(unit)];
        let length = match pair {
            [Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)] => 12,
            [Some(0xd800..=0xdfff | 0), _] => {
                out.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out + rest
}

fn u16_of(hex: &str) -> Option<u16> {
    if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) { u16::from_str_radix(hex, 16).ok() } else { None }
}

/// The JSON in a text, or in its base64.
fn content_of(text: &str) -> Option<Vec<u8>> {
    let is_json = |text: &[u8]| {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let mut tokens = text.iter().filter(|byte| !byte.is_ascii_whitespace());
        matches!((tokens.next(), tokens.next()), (Some(b'{'), Some(b'"')) | (Some(b'['), Some(b'{')))
    };
    if is_json(text.as_bytes()) {
        return Some(text.into());
    }
    let text = text.trim_ascii();
    let is_url_safe = text.contains(['-', '_']);
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' if !is_url_safe => Some(62),
        b'/' if !is_url_safe => Some(63),
        b'-' if is_url_safe => Some(62),
        b'_' if is_url_safe => Some(63),
        _ => None,
    };
    let padding = text.len() - text.trim_end_matches('=').len();
    let digits: Option<Vec<u8>> = text.trim_end_matches('=').bytes().map(digit).collect();
    let (mut content, mut bits, mut number) = (Vec::new(), 0, 0_u32);
    for digit in digits? {
        (bits, number) = (bits + 6, number << 6 | u32::from(digit));
        if bits >= 8 {
            bits -= 8;
            content.push((number >> bits & 0xff) as u8);
        }
    }
    let is_exact = bits < 6 && number & ((1 << bits) - 1) == 0 && padding <= 2;
    (is_exact && is_json(&content)).then_some(content)
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_u64() => number.to_string(),
        Some(Value::Object(union)) if union.len() == 1 => {
            union.get("string").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

fn time_value(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => time_text(&number.to_string()),
        Value::String(text) => time_text(text),
        Value::Object(union) if union.len() == 1 => match union.iter().next()? {
            (key, inner @ Value::String(_)) if key == "string" => time_value(inner),
            (key, inner @ Value::Number(_)) if ["int", "long", "float", "double"].contains(&&**key) => {
                time_value(inner)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Computed by other means than the decoder's, and exact for the generator's texts.
fn time_text(text: &str) -> Option<u64> {
    let is_number = text.starts_with(|first: char| first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit())
        && text.bytes().all(|byte| b"0123456789.eE+-".contains(&byte));
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return if text.len() <= 20 { text.parse().ok() } else { None };
    }
    let number: f64 = if is_number { text.parse().ok()? } else { return None };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds")]
    (0.0..18_446_744_073_709_551_616.0).contains(&number).then_some(number as u64)
}

/// Whether a value states no time.
fn is_silent(time: &Value) -> bool {
    match time {
        Value::Null => true,
        Value::String(text) => text.is_empty() || text == "[REDACTED]",
        Value::Object(union) if union.len() == 1 => {
            union.get("string").is_some_and(|inner| inner.is_string() && is_silent(inner))
        }
        _ => false,
    }
}

/// Reads one value as the document, as an element, or (`place` being `Envelope`) as no envelope at all.
struct NodeSeed<'r, 'a> {
    reference: &'r mut Reference<'a>,
    place: Place,
}

/// Reads the value of `events`; returns whether it was an array, and the value if it was not.
struct EventsSeed<'r, 'a>(&'r mut Reference<'a>);

macro_rules! visit_scalars {
    ($value:ty, $make:expr) => {
        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("any JSON")
        }
        fn visit_bool<E>(self, value: bool) -> Result<$value, E> {
            Ok($make(Value::from(value)))
        }
        fn visit_i64<E>(self, value: i64) -> Result<$value, E> {
            Ok($make(Value::from(value)))
        }
        fn visit_u64<E>(self, value: u64) -> Result<$value, E> {
            Ok($make(Value::from(value)))
        }
        fn visit_f64<E>(self, value: f64) -> Result<$value, E> {
            Ok($make(Value::from(value)))
        }
        fn visit_str<E>(self, value: &str) -> Result<$value, E> {
            Ok($make(Value::from(value)))
        }
    };
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Node, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = Node;

    visit_scalars!(Node, |_| Node::Other);

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(if self.place == Place::Top { Node::Nothing } else { Node::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Node, A::Error> {
        if self.place == Place::Top {
            read_elements(self.reference, Place::TopArray, seq)?;
            return Ok(Node::Envelope);
        }
        let value: Value = serde::Deserialize::deserialize(SeqAccessDeserializer::new(seq))?;
        self.reference.is_odd |= value.to_string().contains('{');
        Ok(Node::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut event = Map::new();
        let (mut envelope, mut other) = (false, false);
        while let Some(key) = map.next_key::<String>()? {
            if key != "events" || self.place == Place::Envelope {
                event.insert(key, map.next_value()?);
                continue;
            }
            match map.next_value_seed(EventsSeed(&mut *self.reference))? {
                None => envelope = true,
                Some(Value::Null) if self.place == Place::Top => envelope = true,
                Some(_) if self.place == Place::Top => other = true,
                Some(value) => _ = event.insert(key, value),
            }
        }
        Ok(match (other, envelope, self.place) {
            (true, ..) => Node::Other,
            (_, true, _) => Node::Envelope,
            (.., Place::Top) if event.is_empty() => Node::Nothing,
            _ => Node::Event(event),
        })
    }
}

impl<'de> DeserializeSeed<'de> for EventsSeed<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EventsSeed<'_, '_> {
    type Value = Option<Value>;

    visit_scalars!(Option<Value>, Some);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        read_elements(self.0, Place::Envelope, seq).map(|()| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        serde::Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

fn read_elements<'de, A: SeqAccess<'de>>(
    reference: &mut Reference<'_>,
    place: Place,
    mut seq: A,
) -> Result<(), A::Error> {
    while let Some(node) = seq.next_element_seed(NodeSeed { reference: &mut *reference, place })? {
        match node {
            Node::Event(event) if place == Place::TopArray && reference.unwrap(&event) => {}
            Node::Event(event) => {
                let is_unknown = text_of(event.get("event_type")).is_empty() && !says(&event, "id");
                reference.is_odd |= place == Place::TopArray && is_unknown;
                reference.event(&event);
            }
            Node::Envelope => {}
            Node::Nothing | Node::Other => reference.elements.push(bad(Malformed::NotAnObject)),
        }
    }
    Ok(())
}

/// The documents of a body, each as a body of its own; for Avro and unreadable parts, the elements that stand for them.
fn documents_of(body: &[u8], framing: &Framing, out: &mut Vec<Result<Vec<u8>, Element>>) {
    match framing {
        Framing::Document => out.push(Ok(body.to_vec())),
        Framing::Lines => {
            for (number, line) in body.split(|byte| *byte == b'\n').enumerate() {
                // Only the first may begin with a byte order mark.
                let is_marked = number > 0 && line.starts_with(BYTE_ORDER_MARK);
                out.push(Ok([if is_marked { &b" "[..] } else { b"" }, line].concat()));
            }
        }
        Framing::Avro(_) => unreachable!("Avro has its own reference"),
        Framing::Extract => unreachable!("an extract is held against its document"),
        Framing::Unreadable(events) => {
            (0..*events).for_each(|_| out.push(Err(bad(Malformed::Unreadable))));
        }
        Framing::Parts(parts) => {
            let starts = std::iter::once(0).chain(parts.iter().map(|part| part.end));
            for (start, part) in starts.zip(parts.iter()) {
                documents_of(&body[start..part.end], &part.framing, out);
            }
        }
    }
}

/// Decoder and reference agree on this body, and so does the push handler.
pub(crate) fn compare(body: &[u8], framing: &Framing, time_needed: bool, defaults: &EventDefaults) {
    let (mut documents, mut expected) = (Vec::new(), Vec::new());
    documents_of(body, framing, &mut documents);
    for document in documents {
        match document {
            Ok(document) => expected.extend(compare_document(&document, time_needed, defaults)),
            Err(element) => expected.push(element),
        }
    }
    let elements = decode_with(body, framing, time_needed, defaults);
    assert_eq!(elements, expected, "{}", String::from_utf8_lossy(body));
}

/// Returns the elements of a document: those of the reference up to the first error, and behind it nothing but events of the
/// document, and what stands for the rest.
fn compare_document(document: &[u8], time_needed: bool, defaults: &EventDefaults) -> Vec<Element> {
    let elements = decode_with(document, &Framing::Document, time_needed, defaults);
    let text = document.strip_prefix(BYTE_ORDER_MARK).unwrap_or(document);
    let mut reference = Reference::new(defaults, time_needed);
    if has_vague_number(text) {
        return elements;
    }
    let Some(read) = reference.read(text) else { return elements };
    let expected = std::mem::take(&mut reference.elements);
    let is_odd = read == Read::Odd || reference.is_odd;
    // It reads the rest of the document once for each object in it.
    let anywhere = LazyCell::new(|| reference.anywhere(text, false));
    if is_odd {
        // Either reading may be taken, but nothing may be made up.
        for event in elements.iter().filter(|element| matches!(element, Element::Send { .. })) {
            let stands_there = || anywhere.as_ref().is_none_or(|anywhere| anywhere.contains(event));
            let is_known = expected.contains(event) || reference.before_damage.contains(event);
            assert!(is_known || stands_there(), "{event:?}");
        }
    } else if read == Read::Broken {
        // A value that is no object is an element only if the array goes on behind it.
        let expected = match &expected[..] {
            [known @ .., last]
                if *last == bad(Malformed::NotAnObject) && !elements.starts_with(&expected) =>
            {
                known
            }
            all => all,
        };
        let (before, mut behind) = elements.split_at(expected.len().min(elements.len()));
        assert_eq!(before, expected, "{}", String::from_utf8_lossy(document));
        if let [events @ .., Element::Skipped(skipped)] = behind {
            assert!(skipped.stretches > 0 && skipped.bytes <= document.len() as u64);
            behind = events;
        }
        if !behind.is_empty()
            && let Some(anywhere) = &*anywhere
        {
            // What wrappers hold beside events stands nowhere by itself, nor does what has its type from outside.
            let readable = without_escapes(&String::from_utf8_lossy(text));
            let is_key =
                |key: &&str| ["\"", "\\"].iter().any(|end| readable.contains(&format!("\"{key}{end}")));
            let is_wrapped = WRAPPERS.iter().any(is_key);
            let is_told = |number: usize| defaults.event_type.as_deref() == Some(&*counted()[number]);
            let stands_there = |element: &&Element| match element {
                Element::Send { event_type, .. } => !is_wrapped || !is_told(*event_type),
                _ => !is_wrapped,
            };
            let mut rest = anywhere.iter();
            for event in behind.iter().filter(stands_there) {
                assert!(
                    rest.any(|other| other == event),
                    "{event:?} in {}",
                    String::from_utf8_lossy(document)
                );
            }
        }
    } else {
        assert_eq!(elements, expected, "{}", String::from_utf8_lossy(document));
    }
    compare_check(document, read, &elements);
    compare_extract(document, time_needed, defaults, &elements);
    elements
}

/// With each character that is written as `\u` and four digits, however often that is escaped, as it is.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\u") {
        let code = rest.get(at + 2..at + 6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let Some(character) = code.and_then(char::from_u32) else {
            plain.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        plain.push_str(rest[..at].trim_end_matches('\\'));
        plain.push(character);
        rest = &rest[at + 6..];
    }
    plain + rest
}

/// Whether some non-integer number is too large, or has too many digits, for f64, which the reference turns it into, to hold to the
/// second.
fn has_vague_number(text: &[u8]) -> bool {
    numbers(text).any(|(token, number)| {
        let digits = token.iter().filter(|byte| byte.is_ascii_digit()).count();
        let is_rounded = digits > 15 && number.fract() == 0.0;
        digits < token.len() && (is_rounded || (9.0e15..1.0e20).contains(&number.abs()))
    })
}

/// What looks like a number, wherever it stands, and what it is.
fn numbers(text: &[u8]) -> impl Iterator<Item = (&[u8], f64)> {
    let is_part = |byte: &u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
    text.split(move |byte| !is_part(byte))
        .filter_map(|token| Some((token, std::str::from_utf8(token).ok()?.parse().ok()?)))
}

/// Reading the extract gives the elements of the body, and the extract is not longer.
fn compare_extract(body: &[u8], time_needed: bool, defaults: &EventDefaults, elements: &[Element]) {
    let mut written = Vec::new();
    if extract(body, &mut written, None).is_ok() {
        // Skipped bytes take a few at the end.
        assert!(written.len() <= body.len() + 16);
        assert_eq!(decode_with(&written, &Framing::Extract, time_needed, defaults), elements);
    }
}

/// The push handler takes JSON in an envelope of Braze, with all of its elements, and damaged JSON that has events, and
/// states the damage.
fn compare_check(body: &[u8], read: Read, elements: &[Element]) {
    let number = |element: &Element| match element {
        Element::Skipped(skipped) => skipped.stretches,
        _ => 1,
    };
    let is_no_event = |element: &Element| {
        let no_type = [bad(Malformed::NotAnObject), bad(Malformed::NoEventType)];
        matches!(element, Element::Skipped(_)) || no_type.contains(element)
    };
    match extract(body, &mut Vec::new(), None) {
        Ok(extracted) => {
            assert_eq!(extracted.elements, elements.iter().map(number).sum::<u32>());
            let skipped = elements.iter().fold(Skipped::default(), |sum, element| match element {
                Element::Skipped(skipped) => {
                    Skipped { stretches: sum.stretches + skipped.stretches, bytes: sum.bytes + skipped.bytes }
                }
                _ => sum,
            });
            assert_eq!(extracted.damage.map(|damage| damage.skipped).unwrap_or_default(), skipped);
        }
        Err(reason) if reason.to_string().contains("no characters") => {
            let readable = String::from_utf8_lossy(body);
            let is_wrapped = || WRAPPERS.iter().any(|key| readable.contains(key));
            assert!(str::from_utf8(body).is_err() || body.contains(&0) || is_wrapped(), "{reason}");
        }
        Err(reason) => {
            assert!(read != Read::Whole, "{reason}");
            let elements = decode_with(body, &Framing::Document, false, &EventDefaults::default());
            assert!(elements.iter().all(is_no_event), "{reason}");
            let reason = reason.to_string();
            let offset = reason.rsplit(' ').next().and_then(|offset| offset.parse::<usize>().ok());
            assert!(offset.is_some_and(|offset| offset <= body.len()), "{reason}");
        }
    }
}

/// Whether an object without a type is still an event: it has an id, a time, and a field that becomes a tag.
fn is_event(event: &Map<String, Value>) -> bool {
    let nothing = Map::new();
    let properties = event.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
    let has_tag = Field::ALL.iter().any(|field| {
        let api = field.name().replace("_id", "_api_id");
        [event, properties].iter().any(|level| says(level, field.name()) || says(level, &api))
    });
    has_tag && says(event, "id") && event.get("time").and_then(time_value).is_some()
}

/// Whether an event has this field.
fn says(event: &Map<String, Value>, key: &str) -> bool {
    !matches!(text_of(event.get(key)).as_str(), "" | "[REDACTED]")
}
