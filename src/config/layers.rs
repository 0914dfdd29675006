//! The layers of a configuration: defaults, below files, below the environment.
//!
//! Each layer is [checked](super::shape) by itself, so that a finding names the file or the variable; the
//! `config` crate then lays them over each other.

use std::collections::BTreeSet;
use std::fmt;

use ::config::{FileFormat, Map, Source, Value, ValueKind};
use serde_json::Value as Listing;

use super::finding::{did_you_mean, nearest};
use super::shape::{self, Findings, OPTIONS, join, names};
use super::written::{ANY, Written};

/// What a variable begins with. Kubernetes makes variables that begin with `BRAZE_DATADOG_` for a service of
/// that name; two underscores keep them apart.
pub(super) const PREFIX: &str = "BRAZE_DATADOG__";

/// What parts the sections and the key in the name of a variable.
const SEPARATOR: &str = "__";

/// Entries that have been checked.
#[derive(Clone, Default)]
pub(super) struct Layer(Map<String, Value>);

impl fmt::Debug for Layer {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    /// The text of a configuration file.
    pub(super) fn of_file(findings: &mut Findings, text: &str, origin: &str, listing: &Listing) -> Self {
        Self(
            parse_toml(findings, text, origin, "")
                .map_or_else(Map::new, |table| shape::check_table(findings, table, listing, "", origin)),
        )
    }

    /// The text of a file in the connections directory: the keys of one connection.
    pub(super) fn of_connection(
        findings: &mut Findings,
        text: &str,
        origin: &str,
        listing: &Listing,
        name: &str,
    ) -> Self {
        let Some(table) = parse_toml(findings, text, origin, &join("connections", name)) else {
            return Self::default();
        };
        let connection = Map::from([(name.to_owned(), Value::from(table))]);
        let table = Map::from([("connections".to_owned(), Value::from(connection))]);
        Self(shape::check_table(findings, table, listing, "", origin))
    }

    /// The variables that begin with [`PREFIX`].
    pub(super) fn of_environment(
        findings: &mut Findings,
        env: &[(String, String)],
        listing: &Listing,
    ) -> Self {
        let mut table = Map::new();
        let mut seen = BTreeSet::new();
        let mut variables: Vec<_> = env.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        for (variable, text) in variables {
            let origin = format!("environment variable {}", show(variable));
            let (path, expected) = match resolve(&variable[PREFIX.len()..], listing) {
                Ok(found) => found,
                Err((reason, meant)) => {
                    findings.error_at(&origin, "", reason);
                    if let Some(meant) = meant {
                        findings.spoil(&meant);
                    }
                    continue;
                }
            };
            let key = key_of(&path);
            if !seen.insert(key.clone()) {
                findings.error_at(&origin, &key, "is set by another environment variable too");
                continue;
            }
            match value_of(text, expected) {
                Ok(value) => {
                    let nested = path
                        .into_iter()
                        .rev()
                        .fold(value, |value, name| Value::from(Map::from([(name, value)])));
                    let ValueKind::Table(nested) = nested.kind else { continue };
                    merge(&mut table, shape::check_table(findings, nested, listing, "", &origin));
                }
                Err(reason) => findings.unread_at(&origin, &key, reason),
            }
        }
        Self(table)
    }

    /// The names of the connections in this layer.
    pub(super) fn connections(&self) -> impl Iterator<Item = &str> {
        let connections = self.0.get("connections").and_then(|value| match &value.kind {
            ValueKind::Table(table) => Some(table.keys()),
            _ => None,
        });
        connections.into_iter().flatten().map(String::as_str)
    }

    /// A top-level string of this layer.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.0.get(key)?.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Lays the layers over the defaults, the last on top.
pub(super) fn lay(layers: Vec<Layer>) -> Result<Written, ::config::ConfigError> {
    let mut builder = ::config::Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    builder.build()?.try_deserialize()
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name).map(|value| &mut value.kind), value.kind) {
            (Some(ValueKind::Table(into)), ValueKind::Table(from)) => merge(into, from),
            (_, kind) => {
                into.insert(name, Value::from(kind));
            }
        }
    }
}

fn parse_toml(findings: &mut Findings, text: &str, origin: &str, key: &str) -> Option<Map<String, Value>> {
    match ::config::File::from_str(text, FileFormat::Toml).collect() {
        Ok(table) => Some(table),
        Err(error) => {
            findings.unread_at(origin, key, syntax_error(&error.to_string()));
            None
        }
    }
}

/// Takes the place and the reason out of the parser's message, which also quotes the line: that line may hold
/// a key. The message is `TOML parse error at PLACE`, three lines that show the place, and the reason.
fn syntax_error(message: &str) -> String {
    let mut lines = message.lines();
    let Some(place) = lines.next().and_then(|line| line.strip_prefix("TOML parse error at ")) else {
        return "is not valid TOML: a number in it is too large, or can't be read".to_owned();
    };
    let reason: Vec<_> = lines.skip(3).map(str::trim).filter(|line| !line.is_empty()).collect();
    format!("is not valid TOML at {place}: {}", reason.join("; "))
}

/// Why a variable means no key, and the key that was probably meant.
type Unknown = (String, Option<String>);

/// The key that the name of a variable means, and what belongs there. Sections and keys are written in any
/// case. What the user chooses keeps its case where case matters (app group ids); librdkafka's options are
/// in lower case with `.` for `_`, because a shell has no variables with dots.
fn resolve<'l>(name: &str, listing: &'l Listing) -> Result<(Vec<String>, &'l Listing), Unknown> {
    let mut path: Vec<String> = Vec::new();
    let mut here = listing;
    let mut rest = Some(name);
    while let Some(name) = rest {
        let (first, after) = match name.split_once(SEPARATOR) {
            Some((first, after)) => (first, Some(after)),
            None => (name, None),
        };
        let lower = first.to_lowercase();
        (here, rest) = match (here.get(&lower), here.get(ANY)) {
            (Some(found), _) if lower != ANY => {
                path.push(lower);
                (found, after)
            }
            (_, Some(found @ Listing::Object(_))) => {
                path.push(lower);
                (found, after)
            }
            (_, Some(found)) => {
                let options = path.join(".") == OPTIONS;
                path.push(if options { name.to_lowercase().replace('_', ".") } else { name.to_owned() });
                (found, None)
            }
            _ => {
                let meant = nearest(&lower, names(here)).map(|near| join(&key_of(&path), near));
                return Err((unknown_variable(&path, &lower, here), meant));
            }
        };
    }
    if matches!(here, Listing::Object(_)) {
        let reason = format!("is a section, not a key; its keys are {}", variables(&path, here).join(", "));
        return Err((reason, Some(key_of(&path))));
    }
    Ok((path, here))
}

fn key_of(path: &[String]) -> String {
    path.iter().fold(String::new(), |section, name| join(&section, name))
}

fn unknown_variable(path: &[String], name: &str, here: &Listing) -> String {
    let near = nearest(name, names(here)).map(|near| variable(path, near));
    match near {
        Some(near) => format!("unknown key{}", did_you_mean(Some(&near))),
        None if here.is_object() => {
            format!("unknown key; known here are {}", variables(path, here).join(", "))
        }
        None => format!("unknown key; {} has no keys below it", variable(path, "").trim_end_matches('_')),
    }
}

fn variables(path: &[String], here: &Listing) -> Vec<String> {
    names(here).map(|name| variable(path, if name == ANY { "NAME" } else { name })).collect()
}

fn variable(path: &[String], name: &str) -> String {
    let sections: String = path.iter().map(|section| section.to_uppercase() + SEPARATOR).collect();
    format!("{PREFIX}{sections}{}", name.to_uppercase())
}

/// The name of a variable for a message.
fn show(variable: &str) -> String {
    let plain = variable.len() <= 200
        && variable.bytes().all(|byte| byte.is_ascii_graphic())
        && !super::finding::looks_like_key(variable)
        && !super::finding::looks_random(variable);
    if plain { variable.to_owned() } else { super::finding::quoted(variable) }
}

/// Reads a variable's text as what belongs there. No message repeats it: it may be a secret.
fn value_of(text: &str, expected: &Listing) -> Result<Value, &'static str> {
    let kind = match expected {
        Listing::Bool(_) => match text.trim() {
            "true" => ValueKind::Boolean(true),
            "false" => ValueKind::Boolean(false),
            _ => return Err("has to be true or false"),
        },
        Listing::Number(_) => {
            let digits = text.trim().replace('_', "");
            ValueKind::I64(digits.parse().map_err(|_| "has to be a whole number")?)
        }
        Listing::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            ValueKind::Array(items.map(|item| Value::from(item.to_owned())).collect())
        }
        _ => ValueKind::String(text.to_owned()),
    };
    Ok(Value::from(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> (Written, Vec<String>) {
        let listing = Written::listing().unwrap();
        let mut findings = Findings::new("a.toml");
        let env: Vec<_> = variables.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        let layer = Layer::of_environment(&mut findings, &env, &listing);
        let errors = findings.into_error().findings.iter().map(ToString::to_string).collect();
        (lay(vec![layer]).unwrap(), errors)
    }

    #[test]
    fn variables_reach_every_kind_of_key() {
        let (written, errors) = environment(&[
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
        assert_eq!((written.lanes, written.dedup.max_ids), (3, 1000));
        assert_eq!(written.queue.embedded.max_size, "1GiB");
        assert_eq!(written.events.count, ["a", "b", "c"]);
        assert_eq!(written.tags.r#static, Vec::<String>::new());
        let acme = &written.connections["acme"];
        assert_eq!((&*acme.site, acme.dry_run), ("EU1", true));
        assert_eq!(acme.app_group_ids, ["007", "1.5", "true"]);
        let push = written.push.unwrap();
        assert_eq!((&*push.listen, &*push.max_body), ("127.0.0.1:1", "16MiB"));
    }

    #[test]
    fn chosen_names_keep_their_case_and_options_get_their_dots() {
        let (written, errors) = environment(&[
            ("BRAZE_DATADOG__CONNECTIONS__ACME__APP_GROUP_NAMES__5F3e.x__Y", "Acme"),
            ("BRAZE_DATADOG__QUEUE__KAFKA__OPTIONS__SASL_PASSWORD", "secret"),
        ]);
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(written.connections["acme"].app_group_names["5F3e.x__Y"], "Acme");
        assert_eq!(written.queue.kafka.options["sasl.password"], "secret");
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
            let (_, errors) = environment(&[(name, text)]);
            assert_eq!(errors.len(), 1, "{name}: {errors:?}");
            for part in parts {
                assert!(errors[0].contains(part), "{part} is not in {errors:?}");
            }
            assert!(!errors[0].contains("planted"), "{errors:?}");
        }
    }

    #[test]
    fn two_variables_for_one_key_are_an_error() {
        let (_, errors) = environment(&[("BRAZE_DATADOG__LANES", "1"), ("BRAZE_DATADOG__lanes", "2")]);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].contains("another environment variable"), "{errors:?}");
    }

    #[test]
    fn a_layer_shows_no_values() {
        let layer = Layer(Map::from([("lanes".to_owned(), Value::from("planted"))]));
        assert_eq!(format!("{layer:?}"), "{\"lanes\"}");
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
            let reason = syntax_error(&error.to_string());
            assert!(reason.starts_with("is not valid TOML"), "{reason}");
            assert!(!reason.contains("planted"), "{reason}");
            assert!(reason.contains(" at line ") || text.contains("999"), "{reason}");
            assert!(!reason.ends_with(": "), "no reason given: {reason}");
        }
    }
}
