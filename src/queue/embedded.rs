//! The embedded, durable queue: a segmented log on the local disk.

use std::path::PathBuf;

/// Where the log lives and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory; made when it is missing.
    pub directory: PathBuf,
    /// Bytes on disk, at most.
    pub size_max: u64,
}
