//! The remembered series, and which of them make room for others.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use admin_api::BusySeries;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use slab::Slab;

use super::campaigns::{Campaigns, NameTime};
use super::query::{Query, normalize};
use super::{BusiestLately, CatalogueLimits, LastOutcome, SearchHit, SearchHits, greatest};
use send_counts::aggregate::tags::{self, Dimension, Layout, TagText};
use send_counts::aggregate::window::AHEAD_SECONDS_MAX;
use send_counts::aggregate::{Point, Series};

/// A series has seldom more tags.
const TAGS_USUAL: usize = 16;

/// A reference to a series; its slot may have been reused meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeriesPlace {
    slot: usize,
    serial: u32,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    serial: u32,
    /// See [`tags`].
    key: Box<[u8]>,
    /// The tags as they were sent, parted by line feeds.
    text: Box<str>,
    /// Hash of the names that `text` was rendered from.
    text_hash: u64,
    campaign: Option<usize>,
    /// The last flush that it was in.
    flush: u64,
    flush_sends: u64,
    sends: u64,
    last_send: u64,
    outcome: Option<LastOutcome>,
    accepted_at: Option<u64>,
}

/// Eviction order: least recent flush first, then fewest sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leaver {
    flush: u64,
    sends: u64,
    slot: usize,
}

/// The index of series.
#[derive(Debug)]
pub(super) struct SearchIndex {
    limits: CatalogueLimits,
    hasher: RandomState,
    by_key: HashTable<usize>,
    entries: Slab<Entry>,
    /// The bytes of all keys and texts.
    bytes: usize,
    campaigns: Campaigns,
    /// By number.
    connections: Vec<Box<str>>,
    serial: u32,
    /// The number of the current flush.
    flush: u64,
    /// Series of the last flush that found no room.
    left_out: usize,
    points: Vec<Point>,
    layout: Option<Arc<Layout>>,
    /// How many layouts there have been.
    layouts: u64,
}

impl SearchIndex {
    pub(super) fn new(limits: CatalogueLimits) -> Self {
        Self {
            limits,
            hasher: RandomState::default(),
            by_key: HashTable::new(),
            entries: Slab::new(),
            bytes: 0,
            campaigns: Campaigns::new(),
            connections: Vec::new(),
            serial: 0,
            flush: 0,
            left_out: 0,
            points: Vec::new(),
            layout: None,
            layouts: 0,
        }
    }

    /// Begins a flush: the layout of its tags, and its connections by number.
    pub(super) fn begin(&mut self, layout: &Arc<Layout>, connections: Vec<Box<str>>) {
        if self.layout.as_ref() != Some(layout) {
            self.layout = Some(Arc::clone(layout));
            self.layouts += 1;
        }
        self.flush += 1;
        self.left_out = 0;
        self.connections = connections;
    }

    /// Adds a flush's sends to a known series, by its number in the flush; `None`: it is unknown.
    pub(super) fn renew(
        &mut self,
        layout: &Layout,
        (number, series): (usize, &Series<'_>),
        now: u64,
    ) -> Option<SeriesPlace> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = self.hash(series.key);
        let entries = &self.entries;
        let is_it = |slot: &usize| {
            entries.get(*slot).is_some_and(|entry| entry.hash == hash && *entry.key == *series.key)
        };
        let slot = *self.by_key.find(hash, is_it)?;
        let text_hash = self.text_hash(series);
        let newest = self.newest(series);
        let entry = self.entries.get_mut(slot)?;
        let has_changed = entry.text_hash != text_hash;
        if has_changed {
            self.bytes -= entry.text.len();
            entry.text = text(layout, series);
            entry.text_hash = text_hash;
            self.bytes += entry.text.len();
        }
        // As sent, each name of an id has series of its own, which stay as they are.
        if let Some(campaign) = entry.campaign
            && (has_changed || !layout.names_by_id(Dimension::Campaign))
        {
            let named = NameTime { flush: self.flush, newest, number };
            self.campaigns.rename(campaign, series, named);
        }
        self.count(slot, series, newest, now)
    }

    /// Adds a new series, whether there is room or not.
    pub(super) fn add(
        &mut self,
        layout: &Layout,
        (number, series): (usize, &Series<'_>),
        now: u64,
    ) -> Option<SeriesPlace> {
        let hash = self.hash(series.key);
        let newest = self.newest(series);
        let named = NameTime { flush: self.flush, newest, number };
        self.serial = self.serial.wrapping_add(1);
        let entry = Entry {
            hash,
            serial: self.serial,
            key: series.key.into(),
            text: text(layout, series),
            text_hash: self.text_hash(series),
            campaign: self.campaigns.join(series, named, now),
            flush: 0,
            flush_sends: 0,
            sends: 0,
            last_send: 0,
            outcome: None,
            accepted_at: None,
        };
        self.bytes += entry.key.len() + entry.text.len();
        let slot = self.entries.insert(entry);
        let entries = &self.entries;
        self.by_key.insert_unique(hash, slot, |slot| entries.get(*slot).map_or(0, |entry| entry.hash));
        self.count(slot, series, newest, now)
    }

    /// Whether another series fits.
    pub(super) fn has_room(&self) -> bool {
        self.entries.len() < self.limits.series_max && self.bytes < self.limits.bytes_max
    }

    /// Candidates for eviction, the greatest first: the least recent flush, and of one flush the fewest sends.
    pub(super) fn leavers(&self) -> BinaryHeap<Reverse<Leaver>> {
        let leaver =
            |(slot, entry): (usize, &Entry)| Leaver { flush: entry.flush, sends: entry.flush_sends, slot };
        self.entries.iter().map(leaver).map(Reverse).collect()
    }

    /// Whether a candidate makes room for a new series with this many sends: if it is of an earlier flush, or has fewer
    /// sends.
    pub(super) fn leaves(&self, leaver: &Leaver, sends: u64) -> bool {
        leaver.flush < self.flush || leaver.sends < sends
    }

    /// Forgets a series.
    pub(super) fn remove(&mut self, leaver: &Leaver) {
        let Some(gone) = self.entries.try_remove(leaver.slot) else { return };
        if let Ok(found) = self.by_key.find_entry(gone.hash, |slot| *slot == leaver.slot) {
            found.remove();
        }
        self.bytes -= gone.key.len() + gone.text.len();
        if let Some(campaign) = gone.campaign {
            self.campaigns.leave(campaign);
        }
    }

    /// Notes how many series of the flush found no room.
    pub(super) fn leave_out(&mut self, series: usize) {
        self.left_out = series;
    }

    /// Notes the outcome of the sends of a series.
    pub(super) fn settle(&mut self, place: SeriesPlace, outcome: LastOutcome) {
        let Some(entry) = self.entries.get_mut(place.slot).filter(|entry| entry.serial == place.serial)
        else {
            return;
        };
        if outcome.dropped.is_none() && !outcome.is_printed() {
            entry.accepted_at = Some(outcome.at);
        }
        entry.outcome = Some(outcome);
    }

    /// Marks the outcomes of these connections' series as those of another key or URL.
    pub(super) fn retarget(&mut self, names: &BTreeSet<Box<str>>) {
        let is_meant: Vec<bool> = self.connections.iter().map(|name| names.contains(name)).collect();
        for (_, entry) in &mut self.entries {
            let number = tags::connection_of(&entry.key).index();
            if let Some(outcome) = &mut entry.outcome
                && is_meant.get(number) == Some(&true)
            {
                outcome.is_retargeted = true;
            }
        }
    }

    /// The best matches: exact values first, then the latest sends.
    pub(super) fn search(&self, query: &Query, results_max: usize) -> SearchHits {
        let (mut ranked, mut normal) = (Vec::new(), String::new());
        for (slot, entry) in &self.entries {
            normal.clear();
            normalize(&mut normal, &entry.text);
            let rank = query.rank(&normal);
            if rank > 0 {
                ranked.push((rank, entry.last_send, entry.sends, slot));
            }
        }
        let matches = ranked.len();
        let best = greatest(ranked, results_max);
        let found = best.into_iter().filter_map(|(_, _, _, slot)| self.found(slot)).collect();
        SearchHits { found, matches, remembered: self.entries.len(), left_out: self.left_out }
    }

    /// The busiest of the last hour, of each kind.
    pub(super) fn busiest(&self, now: u64) -> BusiestLately {
        let of =
            |dimension| self.campaigns.busiest(dimension, now, self.limits.busiest_max, &self.connections);
        BusiestLately {
            campaigns: of(Dimension::Campaign),
            steps: of(Dimension::CanvasStep),
            series: self.busiest_series(),
        }
    }

    /// The busiest series of the current flush.
    fn busiest_series(&self) -> Vec<BusySeries> {
        let of_flush = self.entries.iter().filter(|(_, entry)| entry.flush == self.flush);
        let sends = of_flush.map(|(slot, entry)| (entry.flush_sends, slot)).collect();
        let series = |(sends, slot)| {
            let SearchHit { connection, tags, .. } = self.found(slot)?;
            Some(BusySeries { connection, tags, sends })
        };
        greatest(sends, self.limits.busiest_max).into_iter().filter_map(series).collect()
    }

    fn found(&self, slot: usize) -> Option<SearchHit> {
        let entry = self.entries.get(slot)?;
        let connection = self.connections.get(tags::connection_of(&entry.key).index());
        Some(SearchHit {
            connection: connection.map(ToString::to_string).unwrap_or_default(),
            tags: entry.text.split('\n').filter(|tag| !tag.is_empty()).map(ToOwned::to_owned).collect(),
            sends: entry.sends,
            last_send: entry.last_send,
            outcome: entry.outcome,
            accepted_at: entry.accepted_at,
            trend: entry.campaign.and_then(|campaign| self.campaigns.trend(campaign)),
        })
    }

    fn count(&mut self, slot: usize, series: &Series<'_>, newest: u32, now: u64) -> Option<SeriesPlace> {
        let sends = series.sends();
        let entry = self.entries.get_mut(slot)?;
        entry.flush = self.flush;
        entry.flush_sends = sends;
        entry.sends += sends;
        // A later one is of a clock that was ahead.
        let known = if entry.last_send > now + AHEAD_SECONDS_MAX { 0 } else { entry.last_send };
        entry.last_send = known.max(newest.into());
        let (campaign, serial) = (entry.campaign, entry.serial);
        if let Some(campaign) = campaign {
            self.campaigns.add(campaign, now, sends);
        }
        Some(SeriesPlace { slot, serial })
    }

    /// The time of the newest sends of a series.
    fn newest(&mut self, series: &Series<'_>) -> u32 {
        series.points(&mut self.points);
        self.points.last().map_or(0, |point| point.bucket)
    }

    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Names and fixed tags are not part of a key, and may have changed.
    fn text_hash(&self, series: &Series<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(self.layouts);
        for name in series.attributes.names {
            hasher.write(name);
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }
}

/// The tags of a series, separated by line feeds; a line feed inside a tag becomes a space.
fn text(layout: &Layout, series: &Series<'_>) -> Box<str> {
    let mut tags: Vec<TagText<'_>> = Vec::with_capacity(TAGS_USUAL);
    layout.tags(&mut tags, series.key, &series.attributes);
    let bytes: usize = tags.iter().map(|tag| tag.key.len() + tag.value.len() + 1).sum();
    let mut text = String::with_capacity(bytes.saturating_sub(1));
    for (number, tag) in tags.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        push(&mut text, tag.key);
        push(&mut text, tag.value);
    }
    text.into()
}

fn push(text: &mut String, bytes: &[u8]) {
    for (number, piece) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if number > 0 {
            text.push(' ');
        }
        text.push_str(&tags::lossy(piece));
    }
}
