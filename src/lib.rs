//! braze-datadog counts the messages that Braze sends and forwards the counts to Datadog.
//!
//! Read [`pipeline`] next: it is the whole flow in one loop. Everything else is a station on that hallway
//! ([`queue`] → [`event`] → [`route`] → [`dedup`] → [`aggregate`] → [`datadog`] → [`ledger`] → [`queue`])
//! or a leaf beside it. ARCHITECTURE.md draws the map and names the invariants.

pub mod admin;
pub use send_counts::{aggregate, dedup, route};
pub mod app;
pub mod catalogue;
pub mod clock;
pub mod config;
pub mod connection;
pub mod datadog;
pub use braze_events as event;
pub mod key_monitor;
pub mod lane;
pub mod ledger;
pub mod monitors;
pub mod pipeline;
pub mod push;
pub use braze_events::{app_group, decompress};
pub use event_queues as queue;
pub mod signal;
pub mod stats;
pub mod telemetry;
