//! Currents' pushes into the real program: 8 connections, batches of 100, the durable queue, a flush every second,
//! and an intake on this machine that takes everything. The load comes from this process, on the same cores.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use braze_datadog::clock::Clock;
use serde_json::Value;

use crate::cost::{Cost, process_cpu};
use crate::events::{Settings, Templates};
use crate::pace::Plan;
use crate::push::{Target, push};

const CONNECTIONS: u32 = 8;
const BATCH: u32 = 100;
/// Pushed flat out.
const EVENTS: u64 = 2_000_000;
/// Pushed at this rate, to see how long a push takes.
const RATE: u64 = 100_000;
const RATE_SECONDS: u64 = 10;

/// How long the program may take to start, or to count what it has accepted.
const PATIENCE: Duration = Duration::from_mins(1);

/// Prints what pushing costs the program, and how long a push takes.
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
    process: Child,
    push: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    fn start(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let (push, admin, intake) = (free_port()?, free_port()?, intake()?);
        let config = directory.join("push.toml");
        let queue = directory.join("queue");
        let text = format!(
            "[queue.embedded]\ndirectory = \"{}\"\n[push]\nlisten = \"{push}\"\n[admin]\nlisten = \"{admin}\"\n\
             [flush]\ninterval = \"1s\"\n[connections.bench]\nurl = \"http://{intake}\"\napi_key = \"none\"\n",
            queue.display()
        );
        fs::write(&config, text)?;
        let process = Command::new(env!("CARGO_BIN_EXE_braze-datadog"))
            .args(["run", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self { process, push, admin };
        let started = Instant::now();
        while TcpStream::connect(push).is_err() {
            patience(started, "the program does not start")?;
        }
        Ok(server)
    }

    /// Pushes what the plan says and waits until all of it is counted. Returns what that cost the program, and
    /// the generator's truth. Another `seed` gives events with other ids.
    fn push(&self, plan: Plan, seed: u64) -> Result<(Cost, Value), Box<dyn Error>> {
        let settings = Settings { seed, tag_sets: 2000, app_groups: 5, ignored_percent: 10 };
        let templates = Arc::new(Templates::new(settings));
        let target = Target::parse(&format!("http://{}/v1/events", self.push), None)?;
        let (before, cpu, started) =
            (self.received()?, process_cpu(&self.process.id().to_string())?, Instant::now());
        let truth = push(&target, &templates, plan, CONNECTIONS, &Clock::system())?.json(&templates, seed);
        assert!(truth["refused"].as_object().is_some_and(serde_json::Map::is_empty), "{}", truth["refused"]);
        let pieces = truth["accepted"]["events"].as_u64().ok_or("the truth tells no events")?;
        while self.received()? < before + pieces {
            patience(started, "what was pushed is not counted")?;
        }
        let cpu = process_cpu(&self.process.id().to_string())?.saturating_sub(cpu);
        Ok((Cost { pieces, elapsed: started.elapsed(), cpu }, truth))
    }

    /// The events in the program's books.
    fn received(&self) -> Result<u64, Box<dyn Error>> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let line = text.lines().find_map(|line| line.strip_prefix("braze_datadog_events_received_total "));
        Ok(line.ok_or("the metrics tell no events")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whether or not it still runs, it is gone after this.
        let _gone = self.process.kill().and_then(|()| self.process.wait());
    }
}

fn patience(started: Instant, what: &str) -> Result<(), Box<dyn Error>> {
    thread::sleep(Duration::from_millis(5));
    if started.elapsed() < PATIENCE { Ok(()) } else { Err(what.into()) }
}

fn free_port() -> Result<SocketAddr, Box<dyn Error>> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Takes every payload, one connection a thread.
fn intake() -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("intake".into()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is opened again by the program.
            thread::spawn(move || take_all(stream));
        }
    })?;
    Ok(address)
}

fn take_all(stream: TcpStream) -> Result<(), std::io::Error> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut length = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let header = line.trim_end().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if header.is_empty() {
            std::io::copy(&mut stream.by_ref().take(length), &mut std::io::sink())?;
            stream.get_mut().write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")?;
        }
    }
}
