//! The forwarder's own metrics in Datadog: drops, the queue, the duration of flushes. So no Agent is needed to learn of lost
//! sends.

use std::collections::BTreeMap;
use std::fmt;

use super::{ForwarderPoint, version_tag};
use datadog_points::payload::VALUE_MAX;
use event_lanes::stats::{Books, DropReason, OTHERS};

/// Sends dropped since the last flush, by `connection` and `reason`.
pub const SENDS_DROPPED: &str = "braze.forwarder.sends_dropped";
/// Events in the queue that are not acknowledged; in Kafka messages, in buckets objects.
pub const QUEUE_DEPTH: &str = "braze.forwarder.queue_depth";
/// Those of them that wait: they are not taken to be counted yet.
pub const QUEUE_WAITING: &str = "braze.forwarder.queue_waiting";
/// Messages behind what is committed, where events wait in Kafka.
pub const CONSUMER_LAG: &str = "braze.forwarder.kafka_consumer_lag";
/// How many seconds the oldest object that waits is behind the newest, where events wait in buckets.
pub const STORAGE_LAG: &str = "braze.forwarder.storage_lag_seconds";
/// Sends counted whose request has no outcome yet.
pub const SENDS_PENDING: &str = "braze.forwarder.sends_pending";
/// The mean time from a cut to its last outcome, over the flushes that ended since the last point.
pub const FLUSH_MILLISECONDS: &str = "braze.forwarder.flush_milliseconds";

/// Whether events can be taken: 1, else 0.
pub const READY: &str = "braze.forwarder.ready";
/// Whether the configuration, or files of the push port, were refused when they were read last: 1, else 0.
pub const RELOAD_REFUSED: &str = "braze.forwarder.config_reload_refused";
/// Connections whose configuration is wrong: those left out, and those with their old form.
pub const CONNECTIONS_REFUSED: &str = "braze.forwarder.connections_refused";

/// How many pairs of connection and reason a flush reports by themselves; the others are added up by reason.
const DROPS_MAX: usize = 100;

/// The state of the process outside the pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessState {
    /// Events in the queue that are not acknowledged; in buckets, objects.
    pub queue_depth: u64,
    /// Those of them that are not taken to be counted yet.
    pub queue_waiting: u64,
    /// Messages behind what is committed; `None`: no broker.
    pub consumer_lag: Option<u64>,
    /// Seconds behind the newest object; `None`: no bucket.
    pub storage_lag_seconds: Option<u64>,
    /// Whether events can be taken.
    pub is_ready: bool,
    /// Whether the configuration, or files of the push port, were refused when they were read last.
    pub is_reload_refused: bool,
    /// Connections whose configuration is wrong.
    pub connections_refused: u64,
}

/// Returns the state of the process.
pub struct ProcessProbe(Box<dyn Fn() -> ProcessState + Send + Sync>);

impl ProcessProbe {
    /// A probe that calls `state`, which must not block.
    pub fn new(state: impl Fn() -> ProcessState + Send + Sync + 'static) -> Self {
        Self(Box::new(state))
    }

    /// The state at this moment.
    pub fn state(&self) -> ProcessState {
        (self.0)()
    }
}

impl fmt::Debug for ProcessProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessProbe")
    }
}

/// The books at the last report, so that each drop is reported once.
#[derive(Debug)]
pub struct ForwarderMetrics {
    /// `None`: the metrics were off for a while, and drops meanwhile are not reported.
    told: Option<ReportedBooks>,
}

#[derive(Debug, Default)]
struct ReportedBooks {
    dropped: BTreeMap<(Box<str>, DropReason), u64>,
    flushes: u64,
    flush_seconds: f64,
}

impl ReportedBooks {
    fn of(books: &Books) -> Self {
        let dropped = books.connections.iter().flat_map(|(name, connection)| {
            connection.dropped.iter().map(|(reason, sends)| ((name.clone(), *reason), *sends))
        });
        let flushes = books.flush_seconds.buckets.iter().sum();
        Self { dropped: dropped.collect(), flushes, flush_seconds: books.flush_seconds.sum }
    }
}

impl Default for ForwarderMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ForwarderMetrics {
    /// No report yet: the first flush reports everything since the start of the process.
    pub fn new() -> Self {
        Self { told: Some(ReportedBooks::default()) }
    }

    /// This flush reports to no connection.
    pub fn pass(&mut self) {
        self.told = None;
    }

    /// The points of this flush; at most a hundred and a few.
    pub fn points(
        &mut self,
        books: &Books,
        state: Option<ProcessState>,
        static_tags: &[Box<str>],
        time: u64,
    ) -> Vec<ForwarderPoint> {
        let now = ReportedBooks::of(books);
        let before = self.told.take().unwrap_or_else(|| ReportedBooks::of(books));
        let mut points = Points { static_tags, time, all: Vec::new() };
        for ((name, reason), sends) in dropped_since(&before, &now) {
            let own = [format!("connection:{name}"), format!("reason:{}", reason.label())];
            points.add(SENDS_DROPPED, own, sends);
        }
        if let Some(process) = state {
            let ProcessState { queue_depth, queue_waiting, consumer_lag, storage_lag_seconds, .. } = process;
            let ProcessState { is_ready, is_reload_refused, connections_refused, .. } = process;
            points.level(READY, u64::from(is_ready));
            points.level(RELOAD_REFUSED, u64::from(is_reload_refused));
            points.level(CONNECTIONS_REFUSED, connections_refused);
            points.level(QUEUE_DEPTH, queue_depth);
            points.level(QUEUE_WAITING, queue_waiting);
            for (metric, lag) in [(CONSUMER_LAG, consumer_lag), (STORAGE_LAG, storage_lag_seconds)] {
                if let Some(lag) = lag {
                    points.level(metric, lag);
                }
            }
        }
        points.level(SENDS_PENDING, books.pending());
        if let Some(flushes) = now.flushes.checked_sub(before.flushes).filter(|flushes| *flushes > 0) {
            points.level(
                FLUSH_MILLISECONDS,
                mean_milliseconds(now.flush_seconds - before.flush_seconds, flushes),
            );
        }
        self.told = Some(now);
        points.all
    }
}

struct Points<'t> {
    static_tags: &'t [Box<str>],
    time: u64,
    all: Vec<ForwarderPoint>,
}

impl Points<'_> {
    fn add(&mut self, metric: &'static str, own: impl IntoIterator<Item = String>, value: u64) {
        let own = own.into_iter().chain([version_tag()]);
        self.all.push(ForwarderPoint::new(metric, self.static_tags, own, self.time, value));
    }

    /// A gauge. A value above the largest of one point would become several, none of which is the gauge's.
    fn level(&mut self, metric: &'static str, value: u64) {
        self.add(metric, [], value.min(VALUE_MAX));
    }
}

type Dropped = ((Box<str>, DropReason), u64);

/// Sends dropped between two states, the most first; beyond the limit, the others are added up by reason.
fn dropped_since(before: &ReportedBooks, now: &ReportedBooks) -> Vec<Dropped> {
    let since = |(key, sends): (&(Box<str>, DropReason), &u64)| {
        let sends = sends.saturating_sub(before.dropped.get(key).copied().unwrap_or_default());
        (sends > 0).then(|| (key.clone(), sends))
    };
    let mut dropped: Vec<Dropped> = now.dropped.iter().filter_map(since).collect();
    dropped.sort_by_key(|(_, sends)| std::cmp::Reverse(*sends));
    let mut others = BTreeMap::new();
    for ((_, reason), sends) in dropped.drain(dropped.len().min(DROPS_MAX)..) {
        *others.entry(reason).or_default() += sends;
    }
    dropped.extend(others.into_iter().map(|(reason, sends)| ((OTHERS.into(), reason), sends)));
    dropped
}

fn mean_milliseconds(seconds: f64, flushes: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "there are not 2^52 flushes")]
    let mean = (seconds.max(0.0) / flushes as f64).min(1e6);
    u64::try_from(std::time::Duration::from_secs_f64(mean).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::PREFIX;
    use super::*;
    use datadog_points::outcome::FailureReason;
    use event_lanes::stats::{Stats, Tally};

    fn drop_sends(stats: &Stats, name: &str, sends: u64) {
        let counted = vec![(name.into(), sends)];
        stats.book(&Tally { received: sends, counted, ..Tally::default() });
        assert!(stats.book_outcome(name, sends, Some(DropReason::Failed(FailureReason::Timeout)), "", 0));
    }

    /// Values by metric and tags, without the version.
    fn told(metrics: &mut ForwarderMetrics, stats: &Stats, process: Option<ProcessState>) -> Vec<String> {
        let points = metrics.points(&stats.snapshot(), process, &["env:test".into()], 7);
        assert!(points.iter().all(|point| point.time == 7 && point.metric.starts_with(PREFIX)));
        let version = format!(" version:{}", env!("CARGO_PKG_VERSION"));
        points.iter().map(|point| point.to_string().replace(&version, "").replace(PREFIX, "")).collect()
    }

    #[test]
    fn each_drop_is_told_once_and_what_waits_each_time() {
        let (stats, mut metrics) = (Stats::new(), ForwarderMetrics::new());
        drop_sends(&stats, "acme", 3);
        stats.book_flush(Duration::from_millis(250));
        let process = Some(ProcessState {
            queue_depth: 9,
            queue_waiting: 5,
            consumer_lag: Some(4),
            storage_lag_seconds: Some(70),
            is_ready: true,
            is_reload_refused: true,
            connections_refused: 2,
        });
        assert_eq!(
            told(&mut metrics, &stats, process),
            [
                "sends_dropped 3  connection:acme env:test reason:timeout",
                "ready 1  env:test",
                "config_reload_refused 1  env:test",
                "connections_refused 2  env:test",
                "queue_depth 9  env:test",
                "queue_waiting 5  env:test",
                "kafka_consumer_lag 4  env:test",
                "storage_lag_seconds 70  env:test",
                "sends_pending 0  env:test",
                "flush_milliseconds 250  env:test"
            ]
        );
        assert_eq!(told(&mut metrics, &stats, None), ["sends_pending 0  env:test"]);
        drop_sends(&stats, "acme", 2);
        assert_eq!(
            told(&mut metrics, &stats, None)[0],
            "sends_dropped 2  connection:acme env:test reason:timeout"
        );
    }

    #[test]
    fn what_happened_while_nobody_wanted_to_know_is_not_told_as_if_it_happened_now() {
        let (stats, mut metrics) = (Stats::new(), ForwarderMetrics::new());
        metrics.pass();
        drop_sends(&stats, "acme", 3);
        assert_eq!(told(&mut metrics, &stats, None), ["sends_pending 0  env:test"]);
        drop_sends(&stats, "acme", 1);
        assert_eq!(told(&mut metrics, &stats, None).len(), 2);
    }

    #[test]
    fn many_connections_that_drop_make_a_bounded_number_of_points_and_no_send_is_left_out() {
        let (stats, mut metrics) = (Stats::new(), ForwarderMetrics::new());
        (0..500).for_each(|number| drop_sends(&stats, &format!("c{number}"), 1 + number));
        let points = metrics.points(&stats.snapshot(), None, &[], 7);
        assert_eq!(points.len(), DROPS_MAX + 2, "with the others and what is pending");
        assert_eq!(points[0].value, 500);
        assert!(points[DROPS_MAX].tags.contains(&"connection:_others".into()), "{:?}", points[DROPS_MAX]);
        let sum: u64 =
            points.iter().filter(|point| point.metric == SENDS_DROPPED).map(|point| point.value).sum();
        assert_eq!(sum, (1..=500).sum::<u64>());
    }

    #[test]
    fn a_level_stays_one_value() {
        let mut metrics = ForwarderMetrics::new();
        let process = Some(ProcessState { queue_depth: u64::MAX, ..ProcessState::default() });
        let points = metrics.points(&Stats::new().snapshot(), process, &[], 7);
        let depth = points.iter().find(|point| point.metric == QUEUE_DEPTH).map(|point| point.value);
        assert_eq!(depth, Some(VALUE_MAX));
    }
}
