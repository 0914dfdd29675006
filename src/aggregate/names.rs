//! The newest name known for each id, beyond the flush in which it was seen.
//!
//! Names lag behind ids in Braze's events: for up to an hour after a campaign or a Canvas step is made or
//! renamed its name is missing or the old one. A name that was seen before fills the gap.

use std::collections::HashMap;

use super::tags::{self, DIMENSIONS};
use super::{Aggregator, saturate};

/// What a name belongs to, in bytes: a connection, a dimension, an app group and an id. The app group is part of it so
/// that who speaks for one can't rename the campaigns of another.
type Owner = Box<[u8]>;

/// What a name may take with its owner, on average; Braze's take about half of it.
const NAME_BYTES_MEAN_MAX: usize = 256;

#[derive(Debug, Clone)]
struct KnownName {
    name: Box<[u8]>,
    seen: u32,
}

/// The names known. Bounded: when a generation is full the one before it is forgotten, so that the names in
/// use stay.
#[derive(Debug)]
pub struct KnownNames {
    young: HashMap<Owner, KnownName, foldhash::fast::RandomState>,
    old: HashMap<Owner, KnownName, foldhash::fast::RandomState>,
    generation_max: usize,
    /// What owners and names of the young generation take, at most.
    young_bytes: usize,
    /// The owner at hand: to look it up allocates nothing.
    owner: Vec<u8>,
}

impl KnownNames {
    /// Remembers at most `names_max` names.
    pub fn new(names_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            generation_max: (names_max / 2).max(1),
            young_bytes: 0,
            owner: Vec::new(),
        }
    }

    /// Learns the names of a merged cut, then gives every series the newest name known for each of its ids.
    pub fn settle(&mut self, cut: &mut Aggregator) {
        let layout = std::sync::Arc::clone(cut.layout());
        for dimension in (0..DIMENSIONS).filter(|dimension| layout.names_by_id(*dimension)) {
            for number in 0..cut.len() {
                self.learn(cut, number, dimension);
            }
            for number in 0..cut.len() {
                self.fill(cut, number, dimension);
            }
        }
    }

    /// How many names are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    fn learn(&mut self, cut: &Aggregator, number: usize, dimension: usize) {
        let entry = &cut.entries[number];
        let name = entry.names[dimension];
        if name.span.length == 0 {
            return;
        }
        self.look_at(cut, number, dimension);
        if let Some(known) = self.recall() {
            if known.seen <= name.seen {
                known.seen = name.seen;
                if *known.name != *cut.bytes(name.span) {
                    known.name = cut.bytes(name.span).into();
                    // What it took before is not given back, so that renaming without end is no way around the bound.
                    self.young_bytes += usize::from(name.span.length);
                }
            }
            return;
        }
        let known = KnownName { name: cut.bytes(name.span).into(), seen: name.seen };
        self.remember(self.owner.as_slice().into(), known);
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
        self.owner.clear();
        self.owner.extend_from_slice(&tags::connection_of(key).0.to_le_bytes());
        self.owner.push(saturate(dimension as u64).try_into().unwrap_or(0));
        if dimension > 0 {
            let app_group = tags::id_of(key, 0);
            self.owner.extend_from_slice(&saturate(app_group.len() as u64).to_le_bytes());
            self.owner.extend_from_slice(app_group);
        }
        self.owner.extend_from_slice(id);
        !id.is_empty()
    }

    /// Finds the name of the owner at hand, and keeps it from being forgotten.
    fn recall(&mut self) -> Option<&mut KnownName> {
        let owner = self.owner.as_slice();
        if !self.young.contains_key(owner) {
            let (owner, known) = self.old.remove_entry(owner)?;
            self.remember(owner, known);
        }
        self.young.get_mut(self.owner.as_slice())
    }

    fn remember(&mut self, owner: Owner, known: KnownName) {
        let bytes_max = self.generation_max.saturating_mul(NAME_BYTES_MEAN_MAX);
        if self.young.len() >= self.generation_max || self.young_bytes >= bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += owner.len() + known.name.len();
        self.young.insert(owner, known);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Recorder, send};
    use super::*;
    use crate::event::Field;

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
    fn a_name_belongs_to_the_app_group_that_gave_it() {
        let mut names = KnownNames::new(100);
        let mut recorder = Recorder::new(100);
        recorder.record(0, &send("c1", "Welcome"), 100);
        names.settle(&mut recorder.cut());
        let mut other = send("c1", "Bought a rival");
        other.fields[Field::AppGroupId as usize] = b"other";
        recorder.record(0, &other, 200);
        names.settle(&mut recorder.cut());
        recorder.record(0, &send("c1", ""), 300);
        let mut cut = recorder.cut();
        names.settle(&mut cut);
        assert_eq!(cut.series(0).attributes.names[1], b"Welcome");
    }

    #[test]
    fn long_names_are_forgotten_sooner() {
        let mut names = KnownNames::new(100);
        let mut recorder = Recorder::new(1000);
        let long = "é".repeat(150);
        for round in 0..100 {
            recorder.record(0, &send(&format!("{round}{long}"), &long), round);
            names.settle(&mut recorder.cut());
        }
        assert!(names.len() < 60, "{}", names.len());
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
