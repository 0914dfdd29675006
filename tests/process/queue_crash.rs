//! The embedded queue under `kill -9`: every append that was answered is there, in order, and nothing that
//! was acknowledged comes back.

use std::collections::{HashMap, HashSet};
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, children};
use event_queues::Queue;
use event_queues::embedded::{self, Appender, EmbeddedQueue, EmbeddedSettings, Pushed};

const DIRECTORY: &str = "QUEUE_CRASH_DIRECTORY";
const ROUND: &str = "QUEUE_CRASH_ROUND";
const ROUNDS: u64 = 10;
const TASKS: usize = 4;

/// So many appends are answered before the kill, and something is acknowledged where there are any; so the kill comes in the
/// middle of the work however slow the disk is, or else at any moment of the start.
const ANSWERED: [usize; 3] = [30, 60, 0];

fn open(directory: &Path) -> (EmbeddedQueue, Appender, embedded::Opened) {
    embedded::open(&EmbeddedSettings { directory: directory.to_owned(), size_max: 8 << 20 }).unwrap()
}

/// One line in one write, so that a kill leaves no half of it that could be taken for a whole one.
fn say(line: &str) {
    io::stdout().write_all(format!("\n@{line}\n").as_bytes()).unwrap();
}

/// Not a test by itself: the process that is killed. It appends, receives and acknowledges until then.
#[test]
fn the_process_that_is_killed() {
    let (Ok(directory), Ok(round)) = (env::var(DIRECTORY), env::var(ROUND)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (queue, appender, _) = open(Path::new(&directory));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(receive_and_acknowledge(queue));
        for task in 0..TASKS {
            let (appender, round) = (appender.clone(), round.clone());
            tasks.spawn(async move {
                for n in 0.. {
                    let body = format!("{round}.{task} {n} {}", "x".repeat(n % 5000));
                    let frame = Pushed {
                        events: 100,
                        defaults: Arc::default(),
                        body: body.into(),
                        is_extract: false,
                    };
                    appender.append(frame.into()).await.unwrap();
                    say(&format!("answered {round}.{task} {n}"));
                }
            });
        }
        // None ends but by a panic, and with the first one this process does.
        tasks.join_next().await.unwrap().unwrap();
    });
}

async fn receive_and_acknowledge(mut queue: EmbeddedQueue) {
    loop {
        let mut last = None;
        for _ in 0..50 {
            let delivery = queue.receive().await.unwrap().unwrap();
            say(&format!("acknowledging {}", name(&delivery.body)));
            last = Some(delivery.receipt);
        }
        queue.acknowledge(last.unwrap()).await.unwrap();
        say("acknowledged");
    }
}

/// `round.task number`, which begins every body.
fn name(body: &[u8]) -> String {
    let text = str::from_utf8(body).unwrap();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Lets the process work until so many appends were answered, and for a pause more; kills it, and returns what it said.
fn run_and_kill(directory: &Path, round: u64, answered: usize, pause: Duration) -> Vec<String> {
    let mut child = children::command(env::current_exe().unwrap());
    child
        .args(["--exact", "queue_crash::the_process_that_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped());
    let mut child = children::spawn(child).unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    // Where nobody listens for so long, the process waits, too.
    let (say, said) = sync_channel(1 << 16);
    thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        // Who listens has given up where this fails.
        lines.filter_map(|line| Some(line.strip_prefix('@')?.to_owned())).try_for_each(|line| say.send(line))
    });
    let mut lines: Vec<String> = Vec::new();
    let (mut left, mut is_acknowledged) = (answered, answered == 0);
    let give_up = Instant::now() + PATIENCE;
    while left > 0 || !is_acknowledged {
        match said.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
            Ok(line) => lines.push(line),
            // It has ended: the status tells how.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{left} of {answered} appends are not answered"),
        }
        let line = &lines[lines.len() - 1];
        left -= usize::from(left > 0 && line.starts_with("answered "));
        is_acknowledged |= line == "acknowledged";
    }
    thread::sleep(pause);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(9), "the process was not killed, it ended by itself: {status}");
    // The last one is whole as well: see [`say`].
    lines.extend(said);
    lines
}

/// What the processes said, all rounds together.
#[derive(Default)]
struct Said {
    answered: HashSet<String>,
    /// Certainly acknowledged.
    acknowledged: HashSet<String>,
    /// Perhaps acknowledged: the kill came before the answer.
    perhaps: HashSet<String>,
}

impl Said {
    fn hear(&mut self, lines: Vec<String>) {
        let mut in_hand = Vec::new();
        for line in lines {
            match line.split_once(' ') {
                Some(("answered", name)) => {
                    self.answered.insert(name.to_owned());
                }
                Some(("acknowledging", name)) => in_hand.push(name.to_owned()),
                _ => {
                    assert_eq!(line, "acknowledged");
                    self.acknowledged.extend(in_hand.drain(..));
                }
            }
        }
        self.perhaps.extend(in_hand);
    }
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_by_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..ROUNDS {
        let pause = Duration::from_millis((round * 7919 + u64::from(std::process::id()) * 31) % 250);
        let answered = ANSWERED[usize::try_from(round).unwrap() % ANSWERED.len()];
        said.hear(run_and_kill(directory.path(), round, answered, pause));
        let (mut queue, appender, opened) = open(directory.path());
        assert!(opened.damaged.is_empty(), "{opened:?}");
        assert!(!opened.is_acknowledgement_lost);
        queue.until_empty(true);
        let mut received = HashSet::new();
        let mut last: HashMap<String, u64> = HashMap::new();
        while let Some(delivery) = queue.receive().await.unwrap() {
            let name = name(&delivery.body);
            let (task, number) = name.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            let before = last.insert(task.to_owned(), number);
            assert!(before.is_none_or(|before| number == before + 1), "{name} after {before:?}");
            assert!(!said.acknowledged.contains(&name), "{name} came back");
            assert!(received.insert(name));
        }
        let gone = said.answered.iter().filter(|name| {
            !received.contains(*name) && !said.acknowledged.contains(*name) && !said.perhaps.contains(*name)
        });
        assert_eq!(gone.collect::<Vec<_>>(), Vec::<&String>::new());
        assert_eq!(appender.lost(), 0);
        assert_eq!(appender.depth(), received.len() as u64 * 100);
        // What was perhaps acknowledged and did not come back is.
        said.acknowledged.extend(said.perhaps.drain().filter(|name| !received.contains(name)));
    }
    assert!(said.answered.len() > 100, "{} appends prove little", said.answered.len());
    assert!(said.acknowledged.len() > 100, "{} acknowledgements prove little", said.acknowledged.len());
}
