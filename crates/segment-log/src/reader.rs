//! The thread that reads the durable part of the log ahead of the acknowledgement, for a receiver that has not
//! kept up with the writer.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::disk::{Directory, is_short_of_descriptors};
use crate::progress::{LogProgress, Place, ReadablePart};
use crate::scan::{Scan, ScannedFrame};
use crate::segments::{self, file_name};
use crate::writer::WriterCommand;
use crate::{Entry, Gap, LogError};

/// Batches that wait to be received, at most.
pub(crate) const BATCHES_MAX: usize = 4;

/// A batch is handed over when it holds this much.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_FRAMES: usize = 1024;

/// How long the reader rests when there is no file descriptor to open a segment with.
const DESCRIPTOR_REST: Duration = Duration::from_millis(100);

/// What the reader hands over at once.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) entries: Vec<Entry>,
    /// All numbers below this one have been handed out or are lost.
    pub(crate) position: u64,
}

/// Reads on from where the log is acknowledged.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) directory: Directory,
    pub(crate) progress: Arc<LogProgress>,
    /// Weak, so that the writer ends when the handles are gone.
    pub(crate) commands: mpsc::WeakSender<WriterCommand>,
    pub(crate) batches: mpsc::Sender<Result<Batch, LogError>>,
    /// Frames that end here or before were acknowledged in an earlier run.
    pub(crate) acknowledged: u64,
    /// All numbers below this one are dealt with.
    pub(crate) position: u64,
}

/// Why the reader ends.
enum Halt {
    /// Nobody listens any more.
    Closed,
    /// The disk refuses to be read. To step over that could lose events that are only out of reach.
    Unreadable { segment: u64, error: io::Error },
}

impl Reader {
    /// Works until the log is closed or the queue is gone.
    pub(crate) fn run(mut self) {
        let Err(Halt::Unreadable { segment, error }) = self.follow() else { return };
        let path = self.directory.file(&file_name(segment));
        let reason = format!(
            "can't read {}: {error}: check the disk; a segment that can't be repaired may be moved away, \
             and its events are then counted as lost",
            path.display()
        );
        // Whoever received may have gone.
        let _gone = self.batches.blocking_send(Err(LogError(reason)));
    }

    fn follow(&mut self) -> Result<(), Halt> {
        let mut place = Place { position: self.position, ..Place::default() };
        let mut scan: Option<(u64, Scan)> = None;
        while let Some(part) = self.progress.wait_beyond(place) {
            let at = part.segment;
            let unreadable = |error| Halt::Unreadable { segment: at, error };
            let mut current = match (part.from, scan.take()) {
                (None, Some((segment, scan))) if segment == at => Some(scan),
                (None, _) => self.open(at, segments::HEAD_BYTES, at).map_err(unreadable)?,
                // What is in between was handed past us.
                (Some(place), _) => {
                    self.position = place.position;
                    self.open(at, place.offset, place.position).map_err(unreadable)?
                }
            };
            match &mut current {
                Some(current) => self.read(current, &part)?,
                None => self.miss(&part)?,
            }
            place = match part.limit {
                Some(offset) => Place { segment: at, offset, position: self.position },
                None => Place { segment: part.ceiling, offset: 0, position: self.position },
            };
            scan = current.map(|scan| (at, scan));
        }
        Ok(())
    }

    /// Begins at `offset` of a segment, where the event numbered `first` is expected. `None`: the file is gone.
    /// While file descriptors are short it waits: the events are as safe in the file as they were.
    fn open(&self, segment: u64, offset: u64, first: u64) -> io::Result<Option<Scan>> {
        let name = file_name(segment);
        let path = self.directory.file(&name);
        let mut is_told = false;
        loop {
            match self.directory.open_to_read(&name) {
                Ok(file) => return Ok(Some(Scan::new(path, file, offset, first))),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) if is_short_of_descriptors(&error) && !self.progress.is_closed() => {
                    if !is_told {
                        tracing::warn!(segment = %path.display(), %error, "the queue waits to be read; raise LimitNOFILE");
                    }
                    is_told = true;
                    thread::sleep(DESCRIPTOR_REST);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands out what `part` holds.
    fn read(&mut self, scan: &mut Scan, part: &ReadablePart) -> Result<(), Halt> {
        let unreadable = |error| Halt::Unreadable { segment: part.segment, error };
        let limit = part.limit.map_or_else(|| scan.file_bytes(), Ok).map_err(unreadable)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(found) = scan.next(limit, part.ceiling).map_err(unreadable)? {
            let ScannedFrame { gap, head, header, body } = found;
            self.report(gap)?;
            self.position = self.position.max(head.end());
            if head.end() <= self.acknowledged {
                continue;
            }
            bytes += body.len();
            entries.push(head.entry(header, body));
            if bytes >= BATCH_BYTES || entries.len() >= BATCH_FRAMES {
                self.hand_over(std::mem::take(&mut entries))?;
                bytes = 0;
            }
        }
        self.report(scan.finish(part.ceiling))?;
        self.position = self.position.max(part.ceiling);
        self.hand_over(entries)
    }

    /// Gives up on a part whose file is gone.
    fn miss(&mut self, part: &ReadablePart) -> Result<(), Halt> {
        let first = self.position.max(part.segment);
        let segment = self.directory.file(&file_name(part.segment));
        let events = part.ceiling.saturating_sub(first);
        self.report(Some(Gap { segment, offset: 0, bytes: 0, first, events }))?;
        self.position = self.position.max(part.ceiling);
        self.hand_over(Vec::new())
    }

    /// Tells the writer, who keeps the books, and waits until they are right: whoever receives what is behind
    /// the gap, or learns that nothing is, finds it counted.
    fn report(&self, gap: Option<Gap>) -> Result<(), Halt> {
        let Some(gap) = gap.filter(|gap| gap.events > 0) else { return Ok(()) };
        let commands = self.commands.upgrade().ok_or(Halt::Closed)?;
        let (reply, answer) = oneshot::channel();
        commands.blocking_send(WriterCommand::Lost(gap, reply)).map_err(|_| Halt::Closed)?;
        drop(commands);
        answer.blocking_recv().map_err(|_| Halt::Closed)
    }

    fn hand_over(&self, entries: Vec<Entry>) -> Result<(), Halt> {
        let batch = Batch { entries, position: self.position };
        self.batches.blocking_send(Ok(batch)).map_err(|_| Halt::Closed)
    }
}
