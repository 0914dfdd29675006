//! The thread that reads the durable part of the log ahead of the acknowledgement, when the receiver has not kept up with
//! the writer.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::disk::{CHECK_SEGMENT, Directory, is_short_of_descriptors};
use crate::handoff::Place;
use crate::progress::{Closing, LogProgress, ReadablePart};
use crate::scan::{Scan, ScannedFrame};
use crate::segments::file_name;
use crate::writer::WriterCommand;
use crate::{Entry, Gap, LogError};

/// The size at which a batch is handed over.
pub(crate) const BATCH_BYTES: usize = 512 * 1024;
const BATCH_FRAMES: usize = 1024;

/// How long the reader rests when there is no file descriptor to open a segment with.
const DESCRIPTOR_REST: Duration = Duration::from_millis(100);

/// Reads on from where the log is acknowledged.
#[derive(Debug)]
pub(crate) struct Reader {
    directory: Directory,
    progress: Arc<LogProgress>,
    /// Weak, so that the writer ends with the handles.
    commands: mpsc::WeakSender<WriterCommand>,
    /// Frames that end here or before were acknowledged in an earlier run.
    acknowledged: u64,
}

/// Why the reader ends.
enum Halt {
    /// The receiver is gone.
    Closed,
    /// The disk can't be read. Stepping over that could lose events that are only out of reach.
    Unreadable { segment: u64, error: io::Error },
}

impl Reader {
    pub(crate) fn new(
        directory: Directory,
        progress: Arc<LogProgress>,
        commands: mpsc::WeakSender<WriterCommand>,
        acknowledged: u64,
    ) -> Self {
        Self { directory, progress, commands, acknowledged }
    }

    /// Works until the log is closed or can't be read.
    pub(crate) fn run(self) {
        let _closing = Closing(Arc::clone(&self.progress));
        let Err(Halt::Unreadable { segment, error }) = self.follow() else { return };
        let path = self.directory.file(&file_name(segment));
        self.progress.end(LogError(format!("can't read {}: {error}: {CHECK_SEGMENT}", path.display())));
    }

    fn follow(&self) -> Result<(), Halt> {
        let mut known: Option<(Place, Scan)> = None;
        while let Some(part) = self.progress.wait_for_part() {
            let mut scan = match known.take() {
                Some((place, scan)) if place == part.from => Some(scan),
                // The writer has handed over the entries in between.
                _ => self.open(part.from).map_err(|error| unreadable(&part, error))?,
            };
            let end = match &mut scan {
                Some(scan) => self.read(scan, &part)?,
                None => self.miss(&part)?,
            };
            known = scan.map(|scan| (end, scan));
        }
        Ok(())
    }

    /// Opens a segment to read from a place on. `None`: the file is gone.
    ///
    /// Waits while file descriptors are short: the events are as safe in the file as they were.
    fn open(&self, from: Place) -> io::Result<Option<Scan>> {
        let name = file_name(from.segment);
        let path = self.directory.file(&name);
        let mut is_told = false;
        loop {
            match self.directory.open_to_read(&name) {
                Ok(file) => return Ok(Some(Scan::new(path, file, from.offset, from.position))),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) if is_short_of_descriptors(&error) && !self.progress.has_ended() => {
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

    /// Hands out the entries of `part`. Returns where it ends.
    fn read(&self, scan: &mut Scan, part: &ReadablePart) -> Result<Place, Halt> {
        let limit =
            part.limit.map_or_else(|| scan.file_bytes(), Ok).map_err(|error| unreadable(part, error))?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(found) = scan.next(limit, part.ceiling).map_err(|error| unreadable(part, error))? {
            let ScannedFrame { gap, head, header, body } = found;
            self.report(gap)?;
            if head.end() <= self.acknowledged {
                continue;
            }
            bytes += header.len() + body.len();
            entries.push(head.entry(header, body));
            if bytes >= BATCH_BYTES || entries.len() >= BATCH_FRAMES {
                self.hand_over(std::mem::take(&mut entries), None)?;
                bytes = 0;
            }
        }
        self.report(scan.finish(part.ceiling))?;
        let end = Place { offset: limit, position: part.ceiling, ..part.from };
        self.hand_over(entries, Some(end))?;
        Ok(end)
    }

    /// Gives up on a part whose file is gone.
    fn miss(&self, part: &ReadablePart) -> Result<Place, Halt> {
        let first = part.from.position.max(self.acknowledged);
        let segment = self.directory.file(&file_name(part.from.segment));
        let events = part.ceiling.saturating_sub(first);
        self.report(Some(Gap { segment, offset: 0, bytes: 0, first, events }))?;
        let end = Place { position: part.ceiling, ..part.from };
        self.hand_over(Vec::new(), Some(end))?;
        Ok(end)
    }

    /// Reports to the writer, which keeps the books, and waits until they are right: a receiver that gets entries behind the
    /// gap, or the end, finds it counted.
    fn report(&self, gap: Option<Gap>) -> Result<(), Halt> {
        let Some(gap) = gap.filter(|gap| gap.events > 0) else { return Ok(()) };
        let commands = self.commands.upgrade().ok_or(Halt::Closed)?;
        let (reply, answer) = oneshot::channel();
        commands.blocking_send(WriterCommand::Lost(gap, reply)).map_err(|_| Halt::Closed)?;
        drop(commands);
        answer.blocking_recv().map_err(|_| Halt::Closed)
    }

    fn hand_over(&self, entries: Vec<Entry>, end: Option<Place>) -> Result<(), Halt> {
        if self.progress.put(entries, end) { Ok(()) } else { Err(Halt::Closed) }
    }
}

fn unreadable(part: &ReadablePart, error: io::Error) -> Halt {
    Halt::Unreadable { segment: part.from.segment, error }
}
