use datadog_points::outcome::FailureReason;
use proptest::prelude::*;

use super::*;
use event_lanes::stats::{Stats, Tally};

/// Of a forwarder that flushes every so many seconds.
fn every(seconds: u64) -> Rates {
    Rates::new(Duration::from_secs(seconds), Duration::from_secs(5))
}

fn count(stats: &Stats, sends: u64) {
    let counted = vec![("acme".into(), sends)];
    stats.book(&Tally { received: sends, counted, ..Tally::default() });
}

#[test]
fn a_send_is_in_the_slot_in_which_it_was_seen() {
    let (rates, stats) = (every(1), Stats::new());
    rates.sample(&stats.snapshot(), 0);
    count(&stats, 5);
    rates.sample(&stats.snapshot(), 9);
    count(&stats, 7);
    stats.book_outcome("acme", 5, None, "accepted", 0);
    rates.sample(&stats.snapshot(), 12);
    let hour = rates.hour(25);
    assert_eq!(hour.slots.len(), SLOTS);
    let counted: Vec<u64> = hour.slots[SLOTS - 3..].iter().map(|slot| slot.counted).collect();
    assert_eq!(counted, [5, 7, 0]);
    assert_eq!(hour.slots[SLOTS - 2].accepted, 5);
    assert_eq!((hour.minute.counted, hour.minute_seconds, hour.quiet_seconds), (12, 25, Some(13)));
    let hour = rates.hour(12 + 3600);
    assert_eq!((hour.minute.counted, hour.slots.iter().map(|slot| slot.counted).sum::<u64>()), (0, 0));
    assert_eq!(hour.quiet_seconds, Some(3600));
}

#[test]
fn what_was_printed_is_told_of_the_same_time_as_what_was_accepted() {
    let (rates, stats) = (every(1), Stats::new());
    rates.sample(&stats.snapshot(), 0);
    count(&stats, 9);
    stats.book_outcome("acme", 5, None, "accepted", 0);
    rates.sample(&stats.snapshot(), 9);
    stats.book_printed("acme", 4, "printed", 0);
    for (elapsed, minute) in [(12, (9, 4)), (40, (9, 4)), (71, (4, 4)), (200, (0, 0))] {
        rates.sample(&stats.snapshot(), elapsed);
        let Hour { minute: Sends { accepted, printed, .. }, slots, .. } = rates.hour(elapsed);
        assert_eq!((accepted, printed), minute, "after {elapsed} s");
        assert_eq!(slots.iter().map(|slot| slot.printed).sum::<u64>(), 4);
    }
}

#[test]
fn what_the_books_held_at_the_first_sample_is_seen_then() {
    let (rates, stats) = (every(1), Stats::new());
    assert_eq!(rates.hour(3).quiet_seconds, None);
    count(&stats, 5);
    rates.sample(&stats.snapshot(), 4);
    assert_eq!(rates.hour(4).minute.counted, 5);
}

#[test]
fn what_comes_before_a_second_has_passed_is_of_the_first_minute() {
    let (rates, stats) = (every(1), Stats::new());
    count(&stats, 70);
    stats.book_outcome("acme", 70, None, "accepted", 0);
    rates.sample(&stats.snapshot(), 0);
    for elapsed in 1..=60 {
        rates.sample(&stats.snapshot(), elapsed);
        let Sends { counted, accepted, .. } = rates.hour(elapsed).minute;
        assert_eq!((counted, accepted), (70, 70), "after {elapsed} s");
    }
    let later = 60 + AVERAGES;
    rates.sample(&stats.snapshot(), later);
    assert_eq!(rates.hour(later).minute, Sends::default());
}

#[test]
fn while_the_minute_is_not_full_all_that_was_counted_and_dropped_since_the_start_is_told() {
    for interval in [1, 7, 10, 25, 60, 180] {
        let (rates, stats) = (every(interval), Stats::new());
        rates.sample(&stats.snapshot(), 0);
        for elapsed in 1..=rates.window_max() {
            if elapsed == 1 {
                count(&stats, 70);
            }
            if elapsed == 3 {
                stats.book_outcome("acme", 70, Some(DropReason::Failed(FailureReason::Http5xx)), "503", 0);
            }
            rates.sample(&stats.snapshot(), elapsed);
            let hour = rates.hour(elapsed);
            let dropped = if elapsed >= 3 { 70 } else { 0 };
            let told = (hour.minute.counted, hour.minute.dropped, hour.minute_seconds);
            assert_eq!(told, (70, dropped, elapsed), "{interval} s, after {elapsed} s");
        }
    }
}

/// Of one flush, whose outcome comes at once or some seconds later.
#[test]
fn while_the_minute_is_not_full_what_was_accepted_since_the_start_is_told_throughout() {
    for (interval, late) in
        [1, 2, 3, 5, 7, 10, 25, 60, 180].into_iter().flat_map(|one| [(one, 0), (one, 1), (one, 3)])
    {
        let (rates, stats) = (every(interval), Stats::new());
        count(&stats, 150);
        for elapsed in 0..=rates.window_max() {
            if elapsed == interval + late {
                stats.book_outcome("acme", 150, None, "accepted", 0);
            }
            rates.sample(&stats.snapshot(), elapsed);
            let Hour { minute, accepted_seconds, .. } = rates.hour(elapsed);
            if elapsed >= interval + late + 4 {
                assert_eq!(minute.accepted, 150, "{interval} s, {late} s late, after {elapsed} s");
                assert_eq!(accepted_seconds % interval, 0, "{interval} s, after {elapsed} s");
            }
        }
    }
}

#[test]
fn drops_are_told_for_a_minute_the_most_first() {
    let (rates, stats) = (every(1), Stats::new());
    count(&stats, 100);
    stats.book_outcome("acme", 30, Some(DropReason::Failed(FailureReason::Http403)), "403", 0);
    rates.sample(&stats.snapshot(), 1);
    stats.book_outcome("acme", 50, Some(DropReason::Failed(FailureReason::Timeout)), "slow", 0);
    stats.book_outcome("acme", 1, Some(DropReason::Failed(FailureReason::Http403)), "403", 0);
    rates.sample(&stats.snapshot(), 31);
    let told = |elapsed| -> Vec<(DropReason, u64)> {
        rates.hour(elapsed).dropping.iter().map(|dropping| (dropping.reason, dropping.sends)).collect()
    };
    assert_eq!(
        told(40),
        [(DropReason::Failed(FailureReason::Timeout), 50), (DropReason::Failed(FailureReason::Http403), 31)]
    );
    assert_eq!(
        told(80),
        [(DropReason::Failed(FailureReason::Timeout), 50), (DropReason::Failed(FailureReason::Http403), 1)]
    );
    assert_eq!(told(92), []);
}

#[test]
fn drops_are_told_without_a_pause_where_every_flush_drops() {
    for (interval, last) in [(10, 60), (180, 191), (600, 611)] {
        let (rates, stats) = (every(interval), Stats::new());
        count(&stats, 100);
        stats.book_outcome("acme", 30, Some(DropReason::Failed(FailureReason::Http5xx)), "503", 0);
        rates.sample(&stats.snapshot(), 1_000);
        rates.sample(&stats.snapshot(), 1_000 + last);
        assert_eq!(rates.hour(1_000 + last).dropping.len(), 1, "{interval}");
        assert_eq!(rates.hour(1_001 + last).dropping, [], "{interval}");
    }
}

#[test]
fn a_steady_flow_is_told_as_such_whatever_the_interval_and_however_long_an_outcome_takes() {
    for interval in [1, 7, 10, 25, 59, 60, 61, 180, 600] {
        let (rates, stats) = (every(interval), Stats::new());
        let (mut cut, mut flushes) = (0, 0);
        for elapsed in 1..=3 * interval.max(60) {
            count(&stats, 20);
            if elapsed % interval == 0 {
                cut += interval * 20;
                flushes += 1;
            }
            // Each second outcome comes a second later.
            if cut > 0 && (elapsed % interval >= flushes % 2 || interval == 1) {
                stats.book_outcome("acme", cut, None, "accepted", 0);
                cut = 0;
            }
            rates.sample(&stats.snapshot(), elapsed);
            let Hour { minute, minute_seconds, accepted_seconds, .. } = rates.hour(elapsed);
            assert_eq!(minute.counted, 20 * minute_seconds, "{interval} s, after {elapsed} s");
            if elapsed > interval + 5 {
                assert_eq!(minute.accepted, 20 * accepted_seconds, "{interval} s, after {elapsed} s");
            }
        }
        let Hour { minute_seconds, accepted_seconds, .. } = rates.hour(3 * interval.max(60));
        assert_eq!(minute_seconds, 60u64.div_ceil(interval) * interval);
        assert_eq!(accepted_seconds, minute_seconds);
    }
}

proptest! {
    /// No send of the last hour is lost between slots, whatever the pauses between samples, and memory is bounded.
    #[test]
    fn slots_add_up(steps in prop::collection::vec((1u64..400, 0u64..50), 1..100)) {
        let (rates, stats) = (every(1), Stats::new());
        let mut elapsed = 0;
        let mut seen: Vec<(u64, u64)> = Vec::new();
        for (pause, sends) in steps {
            elapsed += pause;
            count(&stats, sends);
            rates.sample(&stats.snapshot(), elapsed);
            seen.push((elapsed, sends));
            let hour = rates.hour(elapsed);
            let first = (elapsed / SLOT_SECONDS + 1).saturating_sub(SLOTS as u64) * SLOT_SECONDS;
            let expected: u64 = seen.iter().filter(|(at, _)| *at >= first).map(|(_, sends)| sends).sum();
            prop_assert_eq!(hour.slots.iter().map(|slot| slot.counted).sum::<u64>(), expected);
            prop_assert!(rates.lock().ends.len() <= SLOTS && hour.slots.len() == SLOTS);
        }
    }
}
