//! What needs a Kafka broker: a fast one that keeps its log in memory, and Apache Kafka itself.
#![cfg(feature = "kafka")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod apache;
#[path = "../support/broker.rs"]
mod broker;
mod broker_selftest;
mod framings;
mod handovers;
mod leftovers;
mod load;
mod members;
mod mock;
mod proxy;
#[path = "../support/registry.rs"]
mod registry;
#[path = "../support/rig.rs"]
mod support;
mod tansu;
