//! Holds what a file or the environment says against the listing of everything that can be said, key by key,
//! so that one wrong key hides no other, and nothing is converted silently.

use std::collections::{BTreeMap, BTreeSet};

use ::config::{Map, Value, ValueKind};
use serde_json::Value as Listing;

use super::finding::{
    ConfigError, Finding, Warning, did_you_mean, looks_like_key, looks_random, nearest, quoted,
};
use super::units;
use super::written::ANY;

/// The map whose keys are librdkafka's and whose values may be numbers or booleans as well.
pub(super) const OPTIONS: &str = "queue.kafka.options";

/// What was found so far, and which file or variable each key is from.
pub(super) struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Warning>,
    origins: BTreeMap<String, String>,
    spoilt: Spoilt,
    file: String,
}

/// What was written and could not be read. That it is missing, then, is no finding of its own.
#[derive(Default)]
struct Spoilt {
    /// Keys and sections; the empty one is a whole file.
    keys: BTreeSet<String>,
    /// Names of keys that stand in a wrong section.
    misplaced: BTreeSet<String>,
}

impl Spoilt {
    fn has(&self, key: &str) -> bool {
        let is_within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let name = key.rsplit('.').next().unwrap_or(key);
        self.misplaced.contains(name)
            || self
                .keys
                .iter()
                .any(|spoilt| spoilt.is_empty() || is_within(key, spoilt) || is_within(spoilt, key))
    }
}

impl Findings {
    /// `file` is where a key that is nowhere belongs.
    pub(super) fn new(file: &str) -> Self {
        Self {
            errors: Vec::new(),
            warnings: Vec::new(),
            origins: BTreeMap::new(),
            spoilt: Spoilt::default(),
            file: file.to_owned(),
        }
    }

    pub(super) fn error(&mut self, key: &str, reason: impl Into<String>) {
        let origin = self.origin(key).to_owned();
        self.error_at(&origin, key, reason);
    }

    pub(super) fn error_at(&mut self, origin: &str, key: &str, reason: impl Into<String>) {
        self.errors.push(Finding { origin: origin.to_owned(), key: key.to_owned(), reason: reason.into() });
    }

    /// An error that leaves unread what was written for `key`.
    pub(super) fn unread_at(&mut self, origin: &str, key: &str, reason: impl Into<String>) {
        self.error_at(origin, key, reason);
        self.spoil(key);
    }

    /// Takes note that `key` was meant to be written and could not be read, which is an error already.
    pub(super) fn spoil(&mut self, key: &str) {
        self.spoilt.keys.insert(key.to_owned());
    }

    /// That `key` is missing, unless it was written and could not be read: then it has been told.
    pub(super) fn missing(&mut self, key: &str, finding: &str, reason: &str) {
        if !self.is_spoilt(key) {
            self.error(finding, reason);
        }
    }

    /// Whether `key`, or something in it, was written and could not be read.
    pub(super) fn is_spoilt(&self, key: &str) -> bool {
        self.spoilt.has(key)
    }

    pub(super) fn warn(&mut self, key: &str, reason: impl Into<String>) {
        let origin = self.origin(key).to_owned();
        self.warnings.push(Warning { origin, key: key.to_owned(), reason: reason.into() });
    }

    /// The file or variable that `key`, or else the nearest section around it, is from.
    pub(super) fn origin(&self, key: &str) -> &str {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin;
            }
            match key.rsplit_once('.') {
                Some((section, _)) => key = section,
                None => return &self.file,
            }
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<(T, Vec<Warning>), ConfigError> {
        if self.errors.is_empty() { Ok((value, self.warnings)) } else { Err(self.into_error()) }
    }

    pub(super) fn into_error(self) -> ConfigError {
        ConfigError { findings: self.errors }
    }
}

/// The entries of `table` that `listing` has, with values of the right kind. Everything else becomes an error
/// and is left out: an unknown name must not reach the `config` crate, which reads it as a path expression
/// (`"lanes[999999999]"` would make a list of that length).
pub(super) fn check_table(
    findings: &mut Findings,
    table: Map<String, Value>,
    listing: &Listing,
    section: &str,
    origin: &str,
) -> Map<String, Value> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut kept = Map::new();
    for (name, value) in entries {
        let key = join(section, &name);
        let Some(expected) = listing.get(&name).or_else(|| listing.get(ANY)) else {
            findings.error_at(origin, &key, unknown_in_file(&name, listing, section));
            match nearest(&name, names(listing)) {
                Some(near) => findings.spoil(&join(section, near)),
                None => drop(findings.spoilt.misplaced.insert(name)),
            }
            continue;
        };
        if let Some(value) = check_value(findings, value, expected, &key, origin) {
            kept.insert(name, value);
        }
    }
    kept
}

fn check_value(
    findings: &mut Findings,
    value: Value,
    expected: &Listing,
    key: &str,
    origin: &str,
) -> Option<Value> {
    let kind = match (expected, value.kind) {
        (Listing::Object(_), ValueKind::Table(table)) => {
            findings.origins.entry(key.to_owned()).or_insert_with(|| origin.to_owned());
            ValueKind::Table(check_table(findings, table, expected, key, origin))
        }
        (Listing::Array(_), ValueKind::Array(values)) if values.iter().all(is_text) => {
            ValueKind::Array(values)
        }
        (Listing::Bool(_), ValueKind::Boolean(value)) => ValueKind::Boolean(value),
        (Listing::Number(_), ValueKind::I64(value)) if value >= 0 => ValueKind::I64(value),
        (Listing::String(_), ValueKind::String(value)) => ValueKind::String(value),
        (Listing::String(default), ValueKind::I64(value)) if units::is_size(default) || is_option(key) => {
            ValueKind::String(value.to_string())
        }
        (Listing::String(_), ValueKind::Boolean(value)) if is_option(key) => {
            ValueKind::String(value.to_string())
        }
        (expected, found) => {
            findings.unread_at(origin, key, wrong_kind(expected, &found, key));
            return None;
        }
    };
    if !matches!(expected, Listing::Object(_)) {
        findings.origins.insert(key.to_owned(), origin.to_owned());
    }
    Some(Value::new(Some(&origin.to_owned()), kind))
}

fn is_text(value: &Value) -> bool {
    matches!(value.kind, ValueKind::String(_))
}

fn is_option(key: &str) -> bool {
    key.strip_prefix(OPTIONS).is_some_and(|rest| rest.starts_with('.'))
}

/// Says what was found and what belongs there, never the value itself: it may be a secret.
fn wrong_kind(expected: &Listing, found: &ValueKind, key: &str) -> String {
    let found_name = match found {
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) if matches!(expected, Listing::Array(_)) => {
            "a list with something besides strings"
        }
        ValueKind::Array(_) => "a list",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::I64(value) if *value < 0 => "a negative number",
        ValueKind::String(_) => "a string",
        ValueKind::Nil => "nothing",
        _ => "a number",
    };
    let expected = match expected {
        Listing::Object(_)
            if key.starts_with("connections.") && !key["connections.".len()..].contains('.') =>
        {
            "a connection's section; give the connection a name: [connections.NAME]".to_owned()
        }
        Listing::Object(_) => format!("a section: [{key}]"),
        Listing::Array(_) => "a list of strings: [\"…\", \"…\"]".to_owned(),
        Listing::Bool(_) => "true or false".to_owned(),
        Listing::Number(_) => "a whole number, without quotation marks".to_owned(),
        Listing::String(default) if units::parse_duration(default).is_ok() => {
            format!("a duration in quotation marks, like {default:?}")
        }
        Listing::String(default) if units::is_size(default) => format!("a size, like {default:?}, or bytes"),
        _ => "a string in quotation marks".to_owned(),
    };
    format!("is {found_name}; here belongs {expected}")
}

fn unknown_in_file(name: &str, listing: &Listing, section: &str) -> String {
    if name == "connections" && section.starts_with("connections.") {
        return "unknown key; the keys of this connection stand here without [connections.NAME] above them"
            .into();
    }
    if let Some(near) = nearest(name, names(listing)) {
        return format!("unknown key{}", did_you_mean(Some(near)));
    }
    match places_of(name) {
        places if places.is_empty() => {
            format!("unknown key; known here are {}", names(listing).collect::<Vec<_>>().join(", "))
        }
        places => format!("unknown key here; it belongs {}", places.join(" or ")),
    }
}

/// Where in the whole configuration there is a key of that name. TOML makes a top-level key that stands below
/// a section a part of that section, which is the commonest reason for a key in the wrong place.
fn places_of(name: &str) -> Vec<String> {
    fn visit(listing: &Listing, section: &str, name: &str, places: &mut Vec<String>) {
        let Listing::Object(entries) = listing else { return };
        for (key, value) in entries {
            match section {
                "" if key == name => places.push("to the top of the file, before the first [section]".into()),
                section if key == name => places.push(format!("into [{section}]")),
                _ => {}
            }
            let shown = if key == ANY { "NAME" } else { key };
            visit(value, &join(section, shown), name, places);
        }
    }
    let mut places = Vec::new();
    if let Ok(listing) = super::written::Written::listing() {
        visit(&listing, "", name, &mut places);
    }
    places
}

/// The names that a section of the listing has.
pub(super) fn names(listing: &Listing) -> impl Iterator<Item = &str> {
    listing.as_object().into_iter().flat_map(|entries| entries.keys()).map(String::as_str)
}

/// A key as it is written in TOML: with quotation marks where it is not bare.
pub(super) fn join(section: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        && !looks_like_key(name)
        && !looks_random(name);
    let name = if bare { name.to_owned() } else { quoted(name) };
    if section.is_empty() { name } else { format!("{section}.{name}") }
}
