//! What librdkafka calls back while it is polled. It only takes notes: the [poller](super::poller) acts on them,
//! and answers for each change of the assignment.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::bindings::rd_kafka_resp_err_t;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::{Partition as PartitionStatistics, Statistics};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::health::Health;
use super::oauth;
use super::positions::Partition;

/// What has happened to the consumer.
#[derive(Debug)]
pub(super) enum Event {
    /// The group gives these partitions to this process, which has to take them.
    Assigned(Vec<Partition>),
    /// The group takes these partitions away, and waits until this process gives them up.
    Revoked(Vec<Partition>),
    /// The answer to a commit.
    Committed { offsets: Vec<(Partition, i64)>, result: Result<(), KafkaError> },
}

/// The consumer's callbacks.
#[derive(Debug)]
pub(super) struct Group {
    /// Callbacks run on the thread that polls, so nobody ever waits for it; the library wants it shared.
    events: Mutex<Vec<Event>>,
    health: Arc<Health>,
    oauth_token_file: Option<PathBuf>,
    /// Nobody looks at the notes any more: partitions are given up at once.
    is_leaving: AtomicBool,
}

impl Group {
    pub(super) fn new(health: Arc<Health>, oauth_token_file: Option<PathBuf>) -> Self {
        Self { events: Mutex::new(Vec::new()), health, oauth_token_file, is_leaving: AtomicBool::new(false) }
    }

    /// What has happened since the last call, in order.
    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on partitions are given up at once.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: rd_kafka_resp_err_t,
        partitions: &mut TopicPartitionList,
    ) {
        if self.is_leaving.load(Ordering::Relaxed) {
            if let Err(error) = give_up(consumer, partitions) {
                tracing::debug!(%error, "kafka: partitions could not be given up at the stop");
            }
            return;
        }
        let partitions = list(partitions).into_iter().map(|(partition, _)| partition).collect();
        self.note(match kind {
            rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.health.set_connected(true);
                Event::Assigned(partitions)
            }
            _ => Event::Revoked(partitions),
        });
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        let refused = offsets.elements().iter().find_map(|element| element.error().err());
        let result = result.and(refused.map_or(Ok(()), Err));
        let offsets = list(offsets).into_iter().filter_map(|(partition, offset)| Some((partition, offset?)));
        self.note(Event::Committed { offsets: offsets.collect(), result });
    }
}

impl ClientContext for Group {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "kafka: {message}");
            }
            // What it calls an error (a broker that closes a connection, say) it recovers from by itself; what
            // needs somebody comes as an error event, too.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "kafka: {message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let partitions = || statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let read = || partitions().filter(|partition| partition.partition >= 0 && is_read(partition));
        self.health.set_lag(read().map(lag).sum());
        self.health.set_partitions(read().count());
        let is_connected = statistics.brokers.values().any(|broker| broker.state == "UP");
        if self.health.set_connected(is_connected) {
            if is_connected {
                tracing::info!("kafka: connected");
            } else {
                tracing::warn!("kafka: no broker can be reached; trying on, nothing is lost");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                if self.health.set_connected(false) {
                    tracing::warn!(reason, "kafka: no broker can be reached; trying on, nothing is lost");
                }
            }
            Some(
                code @ (RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL),
            ) => {
                if self.health.set_trouble(Some("the Kafka broker refuses this client: see the log")) {
                    tracing::error!(
                        %code,
                        reason,
                        "kafka: the broker refuses this client; check security.protocol, sasl.* and ssl.* in \
                         [queue.kafka.options]"
                    );
                }
            }
            _ => tracing::debug!(%error, reason, "kafka"),
        }
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let file = self.oauth_token_file.as_ref().ok_or(
            "sasl.mechanisms is OAUTHBEARER, and queue.kafka.oauth_token_file does not say where the token is",
        )?;
        let token = oauth::read(file)?;
        Ok(OAuthToken {
            token: token.text,
            principal_name: token.subject,
            lifetime_ms: token.expires_milliseconds,
        })
    }
}

/// Gives partitions up, in the way that the group's protocol wants.
pub(super) fn give_up(consumer: &BaseConsumer<Group>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    }
}

/// The partitions and their offsets, where they have one.
pub(super) fn list(partitions: &TopicPartitionList) -> Vec<(Partition, Option<i64>)> {
    let one = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let partition = Partition { topic: element.topic().into(), number: element.partition() };
        let Offset::Offset(offset) = element.offset() else { return (partition, None) };
        (partition, Some(offset))
    };
    partitions.elements().iter().map(one).collect()
}

/// The opposite of [`list`].
pub(super) fn to_list<'a>(partitions: impl Iterator<Item = (&'a Partition, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        let mut element = list.add_partition(&partition.topic, partition.number);
        if let Err(error) = element.set_offset(offset) {
            // Offsets of messages that were received can be written.
            tracing::error!(%error, "kafka: an offset can't be written");
        }
    }
    list
}

/// Whether this process reads the partition.
fn is_read(partition: &PartitionStatistics) -> bool {
    partition.desired && !matches!(&*partition.fetch_state, "none" | "stopped" | "stopping")
}

/// Messages that the broker holds behind what is committed. Where nothing is, all that it holds.
fn lag(partition: &PartitionStatistics) -> u64 {
    let behind = if partition.committed_offset >= 0 {
        partition.hi_offset - partition.committed_offset
    } else {
        partition.hi_offset - partition.lo_offset.max(0)
    };
    u64::try_from(behind).unwrap_or(0)
}
