//! Reads on behind damage, so that one unreadable event costs no other.
//!
//! Where the grammar breaks, nothing is known of the brackets any more. So every `{` from the broken element on is
//! tried as the start of an event, and taken if the object there is whole and says what it is, or wraps events. No `{` within
//! a string can be mistaken for one: the quotes in a string are escaped, and no key begins with a backslash.

use super::cursor::{Broken, Fault};
use super::{Element, Pass, Place};
use crate::Skipped;

/// Bytes that may be read in vain for each byte of the document: endless nesting would be read once for every level.
const VAIN_BYTES_FACTOR: usize = 8;

/// How much of the syntax around an object can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The grammar holds: an object behind a key is part of another, not an event.
    Structure,
    /// The grammar is broken: the key before an object may be the remains of the element before.
    Nothing,
}

/// An element that was read behind damage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RecoveredElement {
    pub(super) events: u32,
    pub(super) skipped: Skipped,
}

impl Pass<'_> {
    /// Refuses an object, from `start` up to the cursor, that states neither its type nor its id, if it holds events: it is
    /// another's envelope, or one whose key is damaged.
    #[inline]
    pub(super) fn ensure_no_envelope(&mut self, start: usize, place: Place) -> Result<(), Broken> {
        if !self.found.event_type.is_empty() || !self.found.id.is_empty() || place == Place::Envelope {
            return Ok(());
        }
        let end = self.cursor.pos;
        if self.hides_events(start) {
            return self.cursor.fail(start, Fault::NotAnEnvelope);
        }
        // The fields that were found in it are gone.
        self.cursor.pos = start;
        self.object(Place::Envelope, &mut |_| ())?;
        self.cursor.pos = end;
        Ok(())
    }

    /// Whether there are events in the text from `start` on up to the cursor. Changes nothing but the fields of the last
    /// object.
    #[cold]
    pub(super) fn hides_events(&mut self, start: usize) -> bool {
        let end = self.cursor.pos;
        if memchr::memchr(b'{', self.cursor.text().get(start + 1..end).unwrap_or_default()).is_none() {
            return false;
        }
        let settled = std::mem::replace(&mut self.settled, start);
        let hidden = self.recover(end, Trust::Structure, &mut |_| ()).events;
        (self.settled, self.cursor.pos) = (settled, end);
        hidden > 0
    }

    /// Hands out every whole event from the end of the last element up to `end`.
    #[cold]
    pub(super) fn recover(
        &mut self,
        end: usize,
        trust: Trust,
        emit: &mut dyn FnMut(Element<'_>),
    ) -> RecoveredElement {
        let text = self.cursor.text();
        let mut recovered = RecoveredElement::default();
        let mut vain_bytes_max = (end - self.settled).saturating_mul(VAIN_BYTES_FACTOR);
        let (mut at, mut unwrapped_to) = (self.settled, self.settled);
        while let Some(length) = memchr::memchr(b'{', &text[at..end]) {
            let start = at + length;
            self.cursor.pos = start;
            // As in an envelope: an envelope inside is found by its events.
            let is_whole = self.object(Place::Envelope, emit).is_ok() && self.cursor.pos <= end;
            let is_taken = if is_whole && self.says_what_it_is(start, trust) {
                emit(Element::Event(self.found.event(text)));
                true
            } else if is_whole && start >= unwrapped_to && self.can_be_wrapper(start, trust) {
                // Nothing within it is looked into once more: so nothing is read as often as it is nested.
                unwrapped_to = self.cursor.pos;
                self.unwrap(start, Place::TopArray, emit)
            } else {
                false
            };
            if is_taken {
                recovered.skip(&text[self.settled..start]);
                recovered.events = recovered.events.saturating_add(1);
                self.settled = self.cursor.pos;
                at = self.settled;
                continue;
            }
            let Some(left) = vain_bytes_max.checked_sub(self.cursor.pos - start) else { break };
            vain_bytes_max = left;
            at = start + 1;
        }
        recovered.skip(&text[self.settled..end]);
        recovered
    }

    /// Whether the object that was read last may wrap events: as in a whole document, none in an envelope of Braze does, and no
    /// part of another object.
    fn can_be_wrapper(&self, start: usize, trust: Trust) -> bool {
        trust == Trust::Nothing
            && !self.is_in_envelope
            && !self.wrappers.are_around()
            && !ends_with_key(&self.cursor.text()[self.start..start])
    }

    /// Whether the fields of the object that was read last make it an event, rather than a part of one.
    fn says_what_it_is(&self, start: usize, trust: Trust) -> bool {
        let has_type = !self.found.event_type.is_empty();
        if has_type && trust == Trust::Nothing {
            return true;
        }
        let has_id_and_time = !self.found.id.is_empty() && self.found.time.seconds().is_some();
        (has_type || has_id_and_time) && !ends_with_key(&self.cursor.text()[self.start..start])
    }
}

impl RecoveredElement {
    /// Books the bytes between two events, or behind the last. Commas and brackets are no loss.
    fn skip(&mut self, between: &[u8]) {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let is_structure = |byte: &u8| is_blank(byte) || matches!(byte, b'[' | b']' | b'}');
        if between.iter().all(is_structure) {
            return;
        }
        let blanks = between.iter().take_while(|byte| is_blank(byte)).count()
            + between.iter().rev().take_while(|byte| is_blank(byte)).count();
        self.skipped.stretches = self.skipped.stretches.saturating_add(1);
        self.skipped.bytes += (between.len() - blanks) as u64;
    }
}

/// Whether what follows `text` is the value of a key. One of a text within a text is none: its quotes are escaped.
fn ends_with_key(text: &[u8]) -> bool {
    let key =
        text.trim_ascii_end().strip_suffix(b":").and_then(|key| key.trim_ascii_end().strip_suffix(b"\""));
    key.is_some_and(|key| key.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0)
}

#[cfg(test)]
mod tests;
