//! What `/status` says of the queue, by its kind.

use serde::{Deserialize, Serialize};

/// What the events wait in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueStatus {
    /// `embedded`, `kafka` or `storage`.
    pub kind: String,
    /// Events (in Kafka: messages; in a bucket: objects) that are not acknowledged.
    pub depth: u64,
    /// Those of them that wait: they are not taken to be counted yet.
    pub waiting: u64,
    /// Why it can't take or give events.
    pub trouble: Option<String>,
    /// What only the log on the local disk has.
    #[serde(flatten)]
    pub embedded: Option<EmbeddedStatus>,
    /// What only a broker has.
    #[serde(flatten)]
    pub kafka: Option<KafkaStatus>,
    /// What only a bucket has.
    #[serde(flatten)]
    pub storage: Option<StorageStatus>,
}

/// What the log on the local disk says beside its depth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddedStatus {
    /// Bytes on disk.
    pub size_bytes: u64,
    /// Bytes that it may have there.
    pub size_max_bytes: u64,
    /// Events known to be lost to damage of the disk.
    #[serde(default)]
    pub events_lost: u64,
    /// Events at most that the start cut off its damaged end and that may have been answered.
    #[serde(default)]
    pub events_perhaps_lost: u64,
    /// Events that the start found although they were never answered.
    #[serde(default)]
    pub events_found: u64,
    /// Bytes that the start cut off, for they are no whole frame.
    #[serde(default)]
    pub torn_bytes: u64,
}

/// What a broker says beside its depth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaStatus {
    /// Messages behind what is committed, in the partitions of this process.
    #[serde(default)]
    pub lag: u64,
    /// Partitions that this process reads.
    pub partitions: u64,
    /// Whether fetching is paused because the pipeline is full.
    pub paused: bool,
    /// Messages that the broker threw away before they were read.
    #[serde(default)]
    pub messages_lost: u64,
}

/// What a bucket says beside its depth. Times are Unix seconds, by the store's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageStatus {
    /// Bytes of the objects that wait, as they are stored.
    pub bytes_waiting: u64,
    /// Seconds between the oldest object that waits and the newest that was found; 0 while none waits.
    pub lag_seconds: u64,
    /// When the newest object that was found was written; 0 before one was.
    pub newest_found: u64,
    /// When the newest object that is done was written; 0 before one was.
    pub newest_done: u64,
    /// Objects counted to their end since the start.
    pub objects_counted: u64,
    /// Objects left out since the start: damaged, gone, or of a format that is not read.
    pub objects_left_out: u64,
    /// Bytes of objects read since the start, as they are stored.
    pub bytes_read: u64,
    /// Listings of a source since the start.
    pub listings: u64,
    /// Those of them that failed.
    pub listings_failed: u64,
}
