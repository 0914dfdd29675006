//! The heartbeat, as Datadog gets it from the real binary: off by default, one point per flush and connection, and
//! nothing in the books.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use braze_datadog::forwarder_points::heartbeat::METRIC;
use serde_json::json;

use crate::support;
use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake, Request};

const VERSION: &str = concat!("version:", env!("CARGO_PKG_VERSION"));

/// Long enough for a few flushes, which there is one of every second.
const FLUSHES: Duration = Duration::from_secs(3);

/// Switches the heartbeat of a connection on.
fn beating(configuration: Configuration, connection: &str) -> Configuration {
    configuration.set(&format!("connections.{connection}.heartbeat"), "true")
}

/// The heartbeats in a request.
fn beats(request: &Request) -> usize {
    let beats = request.points.iter().filter(|point| point.metric == METRIC);
    beats.inspect(|point| assert_eq!(point.value, 1)).count()
}

/// The sends in a request.
fn sends(request: &Request) -> u64 {
    request.points.iter().filter(|point| point.metric != METRIC).map(|point| point.value).sum()
}

/// How many heartbeats came with each key.
fn beats_by_key(intake: &Intake) -> BTreeMap<String, usize> {
    let mut by_key = BTreeMap::new();
    for request in intake.requests() {
        *by_key.entry(request.key().to_owned()).or_default() += beats(&request);
    }
    by_key
}

/// Waits until a key has so many more heartbeats.
async fn more_beats(intake: &Intake, key: &str, more: usize) {
    let goal = beats_by_key(intake).get(key).copied().unwrap_or_default() + more;
    support::eventually(&format!("{goal} heartbeats with {key}"), async || {
        (beats_by_key(intake).get(key).copied().unwrap_or_default() >= goal).then_some(())
    })
    .await;
}

/// Reads the configuration again.
async fn hang_up(forwarder: &Forwarder) {
    let again = || forwarder.stderr().matches("the configuration was read again").count();
    let before = again();
    forwarder.signal("HUP");
    support::eventually("the configuration was read again", async || (again() > before).then_some(())).await;
}

#[tokio::test]
async fn there_is_none_by_default_and_no_request_without_sends() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &[]).start().await;
    forwarder.push_accepted(Events::new(1).push_body(100)).await;
    forwarder.settled(100).await;
    tokio::time::sleep(FLUSHES).await;
    let requests = intake.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| beats(request) == 0 && sends(request) > 0), "{requests:?}");
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn there_is_one_per_flush_and_connection_with_sends_and_without_and_the_books_do_not_see_it() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "busy", &[])
        .connection("beta", &intake.url(), "idle", &["nobody"])
        .connection("gone", &intake.url(), "mute", &["somebody"])
        .set("tags.static", "[\"env:test\"]");
    let forwarder = beating(beating(configuration, "acme"), "beta").start().await;
    more_beats(&intake, "busy", 2).await;
    let mut events = Events::new(1);
    forwarder.push_accepted(events.push_body(100)).await;
    forwarder.settled(100).await;
    more_beats(&intake, "idle", 2).await;

    let books = forwarder.books_balance().await;
    assert_eq!((books.received, books.accepted, books.dropped), (100, events.truth().sends, 0));
    let depth = async || forwarder.metrics().await.sum("braze_datadog_queue_depth", &[]);
    support::eventually("everything is acknowledged", async || (depth().await == 0).then_some(())).await;
    let status: serde_json::Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    assert!(
        !status["busiest_series"].as_array().unwrap().is_empty(),
        "idle flushes leave what people look at: {status}"
    );
    assert!(forwarder.stop().await.success());

    let requests = intake.requests();
    let of = |key: &str| requests.iter().filter(|request| request.key() == key).collect::<Vec<_>>();
    let (busy, idle) = (of("busy"), of("idle"));
    assert!(busy.iter().chain(&idle).all(|request| beats(request) == 1));
    assert!(idle.iter().all(|request| sends(request) == 0));
    assert_eq!(busy.iter().map(|request| sends(request)).sum::<u64>(), events.truth().sends);
    assert!(busy.iter().any(|request| sends(request) > 0), "it goes with the sends");
    assert!(busy.iter().any(|request| sends(request) == 0), "and alone");
    assert_eq!(busy.len(), idle.len(), "each flush has one for each of them");
    assert!(of("mute").is_empty());
    for (key, name) in [("busy", "connection:acme"), ("idle", "connection:beta")] {
        let tags = of(key)[0].points.iter().find(|point| point.metric == METRIC).unwrap().tags.clone();
        assert_eq!(tags, [name, "env:test", VERSION]);
    }
    assert_eq!(intake.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_reload_switches_it_on_and_off_and_it_ends_with_its_connection() {
    let intake = Intake::start();
    let off = Configuration::new().connection("acme", &intake.url(), "key", &[]).connection(
        "beta",
        &intake.url(),
        "other",
        &["nobody"],
    );
    let forwarder = off.start().await;
    let silent_for_a_while = async || {
        // What is under way comes within a flush.
        tokio::time::sleep(FLUSHES).await;
        let before = intake.requests().len();
        tokio::time::sleep(FLUSHES).await;
        assert_eq!(intake.requests().len(), before);
    };
    beating(beating(off.clone(), "acme"), "beta").write();
    hang_up(&forwarder).await;
    more_beats(&intake, "key", 2).await;
    more_beats(&intake, "other", 2).await;
    off.write();
    hang_up(&forwarder).await;
    silent_for_a_while().await;
    beating(off.clone(), "beta").write();
    hang_up(&forwarder).await;
    more_beats(&intake, "other", 2).await;
    // The connection goes, and its heartbeat with it.
    Configuration::without(off.clone(), "connections.beta.url")
        .without("connections.beta.api_key")
        .without("connections.beta.app_group_ids")
        .write();
    hang_up(&forwarder).await;
    silent_for_a_while().await;
    assert_eq!(intake.violations(), Vec::<String>::new());
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn a_dry_run_prints_it_and_sends_nothing() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "key", &[])
        .set("connections.acme.dry_run", "true");
    let forwarder = beating(configuration, "acme").start().await;
    let line = format!("acme (dry run): {METRIC}  connection:acme {VERSION}\n");
    support::eventually("heartbeats are printed", async || {
        (forwarder.stdout().matches(&line).count() >= 2).then_some(())
    })
    .await;
    forwarder.push_accepted(Events::new(1).push_body(100)).await;
    let books = forwarder.settled(100).await;
    assert!(books.balance() && books.accepted > 0 && books.dropped == 0, "{books:?}");
    assert!(forwarder.stdout().contains(" sends in "));
    assert!(intake.requests().is_empty());
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn one_that_is_refused_is_a_warning_and_the_last_outcome_but_no_drop() {
    let intake = Intake::start();
    intake.revoke("key");
    let configuration = Configuration::new().connection("acme", &intake.url(), "key", &[]);
    let forwarder = beating(configuration, "acme").start().await;
    intake.wait_for_requests(2).await;
    let log = support::eventually("it is logged", async || {
        let log = forwarder.stderr();
        log.contains("a heartbeat was dropped").then_some(log)
    })
    .await;
    let line = log.lines().find(|line| line.contains("a heartbeat was dropped")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((line["level"].as_str(), line["reason"].as_str()), (Some("WARN"), Some("http_403")), "{line}");
    assert!(!log.contains("\"ERROR\""), "{log}");
    let (_, status) = forwarder.admin("/status").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let acme = &status["connections"][0];
    assert_eq!(
        (&acme["last_outcome"]["dropped"], &acme["dropped_by_reason"]),
        (&json!("http_403"), &json!({}))
    );
    let books = forwarder.books_balance().await;
    assert_eq!((books.received, books.dropped, books.pending), (0, 0, 0));
    intake.restore("key");
    let accepted = || intake.requests().iter().any(|request| request.answered == Some(202));
    support::eventually("it is accepted again", async || accepted().then_some(())).await;
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn one_without_an_answer_holds_up_neither_sends_nor_the_stop() {
    let intake = Intake::start();
    intake.decide(|request| if request.key() == "dead" { Behaviour::Hang } else { Behaviour::Accept });
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "alive", &[])
        .connection("beta", &intake.url(), "dead", &["nobody"])
        // Time enough for the one that answers, and together with a turn shorter than shutdown_timeout.
        .text("flush.timeout", "5s");
    let forwarder = beating(configuration, "beta").start().await;
    let of_dead = || intake.requests().iter().filter(|request| request.key() == "dead").count();
    support::eventually("heartbeats without an answer", async || (of_dead() >= 2).then_some(())).await;
    forwarder.push_accepted(Events::new(1).push_body(100)).await;
    let books = forwarder.settled(100).await;
    assert_eq!(books.dropped, 0);
    forwarder.signal("TERM");
    let mut forwarder = forwarder;
    assert!(forwarder.wait().await.success());
    assert!(!forwarder.stderr().contains("shutdown_timeout is over"), "no new ones while it stops");
}

#[tokio::test]
async fn five_hundred_connections_have_five_hundred_in_each_flush() {
    const CONNECTIONS: usize = 500;
    let intake = Intake::start();
    // Each flush is over before the next one, and none is cut off at the stop, on a slow machine, too.
    let mut configuration = Configuration::new()
        .text("flush.interval", "5s")
        .text("flush.timeout", "1m")
        .text("shutdown_timeout", "2m");
    for number in 0..CONNECTIONS {
        let (name, group) = (format!("c{number}"), format!("g{number}"));
        configuration = configuration.connection(&name, &intake.url(), &format!("key-{number}"), &[&group]);
        configuration = beating(configuration, &name);
    }
    let forwarder = configuration.start().await;
    intake.wait_for_requests(2 * CONNECTIONS).await;
    support::eventually("two flushes", async || {
        let by_key = beats_by_key(&intake);
        (by_key.len() == CONNECTIONS && by_key.values().all(|beats| *beats >= 2)).then_some(())
    })
    .await;
    assert_eq!(forwarder.books_balance().await.dropped, 0);
    assert!(forwarder.stop().await.success());
    let flushes: BTreeSet<usize> = beats_by_key(&intake).into_values().collect();
    assert_eq!(flushes.len(), 1, "a connection has had more of them than another: {flushes:?}");
    assert!(intake.requests().iter().all(|request| beats(request) == 1));
    assert_eq!(intake.violations(), Vec::<String>::new());
}
