//! Finds what has been counted of a file, by what is in it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::fingerprint::{Fingerprint, Fingerprinter, WINDOW_BYTES};
use super::memory::{Id, Record};

/// What begins another file, too, and is shorter than that, does not make it the same file that has grown: it holds no
/// event (`[`, a newline, a byte order mark).
const GROWN_BYTES_MIN: u64 = 64;
/// To compare more than this takes so long that it is told.
const TOLD_BYTES: u64 = 1 << 30;

/// Which records may be of a file: those whose beginning it has, and those of its path.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By how many bytes the beginning has, and their CRC-32.
    heads: BTreeMap<u64, HashMap<u32, Vec<Id>>>,
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
    Part(Fingerprinter),
}

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The record that says most of it.
    pub(super) best: Option<(Id, Counted)>,
    /// All records that the file begins with.
    pub(super) all: Vec<Id>,
    /// An old record of another path that looks as if it were this file's, and can't prove it.
    pub(super) alike: Option<Id>,
}

impl Index {
    pub(super) fn of(records: &BTreeMap<Id, Record>) -> Self {
        let mut index = Self::default();
        records.iter().for_each(|(id, record)| index.add(*id, record));
        index
    }

    pub(super) fn add(&mut self, id: Id, record: &Record) {
        let print = &record.mark.fingerprint;
        let window = print.end.min(WINDOW_BYTES as u64);
        self.heads.entry(window).or_default().entry(print.head).or_default().push(id);
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
        records: &'r BTreeMap<Id, Record>,
    ) -> impl Iterator<Item = (Id, &'r Record)> {
        let ids = self.paths.get(path).map(Vec::as_slice).unwrap_or_default();
        let records = ids.iter().filter_map(|id| Some((*id, records.get(id)?)));
        records.filter(move |(_, record)| record.path == path)
    }

    /// The oldest record that is proved to be of the same bytes as this one.
    pub(super) fn first_of(&self, record: &Record, records: &BTreeMap<Id, Record>) -> Option<Id> {
        let print = &record.mark.fingerprint;
        let alike = self.heads.get(&print.end.min(WINDOW_BYTES as u64))?.get(&print.head)?;
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
        records: &BTreeMap<Id, Record>,
        file: &File,
        bytes: u64,
        path: &str,
    ) -> io::Result<Known> {
        let mut candidates = self.with_head_of(file, bytes)?;
        if bytes < WINDOW_BYTES as u64 {
            // It may have been cut so short that its beginning can't be compared.
            candidates.extend(self.of_path(path, records).map(|(id, _)| id));
        }
        candidates.sort_unstable();
        candidates.dedup();
        let candidates = candidates.into_iter().filter_map(|id| Some((id, records.get(&id)?)));
        let (mut within, beyond): (Vec<_>, Vec<_>) =
            candidates.partition(|(_, record)| record.mark.fingerprint.end <= bytes);
        let mut known = Known::default();
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
            let Record { mark, path: seen, .. } = record;
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
                let part = || Counted::Part(prints.clone().slim());
                known.best = Some((id, if is_whole { Counted::Whole(print) } else { part() }));
            }
        }
        if !beyond.is_empty() && !matches!(known.best, Some((_, Counted::Whole(_)))) {
            let print = prints.take(file, bytes, &[])?;
            let cut = beyond.into_iter().filter(|(_, record)| record.mark.fingerprint.begins_with(&print));
            if let Some((id, _)) = cut.max_by_key(|(_, record)| record.path == path) {
                known.best = Some((id, Counted::Cut));
            }
        }
        Ok(known)
    }

    /// The records whose beginning the file has.
    fn with_head_of(&self, file: &File, bytes: u64) -> io::Result<Vec<Id>> {
        let longest = self.heads.range(..=bytes).next_back();
        let Some((longest, _)) = longest.filter(|(longest, _)| **longest > 0) else { return Ok(Vec::new()) };
        let mut head = vec![0; usize::try_from(*longest).unwrap_or(WINDOW_BYTES)];
        file.read_exact_at(&mut head, 0)?;
        let (mut found, mut sum, mut at) = (Vec::new(), crc32fast::Hasher::new(), 0);
        for (window, ids) in self.heads.range(1..=*longest) {
            let end = usize::try_from(*window).unwrap_or(WINDOW_BYTES);
            sum.update(&head[at..end]);
            at = end;
            found.extend(ids.get(&sum.clone().finalize()).into_iter().flatten());
        }
        Ok(found)
    }
}
