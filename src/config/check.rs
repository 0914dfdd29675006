//! From the configuration as written to the configuration as used: every value in its range and unit.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{self, FileError};
use super::finding::{did_you_mean, looks_like_key, nearest, quoted};
use super::shape::Findings;
use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::written::{self, Written};
use super::{Config, Log, LogFormat};
use crate::aggregate::tags::{self, Names, Tag};
use crate::aggregate::{self, Late, Timestamp};
use crate::dedup;
use crate::event::{Field, SEND_TYPES};

/// Datadog takes points that are at most ten minutes ahead, and loses those that are an hour behind.
const FLUSH_INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
/// Below, no request gets through; above, one dead site holds its payloads for longer than anyone waits.
const FLUSH_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// Below, each flush would connect anew; above, nobody would remember that it is set.
const CONNECTION_AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// Above, `max_ids` is what bounds it anyway.
const DEDUP_WINDOW: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// Above, whatever started the program has killed it.
const SHUTDOWN_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(10);
/// Each remembered id takes memory; above, a zero too many is likelier than a machine of that size.
const DEDUP_IDS: RangeInclusive<u64> = 1..=1_000_000_000;
/// As above, for series.
const SERIES: RangeInclusive<u64> = 1..=10_000_000;
/// A lane is a thread.
const LANES_MAX: u64 = 256;
/// Datadog's limit for a tag, in characters, with its key.
const TAG_CHARS_MAX: usize = 200;

/// One reading of a configuration.
pub(super) struct Check<'c> {
    /// What was found so far. A value that is wrong is replaced by a right one, so that the check goes on;
    /// the configuration that comes of it is thrown away.
    pub(super) findings: Findings,
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
    pub(super) fn config(&mut self, written: &Written, connections_directory: Option<PathBuf>) -> Config {
        let config = Config {
            queue: self.queue(&written.queue),
            push: written.push.as_ref().map(|push| self.push(push)),
            admin: self.admin(&written.admin),
            events_count: self.events_count(&written.events.count),
            dedup: self.dedup(&written.dedup),
            aggregate: self.aggregate(&written.events, &written.flush),
            connection_age_max: self.duration(
                "flush.max_connection_age",
                &written.flush.max_connection_age,
                &CONNECTION_AGE,
            ),
            tags: self.tags(&written.tags),
            connections: self.connections(&written.connections),
            log: self.log(&written.log),
            shutdown_timeout: self.duration("shutdown_timeout", &written.shutdown_timeout, &SHUTDOWN_TIMEOUT),
            lanes: self.lanes(written.lanes),
            validate_keys: written.validate_keys,
            connections_directory,
        };
        if let Some(push) = &config.push {
            self.push_beside(push, &config);
        }
        config
    }

    fn events_count(&mut self, types: &[String]) -> Vec<Box<str>> {
        const KEY: &str = "events.count";
        self.list(KEY, types, "nothing would be counted");
        for event_type in types {
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
            self.findings.warn(KEY, format!("{} {reason}", quoted(event_type)));
        }
        self.once(KEY, types)
    }

    fn dedup(&mut self, dedup: &written::Dedup) -> dedup::Settings {
        dedup::Settings {
            window: self.duration("dedup.window", &dedup.window, &DEDUP_WINDOW),
            max_ids: self.number("dedup.max_ids", dedup.max_ids, &DEDUP_IDS),
        }
    }

    fn aggregate(&mut self, events: &written::Events, flush: &written::Flush) -> aggregate::Settings {
        let timestamps = [("event", Timestamp::Event), ("arrival", Timestamp::Arrival)];
        let lates = [("drop", Late::Drop), ("restamp", Late::Restamp)];
        let flush_interval = self.duration("flush.interval", &flush.interval, &FLUSH_INTERVAL);
        if flush_interval.subsec_nanos() != 0 {
            let reason =
                format!("{} is not whole seconds, which points are stamped with", quoted(&flush.interval));
            self.findings.error("flush.interval", reason);
        }
        aggregate::Settings {
            timestamp: self.choice("events.timestamp", &events.timestamp, &timestamps),
            late: self.choice("events.late", &events.late, &lates),
            flush_interval,
            flush_timeout: self.duration("flush.timeout", &flush.timeout, &FLUSH_TIMEOUT),
            series_max: self.number("flush.max_series", flush.max_series, &SERIES),
        }
    }

    fn tags(&mut self, tags: &written::Tags) -> tags::Settings {
        let names = [("latest", Names::Latest), ("as_sent", Names::AsSent)];
        let on_offer: Vec<_> = Field::ALL
            .iter()
            .map(|field| (field.name(), Tag::Field(*field)))
            .chain([("channel", Tag::Channel)])
            .collect();
        let include = self.once("tags.include", &tags.include);
        let include = include.iter().map(|name| self.choice("tags.include", name, &on_offer)).collect();
        for tag in &tags.r#static {
            if let Some(reason) = wrong_tag(tag) {
                self.findings.error("tags.static", format!("{} {reason}", quoted(tag)));
            }
        }
        let static_tags = self.once("tags.static", &tags.r#static);
        tags::Settings { include, static_tags, names: self.choice("tags.names", &tags.names, &names) }
    }

    fn log(&mut self, log: &written::Log) -> Log {
        let levels = [
            ("error", tracing::Level::ERROR),
            ("warn", tracing::Level::WARN),
            ("info", tracing::Level::INFO),
            ("debug", tracing::Level::DEBUG),
            ("trace", tracing::Level::TRACE),
        ];
        let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
        Log {
            level: self.choice("log.level", &log.level, &levels),
            format: self.choice("log.format", &log.format, &formats),
        }
    }

    fn lanes(&mut self, lanes: u64) -> NonZeroUsize {
        let lanes = self.number("lanes", lanes, &(0..=LANES_MAX));
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(lanes).unwrap_or_else(|| cores().min(NonZeroUsize::MIN.saturating_add(255)))
    }
}

/// What one value can be.
impl Check<'_> {
    pub(super) fn duration(&mut self, key: &str, text: &str, range: &RangeInclusive<Duration>) -> Duration {
        match parse_duration(text) {
            Ok(duration) if range.contains(&duration) => return duration,
            Ok(_) => {
                let (from, to) = (show_duration(*range.start()), show_duration(*range.end()));
                let reason = format!("{} is out of range; it has to be from {from} to {to}", quoted(text));
                self.findings.error(key, reason);
            }
            Err(error) => self.findings.error(key, format!("{} {error}", quoted(text))),
        }
        *range.start()
    }

    pub(super) fn size(&mut self, key: &str, text: &str, range: &RangeInclusive<u64>) -> u64 {
        match parse_size(text) {
            Ok(bytes) if range.contains(&bytes) => return bytes,
            Ok(0) => self.findings.error(key, "is 0; it has to be a size, like \"16MiB\""),
            Ok(_) => {
                let to = show_size(*range.end());
                self.findings
                    .error(key, format!("{} is out of range; it has to be at most {to}", quoted(text)));
            }
            Err(error) => self.findings.error(key, format!("{} {error}", quoted(text))),
        }
        *range.start()
    }

    pub(super) fn number(&mut self, key: &str, number: u64, range: &RangeInclusive<u64>) -> usize {
        if !range.contains(&number) {
            let (from, to) = (range.start(), range.end());
            self.findings.error(key, format!("{number} is out of range; it has to be from {from} to {to}"));
        }
        to_usize(number)
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &str, text: &str, choices: &[(&str, T)]) -> T {
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return *choice;
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let near = did_you_mean(nearest(text, names.iter().copied()));
        let reason = format!("{} is not on offer{near} (it can be {})", quoted(text), names.join(", "));
        self.findings.error(key, reason);
        choices[0].1
    }

    pub(super) fn listen(&mut self, key: &str, text: &str) -> SocketAddr {
        let plain = text.trim();
        let numbers = plain.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        match numbers.as_deref().unwrap_or(plain).parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => {
                self.findings
                    .warn(key, "has port 0, so that every start takes another port; only tests want that");
                address
            }
            Ok(address) => address,
            Err(_) => {
                let reason = format!(
                    "{} is not an address to listen on, which is an IP address and a port: 127.0.0.1:8080 for this \
                     machine only, 0.0.0.0:8080 for all",
                    quoted(text)
                );
                self.findings.error(key, reason);
                (Ipv4Addr::LOCALHOST, 0).into()
            }
        }
    }

    /// A path, from the configuration's folder; `None` where the text is empty.
    pub(super) fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            return None;
        }
        if looks_like_key(text) {
            self.findings.error(key, "has to be a path, and this looks like a key itself");
        } else if text.starts_with("~/") || text == "~" {
            self.findings
                .error(key, format!("{} begins with ~, which only shells know; write it out", quoted(text)));
        }
        let path = self.base.join(text);
        if !["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            self.guessed.insert(path.clone());
        }
        Some(path)
    }

    pub(super) fn file(&mut self, key: &str, path: &Path) {
        if let Err(error) = files::check_file(path) {
            self.unusable_file(key, path, &error);
        }
    }

    /// The same for a secret that stands in the configuration itself.
    pub(super) fn warn_if_origin_open(&mut self, key: &str, what: &str) {
        let file = PathBuf::from(self.findings.origin(key));
        self.warn_if_open(key, &file, what);
    }

    pub(super) fn unusable_file(&mut self, key: &str, path: &Path, error: &FileError) {
        // A key that was written in the place of its file has been reported by `path`.
        if !looks_like_key(&path.to_string_lossy()) {
            self.findings.error(key, format!("{} {error}", path.display()));
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
        self.findings.error(key, reason);
    }

    /// A warning where everybody can read the file that a secret came from; one for each file.
    pub(super) fn warn_if_open(&mut self, key: &str, path: &Path, what: &str) {
        if files::is_open_to_others(path) && self.open.insert(path.to_owned()) {
            let reason = format!("{} holds {what} and is open to every user; chmod o= it", path.display());
            self.findings.warn(key, reason);
        }
    }

    /// A list that may be neither empty nor hold an empty text.
    pub(super) fn list(&mut self, key: &str, items: &[String], if_empty: &str) {
        if items.is_empty() {
            self.findings.error(key, format!("is empty; {if_empty}"));
        }
        if items.iter().any(|item| item.trim().is_empty()) {
            self.findings.error(key, "has an empty entry; leave it out");
        }
    }

    /// Each entry of a list once.
    pub(super) fn once(&mut self, key: &str, items: &[String]) -> Vec<Box<str>> {
        let mut seen = BTreeSet::new();
        let (once, again): (Vec<&String>, Vec<&String>) = items.iter().partition(|item| seen.insert(*item));
        for item in again {
            self.findings.warn(key, format!("{} is listed more than once", quoted(item)));
        }
        once.into_iter().map(|item| (**item).into()).collect()
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

/// Every range above fits 32 bits, except on a value that is an error anyway.
pub(super) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
