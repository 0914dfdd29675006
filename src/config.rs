//! The configuration: its settings, how it is read, and its diagnostics.
//!
//! There are two forms of it: as it is written (`settings`, where each key is said once) and as it is used ([`Config`], made
//! of the settings of the parts). Between them stand the `sources` (the file, below the environment), the `schema` that each
//! source is held against, and the `check` of what depends on more than one value. All of them go on after an error, so that
//! one attempt shows all errors.
//!
//! Relative paths in a configuration are relative to the folder of the file that they stand in, wherever the program is
//! started; those of environment variables to that of the main file.
//!
//! A mistake in one connection affects no other: that one is left out, and the rest is used.
//!
//! An environment variable is `BRAZE_DATADOG__SECTION__KEY`, in any case behind the prefix; lists are parted
//! by commas. App group ids in a variable's name keep their case; `_` in the name of a librdkafka option is
//! a dot there.

mod api_key;
mod check;
mod claims;
mod connections;
mod describe;
mod diagnostic;
mod directory;
mod files;
mod memory;
mod receiving;
mod reconcile;
mod schema;
mod settings;
mod sources;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::check::Check;
use self::diagnostic::Diagnostics;
use self::settings::Settings;
use crate::connection::{Connection, ConnectionSet};
use crate::reconcile::ReconcileSettings;
use crate::{admin, push};
use send_counts::aggregate;
use send_counts::dedup;

pub use self::api_key::{api_key_fault, read_key};
pub use self::connections::connection_name_fault;
pub use self::describe::{changes_needing_restart, describe, redacted};
pub use self::diagnostic::{ConfigError, Diagnostic, Warning};

/// The default path of the configuration.
pub const DEFAULT_PATH: &str = "/etc/braze-datadog/braze-datadog.toml";

/// The configuration as it is used: checked, with everything in its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where events wait.
    pub queue: QueueConfig,
    /// How events are received from Braze; `None`: not at all.
    pub push: Option<push::PushSettings>,
    /// The admin port.
    pub admin: admin::AdminSettings,
    /// The event types that are counted; at least one, each once.
    pub events_count: Vec<Box<str>>,
    /// The settings of deduplication.
    pub dedup: dedup::DedupSettings,
    /// How sends become counts; with the flush interval and the time-out of a request.
    pub aggregate: aggregate::AggregateSettings,
    /// How long one connection to Datadog is used.
    pub connection_age_max: Duration,
    /// The tags that tell series apart.
    pub tags: aggregate::tags::TagSettings,
    /// Where counts go; at least one is in force.
    pub connections: ConnectionSet,
    /// How the history of sends is kept; `None`: not at all.
    pub history: Option<send_history::HistorySettings>,
    /// The settings of the daily comparison with Braze's dashboard.
    pub reconcile: ReconcileSettings,
    /// The settings of the log.
    pub log: Log,
    /// How long a stop waits for the outcomes of the last flush.
    pub shutdown_timeout: Duration,
    /// How many lanes there are; `lanes = 0` is one per core.
    pub lanes: NonZeroUsize,
    /// Whether the running process asks Datadog if its keys are valid.
    pub validate_keys: bool,
    /// The folder that more connections were read from.
    pub connections_directory: Option<PathBuf>,
    /// The files of API keys by their key in the configuration, of those that can't be read, too.
    key_files: BTreeMap<String, PathBuf>,
    /// Mistakes in refused connections, and in the comparison with Braze.
    wrong: Vec<Diagnostic>,
    /// The settings in force, key by key.
    settings: Settings,
}

/// The settings of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// The kind that is used.
    pub kind: QueueKind,
    /// The log on the local disk. Its directory also remembers how far imports have come.
    pub embedded: event_queues::embedded::EmbeddedSettings,
    /// The broker.
    pub kafka: event_queues::kafka::KafkaSettings,
    /// The buckets. Imports of a URL use their options, too.
    pub storage: event_queues::storage::StorageSettings,
}

/// The kinds of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// A log on the local disk.
    Embedded,
    /// A Kafka broker.
    Kafka,
    /// Buckets.
    Storage,
}

/// The settings of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged, unless `RUST_LOG` says otherwise.
    pub level: tracing::Level,
    /// The form of a line.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

impl Config {
    /// Reads the configuration at `path`, with this process's environment over it. A wrong connection affects no other: it
    /// is among the [refused](ConnectionSet::refused), see [`Config::require_all`].
    ///
    /// # Errors
    /// When there is no configuration, or anything else is wrong with it, or with every connection: every diagnostic names
    /// the file or the variable, the key, the reason and what to do.
    pub fn load(path: &Path) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::load_over(path, &[])
    }

    /// The same for a process in which these connections are in force: another one that claims an app group of theirs is
    /// wrong.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_over(path: &Path, in_force: &[Connection]) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (text, env) = read(path)?;
        Self::parse_over(&text, path, &env, Purpose { in_force, ..Purpose::default() })
    }

    /// The same for commands that write files of the connections directory: there may be no connection yet, and a candidate
    /// is read as if its file existed.
    ///
    /// # Errors
    /// When anything but connections is wrong.
    pub fn load_to_edit(
        path: &Path,
        candidate: Option<Candidate<'_>>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (text, env) = read(path)?;
        let purpose = Purpose { is_to_edit: true, ..Purpose::default() };
        let as_it_is = Self::parse_over(&text, path, &env, purpose)?;
        let Some(candidate) = candidate else { return Ok(as_it_is) };
        let purpose =
            Purpose { in_force: &as_it_is.0.connections.active, candidate: Some(candidate), ..purpose };
        Self::parse_over(&text, path, &env, purpose)
    }

    /// Reads a configuration from its text, as if it stood in the file `path`, with the environment `env`.
    /// The only other input are the files that the configuration itself names.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        path: &Path,
        env: &[(String, String)],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::parse_over(text, path, env, Purpose::default())
    }

    fn parse_over(
        text: &str,
        path: &Path,
        env: &[(String, String)],
        purpose: Purpose<'_>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let path = absolute(path);
        let origin = path.display().to_string();
        let base = path.parent().unwrap_or(Path::new("/"));
        let schema = schema::of_settings();
        let mut diagnostics = Diagnostics::new(&origin);

        // The environment is read twice: here only to find further files, whose diagnostics come first.
        let variables = sources::environment(&mut Diagnostics::new(&origin), env, &schema);
        let mut merged = sources::file(&mut diagnostics, text, &origin, &schema);
        let directory = directory::of(&variables).or_else(|| directory::of(&merged));
        let directory = directory.map(|directory| base.join(directory));
        let unread = directory.as_ref().map(|directory| {
            directory::read(&mut diagnostics, directory, purpose.candidate, &schema, &mut merged)
        });
        sources::merge(&mut merged, sources::environment(&mut diagnostics, env, &schema));

        let Some(settings) = schema::settings(&mut diagnostics, merged, &schema) else {
            return Err(diagnostics.into_defect());
        };
        let mut check = Check::new(diagnostics, base, env, purpose);
        let config = check.config(settings, directory, &unread.unwrap_or_default());
        let only_connections = config.wrong.len() == check.diagnostics.errors().len();
        if only_connections && (purpose.is_to_edit || !config.connections.active.is_empty()) {
            return Ok((config, check.diagnostics.into_warnings()));
        }
        check.diagnostics.into_result(config)
    }

    /// The same, if no mistake is in any connection, or in the comparison with Braze.
    ///
    /// # Errors
    /// The mistakes.
    pub fn require_all(self) -> Result<Self, ConfigError> {
        if self.wrong.is_empty() { Ok(self) } else { Err(ConfigError { diagnostics: self.wrong }) }
    }

    /// The file of a connection's API key, if it has one.
    pub fn key_file(&self, connection: &str) -> Option<&Path> {
        let key = schema::join(&schema::join("connections", connection), "api_key_file");
        self.key_files.get(&key).map(PathBuf::as_path)
    }

    /// The files of all API keys, unreadable ones included.
    pub fn key_files(&self) -> impl Iterator<Item = &Path> {
        self.key_files.values().map(PathBuf::as_path)
    }

    /// Whether events can only come from imported files.
    pub fn receives_nothing(&self) -> bool {
        self.queue.kind == QueueKind::Embedded && self.push.is_none()
    }

    /// The JSON Schema of a configuration file: every key with its type, default, bounds and sentence.
    pub fn schema() -> serde_json::Value {
        schema::of_settings()
    }

    /// The path of the configuration: `--config`, else `$BRAZE_DATADOG_CONFIG`, else [`DEFAULT_PATH`].
    pub fn path(given: Option<PathBuf>, variable: Option<OsString>) -> PathBuf {
        given
            .or_else(|| variable.filter(|path| !path.is_empty()).map(PathBuf::from))
            .unwrap_or_else(|| DEFAULT_PATH.into())
    }
}

/// A file of the connections directory that does not exist yet.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'c> {
    /// The connection's name.
    pub name: &'c str,
    /// The content of the file.
    pub text: &'c str,
}

/// The purpose of reading a configuration.
#[derive(Debug, Clone, Copy, Default)]
struct Purpose<'c> {
    /// The connections of the running process.
    in_force: &'c [Connection],
    /// Whether there may be no connection.
    is_to_edit: bool,
    candidate: Option<Candidate<'c>>,
}

/// The configuration file, and this process's environment.
fn read(path: &Path) -> Result<(String, Vec<(String, String)>), ConfigError> {
    let env = environment()?;
    let text = match files::read_config(path) {
        // Containers often have nothing but variables.
        Err(files::FileError::Missing)
            if path == Path::new(DEFAULT_PATH) && sources::has_connection(&env) =>
        {
            String::new()
        }
        read => read.map_err(|error| no_file(path, error))?,
    };
    Ok((text, env))
}

fn no_file(path: &Path, error: files::FileError) -> ConfigError {
    let reason = match error {
        files::FileError::Missing => "there is no configuration file; say where it is with --config or in \
                                      $BRAZE_DATADOG_CONFIG (config/quickstart.toml is one to start from), or set a \
                                      connection by variables, BRAZE_DATADOG__CONNECTIONS__NAME__…"
            .to_owned(),
        error => format!("the configuration file {error}"),
    };
    let mut diagnostics = Diagnostics::new(&absolute(path).display().to_string());
    diagnostics.error("", reason);
    diagnostics.into_error()
}

/// A path that stays right when the working directory changes, for messages.
fn absolute(path: &Path) -> PathBuf {
    // It fails for an empty path and without a working directory; then the path as given is best.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The variables of this process. Of those that are not UTF-8, only our own matter.
fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut env = Vec::new();
    let mut diagnostics = Diagnostics::new("");
    for (name, text) in std::env::vars_os() {
        match (name.into_string(), text.into_string()) {
            (Ok(name), Ok(text)) => env.push((name, text)),
            (Ok(name), Err(_)) if name.starts_with(sources::NAMESPACE) => {
                diagnostics.error_at(&format!("environment variable {name}"), "", "is not UTF-8 text");
            }
            _ => {}
        }
    }
    diagnostics.into_result(env).map(|(env, _)| env)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The least configuration there is.
    pub(super) const LEAST: &str = "[connections.acme]\ndry_run = true\n";

    /// A key that must be found nowhere.
    pub(super) const PLANTED: &str = "0123456789abcdef0123456789abcdef";

    pub(super) fn parse_with(text: &str, env: &[(&str, &str)]) -> Result<(Config, Vec<String>), Vec<String>> {
        let env: Vec<_> = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let lines = |diagnostics: &[Diagnostic]| diagnostics.iter().map(ToString::to_string).collect();
        Config::parse(text, Path::new("/nowhere/a.toml"), &env)
            .and_then(|(config, warnings)| Ok((config.require_all()?, warnings)))
            .map(|(config, warnings)| (config, lines(&warnings)))
            .map_err(|error| lines(&error.diagnostics))
    }

    pub(super) fn parse(text: &str) -> Config {
        parse_with(text, &[]).unwrap().0
    }

    pub(super) fn errors(text: &str) -> Vec<String> {
        parse_with(text, &[]).err().unwrap_or_default()
    }

    pub(super) fn warnings(text: &str) -> Vec<String> {
        parse_with(text, &[]).unwrap().1
    }

    /// Expects exactly one diagnostic, with each of these parts in it.
    pub(super) fn assert_one(diagnostics: &[String], parts: &[&str]) {
        assert_eq!(diagnostics.len(), 1, "{diagnostics:?} (expected {parts:?})");
        for part in parts {
            assert!(diagnostics[0].contains(part), "{part:?} is not in {diagnostics:?}");
        }
    }

    #[test]
    fn the_least_configuration_has_the_contracts_defaults() {
        let (config, warnings) = parse_with(LEAST, &[]).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(config.queue.kind, QueueKind::Embedded);
        assert_eq!(config.queue.embedded.directory, Path::new("/var/lib/braze-datadog/queue"));
        assert_eq!(config.queue.embedded.size_max, 4 << 30);
        assert_eq!(config.push, None);
        assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
        assert_eq!(config.events_count.len(), 8);
        assert_eq!(&*config.events_count[0], "users.messages.email.Send");
        assert_eq!(
            config.dedup,
            dedup::DedupSettings { window: Duration::from_mins(10), max_ids: 4_000_000 }
        );
        assert_eq!(config.aggregate.timestamp, aggregate::Timestamp::Event);
        assert_eq!(config.aggregate.late, aggregate::Late::Drop);
        assert_eq!(config.aggregate.flush_interval, Duration::from_secs(10));
        assert_eq!(config.aggregate.flush_timeout, Duration::from_secs(5));
        assert_eq!(config.aggregate.series_max, 100_000);
        assert_eq!((config.tags.include.len(), config.tags.static_tags.len()), (8, 0));
        assert_eq!(config.tags.names, aggregate::tags::Names::Latest);
        assert_eq!(&*config.connections.active[0].metric, "braze.messaging.sent");
        assert_eq!(config.log, Log { level: tracing::Level::INFO, format: LogFormat::Auto });
        assert_eq!(config.shutdown_timeout, Duration::from_secs(20));
        assert_eq!(config.lanes, std::thread::available_parallelism().unwrap());
        assert!(config.validate_keys);
        assert_eq!(config.connections_directory, None);
        assert_eq!(&*config.queue.kafka.brokers[0], "localhost:9092");
    }

    #[test]
    fn an_empty_push_section_switches_push_on() {
        let push = parse(&format!("[push]\n{LEAST}")).push.unwrap();
        assert_eq!((push.listen.to_string(), push.body_bytes_max), ("127.0.0.1:8080".into(), 16 << 20));
        assert_eq!((push.token_file, push.tls), (None, None));
    }

    #[test]
    fn the_environment_wins_over_the_file_over_the_defaults() {
        let text = format!("lanes = 2\n[flush]\ninterval = \"20s\"\ntimeout = \"1s\"\n{LEAST}");
        let env = [
            ("BRAZE_DATADOG__FLUSH__INTERVAL", "30s"),
            ("BRAZE_DATADOG__PUSH__LISTEN", "127.0.0.1:9"),
            ("BRAZE_DATADOG__TAGS__STATIC", "env:prod, team:crm"),
            ("BRAZE_DATADOG__CONNECTIONS__ACME__METRIC", "x.y"),
            ("BRAZE_DATADOG__CONNECTIONS__OTHER__DRY_RUN", "true"),
            ("BRAZE_DATADOG__CONNECTIONS__OTHER__APP_GROUP_IDS", "A-1,b.2"),
        ];
        let (config, _) = parse_with(&text, &env).unwrap();
        assert_eq!(config.aggregate.flush_interval, Duration::from_secs(30));
        assert_eq!(config.aggregate.flush_timeout, Duration::from_secs(1));
        assert_eq!(config.lanes.get(), 2);
        assert_eq!(config.push.unwrap().listen.port(), 9);
        assert_eq!(config.tags.static_tags, ["env:prod".into(), "team:crm".into()]);
        assert_eq!(&*config.connections.active[0].metric, "x.y");
        assert!(config.connections.active[0].dry_run, "the file's keys of a connection stay");
        assert_eq!(config.connections.active[1].app_group_ids, ["A-1".into(), "b.2".into()]);
    }

    #[test]
    fn a_bad_value_from_the_environment_is_reported_with_its_variable() {
        let env = [("BRAZE_DATADOG__FLUSH__INTERVAL", "soon")];
        let errors = parse_with(LEAST, &env).unwrap_err();
        assert_one(
            &errors,
            &["environment variable BRAZE_DATADOG__FLUSH__INTERVAL", "flush.interval", "\"soon\"", "\"10s\""],
        );
    }

    #[test]
    fn ids_in_keys_keep_their_case_and_dots() {
        let text = format!("{LEAST}[connections.acme.app_group_names]\n\"Ab.C[0]-d\" = \"x\"\nUPPER = \"y\"");
        let names = &parse(&text).connections.active[0].app_group_names;
        assert_eq!(names.get("Ab.C[0]-d").map(|name| &**name), Some("x"));
        assert_eq!(names.get("UPPER").map(|name| &**name), Some("y"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn every_diagnostic_names_file_key_reason_and_what_to_do() {
        for (text, parts) in [
            (
                "[flush]\nintervall = \"1s\"",
                &["/nowhere/a.toml: flush.intervall: unknown key", "\"interval\"?"][..],
            ),
            ("[flsh]\n", &["flsh: unknown key", "\"flush\"?"]),
            ("[log]\nshutdown_timeout = \"1s\"", &["log.shutdown_timeout", "top of the file"]),
            ("[queue]\nlisten = \"x\"", &["queue.listen", "into [admin] or into [push]"]),
            ("[dedup]\nzzz = 1", &["dedup.zzz", "max_ids, window"]),
            ("\"lanes[99999999999]\" = 1", &["unknown key", "\"lanes[99999999999]\""]),
            ("\"queue.kind\" = \"kafka\"", &["\"queue.kind\": unknown key"]),
            ("lanes = \"2\"", &["lanes: is a string", "a whole number"]),
            ("lanes = -1", &["lanes: is a negative number"]),
            ("lanes = 1.5", &["with a fraction"]),
            ("lanes = 257", &["257 is out of range", "from 0 to 256"]),
            ("log = 3", &["log: is a number", "a section: [log]"]),
            ("shutdown_timeout = 20", &["a duration in quotation marks, like \"20s\""]),
            ("shutdown_timeout = \"20\"", &["\"20\" is a duration without a unit", "\"20s\""]),
            ("shutdown_timeout = \"11m\"", &["from 0s to 10m"]),
            ("[flush]\ninterval = \"500ms\"", &["flush.interval", "from 1s to 10m"]),
            ("[flush]\ninterval = \"1s500ms\"", &["flush.interval", "whole seconds"]),
            ("[flush]\ninterval = \"10m1s\"", &["flush.interval", "from 1s to 10m"]),
            ("[flush]\ntimeout = \"99ms\"", &["flush.timeout", "from 100ms to 1m"]),
            ("[flush]\ntimeout = \"61s\"", &["flush.timeout", "from 100ms to 1m"]),
            ("[flush]\nmax_series = 0", &["flush.max_series", "from 1 to"]),
            ("[flush]\nmax_series_total = 1", &["flush.max_series_total", "1 is less than flush.max_series"]),
            ("[flush]\nmax_series_total = 1_000_000_001", &["flush.max_series_total", "from 0 to"]),
            ("[flush]\nmax_connection_age = \"999ms\"", &["flush.max_connection_age", "from 1s to 24h"]),
            ("[dedup]\nmax_ids = 0", &["dedup.max_ids", "from 1 to"]),
            ("[dedup]\nwindow = \"25h\"", &["dedup.window", "from 0s to 24h"]),
            ("[events]\ncount = []", &["events.count", "nothing would be counted"]),
            ("[events]\ncount = [\"\"]", &["events.count", "empty entry"]),
            ("[events]\ncount = [1]", &["events.count", "a list of strings"]),
            ("[events]\ncount = \"a\"", &["events.count: is a string", "a list of strings"]),
            ("[events]\ntimestamp = \"evnt\"", &["events.timestamp", "\"event\"?", "event, arrival"]),
            ("[events]\nlate = \"keep\"", &["events.late", "drop, restamp"]),
            ("[tags]\ninclude = [\"campain_id\"]", &["tags.include", "\"campaign_id\"?", "channel"]),
            ("[tags]\nnames = \"newest\"", &["tags.names", "latest, as_sent"]),
            ("[log]\nlevel = \"inf\"", &["log.level", "\"info\"?"]),
            ("[log]\nformat = \"xml\"", &["log.format", "auto, text, json"]),
        ] {
            assert_one(&errors(&format!("{text}\n{LEAST}")), parts);
        }
    }

    #[test]
    fn a_diagnostic_about_where_events_come_from_says_what_to_do() {
        for (text, parts) in [
            ("[queue]\nkind = \"kafak\"", &["queue.kind", "\"kafka\"?"][..]),
            ("[queue.embedded]\nmax_size = \"4G\"", &["queue.embedded.max_size", "GiB"]),
            ("[queue.embedded]\nmax_size = 0", &["queue.embedded.max_size", "is 0"]),
            ("[queue.embedded]\ndirectory = \"\"", &["queue.embedded.directory", "is empty"]),
            ("[queue.embedded]\ndirectory = \"~/q\"", &["queue.embedded.directory", "only shells know"]),
            ("[admin]\nlisten = \":8081\"", &["admin.listen", "127.0.0.1:8080 for this machine"]),
            ("[admin]\nlisten = \"127.0.0.1:70000\"", &["admin.listen"]),
            ("[admin]\nhosts = [\"http://x.example\"]", &["admin.hosts", "without scheme, port or path"]),
            ("[admin]\nhosts = [\"x.example:80\"]", &["admin.hosts", "without scheme, port or path"]),
            ("[admin]\nhosts = [\"\"]", &["admin.hosts", "is not a name"]),
            ("[push]\nmax_body = \"2GiB\"", &["push.max_body", "at most 1GiB"]),
            (
                "[push]\nlisten = \"0.0.0.0:8080\"",
                &["push.listen", "0.0.0.0:8080", "push.token_file", "127.0.0.1"],
            ),
            (
                "[push]\nlisten = \"127.0.0.1:8081\"",
                &["push.listen", "admin.listen (127.0.0.1:8081)", "another port"],
            ),
            ("[push]\ntoken_file = \"./t\"", &["push.token_file: /nowhere/./t does not exist"]),
            ("[push]\ntls_certificate = \"c\"", &["push.tls_key", "is missing"]),
            ("[push]\ntls_key = \"k\"", &["push.tls_certificate", "is missing"]),
            (
                "[push]\n[queue]\nkind = \"kafka\"",
                &["push: can't be used with queue.kind = \"kafka\"", "leave [push] out"],
            ),
            ("[queue.kafka]\nbrokers = []", &["queue.kafka.brokers", "at least one"]),
            ("[queue.kafka]\nbrokers = [\"http://x\"]", &["queue.kafka.brokers", "host:port"]),
            ("[queue.kafka]\ntopics = [\"a b\"]", &["queue.kafka.topics", "begins with ^"]),
            ("[queue.kafka]\ngroup_id = \"\"", &["queue.kafka.group_id", "is empty"]),
            ("[queue.kafka]\nschema_registry = \"x\"", &["queue.kafka.schema_registry", "https://"]),
            (
                "[queue.kafka.options]\n\"enable.auto.commit\" = true",
                &["queue.kafka.options.\"enable.auto.commit\"", "leave it out"],
            ),
            ("connections_directory = \"d\"", &["connections_directory: /nowhere/d does not exist"]),
        ] {
            assert_one(&errors(&format!("{text}\n{LEAST}")), parts);
        }
    }

    #[test]
    fn tags_that_datadog_would_change_are_refused() {
        let long = "x".repeat(201);
        for tag in ["1:a", ":a", "env:", "a:b,c:d", "", " a:b", "a:b\\n", &long] {
            let text = format!("[tags]\nstatic = [\"{tag}\"]\n{LEAST}");
            assert_one(&errors(&text), &["tags.static"]);
        }
        let config = parse(&format!("[tags]\nstatic = [\"env:prod\", \"plain\", \"région:île\"]\n{LEAST}"));
        assert_eq!(config.tags.static_tags.len(), 3);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = "lanes = \"2\"\nnope = 1\n[flush]\ninterval = \"x\"\n[connections.A]\nsite = \"EU9\"";
        let diagnostics = errors(text);
        for key in ["lanes", "nope", "flush.interval", "connections.A", "connections.A.site"] {
            assert!(
                diagnostics.iter().any(|diagnostic| diagnostic.contains(&format!(": {key}: "))),
                "{key}: {diagnostics:?}"
            );
        }
        assert!(
            diagnostics.iter().any(|diagnostic| diagnostic.contains("has no API key")),
            "{diagnostics:?}"
        );
    }

    #[test]
    fn a_syntax_error_shows_line_and_column_and_not_the_line() {
        let text = format!("lanes = 1\n[connections.acme]\napi_key = \"{PLANTED}\n");
        let errors = errors(&text);
        assert!(errors[0].starts_with("/nowhere/a.toml: is not valid TOML at line 3, column "), "{errors:?}");
        assert!(!errors.concat().contains(PLANTED), "{errors:?}");
    }

    #[test]
    fn what_is_accepted_and_odd_is_a_warning() {
        for (text, parts) in [
            ("[events]\ncount = [\"users.messages.mms.Send\"]", &["events.count", "not an event type"][..]),
            ("[events]\ncount = [\"users.messages.sms.Retry\"]", &["events.count", "is not a send"]),
            ("[events]\ncount = [\"users.messages.sms.CarrierSend\"]", &["counted twice"]),
            ("[tags]\ninclude = [\"channel\", \"channel\"]", &["tags.include", "more than once"]),
            ("[push]\nmax_body = \"1KB\"", &["push.max_body", "900KB"]),
            ("[push]\n[queue.embedded]\nmax_size = \"1MiB\"", &["push.max_body", "max_size (1MiB)"]),
            ("[admin]\nlisten = \"127.0.0.1:0\"", &["admin.listen", "port 0"]),
        ] {
            assert_one(&warnings(&format!("{text}\n{LEAST}")), parts);
        }
        assert_eq!(
            parse(&format!("[tags]\ninclude = [\"channel\", \"channel\"]\n{LEAST}")).tags.include.len(),
            1
        );
    }

    #[test]
    fn an_address_for_all_interfaces_takes_the_port_of_every_one() {
        let text = format!("[admin]\nlisten = \"[::]:8080\"\n[push]\n{LEAST}");
        assert_one(&errors(&text), &["push.listen", "admin.listen ([::]:8080)"]);
        assert_eq!(
            errors(&format!("[admin]\nlisten = \"localhost:1\"\n[push]\nlisten=\"[::1]:1\"\n{LEAST}")).len(),
            0
        );
    }

    #[test]
    fn relative_paths_start_from_the_folder_of_the_file() {
        let text = format!("[queue.embedded]\ndirectory = \"q\"\n{LEAST}");
        assert_eq!(parse(&text).queue.embedded.directory, Path::new("/nowhere/q"));
    }

    #[test]
    fn the_path_is_given_or_in_the_environment_or_the_default() {
        let (given, variable) = (Some(PathBuf::from("a")), Some(OsString::from("b")));
        assert_eq!(Config::path(given, variable.clone()), Path::new("a"));
        assert_eq!(Config::path(None, variable), Path::new("b"));
        assert_eq!(Config::path(None, Some(OsString::new())), Path::new(DEFAULT_PATH));
        assert_eq!(Config::path(None, None), Path::new(DEFAULT_PATH));
    }

    #[test]
    fn values_of_kafka_options_are_kept_and_not_shown() {
        let text = format!(
            "[queue.kafka]\nschema_registry = \"https://u:hidden@r\"\n[queue.kafka.options]\n\"sasl.password\" = \
             \"hidden\"\n\"socket.timeout.ms\" = 60000\n{LEAST}"
        );
        let config = parse(&text);
        assert_eq!(config.queue.kafka.options["sasl.password"].expose(), "hidden");
        assert_eq!(config.queue.kafka.options["socket.timeout.ms"].expose(), "60000");
        assert!(!format!("{config:?}{}", describe(&config)).contains("hidden"));
    }

    /// Every key of the schema, each changed by itself: those that a reload takes over, and those it does not.
    #[test]
    fn a_change_that_needs_a_restart_is_named() {
        let old = parse(&format!("[push]\n{LEAST}"));
        assert_eq!(changes_needing_restart(&old, &old), Vec::<String>::new());
        for (key, value) in [
            ("queue.kind", "\"kafka\""),
            ("queue.embedded.directory", "\"/x\""),
            ("queue.embedded.max_size", "\"1GiB\""),
            ("queue.kafka.brokers", "[\"x\"]"),
            ("queue.kafka.topics", "[\"x\"]"),
            ("queue.kafka.group_id", "\"x\""),
            ("queue.kafka.schema_registry", "\"http://x\""),
            ("queue.kafka.schema_registry_ids", "\"global\""),
            ("queue.kafka.oauth_token_file", concat!("\"", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml\"")),
            (
                "queue.kafka.schema_registry_auth_file",
                concat!("\"", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml\""),
            ),
            ("queue.kafka.options.x", "\"y\""),
            ("push.listen", "\"127.0.0.1:1\""),
            ("push.max_body", "\"2MiB\""),
            ("admin.listen", "\"127.0.0.1:1\""),
            ("admin.hosts", "[\"x\"]"),
            ("events.count", "[\"users.messages.sms.Send\"]"),
            ("events.timestamp", "\"arrival\""),
            ("events.late", "\"restamp\""),
            ("dedup.window", "\"1m\""),
            ("dedup.max_ids", "1"),
            ("flush.interval", "\"1s\""),
            ("flush.timeout", "\"1s\""),
            ("flush.max_series", "1"),
            ("flush.max_series_total", "77_000_000"),
            ("flush.max_connection_age", "\"1m\""),
            ("log.format", "\"json\""),
            ("shutdown_timeout", "\"1s\""),
            ("lanes", "77"),
        ] {
            let push = if key == "queue.kind" || key.starts_with("push.") { "" } else { "[push]\n" };
            let new = parse(&format!("{key} = {value}\n{push}{LEAST}"));
            let mut expected = vec![key.trim_end_matches(".x").to_owned()];
            if key == "queue.kind" {
                expected.push("push".into());
            }
            assert_eq!(changes_needing_restart(&old, &new), expected);
        }
        for text in [
            "[tags]\ninclude = []\nstatic = [\"a:b\"]\nnames = \"as_sent\"\n",
            "[log]\nlevel = \"debug\"\n",
            "[connections.more]\ndry_run = true\napp_group_ids = [\"x\"]\n",
        ] {
            let new = parse(&format!("[push]\n{text}{LEAST}metric = \"other\"\n"));
            assert_eq!(changes_needing_restart(&old, &new), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn a_description_says_what_goes_where() {
        let text = "[push]\n[connections.a]\nsite = \"eu1\"\napi_key = \"0123456789abcdef0123456789abcdef\"\n\
                    app_group_ids = [\"g1\", \"g2\"]\n[connections.b]\nurl = \"http://127.0.0.1:9/x/\"\ndry_run = true\n";
        let text = describe(&parse(text));
        for part in [
            "connection    a",
            "EU1 (https://api.datadoghq.eu)",
            "g1, g2",
            "braze.messaging.sent",
            "127.0.0.1:9 (http://127.0.0.1:9/x)",
            "every app group that no other connection names",
            "embedded, in /var/lib/braze-datadog/queue, at most 4GiB",
            "http://127.0.0.1:8080/v1/events, no token is asked",
            "http://127.0.0.1:8081",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains(PLANTED));
        let named = describe(&parse(&format!("{LEAST}app_group_ids = [\"x\"]")));
        assert!(named.contains("dropped as unrouted"), "{named}");
        assert!(named.contains("push          off"), "{named}");
    }

    /// A configuration that is right and has a key in it, for the properties below.
    fn planted() -> String {
        format!(
            "lanes = 1\n[flush]\ninterval = \"10s\"\n[connections.acme]\nsite = \"EU1\"\napi_key = \"{PLANTED}\"\n\
             app_group_ids = [\"a\"]\n[connections.acme.app_group_names]\na = \"b\"\n"
        )
    }

    /// Everything that an attempt to read a configuration shows.
    fn everything_shown(text: &str, env: &[(String, String)]) -> String {
        match Config::parse(text, Path::new("/nowhere/a.toml"), env) {
            Ok((config, warnings)) => {
                let settings = serde_json::to_string(&config.settings).unwrap();
                let shown = redacted(&config, &config);
                format!("{config:?}{config:#?}{warnings:?}{}{shown:?}{settings}", describe(&config))
            }
            Err(error) => format!("{error}{error:?}"),
        }
    }

    #[test]
    fn a_key_in_a_wrong_place_is_not_shown() {
        let places = [
            "site",
            "url",
            "api_key_file",
            "api_key_env",
            "api_key",
            "metric",
            "dry_run",
            "allow_plain_http",
            "app_group_ids",
            "nonsense",
        ];
        for place in places {
            for value in
                [format!("\"{PLANTED}\""), format!("[\"{PLANTED}\"]"), format!("{{ x = \"{PLANTED}\" }}")]
            {
                if place == "app_group_ids" && value.starts_with('[') {
                    continue;
                }
                let shown = everything_shown(&format!("[connections.acme]\n{place} = {value}\n"), &[]);
                assert!(!shown.contains(PLANTED), "{place} = {value}: {shown}");
            }
        }
        for variable in ["API_KEY", "SITE", "DRY_RUN", "NONSENSE", PLANTED] {
            let env = [(format!("BRAZE_DATADOG__CONNECTIONS__ACME__{variable}"), PLANTED.to_owned())];
            let shown = everything_shown(LEAST, &env);
            assert!(!shown.contains(PLANTED), "{variable}: {shown}");
        }
    }

    /// Every key of the schema, with a key of Datadog in it: no message repeats it.
    #[test]
    fn no_message_repeats_a_key_whatever_it_was_written_under() {
        fn visit(schema: &serde_json::Value, key: &str, keys: &mut Vec<String>) {
            let is_section = schema::is_one(schema, "object");
            for name in schema::names(schema) {
                let below = schema::below(schema, name).unwrap();
                visit(below, &schema::join(key, if name == "NAME" { "acme" } else { name }), keys);
            }
            if !is_section {
                keys.push(key.to_owned());
            }
        }
        let mut keys = Vec::new();
        visit(&Config::schema(), "", &mut keys);
        assert!(keys.len() >= 40, "{keys:?}");
        for key in keys {
            for text in [format!("{key} = \"{PLANTED}\""), format!("{key} = [\"{PLANTED}\", \"{PLANTED}\"]")]
            {
                let shown = match parse_with(&text, &[]) {
                    Ok((_, warnings)) => warnings.concat(),
                    Err(errors) => errors.concat(),
                };
                assert!(!shown.contains(PLANTED), "{text}: {shown}");
            }
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        for text in
            ["a = ".to_owned() + &"[".repeat(100_000), "a.".repeat(100_000) + "a = 1", "[".repeat(100_000)]
        {
            assert!(!errors(&text).is_empty());
        }
    }

    proptest! {
        /// Any text and any environment is read or refused; nothing panics.
        #[test]
        fn any_text_is_read_or_refused(
            text in "\\PC{0,200}|([a-z_]{1,9}(\\.[a-z]{1,5})? = (\"[0-9a-z]{0,5}\"|[0-9]{1,22}|\\[\\]|true)\n|\\[[a-z.]{1,12}\\]\n){0,9}",
            name in "[A-Za-z_.*]{0,20}",
            value in "\\PC{0,10}",
        ) {
            let _ = everything_shown(&text, &[(format!("BRAZE_DATADOG__{name}"), value)]);
        }

        /// Whatever slip happens to a file, the key in it is shown nowhere.
        #[test]
        fn no_slip_shows_a_key(at in 0_usize..1000, with in "[\\PC\n]{0,2}", cut in 0_usize..3) {
            let mut letters: Vec<char> = planted().chars().collect();
            let at = at % letters.len();
            letters.splice(at..(at + cut).min(letters.len()), with.chars());
            let text: String = letters.into_iter().collect();
            let shown = everything_shown(&text, &[]);
            prop_assert!(!shown.contains(PLANTED), "{}\n{}", text, shown);
        }
    }
}
