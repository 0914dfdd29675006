//! Acknowledges deliveries, and handles a queue that can't acknowledge any more.

use tokio::time::{Instant, Interval, sleep};

use super::loop_status::ACKNOWLEDGE_MAX;
use super::{Ended, Phase, Pipeline, PipelineError, QueueRun};
use crate::connection::Intake;
use event_queues::{Queue, QueueError};

impl<I: Intake> Pipeline<I> {
    /// Acknowledges the settled deliveries. While that waits for a disk, the loop shows that it turns and books the outcomes of
    /// what is under way. Nothing more is sent: a process that ended now would count it again.
    pub(super) async fn acknowledge<Q: Queue>(
        &mut self,
        run: &mut QueueRun,
        queue: &mut Q,
        turn_shown: &mut Interval,
    ) -> Result<(), PipelineError> {
        while let Some(receipt) = run.acknowledge.take().filter(|_| run.may_acknowledge) {
            let mut acknowledged = std::pin::pin!(queue.acknowledge(receipt));
            let mut patience = std::pin::pin!(sleep(ACKNOWLEDGE_MAX));
            let mut is_told = false;
            self.loop_status.acknowledging();
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut acknowledged => break result,
                    () = &mut patience, if !is_told => {
                        is_told = true;
                        tracing::warn!(
                            "the queue has not taken an acknowledgement for ten seconds: its disk does not answer. \
                             Nothing more is sent until it does"
                        );
                    }
                    _ = turn_shown.tick() => self.loop_status.turned(),
                    Some(joined) = self.submissions.join_next_with_id() => self.joined(run, joined)?,
                }
            };
            let took = self.loop_status.acknowledged();
            if is_told {
                tracing::info!(seconds = took.as_secs(), "the queue has taken the acknowledgement");
            }
            if let Err(error) = result {
                run.may_acknowledge = false;
                self.halt(run, error);
            }
        }
        Ok(())
    }

    /// Whether events can be counted by the clock; logs when that changes.
    pub(super) fn is_clock_set(&mut self) -> bool {
        let is_unset = self.loop_status.is_clock_unset();
        if is_unset && !self.is_clock_told {
            let unix_seconds = self.clock.unix_seconds();
            tracing::warn!(
                unix_seconds,
                "this machine's clock is not set, and all events would be too far ahead of it: they wait until it is"
            );
        } else if !is_unset && self.is_clock_told {
            tracing::info!("the clock is set");
        }
        self.is_clock_told = is_unset;
        !is_unset
    }

    /// Whether anything may be sent now: not if the queue could not acknowledge it.
    pub(super) fn may_send<Q: Queue>(&self, run: &mut QueueRun, queue: &Q) -> bool {
        if !run.is_halted
            && let Err(error) = queue.ensure_acknowledgeable()
        {
            self.halt(run, error);
        }
        !run.is_halted
    }

    /// Whether everything waits, because the queue can't acknowledge for the time being. A run that has to end does not
    /// wait.
    pub(super) fn is_held<Q: Queue>(&self, run: &mut QueueRun, queue: &Q) -> bool {
        if run.is_halted {
            return false;
        }
        let Some(error) = queue.held() else { return false };
        if run.phase != Phase::Receiving {
            self.halt(run, error);
        }
        !run.is_halted
    }

    /// The queue gives out no more. Counts are flushed, if they can be acknowledged.
    pub(super) fn fail<Q: Queue>(&self, run: &mut QueueRun, queue: &Q, error: QueueError) {
        if self.may_send(run, queue) {
            tracing::error!(%error, "the queue failed; flushing what is counted, then stopping");
            run.stop(Instant::now() + self.settings.shutdown_timeout);
            run.failure.get_or_insert(error);
        }
    }

    /// Further sends could not be acknowledged, and the next start would send them again. So nothing more is sent: only the
    /// outcomes of requests on their way are awaited.
    fn halt(&self, run: &mut QueueRun, error: QueueError) {
        if run.is_halted {
            return;
        }
        let requests = self.in_flight.len();
        tracing::error!(
            %error,
            requests,
            "the queue can't acknowledge any more: nothing more is sent, what is not acknowledged stays in the queue \
             and is counted by the next start; waiting for the requests under way, then stopping"
        );
        run.is_halted = true;
        self.connections.close_permits();
        run.stop(Instant::now() + self.settings.shutdown_timeout);
        run.failure.get_or_insert(error);
    }

    /// Ends a run, and reports how many sends it has left in the queue.
    pub(super) fn end(&self, run: QueueRun, ended: Ended) -> Result<Ended, PipelineError> {
        if run.is_halted {
            let sends = self.stats.snapshot().pending();
            tracing::warn!(
                sends,
                "sends that were counted are not sent: their events are still in the queue"
            );
        }
        run.failure.map_or(Ok(ended), |error| Err(PipelineError::Queue(error)))
    }
}
