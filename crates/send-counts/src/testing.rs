//! Settings for tests and measurements.

use std::time::Duration;

use crate::aggregate::{AggregateSettings, Late, Timestamp};

/// Event time in buckets of 10 s, and late sends dropped, with this many series for one connection and for all.
#[must_use]
pub fn aggregate_settings(series_max: usize) -> AggregateSettings {
    AggregateSettings {
        timestamp: Timestamp::Event,
        late: Late::Drop,
        flush_interval: Duration::from_secs(10),
        flush_timeout: Duration::from_secs(5),
        series_max,
        series_max_total: series_max,
    }
}
