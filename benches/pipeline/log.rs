//! The embedded queue: pushes of 100 events, each durable before it is answered.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use event_queues::embedded::{self, Appender, Pushed};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::events::Events;
use crate::measure::{Cost, Watch, median};

const EVENTS_IN_PUSH: u32 = 100;
const APPENDERS: u32 = 8;
const PUSHES: u32 = 1600;
const ROUNDS: usize = 3;

/// How long the floor is measured.
const FLOOR: Duration = Duration::from_secs(1);

/// Prints both.
pub(crate) fn report(out: &mut impl Write, directory: &Path) -> Result<(), Box<dyn Error>> {
    let body = push();
    writeln!(
        out,
        "{:<46} {:>12} {:>14} {:>10}",
        format!("pushes of {EVENTS_IN_PUSH} to disk"),
        "events/s",
        "CPU s/million",
        "ms each"
    )?;
    let floor = floor(directory, &body)?;
    line(out, "floor: one write and fdatasync after the other", floor, 1)?;
    let append = median(ROUNDS, || append(directory, &body))?;
    line(out, &format!("queue, {APPENDERS} appenders at a time"), append, APPENDERS)
}

fn line(out: &mut impl Write, name: &str, cost: Cost, at_a_time: u32) -> Result<(), Box<dyn Error>> {
    let pushes_per_second = cost.per_second() / f64::from(EVENTS_IN_PUSH);
    let milliseconds = 1000.0 * f64::from(at_a_time) / pushes_per_second;
    let (events, cpu) = (cost.per_second(), cost.cpu_per_million());
    Ok(writeln!(out, "{name:<46} {events:>12.0} {cpu:>14.3} {milliseconds:>10.2}")?)
}

fn push() -> Bytes {
    let mut events = Events::new(&crate::templates(2000), 0);
    let mut body = b"{\"events\":[".to_vec();
    for number in 0..EVENTS_IN_PUSH {
        if number > 0 {
            body.push(b',');
        }
        events.append(&mut body, 1_800_000_000);
    }
    body.extend_from_slice(b"]}");
    body.into()
}

/// What the disk does alone, one push at a time.
fn floor(directory: &Path, body: &[u8]) -> Result<Cost, Box<dyn Error>> {
    let mut file = File::create(directory.join("floor"))?;
    let watch = Watch::thread()?;
    let (started, mut pushes) = (Instant::now(), 0);
    while started.elapsed() < FLOOR {
        file.write_all(body)?;
        file.sync_data()?;
        pushes += 1;
    }
    watch.cost(pushes * u64::from(EVENTS_IN_PUSH))
}

fn append(directory: &Path, body: &Bytes) -> Result<Cost, Box<dyn Error>> {
    let directory = tempfile::tempdir_in(directory)?;
    let settings = embedded::EmbeddedSettings { directory: directory.path().to_owned(), size_max: 1 << 32 };
    let (queue, appender, _opened) = embedded::open(&settings)?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let watch = Watch::process()?;
    runtime.block_on(append_all(&appender, body))?;
    let cost = watch.cost((PUSHES * EVENTS_IN_PUSH).into())?;
    drop(queue);
    Ok(cost)
}

async fn append_all(appender: &Appender, body: &Bytes) -> Result<(), Box<dyn Error>> {
    let mut tasks = JoinSet::new();
    for _ in 0..APPENDERS {
        let (appender, body) = (appender.clone(), body.clone());
        tasks.spawn(async move {
            for _ in 0..PUSHES / APPENDERS {
                let frame = Pushed {
                    events: EVENTS_IN_PUSH,
                    defaults: Arc::default(),
                    body: body.clone(),
                    is_extract: false,
                };
                appender.append(frame.into()).await?;
            }
            Ok::<(), embedded::AppendError>(())
        });
    }
    while let Some(appended) = tasks.join_next().await {
        appended??;
    }
    Ok(())
}
