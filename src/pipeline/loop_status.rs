//! What the pipeline's loop shows of itself to whoever asks whether the process is well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event_lanes::clock::Clock;
use send_history::CLOCK_SET;

/// After how long without a turn of its loop the pipeline counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How long an acknowledgement may take. The embedded queue calls its disk stalled after as long.
pub(super) const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(10);

/// No acknowledgement is under way.
const NONE: u64 = u64::MAX;

/// When the pipeline's loop last turned, and what it waits for.
#[derive(Debug)]
pub struct LoopStatus {
    clock: Clock,
    /// Both in the clock's milliseconds.
    last_turn: AtomicU64,
    acknowledging_since: AtomicU64,
}

impl LoopStatus {
    pub(super) const fn new(clock: Clock) -> Self {
        Self { clock, last_turn: AtomicU64::new(0), acknowledging_since: AtomicU64::new(NONE) }
    }

    /// The loop has turned.
    pub(super) fn turned(&self) {
        self.last_turn.store(self.clock.elapsed_milliseconds(), Ordering::Relaxed);
    }

    /// An acknowledgement has begun.
    pub(super) fn acknowledging(&self) {
        self.acknowledging_since.store(self.clock.elapsed_milliseconds(), Ordering::Relaxed);
    }

    /// It has ended. Returns how long it took.
    pub(super) fn acknowledged(&self) -> Duration {
        let took = self.acknowledging_for();
        self.acknowledging_since.store(NONE, Ordering::Relaxed);
        took.unwrap_or_default()
    }

    /// How long the acknowledgement that is under way has taken. The loop turns meanwhile: it waits for a disk, and a restart
    /// would wait for the same one.
    pub fn acknowledging_for(&self) -> Option<Duration> {
        let since = self.acknowledging_since.load(Ordering::Relaxed);
        (since != NONE).then(|| passed(since, self.clock.elapsed_milliseconds()))
    }

    /// How long ago the loop turned.
    pub fn since_last_turn(&self) -> Duration {
        passed(self.last_turn.load(Ordering::Relaxed), self.clock.elapsed_milliseconds())
    }

    /// Whether the loop has not turned for half a minute, which only a defect of this program or a stopped process explains.
    pub fn is_stuck(&self) -> bool {
        is_stuck(self.since_last_turn())
    }

    /// Whether the wall clock can't be right: it shows a time before this program was written. Events that are counted by it
    /// would all be too early.
    pub fn is_clock_unset(&self) -> bool {
        self.clock.unix_seconds() < CLOCK_SET
    }

    /// Whether events can be counted.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn ready(&self) -> Result<(), String> {
        if self.is_stuck() {
            return Err("the pipeline is stuck".into());
        }
        if let Some(waits) = self.acknowledging_for().filter(|waits| *waits >= ACKNOWLEDGE_MAX) {
            let waits = waits.as_secs();
            return Err(format!("the queue's disk has not taken an acknowledgement for {waits} s"));
        }
        if self.is_clock_unset() {
            return Err("this machine's clock is not set, and nothing is counted until it is".into());
        }
        Ok(())
    }
}

/// The time between two moments, in milliseconds of one clock.
const fn passed(since: u64, now: u64) -> Duration {
    Duration::from_millis(now.saturating_sub(since))
}

fn is_stuck(since_last_turn: Duration) -> bool {
    since_last_turn >= STUCK_AFTER
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_pipeline_is_stuck_after_half_a_minute_without_a_turn() {
        let is_recent = |last_turn, now| !is_stuck(passed(last_turn, now));
        assert!(is_recent(0, 29_999) && is_recent(60_000, 89_999) && is_recent(60_000, 59_999));
        assert!(!is_recent(0, 30_000) && !is_recent(60_000, 90_000));
    }

    #[test]
    fn an_acknowledgement_that_takes_long_and_a_clock_that_is_not_set_are_no_readiness() {
        let unix_seconds = Arc::new(AtomicU64::new(CLOCK_SET));
        let status = LoopStatus::new(Clock::set_by(Arc::clone(&unix_seconds)));
        assert_eq!((status.ready(), status.acknowledging_for()), (Ok(()), None));
        unix_seconds.store(CLOCK_SET - 1, Ordering::Relaxed);
        assert!(status.ready().unwrap_err().contains("clock is not set"));
        unix_seconds.store(CLOCK_SET, Ordering::Relaxed);
        status.acknowledging();
        assert_eq!((status.ready(), status.is_stuck()), (Ok(()), false), "not at once");
        assert!(status.acknowledging_for().is_some());
        status.acknowledged();
        assert_eq!(status.acknowledging_for(), None);
    }
}
