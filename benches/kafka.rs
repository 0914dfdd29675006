//! What Kafka costs: the real binary with a backlog of millions, beside a bare consumer loop that only counts
//! messages, in the same run, against the broker of the tests.
//!
//! `cargo bench --features kafka --bench kafka` takes about two minutes and 3 GB of memory, most of it the broker's;
//! `cargo bench --features kafka --bench kafka -- 1` sends one million events instead of five. CPU seconds are user and system
//! time together, of the forwarder's process alone; the broker and the intake share the machine with it, so
//! that events a second are a lower bound. Nothing here judges: a busy machine is slow, not broken.

#[path = "../tests/support/broker.rs"]
mod broker;
#[path = "pipeline/cost.rs"]
mod cost;
#[path = "../examples/load/events.rs"]
mod events;
#[path = "kafka/forwarder.rs"]
mod forwarder;
#[path = "../tests/support/rig.rs"]
mod support;

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::{Broker, Compression};
use cost::{Cost, process_cpu};
use events::{Events, LoadSettings, Templates};
use forwarder::Run;
use rdkafka::consumer::{BaseConsumer, Consumer};

const TOPIC: &str = "braze.sends";
const PARTITIONS: i32 = 6;
const TAG_SETS: u32 = 2000;

/// How long a consumer may be without a message.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<(), Box<dyn Error>> {
    let millions: u64 = match std::env::args().skip(1).find(|argument| !argument.starts_with('-')) {
        Some(argument) => argument.parse()?,
        None => 5,
    };
    let events = millions * 1_000_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = io::stdout();
    let broker = Broker::start();
    runtime.block_on(broker.create_topic(TOPIC, PARTITIONS));
    let (sends, bytes) = produce(&broker, events);
    writeln!(
        out,
        "{events} events of {} bytes in lz4 batches wait in {PARTITIONS} partitions\n",
        bytes / events
    )?;
    writeln!(
        out,
        "{:<34} {:>12} {:>14} {:>12} {:>10}",
        "", "a second", "CPU s/million", "over floor", "peak RSS"
    )?;
    let floor = count(&broker, events)?;
    row(&mut out, "floor: a bare loop that counts", floor, None, None)?;
    for lanes in [1, 2] {
        let run = Run { broker: &broker, lanes, events, sends };
        let measured = runtime.block_on(run.measure())?;
        row(
            &mut out,
            &format!("forwarder, {lanes} lanes, dedup on"),
            measured.cost,
            Some(floor),
            Some(measured.peak_bytes),
        )?;
    }
    Ok(())
}

fn row(
    out: &mut impl Write,
    name: &str,
    cost: Cost,
    floor: Option<Cost>,
    peak: Option<u64>,
) -> io::Result<()> {
    let over = floor
        .map_or_else(String::new, |floor| format!("{:.2}", cost.cpu_per_million() - floor.cpu_per_million()));
    let peak = peak.map_or_else(String::new, |bytes| format!("{} MiB", bytes >> 20));
    writeln!(
        out,
        "{name:<34} {:>12.0} {:>14.2} {over:>12} {peak:>10}",
        cost.per_second(),
        cost.cpu_per_million()
    )
}

/// Fills the topic; how many of the events are sends, and their bytes in all.
fn produce(broker: &Broker, events: u64) -> (u64, u64) {
    let settings = LoadSettings { seed: 1, tag_sets: TAG_SETS, app_groups: 5, ignored_percent: 10 };
    let mut row = Events::new(&Arc::new(Templates::new(settings)), 0);
    let producer = broker.producer(Compression::Lz4);
    let now = support::unix_now();
    let (mut sends, mut bytes, mut value) = (0, 0, Vec::new());
    for number in 0..events {
        value.clear();
        sends += u64::from(row.append(&mut value, now).is_some());
        shorten(&mut value);
        bytes += value.len() as u64;
        producer.send(TOPIC, &format!("{:024x}", number % 1_000_003), &value);
    }
    producer.flush();
    (sends, bytes)
}

/// Leaves out what storage records have and pushes have not: 700 bytes remain.
fn shorten(value: &mut Vec<u8>) {
    let find = |name: &str| memchr::memmem::find(value, name.as_bytes());
    if let (Some(from), Some(to)) = (find(",\"dispatch_id\""), find(",\"ip_pool\""))
        && from < to
    {
        value.drain(from..to);
    }
}

/// Reads everything and only counts.
fn count(broker: &Broker, events: u64) -> Result<Cost, Box<dyn Error>> {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "floor")
        .set("session.timeout.ms", broker::SESSION_TIMEOUT_MS)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    consumer.subscribe(&[TOPIC])?;
    let (mut started, mut cpu) = (Instant::now(), process_cpu("self")?);
    let (mut counted, mut last) = (0, Instant::now());
    while counted < events {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            drop(message?);
            counted += 1;
        } else {
            assert!(last.elapsed() < PATIENCE, "{counted} of {events} messages came");
            if counted == 0 {
                // Joining the group is no part of it.
                (started, cpu) = (Instant::now(), process_cpu("self")?);
            }
            continue;
        }
        if counted % 10_000 == 1 {
            last = Instant::now();
        }
    }
    let cpu = process_cpu("self")?.saturating_sub(cpu);
    Ok(Cost { pieces: events, elapsed: started.elapsed(), cpu })
}
