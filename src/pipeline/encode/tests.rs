use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use foldhash::fast::RandomState;
use proptest::prelude::*;
use serde_json::Value;

use datadog_points::payload::VALUE_MAX;

use super::*;
use crate::forwarder_points::heartbeat;
use braze_events::{FIELDS, Field, SendEvent};
use send_counts::aggregate::tags::{Layout, Names, Tag, TagSettings};
use send_counts::route::ConnectionId;

fn aggregator(static_tags: &[&str]) -> Aggregator {
    let static_tags = static_tags.iter().map(|tag| (*tag).into()).collect();
    let tags = TagSettings { include: Tag::ALL.to_vec(), static_tags, names: Names::Latest };
    let settings = send_counts::testing::aggregate_settings(1_000_000);
    Aggregator::new(Arc::new(Layout::new(&tags)), &settings, RandomState::default())
}

fn record(aggregator: &mut Aggregator, id: &str, name: &str, bucket: u64) {
    let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
    fields[Field::CampaignId as usize] = id.as_bytes();
    fields[Field::CampaignName as usize] = name.as_bytes();
    let event = SendEvent { event_type: 0, id: b"id", time: None, fields };
    aggregator.record(ConnectionId(0), &event, "email", bucket, bucket);
}

fn payloads(cut: &Aggregator, limits: PayloadLimits) -> Vec<Payload> {
    let numbers: Vec<u32> = (0..u32::try_from(cut.len()).unwrap()).collect();
    let mut payloads = Vec::new();
    encode(cut, &numbers, "braze.messaging.sent", [], limits, |payload| payloads.push(payload));
    payloads
}

fn inflate(payload: &Payload) -> Value {
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(&*payload.body).read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), payload.raw_bytes);
    serde_json::from_str(&text).unwrap()
}

/// Sends by tags and time, as Datadog would add them up.
fn sums(payloads: &[Payload]) -> BTreeMap<(String, u64), u64> {
    let mut sums = BTreeMap::new();
    for payload in payloads {
        let mut sends = 0;
        let body = inflate(payload);
        let series = body["series"].as_array().unwrap();
        assert_eq!(series.len(), payload.series);
        for one in series {
            assert_eq!(one["type"], "distribution");
            for point in one["points"].as_array().unwrap() {
                let values = point[1].as_array().unwrap();
                assert!(values.iter().all(|value| (1..=VALUE_MAX).contains(&value.as_u64().unwrap())));
                let sum: u64 = values.iter().map(|value| value.as_u64().unwrap()).sum();
                *sums.entry((one["tags"].to_string(), point[0].as_u64().unwrap())).or_default() += sum;
                sends += sum;
            }
        }
        assert_eq!(sends, payload.sends);
    }
    sums
}

#[test]
fn a_series_is_written_as_datadog_takes_it() {
    let mut aggregator = aggregator(&["env:prod"]);
    record(&mut aggregator, "c1", "Say \"hi\"\\\n\u{1}☃", 100);
    record(&mut aggregator, "c1", "Say \"hi\"\\\n\u{1}☃", 90);
    let body = inflate(&payloads(&aggregator, PayloadLimits::default())[0]);
    assert_eq!(
        body,
        serde_json::json!({"series": [{
            "metric": "braze.messaging.sent",
            "type": "distribution",
            "tags": ["campaign_id:c1", "campaign_name:Say \"hi\"\\\n\u{1}☃", "channel:email", "env:prod"],
            "points": [[90, [1]], [100, [1]]],
        }]})
    );
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/distribution-points.strict.json");
    let schema = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    jsonschema::validate(&schema, &body).unwrap();
}

#[test]
fn a_heartbeat_goes_with_the_sends_and_alone_and_stands_for_none() {
    let mut aggregator = aggregator(&[]);
    let heartbeat = heartbeat::point("acme", &["say:\"hi\"".into()], 123);
    let version = concat!("version:", env!("CARGO_PKG_VERSION"));
    let expected = serde_json::json!({
        "metric": "braze.forwarder.heartbeat",
        "type": "distribution",
        "tags": ["connection:acme", "say:\"hi\"", version],
        "points": [[123, [1]]],
    });
    let encoded = |numbers: &[u32], limits| {
        let mut payloads = Vec::new();
        encode(&aggregator, numbers, "m", [&heartbeat], limits, |one| payloads.push(one));
        payloads
    };
    let alone = encoded(&[], PayloadLimits::default());
    assert_eq!((alone.len(), alone[0].sends, alone[0].series), (1, 0, 1));
    assert_eq!(inflate(&alone[0]), serde_json::json!({ "series": [expected] }));

    record(&mut aggregator, "c1", "One", 100);
    let encoded = |limits| {
        let mut payloads = Vec::new();
        encode(&aggregator, &[0], "m", [&heartbeat], limits, |one| payloads.push(one));
        payloads
    };
    let beside = encoded(PayloadLimits::default());
    assert_eq!((beside.len(), beside[0].sends, beside[0].series), (1, 1, 2));
    assert_eq!(inflate(&beside[0])["series"][0], expected);
    assert_eq!(encoded(PayloadLimits { series_max: 1, ..PayloadLimits::default() }).len(), 2);
}

#[test]
fn what_the_forwarder_tells_of_itself_goes_before_the_sends_and_stands_for_none() {
    let mut aggregator = aggregator(&[]);
    record(&mut aggregator, "c1", "One", 100);
    let heartbeat = heartbeat::point("acme", &[], 123);
    let own = |value| ForwarderPoint {
        metric: "braze.forwarder.queue_depth",
        tags: vec!["a:b".into()],
        time: 123,
        value,
    };
    let points = [heartbeat, own(0), own(VALUE_MAX)];
    let mut payloads = Vec::new();
    let limits = PayloadLimits { series_max: 2, ..PayloadLimits::default() };
    encode(&aggregator, &[0], "m", &points, limits, |one| payloads.push(one));
    let told: Vec<_> = payloads.iter().map(|payload| (payload.series, payload.sends)).collect();
    assert_eq!(told, [(2, 0), (2, 1)], "the order is that in which they are booked");
    let series = inflate(&payloads[0])["series"][1].clone();
    assert_eq!(
        (&series["metric"], &series["points"]),
        (&"braze.forwarder.queue_depth".into(), &serde_json::json!([[123, [0]]]))
    );
    assert_eq!(inflate(&payloads[1])["series"][0]["points"], serde_json::json!([[123, [VALUE_MAX]]]));
}

#[test]
fn an_empty_cut_makes_no_payload() {
    assert!(payloads(&aggregator(&[]), PayloadLimits::default()).is_empty());
}

proptest! {
    /// Payloads decode back to the batch, and each is within every limit unless it is a single series.
    #[test]
    fn payloads_hold_the_batch_within_the_limits(
        sends in prop::collection::vec((0u16..400, "\\PC{0,80}", 0u64..5), 1..500),
        raw_bytes_max in 200usize..20_000,
        compressed_bytes_max in 100usize..5_000,
        series_max in 1usize..100,
    ) {
        let limits = PayloadLimits { raw_bytes_max, compressed_bytes_max, series_max };
        let mut aggregator = aggregator(&[]);
        for (id, name, bucket) in &sends {
            record(&mut aggregator, &format!("{id:x}"), name, bucket * 10);
        }
        let payloads = payloads(&aggregator, limits);
        for payload in &payloads {
            prop_assert!(payload.series <= series_max);
            prop_assert!(payload.series == 1 || payload.raw_bytes <= raw_bytes_max);
            prop_assert!(payload.series == 1 || payload.body.len() <= compressed_bytes_max);
        }
        let whole = sums(&self::payloads(&aggregator, PayloadLimits::default()));
        prop_assert_eq!(sums(&payloads), whole.clone());
        prop_assert_eq!(whole.values().sum::<u64>(), sends.len() as u64);
    }
}
