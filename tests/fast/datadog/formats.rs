//! Everything for Datadog in the words of Terraform and of the Datadog Operator, read by parsers of their languages.

use serde_json::{Value, json};

use super::{DUE, MONITORS, monitors, printed, shipped};
use crate::yaml;

/// What the command prints.
fn text(arguments: &[&str]) -> String {
    let output = monitors(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The resources of a Terraform file: type, name, and the JSON that Terraform makes of its one attribute.
fn terraform(text: &str) -> Vec<(String, String, Value)> {
    let body: hcl::Body = hcl::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let context = hcl::eval::Context::new();
    let blocks = body.blocks().map(|block| {
        assert_eq!(block.identifier(), "resource");
        let labels: Vec<&str> = block.labels().iter().map(hcl::BlockLabel::as_str).collect();
        let attributes: Vec<_> = block.body().attributes().collect();
        assert_eq!((labels.len(), attributes.len()), (2, 1), "{text}");
        assert_eq!(labels[0], format!("datadog_{}_json", attributes[0].key()));
        let value = hcl::eval::Evaluate::evaluate(attributes[0].expr(), &context).unwrap();
        let json = value.as_str().unwrap_or_else(|| panic!("no text: {value}"));
        (labels[0].to_owned(), labels[1].to_owned(), serde_json::from_str(json).unwrap())
    });
    blocks.collect()
}

/// What the Operator would send to Datadog, read with its types as `datadogmonitor_types.go` and
/// `datadogdashboard_types.go` have them.
fn operator(object: &Value) -> Value {
    assert_eq!(object["apiVersion"], "datadoghq.com/v1alpha1", "{object}");
    let name = object["metadata"]["name"].as_str().unwrap();
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    assert!(!name.is_empty() && name.len() <= 63 && name.chars().all(is_part), "{name}");
    assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
    let spec = &object["spec"];
    match object["kind"].as_str().unwrap() {
        "DatadogGenericResource" => {
            assert_eq!(spec["type"], "monitor");
            serde_json::from_str(spec["jsonSpec"].as_str().unwrap()).unwrap()
        }
        "DatadogMonitor" => monitor(spec),
        "DatadogDashboard" => dashboard(spec),
        other => panic!("the Operator has no {other}"),
    }
}

fn monitor(spec: &Value) -> Value {
    let mut api = json!({ "options": {} });
    for (key, value) in spec.as_object().unwrap() {
        match &**key {
            "name" | "message" | "query" | "type" => {
                assert!(value.as_str().is_some_and(|text| !text.is_empty()));
            }
            "priority" => assert!((1..=5).contains(&value.as_i64().unwrap())),
            "tags" => assert!(value.is_array()),
            "options" => {
                for (key, value) in value.as_object().unwrap() {
                    let (name, value) = option(key, value);
                    api["options"][name] = value;
                }
                continue;
            }
            other => panic!("spec has no {other}"),
        }
        api[key] = value.clone();
    }
    api
}

fn option(key: &str, value: &Value) -> (&'static str, Value) {
    let is_right = match key {
        "evaluationDelay" | "newGroupDelay" | "renotifyInterval" => value.is_u64(),
        "includeTags" | "notifyAudit" | "requireFullWindow" => value.is_boolean(),
        "onMissingData" => value.is_string(),
        "thresholds" => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        _ => false,
    };
    assert!(is_right, "options.{key}: {value}");
    let number = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    match key {
        "evaluationDelay" => ("evaluation_delay", value.clone()),
        "newGroupDelay" => ("new_group_delay", value.clone()),
        "renotifyInterval" => ("renotify_interval", value.clone()),
        "includeTags" => ("include_tags", value.clone()),
        "notifyAudit" => ("notify_audit", value.clone()),
        "requireFullWindow" => ("require_full_window", value.clone()),
        "onMissingData" => ("on_missing_data", value.clone()),
        _ => {
            let map = value.as_object().unwrap();
            ("thresholds", map.iter().map(|(name, text)| (name.clone(), number(text))).collect())
        }
    }
}

fn dashboard(spec: &Value) -> Value {
    let mut api = json!({});
    for (key, value) in spec.as_object().unwrap() {
        match &**key {
            "title" | "description" | "tags" => api[key] = value.clone(),
            "layoutType" => api["layout_type"] = value.clone(),
            "reflowType" => api["reflow_type"] = value.clone(),
            "widgets" => api["widgets"] = serde_json::from_str(value.as_str().unwrap()).unwrap(),
            "templateVariables" => {
                let renamed = value.as_array().unwrap().iter().map(|variable| {
                    let entries = variable.as_object().unwrap().iter();
                    let known = |key: &str| match key {
                        "availableValues" => "available_values".to_owned(),
                        "name" | "prefix" | "defaults" => key.to_owned(),
                        other => panic!("a variable has no {other}"),
                    };
                    entries.map(|(key, value)| (known(key), value.clone())).collect::<Value>()
                });
                api["template_variables"] = renamed.collect();
            }
            other => panic!("spec has no {other}"),
        }
    }
    api
}

/// Holds both formats of a command against its JSON; says what kind Kubernetes is given.
fn same_in_all(arguments: &[&str]) -> String {
    let (json, _) = printed(arguments);
    let with = |format: &str| text(&[arguments, &["--format", format]].concat());
    let resources = terraform(&with("terraform"));
    assert_eq!(resources.len(), 1);
    assert_eq!((&*resources[0].0, &resources[0].2), ("datadog_monitor_json", &json), "{arguments:?}");
    let object = yaml::document(&with("kubernetes"));
    assert_eq!(operator(&object), json, "{arguments:?}");
    object["kind"].as_str().unwrap().to_owned()
}

#[test]
fn every_monitor_is_the_same_in_terraform_and_kubernetes() {
    let conditions: [&[&str]; 5] = [
        &["--min", "1000"],
        &["--max", "7"],
        &["--rise", "10"],
        &["--factor", "1.5"],
        &["--max", "0", "--notify", "@a@example.com"],
    ];
    for subject in [&["--campaign", "Weekly newsletter"][..], &["--step-id", "s1"]] {
        for condition in conditions {
            assert_eq!(same_in_all(&[subject, condition].concat()), "DatadogMonitor");
        }
    }
    assert_eq!(same_in_all(&["--heartbeat"]), "DatadogMonitor");
    for due in DUE {
        // The Operator's type has no schedule that can be relied on.
        assert_eq!(same_in_all(&["--campaign", "A", "--expect", due]), "DatadogGenericResource");
    }
}

/// The names of a monitor's resources, for Kubernetes and for Terraform, which are one but for their separators.
fn name_of(arguments: &[&str]) -> String {
    let with = |format: &str| text(&[arguments, &["--format", format]].concat());
    let object = yaml::document(&with("kubernetes"));
    operator(&object);
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(terraform(&with("terraform"))[0].1, name.replace('-', "_"));
    name
}

#[test]
fn another_monitor_is_another_resource() {
    let step = |id| ["--canvas-id", "8a3f7c1e-5d2b-4e6a-9f01-aaaabbbbcccc", "--step-id", id, "--max", "5"];
    let id = ["--campaign-id", "c1"];
    let newsletter = ["--campaign", "Weekly newsletter", "--min", "10"];
    let all = [
        step("11111111-2222-3333-4444-555555555501").to_vec(),
        step("11111111-2222-3333-4444-555555555502").to_vec(),
        [&id[..], &["--min", "10"]].concat(),
        [&id[..], &["--max", "1000"]].concat(),
        [&id[..], &["--max", "1000", "--window", "4h"]].concat(),
        [&id[..], &["--rise", "1000"]].concat(),
        [&id[..], &["--rise", "1000", "--before", "1w"]].concat(),
        [&id[..], &["--factor", "2"]].concat(),
        [&id[..], &["--expect", "Mon 11:00 UTC"]].concat(),
        [&id[..], &["--expect", "Mon 12:00 UTC"]].concat(),
        [&id[..], &["--expect", "Mon 12:00 Europe/London", "--since", "6d"]].concat(),
        [&id[..], &["--max", "1000", "--name", "週刊"]].concat(),
        [&id[..], &["--max", "1000", "--name", "日刊"]].concat(),
        vec!["--campaign", "週刊ニュース", "--min", "10"],
        vec!["--campaign", "日刊ニュース", "--min", "10"],
        newsletter.to_vec(),
        [&newsletter[..], &["--tag", "app_group_id:emea"]].concat(),
        [&newsletter[..], &["--tag", "app_group_id:apac"]].concat(),
        vec!["--heartbeat"],
        vec!["--forwarder", "drops"],
        vec!["--forwarder", "queue"],
        vec!["--forwarder", "ready"],
        vec!["--forwarder", "configuration"],
    ];
    let names: std::collections::BTreeMap<String, &Vec<&str>> =
        all.iter().map(|arguments| (name_of(arguments), arguments)).collect();
    assert_eq!(names.len(), all.len(), "{names:#?}");
}

#[test]
fn a_monitor_that_is_tuned_stays_the_same_resource() {
    let same = |one: &[&str], other: &[&str]| assert_eq!(name_of(one), name_of(other));
    for condition in ["--min", "--max", "--rise", "--factor"] {
        same(
            &["--campaign-id", "c1", condition, "10"],
            &["--campaign-id", "c1", condition, "500", "--notify", "@a"],
        );
    }
    // The words around a threshold may stand in the campaign's own name, with the same number.
    for (name, condition) in [("Spend more than 10 and save", "--rise"), ("x fewer than 10 left", "--max")] {
        same(&["--campaign", name, condition, "10"], &["--campaign", name, condition, "20"]);
    }
    let due = ["--campaign-id", "c1", "--expect", "Mon 11:00 UTC", "--min"];
    same(&[&due[..], &["10"]].concat(), &[&due[..], &["20"]].concat());
    let named = ["--campaign-id", "c1", "--name", "5 are too few", "--min"];
    same(&[&named[..], &["5"]].concat(), &[&named[..], &["6"]].concat());
    // And so it does with the next version, which would leave the old one standing beside the new.
    assert_eq!(
        name_of(&["--campaign-id", "c1", "--min", "10"]),
        "braze-campaign-with-campaign-id-c1-sends-fewer-than-in-23a4dbfe"
    );
    assert_eq!(
        name_of(&["--campaign-id", "c1", "--min", "5", "--name", "5 are too few"]),
        "braze-5-are-too-few-9054e90f"
    );
}

#[test]
fn no_name_breaks_out_of_either_language() {
    for name in [
        "${path.module} %{ if true } $${x} %%{y} EOT",
        "EOT\nresource \"a\" \"b\" {}",
        "a: b # c\n- d\n---\n",
        "\"quoted\" \\ \u{2028}\u{85}\u{7f} \u{1f389}",
        "a | \t",
    ] {
        same_in_all(&["--campaign", name, "--min", "5", "--name", name]);
        same_in_all(&["--campaign-id", name, "--min", "5"]);
    }
}

#[test]
fn what_ships_is_printed_in_every_format() {
    let all: Vec<Value> =
        MONITORS.iter().map(|(name, _)| serde_json::from_str(&shipped(name)).unwrap()).collect();
    let of = |what: &str, format: &str| text(&["--shipped", what, "--format", format]);
    for (name, _) in MONITORS {
        let what = name.trim_start_matches("monitor-").trim_end_matches(".json");
        assert_eq!(of(what, "json"), shipped(name), "{what}");
    }
    assert_eq!(
        of("dashboard", "json").parse::<Value>().unwrap(),
        shipped("dashboard.json").parse::<Value>().unwrap()
    );
    assert_eq!(of("monitors", "json").parse::<Value>().unwrap(), Value::from(all.clone()));

    let resources = terraform(&of("monitors", "terraform"));
    let names: std::collections::BTreeSet<_> = resources.iter().map(|(_, name, _)| name).collect();
    assert_eq!(names.len(), all.len(), "two resources of one name: {names:?}");
    assert_eq!(resources.iter().map(|(.., json)| json.clone()).collect::<Vec<_>>(), all);
    let objects = yaml::documents(&of("monitors", "kubernetes"));
    assert_eq!(objects.iter().map(operator).collect::<Vec<_>>(), all);

    let dashboard: Value = shipped("dashboard.json").parse().unwrap();
    assert_eq!(
        terraform(&of("dashboard", "terraform")),
        [("datadog_dashboard_json".to_owned(), "braze_sends".to_owned(), dashboard.clone())]
    );
    assert_eq!(operator(&yaml::document(&of("dashboard", "kubernetes"))), dashboard);
    let said = super::refused(&["--shipped", "dashboard", "--min", "5"]);
    assert!(said.contains("--shipped") && said.contains("--min"), "{said}");
    assert!(super::refused(&["--shipped", "dash"]).contains("dashboard"));
}
