//! Asks the broker what the group has committed, on a thread of its own, so that nobody else waits for the answer.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::group::{Group, list, to_list};
use super::positions::Partition;

/// How long the answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Assignments that may wait for an answer. The group gives the next one only when the one before is taken.
const QUESTIONS_MAX: usize = 4;

/// The thread that asks.
#[derive(Debug)]
pub(super) struct Asker {
    questions: SyncSender<Vec<Partition>>,
    thread: JoinHandle<()>,
}

impl Asker {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(consumer: &Arc<BaseConsumer<Group>>) -> io::Result<Self> {
        let (questions, asked) = sync_channel(QUESTIONS_MAX);
        let consumer = Arc::clone(consumer);
        let work = move || answer(&consumer, &asked);
        let thread = thread::Builder::new().name("kafka-offsets".to_owned()).spawn(work)?;
        Ok(Self { questions, thread })
    }

    /// Asks for the offsets of these partitions: [`Group::know`] is told. `Err`: it can't be asked now.
    pub(super) fn ask(&self, partitions: Vec<Partition>) -> Result<(), Vec<Partition>> {
        self.questions.try_send(partitions).map_err(|error| match error {
            TrySendError::Full(partitions) | TrySendError::Disconnected(partitions) => partitions,
        })
    }

    /// Ends it, once it has the answer that it waits for.
    pub(super) fn end(self) {
        drop(self.questions);
        if self.thread.join().is_err() {
            tracing::error!("a thread of the Kafka client has panicked");
        }
    }
}

fn answer(consumer: &BaseConsumer<Group>, asked: &Receiver<Vec<Partition>>) {
    while let Ok(partitions) = asked.recv() {
        let wanted = to_list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
        let committed = consumer.committed_offsets(wanted, ANSWER_MAX);
        let committed = match committed {
            Ok(committed) => {
                let known = list(&committed).into_iter();
                Some(known.filter_map(|(partition, offset)| Some((partition, offset?))).collect())
            }
            Err(error) => {
                tracing::debug!(%error, "kafka: the group's offsets could not be asked for");
                None
            }
        };
        consumer.context().know(partitions, committed);
    }
}
