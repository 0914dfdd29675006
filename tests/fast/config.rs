//! The configuration files that ship are right, and the reference file has every key with its default.

use std::path::Path;

use braze_datadog::config::{Config, describe};
use config::{FileFormat, Source};
use serde_json::{Map, Value};

const REFERENCE: &str = include_str!("../../config/braze-datadog.toml");
const QUICKSTART: &str = include_str!("../../config/quickstart.toml");

/// The keys of the reference file that are examples, for want of a default that could be used.
const EXAMPLES: [(&str, &str); 2] = [("site", "US1"), ("api_key_env", "DD_API_KEY")];

/// The reference file with the settings that are commented out: lines that begin with # and no space.
fn uncommented() -> String {
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|first: char| first.is_ascii_alphabetic() || first == '[') => {
            setting
        }
        _ => line,
    };
    REFERENCE.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn to_json(value: config::Value) -> Value {
    use config::ValueKind as Kind;
    match value.kind {
        Kind::Table(table) => {
            table.into_iter().map(|(key, value)| (key, to_json(value))).collect::<Map<_, _>>().into()
        }
        Kind::Array(values) => values.into_iter().map(to_json).collect::<Vec<_>>().into(),
        Kind::Boolean(value) => value.into(),
        Kind::I64(value) => value.into(),
        Kind::String(value) => value.into(),
        other => format!("{other:?}, which no default is").into(),
    }
}

#[test]
fn the_reference_file_has_every_key_with_its_default_and_no_other() {
    let table = config::File::from_str(&uncommented(), FileFormat::Toml).collect().unwrap();
    let written = to_json(config::Value::from(table));

    let mut expected = Config::default_listing().unwrap();
    let mut connection = expected["connections"]["*"].take();
    for (key, example) in EXAMPLES {
        assert_eq!(connection[key], "", "{key} has a default now, which the file should show");
        connection[key] = example.into();
    }
    connection["app_group_names"] = Map::new().into();
    expected["connections"] = [("acme".to_owned(), connection)].into_iter().collect::<Map<_, _>>().into();
    expected["queue"]["kafka"]["options"] = Map::new().into();
    assert_eq!(written, expected, "config/braze-datadog.toml and the defaults differ");
}

#[test]
fn every_key_of_the_reference_file_has_a_comment_above_it() {
    let mut above = "";
    for line in REFERENCE.lines() {
        let setting = line.strip_prefix('#').unwrap_or(line);
        let is_key = !line.starts_with("# ") && setting.starts_with(|first: char| first.is_ascii_lowercase());
        assert!(!is_key || above.starts_with("# "), "{line} has no comment above it, but {above}");
        above = line;
    }
}

#[test]
fn the_reference_file_is_right_as_it_is_and_with_everything_on() {
    let env = [("DD_API_KEY".to_owned(), "0123456789abcdef0123456789abcdef".to_owned())];
    let path = Path::new("/etc/braze-datadog/braze-datadog.toml");
    let (config, warnings) = Config::parse(REFERENCE, path, &env).unwrap();
    assert_eq!((config.push.is_none(), warnings), (true, vec![]));
    let (config, warnings) = Config::parse(&uncommented(), path, &env).unwrap();
    assert_eq!((config.push.is_some(), warnings), (true, vec![]));
    let error = Config::parse(REFERENCE, path, &[]).unwrap_err().to_string();
    assert!(
        error.contains("connections.acme.api_key_env") && error.contains("\"DD_API_KEY\" is not set"),
        "{error}"
    );
}

#[test]
fn the_quickstart_needs_no_account_and_no_folder() {
    let (config, warnings) = Config::parse(QUICKSTART, Path::new("/anywhere/quickstart.toml"), &[]).unwrap();
    assert_eq!(warnings, vec![]);
    assert!(config.connections.iter().all(|connection| connection.dry_run));
    assert!(config.queue.embedded.directory.starts_with("/tmp"));
    assert_eq!(config.push.as_ref().unwrap().listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    assert!(describe(&config).contains("points are printed"));
}

#[test]
fn a_file_that_is_not_there_says_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.toml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
    assert!(error.contains("--config") && error.contains("$BRAZE_DATADOG_CONFIG"), "{error}");
    assert!(Config::load(folder.path()).unwrap_err().to_string().contains("is not a regular file"));
    std::fs::write(&path, b"a = \"\xff\"").unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("is not UTF-8"));
}

/// The page that tells of every key, made of the defaults in the code and the comments of the reference file.
const TABLE: &str = "docs/configuration.md";

/// A key or, with a dot at its end, a section.
struct Row {
    key: String,
    words: String,
}

/// The keys and sections of the reference file in its order, with the comment above each.
fn rows() -> Vec<Row> {
    let (mut rows, mut comment, mut section) = (Vec::new(), Vec::new(), String::new());
    for line in REFERENCE.lines() {
        let setting = line.strip_prefix('#').unwrap_or(line);
        if let Some(words) = setting.strip_prefix(' ').filter(|_| line.starts_with('#')) {
            comment.push(words);
            continue;
        }
        let header = setting.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let key = setting.split_once(" = ").filter(|_| setting.starts_with(|c: char| c.is_ascii_lowercase()));
        if let Some(header) = header {
            section = format!("{}.", header.replace("connections.acme", "connections.NAME"));
            rows.push(Row { key: section.clone(), words: comment.join(" ") });
        } else if let Some((key, _)) = key {
            rows.push(Row { key: format!("{section}{key}"), words: comment.join(" ") });
        }
        comment.clear();
    }
    rows
}

/// The default of a key, as it is written in TOML.
fn default_of(listing: &Value, key: &str) -> String {
    let path = key.replace("connections.NAME", "connections.*");
    let value = path.split('.').fold(listing, |value, part| &value[part]);
    assert!(!value.is_null(), "{key} has no default");
    match value.as_array() {
        Some(values) if values.len() > 2 => format!("{} of them, see the file", values.len()),
        _ => format!("`{}`", value.to_string().replace("\",\"", "\", \"")),
    }
}

fn table(listing: &Value) -> String {
    let mut page = String::from(
        "# Configuration\n\nEvery key with its default. The same, ready to be copied, is \
         [config/braze-datadog.toml](../config/braze-datadog.toml); only a connection is required. A key is set by an \
         environment variable, too, which wins: `flush.interval` by `BRAZE_DATADOG__FLUSH__INTERVAL`. Durations are \
         `\"250ms\"`, `\"10s\"`, `\"1h30m\"`; sizes `\"16MiB\"`, `\"500KB\"`, or bytes.\n\n\
         This page is made by `make reference`.\n\n| key | default | what it is |\n|---|---|---|\n",
    );
    let line = |Row { key, words }: Row| {
        let words = words.replace('|', "\\|");
        match key.strip_suffix('.') {
            Some(section) => format!("| **`[{section}]`** | | {words} |\n"),
            None => format!("| `{key}` | {} | {words} |\n", default_of(listing, &key)),
        }
    };
    page.extend(rows().into_iter().map(line));
    page
}

#[test]
fn the_page_of_the_configuration_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let expected = table(&Config::default_listing().unwrap());
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, expected, "{TABLE} is out of date: make reference");
    for key in ["lanes", "queue.kafka.group_id", "push.token_file", "connections.NAME.api_key_file"] {
        assert!(written.contains(&format!("| `{key}` | ")), "{key} is missing");
    }
}
