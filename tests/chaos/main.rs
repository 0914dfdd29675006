//! The fault laboratory: the real binary between clients that keep their own truth and intakes that keep theirs, while
//! everything fails that fails in production. Which faults come, and when, follows from a seed.
//!
//! Several laboratories run side by side, some with the embedded queue and some with a broker, each with a seed that
//! follows from the one seed. `CHAOS_SEED=7 CHAOS_SECONDS=600 CHAOS_LABS=3 CHAOS_BROKERS=2 cargo test --test chaos faults
//! -- --nocapture` runs as many of them for as long as is wanted, and prints what was survived.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod audit;
#[cfg(feature = "kafka")]
#[path = "../support/broker.rs"]
mod broker;
mod effect;
mod faults;
#[cfg(feature = "kafka")]
mod kafka;
mod lab;
mod life;
mod load;
mod machine;
mod play;
mod random;
mod road;
mod running;
mod schedule;
mod seen;
#[path = "../support/rig.rs"]
mod support;
mod table;
mod truth;

use std::thread::JoinHandle;
use std::time::Duration;

use lab::Lab;
use load::Load;
use random::Random;
use schedule::{Track, embedded, row};
use support::forwarder::Configuration;
use table::Table;

/// What runs where nobody says otherwise. It goes on until each fault has come, and those of the machine have had an effect.
const SEED: u64 = 1;
const SECONDS: u64 = 10;
const LABS: u64 = 2;
const BROKERS: u64 = if cfg!(feature = "kafka") { 1 } else { 0 };

/// What comes after the seeds that people choose.
const DERIVED_SEEDS: u64 = 1_000_000_000;

/// A number of the environment.
fn asked(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|error| panic!("{name}={text:?}: {error}"))
}

/// What a laboratory's process reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Broker,
}

impl Kind {
    async fn run(self, seed: u64, lasting: Duration) -> Table {
        match self {
            Self::Embedded => with_the_embedded_queue(seed, lasting).await,
            #[cfg(feature = "kafka")]
            Self::Broker => kafka::run(seed, lasting).await,
            #[cfg(not(feature = "kafka"))]
            Self::Broker => panic!("a broker needs --features kafka"),
        }
    }

    /// The command that runs one laboratory alone.
    fn again(self, seed: u64, lasting: Duration) -> String {
        let (labs, brokers) = if self == Self::Embedded { (1, 0) } else { (0, 1) };
        let seconds = lasting.as_secs();
        format!(
            "CHAOS_SEED={seed} CHAOS_SECONDS={seconds} CHAOS_LABS={labs} CHAOS_BROKERS={brokers} \
             cargo test --all-features --test chaos faults -- --nocapture"
        )
    }
}

/// A whole run: faults, rest, audit.
async fn with_the_embedded_queue(seed: u64, lasting: Duration) -> Table {
    // So small a queue goes on to a new segment every second or two.
    let configuration =
        Configuration::new().text("queue.embedded.max_size", "1MiB").text("push.max_body", "256KiB");
    let mut lab = Lab::open(configuration);
    lab.lives_now().await;
    let load = Load::start(seed, &lab.configuration.push_url("/v1/events"), &lab.gate);
    let rows = embedded().into_iter().map(|track| row(seed, track)).collect();
    let faults: Vec<_> = embedded().into_iter().flat_map(Track::faults).collect();
    lab.suffer(rows, &faults, lasting).await;
    let truth = lab.rest(load).await;
    let verdict = lab.close(&truth).await;
    assert!(verdict.findings.is_empty(), "\n{}", verdict.findings.join("\n"));
    std::mem::take(&mut lab.table)
}

/// Runs a laboratory on a thread of its own, so that none waits for another.
fn start(kind: Kind, seed: u64, lasting: Duration) -> JoinHandle<Table> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.unwrap().block_on(kind.run(seed, lasting))
    })
}

/// The seed itself is the first laboratory's, so that each can be run alone.
fn seeds(seed: u64) -> impl Iterator<Item = u64> {
    let mut random = Random::new(seed);
    std::iter::once(seed).chain(std::iter::repeat_with(move || random.below(DERIVED_SEEDS)))
}

#[test]
fn faults_come_and_every_send_has_its_fate() {
    let seed = asked("CHAOS_SEED", SEED);
    let lasting = Duration::from_secs(asked("CHAOS_SECONDS", SECONDS));
    let (labs, brokers) = (asked("CHAOS_LABS", LABS), asked("CHAOS_BROKERS", BROKERS));
    assert!(labs + brokers > 0, "no laboratory would run");
    println!(
        "CHAOS_SEED={seed} CHAOS_SECONDS={} CHAOS_LABS={labs} CHAOS_BROKERS={brokers}",
        lasting.as_secs()
    );
    let kinds = (0..labs).map(|_| Kind::Embedded).chain((0..brokers).map(|_| Kind::Broker));
    let mut running: Vec<_> =
        kinds.zip(seeds(seed)).map(|(kind, seed)| (kind, seed, start(kind, seed, lasting))).collect();
    let (mut all, mut failed) = (Table::default(), Vec::new());
    for kind in [Kind::Embedded, Kind::Broker] {
        let mut of_kind = Table::default();
        for (_, seed, lab) in running.extract_if(.., |(other, ..)| *other == kind) {
            match lab.join() {
                Ok(table) => of_kind.add(&table),
                Err(_) => failed.push(kind.again(seed, lasting)),
            }
        }
        if of_kind.has_suffered() {
            println!("{kind:?}: {of_kind}");
        }
        all.add(&of_kind);
    }
    println!("all: {all}");
    assert!(failed.is_empty(), "again:\n{}", failed.join("\n"));
}

#[test]
fn seeds_follow_from_the_first_and_differ() {
    let some: Vec<u64> = seeds(7).take(9).collect();
    assert_eq!(some, seeds(7).take(9).collect::<Vec<_>>());
    assert_eq!(some[0], 7);
    assert_eq!(some.iter().collect::<std::collections::BTreeSet<_>>().len(), 9);
}
