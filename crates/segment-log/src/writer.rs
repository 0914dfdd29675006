//! The one thread that owns the log: it appends, acknowledges and gives space back.
//!
//! It takes all waiting commands at once, and with several appenders those of the next moment ([`gathering`]), writes all
//! frames with as few calls as possible, makes them durable with one fsync, and then answers all.

mod gathering;
mod reply;
mod staged;

use std::fs::File;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use self::gathering::Gathering;
pub(crate) use self::reply::AppendReply;
use self::staged::Staged;
use crate::checkpoint::{Checkpoint, Saved};
use crate::frame::Record;
use crate::progress::{Closing, Gauges, LogProgress, Tail};
use crate::ranges::{length, subtract};
use crate::recovery::Recovered;
use crate::segments::{self, Segments, WriteFailure};
use crate::{AppendError, Gap, LogError, Opened};

/// Commands taken at once, at most.
pub(crate) const GROUP_MAX: usize = 1024;

/// The commands of the writer.
#[derive(Debug)]
pub(crate) enum WriterCommand {
    Append(Record, AppendReply),
    /// Forget everything below the number.
    Acknowledge(u64, oneshot::Sender<Result<(), LogError>>),
    /// The reader found lost numbers.
    Lost(Gap, oneshot::Sender<()>),
    /// Check whether the directory is still there.
    Check,
}

/// The owner of everything that is written.
#[derive(Debug)]
pub(crate) struct Writer {
    segments: Segments,
    checkpoint: Checkpoint,
    progress: Arc<LogProgress>,
    size_max: u64,
    /// The number that the next event gets.
    next: u64,
    /// Lost numbers that are not acknowledged, in order.
    lost: Vec<Range<u64>>,
    lost_events: u64,
    /// An append was refused, and no space has come back since.
    is_full: bool,
    /// What was removed under the log.
    missing: Option<String>,
    /// The bytes that the disk has refused, until it takes some.
    refused_bytes: Option<u64>,
    stopped: Option<Arc<str>>,
    /// Why acknowledgements can't be made durable any more.
    refused: Option<Arc<str>>,
    /// Held until the thread ends.
    _lock: File,
}

impl Writer {
    /// The writer of a log that was opened, and what was found there.
    pub(crate) fn new(recovered: Recovered, progress: Arc<LogProgress>, size_max: u64) -> (Self, Opened) {
        let Recovered { lock, segments, checkpoint, next, lost, opened } = recovered;
        let mut writer = Self {
            segments,
            checkpoint,
            progress,
            size_max,
            next,
            lost,
            lost_events: opened.damaged.iter().map(|gap| gap.events).sum(),
            is_full: false,
            missing: None,
            refused_bytes: None,
            stopped: None,
            refused: None,
            _lock: lock,
        };
        writer.show();
        (writer, opened)
    }

    /// Works until every handle is gone.
    pub(crate) fn run(mut self, mut commands: mpsc::Receiver<WriterCommand>) {
        let closing = Closing(Arc::clone(&self.progress));
        let (mut group, mut gathering) = (Vec::new(), Gathering::default());
        while commands.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            gathering.gather(&mut group, &mut commands);
            closing.watch(|| self.work(&mut group));
        }
        self.close();
    }

    fn work(&mut self, group: &mut Vec<WriterCommand>) {
        let (mut appends, mut acknowledgements) = (Vec::new(), Vec::new());
        let mut upto = self.checkpoint.acknowledged();
        let mut reports = Vec::new();
        for command in group.drain(..) {
            match command {
                WriterCommand::Append(record, reply) => appends.push((record, reply)),
                WriterCommand::Acknowledge(number, reply) => {
                    upto = upto.max(number);
                    acknowledgements.push(reply);
                }
                WriterCommand::Lost(gap, reply) => {
                    self.lose(&gap);
                    reports.push(reply);
                }
                WriterCommand::Check => {
                    self.check_directory();
                    self.probe();
                }
            }
        }
        // Acknowledgements first: they make room.
        if !reports.is_empty() || !acknowledgements.is_empty() {
            self.settle(upto);
        }
        for reply in reports {
            // The reader may be gone.
            let _gone = reply.send(());
        }
        for reply in acknowledgements {
            // The caller may be gone.
            let _gone = reply.send(match &self.refused {
                Some(reason) => Err(LogError(reason.to_string())),
                None => Ok(()),
            });
        }
        self.append_all(appends);
    }

    /// Counts lost numbers, unless they are known or acknowledged.
    fn lose(&mut self, gap: &Gap) {
        let range = gap.first.max(self.checkpoint.acknowledged())..gap.first + gap.events;
        let fresh = subtract(range, &self.lost);
        let events: u64 = fresh.iter().map(length).sum();
        if events == 0 {
            return;
        }
        tracing::error!(
            segment = %gap.segment.display(),
            offset = gap.offset,
            bytes = gap.bytes,
            events,
            "the queue is damaged on disk: events are lost"
        );
        self.lost_events += events;
        self.lost.extend(fresh);
        self.lost.sort_by_key(|range| range.start);
    }

    /// Acknowledges everything below `upto` and gives space back. After a failure `refused` says why. A log that has stopped
    /// for another reason still saves acknowledgements, in a file of their own, and changes nothing else.
    fn settle(&mut self, upto: u64) {
        if self.refused.is_some() {
            return;
        }
        let mut upto = upto.min(self.next).max(self.checkpoint.acknowledged());
        for range in &self.lost {
            // Lost numbers are never acknowledged, so they go with those before them.
            if range.start <= upto {
                upto = upto.max(range.end);
            }
        }
        if upto > self.checkpoint.acknowledged() {
            if let Err(error) = self.checkpoint.save(Saved { acknowledged: upto, next: self.next }) {
                let reason = self.segments.directory().explain(&error);
                let reason = format!("the acknowledgement can't be made durable: {reason}");
                self.refused = Some(Arc::from(reason.as_str()));
                return self.stop(reason);
            }
            self.lost.retain(|range| range.end > upto);
            if self.stopped.is_none() {
                self.release();
            }
        }
        self.show();
    }

    fn release(&mut self) {
        self.check_directory();
        if self.missing.is_some() {
            return; // An emptied directory may be filled from a copy, which is left alone.
        }
        let before = self.segments.size();
        if let Err(error) = self.segments.release(self.checkpoint.acknowledged()) {
            tracing::warn!(
                directory = %self.segments.directory().path().display(),
                %error,
                "an acknowledged part of the queue can't be removed: check the rights of the directory"
            );
        }
        let is_short = self.is_full || self.refused_bytes.is_some();
        if self.checkpoint.acknowledged() == self.next && (is_short || self.segments.is_worth_recycling()) {
            self.recycle();
        }
        if self.segments.size() < before {
            self.is_full = false;
        }
        self.publish_segments();
    }

    /// Gives the space of the last segment back once everything in it is acknowledged.
    fn recycle(&mut self) {
        match self.segments.recycle(self.next) {
            Ok(()) => self.publish_segments(),
            // Its space stays taken until the next try; nothing else depends on it.
            Err(WriteFailure::RolledBack(reason)) => {
                tracing::warn!(reason, "the space of acknowledged events can't be given back");
            }
            Err(WriteFailure::Fatal(reason)) => self.stop(reason),
        }
    }

    /// Checks that the directory and the last segment are still at their paths.
    fn check_directory(&mut self) {
        let missing = self.segments.missing();
        if missing == self.missing {
            return;
        } else if let Some(reason) = &missing {
            tracing::error!(reason, "the queue's directory was taken away: it is closed until that is back");
        } else {
            tracing::info!("the queue's directory is back");
        }
        self.missing = missing;
        self.show();
    }

    /// Gives a disk that has refused an append what is acknowledged, and finds out whether it has room again: many send only
    /// while the log takes something.
    fn probe(&mut self) {
        let Some(bytes) = self.refused_bytes.filter(|_| self.stopped.is_none()) else { return };
        self.release();
        if self.stopped.is_none() && self.missing.is_none() && self.segments.has_room(bytes) {
            tracing::info!("the queue can be written again");
            self.refused_bytes = None;
            self.progress.set_refusal(None);
        }
        self.show();
    }

    /// Appends a group, and answers each append when its fate is certain.
    fn append_all(&mut self, appends: Vec<(Record, AppendReply)>) {
        self.check_directory();
        let mut staged = Staged::default();
        for (record, reply) in appends {
            if reply.is_closed() {
                // The caller has given up: the record need not take room.
                continue;
            }
            match self.admit(&mut staged, &record) {
                Ok(()) => staged.push(record, reply, self.next),
                Err(error) => {
                    self.show();
                    reply.send(Err(error));
                }
            }
        }
        self.commit(&mut staged);
    }

    /// Makes sure that `record` fits into the last segment behind the staged records.
    fn admit(&mut self, staged: &mut Staged, record: &Record) -> Result<(), AppendError> {
        let bytes = record.frame_bytes();
        // One head for the present segment, one for a segment that may have to follow.
        let heads = 2 * segments::HEAD_BYTES;
        if bytes + heads > self.size_max {
            let bytes_max = self.size_max.saturating_sub(heads);
            let setting = self.segments.directory().names().size_max;
            return Err(AppendError::TooLarge { bytes, bytes_max, setting });
        }
        if let Some(missing) = &self.missing {
            return Err(AppendError::Disk(missing.clone()));
        }
        let needed = staged.bytes + bytes + segments::HEAD_BYTES;
        if self.stopped.is_none() && self.segments.size() + needed > self.size_max {
            self.is_full = true;
            // Perhaps everything in the full log is acknowledged already.
            if staged.replies.is_empty() && self.checkpoint.acknowledged() == self.next {
                self.release();
            }
            if self.segments.size() + needed > self.size_max {
                self.is_full = true;
                return Err(AppendError::Full);
            }
        }
        if self.stopped.is_none() && self.segments.is_complete(staged.bytes, bytes, self.next) {
            self.commit(staged);
            if self.stopped.is_none() && self.segments.is_complete(0, bytes, self.next) {
                self.roll(bytes)?;
            }
        }
        match &self.stopped {
            Some(reason) => Err(AppendError::Stopped(reason.to_string())),
            None => Ok(()),
        }
    }

    /// Goes on in a new segment, for an append of this size.
    fn roll(&mut self, bytes: u64) -> Result<(), AppendError> {
        self.segments.roll(self.next).map_err(|failure| self.refusal(failure, bytes))?;
        self.publish_segments();
        Ok(())
    }

    /// The error of a failed append; after some failures the log is stopped.
    fn refusal(&mut self, failure: WriteFailure, bytes: u64) -> AppendError {
        match failure {
            WriteFailure::RolledBack(reason) => {
                self.refused_bytes = Some(bytes);
                self.progress.set_refusal(Some(reason.as_str().into()));
                AppendError::Disk(reason)
            }
            WriteFailure::Fatal(reason) => {
                self.stop(reason.clone());
                AppendError::Stopped(reason)
            }
        }
    }

    /// Writes the staged frames, makes them durable, and answers.
    fn commit(&mut self, staged: &mut Staged) {
        let Staged { pieces, entries, replies, bytes, events } = std::mem::take(staged);
        if replies.is_empty() {
            return;
        }
        let mut slices: Vec<_> =
            pieces.iter().flat_map(|(lead, body)| [IoSlice::new(lead), IoSlice::new(body)]).collect();
        let outcome = match self.segments.append(&mut slices, bytes) {
            Ok(()) => {
                if self.refused_bytes.take().is_some() {
                    self.progress.set_refusal(None);
                }
                self.next += events;
                self.checkpoint.note(self.next);
                self.progress.grow(self.segments.end(), self.next, entries);
                self.check_directory();
                // The directory went in this moment. It is counted, but not safe: if the sender repeats it, its ids are known.
                self.missing.clone().map_or(Ok(()), |missing| Err(AppendError::Disk(missing)))
            }
            Err(failure) => Err(self.refusal(failure, bytes)),
        };
        self.show();
        for reply in replies {
            reply.send(outcome.clone());
        }
    }

    /// Stops: refuses everything from here on.
    fn stop(&mut self, reason: String) {
        tracing::error!(reason, "the queue has stopped");
        let reason = Arc::from(reason);
        self.stopped = Some(Arc::clone(&reason));
        self.progress.stop(reason);
    }

    /// Gives the reader the list of segments.
    fn publish_segments(&self) {
        let (segments, end, next) = (self.segments.firsts(), self.segments.end(), self.next);
        self.progress.set_tail(Tail { segments, end, next });
    }

    /// Brings the gauges up to date.
    fn show(&mut self) {
        // When everything is acknowledged the next append finds room, even after a refusal.
        self.is_full &= self.checkpoint.acknowledged() < self.next;
        let lost: u64 = self.lost.iter().map(length).sum();
        self.progress.show(Gauges {
            depth: (self.next - self.checkpoint.acknowledged()).saturating_sub(lost),
            size: self.segments.size(),
            lost: self.lost_events,
            is_full: self.is_full,
            is_missing: self.missing.is_some(),
        });
    }

    /// Saves how far the log went, so that damage at its end can't pass for a write that was cut short.
    fn close(&mut self) {
        let saved = Saved { next: self.next, ..self.checkpoint.saved() };
        if self.stopped.is_some() || self.checkpoint.saved() == saved {
            return;
        }
        if let Err(error) = self.checkpoint.save(saved) {
            tracing::warn!(%error, "the end of the queue could not be noted; its events are safe");
        }
    }
}
