//! What each station of the hallway costs, the whole of it, and pushes into the real program, beside floors measured
//! in the same run.
//!
//! `cargo bench --bench pipeline` takes about two minutes; `… -- log`, `push`, `stations`, `whole`, `outside` or `overload`
//! measures one part alone, the last one for ten minutes, and a number (`… -- 1000000`) the whole of it with as many tag sets.
//! CPU seconds are user and system time together; what a row shows is the median of its rounds. Nothing here judges: a busy
//! machine is slow, not broken.

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
#[path = "pipeline/outside.rs"]
mod outside;
#[expect(unused, reason = "its tests run with the example")]
#[path = "../examples/load/pace.rs"]
mod pace;
#[path = "pipeline/process.rs"]
mod process;
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
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event_lanes::clock::Clock;
use tempfile::TempDir;

use events::{Events, LoadSettings, Templates};
use measure::{Cost, median, resident};
use whole::Whole;

/// Events in memory, for single stations.
const EVENTS: u32 = 200_000;

/// Events in the file that takes the whole path.
const EVENTS_IN_FILE: u32 = 1_000_000;

/// A file has as many events for each tag set, so that most of them are in it.
const EVENTS_A_SET_MIN: u32 = 3;

/// Series in a large flush.
const SERIES: u32 = 200_000;

const ROUNDS: usize = 3;

/// How long more is pushed than can be carried.
const OVERLOAD: Duration = Duration::from_secs(20);
const OVERLOAD_ALONE: Duration = Duration::from_mins(10);

/// How often counts are cut where the longest pause of intake is looked for: so often that a flush is under way most
/// of the time.
const PAUSE_INTERVAL: Duration = Duration::from_millis(250);

fn main() -> Result<(), Box<dyn Error>> {
    let parts: Vec<String> = std::env::args().skip(1).filter(|part| part != "--bench").collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut tag_sets: Vec<u32> = parts.iter().filter_map(|part| part.parse().ok()).collect();
    if wanted("whole") {
        tag_sets.extend([2000, SERIES]);
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut out = io::stdout();
    // The disk first, while it has nothing else to do; and memory while none is lying about.
    if wanted("log") {
        log::report(&mut out, directory.path())?;
    }
    if wanted("push") {
        server::report(&mut out, directory.path())?;
    }
    if wanted("stations") {
        report_memory(&mut out)?;
    }
    if wanted("stations") || !tag_sets.is_empty() {
        report_in_process(&mut out, &directory, &tag_sets)?;
    }
    if wanted("outside") {
        outside::report(&mut out, directory.path())?;
    }
    if wanted("overload") {
        let time = if parts.is_empty() { OVERLOAD } else { OVERLOAD_ALONE };
        outside::overload(&mut out, directory.path(), time)?;
    }
    Ok(())
}

fn report_in_process(
    out: &mut impl Write,
    directory: &TempDir,
    tag_sets: &[u32],
) -> Result<(), Box<dyn Error>> {
    writeln!(
        out,
        "\n{:<46} {:>12} {:>14} {:>10}",
        "one thread, events in memory", "a second", "CPU s/million", "x floor"
    )?;
    let floor = report_stations(out)?;
    if tag_sets.is_empty() {
        return Ok(());
    }
    let lanes = std::thread::available_parallelism()?.get();
    writeln!(
        out,
        "\n{:<46} {:>12} {:>14} {:>10}",
        "NDJSON file to intake", "a second", "CPU s/million", "x floor"
    )?;
    for tag_sets in tag_sets {
        report_whole(out, directory, *tag_sets, lanes, floor)?;
    }
    Ok(())
}

fn templates(tag_sets: u32) -> Arc<Templates> {
    Arc::new(Templates::new(LoadSettings { seed: 1, tag_sets, app_groups: 5, ignored_percent: 10 }))
}

/// As [`write_ndjson`], into a file that is on the disk then: else the kernel writes it while it is read.
fn write_file(path: &Path, templates: &Arc<Templates>, count: u32) -> io::Result<u64> {
    let file = File::create(path)?;
    let sends = write_ndjson(&file, templates, count)?;
    file.sync_all()?;
    Ok(sends)
}

/// `count` events as NDJSON; returns how many of them are sends.
fn write_ndjson(mut out: impl Write, templates: &Arc<Templates>, count: u32) -> io::Result<u64> {
    let now = Clock::system().unix_seconds();
    let mut events = Events::new(templates, 0);
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
    let sends = write_ndjson(&mut lines, &templates(2000), EVENTS)?;
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
    writeln!(out, "a flush of {SERIES} series from two lanes: {:.3} CPU s", flush.cpu.as_secs_f64())?;
    Ok(floor)
}

/// What a lane's counts take, before a cut and after it, when there is room for as many series as there were.
fn report_memory(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let before = resident("self")?;
    let mut aggregator = stations::lane(SERIES);
    let growing = resident("self")?.saturating_sub(before) / u64::from(SERIES);
    drop(aggregator.cut());
    let before = resident("self")?;
    stations::record_all(&mut aggregator, SERIES);
    let steady = resident("self")?.saturating_sub(before) / u64::from(SERIES);
    Ok(writeln!(
        out,
        "\nmemory of a lane with {SERIES} series: {growing} B a series until the first cut, {steady} B after it"
    )?)
}

fn report_whole(
    out: &mut impl Write,
    directory: &TempDir,
    tag_sets: u32,
    lanes: usize,
    floor: Cost,
) -> Result<(), Box<dyn Error>> {
    let path = directory.path().join(format!("{tag_sets}.ndjson"));
    let events = EVENTS_IN_FILE.max(EVENTS_A_SET_MIN * tag_sets);
    let sends = write_file(&path, &templates(tag_sets), events)?;
    let (flush_interval, events) = (Duration::from_secs(1), events.into());
    let whole = Whole { path: &path, lanes, dedup: true, flush_interval, sends, events };
    for dedup in [false, true] {
        let whole = Whole { dedup, ..whole };
        let cost = median(ROUNDS, || Ok(whole.run()?.cost))?;
        let name = format!("{tag_sets} tag sets, {lanes} lanes, dedup {}", if dedup { "on" } else { "off" });
        row(out, &name, cost, Some(floor))?;
    }
    let pause = Whole { flush_interval: PAUSE_INTERVAL, ..whole }.run()?.pause.as_secs_f64() * 1000.0;
    writeln!(
        out,
        "{:<46} {pause:>9.1} ms",
        format!("longest pause of intake, a flush every {PAUSE_INTERVAL:?}")
    )?;
    Ok(std::fs::remove_file(path)?)
}
