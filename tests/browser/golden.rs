//! Answers of the admin port, held byte by byte against what is kept of them. `WRITE_GOLDEN=1` keeps them anew.

use std::fmt::Write;
use std::path::Path;

/// What is another one in each run: times, ports, directories, and bytes that depend on the seed of a hash.
const VOLATILE: [&str; 23] = [
    "accepted_at",
    "accepted_seconds",
    "at",
    "comparison",
    "day",
    "end",
    "history_since",
    "last_send",
    "last_success",
    "last_send_seconds_ago",
    "now",
    "seconds_ago",
    "since",
    "size_bytes",
    "started",
    "sum",
    "uptime_seconds",
    "url",
    "value",
    "site",
    "version",
    "words",
    "seconds",
];

/// The metrics that are.
const VOLATILE_METRICS: [&str; 8] = [
    "braze_datadog_config_last_reload_success_timestamp_seconds",
    "braze_datadog_flush_seconds",
    "braze_datadog_history_size_bytes",
    "braze_datadog_payload_bytes",
    "braze_datadog_queue_size_bytes",
    "braze_datadog_start_time_seconds",
    "braze_datadog_build_info",
    "process_",
];

/// Holds `answer` against the file `tests/browser/NAME`.
pub(crate) fn assert_kept(name: &str, answer: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, answer).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    for (number, (is, was)) in answer.lines().zip(kept.lines()).enumerate() {
        assert_eq!(is, was, "{name}:{}", number + 1);
    }
    assert_eq!(answer, kept, "{name}");
}

/// JSON as it was written, with a mark for each value that is another one in each run, and the lengths of arrays of
/// numbers in their place.
pub(crate) fn steady_json(text: &str) -> String {
    let mut steady = String::new();
    let mut numbers = 0;
    for line in text.lines() {
        if line.trim().trim_end_matches(',').parse::<f64>().is_ok() {
            numbers += 1;
            continue;
        }
        if numbers > 0 {
            writeln!(steady, "({numbers} numbers)").unwrap();
            numbers = 0;
        }
        let key = line.trim().strip_prefix('"').and_then(|rest| rest.split_once("\": ")).map(|(key, _)| key);
        match key {
            Some(key) if VOLATILE.contains(&key) && !line.ends_with(['[', '{']) => {
                let end = if line.ends_with(',') { "," } else { "" };
                let indent = &line[..line.len() - line.trim_start().len()];
                writeln!(steady, "{indent}\"{key}\": …{end}").unwrap();
            }
            _ => writeln!(steady, "{line}").unwrap(),
        }
    }
    steady
}

/// The same for metrics.
pub(crate) fn steady_metrics(text: &str) -> String {
    let is_volatile = |line: &str| VOLATILE_METRICS.iter().any(|name| line.starts_with(name));
    let steady = |line: &str| match line.rsplit_once(' ') {
        Some((name, _)) if is_volatile(line) => format!("{} …\n", name.split("version=").next().unwrap()),
        _ => format!("{line}\n"),
    };
    text.lines().map(steady).collect()
}
