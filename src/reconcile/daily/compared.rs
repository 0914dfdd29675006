//! The stored result of a comparison: sums, and the largest differences.

use admin_api::{FlowState, ReconciledObject, UncomparedSends, WorkspaceSums};

use super::{SHOWN_MAX, WorkspaceSettings};
use crate::reconcile::table::printed;
use crate::reconcile::{ComparedObject, Reconciliation, UncomparedReason};

/// The stored result of a comparison.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) sums: WorkspaceSums,
    /// Why nothing could be compared, if it was because of the days.
    left_out: Option<String>,
    pub(super) differing_total: usize,
    pub(super) differing: Vec<ReconciledObject>,
    pub(super) unknown: Vec<UncomparedSends>,
}

impl Compared {
    /// The part of a comparison to store.
    pub(super) fn of(workspace: &WorkspaceSettings, all: &Reconciliation, now: u64) -> Self {
        let connection = workspace.connection.as_deref().map(str::to_owned);
        let compared = || all.objects.iter().filter(|object| object.is_compared());
        let is_unsaid = |object: &&ComparedObject| {
            object.days.iter().any(|day| day.not_compared == Some(UncomparedReason::NotSaid))
        };
        let beyond = compared().filter(|object| !object.within_tolerance).count();
        let unsaid = all.objects.iter().filter(is_unsaid).count() + all.not_compared.len();
        let sums = WorkspaceSums {
            at: now,
            from: all.from.to_string(),
            to: all.to.to_string(),
            time_zone: all.time_zone.clone(),
            sends: all.total.sends.clone(),
            objects: compared().count() as u64,
            objects_beyond_tolerance: beyond as u64,
            objects_not_compared: unsaid as u64,
        };
        let differs = |object: &&ComparedObject| !object.differences.is_empty();
        let shown = all.objects.iter().filter(differs).take(SHOWN_MAX);
        let differing = shown.map(|object| ReconciledObject {
            connection: connection.clone(),
            kind: object.kind,
            id: object.id.clone(),
            name: object.name.clone(),
            canvas_name: object.canvas_name.clone(),
            sends: object.sums.sends.clone(),
            within_tolerance: object.within_tolerance,
            explanation: object.differences.iter().map(|part| part.words.clone()).collect(),
        });
        let not_compared = all.not_compared.iter().take(SHOWN_MAX).map(|object| UncomparedSends {
            connection: connection.clone(),
            kind: object.kind,
            id: object.id.clone(),
            name: object.name.clone(),
            counted: object.counted,
            reason: object.reason.clone(),
        });
        Self {
            sums,
            left_out: all.left_out(),
            differing_total: all.objects.iter().filter(differs).count(),
            differing: differing.collect(),
            unknown: not_compared.collect(),
        }
    }

    /// The state in words, with the tolerance in percent.
    pub(super) fn summary(&self, percent: f64) -> (FlowState, String) {
        let (state, words) = self.agreement(percent);
        match printed(&self.sums.sends) {
            Some(printed) => (state, format!("{words}; {printed}")),
            None => (state, words),
        }
    }

    fn agreement(&self, percent: f64) -> (FlowState, String) {
        let WorkspaceSums {
            objects, objects_beyond_tolerance: beyond, objects_not_compared: unknown, ..
        } = self.sums;
        let what = "campaigns, Canvases and steps";
        match (&self.left_out, objects, beyond) {
            (Some(reason), ..) => (FlowState::Quiet, format!("nothing could be compared: each day {reason}")),
            (None, 0, _) if unknown > 0 => {
                (FlowState::Quiet, format!("none of {unknown} campaigns and Canvases could be compared"))
            }
            (None, 0, _) => {
                (FlowState::Quiet, "no campaign and no Canvas had sends on these days".to_owned())
            }
            (None, _, 0) => (FlowState::Flowing, format!("all of {objects} {what} agree within {percent} %")),
            (None, ..) => {
                let differ = if beyond == 1 { "differs" } else { "differ" };
                let words = format!("{beyond} of {objects} {what} {differ} by more than {percent} %");
                (FlowState::Trouble, words)
            }
        }
    }
}
