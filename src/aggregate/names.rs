//! The newest name known for each id, beyond the flush in which it was seen.
//!
//! Names lag behind ids in Braze's events: for up to an hour after a campaign or a Canvas step is made or
//! renamed its name is missing or the old one. A name that was seen before fills the gap.

use std::collections::HashMap;
use std::sync::Arc;

use super::tags::{self, DIMENSIONS, Layout};
use super::{Aggregator, saturate};

/// Whose names they are.
pub use crate::route::ConnectionId;

/// What a name belongs to, in bytes: a connection, a dimension and an id. A name that is part of a series' key belongs
/// to itself: behind the dimension, which is marked, stand the length of the id, the id and the name.
type Owner = Box<[u8]>;

/// Where the id begins in an owner, or its length.
const OWNER_HEAD: usize = 5;

/// Marks the dimension of an owner whose name is part of the key.
const SENT: u8 = 0x80;

#[derive(Debug, Clone)]
struct KnownName {
    name: Box<[u8]>,
    seen: u32,
}

/// A name and what it belongs to, as it was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    owner: Owner,
    name: Box<[u8]>,
}

/// A name and what it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameOf<'n> {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Of what: see [`tags`].
    pub dimension: usize,
    /// Of which; empty where ids are not known.
    pub id: &'n [u8],
    /// The name, cut to what Datadog takes.
    pub name: &'n [u8],
}

/// A change of what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An id has this name now.
    Learnt(Owned),
    /// It has it no more, or is forgotten.
    Forgotten(Owned),
}

/// The names known. Bounded: when a generation is full the one before it is forgotten, so that the names in
/// use stay.
#[derive(Debug)]
pub struct KnownNames {
    young: HashMap<Owner, KnownName, foldhash::fast::RandomState>,
    old: HashMap<Owner, KnownName, foldhash::fast::RandomState>,
    generation_max: usize,
    /// How the keys of the last cut were laid out.
    layout: Option<Arc<Layout>>,
    /// Since they were taken; `None` where they were too many, or all names mean something else.
    changes: Option<Vec<Change>>,
    /// The owner at hand: to look it up allocates nothing.
    owner: Vec<u8>,
}

impl Owned {
    /// What is in it.
    pub fn name_of(&self) -> NameOf<'_> {
        name_of(&self.owner, &self.name)
    }
}

impl KnownNames {
    /// Remembers at most `names_max` names.
    pub fn new(names_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            generation_max: (names_max / 2).max(1),
            layout: None,
            changes: Some(Vec::new()),
            owner: Vec::new(),
        }
    }

    /// Learns the names of a merged cut, then gives every series the newest name known for each of its ids.
    pub fn settle(&mut self, cut: &mut Aggregator) {
        let layout = Arc::clone(cut.layout());
        self.lay_out(&layout);
        for dimension in (0..DIMENSIONS).filter(|dimension| layout.has_names(*dimension)) {
            let is_by_id = layout.names_by_id(dimension);
            for number in 0..cut.len() {
                let is_learnt = is_by_id && self.learn(cut, number, dimension);
                if !is_learnt {
                    self.learn_sent(cut, number, dimension);
                }
            }
            for number in (0..cut.len()).take_while(|_| is_by_id) {
                self.fill(cut, number, dimension);
            }
        }
    }

    /// Takes what has changed since the last time. `None`: start anew, from [`KnownNames::iter`].
    pub fn take_changes(&mut self) -> Option<Vec<Change>> {
        self.changes.replace(Vec::new())
    }

    /// All names known that series can show.
    pub fn iter(&self) -> impl Iterator<Item = NameOf<'_>> {
        let is_shown =
            |name: &NameOf<'_>| self.layout.as_ref().is_some_and(|layout| layout.has_names(name.dimension));
        let all = self.young.iter().chain(&self.old);
        all.map(|(owner, known)| name_of(owner, &known.name)).filter(is_shown)
    }

    /// How many names are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    /// Under another layout names may be left out, and be part of keys that they were not part of. Those of ids stay
    /// known; the others are learnt anew.
    fn lay_out(&mut self, layout: &Arc<Layout>) {
        if self.layout.as_ref().is_some_and(|known| known == layout) {
            return;
        }
        if self.layout.replace(Arc::clone(layout)).is_some() {
            let is_ids = |owner: &Owner| owner[OWNER_HEAD - 1] & SENT == 0;
            let stays = |owner: &Owner| is_ids(owner) && layout.names_by_id(dimension_of(owner));
            self.young.retain(|owner, _| stays(owner));
            self.old.retain(|owner, _| stays(owner));
            self.changes = None;
        }
    }

    /// Learns the name that goes with an id; `false` when there is none.
    fn learn(&mut self, cut: &Aggregator, number: usize, dimension: usize) -> bool {
        let entry = &cut.entries[number];
        let name = entry.names[dimension];
        if name.span.length == 0 {
            return false;
        }
        self.look_at(cut, number, dimension);
        let text = cut.bytes(name.span);
        let Some(known) = self.recall() else {
            self.insert(text, name.seen);
            return true;
        };
        if known.seen <= name.seen {
            known.seen = name.seen;
            if *known.name != *text {
                let old = std::mem::replace(&mut known.name, text.into());
                self.note(Change::Forgotten(Owned { owner: self.owner.as_slice().into(), name: old }));
                self.note(Change::Learnt(Owned { owner: self.owner.as_slice().into(), name: text.into() }));
            }
        }
        true
    }

    /// Learns a name that is part of the key: as it was sent, or without an id.
    fn learn_sent(&mut self, cut: &Aggregator, number: usize, dimension: usize) {
        let key = cut.bytes(cut.entries[number].key);
        let (id, name) = tags::id_and_name_of(key, dimension);
        if name.is_empty() {
            return;
        }
        self.start_owner(key, dimension, SENT);
        // An id in a key is shorter than 64 KiB.
        self.owner.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.owner.extend_from_slice(id);
        self.owner.extend_from_slice(name);
        if self.recall().is_none() {
            self.insert(name, 0);
        }
    }

    fn fill(&mut self, cut: &mut Aggregator, number: usize, dimension: usize) {
        if !self.look_at(cut, number, dimension) {
            return;
        }
        if let Some(known) = self.recall() {
            cut.set_name(number, dimension, &known.name, known.seen);
        }
    }

    /// Makes the owner of a series' name the one at hand; `false` when there is no id that could own one.
    fn look_at(&mut self, cut: &Aggregator, number: usize, dimension: usize) -> bool {
        let key = cut.bytes(cut.entries[number].key);
        let id = tags::id_of(key, dimension);
        self.start_owner(key, dimension, 0);
        self.owner.extend_from_slice(id);
        !id.is_empty()
    }

    fn start_owner(&mut self, key: &[u8], dimension: usize, mark: u8) {
        self.owner.clear();
        self.owner.extend_from_slice(&tags::connection_of(key).0.to_le_bytes());
        self.owner.push(u8::try_from(saturate(dimension as u64)).unwrap_or(0) | mark);
    }

    /// Finds the name of the owner at hand, and keeps it from being forgotten.
    fn recall(&mut self) -> Option<&mut KnownName> {
        let owner = self.owner.as_slice();
        if !self.young.contains_key(owner) {
            let (owner, known) = self.old.remove_entry(owner)?;
            self.make_room();
            self.young.insert(owner, known);
        }
        self.young.get_mut(self.owner.as_slice())
    }

    /// Gives the owner at hand, which has none, a name.
    fn insert(&mut self, name: &[u8], seen: u32) {
        self.make_room();
        let owner: Owner = self.owner.as_slice().into();
        self.note(Change::Learnt(Owned { owner: owner.clone(), name: name.into() }));
        self.young.insert(owner, KnownName { name: name.into(), seen });
    }

    fn make_room(&mut self) {
        if self.young.len() >= self.generation_max {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            for (owner, known) in forgotten {
                self.note(Change::Forgotten(Owned { owner, name: known.name }));
            }
        }
    }

    /// Remembers a change for whoever follows. Beyond as many as there can be names it is less to start anew.
    fn note(&mut self, change: Change) {
        if let Some(changes) = &mut self.changes {
            if changes.len() < 2 * self.generation_max {
                changes.push(change);
            } else {
                self.changes = None;
            }
        }
    }
}

fn dimension_of(owner: &[u8]) -> usize {
    usize::from(owner[OWNER_HEAD - 1] & !SENT)
}

fn name_of<'n>(owner: &'n [u8], name: &'n [u8]) -> NameOf<'n> {
    let rest = &owner[OWNER_HEAD..];
    let id = match rest.split_first_chunk::<2>() {
        Some((length, rest)) if owner[OWNER_HEAD - 1] & SENT != 0 => {
            &rest[..usize::from(u16::from_le_bytes(*length)).min(rest.len())]
        }
        _ => rest,
    };
    NameOf { connection: tags::connection_of(owner), dimension: dimension_of(owner), id, name }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Recorder, send};
    use super::*;

    #[test]
    fn a_missing_name_is_filled_from_what_was_seen_in_an_earlier_flush() {
        let mut names = KnownNames::new(100);
        let mut recorder = Recorder::new(100);
        recorder.record(0, &send("c1", "Welcome"), 100);
        let mut cut = recorder.cut();
        names.settle(&mut cut);
        recorder.record(0, &send("c1", ""), 200);
        recorder.record(1, &send("c1", ""), 200);
        let mut cut = recorder.cut();
        names.settle(&mut cut);
        assert_eq!(cut.series(0).attributes.names[1], b"Welcome");
        assert_eq!(cut.series(1).attributes.names[1], b"", "another connection's names are its own");
    }

    #[test]
    fn the_newest_name_wins_whatever_order_events_come_in() {
        let mut names = KnownNames::new(100);
        let mut recorder = Recorder::new(100);
        recorder.record(0, &send("c1", "New"), 500);
        recorder.record(0, &send("c1", "Old"), 400);
        let mut cut = recorder.cut();
        names.settle(&mut cut);
        assert_eq!(cut.series(0).attributes.names[1], b"New");
        recorder.record(0, &send("c1", "Older still"), 300);
        let mut cut = recorder.cut();
        names.settle(&mut cut);
        assert_eq!(cut.series(0).attributes.names[1], b"New");
    }

    #[test]
    fn the_memory_for_names_is_bounded_and_keeps_those_in_use() {
        let mut names = KnownNames::new(10);
        let mut recorder = Recorder::new(1000);
        for round in 0..50 {
            recorder.record(0, &send("kept", if round == 0 { "Kept" } else { "" }), round);
            recorder.record(0, &send(&format!("c{round}"), "Passing"), round);
            let mut cut = recorder.cut();
            names.settle(&mut cut);
            assert_eq!(cut.series(0).attributes.names[1], b"Kept");
            assert!(names.len() <= 11);
        }
    }
}
