//! The laboratory: the process between its load and its intakes, and the faults that come to it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::audit::{Evidence, Verdict, audit};
use super::life::{End, Life, Log, Told};
use super::load::{Gate, Load};
use super::machine::{self, Machine};
use super::road::{Road, Way};
use super::schedule::{Fault, Planned};
use super::seen::Seen;
use super::support::forwarder::{Configuration, Forwarder};
use super::support::intake::Intake;
use super::support::{self, PATIENCE};
use super::table::Table;
use super::truth::{Group, Truth};

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long one that could not start is left alone, as a service manager would.
const RESTART: Duration = Duration::from_millis(300);

/// A request's fate is certain after this: many times as long as it may take.
const CERTAIN: Duration = Duration::from_secs(10);

/// More memory than this, in KiB, is not needed for what this load makes: counts of a few seconds, the ids of all of
/// it, a queue of 1 MiB.
const MEMORY_MAX: u64 = 64 * 1024;

/// Lives whose logs are shown when a run fails, at most.
const LIVES_TOLD: usize = 5;

/// Everything that a run needs.
pub(crate) struct Lab {
    pub(crate) configuration: Configuration,
    pub(crate) calm: Intake,
    pub(crate) storm: Intake,
    /// Trusted by nobody.
    pub(crate) stranger: Intake,
    pub(crate) road: Road,
    pub(crate) machine: Machine,
    pub(crate) process: Option<Forwarder>,
    pub(crate) gate: Gate,
    /// What is wrong now.
    pub(crate) active: Vec<Fault>,
    /// The number of the present life, and what was wrong in it.
    pub(crate) number: u32,
    pub(crate) faults: Vec<Fault>,
    pub(crate) key: u32,
    pub(crate) table: Table,
    #[cfg(feature = "kafka")]
    pub(crate) far: Option<super::kafka::Far>,
    /// How many a broker has, where there is one.
    pub(crate) partitions: Option<u64>,
    told: Told,
    restart_at: Instant,
    client: reqwest::Client,
    lives: Vec<Life>,
    seen: Seen,
}

impl Lab {
    /// Opens it; nothing runs yet.
    pub(crate) fn open(configuration: Configuration) -> Self {
        let (calm, storm, stranger) = (Intake::start(), Intake::start_tls(), Intake::start_tls());
        let road = Road::open(Way::To(storm.address()));
        let machine = Machine::new(configuration.home());
        let mut configuration = configuration
            .text("flush.timeout", "1500ms")
            .connection(Group::Calm.name(), &calm.url(), "calm-key", &[&Group::Calm.app_group()])
            .trust(storm.certificate());
        for (name, value) in machine.environment(&configuration.home().join("queue")) {
            configuration = configuration.environment(name, &value);
        }
        Self {
            configuration,
            calm,
            storm,
            stranger,
            road,
            machine,
            process: None,
            gate: Gate::default(),
            active: Vec::new(),
            number: 0,
            faults: Vec::new(),
            key: 0,
            table: Table::default(),
            #[cfg(feature = "kafka")]
            far: None,
            partitions: None,
            told: Told::default(),
            restart_at: Instant::now(),
            client: support::client(None),
            lives: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// The configuration as it should be now: the life that a point comes from is a tag of it.
    pub(crate) fn configured(&self) -> Configuration {
        let url = format!("https://localhost:{}", self.road.address().port());
        let (name, key) = (Group::Storm.name(), format!("storm-key-{}", self.key));
        self.configuration
            .clone()
            .connection(name, &url, &key, &[&Group::Storm.app_group()])
            .set("tags.static", &format!("[\"life:{}\"]", self.number))
    }

    /// Lets the faults of these rows come for a while, and until each of `faults` has come: a run without it has shown
    /// nothing of it.
    pub(crate) async fn suffer(
        &mut self,
        rows: Vec<impl Iterator<Item = Planned>>,
        faults: &[Fault],
        lasting: Duration,
    ) {
        let over = Instant::now() + lasting;
        let mut tracks: Vec<_> = rows.into_iter().map(Playing::new).collect();
        while Instant::now() < over || faults.iter().any(|fault| self.table.count(*fault) == 0) {
            for track in &mut tracks {
                track.play(self).await;
            }
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
        for track in &mut tracks {
            track.stop(self);
        }
    }

    /// Looks after the process: starts it again where it has ended, and holds what it says of itself against the
    /// contract.
    pub(crate) async fn look(&mut self) {
        let now = std::time::Instant::now();
        self.fold(now.checked_sub(CERTAIN).unwrap_or(now));
        let ended = self.process.as_mut().map(|process| process.ended().is_some());
        match ended {
            None if Instant::now() >= self.restart_at => self.start().await,
            None => {}
            Some(true) => self.has_ended().await,
            // It would answer when it is thawed.
            Some(false) if self.active.contains(&Fault::Frozen) => {}
            Some(false) => self.ask().await,
        }
    }

    /// Starts the process, and waits until it lives.
    async fn start(&mut self) {
        let mut process = self.configured().spawn(&["run"]);
        let url = process.admin_url("/livez");
        let give_up = Instant::now() + PATIENCE;
        self.faults.clone_from(&self.active);
        self.told = Told::default();
        loop {
            if let Some(status) = process.ended() {
                let said = process.stderr();
                let is_explained = status.code() == Some(1) && self.explains_no_start(&said);
                assert!(is_explained, "it did not start: {status}: {said}: {:?}", self.faults);
                self.bury(End::NeverStarted, &said);
                return self.next_life().await;
            }
            if self.client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            assert!(Instant::now() < give_up, "it did not start in time:\n{}", process.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.process = Some(process);
    }

    /// Whether a disk that fails has kept it from starting, and it says so. On one that is full it starts, unless it
    /// has to repair what a kill has torn. And while nobody had its port, another test may have taken it for a moment.
    fn explains_no_start(&self, said: &str) -> bool {
        let says =
            |words: &[&str]| words.iter().any(|word| said.contains(&format!("braze-datadog: can't {word}")));
        let is_port_taken = said.contains("the address is already in use");
        is_port_taken
            || self.faults.iter().any(|fault| match fault {
                Fault::SyncFails | Fault::DiskReadOnly => says(&[""]),
                Fault::DiskFull => says(&["repair", "open the queue"]),
                _ => false,
            })
    }

    /// Asks the process how it is.
    async fn ask(&mut self) {
        let Some(process) = &self.process else { return };
        self.table.memory = self.table.memory.max(machine::peak_memory(process.id()));
        assert!(self.table.memory < MEMORY_MAX, "it has taken {} KiB", self.table.memory);
        let (livez, url) = (process.admin_url("/livez"), process.admin_url("/status"));
        let livez = self.client.get(livez).send().await;
        let status = self.client.get(url).send().await;
        let (Ok(livez), Ok(status)) = (livez, status) else {
            // A process that is going has no port, and one without descriptors takes nobody in.
            let has_ended = self.ends_soon().await;
            assert!(has_ended || self.active.contains(&Fault::NoDescriptors), "it does not answer");
            return;
        };
        assert_eq!(livez.status(), 200);
        let Ok(status) = status.text().await else { return };
        let status: Value = serde_json::from_str(&status).unwrap();
        self.told = Told::read(&status);
        self.table.looks += 1;
    }

    /// Whether the process ends within the time that a stop may take.
    async fn ends_soon(&mut self) -> bool {
        let give_up = Instant::now() + PATIENCE;
        let Some(process) = &mut self.process else { return true };
        while Instant::now() < give_up && !self.active.contains(&Fault::NoDescriptors) {
            if process.ended().is_some() {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// The process has ended by itself, which it does only when its queue can't go on.
    async fn has_ended(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let (status, said) = (process.wait().await, process.stderr());
        let is_explained =
            self.faults.iter().any(|fault| matches!(fault, Fault::SyncFails | Fault::DiskReadOnly));
        assert!(is_explained && status.code() == Some(1), "it has ended: {status}: {said}");
        self.bury(End::QueueStopped, &said);
        self.next_life().await;
    }

    /// Waits for the end of a process that was told to go, or killed.
    pub(crate) async fn ends(&mut self, expected: End) {
        let Some(mut process) = self.process.take() else { return };
        let (status, said) = (process.wait().await, process.stderr());
        let log = Log::read(&said);
        let end = match status.code() {
            Some(0) => End::Clean,
            Some(1) if log.is_queue_stopped => End::QueueStopped,
            _ => End::Abrupt,
        };
        let is_expected =
            end == expected || (end == End::Clean && expected == End::Abrupt) || end == End::QueueStopped;
        assert!(is_expected, "it ended with {status} instead of {expected:?}: {said}");
        self.bury(end, &said);
        self.next_life().await;
    }

    fn bury(&mut self, end: End, said: &str) {
        assert!(!said.contains("panicked"), "{said}");
        // What was counted since the last commit is counted again.
        let end = if said.contains("the last commit has failed") { End::Abrupt } else { end };
        self.table.end(end);
        let faults = std::mem::take(&mut self.faults);
        let told = std::mem::take(&mut self.told);
        self.lives.push(Life { number: self.number, end, faults, log: Log::read(said), told });
    }

    /// From here on what is pushed is pushed to the next process.
    async fn next_life(&mut self) {
        // What the process has answered is read before its life is over.
        let mut gate = self.gate.write().await;
        self.number += 1;
        *gate = self.number;
        self.restart_at = Instant::now() + RESTART;
    }

    fn fold(&mut self, before: std::time::Instant) {
        for request in self.calm.take_before(before) {
            self.seen.take(Group::Calm, &request);
        }
        for request in self.storm.take_before(before) {
            self.seen.take(Group::Storm, &request);
        }
    }

    /// Lets clients deliver what they have in hand, and the process count it; says what they pushed.
    pub(crate) async fn rest(&mut self, load: Load) -> Truth {
        self.lives_now().await;
        let mut finishing = std::pin::pin!(load.finish());
        let truth = loop {
            tokio::select! {
                truth = &mut finishing => break truth,
                () = tokio::time::sleep(LOOK) => self.look().await,
            }
        };
        // What it says from here on was so after the last push.
        let (looks, give_up) = (self.table.looks, Instant::now() + PATIENCE);
        while self.table.looks == looks || self.told.depth > 0 || self.told.pending > 0 {
            assert!(Instant::now() < give_up, "it does not come to rest: {:?}", self.told);
            tokio::time::sleep(LOOK).await;
            self.look().await;
        }
        truth
    }

    /// Stops the process, and audits the run.
    pub(crate) async fn close(&mut self, truth: &Truth) -> Verdict {
        assert_eq!(self.active, [], "a fault is still there");
        self.lives_now().await;
        if let Some(process) = &self.process {
            process.signal("TERM");
        }
        self.ends(End::Clean).await;
        self.fold(std::time::Instant::now());
        let mut verdict = audit(&Evidence { truth, seen: &self.seen, lives: &self.lives });
        verdict.findings.extend([&self.calm, &self.storm].into_iter().flat_map(Intake::violations));
        verdict.findings.extend(self.stranger.requests().iter().map(|_| "a stranger was told".to_owned()));
        let is_clean = self.lives.last().is_some_and(|life| life.end == End::Clean);
        verdict.findings.extend((!is_clean).then(|| "the last life did not end clean".to_owned()));
        verdict
    }

    /// Whether a fault has to wait until the process reads everything that a broker has. The broker of these tests
    /// may never complete a group again of which it has lost a member in the middle of a handover.
    fn is_postponed(&self, fault: Fault) -> bool {
        let is_of_group =
            matches!(fault, Fault::Kill | Fault::Stop | Fault::BrokerGone | Fault::BrokerFrozen);
        let is_broker_well =
            !self.active.contains(&Fault::BrokerGone) && !self.active.contains(&Fault::BrokerFrozen);
        let reads_all = self.told.partitions == self.partitions && is_broker_well;
        self.partitions.is_some() && is_of_group && !reads_all
    }

    /// Waits until there is a process.
    pub(crate) async fn lives_now(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while self.process.is_none() {
            assert!(Instant::now() < give_up, "it does not start");
            self.look().await;
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Lab {
    #[expect(clippy::print_stderr, reason = "a run that failed shows what the last lives said")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for life in self.lives.iter().rev().take(LIVES_TOLD).rev() {
            let path = self.configuration.home().join(format!("run-{}.stderr", life.number));
            let said = std::fs::read_to_string(path).unwrap_or_default();
            eprintln!("--- life {} ({:?}, {:?}) said:\n{said}---", life.number, life.end, life.faults);
        }
    }
}

/// A row of faults, as it is played.
struct Playing<R> {
    row: R,
    /// The fault that is there, or comes next.
    planned: Option<Planned>,
    is_on: bool,
    at: Instant,
}

impl<R: Iterator<Item = Planned>> Playing<R> {
    fn new(mut row: R) -> Self {
        let planned = row.next();
        let pause = planned.map_or(Duration::ZERO, |planned| planned.pause);
        Self { row, planned, is_on: false, at: Instant::now() + pause }
    }

    /// Begins or ends what is due.
    async fn play(&mut self, lab: &mut Lab) {
        let Some(planned) = self.planned.filter(|_| Instant::now() >= self.at) else { return };
        if self.is_on {
            lab.end(planned);
            self.planned = self.row.next();
            self.at = Instant::now() + self.planned.map_or(Duration::ZERO, |next| next.pause);
        } else {
            if lab.is_postponed(planned.fault) {
                return;
            }
            lab.begin(planned).await;
            self.at = Instant::now() + planned.lasting;
        }
        self.is_on = !self.is_on;
    }

    /// Ends what is there.
    fn stop(&mut self, lab: &mut Lab) {
        if let Some(planned) = self.planned.filter(|_| self.is_on) {
            lab.end(planned);
        }
    }
}
