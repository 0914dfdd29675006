//! The way into the log.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::frame::Record;
use crate::progress::LogProgress;
use crate::threads::Threads;
use crate::writer::{AppendReply, WriterCommand};
use crate::{AtStart, GONE};

/// One append, which is handed out as one entry.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Events in `body`. They take as many sequence numbers, at least one.
    pub events: u32,
    /// The kind of `body`; the log does not look at it.
    pub kind: u8,
    /// The header of the body: less than 16 MiB.
    pub header: Bytes,
    /// The events: less than 4 GiB.
    pub body: Bytes,
}

/// Why a frame was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The log has its largest size. Acknowledgements make room.
    #[error("the queue is full")]
    Full,
    /// The frame does not fit even into an empty log.
    #[error("{bytes} bytes do not fit into the queue, which takes {bytes_max}: raise {setting}")]
    TooLarge {
        /// The frame's length.
        bytes: u64,
        /// The greatest length there is room for.
        bytes_max: u64,
        /// The setting to raise.
        setting: &'static str,
    },
    /// The disk refused it, or the directory is gone, and the log is unchanged, unless the directory went in the very moment of
    /// the write. It goes on when the disk allows.
    #[error("{0}")]
    Disk(String),
    /// The log has stopped for good. The frame may or may not be in it when it is opened again.
    #[error("the queue has stopped: {0}")]
    Stopped(String),
}

/// The way into the log.
#[derive(Debug, Clone)]
pub struct Appender {
    pub(crate) size_max: u64,
    pub(crate) setting: &'static str,
    pub(crate) at_start: AtStart,
    pub(crate) progress: Arc<LogProgress>,
    // The threads come last: they end when the channels are closed.
    pub(crate) commands: mpsc::Sender<WriterCommand>,
    pub(crate) _threads: Arc<Threads>,
}

impl Appender {
    /// Appends a frame. `Ok` means that it survives a power cut. A call that is given up leaves the frame
    /// wholly in the log, or not at all.
    ///
    /// # Errors
    /// When the frame is not in the log; only after [`AppendError::Stopped`] that is not certain.
    pub async fn append(&self, frame: Frame) -> Result<(), AppendError> {
        self.send(frame, None).await
    }

    /// The same, and keeps `held` for as long as the frame waits: until it is durable or refused, also where the call is
    /// given up before. What it stands for, a share of memory for example, then bounds the frames that wait.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub async fn append_holding(&self, frame: Frame, held: Box<dyn Any + Send>) -> Result<(), AppendError> {
        self.send(frame, Some(held)).await
    }

    async fn send(&self, frame: Frame, held: Option<Box<dyn Any + Send>>) -> Result<(), AppendError> {
        let bytes = frame.body.len() as u64;
        let too_large = || AppendError::TooLarge {
            bytes,
            bytes_max: self.size_max.min(u32::MAX.into()),
            setting: self.setting,
        };
        let record = Record::new(frame).ok_or_else(too_large)?;
        let gone = || AppendError::Stopped(GONE.to_owned());
        let (reply, answer) = oneshot::channel();
        let command = WriterCommand::Append(record, AppendReply { held, sender: reply });
        self.commands.send(command).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Events that are durable and not yet acknowledged, without those that are lost.
    pub fn depth(&self) -> u64 {
        self.progress.gauges().depth
    }

    /// Those of them that wait for the receiver: they are not read into hand yet.
    pub fn waiting(&self) -> u64 {
        self.progress.unread()
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.progress.gauges().size
    }

    /// Bytes on disk, at most.
    pub fn size_max(&self) -> u64 {
        self.size_max
    }

    /// Events that were found lost to damage since the log was opened.
    pub fn lost(&self) -> u64 {
        self.progress.gauges().lost
    }

    /// The state of the log's end when it was opened.
    pub fn at_start(&self) -> AtStart {
        self.at_start
    }

    /// `false` while the log is full or its directory is gone, and for good when it has stopped. A full disk does not count,
    /// for the next append may be shorter: see [`Appender::refusal`].
    pub fn is_accepting(&self) -> bool {
        let gauges = self.progress.gauges();
        !gauges.is_full && !gauges.is_missing && self.stopped().is_none()
    }

    /// Whether it takes nothing only because it has its largest size.
    pub fn is_full(&self) -> bool {
        let gauges = self.progress.gauges();
        gauges.is_full && !gauges.is_missing && self.stopped().is_none()
    }

    /// Why the disk refused the last append: until it takes one, or [`Appender::check`] finds that it has room again.
    pub fn refusal(&self) -> Option<Arc<str>> {
        self.progress.refusal()
    }

    /// For how long the disk has not answered, if that is ten seconds or more.
    pub fn stalled_for(&self) -> Option<Duration> {
        self.progress.stalled_for()
    }

    /// Asks the log to check that its directory is still there, and whether a disk that has refused an append has room again;
    /// by itself it checks only on an append. Logs that the disk does not answer, or answers again. Does not wait.
    pub fn check(&self) {
        self.progress.log_stall();
        // A full channel means that appends wait, and each of them checks.
        let _busy = self.commands.try_send(WriterCommand::Check);
    }

    /// Why the log has stopped for good, if it has. [`LogReader::next`](crate::LogReader::next) also returns it, at once.
    pub fn stopped(&self) -> Option<Arc<str>> {
        self.progress.stopped()
    }
}
