//! The bytes that all bodies together may hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
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

/// How many senders are told apart; beyond it some have their half together.
const SENDERS: usize = 64;

/// What all bodies share.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    units: Arc<Semaphore>,
    /// By sender: half of all, so that one who holds bodies back leaves the other half to the others.
    halves: Arc<[Arc<Semaphore>]>,
    /// How long a body waits for others to leave.
    wait_max: Duration,
}

impl Memory {
    pub(super) fn new(bytes_max: usize, wait_max: Duration) -> Self {
        let units = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let halves = (0..SENDERS).map(|_| Arc::new(Semaphore::new(units.div_ceil(2)))).collect();
        Self { units: Arc::new(Semaphore::new(units)), halves, wait_max }
    }

    /// A share of nothing, to begin with, for a sender who is the only one.
    pub(super) fn share(&self) -> Share {
        Share { memory: self.clone(), half: None, held: None, held_of_half: None }
    }

    /// The same for one of several senders, by number.
    pub(super) fn share_of(&self, sender: usize) -> Share {
        Share { half: Some(Arc::clone(&self.halves[sender % SENDERS])), ..self.share() }
    }
}

/// What one body holds; given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    memory: Memory,
    /// Its sender's half.
    half: Option<Arc<Semaphore>>,
    held: Option<OwnedSemaphorePermit>,
    held_of_half: Option<OwnedSemaphorePermit>,
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
        let missing = self.missing(bytes);
        let more = async {
            let of_half = match &self.half {
                Some(half) => Some(Arc::clone(half).acquire_many_owned(missing).await?),
                None => None,
            };
            Ok::<_, AcquireError>((
                Arc::clone(&self.memory.units).acquire_many_owned(missing).await?,
                of_half,
            ))
        };
        match timeout(self.memory.wait_max, more).await {
            Ok(Ok((more, of_half))) => {
                self.add(more, of_half);
                Ok(())
            }
            Ok(Err(_)) | Err(_) => Err(Refusal::Memory),
        }
    }

    /// The same without waiting.
    pub(super) fn try_grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let missing = self.missing(bytes);
        if missing == 0 {
            return Ok(());
        }
        let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(missing);
        let of_half = self.half.as_ref().map(take).transpose().map_err(|_| Refusal::Memory)?;
        let more = take(&self.memory.units).map_err(|_| Refusal::Memory)?;
        self.add(more, of_half);
        Ok(())
    }

    fn missing(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_sub(self.bytes()).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
    }

    fn add(&mut self, more: OwnedSemaphorePermit, of_half: Option<OwnedSemaphorePermit>) {
        merge(&mut self.held, more);
        if let Some(of_half) = of_half {
            merge(&mut self.held_of_half, of_half);
        }
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_several_senders_takes_half_of_it_at_most() {
        let memory = Memory::new(10 * 1024, Duration::from_secs(2));
        let (mut first, mut second, mut other) = (memory.share_of(0), memory.share_of(0), memory.share_of(1));
        first.try_grow(4 * 1024).unwrap();
        assert!(second.try_grow(2 * 1024).is_err());
        assert!(matches!(second.grow(2 * 1024).await, Err(Refusal::Memory)));
        second.grow(1024).await.unwrap();
        other.try_grow(5 * 1024).unwrap();
        assert!(memory.share().try_grow(1).is_err());
        drop((first, second));
        memory.share_of(0).try_grow(5 * 1024).unwrap();
    }

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
