//! The books as Prometheus reads them; the names are those of the project's contract.

use std::fmt::{self, Display, Write};

use admin_api::{
    EmbeddedStatus, HistoryStatus, KafkaStatus, QueueStatus, ReconcileStatus, ReloadStatus, StorageStatus,
    WorkspaceStatus,
};

use super::process_usage::ProcessUsage;
use event_lanes::stats::{Books, ConnectionBooks, Histogram};

/// Metrics beside the books.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProcessGauges {
    /// What the events wait in.
    pub queue: QueueStatus,
    /// Push requests by status.
    pub push_requests: Vec<(u16, u64)>,
    /// Push requests that were refused, and the bytes of their bodies that had come, by reason.
    pub push_refused: Vec<(&'static str, u64, u64)>,
    /// Bytes of push bodies as received.
    pub push_bytes: u64,
    /// TLS handshakes on the push port that failed.
    pub push_handshakes_failed: u64,
    /// Until when the push port's certificates hold, in Unix seconds.
    pub certificate_not_after: Option<u64>,
    /// Whether events can be taken, as `/readyz` has it.
    pub is_ready: bool,
    /// The connections whose API key is known to be valid on its site or not.
    pub keys: Vec<(Box<str>, bool)>,
    /// The history of sends; `None`: none is kept.
    pub history: Option<HistoryStatus>,
    /// The daily comparison with Braze's dashboard; `None`: it is off.
    pub reconcile: Option<ReconcileStatus>,
    /// Log lines that nobody read.
    pub log_lines_lost: u64,
    /// How many connections there are, by state.
    pub connections: Vec<(&'static str, usize)>,
    /// How the configuration was read last.
    pub last_reload: ReloadStatus,
    /// When the process started, in Unix seconds.
    pub started: u64,
    /// How long ago that is, in seconds.
    pub uptime_seconds: u64,
    /// Its usage, where the system reports it.
    pub usage: Option<ProcessUsage>,
}

/// The books in Prometheus' text format 0.0.4.
pub fn prometheus(books: &Books, gauges: &ProcessGauges) -> String {
    let mut page = Page(String::new());
    page.counter("events_received_total", "Elements seen in what came from the queue.", books.received);
    let help = "Events of types that are not counted.";
    page.each("events_ignored_total", "counter", help, "event_type", &books.ignored);
    page.each(
        "events_malformed_total",
        "counter",
        "Elements that can't be counted.",
        "reason",
        &books.malformed,
    );
    let help = "Bytes that no event could be read from, for their JSON is damaged, by input.";
    let unreadable = books.unreadable.iter().map(|(input, unreadable)| (input, unreadable.bytes));
    page.each("bytes_unreadable_total", "counter", help, "input", unreadable);
    page.counter("events_duplicate_total", "Events that were counted before.", books.duplicate);
    let help = "Event ids forgotten before dedup.window was over, because of dedup.max_ids.";
    page.counter("dedup_ids_forgotten_total", help, books.ids_forgotten);

    connections(&mut page, books);
    let help = "Points that the forwarder told Datadog of itself, in accepted requests.";
    page.counter("own_points_accepted_total", help, books.own_points_accepted);
    let help = "The same, in requests that were dropped, by reason.";
    let dropped = books.own_points_dropped.iter().map(|(reason, points)| (reason.label(), points));
    page.each("own_points_dropped_total", "counter", help, "reason", dropped);
    let help = "Seconds from a cut to the last outcome of its requests.";
    page.histogram("flush_seconds", help, &books.flush_seconds);
    page.histogram("payload_bytes", "Bytes of a request body as sent.", &books.payload_bytes);

    page.gauge("ready", "Whether events can be taken, as /readyz has it.", u64::from(gauges.is_ready));
    let help = "Events (in Kafka: messages; in a bucket: objects) in the queue that are not acknowledged.";
    page.gauge("queue_depth", help, gauges.queue.depth);
    let help = "Those of them that wait: they are not taken to be counted yet.";
    page.gauge("queue_waiting", help, gauges.queue.waiting);
    if let Some(log) = &gauges.queue.embedded {
        embedded(&mut page, log);
    }
    if let Some(broker) = &gauges.queue.kafka {
        kafka(&mut page, broker);
    }
    if let Some(buckets) = &gauges.queue.storage {
        storage(&mut page, buckets);
    }
    push(&mut page, gauges);
    let help = "Whether Datadog says that the API key is valid on its site; absent while that is unknown.";
    let keys = gauges.keys.iter().map(|(connection, is_valid)| (connection, u64::from(*is_valid)));
    page.each("key_valid", "gauge", help, CONNECTION, keys);
    let help = "Connections: active; outdated, for their new configuration is wrong and the old one stays; refused, for \
                it is wrong: they are left out, and their sends are dropped.";
    let counts = gauges.connections.iter().map(|(state, count)| (*state, *count as u64));
    page.each("connections", "gauge", help, "state", counts);
    let help = "Whether the configuration was taken over when it was read last (1), or refused whole (0).";
    page.gauge("config_last_reload_successful", help, u64::from(gauges.last_reload.successful));
    let help = "When a configuration was taken over last, in Unix seconds; the start is one.";
    page.gauge("config_last_reload_success_timestamp_seconds", help, gauges.last_reload.last_success);
    if let Some(status) = &gauges.history {
        history(&mut page, status);
    }
    if let Some(status) = &gauges.reconcile {
        reconcile(&mut page, status);
    }
    let help = "Log lines that were lost, for standard error was not read.";
    page.counter("log_lines_lost_total", help, gauges.log_lines_lost);
    page.gauge("start_time_seconds", "When the process started, in Unix seconds.", gauges.started);
    let help = "Always 1; the label says which version runs.";
    page.each("build_info", "gauge", help, "version", [(env!("CARGO_PKG_VERSION"), 1)]);
    process(&mut page, gauges);
    page.0
}

/// The metrics of an exporter's own process, under the names that dashboards expect.
fn process(page: &mut Page, gauges: &ProcessGauges) {
    let help = "Start time of the process since unix epoch in seconds.";
    page.process("process_start_time_seconds", "gauge", help, gauges.started);
    let Some(usage) = &gauges.usage else { return };
    let help = "Total user and system CPU time spent in seconds.";
    page.process("process_cpu_seconds_total", "counter", help, usage.cpu.as_secs_f64());
    let help = "Resident memory size in bytes.";
    page.process("process_resident_memory_bytes", "gauge", help, usage.resident_bytes);
    let help = "Virtual memory size in bytes.";
    page.process("process_virtual_memory_bytes", "gauge", help, usage.virtual_bytes);
    page.process("process_open_fds", "gauge", "Number of open file descriptors.", usage.open_files);
    if let Some(most) = usage.open_files_max {
        let help = "Maximum number of open file descriptors.";
        page.process("process_max_fds", "gauge", help, most);
    }
    page.process("process_threads", "gauge", "Number of OS threads in the process.", usage.threads);
}

fn connections(page: &mut Page, books: &Books) {
    let by_connection =
        |of: fn(&ConnectionBooks) -> u64| books.connections.iter().map(move |(name, one)| (name, of(one)));
    page.each(
        "sends_counted_total",
        "counter",
        "Sends counted.",
        CONNECTION,
        by_connection(|one| one.counted),
    );
    page.each(
        "sends_accepted_total",
        "counter",
        "Sends in accepted requests.",
        CONNECTION,
        by_connection(|one| one.accepted),
    );
    let help = "Accepted requests whose answer speaks of errors.";
    let with_errors = by_connection(|one| one.accepted_with_errors);
    page.each("requests_accepted_with_errors_total", "counter", help, CONNECTION, with_errors);
    page.metric("sends_dropped_total", "counter", "Sends that were dropped, by reason.");
    for (name, connection) in &books.connections {
        for (reason, sends) in &connection.dropped {
            page.value("sends_dropped_total", &[(CONNECTION, name), ("reason", reason.label())], sends);
        }
    }
    page.gauge("sends_pending", "Sends counted whose batch has no outcome yet.", books.pending());
    page.each(
        "series",
        "gauge",
        "Series in the last flush that had events.",
        CONNECTION,
        by_connection(|one| one.series),
    );
    let help = "Tag values in Datadog that stand for several names of Braze's.";
    page.each("names_collapsing", "gauge", help, CONNECTION, by_connection(|one| one.collapsing.tags_total));
}

fn embedded(page: &mut Page, log: &EmbeddedStatus) {
    page.gauge("queue_size_bytes", "Bytes of the queue on disk.", log.size_bytes);
    page.gauge("queue_size_max_bytes", "Bytes that the queue may have.", log.size_max_bytes);
    let help = "Events known to be lost to damage of the disk.";
    page.counter("queue_events_lost_total", help, log.events_lost);
    let help =
        "Events at most that the start cut off the queue's damaged end and that may have been answered.";
    page.counter("queue_events_perhaps_lost_total", help, log.events_perhaps_lost);
    let help = "Events that the start found in the queue although they were never answered.";
    page.counter("queue_events_found_total", help, log.events_found);
    let help = "Bytes that the start cut off the queue, for they are no whole frame.";
    page.counter("queue_torn_bytes_total", help, log.torn_bytes);
}

fn kafka(page: &mut Page, broker: &KafkaStatus) {
    let help = "Messages behind what is committed, in all partitions read.";
    page.gauge("kafka_consumer_lag", help, broker.lag);
    page.gauge("kafka_partitions", "Partitions that this process reads.", broker.partitions);
    let help = "Whether fetching is paused: the pipeline is full.";
    page.gauge("kafka_paused", help, u64::from(broker.paused));
    let help = "Messages that the broker threw away before they were read.";
    page.counter("kafka_messages_lost_total", help, broker.messages_lost);
}

fn storage(page: &mut Page, buckets: &StorageStatus) {
    let help = "Bytes of the objects that were found and are not counted yet, as they are stored.";
    page.gauge("storage_waiting_bytes", help, buckets.bytes_waiting);
    let help =
        "Seconds between the oldest object that waits and the newest that was found, by the store's clock.";
    page.gauge("storage_lag_seconds", help, buckets.lag_seconds);
    let help = "When the newest object that was found was written, in Unix seconds; 0 before one was.";
    page.gauge("storage_newest_found_timestamp_seconds", help, buckets.newest_found);
    let help = "When the newest object that is done was written, in Unix seconds; 0 before one was.";
    page.gauge("storage_newest_done_timestamp_seconds", help, buckets.newest_done);
    page.counter("storage_objects_counted_total", "Objects counted to their end.", buckets.objects_counted);
    let help = "Objects left out: damaged, gone, or of a format that is not read.";
    page.counter("storage_objects_left_out_total", help, buckets.objects_left_out);
    page.counter(
        "storage_read_bytes_total",
        "Bytes of objects read, as they are stored.",
        buckets.bytes_read,
    );
    page.counter("storage_listings_total", "Listings of a source.", buckets.listings);
    page.counter("storage_listings_failed_total", "Listings that failed.", buckets.listings_failed);
}

fn push(page: &mut Page, gauges: &ProcessGauges) {
    let help = "Push requests by the status of the answer.";
    page.each("push_requests_total", "counter", help, "code", gauges.push_requests.iter().copied());
    let refused = gauges.push_refused.iter();
    let requests = refused.clone().map(|(reason, requests, _)| (reason, requests));
    page.each(
        "push_refused_total",
        "counter",
        "Push requests that were refused, by reason.",
        "reason",
        requests,
    );
    let help = "Bytes of push bodies that had come when they were refused, by reason.";
    let bytes = refused.map(|(reason, _, bytes)| (reason, bytes));
    page.each("push_refused_bytes_total", "counter", help, "reason", bytes);
    page.counter("push_received_bytes_total", "Bytes of push bodies as received.", gauges.push_bytes);
    let help = "TLS handshakes on the push port that failed, or took too long.";
    page.counter("push_tls_handshakes_failed_total", help, gauges.push_handshakes_failed);
    if let Some(not_after) = gauges.certificate_not_after {
        let help = "Until when the push port's certificates hold, in Unix seconds.";
        page.gauge("push_certificate_expiry_timestamp_seconds", help, not_after);
    }
}

fn history(page: &mut Page, status: &HistoryStatus) {
    let help = "Whether the history of sends is kept: 0 while its file can't be used.";
    page.gauge("history_kept", help, u64::from(status.since.is_some() && status.trouble.is_none()));
    page.gauge("history_size_bytes", "Bytes of the history's file.", status.size_bytes);
    let help = "Sends whose count or outcome is not in the history of sends.";
    page.counter("history_sends_left_out_total", help, status.sends_left_out);
}

/// One sample a workspace, by its connection.
fn reconcile(page: &mut Page, status: &ReconcileStatus) {
    let name = |one: &WorkspaceStatus| one.connection.clone().unwrap_or_else(|| ALL_OTHERS.to_owned());
    let all = || status.workspaces.iter();
    let help = "Whether the comparison with Braze's dashboard succeeded when it was tried last: Braze could be asked about all, \
                and answered for any, or took the key where there is nothing to ask about; absent before the first time.";
    let tried = all().filter(|one| one.last_attempt.is_some() || one.failed_because.is_some());
    let successful = tried.map(|one| (name(one), u64::from(one.failed_because.is_none())));
    page.each("reconcile_last_attempt_successful", "gauge", help, CONNECTION, successful);
    let help = "When a comparison succeeded last, in Unix seconds; absent until then.";
    let successes = all().filter_map(|one| Some((name(one), one.last_success?)));
    page.each("reconcile_last_success_timestamp_seconds", "gauge", help, CONNECTION, successes);
    let compared = || all().filter_map(|one| Some((name(one), one.compared.as_ref()?)));
    let help = "Sends on the days that were compared last: what Braze's dashboard has, what was counted, what Datadog \
                accepted.";
    page.metric("reconcile_sends", "gauge", help);
    for (connection, sums) in compared() {
        let sends = &sums.sends;
        for (side, sends) in
            [("braze", sends.braze), ("counted", sends.counted), ("accepted", sends.accepted)]
        {
            page.value("reconcile_sends", &[(CONNECTION, &connection), ("side", side)], sends);
        }
    }
    let help = "Campaigns, Canvases and steps that differ by more than reconcile.tolerance.";
    let beyond = compared().map(|(connection, sums)| (connection, sums.objects_beyond_tolerance));
    page.each("reconcile_objects_beyond_tolerance", "gauge", help, CONNECTION, beyond);
    let help = "Campaigns, Canvases and steps that could not be compared, or not on all days.";
    let not_compared = compared().map(|(connection, sums)| (connection, sums.objects_not_compared));
    page.each("reconcile_objects_not_compared", "gauge", help, CONNECTION, not_compared);
}

/// The label of connections without a workspace of their own. No connection has this name.
const ALL_OTHERS: &str = "*";

/// The label for the connection.
const CONNECTION: &str = "connection";

struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP braze_datadog_{name} {help}\n# TYPE braze_datadog_{name} {kind}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "counter", help);
        self.value(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.metric(name, "gauge", help);
        self.value(name, &[], value);
    }

    /// A metric with a label, by its values.
    fn each<L: ToString, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.metric(name, kind, help);
        for (of, value) in values {
            self.value(name, &[(label, &of.to_string())], value);
        }
    }

    /// A metric under a common name, without our prefix.
    fn process(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"));
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

/// Escapes a label's value for the text format.
fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::status::tests::books;
    use super::*;

    #[test]
    fn the_books_are_shown_under_the_names_of_the_contract() {
        let page = prometheus(
            &books(),
            &ProcessGauges {
                queue: QueueStatus {
                    depth: 4,
                    embedded: Some(EmbeddedStatus {
                        events_found: 6,
                        events_perhaps_lost: 2,
                        torn_bytes: 77,
                        ..EmbeddedStatus::default()
                    }),
                    ..QueueStatus::default()
                },
                keys: vec![("acme".into(), true), ("beta".into(), false)],
                history: Some(HistoryStatus {
                    since: Some(5),
                    sends_left_out: 8,
                    ..HistoryStatus::default()
                }),
                started: 1_700_000_000,
                usage: Some(ProcessUsage {
                    cpu: Duration::from_millis(1_250),
                    resident_bytes: 12_000_000,
                    virtual_bytes: 90_000_000,
                    open_files: 21,
                    open_files_max: Some(1_024),
                    threads: 9,
                }),
                ..ProcessGauges::default()
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
            "braze_datadog_history_kept 1",
            "braze_datadog_history_sends_left_out_total 8",
            "braze_datadog_payload_bytes_bucket{le=\"1000\"} 1",
            "braze_datadog_payload_bytes_bucket{le=\"+Inf\"} 1",
            "braze_datadog_payload_bytes_sum 300",
            "# TYPE braze_datadog_flush_seconds histogram",
            "# TYPE process_cpu_seconds_total counter",
            "process_cpu_seconds_total 1.25",
            "process_resident_memory_bytes 12000000",
            "process_virtual_memory_bytes 90000000",
            "process_open_fds 21",
            "process_max_fds 1024",
            "process_threads 9",
            "process_start_time_seconds 1700000000",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn a_label_can_not_break_out_of_its_quotes() {
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
