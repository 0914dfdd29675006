//! Judges the points of a payload again when its request begins.
//!
//! A send is placed in time when it is counted. Until its request begins the wall clock may have been set, or the process
//! stopped for long; and Datadog drops points outside its window without a word, which would be booked as accepted.

use std::collections::BTreeMap;
use std::io::Read as _;

use serde::{Deserialize, Serialize};

use super::heartbeat;
use datadog_points::payload::{Payload, PayloadLimits, PayloadWriter, Times};
use send_counts::aggregate::window::{Placed, Window};

/// What is left of a payload, and the sends that were left out of it.
#[derive(Debug)]
pub struct Rejudged {
    /// `None`: nothing is left.
    pub payload: Option<Payload>,
    /// Sends that are older now than Datadog takes.
    pub late: u64,
    /// Sends that are further ahead now than Datadog takes.
    pub early: u64,
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

/// Leaves out, or counts under the present moment, what is outside the window at `now`. A payload that is inside, which
/// is nearly every one, is returned as it is, unread. A heartbeat that is outside is left out; it stands for no send.
pub fn rejudge(payload: Payload, window: &Window, now: u64) -> Rejudged {
    let Times { oldest, newest } = payload.times;
    let unchanged = |payload| Rejudged { payload: Some(payload), late: 0, early: 0 };
    if window.holds(oldest, newest, now) {
        return unchanged(payload);
    }
    let Some(body) = read(&payload) else { return unchanged(payload) };
    let (mut late, mut early) = (0, 0);
    // It was within the limits, and gets no series and no point more.
    let mut splitter =
        PayloadWriter::new(PayloadLimits { compressed_bytes_max: usize::MAX, ..PayloadLimits::default() });
    let mut left = None;
    for mut series in body.series {
        let stands_for_sends = series.metric != heartbeat::METRIC;
        let mut points: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (time, values) in std::mem::take(&mut series.points) {
            let sends: u64 = if stands_for_sends { values.iter().sum() } else { 0 };
            match window.place_again(time, now) {
                Placed::Bucket(bucket) => points.entry(bucket).or_default().extend(values),
                Placed::Late => late += sends,
                Placed::Early => early += sends,
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
    Rejudged { payload: left, late, early }
}

fn read(payload: &Payload) -> Option<Body> {
    let mut raw = Vec::with_capacity(payload.raw_bytes);
    flate2::read::ZlibDecoder::new(&*payload.body).read_to_end(&mut raw).ok()?;
    serde_json::from_slice(&raw).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use send_counts::aggregate::{Late, Settings, Timestamp};

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn window(late: Late) -> Window {
        Window::new(&Settings {
            timestamp: Timestamp::Event,
            late,
            flush_interval: Duration::from_secs(10),
            flush_timeout: Duration::from_secs(5),
            series_max: 1,
        })
    }

    type TaggedPoints<'a> = (&'a str, &'a [(u64, &'a [u64])]);

    /// A payload of these series: tag and points; the first is a heartbeat at `NOW`.
    fn payload(all: &[TaggedPoints<'_>]) -> Payload {
        let mut made = Vec::new();
        let mut splitter = PayloadWriter::new(PayloadLimits::default());
        let beat =
            json!({"metric": heartbeat::METRIC, "type": "distribution", "tags": [], "points": [[NOW, [1]]]});
        splitter
            .add(0, Times::at(NOW), |raw| raw.extend(beat.to_string().bytes()), &mut |one| made.push(one));
        for (tag, points) in all {
            let series = json!({"metric": "m", "type": "distribution", "tags": [tag], "points": points});
            let times = Times { oldest: points[0].0, newest: points[points.len() - 1].0 };
            let sends = points.iter().flat_map(|(_, values)| *values).sum();
            splitter
                .add(sends, times, |raw| raw.extend(series.to_string().bytes()), &mut |one| made.push(one));
        }
        splitter.finish(&mut |one| made.push(one));
        made.pop().unwrap()
    }

    fn points(payload: &Payload) -> Vec<(String, Value)> {
        let series = read(payload).unwrap().series;
        assert_eq!(series.len(), payload.series);
        let shown = |series: Series| (series.tags.join(","), json!(series.points));
        series.into_iter().map(shown).collect()
    }

    #[test]
    fn a_payload_that_is_inside_is_sent_as_it_is() {
        let whole = payload(&[("a", &[(NOW - 10, &[3])])]);
        let body = whole.body.clone();
        let Rejudged { payload, late, early } = rejudge(whole, &window(Late::Drop), NOW + 30);
        assert_eq!((payload.unwrap().body, late, early), (body, 0, 0));
    }

    #[test]
    fn only_the_points_that_are_outside_are_left_out_and_each_is_booked() {
        let of = |late| {
            let whole = payload(&[
                ("a", &[(NOW - 3000, &[3, 1]), (NOW, &[5])]),
                ("b", &[(NOW - 3000, &[7])]),
                ("c", &[(NOW + 1500, &[20])]),
            ]);
            assert_eq!(whole.sends, 36);
            rejudge(whole, &window(late), NOW + 700)
        };
        let dropped = of(Late::Drop);
        assert_eq!((dropped.late, dropped.early), (11, 20));
        let left = dropped.payload.unwrap();
        assert_eq!((left.sends, left.series, left.times), (5, 2, Times::at(NOW)));
        assert_eq!(points(&left), [(String::new(), json!([[NOW, [1]]])), ("a".into(), json!([[NOW, [5]]]))]);

        let restamped = of(Late::Restamp);
        assert_eq!((restamped.late, restamped.early), (0, 0));
        let left = restamped.payload.unwrap();
        assert_eq!((left.sends, left.series), (36, 4));
        assert_eq!(left.times, Times { oldest: NOW, newest: NOW + 700 });
        assert_eq!(points(&left)[1].1, json!([[NOW, [5]], [NOW + 700, [3, 1]]]));
        assert_eq!(points(&left)[3].1, json!([[NOW + 700, [20]]]));
    }

    #[test]
    fn restamped_points_of_one_series_become_one_point() {
        let whole = payload(&[("a", &[(NOW, &[2]), (NOW + 10, &[3]), (NOW + 20, &[4])])]);
        let left = rejudge(whole, &window(Late::Restamp), NOW + DAY).payload.unwrap();
        assert_eq!((left.sends, left.series), (9, 2));
        assert_eq!(points(&left)[1].1, json!([[NOW + DAY, [2, 3, 4]]]));
    }

    #[test]
    fn a_clock_that_was_set_leaves_nothing_and_books_everything() {
        let whole = || payload(&[("a", &[(NOW, &[2])]), ("b", &[(NOW, &[1 << 24, 1])])]);
        let all = (1 << 24) + 3;
        for (now, late, early) in [(NOW + DAY + 3, all, 0), (NOW - DAY, 0, all)] {
            let rejudged = rejudge(whole(), &window(Late::Drop), now);
            assert!(rejudged.payload.is_none());
            assert_eq!((rejudged.late, rejudged.early), (late, early));
        }
    }
}
