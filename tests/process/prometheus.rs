//! `/metrics` and the example alerts, held against Prometheus' own tool.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::support::analytics::{REST_KEY, ScriptedBraze};
use crate::support::forwarder::Configuration;
use crate::support::intake::{Behaviour, Intake};
use crate::support::{self, children};
use crate::yaml;

const ALERTS: &str = "config/prometheus/alerts.yaml";
const ALERTS_TESTS: [&str; 2] =
    ["config/prometheus/alerts.test.yaml", "config/prometheus/alerts.week.test.yaml"];

/// How our metrics begin; the alerts use others of Prometheus' own, too.
const OURS: &str = "braze_datadog_";

/// What `setpriv` ends with where there is no such program.
const NOT_FOUND: i32 = 127;

/// Runs promtool with arguments and a standard input; whether all is well, and what it says.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    let mut promtool = children::command("promtool");
    promtool
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = children::spawn(promtool).unwrap();
    // It may have ended without reading; then it has said why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.code() != Some(NOT_FOUND), "promtool can't be run: make tools");
    (output.status.success(), said)
}

/// What `/metrics` says once there is something of everything: accepted, dropped, duplicate, ignored, malformed, compared.
async fn page() -> String {
    let (intake, braze) = (Intake::start(), ScriptedBraze::start());
    let configuration = Configuration::new()
        .connection("acme", &intake.url(), "key", &["g"])
        .environment("BRAZE_KEY", REST_KEY)
        .text("reconcile.braze_url", &braze.url())
        .text("reconcile.braze_key_env", "BRAZE_KEY");
    let forwarder = configuration.start().await;
    let event = |kind: &str, id: &str, group: &str| {
        let now = support::unix_now();
        format!(
            r#"{{"event_type":"users.messages.{kind}","id":"{id}","time":{now},"properties":{{"app_group_id":"{group}"}}}}"#
        )
    };
    let batch = |events: &[String]| format!(r#"{{"events":[{}]}}"#, events.join(","));
    let first = [
        event("email.Send", "1", "g"),
        event("email.Send", "1", "g"),
        event("email.Open", "2", "g"),
        event("sms.Send", "3", "nobody"),
        "{}".to_owned(),
    ];
    forwarder.push_accepted(batch(&first)).await;
    intake.wait_for_sends(1).await;
    intake.always(Behaviour::Status(403, "Forbidden"));
    forwarder.push_accepted(batch(&[event("email.Send", "4", "g")])).await;
    forwarder.settled(6).await;
    assert_eq!(forwarder.push("no JSON").await.status(), 400);
    let books = forwarder.books_balance().await;
    assert_eq!((books.accepted, books.dropped, books.duplicate), (1, 2, 1));
    support::eventually("Datadog was compared with Braze's dashboard", async || {
        let (status, page) = forwarder.admin("/metrics").await;
        assert_eq!(status, 200);
        page.contains("braze_datadog_reconcile_sends{").then_some(page)
    })
    .await
}

/// The words of a text that are names.
fn names(text: &str, is_name: impl Fn(&str) -> bool) -> BTreeSet<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| is_name(word)).collect()
}

#[tokio::test]
async fn prometheus_has_nothing_to_say_about_the_metrics_and_the_alerts_use_what_there_is() {
    let page = page().await;
    assert_eq!(promtool(&["check", "metrics"], &page), (true, String::new()));
    let (is_well, said) = promtool(&["check", "metrics"], "# TYPE sends_count counter\nsends_count 1\n");
    assert!(!is_well && said.contains("_total"), "it says nothing of bad names: {said}");

    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let told: BTreeSet<&str> = types.collect();
    // Other kinds of queue have metrics of their own, and so has a certificate. The contract lists them all, and is held against the code.
    let contract =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contract.md")).unwrap();
    let of_other_queues = |metric: &&&str| {
        let is_theirs = ["kafka_", "storage_", "push_certificate_"]
            .iter()
            .any(|queue| metric[OURS.len()..].starts_with(queue));
        is_theirs && contract.contains(&format!("`{metric}`"))
    };
    for histogram in ["braze_datadog_flush_seconds", "braze_datadog_payload_bytes"] {
        assert!(page.contains(&format!("# TYPE {histogram} histogram")), "{histogram}");
    }
    let alerts = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(ALERTS)).unwrap();
    let used = names(&alerts, |word| word.starts_with(OURS));
    assert!(used.len() > 5, "{used:?}");
    let unknown: Vec<_> = used.difference(&told).filter(|metric| !of_other_queues(metric)).collect();
    assert!(unknown.is_empty(), "the alerts use {unknown:?}, which /metrics does not have");
}

/// An increase is seen from the first push on, and no push at all as 0.
#[tokio::test]
async fn every_status_of_a_push_is_told_before_there_is_one() {
    let intake = Intake::start();
    let forwarder = Configuration::new().connection("acme", &intake.url(), "key", &["g"]).start().await;
    let (_, page) = forwarder.admin("/metrics").await;
    for code in [200, 400, 401, 403, 404, 413, 500, 503] {
        let line = format!("\nbraze_datadog_push_requests_total{{code=\"{code}\"}} 0\n");
        assert!(page.contains(&line), "no {line} in {page}");
    }
}

#[test]
fn the_example_alerts_are_rules_that_go_off_when_they_should() {
    let (is_well, said) = promtool(&["check", "rules", ALERTS], "");
    assert!(is_well, "{said}");
    for test in ALERTS_TESTS {
        let (is_well, said) = promtool(&["test", "rules", test], "");
        assert!(is_well, "{said}");
    }
}

/// What the collector's receiver is given is a configuration of Prometheus', which promtool knows all of; `make otel` has
/// the rest of the file validated by a collector.
#[test]
fn what_opentelemetry_scrapes_by_is_a_configuration_of_prometheus() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/opentelemetry/collector.yaml");
    let collector = yaml::document(&std::fs::read_to_string(path).unwrap());
    let home = tempfile::tempdir().unwrap();
    let check = |name: &str, change: &dyn Fn(&str) -> String| {
        let scrape = collector["receivers"]["prometheus"]["config"].to_string();
        let file = home.path().join(name);
        std::fs::write(
            &file,
            change(&scrape.replace("${env:BRAZE_DATADOG_ADMIN:-127.0.0.1:8081}", "127.0.0.1:8081")),
        )
        .unwrap();
        promtool(&["check", "config", file.to_str().unwrap()], "")
    };
    let (is_well, said) = check("as-it-is.json", &str::to_owned);
    assert!(is_well, "{said}");
    let (is_well, said) = check("misspelt.json", &|text| text.replace("scrape_timeout", "scrape_time_out"));
    assert!(!is_well && said.contains("scrape_time_out"), "{said}");
}
