//! The days that are compared, in the company's time zone.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

/// Why a range of days is refused. It completes a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DayRangeError {
    /// IANA has no such time zone.
    #[error(
        "{0:?} is no time zone; write it as IANA and Braze's dashboard (Settings, Company Settings) do: Europe/Paris, America/New_York, UTC"
    )]
    TimeZone(String),
    /// The last day is invalid.
    #[error("{0:?} is no day; write it as 2026-11-28")]
    Day(String),
    /// The last day has not begun.
    #[error("{last} has not begun in {time_zone}, where it is {today}")]
    Future {
        /// The last day that was asked for.
        last: Date,
        /// Today's date.
        today: Date,
        /// The time zone.
        time_zone: String,
    },
}

/// Consecutive days.
#[derive(Debug, Clone)]
pub struct DayRange {
    /// The first.
    pub first: Date,
    /// The last.
    pub last: Date,
    /// The time zone, by its name.
    pub time_zone: String,
    zone: TimeZone,
}

/// The days of one request to Braze.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRequest {
    /// The first day to take from its answer.
    pub first: Date,
    /// The last.
    pub last: Date,
    /// How many there are.
    pub days: u32,
    /// The last second of the last day, with its offset from UTC.
    pub ending_at: String,
}

impl DayRange {
    /// This many days up to `last`, or up to today; `now` is in Unix seconds.
    ///
    /// # Errors
    /// When the time zone or the last day can't be used.
    pub fn new(time_zone: &str, last: Option<&str>, days: u32, now: u64) -> Result<Self, DayRangeError> {
        let zone = TimeZone::get(time_zone).map_err(|_| DayRangeError::TimeZone(time_zone.to_owned()))?;
        let today = zone.to_datetime(timestamp(now)).date();
        let last = match last {
            None => today,
            Some(text) => text
                .parse::<Date>()
                .ok()
                .filter(|day| day.to_string() == text)
                .ok_or_else(|| DayRangeError::Day(text.to_owned()))?,
        };
        if last > today {
            return Err(DayRangeError::Future { last, today, time_zone: time_zone.to_owned() });
        }
        let first = before(last, days.saturating_sub(1));
        Ok(Self { first, last, time_zone: time_zone.to_owned(), zone })
    }

    /// This many days up to yesterday.
    ///
    /// # Errors
    /// As for [`DayRange::new`].
    pub fn until_yesterday(time_zone: &str, days: u32, now: u64) -> Result<Self, DayRangeError> {
        let today = Self::new(time_zone, None, 1, now)?.last;
        let yesterday = today.yesterday().unwrap_or(today).to_string();
        Self::new(time_zone, Some(&yesterday), days, now)
    }

    /// The next moment after `now` (both in Unix seconds) at which clocks of a time zone show this time of day. On a day
    /// when clocks skip it, it is later by the length of the skip.
    ///
    /// # Errors
    /// When there is no such time zone.
    pub fn next_moment(time_zone: &str, at: Time, now: u64) -> Result<u64, DayRangeError> {
        let today = Self::new(time_zone, None, 1, now)?;
        let moment =
            |day: Date| today.zone.to_timestamp(day.to_datetime(at)).map_or(i64::MAX, Timestamp::as_second);
        let days = [Some(today.last), today.last.tomorrow().ok()];
        let moments = days.into_iter().flatten().map(moment).map(|moment| u64::try_from(moment).unwrap_or(0));
        Ok(moments.into_iter().find(|moment| *moment > now).unwrap_or(u64::MAX))
    }

    /// The days, oldest first.
    pub fn days(&self) -> impl Iterator<Item = Date> {
        let last = self.last;
        self.first.series(1.day()).take_while(move |day| *day <= last)
    }

    /// The first second of a day, in Unix seconds. It is not midnight if summer time begins then.
    pub fn begin(&self, day: Date) -> i64 {
        self.zone.to_timestamp(day.at(0, 0, 0, 0)).map_or(i64::MIN, Timestamp::as_second)
    }

    /// The first second after a day.
    pub fn end(&self, day: Date) -> i64 {
        day.tomorrow().map_or(i64::MAX, |next| self.begin(next))
    }

    /// The requests for all of them, each for `days_max` at most; the newest first.
    pub fn requests(&self, days_max: u32) -> Vec<DayRequest> {
        let mut requests = Vec::new();
        let mut last = self.last;
        while last >= self.first {
            let first = before(last, days_max.saturating_sub(1)).max(self.first);
            let days = u32::try_from((last - first).get_days() + 1).unwrap_or(1);
            // A day's last second occurs twice if the clock is put back then; either will do.
            let ending_at = self
                .zone
                .to_zoned_datetime(last.at(23, 59, 59, 0))
                .map_or_else(|_| last.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string());
            requests.push(DayRequest { first, last, days, ending_at });
            let Ok(next) = first.yesterday() else { break };
            last = next;
        }
        requests
    }
}

impl DayRequest {
    /// Whether to take a day from its answer.
    pub fn has(&self, day: Date) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

fn before(day: Date, days: u32) -> Date {
    day.saturating_sub(i64::from(days).days())
}

fn timestamp(unix_seconds: u64) -> Timestamp {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28, 05:00 in UTC.
    const NOW: u64 = 1_795_842_000;

    fn range(zone: &str, last: Option<&str>, days: u32) -> DayRange {
        DayRange::new(zone, last, days, NOW).unwrap()
    }

    #[test]
    fn today_is_that_of_the_time_zone() {
        for (zone, last) in [
            ("UTC", "2026-11-28"),
            ("America/Los_Angeles", "2026-11-27"),
            ("Pacific/Kiritimati", "2026-11-28"),
        ] {
            assert_eq!(range(zone, None, 1).last.to_string(), last, "{zone}");
        }
        let week = range("Europe/Paris", None, 7);
        let days: Vec<String> = week.days().map(|day| day.to_string()).collect();
        assert_eq!((days.len(), &*days[0], &*days[6]), (7, "2026-11-22", "2026-11-28"));
    }

    #[test]
    fn a_day_of_summer_time_has_its_own_length_and_offset() {
        let days = range("Europe/Paris", Some("2026-10-25"), 2);
        let hours = |day| (days.end(day) - days.begin(day)) / 3600;
        assert_eq!(days.days().map(hours).collect::<Vec<_>>(), [24, 25]);
        let [request] = &days.requests(14)[..] else { panic!() };
        assert_eq!((&*request.ending_at, request.days), ("2026-10-25T23:59:59+01:00", 2));
        let earlier = range("Europe/Paris", Some("2026-10-24"), 1).requests(14);
        assert_eq!(earlier[0].ending_at, "2026-10-24T23:59:59+02:00");
        let spring = range("Europe/Paris", Some("2026-03-29"), 1);
        assert_eq!((spring.end(spring.last) - spring.begin(spring.last)) / 3600, 23);
        // There it begins at one in the morning.
        let skipped = range("America/Santiago", Some("2026-09-06"), 1);
        assert_eq!((skipped.end(skipped.last) - skipped.begin(skipped.last)) / 3600, 23);
    }

    #[test]
    fn a_long_range_is_asked_for_in_parts_that_do_not_overlap() {
        let days = range("America/New_York", Some("2026-11-20"), 31);
        let requests = days.requests(14);
        let parts: Vec<_> =
            requests.iter().map(|one| (one.first.to_string(), one.last.to_string(), one.days)).collect();
        let expected = [
            ("2026-11-07", "2026-11-20", 14),
            ("2026-10-24", "2026-11-06", 14),
            ("2026-10-21", "2026-10-23", 3),
        ];
        assert_eq!(parts, expected.map(|(first, last, days)| (first.to_owned(), last.to_owned(), days)));
        assert_eq!(requests[0].ending_at, "2026-11-20T23:59:59-05:00");
        assert_eq!(requests[2].ending_at, "2026-10-23T23:59:59-04:00");
        assert!(days.days().all(|day| requests.iter().filter(|request| request.has(day)).count() == 1));
        assert_eq!(days.requests(100).len(), 1);
    }

    #[test]
    fn what_is_no_day_or_no_time_zone_is_refused() {
        for (zone, last, part) in [
            ("Paris", None, "\"Paris\" is no time zone"),
            ("", None, "is no time zone"),
            ("UTC", Some("28.11.2026"), "is no day"),
            ("UTC", Some("2026-11-28T10:00:00"), "is no day"),
            ("UTC", Some("2026-02-30"), "is no day"),
            ("America/Los_Angeles", Some("2026-11-28"), "where it is 2026-11-27"),
        ] {
            let error = DayRange::new(zone, last, 7, NOW).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
