//! How many instructions a lane spends on an event: decode, dedup, route, record and book. A guard that does not
//! time, so that a busy machine can't trip it: it fails when a count is over its bound.
//!
//! `make guard` runs it; it needs valgrind. It runs itself under callgrind, twice for each case, with different
//! numbers of rounds over events that were made beforehand: the difference is what the events cost, without start
//! and end. A crate made for this (gungraun) would bring a runner that has to be installed beside it, in the same
//! version and with a hundred dependencies; what is needed of it is one number of one line.

#[path = "../../../examples/load/events.rs"]
mod events;

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use braze_events::SEND_TYPES;
use bytes::Bytes;
use event_lanes::clock::Clock;
use event_lanes::stats::Stats;
use event_lanes::{LaneSettings, Lanes, Plan};
use event_queues::{Delivery, Framing, Receipt, Source};
use send_counts::aggregate::tags::{self, Layout, Names, Tag};
use send_counts::dedup;
use send_counts::route::{AppGroups, ConnectionId, Router};

use events::{Events, LoadSettings, Templates};

/// One kind of input.
struct Case {
    name: &'static str,
    framing: Framing,
    /// Without objects in the event, as from storage.
    flat: bool,
    tag_sets: u32,
    dedup: bool,
    events_in_delivery: u32,
    /// What one event may cost: what it did cost when this was written, and 5 %. Where a change makes it cheaper,
    /// lower it; where it has to cost more, say why in the change that raises it.
    instructions_max: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "Currents batches of 100",
        framing: Framing::Document,
        flat: false,
        tag_sets: 100,
        dedup: false,
        events_in_delivery: 100,
        instructions_max: 6_330,
    },
    Case {
        name: "flat lines",
        framing: Framing::Lines,
        flat: true,
        tag_sets: 100,
        dedup: false,
        events_in_delivery: 500,
        instructions_max: 6_040,
    },
    Case {
        name: "lines, 2,000 tag sets",
        framing: Framing::Lines,
        flat: false,
        tag_sets: 2000,
        dedup: false,
        events_in_delivery: 500,
        instructions_max: 6_530,
    },
    Case {
        name: "lines, 2,000 tag sets, dedup on",
        framing: Framing::Lines,
        flat: false,
        tag_sets: 2000,
        dedup: true,
        events_in_delivery: 500,
        instructions_max: 6_860,
    },
];

const EVENTS_IN_ROUND: u32 = 4000;

/// Rounds until nearly all series are known.
const ROUNDS_BEFORE: u32 = 4;

/// Rounds that count.
const ROUNDS: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, number, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        return run(&CASES[number.parse::<usize>()?], rounds.parse()?);
    }
    let mut out = io::stdout();
    writeln!(out, "{:<34} {:>12} {:>8}", "instructions of a lane", "an event", "bound")?;
    let mut over = Vec::new();
    // All cases at once: what is counted is no time.
    let counted: Vec<_> = thread::scope(|scope| {
        let cases: Vec<_> = (0..CASES.len()).map(|number| scope.spawn(move || count_each(number))).collect();
        cases.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    for (case, counted) in CASES.iter().zip(counted) {
        let each = counted.map_err(|_panic| "counting ended in a panic")??;
        writeln!(out, "{:<34} {each:>12} {:>8}", case.name, case.instructions_max)?;
        if each > case.instructions_max {
            over.push(case.name);
        }
    }
    if !cfg!(target_arch = "x86_64") {
        writeln!(out, "the bounds are those of x86-64: nothing is judged here")?;
        return Ok(());
    }
    if over.is_empty() {
        return Ok(());
    }
    Err(format!(
        "over the bound: {}; see `instructions_max` in benches/instructions/src/main.rs",
        over.join(", ")
    )
    .into())
}

/// The instructions of a case for each event.
fn count_each(number: usize) -> Result<u64, String> {
    let counted = |rounds| count(number, rounds).map_err(|error| error.to_string());
    let more = counted(ROUNDS_BEFORE + ROUNDS)?.checked_sub(counted(ROUNDS_BEFORE)?);
    Ok(more.ok_or("more rounds took fewer instructions")? / u64::from(ROUNDS * EVENTS_IN_ROUND))
}

/// The instructions of this program, started anew for a case and so many rounds.
fn count(case: usize, rounds: u32) -> Result<u64, Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("callgrind.out");
    let mut option = OsString::from("--callgrind-out-file=");
    option.push(&file);
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(option)
        .arg(std::env::current_exe()?)
        .args(["--case", &case.to_string(), &rounds.to_string()])
        .stdout(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind: {error}; `make tools` installs it"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    summary(&file)
}

/// The line of callgrind's output that holds the sum. Source: Valgrind's manual, "Callgrind Format Specification".
fn summary(file: &Path) -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("summary: "));
    Ok(line.ok_or("callgrind wrote no summary")?.trim().parse()?)
}

/// What is counted: the same preparation whatever the number of rounds, and then the rounds.
fn run(case: &Case, rounds: u32) -> Result<(), Box<dyn Error>> {
    let deliveries = deliveries(case);
    let in_round = deliveries.len() / (ROUNDS_BEFORE + ROUNDS) as usize;
    let stats = Arc::new(Stats::new());
    let lanes = Lanes::start(&settings(case), &Arc::new(plan()), &stats, &Clock::system())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(async {
        for delivery in deliveries.into_iter().take(in_round * rounds as usize) {
            lanes.deliver(lanes.permit().await?, delivery.into()).await?;
        }
        for cut in lanes.cut().await? {
            drop(cut.await?);
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    let books = stats.snapshot();
    assert_eq!(books.received, u64::from(rounds * EVENTS_IN_ROUND), "every event is booked");
    assert_eq!((books.malformed.len(), books.duplicate), (0, 0), "as what it is");
    Ok(())
}

fn deliveries(case: &Case) -> Vec<Delivery> {
    let shape = LoadSettings { seed: 1, tag_sets: case.tag_sets, app_groups: 5, ignored_percent: 10 };
    let mut events = Events::new(&Arc::new(Templates::new(shape)), 0);
    let now = Clock::system().unix_seconds();
    let delivery = |number: u32| Delivery {
        body: body(case, &mut events, now),
        framing: case.framing.clone(),
        defaults: Arc::default(),
        source: Source::Push,
        oversized: 0,
        receipt: Receipt(number.into()),
        recall: false,
    };
    (0..(ROUNDS_BEFORE + ROUNDS) * EVENTS_IN_ROUND / case.events_in_delivery).map(delivery).collect()
}

fn body(case: &Case, events: &mut Events, now: u64) -> Bytes {
    let lines = case.framing == Framing::Lines;
    let mut body = Vec::new();
    let mut event = Vec::new();
    for number in 0..case.events_in_delivery {
        event.clear();
        events.append(&mut event, now);
        body.extend_from_slice(match (number, lines) {
            (0, true) => b"",
            (0, false) => b"{\"events\":[",
            (_, true) => b"\n",
            (_, false) => b",",
        });
        if case.flat {
            let text = String::from_utf8_lossy(&event);
            let text = text.replace(",\"user\":{", ",").replace("},\"properties\":{", ",").replace("}}", "}");
            body.extend_from_slice(text.as_bytes());
        } else {
            body.extend_from_slice(&event);
        }
    }
    body.extend_from_slice(if lines { b"\n" } else { b"]}" });
    body.into()
}

fn settings(case: &Case) -> LaneSettings {
    let window = if case.dedup { Duration::from_mins(10) } else { Duration::ZERO };
    LaneSettings {
        lanes: 1,
        event_types: SEND_TYPES.iter().map(|(name, _)| (*name).into()).collect(),
        aggregate: send_counts::testing::aggregate_settings(100_000),
        dedup: dedup::DedupSettings { window, max_ids: 4_000_000 },
    }
}

/// The default tags, and one connection.
fn plan() -> Plan {
    let include = Tag::ALL.into_iter().filter(|tag| *tag != Tag::Channel).collect();
    let all = AppGroups { ids: &[], names: &HashMap::new() };
    Plan {
        router: Router::new(&[(ConnectionId(0), all)]),
        layout: Arc::new(Layout::new(&tags::TagSettings {
            include,
            static_tags: Vec::new(),
            names: Names::Latest,
        })),
        connection_names: vec!["bench".into()],
    }
}
