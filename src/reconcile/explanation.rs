//! Explains differences.

use std::collections::BTreeMap;

use admin_api::format::grouped;
use jiff::civil::Date;
use serde::Serialize;

/// Reasons for drops because of a send's time.
const UNTIMELY: [&str; 2] = ["late", "early"];

/// Why both sides differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceReason {
    /// Counted here, and dropped: Datadog did not take it.
    Dropped,
    /// Received too late (or early) for Datadog.
    Late,
    /// Counted, and its request has no outcome yet, or none that is known.
    Pending,
    /// Braze has it, and the forwarder has not counted it.
    NeverReceived,
    /// Counted, and Braze does not have it.
    NotInBraze,
    /// On neighbouring days of the two sides.
    DayBorder,
}

/// Why a day is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UncomparedReason {
    /// It is not over, or only just: its events are still under way.
    DayNotOver,
    /// It began before the forwarder's history.
    BeforeHistory,
    /// Braze's answer has no number of sends for it.
    NotSaid,
}

impl UncomparedReason {
    /// The reason in words; it completes a sentence that begins with the day.
    pub const fn message(self) -> &'static str {
        match self {
            UncomparedReason::DayNotOver => "is not over, or not for an hour: events are still coming",
            UncomparedReason::BeforeHistory => "began before the forwarder's history did",
            UncomparedReason::NotSaid => "is one that Braze's answer has no number of sends for",
        }
    }
}

/// One part of a difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The reason.
    pub reason: DifferenceReason,
    /// How many sends.
    pub sends: u64,
    /// The part in words.
    pub words: String,
}

/// One day's numbers of both sides.
#[derive(Debug, Clone, Default)]
pub(super) struct BothSides {
    pub(super) braze: u64,
    pub(super) counted: u64,
    /// With those that were printed: the numbers of a dry run are those of a real one.
    pub(super) accepted: u64,
    pub(super) printed: u64,
    pub(super) dropped: BTreeMap<String, u64>,
}

/// Explains the days that are compared. With their signs the parts add up to accepted − Braze:
/// `not_in_braze` − `never_received` − `dropped` − `late` − `pending`, while what lies on a day border cancels out. What the
/// history has left out, count or outcome, may be among those that are missing.
pub(super) fn explain(days: &BTreeMap<Date, BothSides>, left_out: u64) -> Vec<Difference> {
    let (missing, border) = without_borders(days);
    let mut dropped = BTreeMap::new();
    let mut late = BTreeMap::new();
    let mut pending = 0;
    for day in days.values() {
        let mut outcomes = day.accepted;
        for (reason, sends) in &day.dropped {
            let sums = if UNTIMELY.contains(&&**reason) { &mut late } else { &mut dropped };
            *sums.entry(reason.as_str()).or_insert(0) += sends;
            outcomes += sends;
        }
        pending += day.counted.saturating_sub(outcomes);
    }
    let sum = |is_wanted: fn(&i64) -> bool| {
        missing.iter().filter(|missing| is_wanted(missing)).map(|missing| missing.unsigned_abs()).sum()
    };
    let parts = [
        (DifferenceReason::Dropped, dropped.values().sum(), Some(listed(&dropped))),
        (DifferenceReason::Late, late.values().sum(), Some(listed(&late))),
        (DifferenceReason::Pending, pending, None),
        (DifferenceReason::NeverReceived, sum(|missing| *missing > 0), None),
        (DifferenceReason::NotInBraze, sum(|missing| *missing < 0), None),
        (DifferenceReason::DayBorder, border, None),
    ];
    let found = parts.into_iter().filter(|(_, sends, _)| *sends > 0);
    let mut differences: Vec<_> = found
        .map(|(reason, sends, list)| {
            let mut words = message(reason, sends, list);
            if left_out > 0 && matches!(reason, DifferenceReason::NeverReceived | DifferenceReason::Pending) {
                let left_out = grouped(left_out);
                words = format!("{words}; they may be among the {left_out} that the history left out");
            }
            Difference { reason, sends, words }
        })
        .collect();
    differences.sort_by_key(|difference| std::cmp::Reverse(difference.sends));
    differences
}

/// Braze's surplus on each day, without the shortage of a neighbouring day; and the sum of that.
fn without_borders(days: &BTreeMap<Date, BothSides>) -> (Vec<i64>, u64) {
    let (mut left, mut border): (Vec<(Date, i64)>, u64) = (Vec::new(), 0);
    for (&day, sides) in days {
        let mut missing = signed(sides.braze) - signed(sides.counted);
        if let Some((before, other)) = left.last_mut()
            && before.tomorrow().is_ok_and(|next| next == day)
            && other.signum() * missing.signum() < 0
        {
            let moved = other.abs().min(missing.abs());
            *other -= moved * other.signum();
            missing -= moved * missing.signum();
            border += moved.unsigned_abs();
        }
        left.push((day, missing));
    }
    (left.into_iter().map(|(_, missing)| missing).collect(), border)
}

fn listed(sums: &BTreeMap<&str, u64>) -> String {
    let mut sums: Vec<_> = sums.iter().collect();
    sums.sort_by_key(|(_, sends)| std::cmp::Reverse(**sends));
    let texts: Vec<String> =
        sums.into_iter().map(|(reason, sends)| format!("{reason} {}", grouped(*sends))).collect();
    texts.join(", ")
}

fn message(reason: DifferenceReason, sends: u64, list: Option<String>) -> String {
    let sends = grouped(sends);
    let list = list.unwrap_or_default();
    match reason {
        DifferenceReason::Dropped => format!("{sends} dropped here: {list}"),
        DifferenceReason::Late => {
            format!("{sends} received, but not within the time that Datadog takes: {list}")
        }
        DifferenceReason::Pending => format!("{sends} counted, with no outcome that is known (yet)"),
        DifferenceReason::NeverReceived => format!(
            "{sends} never received: did the connector stop, does it leave out an event type, does another \
             forwarder count them, or were they dropped before they were counted by campaign (late, early, unrouted \
             and connection_refused_configuration in the books)?"
        ),
        DifferenceReason::NotInBraze => format!(
            "{sends} that Braze's dashboard does not have: retries, seed and test sends, or events that came twice"
        ),
        DifferenceReason::DayBorder => {
            format!("{sends} around midnight: on one day here, on its neighbour there")
        }
    }
}

pub(super) fn signed(sends: u64) -> i64 {
    i64::try_from(sends).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;
    use jiff::civil::date;
    use proptest::prelude::*;

    fn day(braze: u64, counted: u64, accepted: u64, dropped: &[(&str, u64)]) -> BothSides {
        let dropped = dropped.iter().map(|(reason, sends)| ((*reason).to_owned(), *sends)).collect();
        BothSides { braze, counted, accepted, printed: 0, dropped }
    }

    fn of(days: impl IntoIterator<Item = BothSides>) -> BTreeMap<Date, BothSides> {
        date(2026, 11, 20).series(1.day()).zip(days).collect()
    }

    fn parts(days: &BTreeMap<Date, BothSides>) -> Vec<(DifferenceReason, u64)> {
        explain(days, 0).into_iter().map(|difference| (difference.reason, difference.sends)).collect()
    }

    #[test]
    fn each_reason_is_told_with_its_number_the_largest_first() {
        use DifferenceReason::{DayBorder, Dropped, Late, NeverReceived, NotInBraze, Pending};
        assert_eq!(parts(&of([day(5, 5, 5, &[])])), []);
        let mixed = of([day(100, 90, 60, &[("http_5xx", 20), ("timeout", 1), ("late", 4), ("early", 1)])]);
        assert_eq!(parts(&mixed), [(Dropped, 21), (NeverReceived, 10), (Late, 5), (Pending, 4)]);
        let words: Vec<String> = explain(&mixed, 0).into_iter().map(|difference| difference.words).collect();
        assert_eq!(words[0], "21 dropped here: http_5xx 20, timeout 1");
        assert!(words[2].ends_with("late 4, early 1"), "{words:?}");
        assert_eq!(parts(&of([day(3, 5, 5, &[])])), [(NotInBraze, 2)]);
        // Opposite on neighbouring days, with a rest.
        assert_eq!(parts(&of([day(10, 7, 7, &[]), day(20, 25, 25, &[])])), [(DayBorder, 3), (NotInBraze, 2)]);
        assert_eq!(
            parts(&of([day(7, 10, 10, &[]), day(25, 20, 20, &[])])),
            [(DayBorder, 3), (NeverReceived, 2)]
        );
        assert_eq!(parts(&of([day(9, 7, 7, &[]), day(9, 7, 7, &[])])), [(NeverReceived, 4)]);
    }

    #[test]
    fn what_the_history_left_out_may_be_what_is_missing() {
        let days = of([day(100, 90, 60, &[("http_5xx", 20)])]);
        for (difference, is_told) in explain(&days, 1_200).iter().zip([false, true, true]) {
            let words = &difference.words;
            assert_eq!(words.ends_with("among the 1,200 that the history left out"), is_told, "{words}");
        }
    }

    #[test]
    fn days_that_are_no_neighbours_are_no_border() {
        let mut days = of([day(10, 7, 7, &[]), day(0, 0, 0, &[]), day(20, 23, 23, &[])]);
        days.remove(&date(2026, 11, 21));
        let found = parts(&days);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|(reason, _)| *reason != DifferenceReason::DayBorder));
    }

    proptest! {
        /// The parts add up to the difference, whatever happened.
        #[test]
        fn the_parts_add_up(
            raw in prop::collection::vec((0..50_u64, 0..50_u64, 0..50_u64, 0..9_u64, 0..9_u64), 0..12)
        ) {
            let days = of(raw.iter().map(|&(braze, accepted, pending, dropped, late)| {
                let counted = accepted + pending + dropped + late;
                day(braze, counted, accepted, &[("connect", dropped), ("late", late)])
            }));
            let difference: i64 =
                days.values().map(|day| signed(day.accepted) - signed(day.braze)).sum();
            let told: i64 = explain(&days, 0)
                .iter()
                .map(|part| match part.reason {
                    DifferenceReason::NotInBraze => signed(part.sends),
                    DifferenceReason::DayBorder => 0,
                    _ => -signed(part.sends),
                })
                .sum();
            prop_assert_eq!(told, difference);
        }
    }
}
