//! The real binary, on the loopback: a fake intake, real events, and what becomes of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod arguments;
mod buckets;
mod connections;
mod crash;
mod damage;
mod delivery;
mod fairness;
mod forwarder_metrics;
mod heartbeat;
mod history;
mod hostile;
mod image;
mod import;
mod import_crash;
mod import_state;
mod intake;
mod intake_selftest;
mod intermediaries;
mod keys;
mod leftovers;
mod names;
mod onboarding;
mod prometheus;
mod push_files;
mod queue_crash;
mod queue_directory;
mod reconcile;
mod reload;
mod secrets;
mod shutdown;
mod status;
#[path = "../support/rig.rs"]
mod support;
mod threads;
mod top;
mod upgrade;
#[path = "../fast/yaml.rs"]
mod yaml;
