//! The laboratory: the process between its load and its intakes, and the faults that come to it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::audit::{Evidence, Verdict, audit};
use super::life::{End, FLUSH_TIMEOUT, Life, Log};
use super::load::{Gate, Load};
use super::machine::{self, Machine};
use super::play::Playing;
use super::road::{Road, Way};
use super::running::Running;
use super::schedule::{Fault, Row, Trouble};
use super::seen::Seen;
use super::support::forwarder::Configuration;
use super::support::intake::Intake;
use super::support::{self, PATIENCE};
use super::table::Table;
use super::truth::{Group, STORMS, Truth};

/// How often it is seen whether anything is due.
const TICK: Duration = Duration::from_millis(20);

/// How long a process that is gone is left alone, and one that could not start, as a service manager would.
const RESTART: Duration = Duration::from_millis(50);
const RESTART_OF_NONE: Duration = Duration::from_millis(300);

/// A request's fate is certain after this: many times as long as it may take.
const CERTAIN: Duration = Duration::from_secs(10);

/// So much longer than it was asked to a run may go on, for a fault that has not come or has had no effect.
const LONGER: Duration = Duration::from_mins(4);

/// Lives whose logs are shown when a run fails, at most.
const LIVES_TOLD: usize = 5;

/// A connection that everything happens to: its intake, and the way there.
pub(crate) struct Storm {
    pub(crate) intake: Intake,
    pub(crate) road: Road,
    /// The number of its key, which a reload changes.
    pub(crate) key: u32,
}

/// Everything that a run needs.
pub(crate) struct Lab {
    pub(crate) configuration: Configuration,
    pub(crate) calm: Intake,
    pub(crate) storms: Vec<Storm>,
    /// Trusted by nobody.
    pub(crate) stranger: Intake,
    pub(crate) machine: Machine,
    pub(crate) process: Option<Running>,
    pub(crate) gate: Gate,
    /// What is wrong now.
    pub(crate) active: Vec<Trouble>,
    /// The number of the present life, and what was wrong in it.
    pub(crate) number: u32,
    pub(crate) troubles: Vec<Trouble>,
    /// Those that have to come.
    pub(crate) awaited: BTreeSet<Fault>,
    /// Those of them that the present life has felt so far.
    pub(crate) felt: BTreeSet<Fault>,
    /// What would cut the present life short, or make its end uncertain, waits: it is to be killed late.
    pub(crate) is_spared: bool,
    pub(crate) table: Table,
    #[cfg(feature = "kafka")]
    pub(crate) far: Option<super::kafka::Far>,
    /// How many a broker has, where there is one.
    pub(crate) partitions: Option<u64>,
    pub(crate) client: reqwest::Client,
    restart_at: Instant,
    lives: Vec<Life>,
    seen: Seen,
}

impl Lab {
    /// Opens it; nothing runs yet.
    pub(crate) fn open(configuration: Configuration) -> Self {
        let (calm, stranger) = (Intake::start(), Intake::start_tls());
        let storms: Vec<Storm> = (0..STORMS)
            .map(|number| {
                let intake = Intake::start_tls_for(&machine::host(number));
                let road = Road::open(Way::To(intake.address()));
                Storm { intake, road, key: 0 }
            })
            .collect();
        let certificates: Vec<&str> = storms.iter().map(|storm| storm.intake.certificate()).collect();
        let machine = Machine::new(configuration.home());
        let mut configuration = configuration
            .text("flush.timeout", &format!("{}ms", FLUSH_TIMEOUT.as_millis()))
            .connection(Group::Calm.name(), &calm.url(), "calm-key", &[&Group::Calm.app_group()])
            .trust(&certificates.concat());
        for (name, value) in machine.environment(&configuration.home().join("queue")) {
            configuration = configuration.environment(name, &value);
        }
        Self {
            configuration,
            calm,
            storms,
            stranger,
            machine,
            process: None,
            gate: Gate::default(),
            active: Vec::new(),
            number: 0,
            troubles: Vec::new(),
            awaited: BTreeSet::new(),
            felt: BTreeSet::new(),
            is_spared: false,
            table: Table::default(),
            #[cfg(feature = "kafka")]
            far: None,
            partitions: None,
            client: support::client(None),
            restart_at: Instant::now(),
            lives: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// The configuration as it should be now: the life that a point comes from is a tag of it.
    pub(crate) fn configured(&self) -> Configuration {
        let static_tags = format!("[\"life:{}\"]", self.number);
        let mut configuration = self.configuration.clone().set("tags.static", &static_tags);
        for (number, storm) in (0..).zip(&self.storms) {
            let group = Group::Storm(number);
            let url = format!("https://{}:{}", machine::host(number), storm.road.address().port());
            let key = format!("{}-key-{}", group.name(), storm.key);
            configuration = configuration.connection(group.name(), &url, &key, &[&group.app_group()]);
        }
        configuration
    }

    /// Whether this is wrong now, with whomever.
    pub(crate) fn is_active(&self, fault: Fault) -> bool {
        self.active.iter().any(|trouble| trouble.fault == fault)
    }

    /// Whether one of these was wrong at any time of the present life.
    pub(crate) fn has_suffered(&self, faults: &[Fault]) -> bool {
        self.troubles.iter().any(|trouble| faults.contains(&trouble.fault))
    }

    /// Lets the faults of these rows come for a while, and until each of `faults` has come, and has had its effect where
    /// that is known: a run without it has shown nothing of it.
    pub(crate) async fn suffer(&mut self, rows: Vec<Row>, faults: &[Fault], lasting: Duration) {
        self.awaited = faults.iter().copied().collect();
        let begun = Instant::now();
        let mut tracks: Vec<_> = rows.into_iter().map(Playing::new).collect();
        loop {
            let missing = self.missing();
            if begun.elapsed() >= lasting && missing.is_empty() {
                break;
            }
            assert!(begun.elapsed() < lasting + LONGER, "without effect: {missing:?}\n{}", self.table);
            for track in &mut tracks {
                track.play(self);
            }
            self.is_spared = tracks.iter().any(|track| track.is_about(Fault::KillLate));
            self.look().await;
            tokio::time::sleep(TICK).await;
        }
        self.is_spared = false;
        for track in &mut tracks {
            track.stop(self);
        }
        self.table.suffered += begun.elapsed();
    }

    /// Those that have not come, or have had no effect.
    fn missing(&self) -> Vec<Fault> {
        let is_missing = |fault: &Fault| !self.table.has_come(*fault) || self.waits_for_effect(*fault);
        self.awaited.iter().copied().filter(is_missing).collect()
    }

    /// Looks after the process: starts it again where it has ended, and holds what it says of itself against the
    /// contract.
    pub(crate) async fn look(&mut self) {
        let now = std::time::Instant::now();
        self.fold(now.checked_sub(CERTAIN).unwrap_or(now));
        match self.process.as_mut().map(Running::ended) {
            None if Instant::now() >= self.restart_at && !self.waits_for_the_broker() => {
                self.troubles.clone_from(&self.active);
                self.process = Some(Running::new(self.configured().spawn(&["run"])));
            }
            None => {}
            Some(Some(status)) => self.has_ended(status).await,
            Some(None) => self.attend(),
        }
    }

    /// A life is over.
    pub(crate) async fn bury(&mut self, process: &Running, end: End, said: &str) {
        assert!(!said.contains("panicked"), "{said}");
        self.table.end(end);
        let troubles = std::mem::take(&mut self.troubles);
        let (log, told) = (Log::read(said), process.told.clone());
        self.has_felt(end, said);
        let until = process.going.as_ref().map_or_else(Instant::now, |going| going.since).into_std();
        self.lives.push(Life { number: self.number, end, until, troubles, log, told });
        // From here on what is pushed is pushed to the next process. What this one has answered is read before its life
        // is over.
        let mut gate = self.gate.write().await;
        self.number += 1;
        *gate = self.number;
        self.restart_at = Instant::now() + if end == End::NeverStarted { RESTART_OF_NONE } else { RESTART };
    }

    /// How much is counted again of a life in which the broker was in trouble is not known, so one that is to be killed
    /// late begins without.
    fn waits_for_the_broker(&self) -> bool {
        self.is_spared && (self.is_active(Fault::BrokerGone) || self.is_active(Fault::BrokerFrozen))
    }

    fn fold(&mut self, before: std::time::Instant) {
        let storms = (0..).zip(&self.storms).map(|(number, storm)| (Group::Storm(number), &storm.intake));
        for (group, intake) in storms.chain([(Group::Calm, &self.calm)]) {
            for request in intake.take_before(before) {
                self.seen.take(group, &request);
            }
        }
    }

    /// Lets clients deliver what they have in hand, and the process count it; says what they pushed.
    pub(crate) async fn rest(&mut self, load: Load) -> Truth {
        self.lives_now().await;
        let mut finishing = std::pin::pin!(load.finish());
        let truth = loop {
            tokio::select! {
                truth = &mut finishing => break truth,
                () = tokio::time::sleep(TICK) => self.look().await,
            }
        };
        // What it was asked for after the last push; one answer may have been on its way.
        let (looks, give_up) = (self.table.looks + 1, Instant::now() + PATIENCE);
        while self.table.looks <= looks
            || !self.process.as_ref().is_some_and(|process| process.told.is_at_rest())
        {
            assert!(Instant::now() < give_up, "it does not come to rest: {:?}", self.process);
            tokio::time::sleep(TICK).await;
            self.look().await;
        }
        truth
    }

    /// Stops the process, and audits the run.
    pub(crate) async fn close(&mut self, truth: &Truth) -> Verdict {
        assert_eq!(self.active, [], "a fault is still there");
        self.lives_now().await;
        self.go(Fault::Stop);
        while self.process.is_some() {
            tokio::time::sleep(TICK).await;
            self.look().await;
        }
        self.fold(std::time::Instant::now());
        let mut verdict = audit(&Evidence { truth, seen: &self.seen, lives: &self.lives });
        let intakes = self.storms.iter().map(|storm| &storm.intake).chain([&self.calm]);
        verdict.findings.extend(intakes.flat_map(Intake::violations));
        verdict.findings.extend(self.stranger.requests().iter().map(|_| "a stranger was told".to_owned()));
        let is_clean = self.lives.last().is_some_and(|life| life.end == End::Clean);
        verdict.findings.extend((!is_clean).then(|| "the last life did not end clean".to_owned()));
        self.table.close(&verdict, truth);
        verdict
    }

    /// Waits until there is a process that lives, and has done what it was asked to.
    pub(crate) async fn lives_now(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        while !self.process.as_ref().is_some_and(|process| process.is_alive && !process.is_busy()) {
            assert!(Instant::now() < give_up, "it does not start: {:?}", self.process);
            self.look().await;
            tokio::time::sleep(TICK).await;
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
            eprintln!("--- life {} ({:?}, {:?}) said:\n{said}---", life.number, life.end, life.troubles);
        }
    }
}
