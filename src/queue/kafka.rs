//! The broker: messages of a Kafka consumer group.

pub mod registry;
