//! What each station of the hallway costs, the whole of it, and pushes into the real program, beside floors measured
//! in the same run.
//!
//! `cargo bench --bench pipeline` takes about a minute. CPU seconds are user and system time together; what a
//! row shows is the median of its rounds. Nothing here judges: a busy machine is slow, not broken.

#[path = "pipeline/cost.rs"]
mod cost;
#[path = "../examples/load/events.rs"]
mod events;
#[path = "pipeline/floor.rs"]
mod floor;
#[path = "pipeline/log.rs"]
mod log;
#[path = "pipeline/measure.rs"]
mod measure;
#[expect(unused, reason = "its tests run with the example")]
#[path = "../examples/load/pace.rs"]
mod pace;
#[expect(unused, reason = "its tests run with the example")]
#[path = "../examples/load/push.rs"]
mod push;
#[path = "pipeline/server.rs"]
mod server;
#[path = "pipeline/stations.rs"]
mod stations;
#[expect(unused, reason = "its tests run with the example")]
#[path = "../examples/load/truth.rs"]
mod truth;
#[path = "pipeline/whole.rs"]
mod whole;

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;

use braze_datadog::clock::Clock;
use tempfile::TempDir;

use events::{Events, Settings, Templates};
use measure::{Cost, median};

/// Events in memory, for single stations.
const EVENTS: u32 = 200_000;

/// Events in the file that takes the whole path.
const EVENTS_IN_FILE: u32 = 1_000_000;

/// Series in a large flush.
const SERIES: u32 = 200_000;

const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut out = io::stdout();
    // The disk first, while it has nothing else to do.
    log::report(&mut out, directory.path())?;
    server::report(&mut out, directory.path())?;
    writeln!(
        out,
        "\n{:<46} {:>12} {:>14} {:>10}",
        "one thread, events in memory", "a second", "CPU s/million", "x floor"
    )?;
    let floor = report_stations(&mut out)?;
    let lanes = std::thread::available_parallelism()?.get();
    writeln!(
        out,
        "\n{:<46} {:>12} {:>14} {:>10}",
        "NDJSON file to intake", "a second", "CPU s/million", "x floor"
    )?;
    for tag_sets in [2000, 200_000] {
        report_whole(&mut out, &directory, tag_sets, lanes, floor)?;
    }
    Ok(())
}

fn templates(tag_sets: u32) -> Arc<Templates> {
    Arc::new(Templates::new(Settings { seed: 1, tag_sets, app_groups: 5, ignored_percent: 10 }))
}

/// `count` events as NDJSON, and how many of them are sends.
fn ndjson(mut out: impl Write, tag_sets: u32, count: u32) -> io::Result<u64> {
    let now = Clock::system().unix_seconds();
    let mut events = Events::new(&templates(tag_sets), 0);
    let (mut sends, mut chunk) = (0, Vec::new());
    for _ in 0..count {
        sends += u64::from(events.append(&mut chunk, now).is_some());
        chunk.push(b'\n');
        if chunk.len() >= 256 * 1024 {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)?;
    out.flush()?;
    Ok(sends)
}

fn row(out: &mut impl Write, name: &str, cost: Cost, floor: Option<Cost>) -> io::Result<()> {
    let ratio = floor
        .map_or_else(String::new, |floor| format!("{:.2}", cost.cpu_per_million() / floor.cpu_per_million()));
    writeln!(out, "{name:<46} {:>12.0} {:>14.3} {ratio:>10}", cost.per_second(), cost.cpu_per_million())
}

/// Returns the floor.
fn report_stations(out: &mut impl Write) -> Result<Cost, Box<dyn Error>> {
    let mut lines = Vec::new();
    let sends = ndjson(&mut lines, 2000, EVENTS)?;
    let floor = median(ROUNDS, || floor::count(&lines, sends))?;
    row(out, "floor: serde_json, typed, into a hash map", floor, Some(floor))?;
    let decode = median(ROUNDS, || stations::decode(&lines, sends))?;
    row(out, "decode", decode, Some(floor))?;
    let record = median(ROUNDS, || stations::decode_and_record(&lines, sends))?;
    row(out, "decode + record", record, Some(floor))?;
    let ids = stations::ids(&lines);
    let dedup = median(ROUNDS, || stations::dedup(&ids))?;
    row(out, "dedup", dedup, Some(floor))?;
    let mut cut = stations::cut(SERIES);
    let encode = median(ROUNDS, || stations::encode_all(&cut))?;
    row(out, "encode and deflate, series", encode, None)?;
    let flush = median(ROUNDS, || stations::flush(&mut cut, SERIES))?;
    row(out, "merge, name, encode and deflate, series", flush, None)?;
    Ok(floor)
}

fn report_whole(
    out: &mut impl Write,
    directory: &TempDir,
    tag_sets: u32,
    lanes: usize,
    floor: Cost,
) -> Result<(), Box<dyn Error>> {
    let path = directory.path().join(format!("{tag_sets}.ndjson"));
    let sends = ndjson(std::fs::File::create(&path)?, tag_sets, EVENTS_IN_FILE)?;
    for dedup in [false, true] {
        let whole = whole::Whole { path: &path, lanes, dedup, sends, events: EVENTS_IN_FILE.into() };
        let cost = median(ROUNDS, || whole.run())?;
        let name = format!("{tag_sets} tag sets, {lanes} lanes, dedup {}", if dedup { "on" } else { "off" });
        row(out, &name, cost, Some(floor))?;
    }
    Ok(std::fs::remove_file(path)?)
}
