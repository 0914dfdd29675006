//! Plays the rows of a schedule: begins each fault when it is due, and ends it.

use std::time::Duration;

use tokio::time::Instant;

use super::effect::LINGERS;
use super::lab::Lab;
use super::schedule::{Fault, Planned};

/// A row of faults, as it is played.
pub(crate) struct Playing<R> {
    row: R,
    /// The fault that is there, or comes next.
    planned: Option<Planned>,
    is_on: bool,
    at: Instant,
    /// The life in which it began.
    life: u32,
}

impl<R: Iterator<Item = Planned>> Playing<R> {
    pub(crate) fn new(mut row: R) -> Self {
        let planned = row.next();
        let pause = planned.map_or(Duration::ZERO, |planned| planned.pause);
        Self { row, planned, is_on: false, at: Instant::now() + pause, life: 0 }
    }

    /// Whether this comes next, or is there.
    pub(crate) fn is_about(&self, fault: Fault) -> bool {
        self.planned.is_some_and(|planned| planned.trouble.fault == fault)
    }

    /// Begins or ends what is due.
    pub(crate) fn play(&mut self, lab: &mut Lab) {
        let Some(planned) = self.planned.filter(|_| Instant::now() >= self.at) else { return };
        if self.is_on {
            if self.lingers(planned.trouble.fault, lab) || lab.is_under_way(planned.trouble.fault) {
                return;
            }
            lab.end(planned.trouble);
            self.planned = self.row.next();
            self.at = Instant::now() + self.planned.map_or(Duration::ZERO, |next| next.pause);
        } else {
            if lab.is_postponed(planned.trouble.fault) {
                return;
            }
            lab.begin(planned);
            self.at = Instant::now() + planned.lasting;
            self.life = lab.number;
        }
        self.is_on = !self.is_on;
    }

    /// Whether what should be over stays for an effect. What happens to a process goes with it.
    fn lingers(&self, fault: Fault, lab: &Lab) -> bool {
        let is_gone = lab.number != self.life && matches!(fault, Fault::NoDescriptors | Fault::Frozen);
        lab.waits_for_effect(fault) && !is_gone && Instant::now() < self.at + LINGERS
    }

    /// Ends what is there.
    pub(crate) fn stop(&mut self, lab: &mut Lab) {
        if let Some(planned) = self.planned.filter(|_| self.is_on) {
            lab.end(planned.trouble);
        }
    }
}

impl Lab {
    /// Whether the process has yet to do what it was asked for.
    fn is_under_way(&self, fault: Fault) -> bool {
        let process = self.process.as_ref();
        match fault {
            Fault::Kill | Fault::KillLate | Fault::Stop | Fault::StopAtOnce => {
                process.is_some_and(|process| process.going.is_some())
            }
            Fault::GoodReload | Fault::BadReload => process.is_some_and(|process| process.reload.is_some()),
            _ => false,
        }
    }

    /// Whether a fault has to wait for a process that it can happen to.
    ///
    /// With a broker, until it reads everything that the broker has, too: the broker of these tests may never complete a
    /// group again of which it has lost a member in the middle of a handover.
    fn is_postponed(&self, fault: Fault) -> bool {
        let process = self.process.as_ref();
        let is_broker_well = !self.is_active(Fault::BrokerGone) && !self.is_active(Fault::BrokerFrozen);
        let reads_all =
            is_broker_well && process.is_some_and(|process| process.told.partitions == self.partitions);
        let is_member = self.partitions.is_some();
        let is_there = match fault {
            // A start can be cut short, too.
            Fault::Kill | Fault::Frozen => process.is_some_and(|process| process.going.is_none()),
            Fault::Stop | Fault::StopAtOnce | Fault::GoodReload | Fault::BadReload | Fault::NoDescriptors => {
                process.is_some_and(|process| process.is_alive && process.going.is_none())
            }
            Fault::KillLate => {
                process.is_some_and(|process| process.going.is_none() && process.has_settled_enough())
            }
            // Few lives are long enough between them.
            Fault::DiskFull
            | Fault::SyncFails
            | Fault::DiskReadOnly
            | Fault::BrokerGone
            | Fault::BrokerFrozen => !self.is_spared,
            _ => true,
        };
        let is_of_group = matches!(
            fault,
            Fault::Kill | Fault::KillLate | Fault::Stop | Fault::BrokerGone | Fault::BrokerFrozen
        );
        !is_there || (is_member && is_of_group && !reads_all)
    }
}
