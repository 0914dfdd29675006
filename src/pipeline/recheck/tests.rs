use serde_json::{Value, json};

use super::*;
use send_counts::aggregate::{AggregateSettings, Late};

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn window(late: Late) -> Window {
    Window::new(&AggregateSettings { late, ..send_counts::testing::aggregate_settings(1) })
}

type TaggedPoints<'a> = (&'a str, &'a [(u64, &'a [u64])]);

/// A payload of these series: tag and points; the first is what the forwarder tells of itself at `NOW`.
fn payload(all: &[TaggedPoints<'_>]) -> Payload {
    let mut made = Vec::new();
    let mut splitter = PayloadWriter::new(PayloadLimits::default());
    let beat = json!({"metric": forwarder_points::metrics::QUEUE_DEPTH, "type": "distribution", "tags": [], "points": [[NOW, [1]]]});
    splitter.add(0, Times::at(NOW), |raw| raw.extend(beat.to_string().bytes()), &mut |one| made.push(one));
    for (tag, points) in all {
        let series = json!({"metric": "m", "type": "distribution", "tags": [tag], "points": points});
        let times = Times { oldest: points[0].0, newest: points[points.len() - 1].0 };
        let sends = points.iter().flat_map(|(_, values)| *values).sum();
        splitter.add(sends, times, |raw| raw.extend(series.to_string().bytes()), &mut |one| made.push(one));
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
    let Rechecked { payload, sends, own } = recheck(whole, &window(Late::Drop), NOW + 30);
    assert_eq!((payload.unwrap().body, sends, own), (body, LeftOut::default(), LeftOut::default()));
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
        recheck(whole, &window(late), NOW + 700)
    };
    let dropped = of(Late::Drop);
    assert_eq!(dropped.sends, LeftOut { late: 11, early: 20 });
    let left = dropped.payload.unwrap();
    assert_eq!((left.sends, left.series, left.times), (5, 2, Times::at(NOW)));
    assert_eq!(points(&left), [(String::new(), json!([[NOW, [1]]])), ("a".into(), json!([[NOW, [5]]]))]);

    let restamped = of(Late::Restamp);
    assert_eq!(restamped.sends, LeftOut::default());
    let left = restamped.payload.unwrap();
    assert_eq!((left.sends, left.series), (36, 4));
    assert_eq!(left.times, Times { oldest: NOW, newest: NOW + 700 });
    assert_eq!(points(&left)[1].1, json!([[NOW, [5]], [NOW + 700, [3, 1]]]));
    assert_eq!(points(&left)[3].1, json!([[NOW + 700, [20]]]));
}

#[test]
fn restamped_points_of_one_series_become_one_point() {
    let whole = payload(&[("a", &[(NOW, &[2]), (NOW + 10, &[3]), (NOW + 20, &[4])])]);
    let left = recheck(whole, &window(Late::Restamp), NOW + DAY).payload.unwrap();
    assert_eq!((left.sends, left.series), (9, 2));
    assert_eq!(points(&left)[1].1, json!([[NOW + DAY, [2, 3, 4]]]));
}

#[test]
fn a_clock_that_was_set_leaves_nothing_and_books_everything() {
    let whole = || payload(&[("a", &[(NOW, &[2])]), ("b", &[(NOW, &[1 << 24, 1])])]);
    let all = (1 << 24) + 3;
    for (now, [sends, own]) in [
        (NOW + DAY + 3, [all, 1].map(|late| LeftOut { late, early: 0 })),
        (NOW - DAY, [all, 1].map(|early| LeftOut { late: 0, early })),
    ] {
        let rechecked = recheck(whole(), &window(Late::Drop), now);
        assert!(rechecked.payload.is_none());
        assert_eq!((rechecked.sends, rechecked.own), (sends, own));
    }
}

#[test]
fn a_heartbeat_that_is_left_out_is_no_point_of_the_books() {
    let heartbeats = || {
        let mut made = Vec::new();
        let mut splitter = PayloadWriter::new(PayloadLimits::default());
        let beat =
            json!({"metric": heartbeat::METRIC, "type": "distribution", "tags": [], "points": [[NOW, [1]]]});
        splitter
            .add(0, Times::at(NOW), |raw| raw.extend(beat.to_string().bytes()), &mut |one| made.push(one));
        splitter.finish(&mut |one| made.push(one));
        made.pop().unwrap()
    };
    let left_out = recheck(heartbeats(), &window(Late::Drop), NOW + DAY);
    assert!(left_out.payload.is_none());
    assert_eq!((left_out.sends, left_out.own), (LeftOut::default(), LeftOut::default()));
    let restamped = recheck(heartbeats(), &window(Late::Restamp), NOW + DAY);
    assert_eq!((points(&restamped.payload.unwrap()).len(), restamped.own), (1, LeftOut::default()));
}
