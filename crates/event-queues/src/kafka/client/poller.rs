//! The thread that polls the consumer: it gathers messages, hands them over, commits, and gives partitions up
//! only when what it handed out of them has an outcome. It asks the broker nothing that it would have to wait for.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message, OwnedMessage};
use rdkafka::types::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::batch::MessageBatch;
use super::broker_requests::{self, BrokerQuestion, BrokerRequests, CommitOffsets};
use super::callbacks::{Callbacks, Event};
use super::commits::Commits;
use super::frame;
use super::health::Health;
use super::membership::RECALL_MAX;
use super::offsets::{Partition, PartitionOffsets};
use super::watermarks::Steady;
use crate::Receipt;

/// How long a poll waits when nothing comes, and so how long an acknowledgement waits for its commit at most.
const IDLE: Duration = Duration::from_millis(100);

/// How long the first message of a batch waits for others.
const LINGER: Duration = Duration::from_millis(10);

/// Messages taken in a row before other work.
const TURN_MESSAGES: usize = 1024;

/// The output of the poller.
#[derive(Debug)]
pub(super) enum PollerOutput {
    Batch(Receipt, Box<MessageBatch>),
    /// Partitions are about to be given up.
    Recall(Receipt),
    /// Nothing is left to read, and the run ends there.
    End,
    Failed(String),
}

impl PollerOutput {
    /// Whether nobody waits for it any more: the partition was given up.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Batch(_, batch) if batch.assignment.is_over())
    }
}

/// The commands for the poller.
#[derive(Debug, Clone, Copy)]
pub(super) enum PollerCommand {
    Acknowledge(Receipt),
    /// Commit everything acknowledged, leave the group, end.
    Close,
}

/// Why the poller ends.
#[derive(Debug)]
pub(super) enum Halt {
    /// It was told to, or the receiver is gone.
    Closed,
    /// The client can't go on.
    Failed(String),
}

/// The parts of the polling thread.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) handed: mpsc::Sender<PollerOutput>,
    pub(super) commands: mpsc::Receiver<PollerCommand>,
    pub(super) health: Arc<Health>,
    pub(super) runtime: Handle,
    /// Whether to end when all has been read.
    pub(super) is_until_empty: bool,
    /// Whether there is a registry to be asked for schemas.
    pub(super) has_registry: bool,
    /// Topics of which librdkafka does not say by itself that they are not there.
    pub(super) unwatched: Vec<String>,
}

/// The owner of the consumer.
pub(super) struct Poller {
    pub(super) consumer: Arc<BaseConsumer<Callbacks>>,
    pub(super) questions: BrokerRequests<BrokerQuestion>,
    pub(super) committer: BrokerRequests<CommitOffsets>,
    pub(super) parts: Parts,
    pub(super) offsets: PartitionOffsets,
    pub(super) commits: Commits,
    pub(super) steady: Steady,
    pub(super) batch: Option<MessageBatch>,
    /// When the first message of the batch came.
    begun: Instant,
    /// Since when nothing has come, though all could be taken.
    pub(super) idle_since: Option<Instant>,
    /// Messages that came although their partition was paused, or during a wait.
    pub(super) early: VecDeque<OwnedMessage>,
    /// Events during a wait.
    pub(super) later: Vec<Event>,
    /// When the first of them came.
    pub(super) later_since: Option<Instant>,
    /// What the pipeline has not taken before partitions had to be given up, in order.
    pub(super) unsent: VecDeque<PollerOutput>,
    /// By when the last commit has to be made, once it is told to end.
    pub(super) close_by: Option<Instant>,
    /// Since when the group has given it no partition.
    pub(super) without_since: Option<Instant>,
    pub(super) joining: Joining,
    /// When reads that are refused were last tried again.
    pub(super) tried_at: Option<Instant>,
    pub(super) topics_asked: TopicsAsked,
    /// Whether the ends of paused partitions are asked for.
    pub(super) is_asking: bool,
    /// Whether any partition is paused.
    pub(super) is_paused: bool,
    /// Whether all are: one that was assigned meanwhile is not.
    pub(super) is_all_paused: bool,
}

/// Whether the group has ever answered to the wish to join it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Joining {
    /// Not yet; and since when a broker is connected, if one is.
    Unanswered(Option<Instant>),
    Answered,
}

/// Whether the broker was asked which topics are there.
#[derive(Debug, Clone, Copy)]
pub(super) enum TopicsAsked {
    Never,
    /// There is no answer yet.
    UnderWay,
    Answered(Instant),
}

impl Poller {
    /// # Errors
    /// When the system gives no threads.
    pub(super) fn new(consumer: BaseConsumer<Callbacks>, parts: Parts) -> std::io::Result<Self> {
        let consumer = Arc::new(consumer);
        let questions = BrokerRequests::start("kafka-questions", &consumer, broker_requests::ask)?;
        let committer = BrokerRequests::start("kafka-commits", &consumer, broker_requests::commit)?;
        Ok(Self {
            consumer,
            questions,
            committer,
            parts,
            offsets: PartitionOffsets::default(),
            commits: Commits::default(),
            steady: Steady::new(),
            batch: None,
            begun: Instant::now(),
            idle_since: None,
            early: VecDeque::new(),
            later: Vec::new(),
            later_since: None,
            unsent: VecDeque::new(),
            close_by: None,
            without_since: None,
            joining: Joining::Unanswered(None),
            tried_at: None,
            topics_asked: TopicsAsked::Never,
            is_asking: false,
            is_paused: false,
            is_all_paused: false,
        })
    }

    /// Works until it is closed or fails, and leaves the group.
    pub(super) fn run(mut self) {
        let Err(halt) = self.follow();
        if let Halt::Failed(reason) = halt {
            // A client that can't go on commits nothing more.
            self.parts.health.lose(&reason);
            // The receiver may be gone.
            let _gone = self.parts.handed.blocking_send(PollerOutput::Failed(reason));
            // Deliveries that were handed out may still be acknowledged.
            while let Some(PollerCommand::Acknowledge(receipt)) = self.parts.commands.blocking_recv() {
                self.offsets.acknowledge(receipt);
            }
        }
        self.leave();
    }

    fn follow(&mut self) -> Result<Infallible, Halt> {
        loop {
            while let Ok(command) = self.parts.commands.try_recv() {
                self.obey(command)?;
            }
            let later = self.take_later();
            self.attend_all(later, Some(RECALL_MAX))?;
            let events = self.consumer.context().take_events();
            self.attend_all(events, Some(RECALL_MAX))?;
            self.commit();
            self.send_unsent(None)?;
            while let Some(message) = self.early.pop_front() {
                self.take(&message)?;
            }
            self.turn()?;
            if self.parts.is_until_empty && self.batch.is_none() && self.offsets.are_at_end() {
                self.rest()?;
            }
        }
    }

    /// Executes a command.
    ///
    /// # Errors
    /// When it is to end.
    pub(super) fn obey(&mut self, command: PollerCommand) -> Result<(), Halt> {
        match command {
            PollerCommand::Acknowledge(receipt) => {
                self.offsets.acknowledge(receipt);
                Ok(())
            }
            PollerCommand::Close => {
                self.close();
                Err(Halt::Closed)
            }
        }
    }

    /// Takes messages as long as they come.
    fn turn(&mut self) -> Result<(), Halt> {
        for taken in 0..TURN_MESSAGES {
            let wait = if taken == 0 && self.batch.is_none() { IDLE } else { Duration::ZERO };
            if self.poll(wait)? {
                continue;
            }
            if self.batch.is_none() {
                return if taken == 0 { self.rest() } else { Ok(()) };
            }
            // A batch that has begun waits for others, but not for long.
            let left = LINGER.saturating_sub(self.begun.elapsed());
            if left.is_zero() || !self.poll(left)? {
                return self.hand_over();
            }
        }
        Ok(())
    }

    /// Waits for one message and takes it. `false`: none came in that time.
    fn poll(&mut self, wait: Duration) -> Result<bool, Halt> {
        let calls = self.consumer.context().calls();
        match self.consumer.poll(wait) {
            None => {
                if self.consumer.context().calls() == calls {
                    self.emptied();
                }
                Ok(false)
            }
            Some(Err(error)) => self.handle_error(&error).map(|()| false),
            Some(Ok(message)) => {
                // Nearly all messages go on where the batch ends.
                if let Some(batch) = self.batch.as_mut().filter(|batch| goes_on(batch, &message)) {
                    if batch.next_offset < message.offset() {
                        self.offsets.leave_out(&batch.partition, batch.next_offset, message.offset());
                    }
                    add(batch, &message);
                    return Ok(true);
                }
                let message = message.detach();
                self.take(&message).map(|()| true)
            }
        }
    }

    /// Begins a batch with `message`.
    fn take(&mut self, message: &OwnedMessage) -> Result<(), Halt> {
        let partition = Partition { topic: message.topic().into(), number: message.partition() };
        let assignment = self.offsets.assignment(&partition).map(Arc::clone);
        self.hand_over()?;
        let Some(assignment) = assignment.filter(|assignment| !assignment.is_over()) else {
            // It was fetched before its partition was given up, if it has not come back since: whoever has it now reads it.
            return Ok(());
        };
        self.came_through(&[message.topic()]);
        if let Some(expected) = self.offsets.expected(&partition) {
            self.compare(&partition, expected, message.offset());
        }
        let mut batch = MessageBatch::new(partition, assignment, message.offset(), self.parts.has_registry);
        add(&mut batch, message);
        self.batch = Some(batch);
        self.begun = Instant::now();
        self.idle_since = None;
        Ok(())
    }

    /// A message or a commit of these topics came through.
    pub(super) fn came_through(&self, topics: &[&str]) {
        self.parts.health.came_through(topics, self.offsets.assigned().map(|partition| &*partition.topic));
    }

    /// Hands over the batch.
    fn hand_over(&mut self) -> Result<(), Halt> {
        self.hand_over_by(None).map(drop)
    }

    /// The same, up to a deadline. Returns whether it was sent.
    pub(super) fn hand_over_by(&mut self, deadline: Option<Instant>) -> Result<bool, Halt> {
        let Some(batch) = self.batch.take() else { return Ok(true) };
        let receipt = self.offsets.deliver(&batch.partition, batch.next_offset, batch.message_count());
        self.send_by(PollerOutput::Batch(receipt, Box::new(batch)), deadline)
    }

    /// Handles an error in the place of a message. Its callback has reported it, unless the client can't go on.
    pub(super) fn handle_error(&self, error: &KafkaError) -> Result<(), Halt> {
        let KafkaError::MessageConsumptionFatal(code) = error else { return Ok(()) };
        let (code, text) = self.consumer.client().fatal_error().unwrap_or_else(|| (*code, code.to_string()));
        Err(Halt::Failed(match code {
            RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::Fenced => {
                "another process has joined the Kafka group with the same group.instance.id: give each its own"
                    .to_owned()
            }
            // Source: KIP-848; the classic protocol lets in whoever comes last.
            RDKafkaErrorCode::UnreleasedInstanceId => {
                "a member of queue.kafka.group_id with the same \"group.instance.id\" in [queue.kafka.options] has not left: one \
                 that was killed gives way when its session is over (group.consumer.session.timeout.ms of the Kafka broker, 45 s); \
                 of two that run give each its own"
                    .to_owned()
            }
            RDKafkaErrorCode::GroupAuthorizationFailed => {
                "this client may not use queue.kafka.group_id: give it the right to (Read on the group)".to_owned()
            }
            // Source: KIP-848; the broker says so for a group of the classic protocol that it can't convert.
            RDKafkaErrorCode::GroupIdNotFound | RDKafkaErrorCode::InconsistentGroupProtocol => format!(
                "the members of queue.kafka.group_id have another \"group.protocol\" than [queue.kafka.options]: {text}"
            ),
            _ => format!("the Kafka client can't go on: {text}"),
        }))
    }
}

/// Adds a message.
fn add<M: Message>(batch: &mut MessageBatch, message: &M) {
    batch.push(message.offset(), message.payload().unwrap_or_default(), |_| {
        message.headers().and_then(frame::kind_in)
    });
}

/// Whether `message` comes next in `batch`, and there is room for it.
fn goes_on(batch: &MessageBatch, message: &BorrowedMessage<'_>) -> bool {
    batch.next_offset <= message.offset()
        && batch.partition.number == message.partition()
        && *batch.partition.topic == *message.topic()
        && !batch.is_full()
}
