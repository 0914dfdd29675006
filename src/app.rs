//! The composition: the only place that names the concrete parts, connects them, and takes them down. What the other
//! commands share with the running forwarder is here, too.

pub(crate) mod arguments;
mod attend;
mod file_watch;
pub(crate) mod keys;
#[cfg(any(test, not(all(feature = "kafka", feature = "storage", feature = "top", feature = "generate"))))]
pub(crate) mod left_out;
mod progress;
mod queue_watch;
pub(crate) mod queues;
pub(crate) mod reconcile;
mod reload;
pub(crate) mod serve;
mod views;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::config::{Config, LogFormat, Warning};
use crate::connection::{Connection, ConnectionSet, RefusedConnection};
use crate::telemetry;
use datadog_points::client::{HttpError, Network};

/// The run failed.
pub(crate) const FAILED: u8 = 1;
/// The run ended well, and sends were dropped.
const DROPPED: u8 = 3;
/// The configuration is wrong. Source: `EX_CONFIG` of `sysexits.h`.
pub(crate) const WRONG_CONFIGURATION: u8 = 78;

/// How many names a message lists.
const NAMES_MAX: usize = 20;

/// The user agent of all requests.
pub(crate) const USER_AGENT: &str = concat!("braze-datadog/", env!("CARGO_PKG_VERSION"));

/// How long writing a message to standard error may take.
const COMPLAINT_LIMIT: Duration = Duration::from_secs(1);

/// How long the system may take to clear away threads that have ended.
const CLEARED_LIMIT: Duration = Duration::from_millis(500);

/// Why the program ends without success: its message, and its exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    pub(crate) message: String,
}

/// How an error ends with which Linux refuses a thread (EAGAIN). It refuses nothing else of ours with it.
const NO_THREAD: &str = "(os error 11)";

impl Failure {
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        let mut message = message.to_string();
        if message.ends_with(NO_THREAD) {
            if message == std::io::Error::from_raw_os_error(11).to_string() {
                message.insert_str(0, "can't start a thread: ");
            }
            message.push_str(
                "; raise the limit of threads (TasksMax= in the unit, pids of the container, ulimit -u)",
            );
        }
        Self { status: FAILED, message }
    }

    pub(crate) fn configuration(message: impl std::fmt::Display) -> Self {
        Self { status: WRONG_CONFIGURATION, message: message.to_string() }
    }
}

/// Reads the configuration; with it come its warnings.
pub(crate) fn load(path: &Path) -> Result<(Config, Vec<Warning>), Failure> {
    Config::load(path).map_err(Failure::configuration)
}

/// Names for a message, shortened to a readable number.
pub(crate) fn names<'n>(all: impl Iterator<Item = &'n str>) -> String {
    let all: Vec<&str> = all.collect();
    match all.len().checked_sub(NAMES_MAX) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..NAMES_MAX].join(", ")),
    }
}

/// The network settings that all requests to Datadog share.
pub(crate) fn network(connections: &[Connection]) -> Result<Network, Failure> {
    let uses_tls =
        |connection: &Connection| !connection.dry_run && connection.site.base_url.starts_with("https:");
    Network::start(USER_AGENT, connections.iter().any(uses_tls)).map_err(|error| match error {
        HttpError::Proxy(error) => Failure::configuration(error),
        error => Failure::failed(error),
    })
}

/// A runtime with so many threads for sockets and timers.
pub(crate) fn runtime(workers: usize) -> Result<Runtime, Failure> {
    ensure_threads(workers)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all().build().map_err(Failure::failed)
}

/// A runtime of this thread, for a command that asks a few questions.
pub(crate) fn local_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)
}

/// Whether the system gives so many threads at once: where it does not, tokio's runtime would panic.
fn ensure_threads(threads: usize) -> Result<(), Failure> {
    let gate = Mutex::new(());
    let before = running_threads();
    let started: std::io::Result<()> = thread::scope(|scope| {
        let _closed = gate.lock();
        (0..threads).try_for_each(|_| {
            thread::Builder::new().spawn_scoped(scope, || drop(gate.lock()))?;
            Ok(())
        })
    });
    started.map_err(|error| Failure::failed(format!("can't start {threads} threads: {error}")))?;
    // One that has ended counts until the system has cleared it away.
    let ended = Instant::now();
    while running_threads() > before && ended.elapsed() < CLEARED_LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The threads of this process; none where the system does not say.
fn running_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Writes a line to standard output.
pub(crate) fn print_line(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Writes a message to standard error, which may not be read.
pub(crate) fn print_stderr(message: &str) {
    let line = format!("braze-datadog: {message}\n");
    // A closed standard error leaves nobody to report to.
    let _closed = telemetry::write_within(COMPLAINT_LIMIT, &line, |line| {
        std::io::stderr().lock().write_all(line.as_bytes())
    });
}

/// Starts logging as the configuration says.
fn start_logging(config: &Config) -> Result<telemetry::LogLevel, Failure> {
    let json = match config.log.format {
        LogFormat::Auto => None,
        LogFormat::Text => Some(false),
        LogFormat::Json => Some(true),
    };
    telemetry::start(config.log.level, json).map_err(Failure::failed)
}

/// Logs which connections are left out, and why.
fn log_refused(connections: &ConnectionSet) {
    for RefusedConnection { name: connection, app_group_ids, reason, keeps_old, .. } in &connections.refused {
        if *keeps_old {
            // They are given to nobody until it is right.
            let dropped =
                connections.served_by_nobody(connection, app_group_ids.as_deref().unwrap_or_default());
            let dropped_app_groups = (!dropped.is_empty()).then(|| names(dropped.into_iter()));
            tracing::error!(
                %connection,
                %reason,
                dropped_app_groups,
                "the connection's new configuration was refused; its old one stays in force"
            );
        } else {
            let app_groups = match app_group_ids.as_deref() {
                None => "unknown: every one that no connection names".to_owned(),
                Some([]) => "every one that no connection names".to_owned(),
                Some(ids) => names(ids.iter().map(|id| &**id)),
            };
            tracing::error!(
                %connection,
                %reason,
                %app_groups,
                "the connection is left out, and sends of its app groups are dropped: put its configuration right"
            );
        }
    }
}

/// Logs warnings on the configuration.
fn warn(path: &Path, warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!(file = %path.display(), "configuration: {warning}");
    }
}
