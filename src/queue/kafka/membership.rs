//! What the poller does as a member of the group: takes partitions, gives them up in good order, commits, leaves.

use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::group::{Event, give_up, list, to_list};
use super::origin::origin_of;
use super::poller::{ANSWER_MAX, Command, Halt, Handed, Poller};
use super::positions::Partition;

/// How long a partition that is to be given up waits for the outcome of what was counted of it. Members are put
/// out of the group after max.poll.interval.ms, five minutes unless it is set.
const RECALL_MAX: Duration = Duration::from_secs(30);

/// How soon a commit that the broker refused is tried again.
const RECOMMIT_AFTER: Duration = Duration::from_secs(1);

/// How long the last commit is tried before the group is left.
const LAST_COMMIT_MAX: Duration = Duration::from_secs(5);

impl Poller {
    /// Acts on what has happened in the group.
    pub(super) fn attend(&mut self, event: Event) -> Result<(), Halt> {
        match event {
            Event::Assigned(partitions) => self.assign(&partitions),
            Event::Revoked(partitions) => return self.revoke(&partitions),
            Event::Committed { offsets, result } => self.committed(&offsets, result),
        }
        Ok(())
    }

    fn assign(&mut self, partitions: &[Partition]) {
        let wanted = to_list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
        // Only to notice what is no longer there; without it, reading begins in the same place.
        let committed = self.consumer.committed_offsets(wanted.clone(), ANSWER_MAX);
        let committed = committed.map_or_else(
            |error| {
                tracing::warn!(%error, "kafka: the group's offsets could not be asked for");
                Vec::new()
            },
            |committed| list(&committed),
        );
        for partition in partitions {
            let offset =
                committed.iter().find(|(known, _)| known == partition).and_then(|(_, offset)| *offset);
            self.positions.assign(partition.clone(), origin_of(&partition.topic), offset);
        }
        let taken = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&wanted),
            _ => self.consumer.assign(&wanted),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "kafka: partitions could not be taken");
        }
        // What came new is not paused yet.
        self.is_paused = false;
        self.parts.health.set_partitions(self.positions.held().count());
        self.parts.health.set_trouble(None);
        tracing::info!(
            taken = partitions.len(),
            reading = self.positions.held().count(),
            "kafka: partitions were assigned"
        );
    }

    /// Gives partitions up. What was handed out of them is flushed and committed before, as far as it has an
    /// outcome in time; when the group has put this process out, it is too late for that.
    fn revoke(&mut self, partitions: &[Partition]) -> Result<(), Halt> {
        let is_lost = self.consumer.assignment_lost();
        if is_lost {
            self.pack.take_if(|pack| partitions.contains(&pack.partition));
            tracing::warn!(
                partitions = partitions.len(),
                "kafka: the group has put this process out; what it counted since the last commit is counted again \
                 by whoever reads its partitions now"
            );
        } else {
            self.hand_over()?;
            self.recall(partitions)?;
            let offsets = self.positions.unconfirmed(partitions);
            if let Err(error) = self.commit_now(&offsets) {
                tracing::warn!(
                    %error,
                    partitions = offsets.len(),
                    "kafka: the last commit before partitions are given up has failed; what was counted since the \
                     one before is counted again"
                );
            }
        }
        self.early.retain(|early| {
            !partitions.iter().any(|one| one.number == early.partition() && *one.topic == *early.topic())
        });
        self.positions.forget(partitions);
        let given = to_list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
        if let Err(error) = give_up(&self.consumer, &given) {
            tracing::error!(%error, "kafka: partitions could not be given up");
        }
        let reading = self.positions.held().count();
        self.parts.health.set_partitions(reading);
        tracing::info!(given_up = partitions.len(), reading, is_lost, "kafka: partitions were revoked");
        Ok(())
    }

    /// Has everything flushed that was handed out of `partitions`, and waits for the outcome.
    fn recall(&mut self, partitions: &[Partition]) -> Result<(), Halt> {
        if self.positions.is_settled(partitions) {
            return Ok(());
        }
        let deadline = Instant::now() + RECALL_MAX;
        let receipt = self.positions.receipt();
        self.send(Handed::Recall(receipt))?;
        while !self.positions.is_settled(partitions) {
            let commands = &mut self.parts.commands;
            let next = async { tokio::time::timeout_at(deadline.into(), commands.recv()).await };
            let Ok(command) = self.parts.runtime.block_on(next) else {
                tracing::warn!(
                    partitions = partitions.len(),
                    "kafka: partitions are given up before all that was counted of them has an outcome: it is \
                     counted again by whoever reads them next"
                );
                return Ok(());
            };
            self.obey(command.unwrap_or(Command::Close))?;
        }
        Ok(())
    }

    /// Asks the broker to remember what has been acknowledged since the last time.
    pub(super) fn commit(&mut self) {
        if let Some(at) = self.recommit_at {
            if Instant::now() < at {
                return;
            }
            self.recommit_at = None;
        }
        let offsets = self.positions.request();
        if offsets.is_empty() {
            return;
        }
        if let Err(error) = self.consumer.commit(&to_offsets(&offsets), CommitMode::Async) {
            self.committed(&offsets, Err(error));
        }
    }

    /// The answer to a commit.
    fn committed(&mut self, offsets: &[(Partition, i64)], result: Result<(), KafkaError>) {
        match result {
            Ok(()) => {
                offsets.iter().for_each(|(partition, offset)| self.positions.confirm(partition, *offset))
            }
            Err(error) => {
                // While the group is being rearranged this is normal: it settles with the next try.
                tracing::debug!(%error, "kafka: a commit was refused; trying again");
                offsets.iter().for_each(|(partition, offset)| self.positions.refuse(partition, *offset));
                self.recommit_at = Some(Instant::now() + RECOMMIT_AFTER);
            }
        }
    }

    /// Commits and waits for the answer.
    fn commit_now(&mut self, offsets: &[(Partition, i64)]) -> KafkaResult<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        match self.consumer.commit(&to_offsets(offsets), CommitMode::Sync) {
            // There was nothing left to remember.
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {
                offsets.iter().for_each(|(partition, offset)| self.positions.confirm(partition, *offset));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Commits all that is acknowledged, and leaves the group.
    pub(super) fn leave(mut self) {
        // Whoever closes has acknowledged before.
        while let Ok(command) = self.parts.commands.try_recv() {
            if let Command::Acknowledge(receipt) = command {
                self.positions.acknowledge(receipt);
            }
        }
        let deadline = Instant::now() + LAST_COMMIT_MAX;
        let held: Vec<_> = self.positions.held().cloned().collect();
        let offsets = self.positions.unconfirmed(&held);
        while let Err(error) = self.commit_now(&offsets) {
            if self.consumer.assignment_lost() || Instant::now() >= deadline {
                tracing::error!(
                    %error,
                    partitions = offsets.len(),
                    "kafka: the last commit has failed; what was counted since the one before is counted again"
                );
                break;
            }
            std::thread::sleep(RECOMMIT_AFTER / 10);
        }
        self.consumer.context().leave();
        // Leaves the group, so that the others take over at once.
        drop(self.consumer);
        tracing::debug!("kafka: left the group");
    }
}

fn to_offsets(offsets: &[(Partition, i64)]) -> TopicPartitionList {
    to_list(offsets.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))))
}
