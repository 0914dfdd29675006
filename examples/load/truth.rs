//! What there was to count, and how it went.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::events::Templates;

/// What was made, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    made: Sum,
    accepted: Sum,
    /// By status, or by what happened instead of one.
    refused: BTreeMap<String, Sum>,
    /// Sends that were accepted, by tag set.
    sends: Vec<u64>,
    latencies: Latencies,
    elapsed: Duration,
    behind: Duration,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    batches: u64,
    events: u64,
    sends: u64,
}

impl Sum {
    fn add(&mut self, events: u32, sets: &[u32]) {
        self.batches += 1;
        self.events += u64::from(events);
        self.sends += sets.len() as u64;
    }

    fn merge(&mut self, other: Sum) {
        self.batches += other.batches;
        self.events += other.events;
        self.sends += other.sends;
    }

    fn json(self) -> Value {
        json!({ "batches": self.batches, "events": self.events, "sends": self.sends })
    }
}

impl Truth {
    /// A batch of `events` whose sends have these tag sets.
    pub(crate) fn made(&mut self, events: u32, sets: &[u32]) {
        self.made.add(events, sets);
    }

    /// It was written, or answered with 200.
    pub(crate) fn accepted(&mut self, events: u32, sets: &[u32]) {
        self.accepted.add(events, sets);
        for set in sets {
            let set = *set as usize;
            if self.sends.len() <= set {
                self.sends.resize(set + 1, 0);
            }
            self.sends[set] += 1;
        }
    }

    /// It was answered with something else, or not at all.
    pub(crate) fn refused(&mut self, why: &str, events: u32, sets: &[u32]) {
        self.refused.entry(why.to_owned()).or_default().add(events, sets);
    }

    /// How long a push took to the end of the answer, from when it was due, or else from its first byte.
    pub(crate) fn took(&mut self, latency: Duration) {
        self.latencies.add(latency);
    }

    /// It took as long, and fell behind the given rate by `behind`.
    pub(crate) fn finish(&mut self, elapsed: Duration, behind: Duration) {
        self.elapsed = elapsed;
        self.behind = behind;
    }

    /// Adds what another connection did at the same time.
    pub(crate) fn merge(&mut self, other: &Truth) {
        self.made.merge(other.made);
        self.accepted.merge(other.accepted);
        for (why, sum) in &other.refused {
            self.refused.entry(why.clone()).or_default().merge(*sum);
        }
        self.sends.resize(self.sends.len().max(other.sends.len()), 0);
        for (mine, theirs) in self.sends.iter_mut().zip(&other.sends) {
            *mine += theirs;
        }
        self.latencies.merge(&other.latencies);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.behind = self.behind.max(other.behind);
    }

    /// For people and scripts.
    pub(crate) fn json(&self, templates: &Templates, seed: u64) -> Value {
        let mut by_app_group = BTreeMap::<String, u64>::new();
        for (set, sends) in (0u32..).zip(&self.sends) {
            *by_app_group.entry(templates.app_group(set)).or_default() += sends;
        }
        let refused: BTreeMap<&String, Value> =
            self.refused.iter().map(|(why, sum)| (why, sum.json())).collect();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let rate = self.accepted.events as f64 / self.elapsed.as_secs_f64().max(1e-9);
        json!({
            "seed": seed,
            "made": self.made.json(),
            "accepted": self.accepted.json(),
            "refused": refused,
            "sends_by_app_group": by_app_group,
            "tag_sets": self.sends.iter().filter(|sends| **sends > 0).count(),
            "seconds": milli(self.elapsed.as_secs_f64()),
            "events_per_second": rate.round(),
            "behind_seconds": milli(self.behind.as_secs_f64()),
            "push_milliseconds": {
                "p50": self.latencies.quantile(50),
                "p99": self.latencies.quantile(99),
                "max": self.latencies.quantile(100),
            },
        })
    }
}

/// Three decimals.
fn milli(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Each doubling of the time has as many steps, so that a quantile is at most 3 % too high.
const STEPS: usize = 32;

/// How often pushes took how many microseconds: in constant memory, however many there are.
#[derive(Debug, Default)]
struct Latencies {
    counts: Vec<u64>,
}

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let place = place(usize::try_from(latency.as_micros()).unwrap_or(usize::MAX));
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += 1;
    }

    fn merge(&mut self, other: &Latencies) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// In milliseconds; none when nothing was counted.
    fn quantile(&self, percent: u64) -> Option<f64> {
        let all: u64 = self.counts.iter().sum();
        let wanted = (all * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        #[expect(clippy::cast_precision_loss, reason = "a time for people to read")]
        Some(longest(place) as f64 / 1000.0)
    }
}

/// Where so many microseconds are counted. Before the second doubling each microsecond has its own place.
fn place(microseconds: usize) -> usize {
    let doublings = (microseconds / STEPS).max(1).ilog2() as usize;
    doublings * STEPS + (microseconds >> doublings)
}

/// The most microseconds that are counted there.
fn longest(place: usize) -> usize {
    let doublings = (place / STEPS).saturating_sub(1);
    ((place - doublings * STEPS + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_never_too_low_and_at_most_three_percent_too_high() {
        let mut last = 0;
        for microseconds in (0..5000).chain((7..40).map(|shift| 77 << shift)) {
            let (place, longest) = (place(microseconds), longest(place(microseconds)));
            assert!(place >= last && longest >= microseconds, "{microseconds} {place} {longest}");
            assert!(longest <= microseconds + microseconds / STEPS, "{microseconds} {longest}");
            last = place;
        }
    }

    #[test]
    fn quantiles_count_from_the_shortest() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(50), None);
        (1..=60).for_each(|microseconds| latencies.add(Duration::from_micros(microseconds)));
        assert_eq!(latencies.quantile(50), Some(0.03));
        assert_eq!(latencies.quantile(100), Some(0.06));
    }
}
