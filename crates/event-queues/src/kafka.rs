//! The broker: messages of a Kafka consumer group, for where one machine is not enough.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Secret;

#[cfg(feature = "kafka")]
mod client;

#[cfg(feature = "kafka")]
pub use self::client::*;

/// The meaning of the number before a message in Apicurio's registry, which has two kinds; Confluent's has one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SchemaIds {
    /// What Apicurio's serializers write by default: the content's from version 3 on, the global one before.
    #[default]
    Auto,
    /// The global id of a version.
    Global,
    /// The id of a content.
    Content,
}

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
    /// The credentials for the registry: `user:password`, or a bearer token.
    pub schema_registry_auth: Option<Secret>,
    /// The meaning of the number before a message.
    pub schema_registry_ids: SchemaIds,
    /// The file of a token for SASL's OAUTHBEARER, a JSON Web Token that is read again before it expires.
    pub oauth_token_file: Option<PathBuf>,
    /// Handed to librdkafka as they are; values may be passwords.
    pub options: BTreeMap<Box<str>, Secret>,
}
