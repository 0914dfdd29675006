//! Reads the paths of objects: Braze's Currents writes `…/event_type=users.messages.email.Send/date=2026-11-27-10/…`, Amazon
//! Data Firehose `…/2026/11/27/10/…`, and Azure Event Hubs Capture `…/2026/11/27/10/05/00…`. Pure.
//!
//! Sources: <https://www.braze.com/docs/user_guide/data/distribution/braze_currents/how_braze_uses_currents> ("Avro"),
//! <https://docs.aws.amazon.com/firehose/latest/dev/s3-prefixes.html>,
//! <https://learn.microsoft.com/en-us/azure/event-hubs/event-hubs-capture-overview>.

use jiff::tz::TimeZone;
use object_store::path::Path;

use crate::event_type::EVENT_TYPE;

/// The prefix of a path part that names the hour (UTC) of the objects below it.
const DATE: &str = "date=";

const SECONDS: i64 = 3600;

/// How a path names an hour (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HourForm {
    /// `date=2026-11-27-10`, or `date=2026-11-27` for a day.
    Date,
    /// `2026/11/27/10`.
    Slashes,
}

/// An hour, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathHour(pub(super) i64);

impl PathHour {
    /// The hour that a Unix second lies in.
    pub(super) fn of(seconds: i64) -> Self {
        Self(seconds.div_euclid(SECONDS))
    }

    /// The hour that a path names, if any; for a day without an hour, its last: until then it may grow.
    pub(super) fn in_path(path: &Path) -> Option<Self> {
        let mut parts = path.as_ref().split('/');
        parts.clone().find_map(Self::in_part).or_else(|| {
            loop {
                match Self::in_slashes(parts.clone()) {
                    None => parts.next()?,
                    hour => return hour,
                };
            }
        })
    }

    /// Whether the parts below a level begin with an hour in slashes.
    pub(super) fn is_below(level: &Path, path: &Path) -> bool {
        path.as_ref()
            .strip_prefix(level.as_ref())
            .and_then(|below| Self::in_slashes(below.trim_start_matches('/').split('/')))
            .is_some()
    }

    fn in_slashes<'p>(mut parts: impl Iterator<Item = &'p str>) -> Option<Self> {
        let year = parts.next().filter(|year| year.len() == 4 && is_period(year))?.parse().ok()?;
        let mut two = || parts.next().and_then(two_digits);
        let day = jiff::civil::Date::new(year, two()?, two()?).ok()?;
        Self::on(day, two()?)
    }

    fn on(day: jiff::civil::Date, hour: i8) -> Option<Self> {
        let time = jiff::civil::Time::new(hour, 0, 0, 0).ok()?;
        let time = TimeZone::UTC.to_timestamp(day.to_datetime(time)).ok()?;
        Some(Self::of(time.as_second()))
    }

    /// The hour that a part of a path names.
    pub(super) fn in_part(part: &str) -> Option<Self> {
        let date = part.strip_prefix(DATE)?;
        let (day, hour) = match date.get(10..)? {
            "" => (date, 23),
            rest => (&date[..10], two_digits(rest.strip_prefix('-')?)?),
        };
        Self::on(day.parse().ok()?, hour)
    }

    /// The path of this hour below a level.
    pub(super) fn below(self, level: &Path, form: HourForm) -> Path {
        let format = match form {
            HourForm::Date => "date=%Y-%m-%d-%H",
            HourForm::Slashes => "%Y/%m/%d/%H",
        };
        let second = self.0.saturating_mul(SECONDS);
        let time = jiff::Timestamp::from_second(second).unwrap_or_default();
        let name = TimeZone::UTC.to_datetime(time).strftime(format).to_string();
        name.split('/').fold(level.clone(), Path::join)
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

/// Whether a name is a year, or a period of one, in another form than [`DATE`]: `2026`, `2026-11-27`, `20261127`, `year=2026`.
fn is_period(name: &str) -> bool {
    let value = name.rsplit('=').next().unwrap_or_default();
    let is_written = |byte: u8| byte.is_ascii_digit() || b"-_T:".contains(&byte);
    let has_year = value.get(..4).is_some_and(|year| year.bytes().all(|byte| byte.is_ascii_digit()));
    if !has_year || !value.starts_with('2') || !value.bytes().all(is_written) {
        return false;
    }
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    let is_within = |at: usize, last: u8| {
        digits
            .get(at..at + 2)
            .is_none_or(|part| part.parse().is_ok_and(|part: u8| (1..=last).contains(&part)))
    };
    [4, 6, 8, 10, 12, 14].contains(&digits.len()) && is_within(4, 12) && is_within(6, 31)
}

/// The meaning of a path's last part for a listing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PathPart<'a> {
    /// All events below are of this type.
    EventType(&'a str),
    /// All events below are of one hour.
    Hour(PathHour),
    /// All events below are of a year, or of a period of one.
    Period,
    /// Left by an unfinished writer, or by a tool (`_SUCCESS`, `.tmp`): passed.
    Hidden,
    /// Anything else: its children tell.
    Other,
}

impl<'a> PathPart<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        if let Some(event_type) = name.strip_prefix(EVENT_TYPE).filter(|name| !name.is_empty()) {
            return Self::EventType(event_type);
        }
        match PathHour::in_part(name) {
            Some(hour) => Self::Hour(hour),
            None if name.starts_with(['.', '_']) => Self::Hidden,
            None if is_period(name) => Self::Period,
            None => Self::Other,
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

    /// The name of an hour below a level.
    fn name(hour: PathHour) -> String {
        hour.below(&Path::from("a"), HourForm::Date).to_string().split_off(2)
    }

    #[test]
    fn an_hour_is_read_from_a_path_and_written_as_a_part_of_one() {
        let path = Path::from("currents/event_type=users.messages.email.Send/date=2026-11-27-10/a.avro");
        let hour = PathHour::in_path(&path).unwrap();
        assert_eq!(name(hour), "date=2026-11-27-10");
        assert_eq!(hour, PathHour::of(1_795_773_600 + 3599));
        assert_eq!(name(hour.before(3600)), "date=2026-11-27-09");
        assert_eq!(name(hour.before(1)), "date=2026-11-27-09");
        assert_eq!(name(PathHour::in_part("date=2026-11-27").unwrap()), "date=2026-11-27-23");
        for slashes in ["2026/11/27/10/a.gz", "space/hub/0/2026/11/27/10/05/00.avro", "7/2026/11/27/10"] {
            assert_eq!(PathHour::in_path(&Path::from(slashes)), Some(hour), "{slashes}");
        }
        let level = Path::from("space/hub/0");
        let slashes = hour.below(&level, HourForm::Slashes);
        assert_eq!(slashes.as_ref(), "space/hub/0/2026/11/27/10");
        assert!(PathHour::is_below(&level, &slashes) && !PathHour::is_below(&Path::from("space"), &slashes));
        assert!(PathHour::is_below(&Path::default(), &Path::from("2026/11/27/10/a")));
        for other in [
            "2026/11/27/a",
            "2026/11/27/24/a",
            "2026/13/27/10/a",
            "2026/1/27/10/a",
            "2026/11/27-10/a",
            "1826/11/27/10/a",
            "year=2026/11/27/10/a",
        ] {
            assert_eq!(PathHour::in_path(&Path::from(other)), None, "{other}");
        }
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
            ("date=2026-11-27-10", PathPart::Hour(PathHour::of(1_795_773_600))),
            ("date=soon", PathPart::Other),
            ("2026", PathPart::Period),
            ("year=2026", PathPart::Period),
            ("dt=2026-11-27", PathPart::Period),
            ("20261127", PathPart::Period),
            ("2026-11-27T10:05", PathPart::Period),
            ("0", PathPart::Other),
            ("1024", PathPart::Other),
            ("20269127", PathPart::Other),
            ("202611270", PathPart::Other),
            ("2026-black-friday", PathPart::Other),
            ("20-26", PathPart::Other),
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
