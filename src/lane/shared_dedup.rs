//! The ids seen, over all lanes.

use std::sync::{Mutex, PoisonError};

use crate::dedup::{self, Dedup, IdHasher};

/// The ids seen, shared by all lanes, for a duplicate may come to another lane than its first.
///
/// Argued exception to "state has one owner": each shard is locked for a fraction of a microsecond, so that
/// lanes hardly ever meet; to send every id to a thread that owns it costs more than to lock.
#[derive(Debug)]
pub(super) struct SharedDedup {
    hasher: IdHasher,
    /// A power of two; none when deduplication is off.
    shards: Box<[Mutex<Dedup>]>,
}

impl SharedDedup {
    /// For so many lanes.
    pub(super) fn new(settings: dedup::Settings, lanes: usize) -> Self {
        let shards = if settings.window.is_zero() { 0 } else { (lanes * 8).next_power_of_two() };
        let each = dedup::Settings { max_ids: settings.max_ids.div_ceil(shards.max(1)), ..settings };
        Self {
            hasher: IdHasher::default(),
            shards: (0..shards).map(|_| Mutex::new(Dedup::new(each))).collect(),
        }
    }

    /// Remembers the id and says whether it is new.
    #[inline]
    pub(super) fn is_new(&self, id: &[u8], now_milliseconds: u64) -> bool {
        if self.shards.is_empty() {
            return true;
        }
        let hash = self.hasher.hash(id);
        // The index within a shard uses other bits.
        let shard = usize::try_from(hash & 0xffff).unwrap_or(0) & (self.shards.len() - 1);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner).is_new(hash, now_milliseconds)
    }
}
