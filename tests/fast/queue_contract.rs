//! The contract of `Queue`, held against every queue there is: the scripted fake that the pipeline's tests trust,
//! the embedded log, and files in place.

use std::time::Duration;

use crate::fakes::FakeQueue;
use bytes::Bytes;
use event_queues::embedded::{self, EmbeddedQueue, Pushed};
use event_queues::files::{self, FilesQueue};
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

/// `open` is what a start of the process does: each call after the first is a restart.
async fn holds_the_contract<Q: Queue>(mut open: impl FnMut() -> Q) {
    let whole = bodies().concat();

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
    holds_the_contract(|| queue.reopen()).await;
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
                        origin: std::sync::Arc::default(),
                        body: Bytes::from(body),
                        is_extract: false,
                    }
                    .into(),
                )
                .await
                .unwrap();
        }
    }
    holds_the_contract(|| -> EmbeddedQueue {
        let (mut queue, _appender, _opened) = embedded::open(&settings).unwrap();
        queue.until_empty(true);
        queue
    })
    .await;
}

#[tokio::test]
async fn files_in_place_hold_the_contract() {
    let directory = TempDir::new().unwrap();
    let (memory, events) = (directory.path().join("memory"), directory.path().join("events"));
    std::fs::create_dir_all(&memory).unwrap();
    std::fs::create_dir_all(&events).unwrap();
    for (number, body) in bodies().into_iter().enumerate() {
        std::fs::write(events.join(format!("{number:02}.ndjson")), body).unwrap();
    }
    let settings = files::FilesSettings { files: vec![events], memory: Some(memory), again: false };
    holds_the_contract(|| -> FilesQueue { files::open(&settings, 0).unwrap().0 }).await;
}
