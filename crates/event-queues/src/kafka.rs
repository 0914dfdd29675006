//! The broker: messages of a Kafka consumer group, for where one machine is not enough.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Secret;

#[cfg(feature = "kafka")]
mod client;

#[cfg(feature = "kafka")]
pub use self::client::*;

/// How a Kafka broker is reached, and as whom. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port` of the first brokers to ask; at least one.
    pub brokers: Vec<Box<str>>,
    /// Names of topics, or regular expressions that begin with `^`; at least one.
    pub topics: Vec<Box<str>>,
    /// The consumer group.
    pub group_id: Box<str>,
    /// The base URL of the schema registry, where there is one.
    pub schema_registry: Option<Secret>,
    /// Who this process is to the registry: `user:password`, or a bearer token.
    pub schema_registry_auth: Option<Secret>,
    /// Where a token for SASL's OAUTHBEARER lies, a JSON Web Token that is read again before it expires.
    pub oauth_token_file: Option<PathBuf>,
    /// Handed to librdkafka as they are; values may be passwords.
    pub options: BTreeMap<Box<str>, Secret>,
}
