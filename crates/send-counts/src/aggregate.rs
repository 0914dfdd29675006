//! Counts sends per series and time bucket.
//!
//! An [`Aggregator`] is a pure value: it is told the time, and what it counted is taken out whole by
//! [`Aggregator::cut`]. Each lane has one; the flush merges what the lanes have cut, so that a series makes
//! one point per bucket however many lanes counted it.
//!
//! Keys and names lie one behind the other in one arena, and the index holds 4 bytes a series, so that a
//! send of a known series allocates nothing and copies its key once, to hash and compare it.

mod merge;
mod named;
pub mod names;
pub mod prepared;
mod room;
pub mod tags;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use self::prepared::PreparedSends;
use self::room::SeriesRoom;
use self::tags::{Attributes, DIMENSIONS, Layout};
use crate::route::ConnectionId;
use braze_events::SendEvent;

/// How sends become counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateSettings {
    /// Which time a send is counted under.
    pub timestamp: Timestamp,
    /// What happens to a send outside Datadog's window.
    pub late: Late,
    /// The width of a time bucket, and how often counts are cut.
    pub flush_interval: Duration,
    /// How long a request may take: a point must still be inside Datadog's window when it arrives.
    pub flush_timeout: Duration,
    /// Per connection and flush; beyond it sends are counted under app group tags and `overflow:true`.
    pub series_max: usize,
    /// Of all connections together, in all lanes. When there are as many, a connection that has more than its share of
    /// them overflows, and the others go on, to twice as many at most.
    pub series_max_total: usize,
}

impl AggregateSettings {
    /// The width of a time bucket, which begins at a multiple of it: the buckets of all forwarders with the same interval are
    /// the same.
    pub fn bucket_seconds(&self) -> u64 {
        self.flush_interval.as_secs().max(1)
    }
}

/// Which time a send is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// The event's own, in buckets of the flush interval.
    Event,
    /// The moment it was counted.
    Arrival,
}

/// What happens to a send whose time is outside Datadog's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It is dropped, and booked as `late` or `early`.
    Drop,
    /// It is counted under the present moment.
    Restamp,
}

/// How many series are looked up together, so that the waits for memory overlap.
const GROUP: usize = 128;

/// The sends of one series in one time bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The Unix second the bucket starts at.
    pub bucket: u32,
    /// How many.
    pub sends: u64,
}

/// Where bytes lie in the arena.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    length: u16,
}

impl Span {
    /// What `arena` holds from `start` on; it holds less than 4 GiB: see [`SeriesRoom`].
    fn since(start: usize, arena: &[u8]) -> Self {
        let length = u16::try_from(arena.len() - start).unwrap_or(u16::MAX);
        Self { start: saturate(start as u64), length }
    }

    /// Writes `bytes` to its beginning, and returns where they lie; there must be room for them.
    #[inline]
    fn overwrite(self, arena: &mut [u8], bytes: &[u8]) -> Self {
        let start = self.start as usize;
        let end = start + bytes.len();
        arena[start..end].copy_from_slice(bytes);
        Self::since(start, &arena[..end])
    }

    fn of(self, arena: &[u8]) -> &[u8] {
        &arena[self.start as usize..self.start as usize + usize::from(self.length)]
    }
}

/// A name, when it was current, and how much room it has in the arena.
#[derive(Debug, Clone, Copy, Default)]
struct Name {
    span: Span,
    room: u16,
    seen: u32,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    key: Span,
    /// Where sends were counted last; nearly always the only one.
    point: Point,
    /// The other buckets.
    #[expect(clippy::box_collection, reason = "nearly always none: 8 bytes a series instead of 24")]
    more: Option<Box<Vec<Point>>>,
    names: [Name; DIMENSIONS],
}

/// Open counts.
#[derive(Debug)]
pub struct Aggregator {
    layout: Arc<Layout>,
    hasher: RandomState,
    index: HashTable<u32>,
    entries: Vec<Entry>,
    arena: Vec<u8>,
    room: SeriesRoom,
    /// The key of an overflow series at hand.
    overflow_key: Vec<u8>,
}

/// One series of a cut.
#[derive(Debug)]
pub struct Series<'a> {
    /// See [`tags`].
    pub key: &'a [u8],
    /// The newest names known for the ids in the key.
    pub attributes: Attributes<'a>,
    point: Point,
    more: &'a [Point],
}

impl Series<'_> {
    /// The points, oldest first, in `points`.
    pub fn points(&self, points: &mut Vec<Point>) {
        points.clear();
        points.push(self.point);
        points.extend_from_slice(self.more);
        points.sort_unstable();
    }

    /// The sends of all points.
    pub fn sends(&self) -> u64 {
        self.point.sends + self.more.iter().map(|point| point.sends).sum::<u64>()
    }
}

impl Aggregator {
    /// An empty one. Those that are to be merged must share `hasher`.
    pub fn new(layout: Arc<Layout>, settings: &AggregateSettings, hasher: RandomState) -> Self {
        Self {
            layout,
            hasher,
            index: HashTable::new(),
            entries: Vec::new(),
            arena: Vec::new(),
            room: SeriesRoom::new(settings),
            overflow_key: Vec::new(),
        }
    }

    /// Counts one send for `connection` in the bucket that starts at the Unix second `bucket`. `seen` is
    /// when the event's names were current, in Unix seconds.
    pub fn record(
        &mut self,
        connection: ConnectionId,
        event: &SendEvent<'_>,
        channel: &str,
        bucket: u64,
        seen: u64,
    ) {
        let mut prepared = PreparedSends::default();
        self.prepare(&mut prepared, connection, event, channel, bucket, seen);
        self.count(&prepared, 0);
    }

    /// Takes out everything counted so far, and is empty afterwards.
    #[must_use = "what is cut and not flushed is lost"]
    pub fn cut(&mut self) -> Aggregator {
        let empty = Self {
            layout: Arc::clone(&self.layout),
            hasher: self.hasher.clone(),
            // The next flush is likely to be as large as this one.
            index: HashTable::with_capacity(self.entries.len()),
            entries: Vec::with_capacity(self.entries.len()),
            arena: Vec::with_capacity(self.arena.len()),
            room: self.room.emptied(),
            overflow_key: Vec::new(),
        };
        std::mem::replace(self, empty)
    }

    /// Goes on with another layout. What was counted before must have been cut.
    pub fn lay_out(&mut self, layout: Arc<Layout>) {
        debug_assert!(self.is_empty(), "keys of two layouts");
        self.layout = layout;
        self.room.forget_before();
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How keys and tags are laid out.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The sends of all series.
    pub fn sends(&self) -> u64 {
        (0..self.len()).map(|number| self.series(number).sends()).sum()
    }

    /// A series by its number, which is below [`Aggregator::len`].
    pub fn series(&self, number: usize) -> Series<'_> {
        let entry = &self.entries[number];
        Series {
            key: self.bytes(entry.key),
            attributes: Attributes { names: entry.names.map(|name| self.bytes(name.span)) },
            point: entry.point,
            more: entry.more.as_deref().map_or(&[], Vec::as_slice),
        }
    }

    /// The numbers of the series by connection, in the order of the connections.
    pub fn by_connection(&self) -> Vec<(ConnectionId, Vec<u32>)> {
        let mut lists: Vec<Vec<u32>> = Vec::new();
        for (number, entry) in (0u32..).zip(&self.entries) {
            let connection = tags::connection_of(self.bytes(entry.key)).index();
            if lists.len() <= connection {
                lists.resize_with(connection + 1, Vec::new);
            }
            lists[connection].push(number);
        }
        (0u32..).map(ConnectionId).zip(lists).filter(|(_, list)| !list.is_empty()).collect()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        crate::hash(&self.hasher, key)
    }

    /// The entry that has the key.
    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<usize> {
        let is_it = |number: &u32| {
            let entry = &self.entries[*number as usize];
            entry.hash == hash && self.bytes(entry.key) == key
        };
        self.index.find(hash, is_it).map(|number| *number as usize)
    }

    /// Adds a point to the series with the key, or to the overflow series that takes it; returns its entry.
    #[inline]
    fn add(&mut self, key: &[u8], hash: u64, point: Point) -> usize {
        if let Some(entry) = self.find(key, hash) {
            add(&mut self.entries[entry], point);
            return entry;
        }
        if self.has_room(tags::connection_of(key), tags::is_overflow(key)) {
            return self.insert(key, hash, point);
        }
        self.add_beyond(key, point)
    }

    /// Adds a point to the overflow series of the app group, or to the last one, which always has room.
    #[inline(never)]
    fn add_beyond(&mut self, key: &[u8], point: Point) -> usize {
        let connection = tags::connection_of(key);
        let mut overflow_key = std::mem::take(&mut self.overflow_key);
        let with_app_group = !tags::is_overflow(key) && {
            Layout::overflow_of(&mut overflow_key, key, true);
            let known = self.find(&overflow_key, self.hash(&overflow_key)).is_some();
            known || self.has_room(connection, true)
        };
        if !with_app_group {
            Layout::overflow_of(&mut overflow_key, key, false);
        }
        let hash = self.hash(&overflow_key);
        let entry = match self.find(&overflow_key, hash) {
            Some(entry) => {
                add(&mut self.entries[entry], point);
                entry
            }
            None => self.insert(&overflow_key, hash, point),
        };
        self.overflow_key = overflow_key;
        entry
    }

    fn has_room(&self, connection: ConnectionId, overflow: bool) -> bool {
        self.room.has_room(connection, overflow, self.arena.len())
    }

    fn insert(&mut self, key: &[u8], hash: u64, point: Point) -> usize {
        self.room.take(tags::connection_of(key), tags::is_overflow(key), key.len());
        let number = self.entries.len();
        let key = store(&mut self.arena, key);
        self.entries.push(Entry { hash, key, point, more: None, names: Default::default() });
        let entries = &self.entries;
        self.index.insert_unique(hash, saturate(number as u64), |number| entries[*number as usize].hash);
        number
    }

    fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.arena)
    }
}

/// Adds to the bucket of a series. The bucket at hand comes first, for the next send is likely its own.
#[inline]
fn add(entry: &mut Entry, point: Point) {
    if entry.point.bucket == point.bucket {
        entry.point.sends += point.sends;
        return;
    }
    let more = entry.more.get_or_insert_default();
    match more.iter_mut().find(|known| known.bucket == point.bucket) {
        Some(known) => {
            known.sends += point.sends;
            std::mem::swap(known, &mut entry.point);
        }
        None => more.push(std::mem::replace(&mut entry.point, point)),
    }
}

fn store(arena: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = arena.len();
    if !bytes.is_empty() {
        arena.extend_from_slice(bytes);
    }
    Span::since(start, arena)
}

fn saturate(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::room::OVERFLOW_APP_GROUPS_MAX;
    use super::tags::{Names, Tag, TagSettings, TagText};
    use super::*;
    use braze_events::{FIELDS, Field};

    pub(super) fn send<'e>(campaign: &'e str, name: &'e str) -> SendEvent<'e> {
        let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
        fields[Field::AppGroupId as usize] = b"group";
        fields[Field::CampaignId as usize] = campaign.as_bytes();
        fields[Field::CampaignName as usize] = name.as_bytes();
        SendEvent { event_type: 0, id: b"id", time: None, fields }
    }

    /// An aggregator with every tag on.
    pub(super) struct Recorder(Aggregator);

    impl Recorder {
        pub(super) fn new(series_max: usize) -> Self {
            Self::like(series_max, RandomState::default())
        }

        fn like(series_max: usize, hasher: RandomState) -> Self {
            Self::within(series_max, usize::MAX, 1, hasher)
        }

        /// One of so many lanes, with a bound for all connections.
        pub(super) fn within(
            series_max: usize,
            series_max_total: usize,
            lanes: usize,
            hasher: RandomState,
        ) -> Self {
            let tags =
                TagSettings { include: Tag::ALL.to_vec(), static_tags: Vec::new(), names: Names::Latest };
            let settings = AggregateSettings {
                timestamp: Timestamp::Event,
                late: Late::Drop,
                flush_interval: Duration::from_secs(10),
                flush_timeout: Duration::from_secs(5),
                series_max,
                series_max_total,
            };
            Self(Aggregator::new(Arc::new(Layout::new(&tags)), &settings, hasher).one_of(lanes))
        }

        pub(super) fn record(&mut self, connection: u32, event: &SendEvent<'_>, seen: u64) {
            self.0.record(ConnectionId(connection), event, "email", seen - seen % 10, seen);
        }

        pub(super) fn cut(&mut self) -> Aggregator {
            self.0.cut()
        }
    }

    /// Sends by connection, tags and bucket.
    pub(super) fn counts(cut: &Aggregator) -> BTreeMap<(u32, String, u32), u64> {
        let mut counts = BTreeMap::new();
        let (mut tags, mut points): (Vec<TagText<'_>>, _) = (Vec::new(), Vec::new());
        for number in 0..cut.len() {
            let series = cut.series(number);
            // Names are beside the point where they do not tell series apart, and part of it where they must not be.
            let attributes =
                if tags::is_overflow(series.key) { series.attributes } else { Attributes::default() };
            cut.layout().tags(&mut tags, series.key, &attributes);
            let text: Vec<String> = tags
                .iter()
                .map(|tag| String::from_utf8_lossy(&[tag.key, tag.value].concat()).into_owned())
                .collect();
            series.points(&mut points);
            for point in &points {
                let key = (tags::connection_of(series.key).0, text.join(","), point.bucket);
                assert!(counts.insert(key, point.sends).is_none(), "one point per series and bucket");
            }
        }
        counts
    }

    #[test]
    fn long_series_beyond_their_room_go_to_the_overflow_series_and_no_send_is_lost() {
        let mut recorder = Recorder::new(100);
        let filler = "é".repeat(170);
        for number in 0..1000 {
            recorder.record(0, &send(&format!("{number}{filler}"), &filler), 10);
        }
        let cut = recorder.cut();
        assert_eq!(cut.sends(), 1000);
        assert!(cut.arena.len() < 100 * 1024 + 4096, "{}", cut.arena.len());
        assert!(cut.len() > 90, "{}", cut.len());
    }

    #[test]
    fn a_name_that_grows_letter_by_letter_does_not_fill_the_arena() {
        let mut recorder = Recorder::new(100);
        for letters in 1..180 {
            recorder.record(0, &send("c", &"n".repeat(letters)), letters as u64);
        }
        let cut = recorder.cut();
        assert_eq!(cut.series(0).attributes.names[1].len(), 179);
        assert!(cut.arena.len() < 1024, "{}", cut.arena.len());
    }

    #[test]
    fn sends_add_up_per_series_and_bucket() {
        let mut recorder = Recorder::new(10);
        for second in [100, 105, 111, 103, 112] {
            recorder.record(0, &send("c1", "Name"), second);
        }
        let cut = recorder.cut();
        assert_eq!(cut.len(), 1);
        let mut points = Vec::new();
        cut.series(0).points(&mut points);
        assert_eq!(points, [Point { bucket: 100, sends: 3 }, Point { bucket: 110, sends: 2 }]);
        assert!(recorder.cut().is_empty());
    }

    #[test]
    fn beyond_the_bound_sends_are_counted_under_the_overflow_series() {
        let mut recorder = Recorder::new(2);
        for campaign in ["c1", "c2", "c3", "c4", "c1"] {
            recorder.record(0, &send(campaign, ""), 100);
        }
        let counts = counts(&recorder.cut());
        assert_eq!(counts[&(0, "app_group_id:group,overflow:true".into(), 100)], 2);
        assert_eq!(counts[&(0, "app_group_id:group,campaign_id:c1,channel:email".into(), 100)], 2);
        assert_eq!(counts.len(), 3);
    }

    #[test]
    fn a_million_app_groups_do_not_make_a_million_overflow_series() {
        let mut recorder = Recorder::new(5);
        let mut other = Recorder::like(5, recorder.0.hasher.clone());
        let sends = 3 * OVERFLOW_APP_GROUPS_MAX as u64;
        for number in 0..sends {
            let mut event = send("c", "");
            let group = format!("group-{number}");
            event.fields[Field::AppGroupId as usize] = group.as_bytes();
            recorder.record(0, &event, 100);
            let group = format!("other-{number}");
            event.fields[Field::AppGroupId as usize] = group.as_bytes();
            other.record(0, &event, 100);
        }
        let mut cut = recorder.cut();
        assert_eq!(cut.len(), OVERFLOW_APP_GROUPS_MAX + 6);
        cut.merge(&other.cut());
        assert_eq!(cut.len(), OVERFLOW_APP_GROUPS_MAX + 6);
        assert_eq!(cut.sends(), 2 * sends);
    }

    #[test]
    fn names_that_come_and_go_do_not_make_memory_grow() {
        let mut recorder = Recorder::new(10);
        for round in 0..10_000u64 {
            recorder.record(
                0,
                &send("c1", ["One name", "Another name"][usize::from(round.is_multiple_of(2))]),
                round,
            );
        }
        assert!(recorder.0.arena.len() < 200);
    }

    proptest! {
        /// Sends are conserved: over any interleaving of lanes, cuts and merges, each send is in exactly one
        /// point, under the tags and the bucket that a plain map gives it.
        #[test]
        fn sends_are_conserved_over_record_cut_and_merge(
            sends in prop::collection::vec((0u32..3, 0u8..20, 0u32..4, 0usize..3, prop::bool::weighted(0.02)), 0..300),
        ) {
            let hasher = RandomState::default();
            let mut lanes: Vec<Recorder> = (0..3).map(|_| Recorder::like(1000, hasher.clone())).collect();
            let mut expected: BTreeMap<(u32, String, u32), u64> = BTreeMap::new();
            let mut actual: BTreeMap<(u32, String, u32), u64> = BTreeMap::new();
            let mut flush = |lanes: &mut Vec<Recorder>| {
                let mut merged = lanes[0].cut();
                lanes[1..].iter_mut().for_each(|lane| merged.merge(&lane.cut()));
                for (key, sends) in counts(&merged) { *actual.entry(key).or_default() += sends; }
            };
            for (connection, campaign, bucket, lane, cut) in sends {
                let id = format!("c{campaign}");
                lanes[lane].record(connection, &send(&id, "Name"), u64::from(100 + bucket * 10));
                let tags = format!("app_group_id:group,campaign_id:{id},channel:email");
                *expected.entry((connection, tags, 100 + bucket * 10)).or_default() += 1;
                if cut { flush(&mut lanes); }
            }
            flush(&mut lanes);
            prop_assert_eq!(actual, expected);
        }

        /// The bound on the number of series holds for the merged cut, and no send is lost to it.
        #[test]
        fn the_bound_holds_over_lanes_and_loses_nothing(
            sends in prop::collection::vec((0u8..30, any::<bool>()), 0..200), series_max in 1usize..20,
        ) {
            let mut one = Recorder::new(series_max);
            let mut two = Recorder::like(series_max, one.0.hasher.clone());
            for (campaign, first) in &sends {
                let lane = if *first { &mut one } else { &mut two };
                lane.record(0, &send(&format!("c{campaign}"), "Name"), 100);
            }
            let mut merged = one.cut();
            merged.merge(&two.cut());
            for (_, tags, _) in counts(&merged).keys().filter(|(_, tags, _)| tags.contains("overflow")) {
                prop_assert_eq!(tags, "app_group_id:group,overflow:true");
            }
            prop_assert!(merged.len() <= series_max + 1);
            prop_assert_eq!(merged.sends(), sends.len() as u64);
        }
    }
}
