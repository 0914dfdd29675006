//! The directory of the embedded queue, swapped under the real binary: what was answered is there.

use std::fs;

use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::Intake;
use crate::support::{self, KEY};
use serde_json::{Value, json};

/// So many sends, whose ids begin with `name`.
fn sends(name: &str, count: usize) -> String {
    let time = support::unix_now();
    let send = |number| {
        format!(
            r#"{{"event_type":"users.messages.email.Send","id":"{name}-{number}","time":{time},"campaign_id":"c"}}"#
        )
    };
    format!("[{}]", (0..count).map(send).collect::<Vec<_>>().join(","))
}

/// Whether events can be taken and why not, as `/status` has it, and the metric.
async fn readiness(forwarder: &Forwarder) -> (Value, Value, u64) {
    let mut status: Value = serde_json::from_str(&forwarder.admin("/status").await.1).unwrap();
    let metric = forwarder.metrics().await.sum("braze_datadog_ready", &[]);
    (status["ready"].take(), status["not_ready_because"].take(), metric)
}

#[tokio::test]
async fn a_directory_that_is_swapped_gets_nothing_and_the_queue_s_own_loses_nothing() {
    let intake = Intake::start();
    // A segment is full after the first push, and nothing is acknowledged before the kill.
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), KEY, &[])
        .text("queue.embedded.max_size", "1MiB")
        .text("flush.interval", "1m");
    let (queue, aside) = (configuration.home().join("queue"), configuration.home().join("aside"));
    let forwarder = configuration.start().await;
    let mut answered = forwarder.push_accepted(sends("before", 1500)).await;
    fs::rename(&queue, &aside).unwrap();
    fs::create_dir(&queue).unwrap();
    assert_eq!(forwarder.push(sends("meanwhile", 1500)).await.status(), 503);
    assert_eq!(fs::read_dir(&queue).unwrap().count(), 0, "something is in the other directory");
    let (status, reason) = forwarder.admin("/readyz").await;
    assert!(status == 503 && reason.contains("the queue's directory is gone"), "{status} {reason}");
    assert_eq!(readiness(&forwarder).await, (json!(false), json!(reason.trim_end()), 0));
    fs::remove_dir(&queue).unwrap();
    fs::rename(&aside, &queue).unwrap();
    // The process looks for it once a second.
    let is_taking = async || (forwarder.admin("/readyz").await.0 == 200).then_some(());
    support::eventually("the directory is back", is_taking).await;
    assert_eq!(readiness(&forwarder).await, (json!(true), Value::Null, 1));
    for name in ["after", "last"] {
        answered += forwarder.push_accepted(sends(name, 100)).await;
    }
    forwarder.crash().await;

    let forwarder = configuration.text("flush.interval", "1s").start().await;
    forwarder.settled(answered).await;
    assert_eq!(forwarder.metrics().await.sum("braze_datadog_queue_events_lost_total", &[]), 0);
    assert!(!forwarder.log().contains("damaged"), "{}", forwarder.log());
}

#[tokio::test]
async fn whoever_removes_the_lock_file_lets_no_second_process_in() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let queue = configuration.home().join("queue");
    let forwarder = configuration.start().await;
    fs::remove_file(queue.join("lock")).unwrap();
    let second = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let second = second.text("queue.embedded.directory", queue.to_str().unwrap()).run(&["run"]).await;
    assert_eq!(second.status.code(), Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("is in use by another process"), "{}", second.stderr);
    let answered = forwarder.push_accepted(sends("first", 10)).await;
    forwarder.crash().await;

    let forwarder = configuration.text("flush.interval", "1s").start().await;
    forwarder.settled(answered).await;
}
