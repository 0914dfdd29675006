//! Detects by its first bytes whether content is read line by line or as a document.
//!
//! The rules, in their order:
//! 1. The first line that is not blank is one whole JSON value, and no array: lines. So the usual NDJSON is
//!    known by its first line, and so is an envelope on one line that fits the look ahead.
//! 2. The first value is an array or object that is whole, or would be if the look ahead went on: a document.
//! 3. Otherwise something is broken at the start (a first line that was cut off, say). Both ways are tried on
//!    what the look ahead holds, and the one that finds more objects wins; lines, if none does.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::elements::ElementSplitter;
use super::input::Input;

/// The layout of events in content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileLayout {
    /// One JSON value a line.
    Lines,
    /// One or more JSON values over any number of lines, which the [splitter](super::elements) divides.
    Document,
    /// An Avro object container, which is known by its first bytes and never judged.
    Avro,
}

/// Detects the layout of content that nothing has been read from. It looks at `look_ahead_bytes` at most, and stops at the
/// end of the first line if that settles it, so as not to wait for a slow pipe.
pub(crate) fn detect(input: &mut Input, look_ahead_bytes: usize) -> FileLayout {
    let mut ended = false;
    loop {
        let ahead = input.ahead().trim_ascii_start();
        if let Some(end) = memchr::memchr(b'\n', ahead)
            && ahead[0] != b'['
            && is_json(&ahead[..end])
        {
            return FileLayout::Lines;
        }
        if ended || input.ahead().len() >= look_ahead_bytes {
            return detect_start(ahead, ended);
        }
        ended = !input.look_ahead(look_ahead_bytes);
    }
}

fn detect_start(start: &[u8], whole: bool) -> FileLayout {
    if matches!(start.first(), Some(b'[' | b'{')) {
        // A number that the look ahead cuts off is no syntax error, though `-` or `1.` at an end is.
        let digits = start.iter().rev().take_while(|byte| b"+-.0123456789eE".contains(byte)).count();
        let valid = if whole { start } else { &start[..start.len() - digits] };
        match serde_json::Deserializer::from_slice(valid).into_iter::<IgnoredAny>().next() {
            Some(Ok(_)) => return FileLayout::Document,
            Some(Err(error)) if error.is_eof() && !whole => return FileLayout::Document,
            _ => {}
        }
    }
    let mut splitter = ElementSplitter::new(0, 0, start.len());
    splitter.push(start);
    if whole {
        splitter.finish();
    }
    let pieces = splitter.take().map(|pieces| pieces.body).unwrap_or_default();
    let last_line = if whole { start.len() } else { memchr::memrchr(b'\n', start).unwrap_or(0) };
    if count_objects(&pieces) > count_objects(&start[..last_line]) {
        FileLayout::Document
    } else {
        FileLayout::Lines
    }
}

fn count_objects(lines: &[u8]) -> usize {
    let lines = lines.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| line.starts_with(b"{") && is_json(line)).count()
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

#[cfg(test)]
mod tests {
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
}
