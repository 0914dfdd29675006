//! The bytes that all bodies together may hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::Refusal;

/// One permit. Small bodies are cheap this way, and the largest budget still fits a `u32`.
const UNIT_BYTES: usize = 1024;

/// The part of a body that its extract usually is.
const EXTRACT_PART: usize = 4;

/// What a body takes together with its extract, usually.
pub(super) fn with_extract(body_bytes: usize) -> usize {
    body_bytes.saturating_add(body_bytes / EXTRACT_PART)
}

/// What all bodies share.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    units: Arc<Semaphore>,
    /// How long a body waits for others to leave.
    wait_max: Duration,
}

impl Memory {
    pub(super) fn new(bytes_max: usize, wait_max: Duration) -> Self {
        let units = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { units: Arc::new(Semaphore::new(units)), wait_max }
    }

    /// A share of nothing, to begin with.
    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), held: None }
    }
}

/// What one body holds; given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// The bytes that this share allows.
    pub(super) fn bytes(&self) -> usize {
        self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * UNIT_BYTES
    }

    /// Grows to at least `bytes`. Two bodies that both hold some and wait for more wait for a bounded time.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.try_grow(bytes).is_ok() {
            return Ok(());
        }
        let more = Arc::clone(&self.memory.units).acquire_many_owned(self.missing(bytes));
        match timeout(self.memory.wait_max, more).await {
            Ok(Ok(more)) => {
                self.add(more);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(Refusal::Memory),
        }
    }

    /// The same without waiting.
    pub(super) fn try_grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        match self.missing(bytes) {
            0 => Ok(()),
            missing => match Arc::clone(&self.memory.units).try_acquire_many_owned(missing) {
                Ok(more) => {
                    self.add(more);
                    Ok(())
                }
                Err(_) => Err(Refusal::Memory),
            },
        }
    }

    fn missing(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_sub(self.bytes()).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shares_never_exceed_the_whole_and_waiting_ends() {
        let memory = Memory::new(10 * 1024, Duration::from_secs(2));
        let mut one = memory.share();
        one.grow(6000).await.unwrap();
        assert_eq!(one.bytes(), 6 * 1024);
        let mut other = memory.share();
        other.grow(4096).await.unwrap();
        assert!(matches!(other.grow(4097).await, Err(Refusal::Memory)));
        assert!(one.try_grow(7000).is_err());
        drop(other);
        one.try_grow(7000).unwrap();
        assert_eq!(one.bytes(), 7 * 1024);
        one.grow(100).await.unwrap();
        assert_eq!(one.bytes(), 7 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_waits_goes_on_when_another_leaves() {
        let memory = Memory::new(4096, Duration::from_secs(2));
        let mut one = memory.share();
        one.grow(4096).await.unwrap();
        let mut other = memory.share();
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(one);
        };
        let (grown, ()) = tokio::join!(other.grow(1), leave);
        grown.unwrap();
    }
}
