//! From the configuration as it is written to the configuration as it is used: what depends on more than one value, on
//! files, or on what Datadog and Kafka make of a text. On the way the settings become what is in force: paths from the
//! root, each entry of a list once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostics, did_you_mean, looks_like_key, nearest, quoted};
use super::files::{self, FileError};
use super::settings::{self, Settings, tags_on_offer};
use super::values::Address;
use super::{Config, Log};
use braze_events::SEND_TYPES;
use send_counts::aggregate;
use send_counts::aggregate::tags;
use send_counts::dedup;

/// How many lanes there are at most where nobody says how many.
const LANES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// Datadog's limit for a tag, in characters, with its key.
const TAG_CHARS_MAX: usize = 200;

/// One reading of a configuration.
pub(super) struct Check<'c> {
    /// What is wrong so far. In the place of a value that is wrong stands its default, so that the check goes on; the
    /// configuration that comes of it is thrown away.
    pub(super) diagnostics: Diagnostics,
    /// The folder that relative paths start from.
    pub(super) base: &'c Path,
    /// The environment, for keys in it.
    pub(super) env: &'c [(String, String)],
    /// Files that everybody can read, each of which is told of once.
    pub(super) open: BTreeSet<PathBuf>,
    /// Paths that were not written as one, and so may be the secret that should stand in the file.
    pub(super) guessed: BTreeSet<PathBuf>,
}

impl Check<'_> {
    pub(super) fn config(
        &mut self,
        mut settings: Settings,
        connections_directory: Option<PathBuf>,
    ) -> Config {
        let queue = self.queue(&mut settings.queue);
        let push = settings.push.as_mut().map(|push| self.push(push));
        let admin = self.admin(&mut settings.admin);
        let events_count = self.events_count(&mut settings.events.count);
        let aggregate = aggregate_of(&settings);
        let tags = self.tags(&mut settings.tags);
        let connections = self.connections(&settings.connections);
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).min(LANES_MAX);
        let lanes = NonZeroUsize::new(settings.lanes).unwrap_or_else(cores);
        settings.lanes = lanes.get();
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
            log: Log {
                level: settings.log.level.parse().unwrap_or(tracing::Level::INFO),
                format: settings.log.format,
            },
            shutdown_timeout: settings.shutdown_timeout.0,
            lanes,
            validate_keys: settings.validate_keys,
            connections_directory,
            settings,
        };
        if let Some(push) = &config.push {
            self.push_beside(push, &config);
        }
        config
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
            } else {
                let known = SEND_TYPES.iter().map(|(known, _)| *known);
                format!("is not an event type that is known here{}", did_you_mean(nearest(event_type, known)))
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

fn aggregate_of(Settings { events, flush, .. }: &Settings) -> aggregate::AggregateSettings {
    aggregate::AggregateSettings {
        timestamp: events.timestamp,
        late: events.late,
        flush_interval: flush.interval.0,
        flush_timeout: flush.timeout.0,
        series_max: flush.max_series,
    }
}

/// What one value can be.
impl Check<'_> {
    pub(super) fn listen(&mut self, key: &str, Address(address): Address) -> SocketAddr {
        if address.port() == 0 {
            self.diagnostics
                .warn(key, "has port 0, so that every start takes another port; only tests want that");
        }
        address
    }

    /// A path, from the configuration's folder; `None` where the text is empty.
    pub(super) fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            return None;
        }
        if looks_like_key(text) {
            self.diagnostics.error(key, "has to be a path, and this looks like a key itself");
        } else if text.starts_with("~/") || text == "~" {
            self.diagnostics
                .error(key, format!("{} begins with ~, which only shells know; write it out", quoted(text)));
        }
        let path = self.base.join(text);
        if !["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            self.guessed.insert(path.clone());
        }
        Some(path)
    }

    /// The same for a setting, which then has the path from the root.
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

    /// The same for a secret that stands in the configuration itself.
    pub(super) fn warn_if_origin_open(&mut self, key: &str, what: &str) {
        let file = PathBuf::from(self.diagnostics.origin(key));
        self.warn_if_open(key, &file, what);
    }

    pub(super) fn unusable_file(&mut self, key: &str, path: &Path, error: &FileError) {
        // A key that was written in the place of its file has been reported by `path`.
        if !looks_like_key(&path.to_string_lossy()) {
            self.diagnostics.error(key, format!("{} {error}", path.display()));
        }
    }

    /// As [`Check::unusable_file`], for a file that should hold a secret: people write the secret itself there.
    pub(super) fn unusable_secret(&mut self, key: &str, path: &Path, error: &FileError) {
        if !self.guessed.contains(path) || path.exists() {
            return self.unusable_file(key, path, error);
        }
        let reason = format!(
            "the file that it names {error} (not shown, for it could be the secret itself; begin a path with / or ./)"
        );
        self.diagnostics.error(key, reason);
    }

    /// What a file with a secret holds, without the end of its line.
    pub(super) fn secret(&mut self, key: &str, path: &Path, what: &str, if_empty: &str) -> Option<String> {
        self.warn_if_open(key, path, what);
        match files::read_secret(path) {
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

    /// A warning where everybody can read the file that a secret came from; one for each file.
    pub(super) fn warn_if_open(&mut self, key: &str, path: &Path, what: &str) {
        if files::is_open_to_others(path) && self.open.insert(path.to_owned()) {
            let reason = format!("{} holds {what} and is open to every user; chmod o= it", path.display());
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

    /// Leaves each entry of a list once.
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

/// What Datadog would change about a tag, or this program misread.
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
