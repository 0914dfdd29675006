//! The Helm chart, as far as it can be checked without Helm; `deploy/helm/check` does the rest.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::yaml;

const CHART: &str = "deploy/helm/braze-datadog";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A chart can't hold what lies outside of its folder, so it has a copy.
#[test]
fn the_alerts_in_the_chart_are_those_that_are_tested() {
    let copy = format!("{CHART}/files/alerts.yaml");
    assert_eq!(
        read(&copy),
        read("config/prometheus/alerts.yaml"),
        "cp config/prometheus/alerts.yaml {copy} makes them the same again"
    );
}

#[test]
fn the_chart_is_for_this_version() {
    let chart = yaml::document(&read(&format!("{CHART}/Chart.yaml")));
    assert_eq!(chart["apiVersion"], "v2");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"), "Chart.yaml: appVersion");
}

/// The words between the brackets that follow `start`.
fn listed<'t>(text: &'t str, start: &str, end: char) -> Vec<&'t str> {
    let (_, list) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    list.split(end).next().unwrap().split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_chart_knows_the_secrets_that_the_forwarder_knows() {
    let (chart, code) = (read(&format!("{CHART}/templates/_helpers.tpl")), read("src/config/options.rs"));
    for (kind, constant) in [("kafka", "SECRET_WORDS"), ("storage", "STORAGE_SECRETS")] {
        let (_, behind) = code.split_once(&format!("const {constant}: ")).unwrap();
        let known = listed(behind, "=", ';');
        assert!(known.len() >= 4, "{known:?}");
        assert!(
            known.iter().all(|word| *word == word.to_ascii_lowercase()),
            "{known:?} are sought in lower case"
        );
        assert_eq!(listed(&chart, &format!("\"{kind}\" (list "), ')'), known, "_helpers.tpl: {constant}");
    }
    assert!(
        chart.contains("$name := lower $key") && chart.contains("contains $word $name"),
        "_helpers.tpl: names in any case"
    );
}

/// What a volume has to hold is reckoned with them.
#[test]
fn the_chart_knows_the_default_sizes() {
    let chart = read(&format!("{CHART}/templates/_helpers.tpl"));
    let schema: Value = serde_json::from_str(&read("config/braze-datadog.schema.json")).unwrap();
    for path in ["history", "queue.embedded"] {
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        let default = &schema.pointer(&pointer).unwrap()["properties"]["max_size"]["default"];
        let used = format!("dig \"{}\" \"max_size\" {default} ", path.replace('.', "\" \""));
        assert!(chart.contains(&used), "_helpers.tpl: {used}");
    }
}

/// The keys of a text without a comment of their own: above, or, where a section begins, at the start of it.
fn uncommented(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let is_key = |line: &str| !is_comment(line) && line.contains(':');
    let is_told = |at: usize| {
        let opens = lines[at].ends_with(':') && lines.get(at + 1).is_some_and(|next| is_comment(next));
        opens || (at > 0 && is_comment(lines[at - 1]))
    };
    (0..lines.len()).filter(|at| is_key(lines[*at]) && !is_told(*at)).map(|at| lines[at]).collect()
}

#[test]
fn every_value_has_a_comment() {
    let values = read(&format!("{CHART}/values.yaml"));
    assert_eq!(uncommented(&values), Vec::<&str>::new());
    assert_eq!(uncommented("# a\na: 1\nb: 2\nc:\n  # d\n  d: 1\n  e: 1\n"), ["b: 2", "  e: 1"]);
}

/// What a schema lets through at a place where it names its keys would be a misspelt key.
fn open_objects(schema: &Value, path: &str, found: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    if schema["additionalProperties"] != Value::Bool(false) {
        found.push(path.to_owned());
    }
    for (key, inner) in properties {
        open_objects(inner, &format!("{path}.{key}"), found);
    }
}

/// What differs between the defaults and what the schema knows.
fn differences(values: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let (Some(values), Some(properties)) = (values.as_object(), schema["properties"].as_object()) else {
        return;
    };
    // Helm's own, which every chart may be handed.
    for key in properties.keys().filter(|key| !values.contains_key(*key) && *key != "global") {
        found.push(format!("values.yaml lacks {path}.{key}"));
    }
    for (key, inner) in values {
        match properties.get(key) {
            None => found.push(format!("values.schema.json lacks {path}.{key}")),
            // What is not set by default has every key of the forwarder's.
            Some(_) if inner.as_object().is_some_and(serde_json::Map::is_empty) => {}
            Some(of) => differences(inner, of, &format!("{path}.{key}"), found),
        }
    }
}

#[test]
fn the_schema_of_the_values_knows_each_of_them_and_no_other() {
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let values = yaml::document(&read(&format!("{CHART}/values.yaml")));
    let mut found = Vec::new();
    open_objects(&schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new(), "additionalProperties is not false");
    differences(&values, &schema, "", &mut found);
    assert_eq!(found, Vec::<String>::new());
}
