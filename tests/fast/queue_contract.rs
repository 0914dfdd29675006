//! The contract of `Queue`, held against every queue there is: the scripted fake that the pipeline's tests trust,
//! the embedded log, files in place, and a bucket. Kafka's needs a broker: `tests/kafka/`.

use std::time::Duration;

use crate::fakes::FakeQueue;
use bytes::Bytes;
use event_queues::embedded::{self, EmbeddedQueue, Pushed};
use event_queues::files::{self, FilesQueue};
#[cfg(feature = "storage")]
use event_queues::storage::{self, StorageQueue, StorageRun, StorageSettings, StorageSource, StorageStart};
use event_queues::{Delivery, Queue, Receipt};
use tempfile::TempDir;

const DELIVERIES: usize = 20;

/// What is in the queue: twenty bodies of three lines.
fn bodies() -> Vec<String> {
    let line = |number: usize| format!("{{\"number\":{number}}}\n");
    (0..DELIVERIES).map(|body| (body * 3..body * 3 + 3).map(line).collect()).collect()
}

fn text(deliveries: &[Delivery]) -> String {
    deliveries.iter().map(|delivery| std::str::from_utf8(&delivery.body).unwrap()).collect()
}

async fn receive_all<Q: Queue>(queue: &mut Q) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while let Some(delivery) = queue.receive().await.unwrap() {
        deliveries.push(delivery);
    }
    deliveries
}

/// The queue holds `whole`. `open` is what a start of the process does: each call after the first is a restart.
async fn holds_the_contract<Q: Queue>(whole: &str, mut open: impl FnMut() -> Q) {
    let mut queue = open();
    let deliveries = receive_all(&mut queue).await;
    assert_eq!(text(&deliveries), whole, "everything comes, in order, ahead of any acknowledgement");
    assert!(deliveries.len() > 3);
    assert!(deliveries.windows(2).all(|pair| pair[0].receipt < pair[1].receipt), "receipts grow");
    assert!(queue.receive().await.unwrap().is_none(), "a queue that has ended stays so");
    drop(queue);

    let mut queue = open();
    let deliveries = receive_all(&mut queue).await;
    assert_eq!(text(&deliveries), whole, "what was not acknowledged comes again");
    let third = deliveries[2].receipt;
    queue.acknowledge(third).await.unwrap();
    queue.acknowledge(third).await.unwrap();
    queue.acknowledge(deliveries[0].receipt).await.unwrap();
    drop(queue);

    let mut queue = open();
    let rest = text(&deliveries[3..]);
    let mut again = Vec::new();
    loop {
        // Cancelled at every chance: a delivery is returned or still in the queue.
        let impatient = tokio::time::timeout(Duration::ZERO, queue.receive()).await;
        drop(impatient.map(|received| received.unwrap().map(|delivery| again.push(delivery))));
        if text(&again).len() >= rest.len() {
            break;
        }
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    assert_eq!(text(&again), rest, "what was acknowledged does not come again, the rest does, once");
    let last: Receipt = again.last().unwrap().receipt;
    queue.acknowledge(last).await.unwrap();
    drop(queue);

    let mut queue = open();
    assert!(queue.receive().await.unwrap().is_none(), "nothing is left");
}

#[tokio::test]
async fn the_fake_queue_holds_the_contract() {
    let queue = FakeQueue::new(bodies());
    holds_the_contract(&bodies().concat(), || queue.reopen()).await;
}

#[tokio::test]
async fn the_embedded_queue_holds_the_contract() {
    let directory = TempDir::new().unwrap();
    let settings =
        embedded::EmbeddedSettings { directory: directory.path().join("queue"), size_max: 1 << 20 };
    {
        let (_queue, appender, _opened) = embedded::open(&settings).unwrap();
        for body in bodies() {
            appender
                .append(
                    Pushed {
                        events: 3,
                        defaults: std::sync::Arc::default(),
                        body: Bytes::from(body),
                        is_extract: false,
                    }
                    .into(),
                )
                .await
                .unwrap();
        }
    }
    holds_the_contract(&bodies().concat(), || -> EmbeddedQueue {
        let (mut queue, _appender, _opened) = embedded::open(&settings).unwrap();
        queue.until_empty(true);
        queue
    })
    .await;
}

#[tokio::test]
async fn files_in_place_hold_the_contract() {
    let directory = TempDir::new().unwrap();
    let (state, events) = (directory.path().join("state"), directory.path().join("events"));
    std::fs::create_dir_all(&state).unwrap();
    std::fs::create_dir_all(&events).unwrap();
    for (number, body) in bodies().into_iter().enumerate() {
        std::fs::write(events.join(format!("{number:02}.ndjson")), body).unwrap();
    }
    let settings = files::FilesSettings { files: vec![events], state_directory: Some(state), again: false };
    holds_the_contract(&bodies().concat(), || -> FilesQueue { files::open(&settings, 0).unwrap().0 }).await;
}

/// One object, of more than one delivery. What was opened last may hold the state for a moment longer.
#[cfg(feature = "storage")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bucket_holds_the_contract() {
    let directory = TempDir::new().unwrap();
    let bucket = directory.path().join("bucket");
    std::fs::create_dir_all(&bucket).unwrap();
    let line = |number: usize| format!("{{\"number\":{number},\"text\":\"{}\"}}\n", "x".repeat(100_000));
    let whole: String = (0..60).map(line).collect();
    std::fs::write(bucket.join("events.ndjson"), &whole).unwrap();
    let settings = StorageSettings {
        sources: vec![StorageSource {
            url: format!("file://{}", bucket.display()).into(),
            app_group_id: None,
        }],
        poll_interval: Duration::from_millis(20),
        start: StorageStart::Beginning,
        lateness: Duration::from_hours(2),
        state_directory: directory.path().join("state"),
        options: std::collections::BTreeMap::new(),
        notifications: None,
        event_types: std::collections::BTreeSet::new(),
    };
    holds_the_contract(&whole, || -> StorageQueue {
        let mut opened = None;
        for _ in 0..5_000 {
            opened =
                storage::open(settings.clone(), StorageRun::Once, std::sync::Arc::new(|| 1_796_000_000)).ok();
            if opened.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        opened.unwrap().0
    })
    .await;
}
