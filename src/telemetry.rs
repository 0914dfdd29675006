//! Logs: text on a terminal, JSON otherwise, always on standard error. Logging never waits for the reader: without one,
//! lines are lost, and counted.

mod output;

use std::any::Any;
use std::io::{self, IsTerminal};
use std::{panic, thread};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::output::{ErrorOutput, LogLines};
pub use self::output::{PrintError, Printer, draw, flush, lost_lines, wipe, write_within};

/// Our crates that log, by target. Other libraries log nothing useful above WARN, and at lower levels data that must not be
/// in a log.
const TARGETS: [&str; 6] =
    ["braze_datadog", "datadog_points", "event_queues", "http_listener", "segment_log", "send_history"];

/// Changes the level of a running process.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// Starts logging at `level`, or as `RUST_LOG` says. `json`: `None` decides by where standard error goes.
///
/// # Errors
/// When a logger is installed already, or the system gives no thread for it.
pub fn start(level: Level, json: Option<bool>) -> Result<LogLevel, String> {
    ErrorOutput::start()?;
    let (filter, handle) = reload::Layer::new(filter(level));
    let json = json.unwrap_or_else(|| !io::stderr().is_terminal());
    let lines = if json {
        fmt::layer().json().flatten_event(true).with_writer(|| LogLines).boxed()
    } else {
        let colours = io::stderr().is_terminal();
        fmt::layer().with_target(false).with_ansi(colours).with_writer(|| LogLines).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|error| error.to_string())?;
    panic::set_hook(Box::new(|failure| {
        let place = failure.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        tracing::error!(
            place,
            thread,
            "panicked, which is a defect; please report it: {}",
            panic_message(failure.payload())
        );
    }));
    Ok(LogLevel(handle))
}

/// A panic's message up to its first quotation: quoted text may be a secret, or personal data.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    match said.find(['"', '`', '\'']) {
        Some(quote) => format!("{}…", &said[..quote]),
        None => said.to_owned(),
    }
}

impl LogLevel {
    /// Logs at `level` from here on, unless `RUST_LOG` says otherwise.
    pub fn set(&self, level: Level) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// `RUST_LOG` wins, if it can be parsed. One that gives no level to all (`reqwest=debug`; a mistyped `warning`, which is a
/// target as well) is laid over the configured level: it would silence all other errors.
fn filter(level: Level) -> EnvFilter {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    EnvFilter::try_new(directives(&wanted, level)).unwrap_or_else(|_wrong| EnvFilter::new(configured(level)))
}

fn directives(wanted: &str, level: Level) -> String {
    // A blank before a directive would make it another one.
    let all = wanted.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    let is_for_all = all.clone().any(|directive| directive.parse::<LevelFilter>().is_ok());
    let first = (!is_for_all).then(|| configured(level));
    first.iter().map(String::as_str).chain(all).collect::<Vec<_>>().join(",")
}

fn configured(level: Level) -> String {
    let level = level.as_str().to_lowercase();
    TARGETS.iter().fold("warn".to_owned(), |all, target| format!("{all},{target}={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(defect: impl FnOnce() + panic::UnwindSafe) -> String {
        let payload = panic::catch_unwind(defect).unwrap_err();
        panic_message(&*payload)
    }

    #[test]
    fn every_crate_of_ours_that_logs_is_heard() {
        let crates = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/crates")).unwrap();
        let logs = |path: &std::path::Path| {
            std::fs::read_to_string(path.join("Cargo.toml")).unwrap().contains("\ntracing")
        };
        let paths = crates.map(|entry| entry.unwrap().path()).filter(|path| logs(path));
        let mut logging: Vec<String> =
            paths.map(|path| path.file_name().unwrap().to_str().unwrap().replace('-', "_")).collect();
        logging.push("braze_datadog".to_owned());
        logging.sort_unstable();
        assert_eq!(logging, TARGETS);
        let directives = configured(Level::INFO);
        assert!(
            directives.starts_with("warn,")
                && TARGETS.iter().all(|t| directives.contains(&format!("{t}=info")))
        );
    }

    #[test]
    fn no_rust_log_silences_errors_by_mistake() {
        let info = configured(Level::INFO);
        let of = |wanted| directives(wanted, Level::INFO);
        assert_eq!((of(""), of(" , ")), (info.clone(), info.clone()));
        for (whole, level) in [
            ("error", LevelFilter::ERROR),
            ("reqwest=debug, WARN", LevelFilter::DEBUG),
            (" warn , braze_datadog=debug", LevelFilter::DEBUG),
            ("foo=error, error", LevelFilter::ERROR),
            ("off", LevelFilter::OFF),
            ("2", LevelFilter::WARN),
        ] {
            assert_eq!(of(whole), whole.replace(' ', ""));
            let filter = EnvFilter::try_new(of(whole)).unwrap();
            assert_eq!(filter.max_level_hint(), Some(level), "{whole}");
        }
        for partial in ["warning", "reqwest=debug", "braze_datadog::app=trace", "[span]=debug"] {
            assert_eq!(of(partial), format!("{info},{partial}"));
            let filter = EnvFilter::try_new(of(partial)).unwrap();
            assert!(filter.max_level_hint().is_some_and(|level| level >= LevelFilter::INFO), "{partial}");
        }
        // The later one of a target counts.
        let quiet = EnvFilter::try_new(of("braze_datadog=error")).unwrap().to_string();
        assert!(quiet.contains("braze_datadog=error") && !quiet.contains("braze_datadog=info"), "{quiet}");
    }

    #[test]
    fn a_panic_tells_its_reason_and_not_what_it_stumbled_over() {
        let secret = "é0123456789abcdef0123456789abcdef".to_owned();
        let cut = said({
            let secret = secret.clone();
            move || assert!(secret[1..].is_empty())
        });
        assert!(!cut.contains("0123") && !cut.is_empty(), "{cut}");
        let results = [Ok(()), Err(secret.clone())];
        let unwrapped = said(move || results.into_iter().for_each(Result::unwrap));
        assert!(!unwrapped.contains("0123"), "{unwrapped}");
        assert!(!said(move || assert_eq!(secret, "other")).contains("0123"));
        let numbers = [1_usize, 2, 3];
        let index = said(move || assert!(numbers[numbers.iter().sum::<usize>() - 3] > 0));
        assert_eq!(index, "index out of bounds: the len is 3 but the index is 3");
    }
}
