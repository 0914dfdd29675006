//! Finds what has been counted of a file, by its content.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::fingerprint::{Fingerprint, Fingerprinter, WINDOW_BYTES};
use super::import_state::{FileRecord, Id};
use super::record_table::RecordTable;
use redb_file::FileFault;

/// A shorter prefix does not identify a file that has grown: it holds no event (`[`, a newline, a byte order mark), and
/// other files begin with it, too.
const GROWN_BYTES_MIN: u64 = 64;
/// A comparison of more bytes than this takes so long that it is logged.
const TOLD_BYTES: u64 = 1 << 30;

/// Why a file could not be looked up.
#[derive(Debug)]
pub(super) enum FindError {
    /// It can't be read.
    File(io::Error),
    /// The state can't be read.
    State(FileFault),
}

impl From<io::Error> for FindError {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<FileFault> for FindError {
    fn from(fault: FileFault) -> Self {
        Self::State(fault)
    }
}

/// How much of a file has been counted.
#[derive(Debug)]
pub(super) enum Counted {
    /// All of it, and nothing more; this is its print.
    Whole(Fingerprint),
    /// All of it, and more behind it.
    Cut,
    /// A prefix of it; the fingerprinter goes on from there.
    Part(Box<Fingerprinter>),
}

/// The records that fit a file.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// The record that covers most of it.
    pub(super) best: Option<(Id, FileRecord, Counted)>,
    /// All records that the file begins with; only [`find_all`] looks for them.
    pub(super) all: Vec<(Id, FileRecord)>,
    /// An old record of another path that looks as if it were this file's, and can't prove it.
    pub(super) alike: Option<Id>,
}

/// Looks for what was counted of the first `bytes` bytes of `file`. It is read up to the end of the longest record
/// that looks like it, once.
///
/// # Errors
/// When the file can't be read.
pub(super) fn find(
    records: &RecordTable<'_>,
    file: &File,
    bytes: u64,
    path: &str,
) -> Result<Matches, FindError> {
    if bytes <= WINDOW_BYTES as u64
        && let Some((id, record, print)) = whole(records, file, bytes, path)?
    {
        return Ok(Matches { best: Some((id, record, Counted::Whole(print))), ..Matches::default() });
    }
    find_all(records, file, bytes, path)
}

/// The record that covers all of a file: that of its path, else the oldest. Small files may have thousands of copies, so
/// they are not compared with one record after the other.
fn whole(
    records: &RecordTable<'_>,
    file: &File,
    bytes: u64,
    path: &str,
) -> Result<Option<(Id, FileRecord, Fingerprint)>, FindError> {
    let print = Fingerprinter::default().take(file, bytes, &[])?;
    let of_path = records.of_path(path)?;
    let is_it = |(_, FileRecord { mark, .. }): &(Id, FileRecord)| {
        mark.finished && mark.fingerprint.agrees_with(&print)
    };
    let mut found = of_path.into_iter().find(is_it);
    if let (None, Some(whole)) = (&found, &print.whole) {
        found = records.first_alike(&whole.beginnings, |FileRecord { mark, .. }| {
            mark.finished && mark.fingerprint.is_proved_same(&print)
        })?;
    }
    Ok(found.map(|(id, record)| (id, record, print)))
}

/// Does the same, and finds all records that the file begins with.
///
/// # Errors
/// When the file can't be read.
pub(super) fn find_all(
    records: &RecordTable<'_>,
    file: &File,
    bytes: u64,
    path: &str,
) -> Result<Matches, FindError> {
    let candidates = candidates(records, file, bytes, path)?;
    let (mut within, beyond): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|(_, record)| record.mark.fingerprint.end <= bytes);
    let mut known = Matches::default();
    let mut failed = Ok(());
    within.retain(|(id, record)| {
        let (print, is_here) = (&record.mark.fingerprint, record.path == path);
        let is_whole = print.end == bytes && record.mark.finished;
        let may_be = is_here || is_whole || print.end >= GROWN_BYTES_MIN;
        let looks = may_be
            && print.looks_like(file).unwrap_or_else(|error| {
                failed = Err(error);
                false
            });
        if looks && !is_here && print.whole.is_none() {
            known.alike = is_whole.then_some(*id).or(known.alike);
            return false;
        }
        looks
    });
    failed?;
    // The best comes last: the one that covers most, is of this path, and is the oldest.
    within.sort_by_key(|(id, record)| {
        let FileRecord { mark, path: seen, .. } = record;
        (mark.fingerprint.end, mark.finished, seen == path, std::cmp::Reverse(*id))
    });
    let mut prints = Fingerprinter::default();
    if within.last().is_some_and(|(_, record)| record.mark.fingerprint.end > TOLD_BYTES) {
        tracing::info!(file = path, bytes, "this file is compared with what was counted of it");
    }
    for (id, record) in within {
        let print = prints.take(file, record.mark.fingerprint.end, &[])?;
        if record.mark.fingerprint.agrees_with(&print) {
            known.all.push((id, record.clone()));
            let is_whole = print.end == bytes && record.mark.finished;
            let part = || Counted::Part(Box::new(prints.clone().slim()));
            known.best = Some((id, record, if is_whole { Counted::Whole(print) } else { part() }));
        }
    }
    if !beyond.is_empty() && !matches!(known.best, Some((.., Counted::Whole(_)))) {
        let print = prints.take(file, bytes, &[])?;
        let cut = beyond.into_iter().filter(|(_, record)| record.mark.fingerprint.begins_with(&print));
        let cut = cut.max_by_key(|(_, record)| record.path == path);
        known.best = cut.map(|(id, record)| (id, record, Counted::Cut)).or(known.best);
    }
    Ok(known)
}

/// The records whose prefix the file has, and those of its path that are longer than it is: it may have been cut so short
/// that its prefixes can't be compared.
fn candidates(
    records: &RecordTable<'_>,
    file: &File,
    bytes: u64,
    path: &str,
) -> Result<Vec<(Id, FileRecord)>, FindError> {
    let mut head = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(WINDOW_BYTES)];
    file.read_exact_at(&mut head, 0)?;
    let mut candidates = records.of_beginning(&Fingerprinter::beginnings_of(&head))?;
    candidates.extend(records.of_length(bytes)?);
    candidates.extend(records.of_path(path)?);
    // In ascending order of their heads, so that each byte is summed once.
    let window = |record: &FileRecord| {
        usize::try_from(record.mark.fingerprint.end).unwrap_or(usize::MAX).min(WINDOW_BYTES)
    };
    candidates.sort_unstable_by_key(|(id, record)| (window(record), *id));
    candidates.dedup_by_key(|(id, _)| *id);
    let (mut sum, mut at) = (crc32fast::Hasher::new(), 0);
    candidates.retain(|(_, record)| {
        let window = window(record);
        let Some(more) = head.get(at..window) else { return record.path == path };
        sum.update(more);
        at = window;
        sum.clone().finalize() == record.mark.fingerprint.head
    });
    Ok(candidates)
}

/// The oldest record that is proved to cover the same bytes as this one.
///
/// # Errors
/// When the state can't be read.
pub(super) fn first_of(
    records: &RecordTable<'_>,
    record: &FileRecord,
) -> Result<Option<(Id, FileRecord)>, FileFault> {
    let print = &record.mark.fingerprint;
    let Some(whole) = &print.whole else { return Ok(None) };
    records.first_alike(&whole.beginnings, |other| other.mark.fingerprint.is_proved_same(print))
}

#[cfg(test)]
mod tests {
    use super::super::import_state::Mark;
    use super::*;
    use crate::content::FileLayout;

    fn file(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn record(path: &str, content: &[u8]) -> FileRecord {
        let fingerprint = Fingerprinter::default().take(&file(content), content.len() as u64, &[]).unwrap();
        let position = fingerprint.end;
        let mark = Mark { layout: FileLayout::Lines, position, finished: true, container: 0, fingerprint };
        FileRecord { path: path.to_owned(), mark, changed: None, settled_at: 0 }
    }

    fn held(records: &[FileRecord]) -> RecordTable<'static> {
        let mut table = RecordTable::held();
        for record in records {
            table.add(record).unwrap();
        }
        table
    }

    /// The record that says most of a file: its id, and how.
    fn best(records: &[FileRecord], content: &[u8], path: &str) -> Option<(Id, &'static str)> {
        let known = find(&held(records), &file(content), content.len() as u64, path).unwrap();
        known.best.map(|(id, _, counted)| match counted {
            Counted::Whole(_) => (id, "whole"),
            Counted::Cut => (id, "cut"),
            Counted::Part(_) => (id, "part"),
        })
    }

    #[test]
    fn what_says_most_of_a_file_is_found_whatever_its_path() {
        let content: Vec<u8> = (0..60_000_u32).flat_map(u32::to_le_bytes).collect();
        let [short, middle, long] = [1_000, 100_000, 240_000].map(|bytes| record("/x", &content[..bytes]));
        let records = [short, middle, long];
        for (bytes, found) in [
            (999, None),
            (1_000, Some((0, "whole"))),
            (50_000, Some((0, "part"))),
            (90_000, Some((2, "cut"))),
            (100_000, Some((1, "whole"))),
            (100_001, Some((2, "cut"))),
            (240_000, Some((2, "whole"))),
        ] {
            assert_eq!(best(&records, &content[..bytes], "/y"), found, "{bytes}");
        }
        // Of its own path, what is cut so short is known, too.
        assert_eq!(best(&records[..1], &content[..999], "/x"), Some((0, "cut")));
        assert_eq!(best(&records, &content[4..], "/x"), None);
    }

    #[test]
    fn the_oldest_of_the_same_is_named_and_that_of_the_path_is_preferred() {
        let content = b"0123456789".repeat(10);
        let records = ["/a", "/b", "/c"].map(|path| record(path, &content));
        assert_eq!(best(&records, &content, "/d"), Some((0, "whole")));
        assert_eq!(best(&records, &content, "/b"), Some((1, "whole")));
    }

    #[test]
    fn what_holds_no_event_is_the_beginning_of_no_other_file() {
        assert_eq!(best(&[record("/a", b"\n")], b"\n[{}, {}]", "/b"), None);
        assert_eq!(best(&[record("/a", b"\n")], b"\n[{}, {}]", "/a"), Some((0, "part")));
    }

    /// What is found first says the same of a file as all that can be found.
    #[test]
    fn the_first_that_covers_all_of_a_file_is_the_best() {
        let content = b"0123456789".repeat(10);
        let unfinished = |mut record: FileRecord| {
            record.mark.finished = false;
            record
        };
        let unproved = |mut record: FileRecord| {
            record.mark.fingerprint.whole = None;
            record
        };
        let records = [
            unfinished(record("/a", &content)),
            record("/b", &content[..70]),
            unproved(record("/c", &content)),
            record("/d", &content),
            record("/e", &content),
            record("/e", &content),
            record("/f", &[&content[..], b"more"].concat()),
            record("/g", b""),
        ];
        let table = held(&records);
        for content in [&content, &content[..70], &content[..80], b"", b"x"] {
            for path in ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"] {
                let [found, of_all] = [find, find_all].map(|find| {
                    let known = find(&table, &file(content), content.len() as u64, path).unwrap();
                    (
                        known.best.map(|(id, record, counted)| (id, record, format!("{counted:?}"))),
                        known.alike,
                    )
                });
                assert_eq!(found, of_all, "{path} {}", content.len());
            }
        }
    }

    /// Thousands of copies of a file without an event, say: none but one is looked at.
    #[test]
    fn of_many_copies_of_a_small_file_the_one_of_its_path_or_the_oldest_is_the_best() {
        let content = b"{\"message\":\"no data\"}\n";
        let records: Vec<_> = (0..20_000).map(|number| record(&format!("/{number}"), content)).collect();
        let (table, file) = (held(&records), file(content));
        for (path, id) in [("/x", 0), ("/19999", 19_999)] {
            let best = find(&table, &file, content.len() as u64, path).unwrap().best;
            assert!(matches!(best, Some((found, _, Counted::Whole(_))) if found == id), "{best:?}");
            assert_eq!(first_of(&table, &records[19_999]).unwrap().map(|(id, _)| id), Some(0));
        }
    }

    /// A year of small files that all begin alike, as Avro containers with their schema do.
    #[test]
    fn many_files_that_begin_alike_are_not_compared_one_by_one() {
        let schema = b"schema".repeat(800);
        let content = |number: u64| {
            let noise = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            let events = 50 + usize::try_from(number % 200).unwrap();
            [&*schema, &noise.repeat(events)].concat()
        };
        let records: Vec<_> = (0..20_000).map(|number| record("/x", &content(number))).collect();
        let table = held(&records);
        let other = content(1_000_000);
        let other_file = file(&other);
        let compared = candidates(&table, &other_file, other.len() as u64, "/y").unwrap();
        assert_eq!(compared.len(), 0);
    }
}
