//! The thread that reads the durable part of the log ahead of the acknowledgement, for a receiver that has not
//! kept up with the writer.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::queue::embedded::Gap;
use crate::queue::embedded::disk::{Directory, is_short_of_descriptors};
use crate::queue::embedded::progress::{Part, Place, Progress};
use crate::queue::embedded::segments::{self, file_name};
use crate::queue::embedded::walk::{Found, Walk};
use crate::queue::embedded::writer::Command;
use crate::queue::{Delivery, QueueError, Source};

/// Batches that wait to be received, at most.
pub(super) const BATCHES_MAX: usize = 4;

/// A batch is handed over when it holds this much.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_FRAMES: usize = 1024;

/// How long the reader rests when there is no file descriptor to open a segment with.
const DESCRIPTOR_REST: Duration = Duration::from_millis(100);

/// What the reader hands over at once.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) deliveries: Vec<Delivery>,
    /// All numbers below this one have been handed out or are lost.
    pub(super) position: u64,
}

/// Reads on from where the log is acknowledged.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) directory: Directory,
    pub(super) progress: Arc<Progress>,
    /// Weak, so that the writer ends when the handles are gone.
    pub(super) commands: mpsc::WeakSender<Command>,
    pub(super) batches: mpsc::Sender<Result<Batch, QueueError>>,
    /// Frames that end here or before were acknowledged in an earlier run.
    pub(super) acknowledged: u64,
    /// All numbers below this one are dealt with.
    pub(super) position: u64,
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
    pub(super) fn run(mut self) {
        let Err(Halt::Unreadable { segment, error }) = self.follow() else { return };
        let path = self.directory.file(&file_name(segment));
        let reason = format!(
            "can't read {}: {error}: check the disk; a segment that can't be repaired may be moved away, \
             and its events are then counted as lost",
            path.display()
        );
        // Whoever received may have gone.
        let _gone = self.batches.blocking_send(Err(QueueError::Storage(reason)));
    }

    fn follow(&mut self) -> Result<(), Halt> {
        let mut place = Place { position: self.position, ..Place::default() };
        let mut walk: Option<(u64, Walk)> = None;
        while let Some(part) = self.progress.wait_beyond(place) {
            let at = part.segment;
            let unreadable = |error| Halt::Unreadable { segment: at, error };
            let mut current = match (part.from, walk.take()) {
                (None, Some((segment, walk))) if segment == at => Some(walk),
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
            walk = current.map(|walk| (at, walk));
        }
        Ok(())
    }

    /// Begins at `offset` of a segment, where the event numbered `first` is expected. `None`: the file is gone.
    /// While file descriptors are short it waits: the events are as safe in the file as they were.
    fn open(&self, segment: u64, offset: u64, first: u64) -> io::Result<Option<Walk>> {
        let name = file_name(segment);
        let path = self.directory.file(&name);
        let mut is_told = false;
        loop {
            match self.directory.open_to_read(&name) {
                Ok(file) => return Ok(Some(Walk::new(path, file, offset, first))),
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
    fn read(&mut self, walk: &mut Walk, part: &Part) -> Result<(), Halt> {
        let unreadable = |error| Halt::Unreadable { segment: part.segment, error };
        let limit = part.limit.map_or_else(|| walk.file_bytes(), Ok).map_err(unreadable)?;
        let (mut deliveries, mut bytes) = (Vec::new(), 0);
        while let Some(found) = walk.next(limit, part.ceiling).map_err(unreadable)? {
            let Found { gap, head, origin, body } = found;
            self.report(gap)?;
            self.position = self.position.max(head.end());
            if head.end() <= self.acknowledged {
                continue;
            }
            bytes += body.len();
            deliveries.push(Delivery {
                body,
                framing: head.framing(),
                origin,
                source: Source::Push,
                oversized: 0,
                recall: false,
                receipt: head.receipt(),
            });
            if bytes >= BATCH_BYTES || deliveries.len() >= BATCH_FRAMES {
                self.hand_over(std::mem::take(&mut deliveries))?;
                bytes = 0;
            }
        }
        self.report(walk.finish(part.ceiling))?;
        self.position = self.position.max(part.ceiling);
        self.hand_over(deliveries)
    }

    /// Gives up on a part whose file is gone.
    fn miss(&mut self, part: &Part) -> Result<(), Halt> {
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
        commands.blocking_send(Command::Lost(gap, reply)).map_err(|_| Halt::Closed)?;
        drop(commands);
        answer.blocking_recv().map_err(|_| Halt::Closed)
    }

    fn hand_over(&self, deliveries: Vec<Delivery>) -> Result<(), Halt> {
        let batch = Batch { deliveries, position: self.position };
        self.batches.blocking_send(Ok(batch)).map_err(|_| Halt::Closed)
    }
}
