//! Acknowledges deliveries, and handles a queue that can't acknowledge any more.

use tokio::time::Instant;

use super::{Ended, Phase, Pipeline, PipelineError, QueueRun};
use crate::connection::Intake;
use event_queues::{Queue, QueueError};

impl<I: Intake> Pipeline<I> {
    /// Acknowledges the settled deliveries.
    pub(super) async fn acknowledge<Q: Queue>(&self, run: &mut QueueRun, queue: &mut Q) {
        if let Some(receipt) = run.acknowledge.take()
            && run.may_acknowledge
            && let Err(error) = queue.acknowledge(receipt).await
        {
            run.may_acknowledge = false;
            self.halt(run, error);
        }
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
        self.connections.close_turns();
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
