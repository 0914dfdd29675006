//! The poller as a member of the group: takes partitions, gives them up in good order, leaves.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::Message as _;
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};

use super::batch::defaults_of;
use super::broker_requests::{self, BrokerQuestion};
use super::callbacks::{Event, give_up, without_offsets};
use super::offsets::Partition;
use super::poller::{Halt, Joining, Poller, PollerCommand, PollerOutput};

/// How long a partition that is to be given up waits for the outcomes of its sends. Members are put out of the group after
/// max.poll.interval.ms, five minutes unless it is set.
pub(super) const RECALL_MAX: Duration = Duration::from_secs(30);

/// How long the last commit of partitions is tried before they are given up: long enough for the group to find another
/// coordinator.
const COMMIT_MAX: Duration = Duration::from_secs(15);

/// How long the last commit is tried before the group is left: nobody waits long for a process to stop.
const LAST_COMMIT_MAX: Duration = Duration::from_secs(5);

/// How long partitions that are given up are asked for where they begin.
const EXAMINE_MAX: Duration = Duration::from_secs(1);

impl Poller {
    /// Handles events of the group in their order. Partitions that it revokes wait so long for the outcomes of what was handed
    /// out, if at all. At a halt what has no answer yet is kept, for the group waits for each.
    pub(super) fn attend_all(&mut self, events: Vec<Event>, recall: Option<Duration>) -> Result<(), Halt> {
        // Answers to commits first: a revocation waits for the one behind it.
        let (answers, others): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(|event| matches!(event, Event::Committed(_)));
        let mut events = answers.into_iter().chain(others);
        while let Some(event) = events.next() {
            let attended = self.attend(event, recall);
            // It may have been told to end during a commit.
            if let Err(halt) = attended.and_then(|()| self.ensure_open()) {
                events.for_each(|event| self.defer(event));
                return Err(halt);
            }
        }
        Ok(())
    }

    fn ensure_open(&self) -> Result<(), Halt> {
        if self.close_by.is_some() { Err(Halt::Closed) } else { Ok(()) }
    }

    /// It is to end, and has so long for its commits.
    pub(super) fn close(&mut self) {
        self.close_by.get_or_insert_with(|| Instant::now() + LAST_COMMIT_MAX);
    }

    fn attend(&mut self, event: Event, recall: Option<Duration>) -> Result<(), Halt> {
        let Some(partitions) = self.handle(event) else { return Ok(()) };
        let deadline = recall.map(|recall| Instant::now() + recall);
        let revoked = self.revoke(&partitions, deadline);
        revoked.inspect_err(|_halt| self.defer(Event::Revoked(partitions)))
    }

    /// Handles an event, but for a revocation: these are the partitions to give up.
    pub(super) fn handle(&mut self, event: Event) -> Option<Vec<Partition>> {
        match event {
            Event::Assigned(partitions) => self.prepare(partitions),
            Event::Known { partitions, committed } => self.assign(&partitions, committed),
            Event::Revoked(partitions) => return Some(partitions),
            Event::Committed(answers) => self.committed(&answers),
            Event::Watermarks(marks) => self.update_watermarks(&marks),
            Event::Ends(ends) => self.update_ends(&ends),
            Event::Topics { asked, found } => self.update_topics(&asked, found.as_deref()),
        }
        None
    }

    /// Keeps an event for later.
    pub(super) fn defer(&mut self, event: Event) {
        self.later_since.get_or_insert_with(Instant::now);
        self.later.push(event);
    }

    /// What was kept.
    pub(super) fn take_later(&mut self) -> Vec<Event> {
        self.later_since = None;
        std::mem::take(&mut self.later)
    }

    /// Handles what was kept while the pipeline takes nothing, once the group has waited for long enough: a schema registry
    /// may be away for hours.
    pub(super) fn attend_overdue(&mut self) -> Result<(), Halt> {
        if self.later_since.is_none_or(|since| since.elapsed() < RECALL_MAX) {
            return Ok(());
        }
        let later = self.take_later();
        self.attend_all(later, None)
    }

    /// Asks for the group's committed offsets, only to notice lost messages: reading begins in the same place without them.
    /// The group waits meanwhile, and this thread does not.
    pub(super) fn prepare(&mut self, partitions: Vec<Partition>) {
        if partitions.is_empty() {
            return self.assign(&partitions, Some(Vec::new()));
        }
        if let Err(BrokerQuestion::Committed(partitions)) =
            self.questions.send(BrokerQuestion::Committed(partitions))
        {
            self.assign(&partitions, Some(Vec::new()));
        }
    }

    pub(super) fn assign(&mut self, partitions: &[Partition], committed: Option<Vec<(Partition, i64)>>) {
        let committed = committed.unwrap_or_else(|| {
            tracing::warn!(
                partitions = partitions.len(),
                "kafka: the group's offsets could not be asked for; messages that the broker threw away before these \
                 partitions were taken are not noticed"
            );
            Vec::new()
        });
        for partition in partitions {
            let offset = committed.iter().find(|(known, _)| known == partition).map(|(_, offset)| *offset);
            self.offsets.assign(partition.clone(), defaults_of(&partition.topic), offset);
        }
        let wanted = without_offsets(partitions);
        // One that was paused when it was given up would stay so: the client remembers that.
        if let Err(error) = self.consumer.resume(&wanted) {
            tracing::warn!(%error, "kafka: fetching could not be resumed");
        }
        let taken = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&wanted),
            _ => self.consumer.assign(&wanted),
        };
        if let Err(error) = taken {
            tracing::error!(%error, "kafka: partitions could not be taken");
        }
        // New partitions are not paused yet.
        self.is_all_paused = false;
        self.idle_since = None;
        self.steady.disturb();
        let reading = self.offsets.assigned().count();
        self.joining = Joining::Answered;
        self.without_since = if reading == 0 { self.without_since.or(Some(Instant::now())) } else { None };
        self.parts.health.set_partitions(reading);
        // Of nothing, too: the group has answered.
        let topics: BTreeSet<&str> = partitions.iter().map(|partition| &*partition.topic).collect();
        self.parts.health.assigned(&Vec::from_iter(topics));
        tracing::info!(taken = partitions.len(), reading, "kafka: partitions were assigned");
    }

    /// Gives partitions up. Their messages are flushed and committed before, as far as outcomes come by the deadline, if there
    /// is still time for any; if the group has expelled this process, it is too late for that.
    fn revoke(&mut self, partitions: &[Partition], deadline: Option<Instant>) -> Result<(), Halt> {
        let is_lost = self.consumer.assignment_lost();
        if self.is_held() && !self.offsets.is_settled(partitions) {
            self.lose_held();
        } else if !is_lost {
            match deadline {
                Some(_) if self.is_held() => {}
                Some(deadline) if self.hand_over_by(Some(deadline))? => self.recall(partitions, deadline)?,
                _ if self.offsets.is_settled(partitions) => {}
                _ => log_unsettled(partitions),
            }
            if let Err(reason) = self.commit_now(partitions, Instant::now() + COMMIT_MAX) {
                let messages = self.offsets.counted_again(partitions);
                if self.close_by.is_some() {
                    self.parts.health.add_repeated(messages);
                }
                tracing::warn!(
                    reason,
                    messages,
                    "kafka: the last commit before partitions are given up has failed; what was counted since the \
                     one before is counted again"
                );
            }
        }
        if is_lost {
            tracing::warn!(
                partitions = partitions.len(),
                messages = self.offsets.counted_again(partitions),
                "kafka: the group has put this process out; what it counted since the last commit is counted again \
                 by whoever reads its partitions now"
            );
        }
        self.early.retain(|early| {
            !partitions.iter().any(|one| one.number == early.partition() && *one.topic == *early.topic())
        });
        self.batch.take_if(|batch| partitions.contains(&batch.partition));
        self.examine(partitions);
        self.offsets.forget(partitions);
        self.unsent.retain(|unsent| matches!(unsent, PollerOutput::Batch(..)) && !unsent.is_over());
        self.forgive();
        self.steady.disturb();
        let given = without_offsets(partitions);
        if let Err(error) = give_up(&self.consumer, &given) {
            tracing::error!(%error, "kafka: partitions could not be given up");
        }
        let reading = self.offsets.assigned().count();
        if reading == 0 {
            // The group may be without a coordinator from here on.
            self.joining = Joining::Unanswered(None);
        }
        self.parts.health.set_partitions(reading);
        self.show_lag();
        tracing::info!(given_up = partitions.len(), reading, is_lost, "kafka: partitions were revoked");
        Ok(())
    }

    /// Asks for a flush of everything handed out of `partitions`, and waits for the outcome, up to the deadline.
    fn recall(&mut self, partitions: &[Partition], deadline: Instant) -> Result<(), Halt> {
        if self.offsets.is_settled(partitions) {
            return Ok(());
        }
        let receipt = self.offsets.receipt();
        self.send_by(PollerOutput::Recall(receipt), Some(deadline))?;
        while !self.offsets.is_settled(partitions) {
            let commands = &mut self.parts.commands;
            let next = async { tokio::time::timeout_at(deadline.into(), commands.recv()).await };
            let Ok(command) = self.parts.runtime.block_on(next) else {
                log_unsettled(partitions);
                return Ok(());
            };
            self.obey(command.unwrap_or(PollerCommand::Close))?;
        }
        Ok(())
    }

    /// Commits everything acknowledged, and leaves the group.
    pub(super) fn leave(mut self) {
        // The caller of close has acknowledged before.
        while let Ok(command) = self.parts.commands.try_recv() {
            if let PollerCommand::Acknowledge(receipt) = command {
                self.offsets.acknowledge(receipt);
            }
        }
        for event in self.take_later() {
            match event {
                Event::Committed(answers) => self.committed(&answers),
                other => self.defer(other),
            }
        }
        let assigned: Vec<_> = self.offsets.assigned().cloned().collect();
        let deadline = self.close_by.unwrap_or_else(|| Instant::now() + LAST_COMMIT_MAX);
        if let Err(reason) = self.commit_now(&assigned, deadline) {
            let messages = self.offsets.counted_again(&assigned);
            self.parts.health.add_repeated(messages);
            tracing::error!(
                reason,
                messages,
                "kafka: the last commit has failed; what was counted since the one before is counted again"
            );
        }
        self.examine(&assigned);
        self.parts.health.close();
        self.consumer.context().leave();
        self.answer();
        // A commit without an answer by now waits for a coordinator, and without one the group can't be left either.
        let is_reachable = !self.commits.is_under_way();
        self.committer.end(is_reachable);
        self.questions.end(is_reachable);
        // Leaves the group, so that the others take over at once.
        drop(self.consumer);
        tracing::debug!("kafka: left the group");
    }

    /// Tells what is lost of partitions that are given up, where no statistics have come since that was noticed: what lies
    /// behind it is committed, so nobody else will notice.
    fn examine(&mut self, partitions: &[Partition]) {
        let unexamined = self.offsets.unexamined(partitions);
        if unexamined.is_empty() || !self.parts.health.is_connected() {
            return;
        }
        for (partition, start) in broker_requests::starts(&self.consumer, &unexamined, EXAMINE_MAX) {
            if let Some(loss) = self.offsets.examine_all(&partition, start) {
                self.log_loss(&partition, loss);
            }
        }
    }

    /// The group waits for an answer to each change, and can't be left before.
    fn answer(&mut self) {
        let events = self.take_later().into_iter().chain(self.consumer.context().take_events());
        for event in events {
            if let Event::Assigned(partitions)
            | Event::Known { partitions, .. }
            | Event::Revoked(partitions) = event
            {
                let given = without_offsets(&partitions);
                if let Err(error) = give_up(&self.consumer, &given) {
                    tracing::debug!(%error, "kafka: partitions could not be given up at the stop");
                }
            }
        }
    }
}

fn log_unsettled(partitions: &[Partition]) {
    tracing::warn!(
        partitions = partitions.len(),
        "kafka: partitions are given up before all that was handed out of them has an outcome: what was counted of it \
         is counted again by whoever reads them next"
    );
}
