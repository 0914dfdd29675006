//! Encodes a connection's part of a cut as payloads.

use datadog_points::payload::{Metric, Payload, PayloadLimits, PayloadWriter};

use crate::forwarder_points::ForwarderPoint;
use send_counts::aggregate::tags::TagText;
use send_counts::aggregate::{Aggregator, Point};

/// Encodes the series with the given numbers under `metric`, behind points of the forwarder's own, which stand for no send,
/// and hands the payloads to `done`, in order.
pub fn encode<'p>(
    cut: &Aggregator,
    numbers: &[u32],
    metric: &str,
    forwarder_points: impl IntoIterator<Item = &'p ForwarderPoint>,
    limits: PayloadLimits,
    mut done: impl FnMut(Payload),
) {
    let mut writer = PayloadWriter::new(limits);
    for ForwarderPoint { metric, tags, time, value } in forwarder_points {
        let tags = tags.iter().map(|tag| (tag.as_bytes(), &b""[..]));
        writer.series(&Metric::new(metric), tags, [(*time, *value)], 0, &mut done);
    }
    let metric = Metric::new(metric);
    let mut tags: Vec<TagText<'_>> = Vec::new();
    let mut points: Vec<Point> = Vec::new();
    for number in numbers {
        let series = cut.series(*number as usize);
        cut.layout().tags(&mut tags, series.key, &series.attributes);
        series.points(&mut points);
        let tags = tags.iter().map(|tag| (tag.key, tag.value));
        let points = points.iter().map(|point| (point.bucket, point.sends));
        writer.series(&metric, tags, points, series.sends(), &mut done);
    }
    writer.finish(&mut done);
}

#[cfg(test)]
mod tests;
