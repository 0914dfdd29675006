use super::*;

#[test]
fn every_beginning_of_a_value_is_one_and_nothing_else_is() {
    let text = "[{\"a\":-1.5e+7,\"b\":\"\\u00fc\\\"ü\",\"c\":[true,null,1.0]},{\"a\":2}]";
    for end in 1..text.len() {
        assert!(is_beginning_of_json(&text.as_bytes()[..end]), "{}", &text[..end]);
    }
    for other in [text, "42", "1.5", "-- 1", "--", "{a", "{\"a\" 1", "[1}", "{} {", "garbage"] {
        assert!(!is_beginning_of_json(other.as_bytes()), "{other}");
    }
}

#[test]
fn an_event_is_found_whatever_is_broken_around_it() {
    let event = "{\"event_type\":\"t\",\"id\":\"1\",\"time\":2}";
    for lines in [event, &format!("{{\"a\n[{event},{{\"b"), "{\"id\":\"1\",\"time\":2}", "{\"a\":1}"] {
        assert!(is_event_in(lines.as_bytes()), "{lines}");
    }
    for lines in
        ["", "{\n", "[\n{\n\"event_type\": \"t\",\n\"id\": \"1\",", "garbage", "[{\"event_type\":\"t\""]
    {
        assert!(!is_event_in(lines.as_bytes()), "{lines}");
    }
}
