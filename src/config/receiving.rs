//! Where events come from: the queue, and the push listener before it.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::check::{Check, to_usize};
use super::files;
use super::finding::quoted;
use super::shape::{OPTIONS, join};
use super::units::show_size;
use super::written;
use super::{Config, Kafka, Queue, QueueKind};
use crate::{push, queue};

/// A body is held in memory.
const BODY_BYTES: RangeInclusive<u64> = 1..=1 << 30;
/// What one event of Braze can be long: 900 KB.
const EVENT_BYTES_MAX: u64 = 900_000;

/// Options of librdkafka that are set from keys of their own, or that would break a promise.
const RESERVED_OPTIONS: [(&str, &str); 5] = [
    ("bootstrap.servers", "write it as queue.kafka.brokers"),
    ("metadata.broker.list", "write it as queue.kafka.brokers"),
    ("group.id", "write it as queue.kafka.group_id"),
    ("enable.auto.commit", "leave it out: offsets are committed once sends have their outcome"),
    ("enable.auto.offset.store", "leave it out: offsets are committed once sends have their outcome"),
];

impl Check<'_> {
    pub(super) fn queue(&mut self, queue: &written::Queue) -> Queue {
        let kinds = [("embedded", QueueKind::Embedded), ("kafka", QueueKind::Kafka)];
        let kind = self.choice("queue.kind", &queue.kind, &kinds);
        let directory =
            self.path("queue.embedded.directory", &queue.embedded.directory).unwrap_or_else(|| {
                self.findings.error("queue.embedded.directory", "is empty; the queue needs a directory");
                PathBuf::new()
            });
        let size_max = self.size("queue.embedded.max_size", &queue.embedded.max_size, &(1..=u64::MAX));
        let embedded = queue::embedded::Settings { directory, size_max };
        Queue { kind, embedded, kafka: self.kafka(&queue.kafka) }
    }

    fn kafka(&mut self, kafka: &written::Kafka) -> Kafka {
        self.list("queue.kafka.brokers", &kafka.brokers, "name at least one broker");
        self.list("queue.kafka.topics", &kafka.topics, "name at least one topic");
        for broker in &kafka.brokers {
            if broker.contains("://") || broker.contains(char::is_whitespace) {
                let reason = format!("{} is not a broker, which is written host:port", quoted(broker));
                self.findings.error("queue.kafka.brokers", reason);
            }
        }
        let topic_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        for topic in kafka.topics.iter().filter(|topic| !topic.starts_with('^')) {
            if topic.len() > 249 || !topic.bytes().all(topic_fits) {
                let reason = format!(
                    "{} is not the name of a topic (letters, digits, `.`, `_`, `-`, at most 249); a regular \
                     expression begins with ^",
                    quoted(topic)
                );
                self.findings.error("queue.kafka.topics", reason);
            }
        }
        if kafka.group_id.trim().is_empty() {
            self.findings
                .error("queue.kafka.group_id", "is empty; forwarders that share the work share a group");
        }
        let registry = kafka.schema_registry.trim();
        if !registry.is_empty() && !["http://", "https://"].iter().any(|scheme| registry.starts_with(scheme))
        {
            self.findings.error(
                "queue.kafka.schema_registry",
                "is not a URL: it has to begin with https:// or http://",
            );
        }
        for name in kafka.options.keys() {
            if let Some((_, advice)) = RESERVED_OPTIONS.iter().find(|(reserved, _)| reserved == name) {
                self.findings.error(&join(OPTIONS, name), format!("can't be set here; {advice}"));
            }
        }
        Kafka {
            brokers: boxed(&kafka.brokers),
            topics: boxed(&kafka.topics),
            group_id: kafka.group_id.trim().into(),
            schema_registry: (!registry.is_empty()).then(|| registry.into()),
            options: kafka.options.iter().map(|(name, value)| ((**name).into(), (**value).into())).collect(),
        }
    }

    pub(super) fn push(&mut self, push: &written::Push) -> push::Settings {
        let listen = self.listen("push.listen", &push.listen);
        let token_file = self.path("push.token_file", &push.token_file);
        match &token_file {
            Some(path) => self.token_file(path),
            None if !is_loopback(listen.ip()) => {
                let reason = format!(
                    "{listen} can be reached from other machines, and no token is asked; set push.token_file to a \
                     file with one bearer token a line, or listen on 127.0.0.1"
                );
                self.findings.error("push.listen", reason);
            }
            None => {}
        }
        let certificate = self.path("push.tls_certificate", &push.tls_certificate);
        let key = self.path("push.tls_key", &push.tls_key);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                self.file("push.tls_certificate", &certificate);
                self.file("push.tls_key", &key);
                self.warn_if_open("push.tls_key", &key, "a private key");
                Some(push::TlsFiles { certificate, key })
            }
            (None, None) => None,
            (Some(_), None) => {
                self.findings.error("push.tls_key", "is missing; TLS needs the key of push.tls_certificate");
                None
            }
            (None, Some(_)) => {
                self.findings
                    .error("push.tls_certificate", "is missing; TLS needs the certificate of push.tls_key");
                None
            }
        };
        let body_bytes_max = self.size("push.max_body", &push.max_body, &BODY_BYTES);
        if body_bytes_max < EVENT_BYTES_MAX {
            let reason = format!(
                "{} is less than one event of Braze can have (900KB); Braze gives up an event that is refused",
                show_size(body_bytes_max)
            );
            self.findings.warn("push.max_body", reason);
        }
        push::Settings { listen, token_file, tls, body_bytes_max: to_usize(body_bytes_max) }
    }

    /// What of the push listener depends on other sections.
    pub(super) fn push_beside(&mut self, push: &push::Settings, config: &Config) {
        if config.queue.kind == QueueKind::Kafka {
            let reason = "can't be used with queue.kind = \"kafka\": pushed events go into the embedded queue; leave \
                          [push] out, or set queue.kind = \"embedded\"";
            self.findings.error("push", reason);
        }
        let (push_ip, admin_ip) = (push.listen.ip(), config.admin.listen.ip());
        let overlap = push_ip == admin_ip || push_ip.is_unspecified() || admin_ip.is_unspecified();
        if overlap && push.listen.port() == config.admin.listen.port() && push.listen.port() != 0 {
            let reason = format!(
                "{} is taken by admin.listen ({}); give one of them another port",
                push.listen, config.admin.listen
            );
            self.findings.error("push.listen", reason);
        }
        let size_max = config.queue.embedded.size_max;
        if push.body_bytes_max as u64 > size_max {
            let reason = format!(
                "is more than queue.embedded.max_size ({}), so that such a body is never taken",
                show_size(size_max)
            );
            self.findings.warn("push.max_body", reason);
        }
    }

    fn token_file(&mut self, path: &Path) {
        self.warn_if_open("push.token_file", path, "bearer tokens");
        match files::read_secret(path) {
            Ok(tokens) if tokens.trim().is_empty() => {
                let reason = format!("{} is empty; write one bearer token a line into it", path.display());
                self.findings.error("push.token_file", reason);
            }
            Ok(_) => {}
            Err(error) => self.unusable_file("push.token_file", path, &error),
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn boxed(texts: &[String]) -> Vec<Box<str>> {
    texts.iter().map(|text| text.trim().into()).collect()
}
