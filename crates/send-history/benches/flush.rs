//! The cost of a flush of 100,000 series: for the flush thread, and for the thread of the history.
//!
//! `cargo bench -p send-history`

use std::io::{self, Error, Write as _};
use std::time::{Duration, Instant};

use send_history::{FlushedSends, HistorySettings, ObjectFields, ObjectKind, SendHistory};

const NOW: u32 = 1_774_742_400;
const SERIES: usize = 100_000;
const LONG: Duration = Duration::from_mins(1);

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for objects in [2_000, SERIES] {
        let names: Vec<String> = (0..objects).map(|n| format!("5f3e8f0a-1234-4cde-9abc-{n:012}")).collect();
        let directory = tempfile::tempdir()?;
        let settings = HistorySettings::new(directory.path().to_owned());
        let history = SendHistory::start(&settings, || u64::from(NOW))?;
        if !history.is_open_within(LONG) {
            return Err(Error::other("the history can't be opened"));
        }
        let started = Instant::now();
        let mut flushed = FlushedSends::new(vec!["acme".into()]);
        for id in names.iter().cycle().take(SERIES) {
            let name = b"A name of a campaign as they are";
            let campaign = ObjectFields { id: id.as_bytes(), name, ..ObjectFields::of(ObjectKind::Campaign) };
            flushed.series([campaign], [(NOW, 7)]);
        }
        let filled = started.elapsed();
        let flushed = history.note(flushed).ok_or_else(|| Error::other("the flush was left out"))?;
        let series = (0..).take(SERIES).collect();
        history.land(&flushed, series, None, 0, 0);
        let started = Instant::now();
        if !history.stop(LONG) {
            return Err(Error::other("the history is not written within a minute"));
        }
        writeln!(
            out,
            "{objects} objects: {filled:?} of the flush thread, {:?} of the history's thread with its commit",
            started.elapsed()
        )?;
    }
    Ok(())
}
