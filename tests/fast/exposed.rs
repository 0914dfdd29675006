//! What `/metrics` shows: the names, kinds and labels of all metrics, for those who hold texts against them.

use std::collections::{BTreeMap, BTreeSet};

use admin_api::{
    EmbeddedStatus, HistoryStatus, KafkaStatus, QueueStatus, ReconcileStatus, StorageStatus, WorkspaceStatus,
    WorkspaceSums,
};
use braze_datadog::admin::process_usage::ProcessUsage;
use braze_datadog::admin::prometheus::{ProcessGauges, prometheus};
use event_lanes::stats::{DropReason, Stats, Tally, Unreadable};

/// What a running forwarder was seen to show.
const KEPT: &str = include_str!("../browser/metrics.txt");

/// A metric on the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exposed {
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: String,
    pub(crate) labels: BTreeSet<String>,
}

/// Every metric by its whole name.
pub(crate) fn exposed() -> BTreeMap<String, Exposed> {
    let mut metrics = read(&page());
    for (name, kept) in read(KEPT) {
        let metric = metrics.entry(name.clone()).or_insert_with(|| kept.clone());
        assert_eq!(metric.kind, kept.kind, "{name}: tests/browser/metrics.txt has another kind");
        metric.labels.extend(kept.labels);
    }
    metrics
}

/// The metric that a sample of this name belongs to: one of a histogram has an end of its own.
pub(crate) fn find<'m>(metrics: &'m BTreeMap<String, Exposed>, sample: &str) -> Option<&'m Exposed> {
    metrics.get(sample).or_else(|| {
        let ends = ["_bucket", "_sum", "_count"];
        let name = ends.iter().find_map(|end| sample.strip_suffix(end))?;
        metrics.get(name).filter(|metric| metric.kind == "histogram")
    })
}

/// A page on which everything has happened once, so that every label is there.
fn page() -> String {
    let stats = Stats::new();
    stats.add_connection("acme");
    stats.book(&Tally {
        received: 3,
        duplicate: 0,
        ids_forgotten: 0,
        ignored: vec![("users.messages.email.Open".into(), 1)],
        malformed: BTreeMap::from([("json", 1)]),
        unreadable: BTreeMap::from([("push", Unreadable { bytes: 1, last: String::new() })]),
        counted: vec![("acme".into(), 1)],
        dropped: BTreeMap::from([(("acme".into(), DropReason::Late), 1)]),
    });
    stats.book_own_points(1, Some(DropReason::Late));
    let queue = QueueStatus {
        embedded: Some(EmbeddedStatus::default()),
        kafka: Some(KafkaStatus::default()),
        storage: Some(StorageStatus::default()),
        ..QueueStatus::default()
    };
    let gauges = ProcessGauges {
        queue,
        push_requests: vec![(200, 1)],
        push_refused: vec![("json", 1, 1)],
        keys: vec![("acme".into(), true)],
        certificate_not_after: Some(1),
        connections: vec![("active", 1)],
        history: Some(HistoryStatus::default()),
        reconcile: Some(ReconcileStatus {
            workspaces: vec![WorkspaceStatus {
                last_attempt: Some(1),
                last_success: Some(1),
                compared: Some(WorkspaceSums::default()),
                ..WorkspaceStatus::default()
            }],
            ..ReconcileStatus::default()
        }),
        usage: Some(ProcessUsage { open_files_max: Some(1), ..ProcessUsage::default() }),
        ..ProcessGauges::default()
    };
    prometheus(&stats.snapshot(), &gauges)
}

fn read(page: &str) -> BTreeMap<String, Exposed> {
    let mut metrics = BTreeMap::new();
    let mut last = String::new();
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            name.clone_into(&mut last);
            metrics.insert(last.clone(), Exposed { kind: kind.to_owned(), labels: BTreeSet::new() });
        } else if let Some((_, labels)) = line.split_once('{')
            && !line.starts_with('#')
        {
            // What is another value in each run may be cut off behind the bracket.
            let names =
                labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.trim().to_owned()));
            metrics.get_mut(&last).unwrap().labels.extend(names.filter(|name| name != "le"));
        }
    }
    metrics
}

#[test]
fn every_metric_of_a_running_forwarder_is_on_the_page_that_texts_are_held_against() {
    let (made, kept) = (read(&page()), read(KEPT));
    assert!(kept.len() > 20, "{kept:#?}");
    let unknown: Vec<_> = kept.keys().filter(|name| !made.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "tests/browser/metrics.txt has {unknown:?}, which page() lacks");
    let other: Vec<_> =
        kept.iter().filter(|(name, kept)| !kept.labels.is_subset(&made[*name].labels)).collect();
    assert!(other.is_empty(), "page() lacks labels of {other:?}");
    assert_eq!(
        made["braze_datadog_sends_dropped_total"].labels,
        ["connection", "reason"].map(String::from).into()
    );
    assert_eq!(made["braze_datadog_push_requests_total"].labels, ["code".to_owned()].into());
}
