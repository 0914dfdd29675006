//! From a payload to its outcome: submissions that are under way, and what is booked and paid when they land.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::submit::{self, InFlight, Submitted};
use super::{Ended, Phase, Pipeline, Run};
use crate::catalogue::{LastOutcome, RequestNumber};
use crate::datadog::outcome::Outcome;
use crate::datadog::payload::Payload;
use crate::datadog::{Connection, Intake};
use crate::ledger::{ClaimId, Unpaired};
use crate::stats::DropReason;

/// What is logged of a flush when its last outcome is there.
#[derive(Debug)]
pub(super) struct FlushSummary {
    pub(super) started: Instant,
    /// It carries heartbeats alone: nothing was delivered since the last one.
    pub(super) is_idle: bool,
    pub(super) series: usize,
    pub(super) payloads: u64,
    pub(super) accepted: u64,
    pub(super) dropped: u64,
}

impl<I: Intake> Pipeline<I> {
    pub(super) fn submit(
        &mut self,
        run: &mut Run,
        claim: ClaimId,
        connection: &Arc<Connection>,
        payload: Payload,
        number: RequestNumber,
    ) -> Result<(), Unpaired> {
        self.stats.payload(payload.body.len());
        let flight = InFlight { claim, connection: Arc::clone(connection), sends: payload.sends, number };
        let (intake, connection) = (Arc::clone(&self.intake), Arc::clone(connection));
        self.launch(run, flight, |turns, limit| submit::submit(intake, connection, turns, payload, limit))
    }

    /// Starts what a debt waits for; after the last moment of a stop it is dropped instead. What could not be
    /// acknowledged is left out altogether: its claim is never settled, and its sends stay pending.
    pub(super) fn launch<F>(
        &mut self,
        run: &mut Run,
        flight: InFlight,
        start: impl FnOnce(Arc<Semaphore>, Duration) -> F,
    ) -> Result<(), Unpaired>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        run.ledger.owe(flight.claim)?;
        if run.is_halted {
            return Ok(());
        }
        if let Phase::Abandoning(_) = run.phase {
            return self.settle(run, &flight, &shut_down());
        }
        let turns = self.registry.turns(&flight.connection.name);
        let task = self.submissions.spawn(start(turns, self.settings.flush_timeout));
        self.in_flight.insert(task.id(), flight);
        Ok(())
    }

    pub(super) fn joined(&mut self, run: &mut Run, joined: Submitted) -> Result<(), Unpaired> {
        let (task, outcome) = match joined {
            Ok((task, outcome)) => (task, outcome),
            Err(error) if error.is_cancelled() => (error.id(), shut_down()),
            Err(error) => {
                (error.id(), Outcome::dropped(DropReason::Defect, format!("the request panicked: {error}")))
            }
        };
        let flight = self.in_flight.remove(&task).ok_or(Unpaired)?;
        self.settle(run, &flight, &outcome)
    }

    /// Books and logs an outcome, and settles its debt.
    fn settle(&mut self, run: &mut Run, flight: &InFlight, outcome: &Outcome) -> Result<(), Unpaired> {
        let InFlight { claim, connection, sends, number } = flight;
        let now = self.clock.unix_seconds();
        let words = match outcome {
            Outcome::Accepted => "accepted".to_owned(),
            Outcome::AcceptedWithErrors { detail } => {
                let (name, site) = (&connection.name, &connection.site.name);
                tracing::warn!(connection = %name, %site, sends, %detail, "a request was accepted, and its answer speaks of errors: look in Datadog whether its sends are there");
                self.stats.accepted_with_errors(name);
                format!("accepted, with errors in the answer: {detail}")
            }
            Outcome::Dropped { reason, detail } => {
                let (name, site, label) = (&connection.name, &connection.site.name, reason.label());
                if *sends == 0 {
                    tracing::warn!(connection = %name, %site, reason = label, sends, detail = %detail, "a heartbeat was dropped");
                } else {
                    tracing::error!(connection = %name, %site, reason = label, sends, detail = %detail, "sends were dropped");
                }
                format!("{label}: {detail}")
            }
        };
        if !self.stats.settle(&connection.name, *sends, outcome.reason(), &words, now) {
            return Err(Unpaired);
        }
        self.catalogue.settle(*number, LastOutcome { dropped: outcome.reason(), at: now });
        if let Some(summary) = summary_of(run, *claim) {
            summary.payloads += 1;
            *if outcome.reason().is_none() { &mut summary.accepted } else { &mut summary.dropped } += *sends;
        }
        self.pay(run, *claim)
    }

    /// Settles one debt; a claim that has none left ends its flush.
    pub(super) fn pay(&mut self, run: &mut Run, claim: ClaimId) -> Result<(), Unpaired> {
        if let Some(receipt) = run.ledger.settle(claim)? {
            run.acknowledge = Some(receipt);
        }
        if run.ledger.is_settled(claim)
            && let Some(at) = run.flushes.iter().position(|(open, _)| *open == claim)
            && let Some((_, summary)) = run.flushes.remove(at)
        {
            let took = summary.started.elapsed();
            self.stats.flush(took);
            let FlushSummary { is_idle, series, payloads, accepted, dropped, .. } = summary;
            let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            if is_idle {
                tracing::debug!(requests = payloads, milliseconds, "heartbeats were sent");
            } else {
                tracing::info!(series, requests = payloads, accepted, dropped, milliseconds, "flushed");
            }
            self.reporter.report(&self.stats.snapshot(), self.clock.elapsed_milliseconds());
        }
        Ok(())
    }

    /// Drops whatever has no outcome yet.
    pub(super) fn abandon(&mut self, run: &mut Run) {
        let requests = self.in_flight.len();
        tracing::warn!(requests, "shutdown_timeout is over: requests without an answer are dropped");
        run.phase = Phase::Abandoning(run.phase.ended().unwrap_or(Ended::Stopped));
        self.submissions.abort_all();
    }
}

pub(super) fn summary_of(run: &mut Run, claim: ClaimId) -> Option<&mut FlushSummary> {
    run.flushes.iter_mut().find(|(open, _)| *open == claim).map(|(_, summary)| summary)
}

fn shut_down() -> Outcome {
    Outcome::dropped(DropReason::Shutdown, "stopped before there was an answer")
}
