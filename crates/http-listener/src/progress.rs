//! State that a connection's requests share with its task and with the connection limit.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// The reference point of times.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shared state of one connection: set by its requests, read by its task and by the connection limit.
#[derive(Debug, Default)]
pub(crate) struct RequestProgress {
    /// A request has arrived.
    seen: AtomicBool,
    /// A request is being answered.
    under_way: AtomicBool,
    /// When the last request began, in milliseconds.
    since: AtomicU64,
    /// The request's work has begun and its answer must be sent.
    kept: AtomicBool,
    /// The peer does not read its answer.
    blocked: AtomicBool,
    /// A request's body was left unread.
    unread: AtomicBool,
    /// The connection ends with its next answer.
    old: AtomicBool,
    /// Its slot was taken away.
    displaced: AtomicBool,
    told: Notify,
    ended: Notify,
}

impl RequestProgress {
    /// A request has arrived.
    pub(crate) fn begin(&self) {
        let since = u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.since.store(since, Ordering::Relaxed);
        self.kept.store(false, Ordering::Relaxed);
        self.under_way.store(true, Ordering::Relaxed);
        self.seen.store(true, Ordering::Relaxed);
    }

    /// Its answer is known.
    pub(crate) fn finish(&self) {
        self.under_way.store(false, Ordering::Relaxed);
    }

    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Ends the connection with its next answer.
    pub(crate) fn grow_old(&self) {
        self.old.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_old(&self) -> bool {
        self.old.load(Ordering::Relaxed)
    }

    /// Whether a request has ever arrived.
    pub(crate) fn is_seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed)
    }

    pub(crate) fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Whether no request is under way, nor its answer.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_under_way() && !self.blocked.load(Ordering::Relaxed)
    }

    /// When the last request began.
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// Protects the request from being cut off from here on.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Whether a request that is under way can be cut off.
    pub(crate) fn yields(&self) -> bool {
        !(self.is_under_way() && self.kept.load(Ordering::Relaxed))
    }

    /// Notes that it has a slot again.
    pub(crate) fn regain_slot(&self) {
        self.displaced.store(false, Ordering::Release);
    }

    /// Takes the slot of the request that is under way.
    pub(crate) fn displace(&self) {
        self.displaced.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Resolves when the slot was taken away.
    pub(crate) async fn displaced(&self) {
        while !self.displaced.load(Ordering::Acquire) {
            self.told.notified().await;
        }
    }

    /// Ends the connection.
    pub(crate) fn end(&self) {
        self.ended.notify_one();
    }

    /// Resolves when the connection is to end.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }
}
