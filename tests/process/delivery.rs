//! From a push to the points: every send is counted once, under its tags and its connection's key, whatever
//! the other connections do; what is refused is refused in a way that loses nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::braze::Braze;
use crate::support::events::{Events, Truth};
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake};
use crate::support::metrics::Books;
use crate::support::{self, KEY, gzip};
use reqwest::Response;
use serde_json::Value;
use tokio::task::JoinSet;

const CLIENTS: u64 = 8;
const BODIES: u64 = 12;

type Sums = BTreeMap<(String, Vec<String>), u64>;

/// Clients that push batches of 100 at the same time; what they have pushed.
async fn push_concurrently(forwarder: &Forwarder, app_groups: &'static [App]) -> Vec<Truth> {
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS {
        let braze = Braze::new(&forwarder.push_url("/v1/events"));
        clients.spawn(async move {
            let mut events = Events::new(seed + 1).app_groups(app_groups);
            for _ in 0..BODIES {
                braze.deliver(&events.push_body(100)).await;
            }
            events.truth().clone()
        });
    }
    clients.join_all().await
}

/// An app group: its id, and the name that the configuration gives it.
type App = (&'static str, Option<&'static str>);

/// The sums that the intake must have, if app groups have these keys; app groups without a key are left out.
fn expected(truths: &[Truth], key_of: impl Fn(&str) -> Option<&'static str>) -> Sums {
    let mut sums = Sums::new();
    for (tags, sends) in truths.iter().flat_map(|truth| &truth.by_tags) {
        let app_group = tags.iter().find_map(|tag| tag.strip_prefix("app_group_id:")).unwrap();
        if let Some(key) = key_of(app_group) {
            *sums.entry((key.to_owned(), tags.clone())).or_default() += sends;
        }
    }
    sums
}

fn total(truths: &[Truth], part: impl Fn(&Truth) -> u64) -> u64 {
    truths.iter().map(part).sum()
}

/// The books balance, and `/status` says the same as `/metrics`; looked at when nothing is booked between the looks.
async fn books_agree(forwarder: &Forwarder) -> Books {
    loop {
        let books = forwarder.books_balance().await;
        let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
        if forwarder.books_balance().await == books {
            assert_eq!(books, Books::told(&status["books"]));
            assert_eq!(status["books"]["balanced"], true, "{status}");
            return books;
        }
    }
}

#[tokio::test]
async fn concurrent_pushes_are_counted_once_under_their_tags_at_their_connection() {
    const GROUPS: &[App] = &[
        ("g-one", Some("Acme EMEA")),
        ("g-two", None),
        ("g-three", None),
        ("g-other", Some("Other: \"x\"")),
    ];
    let (one, two) = (Intake::start(), Intake::start());
    let forwarder = Configuration::new()
        .connection("acme", &one.url(), "acme-key", &["g-one", "g-two"])
        .app_group_name("acme", "g-one", "Acme EMEA")
        .connection("beta", &two.url(), "beta-key", &["g-three"])
        .connection("rest", &two.url(), "rest-key", &[])
        .app_group_name("rest", "g-other", "Other: \"x\"")
        .start()
        .await;
    let truths = push_concurrently(&forwarder, GROUPS).await;
    let (events, sends) = (total(&truths, |truth| truth.events), total(&truths, |truth| truth.sends));
    let settled = forwarder.settled(events).await;
    assert_eq!(settled, books_agree(&forwarder).await);
    let ignored = total(&truths, |truth| truth.ignored);
    let books = Books { received: events, ignored, counted: sends, accepted: sends, ..Books::default() };
    assert_eq!(settled, books);

    let mut sums = one.sums();
    sums.extend(two.sums());
    let key_of = |app_group: &str| match app_group {
        "g-one" | "g-two" => Some("acme-key"),
        "g-three" => Some("beta-key"),
        _ => Some("rest-key"),
    };
    assert_eq!(sums, expected(&truths, key_of));
    assert!(one.sums().keys().all(|(key, _)| key == "acme-key"));
    assert_eq!((one.violations(), two.violations()), (vec![], vec![]));
    assert_connections_in_status(&forwarder, &sums).await;
    assert!(forwarder.stop().await.success());
}

/// `/status` and `/metrics` say the same of each connection as its intake.
async fn assert_connections_in_status(forwarder: &Forwarder, sums: &Sums) {
    let status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    let metrics = forwarder.metrics().await;
    for connection in status["connections"].as_array().unwrap() {
        let name = connection["name"].as_str().unwrap();
        let key = format!("{name}-key");
        let sends: u64 = sums.iter().filter(|((of, _), _)| *of == key).map(|(_, sends)| sends).sum();
        assert!(sends > 0, "{name}");
        assert_eq!(connection["accepted"], sends, "{connection}");
        assert_eq!(connection["last_outcome"]["outcome"], "accepted", "{connection}");
        assert_eq!(metrics.sum("braze_datadog_sends_accepted_total", &[("connection", name)]), sends);
    }
    assert_eq!(status["connections"].as_array().unwrap().len(), 3);
    // The outcome is booked a moment before the deliveries are acknowledged.
    support::eventually("the queue is empty", async || {
        (forwarder.metrics().await.sum("braze_datadog_queue_depth", &[]) == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_app_group_that_no_connection_serves_is_booked_as_unrouted_and_harms_no_other() {
    let intake = Intake::start();
    let forwarder = Configuration::new()
        .connection("acme", &intake.url(), "acme-key", &["g-one"])
        .connection("beta", &intake.url(), "beta-key", &["g-two"])
        .start()
        .await;
    let truths =
        push_concurrently(&forwarder, &[("g-one", None), ("g-two", None), ("g-stranger", None)]).await;
    let settled = forwarder.settled(total(&truths, |truth| truth.events)).await;
    let unrouted = total(&truths, |truth| truth.by_app_group["g-stranger"]);
    assert_eq!((settled.counted, settled.dropped), (total(&truths, |truth| truth.sends), unrouted));
    let label = [("connection", "_unrouted"), ("reason", "unrouted")];
    assert_eq!(forwarder.metrics().await.sum("braze_datadog_sends_dropped_total", &label), unrouted);
    books_agree(&forwarder).await;
    let key_of = |app_group: &str| match app_group {
        "g-one" => Some("acme-key"),
        "g-two" => Some("beta-key"),
        _ => None,
    };
    assert_eq!(intake.sums(), expected(&truths, key_of));
}

#[tokio::test]
async fn a_batch_that_comes_again_whole_or_in_parts_counts_once() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), KEY, &[]).start().await;
    let mut events = Events::new(3);
    let mut received = 0;
    for _ in 0..4 {
        received += forwarder.push_accepted(events.push_body(100)).await;
        received += forwarder.push_accepted(events.repeat()).await;
        // As Braze does after a 400: each event by itself.
        let split: Value = serde_json::from_str(&events.repeat()).unwrap();
        for event in split["events"].as_array().unwrap() {
            received += forwarder.push_accepted(serde_json::json!({ "events": [event] }).to_string()).await;
        }
    }
    let truth = events.truth();
    assert_eq!(received, truth.events);
    let settled = forwarder.settled(truth.events).await;
    assert_eq!((settled.counted, settled.duplicate), (truth.sends, truth.duplicates));
    // Once more, when the first ones have long been flushed.
    forwarder.push_accepted(events.repeat()).await;
    forwarder.settled(events.truth().events).await;
    let settled = books_agree(&forwarder).await;
    let truth = events.truth();
    assert_eq!((settled.accepted, settled.duplicate), (truth.sends, truth.duplicates));
    assert_eq!(&intake.sums_of(KEY), &truth.by_tags);
}

#[tokio::test]
async fn the_push_url_names_the_app_group_of_events_that_name_none() {
    let intake = Intake::start();
    let forwarder = Configuration::new()
        .connection("acme", &intake.url(), "acme-key", &["g-one/ü"])
        .connection("rest", &intake.url(), "rest-key", &[])
        .start()
        .await;
    let event = |id: &str, properties: &str| {
        format!(
            r#"{{"events":[{{"event_type":"users.messages.sms.Send","id":"{id}","time":{},"properties":{{{properties}}}}}]}}"#,
            support::unix_now()
        )
    };
    let query = "/v1/events?app_group_id=g-one%2F%C3%BC&app_group_name=Acme+One&unknown=1";
    let url = forwarder.push_url(query);
    for body in [event("a", ""), event("b", r#""app_group_id":null"#), event("c", r#""app_group_id":"own""#)]
    {
        assert_eq!(Braze::new(&url).push(&body).await, Some(200));
    }
    forwarder.push_accepted(event("d", "")).await;
    forwarder.settled(4).await;
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    let named = ("acme-key".to_owned(), tags(&["app_group_id:g-one/ü", "app_group_name:Acme One"]));
    assert_eq!(intake.sums().get(&named), Some(&2), "{:?}", intake.sums());
    // The event knows better which app group it is of.
    let own = tags(&["app_group_id:own", "app_group_name:Acme One"]);
    assert_eq!(intake.sums().get(&("rest-key".to_owned(), own)), Some(&1), "{:?}", intake.sums());
    assert_eq!(intake.sums().get(&("rest-key".to_owned(), vec![])), Some(&1));
}

#[tokio::test]
async fn a_connection_that_hangs_delays_no_other() {
    let (healthy, dead) = (Intake::start(), Intake::start());
    dead.always(Behaviour::Hang);
    let forwarder = Configuration::new()
        .connection("acme", &healthy.url(), "acme-key", &["g-one"])
        .connection("dead", &dead.url(), "dead-key", &["g-two"])
        .text("flush.timeout", "60s")
        .text("shutdown_timeout", "500ms")
        .start()
        .await;
    let mut events = Events::new(5).app_groups(&[("g-one", None), ("g-two", None)]);
    let started = Instant::now();
    // More flushes than the dead one may have requests under way.
    for _ in 0..10 {
        forwarder.push_accepted(events.push_body(100)).await;
        healthy.wait_for_sends(events.truth().by_app_group["g-one"]).await;
    }
    // Less than one request to the dead one.
    assert!(started.elapsed() < Duration::from_mins(1), "it took {:?}", started.elapsed());
    dead.wait_for_requests(1).await;
    let accepted = healthy.sends();
    let booked = async || (forwarder.metrics().await.books().accepted == accepted).then_some(());
    support::eventually("what the healthy one took is booked", booked).await;
    let books = books_agree(&forwarder).await;
    assert_eq!(books.pending, events.truth().by_app_group["g-two"]);
    assert_eq!((books.dropped, dead.sends()), (0, 0));
    assert!(forwarder.stop().await.success());
}

/// Pushes until the queue is full; the batches that it took, and the answer to the one that it did not take.
async fn fill(forwarder: &Forwarder, events: &mut Events) -> (u64, String, Response) {
    for taken in 0..200 {
        let body = events.push_body(100);
        let answer = forwarder.push(body.clone()).await;
        if answer.status() != 200 {
            return (taken, body, answer);
        }
    }
    panic!("the queue never said that it is full")
}

async fn wait_until_received(forwarder: &Forwarder, events: u64) {
    let what = format!("{events} events received");
    let received = async || (forwarder.metrics().await.books().received >= events).then_some(());
    support::eventually(&what, received).await;
}

#[tokio::test]
async fn a_full_queue_answers_503_loses_nothing_and_takes_pushes_again_when_there_is_room() {
    let intake = Intake::start();
    let forwarder = Configuration::new()
        .connection("acme", &intake.url(), KEY, &[])
        .text("queue.embedded.max_size", "1MiB")
        .text("push.max_body", "512KiB")
        .text("flush.interval", "10m")
        .start()
        .await;
    let mut events = Events::new(6);
    for round in 1..=3_u64 {
        let (taken, body, answer) = fill(&forwarder, &mut events).await;
        assert!(taken > 3, "only {taken} batches were taken");
        assert_eq!(answer.status(), 503);
        let retry_after = answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
        assert!((1..=60).contains(&retry_after));
        let (status, reason) = forwarder.admin("/readyz").await;
        assert!(status == 503 && reason.contains("the queue is full"), "{status} {reason}");
        assert_eq!(forwarder.admin("/livez").await.0, 200);
        // A person who tests the credentials is not told to come back later.
        assert_eq!(forwarder.push("").await.status(), 200);
        assert_eq!(forwarder.push(body.clone()).await.status(), 503);

        // A reload cuts at once, the flush is acknowledged, and there is room.
        wait_until_received(&forwarder, events.truth().events - 100).await;
        forwarder.signal("HUP");
        let ready = async || (forwarder.admin("/readyz").await.0 == 200).then_some(());
        support::eventually("there is room again", ready).await;
        // Braze sends again what was refused.
        forwarder.push_accepted(body).await;
        let answers = forwarder.metrics().await.sum("braze_datadog_push_requests_total", &[("code", "503")]);
        assert_eq!(answers, 2 * round);
    }
    wait_until_received(&forwarder, events.truth().events).await;
    assert!(forwarder.stop().await.success());
    assert_eq!(&intake.sums_of(KEY), &events.truth().by_tags);
}

#[tokio::test]
async fn what_follows_the_gzip_of_a_push_is_left_out_and_told_once_in_a_while() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), KEY, &[]).start().await;
    let mut events = Events::new(9);
    // A large one is unpacked on another thread.
    for count in [2_000, 10, 10] {
        let padded = [gzip(events.push_body(count).as_bytes()), vec![0; 512]].concat();
        let answer = forwarder.push_request(padded).header("content-encoding", "gzip").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(forwarder.settled(2_020).await.received, 2_020);
    let log = forwarder.says("follow the gzip of a push").await;
    let told: Vec<_> = log.lines().filter(|line| line.contains("follow the gzip of a push")).collect();
    assert!(matches!(told[..], [line] if line.contains("WARN") && line.contains("512")), "{told:?}");
}

#[tokio::test]
async fn a_push_that_can_not_be_taken_is_answered_as_the_contract_says() {
    let intake = Intake::start();
    let configuration =
        Configuration::new().connection("acme", &intake.url(), KEY, &[]).text("push.max_body", "64KiB");
    let tokens = configuration.file("tokens", "first-token==\nsecond-token\n");
    let forwarder = configuration.text("push.token_file", tokens.to_str().unwrap()).start().await;
    let mut events = Events::new(8);
    let good = events.push_body(10);
    let with = |body: &str| forwarder.push_request(body.to_owned()).bearer_auth("first-token==");

    for request in [
        forwarder.push_request(good.clone()),
        forwarder.push_request(""),
        forwarder.push_request(good.clone()).bearer_auth("first-token="),
        forwarder.push_request(good.clone()).basic_auth("first-token==", None::<&str>),
        forwarder.push_request("not even JSON").bearer_auth("wrong"),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("Bearer realm=\"braze-datadog\""), "{challenge}");
    }
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    assert_eq!(status(with(&"x".repeat(70_000))).await, 413);
    for coding in ["br", "zstd, gzip", "gzip, br"] {
        assert_eq!(status(with(&good).header("content-encoding", coding)).await, 415, "{coding}");
    }
    for body in ["not JSON", "\"text\"", "17", "{\"events\":7}", &good[..good.len() / 20]] {
        assert_eq!(status(with(body)).await, 400, "{body}");
    }
    assert_eq!(status(with(&good).header("content-encoding", "gzip")).await, 400);
    assert_eq!(forwarder.metrics().await.books(), Books::default());

    for body in ["", "{}", "[]", "null", "{\"events\":[]}"] {
        assert_eq!(status(with(body)).await, 200, "{body}");
    }
    assert_eq!(status(with(&good)).await, 200);
    // One bad event among good ones does not fail its batch.
    let mixed = format!(r#"{{"events":[7,{},{{"event_type":3}}]}}"#, "null");
    assert_eq!(status(with(&mixed)).await, 200);
    let second = forwarder.push_request(events.push_body(10)).bearer_auth("second-token");
    assert_eq!(status(second).await, 200);
    let books = forwarder.settled(20).await;
    assert_eq!(books.accepted, events.truth().sends);
    assert!(books.malformed >= 2 && books.balance(), "{books:?}");
    assert_eq!(&intake.sums_of(KEY), &events.truth().by_tags);
}

#[tokio::test]
async fn keys_and_tokens_are_shown_nowhere_at_any_log_level() {
    const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210";
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), KEY, &["g-one"])
        .connection("rest", &intake.url(), OTHER_KEY, &[])
        .environment("RUST_LOG", "trace");
    let secrets = [KEY, OTHER_KEY, "planted-token", "planted-guess"];
    let tokens = configuration.file("tokens", "planted-token\n");
    let configuration = configuration.text("push.token_file", tokens.to_str().unwrap());
    let mut forwarder = configuration.start().await;
    let mut events = Events::new(9).app_groups(&[("g-one", None), ("g-two", None)]);
    // One by one, what Datadog or something before it may do; it may repeat the key.
    let answers = [
        Behaviour::Accept,
        Behaviour::Status(403, ""),
        Behaviour::Status(500, ""),
        Behaviour::Garbage,
        Behaviour::Reset,
    ];
    for answer in answers {
        intake.decide(move |request| match answer {
            Behaviour::Status(status, _) if request.key() == KEY => Behaviour::Status(status, KEY),
            Behaviour::Status(status, _) => Behaviour::Status(status, OTHER_KEY),
            _ => answer.clone(),
        });
        let good = forwarder.push_request(events.push_body(50)).bearer_auth("planted-token");
        assert_eq!(good.send().await.unwrap().status(), 200);
        let bad = forwarder.push_request("{}").bearer_auth("planted-guess");
        assert_eq!(bad.send().await.unwrap().status(), 401);
        forwarder.settled(events.truth().events).await;
    }
    forwarder.signal("HUP");
    let read = async || forwarder.log().contains("the configuration was read again").then_some(());
    support::eventually("the configuration is read again", read).await;
    let mut shown = String::new();
    for path in ["/", "/status", "/metrics", "/readyz", "/nothing"] {
        shown += &forwarder.admin(path).await.1;
    }
    shown += &configuration.run(&["check"]).await.stdout;
    forwarder.signal("TERM");
    assert!(forwarder.wait().await.success());
    shown += &forwarder.log();
    assert!(shown.contains("\"TRACE\"") && shown.contains("hyper"), "the log shows no traces");
    assert!(shown.contains("http_403") && shown.contains("http_5xx"), "the answers were not logged");
    for secret in secrets {
        let lines: Vec<&str> = shown.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{secret} is shown: {lines:#?}");
    }
}
