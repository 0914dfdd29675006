//! Containers, schemas and datums of any bytes are read without a panic and within bounded memory, every datum is
//! booked, and where the apache-avro crate can read them they are worth what the same events are as JSON.
//!
//! An input is a byte that chooses: 0, and a container; else a count, and a schema, a NUL and datums.
#![no_main]

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use apache_avro::{Reader, Schema, from_avro_datum, to_avro_datum};
use braze_events::decode::Decoder;
use braze_events::{Datums, EventDefaults, Field, Framing, Part, WriterSchema, container};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value as Json};

#[path = "../support/peak.rs"]
mod peak;

const COUNTED: [&str; 2] = ["users.messages.email.Send", "users.messages.sms.Send"];

/// What a message may expand to, twice because a buffer that grows is copied, and what expanding takes beside it.
const CONTAINER_BYTES_MAX: usize = 2 * 16 * 1024 * 1024 + 24 * 1024 * 1024;
/// A schema in several forms.
const SCHEMA_BYTES_MAX: usize = 1024 * 1024;
const SCHEMA_RATIO_MAX: usize = 400;

/// Datums that are compared one by one.
const COMPARED_MAX: u64 = 10_000;

/// What the reference is given behind the datums: it takes what is cut short for a null.
const BEHIND: [u8; 64] = [0; 64];

/// What the reference may allocate at once.
const REFERENCE_BYTES_MAX: usize = 1024 * 1024;

thread_local! {
    static MAY_PANIC: Cell<bool> = const { Cell::new(false) };
}

fuzz_target!(
    init: {
        apache_avro::util::max_allocation_bytes(REFERENCE_BYTES_MAX);
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !MAY_PANIC.get() {
                hook(info);
            }
        }));
    },
    |input: &[u8]| {
        match input.split_first() {
            Some((0, message)) => any_container(message),
            Some((count, rest)) => {
                let split = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
                let (schema, datums) = rest.split_at(split);
                any_datums(&String::from_utf8_lossy(schema), datums.get(1..).unwrap_or_default(), (*count).into());
            }
            None => {}
        }
    }
);

/// What apache-avro says; it is allowed to panic.
fn apache_says<T>(read: impl FnOnce() -> Option<T>) -> Option<T> {
    MAY_PANIC.set(true);
    let said = panic::catch_unwind(AssertUnwindSafe(read));
    MAY_PANIC.set(false);
    said.ok().flatten()
}

fn decoder() -> Decoder {
    Decoder::new(&COUNTED.map(Box::from), false)
}

/// What the decoder says of each element, and how many there are.
fn read(body: &[u8], framing: &Framing, defaults: &EventDefaults) -> (Vec<String>, u64) {
    let (mut said, mut count) = (Vec::new(), 0);
    decoder().decode(body, framing, defaults, |decoded| {
        count += 1;
        if count <= COMPARED_MAX {
            said.push(format!("{decoded:?}"));
        }
    });
    (said, count)
}

/// How many elements there must be.
fn booked(framing: &Framing) -> u64 {
    match framing {
        Framing::Avro(datums) => datums.count,
        Framing::Unreadable(events) => *events,
        Framing::Parts(parts) => parts.iter().map(|part| booked(&part.framing)).sum(),
        other => panic!("{other:?} in a container"),
    }
}

fn any_container(message: &[u8]) {
    let ((body, parts), bytes) = peak::peak_of(|| {
        let (mut body, mut parts) = (Vec::new(), Vec::new());
        if container::split(message, usize::MAX, &mut body, &mut parts).is_err() {
            parts.push(Part { end: body.len(), framing: Framing::Unreadable(1) });
        }
        (body, parts)
    });
    assert!(bytes <= CONTAINER_BYTES_MAX + 8 * message.len(), "{bytes} bytes for {}", message.len());
    let is_readable = !parts.is_empty() && parts.iter().all(|part| matches!(part.framing, Framing::Avro(_)));
    if is_readable && body.len() <= REFERENCE_BYTES_MAX {
        twice(message, &body, &parts);
    }
    parts_say_what_they_hold(&parts);
    let framing = Framing::Parts(parts.into());
    let (said, count) = read(&body, &framing, &EventDefaults::default());
    if may_hold_bodies(message) {
        return;
    }
    assert_eq!(count, booked(&framing));
    // A block that is too much for us would be too much for the reference, too; and datums that are cut short it takes
    // for whole.
    let is_cut = said.iter().any(|said| said.contains("Malformed(Avro)"));
    if !is_readable || is_cut || count > COMPARED_MAX || body.len() > REFERENCE_BYTES_MAX {
        return;
    }
    let Ok(Some(header)) = container::Header::read(message) else { return };
    let expected = apache_says(|| {
        is_safe(header.schema.text(), &said).then_some(())?;
        let reader = Reader::new(message).ok()?;
        let schema = reader.writer_schema().clone();
        reader.map(|value| json_says(&schema, &value.ok()?)).collect::<Option<Vec<String>>>()
    });
    if let Some(expected) = expected {
        agree(&said, &expected, header.schema.text(), &body);
    }
}

/// No byte of a block stands for no event, and no event for no byte; what is lost is not in the body.
fn parts_say_what_they_hold(parts: &[Part]) {
    let mut start = 0;
    for Part { end, framing } in parts {
        let bytes = (end - start) as u64;
        match framing {
            Framing::Avro(datums) => {
                assert!((1..=bytes).contains(&datums.count), "{datums:?} in {bytes} bytes")
            }
            lost => assert_eq!(bytes, 0, "{lost:?}"),
        }
        start = *end;
    }
}

/// Whether a datum may be the JSON that it holds: so many events as that has.
fn may_hold_bodies(schema: &[u8]) -> bool {
    // Its name may be written with escapes.
    schema.windows(4).any(|name| name == b"Body") || schema.contains(&b'\\')
}

/// What can be read to its end can be followed by another container, and both are read.
fn twice(message: &[u8], body: &[u8], parts: &[Part]) {
    let (mut bodies, mut all) = (Vec::new(), Vec::new());
    container::split(&[message, message].concat(), usize::MAX, &mut bodies, &mut all).unwrap();
    assert!(bodies == [body, body].concat());
    let framings = |parts: &[Part]| parts.iter().map(|part| part.framing.clone()).collect::<Vec<_>>();
    assert_eq!(framings(&all), [framings(parts), framings(parts)].concat());
}

fn any_datums(text: &str, body: &[u8], count: u64) {
    let schema = Arc::new(WriterSchema::new(text));
    let framing = Framing::Avro(Datums { schema, count });
    // Without what is said of each, which is longer than the schema where that has a long name.
    let ((), bytes) = peak::peak_of(|| decoder().decode(body, &framing, &EventDefaults::default(), |_| ()));
    let (said, all) = read(body, &framing, &EventDefaults::default());
    let is_holder = may_hold_bodies(text.as_bytes());
    assert!(all == count || is_holder);
    let bytes_max = SCHEMA_BYTES_MAX + SCHEMA_RATIO_MAX * (text.len() + body.len());
    assert!(bytes <= bytes_max, "{bytes} bytes for {} and {}", text.len(), body.len());
    let expected = apache_says(|| {
        (!is_holder && is_safe(text, &said) && !overflows(body)).then_some(())?;
        let schema = Schema::parse_str(text).ok()?;
        let body = [body, &BEHIND].concat();
        let mut rest = body.as_slice();
        let read = |_| json_says(&schema, &from_avro_datum(&schema, &mut rest, None).ok()?);
        let said = (0..count).map(read).collect::<Option<Vec<String>>>()?;
        (rest.len() == BEHIND.len() && !said.is_empty()).then_some(said)
    });
    if let Some(expected) = expected {
        agree(&said, &expected, text, body);
    }
}

/// Fails where the two read datums differently and neither may.
fn agree(said: &[String], expected: &[String], text: &str, body: &[u8]) {
    // An array or a map may say how many bytes its items are: ours goes by that, the reference by the items.
    let may_say_bytes = text.contains("array") || text.contains("map");
    if said != expected && !(may_say_bytes && !is_as_written(text, body, said.len())) {
        // Of a union, or of one type of several, the reference knows nothing more than its value.
        assert_eq!(said, expected, "{text}");
    }
}

/// Whether these are the bytes that the reference would have written: it never says how many bytes items are.
fn is_as_written(text: &str, body: &[u8], count: usize) -> bool {
    let written = apache_says(|| {
        let schema = Schema::parse_str(text).ok()?;
        let mut rest = body;
        let write = |_| to_avro_datum(&schema, from_avro_datum(&schema, &mut rest, None).ok()?).ok();
        Some((0..count).map(write).collect::<Option<Vec<_>>>()?.concat())
    });
    written.as_deref() == Some(body)
}

/// Whether the reference can be asked: it follows schemas that contain themselves until its stack ends, and counts
/// items that take no byte one by one; and it gives types that are only logical a meaning of their own.
fn is_safe(text: &str, said: &[String]) -> bool {
    let Ok(schema) = serde_json::from_str::<Json>(text) else { return false };
    let is_bounded = !text.contains("array") && !text.contains("map") && !refers(&schema);
    // What is ignored may not have been looked at.
    let unread = ["Malformed(Avro)", "Malformed(Schema)", "Ignored"];
    let is_read = said.iter().all(|said| !unread.iter().any(|unread| said.contains(unread)));
    (is_bounded || is_read)
        && !text.contains("logicalType")
        && !text.contains("size")
        && is_plain(&schema)
        && !has_odd_field(&schema)
}

/// Whether something that is no object stands in place of a field: the reference passes over it.
fn has_odd_field(schema: &Json) -> bool {
    match schema {
        Json::Array(parts) => parts.iter().any(has_odd_field),
        Json::Object(schema) => schema.iter().any(|(key, value)| {
            let is_odd =
                key == "fields" && !value.as_array().is_some_and(|fields| fields.iter().all(Json::is_object));
            is_odd || has_odd_field(value)
        }),
        _ => false,
    }
}

/// Whether there may be an integer of more than 64 bits in it, which ours refuses, and the reference cuts.
fn overflows(body: &[u8]) -> bool {
    body.windows(10).any(|bytes| bytes[..9].iter().all(|byte| *byte >= 0x80) && bytes[9] > 1)
}

/// Whether a type in it is the name of another.
fn refers(schema: &Json) -> bool {
    const KNOWN: [&str; 14] = [
        "null", "boolean", "int", "long", "float", "double", "bytes", "string", "record", "error", "enum",
        "fixed", "array", "map",
    ];
    match schema {
        Json::String(name) => !KNOWN.contains(&name.as_str()),
        Json::Array(branches) => branches.iter().any(refers),
        Json::Object(schema) => {
            let fields = schema.get("fields").and_then(Json::as_array).into_iter().flatten();
            let inner = fields.filter_map(|field| field.get("type"));
            inner.chain(["type", "items", "values"].iter().filter_map(|key| schema.get(*key))).any(refers)
        }
        _ => true,
    }
}

/// Whether it is a record, or a union; else no datum is an event, which ours says without looking.
fn is_plain(schema: &Json) -> bool {
    match schema {
        Json::Object(schema) => schema.get("type").is_some_and(|kind| kind == "record" || is_plain(kind)),
        Json::Array(branches) => branches.iter().any(is_plain),
        _ => false,
    }
}

/// What the decoder says of the JSON that means the same as a datum. `None` where that can't be told.
fn json_says(schema: &Schema, value: &Avro) -> Option<String> {
    let (schema, value) = match (schema, value) {
        (Schema::Union(union), Avro::Union(branch, value)) => {
            (union.variants().get(usize::try_from(*branch).ok()?)?, &**value)
        }
        other => other,
    };
    let name = match schema {
        Schema::Record(record) => &record.name,
        Schema::Ref { name } => name,
        // No event, as a number is none.
        _ => return read(b"5", &Framing::Document, &EventDefaults::default()).0.pop(),
    };
    let Avro::Record(fields) = value else { return None };
    // An empty object would be no event; and what `events` holds, or what is a wrapper in JSON, is nothing here.
    let mut event = Map::from_iter([("nothing".to_owned(), Json::Null)]);
    let is_tag = |key: &str| Field::ALL.iter().any(|field| field.name() == key.replace("_api_id", "_id"));
    let is_read = |key: &str| ["event_type", "id", "properties", "time"].contains(&key) || is_tag(key);
    for (key, value) in fields.iter().filter(|(key, _)| is_read(key)) {
        event.insert(key.clone(), if key == "properties" { properties(value) } else { scalar(value) });
    }
    let defaults =
        EventDefaults { event_type: event_type_in(&name.fullname(None)), ..EventDefaults::default() };
    read(Json::from(event).to_string().as_bytes(), &Framing::Document, &defaults).0.pop()
}

fn properties(value: &Avro) -> Json {
    match value {
        Avro::Union(_, value) => properties(value),
        Avro::Record(fields) => fields.iter().map(|(key, value)| (key.clone(), scalar(value))).collect(),
        Avro::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), scalar(value))).collect(),
        _ => Json::Null,
    }
}

/// What can be a tag, an id or a time.
fn scalar(value: &Avro) -> Json {
    match value {
        Avro::Union(_, value) => scalar(value),
        Avro::Int(number) => (*number).into(),
        Avro::Long(number) => (*number).into(),
        Avro::Float(number) => f64::from(*number).into(),
        Avro::Double(number) => (*number).into(),
        Avro::String(text) | Avro::Enum(_, text) => text.as_str().into(),
        _ => Json::Null,
    }
}

/// What a full name says: from the last `users.` on, else all of it, without what storage exports put in front of it; nothing
/// where it has no namespace.
fn event_type_in(name: &str) -> Option<Box<str>> {
    let root = name.match_indices("users.").map(|(at, _)| at);
    if let Some(root) = root.filter(|at| *at == 0 || name[..*at].ends_with('.')).max() {
        return Some(name[root..].into());
    }
    let exported = name.strip_prefix("dataexport.").and_then(|name| Some(name.split_once(".inner.")?.1));
    name.contains('.').then(|| exported.unwrap_or(name).into())
}
