//! How each fault begins, and how it ends.

use std::time::Duration;

use tokio::time::Instant;

use super::lab::Lab;
use super::life::End;
use super::machine::{Disk, give_descriptors, take_descriptors};
use super::road::Way;
use super::schedule::{Fault, Planned};
use super::support::PATIENCE;
use super::support::intake::Behaviour;

/// Configurations that must be refused.
const BAD_FILES: [&str; 4] =
    ["this is no TOML [", "", "[flush]\nintervall = \"3s\"\n", "\u{0}\u{ffff}= \"\"\"\n"];

const HOUR: i64 = 3_600;

impl Lab {
    pub(crate) async fn begin(&mut self, planned: Planned) {
        let Planned { fault, choice, .. } = planned;
        self.table.fault(fault);
        self.active.push(fault);
        self.faults.push(fault);
        match fault {
            Fault::IntakeHangs => self.storm.always(Behaviour::Hang),
            Fault::IntakeResets => self.storm.always(Behaviour::Reset),
            Fault::IntakeAnswers(status) => self.storm.always(Behaviour::Status(status, "a long story")),
            Fault::IntakeAnswersGarbage => self.storm.always(Behaviour::Garbage),
            Fault::IntakeRedirects => self.storm.always(Behaviour::Redirect(self.calm.url())),
            Fault::IntakeAnswersWithoutEnd(status) => self.storm.always(Behaviour::EndlessBody(status)),
            Fault::IntakeIsSlow => self.storm.always(Behaviour::Slow(Duration::from_millis(400))),
            Fault::ConnectionRefused => self.road.lead(Way::Closed),
            Fault::HandshakeStops => self.road.lead(Way::HalfAHandshake),
            Fault::UnknownAuthority => self.road.lead(Way::To(self.stranger.address())),
            Fault::NameNotResolved => {
                self.machine.set_resolver_gone(true);
                self.end_connections();
            }
            Fault::DiskFull => self.machine.set_disk(Disk::Full),
            Fault::SyncFails => self.machine.set_disk(Disk::SyncFails),
            Fault::DiskReadOnly => self.machine.set_disk(Disk::ReadOnly),
            Fault::NoDescriptors => {
                self.process.iter().for_each(|process| take_descriptors(process.id()));
                self.end_connections();
            }
            Fault::Frozen => self.signal("STOP"),
            Fault::ClockSecondsBack => self.machine.set_clock_ahead(-seconds(choice)),
            Fault::ClockSecondsAhead => self.machine.set_clock_ahead(seconds(choice)),
            Fault::ClockHoursBack => self.machine.set_clock_ahead(-hours(choice)),
            Fault::ClockHoursAhead => self.machine.set_clock_ahead(hours(choice)),
            Fault::GoodReload | Fault::BadReload => self.reload(fault, choice).await,
            Fault::Stop | Fault::StopAtOnce | Fault::Kill => self.go(fault).await,
            Fault::BrokerGone | Fault::BrokerFrozen => {
                #[cfg(feature = "kafka")]
                self.far.iter_mut().for_each(|far| far.trouble(fault, true));
            }
        }
    }

    pub(crate) fn end(&mut self, planned: Planned) {
        let fault = planned.fault;
        match fault {
            Fault::IntakeHangs
            | Fault::IntakeResets
            | Fault::IntakeAnswers(_)
            | Fault::IntakeAnswersGarbage
            | Fault::IntakeRedirects
            | Fault::IntakeAnswersWithoutEnd(_)
            | Fault::IntakeIsSlow => self.storm.always(Behaviour::Accept),
            Fault::ConnectionRefused | Fault::HandshakeStops | Fault::UnknownAuthority => {
                self.end_connections();
            }
            Fault::NameNotResolved => self.machine.set_resolver_gone(false),
            Fault::DiskFull | Fault::SyncFails | Fault::DiskReadOnly => self.machine.set_disk(Disk::Sound),
            Fault::NoDescriptors => self.process.iter().for_each(|process| give_descriptors(process.id())),
            Fault::Frozen => self.signal("CONT"),
            Fault::ClockSecondsBack
            | Fault::ClockSecondsAhead
            | Fault::ClockHoursBack
            | Fault::ClockHoursAhead => self.machine.set_clock_ahead(0),
            Fault::GoodReload | Fault::BadReload | Fault::Stop | Fault::StopAtOnce | Fault::Kill => {}
            Fault::BrokerGone | Fault::BrokerFrozen => {
                #[cfg(feature = "kafka")]
                self.far.iter_mut().for_each(|far| far.trouble(fault, false));
            }
        }
        self.active.retain(|active| *active != fault);
    }

    /// Ends the connections to the intake; the next ones lead there again.
    fn end_connections(&self) {
        self.road.lead(Way::To(self.storm.address()));
    }

    /// Sends a signal, if there is somebody to hear it.
    fn signal(&mut self, name: &str) {
        if let Some(process) = &mut self.process
            && process.ended().is_none()
        {
            process.signal(name);
        }
    }

    /// `SIGHUP`, with a new key or with a file that is wrong.
    async fn reload(&mut self, fault: Fault, choice: u64) {
        const REFUSED: &str = "the configuration was refused";
        const READ_AGAIN: &str = "the configuration was read again";
        if fault == Fault::BadReload {
            let file = BAD_FILES[usize::try_from(choice).unwrap_or_default() % BAD_FILES.len()];
            self.configuration.file("braze-datadog.toml", file);
        } else {
            self.key += 1;
            self.configured().write();
        }
        // Without descriptors no file is read.
        let awaited = match fault {
            Fault::BadReload => vec![REFUSED],
            _ if self.faults.contains(&Fault::NoDescriptors) => vec![REFUSED, READ_AGAIN],
            _ => vec![READ_AGAIN],
        };
        let lines = |text: &str| awaited.iter().map(|line| text.matches(line).count()).sum::<usize>();
        self.signal("CONT");
        if let Some(process) = &mut self.process
            && process.ended().is_none()
        {
            let before = lines(&process.stderr());
            process.signal("HUP");
            let give_up = Instant::now() + PATIENCE;
            while process.ended().is_none() && lines(&process.stderr()) == before {
                assert!(Instant::now() < give_up, "{fault:?} had no effect");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.configured().write();
    }

    /// Makes the process go.
    async fn go(&mut self, fault: Fault) {
        self.signal("CONT");
        let Some(process) = &mut self.process else { return };
        if process.ended().is_some() {
            return;
        }
        process.signal(if fault == Fault::Kill { "KILL" } else { "TERM" });
        if fault == Fault::StopAtOnce {
            let give_up = Instant::now() + PATIENCE;
            while process.ended().is_none() && !process.stderr().contains("stopping: flushing") {
                assert!(Instant::now() < give_up, "it does not stop");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if process.ended().is_none() {
                process.signal("TERM");
            }
        }
        self.ends(if fault == Fault::Stop { End::Clean } else { End::Abrupt }).await;
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
