//! The ids seen, over all lanes.

use std::sync::{Mutex, PoisonError};

use crate::dedup::{self, Dedup, IdHasher, OwnedId};
use crate::route::ConnectionId;

/// The ids seen, shared by all lanes, for a duplicate may come to another lane than its first.
///
/// Argued exception to "state has one owner": each shard is locked for about a microsecond a group of sends, so
/// that lanes hardly ever meet; to send every id to a thread that owns it costs more than to lock.
#[derive(Debug)]
pub struct SharedDedup {
    hasher: IdHasher,
    /// A power of two; none when deduplication is off.
    shards: Box<[Mutex<Dedup>]>,
}

/// The ids of a group of sends, and what was said of them.
#[derive(Debug)]
pub struct DedupGroup {
    /// By shard: the id, and its place in the group.
    by_shard: Box<[Vec<(OwnedId, usize)>]>,
    /// By place: whether the id is new.
    new: Vec<bool>,
    /// Ids that were forgotten for those of the group before the window was over.
    forgotten_early: u64,
}

impl DedupGroup {
    /// How many ids were forgotten before the window was over since this was asked last.
    pub fn take_forgotten_early(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten_early)
    }
}

impl SharedDedup {
    /// For so many lanes.
    pub fn new(settings: dedup::DedupSettings, lanes: usize) -> Self {
        let shards = if settings.window.is_zero() { 0 } else { (lanes * SHARDS_A_LANE).next_power_of_two() };
        let each = dedup::DedupSettings { max_ids: settings.max_ids.div_ceil(shards.max(1)), ..settings };
        Self {
            hasher: IdHasher::default(),
            shards: (0..shards).map(|_| Mutex::new(Dedup::new(each))).collect(),
        }
    }

    /// No ids yet.
    pub fn new_group(&self) -> DedupGroup {
        DedupGroup {
            by_shard: self.shards.iter().map(|_| Vec::new()).collect(),
            new: Vec::new(),
            forgotten_early: 0,
        }
    }

    /// Divides the room for ids among these connections.
    pub fn share_among(&self, connections: &[ConnectionId]) {
        for shard in &self.shards {
            shard.lock().unwrap_or_else(PoisonError::into_inner).share_among(connections);
        }
    }

    /// Adds the id of an event that goes to `connection` to a group; `None`: nobody serves it.
    #[inline]
    pub fn add(&self, group: &mut DedupGroup, id: &[u8], connection: Option<ConnectionId>) {
        let place = group.new.len();
        group.new.push(true);
        if !self.shards.is_empty() {
            let hash = self.hasher.hash(id);
            // The index within a shard uses other bits, and the lowest say whose it is.
            let shard = usize::try_from((hash >> 16) & 0xffff).unwrap_or(0) & (self.shards.len() - 1);
            group.by_shard[shard].push((OwnedId::new(hash, connection), place));
        }
    }

    /// Remembers the ids of a group, empties it and says of each, in order, whether it is new. Of ids that are equal
    /// the first is.
    pub fn insert<'a>(
        &self,
        group: &'a mut DedupGroup,
        now_milliseconds: u64,
    ) -> impl Iterator<Item = bool> + use<'a> {
        for (shard, ids) in self.shards.iter().zip(&mut group.by_shard).filter(|(_, ids)| !ids.is_empty()) {
            let mut dedup = shard.lock().unwrap_or_else(PoisonError::into_inner);
            dedup.prefetch(ids.iter().map(|(id, _)| *id));
            for (id, place) in ids.drain(..) {
                group.new[place] = dedup.insert(id, now_milliseconds);
            }
            group.forgotten_early += dedup.take_forgotten_early();
        }
        group.new.drain(..)
    }
}

/// Enough that lanes hardly meet, and few enough that a shard has several ids of a group to look up at once.
const SHARDS_A_LANE: usize = 4;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn shared(window: Duration) -> SharedDedup {
        SharedDedup::new(dedup::DedupSettings { window, max_ids: 10_000 }, 2)
    }

    #[test]
    fn without_a_window_every_id_is_new() {
        let shared = shared(Duration::ZERO);
        let mut group = shared.new_group();
        (0..2).for_each(|_| shared.add(&mut group, b"a", None));
        assert_eq!(shared.insert(&mut group, 0).collect::<Vec<_>>(), [true, true]);
    }

    proptest! {
        /// However ids are divided into groups and lanes, one is new when it was not asked for before, in an earlier
        /// group or earlier in its own.
        #[test]
        fn groups_make_no_difference(
            ids in prop::collection::vec((0u8..60, 0usize..2), 0..300), size in 1usize..100,
        ) {
            let shared = shared(Duration::from_mins(10));
            let mut lanes = [shared.new_group(), shared.new_group()];
            let mut seen = HashSet::new();
            for chunk in ids.chunks(size) {
                for (lane, group) in lanes.iter_mut().enumerate() {
                    let ids: Vec<u8> = chunk.iter().filter(|(_, at)| *at == lane).map(|(id, _)| *id).collect();
                    for id in &ids {
                        shared.add(group, &[*id], Some(ConnectionId(u32::from(*id) % 3)));
                    }
                    let expected: Vec<bool> = ids.iter().map(|id| seen.insert(*id)).collect();
                    prop_assert_eq!(shared.insert(group, 0).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
