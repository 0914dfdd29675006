//! The callbacks of librdkafka, which run while it is polled. They only take notes: the [poller](super::poller) acts on
//! them, and answers for each change of the assignment.

use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings::rd_kafka_resp_err_t;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::{ConsumerGroup, Partition as PartitionStatistics, Statistics};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::authorities::Authorities;
use super::health::{Health, Membership};
use super::offsets::{Partition, Watermarks};
use super::probe::Probe;
use super::refusal::{self, ClientIdentity, Trouble};
use super::token;

/// How long an account of the client may show no connection that is up before no broker can be reached: at the start, that to the
/// address in the configuration gives way to one to the broker that answered. If all brokers are gone, that is an event.
const EXCHANGE_MAX: Duration = Duration::from_secs(1);

/// An event of the consumer.
#[derive(Debug)]
pub(super) enum Event {
    /// The group assigns these partitions to this process, which has to take them.
    Assigned(Vec<Partition>),
    /// The group revokes these partitions, and waits until this process gives them up.
    Revoked(Vec<Partition>),
    /// The group's committed offsets of assigned partitions; `None`: they could not be found out.
    Known { partitions: Vec<Partition>, committed: Option<Vec<(Partition, i64)>> },
    /// The answer to offsets of a commit.
    Committed(Vec<Answer>),
    /// The watermarks of the partitions that are read.
    Watermarks(Vec<(Partition, Watermarks)>),
    /// The ends of partitions whose fetching is paused; none: they could not be found out.
    Ends(Vec<(Partition, i64)>),
    /// The topics asked for, and those of them that are there; `None`: that could not be found out.
    Topics { asked: Vec<String>, found: Option<Vec<String>> },
}

/// The broker's answer to the offset of one partition.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) partition: Partition,
    pub(super) offset: i64,
    pub(super) result: Result<(), KafkaError>,
}

/// Who assigns the partitions to the members of the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum GroupProtocol {
    /// One of the members.
    #[default]
    Classic,
    /// The broker (KIP-848).
    Consumer,
}

impl GroupProtocol {
    /// Source: the states of a group in librdkafka, `rdkafka_cgrp.c`. A member that the broker gives nothing is never told so.
    fn membership(self, group: &ConsumerGroup) -> Membership {
        match (&*group.state, &*group.join_state) {
            ("up", "steady") => Membership::Member,
            ("up", _) if self == Self::Consumer => Membership::Member,
            ("up", _) => Membership::Joining,
            _ => Membership::WithoutCoordinator,
        }
    }
}

/// The consumer's callbacks.
#[derive(Debug, Default)]
pub(super) struct Callbacks {
    /// Callbacks run on the polling thread, so nobody ever waits for the lock; the library requires a shared type.
    events: Mutex<Vec<Event>>,
    /// How often something other than a message came out of a poll.
    calls: AtomicU64,
    health: Arc<Health>,
    oauth_token_file: Option<PathBuf>,
    identity: ClientIdentity,
    protocol: GroupProtocol,
    probe: Probe,
    /// The process is leaving, so notes are not read: partitions are given up at once.
    is_leaving: AtomicBool,
}

impl Callbacks {
    pub(super) fn new(
        health: Arc<Health>,
        oauth_token_file: Option<PathBuf>,
        identity: ClientIdentity,
        protocol: GroupProtocol,
        authorities: Authorities,
    ) -> Self {
        let probe = Probe::new(authorities);
        Self { health, oauth_token_file, identity, protocol, probe, ..Self::default() }
    }

    /// Changes with each callback: a poll that gave no message and left this as it was has found nothing at all.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// The events since the last call, in order.
    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on partitions are given up at once.
    pub(super) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Records an event.
    pub(super) fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: rd_kafka_resp_err_t,
        partitions: &mut TopicPartitionList,
    ) {
        self.called();
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
}

impl ClientContext for Callbacks {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.called();
        if let Some(refusal) = refusal::of_log(facility, message, self.identity) {
            self.health.refuse(&refusal, message);
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "kafka: {message}");
            }
            // librdkafka recovers by itself from what it calls an error (a broker that closes a connection, say); anything
            // that needs attention comes as an error event, too.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::warn!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, "kafka: {message}"),
            RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.called();
        let is_up = statistics.brokers.values().any(|broker| broker.state == "UP");
        let is_away = self.health.none_is_up_for(is_up) >= EXCHANGE_MAX && !is_let_in_again(&statistics);
        let is_connected = is_up || (self.health.is_connected() && !is_away);
        if self.health.set_connected(is_connected) {
            if is_connected {
                tracing::info!("kafka: connected");
            } else {
                tracing::warn!("kafka: no broker can be reached; trying on, nothing is lost");
            }
        }
        if is_up {
            self.health.note_connected();
        }
        let group = statistics.cgrp.as_ref();
        self.health
            .note_membership(group.map_or(Membership::Member, |group| self.protocol.membership(group)));
        // So it stays where an offset may not be reset.
        if desired(&statistics).any(|(_, partition)| partition.fetch_state == "none") {
            self.health.lasts(Trouble::Standstill);
        }
        self.health.note_leaders(&leaderless(&statistics));
        self.note(Event::Watermarks(marks(&statistics)));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.called();
        let Some(code) = error.rdkafka_error_code() else { return };
        if code == RDKafkaErrorCode::AllBrokersDown {
            if self.health.set_connected(false) {
                tracing::warn!(reason, "kafka: no broker can be reached; trying on, nothing is lost");
            }
            return;
        }
        if refusal::is_of_certificate(reason) {
            self.probe.start(reason, &self.health);
            return;
        }
        if let Some(refusal) = refusal::of_error(code, reason, self.identity) {
            self.health.refuse(&refusal, reason);
        } else {
            tracing::debug!(%error, reason, "kafka");
        }
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.called();
        let file = self.oauth_token_file.as_ref().ok_or(
            "sasl.mechanisms is OAUTHBEARER, and queue.kafka.oauth_token_file does not say where the token is",
        )?;
        let read = token::read(file)?;
        Ok(OAuthToken {
            token: read.text,
            principal_name: read.subject,
            lifetime_ms: read.expires_milliseconds,
        })
    }
}

/// Gives partitions up, in the way that the group's protocol requires.
pub(super) fn give_up(
    consumer: &BaseConsumer<Callbacks>,
    partitions: &TopicPartitionList,
) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        _ => consumer.unassign(),
    }
}

/// The partitions and their offsets, where they have one.
pub(super) fn list(partitions: &TopicPartitionList) -> Vec<(Partition, Option<i64>)> {
    let one = |element: &TopicPartitionListElem<'_>| {
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
            // Offsets of received messages can be encoded.
            tracing::error!(%error, "kafka: an offset can't be written");
        }
    }
    list
}

/// The partitions alone.
pub(super) fn without_offsets(partitions: &[Partition]) -> TopicPartitionList {
    to_list(partitions.iter().map(|partition| (partition, Offset::Invalid)))
}

/// Whether a broker asks for the token or the password once more, over the connection that there is (KIP-368). The client waits
/// for the answer to a fetch first. A connection that is new goes through the last two of these states as well. Source: `REAUTH` in
/// librdkafka, `rdkafka_broker.c`.
fn is_let_in_again(statistics: &Statistics) -> bool {
    let states = ["REAUTH", "AUTH_HANDSHAKE", "AUTH_REQ"];
    statistics.brokers.values().any(|broker| states.contains(&&*broker.state))
}

/// The partitions that this process has been given, with their topics.
fn desired(statistics: &Statistics) -> impl Iterator<Item = (&str, &PartitionStatistics)> {
    let of_topics = statistics
        .topics
        .values()
        .flat_map(|topic| topic.partitions.values().map(|partition| (topic.topic.as_str(), partition)));
    of_topics.filter(|(_, partition)| partition.partition >= 0 && partition.desired)
}

/// The partitions that this process reads and no broker leads, or none that is connected.
fn leaderless(statistics: &Statistics) -> Vec<String> {
    let is_up = |leader| {
        let mut brokers = statistics.brokers.values();
        brokers.any(|broker| leader >= 0 && broker.nodeid == leader && broker.state == "UP")
    };
    let without = desired(statistics).filter(|(_, partition)| !is_up(partition.leader));
    let mut names: Vec<_> =
        without.map(|(topic, partition)| format!("{topic} [{}]", partition.partition)).collect();
    names.sort_unstable();
    names
}

/// The watermarks of the partitions that this process reads.
fn marks(statistics: &Statistics) -> Vec<(Partition, Watermarks)> {
    let mut all = Vec::new();
    for topic in statistics.topics.values() {
        let name: Arc<str> = topic.topic.as_str().into();
        for partition in topic.partitions.values().filter(|partition| is_read(partition)) {
            let marks = Watermarks {
                start: partition.lo_offset,
                end: partition.ls_offset,
                next: partition.next_offset,
                is_at_end: partition.eof_offset >= 0 && partition.eof_offset == partition.next_offset,
            };
            all.push((Partition { topic: Arc::clone(&name), number: partition.partition }, marks));
        }
    }
    all
}

/// Whether this process reads the partition.
fn is_read(partition: &PartitionStatistics) -> bool {
    partition.partition >= 0
        && partition.desired
        && !matches!(&*partition.fetch_state, "none" | "stopped" | "stopping")
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::Broker;

    use super::*;

    fn with(state: &str) -> Statistics {
        let broker = Broker { state: state.to_owned(), ..Broker::default() };
        Statistics { brokers: [("one".to_owned(), broker)].into(), ..Statistics::default() }
    }

    #[test]
    fn a_connection_stands_while_it_is_exchanged_or_its_token_is_asked_for_again() {
        let callbacks = Callbacks::default();
        let mut is_connected = |state| {
            callbacks.stats(with(state));
            callbacks.health.is_connected()
        };
        let states = ["AUTH_REQ", "TRY_CONNECT", "UP", "TRY_CONNECT", "CONNECT"];
        assert_eq!(states.map(&mut is_connected), [false, false, true, true, true]);
        std::thread::sleep(EXCHANGE_MAX);
        let states = ["REAUTH", "AUTH_HANDSHAKE", "AUTH_REQ", "CONNECT", "AUTH_REQ", "UP", "CONNECT"];
        assert_eq!(states.map(&mut is_connected), [true, true, true, false, false, true, true]);
    }
}
