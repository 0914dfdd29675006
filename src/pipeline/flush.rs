//! The flush thread: merges what the lanes have cut, gives series their names, and encodes them. It has a
//! thread of its own so that neither lanes nor submissions wait for it.

use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::names::NameTracker;
use super::submit::InFlight;
use crate::catalogue::{Catalogue, NotedSeries};
use crate::connection::Connection;
use crate::forwarder_points::ForwarderPoint;
use crate::forwarder_points::heartbeat;
use crate::forwarder_points::last_send_age::LastSendAges;
use crate::forwarder_points::metrics::{ForwarderMetrics, ProcessState};
use crate::ledger::ClaimId;
use crate::pipeline::encode::encode;
use crate::pipeline::preview::preview;
use datadog_points::payload::{Payload, PayloadLimits};
use event_lanes::clock::Clock;
use event_lanes::stats::Stats;
use send_counts::aggregate::Aggregator;
use send_counts::route::ConnectionId;

/// How many cuts may wait to be encoded. More would only take memory: the next cut includes later counts.
const JOBS_MAX: usize = 2;

/// How many encoded payloads may wait to be submitted.
const ENCODED_MAX: usize = 16;

/// One cut, on its way from the lanes.
pub(super) struct FlushJob {
    pub(super) claim: ClaimId,
    pub(super) cuts: Vec<oneshot::Receiver<Aggregator>>,
    /// Nothing was delivered since the last one: there are only heartbeats.
    pub(super) is_idle: bool,
    /// The time of its heartbeats and own points, in Unix seconds: the first of the bucket in which it was cut.
    pub(super) time: u64,
    /// The state of the process, for a connection with own metrics.
    pub(super) state: Option<ProcessState>,
    /// By number.
    pub(super) connections: Vec<Arc<Connection>>,
}

/// The results of a cut, piece by piece.
pub(super) enum Encoded {
    /// A request body.
    Payload { flight: InFlight, payload: Payload },
    /// The output of a dry run.
    Preview { flight: InFlight, text: String },
    /// All pieces were handed out.
    Done { claim: ClaimId, series: usize },
    /// A lane did not hand over its cut.
    LaneLost,
}

/// The flush thread's two ends. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Flusher {
    jobs: mpsc::Sender<FlushJob>,
    encoded: mpsc::Receiver<Encoded>,
}

impl Flusher {
    /// Starts the thread, with the connections as they are at the start.
    pub(super) fn start(
        connections: Vec<Arc<Connection>>,
        stats: Arc<Stats>,
        catalogue: Arc<Catalogue>,
        clock: Clock,
    ) -> std::io::Result<Self> {
        let (jobs, received) = mpsc::channel(JOBS_MAX);
        let (done, encoded) = mpsc::channel(ENCODED_MAX);
        let thread = FlushThread {
            names: NameTracker::new(connections),
            metrics: ForwarderMetrics::default(),
            ages: LastSendAges::default(),
            stats,
            catalogue,
            clock,
            done,
        };
        thread::Builder::new().name("flush".into()).spawn(move || thread.run(received))?;
        Ok(Self { jobs, encoded })
    }

    /// Whether another cut fits now.
    pub(super) fn has_room(&self) -> bool {
        self.jobs.capacity() > 0
    }

    /// Hands over a cut; there must be room.
    pub(super) fn flush(&self, job: FlushJob) -> Result<(), FlushThreadLost> {
        self.jobs.try_send(job).map_err(|_closed| FlushThreadLost)
    }

    /// The next piece. Cancel-safe.
    pub(super) async fn encoded(&mut self) -> Option<Encoded> {
        self.encoded.recv().await
    }
}

/// The flush thread has ended, which it does only by a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("the flush thread has died; this is a defect of braze-datadog, please report it with the log above")]
pub struct FlushThreadLost;

/// The pipeline has gone.
struct Gone;

struct FlushThread {
    names: NameTracker,
    metrics: ForwarderMetrics,
    ages: LastSendAges,
    stats: Arc<Stats>,
    catalogue: Arc<Catalogue>,
    clock: Clock,
    done: mpsc::Sender<Encoded>,
}

impl FlushThread {
    fn run(mut self, mut jobs: mpsc::Receiver<FlushJob>) {
        while let Some(job) = jobs.blocking_recv() {
            // A pipeline that is gone needs no more: its deliveries stay in the queue.
            if self.flush(job).is_err() {
                return;
            }
        }
    }

    fn flush(&mut self, job: FlushJob) -> Result<(), Gone> {
        let FlushJob { claim, cuts, is_idle, time, state, connections } = job;
        let Some(mut merged) = merge(cuts) else { return self.send(Encoded::LaneLost) };
        self.names.settle(&mut merged, &connections);
        let connection_names = connections.iter().map(|connection| &*connection.name);
        let noted = self.catalogue.note(&merged, connection_names, self.clock.unix_seconds());
        let by_connection = merged.by_connection();
        if !is_idle {
            self.book(&by_connection, &connections);
        }
        let own = self.own_points(&connections, merged.layout().static_tags(), state, time);
        for (connection, numbers) in batches(by_connection, &connections) {
            let own = if connection.forwarder_metrics { &own[..] } else { &[] };
            Batch { claim, merged: &merged, noted: &noted, numbers: &numbers, connection, time, own }
                .encode(|encoded| self.send(encoded))?;
        }
        self.names.report_collapsing(&self.stats, &connections);
        self.send(Encoded::Done { claim, series: merged.len() })
    }

    /// Books how many series each connection has.
    fn book(&self, by_connection: &[(ConnectionId, Vec<u32>)], connections: &[Arc<Connection>]) {
        let sizes = by_connection.iter();
        let sizes = sizes.filter_map(|(id, numbers)| Some((connections.get(id.index())?, numbers.len())));
        self.stats.set_series(sizes.map(|(connection, series)| (&*connection.name, series as u64)));
    }

    /// The forwarder's own metrics, if a connection gets them.
    fn own_points(
        &mut self,
        connections: &[Arc<Connection>],
        static_tags: &[Box<str>],
        state: Option<ProcessState>,
        time: u64,
    ) -> Vec<ForwarderPoint> {
        let Some(to) = connections.iter().find(|connection| connection.forwarder_metrics) else {
            self.metrics.pass();
            return Vec::new();
        };
        let mut points = self.metrics.points(&self.stats.snapshot(), state, static_tags, time);
        if let (true, Some(history)) = (to.campaign_last_send_age, self.catalogue.history()) {
            points.extend(self.ages.points(history, static_tags, time));
        }
        points
    }

    fn send(&self, encoded: Encoded) -> Result<(), Gone> {
        self.done.blocking_send(encoded).map_err(|_closed| Gone)
    }
}

/// The connections with something in a flush: series, a heartbeat, or own metrics.
fn batches(
    by_connection: Vec<(ConnectionId, Vec<u32>)>,
    connections: &[Arc<Connection>],
) -> impl Iterator<Item = (&Arc<Connection>, Vec<u32>)> {
    let mut series = by_connection.into_iter().peekable();
    connections.iter().enumerate().filter_map(move |(number, connection)| {
        let numbers = series.next_if(|(id, _)| id.index() == number).map(|(_, numbers)| numbers);
        let is_due = connection.heartbeat || connection.forwarder_metrics || numbers.is_some();
        is_due.then(|| (connection, numbers.unwrap_or_default()))
    })
}

/// The part of one connection.
struct Batch<'f> {
    claim: ClaimId,
    merged: &'f Aggregator,
    noted: &'f NotedSeries,
    numbers: &'f [u32],
    connection: &'f Arc<Connection>,
    time: u64,
    own: &'f [ForwarderPoint],
}

impl Batch<'_> {
    /// The request with these series, on its way.
    fn flight(&self, series: &[u32], sends: u64, own: usize) -> InFlight {
        let (connection, tracked) = (Arc::clone(self.connection), self.noted.track(series));
        InFlight { claim: self.claim, connection, sends, own: own as u64, tracked }
    }

    fn encode(&self, send: impl Fn(Encoded) -> Result<(), Gone>) -> Result<(), Gone> {
        let Batch { merged, numbers, connection, time, own, .. } = *self;
        let static_tags = merged.layout().static_tags();
        let heartbeat = connection.heartbeat.then(|| heartbeat::point(&connection.name, static_tags, time));
        if connection.dry_run {
            let sends = numbers.iter().map(|number| merged.series(*number as usize).sends()).sum();
            let table = (!numbers.is_empty()).then(|| preview(merged, numbers, connection));
            let beat = heartbeat.map(|ForwarderPoint { metric, tags, .. }| {
                format!("{} (dry run): {metric}  {}\n", connection.name, tags.join(" "))
            });
            let own_lines = own.iter().map(|point| format!("{} (dry run): {point}\n", connection.name));
            let text = table.into_iter().chain(beat).chain(own_lines).collect();
            return send(Encoded::Preview { flight: self.flight(numbers, sends, own.len()), text });
        }
        // Payloads come in the order of the series, the heartbeat first, then own metrics.
        let beats = usize::from(heartbeat.is_some());
        let first = beats + own.len();
        let (mut at, mut gone) = (0, Ok(()));
        let (metric, limits) = (&connection.metric, PayloadLimits::default());
        encode(merged, numbers, metric, heartbeat.iter().chain(own), limits, |payload| {
            let (from, to) = (at, at + payload.series);
            at = to;
            let own = to.min(first).saturating_sub(from.max(beats));
            let series = numbers.get(from.max(first) - first..to.max(first) - first).unwrap_or_default();
            if gone.is_ok() {
                gone = send(Encoded::Payload { flight: self.flight(series, payload.sends, own), payload });
            }
        });
        gone
    }
}

/// Merges into the largest cut. `None`: a lane is gone.
fn merge(cuts: Vec<oneshot::Receiver<Aggregator>>) -> Option<Aggregator> {
    let mut cuts = cuts.into_iter().map(|cut| cut.blocking_recv().ok()).collect::<Option<Vec<_>>>()?;
    let largest = (0..cuts.len()).max_by_key(|number| cuts[*number].len())?;
    let mut merged = cuts.swap_remove(largest);
    for cut in &cuts {
        merged.merge(cut);
    }
    Some(merged)
}
