//! What the admin port shows of the running process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::keys::KeyWatch;
use crate::admin::Views;
use crate::admin::books::{self, Gauges, QueueGauges};
use crate::admin::overview;
use crate::admin::rates::Rates;
use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::datadog::Connection;
use crate::datadog::keys::State;
use crate::push::{self, Readiness};
use crate::queue::embedded::Appender;
#[cfg(feature = "kafka")]
use crate::queue::kafka;
use crate::stats::{Books, CollapsingTag, Stats};
use crate::telemetry;

/// After how long without a turn of its loop the pipeline counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The queue, as it can be looked at.
#[derive(Debug, Clone)]
pub(super) enum Waiting {
    /// The log on the local disk.
    Embedded(Appender),
    /// The broker.
    #[cfg(feature = "kafka")]
    Kafka(kafka::Watch),
}

impl Waiting {
    fn gauges(&self) -> QueueGauges {
        match self {
            Waiting::Embedded(log) => QueueGauges::Embedded {
                depth: log.depth(),
                bytes: log.size(),
                bytes_max: log.size_max(),
                lost: log.lost(),
                at_start: log.at_start(),
            },
            #[cfg(feature = "kafka")]
            Waiting::Kafka(kafka) => QueueGauges::Kafka {
                lag: kafka.lag(),
                partitions: kafka.partitions(),
                lost: kafka.skipped(),
                is_paused: kafka.is_paused(),
            },
        }
    }

    /// Whether it can take (or give) events.
    fn ready(&self) -> Result<(), String> {
        match self {
            Waiting::Embedded(log) if !log.is_accepting() => {
                Err("the queue takes no events: it is full, its disk has failed, or its directory is gone (see the log)".into())
            }
            Waiting::Embedded(_) => Ok(()),
            #[cfg(feature = "kafka")]
            Waiting::Kafka(kafka) => kafka.trouble().map_or(Ok(()), |trouble| Err(trouble.to_string())),
        }
    }
}

/// Everything that can be looked at.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) stats: Arc<Stats>,
    pub(super) queue: Waiting,
    pub(super) clock: Clock,
    pub(super) started: u64,
    pub(super) heartbeat: Arc<AtomicU64>,
    pub(super) connections: watch::Receiver<Arc<Vec<Connection>>>,
    pub(super) keys: Arc<KeyWatch>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) push: Option<Arc<push::Counters>>,
    pub(super) credentials: Option<push::Reload>,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) rates: Arc<Rates>,
    pub(super) configuration: watch::Receiver<Shown>,
}

/// The configuration in force, key by key, without secrets.
pub(super) type Shown = Arc<Vec<(String, String)>>;

impl Watched {
    /// The views for the admin port.
    pub(super) fn views(self) -> Views {
        let (metrics, status, search) = (self.clone(), self.clone(), self.clone());
        Views {
            ready: Box::new(move || self.ready()),
            metrics: Box::new(move || books::prometheus(&metrics.stats.snapshot(), &metrics.gauges())),
            status: Box::new(move || status.status()),
            search: Box::new(move |query| search.search(query)),
        }
    }

    /// What the push port says of it.
    pub(super) fn readiness(self) -> Readiness {
        Readiness::new(move || self.ready().is_ok())
    }

    /// Logs what is wrong with the push port's certificate.
    pub(super) fn tell_of_certificate(&self) {
        if let Some(credentials) = &self.credentials {
            tell_of_certificate(credentials, self.clock.unix_seconds());
        }
    }

    /// Whether the pipeline's loop has turned lately.
    pub(super) fn is_alive(&self) -> bool {
        let since = self.clock.elapsed_milliseconds().saturating_sub(self.heartbeat.load(Ordering::Relaxed));
        Duration::from_millis(since) < STUCK_AFTER
    }

    /// What stands beside the books.
    pub(super) fn gauges(&self) -> Gauges {
        Gauges {
            queue: self.queue.gauges(),
            push_requests: self.push.iter().flat_map(|push| push.requests()).collect(),
            push_refused: self.push.iter().flat_map(|push| push.refused()).collect(),
            push_bytes: self.push.as_ref().map_or(0, |push| push.received_bytes()),
            certificate_not_after: self.credentials.as_ref().and_then(push::Reload::certificate_not_after),
            keys: self.keys.known(),
            log_lines_lost: telemetry::lost_lines(),
            started: self.started,
            uptime_seconds: self.clock.elapsed_milliseconds() / 1000,
        }
    }

    fn ready(&self) -> Result<(), String> {
        if *self.stopping.borrow() {
            return Err("stopping".into());
        }
        self.queue.ready()?;
        if !self.is_alive() {
            return Err("the pipeline is stuck".into());
        }
        Ok(())
    }

    /// Looks at the books, for the hour that the page shows, and whether the queue is still there.
    pub(super) fn sample(&self) {
        match &self.queue {
            Waiting::Embedded(log) => log.check(),
            #[cfg(feature = "kafka")]
            Waiting::Kafka(_) => {}
        }
        self.rates.sample(&self.stats.snapshot(), self.clock.elapsed_milliseconds() / 1000);
    }

    fn search(&self, query: &str) -> Value {
        let configured = self.connections.borrow().clone();
        let site_of = |name: &str| {
            let connection = configured.iter().find(|connection| *connection.name == *name);
            connection.map(|connection| connection.site.name.to_string()).unwrap_or_default()
        };
        let now = self.clock.unix_seconds();
        overview::search(query, &self.catalogue.search(query), site_of, self.started, now)
    }

    fn status(&self) -> Value {
        let snapshot = self.stats.snapshot();
        let gauges = self.gauges();
        let now = self.clock.unix_seconds();
        let configured = self.connections.borrow().clone();
        let connections: Vec<Value> =
            configured.iter().map(|connection| self.connection(connection, &snapshot, now)).collect();
        let busiest: Vec<Value> = snapshot
            .busiest
            .iter()
            .map(|busy| json!({"connection": busy.connection, "tags": busy.tags, "sends": busy.sends}))
            .collect();
        let hour = self.rates.hour(gauges.uptime_seconds);
        let not_ready = self.ready().err();
        let configuration: Vec<Value> = self
            .configuration
            .borrow()
            .iter()
            .map(|(key, value)| json!({"key": key, "value": value}))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": now,
            "started": gauges.started,
            "uptime_seconds": gauges.uptime_seconds,
            "headline": overview::headline(&hour, not_ready.as_deref(), gauges.uptime_seconds),
            "ready": not_ready.is_none(),
            "not_ready_because": not_ready,
            "rates": overview::rates(&hour, now),
            "busiest": overview::busiest(&self.catalogue.busiest(), now),
            "invariants": overview::invariants(&snapshot),
            "configuration": configuration,
            "queue": queue_json(&gauges.queue, self.queue.ready().err().as_deref()),
            "connections": connections,
            "busiest_series": busiest,
            "log_lines_lost": gauges.log_lines_lost,
            "books": books::json(&snapshot, &gauges),
        })
    }

    /// What is told of one connection.
    fn connection(&self, connection: &Connection, books: &Books, now: u64) -> Value {
        let books = books.connections.get(&connection.name).cloned().unwrap_or_default();
        let last = books
            .last_outcome
            .as_ref()
            .map(|(words, at)| json!({"outcome": words, "at": at, "seconds_ago": now.saturating_sub(*at)}));
        let key = self.keys.shown(&connection.name);
        let (mut state, mut words) = overview::connection(&books, &connection.site.name, now);
        // A key that is not valid reaches nobody, whatever the intake answers to points.
        if key.state == State::Invalid && state != overview::TROUBLE {
            (state, words) = (overview::TROUBLE, key.words.clone());
        }
        json!({
            "name": connection.name,
            "state": state,
            "words": words,
            "site": connection.site.name,
            "url": connection.site.base_url,
            "metric": connection.metric,
            "dry_run": connection.dry_run,
            "app_group_ids": connection.app_group_ids,
            "key": {"state": key.state.label(), "words": key.words, "seconds_ago": key.seconds_ago},
            "names_collapsing": books.names_collapsing,
            "collapsing": books.collapsing.iter().map(collapsing_json).collect::<Vec<_>>(),
            "last_outcome": last,
            "series": books.series,
            "counted": books.counted,
            "accepted": books.accepted,
            "dropped": books.dropped.values().sum::<u64>(),
            "dropped_by_reason": overview::dropped_by_reason(&books),
            "pending": books.pending,
        })
    }
}

/// Logs what is wrong, or soon will be, with the certificate of the push port.
pub(super) fn tell_of_certificate(credentials: &push::Reload, now: u64) {
    match credentials.certificate_trouble(now) {
        Some(trouble) if trouble.is_valid => tracing::warn!("{trouble}"),
        Some(trouble) => tracing::error!("senders can't trust this port: {trouble}"),
        None => {}
    }
}

fn collapsing_json(tag: &CollapsingTag) -> Value {
    json!({
        "tag": tag.tag,
        "names": tag.names,
        "names_total": tag.names_total,
        "same_name": tag.is_same_name(),
        "ids": tag.ids,
        "ids_total": tag.ids_total,
        "group_by": tag.group_by,
    })
}

fn queue_json(queue: &QueueGauges, trouble: Option<&str>) -> Value {
    match queue {
        QueueGauges::Embedded { depth, bytes, bytes_max, lost, at_start } => json!({
            "kind": "embedded",
            "depth": depth,
            "size_bytes": bytes,
            "size_max_bytes": bytes_max,
            "events_lost": lost,
            "events_perhaps_lost": at_start.perhaps_lost,
            "events_found": at_start.found,
            "torn_bytes": at_start.torn_bytes,
            "trouble": trouble,
        }),
        QueueGauges::Kafka { lag, partitions, lost, is_paused } => json!({
            "kind": "kafka",
            "depth": lag,
            "lag": lag,
            "partitions": partitions,
            "paused": is_paused,
            "messages_lost": lost,
            "trouble": trouble,
        }),
    }
}
