//! What intermediaries make of events, pushed to the real binary as each of them does it: every send is counted under its tags, and
//! each sender gets the answer that it waits for.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{RequestBuilder, Response};
use serde_json::Value;

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use crate::support::metrics::Books;
use crate::support::{KEY, gzip};

const TOKEN: &str = "a-token+for/intermediaries==";

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)).unwrap()
}

fn truth() -> Value {
    serde_json::from_slice(&sample("truth.json")).unwrap()
}

/// The samples are days old, so they are counted as of now.
fn configuration(intake: &Intake) -> Configuration {
    Configuration::new().connection("acme", &intake.url(), KEY, &[]).text("events.late", "restamp")
}

async fn with_token(intake: &Intake) -> Forwarder {
    let configuration = configuration(intake);
    let tokens = configuration.file("tokens", format!("another\n{TOKEN}\n"));
    configuration.text("push.token_file", tokens.to_str().unwrap()).start().await
}

/// The sends of samples by the value of a tag.
fn expected<'t>(held: impl IntoIterator<Item = &'t Value>, by: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (value, sends) in held.into_iter().flat_map(|held| held[by].as_object().unwrap()) {
        *sums.entry(value.to_lowercase()).or_default() += sends.as_u64().unwrap();
    }
    sums
}

/// The sends that the intake accepted, by the value of a tag.
fn seen(intake: &Intake, tag: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (tags, sends) in intake.sums_of(KEY) {
        let value = tags.iter().find_map(|other| other.strip_prefix(tag)?.strip_prefix(':'));
        *sums.entry(value.unwrap_or_default().to_lowercase()).or_default() += sends;
    }
    sums
}

/// The intake has what the samples hold, and so have the books.
async fn assert_counted(forwarder: &Forwarder, intake: &Intake, names: &[&str], held: &[&Value]) {
    let sum = |of: &str| held.iter().map(|held| held[of].as_u64().unwrap()).sum();
    let (sends, ignored) = (sum("sends"), sum("ignored"));
    let settled = forwarder.settled(sum("events")).await;
    let books =
        Books { received: sum("events"), ignored, counted: sends, accepted: sends, ..Books::default() };
    assert_eq!(settled, books, "{names:?}: {}", forwarder.log());
    for tag in ["campaign_id", "canvas_step_id"] {
        let by = format!("sends_by_{tag}");
        assert_eq!(seen(intake, tag), expected(held.iter().copied(), &by), "{names:?} by {tag}");
    }
    assert_eq!(intake.violations(), Vec::<String>::new());
}

async fn told(answer: Response) -> (u16, Value) {
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}")))
}

#[tokio::test]
async fn every_wrapper_that_is_pushed_is_counted_as_its_truth_says() {
    let truth = truth();
    let all = truth["intermediaries"].as_object().unwrap();
    let is_pushed = |name: &str| name.contains(".json") && !name.contains("confirmation");
    let (names, held): (Vec<&str>, Vec<&Value>) =
        all.iter().filter(|(name, _)| is_pushed(name)).map(|(name, held)| (name.as_str(), held)).unzip();
    assert!(names.len() > 9, "{names:?}");
    let intake = Intake::start();
    let forwarder = configuration(&intake).start().await;
    for (name, held) in names.iter().zip(&held) {
        assert_eq!(forwarder.push_accepted(sample(name)).await, held["events"], "{name}");
    }
    assert_counted(&forwarder, &intake, &names, &held).await;
}

/// Some hold the same events, so nothing is taken for a repetition.
#[tokio::test]
async fn every_odd_body_that_is_pushed_is_answered_200_and_counted_as_the_truth_says() {
    let truth = truth();
    let all = truth["odd_bodies_sends"].as_object().unwrap();
    let intake = Intake::start();
    let forwarder = configuration(&intake).text("dedup.window", "0s").start().await;
    let mut events = 0;
    for name in all.keys() {
        let accepted = forwarder.push_accepted(sample(name)).await;
        // What is cut off is an event, too.
        assert!(!name.contains("cut-off") || accepted == 3, "{name}: {accepted}");
        events += accepted;
    }
    let sends: u64 = all.values().map(|sends| sends.as_u64().unwrap()).sum();
    let books = forwarder.settled(events).await;
    assert_eq!((books.accepted, intake.sends()), (sends, sends), "{books:?}");
}

#[tokio::test]
async fn a_push_in_zstandard_is_counted_as_its_truth_says() {
    let intake = Intake::start();
    let forwarder = configuration(&intake).start().await;
    let (truth, name) = (truth(), "currents-batch.json");
    let packed = zstd::encode_all(&sample(name)[..], 3).unwrap();
    let answer = forwarder.push_request(packed.clone()).header("content-encoding", "zstd");
    assert_eq!(told(answer.send().await.unwrap()).await, (200, serde_json::json!({ "accepted": 100 })));
    assert_counted(&forwarder, &intake, &[name], &[&truth["files"][name]]).await;
    let cut = forwarder.push_request(packed[..packed.len() - 9].to_vec()).header("content-encoding", "zstd");
    assert_eq!(told(cut.send().await.unwrap()).await.0, 400);
}

#[tokio::test]
async fn firehose_is_let_in_by_its_access_key_and_answered_in_its_form() {
    const ID: &str = "ed4acda5-034f-9f42-bba1-f29aea6d7d8f";
    let intake = Intake::start();
    let forwarder = with_token(&intake).await;
    let (truth, name) = (truth(), "intermediaries/firehose-push.json");
    let push = |body: Vec<u8>| {
        let request = forwarder.push_request(body).header("x-amz-firehose-protocol-version", "1.0");
        request.header("x-amz-firehose-request-id", ID)
    };
    let key = |request: RequestBuilder, key: &str| request.header("x-amz-firehose-access-key", key);
    let packed = key(push(gzip(&sample(name))), TOKEN).header("content-encoding", "gzip");
    let answer = packed.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers().contains_key("content-length"));
    let (status, body) = told(answer).await;
    assert_eq!((status, &body["requestId"]), (200, &Value::from(ID)));
    // In milliseconds, this decade.
    assert!(body["timestamp"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{body}");
    assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    for (refused, status) in [
        (key(push(sample(name)), "wrong"), 401),
        (push(sample(name)), 401),
        (key(push(b"no json".to_vec()), TOKEN), 400),
    ] {
        let answer = refused.send().await.unwrap();
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let (found, body) = told(answer).await;
        assert_eq!((found, &body["requestId"]), (status, &Value::from(ID)));
        assert!(!body["errorMessage"].as_str().unwrap().is_empty(), "{body}");
        assert_eq!(length, body.to_string().len());
    }
    assert_counted(&forwarder, &intake, &[name], &[&truth["intermediaries"][name]]).await;
}

#[tokio::test]
async fn sns_is_asked_for_its_password_and_what_it_wants_confirmed_is_told_and_counts_as_nothing() {
    let intake = Intake::start();
    let forwarder = with_token(&intake).await;
    let (truth, name) = (truth(), "intermediaries/sns-notification.json");
    let push = |kind: &str, body: Vec<u8>| {
        let request = forwarder.push_request(body).header("content-type", "text/plain; charset=UTF-8");
        request.header("x-amz-sns-message-type", kind)
    };
    let stranger = push("Notification", sample(name)).send().await.unwrap();
    assert_eq!(stranger.headers()["www-authenticate"], "Basic realm=\"braze-datadog\"");
    assert_eq!(stranger.status(), 401);
    let pair = format!("Basic {}", STANDARD.encode(format!("sns:{TOKEN}")));
    let confirmation = || sample("intermediaries/sns-subscription-confirmation.json");
    let asked = push("SubscriptionConfirmation", confirmation()).header("authorization", &pair);
    assert_eq!(told(asked.send().await.unwrap()).await, (200, serde_json::json!({ "accepted": 0 })));
    // Another topic's comes at the same time, and its URL stands in no other message.
    let mut other: Value = serde_json::from_slice(&confirmation()).unwrap();
    other["SubscribeURL"] = format!("{}2", other["SubscribeURL"].as_str().unwrap()).into();
    let asked = push("SubscriptionConfirmation", other.to_string().into()).header("authorization", &pair);
    assert_eq!(asked.send().await.unwrap().status(), 200);
    let ended = push("UnsubscribeConfirmation", confirmation()).header("authorization", &pair);
    assert_eq!(ended.send().await.unwrap().status(), 200);
    let told_to = push("SubscriptionConfirmation", confirmation()).send().await.unwrap();
    assert_eq!(told_to.status(), 401, "nobody without the token has a line in the log");
    let answer = push("Notification", sample(name)).header("authorization", &pair).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_counted(&forwarder, &intake, &[name], &[&truth["intermediaries"][name]]).await;
    let url = serde_json::from_slice::<Value>(&confirmation()).unwrap()["SubscribeURL"].clone();
    // It is the second one, and lines come in their order.
    let log = forwarder.says(other["SubscribeURL"].as_str().unwrap()).await;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("Amazon SNS asks")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for (line, url) in lines.iter().zip([&url, &other["SubscribeURL"]]) {
        assert!(line.contains("WARN") && line.contains(url.as_str().unwrap()), "{log}");
    }
}

#[tokio::test]
async fn cloudevents_are_taken_in_every_mode_and_a_token_may_stand_in_the_url() {
    let intake = Intake::start();
    let forwarder = with_token(&intake).await;
    let truth = truth();
    let lines = sample("currents.ndjson");
    let line = lines.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"{")).unwrap().to_vec();
    let binary = forwarder.push_request(line).bearer_auth(TOKEN);
    let binary = binary.header("ce-specversion", "1.0").header("ce-id", "1").header("ce-source", "/braze");
    let binary = binary.header("ce-type", "com.acme.braze").header("ce-time", "2026-11-20T10:00:00Z");
    assert_eq!(told(binary.send().await.unwrap()).await.1, serde_json::json!({ "accepted": 1 }));
    let names = ["intermediaries/cloudevents-structured.json", "intermediaries/cloudevents-batch.json"];
    for (name, kind) in names.into_iter().zip(["cloudevents", "cloudevents-batch"]) {
        // The token as it is, and as it is to be written in a URL.
        for token in [TOKEN, "a-token%2Bfor%2Fintermediaries%3D%3D"] {
            let url = forwarder.push_url(&format!("/v1/events?access_token={token}&x=1"));
            let request = reqwest::Client::builder().build().unwrap().post(url).body(sample(name));
            let request = request.header("content-type", format!("application/{kind}+json; charset=UTF-8"));
            let (status, body) = told(request.send().await.unwrap()).await;
            assert_eq!((status, &body["accepted"]), (200, &truth["intermediaries"][name]["events"]));
        }
    }
    let wrong = forwarder.push_url("/v1/events?access_token=wrong");
    let wrong = reqwest::Client::builder().build().unwrap().post(wrong).body("{}").send().await.unwrap();
    assert_eq!(wrong.status(), 401);
    let held: Vec<&Value> = names.iter().map(|name| &truth["intermediaries"][*name]).collect();
    let sum = |of: &str| held.iter().map(|held| held[of].as_u64().unwrap()).sum::<u64>();
    let settled = forwarder.settled(2 * sum("events") + 1).await;
    assert_eq!((settled.duplicate, settled.malformed), (sum("sends"), 0), "{settled:?}");
    assert_eq!(settled.accepted, intake.sends());
    assert!(settled.accepted >= sum("sends"), "{settled:?}");
    assert!(!forwarder.log().contains("for/intermediaries"), "a token in a URL is in no line of the log");
}
