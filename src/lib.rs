//! braze-datadog counts the messages that Braze sends and forwards the counts to Datadog.
//!
//! Read [`pipeline`] next: it is the whole flow in one loop. Everything else is a station on that hallway
//! ([`queue`] → [`event`] → [`route`] → [`dedup`] → [`aggregate`] → [`datadog`] → [`ledger`] → [`queue`])
//! or a leaf beside it. ARCHITECTURE.md draws the map and names the invariants.

pub mod admin;
pub mod aggregate;
pub mod app;
pub mod app_group;
pub mod catalogue;
pub mod clock;
pub mod config;
pub mod datadog;
pub mod decompress;
pub mod dedup;
pub mod dns;
pub mod event;
pub mod lane;
pub mod ledger;
pub mod listen;
pub mod pipeline;
pub mod push;
pub mod queue;
pub mod route;
pub mod signal;
pub mod stats;
pub mod telemetry;
