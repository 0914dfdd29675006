use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::reference::{EMAIL, Element, compare, decode_with, skipped};
use super::ends_with_key;
use crate::Malformed;
use crate::{EventDefaults, Framing, Part};

fn decode(body: &str) -> Vec<Element> {
    decode_with(body.as_bytes(), &Framing::Document, false, &EventDefaults::default())
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
        let read: Vec<_> = found.iter().filter(|element| matches!(element, Element::Ignored(_))).collect();
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

/// As a program sends that puts several batches, or messages of an intermediary, into one request.
#[test]
fn documents_one_behind_the_other_are_read_as_each_would_be() {
    for between in ["", " ", "\r\n", " null "] {
        for documents in [
            vec![
                r#"{"events":[{"event_type":"a"}]}"#,
                r#"{"events":[{"event_type":"b"}, {"event_type":"c"}]}"#,
            ],
            vec![
                r#"{"Type":"Notification","Message":"{\"event_type\":\"a\"}"}"#,
                r#"{"detail":{"event_type":"b"}}"#,
            ],
            vec![r#"{"event_type":"a"}"#, r#"[{"event_type":"b"}]"#, "{}", r#"{"event_type":"c"}"#],
            vec![r#"{"foreign":1}"#, r#"{"event_type":"b"}"#, "[5]"],
            vec![r#"{"foreign":{"data":"bm8gSlNPTg=="}}"#, r#"{"detail":{"event_type":"b"}}"#],
        ] {
            let each: Vec<_> = documents.iter().flat_map(|document| decode(document)).collect();
            let body = documents.join(between);
            compare(body.as_bytes(), &Framing::Document, false, &EventDefaults::default());
            assert_eq!(decode(&body), each, "{body}");
        }
    }
    // One that is no envelope, or not whole, costs none before or behind it.
    for odd in [
        r#"{"events":5}"#,
        r#"{"detail":"x","#,
        "7",
        r#"{"a":{"event_type":"x"}}"#,
        r#"[[{"event_type":"x"}]]"#,
    ] {
        let found = decode(&format!(
            r#"{{"events":[{{"event_type":"a"}}]}} {odd} {{"detail":{{"event_type":"b"}}}}"#
        ));
        let read: Vec<_> = found.iter().filter(|element| matches!(element, Element::Ignored(_))).collect();
        assert!(read.contains(&&ignored("a")) && read.contains(&&ignored("b")), "{odd}: {found:?}");
    }
}

#[test]
fn a_part_of_an_event_is_no_event() {
    let body = r#"[{"event_type":"a","properties":{"campaign_id":"c","id":"1","time":5},,"x":[{"id":"2"}]}]"#;
    assert_eq!(decode(body), [skipped(1, body.len() as u64 - 1)]);
    // Nor is what a part of one, or an event of Braze, would wrap if it stood alone.
    for body in [
        r#"[{"event_type":"a"x,"properties":{"body":"{\"event_type\":\"b\",\"id\":\"9\"}"}}]"#,
        r#"{"events":[,{"id":"2","data":"{\"event_type\":\"b\"}"}]}"#,
    ] {
        assert!(matches!(decode(body)[..], [Element::Skipped(_)]), "{body}");
    }
    // Of a whole document even one that says its type.
    let body = r#"{"inner":{"event_type":"a","id":"1"}}"#;
    assert_eq!(decode(body), [Element::Malformed(Malformed::NoEventType)]);
}

#[test]
fn what_a_key_is_cut_off_before_is_no_part_of_it_if_the_key_stands_in_a_text() {
    for (cut_off, is_read) in [
        (r#"{"body":"{\"a\": "#, true),
        (r#"{"body":"{\\\"a\\\":"#, true),
        (r#"{"body":"#, false),
        (r#"{"a\\": "#, false),
    ] {
        let body = format!("{cut_off}\r\n{}", r#"{"detail":"{\"event_type\":\"b\"}"}"#);
        assert_eq!(decode(&body).contains(&ignored("b")), is_read, "{body}");
    }
}

#[test]
fn an_event_whose_type_comes_from_outside_is_known_by_its_id_and_time() {
    let defaults = EventDefaults { event_type: Some(EMAIL.into()), ..EventDefaults::default() };
    let body = br#"[{"id":"1","time":1,},{"id":"2","time":2,"x":{"id":"3","time":3}},{"id":"4"}]"#;
    let found = decode_with(body, &Framing::Document, false, &defaults);
    assert!(matches!(&found[..], [Element::Send { id, .. }, Element::Skipped(_)] if id == "2"), "{found:?}");
}

#[test]
fn many_wrappers_that_hold_none_of_brazes_events_hide_none_behind_them() {
    for foreign in [
        r#"{"version":"0","id":"1","detail-type":"Object Created","detail":{"bucket":{"name":"b"},"object":{"key":"k"}}}"#,
        r#"{"eventID":"1","kinesis":{"partitionKey":"1","data":"eyJhIjp7ImIiOjF9fQ=="}}"#,
        r#"{"data":{"data":{"data":{"data":{"a":{"a":{}}}}}}}"#,
    ] {
        let many = vec![foreign; 300].join(",");
        let found = decode(&format!(
            r#"[{{"a":tru}},{many},{{"event_type":"a"}},{{"detail":{{"event_type":"b"}}}}]"#
        ));
        assert!(
            matches!(&found[..], [a, b, Element::Skipped(_)] if *a == ignored("a") && *b == ignored("b")),
            "{found:?}"
        );
    }
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

/// As intermediaries send it.
fn wrapped(number: usize) -> String {
    let event = event(number);
    match number % 3 {
        0 => json!({ "specversion": "1.0", "data_base64": STANDARD.encode(&event) }),
        1 => json!({ "Type": "Notification", "Message": event }),
        _ => json!({ "detail-type": "braze", "detail": serde_json::from_str::<Value>(&event).unwrap() }),
    }
    .to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    /// Whatever is done to an envelope in one place, the events that it does not touch are all counted, once.
    #[test]
    fn damage_harms_the_events_that_it_touches_and_no_other(
        envelope in 0..6usize,
        is_wrapped: bool,
        foreign in 0..4usize,
        events in 1..6usize,
        at: prop::sample::Index,
        removed in prop_oneof![3 => Just(0), 3 => Just(1), 2 => 0..40usize],
        inserted in proptest::collection::vec(
            prop_oneof![3 => prop::sample::select(b"\"\"\\{}[]:,0-e\n\r\t \0\xed\xa0\xff".to_vec()), 1 => any::<u8>()],
            0..3
        ),
    ) {
        // In an envelope there are no wrappers.
        let (head, between, tail) = [
            ("[", ",", "]"),
            ("", "", ""),
            ("", " \r\n", "\r\n"),
            ("{\"events\":[", ",", "]}"),
            ("{\"x\":1,\"events\": [\n", ",", "\n]}\n"),
            ("[{\"events\":[", ",", "]}]"),
        ][if is_wrapped { envelope % 3 } else { envelope }];
        let (mut body, mut places) = (head.as_bytes().to_vec(), Vec::new());
        for number in 0..events {
            if number > 0 {
                body.extend(between.bytes());
            }
            if is_wrapped && number % 4 == foreign {
                body.extend(br#"{"detail-type":"other","detail":{"data":"bm8gSlNPTg=="},"body":"{\"a\":[{}]}"}"#);
                body.extend(between.bytes());
            }
            let start = body.len();
            body.extend(if is_wrapped { wrapped(number) } else { event(number) }.bytes());
            places.push(start..body.len());
        }
        body.extend(tail.bytes());
        let start = at.index(body.len() + 1);
        let removed = removed.min(body.len() - start);
        let end = start + removed;
        body.splice(start..end, inserted.iter().copied());
        // A wrapper behind a key that has lost its value is that key's.
        let has_key = |start: usize| is_wrapped && ends_with_key(&body[..start + inserted.len() - removed]);
        let is_untouched = |place: &std::ops::Range<usize>| {
            place.end <= start || (end <= place.start && !has_key(place.start))
        };
        // A push, a line of a file, a message.
        let message = Part { end: body.len(), framing: Framing::Document };
        for framing in [Framing::Document, Framing::Lines, Framing::Parts([message].into())] {
            let found = decode_with(&body, &framing, true, &EventDefaults::default());
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
