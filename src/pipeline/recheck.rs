//! Checks the times of a payload's points again when its request begins.
//!
//! A send is placed in time when it is counted. Until its request begins the wall clock may have been set, or the process
//! stopped for long; and Datadog drops points outside its window without a word, which would be booked as accepted.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use crate::forwarder_points::{self, heartbeat};
use datadog_points::payload::{Payload, PayloadLimits, PayloadWriter, Times};
use event_lanes::stats::DropReason;
use send_counts::aggregate::window::{Placed, Window};

/// What is left of a payload, and the sends that were left out of it.
#[derive(Debug)]
pub struct Rechecked {
    /// `None`: nothing is left.
    pub payload: Option<Payload>,
    /// Sends that were left out.
    pub sends: LeftOut,
    /// Points of the forwarder's own that were left out.
    pub own: LeftOut,
}

/// How much was left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Older now than Datadog takes.
    pub late: u64,
    /// Further ahead now than Datadog takes.
    pub early: u64,
}

impl LeftOut {
    fn add(&mut self, placed: Placed, count: u64) {
        match placed {
            Placed::Bucket(_) => {}
            Placed::Late => self.late += count,
            Placed::Early => self.early += count,
        }
    }

    /// Both.
    pub fn sum(self) -> u64 {
        self.late.saturating_add(self.early)
    }

    /// With the reason for each.
    pub fn by_reason(self) -> [(DropReason, u64); 2] {
        [(DropReason::Late, self.late), (DropReason::Early, self.early)]
    }
}

/// A request's body, as `encode` writes it.
#[derive(Deserialize)]
struct Body {
    series: Vec<Series>,
}

#[derive(Serialize, Deserialize)]
struct Series {
    metric: String,
    #[serde(rename = "type")]
    kind: String,
    tags: Vec<String>,
    points: Vec<(u64, Vec<u64>)>,
}

/// Drops, or moves to the present bucket, what is outside the window at `now`. Nearly every payload is inside, and is returned
/// undecoded. The forwarder's own points outside are dropped; they stand for no sends.
pub fn recheck(payload: Payload, window: &Window, now: u64) -> Rechecked {
    let Times { oldest, newest } = payload.times;
    let unchanged =
        |payload| Rechecked { payload: Some(payload), sends: LeftOut::default(), own: LeftOut::default() };
    if window.holds(oldest, newest, now) {
        return unchanged(payload);
    }
    let Some(body) = read(&payload) else { return unchanged(payload) };
    let (mut left_out, mut own) = (LeftOut::default(), LeftOut::default());
    // It was within the limits, and gets no series and no point more; a time may get a digit more.
    let mut splitter = PayloadWriter::new(PayloadLimits {
        raw_bytes_max: usize::MAX,
        compressed_bytes_max: usize::MAX,
        ..PayloadLimits::default()
    });
    let mut left = None;
    for mut series in body.series {
        let stands_for_sends = !series.metric.starts_with(forwarder_points::PREFIX);
        let mut points: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (time, values) in std::mem::take(&mut series.points) {
            let placed = window.place_again(time, now);
            if let Placed::Bucket(bucket) = placed {
                points.entry(bucket).or_default().extend(values);
            } else if stands_for_sends {
                left_out.add(placed, values.iter().sum());
            } else if series.metric != heartbeat::METRIC {
                // A heartbeat is in no book.
                own.add(placed, 1);
            }
        }
        let (Some(oldest), Some(newest)) = (points.keys().next(), points.keys().next_back()) else {
            continue;
        };
        let times = Times { oldest: *oldest, newest: *newest };
        let values = points.values().flatten();
        let sends = if stands_for_sends { values.sum() } else { 0 };
        series.points = points.into_iter().collect();
        // Memory takes everything.
        let write = |raw: &mut Vec<u8>| drop(serde_json::to_writer(raw, &series));
        splitter.add(sends, times, write, &mut |payload| left = Some(payload));
    }
    splitter.finish(&mut |payload| left = Some(payload));
    Rechecked { payload: left, sends: left_out, own }
}

fn read(payload: &Payload) -> Option<Body> {
    let mut raw = Vec::with_capacity(payload.raw_bytes);
    flate2::read::ZlibDecoder::new(&*payload.body).read_to_end(&mut raw).ok()?;
    serde_json::from_slice(&raw).ok()
}

#[cfg(test)]
mod tests;
