//! What the real binary takes when there is nothing to do, when some of its connections hang, and when far more
//! comes than it can carry.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_lanes::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::events::{Events, LoadSettings, Templates};
use crate::measure::{Cost, resident};
use crate::process::{Configuration, Process};

/// How long the idle process is watched.
const IDLE: Duration = Duration::from_secs(10);

const CONNECTIONS: u32 = 500;
const HANGING: u32 = 100;
const EVENTS_IN_FILE: u32 = 300_000;
/// How often the file is read in one run, so that several flushes fall into it.
const FILES: u32 = 10;
const ROUNDS: usize = 3;

/// Pushes at a time, each as large as it may be for the sake of memory; none waits after a refusal.
const PUSHERS: u32 = 64;
const EVENTS_IN_PUSH: u32 = 2000;

/// What would take memory or time beside what is looked at.
const SMALL: &str = "dedup.window = '0s'\nqueue.embedded.max_size = '64MiB'\n";

/// An intake that answers every request 202, or none.
pub(crate) struct Intake {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

impl Intake {
    pub(crate) fn start(answers: bool) -> Result<Self, Box<dyn Error>> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                clients.spawn(serve(stream, answers));
            }
        });
        Ok(Self { address, _runtime: runtime })
    }
}

/// Until the client goes: reads a head, and as many bytes as it announces, and answers.
async fn serve(mut stream: TcpStream, answers: bool) -> Option<()> {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let length = stream.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&buffer[..length]);
        while let Some(whole) = request_length(&read).filter(|whole| answers && *whole <= read.len()) {
            read.drain(..whole);
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        }
    }
}

/// The bytes of the request that `read` begins with, once its head is there.
fn request_length(read: &[u8]) -> Option<usize> {
    let end = read.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>();
    Some(end + length.ok()?)
}

/// Prints them all but the overload.
pub(crate) fn report(out: &mut impl Write, directory: &Path) -> Result<(), Box<dyn Error>> {
    writeln!(out, "\nthe process, from outside")?;
    idle(out, directory)?;
    connections(out, directory)
}

fn idle(out: &mut impl Write, directory: &Path) -> Result<(), Box<dyn Error>> {
    let intake = Intake::start(true)?;
    let mut configuration = Configuration::new(directory, SMALL)?;
    configuration.connection("all", intake.address, "");
    let (process, start) = configuration.start(&[])?;
    let before = process.cpu_of_threads()?;
    std::thread::sleep(IDLE);
    let cpu = process.cpu_of_threads()?.saturating_sub(before);
    let (core, memory) = (100.0 * cpu.as_secs_f64() / IDLE.as_secs_f64(), resident(&process.id())?);
    let start = start.as_millis();
    Ok(writeln!(
        out,
        "idle: ready after {start} ms, {core:.3} % of a core, {:.1} MB resident",
        megabytes(memory)
    )?)
}

/// How fast events are taken in until the last byte of the input is read, with all connections well and with some
/// that take requests and never answer; turn and turn about.
fn connections(out: &mut impl Write, directory: &Path) -> Result<(), Box<dyn Error>> {
    let shape = LoadSettings { seed: 1, tag_sets: 2000, app_groups: CONNECTIONS, ignored_percent: 10 };
    let templates = Arc::new(Templates::new(shape));
    let files = tempfile::tempdir_in(directory)?;
    let first = files.path().join("0.ndjson");
    crate::write_file(&first, &templates, EVENTS_IN_FILE)?;
    let bytes = std::fs::metadata(&first)?.len() * u64::from(FILES);
    let mut paths = vec![first.display().to_string()];
    for number in 1..FILES {
        let link = files.path().join(format!("{number}.ndjson"));
        std::fs::hard_link(&first, &link)?;
        paths.push(link.display().to_string());
    }
    let (well, hung) = (Intake::start(true)?, Intake::start(false)?);
    let mut costs = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (hanging, costs) in [0, HANGING].into_iter().zip(&mut costs) {
            let mut configuration = Configuration::new(directory, SMALL)?;
            for number in 0..CONNECTIONS {
                // Zipf: the first app groups have nearly all events, so those that hang are spread over all.
                let hangs = number % (CONNECTIONS / HANGING) == 0 && hanging > 0;
                let intake = if hangs { hung.address } else { well.address };
                configuration.connection(&format!("c{number}"), intake, &templates.app_group(number));
            }
            costs.push(intake_of(&configuration, &paths, bytes)?);
        }
    }
    let [well, hung] = costs.map(|mut costs| {
        costs.sort_unstable_by_key(|cost| cost.elapsed);
        costs[ROUNDS / 2]
    });
    crate::row(out, &format!("{CONNECTIONS} connections, all well"), well, None)?;
    crate::row(out, &format!("{CONNECTIONS} connections, {HANGING} of them hanging"), hung, None)?;
    let slower = 100.0 * (1.0 - hung.per_second() / well.per_second());
    Ok(writeln!(out, "slower by {slower:.1} %")?)
}

fn intake_of(configuration: &Configuration, paths: &[String], bytes: u64) -> Result<Cost, Box<dyn Error>> {
    let mut arguments = vec!["--again", "--import"];
    arguments.extend(paths.iter().map(String::as_str));
    let started = Instant::now();
    let (mut process, _) = configuration.start(&arguments)?;
    process.wait_for_bytes(bytes)?;
    Ok(Cost { pieces: (EVENTS_IN_FILE * FILES).into(), elapsed: started.elapsed(), cpu: process.cpu()? })
}

/// Prints the memory while clients push without pause for so long, whatever they are answered.
pub(crate) fn overload(out: &mut impl Write, directory: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let intake = Intake::start(true)?;
    let mut configuration = Configuration::new(directory, SMALL)?;
    configuration.connection("all", intake.address, "");
    let (process, _) = configuration.start(&[])?;
    let request: Arc<[u8]> = push().into();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for _ in 0..PUSHERS {
        runtime.spawn(push_forever(configuration.push, Arc::clone(&request)));
    }
    std::thread::sleep(time / 4);
    let early = most_resident(&process, time / 4)?;
    let late = most_resident(&process, time / 2)?;
    Ok(writeln!(
        out,
        "overload, {PUSHERS} clients that never pause: at most {:.0} MB resident in the second quarter of {time:?}, \
         {:.0} MB after it",
        megabytes(early),
        megabytes(late)
    )?)
}

fn most_resident(process: &Process, time: Duration) -> Result<u64, Box<dyn Error>> {
    let (started, mut most) = (Instant::now(), 0);
    while started.elapsed() < time {
        most = most.max(resident(&process.id())?);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(most)
}

async fn push_forever(address: SocketAddr, request: Arc<[u8]>) {
    let mut answer = vec![0; 4096];
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        // A refusal may end the connection before all is written; then there is another one.
        while stream.write_all(&request).await.is_ok() {
            if !matches!(stream.read(&mut answer).await, Ok(1..)) {
                break;
            }
        }
    }
}

fn push() -> Vec<u8> {
    let now = Clock::system().unix_seconds();
    let mut events = Events::new(&crate::templates(2000), 0);
    let mut body = b"{\"events\":[".to_vec();
    for number in 0..EVENTS_IN_PUSH {
        if number > 0 {
            body.push(b',');
        }
        events.append(&mut body, now);
    }
    body.extend_from_slice(b"]}");
    let head =
        format!("POST /v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
