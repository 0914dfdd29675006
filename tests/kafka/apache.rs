//! The Kafka queue on Apache Kafka itself, with the real binary: what a broker of the field has beside what
//! `tests/kafka/tansu.rs` needs of one. Every send is counted once with either group protocol, in transactions, over
//! handovers and restarts of brokers; what is lost is told with its number; TLS, SASL and ACLs let in, or the log says
//! which setting is wrong, and the forwarder goes on once it is mended.
//!
//! One broker for all of them, three for those that take brokers down.

#[path = "../support/apache.rs"]
mod broker;
mod cluster;
mod groups;
mod leftovers;
mod losses;
mod refusals;
mod rights;
mod scene;
mod security;
mod some_topics;
mod topics;
mod transactions;

use crate::{load, support};
