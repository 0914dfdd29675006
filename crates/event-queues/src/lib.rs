//! The contract between the pipeline and the queue of events.
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
//! let pushed = Pushed { events: 1, defaults: Default::default(), body, is_extract: false };
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
pub use braze_events::{Datums, EventDefaults, Framing, Part, WriterSchema};

#[cfg(test)]
#[path = "../../../tests/support/containers.rs"]
mod containers;
mod content;
pub mod embedded;
mod event_type;
pub mod files;
pub mod kafka;
mod secret;
mod state_file;
pub mod storage;
mod unread;

/// One delivery: the bytes of one or more events, and their place in the queue.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The events as they were received, undecoded.
    pub body: Bytes,
    /// How to read `body`.
    pub framing: Framing,
    /// Facts about the events from outside the body.
    pub defaults: Arc<EventDefaults>,
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

/// Where the body of a [`Delivery`] was read from, for people who look there. `Display` is that place in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Pushes; the senders are not kept.
    #[default]
    Push,
    /// A file or a pipe.
    File {
        /// The path, as given or found.
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

/// Why a queue can't go on. It ends the run: the queue has already done what can be done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct QueueError(pub String);

/// A source of deliveries.
pub trait Queue: Send {
    /// Waits for the next delivery. `Ok(None)` says that the queue has ended and none will follow.
    ///
    /// Cancel-safe: a delivery is either returned or still in the queue.
    ///
    /// # Errors
    /// When the queue can't be read any more.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Delivery>, QueueError>> + Send;

    /// Forgets every delivery up to and including `receipt`. `Ok` means that it survives a power cut. Receipts come in
    /// order; to acknowledge one that was already covered does nothing. It stays possible after `receive` has failed,
    /// because earlier deliveries may have been counted meanwhile.
    ///
    /// # Errors
    /// When that could not be made durable. Then nothing more is sent, and it is not called again.
    fn acknowledge(&mut self, receipt: Receipt) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Whether sends from here on can be acknowledged, as far as that is known. It is called before anything is sent and so
    /// must cost next to nothing: events that can't be acknowledged come again with the next start, and would count twice.
    /// Once it has failed nothing more is sent; sends on their way are still [acknowledged](Queue::acknowledge), if
    /// possible.
    ///
    /// # Errors
    /// When it can't, for good.
    fn ensure_acknowledgeable(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Why nothing can be acknowledged for the time being, if so: then nothing is received, cut or sent, and counts wait
    /// until it is over. It is called at least once a second. A stop meanwhile does not wait for its end.
    fn held(&self) -> Option<QueueError> {
        None
    }
}
