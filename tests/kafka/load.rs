//! Messages that can be told apart at the intake: batches with a mark, as [`super::support::braze`] has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::broker::Producer;
use super::support;

/// Messages of a batch, each of them a send.
pub(crate) use super::support::braze::BATCH;

/// Between two batches, so that the machine is left to the forwarders.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends a batch: a message each event, over all partitions.
pub(crate) fn send_batch(producer: &Producer, topic: &str, mark: u64) {
    for (key, event) in batch(mark) {
        producer.send(topic, &key, event.as_bytes());
    }
}

/// The events of a batch, each with its key.
pub(crate) fn batch(mark: u64) -> impl Iterator<Item = (String, String)> {
    let time = support::unix_now();
    (0..BATCH).map(move |number| {
        let event = json!({
            "event_type": "users.messages.email.Send",
            "id": format!("batch-{mark}-{number}"),
            "time": time,
            "user": { "user_id": "someone" },
            "properties": { "app_group_id": "group-a", "campaign_id": format!("batch-{mark}") },
        });
        (format!("user-{mark}-{number}"), event.to_string())
    })
}

/// A row of batches without end.
pub(crate) struct Load {
    thread: JoinHandle<Producer>,
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
}

impl Load {
    /// Starts it; the first mark is 0.
    pub(crate) fn start(producer: Producer, topic: &'static str) -> Self {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, marks) = (Arc::clone(&stop), Arc::clone(&begun));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                send_batch(&producer, topic, marks.fetch_add(1, Ordering::Relaxed));
                std::thread::sleep(PAUSE);
            }
            producer
        });
        Self { thread, stop, begun }
    }

    /// Waits until so many more batches were sent.
    pub(crate) async fn more(&self, batches: u64) {
        let goal = self.begun.load(Ordering::Relaxed) + batches;
        let begun = async || (self.begun.load(Ordering::Relaxed) >= goal).then_some(());
        support::eventually(&format!("{batches} more batches are sent"), begun).await;
    }

    /// Ends it. Says how many batches there were; the broker has all of them.
    pub(crate) fn finish(self) -> (u64, Producer) {
        self.stop.store(true, Ordering::Relaxed);
        let producer = self.thread.join().unwrap();
        producer.flush();
        (self.begun.load(Ordering::Relaxed), producer)
    }
}

/// The schema of [`avro`]: a part of what Currents writes to storage. The event type is in its name.
pub(crate) fn avro_schema() -> String {
    json!({
        "type": "record",
        "name": "Send",
        "namespace": "dataexport.S3.inner.users.messages.email",
        "fields": [
            { "name": "id", "type": "string" },
            { "name": "time", "type": "int" },
            { "name": "app_group_id", "type": ["null", "string"], "default": null },
            { "name": "canvas_id", "type": ["null", "string"], "default": null },
            { "name": "campaign_id", "type": ["null", "string"], "default": null },
        ],
    })
    .to_string()
}

/// An event of a batch in the Confluent framing: a zero, the schema's id, and Avro's binary encoding.
///
/// Source: Confluent documentation, "Wire format"; Apache Avro specification, "Binary encoding".
pub(crate) fn avro(schema: u32, mark: u64, number: u64) -> Vec<u8> {
    let mut value = vec![0];
    value.extend(schema.to_be_bytes());
    write_text(&mut value, &format!("batch-{mark}-{number}"));
    write_long(&mut value, support::unix_now());
    write_long(&mut value, 1);
    write_text(&mut value, "group-a");
    write_long(&mut value, 0);
    write_long(&mut value, 1);
    write_text(&mut value, &format!("batch-{mark}"));
    value
}

/// A number that is not negative: zigzag, seven bits a byte, the lowest first.
fn write_long(out: &mut Vec<u8>, number: u64) {
    let mut left = number << 1;
    while left >= 0x80 {
        out.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    out.push(u8::try_from(left).unwrap());
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_long(out, text.len() as u64);
    out.extend(text.as_bytes());
}
