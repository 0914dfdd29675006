//! Counts of requests by status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use hyper::StatusCode;

use http_listener::sampled::Sampled;

/// Every status this port answers with.
const CODES: [u16; 11] = [200, 400, 401, 403, 404, 405, 408, 413, 415, 500, 503];

/// The refusals for one reason.
#[derive(Debug, Default)]
struct Refused {
    requests: u64,
    /// The bytes of their bodies that had come by then.
    bytes: u64,
    /// The log gate of those that call for a person, and of the others, which may be many more.
    grave_log: Sampled,
    log: Sampled,
}

/// Totals since the start, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [AtomicU64; CODES.len()],
    received_bytes: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, Refused>>,
    /// The log gate for bodies that are accepted with damage.
    pub(super) damage_log: Sampled,
    /// The log gate for bytes left out behind a gzip.
    pub(super) left_out_log: Sampled,
    /// The log gate of what Amazon SNS asks to confirm, or tells.
    pub(super) subscription_log: Sampled,
}

/// Counts the bytes of one body.
#[derive(Debug)]
pub(super) struct Received<'c> {
    counters: &'c Counters,
    bytes: AtomicU64,
}

impl Received<'_> {
    pub(super) fn add(&self, bytes: usize) {
        self.counters.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Requests answered, by status, in ascending order; statuses that never occurred are there with 0.
    pub fn requests(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        CODES.into_iter().zip(self.requests.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Bytes of bodies as they came, before decompression, those of refused requests included.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn book_answer(&self, status: StatusCode) {
        self.requests[place(status)].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were refused, and the bytes of their bodies that had come, by reason; reasons that never occurred
    /// are not there.
    pub fn refused(&self) -> Vec<(&'static str, u64, u64)> {
        let all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(reason, refused)| (*reason, refused.requests, refused.bytes)).collect()
    }

    /// Whether to log it, and if so how many of its reason and gravity were not since the last.
    pub(super) fn book_refusal(&self, reason: &'static str, is_grave: bool, bytes: u64) -> Option<u64> {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = all.entry(reason).or_default();
        refused.requests += 1;
        refused.bytes += bytes;
        if is_grave { &refused.grave_log } else { &refused.log }.pass()
    }

    /// A counter for the bytes of one body, which also adds to the totals.
    pub(super) fn body(&self) -> Received<'_> {
        Received { counters: self, bytes: AtomicU64::new(0) }
    }
}

/// The place of a status in [`CODES`]; an unlisted one is a defect, and booked as 500.
fn place(status: StatusCode) -> usize {
    let find = |code: u16| CODES.iter().position(|known| *known == code);
    find(status.as_u16()).or_else(|| find(500)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_status() {
        let counters = Counters::default();
        counters.book_answer(StatusCode::OK);
        counters.book_answer(StatusCode::SERVICE_UNAVAILABLE);
        counters.book_answer(StatusCode::SERVICE_UNAVAILABLE);
        counters.book_answer(StatusCode::IM_A_TEAPOT);
        let body = counters.body();
        body.add(5);
        assert_eq!(counters.book_refusal("not_json", false, body.bytes()), Some(0));
        assert_eq!(counters.book_refusal("not_json", false, 2), None);
        assert_eq!(counters.refused(), [("not_json", 2, 7)]);
        let seen: Vec<_> = counters.requests().filter(|(_, count)| *count > 0).collect();
        assert_eq!(seen, [(200, 1), (500, 1), (503, 2)]);
        assert_eq!(counters.received_bytes(), 5);
    }

    #[test]
    fn a_refusal_that_calls_for_a_person_is_logged_beside_others_of_its_status_and_reason() {
        let counters = Counters::default();
        for (reason, is_grave) in [("queue", false), ("memory", false), ("queue", true)] {
            assert_eq!(counters.book_refusal(reason, is_grave, 0), Some(0), "{reason} {is_grave}");
            assert_eq!(counters.book_refusal(reason, is_grave, 0), None, "{reason} {is_grave}");
        }
    }
}
