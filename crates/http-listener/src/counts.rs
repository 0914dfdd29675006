//! Counts of a listener's connections.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of connections, since the start.
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

    /// Requests of valid peers that found no slot, and connections that were not accepted for lack of room.
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
