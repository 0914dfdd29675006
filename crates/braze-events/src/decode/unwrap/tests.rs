use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::reference::{EMAIL, Element, WRAPPERS, bad, compare, decode_with, skipped};
use super::super::{Scope, extract};
use super::*;
use crate::{EventDefaults, Framing, Malformed};

fn event(id: &str) -> Value {
    json!({ "event_type": EMAIL, "id": id, "time": 1_800_000_000, "properties": { "app_group_id": "g" } })
}

fn base64(content: &Value) -> String {
    STANDARD.encode(content.to_string())
}

fn decode(body: &str) -> Vec<Element> {
    compare(body.as_bytes(), &Framing::Document, false, &EventDefaults::default());
    decode_with(body.as_bytes(), &Framing::Document, false, &EventDefaults::default())
}

/// The ids of the sends in a body; whatever else is in it is told.
fn ids(body: &Value) -> Vec<String> {
    let id = |element| match element {
        Element::Send { id, .. } => id,
        other => format!("{other:?}"),
    };
    decode(&body.to_string()).into_iter().map(id).collect()
}

#[test]
fn every_intermediarys_wrapper_gives_the_events_in_it() {
    let two = json!({ "events": [event("1"), event("2")] });
    let bridge = json!({ "version": "0", "id": "e-1", "detail-type": "braze", "source": "x", "time": "2026-11-20T10:00:00Z",
        "resources": [], "detail": two });
    let notification = json!({ "Type": "Notification", "MessageId": "m", "Message": bridge.to_string() });
    let sqs = json!({ "Records": [{ "messageId": "m", "body": notification.to_string(), "eventSource": "aws:sqs" }] });
    let data = base64(&two);
    let message = json!({ "data": data, "messageId": "7", "attributes": { "a": "b" } });
    for wrapper in [
        bridge,
        notification,
        sqs,
        json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": two.to_string() } }] }),
        json!({ "Records": [{ "kinesis": { "partitionKey": "1", "data": data } }] }),
        json!({ "requestId": "r", "timestamp": 1, "records": [{ "data": data }] }),
        json!({ "schema": { "type": "struct" }, "payload": two }),
        json!({ "schema": { "type": "string" }, "payload": two.to_string() }),
        json!({ "specversion": "1.0", "id": "c", "type": "t", "source": "/", "data": two }),
        json!({ "specversion": "1.0", "id": "c", "type": "t", "source": "/", "data_base64": data }),
        json!([{ "specversion": "1.0", "id": "c", "data": event("1") }, { "specversion": "1.0", "data": event("2") }]),
        json!({ "message": message, "subscription": "projects/p/subscriptions/s" }),
        json!({ "message": { "data": data.trim_end_matches('=') } }),
    ] {
        assert_eq!(ids(&wrapper), ["1", "2"], "{wrapper}");
    }
}

#[test]
fn what_only_looks_like_a_wrapper_is_what_it_was() {
    let inner = event("inner");
    let deep = (0..7).fold(event("deep"), |inner, _| json!({ "data": inner }));
    for (body, expected) in [
        // An event of Braze with members of these names.
        (json!({ "event_type": EMAIL, "id": "1", "payload": inner, "data": inner.to_string() }), None),
        (
            json!({ "event_type": EMAIL, "id": "1", "properties": { "message": inner, "body": base64(&inner) } }),
            None,
        ),
        (json!({ "events": [{ "event_type": EMAIL, "id": "1", "message": inner }] }), None),
        (json!({ "events": [{ "data": inner }] }), Some(Malformed::NoEventType)),
        (
            json!({ "Records": [{ "eventSource": "aws:s3", "s3": { "object": { "key": "a" } } }] }),
            Some(Malformed::NoEventType),
        ),
        (json!({ "message": "Hello" }), Some(Malformed::NoEventType)),
        (
            json!({ "message": "[GET] /path", "data": 5, "body": null, "Records": [] }),
            Some(Malformed::NoEventType),
        ),
        (json!({ "message": "{name} is here", "detail": "aGVsbG8=" }), Some(Malformed::NoEventType)),
        (json!({ "data": { "id": "5", "name": "x" } }), Some(Malformed::NoEventType)),
        (json!({ "id": "o", "data": { "id": "5", "time": 5 } }), Some(Malformed::NoEventType)),
        // An event whose type is known from elsewhere.
        (json!({ "id": "o", "time": 5, "campaign_id": "c", "data": inner }), Some(Malformed::NoEventType)),
        (json!({ "detail": {}, "payload": [1, "x"] }), Some(Malformed::NoEventType)),
        (deep, Some(Malformed::NoEventType)),
    ] {
        let elements = decode(&body.to_string());
        match (&elements[..], expected) {
            ([Element::Send { id, .. }], None) => assert_eq!(id, "1"),
            (found, Some(malformed)) => assert_eq!(found, [bad(malformed)], "{body}"),
            (found, None) => panic!("{found:?} in {body}"),
        }
    }
}

#[test]
fn of_two_keys_with_events_the_one_that_is_tried_first_counts_wherever_it_stands() {
    for (at, first) in WRAPPERS.iter().enumerate() {
        for second in &WRAPPERS[at + 1..] {
            for body in [
                format!("{{\"{first}\":{},\"{second}\":{}}}", event("1"), event("2")),
                format!("{{\"{second}\":{},\"{first}\":{}}}", event("2"), event("1")),
            ] {
                let found =
                    decode_with(body.as_bytes(), &Framing::Document, false, &EventDefaults::default());
                assert!(matches!(&found[..], [Element::Send { id, .. }] if id == "1"), "{body}: {found:?}");
            }
        }
    }
}

#[test]
fn five_wrappers_are_looked_through_and_no_more() {
    let within = |wrappers| (0..wrappers).fold(event("1"), |inner, _| json!({ "data": inner })).to_string();
    assert!(matches!(&decode(&within(5))[..], [Element::Send { id, .. }] if id == "1"));
    assert_eq!(decode(&within(6)), [bad(Malformed::NoEventType)]);
}

#[test]
fn a_wrapper_with_a_number_for_its_time_or_with_a_tag_is_one_all_the_same() {
    for wrapper in [
        json!({ "id": "w", "time": 1_800_000_000, "data": event("1") }),
        json!({ "id": "w", "app_group_id": "g", "time": "2026-11-20T10:00:00Z", "data": event("1") }),
        json!({ "campaign_id": "c", "time": 1_800_000_000, "data": event("1") }),
        json!({ "id": "w", "time": 1_800_000_000, "campaign_id": "[REDACTED]", "data": event("1") }),
    ] {
        assert_eq!(ids(&wrapper), ["1"], "{wrapper}");
    }
}

#[test]
fn a_key_that_is_written_with_escapes_or_comes_twice_is_found_as_the_last_of_its_name() {
    let (one, two) = (event("1"), event("2"));
    let body = format!(r#"{{"\u0064ata":{one},"x":[1],"d\u0061ta" : {two} }}"#);
    let found = decode_with(body.as_bytes(), &Framing::Document, false, &EventDefaults::default());
    assert!(matches!(&found[..], [Element::Send { id, .. }] if id == "2"), "{found:?}");
}

#[test]
fn damage_in_a_wrapper_is_told_and_harms_no_other() {
    let whole = event("1").to_string();
    let cut = json!({ "Type": "Notification", "Message": &whole[..whole.len() - 3] }).to_string();
    let found = decode(&cut);
    assert_eq!(found, [skipped(1, whole.len() as u64 - 3)]);
    let mut out = Vec::new();
    let extracted = extract(cut.as_bytes(), &mut out, None).unwrap();
    assert_eq!((extracted.elements, extracted.damage.unwrap().skipped.stretches), (1, 1));
    let records = json!({ "Records": [{ "body": whole }, { "body": &whole[..9] }, { "body": "x" }, { "body": whole }] });
    let found = decode(&records.to_string());
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!((&found[1], &found[2]), (&skipped(1, 9), &bad(Malformed::NoEventType)));
}

#[test]
fn several_documents_in_one_record_are_all_read() {
    let data = STANDARD.encode(format!("{}\n{}{}\n", event("1"), event("2"), event("3")));
    let body = json!({ "records": [{ "data": data }] }).to_string();
    assert_eq!(decode_with(body.as_bytes(), &Framing::Document, false, &EventDefaults::default()).len(), 3);
}

#[test]
fn a_typeless_event_is_taken_where_the_wrapper_has_no_id() {
    let body = json!({ "schema": {}, "payload": { "id": "5", "time": 1_800_000_000 } }).to_string();
    let defaults = EventDefaults { event_type: Some(EMAIL.into()), ..EventDefaults::default() };
    compare(body.as_bytes(), &Framing::Document, true, &defaults);
    let found = decode_with(body.as_bytes(), &Framing::Document, true, &defaults);
    assert!(matches!(&found[..], [Element::Send { id, .. }] if id == "5"), "{found:?}");
}

#[test]
fn a_typeless_event_before_damage_in_a_wrapper_is_taken() {
    let body = json!({ "payload": r#"[{"id":"5"},"a":{}]"# }).to_string();
    let defaults = EventDefaults { event_type: Some(EMAIL.into()), ..EventDefaults::default() };
    compare(body.as_bytes(), &Framing::Document, false, &defaults);
    let found = decode_with(body.as_bytes(), &Framing::Document, false, &defaults);
    let [Element::Send { id, .. }, Element::Skipped(_)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(id, "5");
}

#[test]
fn a_wrapped_event_speaks_for_the_app_groups_of_its_sender_and_for_no_other() {
    for (own, foreign) in [("g", false), ("other", true)] {
        let app_groups = [Box::from(own)];
        let scope = Scope { app_groups: &app_groups, may_be_silent: true };
        let body = json!({ "Records": [{ "body": event("1").to_string() }] }).to_string();
        let mut out = Vec::new();
        extract(body.as_bytes(), &mut out, Some(scope)).unwrap();
        let found = decode_with(&out, &Framing::Extract, false, &EventDefaults::default());
        assert_eq!(found == [bad(Malformed::ForeignAppGroup)], foreign, "{found:?}");
    }
}

#[test]
fn a_wrapper_behind_damage_is_known_by_its_key_however_that_is_written() {
    for key in ["Message", r"M\u0065ssag\u0065", r"\u004Dessage"] {
        let wrapper = format!(r#"{{"{key}":"[{{\"event_type\":\"x\"}},{{\"}}da"}}"#);
        let body = format!(r#"[{{"event_type":"y"}},{{"a" 1}},{wrapper},{{"b" 2}}]"#);
        let found = decode(&body);
        assert_eq!(found[2], skipped(1, 5), "{found:?}");
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
