//! From a payload to its outcome: submissions under way, and their booking and settling when they land.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::submit::{self, InFlight, Landed, RequestPermits, Submitted, WindowCheck};
use super::{Ended, Phase, Pipeline, QueueRun};
use crate::catalogue::{LastOutcome, RequestFate};
use crate::connection::{Connection, Intake};
use crate::ledger::{ClaimId, Settled, Unpaired};
use datadog_points::outcome::{FailureReason, Outcome};
use datadog_points::payload::Payload;
use event_lanes::stats::DropReason;
use send_counts::aggregate::window::Window;

/// The log line of a flush, made when its last outcome is there.
#[derive(Debug)]
pub(super) struct FlushSummary {
    pub(super) started: Instant,
    /// It carries heartbeats alone: nothing was delivered since the last one.
    pub(super) is_idle: bool,
    pub(super) series: usize,
    pub(super) payloads: u64,
    pub(super) accepted: u64,
    /// Sends that dry runs printed.
    pub(super) printed: u64,
    pub(super) dropped: u64,
}

impl<I: Intake> Pipeline<I> {
    pub(super) fn submit(
        &mut self,
        run: &mut QueueRun,
        flight: InFlight,
        payload: Payload,
    ) -> Result<(), Unpaired> {
        self.stats.book_payload(payload.body.len());
        let (intake, connection) = (Arc::clone(&self.intake), Arc::clone(&flight.connection));
        let window_check =
            WindowCheck { window: Window::new(&self.settings.lanes.aggregate), clock: self.clock.clone() };
        self.launch(run, flight, |permits, limit| {
            submit::submit(intake, connection, permits, payload, window_check, limit)
        })
    }

    /// Starts the task of a debt; after the deadline of a stop it is dropped instead. Sends that could not be acknowledged
    /// are left out altogether: their claim is never settled, and they stay pending.
    pub(super) fn launch<F>(
        &mut self,
        run: &mut QueueRun,
        flight: InFlight,
        start: impl FnOnce(RequestPermits, Duration) -> F,
    ) -> Result<(), Unpaired>
    where
        F: Future<Output = Option<Landed>> + Send + 'static,
    {
        run.ledger.owe(flight.claim)?;
        if run.is_halted {
            return Ok(());
        }
        if let Phase::Abandoning(_) = run.phase {
            return self.settle(run, flight, &shut_down().into());
        }
        let permits = self.connections.permits(&flight.connection.name);
        let task = self.submissions.spawn(start(permits, self.settings.lanes.aggregate.flush_timeout));
        self.in_flight.insert(task.id(), flight);
        Ok(())
    }

    pub(super) fn joined(&mut self, run: &mut QueueRun, joined: Submitted) -> Result<(), Unpaired> {
        let (task, landed) = match joined {
            Ok((task, Some(landed))) => (task, landed),
            // Like a payload that was not launched: its claim is never settled, and its sends stay pending.
            Ok((task, None)) => return self.in_flight.remove(&task).map(|_| ()).ok_or(Unpaired),
            Err(error) if error.is_cancelled() => (error.id(), shut_down().into()),
            Err(error) => {
                let detail = format!("the request panicked: {error}");
                (error.id(), Outcome::dropped(FailureReason::Defect, detail).into())
            }
        };
        let flight = self.in_flight.remove(&task).ok_or(Unpaired)?;
        self.settle(run, flight, &landed)
    }

    /// Books and logs the outcome of a payload, and settles its debt.
    fn settle(&mut self, run: &mut QueueRun, flight: InFlight, landed: &Landed) -> Result<(), Unpaired> {
        let Landed { outcome, sends: left_out, own: own_left_out } = landed;
        let sent = flight.sends.checked_sub(left_out.sum()).ok_or(Unpaired)?;
        for (reason, sends) in left_out.by_reason() {
            // The report at the end of the flush includes them, like those that lanes dropped.
            if sends > 0 {
                let words = format!("{}: outside Datadog's window when its request began", reason.label());
                self.book(run, &flight, sends, Some(reason), &words)?;
            }
        }
        let mut dropped =
            Some(if left_out.late < left_out.early { DropReason::Early } else { DropReason::Late });
        if let Some(outcome) = outcome {
            dropped = outcome.reason().map(DropReason::Failed);
            self.book(run, &flight, sent, dropped, &words(&flight.connection, outcome))?;
            if matches!(outcome, Outcome::AcceptedWithErrors { .. }) {
                self.stats.book_accepted_with_errors(&flight.connection.name);
            }
            if let Some(summary) = run.ledger.summary(flight.claim) {
                summary.payloads += 1;
            }
        }
        let last = LastOutcome {
            dropped,
            is_dry_run: flight.connection.dry_run,
            is_retargeted: self.connections.is_retargeted(&flight.connection),
            at: self.clock.unix_seconds(),
        };
        for (reason, points) in own_left_out.by_reason() {
            self.stats.book_own_points(points, Some(reason));
        }
        self.stats.book_own_points(flight.own.saturating_sub(own_left_out.sum()), dropped);
        let InFlight { claim, connection, own, tracked, .. } = flight;
        self.catalogue
            .settle(tracked, RequestFate { outcome: last, late: left_out.late, early: left_out.early });
        // Behind the books: who has read the line sees what it says in the metrics and the status, too.
        if let Some(outcome) = outcome {
            log_outcome(&connection, own, sent, outcome);
        }
        self.pay(run, claim)
    }

    /// Books some of a payload's sends.
    fn book(
        &self,
        run: &mut QueueRun,
        flight: &InFlight,
        sends: u64,
        dropped: Option<DropReason>,
        words: &str,
    ) -> Result<(), Unpaired> {
        let (name, now) = (&flight.connection.name, self.clock.unix_seconds());
        let is_printed = flight.connection.dry_run && dropped.is_none();
        let is_booked = if is_printed {
            self.stats.book_printed(name, sends, words, now)
        } else {
            self.stats.book_outcome(name, sends, dropped, words, now)
        };
        if !is_booked {
            return Err(Unpaired);
        }
        if self.connections.is_retargeted(&flight.connection) {
            // It was under way when the connection got another key or URL, and says nothing about that.
            self.stats.mark_retargeted(name);
        }
        if let Some(summary) = run.ledger.summary(flight.claim) {
            let kind = match dropped {
                Some(_) => &mut summary.dropped,
                None if is_printed => &mut summary.printed,
                None => &mut summary.accepted,
            };
            *kind += sends;
        }
        Ok(())
    }

    /// Settles one debt; a claim that has none left ends its flush.
    pub(super) fn pay(&mut self, run: &mut QueueRun, claim: ClaimId) -> Result<(), Unpaired> {
        let Settled { receipt, finished } = run.ledger.settle(claim)?;
        if let Some(receipt) = receipt {
            run.acknowledge = Some(receipt);
        }
        if let Some(summary) = finished {
            let took = summary.started.elapsed();
            self.stats.book_flush(took);
            let FlushSummary { is_idle, series, payloads, accepted, printed, dropped, .. } = summary;
            let printed = (printed > 0).then_some(printed);
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            if is_idle {
                tracing::debug!(requests = payloads, milliseconds, "heartbeats were sent");
            } else {
                tracing::info!(
                    series,
                    requests = payloads,
                    accepted,
                    printed,
                    dropped,
                    milliseconds,
                    "flushed"
                );
            }
            self.reporter.report(&self.stats.snapshot(), self.clock.elapsed_milliseconds());
        }
        Ok(())
    }

    /// Drops everything that has no outcome yet.
    pub(super) fn abandon(&mut self, run: &mut QueueRun) {
        let requests = self.in_flight.len();
        if run.is_halted {
            let sends: u64 = self.in_flight.values().map(|flight| flight.sends).sum();
            tracing::warn!(requests, sends, "shutdown_timeout is over: what has no answer is dropped");
        } else {
            let sends = self.stats.snapshot().pending();
            tracing::warn!(
                requests,
                sends,
                "shutdown_timeout is over: what has no answer, or was not sent yet, is dropped"
            );
        }
        run.phase = Phase::Abandoning(run.phase.ended().unwrap_or(Ended::Stopped));
        self.submissions.abort_all();
    }
}

/// An outcome for people.
fn words(connection: &Connection, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted if connection.dry_run => "printed, not sent (dry run)".to_owned(),
        Outcome::Accepted => "accepted".to_owned(),
        Outcome::AcceptedWithErrors { detail } => format!("accepted, with errors in the answer: {detail}"),
        Outcome::Dropped { reason, detail } => format!("{}: {detail}", reason.label()),
    }
}

/// Logs an outcome that needs attention.
fn log_outcome(connection: &Connection, own: u64, sends: u64, outcome: &Outcome) {
    let (name, site) = (&connection.name, &connection.site.name);
    match outcome {
        Outcome::Accepted => {}
        Outcome::AcceptedWithErrors { detail } => {
            tracing::warn!(
                connection = %name,
                %site,
                sends,
                %detail,
                "a request was accepted, and its answer speaks of errors: look in Datadog whether its sends are there"
            );
        }
        Outcome::Dropped { reason, detail } => {
            let label = reason.label();
            if sends == 0 {
                let what =
                    if own == 0 { "a heartbeat was" } else { "points about the forwarder itself were" };
                tracing::warn!(connection = %name, %site, reason = label, sends, detail = %detail, "{what} dropped");
            } else {
                tracing::error!(connection = %name, %site, reason = label, sends, detail = %detail, "sends were dropped");
            }
        }
    }
}

fn shut_down() -> Outcome {
    Outcome::dropped(FailureReason::Shutdown, "stopped before there was an answer")
}
