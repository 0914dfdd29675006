//! Files of events, read in place: a queue of its own, which ends when the last file has been read.
//!
//! `content` cuts files into bodies. One thread reads (`reader`) ahead of the pipeline by a few chunks.
//!
//! How far the settled flushes have come is kept in `imports-v3.redb` (`import_state`, `record_table`): for each file the
//! position in its content, and a `fingerprint` of what lies before it. The fingerprint identifies a file (`index`, `plan`);
//! its path is only a hint. So an import that was interrupted goes on exactly there, a file that is finished is passed,
//! wherever it was moved or copied to, one that has grown gives only what is new, one that was cut shorter gives nothing,
//! and one that was replaced is counted from its start. Standard input and pipes have no state.

mod encoding;
mod fingerprint;
mod import_progress;
mod import_state;
mod index;
mod list;
mod plan;
mod reader;
mod record_table;
mod report;
#[cfg(feature = "testing")]
pub mod testing;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

pub use self::import_progress::ImportProgress;
pub use self::report::FileReport;

use self::import_state::{FileRecord, Id, ImportState, Mark};
use self::list::{FileKind, ListedFile};
use self::plan::{PlanError, Planned, Planner};
use self::reader::{Chunk, ReaderOutput};
use self::record_table::RecordTable;
use super::content::{Cut, READ_LIMITS, ReadLimits};
use super::unread::Unread;
use super::{Delivery, Queue, QueueError, Receipt, Source};
use crate::state_file::StateWriter;

/// The files to import, and where they are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesSettings {
    /// Files, and directories that stand for the files below them; `-` is standard input.
    pub files: Vec<PathBuf>,
    /// The directory of `imports-v3.redb`: the queue directory. None: nothing is remembered.
    pub state_directory: Option<PathBuf>,
    /// Count from the start, whatever is remembered.
    pub again: bool,
}

/// Why an import does not start. Nothing has been handed out then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file can't be imported.
    #[error("cannot import {path}: {problem}", path = path.display())]
    File {
        /// As it was given, or found below a directory that was given.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// More files at once than can be remembered.
    #[error("cannot import more than {files_max} files at once: import them in parts")]
    TooManyFiles {
        /// How many there may be.
        files_max: usize,
    },
    /// The state of earlier imports can't be used.
    #[error("cannot use {path}, which remembers what was imported: {problem}", path = path.display())]
    State {
        /// The state's path, or that of an earlier version.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The system gives no thread.
    #[error("cannot start a thread of the import: {0}; raise the limit of processes and threads")]
    Thread(std::io::Error),
}

/// The bounds of an import. They are constants; tests make them small.
#[derive(Debug, Clone, Copy)]
struct Limits {
    read: ReadLimits,
    /// How many files one run may import: a year of one event type in files of five minutes.
    files_max: usize,
    /// How many records are kept, of half a kilobyte each.
    records_max: usize,
}

const LIMITS: Limits = Limits { read: READ_LIMITS, files_max: 100_000, records_max: 1_000_000 };

/// Looks at every file, decides from where it is to be counted, and starts to read.
///
/// `now_unix_seconds` is the present time, for the dates in it.
///
/// # Errors
/// When one of the files can't be imported, or what is remembered can't be read and written: nothing is imported
/// then, rather than half of it.
pub fn open(
    settings: &FilesSettings,
    now_unix_seconds: u64,
) -> Result<(FilesQueue, Vec<FileReport>), ImportError> {
    open_within(settings, now_unix_seconds, LIMITS)
}

fn open_within(
    settings: &FilesSettings,
    now_unix_seconds: u64,
    limits: Limits,
) -> Result<(FilesQueue, Vec<FileReport>), ImportError> {
    let (found, listed) = list::list(&settings.files, limits.files_max)?;
    let state = settings.state_directory.as_deref().map(ImportState::open).transpose()?;
    let repeats = state.is_none() || settings.again;
    let plan = |records: Option<&mut RecordTable<'_>>| {
        let mut planner = Planner::new(records, settings.again, now_unix_seconds);
        planner.reports = listed;
        plan_all(planner, found, limits)
    };
    let Plan { files, reports, next } = match &state {
        Some(state) => {
            state.plan(plan, |plan| plan.files.iter().any(|planned| key(&planned.found).is_some()))?
        }
        None => plan(None).map_err(|error| match error {
            PlanError::Import(error) => error,
            // A table in memory can't fail.
            PlanError::State(fault) => import_state::refuse(Path::new(""), fault),
        })?,
    };
    let bytes_total = files.iter().map(|planned| planned.bytes).sum();
    let progress = Arc::new(ImportProgress::new(files.len() as u64, bytes_total));
    let files: Arc<[Planned]> = files.into();
    let handed = reader::start(Arc::clone(&files), Arc::clone(&progress), limits.read, repeats)
        .map_err(ImportError::Thread)?;
    let state = state.map(|state| StateWriter::start("import-state", move |files| state.settle(files)));
    let state = state.transpose().map_err(ImportError::Thread)?;
    let mut unread = Unread::new("file");
    for report in reports.iter().filter(|report| matches!(report, FileReport::LeftOut { .. })) {
        unread.add(report.to_string());
    }
    let queue = FilesQueue {
        records: files.iter().map(|planned| planned.record).collect(),
        files,
        handed,
        unread,
        ended: None,
        receipt: 0,
        marks: VecDeque::new(),
        state,
        next,
        unwritten: BTreeMap::new(),
        progress,
        opened: Instant::now(),
        opened_at: now_unix_seconds,
    };
    Ok((queue, reports))
}

/// The decision what to read of each file.
struct Plan {
    files: Vec<Planned>,
    reports: Vec<FileReport>,
    /// The id of the first new record.
    next: Id,
}

fn plan_all(mut planner: Planner<'_, '_>, found: Vec<ListedFile>, limits: Limits) -> Result<Plan, PlanError> {
    let mut files = Vec::new();
    for found in found {
        let is_listed = found.is_listed;
        match planner.plan(found) {
            Ok(file) => files.extend(file),
            Err(PlanError::Import(ImportError::File { path, problem })) if is_listed => {
                planner.reports.push(FileReport::LeftOut { path, problem });
            }
            Err(error) => return Err(error),
        }
    }
    let (next, reports) = planner.finish(limits.records_max)?;
    Ok(Plan { files, reports, next })
}

fn key(found: &ListedFile) -> Option<&str> {
    match &found.kind {
        FileKind::Regular { key } => Some(key),
        FileKind::Stream | FileKind::StandardInput => None,
    }
}

/// The files of one import, as a queue.
pub struct FilesQueue {
    files: Arc<[Planned]>,
    handed: mpsc::Receiver<ReaderOutput>,
    /// Entries of directories that were left out.
    unread: Unread,
    /// How reading ended, once it has.
    ended: Option<Result<(), String>>,
    /// The receipt of the last delivery: deliveries are numbered from 1 over all files.
    receipt: u64,
    /// The marks of chunks that are handed out and not settled, each with its receipt.
    marks: VecDeque<(Receipt, usize, Mark)>,
    state: Option<StateWriter<(Id, FileRecord)>>,
    /// The record of each file; none before something of it is settled.
    records: Vec<Option<Id>>,
    /// The id of the next new record.
    next: Id,
    /// Records that are settled and not on disk.
    unwritten: BTreeMap<Id, FileRecord>,
    progress: Arc<ImportProgress>,
    opened: Instant,
    opened_at: u64,
}

impl FilesQueue {
    /// How far reading has come.
    pub fn progress(&self) -> Arc<ImportProgress> {
        Arc::clone(&self.progress)
    }

    fn deliver(&mut self, chunk: Chunk) -> Delivery {
        self.receipt += 1;
        let receipt = Receipt(self.receipt);
        if let Some(mark) = chunk.mark {
            self.marks.push_back((receipt, chunk.file, mark));
        }
        let found = &self.files[chunk.file].found;
        let defaults = Arc::clone(&found.defaults);
        let Cut { body, framing, oversized, position, .. } = chunk.cut;
        let source = Source::File { path: found.path.clone(), end: position };
        Delivery { body, framing, defaults, source, oversized, recall: false, receipt }
    }

    /// Moves settled marks to the records to be written.
    fn settle(&mut self, receipt: Receipt) {
        let settled = self.marks.partition_point(|(marked, ..)| *marked <= receipt);
        let settled_at = self.opened_at + self.opened.elapsed().as_secs();
        let mut marks = self.marks.drain(..settled).peekable();
        while let Some((_, file, mark)) = marks.next()
            && self.state.is_some()
        {
            let is_last_of_file = marks.peek().is_none_or(|(_, next, _)| *next != file);
            let planned = &self.files[file];
            if let (true, Some(key)) = (is_last_of_file, key(&planned.found)) {
                let record = FileRecord { path: key.to_owned(), mark, changed: planned.changed, settled_at };
                let id = *self.records[file].get_or_insert_with(|| {
                    self.next += 1;
                    self.next - 1
                });
                self.unwritten.insert(id, record);
            }
        }
    }

    /// Reports on a file. A file that is passed is settled with the chunks handed out before it.
    fn report(&mut self, report: &FileReport, passed: Option<(usize, Mark)>) {
        tracing::info!("{report}");
        self.marks.extend(passed.map(|(file, mark)| (Receipt(self.receipt), file, mark)));
    }
}

impl Queue for FilesQueue {
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        while self.ended.is_none() {
            match self.handed.recv().await {
                Some(ReaderOutput::Chunk(chunk)) => return Ok(Some(self.deliver(chunk))),
                Some(ReaderOutput::Reported(report, passed)) => self.report(&report, passed),
                Some(ReaderOutput::LeftOut(problem)) => {
                    tracing::error!(
                        problem,
                        "a file of an imported directory is left out; the others are read"
                    );
                    self.unread.add(problem);
                }
                Some(ReaderOutput::End) => self.ended = Some(self.unread.ensure_none()),
                Some(ReaderOutput::Failed(problem)) => self.ended = Some(Err(problem)),
                None => {
                    self.ended = Some(Err("the thread that reads the files ended unexpectedly".to_owned()));
                }
            }
        }
        match &self.ended {
            Some(Err(problem)) => Err(QueueError(problem.clone())),
            _ => Ok(None),
        }
    }

    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        if let Some(writer) = &mut self.state {
            // Waits for a write that was begun by a call that was given up: it covers these records, too.
            writer.wait().await.map_err(QueueError)?;
        }
        self.settle(receipt);
        let Some(writer) = self.state.as_mut().filter(|_| !self.unwritten.is_empty()) else { return Ok(()) };
        writer.begin(self.unwritten.iter().map(|(id, record)| (*id, record.clone())).collect());
        writer.wait().await.map_err(QueueError)?;
        self.unwritten.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
