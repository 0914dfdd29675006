use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;
use crate::life::{Log, Told};
use crate::seen::{Came, Counted};

const CAMPAIGN: u64 = 7;

/// A life with a request of one send a second, and a kill in the second of the last one.
fn killed(number: u32, requests: u32, seen: &mut Seen) -> Life {
    let begun = Instant::now();
    let came = (0..requests).map(|second| (begun + Duration::from_secs(second.into()), 1)).collect();
    seen.came.insert((number, Group::Calm), Came { accepted: came });
    let until = begun + Duration::from_secs(requests.into());
    let (troubles, log, told) = (Vec::new(), Log::default(), Told::default());
    Life { number, end: End::Abrupt, until, troubles, log, told }
}

/// A batch of one send, which was counted in these requests of these lives.
fn counted(parts: &[(u32, usize)], truth: &mut Truth, seen: &mut Seen) {
    let number = truth.batches.len() as u64;
    let sends = BTreeMap::from([((Group::Calm, CAMPAIGN), 1)]);
    truth.batches.push(Pushed { sends, events: 1, acknowledged: Some(0), ..Pushed::default() });
    let parts = parts.iter().map(|&(life, request)| Counted { life, request, sends: 1 });
    seen.counted.insert((number, Group::Calm, CAMPAIGN), parts.collect());
}

/// What is found about flushes that were over, where two lives that were killed have had so many requests each, and a send
/// was counted in the first life's request `first`, and again in the last request of the second.
fn found(requests: [u32; 2], first: usize) -> Vec<String> {
    let (mut truth, mut seen) = (Truth::default(), Seen::default());
    let lives = [killed(0, requests[0], &mut seen), killed(1, requests[1], &mut seen)];
    let last = usize::try_from(requests[1]).unwrap() - 1;
    counted(&[(0, first), (1, last)], &mut truth, &mut seen);
    let mut findings = audit(&Evidence { truth: &truth, seen: &seen, lives: &lives }).findings;
    findings.retain(|finding| finding.contains("over"));
    findings
}

#[test]
fn a_send_of_a_flush_that_was_over_is_counted_once_however_short_the_next_life_was() {
    let findings = found([12, 2], 0);
    assert!(findings[0].starts_with("batch 0: 1 of 1 Calm sends were counted in life 1, and 1 before in"));
    assert_eq!(findings.len(), 1);
}

#[test]
fn a_send_that_was_under_way_may_be_counted_again() {
    assert_eq!(found([12, 2], 11), [""; 0]);
    // Six seconds before the kill at the earliest.
    assert_eq!(found([12, 2], 6), [""; 0]);
    assert_eq!(found([12, 2], 5).len(), 1);
}

#[test]
fn a_run_of_short_lives_has_shown_nothing() {
    assert_eq!(found([3, 2], 0), ["of 2 lives that were cut short none had a flush that was certainly over"]);
}
