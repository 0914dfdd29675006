//! Kafka with the real binary on librdkafka's own broker, which does as it is told: troubles that a real one has seldom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::broker::{Compression, Producer};
use crate::load::{BATCH, send_batch};
use crate::members::{errors, member, ready, stop, told, with};
use crate::support::braze::assert_each_once;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use rdkafka::ClientConfig;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "braze.sends";

/// A cluster of so many brokers with the topic, which the first of them leads; a producer for it, and an intake.
fn start(brokers: i32) -> (MockCluster<'static, DefaultProducerContext>, Producer, Intake) {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    cluster.partition_leader(TOPIC, 0, Some(1)).unwrap();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", cluster.bootstrap_servers());
    (cluster, Producer::new(client, Compression::Lz4), Intake::start())
}

/// A forwarder that hears soon what becomes of the cluster.
fn on(cluster: &MockCluster<'static, DefaultProducerContext>, intake: &Intake) -> Configuration {
    let brokers: Vec<String> = cluster.bootstrap_servers().split(',').map(str::to_owned).collect();
    let options = [("session.timeout.ms", "6000"), ("statistics.interval.ms", "200")];
    with(member(&brokers, TOPIC, intake, "acme"), &options)
}

fn send(producer: &Producer, topic: &str, mark: u64) {
    send_batch(producer, topic, mark);
    producer.flush();
}

/// For this long `/readyz` says that it is not ready, for what has these words.
async fn stays_unready(forwarder: &Forwarder, lasts: Duration, words: &str) {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        let (status, said) = forwarder.admin("/readyz").await;
        assert!(status == 503 && said.contains(words), "{status} {said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The topic "later" is told as absent, and stays so while a second batch comes through the other one.
async fn later_is_missed(forwarder: &Forwarder, producer: &Producer, intake: &Intake, lasts: Duration) {
    told(forwarder, &["does not exist", "later"]).await;
    send(producer, TOPIC, 1);
    intake.wait_for_sends(2 * BATCH).await;
    stays_unready(forwarder, lasts, ": later").await;
}

#[tokio::test]
async fn a_group_without_a_coordinator_is_told_and_joined_as_soon_as_there_is_one() {
    let (cluster, producer, intake) = start(1);
    let away = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE; 10_000];
    cluster.request_errors(RDKafkaApiKey::FindCoordinator, &away);
    send(&producer, TOPIC, 0);
    let forwarder = on(&cluster, &intake).spawn(&["run"]);
    told(&forwarder, &["coordinator of queue.kafka.group_id can't be had"]).await;
    assert!(ready(&forwarder, 503).await.contains("__consumer_offsets"));
    cluster.clear_request_errors(RDKafkaApiKey::FindCoordinator);
    intake.wait_for_sends(BATCH).await;
    ready(&forwarder, 200).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 1);
}

#[tokio::test]
async fn what_waits_for_a_commit_to_be_taken_is_not_sent_for_one_that_is_refused_in_another_way() {
    let (cluster, producer, intake) = start(1);
    let forwarder = on(&cluster, &intake).text("log.level", "debug").start().await;
    // The coordinator stays, and its heartbeats with it.
    let broken = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 10_000];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &broken);
    send(&producer, TOPIC, 0);
    told(&forwarder, &["commits are refused", "no commit was taken for 30 s"]).await;
    assert_eq!(intake.sends(), BATCH);
    send(&producer, TOPIC, 1);

    // Another member joins, and nothing is mended.
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    let rebalance = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[&rebalance[..], &broken].concat());
    forwarder.says("RebalanceInProgress").await;
    stays_unready(&forwarder, Duration::from_secs(4), "has taken no commit").await;
    assert_eq!(intake.sends(), BATCH, "what can't be committed is not sent");

    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    intake.wait_for_sends(2 * BATCH).await;
    forwarder.says("commits are taken again").await;
    ready(&forwarder, 200).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn a_coordinator_that_goes_away_is_told_though_all_is_committed_and_the_topic_is_there() {
    let (cluster, producer, intake) = start(2);
    cluster.coordinator(MockCoordinator::Group(TOPIC.to_owned()), 2).unwrap();
    let forwarder = on(&cluster, &intake).start().await;
    send(&producer, TOPIC, 0);
    intake.wait_for_sends(BATCH).await;
    cluster.broker_down(2).unwrap();
    told(&forwarder, &["coordinator of queue.kafka.group_id can't be had"]).await;
    // The group has put it out meanwhile, so that it has nothing to read, and nothing to commit.
    stays_unready(&forwarder, Duration::from_secs(3), "coordinator").await;
    cluster.broker_up(2).unwrap();
    send(&producer, TOPIC, 1);
    intake.wait_for_sends(2 * BATCH).await;
    ready(&forwarder, 200).await;
    stop(forwarder).await;
}

#[tokio::test]
async fn one_topic_of_several_that_is_absent_is_told_until_it_is_there_and_the_others_are_read() {
    let (cluster, producer, intake) = start(1);
    let topics = format!("[\"{TOPIC}\", \"later\", \"^fits-nothing-.*\"]");
    let configuration = on(&cluster, &intake).set("queue.kafka.topics", &topics);
    send(&producer, TOPIC, 0);
    let once = configuration.run(&["run", "--once"]).await;
    let said = once.stderr;
    assert_eq!(once.status.code(), Some(1), "{said}");
    assert!(said.contains("not all of queue.kafka.topics was read") && said.contains(": later"), "{said}");
    assert_eq!(intake.sends(), BATCH, "what is there is counted all the same");

    let forwarder = configuration.spawn(&["run"]);
    later_is_missed(&forwarder, &producer, &intake, Duration::from_secs(5)).await;
    cluster.create_topic("later", 1, 1).unwrap();
    send(&producer, "later", 2);
    intake.wait_for_sends(3 * BATCH).await;
    ready(&forwarder, 200).await;
    assert_eq!(errors(&forwarder.log()).filter(|line| line.contains("does not exist")).count(), 2);
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 3);
}

#[tokio::test]
async fn a_member_that_the_group_gives_nothing_is_ready_though_its_pattern_has_fitted_nothing() {
    let (cluster, _producer, intake) = start(1);
    let refresh = [("topic.metadata.refresh.interval.ms", "500")];
    let spawn =
        || with(on(&cluster, &intake), &refresh).set("queue.kafka.topics", "[\"^later.*\"]").spawn(&["run"]);
    let members = [spawn(), spawn()];
    for member in &members {
        told(member, &["does not exist"]).await;
        ready(member, 503).await;
    }
    cluster.create_topic("later", 1, 1).unwrap();
    for member in &members {
        ready(member, 200).await;
    }
    for member in members {
        stop(member).await;
    }
}

#[tokio::test]
async fn where_the_broker_assigns_the_partitions_an_absent_topic_is_told_too() {
    let (cluster, producer, intake) = start(1);
    let topics = format!("[\"{TOPIC}\", \"later\"]");
    let configuration = member(&[cluster.bootstrap_servers()], TOPIC, &intake, "acme");
    let options = [("group.protocol", "consumer"), ("statistics.interval.ms", "200")];
    let configuration = with(configuration, &options).set("queue.kafka.topics", &topics);
    send(&producer, TOPIC, 0);
    let once = configuration.run(&["run", "--once"]).await;
    assert_eq!(once.status.code(), Some(1), "{}", once.stderr);
    assert!(once.stderr.contains("not all of queue.kafka.topics was read"), "{}", once.stderr);
    assert_eq!(intake.sends(), BATCH);

    let forwarder = configuration.spawn(&["run"]);
    later_is_missed(&forwarder, &producer, &intake, Duration::from_secs(3)).await;
    cluster.create_topic("later", 1, 1).unwrap();
    ready(&forwarder, 200).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn messages_that_can_not_be_read_are_told_and_end_a_run_that_ends_with_the_topic() {
    let (cluster, producer, intake) = start(1);
    let configuration = on(&cluster, &intake);
    let forwarder = configuration.start().await;
    send(&producer, TOPIC, 0);
    intake.wait_for_sends(BATCH).await;
    // As a broker answers to whom it can't give a damaged batch.
    let damaged = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_MSG; 100_000];
    cluster.request_errors(RDKafkaApiKey::Fetch, &damaged);
    send(&producer, TOPIC, 1);
    told(&forwarder, &["stands still", "Invalid message"]).await;
    stays_unready(&forwarder, Duration::from_secs(2), "stands still").await;
    let once = configuration.text("queue.kafka.group_id", "once").run(&["run", "--once"]).await;
    assert_eq!(once.status.code(), Some(1), "{}", once.stderr);
    assert!(once.stderr.contains("not all of queue.kafka.topics was read"), "{}", once.stderr);
    cluster.clear_request_errors(RDKafkaApiKey::Fetch);
    intake.wait_for_sends(2 * BATCH).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn partitions_without_a_leader_are_told_by_name_until_there_is_one() {
    let (cluster, producer, intake) = start(2);
    cluster.coordinator(MockCoordinator::Group(TOPIC.to_owned()), 1).unwrap();
    cluster.create_topic("led.elsewhere", 1, 1).unwrap();
    cluster.partition_leader("led.elsewhere", 0, Some(2)).unwrap();
    let topics = format!("[\"{TOPIC}\", \"led.elsewhere\"]");
    let forwarder = on(&cluster, &intake).set("queue.kafka.topics", &topics).start().await;
    send(&producer, TOPIC, 0);
    send(&producer, "led.elsewhere", 1);
    intake.wait_for_sends(2 * BATCH).await;
    cluster.broker_down(2).unwrap();
    told(&forwarder, &["no leader that can be reached", "led.elsewhere [0]"]).await;
    send(&producer, TOPIC, 2);
    intake.wait_for_sends(3 * BATCH).await;
    stays_unready(&forwarder, Duration::from_secs(2), "led.elsewhere [0]").await;
    cluster.broker_up(2).unwrap();
    send(&producer, "led.elsewhere", 3);
    intake.wait_for_sends(4 * BATCH).await;
    ready(&forwarder, 200).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 4);
}

#[tokio::test]
async fn a_run_that_ends_with_the_topic_ends_though_more_comes_all_the_time() {
    let (cluster, producer, intake) = start(1);
    send(&producer, TOPIC, 0);
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let sender = std::thread::spawn(move || {
        for mark in 1.. {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            send(&producer, TOPIC, mark);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let once = on(&cluster, &intake).run(&["run", "--once"]).await;
    is_over.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    assert_eq!(once.status.code(), Some(0), "{}", once.stderr);
    assert!(intake.sends() >= BATCH);
    let books: serde_json::Value = serde_json::from_str(once.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(books["received"].as_u64(), Some(intake.sends()), "{books}");
}
