//! Makes the answer of `/status` from the books and the catalogue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use admin_api::{
    BookTotals, Busiest, BusyCampaign, CollapsedTag, ConnectionTotals, FlowState, HistogramTotals,
    HistoryStatus, Invariant, SendCounts, SendRates, SendTotals, Status,
};

use super::rates::{Hour, SLOT_SECONDS, Sends};
use crate::catalogue::trend::Trend;
use crate::catalogue::{BUSIEST_MAX, BusiestLately};
use event_lanes::stats::{Books, CollapsingTag, ConnectionBooks, Histogram, UNROUTED};
use send_history::HistoryState;

/// The last hour in slots, oldest first; the last one ends at the Unix second `now`.
pub fn rates(hour: &Hour, now: u64) -> SendRates {
    let slots = |of: fn(&Sends) -> u64| -> Vec<u64> { hour.slots.iter().map(of).collect() };
    let Sends { counted, accepted, printed, dropped } = hour.minute;
    SendRates {
        slot_seconds: SLOT_SECONDS,
        end: now,
        counted: slots(|sends| sends.counted),
        accepted: slots(|sends| sends.accepted),
        printed: slots(|sends| sends.printed),
        dropped: slots(|sends| sends.dropped),
        last_minute: SendTotals {
            seconds: hour.minute_seconds,
            accepted_seconds: hour.accepted_seconds,
            counted,
            accepted,
            printed,
            dropped,
        },
        last_send_seconds_ago: hour.quiet_seconds,
    }
}

/// The campaigns and Canvas steps that are busiest as of the Unix second `now`, with their sends in the last hour, busiest first.
pub fn busiest(busiest: &BusiestLately, now: u64) -> Busiest {
    let told = |all: &[(BusyCampaign, Trend)]| {
        let busy = |(busy, trend): &(BusyCampaign, Trend)| BusyCampaign {
            sends: trend.sum(now),
            minutes: trend.minutes(now).to_vec(),
            ..busy.clone()
        };
        let mut told: Vec<_> = all.iter().map(busy).filter(|busy| busy.sends > 0).collect();
        told.sort_by_key(|busy| Reverse(busy.sends));
        told.truncate(BUSIEST_MAX);
        told
    };
    Busiest { campaigns: told(&busiest.campaigns), steps: told(&busiest.steps) }
}

/// The books: `books` of `/status`, and the last line of `--once`.
pub fn totals(books: &Books, queue_depth: u64) -> BookTotals {
    let of_connection = |books: &ConnectionBooks| ConnectionTotals {
        sends: sends(books),
        requests_accepted_with_errors: books.accepted_with_errors,
    };
    BookTotals {
        received: books.received,
        ignored: books.ignored_total(),
        malformed: books.malformed_total(),
        duplicate: books.duplicate,
        ids_forgotten: books.ids_forgotten,
        counted: books.counted(),
        accepted: books.accepted(),
        printed: books.printed(),
        dropped: books.dropped(),
        pending: books.pending(),
        balanced: books.balance(),
        queue_depth,
        ignored_by_event_type: by_name(&books.ignored, |events| *events),
        malformed_by_reason: by_name(&books.malformed, |events| *events),
        bytes_unreadable_by_input: by_name(&books.unreadable, |unreadable| unreadable.bytes),
        connections: by_name(&books.connections, of_connection),
        flush_seconds: histogram(&books.flush_seconds),
        payload_bytes: histogram(&books.payload_bytes),
    }
}

/// How many connections a short status lists.
const CONNECTIONS_MAX: usize = 50;

/// Shortens a long list of connections: first those that are left out, then those that are outdated, then those in trouble, by
/// drops, then the busiest. Sums stay as they are.
pub fn shorten(status: &mut Status) {
    if let Some(reconcile) = &mut status.reconcile {
        crate::reconcile::shorten(reconcile);
    }
    if status.connections.len() <= CONNECTIONS_MAX {
        return;
    }
    status.connections.sort_by_key(|one| {
        let is_well = one.state != FlowState::Trouble;
        let sends = if is_well { one.sends.counted } else { one.sends.dropped };
        (!one.is_left_out(), one.refused.is_none(), is_well, Reverse(sends))
    });
    status.connections.truncate(CONNECTIONS_MAX);
    let listed: BTreeSet<&str> = status.connections.iter().map(|one| one.name.as_str()).collect();
    status.books.connections.retain(|name, _| name == UNROUTED || listed.contains(name.as_str()));
}

/// The sends of a connection by outcome.
pub fn sends(books: &ConnectionBooks) -> SendCounts {
    let by_reason = books.dropped.iter().map(|(reason, sends)| (reason.label().to_owned(), *sends));
    SendCounts {
        series: books.series,
        counted: books.counted,
        accepted: books.accepted,
        printed: books.printed,
        dropped: books.dropped_total(),
        dropped_by_reason: by_reason.collect(),
        pending: books.pending,
    }
}

/// The history, which may have `size_max_bytes`.
pub fn history(state: HistoryState, size_max_bytes: u64) -> HistoryStatus {
    HistoryStatus {
        since: state.since,
        objects: state.objects as u64,
        size_bytes: state.size,
        size_max_bytes,
        sends_left_out: state.left_out,
        trouble: state.trouble,
    }
}

/// Names that become one tag.
pub fn collapsed(tag: &CollapsingTag) -> CollapsedTag {
    CollapsedTag {
        tag: tag.tag.clone(),
        names: tag.names.clone(),
        names_total: tag.names_total,
        same_name: tag.is_same_name(),
        ids: tag.ids.clone(),
        ids_total: tag.ids_total,
        group_by: tag.group_by.to_owned(),
    }
}

fn by_name<K: ToString, V, T>(map: &BTreeMap<K, V>, of: impl Fn(&V) -> T) -> BTreeMap<String, T> {
    map.iter().map(|(name, value)| (name.to_string(), of(value))).collect()
}

fn histogram(histogram: &Histogram) -> HistogramTotals {
    HistogramTotals {
        count: histogram.buckets.iter().sum(),
        sum: histogram.sum,
        bounds: histogram.bounds.to_vec(),
        buckets: histogram.buckets.clone(),
    }
}

/// The invariants, each with both of its sides.
pub fn invariants(books: &Books) -> Vec<Invariant> {
    let events = books.events_booked();
    let unbalanced = books.connections.iter().filter(|(_, one)| !one.is_balanced());
    let unbalanced: Vec<String> = unbalanced.map(|(name, _)| name.to_string()).collect();
    vec![
        Invariant {
            words: "received = ignored + malformed + duplicate + counted".to_owned(),
            left: books.received,
            right: events,
            balanced: books.received == events,
            unbalanced_connections: None,
        },
        Invariant {
            words: "counted = accepted + dropped + pending".to_owned(),
            left: books.counted(),
            right: books.accepted() + books.dropped() + books.pending(),
            balanced: unbalanced.is_empty(),
            unbalanced_connections: Some(unbalanced),
        },
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use admin_api::ConnectionStatus;
    use serde_json::json;

    use super::*;
    use event_lanes::stats::{DropReason, Stats, Tally, Unreadable};

    #[test]
    fn the_busiest_come_first_as_of_now_although_nothing_was_flushed_since() {
        const HOUR: u64 = 3600;
        let busy = |name: &str, sends: &[(u64, u64)]| {
            let mut trend = Trend::new(0);
            for (at, sends) in sends {
                trend.add(*at, *sends);
            }
            (BusyCampaign { name: name.to_owned(), ..BusyCampaign::default() }, trend)
        };
        let campaigns =
            vec![busy("a", &[(0, 90), (1800, 5)]), busy("b", &[(1800, 60)]), busy("c", &[(0, 50)])];
        let lately = BusiestLately { campaigns, ..BusiestLately::default() };
        let told = |now| -> Vec<(String, u64)> {
            busiest(&lately, now).campaigns.into_iter().map(|busy| (busy.name, busy.sends)).collect()
        };
        assert_eq!(told(1800), [("a".to_owned(), 95), ("b".to_owned(), 60), ("c".to_owned(), 50)]);
        assert_eq!(told(HOUR), [("b".to_owned(), 60), ("a".to_owned(), 5)]);
        let campaigns = (0..70).map(|sends| busy("many", &[(0, sends)])).collect();
        let many = busiest(&BusiestLately { campaigns, ..BusiestLately::default() }, 60).campaigns;
        assert_eq!((many.len(), many[0].sends), (BUSIEST_MAX, 69));
    }

    #[test]
    fn of_many_connections_those_that_need_a_look_are_listed() {
        let all = |connections: u64| {
            let one = |number: u64| {
                let is_troubled = number % 100 == 7;
                let sends =
                    SendCounts { counted: number, dropped: u64::from(is_troubled), ..SendCounts::default() };
                let state = if is_troubled { FlowState::Trouble } else { FlowState::Flowing };
                ConnectionStatus {
                    name: format!("c{number:03}"),
                    state,
                    sends,
                    url: "https://api.datadoghq.com".to_owned(),
                    ..ConnectionStatus::default()
                }
            };
            let connections: Vec<_> = (0..connections).map(one).collect();
            let names = connections.iter().map(|one| one.name.clone()).chain([UNROUTED.to_owned()]);
            let books = names.map(|name| (name, ConnectionTotals::default())).collect();
            let books = BookTotals { connections: books, ..BookTotals::default() };
            Status { connections, books, ..Status::default() }
        };
        let mut few = all(50);
        shorten(&mut few);
        assert_eq!(few, all(50), "as they were, in their order");
        let mut many = all(300);
        // It is left out, and nobody has sent to it.
        many.connections[70].refused = Some("site: is empty".to_owned());
        many.connections[70].url = String::new();
        many.connections[70].state = FlowState::Trouble;
        // The old form of it is in force, and drops.
        many.connections[71].refused = Some("site: is empty".to_owned());
        many.connections[71].state = FlowState::Trouble;
        many.connections[71].sends.dropped = 5;
        shorten(&mut many);
        let names: Vec<&str> = many.connections.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names.len(), &names[..6]), (50, &["c070", "c071", "c007", "c107", "c207", "c299"][..]));
        assert_eq!(many.books.connections.len(), 51);
        assert!(many.books.connections.contains_key(UNROUTED));
    }

    #[test]
    fn each_invariant_shows_both_sides() {
        let stats = Stats::new();
        stats.book(&Tally {
            received: 3,
            duplicate: 1,
            counted: vec![("acme".into(), 2)],
            ..Tally::default()
        });
        let mut books = stats.snapshot();
        assert!(invariants(&books).iter().all(|one| one.balanced));
        books.connections.get_mut("acme").unwrap().pending = 9;
        books.received = 7;
        let [events, sends] = invariants(&books).try_into().unwrap();
        assert_eq!((events.left, events.right, events.balanced), (7, 3, false));
        assert_eq!(sends.unbalanced_connections, Some(vec!["acme".to_owned()]));
    }

    pub(in super::super) fn books() -> Books {
        let stats = Stats::new();
        stats.add_connection("acme");
        stats.book(&Tally {
            received: 7,
            duplicate: 1,
            ids_forgotten: 9,
            unreadable: [(
                "file",
                Unreadable { bytes: 7, last: "a.json, before byte 9 of its content".into() },
            )]
            .into(),
            ignored: vec![("users.messages.email.Open".into(), 2)],
            malformed: [("json", 1)].into(),
            counted: vec![("acme".into(), 3)],
            dropped: [(("acme".into(), DropReason::Late), 1)].into(),
        });
        stats.book_outcome("acme", 2, None, "accepted", 5);
        stats.book_payload(300);
        stats.snapshot()
    }

    #[test]
    fn the_same_books_are_told_in_json() {
        let json = serde_json::to_value(totals(&books(), 0)).unwrap();
        for (key, value) in
            [("received", 7), ("ignored", 2), ("malformed", 1), ("duplicate", 1), ("counted", 3)]
        {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(
            (&json["accepted"], &json["dropped"], &json["pending"]),
            (&json!(2), &json!(1), &json!(0))
        );
        assert_eq!(json["balanced"], true);
        assert_eq!(json["connections"]["acme"]["dropped_by_reason"]["late"], 1);
    }
}
