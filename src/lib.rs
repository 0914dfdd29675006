//! braze-datadog counts the messages that Braze sends and forwards the counts to Datadog.
//!
//! Read [`pipeline`] next: it is the whole flow in one loop. Everything else is a station on that hallway, most of them
//! crates of their own ([`event_queues`] → [`event_lanes`], with [`braze_events`] and [`send_counts`] → [`datadog_points`] →
//! [`ledger`] → [`event_queues`]), or a leaf beside it. ARCHITECTURE.md draws the map and names the invariants.

pub mod admin;
pub mod app;
pub mod catalogue;
pub mod commands;
pub mod config;
pub mod connection;
pub mod forwarder_points;
pub mod key_monitor;
pub mod ledger;
pub mod monitors;
pub mod pipeline;
pub mod push;
pub mod reconcile;
pub mod signal;
pub mod telemetry;
