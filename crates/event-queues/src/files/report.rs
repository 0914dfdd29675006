//! What an import has to say about its files before it starts.

use std::fmt;
use std::path::{Path, PathBuf};

use super::import_state::Mark;

/// Something about one of the given files that a person should know. `Display` is the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileReport {
    /// The file has been counted to its end and is passed.
    Counted {
        /// As it was given.
        path: PathBuf,
        /// Its size on disk.
        bytes: u64,
        /// When its last event was settled, in Unix seconds.
        settled_at: u64,
    },
    /// The file has been counted to its end where it lay before, and is passed.
    Renamed {
        /// As it was given.
        path: PathBuf,
        /// Where it lay when it was counted.
        before: PathBuf,
        /// Its size on disk.
        bytes: u64,
        /// When its last event was settled, in Unix seconds.
        settled_at: u64,
    },
    /// The file holds the same bytes as another one, which has been counted to its end, and is passed.
    Copied {
        /// As it was given.
        path: PathBuf,
        /// The other one.
        of: PathBuf,
        /// Their size on disk.
        bytes: u64,
        /// When the last event of the other one was settled, in Unix seconds; none if the present run has read it.
        settled_at: Option<u64>,
    },
    /// The file is a beginning of what was counted; nothing in it is new, and it is passed.
    CutShort {
        /// As it was given.
        path: PathBuf,
        /// Where what was counted was seen last.
        of: PathBuf,
        /// Its size on disk.
        bytes: u64,
        /// How many bytes of the file on disk have been counted.
        counted: u64,
    },
    /// An import of the file was interrupted; it goes on where the settled flushes ended.
    Continued {
        /// As it was given.
        path: PathBuf,
        /// Where it lay then, if that was elsewhere.
        before: Option<PathBuf>,
        /// The position in its uncompressed content.
        position: u64,
    },
    /// The file has been counted to its end and has grown since; what was added is counted.
    Grown {
        /// As it was given.
        path: PathBuf,
        /// Where it lay then, if that was elsewhere.
        before: Option<PathBuf>,
        /// The position in its uncompressed content.
        position: u64,
    },
    /// Another content is remembered under this path; the file is counted from its start.
    Changed {
        /// As it was given.
        path: PathBuf,
    },
    /// The file may have been counted under another path by an earlier version, which did not keep what would prove it;
    /// it is counted.
    Alike {
        /// As it was given.
        path: PathBuf,
        /// The other path.
        of: PathBuf,
        /// When the last event of the other one was settled, in Unix seconds.
        settled_at: u64,
    },
    /// An entry of a directory that can't be imported; all others are, and the run fails at its end.
    LeftOut {
        /// As it was found.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A directory in which there is nothing to import.
    Empty {
        /// As it was given.
        path: PathBuf,
    },
}

impl FileReport {
    /// That a file, of which this much has been counted, goes on.
    pub(super) fn going_on(path: &Path, before: Option<PathBuf>, mark: &Mark) -> Self {
        let (path, position) = (path.to_owned(), mark.position);
        if mark.finished {
            FileReport::Grown { path, before, position }
        } else {
            FileReport::Continued { path, before, position }
        }
    }
}

/// ` as …`, if there is something to say.
struct As<'p>(Option<&'p Path>);

impl fmt::Display for As<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |path| write!(f, " as {}", path.display()))
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileReport::Counted { path, bytes, settled_at } => write!(
                f,
                "{} was counted on {}, {bytes} bytes; use --again to count it anew",
                path.display(),
                Utc(*settled_at)
            ),
            FileReport::Renamed { path, before, bytes, settled_at } => write!(
                f,
                "{} was counted on {} as {}, {bytes} bytes; use --again to count it anew",
                path.display(),
                Utc(*settled_at),
                before.display()
            ),
            FileReport::Copied { path, of, bytes, settled_at } => {
                write!(f, "{} holds the same {bytes} bytes as {}, which was ", path.display(), of.display())?;
                match settled_at {
                    Some(settled_at) => write!(f, "counted on {}", Utc(*settled_at))?,
                    None => f.write_str("read before it")?,
                }
                f.write_str("; it is passed; use --again to count it too")
            }
            FileReport::CutShort { path, of, bytes, counted } => write!(
                f,
                "{} holds the first {bytes} of {counted} bytes that were counted of {}; nothing in it is new; use \
                 --again to count it anew",
                path.display(),
                of.display()
            ),
            FileReport::Continued { path, before, position } => write!(
                f,
                "{} was counted{} up to byte {position} of its content; the import goes on there",
                path.display(),
                As(before.as_deref())
            ),
            FileReport::Grown { path, before, position } => write!(
                f,
                "{} was counted{} and has grown since; the import goes on at byte {position} of its content",
                path.display(),
                As(before.as_deref())
            ),
            FileReport::Alike { path, of, settled_at } => write!(
                f,
                "{} may be {}, counted on {} by an earlier version, which did not keep what would prove it; it is \
                 counted from the start",
                path.display(),
                of.display(),
                Utc(*settled_at)
            ),
            FileReport::Changed { path } => write!(
                f,
                "{} is not the file that was counted under this name; it is counted from the start",
                path.display()
            ),
            FileReport::LeftOut { path, problem } => write!(f, "cannot import {}: {problem}", path.display()),
            FileReport::Empty { path } => write!(f, "{} holds no files to import", path.display()),
        }
    }
}

/// Unix seconds as `2026-11-22T10:00:00Z`.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts days in years that begin in March, so that the leap day comes last.
        // Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
        let (days, second) = (self.0 / 86_400 + 719_468, self.0 % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_341_600, "2026-11-22T10:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Utc(unix).to_string(), text);
        }
    }

    #[test]
    fn a_file_that_lay_elsewhere_is_told_with_both_names() {
        let (path, of): (PathBuf, PathBuf) = ("b".into(), "a".into());
        let (bytes, settled_at, position) = (12, 1_795_341_600, 7);
        let before = of.clone();
        for (report, text) in [
            (
                FileReport::Renamed { path: path.clone(), before: of.clone(), bytes, settled_at },
                "b was counted on 2026-11-22T10:00:00Z as a, 12 bytes; use --again to count it anew",
            ),
            (
                FileReport::Copied {
                    path: path.clone(),
                    of: of.clone(),
                    bytes,
                    settled_at: Some(settled_at),
                },
                "b holds the same 12 bytes as a, which was counted on 2026-11-22T10:00:00Z; it is passed; use --again \
                 to count it too",
            ),
            (
                FileReport::Copied { path: path.clone(), of: of.clone(), bytes, settled_at: None },
                "b holds the same 12 bytes as a, which was read before it; it is passed; use --again to count it too",
            ),
            (
                FileReport::CutShort { path: path.clone(), of, bytes, counted: 24 },
                "b holds the first 12 of 24 bytes that were counted of a; nothing in it is new; use --again to count it \
                 anew",
            ),
            (
                FileReport::Grown { path, before: Some(before), position },
                "b was counted as a and has grown since; the import goes on at byte 7 of its content",
            ),
        ] {
            assert_eq!(report.to_string(), text);
        }
    }

    #[test]
    fn a_passed_file_is_told_with_its_time_and_size() {
        let report = FileReport::Counted { path: "a.json".into(), bytes: 12, settled_at: 1_795_341_600 };
        let text = "a.json was counted on 2026-11-22T10:00:00Z, 12 bytes; use --again to count it anew";
        assert_eq!(report.to_string(), text);
    }
}
