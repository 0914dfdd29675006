//! The windows of monitors, within Datadog's limits.
//!
//! Sources: Datadog's API reference, "Create a monitor", for the syntax (`last_#m` with 1 to 10080, `last_#h` with 1 to 168,
//! `last_1d`, `last_1w`; 2880 and 48 for a change), and "Configure Monitors" and "Change Alert Monitor" for the month
//! (`last_1mo`) and for how far back a change can compare.

use std::fmt;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
/// Datadog's month has 730 hours.
const MONTH: u64 = 730 * HOUR;

/// The longest window of a monitor on a change.
const CHANGE_WINDOW_MAX: u64 = 2 * DAY;

/// The times that a change can be compared with.
const BEFORE: [u64; 9] =
    [5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, DAY, WEEK];

/// Units as written, longest name first.
const UNITS: [(&str, u64); 6] =
    [("mo", MONTH), ("w", WEEK), ("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)];

/// A window that Datadog takes. `Display` writes it as a query has it: `last_1w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertWindow {
    seconds: u64,
}

/// Why a text is not a window. It completes a sentence that begins with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It is no window.
    #[error("is not a time, which is a whole number with a unit: 15m, 4h, 1d, 1w, 1mo")]
    NotATime,
    /// Datadog does not take it.
    #[error("is no time that Datadog takes for {what}; the nearest that it takes is {nearest}")]
    Refused {
        /// The use it was meant for.
        what: &'static str,
        /// The nearest window, as the user would write it.
        nearest: String,
    },
}

impl AlertWindow {
    /// The window of a monitor that compares with a fixed number: 1 minute to 1 week in whole minutes, or 1 month.
    ///
    /// # Errors
    /// For anything else; the message says what is nearest.
    pub fn of_threshold(text: &str) -> Result<Self, WindowError> {
        let seconds = seconds(text)?;
        let whole = seconds.clamp(MINUTE, WEEK) / MINUTE * MINUTE;
        let nearest = if seconds > WEEK.midpoint(MONTH) { MONTH } else { whole };
        Self::taken(seconds, nearest, "the window of a monitor")
    }

    /// The window of a monitor on a change: 1 minute to 2 days in whole minutes.
    ///
    /// # Errors
    /// As [`AlertWindow::of_threshold`].
    pub fn of_change(text: &str) -> Result<Self, WindowError> {
        let seconds = seconds(text)?;
        let nearest = seconds.clamp(MINUTE, CHANGE_WINDOW_MAX) / MINUTE * MINUTE;
        Self::taken(seconds, nearest, "the window of a monitor on a change")
    }

    /// How long before the window to compare with lies: 5, 10, 15, 30 minutes, 1, 2, 4 hours, 1 day or 1 week.
    ///
    /// # Errors
    /// As [`AlertWindow::of_threshold`].
    pub fn before(text: &str) -> Result<Self, WindowError> {
        let seconds = seconds(text)?;
        let nearest = BEFORE.into_iter().min_by_key(|before| before.abs_diff(seconds)).unwrap_or(DAY);
        Self::taken(seconds, nearest, "what a change is compared with")
    }

    /// The longest window within this many seconds: a minute at least, and a week at most, because Datadog's month is longer
    /// than February.
    pub fn at_most(seconds: u64) -> Self {
        Self { seconds: seconds.clamp(MINUTE, WEEK) / MINUTE * MINUTE }
    }

    /// How long it is.
    pub const fn seconds(self) -> u64 {
        self.seconds
    }

    /// In words: `week`, `4 hours`.
    pub fn phrase(self) -> String {
        let (number, unit) = self.parts();
        let unit = match unit {
            "mo" => "month",
            "w" => "week",
            "d" => "day",
            "h" => "hour",
            _ => "minute",
        };
        if number == 1 { unit.to_owned() } else { format!("{number} {unit}s") }
    }

    fn taken(seconds: u64, nearest: u64, what: &'static str) -> Result<Self, WindowError> {
        if seconds == nearest {
            return Ok(Self { seconds });
        }
        let nearest = Self { seconds: nearest }.short();
        Err(WindowError::Refused { what, nearest })
    }

    /// For the command line: `1w`, `4h`.
    pub fn short(self) -> String {
        let (number, unit) = self.parts();
        format!("{number}{unit}")
    }

    /// A number and a unit of Datadog's reference: of days, weeks and months only one is allowed.
    const fn parts(self) -> (u64, &'static str) {
        match self.seconds {
            MONTH => (1, "mo"),
            WEEK => (1, "w"),
            DAY => (1, "d"),
            seconds if seconds.is_multiple_of(HOUR) => (seconds / HOUR, "h"),
            seconds => (seconds / MINUTE, "m"),
        }
    }
}

/// As in a query.
impl fmt::Display for AlertWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last_{}", self.short())
    }
}

/// The seconds in a text: `30m`, `2h`.
///
/// # Errors
/// If it is no time.
pub fn seconds(text: &str) -> Result<u64, WindowError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(WindowError::NotATime)?;
    let number: u64 = number.parse().map_err(|_| WindowError::NotATime)?;
    // A number that is too large is too long for Datadog, too.
    Ok(number.saturating_mul(*seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_is_written_as_datadogs_reference_has_it() {
        for (text, query, words) in [
            ("1w", "last_1w", "week"),
            ("7d", "last_1w", "week"),
            ("24h", "last_1d", "day"),
            ("2d", "last_48h", "48 hours"),
            ("6d", "last_144h", "144 hours"),
            ("90m", "last_90m", "90 minutes"),
            ("60m", "last_1h", "hour"),
            ("120s", "last_2m", "2 minutes"),
            ("1mo", "last_1mo", "month"),
        ] {
            let window = AlertWindow::of_threshold(text).unwrap();
            assert_eq!((window.to_string(), window.phrase()), (query.to_owned(), words.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_datadog_refuses_is_refused_with_the_nearest_that_it_takes() {
        let nearest = |result: Result<AlertWindow, WindowError>| match result {
            Err(WindowError::Refused { nearest, .. }) => nearest,
            other => format!("{other:?}"),
        };
        for (text, expected) in [
            ("0m", "1m"),
            ("10s", "1m"),
            ("90s", "1m"),
            ("8d", "1w"),
            ("2w", "1w"),
            ("4w", "1mo"),
            ("1000000mo", "1mo"),
        ] {
            assert_eq!(nearest(AlertWindow::of_threshold(text)), expected, "{text}");
        }
        for (text, expected) in [("3d", "48h"), ("1w", "48h"), ("30s", "1m")] {
            assert_eq!(nearest(AlertWindow::of_change(text)), expected, "{text}");
        }
        for (text, expected) in [("1m", "5m"), ("2d", "1d"), ("5d", "1w"), ("3h", "2h"), ("1mo", "1w")] {
            assert_eq!(nearest(AlertWindow::before(text)), expected, "{text}");
        }
        let error = AlertWindow::of_threshold("2w").unwrap_err().to_string();
        assert_eq!(
            error,
            "is no time that Datadog takes for the window of a monitor; the nearest that it takes is 1w"
        );
        for text in ["", "week", "1", "1.5h", "-1h", "1 w", "1y", "99999999999999999999h"] {
            assert_eq!(AlertWindow::of_threshold(text), Err(WindowError::NotATime), "{text:?}");
        }
    }

    proptest! {
        /// What is suggested is taken.
        #[test]
        fn the_nearest_is_taken(number in any::<u64>(), unit in "(s|m|h|d|w|mo)") {
            let text = format!("{number}{unit}");
            for read in [AlertWindow::of_threshold, AlertWindow::of_change, AlertWindow::before] {
                if let Err(WindowError::Refused { nearest, .. }) = read(&text) {
                    prop_assert!(read(&nearest).is_ok(), "{} {}", text, nearest);
                }
            }
        }
    }
}
