//! What was sent when, by campaign, Canvas and Canvas step, kept over restarts in one file.
//!
//! [`SendHistory`] has a thread of its own that writes; the flush hands over a [`FlushedSends`] and later its outcome, and
//! waits for nothing. [`SendHistory::find`] and [`SendHistory::days`] read the written history.
//!
//! ```
//! use send_history::{ObjectFields, ObjectKind, SendHistory, HistorySettings, TimeRange};
//!
//! let directory = tempfile::tempdir()?;
//! let settings = HistorySettings::new(directory.path().to_owned());
//! let history = SendHistory::start(&settings, || 1_800_000_000)?;
//!
//! let mut flushed = FlushedSends::new(vec!["acme".into()]);
//! let newsletter = ObjectFields { id: b"8a3f", name: b"Weekly newsletter", ..ObjectFields::of(ObjectKind::Campaign) };
//! flushed.series([newsletter], [(1_799_999_990, 3)]);
//! # use send_history::FlushedSends;
//! let flushed = history.note(flushed).unwrap();
//! history.land(&flushed, vec![0], Some("timeout"), 0, 0);
//! assert!(history.stop(std::time::Duration::from_secs(60)));
//!
//! let again = SendHistory::start(&settings, || 1_800_000_000)?;
//! assert!(again.is_open_within(std::time::Duration::from_secs(60)));
//! let (number, newsletter) = again.find(|object| object.name.contains("newsletter")).remove(0);
//! assert_eq!(newsletter.last_send, 1_799_999_990);
//! let range = TimeRange::new("2027-01-15", "2027-01-15", "Europe/Paris").unwrap();
//! let days = again.days(&[number], &range)?.remove(0);
//! assert_eq!((days[0].day.as_str(), days[0].sends.counted, days[0].sends.dropped["timeout"]), ("2027-01-15", 3, 3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod changes;
mod clock;
mod directory;
mod flushed;
mod history;
mod keeper;
mod row;
mod store;
mod time_range;

use std::path::PathBuf;

pub use self::clock::CLOCK_SET;
pub use self::directory::{ObjectKind, SentObject};
pub use self::flushed::{FlushedSends, ObjectFields};
pub use self::history::{HistoryState, SendHistory};
pub use self::row::FateCounts;

/// The outcome of sends that were printed, and sent to nobody, in the place of a reason.
pub const PRINTED: &str = row::PRINTED;
pub use self::store::ReadError;
pub use self::time_range::{DaySends, RangeError, TimeRange};

/// How the history is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistorySettings {
    /// Where its file is.
    pub directory: PathBuf,
    /// Bytes that the file may have; the oldest days are removed before it has more.
    pub size_max: u64,
    /// How many days are kept.
    pub days_max: u32,
}

impl HistorySettings {
    /// 256 MiB and 400 days, which are thirteen months.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, size_max: 256 << 20, days_max: 400 }
    }
}

/// Seconds of a time slot: every time zone's day begins with such a quarter of an hour.
const QUARTER: u32 = 900;
const QUARTERS_A_DAY: u32 = 96;
const DAY: u32 = QUARTER * QUARTERS_A_DAY;
