//! The consumer.
//!
//! A thread of its own polls the consumer (`poller`), gathers messages of one partition into batches, and is the only one
//! that touches the group (`membership`, `commits`). Its books (`offsets`) say which offsets may be committed: those behind
//! messages whose every batch has an outcome, in order, of partitions that are this process's own. Before a partition is
//! given up, what was counted of it is flushed and its offset committed. It waits for the broker only then: the client's
//! statistics tell it where partitions begin and end (`watermarks`), and threads of their own ask for committed offsets and
//! make commits (`broker_requests`). `refusal` turns errors into messages that name the setting; of a certificate `probe` finds
//! out what is wrong with it, by the `authorities` that the client trusts. `deliveries` finds out how
//! messages are encoded, with the help of the schema registry where one is set (`schemas`).
//!
//! Messages that are read but not committed come again after a crash, to the partition's next owner.

mod authorities;
mod backpressure;
mod batch;
mod broker_requests;
mod callbacks;
mod commits;
mod consumer;
mod deliveries;
mod frame;
mod health;
mod membership;
mod offsets;
mod poller;
mod probe;
mod refusal;
mod schemas;
mod setup;
mod token;
mod watermarks;

pub use self::{
    consumer::{KafkaQueue, open},
    health::KafkaWatch,
    schemas::RegistrySetupError,
    setup::{KafkaOpenError, check},
};
