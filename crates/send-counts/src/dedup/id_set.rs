//! A set of ids that forgets the oldest first.

use std::collections::VecDeque;
use std::hint::black_box;

use super::IdHash;
use super::huge_pages::Slots;

/// How many steps the window is divided into: an id is forgotten at most a step later than it may be.
const STEPS: u64 = 64;

/// How many ids are forgotten at a time when their time is over: as many as a processor can wait for at once.
const RUN: usize = 32;

/// The slots of an index that remembers nothing yet. Always a power of two.
const SLOTS_MIN: usize = 1024;

/// A slot of the index without an id. Not zero: of memory that is all zeros the system gives one page to read and,
/// page by page, another one to write, which was a tenth of what new ids cost.
const EMPTY: u64 = u64::MAX;

/// The ids in a ring, oldest first, and an index over it.
///
/// The index holds 31 bits of the hash beside the place in the ring, so that an id that is new (nearly all are) costs
/// one look into memory; [`IdSet::prefetch`] lets those of several ids overlap. Nothing is hashed again when the index
/// grows, and nothing is ever scanned.
#[derive(Debug)]
pub(super) struct IdSet {
    window_milliseconds: u64,
    /// The ids, oldest first. The place of an id is its number since the start, cut to 32 bits.
    ring: VecDeque<IdHash>,
    /// The place of the ring's first id.
    first: u64,
    /// By time: the place that the first id of that moment got.
    marks: VecDeque<(u64, u64)>,
    /// Open addressing: the upper half of a slot is a quarter of the hash, the lower half the place.
    slots: Slots,
}

/// Where in the index a new id would stand. Good until the set changes.
#[derive(Debug)]
pub(super) struct Vacancy(usize);

impl IdSet {
    /// An empty set, for ids that are remembered for so long.
    pub(super) fn new(window_milliseconds: u64) -> Self {
        Self {
            window_milliseconds,
            ring: VecDeque::new(),
            first: 0,
            marks: VecDeque::new(),
            slots: Slots::filled(SLOTS_MIN, EMPTY),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ring.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The ids, oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = IdHash> {
        self.ring.iter().copied()
    }

    /// Looks at the places where the ids would stand, so that the waits for memory overlap. Changes nothing.
    pub(super) fn prefetch(&self, ids: impl Iterator<Item = IdHash>) {
        let slots: &[u64] = &self.slots;
        black_box(ids.fold(0, |looked, id| looked ^ slots[home(slots, tag(id))]));
    }

    /// Where `id` would stand; `None`: it is remembered.
    #[inline]
    pub(super) fn vacancy(&self, id: IdHash) -> Option<Vacancy> {
        let slots: &[u64] = &self.slots;
        let mask = slots.len() - 1;
        let mut slot = home(slots, tag(id));
        while slots[slot] != EMPTY {
            if slots[slot] >> 32 == tag(id) && is_same(self.ring[self.index(slots[slot])], id) {
                return None;
            }
            slot = (slot + 1) & mask;
        }
        Some(Vacancy(slot))
    }

    /// Remembers `id`.
    #[inline]
    pub(super) fn insert(&mut self, vacancy: &Vacancy, id: IdHash) {
        self.slots[vacancy.0] = entry(id, self.first + self.ring.len() as u64);
        self.ring.push_back(id);
        if self.ring.len() * 2 > self.slots.len() {
            self.grow();
        }
    }

    /// Whether the oldest id came within the window. It came at its mark or later: that is the last one at or before its
    /// place, for the first marks stand for ids that were forgotten already, where there was no room for them.
    pub(super) fn is_oldest_in_window(&self, now: u64) -> bool {
        let after = self.marks.partition_point(|(_, place)| *place <= self.first);
        let mark = after.checked_sub(1).and_then(|at| self.marks.get(at));
        mark.is_some_and(|(time, _)| time.saturating_add(self.window_milliseconds) > now)
    }

    /// Forgets the ids that are older than the window, and calls `forgotten` with each. Returns when to call it again, in
    /// milliseconds.
    pub(super) fn forget(&mut self, now: u64, mut forgotten: impl FnMut(IdHash)) -> u64 {
        let step = (self.window_milliseconds / STEPS).max(1);
        // The ids of a mark came less than a step after it.
        let kept = self.window_milliseconds.saturating_add(step - 1);
        while self.marks.front().is_some_and(|(time, _)| time.saturating_add(kept) <= now) {
            self.marks.pop_front();
            let end = self.first + self.ring.len() as u64;
            let place = self.marks.front().map_or(end, |(_, place)| *place);
            while self.first < place {
                let run = usize::try_from(place - self.first).unwrap_or(RUN).min(RUN);
                self.prefetch(self.ring.iter().take(run).copied());
                (0..run).filter_map(|_| self.forget_oldest()).for_each(&mut forgotten);
            }
        }
        self.shrink();
        if self.marks.back().is_none_or(|(time, _)| now >= time + step) {
            self.marks.push_back((now, self.first + self.ring.len() as u64));
        }
        let over = self.marks.front().map_or(now, |(time, _)| time.saturating_add(kept));
        let marked = self.marks.back().map_or(now, |(time, _)| time + step);
        over.min(marked)
    }

    /// Forgets the oldest id, and says which it was.
    pub(super) fn forget_oldest(&mut self) -> Option<IdHash> {
        let id = self.ring.pop_front()?;
        let wanted = entry(id, self.first);
        self.first += 1;
        let slots: &mut [u64] = &mut self.slots;
        let mask = slots.len() - 1;
        let mut gap = home(slots, tag(id));
        while slots[gap] != wanted {
            gap = (gap + 1) & mask;
        }
        // Closes the gap: whatever follows moves up, unless it would move before its home.
        let mut next = (gap + 1) & mask;
        while slots[next] != EMPTY {
            let home = home(slots, slots[next] >> 32);
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                slots[gap] = slots[next];
                gap = next;
            }
            next = (next + 1) & mask;
        }
        slots[gap] = EMPTY;
        Some(id)
    }

    /// Takes all ids out, oldest first, each with the time of its mark.
    pub(super) fn take(&mut self) -> Vec<(u64, IdHash)> {
        let mut marks = std::mem::take(&mut self.marks).into_iter().peekable();
        let (mut time, mut place) = (0, self.first);
        let timed = |id: IdHash| {
            while let Some((begun, _)) = marks.next_if(|(_, from)| *from <= place) {
                time = begun;
            }
            place += 1;
            (time, id)
        };
        let ids = self.ring.drain(..).map(timed).collect();
        *self = Self::new(self.window_milliseconds);
        ids
    }

    /// Remembers ids, oldest first, in an empty set.
    pub(super) fn fill(&mut self, ids: Vec<(u64, IdHash)>) {
        for (time, id) in ids {
            if self.marks.back().is_none_or(|(known, _)| *known != time) {
                self.marks.push_back((time, self.first + self.ring.len() as u64));
            }
            if let Some(vacancy) = self.vacancy(id) {
                self.insert(&vacancy, id);
            }
        }
    }

    /// The memory that it holds.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + self.ring.capacity() * size_of::<IdHash>()
    }

    fn grow(&mut self) {
        self.resize(self.slots.len() * 2);
    }

    /// Gives half of the memory back once an eighth of it would do: of a flood's, or of the set that ids no longer go to.
    fn shrink(&mut self) {
        if self.slots.len() > SLOTS_MIN && self.ring.len() * 8 <= self.slots.len() {
            self.resize(self.slots.len() / 2);
            self.ring.shrink_to(self.slots.len() / 2);
        }
    }

    fn resize(&mut self, count: usize) {
        let old = std::mem::replace(&mut self.slots, Slots::filled(count, EMPTY));
        let slots: &mut [u64] = &mut self.slots;
        let mask = slots.len() - 1;
        for entry in old.iter().copied().filter(|entry| *entry != EMPTY) {
            let mut slot = home(slots, entry >> 32);
            while slots[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            slots[slot] = entry;
        }
    }

    /// Where in the ring a slot points to.
    #[expect(clippy::cast_possible_truncation, reason = "places are compared in 32 bits")]
    fn index(&self, slot: u64) -> usize {
        (slot as u32).wrapping_sub(self.first as u32) as usize
    }
}

/// Where an id with this tag would stand if it were alone.
#[expect(clippy::cast_possible_truncation, reason = "a tag has 32 bits")]
const fn home(slots: &[u64], tag: u64) -> usize {
    tag as usize & (slots.len() - 1)
}

/// Whether two hashes are of one id, whoever owns it.
const fn is_same(one: IdHash, other: IdHash) -> bool {
    (one ^ other) >> super::OWNER_BITS == 0
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
