//! Which faults come, and when: a pure function of the seed.
//!
//! Faults of one track follow one another; the tracks run side by side, so that faults of different tracks meet. A machine
//! has several, for what is independent: its disk, its clock; and so has Datadog, one for each connection.

#[cfg(test)]
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use super::random::Random;
use super::truth::{Group, STORMS};

/// Something that goes wrong, or is done to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    // Datadog, and the way to it.
    IntakeHangs,
    IntakeResets,
    IntakeAnswers(u16),
    IntakeAnswersGarbage,
    IntakeRedirects,
    IntakeAnswersWithoutEnd(u16),
    IntakeIsSlow,
    ConnectionRefused,
    HandshakeStops,
    UnknownAuthority,
    NameNotResolved,
    // The process.
    GoodReload,
    BadReload,
    Stop,
    StopAtOnce,
    Kill,
    /// A kill of a process that has lived for so long that most of what it has sent must not be counted again.
    KillLate,
    // The machine.
    DiskFull,
    SyncFails,
    DiskReadOnly,
    NoDescriptors,
    ClockSecondsBack,
    ClockSecondsAhead,
    ClockHoursBack,
    ClockHoursAhead,
    Frozen,
    // The broker.
    BrokerGone,
    BrokerFrozen,
}

use Fault::*;

/// What an intake may answer beside 202.
const STATUSES: [u16; 8] = [200, 400, 403, 404, 413, 429, 500, 503];

/// A row of faults. Each comes once before one comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Track {
    /// The intake of the storm with this number, and the way to it.
    Datadog(u8),
    /// What ends the process.
    Process,
    Reload,
    Disk,
    Clock,
    /// What else a machine keeps from a process: descriptors, and time to run.
    Machine,
    /// What ends the process where it reads from a broker: there is no queue of its own whose disk could fail.
    Member,
    Broker,
}

/// What happens to each storm.
pub(crate) fn storms() -> impl Iterator<Item = Track> {
    (0..STORMS).map(Track::Datadog)
}

/// The tracks of a run with the embedded queue.
pub(crate) fn embedded() -> Vec<Track> {
    let others = [Track::Process, Track::Reload, Track::Disk, Track::Clock, Track::Machine];
    storms().chain(others).collect()
}

/// The tracks of a run with a broker.
#[cfg(feature = "kafka")]
pub(crate) fn with_broker() -> Vec<Track> {
    storms().chain([Track::Member, Track::Reload, Track::Broker]).collect()
}

impl Track {
    pub(crate) fn faults(self) -> Vec<Fault> {
        match self {
            Track::Datadog(_) => STATUSES
                .map(IntakeAnswers)
                .into_iter()
                .chain([IntakeHangs, IntakeResets, IntakeAnswersGarbage, IntakeRedirects, IntakeIsSlow])
                .chain([IntakeAnswersWithoutEnd(202), IntakeAnswersWithoutEnd(500)])
                .chain([ConnectionRefused, HandshakeStops, UnknownAuthority, NameNotResolved])
                .collect(),
            Track::Process => vec![Kill, Kill, Stop, Kill, StopAtOnce, KillLate],
            Track::Reload => vec![GoodReload, BadReload],
            Track::Disk => vec![DiskFull, SyncFails, DiskReadOnly],
            Track::Clock => vec![ClockSecondsBack, ClockSecondsAhead, ClockHoursBack, ClockHoursAhead],
            Track::Machine => vec![NoDescriptors, Frozen],
            Track::Member => vec![Kill, Stop, KillLate],
            Track::Broker => vec![BrokerGone, BrokerFrozen],
        }
    }

    /// Milliseconds from the end of one fault to the begin of the next.
    fn pause(self) -> Range<u64> {
        match self {
            Track::Datadog(_) => 20..150,
            // Most lives are long enough for a flush.
            Track::Process => 500..2_000,
            Track::Reload => 200..1_000,
            // While the disk fails there is no process that the others could happen to.
            Track::Disk => 1_500..4_000,
            // What is counted by a clock that is hours off is all lost.
            Track::Clock => 1_000..3_000,
            Track::Machine | Track::Broker => 800..2_500,
            // The broker waits for a member that was killed as long as its session lasts.
            Track::Member => 2_000..5_000,
        }
    }

    /// Milliseconds from the begin of a fault to its end.
    fn lasting(self) -> Range<u64> {
        match self {
            // A flush at least: they come every second.
            Track::Datadog(_) => 1_000..1_300,
            // They are over when they are done.
            Track::Process | Track::Reload | Track::Member => 0..1,
            // A push at least: they come all the time.
            Track::Disk => 200..900,
            Track::Clock => 1_000..1_800,
            Track::Machine => 300..1_200,
            Track::Broker => 500..1_500,
        }
    }

    /// Tells its row from the others of a seed.
    fn number(self) -> u64 {
        match self {
            Track::Process => 0,
            Track::Reload => 1,
            Track::Disk => 2,
            Track::Clock => 3,
            Track::Machine => 4,
            Track::Member => 5,
            Track::Broker => 6,
            Track::Datadog(storm) => 7 + u64::from(storm),
        }
    }

    /// The storm whose own matter its faults are.
    pub(crate) fn storm(self) -> Option<u8> {
        match self {
            Track::Datadog(storm) => Some(storm),
            _ => None,
        }
    }
}

/// What is wrong, and with which of the storms if it is with one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    pub(crate) storm: Option<u8>,
}

impl Trouble {
    /// Whether it can be felt by the sends of this connection.
    pub(crate) fn concerns(self, group: Group) -> bool {
        self.storm.is_none_or(|storm| group == Group::Storm(storm))
    }
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Since the end of the one before on the same track.
    pub(crate) pause: Duration,
    pub(crate) trouble: Trouble,
    pub(crate) lasting: Duration,
    /// Whatever is to be chosen about it: by how much the clock steps, what is wrong with a file.
    pub(crate) choice: u64,
}

/// The faults of one track, without end.
pub(crate) struct Row {
    track: Track,
    random: Random,
    deck: Vec<Fault>,
}

/// What comes on `track` in the run of this seed.
pub(crate) fn row(seed: u64, track: Track) -> Row {
    let mut random = Random::new(seed);
    let seed = (0..=track.number()).map(|_| random.next()).last().unwrap();
    Row { track, random: Random::new(seed), deck: Vec::new() }
}

impl Iterator for Row {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.deck.is_empty() {
            self.deck = self.track.faults();
            self.random.shuffle(&mut self.deck);
        }
        let fault = self.deck.pop()?;
        Some(Planned {
            pause: Duration::from_millis(self.random.within(self.track.pause())),
            trouble: Trouble { fault, storm: self.track.storm() },
            lasting: Duration::from_millis(self.random.within(self.track.lasting())),
            choice: self.random.next(),
        })
    }
}

#[cfg(test)]
const ALL: [Track; 9] = [
    Track::Datadog(0),
    Track::Datadog(1),
    Track::Process,
    Track::Reload,
    Track::Disk,
    Track::Clock,
    Track::Machine,
    Track::Member,
    Track::Broker,
];

#[test]
fn the_seed_alone_says_what_comes_and_when() {
    let rows = |seed| ALL.map(|track| row(seed, track).take(100).collect::<Vec<_>>());
    assert_eq!(rows(7), rows(7));
    assert_ne!(rows(7), rows(8));
    let choices: BTreeSet<u64> = rows(7).iter().map(|row| row[0].choice).collect();
    assert_eq!(choices.len(), ALL.len(), "two tracks have the same row");
}

#[test]
fn every_fault_comes_before_one_comes_again_and_in_another_order_then() {
    for track in ALL {
        let mut all = track.faults();
        let mut row: Vec<_> =
            row(1, track).map(|planned| planned.trouble.fault).take(8 * all.len()).collect();
        let orders: Vec<Vec<Fault>> = row.chunks(all.len()).map(<[_]>::to_vec).collect();
        assert!(orders.iter().any(|order| *order != orders[0]), "{track:?}");
        for deck in row.chunks_mut(all.len()) {
            deck.sort_unstable();
            all.sort_unstable();
            assert_eq!(deck, all);
        }
    }
}

#[test]
fn times_are_within_their_bounds() {
    for track in ALL {
        for planned in row(3, track).take(1_000) {
            let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap();
            assert!(track.pause().contains(&milliseconds(planned.pause)));
            assert!(track.lasting().contains(&milliseconds(planned.lasting)));
        }
    }
}

#[test]
fn what_happens_to_one_storm_concerns_no_other_connection() {
    let own = row(1, Track::Datadog(1)).next().unwrap().trouble;
    let everybodys = row(1, Track::Clock).next().unwrap().trouble;
    let felt = |trouble: Trouble| {
        Group::ALL.into_iter().filter(|group| trouble.concerns(*group)).collect::<Vec<_>>()
    };
    assert_eq!(felt(own), [Group::Storm(1)]);
    assert_eq!(felt(everybodys), Group::ALL);
}
