//! What the forwarder needs to be allowed, and no more; and what else an operator has to be told.

use std::time::{Duration, Instant};

use super::broker::listeners::password;
use super::broker::{Broker, Listener};
use super::load::{BATCH, Load};
use super::scene::{
    HEARTBEAT, SESSION, committed_all, counted_all, member, ready, send, share_all, stop, told, with,
};
use super::security::{borrowed, user};
use super::support;
use super::support::braze::assert_each_once;
use super::support::forwarder::Configuration;
use super::support::intake::Intake;
use crate::members::{assert_repeated_at_most, assert_repeated_within};

/// A forwarder that is one of the broker's users, and counts again what comes again.
fn as_user(name: &str, topic: &str, intake: &Intake) -> Configuration {
    let options = user("SASL_PLAINTEXT", "PLAIN", name, &password(name));
    let configuration = member(&[Broker::shared().at(Listener::Sasl)], topic, intake, "acme");
    with(configuration, &borrowed(&options)).text("dedup.window", "0s")
}

fn allow(user: &str, right: &str, resource: [&str; 2]) {
    Broker::shared().acl("--add", user, right, resource);
}

#[tokio::test]
async fn the_right_to_read_the_topic_and_the_group_is_enough_and_one_that_is_missing_is_told() {
    let topic = "least";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    send(broker, topic, 0..1);
    let configuration = as_user("least", topic, &intake);
    let forwarder = configuration.spawn(&["run"]);
    ready(&forwarder, 503).await;
    told(&forwarder, &["queue.kafka.group_id", "Read"]).await;
    allow("least", "Read", ["--group", topic]);
    told(&forwarder, &["queue.kafka.topics", "Read"]).await;
    allow("least", "Read", ["--topic", topic]);
    ready(&forwarder, 200).await;
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;

    let producer = send(broker, topic, 1..2);
    assert_eq!(configuration.run(&["run", "--once"]).await.status.code(), Some(0));
    committed_all(broker, &producer, topic).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn where_the_broker_assigns_the_partitions_a_right_that_is_taken_away_ends_the_run_and_is_told() {
    let topic = "novice";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    send(broker, topic, 0..1);
    allow("novice", "Read", ["--topic", topic]);
    let configuration = with(as_user("novice", topic, &intake), &[("group.protocol", "consumer")]);
    let mut forwarder = configuration.spawn(&["run"]);
    ready(&forwarder, 503).await;
    told(&forwarder, &["queue.kafka.group_id", "Read"]).await;
    allow("novice", "Read", ["--group", topic]);
    ready(&forwarder, 200).await;
    intake.wait_for_sends(BATCH).await;
    broker.acl("--remove", "novice", "Read", ["--group", topic]);
    // The client library takes this for the last word.
    assert_eq!(forwarder.wait().await.code(), Some(1));
    let ended = Instant::now();
    told(&forwarder, &["the queue can't acknowledge any more", "queue.kafka.group_id", "Read"]).await;

    allow("novice", "Read", ["--group", topic]);
    let producer = send(broker, topic, 1..2);
    let forwarder = configuration.start().await;
    counted_all(&intake, 2).await;
    committed_all(broker, &producer, topic).await;
    stop(forwarder).await;
    assert_repeated_at_most(&intake, |request| request.at < ended);
}

#[tokio::test]
async fn with_a_pattern_the_right_to_read_what_fits_is_enough() {
    let topics = ["pattern.email", "pattern.sms"];
    let (broker, intake) = (Broker::shared(), Intake::start());
    let configuration = as_user("guest", "pattern", &intake).set("queue.kafka.topics", r"['^pattern\..*']");
    allow("guest", "Read", ["--group", "pattern"]);
    for (mark, topic) in (0..).zip(topics) {
        broker.create_topic(topic, 1).await;
        allow("guest", "Read", ["--topic", topic]);
        send(broker, topic, mark..mark + 1);
    }
    let forwarder = configuration.start().await;
    intake.wait_for_sends(2 * BATCH).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_told_what_cannot_be_committed_is_not_counted_on_and_on_and_its_return_is_seen()
 {
    /// A commit that fails for long stops the counting of what could not be acknowledged.
    const UNTIL_STILL: Duration = Duration::from_secs(25);
    const STILL: Duration = Duration::from_secs(4);
    /// What was counted within an interval of a second before the right was gone is in the flush that follows, and so is what
    /// waited for the right.
    const AROUND: Duration = Duration::from_secs(3);
    let topic = "taken";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    allow("clerk", "Read", ["--group", topic]);
    allow("clerk", "Read", ["--topic", topic]);
    let forwarder = with(as_user("clerk", topic, &intake), &[("session.timeout.ms", "45000")]).start().await;
    share_all(&[&forwarder], 2).await;
    let load = Load::start(broker.producer(), topic);
    // For longer than what is around it.
    load.more(200).await;
    let taken_away = Instant::now();
    broker.acl("--remove", "clerk", "Read", ["--group", topic]);
    ready(&forwarder, 503).await;
    told(&forwarder, &["queue.kafka.group_id", "Read"]).await;
    let give_up = Instant::now() + UNTIL_STILL;
    let mut last = (Instant::now(), intake.sends());
    while last.0.elapsed() < STILL {
        assert!(Instant::now() < give_up, "it counts what it can't commit on and on");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let sends = intake.sends();
        if sends != last.1 {
            last = (Instant::now(), sends);
        }
    }
    allow("clerk", "Read", ["--group", topic]);
    ready(&forwarder, 200).await;
    let back = Instant::now();
    load.more(200).await;
    let (batches, producer) = load.finish();
    counted_all(&intake, batches).await;
    committed_all(broker, &producer, topic).await;
    stop(forwarder).await;
    assert_repeated_within(&intake, "acme", |at| at + AROUND > taken_away && at < back + AROUND);
}

#[tokio::test]
async fn a_topic_that_is_absent_is_told_and_read_once_it_is_there() {
    let topic = "absent";
    let (broker, intake) = (Broker::shared(), Intake::start());
    let configuration = member(broker.addresses(), topic, &intake, "acme");
    let configuration = with(configuration, &[("topic.metadata.refresh.interval.ms", "500")]);
    let forwarder = configuration.spawn(&["run"]);
    ready(&forwarder, 503).await;
    told(&forwarder, &["queue.kafka.topics", "does not exist"]).await;
    broker.create_topic(topic, 1).await;
    ready(&forwarder, 200).await;
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;
}

#[tokio::test]
async fn an_offset_out_of_range_that_may_not_be_reset_is_told() {
    let topic = "range";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    send(broker, topic, 0..1);
    let configuration = member(broker.addresses(), topic, &intake, "acme");
    let forwarder = configuration.start().await;
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;
    send(broker, topic, 1..2);
    broker.delete_records(topic, 0, 150).await;

    let forwarder = with(configuration, &[("auto.offset.reset", "error")]).spawn(&["run"]);
    told(&forwarder, &["auto.offset.reset"]).await;
    ready(&forwarder, 503).await;
    assert_eq!(intake.sends(), BATCH);
    stop(forwarder).await;
}

#[tokio::test]
async fn members_that_disagree_on_their_strategy_are_told() {
    let topic = "strategies";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    let start = |name: &str, strategy: &str| {
        let options = [SESSION, HEARTBEAT, ("partition.assignment.strategy", strategy)];
        with(member(broker.addresses(), topic, &intake, name), &options)
    };
    let first = start("first", "range").start().await;
    share_all(&[&first], 2).await;
    let second = start("second", "cooperative-sticky").spawn(&["run"]);
    told(&second, &["partition.assignment.strategy"]).await;
    ready(&second, 503).await;
    stop(first).await;
    ready(&second, 200).await;
    share_all(&[&second], 2).await;
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    stop(second).await;
    support::eventually("it is counted", async || (intake.sends() == BATCH).then_some(())).await;
}
