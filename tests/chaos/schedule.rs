//! Which faults come, and when: a pure function of the seed.
//!
//! Faults of one track follow one another; the tracks run side by side, so that faults of different tracks meet.

use std::ops::Range;
use std::time::Duration;

use super::random::Random;

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
    Datadog,
    Process,
    Machine,
    /// The process where it reads from a broker: there is no queue of its own whose disk could fail.
    Member,
    Broker,
}

/// The tracks of a run with the embedded queue.
pub(crate) const EMBEDDED: [Track; 3] = [Track::Datadog, Track::Process, Track::Machine];

/// The tracks of a run with a broker.
#[cfg(feature = "kafka")]
pub(crate) const KAFKA: [Track; 3] = [Track::Datadog, Track::Member, Track::Broker];

impl Track {
    pub(crate) fn faults(self) -> Vec<Fault> {
        match self {
            Track::Datadog => STATUSES
                .map(IntakeAnswers)
                .into_iter()
                .chain([IntakeHangs, IntakeResets, IntakeAnswersGarbage, IntakeRedirects, IntakeIsSlow])
                .chain([IntakeAnswersWithoutEnd(202), IntakeAnswersWithoutEnd(500)])
                .chain([ConnectionRefused, HandshakeStops, UnknownAuthority, NameNotResolved])
                .collect(),
            Track::Process => vec![Kill, GoodReload, Kill, BadReload, Stop, StopAtOnce],
            Track::Machine => {
                let disk = [DiskFull, SyncFails, DiskReadOnly, NoDescriptors];
                let clock = [ClockSecondsBack, ClockSecondsAhead, ClockHoursBack, ClockHoursAhead];
                [&disk[..], &clock, &[Frozen]].concat()
            }
            Track::Member => vec![Kill, GoodReload, Stop],
            Track::Broker => vec![BrokerGone, BrokerFrozen],
        }
    }

    /// Milliseconds from the end of one fault to the begin of the next.
    fn pause(self) -> Range<u64> {
        match self {
            Track::Datadog => 50..300,
            Track::Process => 1_200..4_000,
            Track::Machine => 300..2_500,
            // The broker waits for a member that was killed as long as its session lasts.
            Track::Member => 7_000..11_000,
            Track::Broker => 2_000..4_000,
        }
    }

    /// Milliseconds from the begin of a fault to its end.
    fn lasting(self) -> Range<u64> {
        match self {
            Track::Datadog => 1_000..2_300,
            // They are over when they are done.
            Track::Process | Track::Member => 0..1,
            Track::Machine => 1_000..3_500,
            Track::Broker => 1_000..2_500,
        }
    }
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// Since the end of the one before on the same track.
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
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
    let seed = (0..=track as u64).map(|_| random.next()).last().unwrap();
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
            fault,
            lasting: Duration::from_millis(self.random.within(self.track.lasting())),
            choice: self.random.next(),
        })
    }
}

#[cfg(test)]
const ALL: [Track; 5] = [Track::Datadog, Track::Process, Track::Machine, Track::Member, Track::Broker];

#[test]
fn the_seed_alone_says_what_comes_and_when() {
    let rows = |seed| EMBEDDED.map(|track| row(seed, track).take(100).collect::<Vec<_>>());
    assert_eq!(rows(7), rows(7));
    assert_ne!(rows(7), rows(8));
    let [datadog, process, machine] = rows(7);
    assert_ne!(datadog[0].choice, process[0].choice);
    assert_ne!(process[0].choice, machine[0].choice);
}

#[test]
fn every_fault_comes_before_one_comes_again_and_in_another_order_then() {
    for track in ALL {
        let mut all = track.faults();
        let mut row: Vec<_> = row(1, track).map(|planned| planned.fault).take(8 * all.len()).collect();
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
