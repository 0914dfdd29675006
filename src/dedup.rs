//! Knows the event ids of the last minutes, so that a redelivery, a retry or a split counts once.

use std::time::Duration;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an id is remembered; zero switches deduplication off.
    pub window: Duration,
    /// How many ids are remembered at most; beyond it the oldest are forgotten early.
    pub max_ids: usize,
}
