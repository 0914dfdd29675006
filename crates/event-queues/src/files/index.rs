//! Finds what has been counted of a file, by what is in it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use twox_hash::XxHash3_128;

use super::fingerprint::{DIGITS_MAX, Fingerprint, Fingerprinter, WINDOW_BYTES};
use super::import_state::{FileRecord, Id};

/// What begins another file, too, and is shorter than that, does not make it the same file that has grown: it holds no
/// event (`[`, a newline, a byte order mark).
const GROWN_BYTES_MIN: u64 = 64;
/// To compare more than this takes so long that it is told.
const TOLD_BYTES: u64 = 1 << 30;

/// Which records may be of a file: those whose beginning it has, and those of its path.
///
/// A file is looked up with each beginning of its own, a hundred and sixty at most, however many records there are.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By the hash of what their first 64 KiB look like.
    beginnings: HashMap<u128, Vec<Id>>,
    /// Of earlier versions, which kept nothing of beginnings: by length.
    old: HashMap<u64, Vec<Id>>,
    paths: HashMap<String, Vec<Id>>,
}

/// How much of a file has been counted.
#[derive(Debug)]
pub(super) enum Counted {
    /// All of it, and no more; this is its print.
    Whole(Fingerprint),
    /// All of it, and what followed.
    Cut,
    /// What it begins with; prints can be taken on from there.
    Part(Box<Fingerprinter>),
}

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// The record that says most of it.
    pub(super) best: Option<(Id, FileRecord, Counted)>,
    /// All records that the file begins with.
    pub(super) all: Vec<Id>,
    /// An old record of another path that looks as if it were this file's, and can't prove it.
    pub(super) alike: Option<Id>,
}

impl Index {
    pub(super) fn of(records: &BTreeMap<Id, FileRecord>) -> Self {
        let mut index = Self::default();
        for (id, record) in records {
            index.add(*id, record);
        }
        index
    }

    pub(super) fn add(&mut self, id: Id, record: &FileRecord) {
        let print = &record.mark.fingerprint;
        match &print.whole {
            Some(whole) => self.beginnings.entry(key(&whole.beginnings)).or_default().push(id),
            None => self.old.entry(print.end).or_default().push(id),
        }
        self.add_path(id, &record.path);
    }

    /// The record is known under this path, too.
    pub(super) fn add_path(&mut self, id: Id, path: &str) {
        self.paths.entry(path.to_owned()).or_default().push(id);
    }

    /// Records that were made for this path, and may have been given another since.
    pub(super) fn of_path<'r>(
        &'r self,
        path: &'r str,
        records: &'r BTreeMap<Id, FileRecord>,
    ) -> impl Iterator<Item = (Id, &'r FileRecord)> {
        let ids = self.paths.get(path).map(Vec::as_slice).unwrap_or_default();
        let records = ids.iter().filter_map(|id| Some((*id, records.get(id)?)));
        records.filter(move |(_, record)| record.path == path)
    }

    /// The oldest record that is proved to be of the same bytes as this one.
    pub(super) fn first_of(&self, record: &FileRecord, records: &BTreeMap<Id, FileRecord>) -> Option<Id> {
        let print = &record.mark.fingerprint;
        let alike = self.beginnings.get(&key(&print.whole.as_ref()?.beginnings))?;
        let same =
            |id: &&Id| records.get(id).is_some_and(|other| other.mark.fingerprint.is_proved_same(print));
        alike.iter().filter(same).min().copied()
    }

    /// Looks for what was counted of the first `bytes` bytes of `file`. It is read up to the end of the longest record
    /// that looks like it, once.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn find(
        &self,
        records: &BTreeMap<Id, FileRecord>,
        file: &File,
        bytes: u64,
        path: &str,
    ) -> io::Result<Matches> {
        let candidates = self.candidates(records, file, bytes, path)?;
        let (mut within, beyond): (Vec<_>, Vec<_>) =
            candidates.partition(|(_, record)| record.mark.fingerprint.end <= bytes);
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
        // The best comes last: what says most, is of this path, and is the oldest.
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
                known.all.push(id);
                let is_whole = print.end == bytes && record.mark.finished;
                let part = || Counted::Part(Box::new(prints.clone().slim()));
                known.best =
                    Some((id, record.clone(), if is_whole { Counted::Whole(print) } else { part() }));
            }
        }
        if !beyond.is_empty() && !matches!(known.best, Some((.., Counted::Whole(_)))) {
            let print = prints.take(file, bytes, &[])?;
            let cut = beyond.into_iter().filter(|(_, record)| record.mark.fingerprint.begins_with(&print));
            let cut = cut.max_by_key(|(_, record)| record.path == path);
            known.best = cut.map(|(id, record)| (id, record.clone(), Counted::Cut)).or(known.best);
        }
        Ok(known)
    }

    /// The records whose beginning the file has, and those of its path that are longer than it is: it may have been cut
    /// so short that its beginning can't be compared.
    fn candidates<'r>(
        &self,
        records: &'r BTreeMap<Id, FileRecord>,
        file: &File,
        bytes: u64,
        path: &str,
    ) -> io::Result<impl Iterator<Item = (Id, &'r FileRecord)> + use<'r>> {
        let mut head = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(WINDOW_BYTES)];
        file.read_exact_at(&mut head, 0)?;
        let digits = Fingerprinter::beginnings_of(&head);
        let lengths = 0..=digits.len();
        let ids = lengths.filter_map(|length| self.beginnings.get(&key(&digits[..length]))).flatten();
        let of_path = self.of_path(path, records).map(|(id, _)| id);
        let mut ids: Vec<Id> = ids.chain(self.old.get(&bytes).into_iter().flatten()).copied().collect();
        ids.extend(of_path);
        let mut candidates: Vec<_> = ids.into_iter().filter_map(|id| Some((id, records.get(&id)?))).collect();
        // In the order of their beginnings, so that these are summed up once.
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
        Ok(candidates.into_iter())
    }
}

/// What stands for the digits of beginnings, as far as they are of the first 64 KiB.
fn key(beginnings: &str) -> u128 {
    XxHash3_128::oneshot(beginnings.get(..DIGITS_MAX).unwrap_or(beginnings).as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

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

    /// The record that says most of a file: its id, and how.
    fn best(records: &[FileRecord], content: &[u8], path: &str) -> Option<(Id, &'static str)> {
        let records: BTreeMap<Id, FileRecord> = (0..).zip(records.iter().cloned()).collect();
        let known = Index::of(&records).find(&records, &file(content), content.len() as u64, path).unwrap();
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

    /// A year of small files that all begin alike, as Avro containers with their schema do: another one is looked up in
    /// a fraction of the time that reading it takes.
    #[test]
    fn many_files_that_begin_alike_are_not_compared_one_by_one() {
        let schema = b"schema".repeat(800);
        let content = |number: u64| {
            let noise = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
            let events = 50 + usize::try_from(number % 200).unwrap();
            [&*schema, &noise.repeat(events)].concat()
        };
        let records: BTreeMap<Id, FileRecord> =
            (0..20_000).map(|number| (number, record("/x", &content(number)))).collect();
        let index = Index::of(&records);
        let other = content(1_000_000);
        let other_file = file(&other);
        let started = Instant::now();
        let compared: usize = (0..100)
            .map(|_| {
                let of = index.candidates(&records, &other_file, other.len() as u64, "/y").unwrap();
                of.count()
            })
            .sum();
        assert_eq!(compared, 0);
        let each = started.elapsed() / 100;
        assert!(each.as_micros() < 5_000, "{each:?}");
        eprintln!("a look-up among {} records takes {each:?}", records.len());
    }
}
