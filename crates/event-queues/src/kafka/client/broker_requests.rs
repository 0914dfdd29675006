//! Requests to the broker, on threads of their own, so that the poller never waits for answers.
//!
//! librdkafka reports the result of an asynchronous commit only to a callback that rdkafka does not set (0.39), so the
//! result would stay unknown. So a thread makes synchronous commits.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::MetadataTopic;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::callbacks::{Answer, Callbacks, Event, list, to_list, without_offsets};
use super::offsets::Partition;

/// How long the answer to a question may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Requests of one kind that may wait. There is one commit at a time, and the group gives partitions only when those before
/// are taken.
const WAITING_MAX: usize = 4;

/// Offsets to be committed.
pub(super) type CommitOffsets = Vec<(Partition, i64)>;

/// A thread that makes requests of one kind, one after the other.
#[derive(Debug)]
pub(super) struct BrokerRequests<T> {
    waiting: SyncSender<T>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> BrokerRequests<T> {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(
        name: &str,
        consumer: &Arc<BaseConsumer<Callbacks>>,
        run: fn(&BaseConsumer<Callbacks>, T),
    ) -> io::Result<Self> {
        let (waiting, requests) = sync_channel(WAITING_MAX);
        let consumer = Arc::clone(consumer);
        let work = move || {
            while let Ok(request) = requests.recv() {
                run(&consumer, request);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { waiting, thread })
    }

    /// Hands over a request. `Err`: there is no room now.
    pub(super) fn send(&self, request: T) -> Result<(), T> {
        self.waiting.try_send(request).map_err(|error| match error {
            TrySendError::Full(request) | TrySendError::Disconnected(request) => request,
        })
    }

    /// Ends the thread after its current request; waits for that if `is_waited_for`.
    pub(super) fn end(self, is_waited_for: bool) {
        drop(self.waiting);
        if is_waited_for && self.thread.join().is_err() {
            tracing::error!("a thread of the Kafka client has panicked");
        }
    }
}

/// A question to the broker.
#[derive(Debug)]
pub(super) enum BrokerQuestion {
    /// The offsets of partitions that the group has committed.
    Committed(Vec<Partition>),
    /// Where partitions end.
    Ends(Vec<Partition>),
    /// Which of these topics are there.
    Topics(Vec<String>),
}

/// Asks it.
pub(super) fn ask(consumer: &BaseConsumer<Callbacks>, question: BrokerQuestion) {
    match question {
        BrokerQuestion::Committed(partitions) => ask_for_committed(consumer, partitions),
        BrokerQuestion::Ends(partitions) => ask_for_ends(consumer, &partitions),
        BrokerQuestion::Topics(topics) => ask_for_topics(consumer, topics),
    }
}

/// Asks for all topics that this client may see, for then librdkafka at once joins the group anew with one that is there now.
fn ask_for_topics(consumer: &BaseConsumer<Callbacks>, asked: Vec<String>) {
    let found = match consumer.fetch_metadata(None, ANSWER_MAX) {
        Ok(all) => {
            let readable =
                all.topics().iter().filter(|one| one.error().is_none() && !one.partitions().is_empty());
            let names: HashSet<&str> = readable.map(MetadataTopic::name).collect();
            Some(asked.iter().filter(|topic| names.contains(&***topic)).cloned().collect())
        }
        Err(error) => {
            tracing::debug!(%error, "kafka: the topics could not be asked for");
            None
        }
    };
    consumer.context().note(Event::Topics { asked, found });
}

/// In the place of a time, -1 asks for the end: for the last settled one, where transactions count. Source: Kafka's protocol,
/// `ListOffsets`.
fn ask_for_ends(consumer: &BaseConsumer<Callbacks>, partitions: &[Partition]) {
    let wanted = to_list(partitions.iter().map(|partition| (partition, Offset::End)));
    let ends = match consumer.offsets_for_times(wanted, ANSWER_MAX) {
        Ok(ends) => list(&ends).into_iter().filter_map(|(partition, end)| Some((partition, end?))).collect(),
        Err(error) => {
            tracing::debug!(%error, "kafka: the ends of partitions could not be asked for");
            Vec::new()
        }
    };
    consumer.context().note(Event::Ends(ends));
}

/// Where partitions begin, as far as that can be found out soon. In the place of a time, -2 asks for the beginning. Source: Kafka's
/// protocol, `ListOffsets`.
pub(super) fn starts(
    consumer: &BaseConsumer<Callbacks>,
    partitions: &[Partition],
    patience: Duration,
) -> Vec<(Partition, i64)> {
    let wanted = to_list(partitions.iter().map(|partition| (partition, Offset::Beginning)));
    let starts = consumer.offsets_for_times(wanted, patience);
    let starts = starts.inspect_err(
        |error| tracing::debug!(%error, "kafka: the beginning of partitions could not be asked for"),
    );
    let known = starts.iter().flat_map(list);
    known.filter_map(|(partition, start)| Some((partition, start?))).collect()
}

fn ask_for_committed(consumer: &BaseConsumer<Callbacks>, partitions: Vec<Partition>) {
    let wanted = without_offsets(&partitions);
    let committed = match consumer.committed_offsets(wanted, ANSWER_MAX) {
        Ok(committed) => {
            let known = list(&committed).into_iter();
            Some(known.filter_map(|(partition, offset)| Some((partition, offset?))).collect())
        }
        Err(error) => {
            tracing::debug!(%error, "kafka: the group's offsets could not be asked for");
            None
        }
    };
    consumer.context().note(Event::Known { partitions, committed });
}

/// Commits these offsets. It waits for a coordinator for as long as a session lasts.
pub(super) fn commit(consumer: &BaseConsumer<Callbacks>, offsets: CommitOffsets) {
    let result = commit_all(consumer, &offsets);
    let code = result.as_ref().err().and_then(KafkaError::rdkafka_error_code);
    let is_of_a_topic = matches!(
        code,
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::UnknownTopicOrPartition)
    );
    if !is_of_a_topic {
        return answer(consumer, offsets, &result);
    }
    // The error does not name the partition, so each topic is committed by itself.
    let mut topics: BTreeMap<Arc<str>, CommitOffsets> = BTreeMap::new();
    for (partition, offset) in offsets {
        topics.entry(Arc::clone(&partition.topic)).or_default().push((partition, offset));
    }
    let is_one = topics.len() == 1;
    for offsets in topics.into_values() {
        let result = if is_one { result.clone() } else { commit_all(consumer, &offsets) };
        answer(consumer, offsets, &result);
    }
}

fn commit_all(consumer: &BaseConsumer<Callbacks>, offsets: &CommitOffsets) -> KafkaResult<()> {
    match consumer.commit(&to_offsets(offsets), CommitMode::Sync) {
        // Nothing was left to commit.
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
        result => result,
    }
}

fn answer(consumer: &BaseConsumer<Callbacks>, offsets: CommitOffsets, result: &KafkaResult<()>) {
    let answers =
        offsets.into_iter().map(|(partition, offset)| Answer { partition, offset, result: result.clone() });
    consumer.context().note(Event::Committed(answers.collect()));
}

fn to_offsets(offsets: &CommitOffsets) -> TopicPartitionList {
    to_list(offsets.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))))
}
