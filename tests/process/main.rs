//! The real binary, on the loopback: a fake intake, real events, and what becomes of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod crash;
mod damage;
mod delivery;
mod heartbeat;
mod hostile;
mod image;
mod import;
mod import_crash;
mod intake;
mod intake_selftest;
mod keys;
mod names;
mod prometheus;
mod queue_crash;
mod reload;
mod secrets;
mod shutdown;
mod status;
#[path = "../support/rig.rs"]
mod support;
mod top;
mod upgrade;
