//! What the writer tells everyone else: how far the log is durable, and its gauges.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::Entry;
use crate::bypass::Bypass;

/// Written by the writer alone, but for what is taken from it; read by the reader thread and the handles.
#[derive(Debug)]
pub(crate) struct LogProgress {
    shared: Mutex<Shared>,
    /// Rings for the reader.
    moved: Condvar,
    /// Rings for the receiver.
    handed: Notify,
    depth: AtomicU64,
    size: AtomicU64,
    lost: AtomicU64,
    is_full: AtomicBool,
    is_missing: AtomicBool,
    stopped: watch::Sender<Option<Arc<str>>>,
    /// Whether `stopped` says why, for those who ask often.
    is_stopped: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    tail: Tail,
    bypass: Bypass,
}

/// The durable part of the log.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    /// The first number of each segment, in order; the last one is appended to.
    pub(crate) segments: Vec<u64>,
    /// Where the durable part of the last segment ends, in bytes.
    pub(crate) end: u64,
    /// The number that the next event will get.
    pub(crate) next: u64,
    /// No more will come.
    pub(crate) is_closed: bool,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first number of a segment that is, or was, in the log.
    pub(crate) segment: u64,
    /// Bytes from the segment's beginning.
    pub(crate) offset: u64,
    /// All numbers below this one are dealt with.
    pub(crate) position: u64,
}

/// What a reader can read next, all of it durable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadablePart {
    /// The first number of the segment.
    pub(crate) segment: u64,
    /// Where the part ends, in bytes; `None`: with the file, for the segment is complete.
    pub(crate) limit: Option<u64>,
    /// The number that follows the part.
    pub(crate) ceiling: u64,
    /// Where it begins, if the reader stands elsewhere.
    pub(crate) from: Option<Place>,
}

/// The numbers that the handles show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gauges {
    pub(crate) depth: u64,
    pub(crate) size: u64,
    pub(crate) lost: u64,
    pub(crate) is_full: bool,
    /// The directory, or a file in it, was taken away.
    pub(crate) is_missing: bool,
}

impl LogProgress {
    pub(crate) fn new(tail: Tail) -> LogProgress {
        LogProgress {
            shared: Mutex::new(Shared { tail, bypass: Bypass::default() }),
            moved: Condvar::new(),
            handed: Notify::new(),
            depth: AtomicU64::new(0),
            size: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            is_missing: AtomicBool::new(false),
            stopped: watch::Sender::new(None),
            is_stopped: AtomicBool::new(false),
        }
    }

    /// Every holder leaves it whole, so one that panicked did no harm.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes which segments there are, or closes the log, and wakes the reader.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Tail)) {
        change(&mut self.lock().tail);
        self.moved.notify_all();
    }

    /// The durable part has grown by `entries` up to `end` and `next`. They go to the receiver, if that keeps
    /// up, else to the reader.
    pub(crate) fn grow(&self, end: u64, next: u64, entries: Vec<Entry>) {
        let mut shared = self.lock();
        let Shared { tail, bypass } = &mut *shared;
        let segment = tail.segments.last().copied().unwrap_or_default();
        let place = Place { segment, offset: tail.end, position: tail.next };
        (tail.end, tail.next) = (end, next);
        let is_handed = bypass.offer(entries, place);
        drop(shared);
        if is_handed {
            self.handed.notify_one();
        } else {
            self.moved.notify_all();
        }
    }

    /// Moves into `ready`, which is empty, what was handed past the reader. Whether a receiver that has all
    /// numbers below `position`, and now what is in `ready`, has everything.
    pub(crate) fn take(&self, ready: &mut VecDeque<Entry>, position: u64) -> bool {
        let mut shared = self.lock();
        let Shared { tail, bypass } = &mut *shared;
        bypass.take(ready);
        let position = ready.back().map_or(position, Entry::end);
        let has_all = position >= tail.next;
        if has_all {
            bypass.open();
        }
        has_all
    }

    /// Waits until something may have been handed past the reader. Cancel-safe.
    pub(crate) async fn handed(&self) {
        self.handed.notified().await;
    }

    /// Waits until there is something for a reader beyond `place`. `None`: the log is closed.
    pub(crate) fn wait_beyond(&self, place: Place) -> Option<ReadablePart> {
        let mut shared = self.lock();
        loop {
            let Shared { tail, bypass } = &mut *shared;
            if tail.is_closed {
                return None;
            }
            let place = bypass.place_of_reader(place);
            if let Some((place, part)) = place.and_then(|place| Some((place, tail.part_beyond(place)?))) {
                let from = bypass.resumed().then_some(place);
                return Some(ReadablePart { from, ..part });
            }
            shared = self.moved.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the log is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().tail.is_closed
    }

    pub(crate) fn show(&self, gauges: Gauges) {
        self.depth.store(gauges.depth, Ordering::Relaxed);
        self.size.store(gauges.size, Ordering::Relaxed);
        self.lost.store(gauges.lost, Ordering::Relaxed);
        self.is_full.store(gauges.is_full, Ordering::Relaxed);
        self.is_missing.store(gauges.is_missing, Ordering::Relaxed);
    }

    pub(crate) fn gauges(&self) -> Gauges {
        Gauges {
            depth: self.depth.load(Ordering::Relaxed),
            size: self.size.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            is_full: self.is_full.load(Ordering::Relaxed),
            is_missing: self.is_missing.load(Ordering::Relaxed),
        }
    }

    /// Says that the log can't be trusted any more, and wakes whoever waits for that.
    pub(crate) fn stop(&self, reason: Arc<str>) {
        self.stopped.send_replace(Some(reason));
        self.is_stopped.store(true, Ordering::Release);
    }

    pub(crate) fn stopped(&self) -> Option<Arc<str>> {
        if self.is_stopped.load(Ordering::Acquire) { self.stopped.borrow().clone() } else { None }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.stopped.subscribe()
    }
}

impl Tail {
    fn part_beyond(&self, place: Place) -> Option<ReadablePart> {
        let at = self.segments.partition_point(|first| *first < place.segment);
        let segment = *self.segments.get(at)?;
        if let Some(following) = self.segments.get(at + 1) {
            return Some(ReadablePart { segment, limit: None, ceiling: *following, from: None });
        }
        let is_behind = segment != place.segment || place.offset < self.end || place.position < self.next;
        is_behind.then_some(ReadablePart { segment, limit: Some(self.end), ceiling: self.next, from: None })
    }
}

/// Lets the reader thread end with the writer, however that ends.
pub(crate) struct Closing(pub(crate) Arc<LogProgress>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.change(|tail| tail.is_closed = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        Tail { segments: vec![10, 20, 30], end: 500, next: 35, is_closed: false }
    }

    fn part(place: (u64, u64, u64)) -> Option<ReadablePart> {
        let (segment, offset, position) = place;
        tail().part_beyond(Place { segment, offset, position })
    }

    #[test]
    fn a_reader_is_led_through_complete_segments_to_the_last() {
        assert_eq!(
            part((0, 0, 12)),
            Some(ReadablePart { segment: 10, limit: None, ceiling: 20, from: None })
        );
        assert_eq!(
            part((20, 99, 20)),
            Some(ReadablePart { segment: 20, limit: None, ceiling: 30, from: None })
        );
        assert_eq!(
            part((30, 0, 30)),
            Some(ReadablePart { segment: 30, limit: Some(500), ceiling: 35, from: None })
        );
        assert_eq!(part((30, 500, 35)), None);
    }

    #[test]
    fn numbers_without_bytes_are_something_to_deal_with() {
        assert_eq!(
            part((30, 500, 34)),
            Some(ReadablePart { segment: 30, limit: Some(500), ceiling: 35, from: None })
        );
    }

    #[test]
    fn a_reader_whose_segment_is_gone_goes_to_the_one_after() {
        assert_eq!(
            part((15, 700, 20)),
            Some(ReadablePart { segment: 20, limit: None, ceiling: 30, from: None })
        );
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_progress_and_by_the_end() {
        let progress = LogProgress::new(tail());
        let place = Place { segment: 30, offset: 500, position: 35 };
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| progress.wait_beyond(place));
            progress.grow(600, 36, Vec::new());
            let part = waiting.join().unwrap();
            assert_eq!(part, Some(ReadablePart { segment: 30, limit: Some(600), ceiling: 36, from: None }));
            let waiting = scope.spawn(|| progress.wait_beyond(Place { offset: 600, position: 36, ..place }));
            progress.change(|tail| tail.is_closed = true);
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
