//! The contract between the pipeline and whatever the events wait in.
//!
//! A queue hands out [`Delivery`] after [`Delivery`], in order, ahead of any acknowledgement, and gives
//! them out again after a crash until they are acknowledged. It never acknowledges by itself: the
//! [ledger](crate::ledger) says when every batch that answers for a delivery has an outcome.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub mod container;
pub mod embedded;
mod event_type;
pub mod files;
pub mod kafka;

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

/// How the bytes of a [`Delivery`] are divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// One JSON document: an envelope, an array, or a bare event.
    Document,
    /// JSON documents, one a line; a line that is not JSON harms no other line.
    Lines,
    /// What was found in a document that has been read before, in a form that is read faster.
    Extract,
    /// Avro datums back to back.
    Avro(Datums),
    /// No bytes, but as many events as this, which the queue could not make readable. They are booked as
    /// malformed. Whoever takes the number from untrusted bytes bounds it.
    Unreadable(u64),
    /// Several parts one after the other, each divided in its own way: a message of a broker each. Whatever is
    /// wrong with one harms no other.
    Parts(Arc<[Part]>),
}

/// Avro datums one after the other, with nothing before, between or behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datums {
    /// What all of them were written with.
    pub schema: Arc<WriterSchema>,
    /// How many there are. Each is booked, whatever the bytes turn out to be, so whoever takes the number from
    /// untrusted bytes bounds it by their number.
    pub count: u64,
}

/// The schema that Avro datums were written with. What was made of one is remembered by its identity: keep it
/// and clone the [`Arc`], rather than making it anew for every delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct WriterSchema(Box<str>);

impl WriterSchema {
    /// `text` is the schema's JSON; it is not looked at before something is to be read with it.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The schema's JSON.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// One of the parts that a body is made of. It begins where the part before it ends, or at the start of the
/// body; an empty one of JSON holds no event. Bytes behind the last part belong to
/// none and are not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it ends, counted from the start of the body.
    pub end: usize,
    /// How its bytes are divided.
    pub framing: Framing,
}

/// What the place that events came from says of them, for events that do not say it themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// From the file's path (`event_type=…`).
    pub event_type: Option<Box<str>>,
    /// From the push URL.
    pub app_group_id: Option<Box<str>>,
    /// From the push URL.
    pub app_group_name: Option<Box<str>>,
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
            Source::Partition { .. } => "kafka",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Push => write!(f, "a push"),
            Source::File { path, end } => write!(f, "{}, before byte {end} of its content", path.display()),
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
