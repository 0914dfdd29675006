//! Due times of sends: days, a time of day and a time zone; and their form for Datadog.
//!
//! A monitor with a custom schedule is evaluated at its scheduled times only. These are a grace *after* the sends are due,
//! and the window ends at the due time: a send of the last second must still come from Braze, and leave with a flush. The
//! window is no longer than the shortest time from one due time to the next, in hours as they pass: changes of the clock do
//! not matter.

use jiff::civil::{Date, DateTime, Time, date};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, ZonedDateTime};
use serde_json::{Value, json};

use super::recurrence::{Recurrence, RuleError, weekday};
use super::window::AlertWindow;

/// The first day of the schedule, by default: the same command prints the same monitor tomorrow.
const FIRST: Date = date(2026, 1, 1);

/// Due times that are examined for the shortest time between two of them.
const LOOKED_AT: usize = 800;

/// The longest grace, in seconds.
pub const GRACE_MAX: u64 = 12 * 60 * 60;

const FORMS: &str = "write DAYS TIME ZONE: \"Mon 11:00 Europe/Paris\", \"Mon,Wed,Fri 09:30 Europe/Berlin\", \"Mon-Fri …\", \
     \"daily …\", \"1st …\", \"last day …\", \"first Mon …\", \"FREQ=WEEKLY;BYDAY=MO,TH 08:00 UTC\"";

const ORDINALS: [(&str, i8); 6] =
    [("first", 1), ("second", 2), ("third", 3), ("fourth", 4), ("fifth", 5), ("last", -1)];

/// Why a text is no due time. It completes a sentence that begins with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DueError(String);

impl From<RuleError> for DueError {
    fn from(error: RuleError) -> Self {
        Self(error.0)
    }
}

/// When sends are due, and how a monitor waits for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// In words: `Mon 11:00 Europe/Paris`.
    pub words: String,
    /// The window, which ends at the due time.
    pub window: AlertWindow,
    /// How long after the due time it is evaluated, in seconds.
    pub grace: u64,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The rule of the evaluations.
    rule: Recurrence,
    start: DateTime,
    zone: String,
}

impl Due {
    /// Reads days, a time and a time zone. `since` is how long before the due time sends count, by default the shortest time
    /// between two due times, within Datadog's limits.
    ///
    /// # Errors
    /// For a text that is none, a time that Datadog does not take, and a window that would include sends of the previous due
    /// time.
    pub fn read(text: &str, since: Option<AlertWindow>, grace: u64) -> Result<Self, DueError> {
        let Parts { days, time, zone, from } = parts(text)?;
        let (rule, time, zone) = (days_of(&days)?, time_of(time)?, zone_of(zone)?);
        if rule.depends_on_start() && from.is_none() {
            return fail(
                "has an INTERVAL: say which of the weeks, days or months with \"from 2026-01-05\" at the end",
            );
        }
        let Some(first) = rule.days(from.unwrap_or(FIRST)).next() else {
            return fail("never comes: there is no such day");
        };
        let gap = shortest_gap(&rule, first, time, &zone)?;
        let longest = AlertWindow::at_most(gap);
        let window = since.unwrap_or(longest);
        if window.seconds() > gap {
            return fail(format!(
                "is due again after {} hours: a window of a {} would count sends that were due before; --since {longest} \
                 is the longest",
                gap / 3600,
                window.phrase(),
                longest = longest.short(),
            ));
        }
        let (rule, start) = evaluations(rule, first.to_datetime(time), grace)?;
        let mut notes = notes_of_days(&rule, &days);
        notes.extend(notes_of_clocks(&rule, start, &zone));
        notes.extend(notes_of_shifts(&rule, start, &zone, grace));
        let name = zone.iana_name().unwrap_or("UTC").to_owned();
        let clock = format!("{:02}:{:02}", time.hour(), time.minute());
        Ok(Self { words: format!("{days} {clock} {name}"), window, grace, notes, rule, start, zone: name })
    }

    /// The monitor's `scheduling_options`.
    pub(super) fn schedule(&self) -> Value {
        let recurrence = json!({
            "rrule": self.rule.to_string(),
            "start": self.start.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            "timezone": self.zone,
        });
        json!({ "custom_schedule": { "recurrences": [recurrence] } })
    }
}

fn fail<T>(reason: impl Into<String>) -> Result<T, DueError> {
    Err(DueError(reason.into()))
}

struct Parts<'t> {
    days: String,
    time: &'t str,
    zone: &'t str,
    from: Option<Date>,
}

fn parts(text: &str) -> Result<Parts<'_>, DueError> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut from = None;
    if let [.., word, day] = words[..]
        && word.eq_ignore_ascii_case("from")
    {
        let Ok(day) = day.parse::<Date>() else {
            return fail(format!("begins from {day:?}, which is no date: write \"from 2026-01-05\""));
        };
        from = Some(day);
        words.truncate(words.len() - 2);
    }
    let [days @ .., time, zone] = &words[..] else { return fail(format!("is no due time; {FORMS}")) };
    if zone.contains(':') {
        return fail(format!("names no time zone behind {zone}: {FORMS}"));
    }
    if days.is_empty() {
        return fail(format!("does not say on which days; {FORMS}"));
    }
    let days = days.join(" ").replace(", ", ",");
    Ok(Parts { days, time, zone, from })
}

/// Parses days: `daily`, `Mon,Wed`, `Mon-Fri`, `1st,15th`, `last day`, `first Mon`, or a rule.
fn days_of(text: &str) -> Result<Recurrence, DueError> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("freq=") || lower.starts_with("rrule:") || lower.contains('=') {
        return Ok(Recurrence::parse(text)?);
    }
    match &*lower {
        "daily" | "every day" => return Ok(Recurrence::daily()),
        "weekdays" => return weekdays("mon-fri"),
        "last day" => return Ok(Recurrence::last_day()),
        "hourly" | "every hour" => {
            return fail(
                "is due more than once a day, which Datadog's schedules are not; leave --expect out there",
            );
        }
        _ => {}
    }
    if let Some((place, day)) = lower.split_once(' ') {
        let nth = ORDINALS.iter().find(|(word, _)| *word == place).map(|(_, nth)| *nth);
        let nth = nth.or_else(|| ordinal(place).filter(|nth| *nth <= 5));
        return match (nth, weekday(day)) {
            (Some(nth), Some(weekday)) => Ok(Recurrence::nth_weekday(nth, weekday)),
            _ => {
                fail(format!("is due on {text:?}, which no schedule of days, weeks or months says; {FORMS}"))
            }
        };
    }
    if lower.starts_with(|first: char| first.is_ascii_digit()) {
        let days = lower.split(',').map(|day| ordinal(day).ok_or(day)).collect::<Result<Vec<_>, _>>();
        return match days {
            Ok(days) => Ok(Recurrence::monthly(&days)),
            Err(day) => fail(format!(
                "is due on {day:?}, which is no day of a month: 1st, 2nd, … 31st, or \"last day\""
            )),
        };
    }
    weekdays(&lower)
}

fn weekdays(text: &str) -> Result<Recurrence, DueError> {
    let mut days = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Some(from), Some(to)) = (weekday(from), weekday(to)) else {
            return fail(format!("is due on {part:?}, which is no day; {FORMS}"));
        };
        let several = from.cycle_forward().take(usize::from(to.since(from).unsigned_abs()) + 1);
        for day in several {
            if days.contains(&day) {
                return fail(format!("names a day twice: {text}"));
            }
            days.push(day);
        }
    }
    Ok(Recurrence::weekly(&days))
}

/// `1st`, `22nd`.
fn ordinal(text: &str) -> Option<i8> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let end = text.get(digits.len()..)?;
    ["st", "nd", "rd", "th"].contains(&end).then(|| digits.parse().ok())?.filter(|day| (1..=31).contains(day))
}

fn time_of(text: &str) -> Result<Time, DueError> {
    const FORM: &str = "write hours and minutes from 00:00 to 23:59";
    let two = |digits: &str| match digits.as_bytes() {
        [b'0'..=b'9', b'0'..=b'9'] => digits.parse::<i8>().ok(),
        _ => None,
    };
    let mut fields = text.split(':');
    let (hour, minute) = (fields.next().and_then(two), fields.next().and_then(two));
    match (hour, minute, fields.next()) {
        (Some(hour), Some(minute), None) => Time::new(hour, minute, 0, 0)
            .map_err(|_| DueError(format!("is due at {text}, which no clock shows; {FORM}"))),
        (Some(_), Some(_), Some(_)) => {
            fail(format!("is due at {text}: seconds are finer than a schedule is; {FORM}"))
        }
        _ => fail(format!("is due at {text:?}, which is no time of day; {FORM}")),
    }
}

/// A zone of the tz database, in its canonical spelling.
fn zone_of(text: &str) -> Result<TimeZone, DueError> {
    let database = TimeZoneDatabase::bundled();
    let is_named = text.contains('/') || text.eq_ignore_ascii_case("UTC");
    if let Some(zone) = database.get(text).ok().filter(|zone| is_named && !zone.is_unknown()) {
        return Ok(zone);
    }
    let near = |name: &str| {
        let city = name.rsplit('/').next().unwrap_or(name);
        let closeness =
            |part: &str| strsim::jaro_winkler(&part.to_ascii_lowercase(), &text.to_ascii_lowercase());
        closeness(name).max(closeness(city))
    };
    let names = database.available().map(|name| name.as_str().to_owned()).filter(|name| name.contains('/'));
    let nearest = names.map(|name| (near(&name), name)).max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = nearest.filter(|(closeness, _)| *closeness > 0.8);
    let hint = hint.map_or("Europe/Paris, America/New_York, UTC".to_owned(), |(_, name)| {
        format!("did you mean {name}?")
    });
    fail(format!("is due in {text:?}, which is no time zone with a place that the tz database has: {hint}"))
}

/// The shortest time from one due time to the next, in seconds as they pass.
fn shortest_gap(rule: &Recurrence, first: Date, time: Time, zone: &TimeZone) -> Result<u64, DueError> {
    let at = |day: Date| zone.to_zoned_datetime(day.to_datetime(time)).ok();
    let due: Vec<ZonedDateTime> = rule.days(first).filter_map(at).take(LOOKED_AT).collect();
    let gaps = due.windows(2).map(|pair| pair[1].timestamp().as_second() - pair[0].timestamp().as_second());
    match gaps.min().and_then(|gap| u64::try_from(gap).ok()) {
        Some(gap) => Ok(gap),
        None => fail("comes once in years, or never: a schedule needs days that come again"),
    }
}

/// The rule and the first time of the evaluations: the grace later.
fn evaluations(rule: Recurrence, first: DateTime, grace: u64) -> Result<(Recurrence, DateTime), DueError> {
    let later =
        i64::try_from(grace).ok().and_then(|grace| first.checked_add(SignedDuration::from_secs(grace)).ok());
    let Some(start) = later else { return fail("begins beyond all calendars") };
    if start.date() == first.date() {
        return Ok((rule, start));
    }
    match rule.a_day_later() {
        Some(rule) => Ok((rule, start)),
        None => fail(format!(
            "is due so late in the day that it is looked at on the next one, {} minutes later, which no rule says for \
             these days; write an earlier time, or a shorter --grace",
            grace / 60
        )),
    }
}

fn notes_of_days(rule: &Recurrence, days: &str) -> Vec<String> {
    let missing = rule.missing_days().map(|_| {
        format!(
            "{days:?} passes over the months that have no such day; \"last day\" is the end of every month"
        )
    });
    missing.into_iter().collect()
}

/// Warns if a change of the clock makes an evaluation's time ambiguous or missing.
fn notes_of_clocks(rule: &Recurrence, start: DateTime, zone: &TimeZone) -> Option<String> {
    let found = rule.days(start.date()).take(LOOKED_AT).find_map(|day| {
        let at = day.to_datetime(start.time());
        match zone.to_ambiguous_timestamp(at).offset() {
            AmbiguousOffset::Unambiguous { .. } => None,
            AmbiguousOffset::Gap { .. } => Some((at, "does not exist, for clocks are put forward")),
            AmbiguousOffset::Fold { .. } => Some((at, "comes twice, for clocks are put back")),
        }
    });
    found.map(|(at, what)| {
        format!(
            "it is looked at {}, which {what}, in {}; what Datadog does then is not published: another time is safer",
            at.strftime("on %Y-%m-%d at %H:%M"),
            zone.iana_name().unwrap_or("UTC")
        )
    })
}

/// Warns if a change of the clock lies between a due time and its evaluation: the window ends the grace before the evaluation,
/// in seconds as they pass.
fn notes_of_shifts(rule: &Recurrence, start: DateTime, zone: &TimeZone, grace: u64) -> Option<String> {
    let grace = i64::try_from(grace).ok()?;
    let zoned = |at: DateTime| zone.to_ambiguous_timestamp(at).compatible().ok();
    let (at, passed) = rule.days(start.date()).take(LOOKED_AT).find_map(|day| {
        let at = day.to_datetime(start.time());
        let due = at.checked_sub(SignedDuration::from_secs(grace)).ok()?;
        // Of an evaluation that is in doubt itself there is a note already.
        let is_certain = !zone.to_ambiguous_timestamp(at).is_ambiguous();
        let passed = zoned(at)?.as_second() - zoned(due)?.as_second();
        (is_certain && passed != grace).then_some((at, passed))
    })?;
    let (put, side) = if passed < grace { ("forward", "before") } else { ("back", "after") };
    Some(format!(
        "clocks are put {put} between its due time and when it is looked at, {}, in {}: that window ends {} minutes {side} it is \
         due; another time is safer",
        at.strftime("on %Y-%m-%d at %H:%M"),
        zone.iana_name().unwrap_or("UTC"),
        passed.abs_diff(grace) / 60
    ))
}

#[cfg(test)]
mod tests;
