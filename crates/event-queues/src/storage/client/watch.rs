//! The state of a storage queue, for the admin port.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::pending::Pending;

/// Written by the queue's parts, read by any.
#[derive(Debug, Default)]
pub(super) struct BucketHealth {
    pub(super) pending: Pending,
    /// By source: why it can't be listed or read, while that lasts.
    troubles: Mutex<Vec<Option<Arc<str>>>>,
    newest_found: AtomicI64,
    newest_done: AtomicI64,
    pub(super) listings: AtomicU64,
    pub(super) listings_failed: AtomicU64,
    pub(super) counted: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) bytes_read: AtomicU64,
}

/// A look at a storage queue.
#[derive(Debug, Clone)]
pub struct StorageWatch(pub(super) Arc<BucketHealth>);

/// The figures of one look. Times are Unix seconds, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorageCounts {
    /// Objects that were found and are not counted yet, or whose counts have no outcome yet.
    pub objects_waiting: u64,
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
    /// Objects left out since the start: damaged, or of a format that is not read.
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
        Self { troubles: Mutex::new(vec![None; sources]), ..Self::default() }
    }

    /// Notes that a source can't be used. Returns whether that is news.
    pub(super) fn complain(&self, source: usize, words: &str) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = troubles.get_mut(source) else { return true };
        let is_news = slot.as_deref() != Some(words);
        *slot = Some(words.into());
        is_news
    }

    /// Notes that it can be used. Returns whether that is news.
    pub(super) fn clear(&self, source: usize) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.get_mut(source).and_then(Option::take).is_some()
    }

    /// Tells that an object was removed before it was read to its end.
    pub(super) fn tell_gone(&self, object: &str) {
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
        let troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.iter().flatten().next().cloned()
    }

    /// The figures.
    pub fn counts(&self) -> StorageCounts {
        let totals = self.0.pending.totals();
        let newest_found = self.0.newest_found.load(Ordering::Relaxed);
        let lag = totals.oldest.map_or(0, |oldest| newest_found.saturating_sub(oldest));
        StorageCounts {
            objects_waiting: totals.objects,
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
