use std::collections::HashMap;

use apache_avro::types::Value as Avro;
use apache_avro::{Schema, to_avro_datum};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::Field;
use crate::decode::Decoder;
use crate::{EventDefaults, Framing, Part};

const EMAIL: &str = "users.messages.email.Send";
const SMS: &str = "users.messages.sms.Send";

/// What the decoder says of each element.
fn read(body: &[u8], framing: &Framing, time_needed: bool, defaults: &EventDefaults) -> Vec<String> {
    let mut elements = Vec::new();
    let mut decoder = Decoder::new(&[EMAIL.into(), SMS.into()], time_needed);
    decoder.decode(body, framing, defaults, |decoded| {
        if let Decoded::Send(event) = decoded {
            let slices = event.fields.iter().chain([&event.id]);
            slices.for_each(|slice| assert!(std::str::from_utf8(slice).is_ok()));
        }
        elements.push(format!("{decoded:?}"));
    });
    elements
}

fn datums(schema: &Json, count: u64) -> Framing {
    Framing::Avro(Datums { schema: Arc::new(WriterSchema::new(&schema.to_string())), count })
}

fn read_datums(schema: &Json, body: &[u8], count: u64) -> Vec<String> {
    read(body, &datums(schema, count), false, &EventDefaults::default())
}

fn malformed(malformed: Malformed) -> String {
    format!("{:?}", Decoded::Malformed(malformed))
}

fn ignored(event_type: &str) -> String {
    format!("{:?}", Decoded::Ignored { event_type: event_type.as_bytes() })
}

/// A record of e-mail sends with these fields.
fn email(fields: &Json) -> Json {
    let namespace = "dataexport.S3.inner.users.messages.email";
    json!({"type": "record", "name": "Send", "namespace": namespace, "fields": fields})
}

fn member(name: &str, schema: impl Into<Json>) -> Json {
    json!({"name": name, "type": schema.into()})
}

fn text(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len() * 2).expect("is short")], text.as_bytes()].concat()
}

/// What JSON of the same meaning gives.
fn json_says(event: &Json, event_type: &str) -> Vec<String> {
    let defaults = EventDefaults { event_type: Some(event_type.into()), ..EventDefaults::default() };
    read(event.to_string().as_bytes(), &Framing::Document, false, &defaults)
}

#[test]
fn compiled_schemas_are_bounded_by_their_size() {
    let mut plans = Plans::default();
    let many = vec!["[]"; 300_000].join(",");
    let schema = |number: usize| {
        let union =
            format!(r#"{{"type":"record","name":"r{number}","fields":[{{"name":"f","type":[{many}]}}]}}"#);
        Arc::new(WriterSchema::new(&union))
    };
    let first = schema(0);
    for number in 1..20 {
        assert!(plans.plan(&first).is_ok());
        assert!(plans.plan(&schema(number)).is_ok());
        let sum = plans.known.iter().map(|known| known.bytes).sum::<usize>();
        assert!(plans.bytes == sum && sum <= PLAN_BYTES_MAX, "{sum}");
    }
    // What is used stays.
    assert!(plans.known.iter().any(|known| Arc::ptr_eq(&known.schema, &first)) && plans.known.len() > 2);
    // Small ones are bounded by their number.
    let small =
        |number: usize| json!({"type": "record", "name": format!("s{number}"), "fields": []}).to_string();
    for number in 0..PLANS_MAX + 10 {
        assert!(plans.plan(&Arc::new(WriterSchema::new(&small(number)))).is_ok());
    }
    assert_eq!(plans.known.len(), PLANS_MAX);
    assert!(plans.bytes < 2 * 1024 * 1024, "{}", plans.bytes);
}

#[test]
fn a_storage_record_is_read_with_the_type_in_its_name() {
    let schema = email(&json!([
        member("id", "string"),
        member("user_id", json!(["null", "string"])),
        member("time", "int"),
        member("campaign_id", json!(["null", "string"])),
        member("campaign_name", json!(["null", "string"])),
        member("canvas_id", json!(["null", "string"]))
    ]));
    let body = [
        text("a"),
        [&[2][..], &text("u"), &[10, 2], &text("c"), &[2], &text("Été"), &[0]].concat(),
        text("b"),
        vec![0, 12, 2, 0, 2, 20],
        b"[REDACTED]".to_vec(),
        vec![2, 0],
    ];
    let mut expected =
        json_says(&json!({"id": "a", "time": 5, "campaign_id": "c", "campaign_name": "Été"}), EMAIL);
    expected.extend(json_says(&json!({"id": "b", "time": 6}), EMAIL));
    assert_eq!(read_datums(&schema, &body.concat(), 2), expected);
}

#[test]
fn the_type_is_looked_for_in_the_record_then_in_its_name_then_where_it_came_from() {
    let from = |known: &str| EventDefaults { event_type: Some(known.into()), ..EventDefaults::default() };
    let id = member("id", "string");
    let says = email(&json!([member("event_type", json!(["null", "string"])), id]));
    let said = [vec![2], text("said"), text("1")].concat();
    let silent = [vec![0], text("1")].concat();
    assert_eq!(read(&said, &datums(&says, 1), false, &from("o")), [ignored("said")]);
    assert_eq!(read(&silent, &datums(&says, 1), false, &from("o")), json_says(&json!({"id": "1"}), EMAIL));
    let nameless = json!({"type": "record", "name": "Other", "fields": [id]});
    assert_eq!(read(&text("1"), &datums(&nameless, 1), false, &from("o")), [ignored("o")]);
    let expected = json_says(&json!({"id": "1"}), SMS);
    assert_eq!(read(&text("1"), &datums(&nameless, 1), false, &from(SMS)), expected);
    assert_eq!(read_datums(&nameless, &text("1"), 1), [malformed(Malformed::NoEventType)]);
    let symbol = json!({"type": "enum", "name": "T", "symbols": ["x", "y"]});
    let symbolic = email(&json!([member("event_type", symbol), id]));
    assert_eq!(read_datums(&symbolic, &[2, 2, b'1'], 1), [ignored("y")]);
}

#[test]
fn where_the_schema_says_that_the_type_is_not_counted_nothing_is_read() {
    let mut schema = email(&json!([member("id", "string")]));
    schema["name"] = "Open".into();
    let element = ignored("users.messages.email.Open");
    assert_eq!(read_datums(&schema, b"", 3), vec![element; 3]);
}

#[test]
fn a_datum_that_does_not_fit_spoils_those_behind_it_and_no_other_part() {
    let schema = email(&json!([member("id", "string")]));
    let bad = malformed(Malformed::Avro);
    let good = json_says(&json!({"id": "1"}), EMAIL);
    let body = [text("1"), vec![0x81], text("1")].concat();
    assert_eq!(read_datums(&schema, &body, 3), [good.clone(), vec![bad.clone(); 2]].concat());
    let Framing::Avro(first) = datums(&schema, 3) else { unreachable!() };
    let json = br#"{"event_type":"x"}"#;
    let parts = Framing::Parts(Arc::new([
        Part { end: body.len(), framing: Framing::Avro(first.clone()) },
        Part { end: body.len() + json.len(), framing: Framing::Document },
        Part { end: body.len() + json.len() + 2, framing: Framing::Avro(Datums { count: 1, ..first }) },
    ]));
    let all = [&body[..], json, &text("1")].concat();
    let expected = [good.clone(), vec![bad.clone(), bad, ignored("x")], good].concat();
    assert_eq!(read(&all, &parts, false, &EventDefaults::default()), expected);
}

#[test]
fn the_last_datum_ends_where_the_bytes_end() {
    let schema = email(&json!([member("id", "string")]));
    let good = json_says(&json!({"id": "1"}), EMAIL);
    let body = [text("1"), text("1"), vec![0]].concat();
    let expected = [good, vec![malformed(Malformed::Avro)]].concat();
    assert_eq!(read_datums(&schema, &body, 2), expected);
}

#[test]
fn what_is_no_character_in_a_text_is_read_as_the_replacement_character() {
    let schema =
        email(&json!([member("id", "string"), member("campaign_name", "string"), member("x", "string")]));
    for odd in [&[0xff][..], &[0xc0, 0xaf], &[0xed, 0xa0, 0x80], &[0]] {
        let length = u8::try_from(odd.len() * 2).expect("is short");
        let odd_text = [&[length], odd].concat();
        let body = [text("1"), odd_text.clone(), text("x"), text("2"), text("b"), odd_text].concat();
        let name = String::from_utf8_lossy(odd).replace('\0', "\u{fffd}");
        let mut expected = json_says(&json!({"id": "1", "campaign_name": name}), EMAIL);
        expected.extend(json_says(&json!({"id": "2", "campaign_name": "b"}), EMAIL));
        assert_eq!(read_datums(&schema, &body, 2), expected, "{odd:?}");
    }
}

#[test]
fn a_type_that_is_none_of_brazes_users_is_ignored_under_its_name() {
    let record = |name: &str, fields: Json| json!({"type": "record", "name": name, "fields": fields});
    let fields = || json!([member("id", "string")]);
    let body = [text("1"), text("2")].concat();
    for (name, event_type) in [
        ("agentconsole.Message", "agentconsole.Message"),
        ("dataexport.S3.inner.agentconsole.Message", "agentconsole.Message"),
        ("com.acme.superusers.Send", "com.acme.superusers.Send"),
    ] {
        let ignored = vec![ignored(event_type); 2];
        assert_eq!(read_datums(&record(name, fields()), &body, 2), ignored, "{name}");
        // In a union it is seen one by one.
        let union = json!(["null", record(name, fields())]);
        let body = [vec![2], text("1"), vec![2], text("2")].concat();
        assert_eq!(read_datums(&union, &body, 2), ignored, "{name}");
    }
    // A name alone says nothing, and where a file came from says more than a foreign name.
    let unknown = vec![malformed(Malformed::NoEventType); 2];
    for name in ["Send", ".Send"] {
        assert_eq!(read_datums(&record(name, fields()), &body, 2), unknown, "{name}");
    }
    let defaults = EventDefaults { event_type: Some(EMAIL.into()), ..EventDefaults::default() };
    let read = read(&body, &datums(&record("com.acme.Send", fields()), 2), false, &defaults);
    let expected = ["1", "2"].map(|id| json_says(&json!({"id": id}), EMAIL)).concat();
    assert_eq!(read, expected);
}

#[test]
fn a_time_may_be_a_floating_point_number() {
    let times = [
        (1_795_771_955.0_f64, Ok(1_795_771_955_u64)),
        (1_795_771_955.9, Ok(1_795_771_955)),
        (0.5, Ok(0)),
        (-1.0, Err(Malformed::BadTime)),
        (f64::NAN, Err(Malformed::BadTime)),
        (f64::INFINITY, Err(Malformed::BadTime)),
        (1e20, Err(Malformed::BadTime)),
    ];
    let schema = email(&json!([member("id", "string"), member("time", json!(["null", "double"]))]));
    for (time, expected) in times {
        let body = [text("1"), vec![2], time.to_le_bytes().to_vec()].concat();
        let expected = match expected {
            Ok(seconds) => json_says(&json!({"id": "1", "time": seconds}), EMAIL),
            Err(reason) => vec![malformed(reason)],
        };
        assert_eq!(read(&body, &datums(&schema, 1), true, &EventDefaults::default()), expected, "{time}");
    }
    let absent = read(&[text("1"), vec![0]].concat(), &datums(&schema, 1), true, &EventDefaults::default());
    assert_eq!(absent, [malformed(Malformed::NoTime)]);
    let schema = email(&json!([member("id", "string"), member("time", "float")]));
    let body = [text("1"), 1024.5_f32.to_le_bytes().to_vec()].concat();
    assert_eq!(read_datums(&schema, &body, 1), json_says(&json!({"id": "1", "time": 1024}), EMAIL));
}

#[test]
fn a_schema_that_cannot_be_used_makes_every_datum_malformed() {
    for schema in [json!("string"), json!({"type": "record"}), json!(5)] {
        assert_eq!(read_datums(&schema, b"abc", 3), vec![malformed(Malformed::Schema); 3]);
    }
}

#[test]
fn of_a_union_of_records_each_branch_has_its_own_type() {
    let named = |name: &str| json!({"type": "record", "name": name, "fields": [member("id", "string")]});
    let union = json!(["null", named("a.users.messages.sms.Send"), named("users.x.Open"), "int"]);
    let body = [vec![2], text("1"), vec![4], text("2"), vec![0, 6, 8]].concat();
    let mut expected = json_says(&json!({"id": "1"}), SMS);
    let no_record = malformed(Malformed::NotAnObject);
    expected.extend([ignored("users.x.Open"), no_record.clone(), no_record]);
    assert_eq!(read_datums(&union, &body, 4), expected);
}

#[test]
fn times_are_read_in_the_unit_of_their_type() {
    let logical = |kind: &str, logical: &str| json!({"type": kind, "logicalType": logical});
    for (schema, number, seconds) in [
        (json!("int"), 5_i64, json!(5)),
        (json!("long"), 1_700_000_000_000, json!(1_700_000_000_000_i64)),
        (json!("long"), -1, json!(null)),
        (logical("long", "timestamp-millis"), 1_700_000_000_999, json!(1_700_000_000)),
        (logical("long", "timestamp-micros"), 1_700_000_000_999_999, json!(1_700_000_000)),
        (logical("long", "local-timestamp-millis"), 1_999, json!(1)),
        (logical("long", "unheard-of"), 7, json!(7)),
        (logical("int", "date"), 7, json!(null)),
        (json!(["null", logical("long", "timestamp-millis")]), 2_000, json!(2)),
    ] {
        let is_union = schema.is_array();
        let mut body = text("1");
        body.extend(is_union.then_some(2));
        let long = Schema::parse_str("\"long\"").expect("is a schema");
        body.extend(to_avro_datum(&long, number).expect("is a long"));
        let schema = email(&json!([member("id", "string"), member("time", schema)]));
        let expected = json_says(&json!({"id": "1", "time": seconds}), EMAIL);
        assert_eq!(read_datums(&schema, &body, 1), expected, "{schema}");
    }
}

#[test]
fn properties_may_be_a_record_or_a_map() {
    let map = email(&json!([
        member("properties", json!({"type": "map", "values": ["null", "string"]})),
        member("campaign_id", "string"),
        member("id", "string")
    ]));
    let entry = |key: &str, value: &str| [text(key), vec![2], text(value)].concat();
    let null = [text("canvas_name"), vec![0]].concat();
    let second = [entry("campaign_id", "p"), null].concat();
    let length = u8::try_from(second.len() * 2).expect("is short");
    let body = [vec![2], entry("canvas_id", "v"), vec![3, length], second, vec![0], text("t"), text("1")];
    let event = json!({"id": "1", "campaign_id": "p", "canvas_id": "v"});
    assert_eq!(read_datums(&map, &body.concat(), 1), json_says(&event, EMAIL));
}

#[test]
fn an_event_is_not_kept_for_the_next() {
    let schema = email(&json!([member("id", "string"), member("campaign_id", json!(["null", "long"]))]));
    let body = [text("1"), vec![2, 14], text("2"), vec![0]].concat();
    let expected =
        [json_says(&json!({"id": "1", "campaign_id": 7}), EMAIL), json_says(&json!({"id": "2"}), EMAIL)];
    assert_eq!(read_datums(&schema, &body, 2), expected.concat());
}

#[test]
fn what_claims_to_be_endless_ends_soon() {
    let bad = vec![malformed(Malformed::Avro)];
    let endless = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for items in [json!("null"), json!({"type": "record", "name": "E", "fields": []})] {
        let schema = email(&json!([member("x", json!({"type": "array", "items": items}))]));
        assert_eq!(read_datums(&schema, &endless, 1), bad);
    }
    // A text, and blocks, of 2^62 bytes; an integer of eleven bytes; a count of -2^63.
    let schema = email(&json!([member("id", "string")]));
    assert_eq!(read_datums(&schema, &endless, 1), bad);
    assert_eq!(read_datums(&schema, &[0xff; 11], 1), bad);
    let schema = email(&json!([member("x", json!({"type": "array", "items": "int"}))]));
    assert_eq!(read_datums(&schema, &[&[1][..], &endless].concat(), 1), bad);
    let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(read_datums(&schema, &[&least[..], &[0]].concat(), 1), bad);
    let huge = email(&json!([member("x", json!({"type": "fixed", "name": "F", "size": u64::MAX}))]));
    assert_eq!(read_datums(&huge, b"abc", 1), bad);
}

#[test]
fn schemas_that_contain_themselves_are_read_as_deep_as_is_sane() {
    let list = email(&json!([member("id", "string"), member("next", json!(["null", "Send"]))]));
    let bad = vec![malformed(Malformed::Avro)];
    let datum = |depth: usize| [text("1"), [vec![2], text("1")].concat().repeat(depth), vec![0]].concat();
    assert_eq!(read_datums(&list, &datum(30), 1), json_says(&json!({"id": "1"}), EMAIL));
    assert_eq!(read_datums(&list, &datum(500_000), 1), bad);
    let endless = email(&json!([member("next", "Send")]));
    assert_eq!(read_datums(&endless, b"", 1), bad);
    // Each record holds the one before twice: 2^60 records of no byte.
    let record =
        |n: usize, fields: Json| json!({"type": "record", "name": format!("R{n}"), "fields": fields});
    let mut fields = vec![member("f0", record(0, json!([])))];
    for n in 1..60 {
        let before = format!("R{}", n - 1);
        let twice = record(n, json!([member("a", before.clone()), member("b", before)]));
        fields.push(member(&format!("f{n}"), twice));
    }
    assert_eq!(read_datums(&email(&json!(fields)), b"", 1), bad);
}

#[test]
fn compiled_schemas_are_found_again_and_bounded_in_number() {
    let schema = |n: usize| {
        let mut schema = email(&json!([member("id", "string")]));
        schema["name"] = format!("S{n}").into();
        Arc::new(WriterSchema::new(&schema.to_string()))
    };
    let mut plans = Plans::default();
    let first = schema(0);
    for _ in 0..3 {
        assert!(plans.plan(&first).is_ok() && plans.plan(&schema(0)).is_ok());
    }
    assert_eq!(plans.known.len(), 1);
    for n in 0..3 * PLANS_MAX {
        assert!(plans.plan(&schema(n)).is_ok() && plans.plan(&first).is_ok());
    }
    assert_eq!(plans.known.len(), PLANS_MAX);
    assert!(plans.known.iter().any(|known| Arc::ptr_eq(&known.schema, &first)));
}

// The reference: records of any schema, written by the apache-avro crate, and the same records as JSON.

/// A source of choices; the same seed makes the same records.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).expect("31 bits") % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

#[derive(Debug, Clone)]
enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Millis,
    Float,
    Double,
    Bytes,
    Text,
    Enum(usize),
    Fixed(usize),
    Array(Box<Kind>),
    Map(Box<Kind>),
    Union(Vec<Kind>),
    Record(usize, Vec<(&'static str, Kind)>),
}

const OTHERS: [&str; 8] = ["user", "dispatch_id", "events_", "times", "iD", "a", "message_extras", "user_id"];
const TEXTS: [&str; 12] = [
    EMAIL,
    SMS,
    "x.Open",
    "",
    "",
    "[REDACTED]",
    "1",
    "1700000000",
    "99999999999999999999",
    "Été 😀",
    "id",
    "a\"\\\n",
];
const SYMBOLS: [&str; 3] = ["alpha", "Beta", "c_3"];

/// Kinds, each named type with a number of its own.
struct Kinds<'c> {
    chance: &'c mut Chance,
    named: usize,
}

impl Kinds<'_> {
    fn kind(&mut self, depth: usize) -> Kind {
        self.named += 1;
        match self.chance.below(if depth < 2 { 16 } else { 12 }) {
            0 => Kind::Null,
            1 => Kind::Boolean,
            2 => Kind::Int,
            3 => Kind::Long,
            4 => Kind::Float,
            5 => Kind::Double,
            6 => Kind::Bytes,
            7 => Kind::Enum(self.named),
            8 => Kind::Fixed(self.named),
            9..=11 => Kind::Text,
            12 => Kind::Array(Box::new(self.kind(depth + 1))),
            13 => Kind::Map(Box::new(self.kind(depth + 1))),
            14 => self.record(depth + 1, false),
            _ => self.union(depth),
        }
    }

    fn union(&mut self, depth: usize) -> Kind {
        let mut branches = match self.chance.below(4) {
            0 => vec![Kind::Null, Kind::Text],
            1 => vec![Kind::Text, Kind::Null],
            2 => vec![Kind::Null, Kind::Long, Kind::Text, Kind::Boolean],
            _ => vec![Kind::Double, Kind::Int, Kind::Null],
        };
        if depth < 2 && self.chance.below(3) == 0 {
            branches.push(self.record(depth + 1, false));
        }
        Kind::Union(branches)
    }

    fn record(&mut self, depth: usize, is_event: bool) -> Kind {
        self.named += 1;
        let number = self.named;
        let mut names: Vec<&str> = Field::ALL.iter().map(|field| field.name()).chain(OTHERS).collect();
        names.extend(["app_group_api_id", "campaign_api_id", "canvas_api_id", "canvas_step_api_id"]);
        names.extend(["id", "time", "event_type", "properties"]);
        names.retain(|_| self.chance.below(3) > 0);
        let fields = names.into_iter().map(|name| {
            let kind = match name {
                "properties" if depth < 3 && self.chance.below(3) > 0 => self.record(depth + 1, false),
                "id" if is_event && self.chance.below(4) > 0 => Kind::Text,
                "time" if is_event => match self.chance.below(4) {
                    0 => Kind::Int,
                    1 => Kind::Millis,
                    2 => Kind::Union(vec![Kind::Null, Kind::Millis]),
                    _ => self.kind(depth + 1),
                },
                _ if self.chance.below(2) == 0 => self.union(depth),
                _ => self.kind(depth + 1),
            };
            (name, kind)
        });
        Kind::Record(number, fields.collect())
    }
}

fn schema_of(kind: &Kind) -> Json {
    match kind {
        Kind::Null => json!("null"),
        Kind::Boolean => json!("boolean"),
        Kind::Int => json!("int"),
        Kind::Long => json!({"type": "long"}),
        Kind::Millis => json!({"type": "long", "logicalType": "timestamp-millis"}),
        Kind::Float => json!("float"),
        Kind::Double => json!("double"),
        Kind::Bytes => json!("bytes"),
        Kind::Text => json!("string"),
        Kind::Enum(n) => json!({"type": "enum", "name": format!("E{n}"), "symbols": SYMBOLS}),
        Kind::Fixed(n) => json!({"type": "fixed", "name": format!("F{n}"), "size": n % 20}),
        Kind::Array(items) => json!({"type": "array", "items": schema_of(items)}),
        Kind::Map(values) => json!({"type": "map", "values": schema_of(values)}),
        Kind::Union(branches) => branches.iter().map(schema_of).collect(),
        Kind::Record(n, fields) => {
            let fields: Vec<Json> = fields.iter().map(|(name, kind)| member(name, schema_of(kind))).collect();
            json!({"type": "record", "name": format!("R{n}"), "fields": fields})
        }
    }
}

const NUMBERS: [i32; 8] = [0, 1, -1, 63, 64, -65, 1_700_000_000, i32::MIN];

/// A value as Avro, and as the JSON that means the same; bytes mean nothing.
fn value_of(chance: &mut Chance, kind: &Kind) -> (Avro, Json) {
    match kind {
        Kind::Null => (Avro::Null, Json::Null),
        Kind::Boolean => (Avro::Boolean(true), json!(true)),
        Kind::Int => {
            let number = chance.pick(&NUMBERS);
            (Avro::Int(number), json!(number))
        }
        Kind::Long => {
            let number = chance.pick(&[0, 5, i64::MAX, i64::MIN, 1 << 35, -3]);
            (Avro::Long(number), json!(number))
        }
        Kind::Millis => {
            let number = i64::from(chance.pick(&NUMBERS)) * 1_000 + 7;
            (Avro::TimestampMillis(number), json!(number / 1_000 - i64::from(number < 0)))
        }
        Kind::Float => (Avro::Float(1.5), json!(1.5)),
        Kind::Double => (Avro::Double(-2.5), json!(-2.5)),
        Kind::Bytes => (Avro::Bytes(vec![7; chance.below(100)]), json!([])),
        Kind::Text => {
            let text = chance.pick(&TEXTS).repeat(1 + chance.below(20) / 19 * 9);
            (Avro::String(text.clone()), json!(text))
        }
        Kind::Enum(_) => {
            let at = chance.below(SYMBOLS.len());
            let number = u32::try_from(at).expect("is small");
            (Avro::Enum(number, SYMBOLS[at].to_owned()), json!(SYMBOLS[at]))
        }
        Kind::Fixed(n) => (Avro::Fixed(n % 20, vec![1; n % 20]), json!([])),
        Kind::Array(items) => {
            let values =
                (0..chance.below(4)).map(|_| value_of(chance, items)).unzip::<_, _, Vec<_>, Vec<_>>();
            (Avro::Array(values.0), json!(values.1))
        }
        Kind::Map(values) => {
            let (mut avro, mut json) = (HashMap::new(), Map::new());
            for key in ["campaign_id", "canvas_name", "ü"].iter().take(chance.below(4)) {
                let value = value_of(chance, values);
                avro.insert((*key).to_owned(), value.0);
                json.insert((*key).to_owned(), value.1);
            }
            (Avro::Map(avro), json.into())
        }
        Kind::Union(branches) => {
            let at = chance.below(branches.len());
            let (avro, json) = value_of(chance, &branches[at]);
            (Avro::Union(u32::try_from(at).expect("is small"), Box::new(avro)), json)
        }
        Kind::Record(_, fields) => {
            let values: Vec<_> = fields.iter().map(|(name, kind)| (*name, value_of(chance, kind))).collect();
            let json: Map<_, _> =
                values.iter().map(|(name, (_, json))| ((*name).to_owned(), json.clone())).collect();
            let avro = values.into_iter().map(|(name, (avro, _))| (name.to_owned(), avro));
            (Avro::Record(avro.collect()), json.into())
        }
    }
}

/// A schema, some datums, how many, and the same events as JSON lines.
fn written(chance: &mut Chance) -> (Json, Vec<u8>, u64, String) {
    let kind = Kinds { chance: &mut *chance, named: 0 }.record(0, true);
    let schema = schema_of(&kind);
    let parsed = Schema::parse(&schema).expect("is a schema");
    let (mut body, mut lines) = (Vec::new(), String::new());
    let count = chance.below(4);
    for _ in 0..count {
        let (avro, mut event) = value_of(chance, &kind);
        body.extend(to_avro_datum(&parsed, avro).expect("fits its schema"));
        if event.as_object().is_some_and(Map::is_empty) {
            // An empty object is no event to JSON.
            event = json!({"a": null});
        }
        lines.push_str(&event.to_string());
        lines.push('\n');
    }
    (schema, body, count as u64, lines)
}

fn defaults_of(chance: &mut Chance) -> EventDefaults {
    let mut pick = |text: &str| (chance.below(2) == 0).then(|| Box::from(text));
    EventDefaults { event_type: pick(SMS), app_group_id: pick("og"), app_group_name: pick("on") }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Records of any schema that the apache-avro crate has written are worth what the same records are as
    /// JSON.
    #[test]
    fn datums_mean_what_their_json_means(seed in 1u64.., time_needed: bool) {
        let mut chance = Chance(seed);
        let (schema, body, count, lines) = written(&mut chance);
        let defaults = defaults_of(&mut chance);
        let expected = read(lines.as_bytes(), &Framing::Lines, time_needed, &defaults);
        let elements = read(&body, &datums(&schema, count), time_needed, &defaults);
        // An ignored type is not read where nothing can say another one.
        prop_assert_eq!(elements, expected, "{}\n{}", schema, lines);
    }

    /// Whatever is damaged, every datum is booked once, and those before the damage are as they were.
    #[test]
    fn damaged_datums_are_all_booked(seed in 1u64.., at: prop::sample::Index, bits in 1u8.., cut: bool) {
        let mut chance = Chance(seed);
        let (schema, mut body, count, _) = written(&mut chance);
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] ^= bits;
            if cut {
                body.truncate(at);
            }
        }
        prop_assert_eq!(read_datums(&schema, &body, count).len() as u64, count);
    }

    /// Arbitrary bytes are read with arbitrary schemas, and every datum is booked once.
    #[test]
    fn arbitrary_bytes_are_all_booked(
        seed in 1u64..,
        body in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..8], 0..200),
        count in 0u64..20
    ) {
        let (schema, ..) = written(&mut Chance(seed));
        prop_assert_eq!(read_datums(&schema, &body, count).len() as u64, count);
    }

    /// No text makes the compiler panic, or anything be booked but its datums.
    #[test]
    fn arbitrary_schemas_are_refused_or_used(seed in 1u64.., at: prop::sample::Index, with in "[\\[\\]{}\",:a-z0-9]{0,3}") {
        let (schema, body, count, _) = written(&mut Chance(seed));
        let mut text = schema.to_string();
        let at = at.index(text.len());
        if text.is_char_boundary(at) {
            text.replace_range(at..=at, &with);
        }
        let framing = Framing::Avro(Datums { schema: Arc::new(WriterSchema::new(&text)), count });
        prop_assert_eq!(read(&body, &framing, false, &EventDefaults::default()).len() as u64, count);
    }
}

/// The schema that Azure Event Hubs' Capture writes.
fn captured_schema() -> Json {
    let values = json!(["long", "double", "string", "bytes"]);
    json!({"type": "record", "name": "EventData", "namespace": "Microsoft.ServiceBus.Messaging", "fields": [
        member("SequenceNumber", "long"), member("Offset", "string"), member("EnqueuedTimeUtc", "string"),
        member("SystemProperties", json!({"type": "map", "values": values})),
        member("Properties", json!({"type": "map", "values": values})), member("Body", json!(["null", "bytes"]))]})
}

/// What Capture writes of these events of a hub, one datum each.
fn captured(bodies: &[Option<&[u8]>]) -> Vec<u8> {
    let schema = Schema::parse_str(&captured_schema().to_string()).expect("is a schema");
    let properties = HashMap::from([("k".to_owned(), Avro::Union(2, Box::new(Avro::String("v".into()))))]);
    let written = bodies.iter().zip(0_i64..).flat_map(|(body, number)| {
        let body = body.map_or((0, Avro::Null), |body| (1, Avro::Bytes(body.to_vec())));
        let record = Avro::Record(vec![
            ("SequenceNumber".into(), Avro::Long(number)),
            ("Offset".into(), Avro::String(number.to_string())),
            ("EnqueuedTimeUtc".into(), Avro::String("11/20/2026 10:00:00 AM".into())),
            ("SystemProperties".into(), Avro::Map(properties.clone())),
            ("Properties".into(), Avro::Map(properties.clone())),
            ("Body".into(), Avro::Union(body.0, Box::new(body.1))),
        ]);
        to_avro_datum(&schema, record).expect("fits its schema")
    });
    written.collect()
}

#[test]
fn what_event_hubs_capture_wraps_is_read_as_the_json_that_it_is() {
    let event =
        |id: &str| json!({"event_type": EMAIL, "id": id, "time": 5, "properties": {"campaign_id": "c"}});
    let array = json!([event("2"), event("3")]).to_string();
    let envelope = json!({"events": [event("4")]}).to_string();
    let lines = format!("{}\n{}\n", event("5"), event("6"));
    let wrapped = json!({"specversion": "1.0", "id": "w", "data": event("7")}).to_string();
    let first = event("1").to_string();
    let bodies = [&first, &array, &envelope, &lines, &wrapped].map(|body| Some(body.as_bytes()));
    let all = read_datums(&captured_schema(), &captured(&bodies), bodies.len() as u64);
    let expected: Vec<_> = (1..=7).flat_map(|id| json_says(&event(&id.to_string()), "")).collect();
    assert_eq!(all, expected);
}

#[test]
fn what_is_no_json_in_a_captured_event_harms_no_other_and_what_is_empty_is_no_event() {
    let event = json!({"event_type": EMAIL, "id": "1", "time": 5});
    let whole = event.to_string();
    let bodies =
        [None, Some(&b""[..]), Some(&whole.as_bytes()[..9]), Some(b"\x00\x01"), Some(whole.as_bytes())];
    let body = captured(&bodies);
    let all = read_datums(&captured_schema(), &body, bodies.len() as u64);
    let skipped = |bytes| format!("{:?}", Decoded::Skipped(crate::Skipped { stretches: 1, bytes }));
    assert_eq!(all, [vec![skipped(9), skipped(2)], json_says(&event, "")].concat());
    // Where the datums end too early, each that is missing is booked.
    let cut = read_datums(&captured_schema(), &body[..body.len() - 3], bodies.len() as u64);
    assert_eq!(cut.last(), Some(&malformed(Malformed::Avro)));
    assert_eq!(read_datums(&captured_schema(), b"", 3), vec![malformed(Malformed::Avro); 3]);
}

#[test]
fn a_body_in_a_record_that_is_an_event_is_a_field_like_any_other() {
    let send = email(&json!([member("Body", "bytes"), member("id", "string")]));
    assert_eq!(
        read_datums(&send, &[text("{}"), text("a")].concat(), 1),
        json_says(&json!({"id": "a"}), EMAIL)
    );
    let named = email(&json!([member("Body", "bytes")]));
    assert_eq!(read_datums(&named, &text("{}"), 1), [malformed(Malformed::NoId)]);
    let number = json!({"type": "record", "name": "x.Y", "fields": [member("Body", "long")]});
    assert_eq!(read_datums(&number, &[2], 1), [ignored("x.Y")]);
}

#[test]
fn json_beside_captured_events_in_one_body_is_read_all_the_same() {
    let event = |id: &str| json!({"event_type": EMAIL, "id": id, "time": 5});
    let (first, last) = (event("1").to_string(), event("3").to_string());
    let middle = captured(&[Some(event("2").to_string().as_bytes())]);
    let body = [first.as_bytes(), &middle, last.as_bytes()].concat();
    let parts = [
        Part { end: first.len(), framing: Framing::Document },
        Part { end: first.len() + middle.len(), framing: datums(&captured_schema(), 1) },
        Part { end: body.len(), framing: Framing::Document },
    ];
    let all = read(&body, &Framing::Parts(parts.into()), false, &EventDefaults::default());
    assert_eq!(all, ["1", "2", "3"].map(|id| json_says(&event(id), "")).concat());
}
