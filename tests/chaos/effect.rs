//! What shows that a fault of the machine has reached the process. One that does nothing is survived by everybody: so a run
//! goes on until each has had an effect, and the first of a kind stays until then, if that takes no longer than
//! [`LINGERS`].

use std::time::Duration;

use serde_json::Value;

use super::lab::Lab;
use super::life::{End, Log};
use super::machine;
use super::schedule::Fault;
use super::support::unix_now;

/// So much longer than it should a fault stays, for an effect: the longest life, and the start of the next.
pub(crate) const LINGERS: Duration = Duration::from_secs(10);

/// The process's clock beside that of the laboratory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    Right,
    Back,
    Ahead,
}

impl Clock {
    /// What `/status` says of it, which was asked for at this time and has just come. Two ways of reading a clock may be a
    /// moment apart.
    pub(crate) fn read(status: &Value, asked: u64) -> Self {
        match status["now"].as_u64().unwrap() {
            now if now + 1 < asked => Self::Back,
            now if now > unix_now() + 1 => Self::Ahead,
            _ => Self::Right,
        }
    }
}

/// Whether it is known what a fault does to the process.
fn is_known(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::DiskFull
            | Fault::SyncFails
            | Fault::DiskReadOnly
            | Fault::NoDescriptors
            | Fault::Frozen
            | Fault::ClockSecondsBack
            | Fault::ClockSecondsAhead
            | Fault::ClockHoursBack
            | Fault::ClockHoursAhead
            | Fault::NameNotResolved
    )
}

/// Those that a life has felt, as its log tells, and its end if it is over.
fn of_life(end: Option<End>, said: &str) -> impl Iterator<Item = Fault> {
    let log = Log::read(said);
    let has_dropped = |reason: &str| log.drops.iter().any(|drop| drop.reason == reason);
    let is_of_disk = matches!(end, Some(End::QueueStopped | End::NeverStarted));
    let felt = [
        (Fault::DiskFull, said.contains("no space left on device")),
        (Fault::SyncFails, is_of_disk && said.contains("Input/output error")),
        (Fault::DiskReadOnly, is_of_disk && said.contains("Read-only file system")),
        (Fault::NoDescriptors, said.contains("Too many open files")),
        (Fault::ClockHoursBack, has_dropped("early")),
        (Fault::ClockHoursAhead, has_dropped("late")),
        (Fault::NameNotResolved, has_dropped("dns") && said.contains("Temporary failure in name resolution")),
    ];
    felt.into_iter().filter_map(|(fault, is_felt)| is_felt.then_some(fault))
}

impl Lab {
    /// Whether the run still waits for an effect of this fault.
    pub(crate) fn waits_for_effect(&self, fault: Fault) -> bool {
        self.awaited.contains(&fault) && is_known(fault) && !self.table.was_felt(fault)
    }

    /// A life is over that said this.
    pub(crate) fn has_felt(&mut self, end: End, said: &str) {
        of_life(Some(end), said).for_each(|fault| self.felt(fault));
        self.felt.clear();
    }

    /// The present life has felt a fault.
    fn felt(&mut self, fault: Fault) {
        if self.felt.insert(fault) {
            self.table.felt(fault);
        }
    }

    /// Looks for what is felt now. What the log tells can wait for the end of the life, unless the run waits for it.
    pub(crate) fn feel(&mut self) {
        let Some(process) = &mut self.process else { return };
        let clock = std::mem::replace(&mut process.clock, Clock::Right);
        let id = process.forwarder.id();
        let is_stopped = self.is_active(Fault::Frozen) && machine::is_stopped(id);
        let felt = [
            (Fault::Frozen, is_stopped),
            (Fault::ClockSecondsBack, clock == Clock::Back),
            (Fault::ClockSecondsAhead, clock == Clock::Ahead),
        ];
        for (fault, is_felt) in felt {
            if is_felt && self.is_active(fault) {
                self.felt(fault);
            }
        }
        if self.active.iter().any(|trouble| self.waits_for_effect(trouble.fault)) {
            let said = self.process.as_ref().map(|process| process.forwarder.stderr()).unwrap_or_default();
            of_life(None, &said).for_each(|fault| self.felt(fault));
        }
    }
}

#[test]
fn an_effect_is_told_by_the_log_or_by_the_end() {
    let felt = |end, said: &str| of_life(end, said).collect::<Vec<_>>();
    let drop = |reason: &str| {
        format!(
            "{{\"message\":\"sends were dropped\",\"connection\":\"calm\",\"reason\":\"{reason}\",\"sends\":3}}\n"
        )
    };
    assert_eq!(felt(None, &drop("early")), [Fault::ClockHoursBack]);
    assert_eq!(felt(None, &drop("late")), [Fault::ClockHoursAhead]);
    let read_only = "braze-datadog: can't write: Read-only file system (os error 30)";
    assert_eq!(felt(None, read_only), []);
    assert_eq!(felt(Some(End::NeverStarted), read_only), [Fault::DiskReadOnly]);
}

#[test]
fn a_clock_is_wrong_if_it_was_never_so_between_question_and_answer() {
    let now = unix_now();
    let read = |told: u64| Clock::read(&serde_json::json!({ "now": told }), now);
    assert_eq!([now - 2, now - 1, now].map(read), [Clock::Back, Clock::Right, Clock::Right]);
    assert_eq!([now + 1, now + 60].map(read), [Clock::Right, Clock::Ahead]);
}
