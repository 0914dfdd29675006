//! Decides what to read of each file before anything is counted.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::fingerprint::{Fingerprint, Fingerprinter};
use super::import_state::{FileRecord, Id, Mark};
use super::index::{Counted, FindError, Matches, find, find_all, first_of};
use super::list::{FileKind, ListedFile, unreadable};
use super::record_table::RecordTable;
use super::{FileReport, ImportError};
use crate::content::{self, FileLayout, READ_LIMITS};
use redb_file::FileFault;

/// A file that was changed more recently than this may change again within the same tick of its clock.
const TICK_SECONDS: u64 = 2;

/// A file that is to be read, and from where.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) found: ListedFile,
    /// What has been settled of it.
    pub(super) start: Option<Start>,
    /// Its record; none before something of it is settled.
    pub(super) record: Option<Id>,
    /// When it was changed last; see [`FileRecord::changed`].
    pub(super) changed: Option<u64>,
    /// How many bytes on disk are to be read, if that can be known.
    pub(super) bytes: Option<u64>,
}

/// Where a file is read from, and its record.
type Beginning = (Option<Start>, Option<Id>);

/// Where a file is read from, if not from its start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) mark: Mark,
    prints: Box<Fingerprinter>,
    /// The file's time of change when it was compared.
    changed: u64,
}

impl Start {
    pub(super) fn new(mark: Mark, prints: Box<Fingerprinter>, metadata: &Metadata) -> Self {
        Self { mark, prints, changed: changed(metadata) }
    }

    /// The fingerprinter of the settled part, to be continued.
    ///
    /// # Errors
    /// When the file is another one by now: it may have been compared hours ago.
    pub(super) fn go_on(&self, file: &File) -> io::Result<Fingerprinter> {
        if changed(&file.metadata()?) == self.changed {
            return Ok(Fingerprinter::clone(&self.prints));
        }
        let prints = self.mark.fingerprint.go_on(file)?;
        prints.ok_or_else(|| io::Error::other("it was replaced after the import began"))
    }
}

/// The file's own time of change, of its content or otherwise: nobody can set that time.
fn changed(metadata: &Metadata) -> u64 {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
    let nanoseconds = u64::try_from(metadata.ctime_nsec()).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum PlanError {
    /// A file can't be imported.
    Import(ImportError),
    /// The state can't be used.
    State(FileFault),
}

impl From<FileFault> for PlanError {
    fn from(fault: FileFault) -> Self {
        Self::State(fault)
    }
}

/// Decides for one file after the other.
pub(super) struct Planner<'p, 't> {
    records: Option<&'p mut RecordTable<'t>>,
    again: bool,
    now: u64,
    /// The records of the present run.
    run: HashSet<Id>,
    added: usize,
    pub(super) reports: Vec<FileReport>,
}

impl<'p, 't> Planner<'p, 't> {
    pub(super) fn new(records: Option<&'p mut RecordTable<'t>>, again: bool, now: u64) -> Self {
        Self { records, again, now, run: HashSet::new(), added: 0, reports: Vec::new() }
    }

    /// Makes room for the files of the run. Returns the id of the first new record, and the reports.
    pub(super) fn finish(self, records_max: usize) -> Result<(Id, Vec<FileReport>), FileFault> {
        let Self { records, run, added, reports, .. } = self;
        let Some(records) = records else { return Ok((0, reports)) };
        records.make_room(&run, added, records_max)?;
        Ok((records.next(), reports))
    }

    /// Decides from where a file is read; none if it is passed.
    pub(super) fn plan(&mut self, found: ListedFile) -> Result<Option<Planned>, PlanError> {
        let FileKind::Regular { key } = &found.kind else {
            return Ok(Some(Planned { found, start: None, record: None, changed: None, bytes: None }));
        };
        let look = || {
            let file = File::open(&found.path)?;
            let metadata = file.metadata()?;
            Ok((file, metadata))
        };
        let unreadable = |error: io::Error| PlanError::Import(unreadable(&found.path, &error));
        let (file, metadata) = look().map_err(unreadable)?;
        let recognised = self.recognise(&found.path, key, &file, &metadata);
        let recognised = recognised.map_err(|error| match error {
            FindError::File(error) => unreadable(error),
            FindError::State(fault) => PlanError::State(fault),
        });
        let Some((start, record)) = recognised? else { return Ok(None) };
        content::check(Box::new(file), found.path.clone()).map_err(unreadable)?;
        match record {
            Some(record) => drop(self.run.insert(record)),
            None => self.added += 1,
        }
        let bytes = metadata.len() - start.as_ref().map_or(0, |start| start.mark.bytes_skipped());
        let changed = self.reliable(&metadata);
        Ok(Some(Planned { found, start, record, changed, bytes: Some(bytes) }))
    }

    /// Where the file is to be read from, and the record for it; none if it is passed.
    fn recognise(
        &mut self,
        path: &Path,
        key: &str,
        file: &File,
        metadata: &Metadata,
    ) -> Result<Option<Beginning>, FindError> {
        let Some(records) = &mut self.records else { return Ok(Some((None, None))) };
        if !self.again
            && let Some((id, record)) = untouched(records, key, file, metadata)?
        {
            self.pass(path, key, (id, record), None, metadata)?;
            return Ok(None);
        }
        let bytes = metadata.len();
        if self.again {
            let Matches { best, all, .. } = find_all(records, file, bytes, key)?;
            // What was counted of another file, longer or shorter, stays counted.
            let is_other = |record: &FileRecord| {
                record.path != key && record.mark.fingerprint.end != bytes && is_still_there(record)
            };
            let longer = best.filter(|(.., counted)| matches!(counted, Counted::Cut));
            let known = all.into_iter().chain(longer.map(|(id, record, _)| (id, record)));
            for (id, _) in known.filter(|(_, record)| !is_other(record)) {
                records.forget(id)?;
            }
            return Ok(Some((None, None)));
        }
        let Matches { best, alike, .. } = find(records, file, bytes, key)?;
        match best {
            Some((id, record, Counted::Whole(print))) => {
                self.pass(path, key, (id, record), Some(print), metadata)?;
            }
            Some((id, record, Counted::Cut)) => self.pass_cut(path, (id, &record), bytes),
            Some((id, record, Counted::Part(_))) if stands_for_nothing(&record.mark, file)? => {
                let is_here = record.path == key;
                self.reports.push(FileReport::Misread { path: path.to_owned(), of: record.path.into() });
                return Ok(Some((None, is_here.then_some(id))));
            }
            Some((id, record, Counted::Part(prints))) => {
                return Ok(Some(self.go_on(path, key, (id, record), prints, metadata)?));
            }
            None => {
                self.report_new(path, key, alike)?;
                return Ok(Some((None, None)));
            }
        }
        Ok(None)
    }

    /// Passes a file that has been counted as a whole.
    fn pass(
        &mut self,
        path: &Path,
        key: &str,
        (id, mut record): (Id, FileRecord),
        print: Option<Fingerprint>,
        metadata: &Metadata,
    ) -> Result<(), FileFault> {
        let changed = self.reliable(metadata);
        let Some(records) = &mut self.records else { return Ok(()) };
        // A record of an earlier version has less.
        record.mark.fingerprint = print.unwrap_or(record.mark.fingerprint);
        let (path, bytes, settled_at) = (path.to_owned(), metadata.len(), record.settled_at);
        let before = PathBuf::from(&record.path);
        record.changed = changed.or(record.changed.filter(|_| record.path == key));
        let report = if record.path == key {
            let first = first_of(records, &record)?.filter(|(first, _)| *first != id);
            records.set(id, &record)?;
            self.run.insert(id);
            match first.map(|(_, first)| first.path).filter(|first| first != key) {
                Some(of) => FileReport::Copied { path, of: of.into(), bytes, settled_at: Some(settled_at) },
                None => FileReport::Counted { path, bytes, settled_at },
            }
        } else if is_still_there(&record) {
            record.changed = changed;
            key.clone_into(&mut record.path);
            let id = records.add(&record)?;
            self.run.insert(id);
            FileReport::Copied { path, of: before, bytes, settled_at: Some(settled_at) }
        } else {
            self.rename(id, record, key, changed)?;
            FileReport::Renamed { path, before, bytes, settled_at }
        };
        self.reports.push(report);
        Ok(())
    }

    /// Passes a file that is a prefix of what was counted.
    fn pass_cut(&mut self, path: &Path, (id, record): (Id, &FileRecord), bytes: u64) {
        self.run.insert(id);
        let (path, of, counted) = (path.to_owned(), PathBuf::from(&record.path), record.mark.fingerprint.end);
        self.reports.push(FileReport::CutShort { path, of, bytes, counted });
    }

    /// Goes on in a file of which a part has been counted.
    fn go_on(
        &mut self,
        path: &Path,
        key: &str,
        (id, record): (Id, FileRecord),
        prints: Box<Fingerprinter>,
        metadata: &Metadata,
    ) -> Result<Beginning, FileFault> {
        let is_here = record.path == key;
        let before = (!is_here).then(|| PathBuf::from(&record.path));
        self.reports.push(FileReport::going_on(path, before, &record.mark));
        // The part gets a record of its own, once something of it is settled, if the other file is still there.
        let own = (is_here || !is_still_there(&record)).then_some(id);
        let start = Start::new(record.mark.clone(), prints, metadata);
        if own.is_some() && !is_here {
            self.rename(id, record, key, None)?;
        }
        Ok((Some(start), own))
    }

    fn rename(
        &mut self,
        id: Id,
        record: FileRecord,
        key: &str,
        changed: Option<u64>,
    ) -> Result<(), FileFault> {
        let Some(records) = &mut self.records else { return Ok(()) };
        self.run.insert(id);
        records.set(id, &FileRecord { path: key.to_owned(), changed, ..record })
    }

    /// Reports that a file is counted from its start, where that may surprise.
    fn report_new(&mut self, path: &Path, key: &str, alike: Option<Id>) -> Result<(), FileFault> {
        let Some(records) = &self.records else { return Ok(()) };
        let path = path.to_owned();
        if !records.of_path(key)?.is_empty() {
            self.reports.push(FileReport::Changed { path });
        } else if let Some(alike) = alike.map(|id| records.get(id)).transpose()?.flatten() {
            let of = PathBuf::from(&alike.path);
            self.reports.push(FileReport::Alike { path, of, settled_at: alike.settled_at });
        }
        Ok(())
    }

    fn reliable(&self, metadata: &Metadata) -> Option<u64> {
        let changed = changed(metadata);
        (changed / 1_000_000_000 + TICK_SECONDS <= self.now).then_some(changed)
    }
}

/// The contents that the present run has read, as far as they could be: no copy is counted twice.
pub(super) struct Seen(RecordTable<'static>);

/// The decision for a file that the present run has seen.
#[derive(Debug)]
pub(super) enum Sight {
    /// It is passed, and remembered with this mark, if there is one.
    Passed(FileReport, Option<Mark>),
    /// It is read from here.
    From(FileReport, Start),
}

impl Seen {
    pub(super) fn new() -> Self {
        Self(RecordTable::held())
    }

    pub(super) fn add(&mut self, planned: &Planned, mark: Mark) -> Result<(), FindError> {
        let FileKind::Regular { key } = &planned.found.kind else { return Ok(()) };
        self.0.add(&FileRecord { path: key.clone(), mark, changed: None, settled_at: 0 })?;
        Ok(())
    }

    /// Whether a file, or more of it than has been settled before this run, has been read under another name.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn find(&self, planned: &Planned) -> Result<Option<Sight>, FindError> {
        let FileKind::Regular { key } = &planned.found.kind else { return Ok(None) };
        if self.0.len()? == 0 {
            return Ok(None);
        }
        let file = File::open(&planned.found.path)?;
        let metadata = file.metadata()?;
        let Matches { best, .. } = find(&self.0, &file, metadata.len(), key)?;
        let Some((_, record, counted)) = best else { return Ok(None) };
        let settled = planned.start.as_ref().map_or(0, |start| start.mark.fingerprint.end);
        let (path, of, bytes) = (planned.found.path.clone(), PathBuf::from(&record.path), metadata.len());
        Ok(match counted {
            Counted::Whole(_) => {
                let report = FileReport::Copied { path, of, bytes, settled_at: None };
                Some(Sight::Passed(report, Some(record.mark)))
            }
            Counted::Cut => {
                let counted = record.mark.fingerprint.end;
                Some(Sight::Passed(FileReport::CutShort { path, of, bytes, counted }, None))
            }
            Counted::Part(prints)
                if record.mark.fingerprint.end > settled && !stands_for_nothing(&record.mark, &file)? =>
            {
                let report = FileReport::going_on(&path, Some(of), &record.mark);
                Some(Sight::From(report, Start::new(record.mark, prints, &metadata)))
            }
            Counted::Part(_) => None,
        })
    }
}

/// The record of a finished file that is still in its place and unchanged.
fn untouched(
    records: &RecordTable<'_>,
    key: &str,
    file: &File,
    metadata: &Metadata,
) -> Result<Option<(Id, FileRecord)>, FindError> {
    let (bytes, changed) = (metadata.len(), changed(metadata));
    for (id, record) in records.of_path(key)? {
        let Mark { finished, fingerprint, .. } = &record.mark;
        let is_same = *finished && fingerprint.end == bytes && record.changed == Some(changed);
        if is_same && fingerprint.looks_like(file)? {
            return Ok(Some((id, record)));
        }
    }
    Ok(None)
}

/// Whether what a mark says of the beginning of `file` is that it held no event, because it was cut off.
fn stands_for_nothing(mark: &Mark, file: &File) -> io::Result<bool> {
    if mark.layout != FileLayout::Lines {
        return Ok(false);
    }
    let reader = Box::new(file.try_clone()?);
    let was_misread = content::was_misread(reader, mark.position, READ_LIMITS.look_ahead_bytes);
    // Both read from one place.
    let mut file = file;
    file.rewind()?;
    was_misread
}

/// Whether the content of a record still is where it was seen last. Only a file is opened: a pipe would wait for its writer.
fn is_still_there(record: &FileRecord) -> bool {
    let looks = || record.mark.fingerprint.looks_like(&File::open(&record.path)?);
    fs::metadata(&record.path).is_ok_and(|metadata| metadata.is_file()) && looks().unwrap_or(false)
}
