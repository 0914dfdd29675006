//! What it costs that files are remembered: disk, start, look-up, settlement and memory, however many there are.
//!
//! `cargo test --release --all-features --test process import_state -- --ignored --nocapture` prints a table; without
//! `--release` it is the test build's. It takes a minute and 0.6 GB of disk. Nothing here judges but what is promised.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use event_queues::Queue as _;
use event_queues::files::testing::remember;
use event_queues::files::{self, FilesSettings};

use crate::support;
use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;

/// How many files are remembered.
const REMEMBERED: [u64; 3] = [0, 100_000, 1_000_000];
/// How many are imported, new ones, of some 100 KB each.
const NEW: u64 = 200;

/// What was measured with so many files remembered.
#[derive(Debug, Clone, Copy)]
struct Measured {
    remembered: u64,
    disk_bytes: u64,
    /// Until reading begins, with one new file.
    start: Duration,
    /// The same with [`NEW`] of them, of which each is looked up.
    start_with_all: Duration,
    /// From an acknowledgement to its end.
    settlement: Duration,
    /// Of the real binary.
    memory_peak_bytes: u64,
}

fn new_file(directory: &Path, number: u64) -> PathBuf {
    let time = support::unix_now();
    let line = |id: u64| {
        format!(
            "{{\"event_type\":\"users.messages.email.Send\",\"id\":\"{number}-{id}\",\"time\":{time},\
             \"app_group_id\":\"g\",\"campaign_id\":\"c\"}}\n"
        )
    };
    let path = directory.join(format!("{number}.ndjson"));
    fs::write(&path, (0..1_000).map(line).collect::<String>()).unwrap();
    path
}

/// Imports files, and acknowledges each by itself: how long the start took, and an acknowledgement.
async fn import(state: &Path, files: &[PathBuf]) -> (Duration, Duration) {
    let settings =
        FilesSettings { files: files.to_vec(), state_directory: Some(state.to_owned()), again: false };
    let started = Instant::now();
    let (mut queue, _) = files::open(&settings, support::unix_now()).unwrap();
    let start = started.elapsed();
    let (mut settling, mut settlements) = (Duration::ZERO, 0);
    while let Some(delivery) = queue.receive().await.unwrap() {
        let asked = Instant::now();
        queue.acknowledge(delivery.receipt).await.unwrap();
        settling += asked.elapsed();
        settlements += 1;
    }
    (start, settling / settlements)
}

/// The most memory that a process had, as long as it runs.
fn memory_peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024)
}

async fn measure(remembered: u64) -> Measured {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), "acme-key", &[]);
    let queue = configuration.home().join("queue");
    remember(&queue, remembered).unwrap();
    let disk_bytes = fs::metadata(queue.join("imports-v3.redb")).unwrap().len();
    let mut next = 0;
    let mut some = |count: u64| {
        next += count;
        (next - count..next).map(|number| new_file(configuration.home(), number)).collect::<Vec<_>>()
    };
    let (start, _) = import(&queue, &some(1)).await;
    let (start_with_all, settlement) = import(&queue, &some(NEW)).await;
    let path = &some(1)[0];
    let forwarder = configuration.spawn(&["run", "--once", "--import", path.to_str().unwrap()]);
    let mut most = 0;
    while let Some(bytes) = memory_peak_bytes(forwarder.id()) {
        most = most.max(bytes);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Measured { remembered, disk_bytes, start, start_with_all, settlement, memory_peak_bytes: most }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures, for a minute"]
async fn a_million_files_are_remembered_within_bounds() {
    let mut all = Vec::new();
    for remembered in REMEMBERED {
        all.push(measure(remembered).await);
        let Measured { remembered, disk_bytes, start, settlement, memory_peak_bytes, .. } =
            all[all.len() - 1];
        eprintln!(
            "{remembered} remembered: {} MB on disk, {start:?} to start, {settlement:?} a settlement, {} MB of memory",
            disk_bytes / 1_000_000,
            memory_peak_bytes / 1_000_000
        );
    }
    let (none, million) = (&all[0], &all[all.len() - 1]);
    let each = |of: &Measured| (of.start_with_all.saturating_sub(of.start)) / u32::try_from(NEW).unwrap();
    eprintln!("a new file costs {:?} with none remembered, {:?} with a million", each(none), each(million));
    assert!(million.memory_peak_bytes < none.memory_peak_bytes + 100_000_000, "{million:?}");
    assert!(million.start < Duration::from_secs(5), "a start takes {:?}", million.start);
}
