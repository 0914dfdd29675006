//! Read buffers that come back when the body that was cut from them is dropped.
//!
//! A fresh buffer costs a page fault for every 4 KiB, which is more than copying the bytes out of the page
//! cache; a buffer that returns costs nothing.

use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;

/// How many buffers wait for reuse at most: the deliveries that a few lanes hold at once. Further buffers are freed when
/// they come back.
const IDLE_MAX: usize = 16;

/// Buffers of one size.
pub(crate) struct BufferPool {
    home: SyncSender<Vec<u8>>,
    idle: Receiver<Vec<u8>>,
    buffer_bytes: usize,
}

impl BufferPool {
    pub(crate) fn new(buffer_bytes: usize) -> Self {
        let (home, idle) = sync_channel(IDLE_MAX);
        Self { home, idle, buffer_bytes }
    }

    /// An initialised buffer whose content is arbitrary, and at least `bytes` long.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.idle.try_recv().unwrap_or_else(|_| vec![0; self.buffer_bytes]);
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        buffer
    }

    /// Takes a buffer back that was not lent.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        give(&self.home, buffer, self.buffer_bytes);
    }

    /// The first `bytes` of `buffer`, which returns to the pool once nobody reads it any more.
    pub(crate) fn lend(&self, buffer: Vec<u8>, bytes: usize) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.home.clone(), buffer_bytes: self.buffer_bytes })
            .slice(..bytes)
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: SyncSender<Vec<u8>>,
    buffer_bytes: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        give(&self.home, mem::take(&mut self.buffer), self.buffer_bytes);
    }
}

/// A buffer that grew for a long line is freed, so that the pool's size is known. So is one that comes back
/// to a full pool, or after its pool is gone.
fn give(home: &SyncSender<Vec<u8>>, buffer: Vec<u8>, buffer_bytes: usize) {
    if buffer.len() == buffer_bytes {
        drop(home.try_send(buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_body_gives_its_buffer_back() {
        let pool = BufferPool::new(64);
        let buffer = pool.take(1);
        let address = buffer.as_ptr();
        let body = pool.lend(buffer, 3);
        assert_eq!(body.len(), 3);
        drop(body);
        let again = pool.take(1);
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn a_buffer_that_grew_is_not_kept() {
        let pool = BufferPool::new(64);
        drop(pool.lend(pool.take(65), 65));
        assert!(pool.idle.try_recv().is_err());
    }

    #[test]
    fn no_more_than_the_bound_waits_for_reuse() {
        let pool = BufferPool::new(8);
        let bodies: Vec<_> = (0..IDLE_MAX + 5).map(|_| pool.lend(pool.take(1), 8)).collect();
        drop(bodies);
        assert_eq!(pool.idle.try_iter().count(), IDLE_MAX);
    }

    #[test]
    fn a_body_outlives_its_pool() {
        let pool = BufferPool::new(8);
        let mut buffer = pool.take(1);
        buffer[0] = 7;
        let body = pool.lend(buffer, 1);
        drop(pool);
        assert_eq!(&body[..], [7]);
    }
}
