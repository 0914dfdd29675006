//! The configuration in words: what `check` prints, and what a reload can't change.

use std::fmt::Write as _;

use super::units::show_size;
use super::{Config, QueueKind};
use crate::push;

/// What `braze-datadog check` prints: each connection with its name, site, app groups and metric, and where
/// events come from. It never shows a key.
pub fn describe(config: &Config) -> String {
    let mut text = String::new();
    for connection in &config.connections {
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
    if config.connections.iter().all(|connection| !connection.app_group_ids.is_empty()) {
        line(&mut text, "other groups", "no connection serves them: their sends are dropped as unrouted");
    }
    line(&mut text, "queue", &queue(config));
    line(&mut text, "push", &config.push.as_ref().map_or_else(|| "off".to_owned(), push_listener));
    line(&mut text, "admin", &format!("http://{}", config.admin.listen));
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
            format!("embedded, in {}, at most {}", embedded.directory.display(), show_size(embedded.size_max))
        }
        QueueKind::Kafka => {
            let kafka = &config.queue.kafka;
            let (topics, brokers) = (kafka.topics.join(", "), kafka.brokers.join(", "));
            format!("kafka, topics {topics} of {brokers} as group {}", kafka.group_id)
        }
    }
}

fn push_listener(push: &push::Settings) -> String {
    let scheme = if push.tls.is_some() { "https" } else { "http" };
    let token = match &push.token_file {
        Some(path) => format!("with a token of {}", path.display()),
        None => "no token is asked".to_owned(),
    };
    format!("{scheme}://{}/v1/events, {token}", push.listen)
}

/// The keys that differ between two configurations and that a running process can't take over: everything
/// but connections, tags, whether keys are validated, the level of the log, and what stands in files (keys, tokens).
pub fn changes_needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    let mut compare = |key: &str, same: bool| {
        if !same {
            keys.push(key.to_owned());
        }
    };
    compare("queue.kind", old.queue.kind == new.queue.kind);
    let (old_log, new_log) = (&old.queue.embedded, &new.queue.embedded);
    compare("queue.embedded.directory", old_log.directory == new_log.directory);
    compare("queue.embedded.max_size", old_log.size_max == new_log.size_max);
    let (old_kafka, new_kafka) = (&old.queue.kafka, &new.queue.kafka);
    compare("queue.kafka.brokers", old_kafka.brokers == new_kafka.brokers);
    compare("queue.kafka.topics", old_kafka.topics == new_kafka.topics);
    compare("queue.kafka.group_id", old_kafka.group_id == new_kafka.group_id);
    compare("queue.kafka.schema_registry", old_kafka.schema_registry == new_kafka.schema_registry);
    compare(
        "queue.kafka.schema_registry_auth_file",
        old_kafka.schema_registry_auth == new_kafka.schema_registry_auth,
    );
    compare("queue.kafka.oauth_token_file", old_kafka.oauth_token_file == new_kafka.oauth_token_file);
    compare("queue.kafka.options", old_kafka.options == new_kafka.options);
    match (&old.push, &new.push) {
        (Some(old), Some(new)) => {
            compare("push.listen", old.listen == new.listen);
            compare("push.token_file", old.token_file == new.token_file);
            compare("push.tls_certificate", certificate(old) == certificate(new));
            compare("push.tls_key", tls_key(old) == tls_key(new));
            compare("push.max_body", old.body_bytes_max == new.body_bytes_max);
        }
        (old, new) => compare("push", old.is_none() && new.is_none()),
    }
    compare("admin.listen", old.admin.listen == new.admin.listen);
    compare("admin.hosts", old.admin.hosts == new.admin.hosts);
    compare("events.count", old.events_count == new.events_count);
    let (old_counts, new_counts) = (&old.aggregate, &new.aggregate);
    compare("events.timestamp", old_counts.timestamp == new_counts.timestamp);
    compare("events.late", old_counts.late == new_counts.late);
    compare("dedup.window", old.dedup.window == new.dedup.window);
    compare("dedup.max_ids", old.dedup.max_ids == new.dedup.max_ids);
    compare("flush.interval", old_counts.flush_interval == new_counts.flush_interval);
    compare("flush.timeout", old_counts.flush_timeout == new_counts.flush_timeout);
    compare("flush.max_series", old_counts.series_max == new_counts.series_max);
    compare("flush.max_connection_age", old.connection_age_max == new.connection_age_max);
    compare("log.format", old.log.format == new.log.format);
    compare("shutdown_timeout", old.shutdown_timeout == new.shutdown_timeout);
    compare("lanes", old.lanes == new.lanes);
    keys
}

fn certificate(push: &push::Settings) -> Option<&std::path::Path> {
    push.tls.as_ref().map(|tls| &*tls.certificate)
}

fn tls_key(push: &push::Settings) -> Option<&std::path::Path> {
    push.tls.as_ref().map(|tls| &*tls.key)
}
