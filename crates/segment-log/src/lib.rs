//! A durable log of frames of bytes on the local disk, in segment files.
//!
//! An append is one frame, which is answered only when it is safe on disk; appends that wait at the same time share one
//! fsync. A frame stands for one or more *events*, which are numbered from 0 on for as long as the directory lives, and no
//! number is ever given twice. The acknowledged position is one number in a small file; segments wholly below it are
//! removed.
//!
//! - A write that was cut short by a crash was never answered, and is cut off on opening.
//! - Damage elsewhere costs the frames that it hit and no others: it is stepped over, logged and counted.
//! - After a failed fsync the log stops for good: the content of the disk is unknown then. Entries handed out before are
//!   still acknowledged, if its own file can be written.
//! - Every start proves that acknowledgements can be made durable before it gives anything out.
//! - A full disk or a full log refuses appends and harms nothing; it goes on when there is room again.
//!
//! Two threads do the work: the `writer` owns every change, the `reader` reads ahead. While the receiver keeps up, the
//! writer itself hands over new durable entries (`handoff`). `frame`, `segments` and `checkpoint` describe the files.
//!
//! ```
//! use segment_log::{Frame, LogSettings, open};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! let (mut reader, appender, _opened) = open(&LogSettings::new(directory.path().join("log"), 1 << 20))?;
//! appender.append(Frame { events: 1, kind: 0, header: "".into(), body: "hello".into() }).await?;
//! let entry = reader.next().await?.expect("there is one");
//! assert_eq!(&*entry.body, b"hello");
//! reader.acknowledge(entry.last()).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use self::appender::{AppendError, Appender, Frame};
use self::disk::Directory;
use self::progress::LogProgress;
use self::reader::Reader;
pub use self::recovery::{AtStart, OpenError, Opened, Torn};
use self::threads::Threads;
use self::writer::{GROUP_MAX, Writer, WriterCommand};

mod appender;
mod checkpoint;
mod checksummed;
mod disk;
mod frame;
mod handoff;
mod lock;
mod progress;
mod ranges;
mod reader;
mod recovery;
mod scan;
mod segments;
mod threads;
mod writer;

#[cfg(test)]
mod model;

/// The version of the files' format. A directory of a newer version is refused, never guessed at.
const FORMAT: u32 = 2;

/// The oldest version that is read. In 1 every frame is a JSON document.
const FORMAT_OLDEST: u32 = 1;

/// Whether files of this version are read.
const fn is_read(format: u32) -> bool {
    FORMAT_OLDEST <= format && format <= FORMAT
}

/// Where the log lives and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The directory; made when it is missing.
    pub directory: PathBuf,
    /// Bytes on disk, at most.
    pub size_max: u64,
    /// The names of these two settings, for messages.
    pub names: SettingNames,
}

impl LogSettings {
    /// Settings of a program that has no names for them.
    pub fn new(directory: impl Into<PathBuf>, size_max: u64) -> Self {
        Self { directory: directory.into(), size_max, names: SettingNames::default() }
    }
}

/// The names of the settings in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingNames {
    /// [`LogSettings::directory`].
    pub directory: &'static str,
    /// [`LogSettings::size_max`].
    pub size_max: &'static str,
}

impl Default for SettingNames {
    fn default() -> Self {
        Self { directory: "directory", size_max: "size_max" }
    }
}

/// Why the log can't go on. It has already done what can be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LogError(pub String);

/// A frame that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of its first event.
    pub first: u64,
    /// How many events it stands for, at least one.
    pub events: u32,
    /// As [`Frame::kind`].
    pub kind: u8,
    /// As [`Frame::header`].
    pub header: Bytes,
    /// As [`Frame::body`].
    pub body: Bytes,
}

impl Entry {
    /// The number of its last event: what [`LogReader::acknowledge`] takes.
    pub fn last(&self) -> u64 {
        self.end() - 1
    }

    /// The number behind that of its last event.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.events)
    }
}

/// A part of the log that can't be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The file.
    pub segment: PathBuf,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Damaged bytes; 0 when they are missing altogether.
    pub bytes: u64,
    /// The sequence number of the first event that is lost.
    pub first: u64,
    /// Events that are lost; 0: none that was still to be given out.
    pub events: u64,
}

/// Opens the log, and repairs what a crash left behind. One process at a time can.
///
/// The log is closed, and free for another process, when the queue and all appenders are dropped; the last
/// one to go waits for the disk.
///
/// # Errors
/// When another process has it, when its format is another version's, or when the disk refuses.
pub fn open(settings: &LogSettings) -> Result<(LogReader, Appender, Opened), OpenError> {
    open_on(Directory::new(&settings.directory).named(settings.names), settings.size_max)
}

fn open_on(directory: Directory, size_max: u64) -> Result<(LogReader, Appender, Opened), OpenError> {
    let setting = directory.names().size_max;
    let path = directory.path().to_owned();
    let failed = |reason| OpenError::Storage {
        action: "start the threads of",
        path: path.clone(),
        reason,
        advice: "raise the limit of threads (TasksMax= in the unit, pids of the container, ulimit -u)"
            .to_owned(),
    };
    let recovered = recovery::recover(directory.clone(), size_max)?;
    let acknowledged = recovered.checkpoint.acknowledged();
    let progress = Arc::new(LogProgress::new(recovered.tail(), acknowledged));
    // Before the channel: where the reader can't be started, the writer is waited for, which ends once that is closed.
    let mut threads = Threads::default();
    let (commands, to_do) = mpsc::channel(GROUP_MAX);
    let (writer, opened) = Writer::new(recovered, Arc::clone(&progress), size_max);
    let reader = Reader::new(directory, Arc::clone(&progress), commands.downgrade(), acknowledged);
    threads.spawn("queue-writer", move || writer.run(to_do)).map_err(&failed)?;
    threads.spawn("queue-reader", move || reader.run()).map_err(failed)?;
    let threads = Arc::new(threads);
    let queue = LogReader {
        ready: VecDeque::new(),
        is_until_empty: false,
        progress: Arc::clone(&progress),
        commands: commands.clone(),
        _threads: Arc::clone(&threads),
    };
    let at_start = AtStart::new(&opened);
    Ok((queue, Appender { size_max, setting, at_start, progress, commands, _threads: threads }, opened))
}

/// The way out of the log.
#[derive(Debug)]
pub struct LogReader {
    ready: VecDeque<Entry>,
    is_until_empty: bool,
    progress: Arc<LogProgress>,
    // The threads come last: they end when the channels are closed.
    commands: mpsc::Sender<WriterCommand>,
    _threads: Arc<Threads>,
}

impl LogReader {
    /// Whether the queue ends once everything durable has been handed out (`--once`), or waits for more.
    pub fn until_empty(&mut self, is_until_empty: bool) {
        self.is_until_empty = is_until_empty;
    }

    /// Waits for the next entry; `Ok(None)` once everything durable has been handed out, if it is [until
    /// empty](LogReader::until_empty). A receiver that keeps up gets the appended bytes; else the entry is read from disk,
    /// and its body may be a slice of up to 512 KiB that were read at once, which it keeps in memory.
    ///
    /// Cancel-safe: an entry is either returned or still in the log.
    ///
    /// # Errors
    /// When the log can't be read any more, or has stopped for good.
    pub async fn next(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            self.ensure_acknowledgeable()?;
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let has_all = self.progress.take(&mut self.ready)?;
            if !self.ready.is_empty() {
                continue;
            }
            if self.is_until_empty && has_all {
                return Ok(None);
            }
            self.progress.handed().await;
        }
    }

    /// Forgets every event up to and including the number `last`. `Ok` means that it survives a power cut. To acknowledge a
    /// number that was already covered does nothing.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub async fn acknowledge(&mut self, last: u64) -> Result<(), LogError> {
        let (reply, answer) = oneshot::channel();
        let gone = || LogError(GONE.to_owned());
        let command = WriterCommand::Acknowledge(last.saturating_add(1), reply);
        self.commands.send(command).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Whether acknowledgements can be made durable, as far as is known; it costs next to nothing.
    ///
    /// # Errors
    /// After a failed fsync: nothing is trusted to be writable any more.
    pub fn ensure_acknowledgeable(&self) -> Result<(), LogError> {
        self.progress.stopped().map_or(Ok(()), |reason| Err(LogError(reason.to_string())))
    }
}

/// Only a defect ends a thread before its handles.
const GONE: &str = "a thread of the queue has ended";

#[cfg(test)]
mod tests;
