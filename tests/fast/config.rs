//! The configuration files that ship are right, and what is written of each key is what the code says: the reference
//! file, the page and the schema are made of it.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "config/reference.rs"]
mod reference;

use std::fs;
use std::path::{Path, PathBuf};

use braze_datadog::config::{Config, describe};
use config::{FileFormat, Source};
use reference::{EXAMPLE, NAME};
use serde_json::{Map, Value, json};

const REFERENCE: &str = include_str!("../../config/braze-datadog.toml");
const QUICKSTART: &str = include_str!("../../config/quickstart.toml");

/// The first line of each file that ships, by which an editor finds the schema.
const SCHEMA_LINE: &str = "#:schema ./braze-datadog.schema.json\n";

const CHART_SCHEMA: &str = "deploy/helm/braze-datadog/values.schema.json";

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

fn parse(text: &str) -> Value {
    to_json(config::Value::from(config::File::from_str(text, FileFormat::Toml).collect().unwrap()))
}

/// Every key of a section with its default; a name that the user chooses is [`EXAMPLE`] for a section.
fn defaults(schema: &Value) -> Value {
    let Some(properties) = schema["properties"].as_object() else {
        let chosen = &schema["additionalProperties"];
        return if chosen["properties"].is_object() {
            json!({ EXAMPLE: defaults(chosen) })
        } else {
            json!({})
        };
    };
    let below = |schema: &Value| {
        if schema["type"] == "object" { defaults(schema) } else { schema["default"].clone() }
    };
    properties.iter().map(|(name, schema)| (name.clone(), below(schema))).collect::<Map<_, _>>().into()
}

#[test]
fn the_sentence_of_a_site_names_all_sites() {
    let schema = Config::schema();
    let site = &schema["properties"]["connections"]["additionalProperties"]["properties"]["site"];
    let sentence = site["description"].as_str().unwrap();
    for (name, parameter) in datadog_points::site::SITES.iter().filter(|(name, parameter)| name != parameter)
    {
        assert!(
            sentence.contains(name),
            "connections.NAME.site: {name} ({parameter}) is not named in {sentence:?}"
        );
    }
}

/// The options in a list of the client's code, each with its value.
fn options_in(list: &str) -> Vec<(&'static str, &'static str)> {
    const SETUP: &str = include_str!("../../crates/event-queues/src/kafka/client/setup.rs");
    let (_, list) = SETUP.split_once(&format!("const {list}: ")).unwrap();
    let lines = list.split_once("];").unwrap().0.lines();
    let option = |line: &'static str| {
        let line = line.trim().strip_prefix("(\"")?.strip_suffix("\"),")?;
        line.split_once("\", \"")
    };
    lines.filter_map(option).collect()
}

#[test]
fn what_is_set_of_kafkas_client_is_said_and_what_can_not_be_set_is_refused() {
    let schema = Config::schema();
    let options = &schema["properties"]["queue"]["properties"]["kafka"]["properties"]["options"];
    let sentence = options["description"].as_str().unwrap().replace('\n', " ");
    let (defaults, fixed) = (options_in("DEFAULTS"), options_in("FIXED"));
    assert!(defaults.len() >= 10 && fixed.len() >= 3, "{defaults:?} {fixed:?}");
    for (name, value) in defaults {
        assert!(sentence.contains(&format!("{name} = {value}")), "{name} = {value} is not in: {sentence}");
    }
    for (name, _) in fixed {
        let text = format!("[queue.kafka.options]\n\"{name}\" = \"true\"\n[connections.a]\ndry_run = true\n");
        let error = Config::parse(&text, Path::new("/nowhere/a.toml"), &[]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("can't be set here"), "{error}");
    }
}

#[test]
fn the_reference_file_has_every_key_with_its_default_and_no_other() {
    let mut expected = defaults(&Config::schema());
    let connection = &mut expected["connections"][EXAMPLE];
    for (key, example) in EXAMPLES {
        assert_eq!(connection[key], "", "{key} has a default now, which the file should show");
        connection[key] = example.into();
    }
    assert_eq!(parse(&uncommented()), expected, "config/braze-datadog.toml and the defaults differ");
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
    assert!(config.connections.active.iter().all(|connection| connection.dry_run));
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
    fs::write(&path, b"a = \"\xff\"").unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("is not UTF-8"));
}

/// Writes the file anew if it is asked to, and says what is in it.
fn is_as_made(path: &str, made: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("WRITE_REFERENCE").is_some() {
        fs::write(&file, made).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(written, made, "{path} is out of date: make reference");
    written
}

#[test]
fn the_page_of_the_configuration_is_what_the_code_says() {
    let schema = Config::schema();
    let page = is_as_made("docs/configuration.md", &reference::page(&schema));
    for key in
        ["lanes", "queue.kafka.group_id", "push.token_file", &format!("connections.{NAME}.api_key_file")]
    {
        assert!(page.contains(&format!("| `{key}` | ")), "{key} is missing");
    }
    is_as_made("config/braze-datadog.toml", &format!("{SCHEMA_LINE}{}", reference::toml(&schema)));
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    is_as_made("config/braze-datadog.schema.json", &text);
    is_as_made(CHART_SCHEMA, &chart_schema(schema));
}

/// The schema of the chart's values, with the forwarder's own in it: `config`, and each of `connections.create`.
fn chart_schema(mut forwarder: Value) -> String {
    let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(CHART_SCHEMA)).unwrap();
    let mut chart: Value = serde_json::from_str(&written).unwrap();
    let connection = forwarder["properties"]["connections"]["additionalProperties"].clone();
    forwarder.as_object_mut().unwrap().remove("$schema");
    chart["properties"]["config"] = forwarder;
    chart["properties"]["connections"]["properties"]["create"]["additionalProperties"] = connection;
    serde_json::to_string_pretty(&chart).unwrap() + "\n"
}

/// What the schema that ships says against a configuration.
fn faults(configuration: &Value) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/braze-datadog.schema.json");
    let schema = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    validator.iter_errors(configuration).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The files below a folder that end in .toml.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    files.into_iter().filter(is_toml).chain(folders.iter().flat_map(|folder| toml_files(folder))).collect()
}

/// Where the Debian package has it, whose files stand elsewhere than here.
const PACKAGED_SCHEMA: &str = "/usr/share/braze-datadog/config/braze-datadog.schema.json";

#[test]
fn every_file_that_ships_names_its_schema_and_is_valid_by_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = root.join("config/braze-datadog.schema.json").canonicalize().unwrap();
    let own = toml_files(&root.join("config"));
    assert_eq!(own.len(), 3);
    for path in own.into_iter().chain(toml_files(&root.join("deploy"))) {
        let text = fs::read_to_string(&path).unwrap();
        let named = text.lines().next().and_then(|line| line.strip_prefix("#:schema "));
        let named = named.unwrap_or_else(|| panic!("{}: the first line names no schema", path.display()));
        let found = path.parent().unwrap().join(named).canonicalize();
        let is_there = found.ok().as_ref() == Some(&schema) || named == PACKAGED_SCHEMA;
        assert!(is_there, "{}: {named}", path.display());
        assert_eq!(faults(&parse(&text)), Vec::<String>::new(), "{}", path.display());
    }
    assert_eq!(faults(&parse(&uncommented())), Vec::<String>::new());
}

/// An editor marks what the program refuses, as far as a schema can tell.
#[test]
fn the_schema_refuses_what_the_program_refuses_and_nothing_else() {
    const LEAST: &str = "[connections.acme]\ndry_run = true\n";
    let program = |text: &str| {
        let read = Config::parse(text, Path::new("/nowhere/a.toml"), &[]);
        read.and_then(|(config, _)| config.require_all()).is_ok()
    };
    for right in [
        "[flush]\ninterval = \" 1m30s \"\n",
        "[queue.embedded]\nmax_size = 4096\n",
        "[queue.embedded]\nmax_size = \"16 mib\"\n",
        "[queue.kafka.options]\n\"socket.timeout.ms\" = 60000\n\"enable.idempotence\" = true\n",
        "[tags]\ninclude = [\"channel\"]\nstatic = [\"a:b\"]\nnames = \"as_sent\"\n",
        "[push]\n",
    ] {
        let text = format!("{right}{LEAST}");
        assert!(program(&text), "{text}");
        assert_eq!(faults(&parse(&text)), Vec::<String>::new(), "{text}");
    }
    for wrong in [
        "[flsh]\n",
        "[flush]\nintervall = \"1s\"\n",
        "[flush]\ninterval = 10\n",
        "[flush]\ninterval = \"10 s\"\n",
        "[flush]\ninterval = \"1.5s\"\n",
        "[flush]\nmax_series = 0\n",
        "[queue]\nkind = \"kafak\"\n",
        "[queue.embedded]\nmax_size = \"4G\"\n",
        "[queue.embedded]\nmax_size = 0\n",
        "[tags]\ninclude = [\"campain_id\"]\n",
        "[events]\ncount = [1]\n",
        "[log]\nlevel = \"inf\"\n",
        "[connections.b]\ndry_run = \"yes\"\napp_group_ids = [\"b\"]\n",
        "[connections.b]\nsiet = \"EU1\"\ndry_run = true\napp_group_ids = [\"b\"]\n",
    ] {
        let text = format!("{wrong}{LEAST}");
        assert!(!program(&text), "{text}");
        assert_eq!(faults(&parse(&text)).len(), 1, "{text}");
    }
}
