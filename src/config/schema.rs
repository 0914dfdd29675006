//! The schema of the configuration, made from the [settings](super::settings), and the check against it: key by key, so that
//! one wrong key hides no other, and nothing is converted silently.

use std::collections::BTreeSet;

use ::config::{Map, Value, ValueKind};
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value as Json;

use super::connections::connection_name_fault;
use super::diagnostic::{Diagnostics, did_you_mean, looks_like_key, looks_random, nearest, quoted};
use super::settings::Settings;
use super::values::{Address, Size, Span};

/// The values of one source of the configuration.
pub(super) type Table = Map<String, Value>;

/// The placeholder in messages for a name that the user chooses.
const NAME: &str = "NAME";

/// The JSON Schema of a configuration file.
pub(super) fn of_settings() -> Json {
    // Inlined, so that walking it follows no reference; as serialized, so that all keys are listed.
    let settings =
        SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let generator = settings.with_transform(RecursiveTransform(of_file)).into_generator();
    let mut schema = generator.into_root_schema_for::<Settings>();
    schema.insert("title".to_owned(), env!("CARGO_PKG_NAME").into());
    schema.to_value()
}

/// From the schema of the serialized form to that of a file: nothing is required there (the required list gives the order of
/// the keys instead), and an optional section is off.
fn of_file(schema: &mut Schema) {
    if let Some(keys) = schema.remove("required") {
        schema.insert("x-order".to_owned(), keys);
    }
    if schema.get("type").is_some_and(|of| of.as_array().is_some_and(|of| of.contains(&"null".into()))) {
        schema.insert("type".to_owned(), "object".into());
        schema.insert("x-off".to_owned(), true.into());
    }
    if is_one(schema.as_value(), "object") {
        schema.remove("default");
    }
}

/// A key, a section whose names the user chooses, or an optional section.
pub(super) struct Key<'s> {
    /// The path, with its sections.
    pub(super) path: String,
    pub(super) schema: &'s Json,
    /// Whether a running process takes a change over.
    pub(super) reloads: bool,
}

impl Key<'_> {
    /// Its value in the settings; nothing where its section is off.
    pub(super) fn of<'v>(&self, settings: &'v Json) -> Option<&'v Json> {
        self.path.split('.').try_fold(settings, |value, name| value.get(name))
    }

    pub(super) fn is(&self, what: &str) -> bool {
        self.schema[what] == true
    }
}

/// Every key except those of connections, in the order of the settings.
pub(super) fn keys(schema: &Json) -> Vec<Key<'_>> {
    fn visit<'s>(schema: &'s Json, section: &str, reloads: bool, keys: &mut Vec<Key<'s>>) {
        for name in schema["x-order"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            let schema = &schema["properties"][name];
            let key =
                Key { path: join(section, name), schema, reloads: reloads || schema["x-reload"] == true };
            let (path, reloads, is_off) = (key.path.clone(), key.reloads, key.is("x-off"));
            if schema["x-order"].is_null() || is_off {
                keys.push(key);
            }
            visit(schema, &path, reloads, keys);
        }
    }
    let mut keys = Vec::new();
    visit(schema, "", false, &mut keys);
    keys
}

/// The schema under `name` in a section.
pub(super) fn below<'s>(schema: &'s Json, name: &str) -> Option<&'s Json> {
    schema["properties"].get(name).or_else(|| chosen(schema))
}

/// The schema under each of the names that the user chooses, in a section of such.
pub(super) fn chosen(schema: &Json) -> Option<&Json> {
    schema.get("additionalProperties").filter(|below| below.is_object())
}

/// The names in a section.
pub(super) fn names(schema: &Json) -> impl Iterator<Item = &str> {
    let known = schema["properties"].as_object().into_iter().flat_map(|entries| entries.keys());
    known.map(String::as_str).chain(chosen(schema).map(|_| NAME))
}

/// Whether a value of this type is allowed here.
pub(super) fn is_one(schema: &Json, of: &str) -> bool {
    match &schema["type"] {
        Json::Array(types) => types.iter().any(|one| one == of),
        one => one == of,
    }
}

/// The entries of `table` that are in the schema, with values of the right type. Every other entry becomes an error and is
/// left out.
pub(super) fn keep_known(
    diagnostics: &mut Diagnostics,
    table: Table,
    schema: &Json,
    section: &str,
    origin: &str,
) -> Table {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut kept = Table::new();
    for (name, mut value) in entries {
        let key = join(section, &name);
        let Some(schema_below) = below(schema, &name) else {
            let near = nearest(&name, names(schema));
            let is_dotted =
                near.is_none() && matches!(value.kind, ValueKind::Table(_)) && is_connection(section);
            let unknown = unknown(&name, schema, section);
            let reason = if is_dotted && !is_header(&name, section) {
                format!("{unknown}; or the name of a connection, which has no dot: [{section}_{name}]")
            } else {
                unknown
            };
            diagnostics.error_at(origin, &key, reason);
            match near {
                Some(near) => diagnostics.spoil(&join(section, near)),
                None if is_dotted => diagnostics.spoil(section),
                // All keys of the connection are below it.
                None if is_header(&name, section) => diagnostics.spoil(section),
                None => diagnostics.misplace(section, &name),
            }
            continue;
        };
        if section.starts_with("connections.") {
            take_slipped(diagnostics, (schema, section), (&name, &mut value), origin);
        }
        if let Some(value) = keep_typed(diagnostics, value, schema_below, &key, origin) {
            kept.insert(name, value);
        }
    }
    kept
}

/// Takes the keys of a connection out of a section of it, where TOML puts what stands below the section's name. Without such a key
/// it would be another connection, so that this is no mistake of the section alone.
fn take_slipped(
    diagnostics: &mut Diagnostics,
    (schema, connection): (&Json, &str),
    (name, value): (&str, &mut Value),
    origin: &str,
) {
    let ValueKind::Table(entries) = &mut value.kind else { return };
    let is_key_of = |schema: &Json, key: &str| schema["properties"].get(key).is_some();
    let is_slipped = |key: &&String| is_key_of(schema, key) && !is_key_of(&schema["properties"][name], key);
    let slipped: BTreeSet<_> = entries.keys().filter(is_slipped).cloned().collect();
    for key in slipped {
        entries.remove(&key);
        let reason = format!(
            "stands in the section {name}, where it sets nothing; write it above that section, to the other keys of the \
             connection"
        );
        diagnostics.unread_at(origin, &join(connection, &key), reason);
    }
}

/// Whether it is the section of a connection itself.
fn is_connection(section: &str) -> bool {
    section.strip_prefix("connections.").is_some_and(|name| !name.contains('.'))
}

/// Whether it is `[connections.NAME]` in a file that is a connection's already.
fn is_header(name: &str, section: &str) -> bool {
    name == "connections" && section.starts_with("connections.")
}

fn keep_typed(
    diagnostics: &mut Diagnostics,
    value: Value,
    schema: &Json,
    key: &str,
    origin: &str,
) -> Option<Value> {
    let may_be = |of: &str| is_one(schema, of);
    let is_table = matches!(value.kind, ValueKind::Table(_)) && may_be("object");
    let kept = match value.kind {
        ValueKind::Table(table) if is_table => {
            diagnostics.came_from(key, origin, true);
            return Some(keep_known(diagnostics, table, schema, key, origin).into());
        }
        ValueKind::Array(values) if may_be("array") && values.iter().all(is_text) => values.into(),
        ValueKind::String(text) if may_be("string") => text.into(),
        // Where a text is expected, a number or a boolean may stand for one.
        ValueKind::I64(number) if may_be("string") && may_be("integer") => number.to_string().into(),
        ValueKind::Boolean(value) if may_be("string") && may_be("boolean") => value.to_string().into(),
        ValueKind::I64(number) if may_be("integer") && number >= 0 => number.into(),
        ValueKind::Boolean(value) if may_be("boolean") => value.into(),
        other => {
            diagnostics.unread_at(origin, key, wrong_type(schema, &other, key));
            return None;
        }
    };
    diagnostics.came_from(key, origin, false);
    Some(kept)
}

fn is_text(value: &Value) -> bool {
    matches!(value.kind, ValueKind::String(_))
}

/// Reports the type found and the type expected, never the value: it may be a secret.
fn wrong_type(schema: &Json, found: &ValueKind, key: &str) -> String {
    let found = match found {
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) if is_one(schema, "array") => "a list with something besides strings",
        ValueKind::Array(_) => "a list",
        ValueKind::Boolean(_) => "a boolean",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::I64(value) if *value < 0 => "a negative number",
        ValueKind::String(_) => "a string",
        ValueKind::Nil => "nothing",
        _ => "a number",
    };
    let default = &schema["default"];
    let belongs = match (schema["x-value"].as_str(), schema["type"].as_str()) {
        (Some("duration"), _) => format!("a duration in quotation marks, like {default}"),
        (Some("size"), _) => format!("a size, like {default}, or bytes"),
        (_, Some("object")) if is_connection(key) => {
            "a connection's section; give the connection a name: [connections.NAME]".to_owned()
        }
        (_, Some("object")) => format!("a section: [{key}]"),
        (_, Some("array")) => "a list of strings: [\"…\", \"…\"]".to_owned(),
        (_, Some("boolean")) => "true or false".to_owned(),
        (_, Some("integer")) => "a whole number, without quotation marks".to_owned(),
        _ => "a string in quotation marks".to_owned(),
    };
    format!("is {found}; here belongs {belongs}")
}

fn unknown(name: &str, schema: &Json, section: &str) -> String {
    if is_header(name, section) {
        return "unknown key; the keys of this connection stand here without [connections.NAME] above them"
            .into();
    }
    if let Some(near) = nearest(name, names(schema)) {
        return format!("unknown key{}", did_you_mean(Some(near)));
    }
    let mut places = Vec::new();
    find(&of_settings(), "", name, &mut places);
    if places.is_empty() {
        let known: Vec<_> = names(schema).collect();
        return format!("unknown key; known here are {}", known.join(", "));
    }
    format!("unknown key here; it belongs {}", places.join(" or "))
}

/// The places of a key of that name in the whole configuration. TOML makes a top-level key below a section a part of that
/// section, which is the commonest reason for a key in the wrong place.
fn find(schema: &Json, section: &str, name: &str, places: &mut Vec<String>) {
    for known in names(schema) {
        match section {
            _ if known != name => {}
            "" => places.push("to the top of the file, before the first [section]".into()),
            section => places.push(format!("into [{section}]")),
        }
        if let Some(schema) = below(schema, known) {
            find(schema, &join(section, known), name, places);
        }
    }
}

/// The merged sources, on top of the defaults; `None`: a defect kept them from being combined.
pub(super) fn settings(diagnostics: &mut Diagnostics, merged: Table, schema: &Json) -> Option<Settings> {
    let mut values: Json = Value::from(merged).try_deserialize().ok()?;
    keep_valid(diagnostics, &mut values, schema, "");
    serde_json::from_value(values).ok()
}

/// Removes each value that is not among the choices, or out of range; it becomes an error.
fn keep_valid(diagnostics: &mut Diagnostics, values: &mut Json, schema: &Json, section: &str) {
    let Some(entries) = values.as_object_mut() else { return };
    entries.retain(|name, value| {
        let Some(schema) = below(schema, name) else { return false };
        let key = join(section, name);
        keep_valid(diagnostics, value, schema, &key);
        let faults: BTreeSet<String> = match value {
            Json::Array(items) => items.iter().filter_map(|item| fault(item, &schema["items"])).collect(),
            value => fault(value, schema).into_iter().collect(),
        };
        let origin = diagnostics.origin(&key).to_owned();
        for fault in &faults {
            diagnostics.unread_at(&origin, &key, fault.as_str());
        }
        faults.is_empty()
    });
}

/// The fault of a value of the right type.
fn fault(value: &Json, schema: &Json) -> Option<String> {
    if let Some(number) = value.as_u64() {
        let bound = |name: &str, otherwise: u64| schema[name].as_u64().unwrap_or(otherwise);
        let (from, to) = (bound("minimum", 0), bound("maximum", u64::MAX));
        let reason = format!("{number} is out of range; it has to be from {from} to {to}");
        return (!(from..=to).contains(&number)).then_some(reason);
    }
    let text = value.as_str()?;
    let bound = |name: &str| schema[name].as_str().unwrap_or_default().to_owned();
    let (from, to) = (bound("x-min"), bound("x-max"));
    let reason = match schema["x-value"].as_str() {
        Some("duration") => match Span::try_from(text.to_owned()) {
            Ok(span) if !is_within(&span, &from, &to) => {
                format!("is out of range; it has to be from {from} to {to}")
            }
            Ok(Span(duration)) if schema["x-whole-seconds"] == true && duration.subsec_nanos() != 0 => {
                "is not whole seconds, which points are stamped with".to_owned()
            }
            Ok(_) => return None,
            Err(error) => error.to_string(),
        },
        Some("size") => match Size::try_from(text.to_owned()) {
            Ok(Size(0)) => return Some("is 0; it has to be a size, like \"16MiB\"".to_owned()),
            Ok(size) if is_within(&size, &from, &to) => return None,
            Ok(_) if from.is_empty() => format!("is out of range; it has to be at most {to}"),
            Ok(_) if to.is_empty() => format!("is out of range; it has to be at least {from}"),
            Ok(_) => format!("is out of range; it has to be from {from} to {to}"),
            Err(error) => error.to_string(),
        },
        Some("address") => Address::try_from(text.to_owned()).err()?.to_string(),
        _ => not_on_offer(text, &schema["enum"])?,
    };
    Some(format!("{} {reason}", quoted(text)))
}

/// Whether a value is between two bounds of the schema; a missing one does not bound.
fn is_within<V: TryFrom<String> + PartialOrd>(value: &V, from: &str, to: &str) -> bool {
    let bound = |text: &str| V::try_from(text.to_owned()).ok();
    bound(from).is_none_or(|from| from <= *value) && bound(to).is_none_or(|to| *value <= to)
}

fn not_on_offer(text: &str, choices: &Json) -> Option<String> {
    let names: Vec<&str> = choices.as_array()?.iter().filter_map(Json::as_str).collect();
    let near = did_you_mean(nearest(text, names.iter().copied()));
    let is_one = names.contains(&text);
    (!is_one).then(|| format!("is not on offer{near} (it can be {})", names.join(", ")))
}

/// A key as TOML writes it: quoted where it is not bare. What is not shown in it would be the same key for several names; names of
/// connections, which are shown everywhere, are told apart by it.
pub(super) fn join(section: &str, name: &str) -> String {
    let is_connection = section == "connections" && connection_name_fault(name).is_none();
    let bare = is_connection
        || !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
            && !looks_like_key(name)
            && !looks_random(name);
    let name = if bare { name.to_owned() } else { quoted(name) };
    if section.is_empty() { name } else { format!("{section}.{name}") }
}
