//! Topics that change while they are read.

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::broker::{Broker, PATIENCE, Tool};
use super::load::BATCH;
use super::scene::{
    STATISTICS, assert_valid, committed_all, lost, member, nothing_is_left, send, share_all, stop, told, with,
};
use super::support;
use super::support::braze::{assert_each_once, by_mark};
use super::support::intake::Intake;

/// How soon a forwarder sees what has changed.
const REFRESH: (&str, &str) = ("topic.metadata.refresh.interval.ms", "500");

#[tokio::test]
async fn a_topic_that_is_deleted_and_made_anew_is_read_from_its_beginning() {
    let topic = "anew";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    let forwarder =
        with(member(broker.addresses(), topic, &intake, "acme"), &[REFRESH, STATISTICS]).start().await;
    share_all(&[&forwarder], 2).await;
    let producer = send(broker, topic, 0..3);
    intake.wait_for_sends(3 * BATCH).await;
    committed_all(broker, &producer, topic).await;

    broker.delete_topic(topic).await;
    told(&forwarder, &["does not exist"]).await;
    broker.create_topic(topic, 2).await;
    let producer = send(broker, topic, 3..5);
    intake.wait_for_sends(5 * BATCH).await;
    committed_all(broker, &producer, topic).await;
    assert_eq!(forwarder.admin("/readyz").await.0, 200);
    assert_eq!(lost(&forwarder).await, 0);
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 5);
    assert_valid(&intake);
}

#[tokio::test]
async fn partitions_that_are_added_are_read_from_their_beginning() {
    let topic = "wider";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    let forwarder =
        with(member(broker.addresses(), topic, &intake, "acme"), &[REFRESH, STATISTICS]).start().await;
    share_all(&[&forwarder], 2).await;
    send(broker, topic, 0..1);
    intake.wait_for_sends(BATCH).await;

    broker.widen_topic(topic, 5).await;
    let producer = send(broker, topic, 1..2);
    assert_eq!(producer.ends(topic).len(), 5);
    intake.wait_for_sends(2 * BATCH).await;
    share_all(&[&forwarder], 5).await;
    nothing_is_left(&forwarder).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn offsets_that_are_set_back_are_counted_again_from_there() {
    let topic = "set.back";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 2).await;
    let producer = send(broker, topic, 0..4);
    let configuration = member(broker.addresses(), topic, &intake, "acme");
    let forwarder = configuration.start().await;
    intake.wait_for_sends(4 * BATCH).await;
    stop(forwarder).await;

    broker.admin(
        Tool::Groups,
        &["--group", topic, "--topic", topic, "--reset-offsets", "--to-earliest", "--execute"],
    );
    let forwarder = configuration.start().await;
    intake.wait_for_sends(8 * BATCH).await;
    committed_all(broker, &producer, topic).await;
    assert_eq!(lost(&forwarder).await, 0);
    stop(forwarder).await;
    assert!(by_mark(&intake.accepted()).values().all(|sends| *sends == 2 * BATCH));
}

#[tokio::test]
async fn a_run_that_ends_with_its_partitions_ends_though_the_group_has_committed_what_lies_beyond_them() {
    let topic = "beyond";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 1).await;
    let group: BaseConsumer = broker.client().set("group.id", topic).create().unwrap();
    let mut beyond = TopicPartitionList::new();
    beyond.add_partition_offset(topic, 0, Offset::Offset(1000)).unwrap();
    group.commit(&beyond, CommitMode::Sync).unwrap();
    drop(group);
    let mut forwarder = member(broker.addresses(), topic, &intake, "acme").spawn(&["run", "--once"]);
    assert_eq!(forwarder.wait().await.code(), Some(0), "{}", forwarder.log());
}

#[tokio::test]
async fn what_compaction_takes_is_no_loss() {
    let topic = "compacted";
    let (broker, intake) = (Broker::shared(), Intake::start());
    let compacted = NewTopic::new(topic, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "1")
        .set("min.cleanable.dirty.ratio", "0.001");
    broker.create(compacted).await;
    let producer = send(broker, topic, 0..1);
    let configuration = with(member(broker.addresses(), topic, &intake, "acme"), &[STATISTICS]);
    let forwarder = configuration.start().await;
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;

    // The keys of each batch are its own, so that only what is sent again is taken.
    for number in 0..50 {
        producer.send(topic, "again", format!("{{\"number\":{number}}}").as_bytes());
        producer.flush();
    }
    send(broker, topic, 1..2);
    // Opens another segment: the one that is written to is left alone.
    producer.send(topic, "last", b"{}");
    producer.flush();
    let compacted = async || (messages(broker, topic) < 250).then_some(());
    support::eventually("it is compacted", compacted).await;
    let forwarder = configuration.start().await;
    intake.wait_for_sends(2 * BATCH).await;
    nothing_is_left(&forwarder).await;
    assert_eq!(lost(&forwarder).await, 0);
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

/// How many messages there are in the first partition of a topic.
fn messages(broker: &Broker, topic: &str) -> usize {
    let (first, end) = broker.marks(topic, 0);
    let consumer: BaseConsumer = broker.client().set("group.id", "look").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Offset(first)).unwrap();
    consumer.assign(&from).unwrap();
    let mut messages = 0;
    loop {
        let message = consumer.poll(PATIENCE).unwrap().unwrap();
        messages += 1;
        if message.offset() + 1 == end {
            return messages;
        }
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_before_its_commit_holds_up_no_other_and_no_stop() {
    let (stays, goes) = ("stays", "goes");
    let (broker, intake) = (Broker::shared(), Intake::start());
    for topic in [stays, goes] {
        broker.create_topic(topic, 1).await;
    }
    let forwarder = member(broker.addresses(), stays, &intake, "acme")
        .set("queue.kafka.topics", &format!("[\"{stays}\", \"{goes}\"]"))
        .text("flush.interval", "5s")
        .start()
        .await;
    share_all(&[&forwarder], 2).await;
    let producer = send(broker, stays, 0..1);
    send(broker, goes, 1..2);
    support::eventually("both are counted", async || {
        let received = forwarder.metrics().await.sum("braze_datadog_events_received_total", &[]);
        (received == 2 * BATCH).then_some(())
    })
    .await;
    broker.delete_topic(goes).await;
    committed_all(broker, &producer, stays).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}
