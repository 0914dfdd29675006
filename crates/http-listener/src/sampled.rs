//! Lets a few log lines in ten seconds through, so that trouble with every request does not fill the disk.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long the lines of one kind are counted together.
const PERIOD: Duration = Duration::from_secs(10);

/// The gate before one kind of log line.
#[derive(Debug, Default)]
pub struct Sampled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    passed: u32,
    hidden: u64,
}

impl Sampled {
    /// A gate through which nothing has passed.
    pub const fn new() -> Self {
        Self(Mutex::new(State { began: None, passed: 0, hidden: 0 }))
    }

    /// Whether to log now, and if so how many lines were hidden since the last one. One passes in ten seconds.
    pub fn pass(&self) -> Option<u64> {
        self.pass_one_of(1)
    }

    /// The same, where so many pass in ten seconds.
    pub fn pass_one_of(&self, lines_max: u32) -> Option<u64> {
        self.pass_at(Instant::now(), lines_max)
    }

    fn pass_at(&self, now: Instant, lines_max: u32) -> Option<u64> {
        // After a panic the count of hidden lines may be wrong, nothing else.
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            (state.began, state.passed) = (Some(now), 0);
        }
        if state.passed >= lines_max {
            state.hidden += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.hidden))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_pass_and_the_next_says_how_many_did_not() {
        for lines_max in [1, 3] {
            let (gate, start) = (Sampled::new(), Instant::now());
            let pass_at = |now| gate.pass_at(now, lines_max);
            for _ in 0..lines_max {
                assert_eq!(pass_at(start), Some(0));
            }
            assert_eq!(pass_at(start + PERIOD / 2), None);
            assert_eq!(pass_at(start + PERIOD / 2), None);
            assert_eq!(pass_at(start + PERIOD), Some(2));
            assert_eq!(pass_at(start + PERIOD * 2), Some(0));
        }
    }
}
