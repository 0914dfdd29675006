//! The configuration in words: for `check`, for the page, and for settings that need a restart. Never shows a secret.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::schema::{self, Key};
use super::values::{Size, Span};
use super::{Config, QueueKind};
use crate::connection::Connection;
use crate::push;

/// The output of `braze-datadog check`: each connection with its name, site, app groups and metric, and the source of
/// events. It never shows a key.
pub fn describe(config: &Config) -> String {
    let mut text = String::new();
    for connection in &config.connections.active {
        let app_groups = match &connection.app_group_ids[..] {
            [] => "every app group that no other connection names".to_owned(),
            ids => ids.join(", "),
        };
        let site = &connection.site;
        let dry_run = if connection.dry_run { "yes: points are printed, none is sent" } else { "no" };
        line(&mut text, "connection", &connection.name);
        line(&mut text, "  site", &format!("{} ({})", site.name, site.base_url));
        line(&mut text, "  app groups", &app_groups);
        line(&mut text, "  metric", &connection.metric);
        line(&mut text, "  dry run", dry_run);
    }
    if !config.connections.active.iter().any(Connection::is_catch_all) {
        line(&mut text, "other groups", "no connection serves them: their sends are dropped as unrouted");
    }
    line(&mut text, "queue", &queue(config));
    line(&mut text, "push", &config.push.as_ref().map_or_else(|| "off".to_owned(), push_listener));
    line(&mut text, "admin", &format!("http://{}", config.admin.listen));
    for workspace in &config.reconcile.workspaces {
        let (url, zone, at) = (&workspace.braze_url, &workspace.time_zone, config.reconcile.at);
        let of =
            workspace.connection.as_deref().map_or_else(String::new, |name| format!(", sends of {name}"));
        line(&mut text, "reconcile", &format!("with {url}, daily at {} in {zone}{of}", at.strftime("%H:%M")));
    }
    text
}

fn line(text: &mut String, name: &str, value: &str) {
    // Writing to a String can't fail.
    let _ = writeln!(text, "{name:<14}{value}");
}

fn queue(config: &Config) -> String {
    match config.queue.kind {
        QueueKind::Embedded => {
            let embedded = &config.queue.embedded;
            format!(
                "embedded, in {}, at most {}",
                embedded.directory.display(),
                String::from(Size(embedded.size_max))
            )
        }
        QueueKind::Kafka => {
            let kafka = &config.queue.kafka;
            let (topics, brokers) = (kafka.topics.join(", "), kafka.brokers.join(", "));
            format!("kafka, topics {topics} of {brokers} as group {}", kafka.group_id)
        }
        QueueKind::Storage => {
            let storage = &config.queue.storage;
            let urls: Vec<&str> = storage.sources.iter().map(|source| &*source.url).collect();
            format!(
                "storage, {}, every {}, remembered in {}",
                urls.join(", "),
                String::from(Span(storage.poll_interval)),
                storage.state_directory.display()
            )
        }
    }
}

fn push_listener(push: &push::PushSettings) -> String {
    let scheme = if push.tls.is_some() { "https" } else { "http" };
    let token = match &push.token_file {
        Some(path) => format!("with a token of {}", path.display()),
        None => "no token is asked".to_owned(),
    };
    format!("{scheme}://{}/v1/events, {token}", push.listen)
}

/// The settings in force, each as its key and readable value, in the order of the configuration file: those of the start,
/// with everything reloaded since. A possible secret is shown only as present or absent. Unset and unused settings are left
/// out; connections are shown elsewhere.
pub fn redacted(started_with: &Config, reloaded: &Config) -> Vec<(String, String)> {
    let (schema, started_with, reloaded) = (schema::of_settings(), values(started_with), values(reloaded));
    let kind = started_with["queue"]["kind"].as_str().unwrap_or_default();
    // Each kind of queue has a section of its own.
    let is_unused = |path: &str| {
        let section = path.strip_prefix("queue.").and_then(|rest| rest.split_once('.'));
        section.is_some_and(|(section, _)| section != kind)
    };
    let in_use = schema::keys(&schema).into_iter().filter(|key| !is_unused(&key.path));
    let shown = in_use.filter_map(|key| {
        let value = key.of(if key.reloads { &reloaded } else { &started_with })?;
        let text = if key.is("x-off") {
            value.is_null().then(|| "off".to_owned())?
        } else {
            Some(text_of(value, &key))
                .filter(|text| !text.is_empty())
                .or_else(|| key.schema["x-empty"].as_str().map(str::to_owned))?
        };
        Some((key.path, text))
    });
    shown.collect()
}

fn values(config: &Config) -> Json {
    // Settings are plain structs, which serde_json always makes a value of.
    serde_json::to_value(&config.settings).unwrap_or_default()
}

/// The readable value; for a secret, whether it is present.
fn text_of(value: &Json, key: &Key<'_>) -> String {
    let is_secret = key.is("x-secret");
    match value {
        Json::Object(entries) if entries.is_empty() => String::new(),
        Json::Object(entries) => {
            let names: Vec<&str> = entries.keys().map(String::as_str).collect();
            format!("{} (values are not shown)", names.join(", "))
        }
        Json::Array(items) => items.iter().filter_map(Json::as_str).collect::<Vec<_>>().join(", "),
        Json::String(text) if is_secret && !text.is_empty() => "set".to_owned(),
        Json::String(text) if key.schema["x-value"] == "duration" => Span::try_from(text.clone())
            .map_or_else(|error| error.to_string(), |Span(duration)| format!("{duration:?}")),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The keys that differ between two configurations and need a restart. The content of key, token and certificate files does
/// not count, because it is read again; files that the queue reads at its start count.
pub fn changes_needing_restart(old: &Config, new: &Config) -> Vec<String> {
    const REGISTRY: &str = "queue.kafka.schema_registry_auth_file";
    let (schema, before, after) = (schema::of_settings(), values(old), values(new));
    let is_other_secret = old.queue.kafka.schema_registry_auth != new.queue.kafka.schema_registry_auth;
    let differs = |key: &Key<'_>| match (key.of(&before), key.of(&after)) {
        (Some(before), Some(after)) if key.is("x-off") => before.is_null() != after.is_null(),
        (Some(before), Some(after)) => before != after || key.path == REGISTRY && is_other_secret,
        // For a section that is off, its name is enough.
        _ => false,
    };
    let keys = schema::keys(&schema).into_iter().filter(|key| !key.reloads && differs(key));
    keys.map(|key| key.path).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LEAST, PLANTED, parse};
    use super::*;

    fn shown(config: &Config) -> Vec<(String, String)> {
        redacted(config, config)
    }

    fn value<'s>(all: &'s [(String, String)], key: &str) -> Option<&'s str> {
        all.iter().find(|(known, _)| *known == key).map(|(_, value)| &**value)
    }

    #[test]
    fn settings_are_shown_as_they_are_in_force() {
        let all =
            shown(&parse(&format!("[flush]\ninterval = \"1m\"\n[tags]\nstatic = [\"env:prod\"]\n{LEAST}")));
        assert_eq!(value(&all, "flush.interval"), Some("60s"));
        assert_eq!(value(&all, "queue.embedded.max_size"), Some("4GiB"));
        assert_eq!(value(&all, "tags.static"), Some("env:prod"));
        assert_eq!(value(&all, "events.late"), Some("drop"));
    }

    #[test]
    fn no_secret_is_shown() {
        let text = format!(
            "[queue]\nkind = \"kafka\"\n[queue.kafka]\nbrokers = [\"b:9092\"]\ntopics = [\"t\"]\nschema_registry = \
             \"https://u:{PLANTED}@r\"\n[queue.kafka.options]\n\"sasl.password\" = \"{PLANTED}\"\n\
             [connections.acme]\nsite = \"EU1\"\napi_key = \"{PLANTED}\"\n"
        );
        let all = shown(&parse(&text));
        assert_eq!(value(&all, "queue.kafka.schema_registry"), Some("set"));
        assert_eq!(value(&all, "queue.kafka.options"), Some("sasl.password (values are not shown)"));
        assert!(!format!("{all:?}").contains(PLANTED));
    }

    #[test]
    fn a_secret_that_changes_is_seen_by_its_key_alone() {
        let with = |secret: &str| {
            parse(&format!(
                "[queue.kafka]\nschema_registry = \"https://u:{secret}@r\"\n[queue.kafka.options]\n\"sasl.password\" = \
                 \"{secret}\"\n[connections.acme]\nsite = \"EU1\"\napi_key = \"{PLANTED}\"\n"
            ))
        };
        let (old, new) = (with(PLANTED), with(&PLANTED.replace('0', "1")));
        assert_eq!(changes_needing_restart(&old, &with(PLANTED)), Vec::<String>::new());
        let changes = changes_needing_restart(&old, &new);
        assert_eq!(changes, ["queue.kafka.schema_registry", "queue.kafka.options"]);
        let written = values(&old).to_string();
        assert!(written.contains("sasl.password") && !written.contains("0123"), "{written}");
        assert!(!format!("{:?}", old.settings).contains("0123"), "{:?}", old.settings);
    }

    #[test]
    fn what_a_reload_takes_over_is_shown_as_it_is_now_and_the_rest_as_it_was() {
        let started = parse(&format!("[push]\n[log]\nformat = \"text\"\n{LEAST}"));
        let text = "lanes = 7\n[log]\nlevel = \"debug\"\nformat = \"json\"\n[tags]\nstatic = [\"a:b\"]\n";
        let all = redacted(&started, &parse(&format!("{text}{LEAST}")));
        assert_eq!(value(&all, "log.level"), Some("debug"));
        assert_eq!(value(&all, "log.format"), Some("text"));
        assert_eq!(value(&all, "tags.static"), Some("a:b"));
        assert_eq!(value(&all, "lanes"), Some(&*started.lanes.to_string()));
        assert_eq!(value(&all, "push.token_file"), Some("none: no token is asked"));
        assert_eq!((value(&all, "push"), value(&all, "queue.kafka.topics")), (None, None));
        assert_eq!(value(&shown(&parse(LEAST)), "push"), Some("off"));
    }
}
