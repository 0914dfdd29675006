//! The broker: messages of a Kafka consumer group, for where one machine is not enough.
//!
//! A thread of its own polls the consumer (`poller`), gathers messages of one partition into batches, and is the
//! only one that touches the group (`membership`, `commits`). Its books (`offsets`) say which offsets may be
//! committed: those behind messages whose every batch has an outcome, in order, of partitions that are this process's
//! own. Before a partition is given up, what was counted of it is flushed and its offset committed. It waits for the
//! broker only then: where partitions begin and end it learns from the client's statistics (`watermarks`), and what the
//! group has committed, and whether it takes a commit, from threads that ask (`broker_requests`). `refusal` says in words
//! what somebody has to mend. `deliveries` finds out how messages are written, with the help of the schema registry where
//! one is set (`schemas`).
//!
//! What is read but not committed comes again after a crash, to whoever has the partition then.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

#[cfg(feature = "kafka")]
mod backpressure;
#[cfg(feature = "kafka")]
mod batch;
#[cfg(feature = "kafka")]
mod broker_requests;
#[cfg(feature = "kafka")]
mod callbacks;
#[cfg(feature = "kafka")]
mod commits;
#[cfg(feature = "kafka")]
mod consumer;
#[cfg(feature = "kafka")]
mod deliveries;
#[cfg(feature = "kafka")]
mod health;
#[cfg(feature = "kafka")]
mod membership;
#[cfg(feature = "kafka")]
mod offsets;
#[cfg(feature = "kafka")]
mod poller;
#[cfg(feature = "kafka")]
mod probe;
#[cfg(feature = "kafka")]
mod refusal;
#[cfg(feature = "kafka")]
mod schemas;
#[cfg(feature = "kafka")]
mod setup;
#[cfg(feature = "kafka")]
mod token;
#[cfg(feature = "kafka")]
mod watermarks;

#[cfg(feature = "kafka")]
pub use self::{
    consumer::{KafkaQueue, open},
    health::Watch,
    schemas::RegistrySetupError,
    setup::{KafkaOpenError, check},
};

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

/// A password, a token, or something that may hold one. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes it as it is.
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for whom it was made and nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self::new(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
