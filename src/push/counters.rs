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
}

/// Totals since the start, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [AtomicU64; CODES.len()],
    received_bytes: AtomicU64,
    refused: Mutex<BTreeMap<&'static str, Refused>>,
    logs: [Sampled; CODES.len()],
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
        all.iter().map(|(reason, Refused { requests, bytes })| (*reason, *requests, *bytes)).collect()
    }

    pub(super) fn book_refusal(&self, reason: &'static str, bytes: u64) {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = all.entry(reason).or_default();
        refused.requests += 1;
        refused.bytes += bytes;
    }

    /// A counter for the bytes of one body, which also adds to the totals.
    pub(super) fn body(&self) -> Received<'_> {
        Received { counters: self, bytes: AtomicU64::new(0) }
    }

    /// The log gate of a status.
    pub(super) fn log(&self, status: StatusCode) -> &Sampled {
        &self.logs[place(status)]
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
        counters.book_refusal("not_json", body.bytes());
        counters.book_refusal("not_json", 2);
        assert_eq!(counters.refused(), [("not_json", 2, 7)]);
        let seen: Vec<_> = counters.requests().filter(|(_, count)| *count > 0).collect();
        assert_eq!(seen, [(200, 1), (500, 1), (503, 2)]);
        assert_eq!(counters.received_bytes(), 5);
    }
}
