//! The way past the disk: frames that have just become durable, for a receiver that keeps up.
//!
//! It is open while the receiver has everything before what it holds. When it would grow beyond its bound it is
//! closed, and the reader takes over where it ends; when the receiver has caught up, it is opened again. So
//! every frame is handed out once, in order, whichever way it goes.

use std::collections::VecDeque;

use crate::Entry;
use crate::progress::Place;

/// Bytes that wait here, at most; the receiver may have as many in hand. That is some 80,000 events as the push handler
/// has extracted them: more than arrive while a lane is held up by a flush. In tests it is so little that frames go
/// both ways all the time.
const BYTES_MAX: usize = if cfg!(test) { 4096 } else { 16 * 1024 * 1024 };

/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: usize = 256;

/// Frames between the writer and the receiver.
#[derive(Debug, Default)]
pub(crate) struct Bypass {
    entries: VecDeque<Entry>,
    bytes: usize,
    is_open: bool,
    /// Where the reader goes on, if it was passed by since it last read.
    resume: Option<Place>,
}

impl Bypass {
    /// Takes frames that begin at `place` and have just become durable, or closes and leaves them to the reader.
    /// Whether it is open after that.
    pub(crate) fn offer(&mut self, entries: Vec<Entry>, place: Place) -> bool {
        if !self.is_open {
            return false;
        }
        let bytes: usize = entries.iter().map(|entry| entry.body.len() + ENTRY_BYTES).sum();
        if self.bytes + bytes > BYTES_MAX {
            self.is_open = false;
            self.resume = Some(place);
            return false;
        }
        self.bytes += bytes;
        self.entries.extend(entries);
        true
    }

    /// Moves all there is into `ready`, which is empty.
    pub(crate) fn take(&mut self, ready: &mut VecDeque<Entry>) {
        std::mem::swap(&mut self.entries, ready);
        self.bytes = 0;
    }

    /// The receiver has everything durable, and the reader has nothing left to read.
    pub(crate) fn open(&mut self) {
        self.is_open = true;
        self.resume = None;
    }

    /// Where a reader that stands at `place` goes on; `None`: nowhere, for what comes goes past it.
    pub(crate) fn place_of_reader(&self, place: Place) -> Option<Place> {
        if self.is_open { None } else { Some(self.resume.unwrap_or(place)) }
    }

    /// The reader goes on from where it was told. Whether that is another place than it stood at.
    pub(crate) fn resumed(&mut self) -> bool {
        self.resume.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const PLACE: Place = Place { segment: 3, offset: 70, position: 9 };
    const READER: Place = Place { segment: 0, offset: 16, position: 1 };

    fn entry(bytes: usize) -> Entry {
        Entry { first: 0, events: 1, kind: 0, header: Bytes::new(), body: Bytes::from(vec![b' '; bytes]) }
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_reader_from_there_on() {
        let mut bypass = Bypass::default();
        assert!(!bypass.offer(vec![entry(1)], READER), "it is closed to begin with");
        assert_eq!(bypass.place_of_reader(READER), Some(READER));
        bypass.open();
        assert_eq!(bypass.place_of_reader(READER), None);
        assert!(bypass.offer(vec![entry(BYTES_MAX / 2), entry(1)], READER));
        assert!(!bypass.offer(vec![entry(BYTES_MAX / 2)], PLACE));
        assert!(!bypass.offer(vec![entry(1)], READER), "nothing overtakes what the reader has to read");
        assert_eq!(bypass.place_of_reader(READER), Some(PLACE));
        let mut ready = VecDeque::new();
        bypass.take(&mut ready);
        assert_eq!(ready.len(), 2);
        assert!(bypass.resumed() && !bypass.resumed());
        bypass.open();
        assert!(bypass.offer(vec![entry(BYTES_MAX - ENTRY_BYTES)], READER), "the bound is for what waits");
    }
}
