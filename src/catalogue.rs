//! Recent sends, for people: each series with its last send and its outcome, each campaign and Canvas step with its last
//! hour.
//!
//! It stands beside the flow. The flush thread fills it once per flush from the merged cut; a single send costs it nothing,
//! and nothing waits for it: the pipeline puts outcomes into a separate list. It is not saved: it knows the sends since the
//! start. It hands sends by day on to a [`SendHistory`], which is saved.
//!
//! Everything in it is bounded, see [`CatalogueLimits`]. When it is full, the series of the oldest flush makes room, and of
//! one flush the one with the fewest sends.

mod campaigns;
mod history;
mod index;
mod query;
pub mod trend;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use admin_api::{BusyCampaign, BusySeries};

use self::index::{SearchIndex, SeriesPlace};
pub use self::query::Query;
use self::trend::Trend;
use crate::stats::DropReason;
use send_counts::aggregate::Aggregator;
use send_history::{FlushedSends, SendHistory};

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueLimits {
    /// Series.
    pub series_max: usize,
    /// Bytes of their keys and tags.
    pub bytes_max: usize,
    /// Busiest campaigns, and as many busiest Canvas steps.
    pub busiest_max: usize,
    /// Results of a search.
    pub results_max: usize,
}

impl Default for CatalogueLimits {
    /// 50,000 series, at a kilobyte each with their tags and their campaign's hour: 50 MB, and of a flush's time 0.35 µs
    /// each. No setting: with more series than that, people look for one in use, and those are kept. Tags can be six times
    /// as long as usual; the limit in bytes bounds that.
    fn default() -> Self {
        Self { series_max: 50_000, bytes_max: 32 << 20, busiest_max: 20, results_max: 50 }
    }
}

/// How many series are updated under one lock, while a search waits. That is about a millisecond.
const SERIES_AT_ONCE: usize = 4_096;

/// The outcome of the last request with a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastOutcome {
    /// `None`: Datadog accepted it.
    pub dropped: Option<DropReason>,
    /// When, in Unix seconds.
    pub at: u64,
}

/// A series that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHit {
    /// The connection's name.
    pub connection: String,
    /// The tags as they were sent.
    pub tags: Vec<String>,
    /// The sends since the start, or since it was remembered.
    pub sends: u64,
    /// The bucket of its last send, in Unix seconds.
    pub last_send: u64,
    /// The outcome of the last request with it; `None`: none yet.
    pub outcome: Option<LastOutcome>,
    /// When Datadog last accepted it, in Unix seconds.
    pub accepted_at: Option<u64>,
    /// The last hour of its campaign or Canvas step.
    pub trend: Option<Trend>,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchHits {
    /// The best of it.
    pub found: Vec<SearchHit>,
    /// How many series match.
    pub matches: usize,
    /// How many series were looked at.
    pub remembered: usize,
    /// Series of the last flush that there was no room for.
    pub left_out: usize,
}

/// The busiest, each list from the busiest on.
#[derive(Debug, Clone, Default)]
pub struct BusiestLately {
    /// Campaigns, with their last hour.
    pub campaigns: Vec<(BusyCampaign, Trend)>,
    /// Steps of a Canvas, with theirs.
    pub steps: Vec<(BusyCampaign, Trend)>,
    /// Series, in the last flush that had sends.
    pub series: Vec<BusySeries>,
}

/// Recent sends. Filled by one thread, read by any.
#[derive(Debug)]
pub struct Catalogue {
    limits: CatalogueLimits,
    index: Mutex<SearchIndex>,
    /// Not in `index`, so that settling never waits for noting.
    outcomes: Mutex<Vec<(Tracked, LastOutcome)>>,
    busiest: Mutex<Arc<BusiestLately>>,
    /// `None`: none is kept.
    history: OnceLock<SendHistory>,
}

/// The places of a cut's series in the index, by number.
#[derive(Debug)]
pub struct NotedSeries {
    places: Vec<Option<SeriesPlace>>,
    flushed: Option<Arc<FlushedSends>>,
}

/// The series of one request. It travels with the request and comes back with its outcome, see [`Catalogue::settle`];
/// without an outcome it is dropped with the request.
#[derive(Debug)]
pub struct Tracked {
    places: Vec<SeriesPlace>,
    /// The flush and the numbers of its series, for the history.
    flushed: Option<(Arc<FlushedSends>, Vec<u32>)>,
}

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFate {
    /// The outcome of the sends in it; of all sends, if none was left to send.
    pub outcome: LastOutcome,
    /// Sends that were left out of it as older than Datadog takes.
    pub late: u64,
    /// Sends that were left out as too far ahead.
    pub early: u64,
}

impl NotedSeries {
    /// The series with these numbers, which are in one request.
    pub fn track(&self, numbers: &[u32]) -> Tracked {
        Tracked {
            places: numbers.iter().filter_map(|number| self.places.get(*number as usize).copied()?).collect(),
            flushed: self.flushed.as_ref().map(|flushed| (Arc::clone(flushed), numbers.to_vec())),
        }
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Self::new(CatalogueLimits::default())
    }
}

impl Catalogue {
    /// An empty one.
    pub fn new(limits: CatalogueLimits) -> Self {
        let index = Mutex::new(SearchIndex::new(limits));
        let (outcomes, busiest, history) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Self { limits, index, outcomes, busiest, history }
    }

    /// Sets the history for sends from now on. The first one stays.
    pub fn keep(&self, history: SendHistory) {
        // There is one history, set before the first flush.
        let _kept_before = self.history.set(history);
    }

    /// The history; `None`: none is kept.
    pub fn history(&self) -> Option<&SendHistory> {
        self.history.get()
    }

    /// Adds a merged cut at the Unix second `now`. `connections` are their names, by number.
    pub fn note<'n>(
        &self,
        cut: &Aggregator,
        connections: impl Iterator<Item = &'n str>,
        now: u64,
    ) -> NotedSeries {
        let connections: Vec<Box<str>> = connections.map(Into::into).collect();
        let history = self.history.get().filter(|_| !cut.is_empty());
        let flushed = history.and_then(|history| history.note(history::flushed(cut, connections.clone())));
        self.settled().begin(cut.layout(), connections);
        let mut noted = NotedSeries { places: vec![None; cut.len()], flushed };
        let mut unknown: Vec<(u64, usize)> = Vec::new();
        for range in chunks(cut.len()) {
            let mut index = lock(&self.index);
            for number in range {
                let series = cut.series(number);
                noted.places[number] = index.renew(cut.layout(), &series, now);
                if noted.places[number].is_none() {
                    unknown.push((series.sends(), number));
                }
            }
        }
        self.take_in(cut, unknown, &mut noted, now);
        let mut busiest = lock(&self.index).busiest(now);
        let mut told = lock(&self.busiest);
        if cut.is_empty() {
            // A flush of heartbeats alone leaves the list of busiest series.
            busiest.series.clone_from(&told.series);
        }
        *told = Arc::new(busiest);
        drop(told);
        noted
    }

    /// Notes the outcome of a request.
    pub fn settle(&self, mut request: Tracked, landing: RequestFate) {
        let RequestFate { outcome, late, early } = landing;
        if let (Some(history), Some((flushed, series))) = (self.history.get(), request.flushed.take()) {
            history.land(&flushed, series, outcome.dropped.map(DropReason::label), late, early);
        }
        lock(&self.outcomes).push((request, outcome));
    }

    /// Searches the tags of every series for all words of `query`. It may wait for a flush, and takes some milliseconds
    /// itself: call it on a thread that may block.
    pub fn search(&self, query: &str) -> SearchHits {
        match Query::new(query) {
            Some(query) => self.settled().search(&query, self.limits.results_max),
            None => SearchHits::default(),
        }
    }

    /// The busiest, as of the last flush.
    pub fn busiest(&self) -> Arc<BusiestLately> {
        Arc::clone(&lock(&self.busiest))
    }

    /// Adds the new series of a cut, the busiest first, while there is room or others can leave.
    fn take_in(&self, cut: &Aggregator, mut unknown: Vec<(u64, usize)>, noted: &mut NotedSeries, now: u64) {
        if unknown.is_empty() {
            return;
        }
        unknown.sort_unstable_by(|a, b| b.cmp(a));
        let mut leavers = None;
        for range in chunks(unknown.len()) {
            let mut known = lock(&self.index);
            for at in range {
                let (sends, number) = unknown[at];
                while !known.has_room() {
                    let leavers = leavers.get_or_insert_with(|| known.leavers());
                    match leavers.pop() {
                        Some(leaver) if known.leaves(&leaver, sends) => known.remove(&leaver),
                        // The following ones have fewer sends still.
                        _ => return known.leave_out(unknown.len() - at),
                    }
                }
                noted.places[number] = known.add(cut.layout(), &cut.series(number), now);
            }
        }
    }

    /// The index, with all known outcomes applied.
    fn settled(&self) -> MutexGuard<'_, SearchIndex> {
        let outcomes = std::mem::take(&mut *lock(&self.outcomes));
        let mut index = lock(&self.index);
        for (request, outcome) in outcomes {
            for place in request.places {
                index.settle(place, outcome);
            }
        }
        index
    }
}

/// The greatest of these, the greatest first.
fn greatest<T: Ord>(mut all: Vec<T>, greatest_max: usize) -> Vec<T> {
    if all.len() > greatest_max {
        all.select_nth_unstable_by(greatest_max, |a, b| b.cmp(a));
        all.truncate(greatest_max);
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    all
}

fn chunks(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(SERIES_AT_ONCE).map(move |start| start..length.min(start + SERIES_AT_ONCE))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic a series may be missing, nothing else.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {

    use datadog_points::outcome::FailureReason;
    use foldhash::fast::RandomState;
    use proptest::prelude::*;

    use super::*;
    use braze_events::{FIELDS, Field, SendEvent};
    use send_counts::aggregate::tags::{Layout, Names, Tag, TagSettings};
    use send_counts::route::ConnectionId;

    const NOW: u64 = 1_800_000_000;

    /// The fields of an event.
    type Fields<'f> = &'f [(Field, &'f str)];

    /// So many sends of events with these fields, in the bucket that starts at a Unix second.
    fn cut(layout: &Arc<Layout>, sends: &[(Fields<'_>, u64, u64)]) -> Aggregator {
        let settings = send_counts::testing::aggregate_settings(1_000_000);
        let mut cut = Aggregator::new(Arc::clone(layout), &settings, RandomState::default());
        for (given, count, bucket) in sends {
            let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
            for (field, value) in *given {
                fields[*field as usize] = value.as_bytes();
            }
            let event = SendEvent { event_type: 0, id: b"id", time: None, fields };
            for _ in 0..*count {
                cut.record(ConnectionId(0), &event, "email", *bucket, *bucket);
            }
        }
        cut
    }

    fn layout(static_tags: &[&str]) -> Arc<Layout> {
        let static_tags = static_tags.iter().map(|tag| (*tag).into()).collect();
        Arc::new(Layout::new(&TagSettings { include: Tag::ALL.to_vec(), static_tags, names: Names::Latest }))
    }

    fn note(catalogue: &Catalogue, cut: &Aggregator, now: u64) -> NotedSeries {
        catalogue.note(cut, ["acme"].into_iter(), now)
    }

    fn landing(outcome: LastOutcome) -> RequestFate {
        RequestFate { outcome, late: 0, early: 0 }
    }

    const WEEKLY: &[(Field, &str)] = &[
        (Field::CampaignId, "8a3f"),
        (Field::CampaignName, "Weekly newsletter"),
        (Field::AppGroupId, "emea"),
    ];
    const STEP: &[(Field, &str)] = &[
        (Field::CanvasId, "c1"),
        (Field::CanvasName, "Onboarding"),
        (Field::CanvasStepId, "s1"),
        (Field::CanvasStepName, "Welcome"),
    ];

    #[test]
    fn a_campaign_is_found_by_name_and_id_with_its_tags_and_its_last_send() {
        let catalogue = Catalogue::default();
        let cut =
            cut(&layout(&["env:prod"]), &[(WEEKLY, 3, NOW - 20), (WEEKLY, 2, NOW - 10), (STEP, 1, NOW)]);
        note(&catalogue, &cut, NOW);
        for query in ["weekly", "8a3f", "newsletter EMEA"] {
            let search = catalogue.search(query);
            assert_eq!((search.matches, search.remembered), (1, 2), "{query}");
            let found = &search.found[0];
            assert_eq!((found.sends, found.last_send), (5, NOW - 10));
            assert_eq!((&*found.connection, found.outcome), ("acme", None));
            assert!(found.tags.contains(&"campaign_name:Weekly newsletter".to_owned()), "{:?}", found.tags);
            assert!(found.tags.contains(&"env:prod".to_owned()), "{:?}", found.tags);
            assert_eq!(found.trend.as_ref().unwrap().sum(NOW), 5);
        }
        assert_eq!(catalogue.search("monthly").found, []);
        assert_eq!(catalogue.search(" "), SearchHits::default());
    }

    #[test]
    fn a_line_feed_in_a_name_parts_no_tags() {
        let catalogue = Catalogue::default();
        let two_lines: Fields<'_> =
            &[(Field::CampaignId, "8a3f"), (Field::CampaignName, "Weekly\ncampaign_id:8a40")];
        note(&catalogue, &cut(&layout(&[]), &[(two_lines, 1, NOW)]), NOW);
        let tags = catalogue.search("weekly").found[0].tags.clone();
        assert_eq!(tags, ["campaign_id:8a3f", "campaign_name:Weekly campaign_id:8a40", "channel:email"]);
    }

    #[test]
    fn each_series_has_the_outcome_of_the_request_that_it_was_in() {
        let catalogue = Catalogue::default();
        let cut = cut(&layout(&[]), &[(WEEKLY, 1, NOW), (STEP, 1, NOW)]);
        let noted = note(&catalogue, &cut, NOW);
        let (first, second) = (noted.track(&[0]), noted.track(&[1]));
        let dropped = LastOutcome { dropped: Some(DropReason::Failed(FailureReason::Http403)), at: NOW + 1 };
        let accepted = LastOutcome { dropped: None, at: NOW + 2 };
        catalogue.settle(second, landing(dropped));
        catalogue.settle(first, landing(accepted));
        let of = |query| catalogue.search(query).found[0].clone();
        assert_eq!((of("weekly").outcome, of("weekly").accepted_at), (Some(accepted), Some(NOW + 2)));
        assert_eq!((of("welcome").outcome, of("welcome").accepted_at), (Some(dropped), None));
        let again = noted.track(&[0]);
        let dropped = LastOutcome { dropped: Some(DropReason::Failed(FailureReason::Timeout)), at: NOW + 9 };
        catalogue.settle(again, landing(dropped));
        assert_eq!((of("weekly").outcome, of("weekly").accepted_at), (Some(dropped), Some(NOW + 2)));
    }

    #[test]
    fn the_busiest_are_told_by_kind_with_their_newest_names() {
        let catalogue = Catalogue::default();
        let layout = layout(&[]);
        let other = &[(Field::CampaignId, "1"), (Field::CampaignName, "Other")];
        note(&catalogue, &cut(&layout, &[(WEEKLY, 3, NOW), (other, 9, NOW), (STEP, 2, NOW)]), NOW);
        let renamed = &[
            (Field::CampaignId, "8a3f"),
            (Field::CampaignName, "Monthly newsletter"),
            (Field::AppGroupId, "emea"),
        ];
        note(&catalogue, &cut(&layout, &[(renamed, 30, NOW + 60)]), NOW + 60);
        let busiest = catalogue.busiest();
        let all = busiest.steps.iter().chain(&busiest.campaigns);
        let told: Vec<(&str, &str, u64)> =
            all.map(|(busy, trend)| (&*busy.name, &*busy.canvas, trend.sum(NOW + 60))).collect();
        assert_eq!(told, [("Welcome", "Onboarding", 2), ("Monthly newsletter", "", 33), ("Other", "", 9)]);
        assert_eq!(catalogue.search("weekly").matches, 0);
        assert_eq!(catalogue.search("monthly").found[0].sends, 33);
    }

    #[test]
    fn the_busiest_series_are_those_of_the_last_flush_that_had_sends() {
        let catalogue = Catalogue::default();
        let layout = layout(&[]);
        let told = || -> Vec<(String, u64)> {
            let of = |busy: &BusySeries| (format!("{}: {}", busy.connection, busy.tags[0]), busy.sends);
            catalogue.busiest().series.iter().map(of).collect()
        };
        let other = &[(Field::CampaignId, "1")];
        note(&catalogue, &cut(&layout, &[(other, 90, NOW)]), NOW);
        note(&catalogue, &cut(&layout, &[(STEP, 2, NOW), (other, 9, NOW)]), NOW);
        let expected = [("acme: campaign_id:1".to_owned(), 9), ("acme: canvas_id:c1".to_owned(), 2)];
        assert_eq!(told(), expected);
        note(&catalogue, &cut(&layout, &[]), NOW);
        assert_eq!(told(), expected, "heartbeats alone leave what people look at");
    }

    #[test]
    fn other_fixed_tags_are_told_after_the_next_flush() {
        let catalogue = Catalogue::default();
        let first = layout(&["env:test"]);
        note(&catalogue, &cut(&first, &[(WEEKLY, 1, NOW)]), NOW);
        note(&catalogue, &cut(&layout(&["env:prod"]), &[(WEEKLY, 1, NOW)]), NOW);
        assert_eq!((catalogue.search("env:test").matches, catalogue.search("env:prod").matches), (0, 1));
    }

    #[test]
    fn what_was_sent_longest_ago_makes_room_and_then_what_had_the_fewest_sends() {
        let catalogue = Catalogue::new(CatalogueLimits { series_max: 2, ..CatalogueLimits::default() });
        let layout = layout(&[]);
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|id| [(Field::CampaignId, id)]);
        let known = |id: &str| catalogue.search(&format!("campaign_id:{id}")).matches == 1;
        note(&catalogue, &cut(&layout, &[(&a, 9, NOW)]), NOW);
        let noted = note(&catalogue, &cut(&layout, &[(&b, 2, NOW)]), NOW);
        let late = noted.track(&[0]);
        note(&catalogue, &cut(&layout, &[(&c, 1, NOW), (&b, 2, NOW)]), NOW);
        assert!(!known("a") && known("b") && known("c"));
        note(&catalogue, &cut(&layout, &[(&c, 1, NOW), (&b, 2, NOW), (&d, 5, NOW), (&a, 1, NOW)]), NOW);
        assert!(known("b") && known("d"));
        let search = catalogue.search("campaign_id");
        assert_eq!((search.matches, search.remembered, search.left_out), (2, 2, 1));
        note(&catalogue, &cut(&layout, &[(&a, 1, NOW), (&c, 1, NOW)]), NOW);
        catalogue.settle(late, landing(LastOutcome { dropped: None, at: NOW }));
        assert!(catalogue.search("campaign_id").found.iter().all(|found| found.outcome.is_none()));
    }

    #[test]
    fn long_tags_count_against_the_bytes() {
        let catalogue = Catalogue::new(CatalogueLimits { bytes_max: 10_000, ..CatalogueLimits::default() });
        let names: Vec<String> = (0..500).map(|number| format!("{number:0>180}")).collect();
        let fields: Vec<[(Field, &str); 1]> =
            names.iter().map(|name| [(Field::CampaignName, &**name)]).collect();
        let sends: Vec<_> = fields.iter().map(|fields| (&fields[..], 1, NOW)).collect();
        note(&catalogue, &cut(&layout(&[]), &sends), NOW);
        let search = catalogue.search("campaign_name");
        assert!(search.remembered < 40 && search.remembered > 10, "{}", search.remembered);
        assert_eq!(search.left_out, 500 - search.remembered);
    }

    proptest! {
        /// However series come and go, no more are remembered than there is room for, and each of them is found with
        /// the sum of what was sent since it came.
        #[test]
        fn it_stays_within_its_room(
            flushes in prop::collection::vec(prop::collection::vec((0u8..40, 1u64..9), 0..30), 1..12),
            series_max in 1usize..30,
        ) {
            let catalogue = Catalogue::new(CatalogueLimits { series_max, ..CatalogueLimits::default() });
            let layout = layout(&[]);
            for (at, flush) in flushes.iter().enumerate() {
                let ids: Vec<String> = flush.iter().map(|(id, _)| format!("id-{id}-")).collect();
                let fields: Vec<[(Field, &str); 1]> = ids.iter().map(|id| [(Field::CampaignId, &**id)]).collect();
                let sends: Vec<_> =
                    fields.iter().zip(flush).map(|(fields, (_, count))| (&fields[..], *count, NOW)).collect();
                let cut = cut(&layout, &sends);
                let noted = note(&catalogue, &cut, NOW + at as u64);
                let search = catalogue.search("campaign_id");
                prop_assert!(search.remembered <= series_max);
                prop_assert_eq!(search.matches, search.remembered);
                let placed = noted.places.iter().flatten().count();
                prop_assert_eq!(placed + search.left_out, cut.len());
                let busiest = catalogue.busiest();
                prop_assert!(busiest.campaigns.len() + busiest.steps.len() <= search.remembered);
            }
        }
    }
}
