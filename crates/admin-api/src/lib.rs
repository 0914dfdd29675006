//! What a forwarder's admin port says at `/status`, `/search` and `/history`, as types for both sides, and a client that asks it.
//!
//! ```
//! use admin_api::{FlowState, Status, format};
//!
//! let answer = r#"{"headline": {"state": "flowing", "words": "Sends flow"}, "uptime_seconds": 7320}"#;
//! let status: Status = serde_json::from_str(answer)?;
//! assert_eq!(status.headline.state, FlowState::Flowing);
//! assert_eq!(format::ago(status.uptime_seconds), "2 hours 2 minutes");
//! // What was not said is empty.
//! assert!(status.connections.is_empty());
//! # Ok::<(), serde_json::Error>(())
//! ```

mod client;
mod configuration;
pub mod format;
mod history;
mod queue_status;
mod reconcile;
mod search;
mod status;

pub use self::client::{Client, ClientError, reachable};
pub use self::configuration::{ReloadStatus, SettingValue};
pub use self::history::{History, HistoryDay, HistoryKind, HistoryObject, HistoryQuery, HistoryStatus};
pub use self::queue_status::{EmbeddedStatus, KafkaStatus, QueueStatus, StorageStatus};
pub use self::reconcile::{
    ReconcileStatus, ReconciledObject, SendsBySide, UncomparedSends, WorkspaceStatus, WorkspaceSums,
};
pub use self::search::{ChartDay, ObjectMatch, SearchAnswer, SeriesMatch};
pub use self::status::{
    BookTotals, Busiest, BusyCampaign, BusySeries, CollapsedTag, ConnectionStatus, ConnectionTotals,
    FlowState, Headline, HistogramTotals, Invariant, KeyVerdict, OutcomeStatus, SendCounts, SendRates,
    SendTotals, Status,
};
