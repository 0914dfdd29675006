//! Which time bucket a send is counted under, and whether Datadog would still take it.

use super::{AggregateSettings, Late, Timestamp};

/// Datadog drops, without a word, points that are further ahead than this. Source: Datadog's "Submit
/// distribution points", "timestamps should be … no more than 10 minutes in the future".
pub const AHEAD_SECONDS_MAX: u64 = 10 * 60;

/// Datadog drops, without a word, points that are older than this. Source: as above, "no more than 1 hour
/// in the past".
pub const BEHIND_SECONDS_MAX: u64 = 60 * 60;

/// Where a send belongs in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// Counted under the bucket that starts at this Unix second.
    Bucket(u64),
    /// Older than Datadog takes.
    Late,
    /// Further ahead than Datadog takes.
    Early,
}

/// The rule that places sends in time. A pure value: it is told the time.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    timestamp: Timestamp,
    late: Late,
    bucket_seconds: u64,
    /// What may pass between the begin of a request and Datadog reading its points.
    request_seconds_max: u64,
    /// What may pass between counting a send and Datadog reading its point.
    delay_seconds_max: u64,
}

impl Window {
    /// The window that follows from the settings.
    pub fn new(settings: &AggregateSettings) -> Self {
        let bucket_seconds = settings.bucket_seconds();
        let seconds = |milliseconds: u128| u64::try_from(milliseconds.div_ceil(1000)).unwrap_or(u64::MAX);
        let request = settings.flush_timeout.as_millis();
        Self {
            timestamp: settings.timestamp,
            late: settings.late,
            bucket_seconds,
            request_seconds_max: seconds(request),
            // A cut is an interval away, and may be left out once while the flush thread is behind. A request may wait
            // as long for its turn as it may take (see the pipeline's submissions).
            delay_seconds_max: 2 * bucket_seconds + seconds(2 * request),
        }
    }

    /// Places a send whose event has `time`, counted at `now`; both are Unix seconds. A point carries the
    /// first second of its bucket, so that second must be inside Datadog's window when the point arrives.
    pub fn place(&self, time: Option<u64>, now: u64) -> Placed {
        let time = match (self.timestamp, time) {
            (Timestamp::Event, Some(time)) => time,
            _ => now,
        };
        self.place_bucket(time - time % self.bucket_seconds, now, self.delay_seconds_max)
    }

    /// Places what was counted under `bucket` again, when the request with its point begins at `now`: the wall clock may
    /// have been set meanwhile, or the process stopped.
    pub fn place_again(&self, bucket: u64, now: u64) -> Placed {
        self.place_bucket(bucket, now, self.request_seconds_max)
    }

    /// Whether every bucket from `oldest` to `newest` stays where it is when a request begins at `now`.
    pub fn holds(&self, oldest: u64, newest: u64, now: u64) -> bool {
        [oldest, newest].into_iter().all(|bucket| self.place_again(bucket, now) == Placed::Bucket(bucket))
    }

    fn place_bucket(&self, bucket: u64, now: u64, delay_seconds_max: u64) -> Placed {
        let placed = if bucket > now + AHEAD_SECONDS_MAX {
            Placed::Early
        } else if bucket + BEHIND_SECONDS_MAX < now + delay_seconds_max {
            Placed::Late
        } else {
            return Placed::Bucket(bucket);
        };
        match self.late {
            Late::Drop => placed,
            Late::Restamp => Placed::Bucket(now - now % self.bucket_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const NOW: u64 = 1_800_000_005;

    fn window(timestamp: Timestamp, late: Late) -> Window {
        Window::new(&AggregateSettings {
            timestamp,
            late,
            flush_interval: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(5),
            series_max: 1,
            series_max_total: 1,
        })
    }

    #[test]
    fn an_event_is_counted_under_the_bucket_of_its_own_time() {
        let window = window(Timestamp::Event, Late::Drop);
        assert_eq!(window.place(Some(NOW - 1), NOW), Placed::Bucket(NOW - 5));
        assert_eq!(window.place(Some(NOW - 6), NOW), Placed::Bucket(NOW - 15));
        assert_eq!(window.place(None, NOW), Placed::Bucket(NOW - 5));
    }

    #[test]
    fn what_datadog_would_drop_is_late_or_early() {
        let window = window(Timestamp::Event, Late::Drop);
        assert_eq!(window.place(Some(NOW - 3600), NOW), Placed::Late);
        assert_eq!(window.place(Some(0), NOW), Placed::Late);
        assert_eq!(window.place(Some(NOW + 620), NOW), Placed::Early);
        assert_eq!(window.place(Some(u64::MAX), NOW), Placed::Early);
        assert!(matches!(window.place(Some(NOW - 3500), NOW), Placed::Bucket(_)));
        assert!(matches!(window.place(Some(NOW + 590), NOW), Placed::Bucket(_)));
    }

    #[test]
    fn restamping_counts_it_now_and_arrival_ignores_the_events_time() {
        assert_eq!(window(Timestamp::Event, Late::Restamp).place(Some(0), NOW), Placed::Bucket(NOW - 5));
        assert_eq!(
            window(Timestamp::Event, Late::Restamp).place(Some(u64::MAX), NOW),
            Placed::Bucket(NOW - 5)
        );
        assert_eq!(window(Timestamp::Arrival, Late::Drop).place(Some(0), NOW), Placed::Bucket(NOW - 5));
    }

    #[test]
    fn what_was_placed_is_judged_again_by_the_clock_of_its_request() {
        let drop = window(Timestamp::Event, Late::Drop);
        assert!(drop.holds(NOW - 3590, NOW + 600, NOW));
        assert_eq!(drop.place_again(NOW - 3596, NOW), Placed::Late);
        assert_eq!(drop.place_again(NOW, NOW + 86_403), Placed::Late);
        assert_eq!(drop.place_again(NOW, NOW - 601), Placed::Early);
        assert!(!drop.holds(NOW, NOW + 601, NOW) && !drop.holds(NOW - 3596, NOW, NOW));
        let restamp = window(Timestamp::Arrival, Late::Restamp);
        assert_eq!(restamp.place_again(NOW - 5, NOW + 86_403), Placed::Bucket(NOW + 86_395));
        assert!(!restamp.holds(NOW - 5, NOW - 5, NOW + 86_403));
    }

    proptest! {
        /// What is placed while it is counted is not placed elsewhere by its request, however late that is.
        #[test]
        fn a_request_that_is_in_time_finds_every_point_where_it_was(time in NOW - 5000..NOW + 5000, delay in 0u64..=25) {
            let window = window(Timestamp::Event, Late::Drop);
            if let Placed::Bucket(bucket) = window.place(Some(time), NOW) {
                prop_assert!(window.holds(bucket, bucket, NOW + delay));
            }
        }

        /// A point that is not dropped here is inside Datadog's window whenever it can arrive.
        #[test]
        fn a_placed_point_is_taken(time in NOW - 5000..NOW + 5000, delay in 0u64..=30) {
            if let Placed::Bucket(bucket) = window(Timestamp::Event, Late::Drop).place(Some(time), NOW) {
                prop_assert!(bucket + BEHIND_SECONDS_MAX >= NOW + delay);
                prop_assert!(bucket <= NOW + delay + AHEAD_SECONDS_MAX);
            }
        }
    }
}
