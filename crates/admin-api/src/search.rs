//! What `/search` answers.

use serde::{Deserialize, Serialize};

use crate::status::FlowState;

/// The answer of `/search`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchAnswer {
    /// What was searched for.
    pub query: String,
    /// How many series match.
    pub matches: u64,
    /// The best of them.
    pub results: Vec<SeriesMatch>,
    /// How many series were looked at.
    pub remembered_series: u64,
    /// Series of the last flush that are not among them, for there was no room.
    pub left_out_series: u64,
    /// Since when series are remembered, in Unix seconds.
    pub since: u64,
}

/// One series that matches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SeriesMatch {
    /// The connection's name.
    pub connection: String,
    /// The tags as they were sent.
    pub tags: Vec<String>,
    /// Its sends since it is remembered.
    pub sends: u64,
    /// The bucket of its last send, in Unix seconds.
    pub last_send: u64,
    /// How long ago that is, in seconds.
    pub last_send_seconds_ago: u64,
    /// Whether its sends reach Datadog.
    pub state: FlowState,
    /// The same in words.
    pub words: String,
    /// When Datadog last accepted it, in Unix seconds.
    pub accepted_at: Option<u64>,
    /// The sends of its campaign or Canvas step in each minute of the last hour, oldest first.
    pub minutes: Option<Vec<u32>>,
}
