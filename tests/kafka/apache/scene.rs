//! What every test here does, beside what the tests on either broker do.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use super::broker::{Cluster, Producer};
use super::load::send_batch;
use super::support;
use super::support::forwarder::Forwarder;
use crate::members;
pub(crate) use crate::members::{
    assert_valid, counted_all, errors, lost, member, ready, share_all, stop, told, with,
};

/// The session time-out for the members of a classic group.
pub(crate) const SESSION: (&str, &str) = ("session.timeout.ms", "6000");

/// How soon members of a classic group hear that it is rearranged.
pub(crate) const HEARTBEAT: (&str, &str) = ("heartbeat.interval.ms", "500");

/// How soon a forwarder knows how much there is to read.
pub(crate) const STATISTICS: (&str, &str) = ("statistics.interval.ms", "200");

/// Sends batches with these marks; the broker has them.
pub(crate) fn send(cluster: &Cluster, topic: &str, marks: Range<u64>) -> Producer {
    let producer = cluster.producer();
    marks.for_each(|mark| send_batch(&producer, topic, mark));
    producer.flush();
    producer
}

/// Waits until the group of a topic has committed everything that was sent.
pub(crate) async fn committed_all(cluster: &Cluster, producer: &Producer, topic: &str) {
    members::committed_all(|| cluster.committed(topic, topic), producer, topic).await;
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
