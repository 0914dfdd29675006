//! Campaigns and Canvas steps: what their series have in common, and how busy they were in the last hour.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::slots::{Slot, Slots};
use super::trend::Trend;
use super::{Busy, Kind};
use crate::aggregate::Series;
use crate::aggregate::tags;

/// The dimensions that make a subject, the narrower one first; see [`tags`].
const KINDS: [(usize, Kind); 2] = [(CANVAS_STEP, Kind::Step), (CAMPAIGN, Kind::Campaign)];
const CAMPAIGN: usize = 1;
const CANVAS: usize = 2;
const CANVAS_STEP: usize = 3;

#[derive(Debug)]
struct Subject {
    key: Box<[u8]>,
    kind: Kind,
    /// Its number.
    connection: usize,
    id: Box<str>,
    name: Box<str>,
    canvas: Box<str>,
    /// How many series are of it.
    series: u32,
    trend: Trend,
}

/// All that any series is of.
#[derive(Debug)]
pub(super) struct Subjects {
    by_key: HashMap<Box<[u8]>, Slot, RandomState>,
    all: Slots<Subject>,
    key: Vec<u8>,
}

impl Subjects {
    pub(super) fn new() -> Self {
        Self { by_key: HashMap::default(), all: Slots::new(), key: Vec::new() }
    }

    /// A new series: the subject that it is of, if it is of any.
    pub(super) fn join(&mut self, series: &Series<'_>, now: u64) -> Option<Slot> {
        let (kind, dimension) = kind_of(series)?;
        self.key.clear();
        self.key.extend_from_slice(&tags::connection_of(series.key).0.to_le_bytes());
        let id = tags::id_of(series.key, dimension);
        let (mark, value) = if id.is_empty() { (b'n', name_of(series, dimension)) } else { (b'i', id) };
        self.key.extend_from_slice(&[mark, u8::from(kind == Kind::Step)]);
        self.key.extend_from_slice(value);
        if let Some(slot) = self.by_key.get(self.key.as_slice()).copied() {
            if let Some(subject) = self.all.get_mut(slot) {
                subject.series += 1;
            }
            return Some(slot);
        }
        let key: Box<[u8]> = self.key.as_slice().into();
        let slot = self.all.insert(Subject {
            key: key.clone(),
            kind,
            connection: tags::connection_of(series.key).index(),
            id: shown(id),
            name: shown(name_of(series, dimension)),
            canvas: canvas_of(series, kind),
            series: 1,
            trend: Trend::new(now),
        });
        self.by_key.insert(key, slot);
        Some(slot)
    }

    /// A series of it is gone.
    pub(super) fn leave(&mut self, slot: Slot) {
        let Some(subject) = self.all.get_mut(slot) else { return };
        subject.series -= 1;
        if subject.series == 0
            && let Some(gone) = self.all.remove(slot)
        {
            self.by_key.remove(&gone.key);
        }
    }

    /// A series of it has new names.
    pub(super) fn rename(&mut self, slot: Slot, series: &Series<'_>) {
        let Some((kind, dimension)) = kind_of(series) else { return };
        if let Some(subject) = self.all.get_mut(slot) {
            subject.name = shown(name_of(series, dimension));
            subject.canvas = canvas_of(series, kind);
        }
    }

    pub(super) fn add(&mut self, slot: Slot, now: u64, sends: u64) {
        if let Some(subject) = self.all.get_mut(slot) {
            subject.trend.add(now, sends);
        }
    }

    pub(super) fn trend(&self, slot: Slot) -> Option<Trend> {
        self.all.get(slot).map(|subject| subject.trend.clone())
    }

    /// The busiest of the last hour, of each kind, busiest first.
    pub(super) fn busiest(&self, now: u64, each_max: usize, connections: &[Box<str>]) -> Vec<Busy> {
        let mut busiest = Vec::new();
        for (_, kind) in KINDS {
            let of_kind = self.all.iter().filter(|(_, subject)| subject.kind == kind);
            let mut ranked: Vec<(u64, Slot)> = of_kind
                .map(|(slot, subject)| (subject.trend.sum(now), slot))
                .filter(|(sum, _)| *sum > 0)
                .collect();
            if ranked.len() > each_max {
                ranked.select_nth_unstable_by(each_max, |a, b| b.cmp(a));
                ranked.truncate(each_max);
            }
            ranked.sort_unstable_by(|a, b| b.cmp(a));
            busiest.extend(ranked.into_iter().filter_map(|(_, slot)| self.all.get(slot)).map(|subject| {
                Busy {
                    kind,
                    connection: connections
                        .get(subject.connection)
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    id: subject.id.to_string(),
                    name: subject.name.to_string(),
                    canvas: subject.canvas.to_string(),
                    trend: subject.trend.clone(),
                }
            }));
        }
        busiest
    }
}

fn kind_of(series: &Series<'_>) -> Option<(Kind, usize)> {
    let has = |dimension| {
        !tags::id_of(series.key, dimension).is_empty() || !tags::name_of(series.key, dimension).is_empty()
    };
    KINDS.iter().find(|(dimension, _)| has(*dimension)).map(|(dimension, kind)| (*kind, *dimension))
}

/// The name, whether it is part of the key or goes with it.
fn name_of<'s>(series: &Series<'s>, dimension: usize) -> &'s [u8] {
    let in_key = tags::name_of(series.key, dimension);
    if in_key.is_empty() { series.attributes.names[dimension] } else { in_key }
}

fn canvas_of(series: &Series<'_>, kind: Kind) -> Box<str> {
    if kind == Kind::Step { shown(name_of(series, CANVAS)) } else { "".into() }
}

fn shown(text: &[u8]) -> Box<str> {
    String::from_utf8_lossy(text).into()
}
