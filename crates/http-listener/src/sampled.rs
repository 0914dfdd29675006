//! Lets a few log lines in ten seconds through, so that trouble with every request does not fill the disk.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long the lines of one kind are counted together.
const PERIOD: Duration = Duration::from_secs(10);

/// The gate before one kind of log line; by default one passes in ten seconds.
#[derive(Debug)]
pub struct Sampled {
    lines_max: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    passed: u32,
    hidden: u64,
}

impl Default for Sampled {
    fn default() -> Self {
        Self::at_most(1)
    }
}

impl Sampled {
    /// Lets so many lines through in ten seconds.
    pub const fn at_most(lines_max: u32) -> Self {
        Self { lines_max, state: Mutex::new(State { began: None, passed: 0, hidden: 0 }) }
    }

    /// Whether to log now, and if so how many lines were hidden since the last one.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        // After a panic the count of hidden lines may be wrong, nothing else.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.began.is_none_or(|began| now.saturating_duration_since(began) >= PERIOD) {
            (state.began, state.passed) = (Some(now), 0);
        }
        if state.passed >= self.lines_max {
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
            let gate = Sampled::at_most(lines_max);
            let start = Instant::now();
            for _ in 0..lines_max {
                assert_eq!(gate.pass_at(start), Some(0));
            }
            assert_eq!(gate.pass_at(start + PERIOD / 2), None);
            assert_eq!(gate.pass_at(start + PERIOD / 2), None);
            assert_eq!(gate.pass_at(start + PERIOD), Some(2));
            assert_eq!(gate.pass_at(start + PERIOD * 2), Some(0));
        }
    }
}
