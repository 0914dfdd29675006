//! When the next batch is due, and when it is enough.

use std::time::{Duration, Instant};

/// How much, and how fast, over all connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Events in a batch; at least 1.
    pub(crate) batch: u32,
    /// Events a second; none: flat out.
    pub(crate) rate: Option<u64>,
    /// Events, rounded up to whole batches.
    pub(crate) events_max: u64,
    /// Seconds.
    pub(crate) seconds_max: Option<u64>,
}

/// One connection's part of a [`Plan`].
#[derive(Debug)]
pub(crate) struct Pace {
    batches_left: u64,
    deadline: Option<Instant>,
    /// When the next batch is due, and how far apart they are; none: at once.
    due: Option<(Instant, Duration)>,
    /// When the batch at hand was due; none: at once.
    pub(crate) was_due: Option<Instant>,
    /// How far the batches fell behind at most.
    pub(crate) behind: Duration,
}

impl Pace {
    /// The part of connection `number` of `connections`. They take turns, so that batches are spread evenly.
    pub(crate) fn new(plan: Plan, number: u32, connections: u32, start: Instant) -> Self {
        let batches = plan.events_max.div_ceil(u64::from(plan.batch));
        let (all, rest) = (batches / u64::from(connections), batches % u64::from(connections));
        let due = plan.rate.map(|rate| {
            // One connection's batches are as far apart as all connections' batches in turn.
            let apart = u128::from(plan.batch) * 1_000_000_000 / u128::from(rate.max(1));
            let apart = Duration::from_nanos(u64::try_from(apart).unwrap_or(u64::MAX));
            (start + apart * number, apart * connections)
        });
        Self {
            batches_left: all + u64::from(u64::from(number) < rest),
            deadline: plan.seconds_max.map(|seconds| start + Duration::from_secs(seconds)),
            due,
            was_due: None,
            behind: Duration::ZERO,
        }
    }

    /// Waits until the next batch is due; `false`: that was the last one.
    pub(crate) fn wait(&mut self) -> bool {
        if self.batches_left == 0 || self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return false;
        }
        if let Some((due, apart)) = &mut self.due {
            let now = Instant::now();
            if let Some(deadline) = self.deadline.filter(|deadline| *due >= *deadline) {
                // The time is part of what was asked for, and of the rate that is told.
                std::thread::sleep(deadline.saturating_duration_since(now));
                return false;
            }
            std::thread::sleep(due.saturating_duration_since(now));
            self.behind = self.behind.max(now.saturating_duration_since(*due));
            self.was_due = Some(*due);
            *due += *apart;
        }
        self.batches_left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { batch: 100, rate: None, events_max: 1050, seconds_max: None };

    #[test]
    fn connections_share_the_batches_without_a_rest() {
        let start = Instant::now();
        let batches = |number| {
            let mut pace = Pace::new(PLAN, number, 4, start);
            std::iter::from_fn(|| pace.wait().then_some(())).count()
        };
        assert_eq!((0..4).map(batches).collect::<Vec<_>>(), [3, 3, 3, 2]);
    }

    #[test]
    fn a_rate_spreads_batches_over_connections_and_catches_up_when_it_is_late() {
        let start = Instant::now();
        let plan = Plan { rate: Some(1000), ..PLAN };
        let pace = Pace::new(plan, 3, 4, start);
        assert_eq!(pace.due, Some((start + Duration::from_millis(300), Duration::from_millis(400))));
        let mut late = Pace { due: Some((start, Duration::from_nanos(1))), ..pace };
        while late.wait() {}
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn the_deadline_ends_it() {
        let mut pace = Pace::new(Plan { seconds_max: Some(0), ..PLAN }, 0, 1, Instant::now());
        assert!(!pace.wait());
    }

    #[test]
    fn what_is_due_behind_the_deadline_is_not_sent_and_the_time_is_kept() {
        let deadline = Instant::now() + Duration::from_millis(50);
        let pace = Pace::new(Plan { rate: Some(1000), ..PLAN }, 0, 1, Instant::now());
        let due = Some((deadline, Duration::from_secs(1)));
        let mut pace = Pace { deadline: Some(deadline), due, ..pace };
        assert!(!pace.wait());
        assert!(Instant::now() >= deadline);
    }
}
