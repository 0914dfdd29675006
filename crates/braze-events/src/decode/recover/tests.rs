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

#[test]
fn a_part_of_an_event_is_no_event() {
    let body = r#"[{"event_type":"a","properties":{"campaign_id":"c","id":"1","time":5},,"x":[{"id":"2"}]}]"#;
    assert_eq!(decode(body), [skipped(1, body.len() as u64 - 1)]);
    // Of a whole document even one that says its type.
    let body = r#"{"inner":{"event_type":"a","id":"1"}}"#;
    assert_eq!(decode(body), [Element::Malformed(Malformed::NoEventType)]);
}

#[test]
fn an_event_whose_type_comes_from_outside_is_known_by_its_id_and_time() {
    let origin = Origin { event_type: Some(EMAIL.into()), ..Origin::default() };
    let body = br#"[{"id":"1","time":1,},{"id":"2","time":2,"x":{"id":"3","time":3}},{"id":"4"}]"#;
    let found = decode_with(body, &Framing::Document, false, &origin);
    assert!(matches!(&found[..], [Element::Send { id, .. }, Element::Skipped(_)] if id == "2"), "{found:?}");
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
