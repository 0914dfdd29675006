//! The contract between the pipeline and whatever the events wait in.
//!
//! A queue hands out [`Delivery`] after [`Delivery`], in order, ahead of any acknowledgement, and gives
//! them out again after a crash until they are acknowledged. It never acknowledges by itself: the
//! caller says when every batch that answers for a delivery has an outcome.
//!
//! ```
//! use event_queues::Queue as _;
//! use event_queues::embedded::{self, Pushed, EmbeddedSettings};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! let settings = EmbeddedSettings { directory: directory.path().join("queue"), size_max: 1 << 20 };
//! let (mut queue, appender, _opened) = embedded::open(&settings)?;
//! let body = r#"[{"event_type": "users.messages.email.Send", "id": "1"}]"#.into();
//! let pushed = Pushed { events: 1, origin: Default::default(), body, is_extract: false };
//! appender.append(pushed.into()).await?;
//!
//! let delivery = queue.receive().await?.expect("it was pushed");
//! // What is in it is counted, and what was counted is sent. Then:
//! queue.acknowledge(delivery.receipt).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub use self::secret::Secret;
pub use braze_events::{Datums, Framing, Origin, Part, WriterSchema};

#[cfg(test)]
#[path = "../../../tests/support/containers.rs"]
mod containers;
mod content;
pub mod embedded;
mod event_type;
pub mod files;
pub mod kafka;
mod memory;
mod secret;
pub mod storage;

/// What a queue hands over at once: the bytes of one or more events, and where they stand in the queue.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The events as they were received, undecoded.
    pub body: Bytes,
    /// How `body` is to be read.
    pub framing: Framing,
    /// What is known of the events from outside the body.
    pub origin: Arc<Origin>,
    /// Where the body was read from.
    pub source: Source,
    /// How many events the queue left out of `body` because they were too large to be held; they are booked
    /// as malformed.
    pub oversized: u32,
    /// The queue is about to give up what it has handed out up to here: cut at once instead of with the next
    /// flush, so that it is acknowledged in time.
    pub recall: bool,
    /// What [`Queue::acknowledge`] takes once this delivery and all before it are settled.
    pub receipt: Receipt,
}

/// Where the body of a [`Delivery`] was read from, for whoever has to look there. `Display` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Pushes, whose senders are not known any more.
    #[default]
    Push,
    /// A file or a pipe.
    File {
        /// As it was given, or found.
        path: PathBuf,
        /// Where the body ends in its uncompressed content.
        end: u64,
    },
    /// An object of a bucket.
    Object {
        /// Its URL.
        url: Arc<str>,
        /// Where the body ends in its uncompressed content.
        end: u64,
    },
    /// A partition of a broker.
    Partition {
        /// Its topic.
        topic: Arc<str>,
        /// Its number.
        number: i32,
        /// The offset behind the last message.
        end: i64,
    },
}

impl Source {
    /// The value of the `input` label.
    pub const fn input(&self) -> &'static str {
        match self {
            Source::Push => "push",
            Source::File { .. } => "file",
            Source::Object { .. } => "storage",
            Source::Partition { .. } => "kafka",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Push => write!(f, "a push"),
            Source::File { path, end } => write!(f, "{}, before byte {end} of its content", path.display()),
            Source::Object { url, end } => write!(f, "{url}, before byte {end} of its content"),
            Source::Partition { topic, number, end } => write!(f, "{topic}[{number}], before offset {end}"),
        }
    }
}

/// A position in one queue. Later deliveries have greater receipts; the number means nothing elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub u64);

/// Why a queue can't go on. Every variant ends the run: the queue has already done what can be done.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The storage failed in a way after which its content can't be trusted in this process.
    #[error("{0}")]
    Storage(String),
}

/// Where deliveries come from.
pub trait Queue: Send {
    /// Waits for the next delivery. `Ok(None)` says that the queue has ended and none will follow.
    ///
    /// Cancel-safe: a delivery is either returned or still in the queue.
    ///
    /// # Errors
    /// When the queue can't be read any more.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Delivery>, QueueError>> + Send;

    /// Forgets every delivery up to and including `receipt`. `Ok` means that it survives a power cut.
    /// Receipts come in order; to acknowledge one that was already covered does nothing. It stays possible after
    /// `receive` has failed, for what was received before may have been counted meanwhile.
    ///
    /// # Errors
    /// When that could not be made durable. Then nothing more is sent, and it is not called again.
    fn acknowledge(&mut self, receipt: Receipt) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Whether what is sent from here on can be acknowledged, as far as that is known. It is asked before anything is
    /// sent and so must cost next to nothing: what can't be acknowledged comes again with the next start, and would
    /// count twice. Once it has failed nothing more is sent; what was on its way is still
    /// [acknowledged](Queue::acknowledge), if that is possible.
    ///
    /// # Errors
    /// When it can't, for good.
    fn ensure_acknowledgeable(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Why nothing can be acknowledged for the time being, if that is so: then nothing is received, cut or sent, and
    /// what is counted waits, until it is over. It is asked at least once a second. Whoever is told to stop meanwhile does
    /// not wait for the end of it.
    fn held(&self) -> Option<QueueError> {
        None
    }
}
