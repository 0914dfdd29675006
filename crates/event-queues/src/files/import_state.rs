//! The state of imported files: one [file](redb_file) with a record for each content and each place where it was seen.
//!
//! Earlier versions kept `imports.json`, and rewrote it with each settlement. The first start that finds it takes it over in
//! one commit; only then is it put aside, as `imports.json.taken-over`, and a line put in its place that earlier versions
//! refuse: they would count everything again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use redb::{ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use super::ImportError;
use super::encoding::{self, OldState};
use super::fingerprint::{Fingerprint, Whole};
use super::plan::PlanError;
use super::record_table::RecordTable;
use crate::content::{FileLayout, ReadPlace};
use crate::state_file::{CACHE_BYTES, StateFileKind};
use redb_file::{FileFault, RedbFile, RedbKind, remove_if_there, sync_parent};

/// The file of earlier versions.
const OLD_NAME: &str = "imports.json";

/// How many imports had something to read.
const RUNS: TableDefinition<'_, (), u64> = TableDefinition::new("runs");

pub(super) const KIND: StateFileKind = StateFileKind {
    file: RedbKind { name: "imports", format: encoding::VERSION, cache_bytes: CACHE_BYTES },
    locked: "wait for its import to end, or give this one a queue.embedded.directory of its own",
    newer: "Use the version that wrote it",
    failed: "what was counted since it was last written would be counted again. Check the disk and the permissions of its \
             directory, then run the import again",
    damaged: "restore it, or move it away together with imports.json and import only files that have not been counted yet",
};

/// How far the settled flushes have come in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// How it was read: detected once, so that a file that grows is not read another way.
    pub(super) layout: FileLayout,
    /// How many bytes of its uncompressed content are settled.
    pub(super) position: u64,
    /// Whether that is all of it.
    pub(super) finished: bool,
    /// The position of the Avro container in force there; 0: the first one of the file, or another layout.
    pub(super) container: u64,
    /// The fingerprint of the bytes on disk that the position stands for.
    pub(super) fingerprint: Fingerprint,
}

impl Mark {
    /// Where reading goes on.
    pub(super) fn place(&self) -> ReadPlace {
        ReadPlace { layout: self.layout, position: self.position, container: self.container }
    }

    /// How many bytes on disk need not be read to go on from here.
    pub(super) fn bytes_skipped(&self) -> u64 {
        // Compressed content is read again up to the position, and so is a document.
        if self.layout != FileLayout::Document && self.position == self.fingerprint.end {
            self.position
        } else {
            0
        }
    }
}

/// The record of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileRecord {
    /// Where it was seen last: an absolute path, and no more than a hint.
    pub(super) path: String,
    pub(super) mark: Mark,
    /// The file's own time of change, in nanoseconds since 1970, if that is reliable: while it stays the same, the content
    /// need not be read to know that it is the same.
    pub(super) changed: Option<u64>,
    /// When it was written, in Unix seconds.
    pub(super) settled_at: u64,
}

/// The number of a record within one run.
pub(super) type Id = u64;

/// A record as it is stored. Two digits of prefixes share a byte.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRecord {
    path: String,
    layout: FileLayout,
    position: u64,
    finished: bool,
    container: u64,
    end: u64,
    head: u32,
    tail: u32,
    whole: Option<([u8; 16], u32, Vec<u8>)>,
    changed: Option<u64>,
    settled_at: u64,
}

impl StoredRecord {
    pub(super) fn of(record: &FileRecord) -> Self {
        let FileRecord { path, mark, changed, settled_at } = record;
        let Mark { layout, position, finished, container, fingerprint } = mark;
        let whole = fingerprint.whole.as_ref().map(|Whole { hash, beginnings }| {
            let digits: Vec<u8> = beginnings.chars().map(value_of).collect();
            let pairs = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or_default());
            (hash.to_le_bytes(), u32::try_from(digits.len()).unwrap_or(u32::MAX), pairs.collect())
        });
        Self {
            path: path.clone(),
            layout: *layout,
            position: *position,
            finished: *finished,
            container: *container,
            end: fingerprint.end,
            head: fingerprint.head,
            tail: fingerprint.tail,
            whole,
            changed: *changed,
            settled_at: *settled_at,
        }
    }

    /// The record; `None`: it is not one.
    pub(super) fn into_record(self) -> Option<FileRecord> {
        let Self {
            path, layout, position, finished, container, end, head, tail, changed, settled_at, ..
        } = self;
        let whole = match self.whole {
            None => None,
            Some((hash, count, pairs)) => {
                let digits = pairs.iter().flat_map(|pair| [pair >> 4, pair & 0xf]);
                let digits = digits.take(usize::try_from(count).ok()?);
                let beginnings: String =
                    digits.map(|digit| char::from_digit(digit.into(), 16)).collect::<Option<_>>()?;
                Some(Whole { hash: u128::from_le_bytes(hash), beginnings: beginnings.into() })
            }
        };
        let fingerprint = Fingerprint { end, head, tail, whole };
        let mark = Mark { layout, position, finished, container, fingerprint };
        Some(FileRecord { path, mark, changed, settled_at })
    }
}

fn value_of(digit: char) -> u8 {
    digit.to_digit(16).and_then(|value| u8::try_from(value).ok()).unwrap_or_default()
}

/// The open state of imports.
pub(super) struct ImportState(RedbFile);

impl ImportState {
    /// Opens the state in `directory`, which is made when it is missing, and takes over the state of an earlier version.
    ///
    /// # Errors
    /// When it can't be read and written, is damaged, was written by a newer version, or when another process has it.
    pub(super) fn open(directory: &Path) -> Result<Self, ImportError> {
        let old_path = directory.join(OLD_NAME);
        let refuse_old = |problem| ImportError::State { path: old_path.clone(), problem };
        let is_moved = matches!(read_old(&old_path).map_err(refuse_old)?, Some(OldState::Moved));
        let path = KIND.file.path(directory);
        let failed = |error: io::Error| refuse(&path, FileFault::Failed(error.to_string()));
        if is_moved && !KIND.file.is_there(directory).map_err(failed)? {
            return Err(refuse_old(format!(
                "what it speaks of, {}, is missing; restore that, or remove this file, too, and import only files that have \
                 not been counted yet",
                path.display()
            )));
        }
        let file = RedbFile::open(directory, &KIND.file).map_err(|fault| refuse(&path, fault))?;
        // Another process may have taken it over, or extended it, while this one waited for its turn.
        let old = read_old(&old_path).map_err(refuse_old)?;
        let state = Self(file);
        if let Some(OldState::Records(records)) = &old {
            let taken = state.change(|table| take_over(table, records));
            taken.map_err(|fault| state.refuse(fault))?;
        }
        if !matches!(old, Some(OldState::Moved)) {
            let kept = if old.is_some() { keep_aside(&old_path) } else { Ok(()) };
            let replaced = kept.and_then(|()| refuse_earlier_versions(&old_path));
            replaced.map_err(|error| state.refuse(FileFault::Failed(error.to_string())))?;
        }
        Ok(state)
    }

    /// The error of an import that can't use this state.
    pub(super) fn refuse(&self, fault: FileFault) -> ImportError {
        refuse(self.0.path(), fault)
    }

    /// Changes the state in one commit: all of it or nothing. Writes nothing if nothing was changed.
    fn change(
        &self,
        act: impl FnOnce(&mut RecordTable<'_>) -> Result<(), FileFault>,
    ) -> Result<(), FileFault> {
        self.0.write(|write| {
            let mut table = RecordTable::stored(write)?;
            act(&mut table)?;
            Ok(((), table.is_changed()))
        })
    }

    /// Decides what is read, and changes the state accordingly, unless something can't be imported. Where something
    /// `is_to_be_read`, it always writes: an import that can't be remembered must not start.
    ///
    /// # Errors
    /// When that failed.
    pub(super) fn plan<T>(
        &self,
        act: impl FnOnce(Option<&mut RecordTable<'_>>) -> Result<T, PlanError>,
        is_to_be_read: impl FnOnce(&T) -> bool,
    ) -> Result<T, ImportError> {
        let mut refused = None;
        let planned = self.0.write(|write| {
            let mut table = RecordTable::stored(write)?;
            match act(Some(&mut table)) {
                Ok(plan) => {
                    let is_read = is_to_be_read(&plan);
                    if is_read {
                        let mut runs = write.open_table(RUNS)?;
                        let before = runs.get(())?.map_or(0, |count| count.value());
                        runs.insert((), before.wrapping_add(1))?;
                    }
                    Ok((Some(plan), is_read || table.is_changed()))
                }
                Err(PlanError::State(fault)) => Err(fault),
                Err(PlanError::Import(error)) => {
                    refused = Some(error);
                    Ok((None, false))
                }
            }
        });
        match (planned, refused) {
            (_, Some(error)) => Err(error),
            (Ok(Some(plan)), None) => Ok(plan),
            (Ok(None), None) => Err(self.refuse(FileFault::Failed("there is no plan".to_owned()))),
            (Err(fault), None) => Err(self.refuse(fault)),
        }
    }

    /// Makes settled records durable.
    ///
    /// # Errors
    /// When that failed; the message names the file and what to do.
    pub(super) fn settle(&self, settled: &[(Id, FileRecord)]) -> Result<(), String> {
        let write =
            |table: &mut RecordTable<'_>| settled.iter().try_for_each(|(id, record)| table.set(*id, record));
        self.change(write).map_err(|fault| {
            let (path, problem) = KIND.message(self.0.path(), fault);
            format!("cannot write {}: {problem}", path.display())
        })
    }
}

/// The error of an import that can't use the state at `path`.
pub(super) fn refuse(path: &Path, fault: FileFault) -> ImportError {
    let (path, problem) = KIND.message(path, fault);
    ImportError::State { path, problem }
}

/// Adds the records that are not known. An import of an earlier version may have gone on with its own state meanwhile: then
/// a content has several records, and the one with the most progress counts.
fn take_over(table: &mut RecordTable<'_>, old: &[FileRecord]) -> Result<(), FileFault> {
    for record in old {
        if table.of_path(&record.path)?.iter().all(|(_, known)| known.mark != record.mark) {
            table.add(record)?;
        }
    }
    Ok(())
}

/// Reads the state of an earlier version, if there is one.
fn read_old(path: &Path) -> Result<Option<OldState>, String> {
    match fs::read(path) {
        Ok(bytes) => encoding::decode(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Keeps a copy of an earlier version's state, which stays in place: after a kill at any time an earlier version finds
/// either that or a file that it refuses, and never nothing.
fn keep_aside(path: &Path) -> io::Result<()> {
    let aside = path.with_extension("json.taken-over");
    remove_if_there(&aside)?;
    fs::copy(path, &aside)?;
    File::open(&aside)?.sync_all()
}

/// Replaces the earlier version's state by a line that keeps earlier versions from starting a new one.
fn refuse_earlier_versions(path: &Path) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(encoding::moved().as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::fingerprint::Fingerprinter;
    use super::*;

    fn record(path: &str, position: u64, finished: bool, settled_at: u64) -> FileRecord {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        let fingerprint = Fingerprinter::default().take(&file, position, &[]).unwrap();
        let mark = Mark { layout: FileLayout::Document, position, finished, container: 0, fingerprint };
        FileRecord { path: path.to_owned(), mark, changed: Some(1), settled_at }
    }

    fn remembered(state: &ImportState) -> Vec<FileRecord> {
        let mut found = Vec::new();
        let read = |table: &mut RecordTable<'_>| {
            for id in 0..table.next() {
                found.extend(table.get(id)?);
            }
            Ok(())
        };
        state.change(read).unwrap();
        found
    }

    fn problem(directory: &Path) -> String {
        ImportState::open(directory).err().unwrap().to_string()
    }

    #[test]
    fn what_was_settled_is_there_after_a_start() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/when/missing");
        let [a, b] = [record("/a \"b\"/ü", 10, true, 5), record("/c", 20, false, 6)];
        let state = ImportState::open(&directory).unwrap();
        state.settle(&[(0, a.clone())]).unwrap();
        state.settle(&[(0, a.clone()), (1, b.clone())]).unwrap();
        drop(state);
        assert_eq!(remembered(&ImportState::open(&directory).unwrap()), [a, b]);
        let names: std::collections::BTreeSet<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["imports-v3.redb", "imports.json"].map(Into::into).into());
    }

    #[test]
    fn what_an_earlier_version_remembered_is_taken_over_once_and_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join(OLD_NAME);
        let records = [record("/a", 10, true, 5), record("/a", 20, false, 6), record("/b", 20, false, 6)];
        let written = encoding::encode(records.iter()).unwrap();
        fs::write(&old, &written).unwrap();
        // What a killed writer left.
        fs::write(root.path().join("imports.json.new"), "{\"version\":1,\"fi").unwrap();
        drop(ImportState::open(root.path()).unwrap());
        let aside = root.path().join("imports.json.taken-over");
        assert_eq!(fs::read(&aside).unwrap(), written);
        // As kills leave it between the commit and what follows it.
        fs::rename(&aside, &old).unwrap();
        keep_aside(&old).unwrap();
        for kept in [&old, &aside] {
            assert_eq!(fs::read(kept).unwrap(), written, "an earlier version would count all of it again");
        }
        let state = ImportState::open(root.path()).unwrap();
        assert_eq!(remembered(&state), records);
        state.settle(&[(1, record("/a", 30, true, 7))]).unwrap();
        drop(state);
        // As an earlier version leaves it that was put in the place of this one for a while.
        let more = [records[0].clone(), record("/d", 40, true, 8)];
        fs::write(&old, encoding::encode(more.iter()).unwrap()).unwrap();
        let state = ImportState::open(root.path()).unwrap();
        let expected = [&records[0], &record("/a", 30, true, 7), &records[2], &more[1]];
        assert_eq!(remembered(&state).iter().collect::<Vec<_>>(), expected);
        assert_eq!(fs::read_to_string(&old).unwrap(), encoding::moved());
    }

    #[test]
    fn a_damaged_newer_or_missing_state_is_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(OLD_NAME);
        let moved = encoding::moved();
        for (text, expected) in [
            ("", "damaged"),
            ("{\"version\":1,\"files\":{\"/a\":", "damaged"),
            ("{\"version\":1,\"files\":{\"/a\":{}}}", "damaged"),
            ("{\"version\":2,\"files\":[\n]}", "damaged"),
            ("{\"version\":3,\"files\":7}", "damaged"),
            ("{\"version\":4,\"files\":7}", "use the version that wrote it"),
            (&moved, "imports-v3.redb, is missing; restore that"),
        ] {
            fs::write(&path, text).unwrap();
            let message = problem(root.path());
            assert!(message.contains(expected) && message.contains(&*path.to_string_lossy()), "{message}");
            assert!(!KIND.file.path(root.path()).exists(), "none is begun");
        }
        fs::remove_file(&path).unwrap();
        drop(ImportState::open(root.path()).unwrap());
        for bytes in ["", "n", "no redb"] {
            fs::write(KIND.file.path(root.path()), bytes).unwrap();
            let message = problem(root.path());
            assert!(message.contains("damaged") && message.contains("imports-v3.redb"), "{message}");
        }
        fs::write(root.path().join("imports-v4.redb"), "").unwrap();
        let message = problem(root.path());
        assert!(
            message.contains("imports-v4.redb") && message.contains("Use the version that wrote it"),
            "{message}"
        );
    }

    #[test]
    fn a_second_import_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let _first = ImportState::open(root.path()).unwrap();
        let message = problem(root.path());
        assert!(message.contains("another process has it; wait for its import to end"), "{message}");
    }

    #[test]
    fn a_state_that_cannot_be_written_names_its_file() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let state = ImportState::open(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        let problem = state.settle(&[(0, record("/a", 10, true, 5))]).unwrap_err();
        assert!(problem.contains("cannot write") && problem.contains("gone/imports-v3.redb"), "{problem}");
        assert!(problem.contains("run the import again"), "{problem}");
    }

    #[test]
    fn an_import_that_reads_something_writes_before_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let state = ImportState::open(&directory).unwrap();
        for _ in 0..2 {
            state.plan(|_| Ok(()), |()| true).unwrap();
        }
        fs::remove_dir_all(&directory).unwrap();
        state.plan(|_| Ok(()), |()| false).unwrap();
        let error = state.plan(|_| Ok(()), |()| true).unwrap_err().to_string();
        assert!(error.contains("gone/imports-v3.redb") && error.contains("moved away"), "{error}");
    }

    /// Every byte of the file, one after the other where there are few and every so many where there are many.
    #[test]
    fn a_flipped_bit_is_told_or_harms_nothing() {
        let root = tempfile::tempdir().unwrap();
        let records: Vec<_> =
            (0..300).map(|number| record(&format!("/path/{number:05}"), number % 90, true, number)).collect();
        let state = ImportState::open(root.path()).unwrap();
        state.settle(&(0..).zip(records.iter().cloned()).collect::<Vec<_>>()).unwrap();
        drop(state);
        let path = KIND.file.path(root.path());
        let whole = fs::read(&path).unwrap();
        let mut told = 0;
        for at in (0..whole.len()).step_by(whole.len() / 400) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            match ImportState::open(root.path()) {
                Ok(state) => assert_eq!(remembered(&state), records, "byte {at}"),
                Err(error) => {
                    told += 1;
                    let message = error.to_string();
                    let is_told = message.contains("damaged") && message.contains("import only files");
                    assert!(is_told || message.contains("it was written"), "{message}");
                }
            }
        }
        assert!(told > 100, "{told} flipped bits were seen");
    }
}
