//! Days in a time zone.

use std::collections::BTreeMap;

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::row::{FateCounts, Row};
use crate::{DAY, QUARTER, QUARTERS_A_DAY};

/// The most days of a query.
const DAYS_MAX: usize = 400;

/// Why a range of days is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Not a day.
    #[error("`{0}` is not a day; write it as 2026-03-29")]
    NotADay(String),
    /// Not a time zone.
    #[error("`{0}` is not a time zone; write its IANA name, like Europe/Paris or UTC")]
    NotAZone(String),
    /// The first day is after the last one.
    #[error("the first day, {0}, is after the last one, {1}")]
    Backwards(String, String),
    /// Too many days.
    #[error("{0} days are more than the {DAYS_MAX} that can be asked for at once")]
    TooLong(usize),
    /// A day outside the supported range.
    #[error("`{0}` is beyond the days that are kept")]
    OutOfReach(String),
}

/// The sends of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaySends {
    /// As 2026-03-29.
    pub day: String,
    /// Its sends by outcome.
    pub sends: FateCounts,
}

/// Some days in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeRange {
    days: Vec<Date>,
    /// The begin of each, in Unix seconds, and the end of the last.
    bounds: Vec<u32>,
}

impl TimeRange {
    /// The days from `from` to `to`, both inclusive, written as 2026-03-29, in the time zone with an IANA name.
    ///
    /// # Errors
    /// When a day or the time zone is invalid, or there are too many days.
    pub fn new(from: &str, to: &str, time_zone: &str) -> Result<Self, RangeError> {
        let zone = zone(time_zone)?;
        let (first, last) = (day(from)?, day(to)?);
        if first > last {
            return Err(RangeError::Backwards(from.to_owned(), to.to_owned()));
        }
        let asked = usize::try_from(last.duration_since(first).as_hours() / 24).unwrap_or(usize::MAX);
        if asked >= DAYS_MAX {
            return Err(RangeError::TooLong(asked.saturating_add(1)));
        }
        Self::of(first, last, &zone)
    }

    /// The last `days` days up to and including the Unix second `now`.
    ///
    /// # Errors
    /// When the time zone is invalid.
    pub fn last_days(days: usize, now: u64, time_zone: &str) -> Result<Self, RangeError> {
        let zone = zone(time_zone)?;
        let days = days.clamp(1, DAYS_MAX);
        let last = day_of(now, &zone).ok_or_else(|| RangeError::OutOfReach(now.to_string()))?;
        let before = i64::try_from(days - 1).unwrap_or_default();
        let first =
            last.checked_sub(before.days()).map_err(|_beyond| RangeError::OutOfReach(last.to_string()))?;
        Self::of(first, last, &zone)
    }

    /// The days of a query: without a last one up to today, without a first one the `days` before.
    ///
    /// # Errors
    /// As for [`TimeRange::new`].
    pub fn asked(
        from: Option<&str>,
        to: Option<&str>,
        days: usize,
        now: u64,
        time_zone: &str,
    ) -> Result<Self, RangeError> {
        let last = match to {
            Some(to) => to.to_owned(),
            None => Self::last_days(1, now, time_zone)?.to(),
        };
        let first = if let Some(from) = from {
            from.to_owned()
        } else {
            let before = i64::try_from(days.clamp(1, DAYS_MAX) - 1).unwrap_or_default();
            let first = day(&last)?.checked_sub(before.days());
            first.map_err(|_beyond| RangeError::OutOfReach(last.clone()))?.to_string()
        };
        Self::new(&first, &last, time_zone)
    }

    fn of(first: Date, last: Date, zone: &TimeZone) -> Result<Self, RangeError> {
        let (mut days, mut bounds, mut next) = (Vec::new(), Vec::new(), first);
        loop {
            let begins = next.to_zoned_datetime(zone.clone()).ok();
            let begins = begins.and_then(|time| u32::try_from(time.timestamp().as_second()).ok());
            bounds.push(begins.ok_or_else(|| RangeError::OutOfReach(next.to_string()))?);
            if next > last {
                return Ok(Self { days, bounds });
            }
            days.push(next);
            next = next.tomorrow().map_err(|_beyond| RangeError::OutOfReach(next.to_string()))?;
        }
    }

    /// The first day.
    pub fn from(&self) -> String {
        self.days.first().map(ToString::to_string).unwrap_or_default()
    }

    /// The last day.
    pub fn to(&self) -> String {
        self.days.last().map(ToString::to_string).unwrap_or_default()
    }

    /// All days.
    pub fn days(&self) -> impl Iterator<Item = String> {
        self.days.iter().map(ToString::to_string)
    }

    /// The begin of the first one, in Unix seconds.
    pub fn begins(&self) -> u32 {
        self.bounds.first().copied().unwrap_or_default()
    }

    /// The begin of a day by its place in the range, in Unix seconds; of the place behind the last one, the end of that.
    pub fn begin_of(&self, place: usize) -> Option<u32> {
        self.bounds.get(place).copied()
    }

    /// The days (UTC, since 1970) that overlap it.
    pub(crate) fn utc_days(&self) -> std::ops::RangeInclusive<u32> {
        let end = self.bounds.last().copied().unwrap_or_default();
        self.begins() / DAY..=end.saturating_sub(1) / DAY
    }

    /// Adds a row to the days of its quarters of an hour.
    pub(crate) fn add(&self, days: &mut BTreeMap<usize, FateCounts>, utc_day: u32, row: &Row) {
        for (quarter, sends) in &row.0 {
            let time = (utc_day * QUARTERS_A_DAY + u32::from(*quarter)) * QUARTER;
            let day = self.bounds.partition_point(|begins| *begins <= time);
            if day > 0 && day <= self.days.len() {
                days.entry(day - 1).or_default().add(sends);
            }
        }
    }

    pub(crate) fn day_sends(&self, days: BTreeMap<usize, FateCounts>) -> Vec<DaySends> {
        let told = |(day, sends): (usize, _)| DaySends { day: self.days[day].to_string(), sends };
        days.into_iter().map(told).collect()
    }
}

fn zone(name: &str) -> Result<TimeZone, RangeError> {
    TimeZone::get(name).map_err(|_unknown| RangeError::NotAZone(name.chars().take(100).collect()))
}

fn day(text: &str) -> Result<Date, RangeError> {
    let parsed = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
    parsed.ok_or_else(|| RangeError::NotADay(text.chars().take(100).collect()))
}

fn day_of(now: u64, zone: &TimeZone) -> Option<Date> {
    let now = jiff::Timestamp::from_second(i64::try_from(now).ok()?).ok()?;
    Some(now.to_zoned_datetime(zone.clone()).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(from: &str, to: &str, zone: &str) -> Vec<u32> {
        TimeRange::new(from, to, zone)
            .unwrap()
            .bounds
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) / QUARTER)
            .collect()
    }

    #[test]
    fn the_days_of_summer_time_have_23_and_25_hours() {
        assert_eq!(lengths("2026-03-28", "2026-03-30", "Europe/Paris"), [96, 92, 96]);
        assert_eq!(lengths("2026-10-24", "2026-10-26", "Europe/Paris"), [96, 100, 96]);
        assert_eq!(lengths("2026-03-28", "2026-03-30", "UTC"), [96, 96, 96]);
        // Half an hour, and a day that begins at one o'clock.
        assert_eq!(lengths("2026-10-04", "2026-10-04", "Australia/Lord_Howe"), [94]);
        assert_eq!(lengths("2026-03-08", "2026-03-08", "America/Havana"), [92]);
    }

    #[test]
    fn every_quarter_of_an_hour_is_in_one_day() {
        for zone in
            ["Europe/Paris", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham", "America/St_Johns"]
        {
            let range = TimeRange::new("2026-03-01", "2026-11-30", zone).unwrap();
            assert!(range.bounds.iter().all(|begins| begins.is_multiple_of(QUARTER)), "{zone}");
            let one = FateCounts { counted: 1, ..FateCounts::default() };
            let row = Row((0..96).map(|quarter| (quarter, one.clone())).collect());
            let mut days = BTreeMap::new();
            for day in range.utc_days() {
                range.add(&mut days, day, &row);
            }
            let sums: Vec<u64> = days.values().map(|sends| sends.counted).collect();
            let quarters = range.bounds.windows(2).map(|pair| u64::from((pair[1] - pair[0]) / QUARTER));
            assert_eq!(sums, quarters.collect::<Vec<_>>(), "{zone}");
        }
    }

    #[test]
    fn the_last_days_end_with_today() {
        // 2026-03-29 23:30 in Paris.
        let range = TimeRange::last_days(7, 1_774_819_800, "Europe/Paris").unwrap();
        assert_eq!((range.from().as_str(), range.to().as_str()), ("2026-03-23", "2026-03-29"));
        assert_eq!(TimeRange::last_days(1, 1_774_819_800, "Asia/Tokyo").unwrap().to(), "2026-03-30");
    }

    #[test]
    fn what_was_not_asked_for_is_the_days_up_to_today() {
        let asked = |from, to| {
            let range = TimeRange::asked(from, to, 7, 1_774_819_800, "Europe/Paris").unwrap();
            (range.from(), range.to())
        };
        let days = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(asked(None, None), days("2026-03-23", "2026-03-29"));
        assert_eq!(asked(Some("2026-03-01"), None), days("2026-03-01", "2026-03-29"));
        assert_eq!(asked(None, Some("2026-03-02")), days("2026-02-24", "2026-03-02"));
    }

    #[test]
    fn what_is_no_day_no_zone_or_too_long_is_refused_with_a_sentence() {
        let refused = |from, to, zone| TimeRange::new(from, to, zone).unwrap_err().to_string();
        for (from, to, zone, words) in [
            ("yesterday", "2026-01-01", "UTC", "`yesterday` is not a day; write it as 2026-03-29"),
            ("2026-02-30", "2026-03-01", "UTC", "`2026-02-30` is not a day"),
            ("20260201", "2026-03-01", "UTC", "`20260201` is not a day"),
            ("2026-03-01T00:00:00", "2026-03-01", "UTC", "is not a day"),
            ("2026-01-01", "2026-01-02", "Paris", "`Paris` is not a time zone"),
            (
                "2026-01-02",
                "2026-01-01",
                "UTC",
                "the first day, 2026-01-02, is after the last one, 2026-01-01",
            ),
            ("2025-01-01", "2026-02-05", "UTC", "401 days are more than the 400"),
            ("1815-06-18", "1815-06-18", "UTC", "is beyond the days that are kept"),
        ] {
            let told = refused(from, to, zone);
            assert!(told.contains(words), "{told}");
        }
        assert!(TimeRange::new("2025-01-01", "2026-02-04", "UTC").is_ok());
    }
}
