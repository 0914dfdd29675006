//! What the admin port tells, as far as it is shown. What an older or newer forwarder does not tell is empty.

use serde::Deserialize;

/// `/status`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Status {
    pub version: String,
    pub uptime_seconds: u64,
    pub headline: Headline,
    pub rates: Rates,
    pub connections: Vec<Connection>,
    pub busiest: Busiest,
    pub queue: Queue,
    pub books: Books,
    pub invariants: Vec<Invariant>,
    pub configuration: Vec<Setting>,
}

/// The answer at one look.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Headline {
    pub state: String,
    pub words: String,
}

/// The last hour.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Rates {
    pub slot_seconds: u64,
    pub accepted: Vec<u64>,
    pub dropped: Vec<u64>,
    pub last_minute: Minute,
}

/// The last minute.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Minute {
    pub seconds: u64,
    pub accepted: u64,
    pub dropped: u64,
}

/// One connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Connection {
    pub name: String,
    pub site: String,
    pub state: String,
    pub words: String,
    pub last_outcome: Option<LastOutcome>,
    pub accepted: u64,
    pub dropped: u64,
    pub dropped_by_reason: std::collections::BTreeMap<String, u64>,
    pub pending: u64,
    pub series: u64,
    pub key: Option<Key>,
    pub collapsing: Vec<Collapsing>,
}

/// The last outcome of a connection.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct LastOutcome {
    pub outcome: String,
}

/// Whether a connection's key is valid.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Key {
    pub state: String,
    pub words: String,
}

/// Names that become one tag.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Collapsing {
    pub tag: String,
    pub names: Vec<String>,
    pub group_by: String,
}

/// The busiest of the last hour.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Busiest {
    pub campaigns: Vec<Busy>,
    pub steps: Vec<Busy>,
}

/// A campaign or a Canvas step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Busy {
    pub connection: String,
    pub id: String,
    pub name: String,
    pub canvas: String,
    pub sends: u64,
    pub minutes: Vec<u64>,
}

/// What the events wait in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Queue {
    pub kind: String,
    pub depth: u64,
    pub size_bytes: u64,
    pub size_max_bytes: u64,
    pub partitions: u64,
    pub paused: bool,
    pub trouble: Option<String>,
}

/// The books.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Books {
    pub received: u64,
    pub ignored: u64,
    pub malformed: u64,
    pub duplicate: u64,
    pub counted: u64,
    pub accepted: u64,
    pub dropped: u64,
    pub pending: u64,
    pub balanced: bool,
}

/// One of the sums that must hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Invariant {
    pub words: String,
    pub left: u64,
    pub right: u64,
    pub balanced: bool,
}

/// A setting.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /status")]
pub struct Setting {
    pub key: String,
    pub value: String,
}

/// `/search`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /search")]
pub struct Search {
    pub query: String,
    pub matches: u64,
    pub results: Vec<Found>,
    pub remembered_series: u64,
}

/// One series that was found.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of /search")]
pub struct Found {
    pub connection: String,
    pub tags: Vec<String>,
    pub sends: u64,
    pub last_send_seconds_ago: u64,
    pub state: String,
    pub words: String,
}
