//! Log lines on sends and events that never became part of a request: one line per kind and flush, never one per event.

use std::collections::BTreeMap;

use event_lanes::stats::{Books, DropReason};

/// The reasons of lanes for dropping sends, and the advice for each.
const DROPPED_BY_LANES: [(DropReason, &str); 4] = [
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
    (
        DropReason::ConnectionRefusedConfiguration,
        "what is written for the connection of their app group is wrong: `braze-datadog check` says what",
    ),
];

/// How often the warning about ids that are forgotten early is repeated: it lasts as long as the rate.
const FORGOTTEN_EVERY_MILLISECONDS: u64 = 60 * 60 * 1000;

/// Remembers what was logged, so that each drop is logged once.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    dropped: BTreeMap<(Box<str>, DropReason), u64>,
    malformed: BTreeMap<&'static str, u64>,
    unreadable: BTreeMap<&'static str, u64>,
    forgotten: u64,
    /// When that was logged last, in the clock's milliseconds.
    forgotten_at: Option<u64>,
}

impl Reporter {
    /// Logs the changes of the books since the last time. `now` is in the clock's milliseconds.
    pub(super) fn report(&mut self, books: &Books, now: u64) {
        if let Some(ids) = self.forgotten_early(books, now) {
            tracing::warn!(
                ids,
                "ids were forgotten before dedup.window was over, so that their repetitions count again: raise \
                 dedup.max_ids (32 bytes each), or lower dedup.window"
            );
        }
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
        for (input, unreadable) in &books.unreadable {
            let said = self.unreadable.entry(input).or_default();
            let bytes = unreadable.bytes - std::mem::replace(said, unreadable.bytes);
            if bytes > 0 {
                tracing::error!(
                    input,
                    bytes,
                    last = unreadable.last,
                    "bytes can't be read as JSON: the events in them are lost, those around them are counted"
                );
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

    /// The ids forgotten early since the last warning, if it is time for another.
    fn forgotten_early(&mut self, books: &Books, now: u64) -> Option<u64> {
        let ids = books.ids_forgotten - self.forgotten;
        let is_due = self.forgotten_at.is_none_or(|at| now >= at + FORGOTTEN_EVERY_MILLISECONDS);
        (ids > 0 && is_due).then(|| {
            (self.forgotten, self.forgotten_at) = (books.ids_forgotten, Some(now));
            ids
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use event_lanes::stats::{Stats, Tally};

    #[test]
    fn ids_that_are_forgotten_early_are_told_once_an_hour() {
        let (stats, mut reporter) = (Stats::new(), Reporter::default());
        let mut said_at = |forgotten, now| {
            stats.book(&Tally { ids_forgotten: forgotten, ..Tally::default() });
            reporter.forgotten_early(&stats.snapshot(), now)
        };
        let hour = FORGOTTEN_EVERY_MILLISECONDS;
        assert_eq!(said_at(0, 0), None);
        assert_eq!(said_at(5, 10_000), Some(5));
        assert_eq!(said_at(3, 20_000), None);
        assert_eq!(said_at(0, hour), None);
        assert_eq!(said_at(1, hour + 10_000), Some(4), "with those that were not told");
        assert_eq!(said_at(0, 5 * hour), None);
    }
}
