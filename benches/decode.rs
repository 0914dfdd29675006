//! How fast events are decoded, beside two floors measured in the same run: `serde_json` and `sonic-rs`, the fastest
//! well-kept decoder, filling a struct of borrowed fields from the same bytes, without any of our decoder's rules.
//!
//! `cargo bench --bench decode`

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use braze_events::Decoded;
use braze_events::decode::{Decoder, extract};
use event_queues::{Datums, EventDefaults, Framing, WriterSchema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const TYPES: [&str; 3] =
    ["users.messages.email.Send", "users.messages.pushnotification.Send", "users.messages.sms.Send"];
const EVENTS: usize = 2000;
/// Short rounds, and many: on a machine that others use too, some of them are undisturbed.
const ROUNDS: usize = 300;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:<34} {:>6} {:>9} {:>12} {:>7} {:>16} {:>16}",
        "", "B/ev", "ns/event", "events/s", "GB/s", "serde_json", "sonic-rs"
    )?;
    let pushes = |nested: fn(&mut Chance) -> String, text: &str| {
        let events: Vec<String> = events(nested, text);
        events.chunks(100).map(|events| format!("{{\"events\":[{}]}}", events.join(","))).collect::<Vec<_>>()
    };
    let plain = "Spring Sale 50% off";
    report(&mut out, "push, 100 events a body", &pushes(currents, plain), &Framing::Document)?;
    report(&mut out, "push, not ASCII", &pushes(currents, "Soldes d’été 50 % 😀"), &Framing::Document)?;
    report(&mut out, "push, escapes", &pushes(currents, r#"Say \"Ol\u00e9\" \\ now"#), &Framing::Document)?;
    report(&mut out, "bare events, one a body", &events(currents, plain), &Framing::Document)?;
    report(&mut out, "lines", &[events(currents, plain).join("\n")], &Framing::Lines)?;
    report(&mut out, "lines, flat", &[events(flat, plain).join("\n")], &Framing::Lines)?;
    report(&mut out, "lines, flat, not ASCII", &[events(flat, "Soldes d’été").join("\n")], &Framing::Lines)?;
    report_avro(&mut out, &events(flat, plain))
}

/// The same flat events as datums, with a schema like that of a storage export.
fn report_avro(out: &mut impl Write, events: &[String]) -> io::Result<()> {
    let records: Vec<Map<String, Value>> =
        events.iter().map(|event| serde_json::from_str(event)).collect::<Result<_, _>>()?;
    let names: BTreeSet<&String> = records.iter().flat_map(Map::keys).collect();
    let field = |name: &&String| json!({"name": name, "type": ["null", "long", "string"]});
    let fields: Vec<Value> = names.iter().map(field).collect();
    let schema = json!({"type": "record", "name": "Send", "fields": fields});
    let mut body = Vec::new();
    for record in &records {
        for name in &names {
            datum(record.get(*name).unwrap_or(&Value::Null), &mut body);
        }
    }
    let schema = Arc::new(WriterSchema::new(&schema.to_string()));
    let framing = Framing::Avro(Datums { schema, count: records.len() as u64 });
    let (mut decoder, defaults) = (Decoder::new(&TYPES.map(Box::from), true), EventDefaults::default());
    let ns = fastest(|| {
        let mut sends = 0;
        decoder.decode(&body, &framing, &defaults, |decoded| {
            if let Decoded::Send(event) = black_box(&decoded) {
                sends += usize::from(!event.id.is_empty());
            }
        });
        sends
    });
    line(out, "avro, flat", body.len(), ns, &[])
}

/// A null, a long or a text, as a branch of their union.
fn datum(value: &Value, out: &mut Vec<u8>) {
    let mut integer = |number: i64| {
        let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
        while rest >= 0x80 {
            out.push(rest.to_le_bytes()[0] | 0x80);
            rest >>= 7;
        }
        out.push(rest.to_le_bytes()[0]);
    };
    if let Some(number) = value.as_i64() {
        integer(1);
        integer(number);
    } else if let Some(text) = value.as_str() {
        integer(2);
        integer(text.len().try_into().unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
    } else {
        integer(0);
    }
}

fn events(make: fn(&mut Chance) -> String, text: &str) -> Vec<String> {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    (0..EVENTS).map(|_| make(&mut chance).replace("NAME", text)).collect()
}

fn report(out: &mut impl Write, name: &str, bodies: &[String], framing: &Framing) -> io::Result<()> {
    let counted = TYPES.map(Box::from);
    let mut decoder = Decoder::new(&counted, true);
    let defaults = EventDefaults::default();
    let ours = fastest(|| {
        let mut sends = 0;
        for body in bodies {
            decoder.decode(body.as_bytes(), framing, &defaults, |decoded| {
                if let Decoded::Send(event) = black_box(&decoded) {
                    sends += usize::from(!event.id.is_empty());
                }
            });
        }
        sends
    });
    let with_serde_json = |body: &String| {
        with(body, framing, |json| serde_json::from_str(json).ok(), |json| serde_json::from_str(json).ok())
    };
    let with_sonic_rs = |body: &String| {
        with(body, framing, |json| sonic_rs::from_str(json).ok(), |json| sonic_rs::from_str(json).ok())
    };
    let floors = [
        fastest(|| bodies.iter().map(with_serde_json).sum()),
        fastest(|| bodies.iter().map(with_sonic_rs).sum()),
    ];
    let bytes: usize = bodies.iter().map(String::len).sum();
    line(out, name, bytes, ours, &floors)?;
    if name == "push, 100 events a body" {
        report_extract(out, bodies, bytes, &mut decoder)?;
    }
    Ok(())
}

/// What the push handler does, and what is left for the lane.
fn report_extract(
    out: &mut impl Write,
    bodies: &[String],
    bytes: usize,
    decoder: &mut Decoder,
) -> io::Result<()> {
    let mut extracts = vec![Vec::new(); bodies.len()];
    let extracted = fastest(|| {
        let mut events = 0;
        for (body, found) in bodies.iter().zip(&mut extracts) {
            found.clear();
            events +=
                extract(body.as_bytes(), found, None).map_or(0, |extracted| extracted.elements) as usize;
        }
        events
    });
    line(out, "  check and extract, at the push handler", bytes, extracted, &[])?;
    let defaults = EventDefaults::default();
    let read = fastest(|| {
        let mut events = 0;
        for extract in &extracts {
            decoder.decode(extract, &Framing::Extract, &defaults, |decoded| {
                events += usize::from(!matches!(black_box(decoded), Decoded::Malformed(_)));
            });
        }
        events
    });
    line(out, "  read from the extract", extracts.iter().map(Vec::len).sum(), read, &[])
}

fn line(out: &mut impl Write, name: &str, bytes: usize, ns: f64, floors: &[f64]) -> io::Result<()> {
    let size = bytes / EVENTS;
    #[expect(clippy::cast_precision_loss, reason = "a size for people to read")]
    let speed = size as f64 / ns;
    write!(out, "{name:<34} {size:>6} {ns:>9.0} {:>12.0} {speed:>7.2}", 1e9 / ns)?;
    for floor in floors {
        write!(out, " {:>16}", format!("{:.1}x of {floor:.0} ns", floor / ns))?;
    }
    writeln!(out)
}

/// The nanoseconds per event of the fastest round; `run` decodes all events and returns how many it found.
fn fastest(mut run: impl FnMut() -> usize) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let events = black_box(run());
        best = best.min(start.elapsed().as_secs_f64());
        assert_eq!(events, EVENTS, "every event is found");
    }
    best * 1e9 / f64::from(u16::try_from(EVENTS).unwrap_or(u16::MAX))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    events: Vec<Event<'a>>,
}

/// Within an option, serde borrows only through a type of its own.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "event_type")]
    type_name: Option<Text<'a>>,
    id: Option<Text<'a>>,
    time: Option<u64>,
    app_group_id: Option<Text<'a>>,
    campaign_id: Option<Text<'a>>,
    campaign_name: Option<Text<'a>>,
    canvas_id: Option<Text<'a>>,
    canvas_name: Option<Text<'a>>,
    canvas_step_id: Option<Text<'a>>,
    canvas_step_name: Option<Text<'a>>,
    properties: Option<Properties<'a>>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow)]
    app_group_id: Option<Text<'a>>,
    campaign_id: Option<Text<'a>>,
    campaign_name: Option<Text<'a>>,
    canvas_id: Option<Text<'a>>,
    canvas_name: Option<Text<'a>>,
    canvas_step_id: Option<Text<'a>>,
    canvas_step_name: Option<Text<'a>>,
}

impl Event<'_> {
    /// Whether it is there; reads every field, so that none is optimised away.
    fn weigh(&self) -> usize {
        let top = [
            &self.type_name,
            &self.id,
            &self.app_group_id,
            &self.campaign_id,
            &self.campaign_name,
            &self.canvas_id,
            &self.canvas_name,
            &self.canvas_step_id,
            &self.canvas_step_name,
        ];
        let inner = self.properties.as_ref().map(|inner| {
            [
                &inner.app_group_id,
                &inner.campaign_id,
                &inner.campaign_name,
                &inner.canvas_id,
                &inner.canvas_name,
                &inner.canvas_step_id,
                &inner.canvas_step_name,
            ]
        });
        let length = |text: &&Option<Text<'_>>| text.as_ref().map_or(0, |text| text.0.len());
        let inner: usize = inner.iter().flatten().map(length).sum();
        black_box(top.iter().map(length).sum::<usize>() + inner);
        usize::from(self.time.is_some())
    }
}

/// Reads all events with another decoder; returns how many have a time.
fn with(
    body: &str,
    framing: &Framing,
    event: fn(&str) -> Option<Event<'_>>,
    envelope: fn(&str) -> Option<Envelope<'_>>,
) -> usize {
    let one = |json| event(json).map_or(0, |event| event.weigh());
    match framing {
        Framing::Lines => body.lines().map(one).sum(),
        Framing::Document if body.starts_with("{\"events\":") => {
            envelope(body).map_or(0, |envelope| envelope.events.iter().map(Event::weigh).sum())
        }
        Framing::Document => one(body),
        _ => 0,
    }
}

/// The same choices in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[usize::try_from(self.next()).unwrap_or_default() % from.len()]
    }

    fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
            a >> 16,
            a & 0xffff,
            b >> 32 & 0xfff,
            b & 0xfff,
            a ^ b
        )
    }

    /// `,"key":"value"`, `,"key":null` or nothing.
    fn optional(&mut self, out: &mut String, key: &str, value: &str) {
        let _ = match self.next() % 8 {
            0 => Ok(()),
            1 => write!(out, ",\"{key}\":null"),
            _ => write!(out, ",\"{key}\":\"{value}\""),
        };
    }

    fn time(&mut self) -> u64 {
        1_764_000_000 + self.next() % 86_400
    }

    /// The fields of a campaign's or of a Canvas's send, each behind a comma.
    fn source(&mut self, out: &mut String) {
        let group = self.uuid();
        self.optional(out, "app_group_id", &group);
        let (id, step) = (self.uuid(), self.uuid());
        if self.one_in(2) {
            let _ = write!(out, ",\"campaign_id\":\"{id}\",\"campaign_name\":\"NAME\"");
            self.optional(out, "message_variation_id", &step);
        } else {
            let _ =
                write!(out, ",\"canvas_id\":\"{id}\",\"canvas_name\":\"NAME\",\"canvas_step_id\":\"{step}\"");
            self.optional(out, "canvas_step_name", "Step NAME");
            self.optional(out, "canvas_variation_id", &id);
            self.optional(out, "canvas_variation_name", "Variant 1");
        }
        let dispatch = self.uuid().replace('-', "");
        let _ = write!(out, ",\"dispatch_id\":\"{dispatch}\"");
        self.optional(out, "send_id", "65f0c1d2a9");
        let timezone = self.pick(&["America/New_York", "Europe/Vienna", "Asia/Tokyo"]);
        self.optional(out, "timezone", timezone);
        self.optional(out, "ip_pool", "main");
        self.optional(out, "message_extras", r#"{\"plan\":\"gold\"}"#);
    }
}

/// An event as Currents pushes it.
fn currents(chance: &mut Chance) -> String {
    let (event_type, id, time) = (chance.pick(&TYPES), chance.uuid(), chance.time());
    let (user, external, device) = (chance.uuid().replace('-', ""), chance.uuid(), chance.uuid());
    let mut out = format!("{{\"event_type\":\"{event_type}\",\"id\":\"{id}\",\"time\":{time}");
    let _ = write!(out, ",\"user\":{{\"user_id\":\"{user}\",\"external_user_id\":\"{external}\"");
    chance.optional(&mut out, "device_id", &device);
    let _ = write!(out, "}},\"properties\":{{\"email_address\":\"{}@example.com\"", &user[..12]);
    chance.source(&mut out);
    out + "}}"
}

/// A flat record, as from storage.
fn flat(chance: &mut Chance) -> String {
    let (event_type, id, time) = (chance.pick(&TYPES), chance.uuid(), chance.time());
    let (user, external) = (chance.uuid().replace('-', ""), chance.uuid());
    let mut out = format!(
        "{{\"id\":\"{id}\",\"user_id\":\"{user}\",\"external_user_id\":\"{external}\",\"time\":{time}"
    );
    let _ = write!(
        out,
        ",\"event_type\":\"{event_type}\",\"gender\":null,\"language\":\"en\",\"country\":\"US\""
    );
    chance.source(&mut out);
    out + "}"
}
