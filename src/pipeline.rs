//! The whole flow in one loop: receive → hand to a lane → (flush tick) cut → merge and encode → submit →
//! settle → acknowledge.
//!
//! Four promises are kept here and nowhere else:
//!
//! - A delivery is acknowledged only when every batch that answers for it has an outcome.
//! - A connection that is slow or dead delays nobody: each of its requests waits for its turn at most
//!   `flush.timeout`, takes at most `flush.timeout`, and is then dropped and booked.
//! - Nothing is retried.
//! - Events that the queue could not acknowledge any more are not sent: they stay there, for the next start to count.

mod acknowledge;
pub mod collapse;
pub mod encode;
mod flush;
mod loop_status;
mod names;
pub mod preview;
pub mod recheck;
mod report;
mod run;
mod settle;
mod submit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

pub use self::loop_status::LoopStatus;

use self::flush::{Encoded, FlushJob, FlushThreadLost, Flusher};
use self::report::Reporter;
use self::run::{Phase, QueueRun};
use self::settle::FlushSummary;
use self::submit::{ConnectionTable, InFlight, Landed};
use crate::catalogue::Catalogue;
use crate::connection::{Connection, ConnectionSet, Intake};
use crate::forwarder_points::metrics::ProcessProbe;
use crate::ledger::Unpaired;
use crate::telemetry::Printer;
use event_lanes::clock::Clock;
use event_lanes::stats::{Books, Stats};
use event_lanes::{LaneLost, LanePermit, LaneSettings, Lanes};
use event_queues::{Queue, QueueError};
use send_counts::aggregate::tags::Layout;

/// How often the pipeline shows that its loop turns.
const TURN_SHOWN_EVERY: Duration = Duration::from_secs(1);

/// The settings of the pipeline.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// How the lanes work, how often counts are cut, and how long one request may take.
    pub lanes: LaneSettings,
    /// How long a stop waits for outcomes.
    pub shutdown_timeout: Duration,
}

/// The commands of the pipeline.
#[derive(Debug)]
pub enum PipelineCommand {
    /// Receive no more, flush, wait for the outcomes, acknowledge, end.
    Stop,
    /// Use other connections and tags from here on.
    Reload {
        /// All connections there are now.
        connections: ConnectionSet,
        /// The present tags of series.
        layout: Arc<Layout>,
        /// Is told once every further delivery is counted by them.
        in_force: oneshot::Sender<()>,
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

/// Why the pipeline can't go on. When the queue could not be read, counts have been flushed; when it could not acknowledge,
/// nothing more was sent. When a lane has died, its counts are gone. Unacknowledged events come again with the next start.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The queue failed.
    #[error("the queue failed: {0}")]
    Queue(#[from] QueueError),
    /// A lane died.
    #[error(transparent)]
    Lane(#[from] LaneLost),
    /// The thread that merges and encodes died.
    #[error(transparent)]
    FlushThread(#[from] FlushThreadLost),
    /// The ledger is wrong.
    #[error(transparent)]
    Ledger(#[from] Unpaired),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// The stations between the queue and Datadog, ready to run.
#[derive(Debug)]
pub struct Pipeline<I> {
    intake: Arc<I>,
    settings: PipelineSettings,
    stats: Arc<Stats>,
    catalogue: Arc<Catalogue>,
    clock: Clock,
    connections: ConnectionTable,
    lanes: Lanes,
    flusher: Flusher,
    submissions: JoinSet<Option<Landed>>,
    in_flight: HashMap<tokio::task::Id, InFlight>,
    loop_status: Arc<LoopStatus>,
    /// Whether it was said that the clock is not set.
    is_clock_told: bool,
    reporter: Reporter,
    printer: Printer,
    probe: Option<ProcessProbe>,
}

impl<I: Intake> Pipeline<I> {
    /// Starts the lanes, the flush thread, and the one that prints dry runs.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        intake: Arc<I>,
        settings: PipelineSettings,
        connections: ConnectionSet,
        layout: Arc<Layout>,
        stats: Arc<Stats>,
        clock: Clock,
    ) -> Result<Self, PipelineError> {
        let connections = ConnectionTable::new(connections);
        connections.names().for_each(|name| stats.add_connection(name));
        let plan = Arc::new(connections.plan(layout));
        let lanes = Lanes::start(&settings.lanes, &plan, &stats, &clock)?;
        let catalogue = Arc::new(Catalogue::default());
        let flusher = Flusher::start(
            connections.snapshot(),
            Arc::clone(&stats),
            Arc::clone(&catalogue),
            clock.clone(),
        )?;
        let loop_status = Arc::new(LoopStatus::new(clock.clone()));
        let (submissions, in_flight, reporter) = (JoinSet::new(), HashMap::new(), Reporter::default());
        Ok(Self {
            intake,
            settings,
            stats,
            catalogue,
            clock,
            connections,
            lanes,
            flusher,
            submissions,
            in_flight,
            loop_status,
            is_clock_told: false,
            reporter,
            printer: Printer::start()?,
            probe: None,
        })
    }

    /// Sets the source of the process's state, for the [forwarder's own metrics](crate::forwarder_points::metrics). It is called once a
    /// flush, and must not block.
    pub fn probe(&mut self, probe: ProcessProbe) {
        self.probe = Some(probe);
    }

    /// Shows whether the loop turns, and what it waits for.
    pub fn loop_status(&self) -> Arc<LoopStatus> {
        Arc::clone(&self.loop_status)
    }

    /// The catalogue of recent sends.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.catalogue)
    }

    /// Logs the drops that no flush has logged: those after the last flush, or of a run that ended before its first. Whoever
    /// has seen [`Pipeline::run`] end calls it.
    pub fn log_rest(&mut self, books: &Books) {
        self.reporter.report(books, self.clock.elapsed_milliseconds());
    }

    /// Carries events from `queue` to Datadog until the queue ends or a command says stop.
    ///
    /// # Errors
    /// When the queue fails. If it can't be read any more, counts are flushed and acknowledged first, as at a stop. If it
    /// can't acknowledge any more, nothing more is sent. When a lane dies: at once, with nothing more acknowledged.
    pub async fn run<Q: Queue>(
        &mut self,
        queue: &mut Q,
        commands: &mut mpsc::Receiver<PipelineCommand>,
    ) -> Result<Ended, PipelineError> {
        let mut run = QueueRun::new();
        let flush_interval = self.settings.lanes.aggregate.flush_interval;
        let mut ticks = interval_at(Instant::now() + flush_interval, flush_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn_shown = tokio::time::interval(TURN_SHOWN_EVERY);
        turn_shown.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commanded = true;
        loop {
            self.acknowledge(&mut run, queue, &mut turn_shown).await?;
            self.may_send(&mut run, queue);
            let is_held = self.is_held(&mut run, queue);
            let is_clock_set = self.is_clock_set();
            if !is_held {
                self.reload(&mut run).await?;
                self.recall(&mut run).await?;
            }
            if let Some(ended) = run.ended() {
                // A tick may have been left out while the flush thread was busy.
                self.cut(&mut run).await?;
                if run.is_over() && self.in_flight.is_empty() {
                    return self.end(run, ended);
                }
            }
            tokio::select! {
                biased;
                _ = ticks.tick(), if !is_held => if self.may_send(&mut run, queue) {
                    self.tick(&mut run).await?;
                },
                encoded = self.flusher.encoded(), if !is_held => {
                    self.may_send(&mut run, queue);
                    self.encoded(&mut run, encoded.ok_or(FlushThreadLost)?)?;
                }
                Some(joined) = self.submissions.join_next_with_id() => self.joined(&mut run, joined)?,
                _ = turn_shown.tick() => self.loop_status.turned(),
                () = sleep_until(run.deadline.unwrap_or_else(Instant::now)), if run.deadline.is_some() => {
                    run.deadline = None;
                    self.abandon(&mut run);
                }
                command = commands.recv(), if commanded => match command {
                    Some(PipelineCommand::Reload { connections, layout, in_force }) => {
                        run.reload = Some((connections, layout, in_force));
                    }
                    // The sender of commands is gone: that is a stop, too.
                    stop => {
                        commanded = stop.is_some();
                        run.stop(Instant::now() + self.settings.shutdown_timeout);
                    }
                },
                // These two come last, because they are always ready; deliveries that are there already are taken first, so
                // that they go to a lane together.
                received = queue.receive(), if run.takes() && !is_held && is_clock_set => match received {
                    Ok(Some(delivery)) => run.in_hand.push(delivery),
                    Ok(None) => run.drain(Ended::QueueEnded),
                    Err(error) => self.fail(&mut run, queue, error),
                },
                permit = self.lanes.permit(), if run.is_handing() && !is_held => self.hand_over(&mut run, permit?).await?,
            }
        }
    }

    async fn hand_over(&self, run: &mut QueueRun, permit: LanePermit) -> Result<(), PipelineError> {
        let group = std::mem::take(&mut run.in_hand);
        if let Some(receipt) = group.receipt() {
            run.ledger.deliver(receipt);
            run.is_recalled |= group.is_recalled();
            self.lanes.deliver(permit, group).await?;
        }
        Ok(())
    }

    /// Cuts before the next tick, if the queue asks for it.
    async fn recall(&mut self, run: &mut QueueRun) -> Result<(), PipelineError> {
        if run.is_recalled && self.flusher.has_room() {
            run.is_recalled = false;
            self.cut(run).await?;
        }
        Ok(())
    }

    /// Cuts the lanes and lets the flush thread work on it. Skipped while the flush thread is behind: the counts stay in the
    /// lanes and go with the next cut.
    async fn cut(&mut self, run: &mut QueueRun) -> Result<(), PipelineError> {
        self.cut_for(run, self.connections.snapshot()).await
    }

    /// The same, for these connections.
    async fn cut_for(
        &mut self,
        run: &mut QueueRun,
        connections: Vec<Arc<Connection>>,
    ) -> Result<(), PipelineError> {
        if !run.is_halted && self.flusher.has_room() && run.ledger.has_delivered() {
            self.flush(run, false, connections).await?;
        }
        Ok(())
    }

    /// A flush is due. Without deliveries since the last one, heartbeats and own metrics still go out; the lanes are cut for
    /// them too, so that a dead lane has no heartbeat. Not while it drains: each would be waited for.
    async fn tick(&mut self, run: &mut QueueRun) -> Result<(), PipelineError> {
        let is_idle = run.phase == Phase::Receiving && !run.ledger.has_delivered();
        if is_idle && self.connections.has_news() && self.flusher.has_room() {
            return self.flush(run, true, self.connections.snapshot()).await;
        }
        self.cut(run).await
    }

    /// Cuts the lanes for a claim of its own; the flush thread must have room.
    async fn flush(
        &mut self,
        run: &mut QueueRun,
        is_idle: bool,
        connections: Vec<Arc<Connection>>,
    ) -> Result<(), PipelineError> {
        let cuts = self.lanes.cut().await?;
        let started = Instant::now();
        let summary =
            FlushSummary { started, is_idle, series: 0, payloads: 0, accepted: 0, printed: 0, dropped: 0 };
        let claim = run.ledger.open(summary);
        // The first second of the bucket, as for sends, whatever this process's own ticks are: a minimum over several forwarders
        // is one only of points of the same second.
        let now = self.clock.unix_seconds();
        let time = now - now % self.settings.lanes.aggregate.bucket_seconds();
        let state =
            self.probe.as_ref().filter(|_| self.connections.has_forwarder_metrics()).map(ProcessProbe::state);
        self.flusher.flush(FlushJob { claim, cuts, is_idle, time, state, connections })?;
        Ok(())
    }

    /// Gives the lanes the new plan, once the counts under the old one are cut. It waits for the flush thread over turns of
    /// the loop, because that thread may be waiting for the loop.
    async fn reload(&mut self, run: &mut QueueRun) -> Result<(), PipelineError> {
        let is_waiting = run.ledger.has_delivered() && !self.flusher.has_room();
        if run.reload.is_none() || run.is_halted || is_waiting {
            return Ok(());
        }
        if let Some((connections, layout, in_force)) = run.reload.take() {
            let before = self.connections.snapshot();
            self.connections.update(connections);
            self.connections.retargeted(&before).for_each(|name| self.stats.mark_retargeted(name));
            self.catalogue.retarget(self.connections.retargeted(&before));
            let plan = Arc::new(self.connections.plan(layout));
            let receivers = self.connections.receivers_of(before, &plan.router);
            self.cut_for(run, receivers).await?;
            self.connections.names().for_each(|name| self.stats.add_connection(name));
            self.lanes.replan(&plan).await?;
            // Whoever has asked may have given up.
            let _given_up = in_force.send(());
        }
        Ok(())
    }

    fn encoded(&mut self, run: &mut QueueRun, encoded: Encoded) -> Result<(), PipelineError> {
        match encoded {
            Encoded::Payload { flight, payload } => self.submit(run, flight, payload)?,
            Encoded::Preview { flight, text } => {
                let printer = self.printer.clone();
                self.launch(run, flight, |_permits, limit| submit::print(printer, text, limit))?;
            }
            Encoded::Done { claim, series } => {
                if let Some(summary) = run.ledger.summary(claim) {
                    summary.series = series;
                }
                self.pay(run, claim)?;
            }
            Encoded::LaneLost => return Err(LaneLost.into()),
        }
        Ok(())
    }
}
