//! Buffers of bodies that are used again: memory that goes back to the system with each body costs a page fault
//! for every 4 KiB of the next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Longer buffers than any of Braze's usual batches needs are not kept.
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Buffers kept, at most; together with the above 8 MiB at the very most.
const BUFFERS_MAX: usize = 32;

/// Buffers that nobody uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Spare {
    buffers: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A buffer in use, which comes back.
struct Lent {
    bytes: Vec<u8>,
    spare: Spare,
}

impl Spare {
    /// An empty buffer with room for `bytes` at least.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.buffers().pop().unwrap_or_default();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Shares what is in a buffer, and takes that back once nobody needs it any more.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { bytes, spare: self.clone() })
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.buffers();
        if buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_BYTES_MAX {
            buffers.push(buffer);
        }
    }

    /// Whoever holds the lock leaves the list whole.
    fn buffers(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.spare.keep(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_when_its_last_reader_is_gone() {
        let spare = Spare::default();
        let mut buffer = spare.take(1000);
        buffer.extend_from_slice(b"body");
        let place = buffer.as_ptr();
        let body = spare.lend(buffer);
        let slice = body.slice(1..3);
        drop(body);
        assert_eq!((&slice[..], spare.buffers().len()), (&b"od"[..], 0));
        drop(slice);
        let again = spare.take(500);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(again.capacity() >= 1000);
    }

    #[test]
    fn few_buffers_and_no_large_ones_are_kept() {
        let spare = Spare::default();
        drop(spare.lend(Vec::with_capacity(BUFFER_BYTES_MAX + 1)));
        assert!(spare.buffers().is_empty());
        let lent: Vec<_> = (0..BUFFERS_MAX + 5).map(|_| spare.lend(spare.take(10))).collect();
        drop(lent);
        assert_eq!(spare.buffers().len(), BUFFERS_MAX);
    }
}
