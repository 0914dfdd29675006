//! State that the log's threads and handles share: how far it is durable, the entries to be received, and gauges.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::handoff::{Handoff, Place};
use crate::segments::HEAD_BYTES;
use crate::{Entry, GONE, LogError};

/// How long a disk may take for one piece of work before that is told: longer than one that is merely busy.
const STALL_MIN: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });

/// Everything in it is changed whole, under one lock that is held only briefly.
#[derive(Debug)]
pub(crate) struct LogProgress {
    shared: Mutex<Shared>,
    /// Wakes the reader.
    moved: Condvar,
    /// Wakes the receiver.
    handed: Notify,
}

#[derive(Debug)]
struct Shared {
    tail: Tail,
    handoff: Handoff,
    gauges: Gauges,
    /// Why the disk refused the last append.
    refusal: Option<Arc<str>>,
    /// Why the log can't be trusted any more.
    stopped: Option<Arc<str>>,
    /// Why nothing more will come: a thread has ended.
    ended: Option<LogError>,
    /// Since when the writer has been at its present work.
    working_since: Option<Instant>,
    /// That this work lasts too long has been logged.
    is_stall_told: bool,
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
}

/// The part that the reader can read next, all of it durable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReadablePart {
    /// Where it begins, and the number expected there.
    pub(crate) from: Place,
    /// Where it ends, in bytes; `None`: at the end of the file, because the segment is complete.
    pub(crate) limit: Option<u64>,
    /// The number that follows it.
    pub(crate) ceiling: u64,
}

/// The numbers that the handles show.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gauges {
    pub(crate) depth: u64,
    pub(crate) size: u64,
    pub(crate) lost: u64,
    pub(crate) is_full: bool,
    /// The directory, or a file in it, was removed.
    pub(crate) is_missing: bool,
}

impl LogProgress {
    /// All numbers below `position` are handed out, acknowledged or lost.
    pub(crate) fn new(tail: Tail, position: u64) -> LogProgress {
        let (handoff, gauges) = (Handoff::new(position), Gauges::default());
        let shared = Shared {
            tail,
            handoff,
            gauges,
            refusal: None,
            stopped: None,
            ended: None,
            working_since: None,
            is_stall_told: false,
        };
        LogProgress { shared: Mutex::new(shared), moved: Condvar::new(), handed: Notify::new() }
    }

    /// A panicked holder left it whole.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the list of segments.
    pub(crate) fn set_tail(&self, tail: Tail) {
        self.lock().tail = tail;
        self.moved.notify_all();
    }

    /// The durable part has grown by `entries` up to `end` and `next`. They go to the receiver if they come next and fit,
    /// else the reader will read them.
    pub(crate) fn grow(&self, end: u64, next: u64, entries: Vec<Entry>) {
        let mut shared = self.lock();
        let Shared { tail, handoff, .. } = &mut *shared;
        let comes_next = handoff.cursor().position >= tail.next;
        (tail.end, tail.next) = (end, next);
        let segment = tail.segments.last().copied().unwrap_or_default();
        let is_handed = comes_next && handoff.offer(entries, Place { segment, offset: end, position: next });
        drop(shared);
        if is_handed {
            self.handed.notify_one();
        } else {
            self.moved.notify_all();
        }
    }

    /// Waits until there is something to be read, and room for it. `None`: the log is closed.
    pub(crate) fn wait_for_part(&self) -> Option<ReadablePart> {
        let mut shared = self.lock();
        while shared.ended.is_none() {
            let part = shared.tail.part_from(shared.handoff.cursor());
            if shared.handoff.has_room() && part.is_some() {
                return part;
            }
            shared = self.moved.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Hands over the entries that the reader has read, once there is room; without an `end` more of the same part follow.
    /// Returns whether the log is still open.
    pub(crate) fn put(&self, entries: Vec<Entry>, end: Option<Place>) -> bool {
        let mut shared = self.lock();
        while shared.ended.is_none() && !shared.handoff.has_room() {
            shared = self.moved.wait(shared).unwrap_or_else(PoisonError::into_inner);
        }
        shared.handoff.put(entries, end);
        self.handed.notify_one();
        shared.ended.is_none()
    }

    /// Moves the waiting entries into `ready`, which is empty. Returns whether these are all.
    pub(crate) fn take(&self, ready: &mut VecDeque<Entry>) -> Result<bool, LogError> {
        let mut shared = self.lock();
        if !shared.handoff.has_room() {
            // Otherwise the reader would go on sleeping.
            self.moved.notify_all();
        }
        shared.handoff.take(ready);
        match &shared.ended {
            Some(reason) if ready.is_empty() => Err(reason.clone()),
            _ => Ok(shared.handoff.cursor().position >= shared.tail.next),
        }
    }

    /// Waits until there may be something to take. Cancel-safe.
    pub(crate) async fn handed(&self) {
        self.handed.notified().await;
    }

    /// Says that nothing more will come. The first reason stands.
    pub(crate) fn end(&self, reason: LogError) {
        self.lock().ended.get_or_insert(reason);
        self.moved.notify_all();
        self.handed.notify_one();
    }

    /// Whether the log is closed.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    pub(crate) fn show(&self, gauges: Gauges) {
        self.lock().gauges = gauges;
    }

    pub(crate) fn gauges(&self) -> Gauges {
        self.lock().gauges
    }

    /// Events that are durable and not read into hand yet.
    pub(crate) fn unread(&self) -> u64 {
        let shared = self.lock();
        shared.tail.next.saturating_sub(shared.handoff.cursor().position)
    }

    /// Shows why the disk refused the last append, or that it takes some again.
    pub(crate) fn set_refusal(&self, refusal: Option<Arc<str>>) {
        self.lock().refusal = refusal;
    }

    pub(crate) fn refusal(&self) -> Option<Arc<str>> {
        self.lock().refusal.clone()
    }

    /// For how long the disk has not answered, if that is too long.
    pub(crate) fn stalled_for(&self) -> Option<Duration> {
        let since = self.lock().working_since;
        since.map(|since| since.elapsed()).filter(|lasts| *lasts >= STALL_MIN)
    }

    /// Logs that the disk does not answer, once, and that it does again.
    pub(crate) fn log_stall(&self) {
        let stalled = self.stalled_for();
        if std::mem::replace(&mut self.lock().is_stall_told, stalled.is_some()) == stalled.is_some() {
            return;
        }
        if let Some(stalled) = stalled {
            tracing::error!(
                seconds = stalled.as_secs(),
                "the queue's disk does not answer: no push is answered, and nothing acknowledged, until it does"
            );
        } else {
            tracing::info!("the queue's disk answers again");
        }
    }

    /// Notes that the log can't be trusted any more, and wakes the receiver.
    pub(crate) fn stop(&self, reason: Arc<str>) {
        self.lock().stopped = Some(reason);
        self.handed.notify_one();
    }

    pub(crate) fn stopped(&self) -> Option<Arc<str>> {
        self.lock().stopped.clone()
    }
}

impl Tail {
    /// The readable part from a place on, up to the end of its segment.
    fn part_from(&self, place: Place) -> Option<ReadablePart> {
        if place.position >= self.next {
            return None;
        }
        let following = self.segments.partition_point(|first| *first <= place.position).max(1);
        let segment = *self.segments.get(following - 1)?;
        let start = Place { segment, offset: HEAD_BYTES, position: segment };
        let from = if place.segment == segment { place } else { start };
        let (limit, ceiling) = match self.segments.get(following) {
            Some(following) => (None, *following),
            None => (Some(self.end), self.next),
        };
        Some(ReadablePart { from, limit, ceiling })
    }
}

/// Closes the log with its thread, however the thread ends.
pub(crate) struct Closing(pub(crate) Arc<LogProgress>);

impl Closing {
    /// Does a piece of the thread's work, which lasts as long as the disk wants.
    pub(crate) fn watch(&self, work: impl FnOnce()) {
        self.0.lock().working_since = Some(Instant::now());
        work();
        self.0.lock().working_since = None;
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.end(LogError(GONE.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        Tail { segments: vec![10, 20, 30], end: 500, next: 35 }
    }

    fn place((segment, offset, position): (u64, u64, u64)) -> Place {
        Place { segment, offset, position }
    }

    fn part(from: (u64, u64, u64)) -> Option<ReadablePart> {
        tail().part_from(place(from))
    }

    fn readable(from: (u64, u64, u64), limit: Option<u64>, ceiling: u64) -> ReadablePart {
        ReadablePart { from: place(from), limit, ceiling }
    }

    #[test]
    fn a_reader_is_led_through_complete_segments_to_the_last() {
        assert_eq!(part((u64::MAX, 0, 12)), Some(readable((10, 16, 10), None, 20)));
        assert_eq!(part((10, 99, 12)), Some(readable((10, 99, 12), None, 20)));
        assert_eq!(part((10, 999, 20)), Some(readable((20, 16, 20), None, 30)));
        assert_eq!(part((20, 999, 30)), Some(readable((30, 16, 30), Some(500), 35)));
        assert_eq!(part((30, 500, 35)), None);
    }

    #[test]
    fn numbers_without_bytes_are_something_to_deal_with() {
        assert_eq!(part((30, 500, 34)), Some(readable((30, 500, 34), Some(500), 35)));
    }

    #[test]
    fn a_reader_whose_segment_is_gone_goes_to_the_one_after() {
        assert_eq!(part((15, 700, 20)), Some(readable((20, 16, 20), None, 30)));
        assert_eq!(part((5, 700, 8)), Some(readable((10, 16, 10), None, 20)));
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_progress_and_by_the_end() {
        let progress = LogProgress::new(tail(), 30);
        assert!(progress.put(Vec::new(), Some(place((30, 500, 34)))));
        let part = progress.wait_for_part();
        assert_eq!(part, Some(readable((30, 500, 34), Some(500), 35)));
        assert!(progress.put(Vec::new(), Some(place((30, 500, 35)))));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| progress.wait_for_part());
            // It comes next, but is more than can wait.
            let large =
                Entry { first: 35, events: 1, kind: 0, header: "".into(), body: vec![0; 9000].into() };
            progress.grow(600, 36, vec![large]);
            assert_eq!(waiting.join().unwrap(), Some(readable((30, 500, 35), Some(600), 36)));
            assert!(progress.put(Vec::new(), Some(place((30, 600, 36)))));
            let waiting = scope.spawn(|| progress.wait_for_part());
            progress.end(LogError("test".to_owned()));
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
