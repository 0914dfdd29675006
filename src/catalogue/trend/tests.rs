use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_older_than_an_hour_is_forgotten() {
    let start = 1_000 * 3600;
    let mut trend = Trend::new(start);
    trend.add(start + 30, 5);
    trend.add(start + 60, 7);
    let at = |after| {
        let minutes = trend.minutes(start + after);
        (minutes[MINUTES - 1], minutes[MINUTES - 2], trend.sum(start + after))
    };
    assert_eq!(at(65), (7, 5, 12));
    assert_eq!(at(3600), (0, 0, 7));
    assert_eq!(at(3660), (0, 0, 0));
    assert_eq!(at(0), at(65));
}

#[test]
fn a_minute_does_not_overflow() {
    let mut trend = Trend::new(0);
    trend.add(0, u64::MAX);
    trend.add(0, 1);
    assert_eq!(trend.sum(0), u64::from(u32::MAX));
}

proptest! {
    /// Whatever the pauses, a trend shows what a plain map of minutes shows.
    #[test]
    fn it_shows_what_was_added(steps in prop::collection::vec((0u64..4000, 0u64..100), 1..40), after in 0u64..5000) {
        let mut now = 1_000_000;
        let mut trend = Trend::new(now);
        let mut truth: BTreeMap<u64, u32> = BTreeMap::new();
        for (pause, sends) in steps {
            now += pause;
            trend.add(now, sends);
            *truth.entry(now / 60).or_default() += u32::try_from(sends).unwrap();
        }
        let newest = (now + after) / 60;
        let expected: Vec<u32> =
            (newest - 59..=newest).map(|minute| truth.get(&minute).copied().unwrap_or_default()).collect();
        // It is kept along, not added up from the minutes.
        prop_assert_eq!(trend.sum(now + after), expected.iter().copied().map(u64::from).sum::<u64>());
        prop_assert_eq!(trend.minutes(now + after).to_vec(), expected);
    }
}

#[test]
fn a_clock_that_was_hours_ahead_leaves_nothing_behind() {
    const NOW: u64 = 1_795_000_000;
    let mut trend = Trend::new(NOW + 5 * 3600);
    trend.add(NOW + 5 * 3600, 7);
    assert_eq!((trend.sum(NOW), trend.minutes(NOW)), (0, [0; MINUTES]));
    trend.add(NOW, 2);
    assert_eq!((trend.sum(NOW), trend.sum(NOW + 3599 - NOW % 60), trend.sum(NOW + 3660)), (2, 2, 0));
}
