//! Writes YAML for people: maps one entry a line, texts of several lines as they read. Every other scalar is written as
//! JSON, which is YAML, so that no text can be misread.

use serde_json::Value;

/// A document of these entries, in this order.
pub(super) fn document(entries: &[(&str, &Value)]) -> String {
    let mut out = String::new();
    for (key, value) in entries {
        entry(&mut out, key, value, 0);
    }
    out
}

/// An entry of a map, `depth` steps in.
fn entry(out: &mut String, key: &str, value: &Value, depth: usize) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(&if is_plain(key) { key.to_owned() } else { quoted(key) });
    out.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            for (key, value) in map {
                entry(out, key, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            for value in items {
                item(out, value, depth + 1);
            }
        }
        Value::String(text) if is_literal(text) => {
            out.push_str(" |\n");
            for line in text.lines() {
                if !line.is_empty() {
                    out.push_str(&"  ".repeat(depth + 1));
                }
                out.push_str(line);
                out.push('\n');
            }
        }
        scalar => {
            out.push(' ');
            out.push_str(&flow(scalar));
            out.push('\n');
        }
    }
}

/// An item of a list; a map begins behind its dash.
fn item(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            let start = out.len();
            for (key, value) in map {
                entry(out, key, value, depth + 1);
            }
            out.replace_range(start..start + indent.len() + 2, &format!("{indent}- "));
        }
        other => {
            out.push_str(&[&*indent, "- ", &flow(other), "\n"].concat());
        }
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// As JSON; YAML requires unprintable characters to be escaped, too.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let escaped = |letter: char| {
        if is_printed(letter) { letter.to_string() } else { format!("\\u{:04x}", letter as u32) }
    };
    json.chars().map(escaped).collect()
}

/// Whether YAML takes it unescaped, and no reader takes it for a line end.
const fn is_printed(letter: char) -> bool {
    !matches!(letter, '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

fn is_plain(key: &str) -> bool {
    // A single letter may be a boolean, as y and n are.
    key.len() > 3
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && key.starts_with(|first: char| first.is_ascii_alphabetic())
        && !["null", "true", "false"].contains(&&*key.to_ascii_lowercase())
}

/// Whether a text can be a literal block: several lines, the last of which ends, and no blank before the first.
fn is_literal(text: &str) -> bool {
    let Some(lines) = text.strip_suffix('\n') else { return false };
    lines.contains('\n')
        && !lines.ends_with('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && text.chars().all(|letter| letter == '\n' || is_printed(letter))
        // Readers disagree on a line of blanks.
        && text.lines().all(|line| line.is_empty() || !line.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use saphyr::{LoadableYamlNode, Scalar, Yaml};
    use serde_json::json;

    fn read(yaml: &Yaml) -> Value {
        match yaml {
            Yaml::Value(Scalar::Null) => Value::Null,
            Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
            Yaml::Value(Scalar::Integer(value)) => (*value).into(),
            Yaml::Value(Scalar::String(value)) => (**value).into(),
            Yaml::Sequence(items) => items.iter().map(read).collect(),
            Yaml::Mapping(map) => {
                map.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), read(value))).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn again(value: &Value) -> Value {
        let text = document(&[("spec", value)]);
        let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        read(&documents[0])["spec"].clone()
    }

    #[test]
    fn it_reads_as_people_write_it() {
        let value = json!({ "message": "a\n\n  b: c\n", "options": { "critical": "5" }, "tags": ["a:b"], "variables": [{ "name": "x" }] });
        assert_eq!(
            document(&[("spec", &value)]),
            "spec:\n  message: |\n    a\n\n      b: c\n  options:\n    critical: \"5\"\n  tags:\n    - \"a:b\"\n  variables:\n    - name: \"x\"\n"
        );
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            "[ \t\n#:|>\\-a\u{85}\u{2028}\u{7f}\"'{}]{0,12}",
            "(yes|no|on|1|null|~|0x1)"
        ];
        let leaf = prop_oneof![
            text.clone().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                    items.into_iter().filter(|item| !item.is_array()).collect::<Value>()
                }),
                proptest::collection::hash_map(text.clone(), inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        /// A reader of YAML finds what was written, whatever the texts are.
        #[test]
        fn what_is_written_is_read(value in values()) {
            prop_assert_eq!(again(&value), value);
        }
    }
}
