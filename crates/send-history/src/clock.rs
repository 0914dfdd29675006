//! How far the clock is believed.

use std::time::{Duration, Instant};

use crate::DAY;

/// The beginning of 2024: no history is as old, and a clock before it has not been set since the machine was switched on.
const CLOCK_SET: u64 = 1_704_067_200;

/// How long a clock that has leapt ahead has to keep its time before days are old by it.
const PROBATION: Duration = Duration::from_secs(DAY as u64);

/// The day (UTC, since 1970) by which the history ages: a clock that is far ahead for a while would empty it.
#[derive(Debug)]
pub(crate) struct BelievedDay {
    /// Zero: none is known.
    day: u32,
    /// The day to which the clock has leapt, and when that was noticed.
    leap: Option<(u32, Instant)>,
}

impl BelievedDay {
    pub(crate) const fn new(day: u32) -> Self {
        Self { day, leap: None }
    }

    /// Heeds the Unix second `now`, which was read at `at`. Returns the day.
    pub(crate) fn heed(&mut self, now: u64, at: Instant) -> u32 {
        if now < CLOCK_SET {
            return self.day;
        }
        let today = day_of(now);
        let is_kept = |(day, _): &(u32, Instant)| (*day..=day.saturating_add(2)).contains(&today);
        let leap = self.leap.filter(is_kept).unwrap_or((today, at));
        let is_believed = today <= self.day.saturating_add(1) || at.duration_since(leap.1) >= PROBATION;
        *self =
            Self { day: if is_believed { today } else { self.day }, leap: (!is_believed).then_some(leap) };
        self.day
    }
}

/// The day (UTC, since 1970) of a Unix second.
pub(crate) fn day_of(time: u64) -> u32 {
    u32::try_from(time / u64::from(DAY)).unwrap_or(u32::MAX)
}

/// Since when a history is kept, given the time that its file says: a clock that was ahead, or not set, has written one that
/// can't be.
pub(crate) const fn plausible_since(since: u64, now: u64) -> u64 {
    if now >= CLOCK_SET && (since > now || since < CLOCK_SET) { now } else { since }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u32 = 20_541;

    #[test]
    fn a_clock_that_has_leapt_ahead_is_believed_when_it_has_kept_its_time_for_a_day() {
        let (noon, hour) = (u64::from(TODAY) * 86_400 + 43_200, Duration::from_hours(1));
        let begin = Instant::now();
        let mut believed = BelievedDay::new(TODAY);
        let mut after = |hours: u32, days_ahead: u64| {
            let now = noon + u64::from(hours) * 3_600 + days_ahead * 86_400;
            believed.heed(now, begin + hours * hour) - TODAY
        };
        assert_eq!((after(0, 0), after(13, 0)), (0, 1));
        // It is ahead for two hours, and for others by more.
        assert_eq!((after(14, 45), after(16, 45), after(17, 730), after(18, 0)), (1, 1, 1, 1));
        // It has stood still for two months.
        assert_eq!((after(20, 60), after(43, 60), after(44, 60)), (1, 1, 62));
        // It was ahead by all that.
        assert_eq!((after(45, 0), after(46, 60), after(69, 60), after(70, 60)), (2, 2, 2, 63));
    }

    #[test]
    fn a_clock_that_is_not_set_changes_nothing() {
        let mut believed = BelievedDay::new(TODAY);
        assert_eq!(believed.heed(1_600_000_000, Instant::now()), TODAY);
        assert_eq!(believed.heed(u64::from(TODAY + 1) * 86_400, Instant::now()), TODAY + 1);
    }
}
