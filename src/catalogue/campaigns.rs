//! Campaigns and Canvas steps: the groups of their series, and their sends in the last hour.

use std::borrow::Cow;
use std::hash::BuildHasher as _;

use admin_api::BusyCampaign;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::trend::Trend;
use send_counts::aggregate::Series;
use send_counts::aggregate::tags::{self, Dimension};

/// The dimensions of a group, the narrower one first.
const KINDS: [Dimension; 2] = [Dimension::CanvasStep, Dimension::Campaign];

/// The busiest are chosen at a flush, and asked for until the next one, which may be an hour later. For those that are too long
/// ago then, so many times as many are chosen; and the busiest of the last minute, which are told the longest.
const SPARE: usize = 10;
const QUIET_SECONDS: u64 = 59 * 60;

/// Where the id begins in a key: behind the connection, whether there is no id, and whether it is a step's.
const ID: usize = 6;

/// When a series gave a name: the flush, its newest send in it, and its number; in this order the newest name wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameTime {
    pub(super) flush: u64,
    pub(super) newest: u32,
    pub(super) number: usize,
}

/// A campaign or a Canvas step.
#[derive(Debug)]
struct Campaign {
    hash: u64,
    key: Box<[u8]>,
    /// The dimension of its id and name.
    dimension: Dimension,
    /// The number of its connection.
    connection: usize,
    name: Box<str>,
    canvas: Box<str>,
    /// Since when it has its name, and its Canvas's.
    named: [NameTime; 2],
    /// How many series belong to it.
    series: u32,
    trend: Trend,
}

/// All groups that have a series. Each has a slot, which is reused when it is gone.
#[derive(Debug)]
pub(super) struct Campaigns {
    hasher: RandomState,
    by_key: HashTable<usize>,
    all: Slab<Campaign>,
    key: Vec<u8>,
}

impl Campaigns {
    pub(super) fn new() -> Self {
        let hasher = RandomState::default();
        Self { hasher, by_key: HashTable::new(), all: Slab::new(), key: Vec::new() }
    }

    /// Adds a series: returns the slot of its group, if it has one.
    pub(super) fn join(&mut self, series: &Series<'_>, named: NameTime, now: u64) -> Option<usize> {
        let dimension = dimension_of(series)?;
        self.key.clear();
        self.key.extend_from_slice(&tags::connection_of(series.key).0.to_le_bytes());
        let id = tags::id_of(series.key, dimension);
        self.key.extend_from_slice(&[u8::from(id.is_empty()), u8::from(dimension == Dimension::CanvasStep)]);
        self.key.extend_from_slice(id);
        if id.is_empty() {
            // What is known by its name alone is another one in another Canvas and app group.
            let canvas = if dimension == Dimension::CanvasStep { Dimension::Canvas } else { dimension };
            let values = [
                name_of(series, dimension),
                tags::id_of(series.key, canvas),
                name_of(series, canvas),
                tags::id_of(series.key, Dimension::AppGroup),
            ];
            for value in values {
                self.key.extend_from_slice(&value.len().to_le_bytes());
                self.key.extend_from_slice(value);
            }
        }
        let hash = self.hasher.hash_one(self.key.as_slice());
        let is_it = |slot: &usize| {
            self.all.get(*slot).is_some_and(|campaign| campaign.hash == hash && *campaign.key == *self.key)
        };
        if let Some(slot) = self.by_key.find(hash, is_it).copied() {
            if let Some(campaign) = self.all.get_mut(slot) {
                campaign.series += 1;
                campaign.rename(series, named);
            }
            return Some(slot);
        }
        let mut campaign = Campaign {
            hash,
            key: self.key.as_slice().into(),
            dimension,
            connection: tags::connection_of(series.key).index(),
            name: Box::default(),
            canvas: Box::default(),
            named: Default::default(),
            series: 1,
            trend: Trend::new(now),
        };
        campaign.rename(series, named);
        let slot = self.all.insert(campaign);
        let all = &self.all;
        self.by_key.insert_unique(hash, slot, |slot| all.get(*slot).map_or(0, |campaign| campaign.hash));
        Some(slot)
    }

    /// Removes a series from its group.
    pub(super) fn leave(&mut self, slot: usize) {
        let Some(campaign) = self.all.get_mut(slot) else { return };
        campaign.series -= 1;
        if campaign.series > 0 {
            return;
        }
        let gone = self.all.remove(slot);
        if let Ok(found) = self.by_key.find_entry(gone.hash, |known| *known == slot) {
            found.remove();
        }
    }

    /// Updates the names of a group by a series.
    pub(super) fn rename(&mut self, slot: usize, series: &Series<'_>, named: NameTime) {
        if let Some(campaign) = self.all.get_mut(slot) {
            campaign.rename(series, named);
        }
    }

    pub(super) fn add(&mut self, slot: usize, now: u64, sends: u64) {
        if let Some(campaign) = self.all.get_mut(slot) {
            campaign.trend.add(now, sends);
        }
    }

    pub(super) fn trend(&self, slot: usize) -> Option<Trend> {
        self.all.get(slot).map(|campaign| campaign.trend.clone())
    }

    /// The busiest of the last hour with this dimension, busiest first, and behind them those that will be while nothing is sent.
    pub(super) fn busiest(
        &self,
        dimension: Dimension,
        now: u64,
        busiest_max: usize,
        connections: &[Box<str>],
    ) -> Vec<(BusyCampaign, Trend)> {
        let mut busiest: Vec<usize> = Vec::new();
        for (quiet, greatest_max) in [(0, SPARE * busiest_max), (QUIET_SECONDS, busiest_max)] {
            let all = self.all.iter().filter(|(_, campaign)| campaign.dimension == dimension);
            let sums = all.map(|(slot, campaign)| (campaign.trend.sum(now + quiet), slot));
            for (_, slot) in super::greatest(sums.filter(|(sum, _)| *sum > 0).collect(), greatest_max) {
                if !busiest.contains(&slot) {
                    busiest.push(slot);
                }
            }
        }
        let busy = |campaign: &Campaign| {
            let connection = connections.get(campaign.connection).map(ToString::to_string);
            let busy = BusyCampaign {
                connection: connection.unwrap_or_default(),
                id: campaign.id().into(),
                name: campaign.name.to_string(),
                canvas: campaign.canvas.to_string(),
                ..BusyCampaign::default()
            };
            (busy, campaign.trend.clone())
        };
        busiest.into_iter().filter_map(|slot| self.all.get(slot).map(busy)).collect()
    }
}

impl Campaign {
    /// Takes the names of one of its series, unless they are older; an empty one says nothing.
    fn rename(&mut self, series: &Series<'_>, when: NameTime) {
        let names = [name_of(series, self.dimension), canvas_of(series, self.dimension)];
        let known = [&mut self.name, &mut self.canvas].into_iter().zip(&mut self.named);
        for ((known, since), name) in known.zip(names) {
            if name.is_empty() || when < *since {
                continue;
            }
            *since = when;
            if known.as_bytes() != name {
                *known = text_of(name);
            }
        }
    }

    /// Its id; empty if it has none.
    fn id(&self) -> Cow<'_, str> {
        match self.key.get(ID..) {
            Some(id) if self.key[ID - 2] == 0 => String::from_utf8_lossy(id),
            _ => Cow::Borrowed(""),
        }
    }
}

fn dimension_of(series: &Series<'_>) -> Option<Dimension> {
    let has = |dimension: &Dimension| {
        !tags::id_of(series.key, *dimension).is_empty() || !tags::name_of(series.key, *dimension).is_empty()
    };
    KINDS.into_iter().find(has)
}

/// The name, whether it is part of the key or stored beside it.
pub(super) fn name_of<'s>(series: &Series<'s>, dimension: Dimension) -> &'s [u8] {
    let in_key = tags::name_of(series.key, dimension);
    if in_key.is_empty() { series.attributes.names[dimension as usize] } else { in_key }
}

fn canvas_of<'s>(series: &Series<'s>, dimension: Dimension) -> &'s [u8] {
    if dimension == Dimension::CanvasStep { name_of(series, Dimension::Canvas) } else { b"" }
}

fn text_of(text: &[u8]) -> Box<str> {
    String::from_utf8_lossy(text).into()
}
