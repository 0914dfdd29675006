//! What every test here does: forwarders of a group, and a look at what became of it.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use super::broker::{Cluster, Producer};
use super::load::{BATCH, send_batch};
use super::support;
use super::support::braze::by_mark;
use super::support::forwarder::{Configuration, Forwarder, quote};
use super::support::intake::{Intake, Request};

/// The session time-out for the members of a classic group.
pub(crate) const SESSION: (&str, &str) = ("session.timeout.ms", "6000");

/// How soon members of a classic group hear that it is rearranged.
pub(crate) const HEARTBEAT: (&str, &str) = ("heartbeat.interval.ms", "500");

/// How soon a forwarder knows how much there is to read.
pub(crate) const STATISTICS: (&str, &str) = ("statistics.interval.ms", "200");

/// A forwarder with connection and key of this name, that reads a topic; the group has the topic's name.
pub(crate) fn member(brokers: &[String], topic: &str, intake: &Intake, name: &str) -> Configuration {
    let brokers: Vec<String> = brokers.iter().map(|broker| quote(broker)).collect();
    let configuration = Configuration::new().without("queue.embedded.directory").without("push.listen");
    configuration
        .text("queue.kind", "kafka")
        .set("queue.kafka.brokers", &format!("[{}]", brokers.join(",")))
        .set("queue.kafka.topics", &format!("[{}]", quote(topic)))
        .text("queue.kafka.group_id", topic)
        .connection(name, &intake.url(), name, &[])
}

/// Options of librdkafka's.
pub(crate) fn with(configuration: Configuration, options: &[(&str, &str)]) -> Configuration {
    options.iter().fold(configuration, |configuration, (name, value)| {
        configuration.text(&format!("queue.kafka.options.{}", quote(name)), value)
    })
}

/// Sends batches with these marks; the broker has them.
pub(crate) fn send(cluster: &Cluster, topic: &str, marks: Range<u64>) -> Producer {
    let producer = cluster.producer();
    marks.for_each(|mark| send_batch(&producer, topic, mark));
    producer.flush();
    producer
}

/// Waits until these share all partitions among themselves, each with one at least.
pub(crate) async fn share_all(forwarders: &[&Forwarder], partitions: i32) {
    support::eventually("the forwarders share the partitions", async || {
        let mut sum = 0;
        for forwarder in forwarders {
            let own = forwarder.metrics().await.sum("braze_datadog_kafka_partitions", &[]);
            if own == 0 {
                return None;
            }
            sum += own;
        }
        (sum == u64::from(partitions.unsigned_abs())).then_some(())
    })
    .await;
}

/// Waits until the group of a topic has committed everything that was sent.
pub(crate) async fn committed_all(cluster: &Cluster, producer: &Producer, topic: &str) {
    let ends = producer.ends(topic);
    let give_up = Instant::now() + support::PATIENCE;
    loop {
        let committed = cluster.committed(topic, topic);
        if committed == ends {
            return;
        }
        assert!(Instant::now() < give_up, "committed {committed:?}, and sent {ends:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until nothing is left to read, by the forwarder's own account; see [`STATISTICS`].
pub(crate) async fn nothing_is_left(forwarder: &Forwarder) {
    /// Before it knows what is there, it says so too.
    const FOR: Duration = Duration::from_secs(2);
    let mut since = None;
    support::eventually("nothing is left to read", async || {
        let metrics = forwarder.metrics().await;
        let left = ["kafka_consumer_lag", "queue_depth"];
        let is_nothing = left.iter().all(|name| metrics.sum(&format!("braze_datadog_{name}"), &[]) == 0);
        since = is_nothing.then(|| since.unwrap_or_else(Instant::now));
        since.filter(|since| since.elapsed() >= FOR).map(drop)
    })
    .await;
}

/// Messages that the forwarder has told as lost.
pub(crate) async fn lost(forwarder: &Forwarder) -> u64 {
    forwarder.metrics().await.sum("braze_datadog_kafka_messages_lost_total", &[])
}

/// Does all of it at the same time.
pub(crate) async fn all_at_once(all: impl Iterator<Item = impl Future<Output = ()> + 'static>) {
    let mut under_way = JoinSet::new();
    let done = async {
        all.for_each(|one| drop(under_way.spawn_local(one)));
        while let Some(ended) = under_way.join_next().await {
            ended.unwrap();
        }
    };
    LocalSet::new().run_until(done).await;
}

pub(crate) async fn stop(forwarder: Forwarder) {
    assert_eq!(forwarder.stop().await.code(), Some(0));
}

/// Waits until `/readyz` has this status; what it says.
pub(crate) async fn ready(forwarder: &Forwarder, status: u16) -> String {
    let client = support::client(None);
    let url = forwarder.admin_url("/readyz");
    support::eventually(&format!("/readyz says {status}"), async || {
        let answer = client.get(&url).send().await.ok()?;
        if answer.status().as_u16() == status { answer.text().await.ok() } else { None }
    })
    .await
}

/// Waits until each of these is a part of one line that is logged at ERROR.
pub(crate) async fn told(forwarder: &Forwarder, words: &[&str]) {
    let is_told = |log: &str| errors(log).any(|line| words.iter().all(|word| line.contains(word)));
    support::eventually(&format!("an ERROR with {words:?}"), async || {
        is_told(&forwarder.log()).then_some(())
    })
    .await;
}

/// The lines that are logged at ERROR.
pub(crate) fn errors(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains(r#""level":"ERROR""#))
}

/// Waits until each batch is counted, whole or in part.
pub(crate) async fn counted_all(intake: &Intake, batches: u64) {
    let all = async || (by_mark(&intake.accepted()).len() as u64 == batches).then_some(());
    support::eventually("every batch is counted", all).await;
}

/// Each batch is counted, and what of it is counted twice was in the requests that may have been repeated.
pub(crate) fn assert_repeated_at_most(intake: &Intake, may_be_repeated: impl Fn(&Request) -> bool) {
    let repeated = intake.requests().into_iter().filter(may_be_repeated);
    let may_repeat = by_mark(&repeated.flat_map(|request| request.points).collect::<Vec<_>>());
    for (mark, sends) in by_mark(&intake.accepted()) {
        let most = BATCH + may_repeat.get(&mark).copied().unwrap_or_default();
        assert!((BATCH..=most).contains(&sends), "batch {mark} was counted {sends} times, may be {most}");
    }
}

pub(crate) fn assert_valid(intake: &Intake) {
    assert_eq!(intake.violations(), Vec::<String>::new());
}
