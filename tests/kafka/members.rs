//! Forwarders of a group, and a look at what became of it, whichever broker it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::Producer;
use crate::load::BATCH;
use crate::support;
use crate::support::braze::by_mark;
use crate::support::forwarder::{Configuration, Forwarder, quote};
use crate::support::intake::{Intake, Request};

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

/// Waits until a group has committed everything that was sent to a topic.
pub(crate) async fn committed_all(
    committed: impl Fn() -> BTreeMap<i32, i64>,
    producer: &Producer,
    topic: &str,
) {
    let ends = producer.ends(topic);
    let give_up = Instant::now() + support::PATIENCE;
    loop {
        let committed = committed();
        if committed == ends {
            return;
        }
        assert!(Instant::now() < give_up, "committed {committed:?}, and sent {ends:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Messages that the forwarder has told as lost.
pub(crate) async fn lost(forwarder: &Forwarder) -> u64 {
    forwarder.metrics().await.sum("braze_datadog_kafka_messages_lost_total", &[])
}

pub(crate) async fn stop(forwarder: Forwarder) {
    assert_eq!(forwarder.stop().await.code(), Some(0));
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

/// The same of one member, where it is a matter of time what it may repeat. Some of what it sent it may not, or this would hold of
/// one that never commits.
pub(crate) fn assert_repeated_within(intake: &Intake, member: &str, may_repeat: impl Fn(Instant) -> bool) {
    let is_of_it = |request: &Request| request.key() == member;
    assert_repeated_at_most(intake, |request| is_of_it(request) && may_repeat(request.at));
    let requests = intake.requests().into_iter();
    let held =
        requests.filter(|one| is_of_it(one) && one.answered == Some(202) && !may_repeat(one.at)).count();
    assert!(held >= 2, "{member} might have repeated all but {held} requests: this test has shown nothing");
}

pub(crate) fn assert_valid(intake: &Intake) {
    assert_eq!(intake.violations(), Vec::<String>::new());
}
