//! How fast sends come and go: the books, looked at every second, remembered for an hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_lanes::stats::{Books, DropReason};

/// The width of a slot.
pub const SLOT_SECONDS: u64 = 10;

/// Slots that are remembered: an hour.
pub const SLOTS: usize = 360;

/// Over how long "a second" is averaged at least, so that an interval of some seconds does not make the number jump.
const RATE_SECONDS: u64 = 60;

/// How many averages, each ending a second before the other, are looked at for the one in the middle: an outcome that comes
/// some seconds sooner or later than the one before does not make the number jump.
const AVERAGES: u64 = 5;

/// How long after a drop "sends are being dropped" is shown at least.
const DROPPING_SECONDS: u64 = 60;

/// Sends counted, accepted and dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sends {
    /// Sends that were counted.
    pub counted: u64,
    /// Sends that Datadog accepted, or a dry run printed.
    pub accepted: u64,
    /// Those of `accepted` that a dry run printed.
    pub printed: u64,
    /// Sends that were dropped.
    pub dropped: u64,
}

impl Sends {
    fn of(books: &Books) -> Self {
        Self {
            counted: books.counted(),
            accepted: books.accepted(),
            printed: books.printed(),
            dropped: books.dropped(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            counted: self.counted.saturating_sub(before.counted),
            accepted: self.accepted.saturating_sub(before.accepted),
            printed: self.printed.saturating_sub(before.printed),
            dropped: self.dropped.saturating_sub(before.dropped),
        }
    }
}

/// Drops of late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropping {
    /// The connection's name.
    pub connection: String,
    /// The reason.
    pub reason: DropReason,
    /// Sends dropped for it lately: in the last minute, or since the last flush but one where that is longer.
    pub sends: u64,
}

/// Figures of the last hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hour {
    /// By slot, oldest first; the last one is still filling.
    pub slots: Vec<Sends>,
    /// Sends in the last minute, or in as many whole intervals of flushes as a minute takes.
    pub minute: Sends,
    /// Over how many seconds `minute` was measured: since the start, shortly after it.
    pub minute_seconds: u64,
    /// Over how many of them those accepted were: whole intervals; since the start, before the first one is over.
    pub accepted_seconds: u64,
    /// How long ago the last send was counted; `None`: there was none since the start.
    pub quiet_seconds: Option<u64>,
    /// Current drops, the most first.
    pub dropping: Vec<Dropping>,
}

/// The sampled last hour.
#[derive(Debug)]
pub struct Rates {
    /// Seconds between flushes.
    interval: u64,
    /// For how many seconds drops are told.
    hold: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The books at the end of each slot, and the number of the newest. The first one ended before the hour began.
    ends: VecDeque<Sends>,
    newest: u64,
    /// The books by second, as far back as an average reaches.
    samples: VecDeque<(u64, Sends)>,
    /// The present books.
    now: Sends,
    counted_at: Option<u64>,
    /// By connection and reason: the total, and the drops of late by second.
    dropped: BTreeMap<(Box<str>, DropReason), Dropped>,
}

#[derive(Debug, Default)]
struct Dropped {
    total: u64,
    /// When (in seconds), and how many.
    lately: VecDeque<(u64, u64)>,
}

impl Rates {
    /// For flushes every `interval`, each of whose requests lives for twice `timeout` at most.
    pub fn new(interval: Duration, timeout: Duration) -> Self {
        // What is dropped at every flush is told without a pause.
        let hold = (interval + 2 * timeout).as_secs().saturating_add(1).max(DROPPING_SECONDS);
        Self { interval: interval.as_secs().max(1), hold, state: Mutex::default() }
    }

    /// Over how many seconds to average those accepted: whole intervals, for sends are accepted a flush at a time.
    fn accepted_window(&self, elapsed: u64) -> u64 {
        let measured = elapsed.saturating_sub(self.lateness()).min(self.window_max());
        let whole = measured / self.interval * self.interval;
        if whole == 0 { elapsed.max(1) } else { whole }
    }

    /// How many seconds after the end of an interval its outcomes are waited for.
    const fn lateness(&self) -> u64 {
        if self.interval > AVERAGES { AVERAGES - 1 } else { 0 }
    }

    const fn window_max(&self) -> u64 {
        RATE_SECONDS.div_ceil(self.interval) * self.interval
    }

    /// Takes a sample, `elapsed` seconds after the start. Samples are a second apart, or more.
    pub fn sample(&self, books: &Books, elapsed: u64) {
        let mut state = self.lock();
        state.pass(elapsed);
        let now = Sends::of(books);
        if now.counted > state.now.counted {
            state.counted_at = Some(elapsed);
        }
        state.now = now;
        state.keep(elapsed, self.window_max() + AVERAGES);
        for (name, connection) in &books.connections {
            for (reason, total) in &connection.dropped {
                state.book(name, *reason, *total, elapsed, self.hold);
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
        let seconds = elapsed.clamp(1, self.window_max());
        let accepted_seconds = self.accepted_window(elapsed);
        let mut accepted = state.accepted(elapsed, accepted_seconds);
        if accepted_seconds < self.window_max() {
            // As with the others all since the start is told: what the first flush brought leaves no average yet.
            let since_start = state.books_at(accepted_seconds + self.lateness());
            accepted = accepted.max((since_start.accepted, since_start.printed));
        }
        Hour {
            slots,
            minute: Sends { accepted: accepted.0, printed: accepted.1, ..state.last(elapsed, seconds) },
            minute_seconds: seconds,
            accepted_seconds,
            quiet_seconds: state.counted_at.map(|at| elapsed.saturating_sub(at)),
            dropping: state.dropping(elapsed, self.hold),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Remembers the present books, and forgets those of more than `seconds` ago, all but the last.
    fn keep(&mut self, elapsed: u64, seconds: u64) {
        self.samples.push_back((elapsed, self.now));
        while self.samples.get(1).is_some_and(|(at, _)| at + seconds <= elapsed) {
            self.samples.pop_front();
        }
    }

    /// The books at a second; empty before the first sample.
    fn books_at(&self, second: u64) -> Sends {
        let after = self.samples.partition_point(|(at, _)| *at <= second);
        after.checked_sub(1).map_or_else(Sends::default, |at| self.samples[at].1)
    }

    /// The books so many seconds before `end`.
    fn books_before(&self, end: u64, seconds: u64) -> Sends {
        // What the first second brought belongs to every time that begins at the start.
        match end.saturating_sub(seconds) {
            0 => Sends::default(),
            start => self.books_at(start),
        }
    }

    /// Sends in the last `seconds`.
    fn last(&self, elapsed: u64, seconds: u64) -> Sends {
        self.now.since(self.books_before(elapsed, seconds))
    }

    /// Sends accepted in so many seconds that ended lately, and those of them that were printed.
    fn accepted(&self, elapsed: u64, seconds: u64) -> (u64, u64) {
        let accepted_by = |end| {
            let Sends { accepted, printed, .. } = self.books_at(end).since(self.books_before(end, seconds));
            (accepted, printed)
        };
        let averages = AVERAGES.min(elapsed.saturating_sub(seconds) + 1);
        let mut accepted: Vec<(u64, u64)> = (0..averages).map(|back| accepted_by(elapsed - back)).collect();
        accepted.sort_unstable();
        accepted.get(accepted.len() / 2).copied().unwrap_or_default()
    }

    fn book(&mut self, name: &str, reason: DropReason, total: u64, elapsed: u64, hold: u64) {
        let dropped = self.dropped.entry((name.into(), reason)).or_default();
        if total > dropped.total {
            dropped.lately.push_back((elapsed, total - dropped.total));
            dropped.total = total;
        }
        while dropped.lately.front().is_some_and(|(at, _)| at + hold < elapsed) {
            dropped.lately.pop_front();
        }
    }

    fn dropping(&self, elapsed: u64, hold: u64) -> Vec<Dropping> {
        let lately = |dropped: &Dropped| {
            let recent = dropped.lately.iter().filter(|(at, _)| at + hold >= elapsed);
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
mod tests;
