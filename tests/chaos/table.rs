//! What a run has survived, for people.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use super::audit::Verdict;
use super::life::End;
use super::schedule::Fault;
use super::truth::{Group, Truth};

/// The figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Table {
    faults: BTreeMap<String, u64>,
    ends: BTreeMap<&'static str, u64>,
    /// How often the process said how it was.
    pub(crate) looks: u64,
    /// The most memory that it had, in KiB.
    pub(crate) memory: u64,
}

impl Table {
    /// A fault has come.
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(format!("{fault:?}")).or_default() += 1;
    }

    /// A life is over.
    pub(crate) fn end(&mut self, end: End) {
        let name = match end {
            End::Clean => "stopped clean",
            End::Abrupt => "killed",
            End::QueueStopped => "ended when the disk failed",
            End::NeverStarted => "did not start on a disk that failed",
        };
        *self.ends.entry(name).or_default() += 1;
    }

    /// How often this fault came.
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&format!("{fault:?}")).copied().unwrap_or_default()
    }

    /// The whole of it.
    pub(crate) fn with<'t>(&'t self, verdict: &'t Verdict, truth: &'t Truth) -> impl Display + 't {
        Page { table: self, verdict, truth }
    }
}

struct Page<'t> {
    table: &'t Table,
    verdict: &'t Verdict,
    truth: &'t Truth,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { table, verdict, truth } = self;
        let all: u64 = table.faults.values().sum();
        writeln!(f, "{all} faults:")?;
        for (fault, times) in &table.faults {
            writeln!(f, "{times:>8}  {fault}")?;
        }
        writeln!(f, "lives of the process:")?;
        for (end, times) in &table.ends {
            writeln!(f, "{times:>8}  {end}")?;
        }
        let sends: u64 = Group::ALL.into_iter().map(|group| truth.acknowledged(group)).sum();
        writeln!(f, "sends:")?;
        writeln!(
            f,
            "{sends:>8}  acknowledged, in {} batches; {} pushes answered 503",
            truth.batches.len(),
            truth.refusals
        )?;
        writeln!(f, "{:>8}  counted again after a life that was cut short", verdict.repeated)?;
        for (reason, sends) in &verdict.dropped {
            writeln!(f, "{sends:>8}  dropped: {reason}")?;
        }
        write!(f, "the books balanced {} times; at most {} MiB of memory", table.looks, table.memory / 1024)
    }
}
