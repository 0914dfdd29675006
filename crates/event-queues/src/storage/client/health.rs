//! The state of a storage queue, for the admin port.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::pending::Pending;

/// How many different messages are logged about one trouble.
const TOLD_MAX: usize = 16;

/// Written by the queue's parts, read by any.
#[derive(Debug, Default)]
pub(super) struct BucketHealth {
    pub(super) pending: Pending,
    /// Why sources can't be listed.
    pub(super) listing: Troubles,
    /// Why objects of them can't be read.
    reading: Troubles,
    newest_found: AtomicI64,
    newest_done: AtomicI64,
    pub(super) listings: AtomicU64,
    pub(super) listings_failed: AtomicU64,
    pub(super) counted: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    /// Why the state failed: further sends might not be acknowledged.
    state_failure: OnceLock<String>,
}

/// By source: what is in the way, while that lasts.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<Vec<Told>>);

#[derive(Debug, Clone, Default)]
struct Told {
    last: Option<Arc<str>>,
    /// All that was told of it since it began.
    words: BTreeSet<Arc<str>>,
}

impl Troubles {
    fn of(sources: usize) -> Self {
        Self(Mutex::new(vec![Told::default(); sources]))
    }

    /// Notes that a source is in trouble. Returns whether that is news.
    pub(super) fn note_trouble(&self, source: usize, words: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(told) = all.get_mut(source) else { return true };
        let words: Arc<str> = words.into();
        told.last = Some(Arc::clone(&words));
        told.words.len() < TOLD_MAX && told.words.insert(words)
    }

    /// Notes that it is not any more. Returns whether that is news.
    pub(super) fn clear(&self, source: usize) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(source).map(std::mem::take).is_some_and(|told| told.last.is_some())
    }

    fn first(&self) -> Option<Arc<str>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find_map(|told| told.last.clone())
    }
}

/// A look at a storage queue.
#[derive(Debug, Clone)]
pub struct StorageWatch(pub(super) Arc<BucketHealth>);

/// The figures of one look. Times are Unix seconds, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageCounts {
    /// Objects that were found and are not counted yet, or whose counts have no outcome yet.
    pub objects_waiting: u64,
    /// Those of them that are not wholly taken to be counted yet.
    pub objects_unread: u64,
    /// Their bytes, as they are stored.
    pub bytes_waiting: u64,
    /// When the newest object that was found was written; 0 before one was.
    pub newest_found: u64,
    /// When the newest object that is done was written; 0 before one was.
    pub newest_done: u64,
    /// How many seconds lie between the oldest object that waits and the newest that was found; 0 while none waits.
    pub lag_seconds: u64,
    /// Objects counted to their end since the start.
    pub objects_counted: u64,
    /// Objects left out since the start: damaged, gone, of a format that is not read, or not to be read until their hour was
    /// over.
    pub objects_left_out: u64,
    /// Bytes of objects read since the start, as they are stored.
    pub bytes_read: u64,
    /// Listings of a source since the start.
    pub listings: u64,
    /// Those of them that failed.
    pub listings_failed: u64,
}

impl BucketHealth {
    pub(super) fn new(sources: usize) -> Self {
        Self { listing: Troubles::of(sources), reading: Troubles::of(sources), ..Self::default() }
    }

    /// Notes why the state failed. Returns why it did first.
    pub(super) fn fail(&self, problem: String) -> String {
        self.state_failure.get_or_init(|| problem).clone()
    }

    pub(super) fn state_failure(&self) -> Option<&String> {
        self.state_failure.get()
    }

    /// Notes that an object of a source can't be read for now. Returns whether that is news.
    pub(super) fn note_reading_trouble(&self, source: usize, words: &str) -> bool {
        self.reading.note_trouble(source, words)
    }

    /// Ends the trouble with reading a source, unless an object of it still can't be read.
    pub(super) fn clear_reading(&self, source: usize, url: &str) {
        if !self.pending.has_failed(source) && self.reading.clear(source) {
            tracing::info!(url, "all objects of the bucket can be read again");
        }
    }

    /// Tells that an object was removed before it was read to its end.
    pub(super) fn log_gone(&self, object: &str) {
        tracing::warn!(
            object,
            "an object was removed before it was read; it is not counted, unless it comes back"
        );
        self.left_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn found(&self, modified: i64) {
        self.newest_found.fetch_max(modified, Ordering::Relaxed);
    }

    pub(super) fn done(&self, modified: i64) {
        self.newest_done.fetch_max(modified, Ordering::Relaxed);
    }
}

impl StorageWatch {
    /// What keeps events from coming, in words; `None` while all is well.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.0.listing.first().or_else(|| self.0.reading.first())
    }

    /// The figures.
    pub fn counts(&self) -> StorageCounts {
        let totals = self.0.pending.totals();
        let newest_found = self.0.newest_found.load(Ordering::Relaxed);
        let lag = totals.oldest.map_or(0, |oldest| newest_found.saturating_sub(oldest));
        StorageCounts {
            objects_waiting: totals.objects,
            objects_unread: totals.unread,
            bytes_waiting: totals.bytes,
            newest_found: u64::try_from(newest_found).unwrap_or_default(),
            newest_done: u64::try_from(self.0.newest_done.load(Ordering::Relaxed)).unwrap_or_default(),
            lag_seconds: u64::try_from(lag).unwrap_or_default(),
            objects_counted: self.0.counted.load(Ordering::Relaxed),
            objects_left_out: self.0.left_out.load(Ordering::Relaxed),
            bytes_read: self.0.bytes_read.load(Ordering::Relaxed),
            listings: self.0.listings.load(Ordering::Relaxed),
            listings_failed: self.0.listings_failed.load(Ordering::Relaxed),
        }
    }
}
