//! What runs have survived, for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::audit::Verdict;
use super::life::End;
use super::schedule::Fault;
use super::truth::{Group, Truth};

/// The figures of a run, or of several.
#[derive(Debug, Default)]
pub(crate) struct Table {
    faults: BTreeMap<String, u64>,
    /// Lives that felt a fault.
    felt: BTreeMap<String, u64>,
    ends: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<String, u64>,
    /// How often the process said how it was.
    pub(crate) looks: u64,
    /// The most memory that it had, in KiB.
    pub(crate) memory: u64,
    /// For how long faults came.
    pub(crate) suffered: Duration,
    acknowledged: u64,
    batches: u64,
    refusals: u64,
    repeated: u64,
    settled: u64,
}

impl Table {
    /// A fault has come.
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(format!("{fault:?}")).or_default() += 1;
    }

    /// A life has felt a fault.
    pub(crate) fn felt(&mut self, fault: Fault) {
        *self.felt.entry(format!("{fault:?}")).or_default() += 1;
    }

    /// A life is over.
    pub(crate) fn end(&mut self, end: End) {
        let name = match end {
            End::Clean => "stopped clean",
            End::Abrupt => "killed, or told twice to stop",
            End::Uncommitted => "stopped, with no broker to commit to",
            End::QueueStopped => "ended when the disk failed",
            End::NeverStarted => "did not start on a disk that failed",
        };
        *self.ends.entry(name).or_default() += 1;
    }

    /// The run is over.
    pub(crate) fn close(&mut self, verdict: &Verdict, truth: &Truth) {
        self.acknowledged = Group::ALL.into_iter().map(|group| truth.acknowledged(group)).sum();
        self.batches = truth.batches.len() as u64;
        self.refusals = truth.refusals;
        self.repeated = verdict.repeated;
        self.settled = verdict.settled;
        self.dropped.clone_from(&verdict.dropped);
    }

    /// Adds another run, which was at the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        fn sum<K: Ord + Clone>(all: &mut BTreeMap<K, u64>, others: &BTreeMap<K, u64>) {
            for (name, times) in others {
                *all.entry(name.clone()).or_default() += times;
            }
        }
        sum(&mut self.faults, &other.faults);
        sum(&mut self.felt, &other.felt);
        sum(&mut self.ends, &other.ends);
        sum(&mut self.dropped, &other.dropped);
        self.looks += other.looks;
        self.memory = self.memory.max(other.memory);
        self.suffered = self.suffered.max(other.suffered);
        self.acknowledged += other.acknowledged;
        self.batches += other.batches;
        self.refusals += other.refusals;
        self.repeated += other.repeated;
        self.settled += other.settled;
    }

    /// Whether anything came at all.
    pub(crate) fn has_suffered(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Whether this fault came.
    pub(crate) fn has_come(&self, fault: Fault) -> bool {
        self.faults.contains_key(&format!("{fault:?}"))
    }

    /// Whether a life felt it.
    pub(crate) fn was_felt(&self, fault: Fault) -> bool {
        self.felt.contains_key(&format!("{fault:?}"))
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all: u64 = self.faults.values().sum();
        let seconds = self.suffered.as_secs().max(1);
        writeln!(f, "{all} faults in {seconds} s, {} a minute:", all * 60 / seconds)?;
        for (fault, times) in &self.faults {
            match self.felt.get(fault) {
                Some(lives) => writeln!(f, "{times:>8}  {fault}, felt in {lives} lives")?,
                None => writeln!(f, "{times:>8}  {fault}")?,
            }
        }
        writeln!(f, "lives of the process:")?;
        for (end, times) in &self.ends {
            writeln!(f, "{times:>8}  {end}")?;
        }
        let Self { acknowledged, batches, refusals, repeated, settled, looks, .. } = self;
        writeln!(f, "sends:")?;
        writeln!(f, "{acknowledged:>8}  acknowledged, in {batches} batches; {refusals} pushes answered 503")?;
        writeln!(f, "{repeated:>8}  counted again after a life that was cut short")?;
        writeln!(
            f,
            "{settled:>8}  in flushes that were over when a life was cut short, and not counted again"
        )?;
        for (reason, sends) in &self.dropped {
            writeln!(f, "{sends:>8}  dropped: {reason}")?;
        }
        write!(f, "the books balanced {looks} times; at most {} MiB of memory", self.memory / 1024)
    }
}
