//! Converts Datadog's JSON for Terraform and Kubernetes.
//!
//! Sources: the resources `datadog_monitor_json` and `datadog_dashboard_json` of Datadog's Terraform provider, and the types
//! `DatadogMonitor`, `DatadogDashboard` and `DatadogGenericResource` of the Datadog Operator (`datadoghq.com/v1alpha1`).

mod yaml;

use serde_json::{Map, Value, json};

use super::text;

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
    /// A monitor.
    Monitor {
        /// As `POST /api/v1/monitor` takes it.
        json: Value,
        /// Whether the user named it.
        is_named: bool,
    },
    /// As `POST /api/v1/dashboard` takes it.
    Dashboard(Value),
}

impl Resource {
    const fn json(&self) -> &Value {
        match self {
            Resource::Monitor { json, .. } | Resource::Dashboard(json) => json,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Resource::Monitor { .. } => "monitor",
            Resource::Dashboard(_) => "dashboard",
        }
    }

    /// What Terraform and Kubernetes know it by. Different monitors have different ones, or the second would replace the
    /// first; one that is tuned keeps its own, or the old one would stay beside it.
    fn identifier(&self, separator: char) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let Resource::Monitor { json, is_named } = self else {
            return identifier(&text(&self.json()["title"]), separator, IDENTIFIER_MAX);
        };
        let name = text(&json["name"]);
        let (readable, given) = if *is_named {
            (name.clone(), name)
        } else {
            let threshold = json["options"]["thresholds"]["critical"].to_string();
            (text::without_threshold(&name, &threshold), String::new())
        };
        let digits = format!("{:08x}", fnv_1a(format!("{}\n{given}", watched(json)).as_bytes()));
        let readable = identifier(&readable, separator, IDENTIFIER_MAX - digits.len() - 1);
        format!("{readable}{separator}{digits}")
    }

    fn terraform(&self) -> String {
        let (kind, name) = (self.kind(), self.identifier('_'));
        // In a heredoc only these two sequences are special, and in JSON they occur only in strings; a backslash is not
        // special there, so the JSON parser reads these.
        let json = format!("{:#}", self.json()).replace("${", "\\u0024{").replace("%{", "\\u0025{");
        format!("resource \"datadog_{kind}_json\" \"{name}\" {{\n  {kind} = <<EOT\n{json}\nEOT\n}}\n")
    }

    fn kubernetes(&self) -> String {
        let (kind, spec) = match self {
            Resource::Monitor { json: monitor, .. } => match monitor_spec(monitor) {
                Some(spec) => ("DatadogMonitor", spec),
                // Options that its type lacks go to Datadog unchanged.
                None => (
                    "DatadogGenericResource",
                    json!({ "type": "monitor", "jsonSpec": format!("{monitor:#}\n") }),
                ),
            },
            Resource::Dashboard(dashboard) => ("DatadogDashboard", dashboard_spec(dashboard)),
        };
        let metadata = json!({ "name": self.identifier('-') });
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
fn identifier(title: &str, separator: char, longest: usize) -> String {
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
    name.truncate(longest);
    name.trim_end_matches(separator).to_owned()
}

/// What a monitor watches, and when: its query without threshold and groups, and its schedule.
fn watched(monitor: &Value) -> String {
    let query = monitor["query"].as_str().unwrap_or_default();
    let query = query.rsplit_once(' ').map_or(query, |(watched, _)| watched);
    let (series, rest) = query.split_once(" by {").unwrap_or((query, ""));
    let rest = rest.split_once('}').map_or(rest, |(_, rest)| rest);
    let recurrence = &monitor["options"]["scheduling_options"]["custom_schedule"]["recurrences"][0];
    let schedule = ["rrule", "start", "timezone"].map(|key| recurrence[key].as_str().unwrap_or_default());
    format!("{series}{rest}\n{}", schedule.join(" "))
}

/// The hash FNV-1a in 32 bits: the same in every version, unlike the standard library's.
fn fnv_1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_terraform_and_kubernetes_take() {
        let name = |title: &str, separator| identifier(title, separator, IDENTIFIER_MAX);
        assert_eq!(name("[Braze] Campaign \"A b\" sends", '_'), "braze_campaign_a_b_sends");
        assert_eq!(name("週刊!", '-'), "braze");
        assert_eq!(name("5 a", '-'), "braze-5-a");
        let long = name(&"ab ".repeat(40), '-');
        assert!(long.len() <= 63 && !long.ends_with('-'), "{long}");
    }

    #[test]
    fn hashes_are_those_of_fnvs_authors() {
        for (text, hash) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(fnv_1a(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn a_threshold_is_left_out_of_a_name_and_nothing_else_is() {
        for (name, without) in [
            (
                "[Braze] Campaign \"more than 5 in 5\" sends fewer than 5 in a week",
                "\"more than 5 in 5\" sends fewer than in a week",
            ),
            ("A step sends more than 5 in 5 minutes", "sends more than in 5 minutes"),
            (
                "Campaign \"Spend more than 5 and save\" sends 5 more in an hour than a day before",
                "\"Spend more than 5 and save\" sends more in an hour than a day before",
            ),
            (
                "Campaign \"x fewer than 5 left\" sends more than 5 in an hour",
                "\"x fewer than 5 left\" sends more than in an hour",
            ),
            (
                "A step sends 5 more in an hour than a day before",
                "A step sends more in an hour than a day before",
            ),
            (
                "A step sends 5 % more in an hour than a day before",
                "A step sends % more in an hour than a day before",
            ),
            ("Campaign \"5\" sent fewer than 5 by Mon 05:00 UTC", "sent fewer than by Mon 05:00 UTC"),
            ("[Braze] The forwarder is silent", "[Braze] The forwarder is silent"),
        ] {
            assert!(text::without_threshold(name, "5").ends_with(without), "{name}");
        }
    }

    #[test]
    fn an_option_that_the_operators_type_lacks_is_not_lost() {
        let monitor = |options: Value| json!({ "name": "a", "query": "b", "options": options });
        let plain = monitor(json!({ "thresholds": { "critical": 5 }, "new_group_delay": 0 }));
        let text = render(&[Resource::Monitor { json: plain, is_named: false }], OutputFormat::Kubernetes);
        assert!(text.contains("kind: \"DatadogMonitor\"") && text.contains("critical: \"5\""), "{text}");
        assert!(text.contains("newGroupDelay: 0"), "{text}");
        let special = monitor(json!({ "scheduling_options": {} }));
        let text = render(&[Resource::Monitor { json: special, is_named: false }], OutputFormat::Kubernetes);
        assert!(
            text.contains("kind: \"DatadogGenericResource\"") && text.contains("scheduling_options"),
            "{text}"
        );
    }
}
