//! Damage in what is read, on the real binary: it costs the events that it hits, and is booked and told.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;

use serde_json::Value;

use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;
use crate::support::{self, KEY};

/// An e-mail send, whose id is its campaign, too.
fn event(id: &str) -> String {
    format!(
        r#"{{"event_type":"users.messages.email.Send","id":"{id}","time":{},"subject":"50% \"off\", {{you}} 😀","properties":{{"campaign_id":"{id}","x":[1,{{"y":null}}]}}}}"#,
        support::unix_now()
    )
}

/// An envelope of events with these ids, and where each of them is.
fn envelope(ids: &[String]) -> (Vec<u8>, Vec<Range<usize>>) {
    let (mut body, mut places) = (b"{\"events\":[".to_vec(), Vec::new());
    for id in ids {
        let start = body.len();
        body.extend(event(id).bytes());
        places.push(start..body.len());
        body.push(b',');
    }
    body.pop();
    body.extend(b"]}");
    (body, places)
}

/// A source of choices; the same seed makes the same ones.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Envelopes that are damaged in one place each, and the ids of the events that were not touched.
fn damaged(prefix: &str, count: usize) -> (Vec<Vec<u8>>, Vec<String>) {
    const BYTES: &[u8] = b"\"\"\\{}[]:,0\n\0\xed\xff";
    let (mut chance, mut untouched) = (Chance(7), Vec::new());
    let bodies = (0..count).map(|number| {
        let ids: Vec<_> = (0..4).map(|event| format!("{prefix}-{number}-{event}")).collect();
        let (mut body, places) = envelope(&ids);
        let start = chance.below(body.len());
        let end = (start + [0, 1, 1, 30][chance.below(4)]).min(body.len());
        let inserted = (0..chance.below(3)).map(|_| BYTES[chance.below(BYTES.len())]).collect::<Vec<_>>();
        body.splice(start..end, inserted);
        let is_untouched = |place: &Range<usize>| end <= place.start || place.end <= start;
        untouched
            .extend(ids.into_iter().zip(places).filter(|(_, place)| is_untouched(place)).map(|(id, _)| id));
        body
    });
    (bodies.collect(), untouched)
}

/// Sends by campaign.
fn by_campaign(intake: &Intake) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (tags, sends) in intake.sums_of(KEY) {
        let campaign = tags.iter().find_map(|tag| tag.strip_prefix("campaign_id:"));
        *sums.entry(campaign.unwrap_or_default().to_owned()).or_default() += sends;
    }
    sums
}

fn assert_counted_once(intake: &Intake, untouched: &[String]) {
    let sums = by_campaign(intake);
    for id in untouched {
        assert_eq!(sums.get(id), Some(&1), "{id}");
    }
    // What was touched may have lost its campaign.
    assert!(sums.iter().all(|(id, sends)| *sends == 1 || id.is_empty()), "{sums:?}");
}

#[tokio::test]
async fn damage_to_a_push_costs_the_events_that_it_hits() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), KEY, &[]).start().await;
    let (bodies, untouched) = damaged("push", 150);
    let mut received = 0;
    for body in bodies {
        received += forwarder.push_accepted(body).await;
    }
    forwarder.settled(received).await;
    assert_counted_once(&intake, &untouched);
    let metrics = forwarder.metrics().await;
    assert!(metrics.sum("braze_datadog_bytes_unreadable_total", &[("input", "push")]) > 0);
    assert!(metrics.books().balance());
    for told in [
        "a push holds bytes that can't be read as JSON",
        "the events in them are lost, those around them are counted",
    ] {
        support::eventually(told, async || forwarder.log().contains(told).then_some(())).await;
    }
    assert!(!forwarder.log().contains("50%"), "{}", forwarder.log());
}

#[tokio::test]
async fn a_push_without_an_event_is_refused_and_booked() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), KEY, &[]).start().await;
    for body in ["{\"events\":[{\"event_type\":\"users.messages", "no JSON"] {
        assert_eq!(forwarder.push(body).await.status(), 400);
    }
    let metrics = forwarder.metrics().await;
    let reason = [("reason", "not_json")];
    assert_eq!(metrics.sum("braze_datadog_push_refused_total", &reason), 2);
    assert_eq!(metrics.sum("braze_datadog_push_refused_bytes_total", &reason), 40 + 7);
    // Half of an emoji is no damage, wherever it stands.
    let body = event("half").replace("50%", r"\ud83d");
    assert_eq!(forwarder.push_accepted(format!("[{body}]")).await, 1);
    forwarder.settled(1).await;
    assert_counted_once(&intake, &["half".into()]);
}

#[tokio::test]
async fn damage_to_files_costs_the_events_that_it_hits() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let (bodies, untouched) = damaged("file", 60);
    let directory = configuration.home().join("damaged");
    fs::create_dir(&directory).unwrap();
    for (number, body) in bodies.iter().enumerate() {
        fs::write(directory.join(format!("{number}.json")), body).unwrap();
    }
    // Many to a file, one a line.
    let (bodies, more) = damaged("line", 60);
    fs::write(directory.join("lines.json"), bodies.join(&b'\n')).unwrap();
    let finished = configuration.run(&["run", "--once", "--import", directory.to_str().unwrap()]).await;
    // One has lost its end, and so may be being written.
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("one file was not read to its end"), "{}", finished.stderr);
    assert_counted_once(&intake, &[untouched, more].concat());
    let books: Value = serde_json::from_str(finished.stdout.lines().next_back().unwrap()).unwrap();
    assert_eq!(books["balanced"], Value::Bool(true), "{books}");
    assert!(finished.stderr.contains("bytes can't be read as JSON"), "{}", finished.stderr);
    assert!(finished.stderr.contains("before byte"), "{}", finished.stderr);
}
