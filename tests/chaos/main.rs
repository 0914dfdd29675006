//! The fault laboratory: the real binary between clients that keep their own truth and intakes that keep theirs, while
//! everything fails that fails in production. Which faults come, and when, follows from a seed.
//!
//! `CHAOS_SEED=7 CHAOS_SECONDS=600 cargo test --test chaos faults -- --nocapture` runs one seed for as long as is
//! wanted, and prints what was survived.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod audit;
#[cfg(feature = "kafka")]
#[path = "../support/broker.rs"]
mod broker;
mod faults;
#[cfg(feature = "kafka")]
mod kafka;
mod lab;
mod life;
mod load;
mod machine;
mod random;
mod road;
mod schedule;
mod seen;
#[path = "../support/rig.rs"]
mod support;
mod table;
mod truth;

use std::time::Duration;

use lab::Lab;
use load::Load;
use schedule::{EMBEDDED, Track, row};
use support::forwarder::Configuration;

/// How long a seed runs where nobody says otherwise; it goes on until each fault has come.
const SECONDS: u64 = 30;

/// A number of the environment.
fn asked(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}")))
}

/// A whole run: faults, rest, audit.
#[expect(
    clippy::print_stdout,
    reason = "the seed is what a failure can be repeated with; the table is for people"
)]
async fn run(seed: u64) {
    let seconds = asked("CHAOS_SECONDS").unwrap_or(SECONDS);
    let again =
        format!("CHAOS_SEED={seed} CHAOS_SECONDS={seconds} cargo test --test chaos faults -- --nocapture");
    println!("{again}");
    // So small a queue goes on to a new segment every second or two.
    let configuration =
        Configuration::new().text("queue.embedded.max_size", "1MiB").text("push.max_body", "256KiB");
    let mut lab = Lab::open(configuration);
    lab.lives_now().await;
    let load = Load::start(seed, &lab.configuration.push_url("/v1/events"), &lab.gate);
    let rows = EMBEDDED.map(|track| row(seed, track)).into();
    let faults: Vec<_> = EMBEDDED.into_iter().flat_map(Track::faults).collect();
    lab.suffer(rows, &faults, Duration::from_secs(seconds)).await;
    let truth = lab.rest(load).await;
    let verdict = lab.close(&truth).await;
    let table = &lab.table;
    println!("seed {seed}, {seconds} s\n{}", table.with(&verdict, &truth));
    assert!(verdict.findings.is_empty(), "\n{}\nagain: {again}", verdict.findings.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_first_seed_or_of_the_one_that_was_asked_for() {
    run(asked("CHAOS_SEED").unwrap_or(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_second_seed() {
    if asked("CHAOS_SEED").is_none() {
        run(2).await;
    }
}
