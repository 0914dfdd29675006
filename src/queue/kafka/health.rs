//! What can be seen of a consumer from outside: for the admin port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// Written by the consumer's thread, read by whoever looks.
#[derive(Debug)]
pub(super) struct Health {
    lag: AtomicU64,
    partitions: AtomicU64,
    skipped: AtomicU64,
    is_connected: AtomicBool,
    is_paused: AtomicBool,
    /// What stands in the way besides a missing broker, in words.
    trouble: watch::Sender<Option<Arc<str>>>,
}

/// A look at a consumer.
#[derive(Debug, Clone)]
pub struct Watch(pub(super) Arc<Health>);

impl Health {
    pub(super) fn new() -> Self {
        Self {
            lag: AtomicU64::new(0),
            partitions: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            is_connected: AtomicBool::new(false),
            is_paused: AtomicBool::new(false),
            trouble: watch::Sender::new(None),
        }
    }

    /// Messages that wait in the partitions of this process.
    pub(super) fn set_lag(&self, messages: u64) {
        self.lag.store(messages, Ordering::Relaxed);
    }

    pub(super) fn set_partitions(&self, partitions: usize) {
        self.partitions.store(partitions as u64, Ordering::Relaxed);
    }

    pub(super) fn skip(&self, messages: u64) {
        self.skipped.fetch_add(messages, Ordering::Relaxed);
    }

    /// Returns whether that is news.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        self.is_connected.swap(is_connected, Ordering::Relaxed) != is_connected
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Returns whether that is news.
    pub(super) fn set_trouble(&self, trouble: Option<&str>) -> bool {
        self.trouble.send_if_modified(|current| {
            let is_new = current.as_deref() != trouble;
            if is_new {
                *current = trouble.map(Into::into);
            }
            is_new
        })
    }
}

impl Watch {
    /// Messages that wait in the partitions of this process: what the broker holds less what is committed.
    pub fn lag(&self) -> u64 {
        self.0.lag.load(Ordering::Relaxed)
    }

    /// How many partitions this process reads.
    pub fn partitions(&self) -> u64 {
        self.0.partitions.load(Ordering::Relaxed)
    }

    /// Messages that the broker had thrown away before they were read, since the start.
    pub fn skipped(&self) -> u64 {
        self.0.skipped.load(Ordering::Relaxed)
    }

    /// Whether fetching is paused because the pipeline is full.
    pub fn is_paused(&self) -> bool {
        self.0.is_paused.load(Ordering::Relaxed)
    }

    /// What keeps events from coming, in words; `None` while all is well.
    pub fn trouble(&self) -> Option<Arc<str>> {
        if !self.0.is_connected.load(Ordering::Relaxed) {
            return Some("no Kafka broker can be reached".into());
        }
        self.0.trouble.borrow().clone()
    }
}
