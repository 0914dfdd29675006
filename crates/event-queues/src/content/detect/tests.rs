use super::super::input::tests::{input, scripted};
use super::*;

#[test]
fn the_start_of_the_content_says_how_it_is_read() {
    for (text, expected) in [
        ("", FileLayout::Lines),
        (" \n\n", FileLayout::Lines),
        ("{\"id\":1}\n", FileLayout::Lines),
        ("\r\n  {\"id\":1}\r\n{\"id\":2}\r\n", FileLayout::Lines),
        ("{\"events\":[{\"id\":1}]}\n", FileLayout::Lines),
        ("null\n{\"id\":2}\n", FileLayout::Lines),
        ("{\"id\":1}", FileLayout::Document),
        ("[]", FileLayout::Document),
        ("[{\"id\":1}]\n", FileLayout::Document),
        ("[\n{\"id\":1},\n{\"id\":2}\n]\n", FileLayout::Document),
        ("{\n  \"events\": [\n{\"id\":1}\n]\n}\n", FileLayout::Document),
        ("{\n  \"id\": 1\n}\n{\"id\":2}\n{\"id\":3}\n", FileLayout::Document),
        ("{\"id\":1}{\"id\":2}\n", FileLayout::Document),
    ] {
        assert_eq!(detect(&mut input(text.as_bytes()), 1000), expected, "{text}");
    }
}

#[test]
fn a_broken_first_line_does_not_make_lines_a_document() {
    for text in [
        "garbage\n{\"id\":1}\n",
        "{\"id\":1,\"a\":\n{\"id\":2}\n{\"id\":3}\n",
        "{\"id\":1,\"a\":\n{\"id\":2}\n",
        "{\"id\":1,\"a\":\"x\n{\"id\":2}\n",
        "{\n{\"id\":2}\n{\"id\":3}\n",
        "[\n{\"id\":2}\n{\"id\":3}\n",
        "[2026-11-22] started\n{\"id\":2}\n{\"id\":3}\n",
    ] {
        assert_eq!(detect(&mut input(text.as_bytes()), 1000), FileLayout::Lines, "{text}");
    }
}

#[test]
fn a_broken_element_does_not_make_a_document_lines() {
    for text in [
        "[\n{\"id\":1},\n{bad},\n{\"id\":2}\n]\n",
        "[{\"id\":1}, {\"id\":2, {\"id\":3}]\n",
        "{\"events\":[{\"id\":1},\n{\"id\":2},,\n{\"id\":3},\n{\"id\":4}",
    ] {
        assert_eq!(detect(&mut input(text.as_bytes()), 1000), FileLayout::Document, "{text}");
    }
}

#[test]
fn a_document_may_end_anywhere_behind_its_first_line() {
    for text in [
        "[\n  {\n    \"a\": -1.5e+7,\n    \"b\": [\n      true\n    ]\n  },\n  {\n    \"a\": 2\n  }\n]\n",
        "{\n  \"events\": [\n{\"a\":1},\n{\"a\":2}\n]\n}\n",
    ] {
        for end in text.find('\n').unwrap() + 1..=text.len() {
            let layout = detect(&mut input(&text.as_bytes()[..end]), 1000);
            assert_eq!(layout, FileLayout::Document, "{}", &text[..end]);
        }
    }
    assert_eq!(detect(&mut input(b"{\"id\":1,\"a\":"), 1000), FileLayout::Lines);
}

#[test]
fn a_look_ahead_may_end_anywhere() {
    let text = "[\n{\"a\":-1.5e+7,\"b\":\"\\u00fc\\\"ü\",\"c\":[true,null]},\n{\"a\":2}\n]\n";
    for look_ahead_bytes in 1..=text.len() {
        assert_eq!(detect(&mut input(text.as_bytes()), look_ahead_bytes), FileLayout::Document);
    }
}

#[test]
fn a_first_line_longer_than_the_look_ahead_is_a_document() {
    let text = format!("{{\"events\":[{}]}}\n", vec!["{\"id\":1}"; 100].join(","));
    assert_eq!(detect(&mut input(text.as_bytes()), 1000), FileLayout::Lines);
    assert_eq!(detect(&mut input(text.as_bytes()), 100), FileLayout::Document);
    let text = format!("{}\n{{\"id\":1}}\n", "garbage ".repeat(100));
    assert_eq!(detect(&mut input(text.as_bytes()), 100), FileLayout::Lines);
}

#[test]
fn nothing_is_awaited_beyond_a_first_line_that_settles_it() {
    let text = b"{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n";
    let mut input = scripted(text, 10, false);
    assert_eq!(detect(&mut input, 1000), FileLayout::Lines);
    assert!(input.ahead().len() < 20);
}
