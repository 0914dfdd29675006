//! Names that are remembered, and forgotten, together.

use std::hint::black_box;

use hashbrown::HashTable;

use super::{NAME_BYTES_MEAN_MAX, Owner};
use crate::aggregate::{Span, saturate, store};

/// Names that are forgotten together.
#[derive(Debug, Default)]
pub(super) struct Generation {
    pub(super) index: HashTable<u32>,
    pub(super) known: Vec<KnownName>,
    /// Owners and names; see [`NAME_BYTES_MEAN_MAX`].
    pub(super) arena: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct KnownName {
    pub(super) hash: u64,
    pub(super) owner: Span,
    pub(super) name: Span,
    /// Bytes that a name may have in its place.
    pub(super) room: u16,
    pub(super) seen: u32,
    /// The name goes on in the young generation.
    pub(super) is_carried_over: bool,
}

impl Generation {
    /// By number or by bytes. What a name took before it was another is not given back, so that renaming without end is
    /// no way around the bound.
    pub(super) fn is_full(&self, names_max: usize) -> bool {
        self.known.len() >= names_max || self.arena.len() >= names_max.saturating_mul(NAME_BYTES_MEAN_MAX)
    }

    /// Makes room for so many names.
    pub(super) fn reserve(&mut self, names: usize) {
        let known = &self.known;
        self.index.reserve(names, |place| known[*place as usize].hash);
        self.known.reserve(names);
    }

    /// The names, and what each belongs to.
    pub(super) fn names(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let known = self.known.iter().filter(|known| !known.is_carried_over);
        known.map(|known| (known.owner.of(&self.arena), known.name.of(&self.arena)))
    }

    /// Forgets all but those of some owners.
    pub(super) fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        let all = std::mem::take(self);
        for known in all.known.iter().filter(|known| !known.is_carried_over) {
            let owner = known.owner.of(&all.arena);
            if stays(owner) {
                self.insert(owner, known.hash, known.name.of(&all.arena), known.seen);
            }
        }
    }

    #[inline]
    pub(super) fn find(&self, owner: &[u8], hash: u64) -> Option<u32> {
        let is_it = |place: &u32| {
            let known = &self.known[*place as usize];
            known.hash == hash && known.owner.of(&self.arena) == owner
        };
        self.index.find(hash, is_it).copied()
    }

    /// Looks at what is about to be asked for, so that it is in the cache by then. Changes nothing.
    pub(super) fn prefetch(&self, owners: &[Owner]) {
        let mut prefetched = 0;
        for owner in owners {
            if let Some(place) = self.index.find(owner.hash, |_| true) {
                let known = &self.known[*place as usize];
                prefetched ^= self.arena.get(known.owner.start as usize).copied().unwrap_or_default();
            }
        }
        black_box(prefetched);
    }

    pub(super) fn insert(&mut self, owner: &[u8], hash: u64, name: &[u8], seen: u32) -> u32 {
        let place = saturate(self.known.len() as u64);
        let owner = store(&mut self.arena, owner);
        let name = store(&mut self.arena, name);
        self.known.push(KnownName { hash, owner, name, room: name.length, seen, is_carried_over: false });
        let known = &self.known;
        self.index.insert_unique(hash, place, |place| known[*place as usize].hash);
        place
    }

    /// Whether an owner's name is another one from now on.
    pub(super) fn is_news(&self, place: u32, name: &[u8], seen: u32) -> bool {
        let known = &self.known[place as usize];
        !name.is_empty() && seen >= known.seen && known.name.of(&self.arena) != name
    }

    /// Whether a name is too long for the place of the one known.
    pub(super) fn outgrows(&self, place: u32, name: &[u8]) -> bool {
        name.len() > usize::from(self.known[place as usize].room)
    }

    /// Takes a name that is as new as the one known, or newer; an empty one says nothing.
    pub(super) fn rename(&mut self, place: u32, name: &[u8], seen: u32) {
        let known = &mut self.known[place as usize];
        if name.is_empty() || seen < known.seen {
            return;
        }
        known.seen = seen;
        if known.name.of(&self.arena) == name {
            return;
        }
        if name.len() <= usize::from(known.room) {
            known.name = known.name.overwrite(&mut self.arena, name);
        } else {
            known.name = store(&mut self.arena, name);
            // Room for twice as much, so that names that grow bit by bit leave little behind.
            known.room = known.name.length.saturating_mul(2);
            self.arena.resize(known.name.start as usize + usize::from(known.room), 0);
        }
    }
}
