//! What is remembered of imported files: `imports.json`, written whole and put in place by renaming.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use tokio::sync::mpsc;

use super::ImportError;
use super::encoding::{decode, encode};
use super::fingerprint::Fingerprint;
use crate::content::{FileLayout, ReadPlace};

const NAME: &str = "imports.json";

/// How far the settled flushes have come in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// How it was read: judged once, so that a file that grows is not read another way.
    pub(super) layout: FileLayout,
    /// How many bytes of its uncompressed content are settled.
    pub(super) position: u64,
    /// Whether that is all of it.
    pub(super) finished: bool,
    /// Of Avro, where the container begins that holds there, if it is not the first of the file.
    pub(super) container: u64,
    /// Of the bytes on disk that the position stands for.
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

/// What is remembered of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileRecord {
    /// Where it was seen last: an absolute path, and no more than a hint.
    pub(super) path: String,
    pub(super) mark: Mark,
    /// When the file itself says that it was changed last, in nanoseconds since 1970, if that can be relied on: while
    /// it says so, its content need not be read to know that it is the same.
    pub(super) changed: Option<u64>,
    /// When it was written, in Unix seconds.
    pub(super) settled_at: u64,
}

/// What a record is called within one run.
pub(super) type Id = u64;

/// What is remembered, each content once for each place that it was seen at.
#[derive(Debug, Clone)]
pub(super) struct ImportState {
    path: PathBuf,
    records: BTreeMap<Id, FileRecord>,
    next: Id,
    /// Whether it says more than the disk.
    is_unwritten: bool,
}

impl ImportState {
    /// Reads what is remembered in `directory`, which is made when it is missing.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or was written by a newer version of this program.
    pub(super) fn load(directory: &Path) -> Result<Self, ImportError> {
        let path = directory.join(NAME);
        let records = match make_directory(directory).and_then(|()| fs::read(&path)) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
        match records {
            Ok(records) => {
                let next = records.len() as Id;
                Ok(Self { path, records: (0..).zip(records).collect(), next, is_unwritten: false })
            }
            Err(problem) => Err(ImportError::State { path, problem }),
        }
    }

    /// The error of an import that can't use this state.
    pub(super) fn refuse(&self, problem: String) -> ImportError {
        ImportError::State { path: self.path.clone(), problem }
    }

    pub(super) fn records(&self) -> &BTreeMap<Id, FileRecord> {
        &self.records
    }

    pub(super) fn add(&mut self, record: FileRecord) -> Id {
        let id = self.next;
        self.next += 1;
        self.set(id, record);
        id
    }

    pub(super) fn set(&mut self, id: Id, record: FileRecord) {
        self.is_unwritten |= self.records.get(&id) != Some(&record);
        self.records.insert(id, record);
    }

    pub(super) fn forget(&mut self, id: Id) {
        self.is_unwritten |= self.records.remove(&id).is_some();
    }

    /// Whether something was changed since this was asked last, or since it was read.
    pub(super) fn take_unwritten(&mut self) -> bool {
        std::mem::take(&mut self.is_unwritten)
    }

    /// Forgets records, but none of the present run's, until they and those that it adds are `files_max` at most:
    /// first those that were finished, the oldest of them first.
    pub(super) fn make_room(&mut self, run: &HashSet<Id>, added: usize, files_max: usize) {
        let surplus = (self.records.len() + added).saturating_sub(files_max);
        let mut others: Vec<_> = self.records.iter().filter(|(id, _)| !run.contains(id)).collect();
        others.sort_by_key(|(_, record)| (!record.mark.finished, record.settled_at));
        let surplus: Vec<_> = others.into_iter().take(surplus).map(|(id, _)| *id).collect();
        for id in surplus {
            self.forget(id);
        }
    }

    /// Makes what is remembered durable: after a power cut the file is the old one or this one.
    ///
    /// # Errors
    /// When that failed; the message names the file and what to do.
    pub(super) fn write(&self) -> Result<(), String> {
        self.replace().map_err(|error| {
            format!(
                "cannot write {}: {error}; what was counted since it was last written would be counted again. \
                 Check the disk and the permissions of its directory, then run the import again",
                self.path.display()
            )
        })
    }

    fn replace(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("json.new");
        let bytes = encode(self.records.values())?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        sync_parent(&self.path)
    }
}

/// The thread that writes the state. It is there from the start, so that no import fails half-way because the system gives
/// no thread any more.
pub(super) struct StateWriter {
    orders: SyncSender<Arc<ImportState>>,
    written: mpsc::Receiver<Result<(), String>>,
    is_writing: bool,
}

impl StateWriter {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        let (orders, taken) = sync_channel::<Arc<ImportState>>(1);
        let (said, written) = mpsc::channel(1);
        thread::Builder::new().name("import-memory".to_owned()).spawn(move || {
            while let Ok(state) = taken.recv() {
                let result = state.write();
                // Before it is told, so that the state can be changed without a copy.
                drop(state);
                if said.blocking_send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, written, is_writing: false })
    }

    /// Begins to write; the one before has been waited for.
    pub(super) fn begin(&mut self, state: Arc<ImportState>) {
        // A thread that is gone is told by `wait`.
        let _told_later = self.orders.try_send(state);
        self.is_writing = true;
    }

    /// Waits for what was begun, if anything was. A call that is given up leaves it to the next.
    ///
    /// # Errors
    /// When it could not be written.
    pub(super) async fn wait(&mut self) -> Result<(), String> {
        if !self.is_writing {
            return Ok(());
        }
        let written = self.written.recv().await;
        self.is_writing = false;
        written.unwrap_or_else(|| Err("the thread that writes the memory ended unexpectedly".to_owned()))
    }
}

/// Makes a directory that survives a power cut, with those above it.
fn make_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(directory)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// Makes the name of a file or directory durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
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
        FileRecord { path: path.to_owned(), mark, changed: None, settled_at }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/when/missing");
        let mut state = ImportState::load(&directory).unwrap();
        state.add(record("/a \"b\"/ü", 10, true, 5));
        state.write().unwrap();
        state.add(record("/c", 20, false, 6));
        state.write().unwrap();
        let read = ImportState::load(&directory).unwrap();
        assert_eq!(read.records, state.records);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn what_a_killed_writer_left_does_not_matter() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("imports.json.new"), "{\"version\":1,\"fi").unwrap();
        let mut state = ImportState::load(root.path()).unwrap();
        state.add(record("/a", 10, true, 5));
        state.write().unwrap();
        assert_eq!(ImportState::load(root.path()).unwrap().records, state.records);
    }

    #[test]
    fn a_damaged_or_newer_memory_is_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(NAME);
        for (text, expected) in [
            ("", "damaged"),
            ("{\"version\":1,\"files\":{\"/a\":", "damaged"),
            ("{\"version\":1,\"files\":{\"/a\":{}}}", "damaged"),
            ("{\"version\":2,\"files\":[\n]}", "damaged"),
            ("{\"version\":3,\"files\":7}", "use the version that wrote it"),
        ] {
            fs::write(&path, text).unwrap();
            let message = ImportState::load(root.path()).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(&*path.to_string_lossy()), "{message}");
        }
    }

    #[test]
    fn a_memory_that_cannot_be_written_names_its_file() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let state = ImportState::load(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
        assert!(state.write().unwrap_err().contains("gone/imports.json"));
    }

    #[test]
    fn what_was_not_changed_need_not_be_written() {
        let root = tempfile::tempdir().unwrap();
        let mut state = ImportState::load(root.path()).unwrap();
        assert!(!state.take_unwritten());
        let id = state.add(record("/a", 10, true, 5));
        assert!(state.take_unwritten() && !state.take_unwritten());
        state.set(id, record("/a", 10, true, 5));
        assert!(!state.take_unwritten());
        state.forget(id);
        assert!(state.take_unwritten());
    }

    #[test]
    fn the_oldest_finished_files_are_forgotten_first_and_those_of_the_run_never() {
        let root = tempfile::tempdir().unwrap();
        let mut state = ImportState::load(root.path()).unwrap();
        for (path, finished, settled_at) in
            [("/run", true, 0), ("/half", false, 1), ("/old", true, 2), ("/new", true, 3)]
        {
            state.add(record(path, 10, finished, settled_at));
        }
        let mut left = |files_max| {
            state.make_room(&HashSet::from([0]), 1, files_max);
            state.records.values().map(|record| record.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(left(5), ["/run", "/half", "/old", "/new"]);
        assert_eq!(left(4), ["/run", "/half", "/new"]);
        assert_eq!(left(3), ["/run", "/half"]);
        assert_eq!(left(2), ["/run"]);
    }
}
