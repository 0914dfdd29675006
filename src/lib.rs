//! braze-datadog counts the messages that Braze sends and forwards the counts to Datadog.
//!
//! Read [`pipeline`] next: it is the whole flow in one loop. Everything else is a station on that hallway
//! ([`queue`] → [`event`] → [`route`] → [`dedup`] → [`aggregate`] → [`datadog`] → [`ledger`] → [`queue`])
//! or a leaf beside it. ARCHITECTURE.md draws the map and names the invariants.

pub mod admin;
pub mod aggregate;
pub mod config;
pub mod datadog;
pub mod dedup;
pub mod event;
pub mod push;
pub mod queue;
