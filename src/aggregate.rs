//! Counts sends per series and time bucket.

pub mod tags;

use std::time::Duration;

/// How sends become counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which time a send is counted under.
    pub timestamp: Timestamp,
    /// What happens to a send outside Datadog's window.
    pub late: Late,
    /// The width of a time bucket, and how often counts are cut.
    pub flush_interval: Duration,
    /// How long a request may take: a point must still be inside Datadog's window when it arrives.
    pub flush_timeout: Duration,
    /// Per connection and flush; beyond it sends are counted under app group tags and `overflow:true`.
    pub series_max: usize,
}

/// Which time a send is counted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// The event's own, in buckets of the flush interval.
    Event,
    /// The moment it was counted.
    Arrival,
}

/// What happens to a send whose time is outside Datadog's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// It is dropped, and booked as `late` or `early`.
    Drop,
    /// It is counted under the present moment.
    Restamp,
}
