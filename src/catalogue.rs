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

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use admin_api::{BusyCampaign, BusySeries};

use self::index::{SearchIndex, SeriesPlace};
pub use self::query::Query;
use self::trend::Trend;
use event_lanes::stats::DropReason;
use send_counts::aggregate::Aggregator;
use send_history::{FlushedSends, SendHistory};

/// How many of the busiest are told, of each kind.
pub const BUSIEST_MAX: usize = 20;

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
        Self { series_max: 50_000, bytes_max: 32 << 20, busiest_max: BUSIEST_MAX, results_max: 50 }
    }
}

/// How many series are updated under one lock, while a search waits. That is about a millisecond.
const SERIES_AT_ONCE: usize = 4_096;

/// The outcome of the last request with a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastOutcome {
    /// `None`: Datadog accepted it, or a dry run has printed it.
    pub dropped: Option<DropReason>,
    /// Whether its connection was a dry run then.
    pub is_dry_run: bool,
    /// Whether its connection has another key or URL since.
    pub is_retargeted: bool,
    /// When, in Unix seconds.
    pub at: u64,
}

impl LastOutcome {
    /// Whether a dry run has printed it, and nothing was sent.
    pub const fn is_printed(&self) -> bool {
        self.is_dry_run && self.dropped.is_none()
    }
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

/// The busiest, each list from the busiest on; behind the busiest of the last flush are those that will be while nothing is sent.
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
    news: Mutex<Vec<News>>,
    busiest: Mutex<Arc<BusiestLately>>,
    /// `None`: none is kept.
    history: OnceLock<SendHistory>,
}

/// What the index does not know yet; it is told in this order.
#[derive(Debug)]
enum News {
    Settled(Tracked, LastOutcome),
    /// Connections, by name, that have another key or URL.
    Retargeted(BTreeSet<Box<str>>),
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
        let (news, busiest, history) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Self { limits, index, news, busiest, history }
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
                noted.places[number] = index.renew(cut.layout(), (number, &series), now);
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
            let dropped = outcome.dropped.map(DropReason::label);
            let dropped = if outcome.is_printed() { Some(send_history::PRINTED) } else { dropped };
            history.land(&flushed, series, dropped, late, early);
        }
        lock(&self.news).push(News::Settled(request, outcome));
    }

    /// Notes that these connections have another key or URL: what the outcomes so far say, they say of the one before.
    pub fn retarget<'n>(&self, connections: impl Iterator<Item = &'n str>) {
        let connections: BTreeSet<Box<str>> = connections.map(Into::into).collect();
        let mut news = lock(&self.news);
        match news.last_mut() {
            // However many reloads there are without a flush, each name is in it once.
            Some(News::Retargeted(known)) => known.extend(connections),
            _ if connections.is_empty() => {}
            _ => news.push(News::Retargeted(connections)),
        }
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
    fn take_in(&self, cut: &Aggregator, unknown: Vec<(u64, usize)>, noted: &mut NotedSeries, now: u64) {
        if unknown.is_empty() {
            return;
        }
        let total = unknown.len();
        // Of no flush more than fit altogether have a chance.
        let unknown = greatest(unknown, self.limits.series_max);
        let mut leavers = None;
        for range in chunks(unknown.len()) {
            let mut known = lock(&self.index);
            for at in range {
                let (sends, number) = unknown[at];
                while !known.has_room() {
                    let leavers = leavers.get_or_insert_with(|| known.leavers());
                    match leavers.pop() {
                        Some(Reverse(leaver)) if known.leaves(&leaver, sends) => known.remove(&leaver),
                        // The following ones have fewer sends still.
                        _ => return known.leave_out(total - at),
                    }
                }
                noted.places[number] = known.add(cut.layout(), (number, &cut.series(number)), now);
            }
        }
        lock(&self.index).leave_out(total - unknown.len());
    }

    /// The index, with all known outcomes applied.
    fn settled(&self) -> MutexGuard<'_, SearchIndex> {
        let news = std::mem::take(&mut *lock(&self.news));
        let mut index = lock(&self.index);
        for one in news {
            match one {
                News::Settled(request, outcome) => {
                    request.places.into_iter().for_each(|place| index.settle(place, outcome));
                }
                News::Retargeted(connections) => index.retarget(&connections),
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
mod tests;
