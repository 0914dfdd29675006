//! The queue, as the admin port sees it.

use admin_api::{EmbeddedStatus, QueueStatus};
use event_queues::embedded::Appender;
#[cfg(feature = "kafka")]
use event_queues::kafka;
#[cfg(feature = "storage")]
use event_queues::storage;

/// The watch of each kind of queue.
#[derive(Debug, Clone)]
pub(super) enum QueueWatch {
    /// The log on the local disk.
    Embedded(Appender),
    /// The broker.
    #[cfg(feature = "kafka")]
    Kafka(kafka::KafkaWatch),
    /// The buckets.
    #[cfg(feature = "storage")]
    Storage(storage::StorageWatch),
}

impl QueueWatch {
    pub(super) fn status(&self) -> QueueStatus {
        let status = |kind: &str, depth, waiting| {
            let (kind, trouble) = (kind.to_owned(), self.ready().err());
            QueueStatus { kind, depth, waiting, trouble, ..QueueStatus::default() }
        };
        match self {
            QueueWatch::Embedded(log) => {
                let at_start = log.at_start();
                let embedded = EmbeddedStatus {
                    size_bytes: log.size(),
                    size_max_bytes: log.size_max(),
                    events_lost: log.lost(),
                    events_perhaps_lost: at_start.perhaps_lost,
                    events_found: at_start.found,
                    torn_bytes: at_start.torn_bytes,
                };
                QueueStatus { embedded: Some(embedded), ..status("embedded", log.depth(), log.waiting()) }
            }
            #[cfg(feature = "kafka")]
            QueueWatch::Kafka(kafka) => {
                let lag = kafka.lag();
                let broker = admin_api::KafkaStatus {
                    lag,
                    partitions: kafka.partitions(),
                    paused: kafka.is_paused(),
                    messages_lost: kafka.skipped(),
                };
                QueueStatus { kafka: Some(broker), ..status("kafka", lag, kafka.waiting()) }
            }
            #[cfg(feature = "storage")]
            QueueWatch::Storage(watch) => {
                let counts = watch.counts();
                let buckets = admin_api::StorageStatus {
                    bytes_waiting: counts.bytes_waiting,
                    lag_seconds: counts.lag_seconds,
                    newest_found: counts.newest_found,
                    newest_done: counts.newest_done,
                    objects_counted: counts.objects_counted,
                    objects_left_out: counts.objects_left_out,
                    bytes_read: counts.bytes_read,
                    listings: counts.listings,
                    listings_failed: counts.listings_failed,
                };
                QueueStatus {
                    storage: Some(buckets),
                    ..status("storage", counts.objects_waiting, counts.objects_unread)
                }
            }
        }
    }

    /// Whether it can take (or give) events.
    pub(super) fn ready(&self) -> Result<(), String> {
        match self {
            QueueWatch::Embedded(log) => {
                if let Some(reason) = log.stopped() {
                    return Err(format!(
                        "the queue has stopped, and takes no events until a restart: {reason}"
                    ));
                }
                if let Some(stalled) = log.stalled_for() {
                    return Err(format!("the queue's disk has not answered for {} s", stalled.as_secs()));
                }
                if log.is_full() {
                    return Err("the queue is full, and takes no events until some are counted: see queue.embedded.max_size".into());
                }
                if !log.is_accepting() {
                    return Err(
                        "the queue's directory is gone, and it takes no events until it is back: see the log"
                            .into(),
                    );
                }
                log.refusal().map_or(Ok(()), |reason| Err(format!("the queue can't be written: {reason}")))
            }
            #[cfg(feature = "kafka")]
            QueueWatch::Kafka(kafka) => kafka.trouble().map_or(Ok(()), |trouble| Err(trouble.to_string())),
            #[cfg(feature = "storage")]
            QueueWatch::Storage(watch) => watch.trouble().map_or(Ok(()), |trouble| Err(trouble.to_string())),
        }
    }

    /// Checks that the queue is still there.
    pub(super) fn check(&self) {
        match self {
            QueueWatch::Embedded(log) => log.check(),
            #[cfg(feature = "kafka")]
            QueueWatch::Kafka(_) => {}
            #[cfg(feature = "storage")]
            QueueWatch::Storage(_) => {}
        }
    }
}
