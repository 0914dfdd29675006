//! The platform's worst day on one machine, as far as its cores carry it: 5,000 connections, 2 million tag sets, real forwarders
//! in one group on Apache Kafka with 24 partitions, a tenth of the connections slow and a twentieth failing, every key changed, one
//! forwarder killed in the worst minute, all of them upgraded one after the other. Each send is accounted for; the report says
//! what was measured, and what the whole platform takes by that.
//!
//! `make black-friday` runs it; it is no part of `cargo bench`. It ends with 1 where a send has no account. (What the
//! audit sees is tested in `tests/fast/black_friday.rs`.)
#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement stops at the first surprise")]

#[path = "../tests/support/apache.rs"]
mod apache;
#[path = "black_friday/arrivals.rs"]
mod arrivals;
#[path = "black_friday/audit.rs"]
mod audit;
#[path = "../tests/support/broker.rs"]
mod broker;
#[path = "black_friday/chart.rs"]
mod chart;
#[path = "black_friday/datadog.rs"]
mod datadog;
#[path = "black_friday/day.rs"]
mod day;
#[path = "black_friday/extrapolation.rs"]
mod extrapolation;
#[path = "black_friday/figures.rs"]
mod figures;
#[path = "black_friday/fleet.rs"]
mod fleet;
#[path = "black_friday/lives.rs"]
mod lives;
#[path = "black_friday/plan.rs"]
mod plan;
#[path = "black_friday/population.rs"]
mod population;
#[path = "black_friday/producer.rs"]
mod producer;
#[path = "../tests/kafka/proxy.rs"]
#[expect(dead_code, reason = "the broker of the tests has one, which is not used here")]
mod proxy;
#[path = "black_friday/report.rs"]
mod report;
#[path = "black_friday/sends.rs"]
mod sends;
#[path = "../tests/support/rig.rs"]
mod support;
#[path = "black_friday/truth.rs"]
mod truth;
#[path = "black_friday/watch.rs"]
mod watch;

use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use plan::Plan;

fn main() -> ExitCode {
    let plan = Plan::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let day = runtime.block_on(day::spend(&plan));
    let audit = audit::audit(&day.evidence());
    fs::create_dir_all(&plan.output).unwrap();
    report::write(&day, &audit);
    let text = fs::read_to_string(plan.output.join(format!("{}.md", plan.name))).unwrap();
    writeln!(io::stdout(), "{text}").unwrap();
    if audit.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
