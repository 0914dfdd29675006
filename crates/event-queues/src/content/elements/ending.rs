//! What the end of a document says: that it is whole, or that it may be being written.

use super::super::json::{is_beginning_of_json, is_event_in, is_json};
use super::{Container, ElementKind, ElementSplitter};

impl ElementSplitter {
    /// The document has ended: an unfinished element is handed on as it is.
    pub(crate) fn finish(&mut self) {
        self.held_to = 0;
        self.end_element(&[], 0);
    }

    /// The document has ended, and may be being written. Returns whether that is in the middle of it. Then an unfinished element
    /// is not handed on. It is where the brackets can't be trusted, because of damage: events are in it, or it took the end of
    /// its array.
    pub(crate) fn finish_or_cut_off(&mut self) -> bool {
        let (complete, element_end) = (self.complete, self.element_end);
        match &self.element {
            None => {
                let is_open = self.container != Container::Document;
                return is_open && self.is_last_whole().unwrap_or(true);
            }
            Some(element) if element.kind == ElementKind::Remainder => return false,
            Some(_) => self.finish(),
        }
        let line = &self.out[complete..self.complete];
        let (_, behind) = self.container.around();
        // Nothing is held of one that is too long.
        let element = line.strip_suffix(b"\n").and_then(|line| line.strip_suffix(behind));
        if !element.is_some_and(is_beginning_of_json) || is_event_in(line) {
            return false;
        }
        self.out.truncate(complete);
        (self.complete, self.element_end) = (complete, element_end);
        true
    }

    /// Whether the last element that ended is JSON, so that brackets can be trusted; None before the first.
    pub(super) fn is_last_whole(&self) -> Option<bool> {
        if self.oversized > 0 {
            return Some(false);
        }
        let Some(lines) = self.out[..self.complete].strip_suffix(b"\n") else {
            return self.is_last_taken_whole;
        };
        Some(is_json(&lines[memchr::memrchr(b'\n', lines).map_or(0, |newline| newline + 1)..]))
    }
}

#[cfg(test)]
mod tests;
