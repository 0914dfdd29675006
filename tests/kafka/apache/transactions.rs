//! Topics that are written in transactions: what was aborted is not counted, and the markers that end a transaction
//! are neither events nor losses.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::broker::{Broker, Cluster, PATIENCE};
use super::load::{BATCH, batch};
use super::scene::{STATISTICS, assert_valid, lost, member, nothing_is_left, share_all, stop, with};
use super::support::braze::assert_each_once;
use super::support::intake::Intake;
use super::support::metrics::Books;

/// Marks of batches that are aborted begin here.
const ABORTED: u64 = 1_000_000;

/// Writes batches in transactions.
pub(super) struct Transactions {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: &'static str,
}

impl Transactions {
    pub(super) fn of(cluster: &Cluster, topic: &'static str) -> Self {
        let producer: ThreadedProducer<_> =
            cluster.client().set("transactional.id", topic).set("linger.ms", "5").create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        Self { producer, topic }
    }

    pub(super) fn commit(&self, mark: u64) {
        self.write(mark);
        self.producer.commit_transaction(PATIENCE).unwrap();
    }

    /// What is aborted has marks of its own, that nobody may ever see.
    pub(super) fn abort(&self, mark: u64) {
        self.write(ABORTED + mark);
        // It is in the log before it is aborted.
        self.producer.flush(PATIENCE).unwrap();
        self.producer.abort_transaction(PATIENCE).unwrap();
    }

    fn write(&self, mark: u64) {
        self.producer.begin_transaction().unwrap();
        for (key, event) in batch(mark) {
            let sent = self.producer.send(BaseRecord::to(self.topic).key(&key).payload(&event));
            sent.map_err(|(error, _)| error).unwrap();
        }
    }
}

#[tokio::test]
async fn transactions_over_many_partitions_are_counted_at_full_speed_and_their_markers_are_no_losses() {
    const PARTITIONS: i32 = 60;
    const TRANSACTIONS: u64 = 24;
    /// A flush each second; beside that the machine may be busy.
    const BEHIND_MAX: Duration = Duration::from_secs(8);
    let topic = "transactions";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, PARTITIONS).await;
    let forwarder = with(member(broker.addresses(), topic, &intake, "acme"), &[STATISTICS]).start().await;
    share_all(&[&forwarder], PARTITIONS).await;

    let transactions = Transactions::of(broker, topic);
    for mark in 0..TRANSACTIONS {
        transactions.commit(mark);
        transactions.abort(mark);
    }
    let written = Instant::now();
    intake.wait_for_sends(TRANSACTIONS * BATCH).await;
    assert!(written.elapsed() < BEHIND_MAX, "counted {:?} after they were written", written.elapsed());
    nothing_is_left(&forwarder).await;
    assert_eq!(lost(&forwarder).await, 0);
    forwarder.books_balance().await;
    stop(forwarder).await;
    assert_each_once(&intake.accepted(), TRANSACTIONS);
    assert_valid(&intake);
}

#[tokio::test]
async fn once_ends_where_a_topic_ends_with_a_marker() {
    const TRANSACTIONS: u64 = 4;
    let topic = "transactions.once";
    let (broker, intake) = (Broker::shared(), Intake::start());
    broker.create_topic(topic, 3).await;
    let transactions = Transactions::of(broker, topic);
    for mark in 0..TRANSACTIONS {
        transactions.commit(mark);
        transactions.abort(mark);
    }
    let configuration = member(broker.addresses(), topic, &intake, "acme");
    // What is there is counted, and the second time nothing is left.
    for received in [TRANSACTIONS * BATCH, 0] {
        let finished = configuration.run(&["run", "--once"]).await;
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        let last = finished.stdout.lines().last().unwrap();
        let books = Books::told(&serde_json::from_str(last).unwrap());
        assert_eq!((books.received, books.accepted), (received, received));
    }
    assert_each_once(&intake.accepted(), TRANSACTIONS);
    assert_valid(&intake);
}
