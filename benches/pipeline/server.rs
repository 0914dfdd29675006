//! Currents' pushes into the real program: 8 connections, batches of 100, the durable queue, a flush every second,
//! and an intake on this machine that takes everything. The load comes from this process, on the same cores.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use event_lanes::clock::Clock;
use serde_json::Value;

use crate::cost::Cost;
use crate::events::{LoadSettings, Templates};
use crate::outside::Intake;
use crate::pace::Plan;
use crate::process::{Configuration, Process, get};
use crate::push::{Target, push};

const CONNECTIONS: u32 = 8;
const BATCH: u32 = 100;
/// Pushed flat out.
const EVENTS: u64 = 2_000_000;
/// Pushed at this rate, to see how long a push takes.
const RATE: u64 = 100_000;
const RATE_SECONDS: u64 = 10;

/// How long the program may take to count what it has accepted.
const PATIENCE: Duration = Duration::from_mins(1);

/// Prints what pushing costs the program, and how long a push takes: at a rate since it was due, so that one that is late
/// is seen in those that wait for it.
pub(crate) fn report(out: &mut impl Write, directory: &Path) -> Result<(), Box<dyn Error>> {
    let server = Server::start(directory)?;
    writeln!(
        out,
        "\n{:<46} {:>12} {:>14} {:>10} {:>10}",
        format!("push, {CONNECTIONS} connections, batches of {BATCH}"),
        "events/s",
        "CPU s/million",
        "p50 ms",
        "p99 ms"
    )?;
    let flat_out = Plan { batch: BATCH, rate: None, events_max: EVENTS, seconds_max: None };
    // One round to warm up: the kernel's buffers grow with the first pushes.
    server.push(flat_out, 1)?;
    line(out, "flat out", &server.push(flat_out, 2)?)?;
    let at_a_rate =
        Plan { batch: BATCH, rate: Some(RATE), events_max: RATE * RATE_SECONDS, seconds_max: None };
    line(out, &format!("at {RATE} events a second"), &server.push(at_a_rate, 3)?)
}

fn line(out: &mut impl Write, name: &str, (cost, truth): &(Cost, Value)) -> Result<(), Box<dyn Error>> {
    let latency = &truth["push_milliseconds"];
    let (rate, cpu) = (&truth["events_per_second"], cost.cpu_per_million());
    let (p50, p99) = (latency["p50"].to_string(), latency["p99"].to_string());
    Ok(writeln!(out, "{name:<46} {rate:>12} {cpu:>14.3} {p50:>10} {p99:>10}")?)
}

/// The program, ready to be pushed to.
struct Server {
    process: Process,
    configuration: Configuration,
    _intake: Intake,
}

impl Server {
    fn start(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let (intake, mut configuration) = (Intake::start(true)?, Configuration::new(directory, "")?);
        configuration.connection("bench", intake.address, "");
        let (process, _) = configuration.start(&[])?;
        Ok(Self { process, configuration, _intake: intake })
    }

    /// Pushes what the plan says and waits until all of it is counted. Returns what that cost the program, and
    /// the generator's truth. Another `seed` gives events with other ids.
    fn push(&self, plan: Plan, seed: u64) -> Result<(Cost, Value), Box<dyn Error>> {
        let settings = LoadSettings { seed, tag_sets: 2000, app_groups: 5, ignored_percent: 10 };
        let templates = Arc::new(Templates::new(settings));
        let target = Target::parse(&format!("http://{}/v1/events", self.configuration.push), None)?;
        let (before, cpu, started) = (self.received()?, self.process.cpu()?, Instant::now());
        let truth = push(&target, &templates, plan, CONNECTIONS, &Clock::system())?.json(&templates, seed);
        assert!(truth["refused"].as_object().is_some_and(serde_json::Map::is_empty), "{}", truth["refused"]);
        let pieces = truth["accepted"]["events"].as_u64().ok_or("the truth tells no events")?;
        while self.received()? < before + pieces {
            patience(started, "what was pushed is not counted")?;
        }
        let cpu = self.process.cpu()?.saturating_sub(cpu);
        Ok((Cost { pieces, elapsed: started.elapsed(), cpu }, truth))
    }

    /// The events in the program's books.
    fn received(&self) -> Result<u64, Box<dyn Error>> {
        let text = get(self.configuration.admin, "/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix("braze_datadog_events_received_total "));
        Ok(line.ok_or("the metrics tell no events")?.parse()?)
    }
}

fn patience(started: Instant, what: &str) -> Result<(), Box<dyn Error>> {
    thread::sleep(Duration::from_millis(5));
    if started.elapsed() < PATIENCE { Ok(()) } else { Err(what.into()) }
}
