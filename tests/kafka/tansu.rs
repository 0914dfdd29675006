//! Kafka, with the real binary on a real broker: every message is counted once while forwarders come, go and
//! are replaced; a crash repeats at most the flushes under way; a broker or a schema registry that is away
//! costs time and nothing else.
//!
//! The broker keeps its log in memory, so that a broker that is away and comes back is a frozen one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::{self, Broker, Compression, Producer};
use crate::handovers::{self, Group};
use crate::load::{BATCH, Load, avro, avro_schema, send_batch};
use crate::members::{self, assert_valid, lost, ready, stop, told, with};
use crate::proxy::Proxy;
use crate::registry::{Behaviour, ScriptedRegistry};
use crate::support;
use crate::support::braze::assert_each_once;
use crate::support::forwarder::Configuration;
use crate::support::intake::{Behaviour as IntakeBehaviour, Intake};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "braze.sends";
const GROUP: &str = "braze-datadog";
const PARTITIONS: i32 = 6;

/// A forwarder of the group, with connection and key of this name.
fn member(broker: &Broker, intake: &Intake, name: &str) -> Configuration {
    member_at(&broker.address(), intake, name)
}

fn member_at(broker: &str, intake: &Intake, name: &str) -> Configuration {
    let configuration = members::member(&[broker.to_owned()], TOPIC, intake, name);
    let configuration = configuration.text("queue.kafka.group_id", GROUP);
    with(configuration, &[("session.timeout.ms", broker::SESSION_TIMEOUT_MS)])
}

async fn committed_all(broker: &Broker, producer: &Producer, topic: &str) {
    members::committed_all(|| broker.committed(GROUP, topic), producer, topic).await;
}

/// A broker with the topic, and an intake.
async fn start() -> (Broker, Intake) {
    let broker = Broker::start();
    broker.create_topic(TOPIC, PARTITIONS).await;
    (broker, Intake::start())
}

/// What becomes of the group on a broker of its own, whose members have these options beside theirs.
async fn on_a_group<T>(options: &[(&str, &str)], happening: impl AsyncFnOnce(Group<'_>) -> T) -> T {
    let (broker, intake) = start().await;
    happening(Group {
        topic: TOPIC,
        partitions: PARTITIONS,
        producer: broker.producer(Compression::Lz4),
        intake: &intake,
        member: &|name| with(member(&broker, &intake, name), options),
        committed: &|| broker.committed(GROUP, TOPIC),
    })
    .await
}

/// librdkafka's own broker, which does as it is told, with the topic; a producer for it, and an intake.
fn start_mock() -> (MockCluster<'static, DefaultProducerContext>, Producer, Intake) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", cluster.bootstrap_servers());
    (cluster, Producer::new(client, Compression::Lz4), Intake::start())
}

#[tokio::test]
async fn a_stop_commits_everything_that_was_counted_and_the_next_run_counts_none_of_it_again() {
    const BATCHES: u64 = 300;
    let (broker, intake) = start().await;
    let producer = broker.producer(Compression::Lz4);
    (0..BATCHES).for_each(|mark| send_batch(&producer, TOPIC, mark));
    producer.flush();

    let configuration = member(&broker, &intake, "acme");
    let forwarder = configuration.start().await;
    intake.wait_for_sends(BATCHES * BATCH).await;
    stop(forwarder).await;
    assert_eq!(broker.committed(GROUP, TOPIC), producer.ends(TOPIC));
    assert_each_once(&intake.accepted(), BATCHES);

    let next = configuration.start().await;
    send_batch(&producer, TOPIC, BATCHES);
    producer.flush();
    intake.wait_for_sends((BATCHES + 1) * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    let books = next.books_balance().await;
    assert_eq!((books.received, books.duplicate, books.malformed), (BATCH, 0, 0));
    stop(next).await;
    assert_each_once(&intake.accepted(), BATCHES + 1);
    assert_valid(&intake);
}

#[tokio::test]
async fn clean_handovers_count_everything_once_with_the_eager_assignor() {
    on_a_group(&[("partition.assignment.strategy", "range")], handovers::clean).await;
}

#[tokio::test]
async fn clean_handovers_count_everything_once_with_the_cooperative_assignor() {
    on_a_group(&[("partition.assignment.strategy", "cooperative-sticky")], handovers::clean).await;
}

#[tokio::test]
async fn kill_9_of_one_of_three_loses_nothing_and_repeats_at_most_its_flushes_under_way() {
    on_a_group(&[], handovers::kill_9).await;
}

#[tokio::test]
async fn a_member_that_was_cut_off_repeats_at_most_what_it_had_not_committed_and_comes_back() {
    let log = on_a_group(&[], handovers::stopped_and_back).await;
    assert!(log.contains("the group has put this process out"), "{log}");
}

#[tokio::test]
async fn messages_that_the_broker_threw_away_unread_are_told_with_their_number() {
    // The broker keeps 5 MiB of a partition.
    let (cluster, producer, intake) = start_mock();
    send_batch(&producer, TOPIC, 0);
    producer.flush();
    let configuration = member_at(&cluster.bootstrap_servers(), &intake, "acme");
    let forwarder = configuration.start().await;
    intake.wait_for_sends(BATCH).await;
    stop(forwarder).await;

    let mut state = 1u64;
    for _ in 0..20 {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            // George Marsaglia's xorshift: what it makes can't be compressed.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[7]
        })
        .take(1_000_000)
        .collect();
        producer.send(TOPIC, "noise", &noise);
        producer.flush();
    }
    send_batch(&producer, TOPIC, 1);
    producer.flush();
    let forwarder = configuration.start().await;
    intake.wait_for_sends(2 * BATCH).await;
    // It is told with the client's next statistics.
    let counted = async || Some(lost(&forwarder).await).filter(|lost| *lost > 0);
    let lost = support::eventually("what is lost is told", counted).await;
    let books = forwarder.books_balance().await;
    assert_eq!(lost + books.malformed, 20, "{lost} and {books:?}");
    told(&forwarder, &["messages are lost"]).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
}

#[tokio::test]
async fn commits_that_are_refused_are_told_and_stop_the_counting_until_one_is_taken() {
    let (cluster, producer, intake) = start_mock();
    let forwarder = member_at(&cluster.bootstrap_servers(), &intake, "acme").start().await;
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1000];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    send_batch(&producer, TOPIC, 0);
    producer.flush();
    intake.wait_for_requests(1).await;
    let said = ready(&forwarder, 503).await;
    assert!(said.contains("queue.kafka.group_id"), "{said}");
    told(&forwarder, &["commits are refused"]).await;
    // All of the batch, unless it was cut in two.
    let sent = intake.sends();
    let error = forwarder.log();
    let error = error.lines().find(|line| line.contains("commits are refused")).unwrap();
    assert!(error.contains("ERROR") && error.contains(&format!("\"messages\":{sent},")), "{error}");

    (1..4).for_each(|mark| send_batch(&producer, TOPIC, mark));
    producer.flush();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(intake.sends(), sent, "what can't be committed is not sent");
    cluster.clear_request_errors(RDKafkaApiKey::OffsetCommit);
    intake.wait_for_sends(4 * BATCH).await;
    ready(&forwarder, 200).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 4);
    assert_valid(&intake);
}

#[tokio::test]
async fn a_stop_that_can_not_commit_says_how_many_messages_are_counted_again() {
    let (cluster, producer, intake) = start_mock();
    let forwarder = member_at(&cluster.bootstrap_servers(), &intake, "acme").start().await;
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 1000];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    (0..3).for_each(|mark| send_batch(&producer, TOPIC, mark));
    producer.flush();
    intake.wait_for_sends(3 * BATCH).await;
    let mut forwarder = forwarder;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(1), "{}", forwarder.log());
    let log = forwarder.log();
    let error = log.lines().find(|line| line.contains("the last commit has failed")).unwrap();
    assert!(error.contains("ERROR") && error.contains("\"messages\":300"), "{error}");
}

#[tokio::test]
async fn a_stop_while_partitions_are_given_up_and_nothing_can_be_committed_says_what_is_counted_again() {
    let (broker, intake) = start().await;
    let eager = [("partition.assignment.strategy", "range")];
    let configuration = with(member(&broker, &intake, "acme"), &eager).text("flush.interval", "60s");
    let mut forwarder = configuration.start().await;
    members::share_all(&[&forwarder], PARTITIONS).await;
    let producer = broker.producer(Compression::Lz4);
    (0..3).for_each(|mark| send_batch(&producer, TOPIC, mark));
    producer.flush();
    support::eventually("all are counted", async || {
        (forwarder.metrics().await.books().pending == 3 * BATCH).then_some(())
    })
    .await;
    // Another one joins, what is counted is flushed before partitions are given up, and then the broker is away.
    intake.always(IntakeBehaviour::Slow(Duration::from_secs(3)));
    let other = with(member(&broker, &intake, "beta"), &eager).spawn(&["run"]);
    intake.wait_for_requests(1).await;
    broker.freeze();
    intake.wait_for_sends(3 * BATCH).await;
    drop(other);
    tokio::time::sleep(Duration::from_millis(500)).await;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(1), "{}", forwarder.log());
    assert!(forwarder.stderr().contains("300 messages that were counted are counted again"));
    broker.thaw();
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_told_and_waited_for() {
    let (broker, intake) = start().await;
    let short = [("socket.timeout.ms", "2000"), ("api.version.request.timeout.ms", "2000")];
    let forwarder = with(member(&broker, &intake, "acme"), &short).start().await;
    let load = Load::start(broker.producer(Compression::Lz4), TOPIC);
    support::eventually("events flow", async || (intake.sends() > 1_000).then_some(())).await;

    broker.freeze();
    ready(&forwarder, 503).await;
    assert_eq!(forwarder.admin("/livez").await.0, 200);
    broker.thaw();
    ready(&forwarder, 200).await;
    load.more(50).await;
    let (batches, producer) = load.finish();
    intake.wait_for_sends(batches * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), batches);
    assert_valid(&intake);
}

#[tokio::test]
async fn a_broker_that_is_restarted_is_found_again_and_nothing_is_lost_or_repeated() {
    let (listener, address) = Proxy::reserve();
    let (broker, intake) = (Broker::start_advertising(Some(address)), Intake::start());
    let proxy = Proxy::open(listener, broker.socket());
    broker.create_topic(TOPIC, PARTITIONS).await;
    let forwarder = member(&broker, &intake, "acme").start().await;
    let load = Load::start(broker.producer(Compression::Lz4), TOPIC);
    support::eventually("events flow", async || (intake.sends() > 1_000).then_some(())).await;
    let (sent, producer) = load.finish();
    intake.wait_for_sends(sent * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;

    proxy.cut();
    ready(&forwarder, 503).await;
    proxy.mend();
    assert_eq!(proxy.address(), address);
    ready(&forwarder, 200).await;
    (sent..sent + 20).for_each(|mark| send_batch(&producer, TOPIC, mark));
    producer.flush();
    intake.wait_for_sends((sent + 20) * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), sent + 20);
    assert_valid(&intake);
}

#[tokio::test]
async fn a_new_topic_that_the_pattern_matches_is_read_from_its_beginning_and_no_other_is() {
    let (broker, intake) = (Broker::start(), Intake::start());
    broker.create_topic("braze.email", 2).await;
    broker.create_topic("other.email", 1).await;
    let configuration = member(&broker, &intake, "acme").set("queue.kafka.topics", r"['^braze\..*']");
    let forwarder = with(configuration, &[("topic.metadata.refresh.interval.ms", "500")]).start().await;
    let producer = broker.producer(Compression::Zstd);
    send_batch(&producer, "braze.email", 0);
    send_batch(&producer, "other.email", 7);
    producer.flush();
    intake.wait_for_sends(BATCH).await;

    broker.create_topic("braze.sms", 3).await;
    send_batch(&producer, "braze.sms", 1);
    producer.flush();
    intake.wait_for_sends(2 * BATCH).await;
    committed_all(&broker, &producer, "braze.sms").await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 2);
    assert_eq!(broker.committed(GROUP, "other.email"), BTreeMap::new());
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_booked_as_malformed_and_passed() {
    let (broker, intake, registry) = (Broker::start(), Intake::start(), ScriptedRegistry::start());
    broker.create_topic(TOPIC, 1).await;
    let configuration = member(&broker, &intake, "acme").text("queue.kafka.schema_registry", &registry.url());
    let forwarder = configuration.start().await;
    let producer = broker.producer(Compression::Lz4);
    let large = vec![b'x'; 2_000_000];
    let unknown_schema = [0, 0, 0, 0, 99, 2, b'x'];
    let poison: [&[u8]; 5] = [b"not json", b"\xff\xfe\x00", b"{\"event_type\":", &large, &unknown_schema];
    for (mark, value) in (0..).zip(poison) {
        send_batch(&producer, TOPIC, mark);
        producer.send(TOPIC, "poison", value);
    }
    send_batch(&producer, TOPIC, 5);
    producer.flush();
    intake.wait_for_sends(6 * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    let books = forwarder.books_balance().await;
    assert_eq!((books.malformed, books.counted), (5, 6 * BATCH), "{books:?}");

    // Neither an empty value nor none stops anything.
    producer.send(TOPIC, "empty", b"");
    producer.send_message(broker::producer::Message {
        topic: TOPIC,
        partition: None,
        key: "none",
        value: None,
        header: None,
    });
    send_batch(&producer, TOPIC, 6);
    producer.flush();
    intake.wait_for_sends(7 * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    assert_eq!(forwarder.admin("/readyz").await.0, 200);
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), 7);
}

#[tokio::test]
async fn while_the_schema_registry_fails_avro_messages_wait_and_none_is_malformed() {
    const BATCHES: u64 = 20;
    let (broker, intake, registry) = (Broker::start(), Intake::start(), ScriptedRegistry::start());
    registry.register(7, &avro_schema());
    registry.always(Behaviour::Status(500, String::new()));
    broker.create_topic(TOPIC, 2).await;
    let producer = broker.producer(Compression::Lz4);
    for (mark, number) in (0..BATCHES).flat_map(|mark| (0..BATCH).map(move |number| (mark, number))) {
        producer.send(TOPIC, &format!("user-{number}"), &avro(7, mark, number));
    }
    producer.flush();
    let configuration = member(&broker, &intake, "acme").text("queue.kafka.schema_registry", &registry.url());
    let forwarder = configuration.spawn(&["run"]);
    let asked = async || (registry.asked().len() >= 4).then_some(());
    support::eventually("the registry is asked again and again", asked).await;
    let (status, text) = forwarder.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("registry"), "{text}");
    let books = forwarder.metrics().await.books();
    assert_eq!((books.counted, books.malformed), (0, 0));
    assert_eq!(broker.committed(GROUP, TOPIC), BTreeMap::new());

    registry.always(Behaviour::Answer);
    intake.wait_for_sends(BATCHES * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    let books = forwarder.books_balance().await;
    assert_eq!((books.received, books.malformed), (BATCHES * BATCH, 0));
    assert_eq!(forwarder.admin("/readyz").await.0, 200);
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), BATCHES);
}

#[tokio::test]
async fn a_member_whose_schema_registry_is_away_gives_partitions_to_one_that_joins() {
    const BATCHES: u64 = 16;
    let (broker, intake) = start().await;
    let [away, there] = [ScriptedRegistry::start(), ScriptedRegistry::start()];
    for registry in [&away, &there] {
        registry.register(7, &avro_schema());
    }
    away.always(Behaviour::Status(500, String::new()));
    let with_registry = |name: &str, registry: &ScriptedRegistry| {
        member(&broker, &intake, name).text("queue.kafka.schema_registry", &registry.url())
    };
    let waiting = with_registry("acme", &away).spawn(&["run"]);
    let producer = broker.producer(Compression::Lz4);
    for mark in 0..BATCHES {
        for number in 0..BATCH {
            producer.send(TOPIC, &format!("user-{number}"), &avro(7, mark, number));
        }
        producer.flush();
        // Each is a delivery of its own, so that there is no room for all.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    support::eventually("the first one has no room", async || {
        (waiting.metrics().await.sum("braze_datadog_kafka_paused", &[]) == 1).then_some(())
    })
    .await;
    // What nobody fetches is seen all the same. (This broker says where its last batch begins, not where it ends.)
    let unread = async || waiting.metrics().await.sum("braze_datadog_queue_waiting", &[]);
    let before = unread().await;
    for mark in BATCHES..BATCHES + 2 {
        for number in 0..BATCH {
            producer.send(TOPIC, &format!("user-{number}"), &avro(7, mark, number));
        }
        producer.flush();
    }
    support::eventually("what comes is seen", async || (unread().await > before).then_some(())).await;
    let joined = with_registry("beta", &there).start().await;
    let mut waited = 0;
    while intake.sends() == 0 {
        assert!(waited < 90, "it has waited for {waited} s\n{}", waiting.log());
        tokio::time::sleep(Duration::from_secs(1)).await;
        waited += 1;
    }
    assert!(joined.metrics().await.sum("braze_datadog_kafka_partitions", &[]) > 0);
    away.always(Behaviour::Answer);
    intake.wait_for_sends((BATCHES + 2) * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    // What was paused when it was given up is read when it comes back.
    stop(joined).await;
    members::share_all(&[&waiting], PARTITIONS).await;
    for number in 0..BATCH {
        producer.send(TOPIC, &format!("user-{number}"), &avro(7, BATCHES + 2, number));
    }
    producer.flush();
    intake.wait_for_sends((BATCHES + 3) * BATCH).await;
    committed_all(&broker, &producer, TOPIC).await;
    stop(waiting).await;
    assert_each_once(&intake.accepted(), BATCHES + 3);
}

#[tokio::test]
async fn a_run_that_gets_no_partition_ends_and_says_why() {
    let (broker, intake) = (Broker::start(), Intake::start());
    broker.create_topic(TOPIC, 1).await;
    let forwarder = member(&broker, &intake, "acme").start().await;
    members::share_all(&[&forwarder], 1).await;
    let mut other = member(&broker, &intake, "beta").spawn(&["run", "--once"]);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = other.ended() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_mins(2), "{}", other.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(status.code(), Some(1), "{}", other.log());
    assert!(other.stderr().contains("has given this process no partition within 60s"), "{}", other.log());
    stop(forwarder).await;
}
