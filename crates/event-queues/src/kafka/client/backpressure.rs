//! The poller's behaviour while the pipeline is full: it stays in the group, goes on committing, and pauses fetching.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use tokio::sync::mpsc::error::TrySendError;

use super::callbacks::Callbacks;
use super::poller::{Halt, Parts, Poller, PollerCommand, PollerOutput};

/// How long the pipeline may be full before fetching is paused. It is paused late, because librdkafka throws away what it
/// has fetched ahead.
const PATIENCE: Duration = Duration::from_secs(1);

impl Poller {
    /// Sends `handed`; while there is no room for it, it goes on committing and stays in the group.
    pub(super) fn send(&mut self, handed: PollerOutput) -> Result<(), Halt> {
        self.send_by(handed, None).map(drop)
    }

    /// The same, behind what could not be sent before it, up to a deadline. Returns whether all is sent: receipts stand for
    /// all before them, so that nothing overtakes anything.
    pub(super) fn send_by(&mut self, handed: PollerOutput, deadline: Option<Instant>) -> Result<bool, Halt> {
        self.unsent.push_back(handed);
        self.send_unsent(deadline)
    }

    /// Sends what could not be sent before, up to a deadline. Returns whether all is sent.
    pub(super) fn send_unsent(&mut self, deadline: Option<Instant>) -> Result<bool, Halt> {
        while let Some(next) = self.unsent.pop_front() {
            if let Some(back) = self.send_one(next, deadline)? {
                self.unsent.push_front(back);
                return Ok(false);
            }
        }
        self.resume();
        Ok(true)
    }

    /// Returns what was not sent by the deadline.
    fn send_one(
        &mut self,
        handed: PollerOutput,
        deadline: Option<Instant>,
    ) -> Result<Option<PollerOutput>, Halt> {
        let mut handed = handed;
        let mut patience = Instant::now() + PATIENCE;
        loop {
            match self.parts.handed.try_send(handed) {
                Ok(()) => return Ok(None),
                Err(TrySendError::Closed(_)) => return Err(Halt::Closed),
                Err(TrySendError::Full(back)) => handed = back,
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Some(handed));
            }
            let until = deadline.map_or(patience, |deadline| deadline.min(patience));
            let Parts { runtime, handed: room, commands, .. } = &mut self.parts;
            let command = runtime.block_on(async {
                tokio::select! {
                    command = commands.recv() => Some(command),
                    _ = room.reserve() => None,
                    () = tokio::time::sleep_until(until.into()) => None,
                }
            });
            if let Some(command) = command {
                self.obey(command.unwrap_or(PollerCommand::Close))?;
                self.attend_to_commits();
                self.commit();
            }
            if Instant::now() >= patience {
                self.pause();
                self.idle()?;
                self.attend_to_commits();
                self.commit();
                patience = Instant::now() + PATIENCE;
                if deadline.is_none() {
                    self.attend_overdue()?;
                    if handed.is_over() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Shows the group that this process is alive, and takes no messages.
    fn idle(&mut self) -> Result<(), Halt> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Err(error)) => self.handle_error(&error),
            Some(Ok(message)) => {
                // A message of a partition that was assigned a moment ago: there are few, because it is paused with the next
                // round.
                self.early.push_back(message.detach());
                self.is_all_paused = false;
                Ok(())
            }
        }
    }

    pub(super) fn pause(&mut self) {
        if !self.is_all_paused {
            self.is_all_paused = self.on_all("paused", Consumer::pause);
            self.is_paused |= self.is_all_paused;
            self.parts.health.set_paused(self.is_paused);
            self.steady.disturb();
        }
    }

    pub(super) fn resume(&mut self) {
        if self.is_paused {
            self.is_paused = !self.on_all("resumed", Consumer::resume);
            self.is_all_paused = false;
            self.parts.health.set_paused(self.is_paused);
            self.steady.disturb();
        }
    }

    /// Calls a function on all partitions that this process reads; returns whether it succeeded.
    fn on_all(
        &self,
        what: &str,
        act: impl FnOnce(&BaseConsumer<Callbacks>, &TopicPartitionList) -> KafkaResult<()>,
    ) -> bool {
        let done = self.consumer.assignment().and_then(|all| act(&self.consumer, &all));
        done.inspect_err(|error| tracing::warn!(%error, "kafka: fetching could not be {what}")).is_ok()
    }
}
