//! What a piece of text is, as JSON.

use serde::de::IgnoredAny;

use braze_events::decode::Decoder;
use braze_events::{Decoded, EventDefaults, Framing};

/// Whether it is one whole value.
pub(super) fn is_json(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// Whether it is the beginning of a value, and more must follow.
pub(super) fn is_beginning_of_json(text: &[u8]) -> bool {
    let needs_more =
        |text: &[u8]| serde_json::from_slice::<IgnoredAny>(text).is_err_and(|error| error.is_eof());
    // A number that ends in `-` or `1.` is a syntax error, though it may be cut off.
    let digits = text.iter().rev().take_while(|byte| b"+-.0123456789eE".contains(byte)).count();
    let with_whole_number = || [&text[..text.len() - digits], b"0"].concat();
    needs_more(text) || digits > 0 && needs_more(&with_whole_number())
}

/// Whether a reader of these lines finds an event in them, of whatever type and however damaged they are.
pub(super) fn is_event_in(lines: &[u8]) -> bool {
    let defaults = EventDefaults { event_type: Some("any".into()), ..EventDefaults::default() };
    let mut is_found = false;
    Decoder::new(&[], false).decode(lines, &Framing::Lines, &defaults, |decoded| {
        is_found |= !matches!(decoded, Decoded::Malformed(_) | Decoded::Skipped(_));
    });
    is_found
}

#[cfg(test)]
mod tests;
