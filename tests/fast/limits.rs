//! The numbers of docs/limits.md are those of the code.

use std::fs;
use std::path::Path;

/// A row's first column, what it says, and the file and the constant that make it so.
const HELD: [(&str, &str, &str, &str); 42] = [
    ("log lines that nobody reads", "8,192", "src/telemetry/output.rs", "LINES_MAX: usize = 8192"),
    (
        "log lines that nobody reads",
        "tables of a dry run 16",
        "src/telemetry/output.rs",
        "TABLES_MAX: usize = 16",
    ),
    ("files of a reload", "10 s", "src/app/reload.rs", "READ_LIMIT: Duration = Duration::from_secs(10)"),
    ("deliveries in hand", "4 groups a lane", "crates/event-lanes/src/lib.rs", "GROUPS_MAX: usize = 4"),
    ("deliveries in hand", "up to 64 deliveries", "crates/event-lanes/src/group.rs", "GROUP_MAX: usize = 64"),
    (
        "series",
        "1,000 app groups",
        "crates/send-counts/src/aggregate/room.rs",
        "OVERFLOW_APP_GROUPS_MAX: usize = 1000",
    ),
    (
        "series",
        "1 KiB of keys and names",
        "crates/send-counts/src/aggregate/room.rs",
        "SERIES_BYTES_MEAN_MAX: usize = 1024",
    ),
    ("files that are watched", "after eleven looks", "src/app/file_watch.rs", "UNSETTLED_MAX: u32 = 10"),
    ("names remembered", "1,000,000", "src/pipeline/names.rs", "NAMES_MAX: usize = 1_000_000"),
    ("names told as collapsing", "20 tags a connection", "src/pipeline/collapse.rs", "TAGS_MAX: usize = 20"),
    ("names told as collapsing", "10 names", "src/pipeline/collapse.rs", "NAMES_MAX: usize = 10"),
    ("names told as collapsing", "20 ids", "src/pipeline/collapse.rs", "IDS_MAX: usize = 20"),
    (
        "what the forwarder tells of itself",
        "100 connections",
        "src/forwarder_points/metrics.rs",
        "DROPS_MAX: usize = 100",
    ),
    ("questions about keys", "8 at a time", "src/app/keys.rs", "QUESTIONS_MAX: usize = 8"),
    (
        "questions about keys",
        "1 KiB of an answer",
        "crates/datadog-points/src/client/answer.rs",
        "ANSWER_BYTES_MAX: usize = 1024",
    ),
    ("look-ups of names", "4 threads", "crates/http-client/src/resolver.rs", "THREADS: usize = 4"),
    ("look-ups of names", "up to 32", "crates/http-client/src/resolver.rs", "THREADS_MAX: usize = 32"),
    (
        "connections to Datadog",
        "64 idle ones",
        "crates/datadog-points/src/client.rs",
        "IDLE_CONNECTIONS_MAX: usize = 64",
    ),
    ("`reconcile`", "10,000 campaigns", "src/app/reconcile.rs", "OBJECTS_MAX: usize = 10_000"),
    ("`reconcile`", "a million days", "src/app/reconcile/history.rs", "ENTRIES_MAX: usize = 1_000_000"),
    (
        "`reconcile`",
        "16 MiB an answer",
        "crates/braze-rest/src/client.rs",
        "ANSWER_BYTES_MAX: usize = 16 << 20",
    ),
    ("`[reconcile]`", "20 that differ", "src/reconcile/daily.rs", "SHOWN_MAX: usize = 20"),
    ("`[reconcile]`", "50 workspaces", "src/reconcile/daily.rs", "WORKSPACES_MAX: usize = 50"),
    (
        "`campaign_last_send_age`",
        "1,000 campaigns",
        "src/forwarder_points/last_send_age.rs",
        "CAMPAIGNS_MAX: usize = 1_000",
    ),
    (
        "`campaign_last_send_age`",
        "35 days",
        "src/forwarder_points/last_send_age.rs",
        "AGE_MAX: u64 = 35 * 86_400",
    ),
    ("searches", "1,000 bytes of words", "src/admin.rs", "QUERY_BYTES_MAX: usize = 1_000"),
    ("searches", "of which 16 are looked for", "src/catalogue/query.rs", "WORDS_MAX: usize = 16"),
    ("cuts waiting for the flush thread", "2;", "src/pipeline/flush.rs", "JOBS_MAX: usize = 2"),
    ("requests to a connection", "16 under way", "src/pipeline/submit.rs", "REQUESTS_MAX: usize = 16"),
    (
        "requests of all connections",
        "256 begin together",
        "src/pipeline/submit.rs",
        "STARTING_MAX: usize = 256",
    ),
    (
        "a request",
        "1 KiB is read",
        "crates/datadog-points/src/client/answer.rs",
        "ANSWER_BYTES_MAX: usize = 1024",
    ),
    ("connections of the admin port", "64 (", "src/admin.rs", "CONNECTIONS_MAX: usize = 64"),
    (
        "a request's header",
        "16 KiB",
        "crates/http-listener/src/connection.rs",
        "HEADER_BYTES_MAX: usize = 16 * 1024",
    ),
    (
        "a block of an Avro container",
        "values 64 deep",
        "crates/braze-events/src/avro/walk.rs",
        "DEPTH_MAX: u32 = 64",
    ),
    (
        "a block of an Avro container",
        "compiled schemas 1,024 a lane",
        "crates/braze-events/src/avro.rs",
        "PLANS_MAX: usize = 1_024",
    ),
    (
        "what intermediaries wrap",
        "five wrappers deep",
        "crates/braze-events/src/decode/unwrap.rs",
        "DEPTH_MAX: u8 = 5",
    ),
    ("questions about history", "400 days", "crates/send-history/src/time_range.rs", "DAYS_MAX: usize = 400"),
    ("questions about history", "5,000 objects", "src/admin/history.rs", "LIMIT_MAX: usize = 5_000"),
    (
        "a listing of a bucket",
        "8 levels",
        "crates/event-queues/src/storage/client/poller/descent.rs",
        "DEPTH_MAX: usize = 8",
    ),
    (
        "fetched from buckets",
        "256 objects that were found",
        "crates/event-queues/src/storage/client/poller.rs",
        "FOUND_MAX: usize = 256",
    ),
    (
        "schemas of the registry",
        "1,000",
        "crates/event-queues/src/kafka/client/schemas/known.rs",
        "SCHEMAS_MAX: usize = 1_000",
    ),
    (
        "labels of ignored event types",
        "64",
        "crates/event-lanes/src/stats.rs",
        "IGNORED_TYPES_MAX: usize = 64",
    ),
];

#[test]
fn the_limits_are_those_of_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    let page = read("docs/limits.md");
    let mut wrong = Vec::new();
    for (row, says, file, constant) in HELD {
        let bound = page.lines().find_map(|line| line.strip_prefix(&format!("| {row} | ")));
        if !bound.is_some_and(|bound| bound.contains(says)) {
            wrong.push(format!("docs/limits.md: the row `{row}` does not say {says:?}"));
        }
        if !read(file).contains(&format!("const {constant};")) {
            wrong.push(format!("{file}: no `const {constant};`, as docs/limits.md says of {row}: {says:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
