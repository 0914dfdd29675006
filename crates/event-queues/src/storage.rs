//! Objects in a bucket: what Braze's Currents writes to S3, Google Cloud Storage or Azure Blob Storage, as a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Secret;

#[cfg(feature = "storage")]
mod client;

#[cfg(feature = "storage")]
pub use self::client::*;

/// Which buckets are read, and where their state is kept. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// At least one.
    pub sources: Vec<StorageSource>,
    /// How long to wait between two listings.
    pub poll_interval: Duration,
    /// Which objects are counted of a source that is read for the first time.
    pub start: StorageStart,
    /// How long after the newest hour of a source, or the present one if that is earlier, an older one (`date=…`, `2026/11/27/10`)
    /// is still listed for late objects.
    pub lateness: Duration,
    /// The directory of the state; one process at a time.
    pub state_directory: PathBuf,
    /// The keys of `object_store`'s builders: `region`, `endpoint`, `allow_http`, …; values may be secrets.
    pub options: BTreeMap<Box<str>, Secret>,
    /// The URL of the Amazon SQS queue that S3 puts a notification of each new object into, if there is one: then listings
    /// come only every ten minutes, for objects without a notification.
    pub notifications: Option<Box<str>>,
    /// The event types that are counted; objects whose path names another are neither listed nor read.
    pub event_types: BTreeSet<Box<str>>,
}

/// One bucket, or what lies below a prefix in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSource {
    /// `s3://bucket/prefix/`, `gs://…`, `az://container/…`, `file:///directory/`.
    pub url: Box<str>,
    /// For events that do not state theirs.
    pub app_group_id: Option<Box<str>>,
}

impl StorageSource {
    /// Why a URL can't be one that is read, whatever store it names: it may hold a secret, which would stand in logs and in
    /// the state, and the stores' clients leave out what follows these characters.
    #[must_use]
    pub fn refusal(url: &str) -> Option<&'static str> {
        if url.contains('@') && !url.starts_with("abfs") {
            return Some("has an @ in it; credentials belong into queue.storage.options");
        }
        url.contains(['?', '#']).then_some(
            "has a ? or # in it, as a URL with a signature has; credentials belong into queue.storage.options",
        )
    }
}

/// Says the present moment, in Unix seconds.
pub type Now = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How long buckets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageRun {
    /// Until the process stops.
    Follow,
    /// Until all objects of the first listing have been read.
    Once,
    /// As once, but counts objects again that were counted before.
    Again,
}

/// Where the first reading of a source begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageStart {
    /// With objects that come after the first listing.
    Now,
    /// With the oldest object.
    Beginning,
    /// With objects from this Unix second on, by the hour in their path, else by their time of writing.
    At(i64),
}
