//! The rig is tested before anything is tested with it: an intake that takes everything proves nothing.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::events::Events;
use crate::support::forwarder::{Configuration, quote};
use crate::support::intake::judge::{PAYLOAD_BYTES_MAX, SERIES_MAX};
use crate::support::intake::{Behaviour, Intake};
use crate::support::metrics::Metrics;
use crate::support::{KEY, client, gzip, unix_now};

fn zlib(raw: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(raw).unwrap();
    encoder.finish().unwrap()
}

fn series(tags: &[&str], points: &Value) -> Value {
    json!({"metric": "braze.messaging.sent", "type": "distribution", "tags": tags, "points": points})
}

fn payload(series: &[Value]) -> Vec<u8> {
    zlib(json!({ "series": series }).to_string().as_bytes())
}

fn good_payload() -> Vec<u8> {
    payload(&[series(&["app_group_id:a", "campaign_id:b"], &json!([[unix_now(), [3]]]))])
}

async fn post(intake: &Intake, body: Vec<u8>) -> reqwest::Result<Response> {
    let request = client(None).post(format!("{}/api/v1/distribution_points", intake.url()));
    let request = request.header("DD-API-KEY", KEY).header("Content-Type", "application/json");
    request.header("Content-Encoding", "deflate").body(body).timeout(Duration::from_secs(20)).send().await
}

/// The violations of one body, sent as the forwarder would.
async fn violations_of(body: Vec<u8>) -> Vec<String> {
    let intake = Intake::start();
    assert_eq!(post(&intake, body).await.unwrap().status(), 202);
    intake.violations()
}

async fn assert_violates(body: Vec<u8>, expected: &str) {
    let found = violations_of(body).await;
    assert!(
        found.iter().any(|violation| violation.contains(expected)),
        "expected {expected:?}, found {found:?}"
    );
}

#[tokio::test]
async fn a_good_payload_is_accepted_and_added_up() {
    let intake = Intake::start();
    let now = unix_now();
    let one = series(&["app_group_id:a"], &json!([[now, [3, 4]], [now - 10, [5]]]));
    let other = series(&["app_group_id:b"], &json!([[now, [16_777_216]]]));
    let answer = post(&intake, payload(&[one.clone(), other])).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.unwrap().as_str()),
        (202, "{\"status\":\"ok\"}")
    );
    post(&intake, payload(&[one])).await.unwrap();

    assert_eq!(intake.violations(), Vec::<String>::new());
    assert_eq!(intake.sends(), 16_777_216 + 24);
    assert_eq!(intake.sums_of(KEY)[&vec!["app_group_id:a".to_owned()]], 24);
    assert_eq!(intake.sums().len(), 2);
    let requests = intake.requests();
    assert_eq!(requests.iter().map(|request| request.series).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(requests[1].sends(), 12);
    assert_eq!((requests[0].key(), requests[0].answered), (KEY, Some(202)));
    assert!(requests[0].at <= requests[1].at && requests[0].header("content-encoding") == "deflate");
}

#[tokio::test]
async fn a_body_that_is_not_one_whole_zlib_stream_is_a_violation() {
    let mut with_more = good_payload();
    with_more.push(0);
    assert_violates(with_more, "1 bytes behind the end").await;
    let mut cut_off = good_payload();
    cut_off.truncate(cut_off.len() - 2);
    assert_violates(cut_off, "cut off").await;
    assert_violates(gzip(b"{\"series\":[]}"), "not zlib").await;
    assert_violates(b"{\"series\":[]}".to_vec(), "not zlib").await;
    let mut wrong_sum = good_payload();
    *wrong_sum.last_mut().unwrap() ^= 1;
    assert_violates(wrong_sum, "not zlib").await;
}

#[tokio::test]
async fn what_the_real_intake_refuses_or_spoils_is_a_violation() {
    let now = unix_now();
    let points = json!([[now, [1]]]);
    let one = |points: Value| payload(&[series(&["a:b"], &points)]);
    assert_violates(zlib(b"{\"series\":"), "not JSON").await;
    assert_violates(zlib(b"{}"), "schema").await;
    assert_violates(payload(&[]), "without series").await;
    assert_violates(one(json!([[now, 1]])), "schema").await;
    assert_violates(one(json!([[now, []]])), "schema").await;
    assert_violates(one(json!([[[1], now]])), "schema").await;
    assert_violates(one(json!([[now, [1.5]]])), "whole number").await;
    assert_violates(one(json!([[now, [0]]])), "whole number").await;
    assert_violates(one(json!([[now, [16_777_217]]])), "whole number").await;
    assert_violates(one(json!([[now - 3_700, [1]]])), "window").await;
    assert_violates(one(json!([[now + 700, [1]]])), "window").await;
    assert_violates(one(json!([[1000 * now, [1]]])), "window").await;
    assert_violates(one(json!([[now, [1]], [now, [2]]])), "twice").await;
    assert_violates(payload(&[series(&["b:1", "a:1"], &points)]), "sorted").await;
    assert_violates(payload(&[series(&["a:1", "a:1"], &points)]), "unique").await;
    assert_violates(payload(&[series(&["a:"], &points)]), "changes or refuses").await;
    assert_violates(payload(&[series(&[&"ü".repeat(201)], &points)]), "schema").await;
    let mut with_host = series(&[], &points);
    with_host["host"] = json!("web-1");
    assert_violates(payload(&[with_host]), "a host").await;
    let mut gauge = series(&[], &points);
    gauge.as_object_mut().unwrap().remove("type");
    assert_violates(payload(&[gauge]), "not a distribution").await;
}

#[tokio::test]
async fn each_limit_is_a_violation_one_step_beyond_it() {
    let now = unix_now();
    let many = |count| -> Vec<Value> {
        (0..count).map(|n| series(&[&format!("campaign_id:{n}")], &json!([[now, [1]]]))).collect()
    };
    assert_eq!(violations_of(payload(&many(SERIES_MAX))).await, Vec::<String>::new());
    assert_violates(payload(&many(SERIES_MAX + 1)), "5001 series").await;
    let padded = |length: usize| {
        let mut raw = json!({ "series": [series(&[], &json!([[now, [1]]]))] }).to_string();
        raw.push_str(&" ".repeat(length - raw.len()));
        zlib(raw.as_bytes())
    };
    assert_eq!(violations_of(padded(4 << 20)).await, Vec::<String>::new());
    assert_violates(padded((4 << 20) + 1), "inflated").await;
    assert_violates(vec![0; PAYLOAD_BYTES_MAX + 1], "a body of 500001 bytes").await;
}

#[tokio::test]
async fn a_request_without_key_type_or_the_right_path_is_a_violation() {
    let intake = Intake::start();
    let bare = |path: &str| client(None).post(intake.url() + path).body(good_payload());
    bare("/api/v1/distribution_points").send().await.unwrap();
    bare(&format!("/api/v1/distribution_points?api_key={KEY}"))
        .header("content-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(bare("/api/v1/series").send().await.unwrap().status(), 404);
    let found = intake.violations().join("\n");
    for expected in [
        "no DD-API-KEY",
        "content type \"\"",
        "not JSON",
        "more than the path",
        "encoding \"gzip\"",
        "series",
    ] {
        assert!(found.contains(expected), "expected {expected:?} in {found}");
    }
}

#[tokio::test]
async fn a_violation_that_a_test_has_not_asked_for_fails_it_in_the_end() {
    let spoiled = async || {
        let intake = Intake::start();
        post(&intake, b"no zlib".to_vec()).await.unwrap();
        intake
    };
    let ends = |intake: Intake| catch_unwind(AssertUnwindSafe(|| drop(intake))).is_ok();
    assert!(!ends(spoiled().await));

    let intake = spoiled().await;
    assert_eq!(intake.violations().len(), 1);
    assert!(ends(intake));

    let intake = spoiled().await;
    assert_eq!(intake.violations().len(), 1);
    post(&intake, b"no zlib either".to_vec()).await.unwrap();
    assert!(!ends(intake));
}

#[tokio::test]
async fn a_status_comes_with_its_text_and_accepts_nothing() {
    let intake = Intake::start();
    intake.next([
        Behaviour::Status(413, "Payload too big"),
        Behaviour::Redirect("http://127.0.0.1:9/".to_owned()),
    ]);
    let answer = post(&intake, good_payload()).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (413, "Payload too big"));
    let answer = post(&intake, good_payload()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()),
        (307, "http://127.0.0.1:9/")
    );
    assert_eq!(intake.sends(), 0);
    assert_eq!(post(&intake, good_payload()).await.unwrap().status(), 202);
    assert_eq!(intake.sends(), 3);
    assert_eq!(
        intake.requests().iter().map(|r| r.answered).collect::<Vec<_>>(),
        [Some(413), Some(307), Some(202)]
    );
}

#[tokio::test]
async fn a_reset_is_a_reset_and_garbage_is_no_http() {
    let intake = Intake::start();
    intake.always(Behaviour::Reset);
    let error = format!("{:?}", post(&intake, good_payload()).await.unwrap_err());
    assert!(error.contains("ConnectionReset"), "{error}");
    intake.always(Behaviour::Garbage);
    let error = format!("{:?}", post(&intake, good_payload()).await.unwrap_err());
    assert!(error.contains("Parse("), "{error}");
    assert_eq!((intake.sends(), intake.requests().len()), (0, 2));
    assert!(intake.requests().iter().all(|request| request.answered.is_none()));
}

#[tokio::test]
async fn slow_accepts_late_and_only_for_a_client_that_waits() {
    let intake = Intake::start();
    intake.always(Behaviour::Slow(Duration::from_millis(300)));
    let started = std::time::Instant::now();
    assert_eq!(post(&intake, good_payload()).await.unwrap().status(), 202);
    assert!(started.elapsed() >= Duration::from_millis(300));

    intake.next([Behaviour::Slow(Duration::from_millis(500)), Behaviour::Hang]);
    for requests in [2, 3] {
        // It goes as soon as it is heard.
        tokio::select! {
            answer = post(&intake, good_payload()) => panic!("{answer:?}"),
            () = intake.wait_for_requests(requests) => {}
        }
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(intake.sends(), 3, "what nobody waited for was accepted");
}

#[tokio::test]
async fn an_endless_body_does_not_end() {
    let intake = Intake::start();
    intake.always(Behaviour::EndlessBody(500));
    let mut answer = post(&intake, good_payload()).await.unwrap();
    assert_eq!(answer.status(), 500);
    let mut read = 0;
    while read < 10 << 20 {
        read += answer.chunk().await.unwrap().unwrap().len();
    }
}

#[tokio::test]
async fn tls_serves_those_who_trust_its_certificate() {
    let intake = Intake::start_tls();
    let url = format!("{}/api/v1/validate", intake.url());
    let trusting = client(Some(intake.certificate()));
    let answer = trusting.get(&url).header("DD-API-KEY", KEY).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "{\"valid\":true}"));
    assert!(client(None).get(&url).send().await.unwrap_err().is_connect());
    intake.always(Behaviour::Reset);
    let points = trusting.post(format!("{}/api/v1/distribution_points", intake.url()));
    assert!(points.body("{}").send().await.is_err());
    assert_eq!(intake.validations(), [KEY]);
    assert!(!intake.violations().is_empty(), "a body without series is one");
}

#[tokio::test]
async fn a_revoked_key_is_refused_until_it_is_restored() {
    let intake = Intake::start();
    let validate =
        || client(None).get(format!("{}/api/v1/validate", intake.url())).header("DD-API-KEY", KEY).send();
    assert_eq!(validate().await.unwrap().status(), 200);
    intake.revoke(KEY);
    assert_eq!(validate().await.unwrap().status(), 403);
    assert_eq!(post(&intake, good_payload()).await.unwrap().status(), 403);
    intake.validate_with(Some((502, "<html>bad gateway")));
    assert_eq!(validate().await.unwrap().status(), 502);
    intake.validate_with(None);
    intake.restore(KEY);
    assert_eq!(validate().await.unwrap().status(), 200);
    assert_eq!(post(&intake, good_payload()).await.unwrap().status(), 202);
    assert_eq!(intake.sends(), 3);
}

#[tokio::test]
async fn an_intake_decides_by_request_and_can_go_and_come_back() {
    let intake = Intake::start();
    intake.decide(|request| if request.sends() > 2 { Behaviour::Status(413, "") } else { Behaviour::Accept });
    assert_eq!(post(&intake, good_payload()).await.unwrap().status(), 413);
    let address = intake.address();
    drop(intake);
    let gone = client(None).get(format!("http://{address}/api/v1/validate")).send().await;
    assert!(gone.unwrap_err().is_connect());
    let intake = Intake::start_at(address);
    assert_eq!(post(&intake, good_payload()).await.unwrap().status(), 202);
    intake.wait_for_sends(3).await;
}

#[test]
fn the_events_hold_what_their_truth_says() {
    let mut events = Events::new(7)
        .app_groups(&[("a", None), ("b", Some("Bee"))])
        .at(1_000)
        .sends_percent(60)
        .campaigns(5);
    let body: Value = serde_json::from_str(&events.push_body(300)).unwrap();
    let lines: Vec<Value> =
        events.ndjson(200).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let repeated: Value = serde_json::from_str(&events.repeat()).unwrap();
    let truth = events.truth();

    let all: Vec<&Value> = body["events"].as_array().unwrap().iter().chain(&lines).collect();
    let ids: std::collections::HashSet<&str> =
        all.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), repeated["events"].as_array().unwrap().len()), (500, 200));
    assert_eq!(truth.events, 700);
    assert_eq!(truth.events, truth.sends + truth.ignored + truth.duplicates);
    assert!(truth.sends > 200 && truth.ignored > 100 && truth.duplicates > 50, "{truth:?}");
    assert_eq!(truth.sends, truth.by_tags.values().sum::<u64>());
    assert_eq!(truth.sends, truth.by_app_group.values().sum::<u64>());
    let named = |tags: &Vec<String>| tags.contains(&"app_group_name:Bee".to_owned());
    let bee: u64 = truth.by_tags.iter().filter(|(tags, _)| named(tags)).map(|(_, sends)| sends).sum();
    assert_eq!(bee, truth.by_app_group["b"]);
    assert!(all.iter().all(|event| event["time"] == 1_000));
    assert_eq!(*truth, {
        let mut again =
            Events::new(7).app_groups(&[("a", None), ("b", Some("Bee"))]).sends_percent(60).campaigns(5);
        again.push_body(300);
        again.ndjson(200);
        again.repeat();
        again.truth().clone()
    });
}

#[test]
fn metrics_are_read_with_their_labels() {
    let metrics = Metrics::parse(concat!(
        "# HELP braze_datadog_sends_counted_total Sends.\n# TYPE braze_datadog_sends_counted_total counter\n",
        "braze_datadog_events_received_total 10\n",
        "braze_datadog_events_ignored_total{event_type=\"a,\\\"}\\\\ b\"} 1\n\n",
        "braze_datadog_sends_counted_total{connection=\"one\"} 4\n",
        "braze_datadog_sends_counted_total{connection=\"two\"} 5\n",
        "braze_datadog_sends_accepted_total{connection=\"one\",} 4 1700000000\n",
        "braze_datadog_sends_dropped_total{connection=\"two\",reason=\"http_413\"} 3\n",
        "braze_datadog_sends_pending 2\n",
    ));
    assert_eq!(metrics.sum("braze_datadog_events_ignored_total", &[("event_type", "a,\"}\\ b")]), 1);
    assert_eq!(metrics.sum("braze_datadog_sends_counted_total", &[("connection", "two")]), 5);
    assert_eq!(
        metrics.sum("braze_datadog_sends_dropped_total", &[("reason", "http_413"), ("connection", "one")]),
        0
    );
    assert!(metrics.has("braze_datadog_sends_pending") && !metrics.has("braze_datadog_sends"));
    let mut books = metrics.books();
    assert!(books.balance(), "{books:?}");
    books.pending = 1;
    assert!(!books.balance());
    books.pending = 2;
    books.received = 11;
    assert!(!books.balance());
}

#[test]
#[should_panic(expected = "not a sample")]
fn a_line_that_is_no_sample_stops_the_test() {
    Metrics::parse("braze_datadog_sends_counted_total{connection=\"one} 4\n");
}

#[test]
fn text_is_quoted_for_toml() {
    assert_eq!(quote("a\"b\\c\nd é"), "\"a\\\"b\\\\c\\u000Ad é\"");
}

#[test]
fn a_configuration_is_toml_that_says_what_was_set() {
    let configuration = Configuration::new()
        .connection("acme", "http://127.0.0.1:9", KEY, &["a-1", "b\"2"])
        .app_group_name("acme", "a-1", "Acme: \"EMEA\"\\")
        .set("lanes", "2")
        .text("push.token_file", "gone")
        .without("push.token_file");
    let file = config::File::from(configuration.write());
    let read = config::Config::builder().add_source(file).build().unwrap();
    assert_eq!(read.get_string("connections.acme.url").unwrap(), "http://127.0.0.1:9");
    let ids: Vec<String> = read.get("connections.acme.app_group_ids").unwrap();
    assert_eq!(ids, ["a-1", "b\"2"]);
    let names: std::collections::HashMap<String, String> =
        read.get("connections.acme.app_group_names").unwrap();
    assert_eq!(names["a-1"], "Acme: \"EMEA\"\\");
    assert_eq!(read.get_int("lanes").unwrap(), 2);
    assert_ne!(read.get_string("push.listen").unwrap(), read.get_string("admin.listen").unwrap());
    assert!(read.get_string("push.token_file").is_err());
    assert!(
        read.get_string("queue.embedded.directory")
            .unwrap()
            .starts_with(configuration.home().to_str().unwrap())
    );
}

/// Without a connection there is nothing to forward to, so the binary ends, and the rig says so at once.
#[tokio::test]
#[should_panic(expected = "the forwarder ended at its start")]
async fn a_forwarder_that_does_not_stay_is_noticed() {
    Configuration::new().start().await;
}
