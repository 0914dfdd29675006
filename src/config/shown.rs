//! The configuration as it was loaded, for the status page. It never shows a secret: of what may hold one, only
//! whether it is there.

use std::path::Path;
use std::time::Duration;

use super::units::show_size;
use super::{Config, LogFormat, QueueKind};
use crate::aggregate::tags::Names;
use crate::aggregate::{Late, Timestamp};
use crate::{push, queue};

/// Every setting with its key, in the order of the configuration file; connections are told elsewhere.
pub fn shown(config: &Config) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    match config.queue.kind {
        QueueKind::Embedded => {
            let embedded = &config.queue.embedded;
            all.push(("queue.kind", "embedded".to_owned()));
            all.push(("queue.embedded.directory", path(&embedded.directory)));
            all.push(("queue.embedded.max_size", show_size(embedded.size_max)));
        }
        QueueKind::Kafka => kafka(&mut all, &config.queue.kafka),
    }
    match &config.push {
        Some(push) => listener(&mut all, push),
        None => all.push(("push", "off".to_owned())),
    }
    all.push(("admin.listen", config.admin.listen.to_string()));
    if !config.admin.hosts.is_empty() {
        all.push(("admin.hosts", config.admin.hosts.join(", ")));
    }
    counting(&mut all, config);
    all.push(("log.level", config.log.level.to_string().to_lowercase()));
    let format = match config.log.format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    all.push(("log.format", format.to_owned()));
    all.push(("shutdown_timeout", span(config.shutdown_timeout)));
    all.push(("lanes", config.lanes.to_string()));
    if let Some(directory) = &config.connections_directory {
        all.push(("connections_directory", path(directory)));
    }
    all
}

fn kafka(all: &mut Vec<(&'static str, String)>, kafka: &queue::kafka::Settings) {
    all.push(("queue.kind", "kafka".to_owned()));
    all.push(("queue.kafka.brokers", kafka.brokers.join(", ")));
    all.push(("queue.kafka.topics", kafka.topics.join(", ")));
    all.push(("queue.kafka.group_id", kafka.group_id.to_string()));
    // Its URL can hold a password.
    if kafka.schema_registry.is_some() {
        all.push(("queue.kafka.schema_registry", "set".to_owned()));
    }
    if !kafka.options.is_empty() {
        let names: Vec<&str> = kafka.options.keys().map(|name| &**name).collect();
        all.push(("queue.kafka.options", format!("{} (values are not shown)", names.join(", "))));
    }
}

fn listener(all: &mut Vec<(&'static str, String)>, push: &push::Settings) {
    all.push(("push.listen", push.listen.to_string()));
    let tokens = push.token_file.as_deref().map_or_else(|| "none: no token is asked".to_owned(), path);
    all.push(("push.token_file", tokens));
    if let Some(tls) = &push.tls {
        all.push(("push.tls_certificate", path(&tls.certificate)));
    }
    all.push(("push.max_body", show_size(push.body_bytes_max as u64)));
}

fn counting(all: &mut Vec<(&'static str, String)>, config: &Config) {
    let counts = &config.aggregate;
    let timestamp = match counts.timestamp {
        Timestamp::Event => "event",
        Timestamp::Arrival => "arrival",
    };
    let late = match counts.late {
        Late::Drop => "drop",
        Late::Restamp => "restamp",
    };
    let names = match config.tags.names {
        Names::Latest => "latest",
        Names::AsSent => "as_sent",
    };
    let include: Vec<&str> = config.tags.include.iter().map(|tag| tag.name()).collect();
    all.push(("events.count", config.events_count.join(", ")));
    all.push(("events.timestamp", timestamp.to_owned()));
    all.push(("events.late", late.to_owned()));
    all.push(("dedup.window", span(config.dedup.window)));
    all.push(("dedup.max_ids", config.dedup.max_ids.to_string()));
    all.push(("tags.include", include.join(", ")));
    all.push(("tags.static", config.tags.static_tags.join(", ")));
    all.push(("tags.names", names.to_owned()));
    all.push(("flush.interval", span(counts.flush_interval)));
    all.push(("flush.timeout", span(counts.flush_timeout)));
    all.push(("flush.max_series", counts.series_max.to_string()));
    all.push(("flush.max_connection_age", span(config.connection_age_max)));
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn span(duration: Duration) -> String {
    format!("{duration:?}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LEAST, PLANTED, parse};
    use super::*;

    fn value<'s>(all: &'s [(&str, String)], key: &str) -> Option<&'s str> {
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
}
