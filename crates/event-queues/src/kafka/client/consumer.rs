//! The consumer as a [`Queue`].

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::callbacks::Callbacks;
use super::deliveries::{Complaints, DeliveryMaker, Ready};
use super::health::{Health, KafkaWatch};
use super::poller::{Parts, Poller, PollerCommand};
use super::schemas::Schemas;
use super::setup::{KafkaOpenError, consumer_of, open_registry, unwatched};
use crate::kafka::KafkaSettings;
use crate::{Delivery, Queue, QueueError, Receipt};

/// Batches that wait to be resolved, and deliveries that wait to be received, each. Together with librdkafka's prefetch
/// (`queued.max.messages.kbytes`) they bound the memory for bodies.
const BATCHES_MAX: usize = 2;

/// Acknowledgements that may wait for the poller.
const COMMANDS_MAX: usize = 64;

/// How long leaving the group may take, so that a broker that does not answer does not hold up the process.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// A member of a consumer group, seen as a queue. The group is joined with the first
/// [`receive`](Queue::receive), and left with [`close`](Self::close).
#[derive(Debug)]
pub struct KafkaQueue {
    start: Option<Box<Start>>,
    health: Arc<Health>,
    ready: mpsc::Receiver<Ready>,
    commands: mpsc::Sender<PollerCommand>,
    /// Answers when the thread has ended.
    left: Option<oneshot::Receiver<()>>,
    /// The task that turns batches into deliveries.
    resolving: JoinSet<()>,
    has_ended: bool,
}

/// The arguments of the thread.
#[derive(Debug)]
struct Start {
    settings: KafkaSettings,
    consumer: Consumer,
    parts: Parts,
    maker: DeliveryMaker,
}

/// A consumer that nobody polls yet.
struct Consumer(BaseConsumer<Callbacks>);

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Consumer")
    }
}

/// Makes a consumer. It connects with the first [`receive`](Queue::receive); with `is_until_empty` the queue ends
/// when everything in the partitions of this process has been read. `user_agent` is for the schema registry.
///
/// Called within a tokio runtime.
///
/// # Errors
/// When librdkafka does not take the settings.
pub fn open(
    settings: &KafkaSettings,
    is_until_empty: bool,
    user_agent: &str,
) -> Result<(KafkaQueue, KafkaWatch), KafkaOpenError> {
    let health = Arc::new(Health::default());
    let consumer = consumer_of(settings, &health, is_until_empty)?;
    let (handed, batches) = mpsc::channel(BATCHES_MAX);
    let (hand_on, ready) = mpsc::channel(BATCHES_MAX);
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let parts = Parts {
        handed,
        commands: commanded,
        health: Arc::clone(&health),
        runtime: Handle::current(),
        is_until_empty,
        has_registry: settings.schema_registry.is_some(),
        unwatched: unwatched(settings),
    };
    let auth = settings.schema_registry_auth.as_ref();
    let registry = settings
        .schema_registry
        .as_ref()
        .map(|url| open_registry(url, auth, settings.schema_registry_ids, user_agent))
        .transpose()?;
    let schemas = registry.map(|registry| Schemas::new(registry, Arc::clone(&health)));
    let maker = DeliveryMaker { batches, ready: hand_on, schemas, complaints: Complaints::default() };
    let start = Start { settings: settings.clone(), consumer: Consumer(consumer), parts, maker };
    let queue = KafkaQueue {
        start: Some(Box::new(start)),
        health: Arc::clone(&health),
        ready,
        commands,
        left: None,
        resolving: JoinSet::new(),
        has_ended: false,
    };
    Ok((queue, KafkaWatch(health)))
}

impl KafkaQueue {
    /// Joins the group.
    fn start(&mut self) -> Result<(), QueueError> {
        let Some(start) = self.start.take() else { return Ok(()) };
        let Start { settings, consumer: Consumer(consumer), parts, maker } = *start;
        self.health.join();
        let topics: Vec<&str> = settings.topics.iter().map(|topic| &**topic).collect();
        consumer
            .subscribe(&topics)
            .map_err(|error| QueueError(format!("queue.kafka.topics: librdkafka refuses them: {error}")))?;
        let no_thread = |error| QueueError(format!("a thread could not be started: {error}"));
        let poller = Poller::new(consumer, parts).map_err(no_thread)?;
        let (leave, left) = oneshot::channel();
        let work = move || {
            poller.run();
            // The receiver may be gone.
            let _gone = leave.send(());
        };
        thread::Builder::new().name("kafka".to_owned()).spawn(work).map_err(no_thread)?;
        self.left = Some(left);
        self.resolving.spawn(maker.run());
        tracing::info!(topics = ?topics, group = %settings.group_id, "kafka: joining the group");
        Ok(())
    }

    /// Commits acknowledged offsets and leaves the group, so that others take its partitions over at once.
    ///
    /// # Errors
    /// When the last commit has failed: sends counted since the one before are counted again; at the end of a run until all is
    /// read, when something of the topics could not be.
    pub async fn close(mut self) -> Result<(), QueueError> {
        let Some(left) = self.left.take() else { return Ok(()) };
        // A thread that has ended needs no command.
        let _ended = self.commands.send(PollerCommand::Close).await;
        self.ready.close();
        self.resolving.shutdown().await;
        if tokio::time::timeout(LEAVE_MAX, left).await.is_err() {
            tracing::warn!(
                waited = ?LEAVE_MAX,
                "kafka: the group could not be left in time; its partitions are taken over after session.timeout.ms"
            );
        }
        match self.health.repeated() {
            0 if self.health.is_closed() => match self.health.unread() {
                Some(words) if self.has_ended => {
                    Err(QueueError(format!("not all of queue.kafka.topics was read: {words}")))
                }
                _ => Ok(()),
            },
            0 => Err(QueueError(format!(
                "Kafka did not answer within {LEAVE_MAX:?}: what was counted since the last commit may be counted again"
            ))),
            messages => Err(QueueError(format!(
                "the last commit to Kafka has failed: {messages} messages that were counted are counted again"
            ))),
        }
    }
}

impl Queue for KafkaQueue {
    /// One delivery is a run of messages of one partition.
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        self.start()?;
        while !self.has_ended {
            match self.ready.recv().await {
                Some(Ready::Delivery { delivery, assignment }) => {
                    // The partition's present owner counts it.
                    if !assignment.is_some_and(|assignment| assignment.is_over()) {
                        return Ok(Some(delivery));
                    }
                }
                Some(Ready::End) => self.has_ended = true,
                Some(Ready::Failed(reason)) => return Err(QueueError(reason)),
                None => return Err(gone()),
            }
        }
        Ok(None)
    }

    /// `Ok` means that the offsets are on their way to the broker; [`KafkaQueue::close`] waits until they are there.
    /// Messages that a crash in between leaves uncommitted come again.
    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        self.commands.send(PollerCommand::Acknowledge(receipt)).await.map_err(|_| gone())
    }

    fn ensure_acknowledgeable(&self) -> Result<(), QueueError> {
        self.health.lost().map_or(Ok(()), |reason| Err(QueueError(reason.to_owned())))
    }

    fn held(&self) -> Option<QueueError> {
        self.health.held().map(QueueError)
    }
}

/// The thread ends only by a defect before it is told to.
fn gone() -> QueueError {
    QueueError("the thread of the Kafka client has ended".to_owned())
}
