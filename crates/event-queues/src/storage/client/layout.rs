//! Reads the paths of objects: Braze's Currents writes `…/event_type=users.messages.email.Send/date=2026-11-27-10/…`. Pure.
//!
//! Source: <https://www.braze.com/docs/user_guide/data/distribution/braze_currents/how_braze_uses_currents> ("Avro").

use std::fmt;

use jiff::tz::TimeZone;
use object_store::path::Path;

/// The prefix of a path part that names the event type of the objects below it.
pub(super) const EVENT_TYPE: &str = "event_type=";
/// The prefix of a path part that names the hour (UTC) of the objects below it.
const DATE: &str = "date=";

const SECONDS: i64 = 3600;

/// An hour, counted from 1970. `Display` is the part of a path that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathHour(pub(super) i64);

impl PathHour {
    /// The hour that a Unix second lies in.
    pub(super) fn of(seconds: i64) -> Self {
        Self(seconds.div_euclid(SECONDS))
    }

    /// The hour that a path names, if any; for a day without an hour, its last: until then it may grow.
    pub(super) fn in_path(path: &Path) -> Option<Self> {
        path.parts().find_map(|part| Self::in_part(part.as_ref()))
    }

    /// The hour that a part of a path names.
    pub(super) fn in_part(part: &str) -> Option<Self> {
        let date = part.strip_prefix(DATE)?;
        let (day, hour) = match date.get(10..)? {
            "" => (date, 23),
            rest => (&date[..10], two_digits(rest.strip_prefix('-')?).filter(|hour| *hour < 24)?),
        };
        let day: jiff::civil::Date = day.parse().ok()?;
        let time = TimeZone::UTC.to_timestamp(day.at(hour, 0, 0, 0)).ok()?;
        Some(Self::of(time.as_second()))
    }

    /// So many seconds earlier.
    pub(super) fn before(self, seconds: u64) -> Self {
        Self(self.0 - i64::try_from(seconds.div_ceil(SECONDS.unsigned_abs())).unwrap_or(i64::MAX / 2))
    }
}

/// The number that exactly two digits write.
fn two_digits(text: &str) -> Option<i8> {
    let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

impl fmt::Display for PathHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0.saturating_mul(SECONDS);
        let time = jiff::Timestamp::from_second(second).unwrap_or_default();
        write!(f, "{DATE}{}", TimeZone::UTC.to_datetime(time).strftime("%Y-%m-%d-%H"))
    }
}

/// The meaning of a path's last part for a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathPart<'a> {
    /// All events below are of this type.
    EventType(&'a str),
    /// All events below are of one hour.
    Hour,
    /// Left by an unfinished writer, or by a tool (`_SUCCESS`, `.tmp`): passed.
    Hidden,
    /// Anything else: its children tell.
    Other,
}

impl<'a> PathPart<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        match name.strip_prefix(EVENT_TYPE) {
            Some(event_type) if !event_type.is_empty() => Self::EventType(event_type),
            _ if PathHour::in_part(name).is_some() => Self::Hour,
            _ if name.starts_with(['.', '_']) => Self::Hidden,
            _ => Self::Other,
        }
    }
}

/// Whether a part of the path below `prefix` marks it as hidden.
pub(super) fn is_hidden(path: &Path, prefix: &Path) -> bool {
    path.prefix_match(prefix)
        .is_some_and(|mut parts| parts.any(|part| PathPart::of(part.as_ref()) == PathPart::Hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_read_from_a_path_and_written_as_a_part_of_one() {
        let path = Path::from("currents/event_type=users.messages.email.Send/date=2026-11-27-10/a.avro");
        let hour = PathHour::in_path(&path).unwrap();
        assert_eq!(hour.to_string(), "date=2026-11-27-10");
        assert_eq!(hour, PathHour::of(1_795_773_600 + 3599));
        assert_eq!(hour.before(3600).to_string(), "date=2026-11-27-09");
        assert_eq!(hour.before(1).to_string(), "date=2026-11-27-09");
        assert_eq!(PathHour::in_part("date=2026-11-27").unwrap().to_string(), "date=2026-11-27-23");
        for other in [
            "date=",
            "date=2026-11-27-24",
            "date=2026-11-27-",
            "date=2026-11-27--1",
            "date=2026-11-27--24",
            "date=2026-11-27-+5",
            "date=2026-11-27-5",
            "date=2026-11-27-005",
            "date=2026-13-27-10",
            "2026-11-27-10",
            "date=ü026-11-27-10",
        ] {
            assert_eq!(PathHour::in_part(other), None, "{other}");
        }
    }

    #[test]
    fn the_name_of_an_hour_sorts_before_the_whole_day_and_after_the_hour_before() {
        let names = ["date=2026-11-26-23", "date=2026-11-27-00", "date=2026-11-27-10", "date=2026-11-27/a"];
        assert!(names.is_sorted());
    }

    #[test]
    fn parts_are_told_apart() {
        for (name, part) in [
            ("event_type=users.messages.sms.Send", PathPart::EventType("users.messages.sms.Send")),
            ("event_type=", PathPart::Other),
            ("date=2026-11-27-10", PathPart::Hour),
            ("date=soon", PathPart::Other),
            ("_SUCCESS", PathPart::Hidden),
            (".part-1.avro.crc", PathPart::Hidden),
            ("dataexport.prod-01.S3.integration.5f3e", PathPart::Other),
        ] {
            assert_eq!(PathPart::of(name), part, "{name}");
        }
        let hidden = |path: &str| is_hidden(&Path::from(path), &Path::from("_a"));
        assert!(hidden("_a/_temporary/x") && !hidden("_a/b/x"), "what was named by the user is no secret");
    }
}
