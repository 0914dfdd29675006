//! One life of the process, from its start to its end, and what its log tells of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::schedule::{Fault, Trouble};
use super::truth::Group;

/// What every laboratory sets `flush.timeout` to.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What was sent so long before a process was killed is acknowledged: the contract gives it twice [`FLUSH_TIMEOUT`], and
/// a machine that stands still and is busy takes as long again, at most.
pub(crate) const ACKNOWLEDGED_AFTER: Duration = Duration::from_secs(6);

/// Requests of a connection that may be under way when a process is killed, at least.
///
/// A request takes `flush.timeout`, which is one interval and a half: so two may be open, and one settled whose
/// acknowledgement is on its way. A reload cuts before its time, and so does the last flush of one that stops.
pub(crate) const UNDER_WAY: usize = 4;

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to stop, and has settled and acknowledged everything it had counted.
    Clean,
    /// `kill -9`, or a second signal.
    Abrupt,
    /// It was asked to stop, and there was no broker to hear what it had settled last.
    Uncommitted,
    /// Its queue could not go on.
    QueueStopped,
    /// It never opened its queue.
    NeverStarted,
}

impl End {
    /// Flushes of which it is not certain that they were acknowledged, at least.
    fn flushes_under_way(self) -> usize {
        match self {
            End::Clean | End::NeverStarted => 0,
            End::Abrupt | End::Uncommitted => UNDER_WAY,
            End::QueueStopped => UNDER_WAY + 1,
        }
    }

    /// How long before the end of a life it may be that nothing was acknowledged any more.
    fn acknowledged_before(self) -> Duration {
        match self {
            End::Clean | End::NeverStarted => Duration::ZERO,
            End::Abrupt | End::Uncommitted => ACKNOWLEDGED_AFTER,
            // From the fault on, and then it waits for what is under way.
            End::QueueStopped => 2 * ACKNOWLEDGED_AFTER,
        }
    }
}

/// What the process says of itself on `/status`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    pub(crate) accepted: BTreeMap<Group, u64>,
    pub(crate) depth: u64,
    pub(crate) pending: u64,
    /// The partitions that it reads, where it reads from a broker.
    pub(crate) partitions: Option<u64>,
}

impl Told {
    /// Whether nothing waits for anything.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.depth == 0 && self.pending == 0
    }

    /// Reads `/status`, whose books balance at every moment.
    pub(crate) fn read(status: &Value) -> Self {
        let books = &status["books"];
        let number =
            |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("no {key} in {status}"));
        let is_right = number(books, "received")
            == ["ignored", "malformed", "duplicate", "counted"]
                .map(|key| number(books, key))
                .iter()
                .sum::<u64>();
        assert!(is_right, "what was received is not what was made of it: {books}");
        let mut told = Self {
            depth: number(&status["queue"], "depth"),
            pending: number(books, "pending"),
            partitions: status["queue"]["partitions"].as_u64(),
            ..Self::default()
        };
        for (name, books) in books["connections"].as_object().unwrap() {
            let fates = ["accepted", "dropped", "pending"].map(|key| number(books, key)).iter().sum::<u64>();
            assert_eq!(number(books, "counted"), fates, "{name}: {books}");
            if let Some(group) = Group::ALL.into_iter().find(|group| group.name() == name) {
                told.accepted.insert(group, number(books, "accepted"));
            }
        }
        told
    }
}

/// A life that is over.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) number: u32,
    pub(crate) end: End,
    /// When it was told to go, or seen to have gone.
    pub(crate) until: Instant,
    /// What was wrong at any time of it.
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) log: Log,
    /// The last time that somebody asked.
    pub(crate) told: Told,
}

/// A drop, as the log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) group: Group,
    pub(crate) reason: String,
    pub(crate) sends: u64,
    /// Flushes that were over before.
    pub(crate) after: usize,
}

/// What is read out of a log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Events that waited when the queue was opened.
    pub(crate) waiting: Option<u64>,
    pub(crate) drops: Vec<Dropped>,
    /// Flushes that were over.
    pub(crate) flushes: usize,
    /// Received, accepted and dropped in all, as the last line says.
    pub(crate) stopped: Option<[u64; 3]>,
    pub(crate) is_queue_stopped: bool,
    /// ERROR lines beside drops.
    pub(crate) errors: Vec<String>,
    /// Lines that are no log lines.
    pub(crate) complaints: Vec<String>,
}

impl Log {
    pub(crate) fn read(text: &str) -> Self {
        let mut log = Self::default();
        for line in text.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(line) => log.take(&line),
                Err(_) => log.complaints.push(line.to_owned()),
            }
        }
        log
    }

    fn take(&mut self, line: &Value) {
        let message = line["message"].as_str().unwrap_or_default();
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"));
        if message.starts_with("sends were dropped") {
            let name = &line["connection"];
            let group = Group::ALL.into_iter().find(|group| name == group.name());
            self.drops.push(Dropped {
                group: group.unwrap_or_else(|| panic!("sends of nobody: {line}")),
                reason: line["reason"].as_str().unwrap().to_owned(),
                sends: number("sends"),
                after: self.flushes,
            });
            return;
        }
        match message {
            "the queue is open" => self.waiting = Some(number("waiting")),
            "flushed" => self.flushes += 1,
            "stopped" => self.stopped = Some(["received", "accepted", "dropped"].map(number)),
            "the queue has stopped" => self.is_queue_stopped = true,
            _ => {}
        }
        if line["level"] == "ERROR" {
            self.errors.push(line.to_string());
        }
    }
}

impl Life {
    /// Flushes of which it is not certain that they were acknowledged. While a broker is away nothing is committed,
    /// and a member that is away for too long is put out of its group; how little is counted again then is held in
    /// `tests/kafka/tansu.rs`.
    fn flushes_under_way(&self) -> usize {
        let is_broker_troubled = self
            .troubles
            .iter()
            .any(|trouble| matches!(trouble.fault, Fault::BrokerGone | Fault::BrokerFrozen));
        match self.end {
            end @ (End::Abrupt | End::Uncommitted) if is_broker_troubled => {
                self.log.flushes + end.flushes_under_way()
            }
            end => end.flushes_under_way(),
        }
    }

    /// Requests of a connection of which it is not certain that they were acknowledged, of those that came at these times.
    pub(crate) fn requests_under_way(&self, came: impl Iterator<Item = Instant>) -> usize {
        let before = self.until.checked_sub(self.end.acknowledged_before());
        let late = came.filter(|at| before.is_none_or(|before| *at >= before)).count();
        match self.flushes_under_way() {
            0 => 0,
            flushes => flushes.max(late),
        }
    }

    /// Sends of a connection that were dropped, and booked and logged so.
    pub(crate) fn dropped(&self, group: Group, is_meant: impl Fn(&str) -> bool) -> u64 {
        let drops = self.log.drops.iter().filter(|drop| drop.group == group && is_meant(&drop.reason));
        drops.map(|drop| drop.sends).sum()
    }

    /// Of those, the ones in the last `flushes`, which may not have been acknowledged.
    pub(crate) fn dropped_under_way(&self, group: Group, flushes: usize) -> u64 {
        let certain = self.log.flushes.saturating_sub(flushes);
        let drops = self.log.drops.iter().filter(|drop| drop.group == group && drop.after >= certain);
        if self.end == End::Clean { 0 } else { drops.map(|drop| drop.sends).sum() }
    }
}

#[test]
fn a_log_is_read() {
    let log = Log::read(concat!(
        "{\"level\":\"INFO\",\"message\":\"the queue is open\",\"waiting\":7}\n",
        "{\"level\":\"INFO\",\"message\":\"flushed\"}\n",
        "{\"level\":\"ERROR\",\"message\":\"sends were dropped\",\"connection\":\"storm_0\",\"reason\":\"timeout\",\"sends\":3}\n",
        "{\"level\":\"ERROR\",\"message\":\"something else\"}\n",
        "{\"level\":\"INFO\",\"message\":\"stopped\",\"received\":9,\"accepted\":4,\"dropped\":3}\n",
        "braze-datadog: in plain words\n",
    ));
    assert_eq!((log.waiting, log.flushes, log.stopped), (Some(7), 1, Some([9, 4, 3])));
    let drop = Dropped { group: Group::Storm(0), reason: "timeout".to_owned(), sends: 3, after: 1 };
    assert_eq!(log.drops, [drop]);
    assert_eq!((log.errors.len(), log.complaints.len()), (1, 1));
}
