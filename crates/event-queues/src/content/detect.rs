//! Detects by its first bytes whether content is read line by line or as a document.
//!
//! The rules, in their order:
//! 1. The first line that is not blank is one whole JSON value, and no array: lines. So the usual NDJSON is
//!    known by its first line, and so is an envelope on one line that fits the look ahead.
//! 2. The first value is an array or object that is whole, or would be if the look ahead went on: a document.
//! 3. Otherwise something is broken at the start (a first line that was cut off, say), or the content ends in its first
//!    value. Both ways are tried on what the look ahead holds, and the one that finds more objects wins. If none does, it is
//!    a document if it ends in a first value of several lines; else lines.

use std::io;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::elements::{Container, ElementSplitter};
use super::input::{Input, Reader};
use super::json::{is_beginning_of_json, is_event_in, is_json};

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
    let mut is_cut_off = false;
    if matches!(start.first(), Some(b'[' | b'{')) {
        is_cut_off = is_beginning_of_json(start);
        let first = serde_json::Deserializer::from_slice(start).into_iter::<IgnoredAny>().next();
        if matches!(first, Some(Ok(_))) || is_cut_off && !whole {
            return FileLayout::Document;
        }
    }
    let mut splitter = ElementSplitter::new(0, 0, start.len());
    splitter.push(start);
    if whole {
        splitter.finish();
    }
    let pieces = splitter.take().map(|pieces| pieces.body).unwrap_or_default();
    let last_line = if whole { start.len() } else { memchr::memrchr(b'\n', start).unwrap_or(0) };
    // What stood in an array or an envelope is in an array on its line.
    let elements = count_objects(lines_of(&pieces).map(Container::strip));
    let lines = count_objects(lines_of(&start[..last_line]));
    let is_on_one_line = memchr::memchr(b'\n', start).is_none();
    if elements > lines || elements == lines && is_cut_off && !is_on_one_line {
        FileLayout::Document
    } else {
        FileLayout::Lines
    }
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii)
}

fn count_objects<'l>(lines: impl Iterator<Item = &'l [u8]>) -> usize {
    lines.filter(|line| line.starts_with(b"{") && is_json(line)).count()
}

/// Whether content that was read line by line up to `position` is a document, of which only the beginning was there, without
/// a whole event. Then nothing of it has been counted.
///
/// # Errors
/// When its first bytes can't be read.
pub(crate) fn was_misread(reader: Reader, position: u64, look_ahead_bytes: usize) -> io::Result<bool> {
    let mut input = Input::new(reader)?;
    // A longer beginning is never mistaken for lines.
    let read = usize::try_from(position.saturating_sub(input.position())).unwrap_or(usize::MAX);
    if read > look_ahead_bytes || detect(&mut input, look_ahead_bytes) != FileLayout::Document {
        return Ok(false);
    }
    let ahead = input.ahead();
    Ok(!is_event_in(&ahead[..read.min(ahead.len())]))
}

#[cfg(test)]
mod tests;
