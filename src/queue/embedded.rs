//! The embedded, durable queue: a segmented log on the local disk.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::Origin;

/// Where the log lives and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory; made when it is missing.
    pub directory: PathBuf,
    /// Bytes on disk, at most.
    pub size_max: u64,
}

/// The way into the queue.
#[derive(Debug, Clone)]
pub struct Appender;

impl Appender {
    /// Appends a frame. `Ok` means that it survives a power cut.
    ///
    /// # Errors
    /// When it is not in the queue.
    pub async fn append(&self, frame: Frame) -> Result<(), AppendError> {
        drop(frame);
        std::future::ready(Err(AppendError::Full)).await
    }

    /// Whether an append could succeed.
    pub fn is_accepting(&self) -> bool {
        false
    }
}

/// One push body, checked.
#[derive(Debug, Clone)]
pub struct Frame {
    /// How many events are in it.
    pub events: u32,
    /// What the URL said of them.
    pub origin: Arc<Origin>,
    /// The body, decompressed.
    pub body: Bytes,
}

/// Why a frame is not in the queue.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room.
    #[error("the queue is full")]
    Full,
    /// Larger than a frame can be.
    #[error("the frame is too large")]
    TooLarge,
    /// The disk refused.
    #[error("{0}")]
    Disk(String),
    /// The log can't be trusted any more.
    #[error("{0}")]
    Poisoned(String),
}
