//! Converts Datadog's JSON for Terraform and Kubernetes.
//!
//! Sources: the resources `datadog_monitor_json` and `datadog_dashboard_json` of Datadog's Terraform provider, and the types
//! `DatadogMonitor`, `DatadogDashboard` and `DatadogGenericResource` of the Datadog Operator (`datadoghq.com/v1alpha1`).

mod yaml;

use serde_json::{Map, Value, json};

/// The reader of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Datadog's API.
    Json,
    /// Datadog's Terraform provider.
    Terraform,
    /// The Datadog Operator.
    Kubernetes,
}

/// A resource of Datadog.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// As `POST /api/v1/monitor` takes it.
    Monitor(Value),
    /// As `POST /api/v1/dashboard` takes it.
    Dashboard(Value),
}

impl Resource {
    const fn json(&self) -> &Value {
        match self {
            Resource::Monitor(json) | Resource::Dashboard(json) => json,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Resource::Monitor(_) => "monitor",
            Resource::Dashboard(_) => "dashboard",
        }
    }

    fn title(&self) -> &str {
        let key = if matches!(self, Resource::Monitor(_)) { "name" } else { "title" };
        self.json()[key].as_str().unwrap_or_default()
    }

    fn terraform(&self) -> String {
        let (kind, name) = (self.kind(), identifier(self.title(), '_'));
        // In a heredoc only these two sequences are special, and in JSON they occur only in strings; a backslash is not
        // special there, so the JSON parser reads these.
        let json = format!("{:#}", self.json()).replace("${", "\\u0024{").replace("%{", "\\u0025{");
        format!("resource \"datadog_{kind}_json\" \"{name}\" {{\n  {kind} = <<EOT\n{json}\nEOT\n}}\n")
    }

    fn kubernetes(&self) -> String {
        let (kind, spec) = match self {
            Resource::Monitor(monitor) => match monitor_spec(monitor) {
                Some(spec) => ("DatadogMonitor", spec),
                // Options that its type lacks go to Datadog unchanged.
                None => (
                    "DatadogGenericResource",
                    json!({ "type": "monitor", "jsonSpec": format!("{monitor:#}\n") }),
                ),
            },
            Resource::Dashboard(dashboard) => ("DatadogDashboard", dashboard_spec(dashboard)),
        };
        let metadata = json!({ "name": identifier(self.title(), '-') });
        yaml::document(&[
            ("apiVersion", &"datadoghq.com/v1alpha1".into()),
            ("kind", &kind.into()),
            ("metadata", &metadata),
            ("spec", &spec),
        ])
    }
}

/// The text for one resource, or all in one file.
pub fn render(resources: &[Resource], format: OutputFormat) -> String {
    match (format, resources) {
        (OutputFormat::Json, [one]) => format!("{:#}\n", one.json()),
        (OutputFormat::Json, several) => {
            format!("{:#}\n", several.iter().map(|one| one.json().clone()).collect::<Value>())
        }
        (OutputFormat::Terraform, several) => {
            several.iter().map(Resource::terraform).collect::<Vec<_>>().join("\n")
        }
        (OutputFormat::Kubernetes, several) => {
            several.iter().map(Resource::kubernetes).collect::<Vec<_>>().join("---\n")
        }
    }
}

/// A monitor's options, as Datadog's API and as the Operator's type name them.
const OPTIONS: [(&str, &str); 8] = [
    ("evaluation_delay", "evaluationDelay"),
    ("include_tags", "includeTags"),
    ("new_group_delay", "newGroupDelay"),
    ("notify_audit", "notifyAudit"),
    ("on_missing_data", "onMissingData"),
    ("renotify_interval", "renotifyInterval"),
    ("require_full_window", "requireFullWindow"),
    ("thresholds", "thresholds"),
];

/// `None`: it has an option that the type lacks. The type's own option for schedules is misspelt (`customeSchedule`), and
/// older types have none: an Operator would drop it silently, and the monitor would be another one.
fn monitor_spec(monitor: &Value) -> Option<Value> {
    let mut spec = monitor.as_object()?.clone();
    let options = spec.remove("options")?;
    let mut renamed = Map::new();
    for (name, value) in options.as_object()? {
        let (_, other) = OPTIONS.iter().find(|(known, _)| known == name)?;
        let value = if name == "thresholds" { texts(value) } else { value.clone() };
        renamed.insert((*other).to_owned(), value);
    }
    spec.insert("options".to_owned(), renamed.into());
    Some(spec.into())
}

/// Thresholds are strings there.
fn texts(thresholds: &Value) -> Value {
    let entries = thresholds.as_object().into_iter().flatten();
    entries.map(|(name, number)| (name.clone(), Value::from(number.to_string()))).collect()
}

fn dashboard_spec(dashboard: &Value) -> Value {
    let mut spec = Map::new();
    for (name, other) in [
        ("title", "title"),
        ("description", "description"),
        ("layout_type", "layoutType"),
        ("reflow_type", "reflowType"),
        ("tags", "tags"),
    ] {
        spec.extend(dashboard.get(name).map(|value| (other.to_owned(), value.clone())));
    }
    let variables = dashboard["template_variables"].as_array().into_iter().flatten();
    let renamed = |variable: &Value| -> Value {
        let entries = variable.as_object().into_iter().flatten();
        let name = |name: &str| if name == "available_values" { "availableValues" } else { name }.to_owned();
        entries.map(|(key, value)| (name(key), value.clone())).collect()
    };
    spec.insert("templateVariables".to_owned(), variables.map(renamed).collect());
    spec.insert("widgets".to_owned(), format!("{:#}\n", dashboard["widgets"]).into());
    spec.into()
}

/// The longest name: that of a DNS label.
const IDENTIFIER_MAX: usize = 63;

/// A name that both take: lower-case letters and digits, separators, and a letter first.
fn identifier(title: &str, separator: char) -> String {
    let mut name = String::new();
    for letter in title.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            name.push(letter);
        } else if !name.is_empty() && !name.ends_with(separator) {
            name.push(separator);
        }
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name.insert_str(0, &format!("braze{separator}"));
    }
    name.truncate(IDENTIFIER_MAX);
    name.trim_end_matches(separator).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_terraform_and_kubernetes_take() {
        assert_eq!(identifier("[Braze] Campaign \"A b\" sends", '_'), "braze_campaign_a_b_sends");
        assert_eq!(identifier("週刊!", '-'), "braze");
        assert_eq!(identifier("5 a", '-'), "braze-5-a");
        let long = identifier(&"ab ".repeat(40), '-');
        assert!(long.len() <= 63 && !long.ends_with('-'), "{long}");
    }

    #[test]
    fn an_option_that_the_operators_type_lacks_is_not_lost() {
        let monitor = |options: Value| json!({ "name": "a", "query": "b", "options": options });
        let plain = monitor(json!({ "thresholds": { "critical": 5 }, "new_group_delay": 0 }));
        let text = render(&[Resource::Monitor(plain)], OutputFormat::Kubernetes);
        assert!(text.contains("kind: \"DatadogMonitor\"") && text.contains("critical: \"5\""), "{text}");
        assert!(text.contains("newGroupDelay: 0"), "{text}");
        let special = monitor(json!({ "scheduling_options": {} }));
        let text = render(&[Resource::Monitor(special)], OutputFormat::Kubernetes);
        assert!(
            text.contains("kind: \"DatadogGenericResource\"") && text.contains("scheduling_options"),
            "{text}"
        );
    }
}
