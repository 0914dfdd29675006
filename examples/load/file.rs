//! Events as NDJSON.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use event_lanes::clock::Clock;

use crate::events::{Events, Templates};
use crate::pace::{Pace, Plan};
use crate::truth::Truth;

/// How much is written at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Writes what the plan says to `out`.
///
/// # Errors
/// When `out` takes no more.
pub(crate) fn write(
    mut out: impl Write,
    templates: &Arc<Templates>,
    plan: Plan,
    clock: &Clock,
) -> io::Result<Truth> {
    let start = Instant::now();
    let mut pace = Pace::new(plan, 0, 1, start);
    let mut events = Events::new(templates, 0);
    let mut truth = Truth::default();
    let (mut sets, mut chunk) = (Vec::new(), Vec::new());
    while pace.wait() {
        let now = clock.unix_seconds();
        for _ in 0..plan.batch {
            sets.extend(events.append(&mut chunk, now));
            chunk.push(b'\n');
        }
        truth.made(plan.batch, &sets);
        truth.accepted(plan.batch, &sets);
        sets.clear();
        // At a given rate somebody may be waiting.
        if plan.rate.is_some() || chunk.len() >= CHUNK_BYTES {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)?;
    out.flush()?;
    truth.finish(start.elapsed(), pace.behind);
    Ok(truth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::LoadSettings;

    #[test]
    fn the_truth_is_what_was_written() {
        let settings = LoadSettings { seed: 1, tag_sets: 10, app_groups: 2, ignored_percent: 30 };
        let templates = Arc::new(Templates::new(settings));
        let plan = Plan { batch: 100, rate: None, events_max: 950, seconds_max: None };
        let mut out = Vec::new();
        let truth = write(&mut out, &templates, plan, &Clock::system()).unwrap();
        let json = truth.json(&templates, 1);
        let sends = out.split(|byte| *byte == b'\n').filter(|line| {
            let event: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
            let event_type = event["event_type"].as_str().unwrap_or_default();
            event_type.starts_with("users.messages") && event_type.ends_with(".Send")
        });
        assert_eq!(json["accepted"]["sends"], sends.count());
        assert_eq!(json["accepted"]["events"], 1000);
        let by_app_group = json["sends_by_app_group"].as_object().unwrap();
        let sum: u64 = by_app_group.values().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!(json["accepted"]["sends"], sum);
    }
}
