//! The broker of the tests does what the tests of the Kafka queue rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::broker::{self, Broker, Compression};
use crate::support::fetched::{self, Fetched};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Message as _, Offset, TopicPartitionList};

const MESSAGES: u32 = 10_000;
const PARTITIONS: i32 = 6;
const TOPIC: &str = "braze.sends";
const GROUP: &str = "braze-datadog";

/// How long reading may take that takes a second.
const PATIENCE: Duration = Duration::from_mins(1);

fn member(broker: &Broker) -> BaseConsumer {
    broker
        .client()
        .set("group.id", GROUP)
        .set("session.timeout.ms", broker::SESSION_TIMEOUT_MS)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .create()
        .unwrap()
}

/// Reads until it has seen so many different values; the offset behind the last message, by partition.
fn read(consumer: &BaseConsumer, count: usize) -> BTreeMap<i32, i64> {
    let (mut values, mut ends) = (BTreeSet::new(), BTreeMap::new());
    let give_up = Instant::now() + PATIENCE;
    while values.len() < count {
        assert!(Instant::now() < give_up, "{} of {count} messages came", values.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.unwrap();
        assert!(values.insert(message.payload().unwrap().to_vec()), "a message came twice");
        ends.insert(message.partition(), message.offset() + 1);
    }
    ends
}

#[tokio::test]
async fn a_group_reads_what_was_sent_and_its_commits_are_kept_while_the_broker_is_frozen() {
    let broker = Broker::start();
    broker.create_topic(TOPIC, PARTITIONS).await;
    let producer = broker.producer(Compression::Lz4);
    for number in 0..MESSAGES {
        producer.send(TOPIC, &format!("user-{number}"), format!("value {number}").as_bytes());
    }
    producer.flush();
    let ends = producer.ends(TOPIC);
    assert_eq!(ends.len(), 6);
    assert_eq!(ends.values().sum::<i64>(), i64::from(MESSAGES));
    assert!(ends.values().all(|end| *end > 0), "the keys do not reach every partition: {ends:?}");

    assert_eq!(broker.committed(GROUP, TOPIC), BTreeMap::new());
    let consumer = member(&broker);
    consumer.subscribe(&[TOPIC]).unwrap();
    assert_eq!(read(&consumer, 10_000), ends);
    let mut offsets = TopicPartitionList::new();
    for (partition, end) in &ends {
        offsets.add_partition_offset(TOPIC, *partition, Offset::Offset(*end)).unwrap();
    }
    consumer.commit(&offsets, CommitMode::Sync).unwrap();
    // A list that outlives its consumer makes the consumer's end wait for it, for ever.
    drop(offsets);
    drop(consumer);
    assert_eq!(broker.committed(GROUP, TOPIC), ends);

    broker.freeze();
    std::thread::sleep(Duration::from_millis(500));
    broker.thaw();
    producer.send(TOPIC, "after", b"one more");
    producer.flush();
    assert_eq!(broker.committed(GROUP, TOPIC), ends);
    let next = member(&broker);
    next.subscribe(&[TOPIC]).unwrap();
    assert_eq!(read(&next, 1).len(), 1, "the next member goes on behind what was committed");
}

#[tokio::test]
async fn a_broker_that_was_restarted_empty_has_forgotten_everything_but_its_address() {
    let mut broker = Broker::start();
    broker.create_topic(TOPIC, 1).await;
    let address = broker.address();
    broker.restart_empty();
    assert_eq!(broker.address(), address);
    assert_eq!(broker.partitions(TOPIC), Vec::<i32>::new());
}

#[test]
fn zstd_batches_arrive_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let broker = Broker::start();
    runtime.block_on(broker.create_topic(TOPIC, 1));
    let producer = broker.producer(Compression::Zstd);
    // More than the megabyte that a batch is asked to stay below.
    let large = vec![b'x'; 2_000_000];
    producer.send(TOPIC, "large", &large);
    producer.send(TOPIC, "small", b"small");
    producer.flush();
    let consumer = member(&broker);
    consumer.subscribe(&[TOPIC]).unwrap();
    assert_eq!(read(&consumer, 2), BTreeMap::from([(0, 2)]));
}

#[test]
fn a_registry_that_fails_is_asked_once_and_each_test_says_why() {
    static FETCHED: Fetched<u32> = Fetched::new();
    static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
    let ask = || {
        FETCHED.get(|| {
            let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
            panic!("attempt {attempt}: the registry is away")
        })
    };
    let tests: Vec<_> = (0..5).map(|_| std::thread::spawn(ask)).collect();
    for test in tests {
        let words = test.join().unwrap_err();
        assert_eq!(*words.downcast::<String>().unwrap(), "attempt 0: the registry is away");
    }
}

#[test]
fn who_asks_a_registry_that_does_not_answer_is_ended() {
    let ended = fetched::client_within(Duration::from_secs(1), "sleep").arg("infinity").output().unwrap();
    assert_eq!(ended.status.code(), Some(124));
}
