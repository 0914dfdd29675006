//! The process that runs, what it was asked to do, and what it says of itself. Nothing here waits for it: while it starts,
//! reads its configuration or stops, other faults come.

use std::fmt::{self, Debug, Formatter};
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::effect::Clock;
use super::lab::Lab;
use super::life::{ACKNOWLEDGED_AFTER, End, Log, Told, UNDER_WAY};
use super::machine;
use super::schedule::Fault;
use super::support::forwarder::Forwarder;
use super::support::{PATIENCE, unix_now};
use super::truth::Group;

/// From one question how it is to the next, once it lives.
const ASK: Duration = Duration::from_millis(100);

/// More memory than this, in KiB, is not needed for what this load makes: counts of a few seconds, the ids of all of
/// it, the campaigns and Canvas steps of all of it (each batch is one), a queue of 1 MiB.
const MEMORY_MAX: u64 = 96 * 1024;

/// Flushes that must not be counted again of one that is killed late, at least.
const SETTLED: usize = 2;

const STOPPING: &str = "stopping: flushing";
const REFUSED: &str = "the configuration was refused";
const READ_AGAIN: &str = "the configuration was read again";

/// The process, from its start until its end has been seen.
pub(crate) struct Running {
    pub(crate) forwarder: Forwarder,
    /// Whether it has said so.
    pub(crate) is_alive: bool,
    pub(crate) going: Option<Going>,
    pub(crate) reload: Option<Reload>,
    /// The last time that it was asked.
    pub(crate) told: Told,
    /// Its clock, as it was that time, if nobody has looked since.
    pub(crate) clock: Clock,
    /// When it was seen that the connection that nothing happens to had accepted more.
    accepted_at: Vec<Instant>,
    started: Instant,
    /// The question that is under way.
    asking: JoinSet<Answer>,
    /// When it was asked, in Unix seconds.
    asked: u64,
    /// No answer to it is no sign.
    is_excused: bool,
    ask_at: Instant,
    /// Since when it does not answer.
    silent: Option<Instant>,
}

/// It was told to go.
pub(crate) struct Going {
    pub(crate) since: Instant,
    expected: End,
    /// It is told once more when it has said that it stops.
    is_hurried: bool,
    give_up: Instant,
}

/// It was told to read its configuration again.
pub(crate) struct Reload {
    is_bad: bool,
    /// How often it had said before that it has refused one, and that it has read one.
    before: (usize, usize),
    give_up: Instant,
}

/// What `/livez` and `/status` say; nothing where one of them does not answer.
type Answer = Option<(u16, Option<String>)>;

impl Running {
    pub(crate) fn new(forwarder: Forwarder) -> Self {
        Self {
            forwarder,
            is_alive: false,
            going: None,
            reload: None,
            told: Told::default(),
            clock: Clock::Right,
            accepted_at: Vec::new(),
            started: Instant::now(),
            asking: JoinSet::new(),
            asked: 0,
            is_excused: false,
            ask_at: Instant::now(),
            silent: None,
        }
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.forwarder.ended()
    }

    /// Whether it has yet to do what it was asked to.
    pub(crate) fn is_busy(&self) -> bool {
        self.going.is_some() || self.reload.is_some()
    }

    /// Sends a signal, if there is somebody to hear it.
    pub(crate) fn signal(&mut self, name: &str) {
        if self.ended().is_none() {
            self.forwarder.signal(name);
        }
    }

    /// Tells it to go.
    pub(crate) fn go(&mut self, fault: Fault) {
        self.signal("CONT");
        let since = Instant::now();
        let is_kill = matches!(fault, Fault::Kill | Fault::KillLate);
        self.signal(if is_kill { "KILL" } else { "TERM" });
        self.going = Some(Going {
            since,
            expected: if fault == Fault::Stop { End::Clean } else { End::Abrupt },
            is_hurried: fault == Fault::StopAtOnce,
            give_up: Instant::now() + PATIENCE,
        });
    }

    /// Tells it to read its configuration again, which is good or bad.
    pub(crate) fn read_again(&mut self, is_bad: bool) {
        let before = self.read_so_far();
        self.signal("CONT");
        self.signal("HUP");
        self.reload = Some(Reload { is_bad, before, give_up: Instant::now() + PATIENCE });
    }

    /// Whether it has had flushes that must not be counted again if it is killed now.
    pub(crate) fn has_settled_enough(&self) -> bool {
        let is_over = |at: &&Instant| at.elapsed() >= ACKNOWLEDGED_AFTER;
        let over = self.accepted_at.iter().filter(is_over).count();
        over >= SETTLED && self.accepted_at.len() >= SETTLED + UNDER_WAY
    }

    fn read_so_far(&self) -> (usize, usize) {
        let said = self.forwarder.stderr();
        (said.matches(REFUSED).count(), said.matches(READ_AGAIN).count())
    }

    /// Nobody can be taken in any more, or for a while.
    pub(crate) fn excuse(&mut self) {
        self.is_excused = true;
    }

    /// Goes on with a process that was told to go.
    fn hurry(&mut self) {
        let Some(mut going) = self.going.take() else { return };
        assert!(Instant::now() < going.give_up, "it does not stop:\n{}", self.forwarder.log());
        if going.is_hurried && self.forwarder.stderr().contains(STOPPING) {
            self.signal("TERM");
            going.is_hurried = false;
        }
        self.going = Some(going);
    }

    /// Whether the configuration has just been read, or refused as it should be. Without descriptors no file is read.
    fn has_read(&mut self, is_refusal_right: bool) -> bool {
        let Some(reload) = &self.reload else { return false };
        let (refused, read) = self.read_so_far();
        let is_refused = refused > reload.before.0;
        let is_read = read > reload.before.1;
        let is_done = if reload.is_bad { is_refused } else { is_read || (is_refused && is_refusal_right) };
        let is_late = Instant::now() >= reload.give_up;
        assert!(is_done || !is_late, "a reload had no effect:\n{}", self.forwarder.log());
        if is_done {
            self.reload = None;
        }
        is_done
    }

    /// Asks it how it is, if it is time; whether it could be taken in is not known where this `is_excused`.
    fn ask(&mut self, client: &reqwest::Client, is_excused: bool) {
        if !self.asking.is_empty() || Instant::now() < self.ask_at {
            return;
        }
        self.asked = unix_now();
        let get = |path| client.get(self.forwarder.admin_url(path));
        let (livez, status) = (get("/livez"), get("/status"));
        self.asking.spawn(async move {
            let (livez, status) = (livez.send().await.ok()?, status.send().await.ok()?);
            Some((livez.status().as_u16(), status.text().await.ok()))
        });
        self.is_excused = is_excused;
    }

    /// What it has answered, if it has now.
    fn answered(&mut self) -> Option<Answer> {
        let answer = self.asking.try_join_next()?.unwrap();
        self.ask_at = Instant::now() + if self.is_alive { ASK } else { Duration::ZERO };
        Some(answer)
    }

    /// Takes an answer in; whether it says how it is.
    fn hears(&mut self, answer: Answer) -> bool {
        match answer {
            // A process that is going has no port.
            None if self.is_excused || !self.is_alive || self.going.is_some() => false,
            None => {
                self.silent.get_or_insert_with(Instant::now);
                false
            }
            Some((livez, status)) => {
                assert_eq!(livez, 200);
                self.is_alive = true;
                let Some(status) = status else { return false };
                let status: Value = serde_json::from_str(&status).unwrap();
                let told = Told::read(&status);
                let accepted = |told: &Told| told.accepted.get(&Group::Calm).copied().unwrap_or_default();
                if accepted(&told) > accepted(&self.told) {
                    self.accepted_at.push(Instant::now());
                }
                self.told = told;
                self.clock = Clock::read(&status, self.asked);
                true
            }
        }
    }

    /// It starts in time, and once it has been silent it ends in time.
    fn is_in_time(&self) -> bool {
        (self.is_alive || self.started.elapsed() < PATIENCE)
            && self.silent.is_none_or(|since| since.elapsed() < PATIENCE)
    }
}

impl Debug for Running {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { is_alive, told, .. } = self;
        write!(f, "alive: {is_alive}, busy: {}, {told:?}", self.is_busy())
    }
}

impl Lab {
    /// Looks at a process that has not ended.
    pub(crate) fn attend(&mut self) {
        // It would answer when it is thawed.
        let is_frozen = self.is_active(Fault::Frozen);
        let is_excused = self.is_active(Fault::NoDescriptors);
        let is_refusal_right = self.has_suffered(&[Fault::NoDescriptors]);
        self.feel();
        let Some(process) = &mut self.process else { return };
        process.hurry();
        let has_read = process.has_read(is_refusal_right);
        if let Some(answer) = process.answered()
            && process.hears(answer)
        {
            self.table.looks += 1;
            self.table.memory = self.table.memory.max(machine::peak_memory(process.forwarder.id()));
            assert!(self.table.memory < MEMORY_MAX, "it has taken {} KiB", self.table.memory);
        }
        assert!(process.is_in_time(), "it does not answer:\n{}", process.forwarder.log());
        if !is_frozen {
            process.ask(&self.client, is_excused);
        }
        if has_read {
            self.configured().write();
        }
    }

    /// The process has ended: because it was told to, because its queue can't go on, or because it could not start.
    pub(crate) async fn has_ended(&mut self, status: ExitStatus) {
        let Some(process) = self.process.take() else { return };
        let said = process.forwarder.stderr();
        let expected = process.going.as_ref().map(|going| going.expected);
        let is_queue_stopped = Log::read(&said).is_queue_stopped;
        // A kill may come between its last word and its end.
        let is_last_word_said = said.lines().any(|line| line.starts_with("braze-datadog: "));
        let has_failed = status.code() == Some(1) || is_last_word_said;
        let end = match status.code() {
            // What was counted since the last commit is counted again.
            _ if has_failed && said.contains("the last commit has failed") => End::Uncommitted,
            _ if has_failed && is_queue_stopped => End::QueueStopped,
            _ if has_failed && !process.is_alive => End::NeverStarted,
            Some(0) => End::Clean,
            _ => End::Abrupt,
        };
        let is_explained = match end {
            End::QueueStopped => {
                expected.is_some() || self.has_suffered(&[Fault::SyncFails, Fault::DiskReadOnly])
            }
            End::Uncommitted => {
                expected.is_some() && self.has_suffered(&[Fault::BrokerGone, Fault::BrokerFrozen])
            }
            End::NeverStarted => self.explains_no_start(&said),
            End::Clean => expected.is_some(),
            End::Abrupt => expected == Some(End::Abrupt),
        };
        assert!(
            is_explained,
            "it has ended: {status}, and {expected:?} was expected: {said}: {:?}",
            self.troubles
        );
        self.bury(&process, end, &said).await;
    }

    /// Whether a disk that fails has kept it from starting, and it says so. On one that is full it starts, unless it
    /// has to repair what a kill has torn.
    fn explains_no_start(&self, said: &str) -> bool {
        let says =
            |words: &[&str]| words.iter().any(|word| said.contains(&format!("braze-datadog: can't {word}")));
        self.troubles.iter().any(|trouble| match trouble.fault {
            Fault::SyncFails | Fault::DiskReadOnly => says(&[""]),
            Fault::DiskFull => says(&["repair", "open the queue"]),
            _ => false,
        })
    }
}
