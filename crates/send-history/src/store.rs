//! The tables of the history in its [file](redb_file).
//!
//! redb verifies the checksum of every page when the file is opened, but not when a page is read later: so each row and each
//! object has a checksum of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use redb_file::{FileFault, RedbFile, RedbKind, pack, unpack};

use crate::changes::RowChanges;
use crate::clock::{BelievedDay, day_of, plausible_since};
use crate::directory::{ObjectDirectory, SentObject};
use crate::row::{FateCounts, Row, RowKey};
use crate::time_range::{DaySends, TimeRange};
use crate::{DAY, HistorySettings};

const KIND: RedbKind = RedbKind {
    name: "sends",
    format: 1,
    // Next to none in tests, so that reads come from the disk.
    cache_bytes: if cfg!(test) { 16 << 10 } else { 8 << 20 },
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const OBJECTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("objects");
const ROWS: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new("rows");

/// Since when history is kept, in Unix seconds.
const SINCE: &str = "since";
/// How many times it was written.
const TURN: &str = "turn";
/// The day (UTC, since 1970) by which it ages; earlier versions wrote none.
const BELIEVED_DAY: &str = "believed_day";
/// The Unix second to which the clock has leapt ahead of it; there is none while it is believed.
const LEAP_TIME: &str = "leap_time";

/// Explains a fault of the file.
pub(crate) fn explain(fault: &FileFault) -> String {
    match fault {
        FileFault::Locked => "another process keeps its history there; this one goes on without".to_owned(),
        FileFault::Newer { .. } => format!(
            "{fault}; this one reads format {}. Run the newer version, or move the file away",
            KIND.format
        ),
        FileFault::Failed(_) | FileFault::Damaged(_) => fault.to_string(),
    }
}

/// Why the history can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub(crate) String);

/// The open file.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) file: Arc<RedbFile>,
    /// How many times it was written.
    pub(crate) turn: u64,
    /// Since when history is kept, in Unix seconds.
    pub(crate) since: u64,
    /// By which it ages.
    pub(crate) believed: BelievedDay,
    /// Bytes of rows and objects that were written since the last [trim](Self::trim).
    pub(crate) written: u64,
}

/// What a file says of itself.
struct StoredMarks {
    since: u64,
    turn: u64,
    believed: BelievedDay,
}

/// The objects of a file.
#[derive(Debug)]
pub(crate) struct StoredObjects {
    pub(crate) all: Vec<(u32, SentObject)>,
    /// The first number that neither an object nor a row has.
    pub(crate) next: u32,
}

/// The file of a directory.
pub(crate) fn path(directory: &Path) -> PathBuf {
    KIND.path(directory)
}

/// Where a damaged file is set aside; there is one at most.
pub(crate) fn damaged_path(directory: &Path) -> PathBuf {
    KIND.path(directory).with_extension("redb.damaged")
}

impl Store {
    /// Opens the file, which is verified whole, or begins one at the Unix second `now`.
    pub(crate) fn open(settings: &HistorySettings, now: u64) -> Result<(Self, StoredObjects), FileFault> {
        let file = RedbFile::open(&settings.directory, &KIND)?;
        let (marks, objects) = file.write(|write| Ok((read_all(write, now)?, true)))?;
        let StoredMarks { since, turn, believed } = marks;
        Ok((Self { file: Arc::new(file), turn, since, believed, written: 0 }, objects))
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(self.file.path()).map_or(0, |file| file.len())
    }

    /// Adds the changes, in one commit.
    pub(crate) fn write(
        &mut self,
        changes: &RowChanges,
        directory: &ObjectDirectory,
    ) -> Result<(), FileFault> {
        let written = self.file.write(|write| {
            let mut written = 0;
            let mut rows = write.open_table(ROWS)?;
            for (key, change) in &changes.rows {
                let mut sends = match rows.get(key)? {
                    Some(packed) => unpacked(*key, packed.value())?,
                    None => Row::default(),
                };
                sends.add(change);
                let packed = sends.pack(*key).ok_or_else(unpackable)?;
                written += packed.len() as u64;
                rows.insert(key, packed.as_slice())?;
            }
            let mut objects = write.open_table(OBJECTS)?;
            for number in &changes.objects {
                if let Some(object) = directory.get(*number) {
                    let packed = pack(&[&number.to_le_bytes()], object).map_err(|_| unpackable())?;
                    written += packed.len() as u64;
                    objects.insert(number, packed.as_slice())?;
                }
            }
            write.open_table(META)?.insert(TURN, self.turn + 1)?;
            Ok((written, true))
        })?;
        self.turn += 1;
        self.written += written;
        Ok(())
    }

    /// Bytes of the file that are in use.
    pub(crate) fn used(&self) -> Result<u64, FileFault> {
        self.file.write(|write| {
            let stats = write.stats()?;
            Ok((stats.allocated_pages() * stats.page_size() as u64, false))
        })
    }

    /// Whether since when history is kept may have to be put right.
    pub(crate) fn doubts_since(&self, now: u64) -> bool {
        // As if there were rows of all days.
        plausible_since(self.since, Some(0), now) != self.since
    }

    /// Puts right since when history is kept.
    pub(crate) fn correct_since(&mut self, now: u64) -> Result<(), FileFault> {
        if !self.doubts_since(now) {
            return Ok(());
        }
        let known = self.since;
        self.since = self.file.write(|write| {
            let since = plausible_since(known, first_day(&write.open_table(ROWS)?)?, now);
            if since != known {
                write.open_table(META)?.insert(SINCE, since)?;
            }
            Ok((since, since != known))
        })?;
        Ok(())
    }

    /// Removes the days before `before` (UTC, since 1970), and then the oldest until `excess` bytes are removed. `now` is the
    /// present Unix second. Returns the first day that stays.
    pub(crate) fn trim(
        &mut self,
        now: u64,
        before: u32,
        excess: u64,
        gone: &[u32],
    ) -> Result<u32, FileFault> {
        let (first, since) = self.file.write(|write| {
            let mut first = before;
            let mut rows = write.open_table(ROWS)?;
            let mut removed = 0;
            while removed < excess {
                let Some(oldest) =
                    rows.range((first, 0)..)?.next().transpose()?.map(|(key, _)| key.value().0)
                else {
                    break;
                };
                for row in rows.range((oldest, 0)..(oldest + 1, 0))? {
                    removed += 8 + row?.1.value().len() as u64;
                }
                first = oldest + 1;
            }
            rows.retain_in(..(first, 0), |_, _| false)?;
            let mut objects = write.open_table(OBJECTS)?;
            for number in gone {
                objects.remove(number)?;
            }
            // Of today, too, nothing may be left.
            let now = now.max(u64::from(self.believed.day) * u64::from(DAY));
            let since = self.since.max(now.min(u64::from(first) * u64::from(DAY)));
            let mut meta = write.open_table(META)?;
            meta.insert(SINCE, since)?;
            meta.insert(BELIEVED_DAY, u64::from(self.believed.day))?;
            match self.believed.leap_time() {
                Some(time) => meta.insert(LEAP_TIME, time)?,
                None => meta.remove(LEAP_TIME)?,
            };
            Ok(((first, since), true))
        })?;
        self.since = since;
        self.written = 0;
        Ok(first)
    }
}

/// The days with sends of each object.
pub(crate) fn days(
    file: &RedbFile,
    numbers: &[u32],
    range: &TimeRange,
) -> Result<Vec<Vec<DaySends>>, FileFault> {
    file.read(|read| {
        let rows = read.open_table(ROWS)?;
        let of = |number: &u32| {
            let mut days: BTreeMap<usize, FateCounts> = BTreeMap::new();
            for day in range.utc_days() {
                let key = (day, *number);
                if let Some(packed) = rows.get(key)? {
                    range.add(&mut days, day, &unpacked(key, packed.value())?);
                }
            }
            Ok(range.day_sends(days))
        };
        numbers.iter().map(of).collect()
    })
}

fn read_all(write: &WriteTransaction, now: u64) -> Result<(StoredMarks, StoredObjects), FileFault> {
    let mut meta = write.open_table(META)?;
    let rows = write.open_table(ROWS)?;
    let mark =
        |meta: &Table<'_, &str, u64>, name| Ok::<_, FileFault>(meta.get(name)?.map(|mark| mark.value()));
    let known = mark(&meta, SINCE)?;
    let since = plausible_since(known.unwrap_or(now), first_day(&rows)?, now);
    if known != Some(since) {
        meta.insert(SINCE, since)?;
    }
    let turn = mark(&meta, TURN)?.unwrap_or_default();
    let day = match mark(&meta, BELIEVED_DAY)? {
        Some(day) => u32::try_from(day).unwrap_or_default(),
        None if known.is_none() => day_of(now),
        None => 0,
    };
    let believed = BelievedDay::read(day, mark(&meta, LEAP_TIME)?, now, Instant::now());
    let mut objects = StoredObjects { all: Vec::new(), next: 0 };
    for row in rows.iter()? {
        let (key, packed) = row?;
        unpacked(key.value(), packed.value())?;
        objects.next = objects.next.max(key.value().1.saturating_add(1));
    }
    for object in write.open_table(OBJECTS)?.iter()? {
        let (number, packed) = object?;
        let number = number.value();
        let object = unpack(&[&number.to_le_bytes()], packed.value());
        objects.all.push((number, object.ok_or_else(|| FileFault::Damaged(format!("object {number}")))?));
        objects.next = objects.next.max(number.saturating_add(1));
    }
    Ok((StoredMarks { since, turn, believed }, objects))
}

/// The first day of which there are rows.
fn first_day(rows: &impl ReadableTable<RowKey, &'static [u8]>) -> Result<Option<u32>, FileFault> {
    Ok(rows.first()?.map(|(key, _)| key.value().0))
}

fn unpacked(key: RowKey, packed: &[u8]) -> Result<Row, FileFault> {
    let wrong = || FileFault::Damaged(format!("the sends of object {} on day {}", key.1, key.0));
    Row::unpack(key, packed).ok_or_else(wrong)
}

fn unpackable() -> FileFault {
    FileFault::Failed("no memory for a row".to_owned())
}
