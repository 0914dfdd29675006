//! The consumer as a [`Queue`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::group::Group;
use super::health::{Health, Watch};
use super::poller::{Command, Parts, Poller};
use super::registry::{self, Credentials, Registry};
use super::resolver::{Ready, Resolver};
use super::{Secret, Settings};
use crate::queue::{Delivery, Queue, QueueError, Receipt};

/// Packs that wait to be made readable, and deliveries that wait to be received, each. Together with what
/// librdkafka has fetched ahead (`queued.max.messages.kbytes`) they bound the memory for bodies.
const PACKS_MAX: usize = 2;

/// Acknowledgements that may wait for the poller.
const COMMANDS_MAX: usize = 64;

/// How long leaving the group may take; a broker that does not answer must not keep the process.
const LEAVE_MAX: Duration = Duration::from_secs(10);

/// The default of `fetch.max.bytes` below.
const FETCH_BYTES: u64 = 16_777_216;

/// What librdkafka is told unless `[queue.kafka.options]` says otherwise.
const DEFAULTS: [(&str, &str); 10] = [
    ("client.id", "braze-datadog"),
    // A group that has no offset yet counts what is there.
    ("auto.offset.reset", "earliest"),
    // A member that joins or leaves stops nobody else.
    ("partition.assignment.strategy", "cooperative-sticky"),
    // Fetched ahead, in kilobytes: half a second's work at full speed.
    ("queued.max.messages.kbytes", "65536"),
    // One answer of one broker, compressed.
    ("fetch.max.bytes", "16777216"),
    // For the lag, and to notice that no broker is there.
    ("statistics.interval.ms", "5000"),
    // How soon a new topic that fits a pattern is found.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("socket.keepalive.enable", "true"),
    // A broker that refuses us is asked again every second, then less often, and not at once.
    ("reconnect.backoff.ms", "1000"),
    // A topic that does not exist is a mistake to be told, not a topic to be made.
    ("allow.auto.create.topics", "false"),
];

/// Whether what is given rules a default out: librdkafka refuses both together, and what is given says what is wanted.
/// Source: librdkafka's CONFIGURATION.md, and the checks of `rd_kafka_conf_finalize` and `rd_kafka_new`.
fn is_ruled_out(default: &str, given: &BTreeMap<Box<str>, Secret>) -> bool {
    let number = |name: &str| given.get(name).and_then(|value| value.expose().trim().parse::<u64>().ok());
    match default {
        // The brokers assign the partitions then (KIP-848).
        "partition.assignment.strategy" => given
            .get("group.protocol")
            .is_some_and(|protocol| protocol.expose().trim().eq_ignore_ascii_case("consumer")),
        // An answer must have room for a message, and the client for an answer.
        "fetch.max.bytes" => {
            number("message.max.bytes").is_some_and(|bytes| bytes > FETCH_BYTES)
                || number("receive.message.max.bytes").is_some_and(|bytes| bytes < FETCH_BYTES + 512)
        }
        "reconnect.backoff.ms" => number("reconnect.backoff.max.ms").is_some_and(|most| most < 1000),
        _ => false,
    }
}

/// What can't be set otherwise: offsets are committed once sends have their outcome.
const FIXED: [(&str, &str); 3] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
];

/// Options whose value is in no message.
const SECRET_WORDS: [&str; 3] = ["password", "secret", "pem"];

/// Why there is no consumer. The messages name keys of the configuration, and no secret.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// librdkafka does not take an option.
    #[error("queue.kafka.options.\"{name}\": {reason}")]
    Option {
        /// Its name.
        name: String,
        /// What librdkafka says.
        reason: String,
    },
    /// librdkafka does not take the options together.
    #[error("the Kafka client could not be made; look at [queue.kafka] and [queue.kafka.options]: {0}")]
    Client(String),
    /// There can be no client of the schema registry.
    #[error("queue.kafka.schema_registry {0}")]
    Registry(#[from] registry::SetupError),
}

/// A member of a consumer group, seen as a queue. The group is joined with the first
/// [`receive`](Queue::receive), and left with [`close`](Self::close).
#[derive(Debug)]
pub struct KafkaQueue {
    start: Option<Box<Start>>,
    ready: mpsc::Receiver<Ready>,
    commands: mpsc::Sender<Command>,
    /// Answers when the thread has ended.
    left: Option<oneshot::Receiver<()>>,
    /// Makes packs readable.
    resolving: JoinSet<()>,
    has_ended: bool,
}

/// What the thread is started with.
#[derive(Debug)]
struct Start {
    settings: Settings,
    consumer: Consumer,
    parts: Parts,
    resolver: Resolver,
}

/// A consumer that nobody polls yet.
struct Consumer(BaseConsumer<Group>);

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Consumer")
    }
}

/// Makes a consumer. It connects with the first [`receive`](Queue::receive); with `is_until_empty` the queue ends
/// when everything in the partitions of this process has been read.
///
/// Called within a tokio runtime.
///
/// # Errors
/// When librdkafka does not take the settings.
pub fn open(settings: &Settings, is_until_empty: bool) -> Result<(KafkaQueue, Watch), OpenError> {
    let health = Arc::new(Health::new());
    let group = Group::new(Arc::clone(&health), settings.oauth_token_file.clone());
    let consumer = config_of(settings).create_with_context(group).map_err(refused)?;
    let (handed, packs) = mpsc::channel(PACKS_MAX);
    let (hand_on, ready) = mpsc::channel(PACKS_MAX);
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let parts = Parts {
        handed,
        commands: commanded,
        health: Arc::clone(&health),
        runtime: Handle::current(),
        is_until_empty,
    };
    let auth = settings.schema_registry_auth.as_ref();
    let registry = settings.schema_registry.as_ref().map(|url| open_registry(url, auth)).transpose()?;
    let resolver = Resolver { packs, ready: hand_on, registry, health: Arc::clone(&health), complaint: None };
    let start = Start { settings: settings.clone(), consumer: Consumer(consumer), parts, resolver };
    let queue = KafkaQueue {
        start: Some(Box::new(start)),
        ready,
        commands,
        left: None,
        resolving: JoinSet::new(),
        has_ended: false,
    };
    Ok((queue, Watch(health)))
}

fn open_registry(url: &Secret, auth: Option<&Secret>) -> Result<Registry, OpenError> {
    let credentials = auth.map_or(Credentials::FromUrl, |auth| Credentials::parse(auth.expose()));
    let settings = registry::Settings { credentials, ..registry::Settings::new(url.expose()) };
    let registry = Registry::new(&settings)?;
    if registry.is_in_the_clear() {
        tracing::warn!(
            registry = registry.address(),
            "queue.kafka.schema_registry carries a password over plain http: write https://"
        );
    }
    Ok(registry)
}

fn config_of(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    let given = settings.options.iter().map(|(name, value)| (&**name, value.expose()));
    let defaults = DEFAULTS.into_iter().filter(|(name, _)| !is_ruled_out(name, &settings.options));
    for (name, value) in defaults.chain(given).chain(FIXED) {
        config.set(name, value);
    }
    config.set("bootstrap.servers", settings.brokers.join(","));
    config.set("group.id", &*settings.group_id);
    let is_verbose = tracing::enabled!(tracing::Level::DEBUG);
    config.set_log_level(if is_verbose { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config
}

fn refused(error: KafkaError) -> OpenError {
    match error {
        KafkaError::ClientConfig(_, reason, name, _value) => {
            let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word));
            let reason = if is_secret { "librdkafka refuses its value".to_owned() } else { reason };
            OpenError::Option { name, reason }
        }
        KafkaError::ClientCreation(reason) => OpenError::Client(reason),
        error => OpenError::Client(error.to_string()),
    }
}

impl KafkaQueue {
    /// Joins the group.
    fn start(&mut self) -> Result<(), QueueError> {
        let Some(start) = self.start.take() else { return Ok(()) };
        let Start { settings, consumer: Consumer(consumer), parts, resolver } = *start;
        let topics: Vec<&str> = settings.topics.iter().map(|topic| &**topic).collect();
        consumer.subscribe(&topics).map_err(|error| {
            QueueError::Storage(format!("queue.kafka.topics: librdkafka refuses them: {error}"))
        })?;
        let poller = Poller::new(consumer, parts);
        let (leave, left) = oneshot::channel();
        let work = move || {
            poller.run();
            // Whoever waited may have gone.
            let _gone = leave.send(());
        };
        thread::Builder::new()
            .name("kafka".to_owned())
            .spawn(work)
            .map_err(|error| QueueError::Storage(format!("a thread could not be started: {error}")))?;
        self.left = Some(left);
        self.resolving.spawn(resolver.run());
        tracing::info!(topics = ?topics, group = %settings.group_id, "kafka: joining the group");
        Ok(())
    }

    /// Commits what is acknowledged and leaves the group, so that others take its partitions over at once.
    pub async fn close(mut self) {
        let Some(left) = self.left.take() else { return };
        // A thread that has ended needs no command.
        let _ended = self.commands.send(Command::Close).await;
        self.ready.close();
        self.resolving.shutdown().await;
        if tokio::time::timeout(LEAVE_MAX, left).await.is_err() {
            tracing::warn!(
                waited = ?LEAVE_MAX,
                "kafka: the group could not be left in time; its partitions are taken over after session.timeout.ms"
            );
        }
    }
}

impl Queue for KafkaQueue {
    /// One delivery is a row of messages of one partition.
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        self.start()?;
        while !self.has_ended {
            match self.ready.recv().await {
                Some(Ready::Delivery { delivery, assignment }) => {
                    // Whoever has the partition now counts it.
                    if !assignment.is_some_and(|assignment| assignment.is_over()) {
                        return Ok(Some(delivery));
                    }
                }
                Some(Ready::End) => self.has_ended = true,
                Some(Ready::Failed(reason)) => return Err(QueueError::Storage(reason)),
                None => return Err(gone()),
            }
        }
        Ok(None)
    }

    /// `Ok` means that the offsets are on their way to the broker; [`KafkaQueue::close`] waits until they are
    /// there. What a crash in between leaves uncommitted comes again.
    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        self.commands.send(Command::Acknowledge(receipt)).await.map_err(|_| gone())
    }
}

/// Only a defect ends the thread before it is told to.
fn gone() -> QueueError {
    QueueError::Storage("the thread of the Kafka client has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(options: &[(&str, &str)]) -> Settings {
        Settings {
            brokers: vec!["127.0.0.1:1".into()],
            topics: vec!["t".into()],
            group_id: "g".into(),
            schema_registry: None,
            schema_registry_auth: None,
            oauth_token_file: None,
            options: options
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[tokio::test]
    async fn an_option_that_librdkafka_does_not_know_is_named() {
        let error = open(&settings(&[("session.timeout", "6000")]), false).unwrap_err().to_string();
        assert!(error.contains("queue.kafka.options.\"session.timeout\""), "{error}");
    }

    #[tokio::test]
    async fn a_refused_value_is_told_unless_it_is_a_secret() {
        let error = open(&settings(&[("session.timeout.ms", "planted")]), false).unwrap_err().to_string();
        assert!(error.contains("session.timeout.ms"), "{error}");
        let error = open(&settings(&[("ssl.key.pem", "planted"), ("security.protocol", "ssl")]), false);
        assert!(!error.unwrap_err().to_string().contains("planted"));
    }

    #[tokio::test]
    async fn the_client_speaks_tls_and_the_mechanisms_of_sasl() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] {
            let options = [
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanisms", mechanism),
                ("sasl.username", "u"),
                ("sasl.password", "p"),
            ];
            open(&settings(&options), false).unwrap();
        }
        let error =
            open(&settings(&[("security.protocol", "SASL_SSL"), ("sasl.mechanisms", "GSSAPI")]), false);
        error.unwrap_err();
    }

    #[tokio::test]
    async fn an_option_that_rules_a_default_out_works_by_itself() {
        for (name, value, default) in [
            ("group.protocol", "consumer", "partition.assignment.strategy"),
            ("message.max.bytes", "20000000", "fetch.max.bytes"),
            ("reconnect.backoff.max.ms", "500", "reconnect.backoff.ms"),
        ] {
            let settings = settings(&[(name, value)]);
            open(&settings, false).map_or_else(|error| panic!("{name}: {error}"), drop);
            assert_eq!(config_of(&settings).get(default), None, "{name}");
        }
        let classic = config_of(&settings(&[("group.protocol", "classic")]));
        assert_eq!(classic.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    }

    #[tokio::test]
    async fn what_a_promise_rests_on_can_not_be_set() {
        let config = config_of(&settings(&[("enable.auto.commit", "true"), ("auto.offset.reset", "latest")]));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("auto.offset.reset"), Some("latest"));
    }
}
