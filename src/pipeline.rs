//! The whole flow in one loop: receive → hand to a lane → (flush tick) cut → merge and encode → submit →
//! settle → acknowledge.
//!
//! Three promises are kept here and nowhere else:
//!
//! - A delivery is acknowledged only when every batch that answers for it has an outcome.
//! - A connection that is slow or dead delays nobody: each of its requests waits for its turn at most
//!   `flush.timeout`, takes at most `flush.timeout`, and is then dropped and booked.
//! - Nothing is retried.

mod flush;
mod submit;

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use self::flush::{Encoded, FlushJob, Flusher};
use self::submit::{InFlight, Registry, Submitted};
use crate::aggregate::tags::Layout;
use crate::clock::Clock;
use crate::datadog::outcome::Outcome;
use crate::datadog::payload::Payload;
use crate::datadog::{Connection, Intake};
use crate::lane::{self, LaneLost, Lanes, Room};
use crate::ledger::{ClaimId, Ledger};
use crate::queue::{Delivery, Queue, QueueError, Receipt};
use crate::stats::{DropReason, Stats};

/// How often the pipeline shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the pipeline is made with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How the lanes work.
    pub lanes: lane::Settings,
    /// How often counts are cut.
    pub flush_interval: Duration,
    /// How long one request may take, and how long it may wait for its turn.
    pub flush_timeout: Duration,
    /// How long a stop waits for outcomes.
    pub shutdown_timeout: Duration,
}

/// What the pipeline is told while it runs.
#[derive(Debug)]
pub enum Command {
    /// Receive no more, flush, wait for the outcomes, acknowledge, end.
    Stop,
    /// Other connections and tags from here on.
    Reload {
        /// All connections there are now.
        connections: Vec<Connection>,
        /// Which tags a series has now.
        layout: Arc<Layout>,
    },
}

/// Why a run of the pipeline ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The queue has ended, and everything in it has an outcome and is acknowledged.
    QueueEnded,
    /// It was told to stop, and has flushed and acknowledged what it could.
    Stopped,
}

/// Why the pipeline can't go on. What was counted before has been flushed as far as possible.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The queue failed.
    #[error("the queue failed: {0}")]
    Queue(#[from] QueueError),
    /// A lane died.
    #[error(transparent)]
    Lane(#[from] LaneLost),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The stations between the queue and Datadog, ready to run.
#[derive(Debug)]
pub struct Pipeline<I> {
    intake: Arc<I>,
    settings: Settings,
    stats: Arc<Stats>,
    clock: Clock,
    registry: Registry,
    lanes: Lanes,
    flusher: Flusher,
    submissions: JoinSet<Outcome>,
    in_flight: HashMap<tokio::task::Id, InFlight>,
    heartbeat: Arc<AtomicU64>,
}

/// The state of one run over one queue.
struct Run {
    ledger: Ledger,
    /// The delivery that was received and waits for a lane.
    in_hand: Option<Delivery>,
    /// Open flushes by claim, for their summary.
    flushes: VecDeque<(ClaimId, FlushSummary)>,
    phase: Phase,
    /// What may be acknowledged and is not yet.
    acknowledge: Option<Receipt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Receiving,
    /// No more deliveries come; what was counted is on its way.
    Draining(Ended),
    /// The time to wait is over: whatever has no outcome is dropped.
    Abandoning(Ended),
}

impl Phase {
    fn ended(self) -> Option<Ended> {
        match self {
            Phase::Receiving => None,
            Phase::Draining(ended) | Phase::Abandoning(ended) => Some(ended),
        }
    }
}

#[derive(Debug)]
struct FlushSummary {
    started: Instant,
    series: usize,
    payloads: u64,
    accepted: u64,
    dropped: u64,
}

impl<I: Intake> Pipeline<I> {
    /// Starts the lanes and the flush thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        intake: Arc<I>,
        settings: Settings,
        connections: Vec<Connection>,
        layout: Arc<Layout>,
        stats: Arc<Stats>,
        clock: Clock,
    ) -> Result<Self, PipelineError> {
        let registry = Registry::new(connections);
        registry.active().for_each(|connection| stats.introduce(&connection.name));
        let plan = Arc::new(registry.plan(layout));
        let lanes = Lanes::start(&settings.lanes, &plan, &stats, &clock)?;
        let flusher = Flusher::start(Arc::clone(&stats), settings.lanes.aggregate.series_max)?;
        let heartbeat = Arc::new(AtomicU64::new(0));
        let (submissions, in_flight) = (JoinSet::new(), HashMap::new());
        Ok(Self {
            intake,
            settings,
            stats,
            clock,
            registry,
            lanes,
            flusher,
            submissions,
            in_flight,
            heartbeat,
        })
    }

    /// Shows when the loop last turned, in the clock's milliseconds.
    pub fn heartbeat(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.heartbeat)
    }

    /// Carries events from `queue` to Datadog until the queue ends or a command says stop.
    ///
    /// # Errors
    /// When the queue or a lane fails; then what was counted is flushed first, as at a stop.
    pub async fn run<Q: Queue>(
        &mut self,
        queue: &mut Q,
        commands: &mut mpsc::Receiver<Command>,
    ) -> Result<Ended, PipelineError> {
        let mut run = Run {
            ledger: Ledger::default(),
            in_hand: None,
            flushes: VecDeque::new(),
            phase: Phase::Receiving,
            acknowledge: None,
        };
        let mut failure = None;
        let mut ticks =
            interval_at(Instant::now() + self.settings.flush_interval, self.settings.flush_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = tokio::time::interval(HEARTBEAT);
        let far = Instant::now() + Duration::from_secs(365 * 24 * 3600);
        let mut deadline = far;
        let mut commanded = true;
        loop {
            if let Some(receipt) = run.acknowledge.take()
                && failure.is_none()
                && let Err(error) = queue.acknowledge(receipt).await
            {
                fail(&mut run, &mut failure, error);
                deadline = deadline.min(Instant::now() + self.settings.shutdown_timeout);
            }
            if let Some(ended) = run.phase.ended() {
                // A tick may have been left out while the flush thread was busy.
                self.cut(&mut run).await?;
                if run.ledger.is_clear() && self.in_flight.is_empty() {
                    return failure.map_or(Ok(ended), |error| Err(PipelineError::Queue(error)));
                }
            }
            let receiving = run.phase == Phase::Receiving;
            tokio::select! {
                received = queue.receive(), if receiving && run.in_hand.is_none() => match received {
                    Ok(Some(delivery)) => run.in_hand = Some(delivery),
                    Ok(None) => run.phase = Phase::Draining(Ended::QueueEnded),
                    Err(error) => {
                        fail(&mut run, &mut failure, error);
                        deadline = deadline.min(Instant::now() + self.settings.shutdown_timeout);
                    }
                },
                room = self.lanes.room(), if receiving && run.in_hand.is_some() => self.hand_over(&mut run, room?)?,
                _ = ticks.tick() => self.cut(&mut run).await?,
                encoded = self.flusher.encoded() => self.encoded(&mut run, encoded.ok_or(LaneLost)?)?,
                Some(joined) = self.submissions.join_next_with_id() => self.joined(&mut run, joined),
                _ = beats.tick() => self.heartbeat.store(self.clock.elapsed_milliseconds(), Ordering::Relaxed),
                () = sleep_until(deadline) => {
                    deadline = far;
                    self.abandon(&mut run);
                }
                command = commands.recv(), if commanded => match command {
                    Some(Command::Reload { connections, layout }) => self.reload(&mut run, connections, layout).await?,
                    // Whoever commands is gone: that is a stop, too.
                    stop => {
                        commanded = stop.is_some();
                        run.phase = Phase::Draining(Ended::Stopped);
                        deadline = deadline.min(Instant::now() + self.settings.shutdown_timeout);
                    }
                },
            }
        }
    }

    fn hand_over(&self, run: &mut Run, room: Room) -> Result<(), PipelineError> {
        if let Some(delivery) = run.in_hand.take() {
            run.ledger.deliver(delivery.receipt);
            self.lanes.deliver(room, delivery)?;
        }
        Ok(())
    }

    /// Cuts the lanes and lets the flush thread work on it. Left out while the flush thread is behind: the
    /// counts stay in the lanes and go with the next cut.
    async fn cut(&mut self, run: &mut Run) -> Result<(), PipelineError> {
        if !run.ledger.has_delivered() || !self.flusher.has_room() {
            return Ok(());
        }
        let cuts = self.lanes.cut().await?;
        if let Some(claim) = run.ledger.open() {
            let summary =
                FlushSummary { started: Instant::now(), series: 0, payloads: 0, accepted: 0, dropped: 0 };
            run.flushes.push_back((claim, summary));
            self.flusher.flush(FlushJob { claim, cuts, connections: self.registry.snapshot() })?;
        }
        Ok(())
    }

    async fn reload(
        &mut self,
        run: &mut Run,
        connections: Vec<Connection>,
        layout: Arc<Layout>,
    ) -> Result<(), PipelineError> {
        // What was counted under the old tags is cut before the lanes learn the new ones. It goes to its
        // connection as that is now; one that is gone still gets what was counted for it.
        while run.ledger.has_delivered() {
            if self.flusher.has_room() {
                self.cut(run).await?;
            } else {
                // There is room when the flush thread has got rid of what it has encoded: it waits for us.
                let encoded = self.flusher.encoded().await.ok_or(LaneLost)?;
                self.encoded(run, encoded)?;
            }
        }
        self.registry.update(connections);
        self.registry.active().for_each(|connection| self.stats.introduce(&connection.name));
        let plan = Arc::new(self.registry.plan(layout));
        self.lanes.replan(&plan).await?;
        Ok(())
    }

    fn encoded(&mut self, run: &mut Run, encoded: Encoded) -> Result<(), PipelineError> {
        match encoded {
            Encoded::Payload { claim, connection, payload } => self.submit(run, claim, &connection, payload),
            Encoded::Preview { claim, connection, text, sends } => {
                run.ledger.owe(claim);
                let outcome = match print(&text) {
                    Ok(()) => Outcome::Accepted,
                    Err(error) => Outcome::dropped(
                        DropReason::Connect,
                        format!("the dry run can't write to standard output: {error}"),
                    ),
                };
                self.settle(run, claim, &connection, sends, &outcome);
            }
            Encoded::Done { claim, series, busiest } => {
                self.stats.busiest(busiest);
                if let Some(summary) = summary_of(run, claim) {
                    summary.series = series;
                }
                self.pay(run, claim);
            }
            Encoded::LaneLost => return Err(LaneLost.into()),
        }
        Ok(())
    }

    fn submit(&mut self, run: &mut Run, claim: ClaimId, connection: &Arc<Connection>, payload: Payload) {
        run.ledger.owe(claim);
        self.stats.payload(payload.body.len());
        let flight = InFlight { claim, connection: Arc::clone(connection), sends: payload.sends };
        if let Phase::Abandoning(_) = run.phase {
            self.land(run, &flight, &shut_down());
            return;
        }
        let turns = self.registry.turns(&connection.name);
        let submission = submit::submit(
            Arc::clone(&self.intake),
            Arc::clone(connection),
            turns,
            payload,
            self.settings.flush_timeout,
        );
        let task = self.submissions.spawn(submission);
        self.in_flight.insert(task.id(), flight);
    }

    fn joined(&mut self, run: &mut Run, joined: Submitted) {
        let (task, outcome) = match joined {
            Ok((task, outcome)) => (task, outcome),
            Err(error) if error.is_cancelled() => (error.id(), shut_down()),
            Err(error) => (error.id(), Outcome::dropped(DropReason::Connect, format!("a defect: {error}"))),
        };
        if let Some(flight) = self.in_flight.remove(&task) {
            self.land(run, &flight, &outcome);
        }
    }

    fn land(&mut self, run: &mut Run, flight: &InFlight, outcome: &Outcome) {
        self.settle(run, flight.claim, &flight.connection, flight.sends, outcome);
    }

    /// Books and logs an outcome, and settles its debt.
    fn settle(
        &mut self,
        run: &mut Run,
        claim: ClaimId,
        connection: &Connection,
        sends: u64,
        outcome: &Outcome,
    ) {
        let now = self.clock.unix_seconds();
        let words = match outcome {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::Dropped { reason, detail } => {
                let (name, site, label) = (&connection.name, &connection.site.name, reason.label());
                tracing::error!(connection = %name, %site, reason = label, sends, detail = %detail, "sends were dropped");
                format!("{label}: {detail}")
            }
        };
        self.stats.settle(&connection.name, sends, outcome.reason(), &words, now);
        if let Some(summary) = summary_of(run, claim) {
            summary.payloads += 1;
            *if outcome.reason().is_none() { &mut summary.accepted } else { &mut summary.dropped } += sends;
        }
        self.pay(run, claim);
    }

    /// Settles one debt; a claim that has none left ends its flush.
    fn pay(&self, run: &mut Run, claim: ClaimId) {
        if let Some(receipt) = run.ledger.settle(claim) {
            run.acknowledge = Some(receipt);
        }
        if run.ledger.is_settled(claim)
            && let Some(at) = run.flushes.iter().position(|(open, _)| *open == claim)
            && let Some((_, summary)) = run.flushes.remove(at)
        {
            let took = summary.started.elapsed();
            self.stats.flush(took);
            let FlushSummary { series, payloads, accepted, dropped, .. } = summary;
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(series, requests = payloads, accepted, dropped, milliseconds, "flushed");
        }
    }

    /// Drops whatever has no outcome yet.
    fn abandon(&mut self, run: &mut Run) {
        let requests = self.in_flight.len();
        tracing::warn!(requests, "shutdown_timeout is over: requests without an answer are dropped");
        run.phase = Phase::Abandoning(run.phase.ended().unwrap_or(Ended::Stopped));
        self.submissions.abort_all();
    }
}

fn summary_of(run: &mut Run, claim: ClaimId) -> Option<&mut FlushSummary> {
    run.flushes.iter_mut().find(|(open, _)| *open == claim).map(|(_, summary)| summary)
}

fn shut_down() -> Outcome {
    Outcome::dropped(DropReason::Shutdown, "stopped before there was an answer")
}

/// The queue has failed: nothing more is received or acknowledged, and what was counted is flushed.
fn fail(run: &mut Run, failure: &mut Option<QueueError>, error: QueueError) {
    tracing::error!(%error, "the queue failed; flushing what is counted, then stopping");
    run.phase = Phase::Draining(Ended::Stopped);
    failure.get_or_insert(error);
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
