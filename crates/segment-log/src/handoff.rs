//! The one way out of the log: durable entries in order, and a cursor at the next one.
//!
//! Writer or reader appends the entries that start at the cursor, and advances it: the writer those that have just become
//! durable, as long as they fit; else the reader, from disk. So every frame is handed out once, in order. The writer's part
//! saves reading back: 6 of 32 µs of CPU time for a frame of 20 KB (a push of 100 events), with sixteen that append at a
//! time and a disk in memory, both ways taken in turns in one run.

use std::collections::VecDeque;

use crate::Entry;

/// Bytes that wait here, at most; the receiver may have as many in hand. That is some 80,000 events in the push handler's
/// extracts: more than arrive while a flush delays a lane. In tests it is so little that the reader and the writer take
/// turns all the time.
const BYTES_MAX: usize = if cfg!(test) { 4096 } else { 16 * 1024 * 1024 };

/// The size of an entry beside its bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first number of a segment that is, or was, in the log.
    pub(crate) segment: u64,
    /// Bytes from the segment's beginning.
    pub(crate) offset: u64,
    /// All numbers below this one are handed out, acknowledged or lost.
    pub(crate) position: u64,
}

/// Entries between the log and its receiver.
#[derive(Debug)]
pub(crate) struct Handoff {
    entries: VecDeque<Entry>,
    bytes: usize,
    cursor: Place,
}

impl Handoff {
    /// Empty; the next number is `position`, wherever that is.
    pub(crate) fn new(position: u64) -> Self {
        let cursor = Place { segment: u64::MAX, offset: 0, position };
        Self { entries: VecDeque::new(), bytes: 0, cursor }
    }

    /// Where the next entry begins.
    pub(crate) fn cursor(&self) -> Place {
        self.cursor
    }

    /// Takes the entries that begin at the cursor and end before `end`, if they fit. Returns whether they do.
    pub(crate) fn offer(&mut self, entries: Vec<Entry>, end: Place) -> bool {
        let fits = self.bytes + bytes_of(&entries) <= BYTES_MAX;
        if fits {
            self.put(entries, Some(end));
        }
        fits
    }

    /// Takes the entries that begin at the cursor, however many; without an `end` more of the same follow.
    pub(crate) fn put(&mut self, entries: Vec<Entry>, end: Option<Place>) {
        self.bytes += bytes_of(&entries);
        self.entries.extend(entries);
        self.cursor = end.unwrap_or(self.cursor);
    }

    /// Whether more is to be read.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX
    }

    /// Moves all entries into `ready`, which is empty.
    pub(crate) fn take(&mut self, ready: &mut VecDeque<Entry>) {
        std::mem::swap(&mut self.entries, ready);
        self.bytes = 0;
    }
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.header.len() + entry.body.len() + ENTRY_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PLACE: Place = Place { segment: 3, offset: 70, position: 9 };
    const BEHIND: Place = Place { offset: 90, position: 10, ..PLACE };

    fn entry(bytes: usize) -> Entry {
        Entry { first: 0, events: 1, kind: 0, header: Bytes::new(), body: Bytes::from(vec![b' '; bytes]) }
    }

    #[test]
    fn what_waits_is_bounded_with_its_headers() {
        let headed = || Entry { header: Bytes::from(vec![b' '; BYTES_MAX / 2]), ..entry(1) };
        let mut handoff = Handoff::new(1);
        assert!(handoff.offer(vec![headed()], PLACE));
        assert!(!handoff.offer(vec![headed()], BEHIND));
        handoff.put(vec![headed()], Some(BEHIND));
        assert!(!handoff.has_room());
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_reader_from_there_on() {
        let mut handoff = Handoff::new(1);
        assert_eq!(handoff.cursor().position, 1);
        assert!(handoff.offer(vec![entry(BYTES_MAX / 2), entry(1)], PLACE));
        assert!(!handoff.offer(vec![entry(BYTES_MAX / 2)], BEHIND));
        assert_eq!(handoff.cursor(), PLACE);
        assert!(handoff.has_room(), "the reader puts in what there is");
        handoff.put(vec![entry(BYTES_MAX)], None);
        assert_eq!((handoff.cursor(), handoff.has_room()), (PLACE, false));
        let mut ready = VecDeque::new();
        handoff.take(&mut ready);
        assert_eq!(ready.len(), 3);
        handoff.put(Vec::new(), Some(BEHIND));
        assert_eq!((handoff.cursor(), handoff.has_room()), (BEHIND, true));
        assert!(handoff.offer(vec![entry(BYTES_MAX - ENTRY_BYTES)], PLACE), "the bound is for what waits");
    }
}
