//! The reference file and the page of the configuration, made of its schema.

use serde_json::Value;

/// Stands for a name that the user chooses, in the reference file and on the page.
pub(crate) const EXAMPLE: &str = "acme";
pub(crate) const NAME: &str = "NAME";

/// Longer lists have a line for each entry.
const ENTRIES_IN_LINE_MAX: usize = 2;

/// A key, or a section.
struct Row<'s> {
    /// With its sections.
    path: String,
    /// The key by itself; none for a section.
    key: Option<&'s str>,
    /// Whether its section, or the section itself, is off unless it is there.
    is_off: bool,
    schema: &'s Value,
}

/// Everything in the order of the settings; `name` stands for each that the user chooses.
fn rows<'s>(schema: &'s Value, section: &str, is_off: bool, name: &str) -> Vec<Row<'s>> {
    let mut rows = Vec::new();
    for key in schema["x-order"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let schema = &schema["properties"][key];
        let mut path = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        let is_off = is_off || schema["x-off"] == true;
        if schema["type"] != "object" {
            rows.push(Row { path, key: Some(key), is_off, schema });
            continue;
        }
        let chosen = &schema["additionalProperties"];
        if chosen["properties"].is_object() {
            path = format!("{path}.{name}");
        }
        rows.push(Row { path: path.clone(), key: None, is_off, schema });
        let below = if chosen.is_object() { chosen } else { schema };
        rows.extend(self::rows(below, &path, is_off, name));
    }
    rows
}

fn text<'s>(schema: &'s Value, name: &str) -> &'s str {
    schema[name].as_str().unwrap_or_default()
}

/// The lines of a comment.
fn comment(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| format!("# {line}").trim_end().to_owned())
}

/// The reference file.
pub(crate) fn toml(schema: &Value) -> String {
    let mut lines: Vec<String> = comment(text(schema, "description")).collect();
    let mut is_top = true;
    for Row { path, key, is_off, schema } in rows(schema, "", false, EXAMPLE) {
        // A section of texts goes on with the section that it is in.
        let holds_texts =
            schema["properties"].is_null() && schema["additionalProperties"]["properties"].is_null();
        is_top &= key.is_some();
        if is_top || key.is_none() && !holds_texts {
            lines.push(String::new());
        }
        lines.extend(comment(text(schema, "description")));
        let off = if is_off { "#" } else { "" };
        lines.push(match key {
            Some(key) => format!("{off}{key} = {}", written(schema)),
            None => format!("{off}[{path}]"),
        });
        lines.extend(comment(text(schema, "x-example")));
    }
    lines.join("\n") + "\n"
}

/// The default of a key as it is written in the file, or an example for want of one that could be used.
fn written(schema: &Value) -> String {
    match &schema["default"] {
        Value::Array(entries) if entries.len() > ENTRIES_IN_LINE_MAX => {
            let lines: Vec<_> = entries.iter().map(|entry| format!("  {entry},")).collect();
            format!("[\n{}\n]", lines.join("\n"))
        }
        Value::String(default) if default.is_empty() && schema["examples"].is_array() => {
            schema["examples"][0].to_string()
        }
        Value::Number(number) => grouped(&number.to_string()),
        default => inline(default),
    }
}

fn inline(default: &Value) -> String {
    default.to_string().replace("\",\"", "\", \"")
}

/// A number with `_` at its thousands.
fn grouped(digits: &str) -> String {
    let first = digits.len() % 3;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let head = (!head.is_empty()).then(|| head.to_owned());
    head.into_iter().chain(groups).collect::<Vec<_>>().join("_")
}

/// The page that tells of every key.
pub(crate) fn page(schema: &Value) -> String {
    let head = "# Configuration\n\nEvery key with its default. The same, ready to be copied, is \
         [config/braze-datadog.toml](../config/braze-datadog.toml); only a connection is required. A key is set by an \
         environment variable, too, which wins: `flush.interval` by `BRAZE_DATADOG__FLUSH__INTERVAL`. Durations are \
         `\"250ms\"`, `\"10s\"`, `\"1h30m\"`; sizes `\"16MiB\"`, `\"500KB\"`, or bytes.\n\n\
         This page is made by `make reference`.\n\n| key | default | what it is |\n|---|---|---|";
    let mut lines = vec![head.to_owned()];
    for Row { path, key, schema, .. } in rows(schema, "", false, NAME) {
        let words = text(schema, "description").replace('\n', " ").replace('|', "\\|");
        let default = match &schema["default"] {
            Value::Array(entries) if entries.len() > ENTRIES_IN_LINE_MAX => {
                format!("{} of them, see the file", entries.len())
            }
            default => format!("`{}`", inline(default)),
        };
        lines.push(match key {
            Some(_) => format!("| `{path}` | {default} | {words} |"),
            None => format!("| **`[{path}]`** | | {words} |"),
        });
    }
    lines.join("\n") + "\n"
}
