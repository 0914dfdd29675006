//! What `/search` answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::format::title;
use crate::history::HistoryKind;
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
    /// The campaigns, Canvases and steps that match, of the history: what was sent before the start, too.
    pub objects: Vec<ObjectMatch>,
    /// How many there are.
    pub objects_total: u64,
    /// Since when history is kept, in Unix seconds; `None`: none is kept.
    pub history_since: Option<u64>,
    /// Why there is none at present.
    pub history_trouble: Option<String>,
}

/// A campaign, a Canvas or a step that matches.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectMatch {
    /// Its kind.
    pub kind: HistoryKind,
    /// The connection's name.
    pub connection: String,
    /// Its id; empty where only a name is known.
    pub id: String,
    /// Its newest name.
    pub name: String,
    /// The name of a step's Canvas.
    pub canvas_name: String,
    /// When it was sent last, in Unix seconds.
    pub last_send: u64,
    /// How long ago that is, in seconds.
    pub last_send_seconds_ago: u64,
    /// Whether the sends of its last day reached Datadog.
    pub state: FlowState,
    /// When it was sent last, how many that day, and whether they reached Datadog, in words.
    pub words: String,
    /// The same day a week before, and the last seven days beside the seven before, in words, as far as the history goes
    /// back.
    pub comparison: String,
    /// The last 28 days, oldest first, those without sends too.
    pub days: Vec<ChartDay>,
}

/// A day of an object that matches; nothing but the day where it is over before the history begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChartDay {
    /// As 2026-03-29, in the time zone that was asked for.
    pub day: String,
    /// Sends that were counted.
    pub counted: Option<u64>,
    /// Sends that Datadog accepted.
    pub accepted: Option<u64>,
    /// Sends that a dry run printed, and did not send.
    pub printed: Option<u64>,
    /// Sends that were dropped, by reason.
    pub dropped: Option<BTreeMap<String, u64>>,
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

impl ObjectMatch {
    /// Its name, or its id, behind that of its Canvas.
    pub fn title(&self) -> String {
        title(&self.canvas_name, &self.name, &self.id)
    }

    /// The sends of the last seven days, as far as they are known.
    pub fn week(&self) -> u64 {
        self.days.iter().rev().take(7).filter_map(|day| day.counted).sum()
    }
}
