//! Where events come from: the queue, and the push listener before it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::check::Check;
use super::files;
use super::settings;
use super::values::Size;
use super::{Config, QueueConfig, QueueKind};
use crate::{admin, push};

/// The key of the URLs beside `queue.storage.url`.
const SOURCES: &str = "queue.storage.sources";

/// The length of the longest event of Braze: 900 KB.
const EVENT_BYTES_MAX: u64 = 900_000;

impl Check<'_> {
    pub(super) fn admin(&mut self, admin: &mut settings::Admin) -> admin::AdminSettings {
        const KEY: &str = "admin.hosts";
        for name in &admin.hosts {
            if !admin::is_name(name) {
                let reason = "is not a name; write it as a browser shows it, without scheme, port or path: \
                              dashboard.example.com";
                self.diagnostics.refuse(KEY, name, reason);
            }
        }
        let hosts = self.once(KEY, &mut admin.hosts);
        admin::AdminSettings { listen: self.listen("admin.listen", admin.listen), hosts }
    }

    pub(super) fn queue(&mut self, queue: &mut settings::QueueSection) -> QueueConfig {
        const DIRECTORY: &str = "queue.embedded.directory";
        let directory = self.path_of(DIRECTORY, &mut queue.embedded.directory).unwrap_or_else(|| {
            self.diagnostics.error(DIRECTORY, "is empty; the queue needs a directory");
            PathBuf::new()
        });
        let embedded =
            event_queues::embedded::EmbeddedSettings { directory, size_max: queue.embedded.max_size.0 };
        let storage = self.storage(queue.kind, &mut queue.storage);
        QueueConfig { kind: queue.kind, embedded, kafka: self.kafka(&mut queue.kafka), storage }
    }

    /// Refuses a place in a bucket that lies within another one.
    fn ensure_apart(&mut self, places: &[String]) {
        for (at, place) in places.iter().enumerate() {
            if let Some(other) =
                places.iter().enumerate().find(|(of, other)| *of != at && place.starts_with(*other))
            {
                let reason = format!("lies within {}, so that its events would be counted twice", other.1);
                self.diagnostics.refuse(SOURCES, place, &reason);
            }
        }
    }

    /// A place in a bucket, and the app group of its events that don't say theirs; empty: none.
    fn storage_source(&mut self, key: &str, url: &str, app_group: &str) {
        if let Some(reason) = event_queues::storage::StorageSource::refusal(url) {
            self.diagnostics.error(key, reason);
        } else if !url.contains("://") {
            let reason =
                "is not a URL: write s3://BUCKET/PREFIX/, gs://…, az://CONTAINER/… or file:///DIRECTORY/";
            self.diagnostics.refuse(key, url, reason);
        }
        if !app_group.is_empty() {
            self.app_group_id(key, app_group);
        }
    }

    fn storage(
        &mut self,
        kind: QueueKind,
        storage: &mut settings::Storage,
    ) -> event_queues::storage::StorageSettings {
        const URL: &str = "queue.storage.url";
        const DIRECTORY: &str = "queue.storage.state_directory";
        storage.url = storage.url.trim().to_owned();
        let one = (!storage.url.is_empty()).then(|| (&*storage.url, ""));
        let more = storage.sources.iter().map(|(url, app_group)| (url.trim(), app_group.trim()));
        let sources: Vec<_> = one.into_iter().chain(more).collect();
        for (at, (url, app_group)) in sources.iter().enumerate() {
            self.storage_source(if one.is_some() && at == 0 { URL } else { SOURCES }, url, app_group);
        }
        let places = sources.iter().map(|(url, _)| *url).filter(|url| !url.contains(['?', '#']));
        self.ensure_apart(&places.map(|url| format!("{}/", url.trim_end_matches('/'))).collect::<Vec<_>>());
        if sources.is_empty() && kind == QueueKind::Storage {
            let reason =
                "is missing; with queue.kind = \"storage\" it says which bucket is read: s3://BUCKET/PREFIX/";
            self.diagnostics.missing(URL, URL, reason);
        }
        let notifications = storage.notifications.trim();
        if !notifications.is_empty() && !sources.iter().any(|(url, _)| url.starts_with("s3")) {
            let reason = "is Amazon SQS's, and none of the URLs is a bucket of S3 (s3://…)";
            self.diagnostics.refuse("queue.storage.notifications", notifications, reason);
        }
        let start = start_of(&storage.start).unwrap_or_else(|| {
            let reason =
                "is none of \"now\", \"beginning\", a date (2026-11-27) or a time (2026-11-27T10:00:00Z)";
            self.diagnostics.refuse("queue.storage.start", &storage.start, reason);
            event_queues::storage::StorageStart::Now
        });
        let sources = sources.into_iter().map(|(url, app_group)| event_queues::storage::StorageSource {
            url: url.into(),
            app_group_id: (!app_group.is_empty()).then(|| app_group.into()),
        });
        let sources = sources.collect();
        let state_directory = self.path_of(DIRECTORY, &mut storage.state_directory).unwrap_or_else(|| {
            self.diagnostics.error(DIRECTORY, "is empty; what was read has to be remembered in a directory");
            PathBuf::new()
        });
        storage.options = self.storage_options(&storage.options);
        let options = storage.options.iter().map(|(name, value)| ((**name).into(), (*value.0).into()));
        event_queues::storage::StorageSettings {
            sources,
            poll_interval: storage.poll_interval.0,
            start,
            lateness: storage.lateness.0,
            state_directory,
            options: options.collect(),
            notifications: (!notifications.is_empty()).then(|| notifications.into()),
            // Set once events.count is read.
            event_types: BTreeSet::new(),
        }
    }

    fn kafka(&mut self, kafka: &mut settings::Kafka) -> event_queues::kafka::KafkaSettings {
        self.list("queue.kafka.brokers", &kafka.brokers, "name at least one broker");
        self.list("queue.kafka.topics", &kafka.topics, "name at least one topic");
        for broker in &kafka.brokers {
            if broker.contains('@') {
                let reason = "has an @ in it; user and password belong into queue.kafka.options";
                self.diagnostics.error("queue.kafka.brokers", reason);
                continue;
            }
            if broker.contains("://") || broker.contains(char::is_whitespace) {
                let reason = "is not a broker, which is written host:port";
                self.diagnostics.refuse("queue.kafka.brokers", broker, reason);
            }
        }
        let topic_fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        for topic in kafka.topics.iter().filter(|topic| !topic.starts_with('^')) {
            if topic.len() > 249 || !topic.bytes().all(topic_fits) {
                let reason = "is not the name of a topic (letters, digits, `.`, `_`, `-`, at most 249); a regular \
                              expression begins with ^";
                self.diagnostics.refuse("queue.kafka.topics", topic, reason);
            }
        }
        if kafka.group_id.trim().is_empty() {
            self.diagnostics
                .error("queue.kafka.group_id", "is empty; forwarders that share the work share a group");
        }
        let registry = kafka.schema_registry.0.trim();
        if !registry.is_empty() && !["http://", "https://"].iter().any(|scheme| registry.starts_with(scheme))
        {
            self.diagnostics.error(
                "queue.kafka.schema_registry",
                "is not a URL: it has to begin with https:// or http://",
            );
        }
        let auth =
            self.path_of("queue.kafka.schema_registry_auth_file", &mut kafka.schema_registry_auth_file);
        let auth =
            auth.and_then(|path| self.secret("queue.kafka.schema_registry_auth_file", &path, "a secret", ""));
        let oauth_token_file = self.path_of("queue.kafka.oauth_token_file", &mut kafka.oauth_token_file);
        if let Some(path) = &oauth_token_file {
            self.warn_if_open("queue.kafka.oauth_token_file", path, "a token");
            if let Err(error) = files::check_file(path) {
                self.unusable_secret("queue.kafka.oauth_token_file", path, &error);
            }
        }
        if registry.contains('@') {
            self.warn_if_origin_open("queue.kafka.schema_registry", "a password");
        }
        kafka.options = self.kafka_options(&kafka.options);
        let options = kafka.options.iter().map(|(name, value)| ((**name).into(), (*value.0).into()));
        event_queues::kafka::KafkaSettings {
            brokers: trimmed(&mut kafka.brokers),
            topics: trimmed(&mut kafka.topics),
            group_id: kafka.group_id.trim().into(),
            schema_registry: (!registry.is_empty()).then(|| registry.into()),
            schema_registry_auth: auth.as_deref().map(Into::into),
            schema_registry_ids: kafka.schema_registry_ids,
            oauth_token_file,
            options: options.collect(),
        }
    }

    pub(super) fn push(&mut self, push: &mut settings::Push) -> push::PushSettings {
        const TOKEN_FILE: &str = "push.token_file";
        const TOKENS: &str = "bearer tokens";
        let listen = self.listen("push.listen", push.listen);
        let token_file = self.path_of(TOKEN_FILE, &mut push.token_file);
        match &token_file {
            Some(path) if self.purpose.leaves_push_files => self.warn_if_open(TOKEN_FILE, path, TOKENS),
            Some(path) => {
                // The content is read again where it is used.
                let if_empty = "; write one bearer token a line into it";
                let _tokens = self.secrets(TOKEN_FILE, path, TOKENS, if_empty, files::TOKENS_BYTES_MAX);
            }
            None if !push::is_loopback(listen.ip()) => {
                let reason = format!(
                    "{listen} can be reached from other machines, and no token is asked; set push.token_file to a \
                     file with one bearer token a line, or listen on 127.0.0.1"
                );
                self.diagnostics.missing(TOKEN_FILE, "push.listen", &reason);
            }
            None => {}
        }
        let certificate = self.path_of("push.tls_certificate", &mut push.tls_certificate);
        let key = self.path_of("push.tls_key", &mut push.tls_key);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                if !self.purpose.leaves_push_files {
                    self.file("push.tls_certificate", &certificate);
                    self.file("push.tls_key", &key);
                }
                self.warn_if_open("push.tls_key", &key, "a private key");
                Some(push::TlsFiles { certificate, key })
            }
            (None, None) => None,
            (Some(_), None) => {
                let reason = "is missing; TLS needs the key of push.tls_certificate";
                self.diagnostics.missing("push.tls_key", "push.tls_key", reason);
                None
            }
            (None, Some(_)) => {
                let reason = "is missing; TLS needs the certificate of push.tls_key";
                self.diagnostics.missing("push.tls_certificate", "push.tls_certificate", reason);
                None
            }
        };
        if push.max_body.0 < EVENT_BYTES_MAX {
            let reason = format!(
                "{} is less than one event of Braze can have (900KB); Braze gives up an event that is refused",
                String::from(push.max_body)
            );
            self.diagnostics.warn("push.max_body", reason);
        }
        let body_bytes_max = usize::try_from(push.max_body.0).unwrap_or(usize::MAX);
        push::PushSettings { listen, token_file, tls, body_bytes_max }
    }

    /// Checks of the push listener that depend on other sections.
    pub(super) fn push_beside(&mut self, push: &push::PushSettings, config: &Config) {
        let other = match config.queue.kind {
            QueueKind::Embedded => None,
            QueueKind::Kafka => Some("kafka"),
            QueueKind::Storage => Some("storage"),
        };
        if let Some(other) = other {
            let reason = format!(
                "can't be used with queue.kind = \"{other}\": pushed events go into the embedded queue; leave [push] out, or \
                 set queue.kind = \"embedded\""
            );
            self.diagnostics.error("push", reason);
        }
        let (push_ip, admin_ip) = (push.listen.ip(), config.admin.listen.ip());
        let overlap = push_ip == admin_ip || push_ip.is_unspecified() || admin_ip.is_unspecified();
        let is_told = ["push.listen", "admin.listen"].iter().any(|key| self.diagnostics.is_spoilt(key));
        let same_port = push.listen.port() == config.admin.listen.port() && push.listen.port() != 0;
        if overlap && same_port && !is_told {
            let reason = format!(
                "{} is taken by admin.listen ({}); give one of them another port",
                push.listen, config.admin.listen
            );
            self.diagnostics.error("push.listen", reason);
        }
        let size_max = config.queue.embedded.size_max;
        if push.body_bytes_max as u64 > size_max {
            let reason = format!(
                "is more than queue.embedded.max_size ({}), so that such a body is never taken",
                String::from(Size(size_max))
            );
            self.diagnostics.warn("push.max_body", reason);
        }
    }
}

/// Where the reading of a bucket begins: a word, a day or a moment (UTC).
fn start_of(text: &str) -> Option<event_queues::storage::StorageStart> {
    use event_queues::storage::StorageStart;
    let text = text.trim();
    let at = |time: jiff::Timestamp| StorageStart::At(time.as_second());
    match text {
        "now" => Some(StorageStart::Now),
        "beginning" => Some(StorageStart::Beginning),
        _ => {
            let day = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
            let midnight = day.and_then(|day| jiff::tz::TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok());
            midnight.or_else(|| text.parse().ok()).map(at)
        }
    }
}

fn trimmed(texts: &mut [String]) -> Vec<Box<str>> {
    for text in texts.iter_mut() {
        *text = text.trim().to_owned();
    }
    texts.iter().map(|text| (**text).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LEAST, PLANTED, assert_one, errors, warnings};
    use super::super::{Config, ConfigError, Warning, changes_needing_restart, describe};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn in_folder(folder: &Path, push: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
        Config::parse(&format!("[push]\n{push}\n{LEAST}"), &folder.join("a.toml"), &[])
    }

    /// A file that only this user can read.
    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_secret_in_the_place_of_its_file_is_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let told = |text: &str| {
            let read = Config::parse(text, &folder.path().join("a.toml"), &[]);
            read.and_then(|(config, _)| config.require_all()).unwrap_err().to_string()
        };
        for (section, key) in [
            ("[push]", "token_file"),
            ("[queue.kafka]", "schema_registry_auth_file"),
            ("[queue.kafka]", "oauth_token_file"),
            ("[queue.kafka.options]", "\"sasl.password.file\""),
            ("[connections.other]\nsite = \"EU1\"", "api_key_file"),
        ] {
            for secret in ["hunter2", "user:hun/ter2==", "-----BEGIN PRIVATE KEY-----\\nhunter2"] {
                let text = format!("{LEAST}{section}\n{key} = \"{secret}\"");
                let error = told(&text);
                assert!(!error.contains("hun") && error.contains(key.trim_matches('"')), "{error}");
            }
            let text = format!("{LEAST}{section}\n{key} = \"./missing\"");
            let error = told(&text);
            assert!(error.contains("missing does not exist"), "{error}");
        }
    }

    #[test]
    fn each_place_in_a_bucket_is_looked_at_with_its_app_group_and_told_by_its_own_key() {
        const ID: &str = "5f3e8f0a-1234-4cde-9abc-0123456789ab";
        let with = |url: &str, source: &str, app_group: &str| {
            let storage =
                format!("[queue.storage]\nurl = \"{url}\"\n[queue.storage.sources]\n\"{source}\" = ");
            format!("{storage}\"{app_group}\"\n{LEAST}")
        };
        for (url, source, app_group, parts) in [
            ("file:///a/", "bucket/x", "", &["queue.storage.sources: \"bucket/x\" is not a URL"][..]),
            ("file:///a/", "file:///b/?x=1", "", &["queue.storage.sources: "]),
            ("bucket/x", "file:///a/", "", &["queue.storage.url: \"bucket/x\" is not a URL"]),
            ("", "bucket/x", "", &["queue.storage.sources: \"bucket/x\" is not a URL"]),
            ("", "file:///b/", "{ID}", &["queue.storage.sources: \"{", "stands in brackets"]),
            ("", "file:///b/", "'ID'", &["queue.storage.sources: \"'", "quotation marks"]),
        ] {
            assert_one(&errors(&with(url, source, &app_group.replace("ID", ID))), parts);
        }
        let doubted = warnings(&with("", "file:///b/", &ID.replace('-', "")));
        assert_one(&doubted, &["queue.storage.sources", "not its dashes"]);
        for right in [ID, "", " "] {
            assert_eq!(warnings(&with("", "file:///b/", right)), Vec::<String>::new());
        }
    }

    #[test]
    fn each_file_with_secrets_that_everybody_can_read_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let names = ["a.toml", "token", "password", "auth", "client.key", "tokens", "tls.key", "other.key"];
        for name in names.iter().chain(&["tls.pem"]) {
            write(&folder.path().join(name), "secret");
        }
        let text = format!(
            "connections_directory = \"d\"\n[queue.kafka]\nschema_registry = \"https://u:secret@r\"\n\
             schema_registry_auth_file = \"auth\"\noauth_token_file = \"token\"\n[queue.kafka.options]\n\
             \"sasl.password.file\" = \"password\"\n\"ssl.key.password\" = \"secret\"\n\
             \"ssl.key.location\" = \"client.key\"\n[push]\ntoken_file = \"tokens\"\ntls_certificate = \"tls.pem\"\n\
             tls_key = \"tls.key\"\n[connections.acme]\nsite = \"EU1\"\napi_key = \"{PLANTED}\"\n\
             app_group_ids = [\"a\"]\n[connections.other]\nsite = \"EU1\"\napi_key_file = \"other.key\"\n\
             app_group_ids = [\"b\"]\n",
        );
        fs::create_dir(folder.path().join("d")).unwrap();
        write(&folder.path().join("d/third.toml"), &format!("site = \"EU1\"\napi_key = \"{PLANTED}\""));
        write(&folder.path().join("a.toml"), &text);
        let opened = || {
            let (_, warnings) = Config::parse(&text, &folder.path().join("a.toml"), &[]).unwrap();
            let told = warnings.iter().map(ToString::to_string).filter(|told| told.contains("chmod o="));
            told.collect::<Vec<_>>()
        };
        assert_eq!(opened(), Vec::<String>::new());
        let all = [&names[..], &["d/third.toml"]].concat();
        for name in &all {
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        let told = opened();
        assert_eq!(told.len(), all.len(), "{told:#?}");
        for name in all {
            let reason = format!(": {} holds ", path(name));
            assert_eq!(told.iter().filter(|told| told.contains(&reason)).count(), 1, "{name}: {told:#?}");
        }
    }

    #[test]
    fn a_signature_in_the_url_of_a_bucket_is_refused_and_not_shown() {
        for url in [
            format!("https://acct.blob.core.windows.net/c?sp=rl&sig={PLANTED}"),
            format!("s3://bucket/#{PLANTED}"),
            format!("s3://key:{PLANTED}@bucket/"),
        ] {
            let storage = format!("[queue]\nkind = \"storage\"\n[queue.storage]\nurl = \"{url}\"\n{LEAST}");
            let errors = errors(&storage);
            assert_one(&errors, &["queue.storage.url", "queue.storage.options"]);
            assert!(!errors[0].contains(PLANTED), "{errors:?}");
        }
    }

    #[test]
    fn tokens_open_the_push_port_to_other_machines() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        let push = "listen = \"0.0.0.0:8080\"\ntoken_file = \"tokens\"";
        write(&tokens, &format!("{PLANTED}==\n"));
        let (config, warnings) = in_folder(folder.path(), push).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(config.push.as_ref().unwrap().token_file.as_deref(), Some(&*tokens));
        assert!(!format!("{config:?}{}", describe(&config)).contains(PLANTED));

        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).unwrap();
        let (_, warnings) = in_folder(folder.path(), push).unwrap();
        assert_eq!(warnings[0].key, "push.token_file");
        assert!(warnings[0].reason.contains("open to every user"), "{warnings:?}");

        write(&tokens, "\n \n");
        let error = in_folder(folder.path(), push).unwrap_err().to_string();
        assert!(error.contains("push.token_file") && error.contains("is empty"), "{error}");
    }

    #[test]
    fn an_ipv4_loopback_in_ipv6_clothes_is_one() {
        let folder = tempfile::tempdir().unwrap();
        for listen in ["[::ffff:127.0.0.1]:8080", "[::1]:8080", "127.9.9.9:8080", "localhost:8080"] {
            assert!(in_folder(folder.path(), &format!("listen = {listen:?}")).is_ok(), "{listen}");
        }
        for listen in ["[::]:8080", "10.0.0.1:8080", "[fe80::1]:8080"] {
            assert!(in_folder(folder.path(), &format!("listen = {listen:?}")).is_err(), "{listen}");
        }
    }

    #[test]
    fn tls_needs_both_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let push = "tls_certificate = \"c.pem\"\ntls_key = \"k.pem\"";
        write(&folder.path().join("c.pem"), "certificate");
        let error = in_folder(folder.path(), push).unwrap_err().to_string();
        assert!(error.contains("push.tls_key") && error.contains("k.pem does not exist"), "{error}");
        write(&folder.path().join("k.pem"), "key");
        let (config, _) = in_folder(folder.path(), push).unwrap();
        assert!(describe(&config).contains("https://127.0.0.1:8080"));
    }

    #[test]
    fn other_files_need_a_restart_and_other_content_does_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["t1", "t2", "c1", "c2", "k1", "k2"] {
            write(&folder.path().join(name), name);
        }
        let load = |tokens: u8, certificate: u8, key: u8| {
            let push = format!(
                "token_file = \"t{tokens}\"\ntls_certificate = \"c{certificate}\"\ntls_key = \"k{key}\""
            );
            in_folder(folder.path(), &push).unwrap().0
        };
        let old = load(1, 1, 1);
        write(&folder.path().join("t1"), "another token");
        assert_eq!(changes_needing_restart(&old, &load(1, 1, 1)), Vec::<String>::new());
        assert_eq!(changes_needing_restart(&old, &load(2, 1, 1)), ["push.token_file"]);
        assert_eq!(changes_needing_restart(&old, &load(1, 2, 2)), ["push.tls_certificate", "push.tls_key"]);
    }
}
