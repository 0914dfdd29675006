//! How each fault begins, and how it ends.

use std::time::Duration;

use super::lab::{Lab, Storm};
use super::machine::{Disk, give_descriptors, take_descriptors};
use super::road::Way;
use super::schedule::{Fault, Planned, Trouble};
use super::support::intake::Behaviour;

/// Configurations that must be refused.
const BAD_FILES: [&str; 4] =
    ["this is no TOML [", "", "[flush]\nintervall = \"3s\"\n", "\u{0}\u{ffff}= \"\"\"\n"];

const HOUR: i64 = 3_600;

impl Lab {
    pub(crate) fn begin(&mut self, planned: Planned) {
        let Planned { trouble, choice, .. } = planned;
        self.table.fault(trouble.fault);
        self.active.push(trouble);
        self.troubles.push(trouble);
        if let Some(number) = trouble.storm {
            return self.spoil(number, trouble.fault);
        }
        match trouble.fault {
            Fault::DiskFull => self.machine.set_disk(Disk::Full),
            Fault::SyncFails => self.machine.set_disk(Disk::SyncFails),
            Fault::DiskReadOnly => self.machine.set_disk(Disk::ReadOnly),
            Fault::NoDescriptors => {
                if let Some(process) = &mut self.process {
                    take_descriptors(process.forwarder.id());
                    process.excuse();
                }
                self.storms.iter().for_each(Storm::end_connections);
            }
            Fault::Frozen => self.signal("STOP"),
            Fault::ClockSecondsBack => self.machine.set_clock_ahead(-seconds(choice)),
            Fault::ClockSecondsAhead => self.machine.set_clock_ahead(seconds(choice)),
            Fault::ClockHoursBack => self.machine.set_clock_ahead(-hours(choice)),
            Fault::ClockHoursAhead => self.machine.set_clock_ahead(hours(choice)),
            Fault::GoodReload | Fault::BadReload => self.reload(trouble.fault, choice),
            Fault::Stop | Fault::StopAtOnce | Fault::Kill | Fault::KillLate => self.go(trouble.fault),
            Fault::BrokerGone | Fault::BrokerFrozen => {
                #[cfg(feature = "kafka")]
                self.far.iter_mut().for_each(|far| far.trouble(trouble.fault, true));
            }
            _ => unreachable!("{trouble:?} is a storm's"),
        }
    }

    /// What happens to one storm, or to the way to it.
    fn spoil(&mut self, number: u8, fault: Fault) {
        let calm = self.calm.url();
        let storm = &self.storms[usize::from(number)];
        let always = |behaviour| storm.intake.always(behaviour);
        match fault {
            Fault::IntakeHangs => always(Behaviour::Hang),
            Fault::IntakeResets => always(Behaviour::Reset),
            Fault::IntakeAnswers(status) => always(Behaviour::Status(status, "a long story")),
            Fault::IntakeAnswersGarbage => always(Behaviour::Garbage),
            Fault::IntakeRedirects => always(Behaviour::Redirect(calm)),
            Fault::IntakeAnswersWithoutEnd(status) => always(Behaviour::EndlessBody(status)),
            Fault::IntakeIsSlow => always(Behaviour::Slow(Duration::from_millis(400))),
            Fault::ConnectionRefused => storm.road.lead(Way::Closed),
            Fault::HandshakeStops => storm.road.lead(Way::HalfAHandshake),
            Fault::UnknownAuthority => storm.road.lead(Way::To(self.stranger.address())),
            Fault::NameNotResolved => {
                self.machine.set_name_gone(number, true);
                storm.end_connections();
            }
            _ => unreachable!("{fault:?} is nothing that happens to a storm"),
        }
    }

    pub(crate) fn end(&mut self, trouble: Trouble) {
        match trouble.fault {
            Fault::DiskFull | Fault::SyncFails | Fault::DiskReadOnly => self.machine.set_disk(Disk::Sound),
            Fault::NoDescriptors => {
                self.process.iter().for_each(|process| give_descriptors(process.forwarder.id()));
            }
            Fault::Frozen => self.signal("CONT"),
            Fault::ClockSecondsBack
            | Fault::ClockSecondsAhead
            | Fault::ClockHoursBack
            | Fault::ClockHoursAhead => self.machine.set_clock_ahead(0),
            Fault::BrokerGone | Fault::BrokerFrozen => {
                #[cfg(feature = "kafka")]
                self.far.iter_mut().for_each(|far| far.trouble(trouble.fault, false));
            }
            Fault::GoodReload
            | Fault::BadReload
            | Fault::Stop
            | Fault::StopAtOnce
            | Fault::Kill
            | Fault::KillLate => {}
            _ => self.mend(trouble),
        }
        self.active.retain(|active| *active != trouble);
    }

    /// What happened to one storm is over.
    fn mend(&mut self, trouble: Trouble) {
        let Some(number) = trouble.storm else { return };
        let storm = &self.storms[usize::from(number)];
        match trouble.fault {
            Fault::ConnectionRefused | Fault::HandshakeStops | Fault::UnknownAuthority => {
                storm.end_connections();
            }
            Fault::NameNotResolved => self.machine.set_name_gone(number, false),
            _ => storm.intake.always(Behaviour::Accept),
        }
    }

    /// Sends a signal, if there is somebody to hear it.
    fn signal(&mut self, name: &str) {
        self.process.iter_mut().for_each(|process| process.signal(name));
    }

    /// `SIGHUP`, with new keys or with a file that is wrong.
    fn reload(&mut self, fault: Fault, choice: u64) {
        let is_bad = fault == Fault::BadReload;
        if is_bad {
            let file = BAD_FILES[usize::try_from(choice).unwrap_or_default() % BAD_FILES.len()];
            self.configuration.file("braze-datadog.toml", file);
        } else {
            self.storms.iter_mut().for_each(|storm| storm.key += 1);
            self.configured().write();
        }
        self.process.iter_mut().for_each(|process| process.read_again(is_bad));
    }

    /// Makes the process go.
    pub(crate) fn go(&mut self, fault: Fault) {
        self.process.iter_mut().for_each(|process| process.go(fault));
    }
}

impl Storm {
    /// Ends the connections to the intake; the next ones lead there again.
    fn end_connections(&self) {
        self.road.lead(Way::To(self.intake.address()));
    }
}

/// From 2 to 45.
fn seconds(choice: u64) -> i64 {
    2 + i64::try_from(choice % 44).unwrap()
}

/// Further than Datadog's window reaches either way.
fn hours(choice: u64) -> i64 {
    HOUR + HOUR / 2 + i64::try_from(choice % 40_000).unwrap()
}
