//! Due days as recurrence rules of RFC 5545, as far as Datadog's custom schedules take them: daily, weekly or monthly, with
//! the time of day and the time zone beside the rule.
//!
//! Source: Datadog's guide "Customize monitor evaluation frequencies": a day or longer, and no DTSTART, DTEND, DURATION.

use std::fmt;

use jiff::civil::{Date, Weekday};

/// Days that are searched for due days: long enough for a 29 February every fourth month.
const HORIZON_DAYS: usize = 366 * 13;

const WEEKDAYS: [(&str, &str, Weekday); 7] = [
    ("MO", "monday", Weekday::Monday),
    ("TU", "tuesday", Weekday::Tuesday),
    ("WE", "wednesday", Weekday::Wednesday),
    ("TH", "thursday", Weekday::Thursday),
    ("FR", "friday", Weekday::Friday),
    ("SA", "saturday", Weekday::Saturday),
    ("SU", "sunday", Weekday::Sunday),
];

/// Why a text is no rule. It completes a sentence that begins with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(pub(super) String);

fn error<T>(reason: impl Into<String>) -> Result<T, RuleError> {
    Err(RuleError(reason.into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
}

/// A weekday, or the nth of a month (−1: the last); 0: all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DayOfWeek {
    nth: i8,
    weekday: Weekday,
}

/// A recurrence rule. `Display` writes it as Datadog takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recurrence {
    frequency: Frequency,
    interval: i32,
    weekdays: Vec<DayOfWeek>,
    month_days: Vec<i8>,
    months: Vec<i8>,
    positions: Vec<i16>,
    week_start: Weekday,
}

impl Recurrence {
    const fn every(frequency: Frequency) -> Self {
        Self {
            frequency,
            interval: 1,
            weekdays: Vec::new(),
            month_days: Vec::new(),
            months: Vec::new(),
            positions: Vec::new(),
            week_start: Weekday::Monday,
        }
    }

    /// Every day.
    pub const fn daily() -> Self {
        Self::every(Frequency::Daily)
    }

    /// Every week on these days.
    pub fn weekly(weekdays: &[Weekday]) -> Self {
        let weekdays = weekdays.iter().map(|weekday| DayOfWeek { nth: 0, weekday: *weekday }).collect();
        Self { weekdays, ..Self::every(Frequency::Weekly) }
    }

    /// Every month on these days of it.
    pub fn monthly(days: &[i8]) -> Self {
        Self { month_days: days.to_vec(), ..Self::every(Frequency::Monthly) }
    }

    /// Every month on its last day, as Datadog's guide writes it.
    pub fn last_day() -> Self {
        Self { positions: vec![-1], ..Self::monthly(&[28, 29, 30, 31]) }
    }

    /// Every month on the nth of these weekdays; −1 is the last.
    pub fn nth_weekday(nth: i8, weekday: Weekday) -> Self {
        Self { weekdays: vec![DayOfWeek { nth, weekday }], ..Self::every(Frequency::Monthly) }
    }

    /// Reads a rule: `FREQ=WEEKLY;BYDAY=MO,TH`.
    ///
    /// # Errors
    /// For a text that is no rule, or that Datadog's schedules don't take.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let upper = text.to_ascii_uppercase();
        let rule = upper.strip_prefix("RRULE:").unwrap_or(&upper);
        let mut parts = Vec::new();
        for part in rule.split(';') {
            let Some((key, value)) = part.split_once('=').filter(|(_, value)| !value.is_empty()) else {
                return error(format!("{part:?} is no KEY=VALUE of a rule: FREQ=WEEKLY;BYDAY=MO,TH"));
            };
            if parts.iter().any(|(known, _)| *known == key) {
                return error(format!("{key} is there twice"));
            }
            parts.push((key, value));
        }
        let frequency = parts.iter().find(|(key, _)| *key == "FREQ").map(|(_, value)| *value);
        let mut recurrence = Self::every(frequency_of(frequency)?);
        for (key, value) in parts {
            recurrence.take(key, value)?;
        }
        recurrence.check()?;
        Ok(recurrence)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<(), RuleError> {
        match key {
            "FREQ" => {}
            "INTERVAL" => self.interval = number(key, value, 1, 366)?,
            "BYDAY" => self.weekdays = list(value, day_of_week)?,
            "BYMONTHDAY" => self.month_days = list(value, |day| nonzero(key, day, 31))?,
            "BYMONTH" => self.months = list(value, |month| number(key, month, 1, 12))?,
            "BYSETPOS" => self.positions = list(value, |place| nonzero(key, place, 31))?,
            "WKST" => self.week_start = weekday(value).ok_or_else(|| RuleError(no_weekday(value)))?,
            "BYHOUR" | "BYMINUTE" | "BYSECOND" => {
                return error(format!(
                    "has {key}: leave it out, and write the time of day behind the rule, 11:00"
                ));
            }
            "DTSTART" => {
                return error(
                    "has DTSTART, which Datadog does not take: write \"from 2026-01-05\" at the end",
                );
            }
            "DTEND" | "DURATION" => return error(format!("has {key}, which Datadog does not take")),
            "COUNT" | "UNTIL" => {
                return error(format!(
                    "has {key}: a monitor that ends by itself would be silent for good; leave it out"
                ));
            }
            _ => {
                return error(format!(
                    "has {key}; FREQ, INTERVAL, BYDAY, BYMONTHDAY, BYMONTH, BYSETPOS and WKST are taken"
                ));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), RuleError> {
        let has_nth = self.weekdays.iter().any(|day| day.nth != 0);
        match self.frequency {
            Frequency::Monthly if self.weekdays.is_empty() && self.month_days.is_empty() => {
                return error("does not say on which days: BYMONTHDAY=1, or BYDAY=1MO");
            }
            Frequency::Weekly if self.weekdays.is_empty() => {
                return error("does not say on which days: BYDAY=MO");
            }
            Frequency::Weekly if !self.month_days.is_empty() => {
                return error("has BYMONTHDAY, which goes with FREQ=MONTHLY");
            }
            Frequency::Daily | Frequency::Weekly if has_nth => {
                return error("has a numbered day in BYDAY, which goes with FREQ=MONTHLY");
            }
            Frequency::Daily | Frequency::Weekly if !self.positions.is_empty() => {
                return error("has BYSETPOS, which goes with FREQ=MONTHLY");
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether its days depend on the start.
    pub const fn depends_on_start(&self) -> bool {
        self.interval > 1
    }

    /// Days of the month that some months lack.
    pub fn missing_days(&self) -> Option<i8> {
        let is_missing = |day: &i8| self.positions.is_empty() && day.unsigned_abs() > 28;
        self.month_days.iter().copied().find(is_missing)
    }

    /// The days on which it is due from `start` on, for some years.
    pub fn days(&self, start: Date) -> impl Iterator<Item = Date> {
        let days = std::iter::successors(Some(start), |day| day.tomorrow().ok()).take(HORIZON_DAYS);
        days.filter(move |day| self.is_on(start, *day))
    }

    fn is_on(&self, start: Date, day: Date) -> bool {
        if !self.months.is_empty() && !self.months.contains(&day.month()) {
            return false;
        }
        let passed = match self.frequency {
            Frequency::Daily => days_between(start, day),
            Frequency::Weekly => days_between(self.week_of(start), self.week_of(day)) / 7,
            Frequency::Monthly => months(day) - months(start),
        };
        if passed.rem_euclid(self.interval) != 0 || !self.has(day) {
            return false;
        }
        if self.positions.is_empty() {
            return true;
        }
        let all: Vec<Date> = month(day).filter(|day| self.has(*day)).collect();
        let at = |place: i16| match usize::try_from(place) {
            Ok(place) => all.get(place.wrapping_sub(1)),
            Err(_) => all.len().checked_sub(usize::from(place.unsigned_abs())).and_then(|at| all.get(at)),
        };
        self.positions.iter().any(|place| at(*place) == Some(&day))
    }

    /// Whether this day is among its days of the month and week.
    fn has(&self, day: Date) -> bool {
        let from_end = day.day() - day.days_in_month() - 1;
        let is_month_day = |wanted: &i8| *wanted == day.day() || *wanted == from_end;
        let nth = (day.day() - 1) / 7 + 1;
        let nth_from_end = -((day.days_in_month() - day.day()) / 7 + 1);
        let is_weekday =
            |of: &DayOfWeek| of.weekday == day.weekday() && [0, nth, nth_from_end].contains(&of.nth);
        (self.month_days.is_empty() || self.month_days.iter().any(is_month_day))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(is_weekday))
    }

    fn week_of(&self, day: Date) -> Date {
        let into = i64::from(day.weekday().since(self.week_start));
        day.checked_sub(jiff::SignedDuration::from_hours(24 * into)).unwrap_or(day)
    }

    /// The rule that is due one day later each time. `None`: no rule can express that.
    pub fn a_day_later(&self) -> Option<Self> {
        if *self == Self::last_day() {
            return Some(Self::monthly(&[1]));
        }
        if !self.months.is_empty() || !self.positions.is_empty() {
            return None;
        }
        let mut later = self.clone();
        match self.frequency {
            Frequency::Daily | Frequency::Weekly if self.month_days.is_empty() => {
                for day in &mut later.weekdays {
                    day.weekday = day.weekday.next();
                }
                // It would be in another week, and with every other week not in this one.
                let turns = later.weekdays.iter().any(|day| day.weekday == self.week_start);
                (!(turns && self.interval > 1 && self.frequency == Frequency::Weekly)).then_some(later)
            }
            Frequency::Monthly if self.weekdays.is_empty() => {
                // From the end of the month as well, only what every month has: where it has no 29th to last day, its 28th to
                // last is the day after none.
                for day in &mut later.month_days {
                    *day =
                        Some(*day + 1).filter(|next| (2..=28).contains(next) || (-27..0).contains(next))?;
                }
                Some(later)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.frequency {
            Frequency::Daily => "FREQ=DAILY",
            Frequency::Weekly => "FREQ=WEEKLY",
            Frequency::Monthly => "FREQ=MONTHLY",
        })?;
        write!(f, ";INTERVAL={}", self.interval)?;
        let weekdays = self.weekdays.iter().map(ToString::to_string);
        let parts = [
            ("BYMONTH", self.months.iter().map(ToString::to_string).collect::<Vec<_>>()),
            ("BYMONTHDAY", self.month_days.iter().map(ToString::to_string).collect()),
            ("BYDAY", weekdays.collect()),
            ("BYSETPOS", self.positions.iter().map(ToString::to_string).collect()),
        ];
        for (key, values) in parts.iter().filter(|(_, values)| !values.is_empty()) {
            write!(f, ";{key}={}", values.join(","))?;
        }
        let is_counted = self.frequency == Frequency::Weekly && self.interval > 1;
        if is_counted { write!(f, ";WKST={}", short(self.week_start)) } else { Ok(()) }
    }
}

impl fmt::Display for DayOfWeek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nth != 0 {
            write!(f, "{}", self.nth)?;
        }
        f.write_str(short(self.weekday))
    }
}

/// A weekday by its name, or by its first two letters or more.
pub(super) fn weekday(text: &str) -> Option<Weekday> {
    let lower = text.to_ascii_lowercase();
    let found = WEEKDAYS.iter().find(|(_, name, _)| lower.len() >= 2 && name.starts_with(&lower));
    found.map(|(_, _, weekday)| *weekday)
}

fn short(weekday: Weekday) -> &'static str {
    WEEKDAYS.iter().find(|(_, _, known)| *known == weekday).map_or("MO", |(short, ..)| short)
}

fn no_weekday(text: &str) -> String {
    format!("{text:?} is no weekday: MO, TU, WE, TH, FR, SA, SU")
}

fn frequency_of(text: Option<&str>) -> Result<Frequency, RuleError> {
    match text {
        Some("DAILY") => Ok(Frequency::Daily),
        Some("WEEKLY") => Ok(Frequency::Weekly),
        Some("MONTHLY") => Ok(Frequency::Monthly),
        Some("SECONDLY" | "MINUTELY" | "HOURLY") => error(
            "is due more than once a day, which Datadog's schedules are not: FREQ=DAILY, or a monitor with --window \
             and without --expect, which looks all the time",
        ),
        Some("YEARLY") => error("has FREQ=YEARLY; Datadog takes FREQ=MONTHLY with BYMONTH=12 instead"),
        Some(other) => error(format!("has FREQ={other}; FREQ=DAILY, WEEKLY or MONTHLY is taken")),
        None => error("has no FREQ: FREQ=DAILY, WEEKLY or MONTHLY"),
    }
}

fn list<T>(values: &str, one: impl Fn(&str) -> Result<T, RuleError>) -> Result<Vec<T>, RuleError> {
    values.split(',').map(one).collect()
}

fn number<N: TryFrom<i32>>(key: &str, text: &str, min: i32, max: i32) -> Result<N, RuleError> {
    let number = text.parse().ok().filter(|number: &i32| (min..=max).contains(number));
    let number = number.and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| RuleError(format!("has {key}={text}, which is a number from {min} to {max}")))
}

fn nonzero<N: TryFrom<i32>>(key: &str, text: &str, max: i32) -> Result<N, RuleError> {
    let magnitude = text.strip_prefix('-').unwrap_or(text);
    let reason =
        || RuleError(format!("has {key}={text}, which is a number from 1 to {max}, or from the end: -1"));
    number::<i32>(key, magnitude, 1, max).map_err(|_| reason())?;
    number(key, text, -max, max).map_err(|_| reason())
}

/// `MO`, `1MO`, `-1FR`.
fn day_of_week(text: &str) -> Result<DayOfWeek, RuleError> {
    let at = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (nth, name) = text.split_at(at);
    let Some(weekday) = Some(name).filter(|name| name.len() == 2).and_then(weekday) else {
        return error(no_weekday(text));
    };
    let nth = if nth.is_empty() { 0 } else { nonzero("BYDAY", nth, 5)? };
    Ok(DayOfWeek { nth, weekday })
}

fn days_between(from: Date, to: Date) -> i32 {
    i32::try_from(to.duration_since(from).as_hours() / 24).unwrap_or(i32::MAX)
}

fn months(day: Date) -> i32 {
    i32::from(day.year()) * 12 + i32::from(day.month())
}

/// All days of a month.
fn month(day: Date) -> impl Iterator<Item = Date> {
    let last = day.last_of_month();
    std::iter::successors(Some(day.first_of_month()), |day| day.tomorrow().ok())
        .take_while(move |day| *day <= last)
}

#[cfg(test)]
mod tests;
