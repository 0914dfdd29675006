//! The sources of a configuration: a file, the files of the connections directory, the environment.
//!
//! Each is [checked](super::schema) by itself, so that a diagnostic names the file or the variable; then they are
//! merged, the later over the earlier, and all of them over the defaults.

use std::collections::BTreeSet;

use ::config::{FileFormat, Map, Source as _, Value, ValueKind};
use serde_json::Value as Json;

use super::diagnostic::{Diagnostics, did_you_mean, looks_like_key, looks_random, nearest, quoted};
use super::schema::{self, Table, below, chosen, is_one, join, names};

/// The prefix of variables. Kubernetes makes variables that begin with `BRAZE_DATADOG_` for a service of that name; two
/// underscores keep them apart.
pub(super) const PREFIX: &str = "BRAZE_DATADOG__";

/// The prefix of all variables of this program.
pub(super) const NAMESPACE: &str = "BRAZE_DATADOG_";

/// The variable with the path of the configuration file.
const CONFIG_FILE: &str = "BRAZE_DATADOG_CONFIG";

/// Variables of this name that are no settings: where the configuration is, which commit is built, and where the example of an
/// OpenTelemetry Collector finds the admin port.
const NO_SETTINGS: [&str; 3] = [CONFIG_FILE, "BRAZE_DATADOG_COMMIT", "BRAZE_DATADOG_ADMIN"];

/// The separator of sections and key in the name of a variable.
const SEPARATOR: &str = "__";

/// The map whose keys are librdkafka's.
pub(super) const OPTIONS: &str = "queue.kafka.options";

/// The options of a store, whose names have no dots.
pub(super) const STORAGE_OPTIONS: &str = "queue.storage.options";

/// The text of a configuration file.
pub(super) fn file(diagnostics: &mut Diagnostics, text: &str, origin: &str, schema: &Json) -> Table {
    let table = parse_toml(diagnostics, text, origin, "").unwrap_or_default();
    schema::keep_known(diagnostics, table, schema, "", origin)
}

/// Parses a file of the connections directory: the keys of one connection. `None`: it is not TOML.
pub(super) fn connection(
    diagnostics: &mut Diagnostics,
    text: &str,
    origin: &str,
    schema: &Json,
    name: &str,
) -> Option<Table> {
    let table = parse_toml(diagnostics, text, origin, &join("connections", name))?;
    let table = nest(["connections", name].map(str::to_owned), table.into());
    Some(schema::keep_known(diagnostics, table, schema, "", origin))
}

/// The variables that begin with [`PREFIX`].
pub(super) fn environment(diagnostics: &mut Diagnostics, env: &[(String, String)], schema: &Json) -> Table {
    let mut merged = Table::new();
    let mut seen = BTreeSet::new();
    let mut variables: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    strangers(diagnostics, env, schema);
    for (variable, text) in variables {
        let origin = format!("environment variable {}", show(variable));
        let (path, belongs) = match resolve(&variable[PREFIX.len()..], schema) {
            Ok(resolved) => resolved,
            Err((reason, meant)) => {
                diagnostics.error_at(&origin, "", reason);
                if let Some(meant) = meant {
                    diagnostics.spoil(&meant);
                }
                continue;
            }
        };
        let key = key_of(&path);
        if !seen.insert(key.clone()) {
            diagnostics.error_at(&origin, &key, "is set by another environment variable too");
            continue;
        }
        match value_of(text, belongs) {
            Ok(value) => {
                let table = nest(path, value);
                merge(&mut merged, schema::keep_known(diagnostics, table, schema, "", &origin));
            }
            Err(reason) => diagnostics.unread_at(&origin, &key, reason),
        }
    }
    merged
}

/// Reports variables that resemble a setting but are none: most likely one of two underscores is missing.
fn strangers(diagnostics: &mut Diagnostics, env: &[(String, String)], schema: &Json) {
    let ours = env.iter().map(|(name, _)| name).filter(|name| name.starts_with(NAMESPACE));
    let plain = |name: &str| name.replace(SEPARATOR, "_");
    let is_other =
        |name: &str| name.starts_with(PREFIX) || NO_SETTINGS.contains(&name) || is_kubernetes(name);
    for name in ours.filter(|name| !is_other(name)) {
        let known = schema::keys(schema).into_iter().map(|key| {
            let path: Vec<_> = key.path.split('.').map(str::to_uppercase).collect();
            format!("{PREFIX}{}", path.join(SEPARATOR))
        });
        let known: Vec<_> = known.chain([CONFIG_FILE.to_owned()]).collect();
        let plains: Vec<_> = known.iter().map(|known| plain(known)).collect();
        let near = nearest(name, plains.iter().map(String::as_str));
        let near = near.and_then(|near| plains.iter().position(|plain| plain == near)).map(|at| &*known[at]);
        let reason = format!("is no setting; those begin with {PREFIX}{}", did_you_mean(near));
        diagnostics.error_at(&format!("environment variable {}", show(name)), "", reason);
    }
}

/// Whether Kubernetes makes a variable of this name for a service that is called braze-datadog: `…_SERVICE_HOST`,
/// `…_SERVICE_PORT`, `…_SERVICE_PORT_NAME`, `…_PORT`, `…_PORT_8080_TCP`, `…_PORT_8080_TCP_ADDR`. Source: "Service",
/// section "Environment variables", of its documentation.
fn is_kubernetes(name: &str) -> bool {
    let rest = name.strip_prefix(NAMESPACE).unwrap_or(name);
    let of_port = rest.strip_prefix("PORT_").and_then(|rest| rest.split('_').next());
    rest == "SERVICE_HOST"
        || rest == "PORT"
        || rest == "SERVICE_PORT"
        || rest.starts_with("SERVICE_PORT_")
        || of_port.is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether the environment has a connection.
pub(super) fn has_connection(env: &[(String, String)]) -> bool {
    let is_one = |name: &str| {
        let rest = name.strip_prefix(PREFIX).map(str::to_uppercase);
        rest.is_some_and(|rest| rest.starts_with("CONNECTIONS__"))
    };
    env.iter().any(|(name, _)| is_one(name))
}

/// Nests a value in the sections of its path.
fn nest(path: impl IntoIterator<Item = String, IntoIter: DoubleEndedIterator>, value: Value) -> Table {
    let nested = path.into_iter().rev().fold(value, |value, name| Map::from([(name, value)]).into());
    nested.into_table().unwrap_or_default()
}

/// Merges one source over another: a key replaces the same key, whatever it holds.
pub(super) fn merge(into: &mut Table, from: Table) {
    for (name, value) in from {
        match (into.get_mut(&name).map(|value| &mut value.kind), value.kind) {
            (Some(ValueKind::Table(into)), ValueKind::Table(from)) => merge(into, from),
            (_, kind) => {
                into.insert(name, Value::from(kind));
            }
        }
    }
}

pub(super) fn parse_toml(
    diagnostics: &mut Diagnostics,
    text: &str,
    origin: &str,
    key: &str,
) -> Option<Table> {
    match ::config::File::from_str(text, FileFormat::Toml).collect() {
        Ok(table) => Some(table),
        Err(error) => {
            let reason = syntax_error(&error.to_string()).unwrap_or_else(|| wrong_number(text));
            diagnostics.unread_at(origin, key, reason);
            None
        }
    }
}

/// Takes the place and the reason out of the parser's message, which also quotes the line: that line may hold
/// a key. The message is `TOML parse error at PLACE`, three lines that show the place, and the reason. `None`: it is about a
/// number, and names no place.
fn syntax_error(message: &str) -> Option<String> {
    let mut lines = message.lines();
    let place = lines.next().and_then(|line| line.strip_prefix("TOML parse error at "))?;
    let reason: Vec<_> = lines.skip(3).map(str::trim).filter(|line| !line.is_empty()).collect();
    Some(format!("is not valid TOML at {place}: {}", reason.join("; ")))
}

/// Says in which line the number is: the last one with so many digits of the shortest beginning that fails for the same
/// reason.
fn wrong_number(text: &str) -> String {
    const LINES_MAX: usize = 1000;
    // Of what an i64 holds.
    const DIGITS_MIN: usize = 19;
    let ends = text.split_inclusive('\n').take(LINES_MAX).scan(0, |end, line| {
        *end += line.len();
        Some(*end)
    });
    let fails = |end: &usize| {
        let error = ::config::File::from_str(&text[..*end], FileFormat::Toml).collect().err();
        error.is_some_and(|error| syntax_error(&error.to_string()).is_none())
    };
    let is_long = |line: &str| {
        let digits = line.split(|letter: char| !letter.is_ascii_hexdigit() && letter != '_');
        digits.into_iter().any(|digits| digits.len() >= DIGITS_MIN)
    };
    let place = ends.zip(1..).find(|(end, _)| fails(end)).map(|(end, last)| {
        let line = text[..end].lines().zip(1..).filter(|(line, _)| is_long(line)).last();
        line.map_or_else(|| format!(" at or before line {last}"), |(_, line)| format!(" at line {line}"))
    });
    format!("is not valid TOML{}: a number in it is too large, or can't be read", place.unwrap_or_default())
}

/// Why a variable names no key, and the key that was probably meant.
type Unknown = (String, Option<String>);

/// Finds the key of a variable, and its schema. Sections and keys are written in any case. Names that the user chooses keep
/// their case where case matters (app group ids); librdkafka's options are in lower case with `.` for `_`, because a shell
/// has no variables with dots.
fn resolve<'s>(name: &str, schema: &'s Json) -> Result<(Vec<String>, &'s Json), Unknown> {
    let mut path: Vec<String> = Vec::new();
    let mut here = schema;
    let mut rest = Some(name);
    while let Some(name) = rest {
        let (first, after) = match name.split_once(SEPARATOR) {
            Some((first, after)) => (first, Some(after)),
            None => (name, None),
        };
        let lower = first.to_lowercase();
        let Some(next) = below(here, &lower) else {
            let meant = nearest(&lower, names(here)).map(|near| join(&key_of(&path), near));
            return Err((unknown_variable(&path, &lower, here), meant));
        };
        if chosen(here).is_some() && !is_one(next, "object") {
            let is_option = key_of(&path) == OPTIONS;
            let is_storage_option = key_of(&path) == STORAGE_OPTIONS;
            path.push(if is_option {
                name.to_lowercase().replace('_', ".")
            } else if is_storage_option {
                name.to_lowercase()
            } else {
                name.to_owned()
            });
            return Ok((path, next));
        }
        path.push(lower);
        (here, rest) = (next, after);
    }
    if is_one(here, "object") {
        let reason = format!("is a section, not a key; its keys are {}", variables(&path, here).join(", "));
        return Err((reason, Some(key_of(&path))));
    }
    Ok((path, here))
}

fn key_of(path: &[String]) -> String {
    path.iter().fold(String::new(), |section, name| join(&section, name))
}

fn unknown_variable(path: &[String], name: &str, here: &Json) -> String {
    let near = nearest(name, names(here)).map(|near| variable(path, near));
    match near {
        Some(near) => format!("unknown key{}", did_you_mean(Some(&near))),
        None if is_one(here, "object") => {
            format!("unknown key; known here are {}", variables(path, here).join(", "))
        }
        None => format!("unknown key; {} has no keys below it", variable(path, "").trim_end_matches('_')),
    }
}

fn variables(path: &[String], here: &Json) -> Vec<String> {
    names(here).map(|name| variable(path, name)).collect()
}

fn variable(path: &[String], name: &str) -> String {
    let sections: String = path.iter().map(|section| section.to_uppercase() + SEPARATOR).collect();
    format!("{PREFIX}{sections}{}", name.to_uppercase())
}

/// The name of a variable for a message.
fn show(variable: &str) -> String {
    let plain = variable.len() <= 200
        && variable.bytes().all(|byte| byte.is_ascii_graphic())
        && !looks_like_key(variable)
        && !looks_random(variable);
    if plain { variable.to_owned() } else { quoted(variable) }
}

/// Parses a variable's text as its schema says. No message quotes it: it may be a secret.
fn value_of(text: &str, belongs: &Json) -> Result<Value, &'static str> {
    match belongs["type"].as_str() {
        Some("boolean") => match text.trim() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err("has to be true or false"),
        },
        Some("integer") => {
            let number: Result<i64, _> = text.trim().replace('_', "").parse();
            number.map(Value::from).map_err(|_no_number| "has to be a whole number")
        }
        Some("array") => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect::<Vec<_>>().into())
        }
        _ => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;
    use crate::config::values::Size;

    fn read(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let schema = schema::of_settings();
        let mut diagnostics = Diagnostics::new("a.toml");
        let env: Vec<_> = variables.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let table = environment(&mut diagnostics, &env, &schema);
        let settings = schema::settings(&mut diagnostics, table, &schema).unwrap();
        (settings, diagnostics.into_error().diagnostics.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn variables_reach_every_kind_of_key() {
        let (settings, errors) = read(&[
            ("BRAZE_DATADOG__LANES", "3"),
            ("BRAZE_DATADOG__DEDUP__MAX_IDS", "1_000"),
            ("BRAZE_DATADOG__Queue__Embedded__max_size", "1GiB"),
            ("BRAZE_DATADOG__EVENTS__COUNT", "a, b,,c"),
            ("BRAZE_DATADOG__TAGS__STATIC", ""),
            ("BRAZE_DATADOG__CONNECTIONS__ACME__SITE", "EU1"),
            ("BRAZE_DATADOG__CONNECTIONS__ACME__DRY_RUN", "true"),
            ("BRAZE_DATADOG__CONNECTIONS__ACME__APP_GROUP_IDS", "007,1.5,true"),
            ("BRAZE_DATADOG__PUSH__LISTEN", "127.0.0.1:1"),
            ("BRAZE_DATADOG_PORT", "not ours"),
        ]);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!((settings.lanes, settings.dedup.max_ids), (3, 1000));
        assert_eq!(settings.queue.embedded.max_size, Size(1 << 30));
        assert_eq!(settings.events.count, ["a", "b", "c"]);
        assert_eq!(settings.tags.r#static, Vec::<String>::new());
        let acme = &settings.connections["acme"];
        assert_eq!((&*acme.site, acme.dry_run), ("EU1", true));
        assert_eq!(acme.app_group_ids, ["007", "1.5", "true"]);
        let push = settings.push.unwrap();
        assert_eq!((push.listen.0.to_string(), push.max_body), ("127.0.0.1:1".into(), Size(16 << 20)));
    }

    #[test]
    fn chosen_names_keep_their_case_and_options_get_their_dots() {
        let (settings, errors) = read(&[
            ("BRAZE_DATADOG__CONNECTIONS__ACME__APP_GROUP_NAMES__5F3e.x__Y", "Acme"),
            ("BRAZE_DATADOG__QUEUE__KAFKA__OPTIONS__SASL_PASSWORD", "secret"),
        ]);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(settings.connections["acme"].app_group_names["5F3e.x__Y"], "Acme");
        assert_eq!(settings.queue.kafka.options["sasl.password"].0, "secret");
    }

    #[test]
    fn a_variable_that_means_nothing_is_an_error_that_names_it() {
        for (name, text, parts) in [
            (
                "BRAZE_DATADOG__FLUSH__INTERVALL",
                "1s",
                vec![
                    "environment variable BRAZE_DATADOG__FLUSH__INTERVALL",
                    "BRAZE_DATADOG__FLUSH__INTERVAL\"",
                ],
            ),
            (
                "BRAZE_DATADOG__CONNECTIONS__ACME__SIET",
                "EU1",
                vec!["BRAZE_DATADOG__CONNECTIONS__ACME__SITE\""],
            ),
            ("BRAZE_DATADOG__PUSH", "on", vec!["is a section", "BRAZE_DATADOG__PUSH__LISTEN"]),
            ("BRAZE_DATADOG__CONNECTIONS__ACME", "x", vec!["is a section"]),
            ("BRAZE_DATADOG__LANES__X", "1", vec!["unknown key; BRAZE_DATADOG__LANES has no keys"]),
            ("BRAZE_DATADOG__", "1", vec!["unknown key"]),
            ("BRAZE_DATADOG__CONNECTIONS__*__X", "1", vec!["unknown key"]),
            ("BRAZE_DATADOG__LANES", "planted", vec!["lanes: has to be a whole number"]),
            ("BRAZE_DATADOG__LANES", "-1", vec!["lanes: is a negative number"]),
            ("BRAZE_DATADOG__CONNECTIONS__A__DRY_RUN", "planted", vec!["has to be true or false"]),
        ] {
            let (_, errors) = read(&[(name, text)]);
            assert_eq!(errors.len(), 1, "{name}: {errors:?}");
            for part in parts {
                assert!(errors[0].contains(part), "{part} is not in {errors:?}");
            }
            assert!(!errors[0].contains("planted"), "{errors:?}");
        }
    }

    #[test]
    fn a_variable_that_only_looks_like_a_setting_is_an_error_unless_kubernetes_made_it() {
        let (_, errors) = read(&[("BRAZE_DATADOG_FLUSH_INTERVAL", "1s"), ("BRAZE_DATADOG_CONFIGS", "x")]);
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("BRAZE_DATADOG__FLUSH__INTERVAL\"?"), "{errors:?}");
        assert!(errors[1].contains("BRAZE_DATADOG_CONFIG\"?"), "{errors:?}");
        let (_, errors) = read(&[
            ("BRAZE_DATADOG_CONFIG", "/etc/x"),
            ("BRAZE_DATADOG_COMMIT", "0123456789"),
            ("BRAZE_DATADOG_ADMIN", "127.0.0.1:8081"),
            ("BRAZE_DATADOG_SERVICE_HOST", "10.0.0.1"),
            ("BRAZE_DATADOG_SERVICE_PORT", "80"),
            ("BRAZE_DATADOG_SERVICE_PORT_HTTP", "80"),
            ("BRAZE_DATADOG_PORT", "tcp://10.0.0.1:80"),
            ("BRAZE_DATADOG_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("BRAZE_DATADOG_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("BRAZE_DATADOGS", "x"),
        ]);
        assert_eq!(errors, Vec::<String>::new());
    }

    #[test]
    fn two_variables_for_one_key_are_an_error() {
        let (_, errors) = read(&[("BRAZE_DATADOG__LANES", "1"), ("BRAZE_DATADOG__lanes", "2")]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("another environment variable"), "{errors:?}");
    }

    #[test]
    fn the_parsers_message_is_cut_to_place_and_reason() {
        for text in [
            "a = planted\n",
            "a = \"planted\nb = 1",
            "planted",
            "a = [1, 'planted'\n\n",
            "a = 'x' planted",
            "[planted\na = 1",
            "a = \"\\planted\"",
            "planted = 1\nplanted = 2",
            "a = 1\n[a.planted]\n",
            "a = 99999999999999999999",
            "\u{0}planted",
        ] {
            let error = ::config::File::from_str(text, FileFormat::Toml).collect().unwrap_err();
            let reason = syntax_error(&error.to_string()).unwrap_or_else(|| wrong_number(text));
            assert!(reason.starts_with("is not valid TOML"), "{reason}");
            assert!(!reason.contains("planted"), "{reason}");
            assert!(reason.contains(" at line "), "{reason}");
            assert!(!reason.ends_with(": "), "no reason given: {reason}");
        }
    }

    #[test]
    fn the_line_of_a_number_that_can_not_be_is_told() {
        for text in [
            "a = 1\n\n[b]\nlanes = 99999999999999999999\nc = 2\n",
            "a = 1\nb = [\n1,\n99999999999999999999,\n2,\n]\nc = 1\n",
            "a = 1\n\n\nb = 9_999_999_999_999_999_999_999\n",
        ] {
            assert!(
                wrong_number(text).starts_with("is not valid TOML at line 4: "),
                "{}",
                wrong_number(text)
            );
        }
        let long = format!("{}b = 99999999999999999999\n", "#\n".repeat(2_000));
        assert!(wrong_number(&long).starts_with("is not valid TOML: a number"));
    }
}
