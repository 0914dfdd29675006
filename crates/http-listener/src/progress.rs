//! What a connection and those who decide about it tell one another.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// What times are told from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What the requests of a connection tell the task that drives it, and those who have seats to give; and what these tell
/// them.
#[derive(Debug, Default)]
pub(crate) struct RequestProgress {
    /// A request has arrived.
    seen: AtomicBool,
    /// A request is being answered.
    under_way: AtomicBool,
    /// Since when, in milliseconds.
    since: AtomicU64,
    /// What the request asks for is being done, and its answer must come.
    kept: AtomicBool,
    /// The peer does not take what it is sent.
    blocked: AtomicBool,
    /// A request's body was left unread.
    unread: AtomicBool,
    /// Its seat was taken away.
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

    /// From here on the request is not to be broken off.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Whether a request that is under way can be broken off.
    pub(crate) fn yields(&self) -> bool {
        !(self.is_under_way() && self.kept.load(Ordering::Relaxed))
    }

    /// It has a seat again.
    pub(crate) fn reseat(&self) {
        self.displaced.store(false, Ordering::Release);
    }

    /// Takes the seat of the request that is under way.
    pub(crate) fn displace(&self) {
        self.displaced.store(true, Ordering::Release);
        self.told.notify_one();
    }

    /// Resolves when the seat was taken away.
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
