//! The Kafka queue on Apache Kafka itself, with the real binary: what a broker of the field has beside what
//! `tests/kafka.rs` needs of one. Every send is counted once with either group protocol, in transactions, over
//! handovers and restarts of brokers; what is lost is told with its number; TLS, SASL and ACLs let in, or the log says
//! which setting is wrong, and the forwarder goes on once it is mended.
//!
//! One broker for all of them, three for those that take brokers down.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/apache.rs"]
mod broker;
#[path = "apache/cluster.rs"]
mod cluster;
#[path = "apache/groups.rs"]
mod groups;
#[path = "kafka/load.rs"]
#[expect(dead_code, reason = "Avro is for tests/kafka.rs")]
mod load;
#[path = "apache/losses.rs"]
mod losses;
#[path = "apache/refusals.rs"]
mod refusals;
#[path = "apache/rights.rs"]
mod rights;
#[path = "apache/scene.rs"]
mod scene;
#[path = "apache/security.rs"]
mod security;
#[path = "support/rig.rs"]
mod support;
#[path = "apache/topics.rs"]
mod topics;
#[path = "apache/transactions.rs"]
mod transactions;
