//! The alerts for Prometheus, and whatever else names metrics: held against the metrics and labels that there are, so
//! that no text can look at a label that nobody shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::exposed::{exposed, find};
use crate::yaml;

/// How the names of our metrics begin.
const OURS: &str = "braze_datadog_";

/// Labels that Prometheus adds to what it scrapes.
const SCRAPED: [&str; 2] = ["instance", "job"];

fn read(path: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), path].iter().collect();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// An alert's name, expression, and the texts of its annotations.
fn alerts(rules: &str) -> Vec<(String, String, Vec<String>)> {
    let rules = yaml::document(rules);
    let rules = array(&rules["groups"]).iter().flat_map(|group| array(&group["rules"]));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let annotations = |rule: &Value| rule["annotations"].as_object().unwrap().values().map(text).collect();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]), annotations(rule))).collect()
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The samples of ours that a text names, with what is behind each.
fn samples(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = text.match_indices(OURS).map(|(at, _)| at);
    let starts = starts.filter(|at| !text[..*at].ends_with(is_word));
    starts.map(|at| {
        let end = text[at..].find(|letter| !is_word(letter)).unwrap_or(text.len() - at);
        text[at..].split_at(end)
    })
}

/// What stands between the bracket that `text` begins with and the one that closes it, and what is behind.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        if depth == 0 {
            return (letter == ')').then(|| (&text[1..at], &text[at + 1..]));
        }
    }
    None
}

fn words(list: &str) -> BTreeSet<&str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
}

/// The keys of the selector that `text` begins with: `{code!="200",reason=~"a|b"} > 0`.
fn selected(text: &str) -> BTreeSet<&str> {
    let Some((inside, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else {
        return BTreeSet::new();
    };
    let keys = inside.split("\",").filter_map(|part| part.split(['=', '!']).next());
    keys.map(str::trim).filter(|key| !key.is_empty()).collect()
}

/// Labels that all metrics of an expression have.
fn shared(expression: &str) -> BTreeSet<String> {
    let metrics = exposed();
    let labels = samples(expression).filter_map(|(name, _)| Some(find(&metrics, name)?.labels.clone()));
    let own = labels.reduce(|one, other| one.intersection(&other).cloned().collect()).unwrap_or_default();
    own.into_iter().chain(SCRAPED.map(ToOwned::to_owned)).collect()
}

/// What is wrong with an expression of Prometheus'.
fn violations(expression: &str) -> Vec<String> {
    let metrics = exposed();
    let mut violations = Vec::new();
    for (name, behind) in samples(expression) {
        let Some(metric) = find(&metrics, name) else {
            violations.push(format!("/metrics has no {name}"));
            continue;
        };
        let unknown = selected(behind)
            .into_iter()
            .filter(|label| !metric.labels.contains(*label) && !SCRAPED.contains(label) && *label != "le");
        violations.extend(unknown.map(|label| format!("{name} has no label {label}")));
    }
    for (word, is_grouping) in [("by", true), ("on", false), ("ignoring", false), ("without", true)] {
        for (at, _) in expression.match_indices(&format!("{word} (")) {
            let Some((list, behind)) = bracketed(&expression[at + word.len() + 1..]) else { continue };
            // What is grouped stands in the next brackets; what is matched, on both sides.
            let of = if is_grouping {
                bracketed(behind.trim_start()).map_or("", |(of, _)| of)
            } else {
                expression
            };
            let there = shared(of);
            let unknown = words(list).into_iter().filter(|label| !there.contains(*label));
            violations.extend(unknown.map(|label| format!("{word} ({label}): not a label of {}", of.trim())));
        }
    }
    violations
}

/// The labels that what an alert's expression gives still has.
fn left(expression: &str) -> BTreeSet<String> {
    match expression.trim().strip_prefix("sum by ").and_then(bracketed) {
        Some((list, _)) => words(list).into_iter().map(ToOwned::to_owned).collect(),
        None => shared(expression),
    }
}

/// What is wrong with an alert.
fn check(expression: &str, annotations: &[String]) -> Vec<String> {
    let mut found = violations(expression);
    let there = left(expression);
    for text in annotations {
        let used = text.split("$labels.").skip(1).filter_map(|rest| rest.split(|c| !is_word(c)).next());
        let unknown = used.filter(|label| !there.contains(*label));
        found.extend(unknown.map(|label| format!("{{{{ $labels.{label} }}}} is not there any more")));
    }
    found
}

#[test]
fn the_alerts_look_at_metrics_and_labels_that_there_are() {
    let alerts = alerts(&read("config/prometheus/alerts.yaml"));
    assert!(alerts.len() >= 10, "{alerts:?}");
    for (name, expression, annotations) in alerts {
        assert_eq!(check(&expression, &annotations), [""; 0], "{name}");
    }
}

/// The tests of the alerts, from both of their files.
fn tests() -> Vec<Value> {
    let of = |file: &str| array(&yaml::document(&read(file))["tests"]).to_vec();
    ["config/prometheus/alerts.test.yaml", "config/prometheus/alerts.week.test.yaml"]
        .into_iter()
        .flat_map(of)
        .collect()
}

#[test]
fn the_series_that_the_alerts_are_tested_with_are_those_that_there_are() {
    let tests = tests();
    let series = tests.iter().flat_map(|test| array(&test["input_series"]));
    let metrics = exposed();
    for series in series.map(|series| series["series"].as_str().unwrap()) {
        assert_eq!(violations(series), [""; 0], "{series}");
        for (name, behind) in samples(series) {
            let given: BTreeSet<String> = selected(behind).into_iter().map(ToOwned::to_owned).collect();
            let missing: Vec<_> = find(&metrics, name).unwrap().labels.difference(&given).collect();
            assert!(missing.is_empty(), "{series} lacks {missing:?}, which /metrics shows");
        }
    }
}

#[test]
fn every_alert_is_tested_where_it_goes_off_and_where_it_is_silent() {
    let tests = tests();
    let cases: Vec<&Value> = tests.iter().flat_map(|test| array(&test["alert_rule_test"])).collect();
    for (name, ..) in alerts(&read("config/prometheus/alerts.yaml")) {
        let of = |is_silent: bool| {
            cases
                .iter()
                .any(|case| case["alertname"] == *name && array(&case["exp_alerts"]).is_empty() == is_silent)
        };
        assert!(of(false), "{name}: no case in alerts*.test.yaml where it goes off");
        assert!(of(true), "{name}: no case in alerts*.test.yaml where it is silent");
    }
}

#[test]
fn what_looks_at_what_is_not_there_is_seen() {
    let of = |expression: &str| violations(expression).join("; ");
    assert!(of("rate(braze_datadog_push_requests_total{status!=\"200\"}[5m])").contains("no label status"));
    assert!(of("braze_datadog_sends_lost_total > 0").contains("no braze_datadog_sends_lost_total"));
    assert!(of("sum by (cause) (rate(braze_datadog_sends_dropped_total[5m]))").contains("cause"));
    assert!(of("braze_datadog_sends_pending > 0 unless on (host) up").contains("host"));
    assert!(of("braze_datadog_flush_secs_bucket{le=\"1\"}").contains("no braze_datadog_flush_secs_bucket"));
    assert_eq!(of("braze_datadog_flush_seconds_bucket{le=\"1\", instance=\"a\"}"), "");
    let labels = ["{{ $labels.status }}".to_owned()];
    assert!(
        check("sum by (code) (rate(braze_datadog_push_requests_total[5m])) > 0", &labels)[0]
            .contains("status")
    );
    assert!(check("braze_datadog_key_valid == 0", &["{{ $labels.key }}".to_owned()])[0].contains("key"));
}

/// The pages for people, and what ships beside them.
fn pages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["", "docs", "config", "config/datadog", "config/prometheus"] {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), folder].iter().collect();
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let is_text = path
                .extension()
                .is_some_and(|end| ["md", "toml", "yaml", "json"].iter().any(|is| end == *is));
            if is_text && !path.ends_with("Cargo.toml") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_page_names_metrics_and_labels_that_there_are() {
    let metrics = exposed();
    let mut named = 0;
    for (path, text) in pages() {
        for (name, behind) in samples(&text) {
            named += 1;
            // The Agent leaves out the end of a counter's name, and a text may leave open how one ends.
            let is_agents =
                path.ends_with("openmetrics.yaml") && metrics.contains_key(&format!("{name}_total"));
            let is_open = behind.starts_with('…') && metrics.keys().any(|known| known.starts_with(name));
            assert!(find(&metrics, name).is_some() || is_agents || is_open, "{path}: /metrics has no {name}");
            if let Some(metric) = find(&metrics, name) {
                let unknown: Vec<_> = selected(behind)
                    .into_iter()
                    .filter(|label| !metric.labels.contains(*label) && !SCRAPED.contains(label))
                    .collect();
                assert!(unknown.is_empty(), "{path}: {name} has no label {unknown:?}");
            }
        }
    }
    assert!(named > 100, "{named}");
}

#[test]
fn the_contract_tells_the_labels_of_every_metric() {
    let page = read("docs/contract.md");
    let (_, section) = page.split_once("\n## Metrics\n").unwrap();
    let rows = section.split("\n### ").next().unwrap().lines().filter(|line| line.starts_with("| `"));
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        // What is in brackets is values, or how many.
        let column = cells[1].split('(').next().unwrap();
        let told: BTreeSet<String> = column.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect();
        for (name, _) in samples(cells[0]) {
            let metric = exposed().remove(name).unwrap_or_else(|| panic!("/metrics has no {name}"));
            assert_eq!(told, metric.labels, "docs/contract.md: the labels of {name}");
        }
    }
}
