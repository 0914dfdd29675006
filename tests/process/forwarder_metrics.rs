//! What the forwarder tells Datadog of itself, as Datadog gets it from the real binary: off by default, by one connection,
//! once, and nothing in the books of sends.

use braze_datadog::forwarder_points::PREFIX;
use braze_datadog::forwarder_points::last_send_age::CAMPAIGN_LAST_SEND_AGE;
use braze_datadog::forwarder_points::metrics::{
    FLUSH_MILLISECONDS, QUEUE_DEPTH, SENDS_DROPPED, SENDS_PENDING,
};
use serde_json::json;

use crate::support;
use crate::support::analytics::keep_history;
use crate::support::events::Events;
use crate::support::forwarder::Configuration;
use crate::support::intake::{Behaviour, Intake};

const VERSION: &str = concat!("version:", env!("CARGO_PKG_VERSION"));

/// A point that the forwarder told of itself.
#[derive(Debug)]
struct Own {
    metric: String,
    tags: Vec<String>,
    value: u64,
}

/// The forwarder's own points that came with a key and were accepted.
fn own(intake: &Intake, key: &str) -> Vec<Own> {
    let requests = intake.requests();
    let accepted = requests.iter().filter(|request| request.key() == key && request.answered == Some(202));
    let points =
        accepted.flat_map(|request| &request.points).filter(|point| point.metric.starts_with(PREFIX));
    points
        .map(|point| Own { metric: point.metric.clone(), tags: point.tags.clone(), value: point.value })
        .collect()
}

fn of<'p>(points: &'p [Own], metric: &str) -> Vec<&'p Own> {
    points.iter().filter(|point| point.metric == metric).collect()
}

#[tokio::test]
async fn drops_of_every_connection_are_told_by_the_one_that_is_named_and_once() {
    let intake = Intake::start();
    intake.revoke("wrong");
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "wrong", &[])
        .connection("ops", &intake.url(), "right", &["nobody"])
        .set("tags.static", "[\"env:test\"]")
        .text("forwarder_metrics.connection", "ops");
    let forwarder = configuration.start().await;
    let mut events = Events::new(1);
    forwarder.push_accepted(events.push_body(100)).await;
    let books = forwarder.settled(100).await;
    assert_eq!(books.dropped, events.truth().sends);
    let told = support::eventually("the drops are told", async || {
        let points = own(&intake, "right");
        let sum: u64 = of(&points, SENDS_DROPPED).iter().map(|point| point.value).sum();
        (sum >= books.dropped).then_some(points)
    })
    .await;
    let dropped = of(&told, SENDS_DROPPED);
    assert_eq!(dropped[0].tags, ["connection:acme", "env:test", "reason:http_403", VERSION]);
    // Flushes go on where there are no sends, and what was told is not told again.
    support::eventually("it goes on", async || {
        (of(&own(&intake, "right"), QUEUE_DEPTH).len() >= of(&told, QUEUE_DEPTH).len() + 2).then_some(())
    })
    .await;
    let points = own(&intake, "right");
    assert_eq!(of(&points, SENDS_DROPPED).iter().map(|point| point.value).sum::<u64>(), books.dropped);
    for metric in [QUEUE_DEPTH, SENDS_PENDING, FLUSH_MILLISECONDS] {
        let levels = of(&points, metric);
        assert!(
            !levels.is_empty() && levels.iter().all(|point| point.tags == ["env:test", VERSION]),
            "{metric}"
        );
    }
    assert_eq!(of(&points, QUEUE_DEPTH).last().unwrap().value, 0);
    assert!(own(&intake, "wrong").is_empty());
    let books = forwarder.books_balance().await;
    assert_eq!((books.dropped, books.accepted), (events.truth().sends, 0), "no send is among them");
    // The intake knows of them before their answer has come.
    support::eventually("they are booked", async || {
        let accepted = forwarder.metrics().await.sum("braze_datadog_own_points_accepted_total", &[]);
        (accepted >= points.len() as u64).then_some(())
    })
    .await;
    assert_eq!(intake.violations(), Vec::<String>::new());
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn points_that_are_refused_are_booked_apart_and_the_books_balance() {
    let intake = Intake::start();
    intake.always(Behaviour::Status(503, "busy"));
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "key", &[])
        .text("forwarder_metrics.connection", "acme");
    let forwarder = configuration.start().await;
    let dropped = async || {
        let labels = [("reason", "http_5xx")];
        forwarder.metrics().await.sum("braze_datadog_own_points_dropped_total", &labels)
    };
    support::eventually("they are booked", async || (dropped().await >= 2).then_some(())).await;
    let line = support::eventually("it is logged", async || {
        let log = forwarder.stderr();
        log.lines()
            .find(|line| line.contains("points about the forwarder itself were dropped"))
            .map(str::to_owned)
    })
    .await;
    assert!(line.contains("\"WARN\"") && line.contains("http_5xx"), "{line}");
    let mut events = Events::new(1);
    forwarder.push_accepted(events.push_body(100)).await;
    let books = forwarder.settled(100).await;
    assert!(books.balance());
    assert_eq!((books.accepted, books.dropped), (0, events.truth().sends), "only sends are among the sends");
    assert!(forwarder.stop().await.success());
}

#[tokio::test]
async fn it_is_off_by_default_follows_a_reload_and_takes_no_unknown_name() {
    let intake = Intake::start();
    let off = Configuration::new().connection("acme", &intake.url(), "key", &[]);
    let forwarder = off.start().await;
    forwarder.push_accepted(Events::new(1).push_body(100)).await;
    forwarder.settled(100).await;
    assert!(own(&intake, "key").is_empty());
    let on = off.clone().text("forwarder_metrics.connection", "acme");
    on.write();
    forwarder.signal("HUP");
    support::eventually("it is told", async || (!own(&intake, "key").is_empty()).then_some(())).await;
    assert!(forwarder.stop().await.success());

    let finished = off.text("forwarder_metrics.connection", "acne").run(&["check"]).await;
    assert_eq!(finished.status.code(), Some(78));
    let said = finished.stderr;
    assert!(
        said.contains("forwarder_metrics.connection") && said.contains("did you mean \"acme\"?"),
        "{said}"
    );
}

/// The age of the campaign `weekly`, as it was told last.
fn age(intake: &Intake) -> Option<u64> {
    let points = own(intake, "right");
    of(&points, CAMPAIGN_LAST_SEND_AGE).last().map(|point| point.value)
}

#[tokio::test]
async fn how_long_ago_a_campaign_was_sent_last_goes_on_over_a_restart() {
    let intake = Intake::start();
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "key", &[])
        .connection("ops", &intake.url(), "right", &["nobody"])
        .set("tags.static", "[\"env:test\"]")
        .text("forwarder_metrics.connection", "ops");
    keep_history(&configuration.home().join("history"), &[("acme", "weekly", 10)]);
    let forwarder = configuration.start().await;
    support::eventually("what is told by default", async || {
        (of(&own(&intake, "right"), QUEUE_DEPTH).len() >= 2).then_some(())
    })
    .await;
    assert_eq!(age(&intake), None, "it is off by default");
    assert!(forwarder.stop().await.success());

    let configuration = configuration.set("forwarder_metrics.campaign_last_send_age", "true");
    let forwarder = configuration.start().await;
    let first = support::eventually("the age is told", async || age(&intake)).await;
    // It was sent at noon of the day before yesterday.
    let sent = support::unix_now() - first;
    assert!((129_600..216_120).contains(&first) && sent % 86_400 - 43_200 < 60, "{first}");
    let points = own(&intake, "right");
    let told = of(&points, CAMPAIGN_LAST_SEND_AGE);
    assert_eq!(
        told[0].tags,
        ["campaign_id:weekly", "campaign_name:Name of weekly", "connection:acme", "env:test"]
    );
    support::eventually("more flushes", async || {
        (of(&own(&intake, "right"), QUEUE_DEPTH).len() >= of(&points, QUEUE_DEPTH).len() + 3).then_some(())
    })
    .await;
    assert_eq!(
        of(&own(&intake, "right"), CAMPAIGN_LAST_SEND_AGE).len(),
        1,
        "once a minute, whatever the flush interval"
    );
    let sent_again = support::unix_now();
    let event = json!({"event_type": "users.messages.email.Send", "id": "1", "time": sent_again,
                       "properties": {"app_group_id": "emea", "campaign_id": "weekly", "campaign_name": "New name"}});
    forwarder.push_accepted(event.to_string()).await;
    forwarder.settled(1).await;
    assert!(forwarder.stop().await.success());

    let _forwarder = configuration.start().await;
    let second =
        support::eventually("it is told after a restart", async || age(&intake).filter(|age| *age != first))
            .await;
    assert!(second <= support::unix_now() - sent_again, "{second}");
    let points = own(&intake, "right");
    assert!(
        of(&points, CAMPAIGN_LAST_SEND_AGE)
            .last()
            .unwrap()
            .tags
            .contains(&"campaign_name:New name".to_owned())
    );
    assert_eq!(intake.violations(), Vec::<String>::new());
}
