//! The newest name known for each id, beyond the flush in which it was seen.
//!
//! Names lag behind ids in Braze's events: for up to an hour after a campaign or a Canvas step is made or
//! renamed its name is missing or the old one. A name that was seen before fills the gap.
//!
//! Names lie one behind the other in an arena, as the counts do, and the ids of many series are looked up at a time, so
//! that the waits for memory overlap: with as many ids as series, this is a third of what a flush costs.

mod changes;
mod generation;

use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;

use self::changes::ChangeLog;
pub use self::changes::{Change, Changes};
use self::generation::Generation;
use super::tags::{self, Dimension, Layout};
use super::{Aggregator, GROUP, Span};
use crate::hash;
use crate::route::ConnectionId;

/// Offset of the id in an owner (of its length, where one stands before it).
const OWNER_HEAD: usize = 5;

/// Marks the dimension of an owner whose name is part of the key.
const SENT: u8 = 0x80;

/// What a name may take with its owner, on average; Braze's take about half of it.
const NAME_BYTES_MEAN_MAX: usize = 256;

/// The place of a name that is not known.
const NOWHERE: u32 = u32::MAX;

/// The place of the name of a series without an id, which none can be known of.
const NO_ID: u32 = u32::MAX - 1;

/// A name and what it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameOf<'n> {
    /// Whose it is.
    pub connection: ConnectionId,
    /// What it is the name of.
    pub dimension: Dimension,
    /// Its id; empty if unknown.
    pub id: &'n [u8],
    /// The name, cut to what Datadog takes.
    pub name: &'n [u8],
}

/// The names known. Bounded: when a generation is full the one before it is forgotten, so that the names in
/// use stay.
#[derive(Debug)]
pub struct KnownNames {
    hasher: RandomState,
    young: Generation,
    old: Generation,
    generation_max: usize,
    /// How often a generation was forgotten. Places are those in the young generation, until it is the old one.
    turns: u64,
    /// How the keys of the last cut were laid out.
    layout: Option<Arc<Layout>>,
    /// Since they were taken.
    log: ChangeLog,
    group: Group,
}

/// What names belong to, for the series at hand.
#[derive(Debug, Default)]
struct Group {
    owners: Vec<Owner>,
    /// The owners' bytes: a connection, a dimension, an app group and an id. The app group is part of it so that who
    /// speaks for one can't rename the campaigns of another. A name that is part of a series' key belongs to itself:
    /// behind the dimension, which is marked, stand the length of the id, the id and the name.
    arena: Vec<u8>,
}

/// The owner of a series' name.
#[derive(Debug, Clone, Copy)]
struct Owner {
    /// Empty: there is no id that could own a name.
    bytes: Span,
    hash: u64,
}

impl KnownNames {
    /// Remembers at most `names_max` names.
    pub fn new(names_max: usize) -> Self {
        let generation_max = (names_max / 2).max(1);
        Self {
            hasher: RandomState::default(),
            young: Generation::default(),
            old: Generation::default(),
            generation_max,
            turns: 0,
            layout: None,
            log: ChangeLog::new(2 * generation_max),
            group: Group::default(),
        }
    }

    /// Learns the names of a merged cut, then gives every series the newest name known for each of its ids.
    pub fn settle(&mut self, cut: &mut Aggregator) {
        let layout = Arc::clone(cut.layout());
        self.lay_out(&layout);
        self.begin(cut.len());
        let mut places = Vec::with_capacity(cut.len());
        for dimension in Dimension::ALL.into_iter().filter(|dimension| layout.has_names(*dimension)) {
            places.clear();
            let turns = self.turns;
            let is_by_id = layout.names_by_id(dimension);
            if is_by_id {
                for numbers in groups(cut.len()) {
                    self.learn(cut, numbers, dimension, &mut places);
                }
            }
            for number in 0..cut.len() {
                if !is_by_id || cut.entries[number].names[dimension as usize].span.length == 0 {
                    self.learn_sent(cut, number, dimension);
                }
            }
            self.fill(cut, dimension, &places, turns);
        }
    }

    /// Forgets the names of the app groups of some connections.
    pub fn forget_app_groups(&mut self, is_of: impl Fn(ConnectionId) -> bool) {
        let stays =
            |owner: &[u8]| dimension_of(owner) != Dimension::AppGroup || !is_of(tags::connection_of(owner));
        self.retain(stays);
    }

    /// Takes what has changed since the last time. `None`: start anew, from [`KnownNames::iter`].
    pub fn take_changes(&mut self) -> Option<Changes> {
        self.log.take()
    }

    /// All names known that series can show.
    pub fn iter(&self) -> impl Iterator<Item = NameOf<'_>> {
        let is_shown =
            |name: &NameOf<'_>| self.layout.as_ref().is_some_and(|layout| layout.has_names(name.dimension));
        let all = self.young.names().chain(self.old.names());
        all.map(|(owner, name)| name_of(owner, name)).filter(is_shown)
    }

    /// How many names are remembered.
    pub fn len(&self) -> usize {
        self.young.names().count() + self.old.names().count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for as many names as a flush has series, where a generation begins.
    fn begin(&mut self, series: usize) {
        if series == 0 || !self.young.known.is_empty() {
            return;
        }
        self.young.reserve(series.min(self.generation_max));
        if self.old.known.is_empty() {
            // What changes is all there is.
            self.log.give_up();
        }
    }

    /// Under another layout names may be left out, and be part of keys that they were not part of. Those of ids stay
    /// known; the others are learnt anew.
    fn lay_out(&mut self, layout: &Arc<Layout>) {
        if self.layout.as_ref().is_some_and(|known| known == layout) {
            return;
        }
        if self.layout.replace(Arc::clone(layout)).is_some() {
            let is_ids = |owner: &[u8]| owner[OWNER_HEAD - 1] & SENT == 0;
            let stays = |owner: &[u8]| is_ids(owner) && layout.names_by_id(dimension_of(owner));
            self.retain(stays);
        }
    }

    fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        self.young.retain(&stays);
        self.old.retain(&stays);
        self.log.give_up();
    }

    /// Learns the names of some series, and appends to `places` where the names of their ids are.
    fn learn(
        &mut self,
        cut: &Aggregator,
        numbers: Range<usize>,
        dimension: Dimension,
        places: &mut Vec<u32>,
    ) {
        let mut group = std::mem::take(&mut self.group);
        group.read_owners(&self.hasher, cut, numbers.clone(), dimension);
        self.young.prefetch(&group.owners);
        for (owner, number) in group.owners.iter().zip(numbers) {
            let name = cut.entries[number].names[dimension as usize];
            let name = (cut.bytes(name.span), name.seen);
            places.push(self.learn_one(owner.bytes.of(&group.arena), owner.hash, name));
        }
        self.group = group;
    }

    /// Learns one name, unless it is empty, and returns where the owner's name is.
    fn learn_one(&mut self, owner: &[u8], hash: u64, (name, seen): (&[u8], u32)) -> u32 {
        if owner.is_empty() {
            return NO_ID;
        }
        let mut known = self.recall(owner, hash);
        // A longer name is stored anew, as a new one is.
        let is_longer = |place| self.young.outgrows(place, name) && self.young.is_news(place, name, seen);
        if known.is_some_and(is_longer) && self.young.is_full(self.generation_max) {
            self.make_room();
            known = self.recall(owner, hash);
        }
        match known {
            Some(place) => {
                if self.young.is_news(place, name, seen) {
                    self.log.forget(owner, self.young.known[place as usize].name.of(&self.young.arena));
                    self.log.learn(owner, name);
                }
                self.young.rename(place, name, seen);
                place
            }
            None if name.is_empty() => NOWHERE,
            None => self.insert(owner, hash, name, seen),
        }
    }

    /// Learns a name that is part of the key: as it was sent, or without an id.
    fn learn_sent(&mut self, cut: &Aggregator, number: usize, dimension: Dimension) {
        let key = cut.bytes(cut.entries[number].key);
        let (id, name) = tags::id_and_name_of(key, dimension);
        if name.is_empty() {
            return;
        }
        let mut group = std::mem::take(&mut self.group);
        group.arena.clear();
        group.start(key, dimension, SENT);
        group.write_with_length(id);
        group.arena.extend_from_slice(name);
        let hash = hash(&self.hasher, &group.arena);
        if self.recall(&group.arena, hash).is_none() {
            self.insert(&group.arena, hash, name, 0);
        }
        self.group = group;
    }

    /// Gives series the names of their ids. A place is looked up anew where nothing was known at the time, and once a
    /// generation has been forgotten since `turns`.
    fn fill(&mut self, cut: &mut Aggregator, dimension: Dimension, places: &[u32], turns: u64) {
        let mut group = std::mem::take(&mut self.group);
        for (number, place) in places.iter().enumerate().filter(|(_, place)| **place != NO_ID) {
            let mut place = Some(*place).filter(|place| *place != NOWHERE && self.turns == turns);
            if place.is_none() {
                group.read_owners(&self.hasher, cut, number..number + 1, dimension);
                let owner = group.owners[0];
                place = self.recall(owner.bytes.of(&group.arena), owner.hash);
            }
            if let Some(place) = place {
                let known = &self.young.known[place as usize];
                cut.set_name(number, dimension, known.name.of(&self.young.arena), known.seen);
            }
        }
        self.group = group;
    }

    /// Finds the name of an owner, and keeps it from being forgotten.
    fn recall(&mut self, owner: &[u8], hash: u64) -> Option<u32> {
        if let Some(place) = self.young.find(owner, hash) {
            return Some(place);
        }
        let place = self.old.find(owner, hash)?;
        let known = &mut self.old.known[place as usize];
        known.is_carried_over = true;
        let known = *known;
        if !self.young.is_full(self.generation_max) {
            return Some(self.young.insert(owner, hash, known.name.of(&self.old.arena), known.seen));
        }
        // What is old now is forgotten by making room.
        let name = known.name.of(&self.old.arena).to_vec();
        self.make_room();
        Some(self.young.insert(owner, hash, &name, known.seen))
    }

    /// Gives an owner that has none a name.
    fn insert(&mut self, owner: &[u8], hash: u64, name: &[u8], seen: u32) -> u32 {
        self.make_room();
        self.log.learn(owner, name);
        self.young.insert(owner, hash, name, seen)
    }

    fn make_room(&mut self) {
        if self.young.is_full(self.generation_max) {
            let forgotten = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.turns += 1;
            for (owner, name) in forgotten.names() {
                self.log.forget(owner, name);
            }
        }
    }
}

fn dimension_of(owner: &[u8]) -> Dimension {
    Dimension::ALL[usize::from(owner[OWNER_HEAD - 1] & !SENT)]
}

fn name_of<'n>(owner: &'n [u8], name: &'n [u8]) -> NameOf<'n> {
    let dimension = dimension_of(owner);
    let is_sent = owner[OWNER_HEAD - 1] & SENT != 0;
    let rest = &owner[OWNER_HEAD..];
    let id = match rest.split_first_chunk::<2>() {
        Some((length, rest)) if is_sent || dimension != Dimension::AppGroup => {
            let (first, behind) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
            if is_sent { first } else { behind }
        }
        _ => rest,
    };
    NameOf { connection: tags::connection_of(owner), dimension, id, name }
}

/// `0..length`, by the group.
fn groups(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(GROUP).map(move |start| start..length.min(start + GROUP))
}

impl Group {
    /// Fills `owners` with the owners of these series' names.
    fn read_owners(
        &mut self,
        hasher: &RandomState,
        cut: &Aggregator,
        numbers: Range<usize>,
        dimension: Dimension,
    ) {
        self.owners.clear();
        self.arena.clear();
        for entry in &cut.entries[numbers] {
            let key = cut.bytes(entry.key);
            let id = tags::id_of(key, dimension);
            let start = self.arena.len();
            if !id.is_empty() {
                self.start(key, dimension, 0);
                if dimension != Dimension::AppGroup {
                    self.write_with_length(tags::id_of(key, Dimension::AppGroup));
                }
                self.arena.extend_from_slice(id);
            }
            let hash = hash(hasher, &self.arena[start..]);
            self.owners.push(Owner { bytes: Span::since(start, &self.arena), hash });
        }
    }

    fn start(&mut self, key: &[u8], dimension: Dimension, mark: u8) {
        self.arena.extend_from_slice(&tags::connection_of(key).0.to_le_bytes());
        self.arena.push(dimension as u8 | mark);
    }

    /// Ids in keys are shorter than 64 KiB.
    fn write_with_length(&mut self, id: &[u8]) {
        self.arena.extend_from_slice(&u16::try_from(id.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.arena.extend_from_slice(id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::tests::{Recorder, send};
    use super::*;
    use braze_events::Field;

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
    fn the_names_of_a_connections_app_groups_are_forgotten_and_no_others() {
        let mut names = KnownNames::new(100);
        let mut recorder = Recorder::new(100);
        let mut told = |app_group_name: &str, campaign_name: &str, seen: u64| {
            let mut event = send("c1", campaign_name);
            event.fields[Field::AppGroupName as usize] = app_group_name.as_bytes();
            for connection in 0..2 {
                recorder.record(connection, &event, seen);
            }
            let mut cut = recorder.cut();
            names.settle(&mut cut);
            if seen == 100 {
                names.forget_app_groups(|connection| connection == ConnectionId(1));
                assert!(names.take_changes().is_none(), "whoever follows starts anew");
                assert_eq!(names.iter().count(), 3);
            }
            [0, 1].map(|number| {
                let [app_group, campaign, ..] = cut.series(number).attributes.names;
                [app_group, campaign].map(|name| String::from_utf8(name.to_vec()).unwrap())
            })
        };
        assert_eq!(told("Acme", "Welcome", 100), [["Acme", "Welcome"], ["Acme", "Welcome"]]);
        assert_eq!(told("", "", 200), [["Acme", "Welcome"], ["", "Welcome"]]);
        assert_eq!(told("Event's own", "", 50), [["Acme", "Welcome"], ["Event's own", "Welcome"]]);
    }

    #[test]
    fn names_that_grow_from_flush_to_flush_are_no_way_around_the_bound() {
        const NAMES_MAX: usize = 100;
        let mut names = KnownNames::new(NAMES_MAX);
        let mut recorder = Recorder::new(1000);
        for round in 0..12 {
            let name = "😀".repeat(1 << round.min(7));
            for campaign in 0..NAMES_MAX / 2 - 1 {
                recorder.record(0, &send(&format!("c{campaign}"), &name), 100 + round);
            }
            let mut cut = recorder.cut();
            names.settle(&mut cut);
            assert!(cut.series(0).attributes.names[1] == name.as_bytes());
            // A name may be what passes it, with the room that it is given.
            let held = names.young.arena.len() + names.old.arena.len();
            assert!(held <= NAMES_MAX * NAME_BYTES_MEAN_MAX + 2 * 2000, "{held} in round {round}");
        }
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

    /// An id, a name (none is empty), and when it was seen.
    type Seen = (u8, Option<u8>, u64);

    fn flushes() -> impl Strategy<Value = Vec<Vec<Seen>>> {
        let seen = (0u8..30, prop::option::of(0u8..5), 1u64..50);
        prop::collection::vec(prop::collection::vec(seen, 0..300), 1..6)
    }

    /// What each flush says of each id. The sends come in several lanes.
    fn told(names_max: usize, lanes: usize, flushes: &[Vec<Seen>]) -> Vec<BTreeMap<u8, Vec<u8>>> {
        let mut names = KnownNames::new(names_max);
        let hasher = RandomState::default();
        let mut recorders: Vec<_> =
            (0..lanes).map(|_| Recorder::within(1000, usize::MAX, lanes, hasher.clone())).collect();
        let tell = |sends: &Vec<Seen>| {
            for (number, (id, name, seen)) in sends.iter().enumerate() {
                let name = name.map_or(String::new(), |name| "n".repeat(usize::from(name) + 1));
                recorders[number % lanes].record(0, &send(&id.to_string(), &name), *seen);
            }
            let mut cuts: Vec<_> = recorders.iter_mut().map(Recorder::cut).collect();
            let mut cut = cuts.remove(0);
            for other in &cuts {
                cut.merge(other);
            }
            names.settle(&mut cut);
            let ids = sends.iter().map(|(id, _, _)| *id).collect::<Vec<_>>();
            let of = |id: &u8| {
                let is_it = |number: &usize| {
                    tags::id_of(cut.series(*number).key, Dimension::Campaign) == id.to_string().as_bytes()
                };
                (0..cut.len())
                    .find(is_it)
                    .map(|number| (*id, cut.series(number).attributes.names[1].to_vec()))
            };
            ids.iter().filter_map(of).collect()
        };
        flushes.iter().map(tell).collect()
    }

    proptest! {
        /// An id has the newest name seen so far; of two that are as new it has one of them.
        #[test]
        fn an_id_has_its_newest_name(flushes in flushes(), lanes in 1usize..4) {
            let mut newest: BTreeMap<u8, (u64, Vec<usize>)> = BTreeMap::new();
            for (sends, told) in flushes.iter().zip(told(10_000, lanes, &flushes)) {
                for (id, name, seen) in sends {
                    let Some(name) = name.map(|name| usize::from(name) + 1) else { continue };
                    let known = newest.entry(*id).or_default();
                    if known.0 < *seen {
                        *known = (*seen, Vec::new());
                    }
                    if known.0 == *seen {
                        known.1.push(name);
                    }
                }
                for (id, name) in told {
                    match newest.get(&id) {
                        Some((_, names)) => prop_assert!(names.contains(&name.len())),
                        None => prop_assert!(name.is_empty()),
                    }
                }
            }
        }

        /// However little is remembered, an id has no name that it never had.
        #[test]
        fn what_is_forgotten_is_not_mistaken(flushes in flushes(), names_max in 1usize..40, lanes in 1usize..4) {
            let had = |id: u8, length: usize| {
                let sends = flushes.iter().flatten();
                let mut names = sends.filter(|(of, _, _)| *of == id).filter_map(|(_, name, _)| *name);
                names.any(|name| usize::from(name) + 1 == length)
            };
            for (id, name) in told(names_max, lanes, &flushes).into_iter().flatten() {
                prop_assert!(name.is_empty() || had(id, name.len()), "{id}: {}", name.len());
            }
        }
    }
}
