//! Messages for the broker, in the large compressed batches that a busy producer makes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _};

/// How long messages may wait for the broker, which a test may have frozen.
const PATIENCE: Duration = Duration::from_mins(2);

/// How batches are compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Compression {
    Lz4,
    Zstd,
}

/// A message on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    /// `None`: by the key.
    pub(crate) partition: Option<i32>,
    pub(crate) key: &'a str,
    /// `None` is a tombstone, which differs from an empty value.
    pub(crate) value: Option<&'a [u8]>,
    /// A name and a value.
    pub(crate) header: Option<(&'a str, &'a [u8])>,
}

/// Sends messages. A message that does not arrive stops the test at the next [`Producer::flush`].
pub(crate) struct Producer {
    inner: ThreadedProducer<Arrivals>,
    arrivals: Arrivals,
}

impl Producer {
    pub(crate) fn new(mut client: ClientConfig, compression: Compression) -> Self {
        let compression = match compression {
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        let arrivals = Arrivals::default();
        let inner = client
            .set("compression.type", compression)
            .set("linger.ms", "20")
            .set("batch.size", "1000000")
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", "8000000")
            .set("queue.buffering.max.messages", "200000")
            // A request that a frozen broker holds is not sent twice: it would be in the log twice.
            .set("request.timeout.ms", PATIENCE.as_millis().to_string())
            .set("socket.timeout.ms", PATIENCE.as_millis().to_string())
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .create_with_context(arrivals.clone())
            .unwrap();
        Self { inner, arrivals }
    }

    /// Sends a value, to the partition that its key belongs to.
    pub(crate) fn send(&self, topic: &str, key: &str, value: &[u8]) {
        self.send_message(Message { topic, partition: None, key, value: Some(value), header: None });
    }

    /// Sends a message; waits while too many are under way.
    pub(crate) fn send_message(&self, message: Message<'_>) {
        let mut record = BaseRecord::<str, [u8]>::to(message.topic).key(message.key);
        record.payload = message.value;
        record.partition = message.partition;
        record.headers =
            message.header.map(|(key, value)| OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        let give_up = Instant::now() + PATIENCE;
        while let Err((error, again)) = self.inner.send(record) {
            let is_full = error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert!(is_full && Instant::now() < give_up, "a message could not be sent: {error}");
            std::thread::sleep(Duration::from_millis(5));
            record = again;
        }
    }

    /// Waits until the broker has every message.
    pub(crate) fn flush(&self) {
        self.inner.flush(PATIENCE).unwrap();
        let failures = &self.arrivals.0.lock().unwrap().failures;
        assert!(failures.is_empty(), "{} messages did not arrive: {}", failures.len(), failures[0]);
    }

    /// The offset behind the last message of a topic that has arrived, by partition.
    pub(crate) fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let arrived = self.arrivals.0.lock().unwrap();
        let of_topic = arrived.ends.iter().filter(|((of, _), _)| of == topic);
        of_topic.map(|((_, partition), end)| (*partition, *end)).collect()
    }
}

/// What became of the messages.
#[derive(Debug, Default)]
struct Arrived {
    ends: BTreeMap<(String, i32), i64>,
    failures: Vec<String>,
}

/// Filled on the producer's own thread.
#[derive(Debug, Clone, Default)]
struct Arrivals(Arc<Mutex<Arrived>>);

impl ClientContext for Arrivals {}

impl ProducerContext for Arrivals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut arrived = self.0.lock().unwrap();
        match result {
            Ok(message) => {
                let partition = (message.topic().to_owned(), message.partition());
                let end = arrived.ends.entry(partition).or_default();
                *end = (*end).max(message.offset() + 1);
            }
            Err((error, message)) => arrived.failures.push(format!("{error} ({})", message.topic())),
        }
    }
}
