//! How fast sends come and go: the books, looked at every second, remembered for an hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stats::{Books, DropReason};

/// The width of a slot.
pub const SLOT_SECONDS: u64 = 10;

/// Slots that are remembered: an hour.
pub const SLOTS: usize = 360;

/// How many slots "a second" is averaged over, without the one that is still filling: a minute, so that an `interval` of
/// some seconds does not make the number jump.
const RATE_SLOTS: u64 = 6;

/// How long after a drop "sends are being dropped" is shown.
const DROPPING_SECONDS: u64 = 60;

/// Sends counted, accepted and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sends {
    /// Sends that were counted.
    pub counted: u64,
    /// Sends that Datadog accepted.
    pub accepted: u64,
    /// Sends that were dropped.
    pub dropped: u64,
}

impl Sends {
    fn of(books: &Books) -> Self {
        Self { counted: books.counted(), accepted: books.accepted(), dropped: books.dropped() }
    }

    fn since(self, before: Self) -> Self {
        Self {
            counted: self.counted.saturating_sub(before.counted),
            accepted: self.accepted.saturating_sub(before.accepted),
            dropped: self.dropped.saturating_sub(before.dropped),
        }
    }
}

/// Drops in the last minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    /// The connection's name.
    pub connection: String,
    /// The reason.
    pub reason: DropReason,
    /// Sends dropped for it in the last minute, at least.
    pub sends: u64,
}

/// Figures of the last hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    /// By slot, oldest first; the last one is still filling.
    pub slots: Vec<Sends>,
    /// Sends in the last minute.
    pub minute: Sends,
    /// Over how many seconds `minute` was measured: fewer, shortly after the start.
    pub minute_seconds: u64,
    /// How long ago the last send was counted; `None`: there was none since the start.
    pub quiet_seconds: Option<u64>,
    /// Current drops, the most first.
    pub dropping: Vec<Dropping>,
}

/// The sampled last hour.
#[derive(Debug, Default)]
pub struct Rates(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The books at the end of each slot, and the number of the newest. The first one ended before the hour began.
    ends: VecDeque<Sends>,
    newest: u64,
    /// The present books.
    now: Sends,
    counted_at: Option<u64>,
    /// By connection and reason: the total, and the drops of the last minute by second.
    dropped: BTreeMap<(Box<str>, DropReason), Dropped>,
}

#[derive(Debug, Default)]
struct Dropped {
    total: u64,
    /// When (in seconds), and how many.
    lately: VecDeque<(u64, u64)>,
}

impl Rates {
    /// Takes a sample, `elapsed` seconds after the start. Samples are a second apart, or more.
    pub fn sample(&self, books: &Books, elapsed: u64) {
        let mut state = self.lock();
        state.pass(elapsed);
        let now = Sends::of(books);
        if now.counted > state.now.counted {
            state.counted_at = Some(elapsed);
        }
        state.now = now;
        for (name, connection) in &books.connections {
            for (reason, total) in &connection.dropped {
                state.book(name, *reason, *total, elapsed);
            }
        }
    }

    /// The last hour, as seen `elapsed` seconds after the start.
    pub fn hour(&self, elapsed: u64) -> Hour {
        let mut state = self.lock();
        state.pass(elapsed);
        let totals: Vec<Sends> = state.ends.iter().copied().chain([state.now]).collect();
        let mut slots: Vec<Sends> = totals.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        slots.splice(0..0, std::iter::repeat_n(Sends::default(), SLOTS.saturating_sub(slots.len())));
        let back = usize::try_from(RATE_SLOTS).unwrap_or(usize::MAX) + 1;
        let before = totals.len().checked_sub(1 + back).map_or_else(Sends::default, |at| totals[at]);
        let slot_start = elapsed / SLOT_SECONDS * SLOT_SECONDS;
        let since = slot_start.saturating_sub(RATE_SLOTS * SLOT_SECONDS);
        Hour {
            slots,
            minute: state.now.since(before),
            minute_seconds: (elapsed - since).max(1),
            quiet_seconds: state.counted_at.map(|at| elapsed.saturating_sub(at)),
            dropping: state.dropping(elapsed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Ends the slots that have passed.
    fn pass(&mut self, elapsed: u64) {
        let slot = elapsed / SLOT_SECONDS;
        if self.ends.is_empty() {
            self.ends.push_back(Sends::default());
            self.newest = slot;
        }
        let passed = usize::try_from(slot.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        self.newest = self.newest.max(slot);
        for _ in 0..passed.min(SLOTS) {
            self.ends.push_back(self.now);
        }
        while self.ends.len() > SLOTS {
            self.ends.pop_front();
        }
    }

    fn book(&mut self, name: &str, reason: DropReason, total: u64, elapsed: u64) {
        let dropped = self.dropped.entry((name.into(), reason)).or_default();
        if total > dropped.total {
            dropped.lately.push_back((elapsed, total - dropped.total));
            dropped.total = total;
        }
        while dropped.lately.front().is_some_and(|(at, _)| at + DROPPING_SECONDS < elapsed) {
            dropped.lately.pop_front();
        }
    }

    fn dropping(&self, elapsed: u64) -> Vec<Dropping> {
        let lately = |dropped: &Dropped| {
            let recent = dropped.lately.iter().filter(|(at, _)| at + DROPPING_SECONDS >= elapsed);
            recent.map(|(_, sends)| sends).sum::<u64>()
        };
        let mut dropping: Vec<Dropping> = self
            .dropped
            .iter()
            .map(|((name, reason), dropped)| (name, reason, lately(dropped)))
            .filter(|(_, _, sends)| *sends > 0)
            .map(|(name, reason, sends)| Dropping { connection: name.to_string(), reason: *reason, sends })
            .collect();
        dropping.sort_by_key(|dropping| std::cmp::Reverse(dropping.sends));
        dropping
    }
}

#[cfg(test)]
mod tests {
    use datadog_points::outcome::FailureReason;
    use proptest::prelude::*;

    use super::*;
    use crate::stats::{Stats, Tally};

    fn count(stats: &Stats, sends: u64) {
        let counted = vec![("acme".into(), sends)];
        stats.book(&Tally { received: sends, counted, ..Tally::default() });
    }

    #[test]
    fn a_send_is_in_the_slot_in_which_it_was_seen() {
        let (rates, stats) = (Rates::default(), Stats::new());
        rates.sample(&stats.snapshot(), 0);
        count(&stats, 5);
        rates.sample(&stats.snapshot(), 9);
        count(&stats, 7);
        stats.settle("acme", 5, None, "accepted", 0);
        rates.sample(&stats.snapshot(), 12);
        let hour = rates.hour(25);
        assert_eq!(hour.slots.len(), SLOTS);
        let counted: Vec<u64> = hour.slots[SLOTS - 3..].iter().map(|slot| slot.counted).collect();
        assert_eq!(counted, [5, 7, 0]);
        assert_eq!(hour.slots[SLOTS - 2].accepted, 5);
        assert_eq!((hour.minute.counted, hour.minute_seconds, hour.quiet_seconds), (12, 25, Some(13)));
        let hour = rates.hour(12 + 3600);
        assert_eq!((hour.minute.counted, hour.slots.iter().map(|slot| slot.counted).sum::<u64>()), (0, 0));
        assert_eq!(hour.quiet_seconds, Some(3600));
    }

    #[test]
    fn what_the_books_held_at_the_first_sample_is_seen_then() {
        let (rates, stats) = (Rates::default(), Stats::new());
        assert_eq!(rates.hour(3).quiet_seconds, None);
        count(&stats, 5);
        rates.sample(&stats.snapshot(), 4);
        assert_eq!(rates.hour(4).minute.counted, 5);
    }

    #[test]
    fn drops_are_told_for_a_minute_the_most_first() {
        let (rates, stats) = (Rates::default(), Stats::new());
        count(&stats, 100);
        stats.settle("acme", 30, Some(DropReason::Failed(FailureReason::Http403)), "403", 0);
        rates.sample(&stats.snapshot(), 1);
        stats.settle("acme", 50, Some(DropReason::Failed(FailureReason::Timeout)), "slow", 0);
        stats.settle("acme", 1, Some(DropReason::Failed(FailureReason::Http403)), "403", 0);
        rates.sample(&stats.snapshot(), 31);
        let told = |elapsed| -> Vec<(DropReason, u64)> {
            rates.hour(elapsed).dropping.iter().map(|dropping| (dropping.reason, dropping.sends)).collect()
        };
        assert_eq!(
            told(40),
            [
                (DropReason::Failed(FailureReason::Timeout), 50),
                (DropReason::Failed(FailureReason::Http403), 31)
            ]
        );
        assert_eq!(
            told(80),
            [
                (DropReason::Failed(FailureReason::Timeout), 50),
                (DropReason::Failed(FailureReason::Http403), 1)
            ]
        );
        assert_eq!(told(92), []);
    }

    proptest! {
        /// No send of the last hour is lost between slots, whatever the pauses between samples, and memory is bounded.
        #[test]
        fn slots_add_up(steps in prop::collection::vec((1u64..400, 0u64..50), 1..100)) {
            let (rates, stats) = (Rates::default(), Stats::new());
            let mut elapsed = 0;
            let mut seen: Vec<(u64, u64)> = Vec::new();
            for (pause, sends) in steps {
                elapsed += pause;
                count(&stats, sends);
                rates.sample(&stats.snapshot(), elapsed);
                seen.push((elapsed, sends));
                let hour = rates.hour(elapsed);
                let first = (elapsed / SLOT_SECONDS + 1).saturating_sub(SLOTS as u64) * SLOT_SECONDS;
                let expected: u64 = seen.iter().filter(|(at, _)| *at >= first).map(|(_, sends)| sends).sum();
                prop_assert_eq!(hour.slots.iter().map(|slot| slot.counted).sum::<u64>(), expected);
                prop_assert!(rates.lock().ends.len() <= SLOTS && hour.slots.len() == SLOTS);
            }
        }
    }
}
