//! Request bodies within Datadog's limits: split by measured sizes, not by estimates.

use std::io::Write;
use std::ops::Range;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::series::write_series;
pub use crate::series::{Metric, VALUE_MAX};

/// The most that goes into one request.
///
/// Datadog publishes no limit for this endpoint, yet answers 413 at about 10,000 series. The defaults stay at
/// or below the lowest limits of its neighbours: the v2 series endpoint takes 512,000 B compressed, the
/// Agent sends 4 MiB raw at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Bytes before compression.
    pub raw_bytes_max: usize,
    /// Bytes after compression.
    pub compressed_bytes_max: usize,
    /// Series.
    pub series_max: usize,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        Self { raw_bytes_max: 4 * 1024 * 1024, compressed_bytes_max: 500_000, series_max: 5_000 }
    }
}

/// One request body.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The body as sent: zlib (RFC 1950), which is the only encoding in Datadog's contract.
    pub body: Bytes,
    /// Bytes before compression.
    pub raw_bytes: usize,
    /// Series in it.
    pub series: usize,
    /// Sends in it: what is booked with its outcome.
    pub sends: u64,
    /// The time of its oldest and of its newest point, in Unix seconds.
    pub times: Times,
}

/// The time of the oldest and of the newest of some points, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The time of the oldest.
    pub oldest: u64,
    /// The time of the newest.
    pub newest: u64,
}

impl Times {
    /// Those of one point.
    pub const fn at(time: u64) -> Self {
        Self { oldest: time, newest: time }
    }

    fn and(self, other: Self) -> Self {
        Self { oldest: self.oldest.min(other.oldest), newest: self.newest.max(other.newest) }
    }
}

const OPEN: &[u8] = br#"{"series":["#;
const CLOSE: &[u8] = b"]}";

/// Level 1 of zlib-rs: on these bodies four times as fast as the default level and a sixth larger.
const LEVEL: u32 = 1;

/// Where an encoded series lies, the comma before it left out, and how many sends it stands for.
#[derive(Debug, Clone)]
struct Piece {
    range: Range<usize>,
    sends: u64,
    times: Times,
}

/// Collects series and hands out payloads.
#[derive(Debug)]
pub struct PayloadWriter {
    limits: PayloadLimits,
    raw: Vec<u8>,
    pieces: Vec<Piece>,
}

impl PayloadWriter {
    /// An empty one.
    pub fn new(limits: PayloadLimits) -> Self {
        Self { limits, raw: Vec::new(), pieces: Vec::new() }
    }

    /// Adds one series; a tag is the two halves of it, which are UTF-8, and a point a time in Unix seconds and a count.
    /// For the rest see [`PayloadWriter::add`].
    pub fn series<'t>(
        &mut self,
        metric: &Metric,
        tags: impl IntoIterator<Item = (&'t [u8], &'t [u8])>,
        points: impl IntoIterator<Item = (u32, u64), IntoIter: Clone>,
        sends: u64,
        done: &mut impl FnMut(Payload),
    ) {
        let points = points.into_iter();
        let times = points.clone().map(|(time, _)| Times::at(time.into())).reduce(Times::and);
        let write = |raw: &mut Vec<u8>| write_series(raw, metric, tags, points);
        self.add(sends, times.unwrap_or(Times::at(0)), write, done);
    }

    /// Adds one series, whose JSON `write` appends, and whose points stand for `sends` at `times`. Payloads that became full
    /// go to `done`. A series that exceeds a limit by itself still goes out, in a payload of its own: only Datadog can say
    /// whether it takes it.
    pub fn add(
        &mut self,
        sends: u64,
        times: Times,
        write: impl FnOnce(&mut Vec<u8>),
        done: &mut impl FnMut(Payload),
    ) {
        if !self.pieces.is_empty() {
            self.raw.push(b',');
        }
        let start = self.raw.len();
        write(&mut self.raw);
        let framed = self.raw.len() + OPEN.len() + CLOSE.len();
        if !self.pieces.is_empty()
            && (framed > self.limits.raw_bytes_max || self.pieces.len() >= self.limits.series_max)
        {
            let next = self.raw.split_off(start);
            self.finish(done);
            self.raw = next;
            self.pieces.push(Piece { range: 0..self.raw.len(), sends, times });
        } else {
            self.pieces.push(Piece { range: start..self.raw.len(), sends, times });
        }
    }

    /// Hands out the remaining series, and is empty afterwards.
    pub fn finish(&mut self, done: &mut impl FnMut(Payload)) {
        let pieces = std::mem::take(&mut self.pieces);
        if !pieces.is_empty() {
            self.compress(&pieces, done);
        }
        self.raw.clear();
    }

    /// Compresses a run of series; one that turns out too large is halved.
    fn compress(&self, pieces: &[Piece], done: &mut impl FnMut(Payload)) {
        let (body, raw_bytes) = self.deflate(pieces);
        if body.len() > self.limits.compressed_bytes_max && pieces.len() > 1 {
            let (left, right) = pieces.split_at(pieces.len() / 2);
            self.compress(left, done);
            self.compress(right, done);
            return;
        }
        let sends = pieces.iter().map(|piece| piece.sends).sum();
        let times = pieces.iter().map(|piece| piece.times).reduce(Times::and).unwrap_or(Times::at(0));
        done(Payload { body: body.into(), raw_bytes, series: pieces.len(), sends, times });
    }

    fn deflate(&self, pieces: &[Piece]) -> (Vec<u8>, usize) {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(LEVEL));
        let (start, end) = (pieces.first(), pieces.last());
        // With the commas between them.
        let series = start.zip(end).map_or(0..0, |(first, last)| first.range.start..last.range.end);
        let mut raw_bytes = 0;
        for bytes in [OPEN, &self.raw[series], CLOSE] {
            raw_bytes += bytes.len();
            // A Vec takes everything, and zlib has no error of its own while compressing.
            let written = encoder.write_all(bytes).is_ok();
            debug_assert!(written, "writing into memory can't fail");
        }
        (encoder.finish().unwrap_or_default(), raw_bytes)
    }
}
