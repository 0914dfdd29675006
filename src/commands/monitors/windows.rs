//! The windows of monitors: what is given or usual, and whether what is watched can be seen in them.

use std::time::Duration;

use super::arguments::MonitorsArguments;
use crate::app::{Failure, print_stderr};
use crate::config::Config;
use crate::connection::Connection;
use crate::monitors::window::{AlertWindow, WindowError};
use crate::monitors::{Condition, LATENESS, Monitor};

/// The window of a monitor over sends.
pub(super) fn window(arguments: &MonitorsArguments, condition: &Condition) -> Result<AlertWindow, Failure> {
    let given = arguments.window.as_deref();
    match condition {
        Condition::FewerThan(_) => read("--window", given.unwrap_or("1w"), AlertWindow::of_threshold),
        Condition::MoreThan(_) => read("--window", given.unwrap_or("1h"), AlertWindow::of_threshold),
        Condition::Rise { .. } | Condition::Growth { .. } => {
            read("--window", given.unwrap_or("1h"), AlertWindow::of_change)
        }
    }
}

/// Reads the time that an option has.
pub(super) fn read(
    option: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<AlertWindow, WindowError>,
) -> Result<AlertWindow, Failure> {
    parse(text).map_err(|error| Failure::failed(format!("{option} {text:?} {error}")))
}

/// The time of three flushes, in whole minutes, and not less than `least` of them.
pub(super) fn flushes(configured: Option<&(Config, Connection)>, least: u64) -> String {
    format!("{}m", three_flushes(configured).div_ceil(60).max(least))
}

/// The time of three flushes in seconds; without a configuration nothing is known of it.
fn three_flushes(configured: Option<&(Config, Connection)>) -> u64 {
    configured.map_or(0, |(config, _)| 3 * config.aggregate.flush_interval.as_secs())
}

/// Says so of a window over the forwarder's own points that may have none between two flushes.
pub(super) fn note_window_of_own(window: AlertWindow, configured: Option<&(Config, Connection)>) {
    let flushes = three_flushes(configured);
    if window.seconds() < flushes {
        print_stderr(&format!(
            "note: --window is shorter than three flushes ({flushes}s): between two of them there may be no point in it, so that \
             the monitor recovers, or has no data, time and again"
        ));
    }
}

/// Says so of a window over sends in which they can't all be seen.
pub(super) fn note_window(monitor: &Monitor, interval: Duration) {
    let (option, flushes) =
        (if monitor.due.is_some() { "--since" } else { "--window" }, 2 * interval.as_secs());
    if monitor.window.seconds() < flushes {
        print_stderr(&format!(
            "note: {option} is shorter than two flushes ({flushes}s): sends have the time at which their flush.interval began, \
             and leave when it is over, so that a part of them is seen, or none"
        ));
    } else if !monitor.is_about_silence() && monitor.window.seconds() < LATENESS {
        print_stderr(&format!(
            "note: --window is shorter than Braze may be late with the events of a quiet workspace ({} minutes): what comes later \
             than the window is long is never seen",
            LATENESS / 60
        ));
    }
}
