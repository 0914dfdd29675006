//! What needs no running forwarder: the files of this repository, and parts of the library in this process. The binary is
//! started at most to see what it prints at once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod alerts;
#[expect(dead_code, reason = "the parts that make the day are not taken in")]
mod black_friday;
mod chart;
mod config;
mod container;
mod datadog;
mod dependencies;
mod deploy;
mod exposed;
#[path = "../support/fakes.rs"]
mod fakes;
mod limits;
mod opentelemetry;
mod operating;
mod pipeline;
mod queue_contract;
mod samples;
mod tidy;
mod yaml;
