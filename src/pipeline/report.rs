//! What the log says of sends and events that never got as far as a request: one line per kind and flush, never one
//! per event.

use std::collections::BTreeMap;

use crate::stats::{Books, DropReason};

/// The reasons under which lanes drop sends, and what to do about each.
const DROPPED_BY_LANES: [(DropReason, &str); 3] = [
    (
        DropReason::Late,
        "older than Datadog takes (one hour); events.late = \"restamp\" would count them under the present moment",
    ),
    (
        DropReason::Early,
        "further ahead than Datadog takes (ten minutes): test events, or a wrong clock; see events.late",
    ),
    (
        DropReason::Unrouted,
        "no connection serves their app group: name it in app_group_ids, or leave that empty in one connection",
    ),
];

/// Remembers what was said, so that each drop is said once.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    dropped: BTreeMap<(Box<str>, DropReason), u64>,
    malformed: BTreeMap<&'static str, u64>,
}

impl Reporter {
    /// Logs what has come to the books since the last time.
    pub(super) fn report(&mut self, books: &Books) {
        for (name, connection) in &books.connections {
            for (reason, advice) in DROPPED_BY_LANES {
                let total = connection.dropped.get(&reason).copied().unwrap_or_default();
                let said = self.dropped.entry((name.clone(), reason)).or_default();
                let sends = total - std::mem::replace(said, total);
                if sends > 0 {
                    tracing::error!(connection = %name, reason = reason.label(), sends, "sends were dropped: {advice}");
                }
            }
        }
        for (reason, total) in &books.malformed {
            let said = self.malformed.entry(reason).or_default();
            let events = total - std::mem::replace(said, *total);
            if events > 0 {
                tracing::warn!(reason, events, "events can't be counted: they are not what Braze writes");
            }
        }
    }
}
