//! Members that come, go, are replaced, and die, with each group protocol.

use std::ops::Range;

use super::broker::{Broker, Listener};
use super::load::{BATCH, Load};
use super::scene::{
    HEARTBEAT, SESSION, assert_valid, committed_all, member, ready, send, share_all, stop, told, with,
};
use super::support;
use super::support::braze::assert_each_once;
use super::support::forwarder::Configuration;
use super::support::intake::Intake;
use crate::handovers::{self, Group};

const PARTITIONS: i32 = 6;

type Options<'a> = &'a [(&'a str, &'a str)];

const EAGER: Options<'_> = &[SESSION, HEARTBEAT, ("partition.assignment.strategy", "range")];
const COOPERATIVE: Options<'_> = &[SESSION, HEARTBEAT];
const CONSUMER: Options<'_> = &[("group.protocol", "consumer")];

/// A member of the group with the name of the topic.
fn of_group(topic: &str, intake: &Intake, name: &str, options: Options<'_>) -> Configuration {
    with(member(Broker::shared().addresses(), topic, intake, name), options)
}

/// What becomes of a group of its own, whose members have these options.
async fn on_a_group<T>(
    topic: &'static str,
    options: Options<'_>,
    happening: impl AsyncFnOnce(Group<'_>) -> T,
) -> T {
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, PARTITIONS).await;
    happening(Group {
        topic,
        partitions: PARTITIONS,
        producer: broker.producer(),
        intake: &intake,
        member: &|name| of_group(topic, &intake, name, options),
        committed: &|| broker.committed(topic, topic),
    })
    .await
}

#[tokio::test]
async fn clean_handovers_of_an_eager_group_count_everything_once() {
    on_a_group("handover.eager", EAGER, handovers::clean).await;
}

#[tokio::test]
async fn clean_handovers_of_a_cooperative_group_count_everything_once() {
    on_a_group("handover.cooperative", COOPERATIVE, handovers::clean).await;
}

#[tokio::test]
async fn clean_handovers_of_a_group_whose_partitions_the_broker_assigns_count_everything_once() {
    on_a_group("handover.consumer", CONSUMER, handovers::clean).await;
}

#[tokio::test]
async fn a_group_that_moves_to_the_other_protocol_member_by_member_counts_everything_once() {
    let topic = "moved";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, PARTITIONS).await;
    let start = async |name: &str, options| of_group(topic, &intake, name, options).start().await;
    let (first, second) = tokio::join!(start("first", EAGER), start("second", EAGER));
    share_all(&[&first, &second], PARTITIONS).await;
    let load = Load::start(broker.producer(), topic);
    load.more(20).await;
    stop(first).await;
    let first = start("first", CONSUMER).await;
    share_all(&[&first, &second], PARTITIONS).await;
    load.more(20).await;
    stop(second).await;
    let second = start("second", CONSUMER).await;
    share_all(&[&first, &second], PARTITIONS).await;
    load.more(20).await;
    let (batches, producer) = load.finish();
    intake.wait_for_sends(batches * BATCH).await;
    committed_all(broker, &producer, topic).await;
    stop(first).await;
    stop(second).await;
    assert_each_once(&intake.accepted(), batches);
    assert_valid(&intake);
}

#[tokio::test]
async fn a_member_of_the_other_protocol_that_a_cooperative_group_keeps_out_is_let_in_once_that_is_gone() {
    let topic = "mixed";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    let first = of_group(topic, &intake, "first", COOPERATIVE).start().await;
    share_all(&[&first], 2).await;
    // What librdkafka's members of such a group tell each other would be lost: the broker does not convert it.
    let second = of_group(topic, &intake, "second", CONSUMER).spawn(&["run"]);
    let producer = send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    committed_all(broker, &producer, topic).await;
    stop(first).await;
    ready(&second, 200).await;
    share_all(&[&second], 2).await;
    send(broker, topic, 1..2);
    intake.wait_for_sends(2 * BATCH).await;
    stop(second).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn a_static_member_that_is_restarted_keeps_its_partitions_and_counts_nothing_twice() {
    let topic = "static";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, PARTITIONS).await;
    let start = async |name: &str| {
        // Long enough for a restart: the group does not notice it.
        let options = [("session.timeout.ms", "20000"), HEARTBEAT, ("group.instance.id", name)];
        of_group(topic, &intake, name, &options).start().await
    };
    let (first, second) = tokio::join!(start("first"), start("second"));
    share_all(&[&first, &second], PARTITIONS).await;
    let load = Load::start(broker.producer(), topic);
    load.more(20).await;
    let rearranged = || first.log().matches("partitions were revoked").count();
    let before = rearranged();
    stop(second).await;
    let second = start("second").await;
    share_all(&[&first, &second], PARTITIONS).await;
    load.more(20).await;
    let (batches, producer) = load.finish();
    intake.wait_for_sends(batches * BATCH).await;
    committed_all(broker, &producer, topic).await;
    assert_eq!(rearranged(), before, "{}", first.log());
    stop(first).await;
    stop(second).await;
    assert_each_once(&intake.accepted(), batches);
    assert_valid(&intake);
}

#[tokio::test]
async fn a_member_whose_instance_id_another_one_takes_ends_and_says_so() {
    let topic = "fenced";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let options = [("session.timeout.ms", "20000"), ("group.instance.id", "same")];
    let mut first = of_group(topic, &intake, "first", &options).start().await;
    share_all(&[&first], 1).await;
    let second = of_group(topic, &intake, "second", &options).start().await;
    assert_eq!(first.wait().await.code(), Some(1));
    told(&first, &["group.instance.id"]).await;
    let load = Load::start(broker.producer(), topic);
    load.more(5).await;
    let (batches, producer) = load.finish();
    intake.wait_for_sends(batches * BATCH).await;
    committed_all(broker, &producer, topic).await;
    stop(second).await;
    assert_each_once(&intake.accepted(), batches);
}

#[tokio::test]
async fn a_static_member_that_was_killed_has_its_partitions_back_at_once_in_a_classic_group() {
    let topic = "static.killed";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, PARTITIONS).await;
    let start = async |name: &str| {
        // For longer than the test waits for anything.
        let options = [("session.timeout.ms", "300000"), HEARTBEAT, ("group.instance.id", name)];
        of_group(topic, &intake, name, &options).start().await
    };
    let (first, second) = tokio::join!(start("first"), start("second"));
    share_all(&[&first, &second], PARTITIONS).await;
    let count = async |marks: Range<u64>| {
        let sends = marks.end * BATCH;
        let producer = send(broker, topic, marks);
        intake.wait_for_sends(sends).await;
        committed_all(broker, &producer, topic).await;
    };
    count(0..10).await;
    let rearranged = || first.log().matches("partitions were revoked").count();
    let before = rearranged();
    second.crash().await;
    let second = start("second").await;
    share_all(&[&first, &second], PARTITIONS).await;
    count(10..20).await;
    assert_eq!(rearranged(), before, "{}", first.log());
    stop(first).await;
    stop(second).await;
    assert_each_once(&intake.accepted(), 20);
}

#[tokio::test]
async fn where_the_broker_assigns_the_partitions_a_static_member_that_was_killed_waits_for_its_session() {
    let topic = "static.unreleased";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let options = [CONSUMER, &[("group.instance.id", "same")]].concat();
    let configuration = of_group(topic, &intake, "acme", &options);
    let forwarder = configuration.start().await;
    share_all(&[&forwarder], 1).await;
    forwarder.crash().await;
    let mut early = configuration.spawn(&["run"]);
    assert_eq!(early.wait().await.code(), Some(1));
    told(&early, &["has not left", "\\\"group.instance.id\\\"", "group.consumer.session.timeout.ms"]).await;
    // As a service manager would.
    support::eventually("it is let in", async || {
        let forwarder = configuration.spawn(&["run"]);
        let is_in = support::eventually("it is let in or not", async || {
            let log = forwarder.log();
            let is_in = log.contains("partitions were assigned");
            (is_in || log.contains("can't acknowledge any more")).then_some(is_in)
        })
        .await;
        is_in.then_some(())
    })
    .await;
}

#[tokio::test]
async fn kill_9_of_a_member_of_a_classic_group_repeats_at_most_its_flushes_under_way() {
    on_a_group("killed.classic", COOPERATIVE, handovers::kill_9).await;
}

#[tokio::test]
async fn kill_9_of_a_member_whose_partitions_the_broker_assigns_repeats_at_most_its_flushes_under_way() {
    on_a_group("killed.consumer", CONSUMER, handovers::kill_9).await;
}

#[tokio::test]
async fn a_member_that_was_stopped_for_longer_than_its_session_repeats_at_most_what_it_had_not_committed() {
    let log = on_a_group("stopped.consumer", CONSUMER, handovers::stopped_and_back).await;
    assert!(log.contains("the group has put this process out"), "{log}");
}

#[tokio::test]
async fn a_member_of_a_classic_group_that_was_stopped_for_longer_than_its_session_repeats_no_more_either() {
    let log = on_a_group("stopped.classic", COOPERATIVE, handovers::stopped_and_back).await;
    assert!(log.contains("the group has put this process out"), "{log}");
}

#[tokio::test]
async fn a_stop_while_the_coordinator_is_away_says_how_many_are_counted_again() {
    let topic = "coordinator";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let proxied = [broker.at(Listener::Proxied)];
    // Counted, and not flushed before the broker is away. The group keeps the member until it has given up, and not for
    // long after that.
    let configuration = member(&proxied, topic, &intake, "acme").text("flush.interval", "4s");
    let configuration = with(configuration, &[("session.timeout.ms", "15000"), HEARTBEAT]);
    let mut forwarder = configuration.start().await;
    share_all(&[&forwarder], 1).await;
    // Behind a flush, so that there is time until the next one.
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;
    send(broker, topic, 1..7);
    support::eventually("600 are counted", async || {
        (forwarder.metrics().await.books().pending == 6 * BATCH).then_some(())
    })
    .await;
    broker.proxy.cut();
    intake.wait_for_sends(7 * BATCH).await;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(1));
    told(&forwarder, &["600", "counted again"]).await;

    broker.proxy.mend();
    let forwarder = configuration.start().await;
    intake.wait_for_sends(13 * BATCH).await;
    stop(forwarder).await;
    assert_eq!(broker.committed(topic, topic).values().sum::<i64>(), 700);
}
