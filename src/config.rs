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

mod admin_listen;
mod api_key;
mod check;
mod claims;
mod connections;
mod describe;
mod diagnostic;
mod directory;
mod files;
mod lanes;
mod memory;
mod options;
mod receiving;
mod reconcile;
mod schema;
mod settings;
mod sources;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::check::Check;
use self::diagnostic::Diagnostics;
use self::settings::Settings;
use crate::connection::{Connection, ConnectionSet};
use crate::reconcile::ReconcileSettings;
use crate::{admin, push};
use event_queues::Secret;
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
    /// What the settings that follow the machine were made from.
    machine: lanes::Machine,
    /// The text that it was read from, in which keys may stand.
    text: Secret,
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
        let (text, env) = read(path)?;
        Self::parse(&text, path, &env)
    }

    /// The same for a process that was started with this configuration, and in which these connections are in force: another
    /// one that claims an app group of theirs is wrong.
    ///
    /// # Errors
    /// As [`Config::load`]; with every connection wrong, only where none of these is among them, for its old form goes on.
    pub fn load_over(
        &self,
        path: &Path,
        in_force: &[Connection],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (text, env) = read(path)?;
        let purpose = Purpose { in_force, machine: self.machine, ..Purpose::default() };
        Self::parse_over(&text, path, &env, purpose)
    }

    /// Reads the files that this configuration names once more, and not its own, which may be half written. Those of the
    /// push port are left to who uses them: a mistake in one of them is none in the configuration.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_named_over(
        &self,
        path: &Path,
        in_force: &[Connection],
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let purpose =
            Purpose { in_force, leaves_push_files: true, machine: self.machine, ..Purpose::default() };
        Self::parse_over(self.text.expose(), path, &environment()?, purpose)
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

    /// Where the admin port of a process that was started with this configuration is, whatever else is wrong with it by now;
    /// the default where it does not say so any more.
    ///
    /// # Errors
    /// When an environment variable can't be read, or the file, if no variable says where the port is; and when it can't be
    /// told for the file's syntax.
    pub fn admin_listen(path: &Path) -> Result<SocketAddr, ConfigError> {
        admin_listen::read(path)
    }

    /// Whether there should be a configuration: one that somebody has named, the default file, or variables in its place.
    pub fn is_expected(path: &Path) -> bool {
        path != Path::new(DEFAULT_PATH)
            || path.symlink_metadata().is_ok()
            || environment().is_ok_and(|env| sources::has_connection(&env))
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

        let mut merged = sources::file(&mut diagnostics, text, &origin, &schema);
        let written = directory::written(&mut diagnostics, &merged, env, &schema);
        let directory = written.as_ref().map(|written| base.join(written));
        let unread = written
            .as_deref()
            .zip(directory.as_deref())
            .map(|named| directory::read(&mut diagnostics, named, purpose.candidate, &schema, &mut merged));
        sources::merge(&mut merged, sources::environment(&mut diagnostics, env, &schema));

        let Some(settings) = schema::settings(&mut diagnostics, merged, &schema) else {
            return Err(diagnostics.into_defect());
        };
        let mut check = Check::new(diagnostics, base, env, purpose);
        let mut config = check.config(settings, directory, &unread.unwrap_or_default());
        config.text = Secret::new(text);
        let only_connections = config.wrong.len() == check.diagnostics.errors().len();
        if only_connections && (purpose.is_to_edit || config.connections.goes_on(purpose.in_force)) {
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

    /// The connection that is told of the forwarder itself, right or wrong; empty: none.
    pub fn forwarder_metrics_connection(&self) -> &str {
        &self.settings.forwarder_metrics.connection
    }

    /// Keeps the old form of each connection that is refused now. Who tells of the forwarder itself is no part of that form: a
    /// section of its own says so, which is right.
    pub fn keep_old(&mut self, old: &ConnectionSet) {
        self.connections.keep_old(old);
        let own = &self.settings.forwarder_metrics;
        self.connections.set_forwarder_metrics(&own.connection, own.campaign_last_send_age);
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

/// A file of the connections directory that does not exist yet, or in the place of the one that does.
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
    /// Whether nobody asks if the files of the push port can be used.
    leaves_push_files: bool,
    candidate: Option<Candidate<'c>>,
    machine: lanes::Machine,
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
pub(super) mod tests;
