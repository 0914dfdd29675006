use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::reference::{EMAIL, Element, SMS, bad, compare, decode_with, skipped};
use super::*;
use crate::Field;

fn check(body: &[u8]) -> Result<u32, NotAnEnvelope> {
    extract(body, &mut Vec::new(), None).map(|extracted| extracted.elements)
}

/// What a lane sees of an e-mail send with these members, pushed by a sender with a mandate.
fn pushed(members: &str, app_groups: &[&str], may_be_silent: bool) -> Element {
    let body = format!(r#"[{{"event_type":"{EMAIL}","id":"1"{members}}}]"#);
    let app_groups: Vec<Box<str>> = app_groups.iter().map(|id| Box::from(*id)).collect();
    let mandate = Scope { app_groups: &app_groups, may_be_silent };
    let mut out = Vec::new();
    let extracted = extract(body.as_bytes(), &mut out, Some(mandate));
    assert_eq!(extracted, Ok(Extracted { elements: 1, damage: None }));
    let defaults = EventDefaults { app_group_id: Some("from-url".into()), ..EventDefaults::default() };
    let [element] = decode_with(&out, &Framing::Extract, false, &defaults).try_into().expect(&body);
    element
}

#[test]
fn an_event_speaks_for_the_app_groups_of_its_sender_and_for_no_other() {
    let foreign = Element::Malformed(Malformed::ForeignAppGroup);
    let app_group = |element: Element| match element {
        Element::Send { fields, .. } => fields[Field::AppGroupId as usize].clone(),
        other => panic!("{other:?}"),
    };
    for own in [
        r#","app_group_id":"g-1""#,
        r#","properties":{"app_group_id":"g-1"}"#,
        r#","app_group_id":"g-2","app_group_api_id":"g-1""#,
        r#","app_group_id":"g-9","properties":{"app_group_id":"g-1"}"#,
        r#","app_group_id":"g-9","app_group_id":"\u0067-1""#,
    ] {
        assert_eq!(app_group(pushed(own, &["g-1", "g-2"], false)), "g-1", "{own}");
    }
    for other in [
        r#","app_group_id":"g-9""#,
        r#","app_group_id":"G-1""#,
        r#","app_group_id":"g-1 ""#,
        r#","app_group_id":"g-1:""#,
        r#","app_group_id":12"#,
        r#","app_group_id":"g-1","app_group_api_id":"g-9""#,
        r#","app_group_id":"g-1","properties":{"app_group_id":"g-9"}"#,
        r#","app_group_id":"g-1","app_group_id":"g-9""#,
    ] {
        assert_eq!(pushed(other, &["g-1", "g-2"], true), foreign, "{other}");
    }
    let (small, capitals) = ("5f3e8f0a-1234-4cde-9abc-0123456789ab", "5F3E8F0A-1234-4CDE-9ABC-0123456789AB");
    let said = format!(r#","app_group_id":"{capitals}""#);
    assert_eq!(app_group(pushed(&said, &[small, "g-1"], false)), capitals);
    assert_eq!(pushed(&said, &["g-1"], true), foreign);
    for silent in ["", r#","app_group_id":null"#, r#","app_group_id":"[REDACTED]""#] {
        assert_eq!(app_group(pushed(silent, &["g-1"], true)), "from-url", "{silent}");
        assert_eq!(pushed(silent, &["g-1"], false), foreign, "{silent}");
    }
}

fn decode(body: impl AsRef<[u8]>) -> Vec<Element> {
    decode_with(body.as_ref(), &Framing::Document, false, &EventDefaults::default())
}

fn decode_lines(body: impl AsRef<[u8]>) -> Vec<Element> {
    decode_with(body.as_ref(), &Framing::Lines, false, &EventDefaults::default())
}

/// The only element of an e-mail send with these members besides type and id.
fn send(members: &str) -> Element {
    let body = format!(r#"{{"event_type":"{EMAIL}","id":"1"{members}}}"#);
    let [element] = decode(&body).try_into().expect(&body);
    element
}

fn time_of(members: &str) -> Option<u64> {
    match send(members) {
        Element::Send { time, .. } => time,
        other => panic!("{other:?}"),
    }
}

fn field_of(field: Field, members: &str) -> String {
    match send(members) {
        Element::Send { fields, .. } => fields[field as usize].clone(),
        other => panic!("{members}: {other:?}"),
    }
}

fn campaign(members: &str) -> String {
    field_of(Field::CampaignId, members)
}

fn ignored(event_type: &str) -> Element {
    Element::Ignored(event_type.into())
}

#[test]
fn the_published_push_envelope_is_read() {
    let body = format!(
        r#"{{"events": [{{"event_type": "{SMS}", "id": "a-1", "time": 1477502783,
                "user": {{"user_id": "u", "external_user_id": "x", "device_id": null}},
                "properties": {{"app_group_id": "g", "campaign_id": "c", "campaign_name": "Été",
                    "canvas_step_name": "s \"1\"", "canvas_id": null, "canvas_name": ""}}}},
               {{"event_type": "users.messages.email.Open", "id": "b"}}]}}"#
    );
    let fields = Box::new(["g", "", "c", "Été", "", "", "", "s \"1\""].map(String::from));
    let first = Element::Send { event_type: 1, id: "a-1".into(), time: Some(1_477_502_783), fields };
    assert_eq!(decode(body), [first, ignored("users.messages.email.Open")]);
}

#[test]
fn bodies_without_events_have_no_elements() {
    for body in ["", " \r\n\t", "{}", " { } ", "null", "[]", "[ ]", r#"{"events":[]}"#, r#"{"events":null}"#]
    {
        assert_eq!(decode(body), [], "{body}");
        assert_eq!(decode(format!("\u{feff}{body}")), [], "{body}");
        assert_eq!(check(body.as_bytes()), Ok(0), "{body}");
    }
    assert_eq!(decode_lines("\n{}\n\r\nnull\n[]\n\n"), []);
}

#[test]
fn every_element_of_an_array_is_one() {
    let all = [
        bad(Malformed::NotAnObject),
        bad(Malformed::NoEventType),
        bad(Malformed::NotAnObject),
        bad(Malformed::NotAnObject),
        ignored("x"),
    ];
    let elements = r#"[null, {}, 5, [["a"]], {"event_type":"x"}]"#;
    assert_eq!(decode(elements), all);
    assert_eq!(decode(format!(r#"{{"a":[{{}}],"events":{elements},"b":{{}}}}"#)), all);
    assert_eq!(decode(format!(r#"[{{"events":{elements}}}]"#)), all);
    assert_eq!(check(elements.as_bytes()), Ok(5));
}

#[test]
fn an_envelope_in_a_top_level_array_is_opened_and_no_deeper_one() {
    let body = r#"[{"events":[{"event_type":"a"},{"event_type":"b","events":[1,2]}],"event_type":"no"},
            {"events":null,"event_type":"c"},{"events":5,"event_type":"d"},{"event_type":"e"}]"#;
    assert_eq!(decode(body), ["a", "b", "c", "d", "e"].map(ignored));
}

#[test]
fn a_body_of_another_shape_is_no_envelope() {
    for body in ["5", "-1.5e3", "true", r#""text""#, r#"{"events":5}"#, r#"{"events":{}, "id":"1"}"#] {
        assert_eq!(decode(body), [bad(Malformed::NotAnObject)], "{body}");
        assert!(check(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn the_door_says_what_is_wrong_and_where_but_not_the_content() {
    let message = |body: &[u8]| check(body).expect_err("is refused").to_string();
    assert_eq!(message(b" \"secret\""), "neither an event nor an array of events at byte 1");
    assert_eq!(message(b"{\"events\": 5}"), "neither an event nor an array of events at byte 11");
    assert_eq!(message(b"[{\"secret\":1}"), "the JSON ends too early at byte 13");
    assert_eq!(message(b"[{\"secret\" 1}]"), "unexpected character at byte 11");
    assert_eq!(message(b"[\"a\x01\"]"), "control character in a string at byte 3");
    assert_eq!(message(b"[\"a\\x\"]"), "invalid escape in a string at byte 4");
    assert_eq!(message(b"[\"\\u12x4\"]"), "invalid escape in a string at byte 6");
    assert_eq!(message(b"[01]"), "not a JSON number at byte 2");
    assert_eq!(message(b"[] x"), "characters after the end of the JSON at byte 3");
    assert_eq!(message(b"[] \xff"), "characters after the end of the JSON at byte 3");
    assert_eq!(message(b"\xef\xbb\xbf[\xff]"), "unexpected character at byte 4");
}

#[test]
fn a_bad_line_harms_no_other_line() {
    let body = b"{\"event_type\":\"a\"}\r\n\n{\"event_type\":\"b\n[{\"event_type\":\"c\"},x\n5\n\xff\n[\"\xff\"]\n{\"event_type\":\"\xc3\xa9\"}";
    assert_eq!(
        decode_lines(body),
        [
            ignored("a"),
            skipped(1, 16),
            ignored("c"),
            skipped(1, 1),
            bad(Malformed::NotAnObject),
            skipped(1, 1),
            bad(Malformed::NotAnObject),
            ignored("é")
        ]
    );
}

#[test]
fn parts_are_read_each_in_its_own_way_and_harm_no_other() {
    let pieces: [(&str, Framing); 7] = [
        (r#"{"event_type":"a"}"#, Framing::Document),
        ("", Framing::Document),
        ("\u{feff}{\"event_type\":\"b\"}\n{\"event_type\":\"é\"}\n", Framing::Lines),
        (r#"{"event_type":"c"#, Framing::Document),
        ("", Framing::Unreadable(2)),
        (r#"{"event_type":"d\"#, Framing::Document),
        (r#"[{"event_type":"e"}]"#, Framing::Document),
    ];
    let mut body = String::new();
    let parts = pieces.map(|(text, framing)| {
        body.push_str(text);
        Part { end: body.len(), framing }
    });
    body.push_str("behind the parts");
    let framing = Framing::Parts(Arc::new(parts));
    let unreadable = bad(Malformed::Unreadable);
    assert_eq!(
        decode_with(body.as_bytes(), &framing, false, &EventDefaults::default()),
        [
            ignored("a"),
            ignored("b"),
            ignored("é"),
            skipped(1, 16),
            unreadable.clone(),
            unreadable,
            skipped(1, 17),
            ignored("e")
        ]
    );
}

#[test]
fn part_ends_that_make_no_sense_are_taken_as_near_as_possible() {
    let part = |end| Part { end, framing: Framing::Document };
    let framing = Framing::Parts(Arc::new([part(0), part(usize::MAX), part(3)]));
    let elements = decode_with(br#"{"event_type":"a"}"#, &framing, false, &EventDefaults::default());
    assert_eq!(elements, [ignored("a")]);
}

#[test]
fn properties_win_unless_they_are_empty() {
    assert_eq!(campaign(r#","campaign_id":"t","properties":{"campaign_id":"p"}"#), "p");
    assert_eq!(campaign(r#","properties":{"campaign_id":"p"},"campaign_id":"t""#), "p");
    for absent in
        [r#""""#, "null", r#""[REDACTED]""#, r#""\u005bREDACTED]""#, "1.5", "-1", "{}", "[]", "true"]
    {
        let members = format!(r#","campaign_id":"t","properties":{{"campaign_id":{absent}}}"#);
        assert_eq!(campaign(&members), "t", "{absent}");
        assert_eq!(campaign(&format!(r#","campaign_id":{absent}"#)), "", "{absent}");
    }
}

#[test]
fn the_public_id_wins_over_the_database_id() {
    for field in [Field::AppGroupId, Field::CampaignId, Field::CanvasId, Field::CanvasStepId] {
        let (id, api) = (field.name(), field.name().replace("_id", "_api_id"));
        assert_eq!(field_of(field, &format!(r#","{api}":"api","{id}":"db""#)), "api");
        assert_eq!(field_of(field, &format!(r#","{api}":"api","properties":{{"{id}":"db"}}"#)), "api");
        assert_eq!(field_of(field, &format!(r#","{api}":"t","properties":{{"{api}":"p"}}"#)), "p");
        assert_eq!(field_of(field, &format!(r#","{api}":null,"{id}":"db""#)), "db");
        assert_eq!(field_of(field, &format!(r#","{id}":"db""#)), "db");
    }
}

#[test]
fn each_field_is_found_at_either_level() {
    for field in Field::ALL {
        let member = format!(r#""{}":"v""#, field.name());
        assert_eq!(field_of(field, &format!(",{member}")), "v");
        assert_eq!(field_of(field, &format!(r#","properties":{{"x":1,{member}}}"#)), "v");
    }
}

#[test]
fn of_equal_keys_the_last_wins() {
    assert_eq!(campaign(r#","campaign_id":"1","campaign_id":"2""#), "2");
    assert_eq!(campaign(r#","campaign_id":"1","campaign_id":null"#), "");
    assert_eq!(campaign(r#","properties":{"campaign_id":"1"},"properties":{}"#), "");
    assert_eq!(campaign(r#","properties":{"campaign_id":"1"},"properties":7"#), "");
    assert_eq!(time_of(r#","time":1,"time":"x""#), None);
}

#[test]
fn escapes_are_resolved_in_keys_and_values() {
    assert_eq!(
        campaign(r#","campaign\u005fid":"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t""#),
        "é😀\"\\/\u{8}\u{c}\n\r\t"
    );
    assert_eq!(campaign(r#","properties":{"campaign_i\u0064":{"str\u0069ng":"\uFEFF"}}"#), "\u{feff}");
    assert_eq!(campaign(r#","campaign\nid":"x""#), "");
}

#[test]
fn a_string_with_an_invalid_escape_is_no_json() {
    // Long enough in front that the fault is in a later block.
    let pad = "p".repeat(200);
    for string in [r"\x", r"\u", r"\u12", r"\u123g", r"\u+123", r"\U0041", "\\", "\t", "\u{1}", "\\\n"] {
        for body in [
            format!(r#"["{string}"]"#),
            format!(r#"["{pad}{string}{pad}"]"#),
            format!(r#"[{{"{string}":1}}]"#),
        ] {
            assert!(matches!(decode(&body).last(), Some(Element::Skipped(_))), "{body:?}");
        }
    }
    assert_eq!(check(br#"["\uD83D\uDE00\uFFFF\u0000"]"#), Ok(1));
}

#[test]
fn what_is_no_character_spoils_nothing() {
    let odd: [&[u8]; 9] = [
        br"\ud83d",
        br"\ud800\u0041",
        br"\udc00\ud800",
        br"\u0000",
        b"\0",
        b"\xff",
        b"\xc0\xaf",
        b"\xe2\x82",
        b"\xed\xa0\x80",
    ];
    let event = |id: u8, name: &[u8], skipped: &[u8]| {
        let text = |text: &str| text.as_bytes().to_vec();
        [
            text(&format!(r#"{{"event_type":"{EMAIL}","id":"{id}","campaign_name":""#)),
            name.to_vec(),
            text(r#"","user":{"x":[""#),
            skipped.to_vec(),
            text(r#"",""#),
            skipped.to_vec(),
            text(r#""]}}"#),
        ]
        .concat()
    };
    let names = |elements: Vec<Element>| -> Vec<String> {
        let name = |element| match element {
            Element::Send { fields, .. } => fields[Field::CampaignName as usize].clone(),
            other => panic!("{other:?}"),
        };
        elements.into_iter().map(name).collect()
    };
    for odd in odd {
        let events = [event(1, b"a", b"x"), event(2, odd, b"x"), event(3, b"b", odd), event(4, b"c", b"x")];
        let list = events.join(&b","[..]);
        let (envelope, array) =
            ([b"{\"events\":[", &list[..], b"]}"].concat(), [b"[", &list[..], b"]"].concat());
        let mut read = vec![decode(&envelope), decode(&array), decode_lines(events.join(&b"\n"[..]))];
        let mut out = Vec::new();
        assert_eq!(extract(&envelope, &mut out, None), Ok(Extracted { elements: 4, damage: None }));
        read.push(decode_with(&out, &Framing::Extract, false, &EventDefaults::default()));
        for elements in read {
            let names = names(elements);
            assert_eq!((&*names[0], &*names[2], &*names[3]), ("a", "b", "c"), "{odd:?}");
            assert!(names[1].contains(char::REPLACEMENT_CHARACTER), "{odd:?}");
            assert!(!names[1].contains('\0'), "{odd:?}");
        }
    }
}

#[test]
fn avro_unions_are_opened() {
    assert_eq!(campaign(r#","campaign_id":{"string":"u"}"#), "u");
    assert_eq!(campaign(r#","campaign_id":{"string":"u","string":"v"}"#), "v");
    for absent in [
        r#"{"string":"u","x":1}"#,
        r#"{"x":1,"string":"u"}"#,
        r#"{"bytes":"u"}"#,
        r#"{"long":5}"#,
        r#"{"string":5}"#,
    ] {
        assert_eq!(campaign(&format!(r#","campaign_id":{absent}"#)), "", "{absent}");
    }
    assert_eq!(time_of(r#","time":{"int":5}"#), Some(5));
    assert_eq!(time_of(r#","time":{"long":6}"#), Some(6));
    assert_eq!(time_of(r#","time":{"string":"7"}"#), Some(7));
    assert_eq!(time_of(r#","time":{"int":"5"}"#), None);
    assert_eq!(time_of(r#","time":{"int":5,"long":6}"#), None);
    assert_eq!(time_of(r#","time":{"string":"7","int":5}"#), None);
}

#[test]
fn unsigned_numbers_count_as_their_text() {
    assert_eq!(campaign(r#","campaign_id":18446744073709551615"#), "18446744073709551615");
    assert_eq!(campaign(r#","campaign_id":18446744073709551616"#), "");
    assert_eq!(campaign(r#","campaign_id":-0"#), "");
    assert_eq!(campaign(r#","campaign_id":1e3"#), "");
}

#[test]
fn time_is_digits_as_a_number_or_as_a_text() {
    assert_eq!(time_of(r#","time":0"#), Some(0));
    assert_eq!(time_of(r#","time":18446744073709551615"#), Some(u64::MAX));
    assert_eq!(time_of(r#","time":"00000000000000000012""#), Some(12));
    for absent in [
        "18446744073709551616",
        r#""18446744073709551616""#,
        r#""000000000000000000012""#,
        r#""""#,
        r#""+1""#,
        r#""1 ""#,
        "-1",
        "-1.5",
        "1e20",
        "true",
        "[5]",
        "{}",
        r#""2026-11-27T00:00:00Z""#,
        "null",
        r#""[REDACTED]""#,
    ] {
        assert_eq!(time_of(&format!(r#","time":{absent}"#)), None, "{absent}");
        let body = format!(r#"{{"event_type":"{EMAIL}","id":"1","time":{absent}}}"#);
        let reason = if matches!(absent, "null" | "\"\"" | r#""[REDACTED]""#) {
            Malformed::NoTime
        } else {
            Malformed::BadTime
        };
        compare(body.as_bytes(), &Framing::Document, true, &EventDefaults::default());
        let judged = decode_with(body.as_bytes(), &Framing::Document, true, &EventDefaults::default());
        assert_eq!(judged, [bad(reason)], "{absent}");
    }
    for (time, seconds) in [
        ("1795771955.0", 1_795_771_955),
        ("1795771955.9", 1_795_771_955),
        ("1.795771955e9", 1_795_771_955),
        (r#""1795771955.5""#, 1_795_771_955),
        (r#"{"double":1.795771955E+9}"#, 1_795_771_955),
        ("0.5", 0),
    ] {
        assert_eq!(time_of(&format!(r#","time":{time}"#)), Some(seconds), "{time}");
    }
}

#[test]
fn id_time_and_type_are_not_looked_for_in_properties() {
    assert_eq!(time_of(r#","properties":{"time":5}"#), None);
    let body = format!(r#"{{"event_type":"{EMAIL}","properties":{{"id":"1"}}}}"#);
    assert_eq!(decode(body), [bad(Malformed::NoId)]);
    let body = format!(r#"{{"id":"1","properties":{{"event_type":"{EMAIL}"}}}}"#);
    assert_eq!(decode(body), [bad(Malformed::NoEventType)]);
}

#[test]
fn an_event_is_judged_by_type_then_id_then_time() {
    let classify =
        |body: &str| decode_with(body.as_bytes(), &Framing::Document, true, &EventDefaults::default());
    assert_eq!(classify(r#"{"id":"1"}"#), [bad(Malformed::NoEventType)]);
    assert_eq!(classify(r#"{"event_type":"x"}"#), [ignored("x")]);
    assert_eq!(classify(&format!(r#"{{"event_type":"{EMAIL}"}}"#)), [bad(Malformed::NoId)]);
    assert_eq!(classify(&format!(r#"{{"event_type":"{EMAIL}","id":"[REDACTED]"}}"#)), [bad(Malformed::NoId)]);
    assert_eq!(classify(&format!(r#"{{"event_type":"{EMAIL}","id":"1"}}"#)), [bad(Malformed::NoTime)]);
}

#[test]
fn what_an_event_lacks_comes_from_the_defaults() {
    let defaults = EventDefaults {
        event_type: Some(SMS.into()),
        app_group_id: Some("og".into()),
        app_group_name: Some("on".into()),
    };
    let read = |body: &str| decode_with(body.as_bytes(), &Framing::Document, false, &defaults);
    let with = |event_type, group: &str, name: &str| {
        let fields = Box::new([group, name, "", "", "", "", "", ""].map(String::from));
        [Element::Send { event_type, id: "1".into(), time: None, fields }]
    };
    assert_eq!(read(r#"{"id":"1"}"#), with(1, "og", "on"));
    assert_eq!(read(r#"{"id":"1","app_group_id":"[REDACTED]"}"#), with(1, "og", "on"));
    assert_eq!(read(r#"{"id":"1","properties":{"app_group_api_id":"g"}}"#), with(1, "g", "on"));
    let body = format!(r#"{{"event_type":"{EMAIL}","id":"1","app_group_name":"n"}}"#);
    assert_eq!(read(&body), with(0, "og", "n"));
}

#[test]
fn skipped_values_may_be_of_any_depth() {
    let depth = 300_000;
    let nested = format!("{}{}", r#"[{"a":"#.repeat(depth), "}]".repeat(depth));
    assert_eq!(campaign(&format!(r#","deep":{},"campaign_id":"c""#, nested.replace(":}", ":1}"))), "c");
    assert_eq!(decode(&nested), [skipped(1, nested.len() as u64 - 1)]);
    for bad_nesting in
        ["[[}]", "[{]}", "[[]", "[{\"a\":[}]}", "[{\"a\":1,}]", "[[1,]]", "[[,]]", "[{,}]", "[[]}"]
    {
        let body = format!(r#"[{{"x":{bad_nesting}}}]"#);
        assert!(matches!(decode(&body)[..], [Element::Skipped(_)]), "{body}");
    }
}

#[test]
fn numbers_of_any_size_are_json() {
    let body = r#"[{"event_type":"a","x":[1e999,-1E+99999999999999999999,0.0e-5]}]"#;
    assert_eq!(decode(body), [ignored("a")]);
    for number in ["01", "-", "1.", ".5", "1e", "1e+", "+1", "1.e3", "0x1", "--1", "NaN"] {
        assert!(check(format!("[{number}]").as_bytes()).is_err(), "{number}");
    }
}

/// Behind damage, too, where the reference knows nothing of such an event.
#[test]
fn an_event_with_a_number_of_any_size_is_read_behind_damage() {
    let body = format!(r#"[{{"x":{{"y"[{{"event_type":"{EMAIL}","id":"1","time":179516e8800}}]"#);
    let elements = decode(&body);
    assert_eq!(elements[0], send("").with_id("1"));
    assert!(matches!(elements[1..], [Element::Skipped(_)]), "{elements:?}");
    compare(body.as_bytes(), &Framing::Document, false, &EventDefaults::default());
}

#[test]
fn a_decoder_forgets_the_event_before() {
    let full = format!(
        r#"{{"event_type":"{EMAIL}","id":"\u0031","time":5,"campaign_id":"\u0063","properties":{{"canvas_id":"x"}}}}"#
    );
    let empty = format!(r#"{{"event_type":"{EMAIL}","id":"2"}}"#);
    let elements = decode(format!("[{full},{empty},{{}}]"));
    assert_eq!(elements[1..], [send("").with_id("2"), bad(Malformed::NoEventType)]);
}

impl Element {
    fn with_id(self, new: &str) -> Self {
        match self {
            Element::Send { event_type, time, fields, .. } => {
                Element::Send { event_type, id: new.into(), time, fields }
            }
            other => other,
        }
    }
}

// Events and bodies as Braze could write them, and worse.

/// A source of choices; the same seed makes the same body.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).expect("31 bits") % limit
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const KEYS: [&str; 36] = [
    "event_type",
    "id",
    "time",
    "properties",
    "app_group_id",
    "app_group_name",
    "campaign_id",
    "campaign_name",
    "canvas_id",
    "canvas_name",
    "canvas_step_id",
    "canvas_step_name",
    "app_group_api_id",
    "campaign_api_id",
    "canvas_api_id",
    "canvas_step_api_id",
    "user",
    "event_typ",
    "iD",
    "times",
    "property",
    "campaign_if",
    "canvas_step_namf",
    "message_extras",
    "",
    "a",
    "émoji😀",
    "string",
    "dispatch_id",
    "timezone",
    "x\"y",
    "events",
    "data",
    "Message",
    "payload",
    "Records",
];

const UNION: [&str; 4] = ["string", "int", "long", "bytes"];

const TEXTS: [&str; 20] = [
    EMAIL,
    SMS,
    "users.messages.email.Open",
    "",
    "[REDACTED]",
    "[REDACTED",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "1",
    "1700000000",
    "99999999999999999999",
    "00000000000000000009",
    "Spring, Sale: 50% | \"now\"",
    "\\",
    "日本語 Ünï 😀",
    "tab\tnew\nline\u{1}\u{7f}",
    "/",
    "{\"extras\":[\"a\\\"b\"]}",
    "{\"event_type\":\"users.messages.sms.Send\",\"id\":\"w\",\"time\":5}",
    "[{\"event_type\":\"x\"},{\"data\":",
    "a text that is longer than one block of sixty-four bytes, and a little longer still, to cross another",
];

const NUMBERS: [&str; 14] = [
    "0",
    "1",
    "1700000000",
    "-1",
    "-0",
    "1.5",
    "1e3",
    "0.1E-2",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "-9223372036854775809",
    "0e0",
    "1e-400",
];

fn blank(chance: &mut Chance, out: &mut String, width: usize) {
    if width > 0 && chance.one_in(4) {
        (0..=chance.below(width)).for_each(|_| out.push(chance.pick(&[' ', ' ', '\t', '\r', ' '])));
    }
}

fn string(chance: &mut Chance, out: &mut String, text: &str) {
    let escaping = chance.one_in(6);
    out.push('"');
    for character in text.chars() {
        if escaping && chance.one_in(3) || character < ' ' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("a string takes it");
            }
        } else if matches!(character, '"' | '\\') {
            out.extend(['\\', character]);
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

fn value(chance: &mut Chance, out: &mut String, depth: usize, width: usize) {
    match chance.below(if depth < 4 { 14 } else { 10 }) {
        0 => out.push_str("null"),
        1 => out.push_str(chance.pick(&["true", "false"])),
        2 | 3 => out.push_str(chance.pick(&NUMBERS)),
        4..=9 => {
            let text = chance.pick(&TEXTS);
            string(chance, out, text);
        }
        10 | 11 => {
            let keys = chance.pick(&[&UNION[..], &["string"]]);
            object(chance, out, depth + 1, width, keys, 2);
        }
        12 => object(chance, out, depth + 1, width, &KEYS, 12),
        _ => array(chance, out, depth + 1, width, 4),
    }
}

fn object(chance: &mut Chance, out: &mut String, depth: usize, width: usize, keys: &[&str], most: usize) {
    out.push('{');
    blank(chance, out, width);
    for member in 0..chance.below(most + 1) {
        if member > 0 {
            out.push(',');
        }
        let key = chance.pick(keys);
        blank(chance, out, width);
        string(chance, out, key);
        blank(chance, out, width);
        out.push(':');
        blank(chance, out, width);
        match key {
            "properties" if !chance.one_in(8) => object(chance, out, depth + 1, width, &KEYS, 20),
            "event_type" if !chance.one_in(8) => string(chance, out, EMAIL),
            "id" if !chance.one_in(8) => string(chance, out, "7c9e6679"),
            "time" | "int" | "long" if chance.one_in(2) => out.push_str(chance.pick(&NUMBERS)),
            "time" if chance.one_in(2) => object(chance, out, depth + 1, width, &UNION, 2),
            _ => value(chance, out, depth, width),
        }
        blank(chance, out, width);
    }
    out.push('}');
}

fn array(chance: &mut Chance, out: &mut String, depth: usize, width: usize, most: usize) {
    out.push('[');
    for member in 0..chance.below(most + 1) {
        if member > 0 {
            out.push(',');
        }
        blank(chance, out, width);
        match chance.below(8) {
            0 => value(chance, out, depth, width),
            1 => envelope(chance, out, depth + 1, width),
            _ => object(chance, out, depth, width, &KEYS, 40),
        }
        blank(chance, out, width);
    }
    out.push(']');
}

fn envelope(chance: &mut Chance, out: &mut String, depth: usize, width: usize) {
    out.push_str(r#"{"events":"#);
    if depth > 3 || chance.one_in(10) {
        value(chance, out, depth, width);
    } else {
        array(chance, out, depth, width, 5);
    }
    out.push('}');
}

/// One document on one line.
fn document(chance: &mut Chance) -> String {
    let (mut out, width) = (String::new(), chance.pick(&[0, 0, 3, 80]));
    blank(chance, &mut out, width);
    match chance.below(10) {
        0..=2 => envelope(chance, &mut out, 0, width),
        3..=5 => array(chance, &mut out, 0, width, 6),
        6 => value(chance, &mut out, 0, width),
        _ => object(chance, &mut out, 0, width, &KEYS, 40),
    }
    blank(chance, &mut out, width);
    out
}

fn body_of(chance: &mut Chance, framing: &Framing) -> Vec<u8> {
    let mut body = if chance.one_in(20) { BYTE_ORDER_MARK.to_vec() } else { Vec::new() };
    let lines = if *framing == Framing::Lines { chance.below(5) } else { 1 };
    for line in 0..lines {
        if line > 0 {
            body.extend_from_slice(chance.pick(&[b"\n".as_slice(), b"\r\n", b"\n\n"]));
        }
        body.extend_from_slice(document(chance).as_bytes());
    }
    body
}

fn parts_of(
    chance: &mut Chance,
    mut make: impl FnMut(&mut Chance) -> (Vec<u8>, Framing),
) -> (Vec<u8>, Framing) {
    let (mut body, mut parts) = (Vec::new(), Vec::new());
    for _ in 0..chance.below(6) {
        let (bytes, framing) = if chance.one_in(8) { (Vec::new(), Framing::Document) } else { make(chance) };
        body.extend(bytes);
        parts.push(Part { end: body.len(), framing });
    }
    (body, Framing::Parts(parts.into()))
}

fn mutate(chance: &mut Chance, body: &mut Vec<u8>) {
    const BYTES: &[u8] = b"\"\"\\{}[]::,,019-+.eEutfn \t\n\r\x00\x01\x0c\x1f\x7f\x80\xc3\xa9\xed\xa0\xff";
    if body.is_empty() {
        return;
    }
    let at = chance.below(body.len());
    match chance.below(6) {
        0 => body[at] ^= 1 << chance.below(8),
        1 => body[at] = chance.pick(BYTES),
        2 | 3 => body.insert(at, chance.pick(BYTES)),
        4 => _ = body.remove(at),
        _ if chance.one_in(3) => body.truncate(at),
        _ => {
            let end = (at + 1 + chance.below(8)).min(body.len());
            body.drain(at..end);
        }
    }
}

fn defaults_of(chance: &mut Chance) -> EventDefaults {
    let mut pick = |text: &str| chance.one_in(3).then(|| Box::from(text));
    EventDefaults { event_type: pick(SMS), app_group_id: pick("og"), app_group_name: pick("on") }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever the bytes, the decoder and a plain reading with `serde_json` find the same elements.
    #[test]
    fn arbitrary_bytes_are_read_as_serde_json_reads_them(
        body in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(b"{}[]\",:\\1n ".to_vec())], 0..60)
    ) {
        for framing in [Framing::Document, Framing::Lines] {
            compare(&body, &framing, false, &EventDefaults::default());
        }
    }

    /// Every body that is made of events in any envelope and of any form gives the elements of the reference.
    #[test]
    fn generated_bodies_are_read_as_the_reference_reads_them(seed in 1u64.., lines: bool, time_needed: bool) {
        let framing = if lines { Framing::Lines } else { Framing::Document };
        let mut chance = Chance(seed);
        let body = body_of(&mut chance, &framing);
        compare(&body, &framing, time_needed, &defaults_of(&mut chance));
    }

    /// A body with some damage gives the same elements before the damage, and is found invalid exactly
    /// where the reference finds it invalid.
    #[test]
    fn damaged_bodies_are_read_as_the_reference_reads_them(seed in 1u64.., lines: bool, time_needed: bool) {
        let framing = if lines { Framing::Lines } else { Framing::Document };
        let mut chance = Chance(seed);
        let mut body = body_of(&mut chance, &framing);
        for _ in 0..=chance.below(3) {
            mutate(&mut chance, &mut body);
        }
        compare(&body, &framing, time_needed, &defaults_of(&mut chance));
    }

    /// The elements of parts are those of each part on its own, whatever lies in the others.
    #[test]
    fn parts_are_read_as_the_reference_reads_each(seed in 1u64.., time_needed: bool) {
        let mut chance = Chance(seed);
        let (body, framing) = parts_of(&mut chance, |chance| {
            let framing = chance.pick(&[&Framing::Document, &Framing::Lines, &Framing::Unreadable(2)]).clone();
            let mut body = match framing {
                Framing::Unreadable(_) => Vec::new(),
                _ => body_of(chance, &framing),
            };
            if chance.one_in(4) && !matches!(framing, Framing::Unreadable(_)) {
                mutate(chance, &mut body);
            }
            (body, framing)
        });
        compare(&body, &framing, time_needed, &defaults_of(&mut chance));
    }
}
