//! Lets one log line in ten seconds through, so that trouble with every request does not fill the disk.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a line of one kind appears at most.
const PERIOD: Duration = Duration::from_secs(10);

/// The gate before one log line.
#[derive(Debug, Default)]
pub struct Sampled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    hidden: u64,
}

impl Sampled {
    /// Whether to log now, and if so how many lines were hidden since the last one.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        // After a panic the count of hidden lines may be wrong, nothing else.
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            state.hidden += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_passes_and_the_next_says_how_many_did_not() {
        let gate = Sampled::default();
        let start = Instant::now();
        assert_eq!(gate.pass_at(start), Some(0));
        assert_eq!(gate.pass_at(start + PERIOD / 2), None);
        assert_eq!(gate.pass_at(start + PERIOD / 2), None);
        assert_eq!(gate.pass_at(start + PERIOD), Some(2));
        assert_eq!(gate.pass_at(start + PERIOD * 2), Some(0));
    }
}
