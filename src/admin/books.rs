//! The books as Prometheus and as JSON; the names are those of the project's contract.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use crate::queue::embedded::AtStart;
use crate::stats::{Books, ConnectionBooks, Histogram};

/// What stands beside the books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// What the events wait in.
    pub queue: QueueGauges,
    /// Push requests by status.
    pub push_requests: Vec<(u16, u64)>,
    /// Push requests that were refused, and the bytes of their bodies that had come, by reason.
    pub push_refused: Vec<(&'static str, u64, u64)>,
    /// Bytes of push bodies as received.
    pub push_bytes: u64,
    /// Until when the push port's certificates hold, in Unix seconds.
    pub certificate_not_after: Option<u64>,
    /// The connections whose API key is known to be valid on its site or not.
    pub keys: Vec<(Box<str>, bool)>,
    /// Log lines that nobody read.
    pub log_lines_lost: u64,
    /// When the process started, in Unix seconds.
    pub started: u64,
    /// How long ago that is, in seconds.
    pub uptime_seconds: u64,
}

/// What is known of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueGauges {
    /// A log on the local disk.
    Embedded {
        /// Events that are not acknowledged.
        depth: u64,
        /// Bytes on disk.
        bytes: u64,
        /// Bytes that it may have there.
        bytes_max: u64,
        /// Events known to be lost to damage of the disk.
        lost: u64,
        /// What the start found at its end.
        at_start: AtStart,
    },
    /// A Kafka broker.
    Kafka {
        /// Messages behind what is committed, in the partitions of this process.
        lag: u64,
        /// Partitions that this process reads.
        partitions: u64,
        /// Messages that the broker threw away before they were read.
        lost: u64,
        /// Whether fetching is paused because the pipeline is full.
        is_paused: bool,
    },
}

impl Default for QueueGauges {
    fn default() -> Self {
        QueueGauges::Embedded { depth: 0, bytes: 0, bytes_max: 0, lost: 0, at_start: AtStart::default() }
    }
}

impl QueueGauges {
    /// Events (or messages) that wait.
    pub const fn depth(&self) -> u64 {
        match self {
            QueueGauges::Embedded { depth, .. } => *depth,
            QueueGauges::Kafka { lag, .. } => *lag,
        }
    }
}

/// The books in Prometheus' text format 0.0.4.
pub fn prometheus(books: &Books, gauges: &Gauges) -> String {
    let mut page = Page(String::new());
    page.metric("events_received_total", "counter", "Elements seen in what came from the queue.");
    page.value("events_received_total", &[], books.received);
    page.metric("events_ignored_total", "counter", "Events of types that are not counted.");
    for (event_type, events) in &books.ignored {
        page.value("events_ignored_total", &[("event_type", event_type)], events);
    }
    page.metric("events_malformed_total", "counter", "Elements that can't be counted.");
    for (reason, events) in &books.malformed {
        page.value("events_malformed_total", &[("reason", reason)], events);
    }
    page.metric(
        "bytes_unreadable_total",
        "counter",
        "Bytes that no event could be read from, for their JSON is damaged, by input.",
    );
    for (input, unreadable) in &books.unreadable {
        page.value("bytes_unreadable_total", &[("input", input)], unreadable.bytes);
    }
    page.metric("events_duplicate_total", "counter", "Events that were counted before.");
    page.value("events_duplicate_total", &[], books.duplicate);
    page.metric(
        "dedup_ids_forgotten_total",
        "counter",
        "Event ids forgotten before dedup.window was over, because of dedup.max_ids.",
    );
    page.value("dedup_ids_forgotten_total", &[], books.ids_forgotten);
    page.connections(books, "sends_counted_total", "Sends counted.", |connection| connection.counted);
    page.connections(books, "sends_accepted_total", "Sends in accepted requests.", |connection| {
        connection.accepted
    });
    page.connections(
        books,
        "requests_accepted_with_errors_total",
        "Accepted requests whose answer speaks of errors.",
        |connection| connection.accepted_with_errors,
    );
    page.metric("sends_dropped_total", "counter", "Sends that were dropped, by reason.");
    for (name, connection) in &books.connections {
        for (reason, sends) in &connection.dropped {
            page.value("sends_dropped_total", &[("connection", name), ("reason", reason.label())], sends);
        }
    }
    page.gauge("sends_pending", "Sends counted whose batch has no outcome yet.", books.pending());
    page.metric("series", "gauge", "Series in the last flush.");
    for (name, connection) in &books.connections {
        page.value("series", &[("connection", name)], connection.series);
    }
    page.metric(
        "names_collapsing",
        "gauge",
        "Tag values in Datadog that stand for several names of Braze's.",
    );
    for (name, connection) in &books.connections {
        page.value("names_collapsing", &[("connection", name)], connection.names_collapsing);
    }
    page.histogram(
        "flush_seconds",
        "Seconds from a cut to the last outcome of its requests.",
        &books.flush_seconds,
    );
    page.histogram("payload_bytes", "Bytes of a request body as sent.", &books.payload_bytes);
    gauges_of(&mut page, gauges);
    page.0
}

fn gauges_of(page: &mut Page, gauges: &Gauges) {
    page.gauge(
        "queue_depth",
        "Events (in Kafka: messages) in the queue that are not acknowledged.",
        gauges.queue.depth(),
    );
    match gauges.queue {
        QueueGauges::Embedded { bytes, bytes_max, lost, at_start, .. } => {
            page.gauge("queue_size_bytes", "Bytes of the queue on disk.", bytes);
            page.gauge("queue_size_max_bytes", "Bytes that the queue may have.", bytes_max);
            page.metric(
                "queue_events_lost_total",
                "counter",
                "Events known to be lost to damage of the disk.",
            );
            page.value("queue_events_lost_total", &[], lost);
            page.at_start(at_start);
        }
        QueueGauges::Kafka { lag, partitions, lost, is_paused } => {
            page.gauge(
                "kafka_consumer_lag",
                "Messages behind what is committed, in all partitions read.",
                lag,
            );
            page.gauge("kafka_partitions", "Partitions that this process reads.", partitions);
            page.gauge(
                "kafka_paused",
                "Whether fetching is paused: the pipeline is full.",
                u64::from(is_paused),
            );
            page.metric(
                "kafka_messages_lost_total",
                "counter",
                "Messages that the broker threw away before they were read.",
            );
            page.value("kafka_messages_lost_total", &[], lost);
        }
    }
    push_of(page, gauges);
    page.metric(
        "key_valid",
        "gauge",
        "Whether Datadog says that the API key is valid on its site; absent while that is unknown.",
    );
    for (connection, is_valid) in &gauges.keys {
        page.value("key_valid", &[("connection", connection)], u64::from(*is_valid));
    }
    page.metric(
        "log_lines_lost_total",
        "counter",
        "Log lines that were lost, for standard error was not read.",
    );
    page.value("log_lines_lost_total", &[], gauges.log_lines_lost);
    page.gauge("start_time_seconds", "When the process started, in Unix seconds.", gauges.started);
    page.metric("build_info", "gauge", "Always 1; the label says which version runs.");
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn push_of(page: &mut Page, gauges: &Gauges) {
    page.metric("push_requests_total", "counter", "Push requests by the status of the answer.");
    for (code, requests) in &gauges.push_requests {
        page.value("push_requests_total", &[("code", &code.to_string())], requests);
    }
    page.metric("push_refused_total", "counter", "Push requests that were refused, by reason.");
    for (reason, requests, _) in &gauges.push_refused {
        page.value("push_refused_total", &[("reason", reason)], requests);
    }
    page.metric(
        "push_refused_bytes_total",
        "counter",
        "Bytes of push bodies that had come when they were refused, by reason.",
    );
    for (reason, _, bytes) in &gauges.push_refused {
        page.value("push_refused_bytes_total", &[("reason", reason)], bytes);
    }
    page.metric("push_received_bytes_total", "counter", "Bytes of push bodies as received.");
    page.value("push_received_bytes_total", &[], gauges.push_bytes);
    if let Some(not_after) = gauges.certificate_not_after {
        let help = "Until when the push port's certificates hold, in Unix seconds.";
        page.gauge("push_certificate_expiry_timestamp_seconds", help, not_after);
    }
}

/// The books as JSON: what `/status` shows under `books`, and the last line of `--once`.
pub fn json(books: &Books, gauges: &Gauges) -> Value {
    let connections: serde_json::Map<String, Value> = books
        .connections
        .iter()
        .map(|(name, connection)| (name.to_string(), connection_json(connection)))
        .collect();
    let unreadable: serde_json::Map<String, Value> = books
        .unreadable
        .iter()
        .map(|(input, unreadable)| ((*input).to_owned(), unreadable.bytes.into()))
        .collect();
    json!({
        "received": books.received,
        "ignored": books.ignored.values().sum::<u64>(),
        "malformed": books.malformed.values().sum::<u64>(),
        "duplicate": books.duplicate,
        "ids_forgotten": books.ids_forgotten,
        "counted": books.counted(),
        "accepted": books.accepted(),
        "dropped": books.dropped(),
        "pending": books.pending(),
        "balanced": books.balance(),
        "queue_depth": gauges.queue.depth(),
        "ignored_by_event_type": books.ignored,
        "malformed_by_reason": books.malformed,
        "bytes_unreadable_by_input": unreadable,
        "connections": connections,
        "flush_seconds": histogram_json(&books.flush_seconds),
        "payload_bytes": histogram_json(&books.payload_bytes),
    })
}

fn histogram_json(histogram: &Histogram) -> Value {
    json!({
        "count": histogram.buckets.iter().sum::<u64>(),
        "sum": histogram.sum,
        "bounds": histogram.bounds,
        "buckets": histogram.buckets,
    })
}

fn connection_json(connection: &ConnectionBooks) -> Value {
    let dropped: serde_json::Map<String, Value> =
        connection.dropped.iter().map(|(reason, sends)| (reason.label().to_owned(), json!(sends))).collect();
    json!({
        "counted": connection.counted,
        "accepted": connection.accepted,
        "requests_accepted_with_errors": connection.accepted_with_errors,
        "dropped": connection.dropped.values().sum::<u64>(),
        "dropped_by_reason": dropped,
        "pending": connection.pending,
        "series": connection.series,
    })
}

struct Page(String);

impl Page {
    fn at_start(&mut self, found: AtStart) {
        let counters = [
            (
                "queue_events_perhaps_lost_total",
                "Events at most that the start cut off the queue's damaged end and that may have been answered.",
                found.perhaps_lost,
            ),
            (
                "queue_events_found_total",
                "Events that the start found in the queue although they were never answered.",
                found.found,
            ),
            (
                "queue_torn_bytes_total",
                "Bytes that the start cut off the queue, for they are no whole frame.",
                found.torn_bytes,
            ),
        ];
        for (name, help, value) in counters {
            self.metric(name, "counter", help);
            self.value(name, &[], value);
        }
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP braze_datadog_{name} {help}\n# TYPE braze_datadog_{name} {kind}"));
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "gauge", help);
        self.value(name, &[], value);
    }

    fn connections(
        &mut self,
        books: &Books,
        name: &str,
        help: &str,
        value: impl Fn(&ConnectionBooks) -> u64,
    ) {
        self.metric(name, "counter", help);
        for (connection, of) in &books.connections {
            self.value(name, &[("connection", connection)], value(of));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.metric(name, "histogram", help);
        let mut count = 0;
        let bucket = format!("{name}_bucket");
        for (number, observations) in histogram.buckets.iter().enumerate() {
            count += observations;
            let bound = histogram.bounds.get(number).map_or("+Inf".to_owned(), f64::to_string);
            self.value(&bucket, &[("le", &bound)], count);
        }
        self.value(&format!("{name}_sum"), &[], histogram.sum);
        self.value(&format!("{name}_count"), &[], count);
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, label)| format!("{key}=\"{}\"", escape(label))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("braze_datadog_{name}{labels} {value}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Formatting into a String can't fail.
        let _infallible = writeln!(self.0, "{line}");
    }
}

/// A label's value as the text format wants it.
fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{DropReason, Stats, Tally, Unreadable};

    fn books() -> Books {
        let stats = Stats::new();
        stats.introduce("acme");
        stats.book(&Tally {
            received: 7,
            duplicate: 1,
            ids_forgotten: 9,
            unreadable: [(
                "file",
                Unreadable { bytes: 7, last: "a.json, before byte 9 of its content".into() },
            )]
            .into(),
            ignored: vec![("users.messages.email.Open".into(), 2)],
            malformed: [("json", 1)].into(),
            counted: vec![("acme".into(), 3)],
            dropped: [(("acme".into(), DropReason::Late), 1)].into(),
        });
        stats.settle("acme", 2, None, "accepted", 5);
        stats.payload(300);
        stats.snapshot()
    }

    #[test]
    fn the_books_are_shown_under_the_names_of_the_contract() {
        let page = prometheus(
            &books(),
            &Gauges {
                queue: QueueGauges::Embedded {
                    depth: 4,
                    bytes: 0,
                    bytes_max: 0,
                    lost: 0,
                    at_start: AtStart { found: 6, perhaps_lost: 2, torn_bytes: 77 },
                },
                keys: vec![("acme".into(), true), ("beta".into(), false)],
                ..Gauges::default()
            },
        );
        for line in [
            "braze_datadog_events_received_total 7",
            "braze_datadog_events_ignored_total{event_type=\"users.messages.email.Open\"} 2",
            "braze_datadog_events_malformed_total{reason=\"json\"} 1",
            "braze_datadog_bytes_unreadable_total{input=\"file\"} 7",
            "braze_datadog_events_duplicate_total 1",
            "braze_datadog_sends_counted_total{connection=\"acme\"} 3",
            "braze_datadog_sends_accepted_total{connection=\"acme\"} 2",
            "braze_datadog_sends_dropped_total{connection=\"acme\",reason=\"late\"} 1",
            "braze_datadog_sends_pending 0",
            "braze_datadog_queue_depth 4",
            "braze_datadog_queue_events_perhaps_lost_total 2",
            "braze_datadog_queue_events_found_total 6",
            "braze_datadog_queue_torn_bytes_total 77",
            "braze_datadog_dedup_ids_forgotten_total 9",
            "braze_datadog_key_valid{connection=\"acme\"} 1",
            "braze_datadog_key_valid{connection=\"beta\"} 0",
            "braze_datadog_names_collapsing{connection=\"acme\"} 0",
            "braze_datadog_payload_bytes_bucket{le=\"1000\"} 1",
            "braze_datadog_payload_bytes_bucket{le=\"+Inf\"} 1",
            "braze_datadog_payload_bytes_sum 300",
            "# TYPE braze_datadog_flush_seconds histogram",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn the_same_books_are_told_in_json() {
        let json = json(&books(), &Gauges::default());
        for (key, value) in
            [("received", 7), ("ignored", 2), ("malformed", 1), ("duplicate", 1), ("counted", 3)]
        {
            assert_eq!(json[key], value, "{key}");
        }
        assert_eq!(
            (&json["accepted"], &json["dropped"], &json["pending"]),
            (&json!(2), &json!(1), &json!(0))
        );
        assert_eq!(json["balanced"], true);
        assert_eq!(json["connections"]["acme"]["dropped_by_reason"]["late"], 1);
    }

    #[test]
    fn a_label_can_not_break_out_of_its_quotes() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
