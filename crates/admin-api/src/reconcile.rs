//! What `/status` says of the daily comparison with Braze's dashboard.

use serde::{Deserialize, Serialize};

use crate::history::HistoryKind;
use crate::status::FlowState;

/// The daily comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReconcileStatus {
    /// How far apart both sides may be, in percent of Braze's number.
    pub tolerance_percent: f64,
    /// How many workspaces of Braze are asked.
    pub workspaces_total: u64,
    /// Each of them; of more than 50 those in trouble and those with the largest difference, unless all were asked for.
    pub workspaces: Vec<WorkspaceStatus>,
    /// How many campaigns, Canvases and steps differ.
    pub differing_total: u64,
    /// Those that differ most, of all workspaces.
    pub differing: Vec<ReconciledObject>,
    /// How many could not be compared.
    pub not_compared_total: u64,
    /// Those of them with the most sends: Braze could not be asked, or did not say. Not a difference of 0.
    pub not_compared: Vec<UncomparedSends>,
}

/// A workspace of Braze.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceStatus {
    /// The connection whose sends are compared; `None`: all connections without a workspace of their own.
    pub connection: Option<String>,
    /// Trouble: it could not be compared, or something is beyond the tolerance. Quiet: nothing is known yet.
    pub state: FlowState,
    /// The same in words.
    pub words: String,
    /// Why the last attempt failed, whole or in part.
    pub failed_because: Option<String>,
    /// When it was tried last, in Unix seconds.
    pub last_attempt: Option<u64>,
    /// When an attempt last succeeded in full, and had something to compare.
    pub last_success: Option<u64>,
    /// When it is tried next; `None`: at present, or never.
    pub next_attempt: Option<u64>,
    /// What was compared last; `None`: nothing so far.
    pub compared: Option<WorkspaceSums>,
}

/// Sums of one workspace's comparison.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceSums {
    /// When, in Unix seconds.
    pub at: u64,
    /// The first day.
    pub from: String,
    /// The last day.
    pub to: String,
    /// The time zone of the days.
    pub time_zone: String,
    /// The campaigns and Canvases together, on the days that could be compared.
    #[serde(flatten)]
    pub sends: SendsBySide,
    /// How many campaigns, Canvases and steps were compared.
    pub objects: u64,
    /// How many of them are beyond the tolerance.
    pub objects_beyond_tolerance: u64,
    /// How many could not be compared, or not on all days.
    pub objects_not_compared: u64,
}

/// Sends of both sides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SendsBySide {
    /// What Braze's dashboard has.
    pub braze: u64,
    /// What the forwarder has counted.
    pub counted: u64,
    /// What Datadog has accepted, or a dry run has printed.
    pub accepted: u64,
    /// Those of them that a dry run has printed, and did not send.
    pub printed: u64,
    /// `accepted` − `braze`.
    pub difference: i64,
    /// The same in percent of `braze`; `None` where that is 0.
    pub difference_percent: Option<f64>,
}

/// A campaign, a Canvas or a step that differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReconciledObject {
    /// The connection of its workspace; `None` as for [`WorkspaceStatus::connection`].
    pub connection: Option<String>,
    /// Its kind.
    pub kind: HistoryKind,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of a step's Canvas.
    pub canvas_name: String,
    /// Over the days that were compared.
    #[serde(flatten)]
    pub sends: SendsBySide,
    /// Whether the difference is within the tolerance.
    pub within_tolerance: bool,
    /// What the difference is made of, in words.
    pub explanation: Vec<String>,
}

/// What could not be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UncomparedSends {
    /// As for [`ReconciledObject::connection`].
    pub connection: Option<String>,
    /// Its kind.
    pub kind: HistoryKind,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the forwarder has counted of it.
    pub counted: u64,
    /// Why.
    pub reason: String,
}
