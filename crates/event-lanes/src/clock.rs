//! The only reader of the wall clock. Monotonic time is read where a wait is bounded; everywhere else time is an argument.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall clock, and a clock that never steps back.
#[derive(Debug, Clone)]
pub struct Clock {
    started: Instant,
    set: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        Self { started: Instant::now(), set: None }
    }

    /// A clock that shows Unix seconds set by a test.
    pub fn set_by(unix_seconds: Arc<AtomicU64>) -> Self {
        Self { started: Instant::now(), set: Some(unix_seconds) }
    }

    /// Unix seconds. A clock before 1970 shows 0.
    pub fn unix_seconds(&self) -> u64 {
        match &self.set {
            Some(seconds) => seconds.load(Ordering::Relaxed),
            #[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs(),
        }
    }

    /// Milliseconds since this clock was made; monotonic, whatever happens to the wall clock.
    pub fn elapsed_milliseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
