//! What `/status` and `/search` tell beside the books, as JSON.

use admin_api::format;
use serde_json::{Value, json};

use super::rates::{Hour, SLOT_SECONDS, Sends};
use super::words::{self, State};
use crate::catalogue::trend::Trend;
use crate::catalogue::{Busy, Found, Kind, Search};
use crate::stats::{Books, ConnectionBooks};

/// The answer at one look.
pub fn headline(hour: &Hour, not_ready: Option<&str>, uptime_seconds: u64) -> Value {
    let (state, words) = words::headline(hour, not_ready, uptime_seconds);
    json!({"state": state.label(), "words": words})
}

/// The last hour in slots, oldest first; the last one ends at the Unix second `now`.
pub fn rates(hour: &Hour, now: u64) -> Value {
    let slots = |of: fn(&Sends) -> u64| -> Vec<u64> { hour.slots.iter().map(of).collect() };
    json!({
        "slot_seconds": SLOT_SECONDS,
        "end": now,
        "counted": slots(|sends| sends.counted),
        "accepted": slots(|sends| sends.accepted),
        "dropped": slots(|sends| sends.dropped),
        "last_minute": {
            "seconds": hour.minute_seconds,
            "counted": hour.minute.counted,
            "accepted": hour.minute.accepted,
            "dropped": hour.minute.dropped,
        },
        "last_send_seconds_ago": hour.quiet_seconds,
    })
}

/// The state of a connection that needs somebody.
pub const TROUBLE: &str = words::State::Trouble.label();

/// How a connection is: a state, and words for people.
pub fn connection(books: &ConnectionBooks, site: &str, now: u64) -> (&'static str, String) {
    let (state, words) = words::connection(books, site, now);
    (state.label(), words)
}

/// The drops of a connection by reason.
pub fn dropped_by_reason(books: &ConnectionBooks) -> Value {
    books.dropped.iter().map(|(reason, sends)| (reason.label().to_owned(), json!(sends))).collect()
}

/// The busiest campaigns and Canvas steps of the last hour, busiest first, each with its sends by minute, oldest
/// first, as of the Unix second `now`.
pub fn busiest(busiest: &[Busy], now: u64) -> Value {
    let of = |kind| -> Vec<Value> {
        let of_kind = busiest.iter().filter(|busy| busy.kind == kind);
        of_kind.filter(|busy| busy.trend.sum(now) > 0).map(|busy| busy_json(busy, now)).collect()
    };
    json!({"campaigns": of(Kind::Campaign), "steps": of(Kind::Step)})
}

fn busy_json(busy: &Busy, now: u64) -> Value {
    json!({
        "connection": busy.connection,
        "id": busy.id,
        "name": busy.name,
        "canvas": busy.canvas,
        "sends": busy.trend.sum(now),
        "minutes": minutes(&busy.trend, now),
    })
}

fn minutes(trend: &Trend, now: u64) -> Vec<u32> {
    trend.minutes(now).to_vec()
}

/// The invariants, each with both of its sides.
pub fn invariants(books: &Books) -> Value {
    let ignored: u64 = books.ignored.values().sum();
    let malformed: u64 = books.malformed.values().sum();
    let events = ignored + malformed + books.duplicate + books.counted();
    let sends = books.accepted() + books.dropped() + books.pending();
    let unbalanced: Vec<&str> = books
        .connections
        .iter()
        .filter(|(_, one)| one.counted != one.accepted + one.dropped.values().sum::<u64>() + one.pending)
        .map(|(name, _)| &**name)
        .collect();
    json!([
        {
            "words": "received = ignored + malformed + duplicate + counted",
            "left": books.received,
            "right": events,
            "balanced": books.received == events,
        },
        {
            "words": "counted = accepted + dropped + pending",
            "left": books.counted(),
            "right": sends,
            "balanced": unbalanced.is_empty(),
            "unbalanced_connections": unbalanced,
        },
    ])
}

/// What a search found. `site_of` says the site of a connection; empty where it is gone.
pub fn search(
    query: &str,
    search: &Search,
    site_of: impl Fn(&str) -> String,
    started: u64,
    now: u64,
) -> Value {
    let results: Vec<Value> =
        search.found.iter().map(|found| found_json(found, &site_of(&found.connection), now)).collect();
    json!({
        "query": query,
        "matches": search.matches,
        "results": results,
        "remembered_series": search.remembered,
        "left_out_series": search.left_out,
        "since": started,
    })
}

fn found_json(found: &Found, site: &str, now: u64) -> Value {
    let (state, words) = verdict(found, site, now);
    json!({
        "connection": found.connection,
        "tags": found.tags,
        "sends": found.sends,
        "last_send": found.last_send,
        "last_send_seconds_ago": now.saturating_sub(found.last_send),
        "state": state.label(),
        "words": words,
        "accepted_at": found.accepted_at,
        "minutes": found.trend.as_ref().map(|trend| minutes(trend, now)),
    })
}

/// Whether the sends of a series reach Datadog.
fn verdict(found: &Found, site: &str, now: u64) -> (State, String) {
    let ago = |at: u64| format::ago(now.saturating_sub(at));
    match found.outcome {
        None => (State::Quiet, "counted; its first request has no outcome yet".to_owned()),
        Some(last) => match last.dropped {
            None => (State::Flowing, format!("reaches Datadog: accepted {} ago", ago(last.at))),
            Some(reason) => {
                let before = match found.accepted_at {
                    Some(at) => format!("; last accepted {} ago", ago(at)),
                    None => "; never accepted since the start".to_owned(),
                };
                let why = words::outcome(reason, site);
                (State::Trouble, format!("does not reach Datadog: {why} ({} ago){before}", ago(last.at)))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::LastOutcome;
    use crate::stats::{DropReason, Stats, Tally};

    #[test]
    fn a_verdict_says_whether_sends_reach_datadog_and_since_when_not() {
        let found = |dropped, accepted_at| Found {
            connection: "acme".into(),
            tags: Vec::new(),
            sends: 1,
            last_send: 90,
            outcome: Some(LastOutcome { dropped, at: 100 }),
            accepted_at,
            trend: None,
        };
        let say = |found: &Found| verdict(found, "EU1", 102);
        assert_eq!(
            say(&found(None, Some(100))),
            (State::Flowing, "reaches Datadog: accepted 2 s ago".into())
        );
        let forbidden = found(Some(DropReason::Http403), Some(42));
        let words =
            "does not reach Datadog: 403: this key is not valid on EU1 (2 s ago); last accepted 1 minute ago";
        assert_eq!(say(&forbidden), (State::Trouble, words.into()));
        assert!(say(&found(Some(DropReason::Timeout), None)).1.ends_with("never accepted since the start"));
        assert_eq!(say(&Found { outcome: None, ..forbidden }).0, State::Quiet);
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
        assert!(invariants(&books).as_array().unwrap().iter().all(|one| one["balanced"] == true));
        books.connections.get_mut("acme").unwrap().pending = 9;
        books.received = 7;
        let told = invariants(&books);
        assert_eq!(
            (&told[0]["left"], &told[0]["right"], &told[0]["balanced"]),
            (&json!(7), &json!(3), &json!(false))
        );
        assert_eq!(told[1]["unbalanced_connections"], json!(["acme"]));
    }
}
