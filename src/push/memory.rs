//! The memory limit for all bodies together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::refusal::Refusal;

/// One permit. Small bodies are cheap this way, and the largest budget still fits a `u32`.
const UNIT_BYTES: usize = 1024;

/// The part of a body that its extract usually is.
const EXTRACT_PART: usize = 4;

/// The usual memory of a body together with its extract.
pub(super) fn with_extract(body_bytes: usize) -> usize {
    body_bytes.saturating_add(body_bytes / EXTRACT_PART)
}

/// How many senders are told apart; further ones share a half.
const SENDERS: usize = 64;

/// The memory that all bodies share.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    units: Arc<Semaphore>,
    /// The budget of a single sender: all of it.
    sole: Arc<Semaphore>,
    /// The budgets by sender: half of all, so that a sender that holds bodies back leaves the other half to others.
    halves: Arc<[Arc<Semaphore>]>,
    /// How long a body waits for others to free memory.
    wait_max: Duration,
}

impl Memory {
    pub(super) fn new(bytes_max: usize, wait_max: Duration) -> Self {
        let units = (bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let budget = |units| Arc::new(Semaphore::new(units));
        let halves = (0..SENDERS).map(|_| budget(units.div_ceil(2))).collect();
        Self { units: budget(units), sole: budget(units), halves, wait_max }
    }

    /// An empty share, for one of several senders, by number, or for the only one.
    pub(super) fn share(&self, sender: Option<usize>) -> Share {
        let part = sender.map_or(&self.sole, |sender| &self.halves[sender % SENDERS]);
        Share { budgets: [Arc::clone(part), Arc::clone(&self.units)], wait_max: self.wait_max, units: 0 }
    }
}

/// The memory of one body; given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    /// Its sender's budget, and that of all.
    budgets: [Arc<Semaphore>; 2],
    wait_max: Duration,
    /// Units held of both.
    units: u32,
}

impl Share {
    /// The bytes that this share allows.
    pub(super) fn bytes(&self) -> usize {
        self.units as usize * UNIT_BYTES
    }

    /// Grows to at least `bytes`. Two bodies that both hold memory and wait for more wait for a bounded time.
    pub(super) async fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        // Nearly always there is room, and no timer is needed.
        if self.try_grow(bytes).is_ok() {
            return Ok(());
        }
        let missing = self.missing(bytes);
        let [part, all] = &self.budgets;
        let more = async {
            Ok::<_, AcquireError>([part.acquire_many(missing).await?, all.acquire_many(missing).await?])
        };
        let Ok(Ok(more)) = timeout(self.wait_max, more).await else { return Err(Refusal::Memory) };
        more.into_iter().for_each(SemaphorePermit::forget);
        self.units += missing;
        Ok(())
    }

    /// The same without waiting.
    pub(super) fn try_grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let missing = self.missing(bytes);
        let [part, all] = &self.budgets;
        let more = part.try_acquire_many(missing).and_then(|part| Ok([part, all.try_acquire_many(missing)?]));
        more.map_err(|_| Refusal::Memory)?.into_iter().for_each(SemaphorePermit::forget);
        self.units += missing;
        Ok(())
    }

    fn missing(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_sub(self.bytes()).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budgets.iter().for_each(|budget| budget.add_permits(self.units as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_of_several_senders_takes_half_of_it_at_most() {
        let memory = Memory::new(10 * 1024, Duration::from_secs(2));
        let (mut first, mut second, mut other) =
            (memory.share(Some(0)), memory.share(Some(0)), memory.share(Some(1)));
        first.try_grow(4 * 1024).unwrap();
        assert!(second.try_grow(2 * 1024).is_err());
        assert!(matches!(second.grow(2 * 1024).await, Err(Refusal::Memory)));
        second.grow(1024).await.unwrap();
        other.try_grow(5 * 1024).unwrap();
        assert!(memory.share(None).try_grow(1).is_err());
        drop((first, second));
        memory.share(Some(0)).try_grow(5 * 1024).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn shares_never_exceed_the_whole_and_waiting_ends() {
        let memory = Memory::new(10 * 1024, Duration::from_secs(2));
        let mut one = memory.share(None);
        one.grow(6000).await.unwrap();
        assert_eq!(one.bytes(), 6 * 1024);
        let mut other = memory.share(None);
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
        let mut one = memory.share(None);
        one.grow(4096).await.unwrap();
        let mut other = memory.share(None);
        let leave = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(one);
        };
        let (grown, ()) = tokio::join!(other.grow(1), leave);
        grown.unwrap();
    }
}
