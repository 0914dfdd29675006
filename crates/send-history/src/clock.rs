//! How far the clock is believed.

use std::time::{Duration, Instant};

use crate::DAY;

/// The beginning of 2024: no history is as old, and a clock before it has not been set since the machine was switched on.
pub const CLOCK_SET: u64 = 1_704_067_200;

/// How long a clock that has leapt ahead has to keep its time before days are old by it.
const PROBATION: Duration = Duration::from_secs(DAY as u64);

/// How far ahead of the clock a send may be, in seconds: Datadog takes none that is further.
const AHEAD_MAX: u64 = 10 * 60;

/// The day (UTC, since 1970) by which the history ages: a clock that is far ahead for a while would empty it.
#[derive(Debug)]
pub(crate) struct BelievedDay {
    /// Zero: none is known.
    pub(crate) day: u32,
    leap: Option<ClockLeap>,
}

/// A clock that has leapt ahead.
#[derive(Debug, Clone, Copy)]
struct ClockLeap {
    /// The Unix second to which it has, as it was noticed first.
    time: u64,
    /// When this process noticed.
    at: Instant,
    /// How long it had kept its time by then, in earlier processes.
    kept: Duration,
}

impl BelievedDay {
    /// The one of a file that is opened at the Unix second `now`, which was read at `at`. `leap_time` is where the clock had
    /// leapt to when the file was written last: a clock that goes on from there a day later at another start is right.
    /// Otherwise nothing would age where no process lives for a day.
    pub(crate) fn read(day: u32, leap_time: Option<u64>, now: u64, at: Instant) -> Self {
        match leap_time {
            Some(time) if now >= time.saturating_add(PROBATION.as_secs()) => {
                Self { day: day.max(day_of(time)), leap: None }
            }
            _ => {
                let kept = |time| Duration::from_secs(now.saturating_sub(time));
                Self { day, leap: leap_time.map(|time| ClockLeap { time, at, kept: kept(time) }) }
            }
        }
    }

    /// Heeds the Unix second `now`, which was read at `at`. Returns the day.
    pub(crate) fn heed(&mut self, now: u64, at: Instant) -> u32 {
        if now < CLOCK_SET {
            return self.day;
        }
        let today = day_of(now);
        let is_kept =
            |leap: &ClockLeap| (day_of(leap.time)..=day_of(leap.time).saturating_add(2)).contains(&today);
        let leap = self.leap.filter(is_kept).unwrap_or(ClockLeap { time: now, at, kept: Duration::ZERO });
        let is_believed =
            today <= self.day.saturating_add(1) || leap.kept + at.duration_since(leap.at) >= PROBATION;
        *self =
            Self { day: if is_believed { today } else { self.day }, leap: (!is_believed).then_some(leap) };
        self.day
    }

    /// The day at the Unix second `now`, as far as it is believed at once; where none is known, the clock's.
    pub(crate) fn day_at(&self, now: u64) -> u32 {
        if self.day == 0 { day_of(now) } else { day_of(now).clamp(self.day, self.day.saturating_add(1)) }
    }

    /// The latest time of a send at the Unix second `now`; `None`: the clock is not set. One that is behind may be the wrong
    /// one: then the day that was believed holds, to its end.
    pub(crate) fn latest_send(&self, now: u64) -> Option<u64> {
        let is_behind = day_of(now) < self.day;
        let latest = if is_behind { (u64::from(self.day) + 1) * u64::from(DAY) } else { now + AHEAD_MAX };
        (now >= CLOCK_SET).then_some(latest)
    }

    /// The Unix second to which the clock has leapt, while it is not believed.
    pub(crate) fn leap_time(&self) -> Option<u64> {
        self.leap.map(|leap| leap.time)
    }
}

/// The day (UTC, since 1970) of a Unix second.
pub(crate) fn day_of(time: u64) -> u32 {
    u32::try_from(time / u64::from(DAY)).unwrap_or(u32::MAX)
}

/// Since when a history is kept, in Unix seconds, given the time that its file says and the first day (UTC, since 1970) of
/// which it has rows: a clock that was ahead, or not set, has written one that can't be.
///
/// Where no row is of an earlier day than that, it may be the clock that is behind, perhaps for a moment.
pub(crate) fn plausible_since(since: u64, first_day: Option<u32>, now: u64) -> u64 {
    let is_begun = || first_day.is_some_and(|day| day <= day_of(now) && day < day_of(since));
    let is_wrong = since < CLOCK_SET || (since > now && is_begun());
    if now >= CLOCK_SET && is_wrong { now } else { since }
}

#[cfg(test)]
mod tests;
