//! Buffers of bodies for reuse: memory that goes back to the system with each body costs a page fault for every 4 KiB of the
//! next one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Buffers longer than Braze's usual batches need are not kept.
pub(super) const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Buffers kept, at most; together with the above 8 MiB at the very most.
const BUFFERS_MAX: usize = 32;

/// Buffers that nobody uses.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyBuffers {
    buffers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl BodyBuffers {
    /// An empty buffer with room for `bytes` at least.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.buffers().pop().unwrap_or_default();
        buffer.reserve_exact(bytes);
        buffer
    }

    /// Takes a buffer that nobody needs any more.
    pub(super) fn keep(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.buffers();
        if buffers.len() < BUFFERS_MAX && (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity()) {
            buffers.push(buffer);
        }
    }

    /// A panicked holder left the list whole.
    fn buffers(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_kept_is_used_again() {
        let buffers = BodyBuffers::default();
        let mut buffer = buffers.take(1000);
        buffer.extend_from_slice(b"body");
        let place = buffer.as_ptr();
        buffers.keep(buffer);
        let again = buffers.take(500);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(again.capacity() >= 1000);
    }

    #[test]
    fn few_buffers_and_no_large_ones_are_kept() {
        let buffers = BodyBuffers::default();
        buffers.keep(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        assert!(buffers.buffers().is_empty());
        (0..BUFFERS_MAX + 5).for_each(|_| buffers.keep(Vec::with_capacity(10)));
        assert_eq!(buffers.buffers().len(), BUFFERS_MAX);
    }
}
