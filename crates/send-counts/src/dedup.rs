//! Knows the event ids of the last minutes, so that a redelivery, a retry or a split counts once.
//!
//! Ids are kept as 128 random-seeded hash bits in a ring, oldest first, with an index over it. The index
//! holds 32 bits of the hash beside the place in the ring, so that an id that is new (nearly all are) costs
//! one look into memory; [`Dedup::touch`] lets those of several ids overlap. Nothing is hashed again when the
//! index grows, and nothing is ever scanned.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::time::Duration;

use foldhash::quality::RandomState;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupSettings {
    /// How long an id is remembered; zero switches deduplication off.
    pub window: Duration,
    /// How many ids are remembered at most; beyond it the oldest are forgotten early.
    pub max_ids: usize,
}

/// The hash of an event id. Two ids share one with a probability of 2^-128, which stands for "never".
pub type IdHash = u128;

/// Hashes event ids; seeded at random, so that nobody outside can make two ids collide.
#[derive(Debug, Clone, Default)]
pub struct IdHasher {
    high: RandomState,
    low: RandomState,
}

impl IdHasher {
    /// The hash of `id`.
    pub fn hash(&self, id: &[u8]) -> IdHash {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(id);
            hasher.finish()
        };
        (u128::from(half(&self.high)) << 64) | u128::from(half(&self.low))
    }
}

/// How many steps the window is divided into: an id is forgotten at most a step later than it may be.
const STEPS: u64 = 64;

/// How many ids are forgotten at a time when their time is over: as many as a processor can wait for at once.
const RUN: usize = 32;

/// The slots of an index that remembers nothing yet. Always a power of two.
const SLOTS_MIN: usize = 1024;

/// A slot of the index without an id. Not zero: of memory that is all zeros the system gives one page to read and,
/// page by page, another one to write, which was a tenth of what new ids cost.
const EMPTY: u64 = u64::MAX;

/// A set of ids that forgets.
#[derive(Debug)]
pub struct Dedup {
    window_milliseconds: u64,
    ids_max: usize,
    /// The ids, oldest first. The place of an id is its number since the start, cut to 32 bits.
    ring: VecDeque<IdHash>,
    /// The place of the ring's first id.
    first: u64,
    /// By time: the place that the first id of that moment got.
    marks: VecDeque<(u64, u64)>,
    /// Ids that had to go for others before the window was over.
    forgotten_early: u64,
    /// Open addressing: the upper half of a slot is a quarter of the hash, the lower half the place.
    slots: Vec<u64>,
}

impl Dedup {
    /// An empty set.
    pub fn new(settings: DedupSettings) -> Self {
        Self {
            window_milliseconds: u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX),
            // Places are compared in 32 bits; the ring must be far from going round them.
            ids_max: settings.max_ids.clamp(1, 1 << 30),
            ring: VecDeque::new(),
            first: 0,
            marks: VecDeque::new(),
            forgotten_early: 0,
            slots: vec![EMPTY; SLOTS_MIN],
        }
    }

    /// Looks at the places where ids that are about to be asked for would stand, so that the waits for memory
    /// overlap, and at those of the ids that would have to go for them. Changes nothing.
    pub fn touch(&self, ids: impl ExactSizeIterator<Item = IdHash>) {
        let beyond = (self.ring.len() + ids.len()).saturating_sub(self.ids_max);
        self.look_at(ids.chain(self.ring.iter().take(beyond).copied()));
    }

    fn look_at(&self, ids: impl Iterator<Item = IdHash>) {
        black_box(ids.fold(0, |looked, id| looked ^ self.slots[self.home(tag(id))]));
    }

    /// Remembers `id` and says whether it is new. `now` is in milliseconds and never steps back.
    pub fn is_new(&mut self, id: IdHash, now: u64) -> bool {
        self.forget(now);
        let mask = self.slots.len() - 1;
        let mut slot = self.home(tag(id));
        while self.slots[slot] != EMPTY {
            if self.slots[slot] >> 32 == tag(id) && self.ring[self.index(self.slots[slot])] == id {
                return false;
            }
            slot = (slot + 1) & mask;
        }
        if self.ring.len() >= self.ids_max {
            self.forgotten_early += u64::from(self.is_oldest_in_window(now));
            self.forget_oldest();
            // Forgetting closes gaps, so the free slot may be nearer now.
            slot = self.home(tag(id));
            while self.slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
        }
        self.slots[slot] = entry(id, self.first + self.ring.len() as u64);
        self.ring.push_back(id);
        if self.ring.len() * 2 > self.slots.len() {
            self.grow();
        }
        true
    }

    /// How many ids were forgotten before the window was over since this was last asked: their repetitions count again.
    pub fn take_forgotten_early(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten_early)
    }

    /// Whether the oldest id came within the window. It came at its mark or later.
    fn is_oldest_in_window(&self, now: u64) -> bool {
        self.marks.front().is_some_and(|(time, _)| time.saturating_add(self.window_milliseconds) > now)
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    fn forget(&mut self, now: u64) {
        let step = (self.window_milliseconds / STEPS).max(1);
        // The ids of a mark came less than a step after it.
        let kept = self.window_milliseconds.saturating_add(step - 1);
        while self.marks.front().is_some_and(|(time, _)| time.saturating_add(kept) <= now) {
            self.marks.pop_front();
            let end = self.first + self.ring.len() as u64;
            let place = self.marks.front().map_or(end, |(_, place)| *place);
            while self.first < place {
                let run = usize::try_from(place - self.first).unwrap_or(RUN).min(RUN);
                self.look_at(self.ring.iter().take(run).copied());
                (0..run).for_each(|_| self.forget_oldest());
            }
        }
        if self.marks.back().is_none_or(|(time, _)| now >= time + step) {
            self.marks.push_back((now, self.first + self.ring.len() as u64));
        }
    }

    fn forget_oldest(&mut self) {
        let Some(id) = self.ring.pop_front() else { return };
        let wanted = entry(id, self.first);
        self.first += 1;
        let mask = self.slots.len() - 1;
        let mut gap = self.home(tag(id));
        while self.slots[gap] != wanted {
            gap = (gap + 1) & mask;
        }
        // Closes the gap: whatever follows moves up, unless it would move before its home.
        let mut next = (gap + 1) & mask;
        while self.slots[next] != EMPTY {
            let home = self.home(self.slots[next] >> 32);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                self.slots[gap] = self.slots[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[gap] = EMPTY;
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![EMPTY; old.len() * 2];
        let mask = self.slots.len() - 1;
        for entry in old.into_iter().filter(|entry| *entry != EMPTY) {
            let mut slot = self.home(entry >> 32);
            while self.slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = entry;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a tag has 32 bits")]
    fn home(&self, tag: u64) -> usize {
        tag as usize & (self.slots.len() - 1)
    }

    /// Where in the ring a slot points to.
    #[expect(clippy::cast_possible_truncation, reason = "places are compared in 32 bits")]
    fn index(&self, slot: u64) -> usize {
        (slot as u32).wrapping_sub(self.first as u32) as usize
    }
}

/// The part of the hash that the index keeps: 31 bits. The highest of 32 is never set, so that no slot in use
/// looks empty.
const fn tag(id: IdHash) -> u64 {
    (id >> 97) as u64
}

/// A slot in use.
const fn entry(id: IdHash, place: u64) -> u64 {
    (tag(id) << 32) | (place & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dedup(window_milliseconds: u64, max_ids: usize) -> Dedup {
        Dedup::new(DedupSettings { window: Duration::from_millis(window_milliseconds), max_ids })
    }

    #[test]
    fn an_id_is_new_once_within_the_window_and_again_after_it() {
        let mut dedup = dedup(1000, 100);
        assert!(dedup.is_new(7, 0));
        assert!(!dedup.is_new(7, 999));
        assert!(dedup.is_new(7, 1100));
        assert!(!dedup.is_new(7, 1200));
    }

    #[test]
    fn beyond_the_bound_the_oldest_is_forgotten_first() {
        let mut dedup = dedup(1_000_000, 3);
        for id in 1..=4 {
            assert!(dedup.is_new(id << 100, 0));
        }
        assert_eq!(dedup.len(), 3);
        assert_eq!(dedup.take_forgotten_early(), 1);
        assert!(!dedup.is_new(2 << 100, 0));
        assert!(dedup.is_new(1 << 100, 0));
        assert_eq!((dedup.take_forgotten_early(), dedup.take_forgotten_early()), (1, 0));
    }

    #[test]
    fn what_is_forgotten_when_its_time_is_over_is_not_forgotten_early() {
        let mut dedup = dedup(1000, 3);
        for id in 1..=30 {
            assert!(dedup.is_new(id << 100, u64::try_from(id).unwrap() * 500));
        }
        assert_eq!(dedup.take_forgotten_early(), 0);
    }

    #[test]
    fn the_same_id_hashes_alike_and_others_do_not() {
        let hasher = IdHasher::default();
        assert_eq!(hasher.hash(b"a"), hasher.hash(b"a"));
        assert_ne!(hasher.hash(b"a"), hasher.hash(b"b"));
        assert_ne!(hasher.hash(b"a") >> 64, hasher.hash(b"a") & u128::from(u64::MAX));
    }

    proptest! {
        /// It answers as a plain list of (id, time) would that forgets by the same two rules; an id may be
        /// remembered one step longer than the window.
        #[test]
        fn it_agrees_with_a_plain_list(
            ids in prop::collection::vec((0u128..40, 0u64..30), 1..400),
            bits in prop::sample::select(vec![0u32, 96, 120]),
            max_ids in 1usize..50,
            touched in any::<bool>(),
        ) {
            let window = 64;
            let mut dedup = dedup(window, max_ids);
            let mut plain: VecDeque<(u128, u64)> = VecDeque::new();
            let mut now = 0;
            for (id, pause) in ids {
                now += pause;
                let id = id << bits;
                while plain.front().is_some_and(|(_, time)| time + window <= now) { plain.pop_front(); }
                let expected = !plain.iter().any(|(known, _)| *known == id);
                if touched { dedup.touch([id, id].into_iter()); }
                prop_assert_eq!(dedup.is_new(id, now), expected, "id {} at {}", id, now);
                if expected {
                    if plain.len() >= max_ids { plain.pop_front(); }
                    plain.push_back((id, now));
                }
                prop_assert_eq!(dedup.len(), plain.len());
            }
        }
    }

    #[test]
    fn it_stays_right_while_it_grows_and_forgets_by_the_hundred_thousand() {
        let hasher = IdHasher::default();
        let mut dedup = dedup(1_000_000, 50_000);
        for round in 0u64..200_000 {
            assert!(dedup.is_new(hasher.hash(&round.to_le_bytes()), 0));
            let recent = round.saturating_sub(round % 49_000);
            assert!(!dedup.is_new(hasher.hash(&recent.to_le_bytes()), 0));
        }
        assert_eq!(dedup.len(), 50_000);
    }
}
