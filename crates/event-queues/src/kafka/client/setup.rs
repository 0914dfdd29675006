//! Configures and makes the client, and reports why it can't be made.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;

use super::authorities::Authorities;
use super::callbacks::{Callbacks, GroupProtocol};
use super::health::{Health, is_pattern};
use super::refusal::{ClientIdentity, Sasl};
use super::schemas::{self, SchemaRegistry};
use crate::kafka::{KafkaSettings, SchemaIds, Secret};

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
    // How long it does not fetch where that much waits: its second is five times as long as the lanes take for all of it.
    ("fetch.queue.backoff.ms", "50"),
    // One answer of one broker, compressed.
    ("fetch.max.bytes", "16777216"),
    // How soon a new topic that fits a pattern is found.
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("socket.keepalive.enable", "true"),
    // A broker that refuses this client is asked again every second, then less often, and not at once.
    ("reconnect.backoff.ms", "1000"),
    // A topic that does not exist is a mistake to report, not a topic to make.
    ("allow.auto.create.topics", "false"),
];

/// Whether a given option rules a default out: librdkafka refuses both together, and the given one is wanted. Source:
/// librdkafka's CONFIGURATION.md, and the checks of `rd_kafka_conf_finalize` and `rd_kafka_new`.
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

/// Options that can't be changed: offsets are committed once sends have their outcome.
const FIXED: [(&str, &str); 3] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
];

/// How often the client reports watermarks, in milliseconds, unless set: for the lag, for lost messages, and to notice that
/// no broker is there.
const STATISTICS: &str = "5000";
/// The same where a run ends with the end of the partitions.
const STATISTICS_UNTIL_EMPTY: &str = "500";

/// Options whose values appear in no message.
const SECRET_WORDS: [&str; 4] = ["password", "passphrase", "secret", "pem"];

/// Why there is no consumer. The messages name keys of the configuration, and no secret.
#[derive(Debug, thiserror::Error)]
pub enum KafkaOpenError {
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
    /// librdkafka does not take a regular expression.
    #[error(
        "queue.kafka.topics: {0:?} is not a regular expression as librdkafka reads them (POSIX, extended)"
    )]
    Topic(String),
    /// There can be no client of the schema registry.
    #[error("queue.kafka.schema_registry {0}")]
    Registry(#[from] schemas::RegistrySetupError),
}

impl KafkaOpenError {
    /// Whether the same settings may do another time.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Registry(schemas::RegistrySetupError::Threads(_)))
    }
}

pub(super) fn open_registry(
    url: &Secret,
    auth: Option<&Secret>,
    ids: SchemaIds,
    user_agent: &str,
) -> Result<SchemaRegistry, KafkaOpenError> {
    let registry = SchemaRegistry::new(url, auth, ids, user_agent)?;
    if registry.is_in_the_clear() {
        tracing::warn!(
            registry = registry.address(),
            "queue.kafka.schema_registry carries a password over plain http: write https://"
        );
    }
    Ok(registry)
}

/// Makes the consumer; it looks for its brokers at once, and joins the group with its subscription.
pub(super) fn consumer_of(
    settings: &KafkaSettings,
    health: &Arc<Health>,
    is_until_empty: bool,
) -> Result<BaseConsumer<Callbacks>, KafkaOpenError> {
    check_topics(settings)?;
    let config = config_of(settings, is_until_empty);
    let authorities = Authorities::of(&settings.options);
    let token_file = settings.oauth_token_file.clone();
    let (identity, protocol) = (identity_of(&config), protocol_of(&config));
    let callbacks = Callbacks::new(Arc::clone(health), token_file, identity, protocol, authorities);
    config.create_with_context(callbacks).map_err(refused)
}

/// Finds what [`open`](super::open) would refuse, without any request to a broker.
///
/// # Errors
/// As there.
pub fn check(settings: &KafkaSettings, user_agent: &str) -> Result<(), KafkaOpenError> {
    check_topics(settings)?;
    let mut config = config_of(settings, false);
    config.remove("bootstrap.servers");
    config.create::<BaseConsumer>().map(drop).map_err(refused)?;
    let (url, auth) = (settings.schema_registry.as_ref(), settings.schema_registry_auth.as_ref());
    url.map_or(Ok(()), |url| open_registry(url, auth, settings.schema_registry_ids, user_agent).map(drop))
}

/// Has librdkafka read the regular expressions, in a consumer without a broker.
fn check_topics(settings: &KafkaSettings) -> Result<(), KafkaOpenError> {
    let mut patterns = settings.topics.iter().filter(|topic| topic.starts_with('^')).peekable();
    if patterns.peek().is_none() {
        return Ok(());
    }
    let mut config = ClientConfig::new();
    config.set("group.id", "g").set_log_level(RDKafkaLogLevel::Emerg);
    let consumer: BaseConsumer = config.create().map_err(refused)?;
    for pattern in patterns {
        consumer.subscribe(&[pattern]).map_err(|_error| KafkaOpenError::Topic(pattern.to_string()))?;
    }
    Ok(())
}

fn lower_case(config: &ClientConfig, name: &str) -> String {
    config.get(name).unwrap_or_default().trim().to_ascii_lowercase()
}

fn protocol_of(config: &ClientConfig) -> GroupProtocol {
    if lower_case(config, "group.protocol") == "consumer" {
        GroupProtocol::Consumer
    } else {
        GroupProtocol::Classic
    }
}

/// The topics of the settings of which librdkafka does not say by itself that they are not there: with the protocol in which the
/// broker assigns the partitions it leaves all to that.
pub(super) fn unwatched(settings: &KafkaSettings) -> Vec<String> {
    match protocol_of(&config_of(settings, false)) {
        GroupProtocol::Classic => Vec::new(),
        GroupProtocol::Consumer => {
            settings.topics.iter().filter(|topic| !is_pattern(topic)).map(ToString::to_string).collect()
        }
    }
}

fn identity_of(config: &ClientConfig) -> ClientIdentity {
    let value = |name: &str| lower_case(config, name);
    let protocol = value("security.protocol");
    let certificates = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
    let has_token = ["sasl.mechanisms", "sasl.mechanism"].iter().any(|name| value(name) == "oauthbearer");
    let sasl = match protocol.starts_with("sasl") {
        false => Sasl::None,
        true if has_token => Sasl::Token,
        true => Sasl::Password,
    };
    ClientIdentity {
        sasl,
        has_tls: protocol.ends_with("ssl"),
        has_certificate: certificates.iter().any(|name| !value(name).is_empty()),
    }
}

fn config_of(settings: &KafkaSettings, is_until_empty: bool) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("statistics.interval.ms", if is_until_empty { STATISTICS_UNTIL_EMPTY } else { STATISTICS });
    if let Some(location) = Authorities::of(&settings.options).default_location() {
        config.set("ssl.ca.location", location);
    }
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

fn refused(error: KafkaError) -> KafkaOpenError {
    match error {
        KafkaError::ClientConfig(_, reason, name, _value) => {
            let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word));
            let reason = if is_secret { "librdkafka refuses its value".to_owned() } else { reason };
            KafkaOpenError::Option { name, reason }
        }
        KafkaError::ClientCreation(reason) => KafkaOpenError::Client(reason),
        error => KafkaOpenError::Client(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::open;
    use super::*;

    fn settings(options: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            brokers: vec!["127.0.0.1:1".into()],
            topics: vec!["t".into()],
            group_id: "g".into(),
            schema_registry: None,
            schema_registry_auth: None,
            schema_registry_ids: SchemaIds::Auto,
            oauth_token_file: None,
            options: options
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[tokio::test]
    async fn an_option_that_librdkafka_does_not_know_is_named() {
        let error = open(&settings(&[("session.timeout", "6000")]), false, "test/1").unwrap_err().to_string();
        assert!(error.contains("queue.kafka.options.\"session.timeout\""), "{error}");
    }

    #[tokio::test]
    async fn a_refused_value_is_told_unless_it_is_a_secret() {
        let error =
            open(&settings(&[("session.timeout.ms", "planted")]), false, "test/1").unwrap_err().to_string();
        assert!(error.contains("session.timeout.ms"), "{error}");
        let error =
            open(&settings(&[("ssl.key.pem", "planted"), ("security.protocol", "ssl")]), false, "test/1");
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
            open(&settings(&options), false, "test/1").unwrap();
        }
        let error = open(
            &settings(&[("security.protocol", "SASL_SSL"), ("sasl.mechanisms", "GSSAPI")]),
            false,
            "test/1",
        );
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
            open(&settings, false, "test/1").map_or_else(|error| panic!("{name}: {error}"), drop);
            assert_eq!(config_of(&settings, false).get(default), None, "{name}");
        }
        let classic = config_of(&settings(&[("group.protocol", "classic")]), false);
        assert_eq!(classic.get("partition.assignment.strategy"), Some("cooperative-sticky"));
    }

    #[tokio::test]
    async fn what_a_promise_rests_on_can_not_be_set() {
        let config =
            config_of(&settings(&[("enable.auto.commit", "true"), ("auto.offset.reset", "latest")]), false);
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
        assert_eq!(config.get("auto.offset.reset"), Some("latest"));
    }

    #[test]
    fn what_a_run_refuses_is_found_by_a_check() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("ca.pem");
        let missing = missing.to_str().unwrap();
        let tls = ("security.protocol", "ssl");
        for (options, named) in [
            (&[tls, ("ssl.ca.location", missing)][..], "ssl.ca.location"),
            (&[tls, ("ssl.key.location", missing)], "ssl.key.location"),
            (&[("security.protocol", "sasl_ssl"), ("sasl.mechanisms", "PLAIN")], "sasl.username"),
            (&[("session.timeout", "6000")], "session.timeout"),
        ] {
            let error = check(&settings(options), "test/1").unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("queue.kafka"), "{options:?}: {error}");
        }
        check(&settings(&[tls]), "test/1").unwrap();
    }

    #[tokio::test]
    async fn a_regular_expression_that_is_none_is_found_before_the_run() {
        let mut settings = settings(&[]);
        settings.topics = vec!["t".into(), r"^braze\..*".into()];
        check(&settings, "test/1").unwrap();
        settings.topics.push("^braze.(".into());
        for error in
            [check(&settings, "test/1").unwrap_err(), open(&settings, false, "test/1").map(drop).unwrap_err()]
        {
            let error = error.to_string();
            assert!(error.contains("queue.kafka.topics") && error.contains("^braze.("), "{error}");
        }
    }
}
