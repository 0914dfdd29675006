//! From the configuration as it is written to the configuration as it is used: checks that depend on more than one value, on
//! files, or on rules of Datadog and Kafka. The settings are normalised on the way: absolute paths, each entry of a list
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostics, did_you_mean, looks_like_key, nearest, quoted};
use super::directory::Unread;
use super::files::{self, FileError};
use super::settings::{self, Settings, tags_on_offer};
use super::values::Address;
use super::{Config, Log, Purpose};
use braze_events::SEND_TYPES;
use event_queues::Secret;
use send_counts::aggregate;
use send_counts::aggregate::tags;
use send_counts::dedup;

/// Datadog's limit for a tag, in characters, with its key.
const TAG_CHARS_MAX: usize = 200;

/// One reading of a configuration.
pub(super) struct Check<'c> {
    pub(super) purpose: Purpose<'c>,
    /// The diagnostics so far. A wrong value is replaced by its default, so that the check goes on; the resulting
    /// configuration is thrown away.
    pub(super) diagnostics: Diagnostics,
    /// The folder that relative paths of the main file start from.
    pub(super) base: &'c Path,
    /// The environment, for keys in it.
    pub(super) env: &'c [(String, String)],
    /// Files that everybody can read, so that each is reported once.
    pub(super) open: BTreeSet<PathBuf>,
    /// Files of API keys, by their key in the configuration, of those that can't be read, too.
    pub(super) key_files: BTreeMap<String, PathBuf>,
    /// Paths that were not written as one, and so may be the secret that should be in the file.
    pub(super) guessed: BTreeSet<PathBuf>,
}

impl<'c> Check<'c> {
    pub(super) fn new(
        diagnostics: Diagnostics,
        base: &'c Path,
        env: &'c [(String, String)],
        purpose: Purpose<'c>,
    ) -> Self {
        let (open, guessed, key_files) = Default::default();
        Self { purpose, diagnostics, base, env, open, key_files, guessed }
    }
}

impl Check<'_> {
    pub(super) fn config(
        &mut self,
        mut settings: Settings,
        connections_directory: Option<PathBuf>,
        unread: &Unread,
    ) -> Config {
        let mut queue = self.queue(&mut settings.queue);
        let push = settings.push.as_mut().map(|push| self.push(push));
        let admin = self.admin(&mut settings.admin);
        let events_count = self.events_count(&mut settings.events.count);
        queue.storage.event_types = events_count.iter().cloned().collect();
        let tags = self.tags(&mut settings.tags);
        let history = self.history(&mut settings.history);
        let (mut connections, mut wrong) = self.connections(&settings.connections, unread);
        let reconcile = self.reconcile(&mut settings, unread);
        wrong.extend(self.errors_of_reconcile(settings.connections.keys()));
        self.forwarder_metrics(&settings, unread);
        let own = &settings.forwarder_metrics;
        connections.set_forwarder_metrics(&own.connection, own.campaign_last_send_age);
        let lanes = self.lanes(&mut settings);
        self.stop_time(&settings);
        let aggregate = aggregate_of(&settings);
        if let Some(directory) = &connections_directory {
            settings.connections_directory = directory.display().to_string();
        }
        let config = Config {
            queue,
            push,
            admin,
            events_count,
            dedup: dedup::DedupSettings { window: settings.dedup.window.0, max_ids: settings.dedup.max_ids },
            aggregate,
            connection_age_max: settings.flush.max_connection_age.0,
            tags,
            connections,
            history,
            reconcile,
            log: Log {
                level: settings.log.level.parse().unwrap_or(tracing::Level::INFO),
                format: settings.log.format,
            },
            shutdown_timeout: settings.shutdown_timeout.0,
            lanes,
            validate_keys: settings.validate_keys,
            connections_directory,
            key_files: std::mem::take(&mut self.key_files),
            wrong,
            settings,
            machine: self.purpose.machine,
            text: Secret::new(""),
        };
        if let Some(push) = &config.push {
            self.push_beside(push, &config);
        }
        config
    }

    fn history(&mut self, history: &mut settings::HistorySection) -> Option<send_history::HistorySettings> {
        let directory = self.path_of("history.directory", &mut history.directory)?;
        let (size_max, days_max) = (history.max_size.0, history.keep_days);
        Some(send_history::HistorySettings { directory, size_max, days_max })
    }

    /// Looks for the connection that sends the forwarder's own metrics.
    fn forwarder_metrics(&mut self, settings: &Settings, unread: &Unread) {
        const KEY: &str = "forwarder_metrics.connection";
        const AGE: &str = "forwarder_metrics.campaign_last_send_age";
        let name = &*settings.forwarder_metrics.connection;
        if !name.is_empty() && !settings.connections.contains_key(name) && !unread.contains_key(name) {
            // A connection that exists and is wrong, or can't be read, has been reported.
            let known = settings.connections.keys().map(String::as_str);
            let reason = format!("is not the name of a connection{}", did_you_mean(nearest(name, known)));
            self.diagnostics.refuse(KEY, name, reason);
        }
        if settings.forwarder_metrics.campaign_last_send_age && name.is_empty() {
            let reason = "is set, and forwarder_metrics.connection is not, so that it is sent to nobody";
            self.diagnostics.warn(AGE, reason);
        } else if settings.forwarder_metrics.campaign_last_send_age && settings.history.directory.is_empty() {
            let reason = "needs the history of sends, which is switched off: set history.directory";
            self.diagnostics.warn(AGE, reason);
        }
    }

    /// A stop that waits for less than a request may take drops what it would have delivered.
    fn stop_time(&mut self, Settings { flush, shutdown_timeout, .. }: &Settings) {
        if shutdown_timeout.0 < flush.timeout.0 {
            let (stop, request) = (String::from(*shutdown_timeout), String::from(flush.timeout));
            let reason = format!(
                "{stop} is less than flush.timeout, {request}: a stop drops what has no answer by then"
            );
            self.diagnostics.warn("shutdown_timeout", reason);
        }
    }

    fn events_count(&mut self, types: &mut Vec<String>) -> Vec<Box<str>> {
        const KEY: &str = "events.count";
        self.list(KEY, types, "nothing would be counted");
        for event_type in types.iter() {
            if SEND_TYPES.iter().any(|(known, _)| known == event_type) {
                continue;
            }
            let reason = if event_type.ends_with(".Retry") || event_type.ends_with(".Abort") {
                "is not a send: what is tried again is counted by its .Send event".to_owned()
            } else if event_type == "users.messages.sms.CarrierSend"
                || event_type == "users.canvas.costep.Send"
            {
                "comes beside another event for the same message, so that it is counted twice".to_owned()
            } else if let Some((meant, _)) =
                SEND_TYPES.iter().find(|(known, _)| is_misspelt(event_type, known))
            {
                let reason = format!("is not an event type that is known here{}", did_you_mean(Some(meant)));
                self.diagnostics.refuse(KEY, event_type, reason);
                continue;
            } else {
                "is not an event type that is known here".to_owned()
            };
            self.diagnostics.doubt(KEY, event_type, reason);
        }
        self.once(KEY, types)
    }

    fn tags(&mut self, tags: &mut settings::Tags) -> tags::TagSettings {
        for tag in &tags.r#static {
            if let Some(reason) = wrong_tag(tag) {
                self.diagnostics.refuse("tags.static", tag, reason);
            }
        }
        let include = self.once("tags.include", &mut tags.include);
        let tag = |name: Box<str>| tags_on_offer().find(|tag| tag.name() == &*name);
        tags::TagSettings {
            include: include.into_iter().filter_map(tag).collect(),
            static_tags: self.once("tags.static", &mut tags.r#static),
            names: tags.names,
        }
    }
}

/// Whether an event type that resembles a known one can only be a misspelling of it. Channels have short names, so that a
/// new one may resemble an old one (`mms`, `sms`): if nothing else differs, it is a channel.
fn is_misspelt(event_type: &str, known: &str) -> bool {
    const CHANNEL: usize = 2;
    const SHORT: usize = 5;
    const SLIPS_MAX: usize = 2;
    let event_type = event_type.to_lowercase();
    let slips = strsim::damerau_levenshtein(&event_type, &known.to_lowercase());
    let (written, meant): (Vec<_>, Vec<_>) = (event_type.split('.').collect(), known.split('.').collect());
    let is_same = |at: usize| written[at] == meant[at].to_lowercase();
    let is_other_channel =
        slips > 0 && written.len() == meant.len() && (0..meant.len()).all(|at| at == CHANNEL || is_same(at));
    slips <= SLIPS_MAX && !(is_other_channel && meant[CHANNEL].len() < SHORT)
}

fn aggregate_of(Settings { events, flush, .. }: &Settings) -> aggregate::AggregateSettings {
    aggregate::AggregateSettings {
        timestamp: events.timestamp,
        late: events.late,
        flush_interval: flush.interval.0,
        flush_timeout: flush.timeout.0,
        series_max: flush.max_series,
        series_max_total: flush.max_series_total,
    }
}

/// Checks of single values.
impl Check<'_> {
    pub(super) fn listen(&mut self, key: &str, Address(address): Address) -> SocketAddr {
        if address.port() == 0 {
            self.diagnostics
                .warn(key, "has port 0, so that every start takes another port; only tests want that");
        }
        address
    }

    /// The folder of the file with a key.
    pub(super) fn folder(&self, key: &str) -> &Path {
        let origin = Path::new(self.diagnostics.origin(key));
        // Paths in environment variables are relative to the main file.
        if origin.is_absolute() { origin.parent().unwrap_or(self.base) } else { self.base }
    }

    /// A path, from the folder of its file; `None` where the text is empty.
    pub(super) fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            return None;
        }
        let path = self.folder(key).join(text);
        if could_be_key(text, &path) {
            self.diagnostics.error(key, "has to be a path, and this looks like a key itself");
        } else if text.starts_with("~/") || text == "~" {
            self.diagnostics
                .error(key, format!("{} begins with ~, which only shells know; write it out", quoted(text)));
        }
        if !is_written_as_path(text) {
            self.guessed.insert(path.clone());
        }
        Some(path)
    }

    /// The same for a setting, which becomes an absolute path.
    pub(super) fn path_of(&mut self, key: &str, text: &mut String) -> Option<PathBuf> {
        let path = self.path(key, text)?;
        *text = path.display().to_string();
        Some(path)
    }

    pub(super) fn file(&mut self, key: &str, path: &Path) {
        if let Err(error) = files::check_file(path) {
            self.unusable_file(key, path, &error);
        }
    }

    /// The same for a secret in the configuration itself.
    pub(super) fn warn_if_origin_open(&mut self, key: &str, what: &str) {
        let file = PathBuf::from(self.diagnostics.origin(key));
        self.warn_if_open(key, &file, what);
    }

    pub(super) fn unusable_file(&mut self, key: &str, path: &Path, error: &FileError) {
        // A key that was written in the place of its file has been reported by `path`. What the path looks like says nothing of
        // that: there may be a folder in it that is named by a hash.
        if !self.diagnostics.has_error(key) {
            self.diagnostics.error(key, format!("{} {error}", path.display()));
        }
    }

    /// As [`Check::unusable_file`], for a file of a secret: people write the secret itself there.
    pub(super) fn unusable_secret(&mut self, key: &str, path: &Path, error: &FileError) {
        if !self.guessed.contains(path) || path.exists() || self.diagnostics.has_error(key) {
            return self.unusable_file(key, path, error);
        }
        let reason = format!(
            "the file that it names {error} (not shown, for it could be the secret itself; begin a path with / or ./)"
        );
        self.diagnostics.error(key, reason);
    }

    /// The content of a secret's file, without its line end.
    pub(super) fn secret(&mut self, key: &str, path: &Path, what: &str, if_empty: &str) -> Option<String> {
        self.secrets(key, path, what, if_empty, files::SECRET_BYTES_MAX)
    }

    /// The same of a file that has so many bytes at most.
    pub(super) fn secrets(
        &mut self,
        key: &str,
        path: &Path,
        what: &str,
        if_empty: &str,
        bytes_max: u64,
    ) -> Option<String> {
        self.warn_if_open(key, path, what);
        match files::read_secret(path, bytes_max) {
            Ok(text) if text.trim().is_empty() => {
                self.diagnostics.error(key, format!("{} is empty{if_empty}", path.display()));
                None
            }
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                self.unusable_secret(key, path, &error);
                None
            }
        }
    }

    /// Warns that everybody can read the file of a secret; once for each file.
    pub(super) fn warn_if_open(&mut self, key: &str, path: &Path, what: &str) {
        let Some(reason) = files::open_to_others(path, what) else { return };
        if self.open.insert(path.to_owned()) {
            self.diagnostics.warn(key, reason);
        }
    }

    /// A list that may be neither empty nor hold an empty text.
    pub(super) fn list(&mut self, key: &str, items: &[String], if_empty: &str) {
        if items.is_empty() {
            self.diagnostics.error(key, format!("is empty; {if_empty}"));
        }
        if items.iter().any(|item| item.trim().is_empty()) {
            self.diagnostics.error(key, "has an empty entry; leave it out");
        }
    }

    /// Removes repeated entries of a list.
    pub(super) fn once(&mut self, key: &str, items: &mut Vec<String>) -> Vec<Box<str>> {
        let mut seen = BTreeSet::new();
        items.retain(|item| {
            let is_new = seen.insert(item.clone());
            if !is_new {
                self.diagnostics.doubt(key, item, "is listed more than once");
            }
            is_new
        });
        items.iter().map(|item| (**item).into()).collect()
    }
}

/// Whether nobody would begin a secret like this.
fn is_written_as_path(text: &str) -> bool {
    ["/", "./", "../"].iter().any(|start| text.starts_with(start))
}

/// Whether the text in the place of a path could be the key that should be in the file. What is there is none; nor is a folder on
/// the way that is named by a hash, as a release by its commit.
pub(super) fn could_be_key(text: &str, path: &Path) -> bool {
    let own = Path::new(text).file_name().unwrap_or_default().to_string_lossy();
    let is_named_so = looks_like_key(&own) || text.contains("-----BEGIN");
    looks_like_key(text) && (is_named_so || !is_written_as_path(text)) && !path.exists()
}

/// What Datadog would change in a tag, or this program misread.
fn wrong_tag(tag: &str) -> Option<&'static str> {
    if !tag.starts_with(char::is_alphabetic) {
        Some("is not a tag: a tag begins with a letter")
    } else if tag.chars().count() > TAG_CHARS_MAX {
        Some("is longer than the 200 characters that Datadog keeps of a tag")
    } else if tag.ends_with(':') {
        Some("ends in a colon; a tag is key:value")
    } else if tag.contains(',') {
        Some("has a comma; write every tag as an entry of its own")
    } else if tag.chars().any(char::is_control) || tag.trim() != tag {
        Some("has white space at its end, or a control character")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{LEAST, assert_one, errors, parse, warnings};
    use std::path::Path;

    #[test]
    fn a_stop_that_is_shorter_than_a_request_is_told() {
        assert_one(
            &warnings(&format!("shutdown_timeout = \"0s\"\n{LEAST}")),
            &["shutdown_timeout", "0s", "5s"],
        );
        let of = |stop: &str| format!("shutdown_timeout = \"{stop}\"\n[flush]\ntimeout = \"15s\"\n{LEAST}");
        assert_one(&warnings(&of("14s")), &["14s is less than flush.timeout, 15s"]);
        assert_eq!(warnings(&of("15s")), Vec::<String>::new());
    }

    #[test]
    fn an_event_type_that_is_almost_a_known_one_is_an_error_and_any_other_a_warning() {
        let count = |event_type: &str| format!("[events]\ncount = [\"{event_type}\"]\n{LEAST}");
        for misspelt in [
            "users.messages.email.send",
            "users.mesages.email.Send",
            "users.messages.emial.Send",
            "Users.Messages.SMS.Send",
            "user.messages.sms.Sent",
        ] {
            assert_one(
                &errors(&count(misspelt)),
                &["events.count", misspelt, "did you mean \"users.messages."],
            );
        }
        for (other, said) in [
            ("users.messages.mms.Send", "not an event type that is known"),
            ("users.messages.email.Open", "not an event type that is known"),
            ("users.messages.email.Retry", "is not a send"),
            ("users.canvas.costep.Send", "counted twice"),
        ] {
            assert_one(&warnings(&count(other)), &["events.count", other, said]);
        }
    }

    #[test]
    fn who_tells_of_the_forwarder_is_said_by_its_section_for_old_forms_too() {
        const WRONG: &str = "siet = \"EU1\"\n";
        let read = |own: &str, a: &str, b: &str| {
            let of = |name: &str, more: &str| {
                format!("[connections.{name}]\ndry_run = true\napp_group_ids = [\"{name}\"]\n{more}")
            };
            let text = format!("[forwarder_metrics]\n{own}\n{}{}", of("a", a), of("b", b));
            Config::parse(&text, Path::new("/nowhere/a.toml"), &[]).unwrap().0
        };
        let before = read("connection = \"a\"", "", "").connections;
        let tells = |mut config: Config| {
            config.keep_old(&before);
            assert_eq!(config.connections.active.len(), 2, "{:?}", config.connections);
            let tells = config.connections.active.into_iter().filter(|one| one.forwarder_metrics);
            tells.map(|one| (one.name.to_string(), one.campaign_last_send_age)).collect::<Vec<_>>()
        };
        for (own, a, b, expected) in [
            ("connection = \"a\"", WRONG, "", Some(("a", false))),
            ("connection = \"\"", WRONG, "", None),
            ("connection = \"b\"", WRONG, "", Some(("b", false))),
            ("connection = \"b\"", "", WRONG, Some(("b", false))),
            ("connection = \"a\"\ncampaign_last_send_age = true", WRONG, "", Some(("a", true))),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(name, age)| (name.to_owned(), age)).collect();
            assert_eq!(tells(read(own, a, b)), expected, "{own}");
        }
    }

    #[test]
    fn an_age_that_nobody_gets_or_nothing_is_known_of_is_a_warning() {
        let with = |keys: &str| warnings(&format!("{keys}\n{LEAST}"));
        let on = "[forwarder_metrics]\ncampaign_last_send_age = true";
        assert_one(&with(on), &["forwarder_metrics.campaign_last_send_age", "sent to nobody"]);
        let to = format!("{on}\nconnection = \"acme\"");
        assert_eq!(with(&to), Vec::<String>::new());
        let without_history = format!("{to}\n[history]\ndirectory = \"\"");
        assert_one(&with(&without_history), &["needs the history of sends"]);
        let connection = &parse(&format!("{to}\n{LEAST}")).connections.active[0];
        assert!(connection.campaign_last_send_age && connection.forwarder_metrics);
    }
}
