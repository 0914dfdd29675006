//! What `/status` answers. The names are those of its keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::configuration::{ReloadStatus, SettingValue};
use crate::format::title;
use crate::history::HistoryStatus;
use crate::queue_status::QueueStatus;

/// The answer of `/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The forwarder's version.
    pub version: String,
    /// When this was said, in Unix seconds.
    pub now: u64,
    /// When the process started, in Unix seconds.
    pub started: u64,
    /// How long ago that is, in seconds.
    pub uptime_seconds: u64,
    /// The answer at one look.
    pub headline: Headline,
    /// Whether events can be taken.
    pub ready: bool,
    /// Why not.
    pub not_ready_because: Option<String>,
    /// The last hour.
    pub rates: SendRates,
    /// The busiest campaigns and Canvas steps of the last hour.
    pub busiest: Busiest,
    /// The busiest series of the last flush that had sends, busiest first.
    pub busiest_series: Vec<BusySeries>,
    /// The sums that must hold.
    pub invariants: Vec<Invariant>,
    /// The configuration in force, without secrets.
    pub configuration: Vec<SettingValue>,
    /// What the events wait in.
    pub queue: QueueStatus,
    /// How many connections the configuration has.
    pub connections_total: u64,
    /// How many of them are in trouble.
    pub connections_in_trouble: u64,
    /// How many of them print instead of sending.
    pub connections_dry_run: u64,
    /// Each connection of the configuration; of more than 50 those in trouble and the busiest, unless all were asked for.
    pub connections: Vec<ConnectionStatus>,
    /// How the configuration was read last.
    pub last_reload: ReloadStatus,
    /// The history of sends; `None`: none is kept.
    pub history: Option<HistoryStatus>,
    /// The daily comparison with Braze's dashboard; `None`: it is off.
    pub reconcile: Option<crate::ReconcileStatus>,
    /// Log lines that nobody read.
    pub log_lines_lost: u64,
    /// The books.
    pub books: BookTotals,
}

/// How it is, at one look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowState {
    /// Sends come and are accepted.
    Flowing,
    /// No sends come, or none is sent: a dry run.
    Quiet,
    /// Sends are lost, or can't come in.
    Trouble,
    /// What this version does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The answer at one look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Headline {
    /// Whether sends flow.
    pub state: FlowState,
    /// The same in words: the gravest cause of trouble, with the name of the connection that it hits.
    pub words: String,
    /// That cause: a reason why sends are dropped, or `not_ready`, `certificate`, `key_invalid`, `books`.
    pub cause: Option<String>,
    /// The connection that it hits; none where it hits all, or those that no connection serves.
    pub connection: Option<String>,
    /// How many more causes there are: of other connections, and of other kinds.
    pub others: u64,
}

/// The last hour in slots, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendRates {
    /// The width of a slot.
    pub slot_seconds: u64,
    /// The end of the last slot, in Unix seconds.
    pub end: u64,
    /// Sends counted, by slot.
    pub counted: Vec<u64>,
    /// Sends that Datadog accepted, or a dry run printed, by slot.
    pub accepted: Vec<u64>,
    /// Those of `accepted` that a dry run printed, and did not send, by slot.
    pub printed: Vec<u64>,
    /// Sends that were dropped, by slot.
    pub dropped: Vec<u64>,
    /// The last minute, or as many whole intervals of flushes as it takes.
    pub last_minute: SendTotals,
    /// How long ago the last send was counted; `None`: there was none since the start.
    pub last_send_seconds_ago: Option<u64>,
}

/// Sends in a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendTotals {
    /// Over how many seconds it was measured: whole intervals of flushes, or since the start, shortly after it.
    pub seconds: u64,
    /// Over how many of them those accepted were measured: whole intervals, fewer shortly after the start.
    pub accepted_seconds: u64,
    /// Sends that were counted.
    pub counted: u64,
    /// Sends that Datadog accepted, or a dry run printed.
    pub accepted: u64,
    /// Those of `accepted` that a dry run printed, and did not send.
    pub printed: u64,
    /// Sends that were dropped.
    pub dropped: u64,
}

/// One connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionStatus {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: FlowState,
    /// The same in words.
    pub words: String,
    /// Why its configuration was refused; then it is left out, or goes on with the old one.
    pub refused: Option<String>,
    /// The name of its site.
    pub site: String,
    /// Where its requests go.
    pub url: String,
    /// The metric's name.
    pub metric: String,
    /// Whether points are printed instead of sent.
    pub dry_run: bool,
    /// The app groups that it serves; none: all that no other connection names.
    pub app_group_ids: Vec<String>,
    /// Whether its key is valid.
    pub key: KeyVerdict,
    /// How many tags in Datadog stand for several names.
    pub names_collapsing: u64,
    /// How many other names several ids have.
    pub names_shared: u64,
    /// Some of both, the gravest first.
    pub collapsing: Vec<CollapsedTag>,
    /// The last outcome of a request.
    pub last_outcome: Option<OutcomeStatus>,
    /// Its sends.
    #[serde(flatten)]
    pub sends: SendCounts,
}

impl ConnectionStatus {
    /// Whether it is left out, for its configuration was refused and there is no older form of it.
    pub fn is_left_out(&self) -> bool {
        self.url.is_empty()
    }
}

/// What became of the sends of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendCounts {
    /// Series in the last flush that had events, of whatever connection.
    pub series: u64,
    /// Sends that were counted.
    pub counted: u64,
    /// Sends that Datadog accepted, or a dry run printed.
    pub accepted: u64,
    /// Those of `accepted` that a dry run printed, and did not send.
    pub printed: u64,
    /// Sends that were dropped.
    pub dropped: u64,
    /// The same by reason.
    pub dropped_by_reason: BTreeMap<String, u64>,
    /// Sends that have no outcome yet.
    pub pending: u64,
}

/// The last outcome of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomeStatus {
    /// What it was.
    pub outcome: String,
    /// Why its sends were dropped; `None`: they were accepted, or printed by a dry run.
    pub dropped: Option<String>,
    /// When, in Unix seconds.
    pub at: u64,
    /// How long ago that is.
    pub seconds_ago: u64,
}

/// Whether a connection's key is valid on its site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyVerdict {
    /// `valid`, `invalid`, or why that is not known.
    pub state: String,
    /// The same in words.
    pub words: String,
    /// How long ago Datadog said so.
    pub seconds_ago: Option<u64>,
}

/// Names that become one tag in Datadog, or one name that several ids have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CollapsedTag {
    /// The tag as Datadog stores it.
    pub tag: String,
    /// Some of the names as Braze wrote them.
    pub names: Vec<String>,
    /// How many there are.
    pub names_total: u64,
    /// Whether it is one name of several ids.
    pub same_name: bool,
    /// Some of their ids.
    pub ids: Vec<String>,
    /// How many there are.
    pub ids_total: u64,
    /// The tag that tells them apart.
    pub group_by: String,
}

/// The busiest of the last hour, busiest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Busiest {
    /// Campaigns.
    pub campaigns: Vec<BusyCampaign>,
    /// Canvas steps.
    pub steps: Vec<BusyCampaign>,
}

/// A campaign or a Canvas step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BusyCampaign {
    /// The connection's name.
    pub connection: String,
    /// Its id; empty where only a name is known.
    pub id: String,
    /// Its name; empty where only the id is known.
    pub name: String,
    /// The name of a step's Canvas.
    pub canvas: String,
    /// Its sends in the last hour.
    pub sends: u64,
    /// The same by minute, oldest first.
    pub minutes: Vec<u32>,
}

impl BusyCampaign {
    /// Its name, or its id, behind that of its Canvas.
    pub fn title(&self) -> String {
        title(&self.canvas, &self.name, &self.id)
    }
}

/// A series of the last flush.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BusySeries {
    /// The connection's name.
    pub connection: String,
    /// The tags as they were sent.
    pub tags: Vec<String>,
    /// Its sends in that flush.
    pub sends: u64,
}

/// The books.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BookTotals {
    /// Elements seen in what came from the queue.
    pub received: u64,
    /// Events of types that are not counted.
    pub ignored: u64,
    /// Elements that can't be counted.
    pub malformed: u64,
    /// Events that were counted before.
    pub duplicate: u64,
    /// Event ids forgotten before their window was over.
    pub ids_forgotten: u64,
    /// Sends that were counted.
    pub counted: u64,
    /// Sends that Datadog accepted, or a dry run printed.
    pub accepted: u64,
    /// Those of `accepted` that a dry run printed, and did not send.
    pub printed: u64,
    /// Sends that were dropped.
    pub dropped: u64,
    /// Sends that have no outcome yet.
    pub pending: u64,
    /// Whether the invariants hold.
    pub balanced: bool,
    /// Events (in Kafka: messages; in a bucket: objects) that wait in the queue.
    pub queue_depth: u64,
    /// `ignored` by event type.
    pub ignored_by_event_type: BTreeMap<String, u64>,
    /// `malformed` by reason.
    pub malformed_by_reason: BTreeMap<String, u64>,
    /// Bytes that no event could be read from, by input.
    pub bytes_unreadable_by_input: BTreeMap<String, u64>,
    /// By connection: those of the list above.
    pub connections: BTreeMap<String, ConnectionTotals>,
    /// Seconds from a cut to the last outcome of its requests.
    pub flush_seconds: HistogramTotals,
    /// Bytes of a request's body as sent.
    pub payload_bytes: HistogramTotals,
}

/// The books of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectionTotals {
    /// Its sends.
    #[serde(flatten)]
    pub sends: SendCounts,
    /// Accepted requests whose answer speaks of errors.
    pub requests_accepted_with_errors: u64,
}

/// How often values of which size were seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistogramTotals {
    /// All observations.
    pub count: u64,
    /// The sum of their values.
    pub sum: f64,
    /// Upper bounds, ascending; the last bucket has none.
    pub bounds: Vec<f64>,
    /// Observations by bucket, not cumulative.
    pub buckets: Vec<u64>,
}

/// One of the sums that must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Invariant {
    /// The sum in words.
    pub words: String,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
    /// Whether it holds.
    pub balanced: bool,
    /// The connections for which it does not, where it is one of connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unbalanced_connections: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedStatus, KafkaStatus};

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let embedded = EmbeddedStatus { size_bytes: 5, events_found: 2, ..EmbeddedStatus::default() };
        let kafka = KafkaStatus { lag: 7, partitions: 3, paused: true, messages_lost: 1 };
        let queues = [
            QueueStatus { kind: "embedded".into(), embedded: Some(embedded), ..QueueStatus::default() },
            QueueStatus { kind: "kafka".into(), depth: 7, kafka: Some(kafka), ..QueueStatus::default() },
        ];
        let sends = SendCounts { counted: 9, dropped: 2, ..SendCounts::default() };
        for queue in queues {
            let status = Status {
                queue,
                headline: Headline {
                    state: FlowState::Quiet,
                    words: "No sends".into(),
                    ..Headline::default()
                },
                connections: vec![ConnectionStatus { sends: sends.clone(), ..ConnectionStatus::default() }],
                ..Status::default()
            };
            let written = serde_json::to_value(&status).unwrap();
            assert_eq!(written["connections"][0]["dropped"], 2);
            assert_eq!(written["headline"]["state"], "quiet");
            assert_eq!(serde_json::from_value::<Status>(written).unwrap(), status);
        }
    }

    #[test]
    fn what_another_version_says_does_no_harm() {
        let answer =
            r#"{"headline": {"state": "dozing"}, "queue": {"kind": "other", "depth": 3}, "new": [1]}"#;
        let status: Status = serde_json::from_str(answer).unwrap();
        assert_eq!((status.headline.state, status.queue.depth), (FlowState::Unknown, 3));
        assert_eq!((status.queue.embedded, status.queue.kafka), (None, None));
    }
}
