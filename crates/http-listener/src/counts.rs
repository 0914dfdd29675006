//! What became of the connections of a listener.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of connections, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    pub(crate) open: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) crowded: AtomicU64,
    pub(crate) displaced: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
}

impl Counts {
    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests of peers that may be here, but found no seat, and connections that found no place at all.
    pub fn crowded(&self) -> u64 {
        self.crowded.load(Ordering::Relaxed)
    }

    /// Connections that had to make room for another.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Connections whose TLS handshake failed or took too long.
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }
}
