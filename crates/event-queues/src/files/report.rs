//! Reports of an import on its files before it starts.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::import_state::Mark;

/// A report on one of the given files. `Display` is the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileReport {
    /// The file has been counted to its end and is passed.
    #[error("{} was counted on {}, {bytes} bytes; use --again to count it anew", path.display(), utc(*.settled_at))]
    Counted {
        /// As it was given.
        path: PathBuf,
        /// Its size on disk.
        bytes: u64,
        /// When its last event was settled, in Unix seconds.
        settled_at: u64,
    },
    /// The file has been counted to its end where it lay before, and is passed.
    #[error(
        "{} was counted on {} as {}, {bytes} bytes; use --again to count it anew",
        path.display(), utc(*.settled_at), before.display()
    )]
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
    #[error(
        "{} holds the same {bytes} bytes as {}, which was {}; it is passed; use --again to count it too",
        path.display(), of.display(), read_or_counted(*.settled_at)
    )]
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
    /// The file is a prefix of what was counted; nothing in it is new, and it is passed.
    #[error(
        "{} holds the first {bytes} of {counted} bytes that were counted of {}; nothing in it is new; use --again to \
         count it anew",
        path.display(), of.display()
    )]
    CutShort {
        /// As it was given.
        path: PathBuf,
        /// The last known place of what was counted.
        of: PathBuf,
        /// Its size on disk.
        bytes: u64,
        /// How many bytes of the file on disk have been counted.
        counted: u64,
    },
    /// An import of the file was interrupted; it goes on where the settled flushes ended.
    #[error(
        "{} was counted{} up to byte {position} of its content; the import goes on there",
        path.display(), elsewhere(.before.as_deref())
    )]
    Continued {
        /// As it was given.
        path: PathBuf,
        /// Where it lay then, if elsewhere.
        before: Option<PathBuf>,
        /// The position in its uncompressed content.
        position: u64,
    },
    /// The file has been counted to its end and has grown since; what was added is counted.
    #[error(
        "{} was counted{} and has grown since; the import goes on at byte {position} of its content",
        path.display(), elsewhere(.before.as_deref())
    )]
    Grown {
        /// As it was given.
        path: PathBuf,
        /// Where it lay then, if elsewhere.
        before: Option<PathBuf>,
        /// The position in its uncompressed content.
        position: u64,
    },
    /// The file begins with what was counted, which was read line by line and held no event, because it was cut off.
    #[error(
        "{} begins with what was counted as {}, in which there was no event, because it was cut off; it is counted from \
         the start",
        path.display(), of.display()
    )]
    Misread {
        /// As it was given.
        path: PathBuf,
        /// Where the beginning was seen last.
        of: PathBuf,
    },
    /// Another content is remembered under this path; the file is counted from its start.
    #[error("{} is not the file that was counted under this name; it is counted from the start", path.display())]
    Changed {
        /// As it was given.
        path: PathBuf,
    },
    /// The file may have been counted under another path by an earlier version, which kept no proof; it is counted.
    #[error(
        "{} may be {}, counted on {} by an earlier version, which did not keep what would prove it; it is counted from \
         the start",
        path.display(), of.display(), utc(*.settled_at)
    )]
    Alike {
        /// As it was given.
        path: PathBuf,
        /// The other path.
        of: PathBuf,
        /// When the last event of the other one was settled, in Unix seconds.
        settled_at: u64,
    },
    /// An entry of a directory that can't be imported; all others are, and the run fails at its end.
    #[error("cannot import {}: {problem}", path.display())]
    LeftOut {
        /// As it was found.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A directory with entries that are not imported, for their names begin with `_` or `.`.
    #[error(
        "{} holds {} with a name that begins with _ or . (not imported, nor is anything below); to import them, name \
         them one by one",
        path.display(), entries_of(*.entries)
    )]
    Hidden {
        /// As it was given.
        path: PathBuf,
        /// How many files and directories they are.
        entries: usize,
    },
    /// A directory in which there is nothing to import.
    #[error("{} holds no files to import", path.display())]
    Empty {
        /// As it was given.
        path: PathBuf,
    },
}

impl FileReport {
    /// Report for a file that is read on from `mark`.
    pub(super) fn going_on(path: &Path, before: Option<PathBuf>, mark: &Mark) -> Self {
        let (path, position) = (path.to_owned(), mark.position);
        if mark.finished {
            FileReport::Grown { path, before, position }
        } else {
            FileReport::Continued { path, before, position }
        }
    }
}

/// ` as …`, or nothing.
fn elsewhere(before: Option<&Path>) -> String {
    before.map_or_else(String::new, |path| format!(" as {}", path.display()))
}

fn entries_of(entries: usize) -> String {
    if entries == 1 { "one entry".to_owned() } else { format!("{entries} entries") }
}

fn read_or_counted(settled_at: Option<u64>) -> String {
    settled_at.map_or_else(|| "read before it".to_owned(), |seconds| format!("counted on {}", utc(seconds)))
}

/// Unix seconds as `2026-11-22T10:00:00Z`.
fn utc(seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
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
            assert_eq!(utc(unix).to_string(), text);
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
