//! The thread that polls the consumer: it gathers messages, hands them over, commits, and gives partitions up
//! only when what it handed out of them has an outcome.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message as _, OwnedMessage};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::group::{Group, list, to_list};
use super::health::Health;
use super::pack::Pack;
use super::positions::{Partition, Positions};
use crate::queue::Receipt;

/// How long a poll waits when nothing comes: so long, at most, does an acknowledgement wait for its commit.
const IDLE: Duration = Duration::from_millis(100);

/// How long the first message of a pack waits for others.
const LINGER: Duration = Duration::from_millis(10);

/// Messages taken before anything else is looked after.
const TURN_MESSAGES: usize = 1024;

/// How long the pipeline may be full before fetching is paused. It is paused late, for librdkafka throws away
/// what it has fetched ahead.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a question to the broker may take that others wait behind.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How soon the broker is asked about gaps of the same partition again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What the poller hands over.
#[derive(Debug)]
pub(super) enum Handed {
    Pack(Receipt, Box<Pack>),
    /// Partitions are about to be given up.
    Recall(Receipt),
    /// There is nothing left to read, and nobody wanted to wait for more.
    End,
    Failed(String),
}

/// What the poller is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Acknowledge(Receipt),
    /// Commit what is acknowledged, leave the group, end.
    Close,
}

/// Why the poller ends.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was told to, or nobody listens any more.
    Closed,
    /// The client can't go on.
    Failed(String),
}

/// What a thread that polls is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) handed: mpsc::Sender<Handed>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) health: Arc<Health>,
    pub(super) runtime: Handle,
    /// Whether to end when all has been read.
    pub(super) is_until_empty: bool,
}

/// The owner of the consumer.
pub(super) struct Poller {
    pub(super) consumer: BaseConsumer<Group>,
    pub(super) parts: Parts,
    pub(super) positions: Positions,
    pub(super) pack: Option<Pack>,
    /// When the first message of the pack came.
    begun: Instant,
    /// Came although their partition was paused.
    pub(super) early: Vec<OwnedMessage>,
    pub(super) is_paused: bool,
    /// When commits that were refused are tried again.
    pub(super) recommit_at: Option<Instant>,
    /// When the broker was last asked where a partition begins.
    asked: HashMap<Partition, Instant>,
}

impl Poller {
    pub(super) fn new(consumer: BaseConsumer<Group>, parts: Parts) -> Self {
        Self {
            consumer,
            parts,
            positions: Positions::default(),
            pack: None,
            begun: Instant::now(),
            early: Vec::new(),
            is_paused: false,
            recommit_at: None,
            asked: HashMap::new(),
        }
    }

    /// Works until it is closed or fails, and leaves the group.
    pub(super) fn run(mut self) {
        let Err(halt) = self.follow();
        if let Halt::Failed(reason) = halt {
            // Whoever received may have gone.
            let _gone = self.parts.handed.blocking_send(Handed::Failed(reason));
            // What was handed out may still be acknowledged.
            while let Some(Command::Acknowledge(receipt)) = self.parts.commands.blocking_recv() {
                self.positions.acknowledge(receipt);
            }
        }
        self.leave();
    }

    fn follow(&mut self) -> Result<Infallible, Halt> {
        loop {
            while let Ok(command) = self.parts.commands.try_recv() {
                self.obey(command)?;
            }
            for event in self.consumer.context().take_events() {
                self.attend(event)?;
            }
            self.commit();
            for message in std::mem::take(&mut self.early) {
                self.take(&message)?;
            }
            self.turn()?;
        }
    }

    /// Does what it is asked to.
    ///
    /// # Errors
    /// When that is to end.
    pub(super) fn obey(&mut self, command: Command) -> Result<(), Halt> {
        match command {
            Command::Acknowledge(receipt) => {
                self.positions.acknowledge(receipt);
                Ok(())
            }
            Command::Close => Err(Halt::Closed),
        }
    }

    /// Takes messages as long as they come.
    fn turn(&mut self) -> Result<(), Halt> {
        for taken in 0..TURN_MESSAGES {
            let wait = if taken == 0 && self.pack.is_none() { IDLE } else { Duration::ZERO };
            if self.poll(wait)? {
                continue;
            }
            if self.pack.is_none() {
                return if taken == 0 { self.rest() } else { Ok(()) };
            }
            // A pack that has begun waits for others, but not for long.
            let left = LINGER.saturating_sub(self.begun.elapsed());
            if left.is_zero() || !self.poll(left)? {
                return self.hand_over();
            }
        }
        Ok(())
    }

    /// Waits for one message and takes it. `false`: none came in that time.
    fn poll(&mut self, wait: Duration) -> Result<bool, Halt> {
        match self.consumer.poll(wait) {
            None => Ok(false),
            Some(Err(error)) => self.complain(&error).map(|()| false),
            Some(Ok(message)) => {
                // Nearly all messages go on where the pack ends.
                if let Some(pack) = self.pack.as_mut().filter(|pack| goes_on(pack, &message)) {
                    pack.push(message.offset(), message.payload().unwrap_or_default());
                    return Ok(true);
                }
                let message = message.detach();
                self.take(&message).map(|()| true)
            }
        }
    }

    /// Begins a pack with `message`.
    fn take(&mut self, message: &OwnedMessage) -> Result<(), Halt> {
        self.hand_over()?;
        let partition = Partition { topic: message.topic().into(), number: message.partition() };
        let Some(assignment) = self.positions.assignment(&partition).map(Arc::clone) else {
            // It was fetched before its partition was given up; whoever has the partition now reads it.
            return Ok(());
        };
        if let Some(expected) = self.positions.expected(&partition)
            && expected != message.offset()
        {
            self.look_into(&partition, expected, message.offset());
        }
        let mut pack = Pack::new(partition, assignment, message.offset());
        pack.push(message.offset(), message.payload().unwrap_or_default());
        self.pack = Some(pack);
        self.begun = Instant::now();
        Ok(())
    }

    /// Finds out why a partition does not go on where it was. Gaps are normal where topics are compacted or
    /// written in transactions; they are a loss where the broker has thrown away what was not read yet.
    fn look_into(&mut self, partition: &Partition, expected: i64, offset: i64) {
        let Partition { topic, number } = partition;
        if offset < expected {
            tracing::warn!(
                %topic, partition = number, expected, offset,
                "kafka: a partition goes back: the topic was made anew, or the group's offsets were set"
            );
            return;
        }
        if self.asked.get(partition).is_some_and(|asked| asked.elapsed() < ASK_AGAIN_AFTER) {
            return;
        }
        match self.consumer.fetch_watermarks(topic, *number, ANSWER_MAX) {
            Ok((first, _)) if first > expected => {
                let skipped = u64::try_from(offset - expected).unwrap_or(0);
                self.parts.health.skip(skipped);
                tracing::error!(
                    %topic, partition = number, skipped, expected, offset,
                    "kafka: messages are lost: the broker threw them away before they were read; give the topic \
                     a longer retention, or read faster"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(
                    %topic, partition = number, expected, offset, %error,
                    "kafka: a partition has a gap, and the broker does not say whether messages are lost"
                );
            }
        }
        self.asked.insert(partition.clone(), Instant::now());
    }

    /// Hands over what has been gathered.
    pub(super) fn hand_over(&mut self) -> Result<(), Halt> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let receipt = self.positions.deliver(&pack.partition, pack.next_offset);
        self.send(Handed::Pack(receipt, Box::new(pack)))
    }

    /// Sends `handed`; while there is no room for it, it goes on committing and stays in the group.
    pub(super) fn send(&mut self, handed: Handed) -> Result<(), Halt> {
        let mut handed = handed;
        let mut patience = Instant::now() + PATIENCE;
        loop {
            match self.parts.handed.try_send(handed) {
                Ok(()) => return self.resume(),
                Err(TrySendError::Closed(_)) => return Err(Halt::Closed),
                Err(TrySendError::Full(back)) => handed = back,
            }
            let Parts { runtime, handed: room, commands, .. } = &mut self.parts;
            let command = runtime.block_on(async {
                tokio::select! {
                    command = commands.recv() => Some(command),
                    _ = room.reserve() => None,
                    () = tokio::time::sleep_until(patience.into()) => None,
                }
            });
            if let Some(command) = command {
                self.obey(command.unwrap_or(Command::Close))?;
                self.commit();
            }
            if Instant::now() >= patience {
                self.pause();
                self.idle()?;
                patience = Instant::now() + PATIENCE;
            }
        }
    }

    /// Shows the group that this process is alive, and takes nothing.
    fn idle(&mut self) -> Result<(), Halt> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Err(error)) => self.complain(&error),
            Some(Ok(message)) => {
                // Of a partition that was assigned a moment ago: few, for it is paused with the next round.
                self.early.push(message.detach());
                self.is_paused = false;
                Ok(())
            }
        }
    }

    fn pause(&mut self) {
        if !self.is_paused {
            self.is_paused = self.on_all("paused", |consumer, all| consumer.pause(all));
            self.parts.health.set_paused(self.is_paused);
        }
    }

    fn resume(&mut self) -> Result<(), Halt> {
        if self.is_paused {
            self.is_paused = !self.on_all("resumed", |consumer, all| consumer.resume(all));
            self.parts.health.set_paused(self.is_paused);
        }
        Ok(())
    }

    /// Does something with all partitions that this process reads, and says whether that went well.
    fn on_all(
        &self,
        what: &str,
        act: impl FnOnce(&BaseConsumer<Group>, &TopicPartitionList) -> KafkaResult<()>,
    ) -> bool {
        let done = self.consumer.assignment().and_then(|all| act(&self.consumer, &all));
        done.inspect_err(|error| tracing::warn!(%error, "kafka: fetching could not be {what}")).is_ok()
    }

    /// Nothing comes. Where nobody wants to wait for more, it finds out whether there is more.
    fn rest(&mut self) -> Result<(), Halt> {
        if self.parts.is_until_empty && self.is_at_end() {
            self.send(Handed::End)?;
            self.parts.is_until_empty = false;
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        let held: Vec<_> = self.positions.held().cloned().collect();
        if held.is_empty() {
            return false;
        }
        // One question for all: the broker answers it behind the fetch that is waiting there.
        let ends = to_list(held.iter().map(|partition| (partition, Offset::End)));
        let Ok(ends) = self.consumer.offsets_for_times(ends, ANSWER_MAX) else { return false };
        list(&ends).into_iter().all(|(partition, end)| match (end, self.positions.expected(&partition)) {
            (Some(end), Some(expected)) => expected >= end,
            (Some(0), None) => true,
            // Nothing was ever read of it: it may have been emptied.
            _ => {
                let marks = self.consumer.fetch_watermarks(&partition.topic, partition.number, ANSWER_MAX);
                marks.is_ok_and(|(first, end)| first == end)
            }
        })
    }

    /// What the consumer says instead of a message.
    fn complain(&self, error: &KafkaError) -> Result<(), Halt> {
        let code = error.rdkafka_error_code();
        if let KafkaError::MessageConsumptionFatal(code) = error {
            return Err(Halt::Failed(match code {
                RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::Fenced => {
                    "another process has joined the Kafka group with the same group.instance.id: give each its own"
                        .to_owned()
                }
                code => format!("the Kafka client can't go on: {code}"),
            }));
        }
        let advice = match code {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                "a topic of queue.kafka.topics does not exist on the Kafka broker"
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                "this client may not read a topic of queue.kafka.topics: give it the right to (Read)"
            }
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => {
                "this client may not use queue.kafka.group_id: give it the right to (Read on the group)"
            }
            // Told by the callback for errors, with more words.
            _ => return Ok(()),
        };
        if self.parts.health.set_trouble(Some(advice)) {
            tracing::error!(%error, "kafka: {advice}");
        }
        Ok(())
    }
}

/// Whether `message` comes next in `pack`, and there is room for it.
fn goes_on(pack: &Pack, message: &BorrowedMessage<'_>) -> bool {
    pack.next_offset == message.offset()
        && pack.partition.number == message.partition()
        && *pack.partition.topic == *message.topic()
        && !pack.is_full()
}
