//! How many requests were answered how.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use crate::listen::sampled::Sampled;

/// Every status this port answers with.
const CODES: [u16; 10] = [200, 400, 401, 404, 405, 408, 413, 415, 500, 503];

/// Totals since the start, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [AtomicU64; CODES.len()],
    received_bytes: AtomicU64,
    logs: [Sampled; CODES.len()],
    log_left_out: Sampled,
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

    pub(super) fn book_bytes(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The log gate of a status.
    pub(super) fn log(&self, status: StatusCode) -> &Sampled {
        &self.logs[place(status)]
    }

    /// The log gate of what is left out behind a gzip.
    pub(super) fn log_left_out(&self) -> &Sampled {
        &self.log_left_out
    }
}

/// Where a status stands in [`CODES`]; one that is not there is a mistake of ours, and booked as 500.
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
        counters.book_bytes(5);
        let seen: Vec<_> = counters.requests().filter(|(_, count)| *count > 0).collect();
        assert_eq!(seen, [(200, 1), (500, 1), (503, 2)]);
        assert_eq!(counters.received_bytes(), 5);
    }
}
