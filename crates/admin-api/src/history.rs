//! What `/history` answers: what was sent on which day; and what `/status` says of the history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A query of `/history`. Without fields set: the last seven days in UTC, of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryQuery {
    /// The first day, as 2026-03-23.
    pub from: Option<String>,
    /// The last day.
    pub to: Option<String>,
    /// The time zone of the days: an IANA name.
    pub time_zone: Option<String>,
    /// Only objects of this kind.
    pub kind: Option<HistoryKind>,
    /// Only the object with this id.
    pub id: Option<String>,
    /// The [`History::next`] of the previous answer.
    pub after: Option<String>,
    /// Objects at most.
    pub limit: Option<usize>,
}

impl HistoryQuery {
    /// The parameters of its URL.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let limit = self.limit.map(|limit| limit.to_string());
        let kind = self.kind.map(|kind| kind.label().to_owned());
        let all = [
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("time_zone", self.time_zone.clone()),
            ("kind", kind),
            ("id", self.id.clone()),
            ("after", self.after.clone()),
            ("limit", limit),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The answer of `/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The first day, as 2026-03-23.
    pub from: String,
    /// The last day.
    pub to: String,
    /// The time zone of the days.
    pub time_zone: String,
    /// Since when history is kept, in Unix seconds; nothing is known of earlier sends. `None`: nothing is kept yet.
    pub since: Option<u64>,
    /// What had sends on these days.
    pub objects: Vec<HistoryObject>,
    /// Where the next answer begins (`after`); `None`: that was all.
    pub next: Option<String>,
}

/// The kinds of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryKind {
    /// A campaign.
    #[default]
    Campaign,
    /// A Canvas, with all of its steps.
    Canvas,
    /// A step of a Canvas.
    Step,
}

impl HistoryKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Campaign, Self::Canvas, Self::Step];

    /// The word for it in JSON and in URLs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Campaign => "campaign",
            Self::Canvas => "canvas",
            Self::Step => "step",
        }
    }
}

/// A campaign, a Canvas or a step, of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryObject {
    /// Its kind.
    pub kind: HistoryKind,
    /// Its id; empty where only a name is known.
    pub id: String,
    /// Its newest name.
    pub name: String,
    /// The id of a step's Canvas.
    pub canvas_id: String,
    /// The name of a step's Canvas.
    pub canvas_name: String,
    /// Its app group.
    pub app_group_id: String,
    /// The connection's name.
    pub connection: String,
    /// When it was sent last, in Unix seconds.
    pub last_send: u64,
    /// The days that had sends, oldest first.
    pub days: Vec<HistoryDay>,
}

/// A day of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryDay {
    /// As 2026-03-29, in the time zone that was asked for.
    pub day: String,
    /// Sends that were counted.
    pub counted: u64,
    /// Sends that Datadog accepted.
    pub accepted: u64,
    /// Sends that a dry run printed, and did not send.
    pub printed: u64,
    /// Sends that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// The state of the history of sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryStatus {
    /// Since when it is kept, in Unix seconds.
    pub since: Option<u64>,
    /// Campaigns, Canvases and steps that it knows.
    pub objects: u64,
    /// Bytes of its file.
    pub size_bytes: u64,
    /// Bytes that it may have.
    pub size_max_bytes: u64,
    /// Sends whose count or outcome is not in it, since the start.
    pub sends_left_out: u64,
    /// Why it is not kept at present.
    pub trouble: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_as_it_is_labelled() {
        for kind in HistoryKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.label());
        }
    }

    #[test]
    fn only_what_is_asked_for_is_in_the_url() {
        let kind = Some(HistoryKind::Step);
        let query =
            HistoryQuery { from: Some("2026-03-01".into()), kind, limit: Some(7), ..HistoryQuery::default() };
        let expected = [("from", "2026-03-01"), ("kind", "step"), ("limit", "7")];
        assert_eq!(query.parameters(), expected.map(|(name, value)| (name, value.to_owned())));
    }
}
