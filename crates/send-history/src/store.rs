//! The file: opened, verified, written and read.
//!
//! redb keeps it whole over a kill: a commit is there or it is not. It verifies the checksum of every page when the file is
//! opened, but not when a page is read later: so each row and each object has a checksum of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction};

use crate::changes::RowChanges;
use crate::directory::{ObjectDirectory, SentObject};
use crate::row::{self, FateCounts, Row, RowKey};
use crate::time_range::{DaySends, TimeRange};
use crate::{DAY, HistorySettings};

/// The format of the file, part of its name. Earlier programs do not open a later format.
const FORMAT: u32 = 1;

/// Cache for pages of the file; next to none in tests, so that reads come from the disk.
const CACHE_BYTES: usize = if cfg!(test) { 16 << 10 } else { 8 << 20 };

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const OBJECTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("objects");
const ROWS: TableDefinition<'_, RowKey, &[u8]> = TableDefinition::new("rows");

/// Since when history is kept, in Unix seconds.
const SINCE: &str = "since";
/// How many times it was written.
const TURN: &str = "turn";

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("another process keeps its history there; this one goes on without")]
    Locked,
    #[error(
        "{path} was written by a newer version, in format {format}; this one reads format {FORMAT}. Run the newer version, or move the file away"
    )]
    Newer { path: String, format: u32 },
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Failed(String),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Locked,
            redb::Error::Io(error)
                if !matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Self::Failed(error.to_string())
            }
            error @ (redb::Error::PreviousIo
            | redb::Error::DatabaseClosed
            | redb::Error::ValueTooLarge(_)) => Self::Failed(error.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

/// Why the history can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub(crate) String);

/// The open file.
pub(crate) struct Store {
    pub(crate) database: Arc<Database>,
    path: PathBuf,
    /// How many times it was written.
    pub(crate) turn: u64,
    /// Since when history is kept, in Unix seconds.
    pub(crate) since: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.path.display())
    }
}

/// The objects of a file.
pub(crate) type Objects = Vec<(u32, SentObject)>;

/// The file of a directory.
pub(crate) fn path(directory: &Path) -> PathBuf {
    directory.join(format!("sends-v{FORMAT}.redb"))
}

/// Where a damaged file is set aside; there is one at most.
pub(crate) fn damaged_path(directory: &Path) -> PathBuf {
    directory.join(format!("sends-v{FORMAT}.redb.damaged"))
}

/// Calls a function that may panic on a damaged file.
pub(crate) fn guarded<T>(act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_panic| Err(StoreError::Damaged("reading it panicked".to_owned())))
}

impl Store {
    /// Opens the file, which is verified whole, or begins one at the Unix second `now`.
    pub(crate) fn open(settings: &HistorySettings, now: u64) -> Result<(Self, Objects), StoreError> {
        let directory = &settings.directory;
        fs::create_dir_all(directory).map_err(|error| StoreError::Failed(error.to_string()))?;
        refuse_newer(directory)?;
        let path = path(directory);
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        // A new file has nothing to verify.
        builder.set_check_integrity_on_open(fs::metadata(&path).is_ok_and(|file| file.len() > 0));
        let database = builder.create(&path)?;
        let write = database.begin_write()?;
        let (since, turn, objects) = read_all(&write, now)?;
        write.commit()?;
        Ok((Self { database: Arc::new(database), path, turn, since }, objects))
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Adds the changes, in one commit.
    pub(crate) fn write(
        &mut self,
        changes: &RowChanges,
        directory: &ObjectDirectory,
    ) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        {
            let mut rows = write.open_table(ROWS)?;
            for (key, change) in &changes.rows {
                let mut sends = match rows.get(key)? {
                    Some(packed) => unpacked(*key, packed.value())?,
                    None => Row::default(),
                };
                sends.add(change);
                rows.insert(key, sends.pack(*key).ok_or_else(unpackable)?.as_slice())?;
            }
            let mut objects = write.open_table(OBJECTS)?;
            for number in &changes.objects {
                if let Some(object) = directory.get(*number) {
                    let packed = row::pack(object, &number.to_le_bytes()).ok_or_else(unpackable)?;
                    objects.insert(number, packed.as_slice())?;
                }
            }
            write.open_table(META)?.insert(TURN, self.turn + 1)?;
        }
        write.commit()?;
        self.turn += 1;
        Ok(())
    }

    /// Bytes of the file that are in use.
    pub(crate) fn used(&self) -> Result<u64, StoreError> {
        let write = self.database.begin_write()?;
        let stats = write.stats()?;
        write.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    /// Removes the days before `before` (UTC, since 1970), and then the oldest until `excess` bytes are removed. Returns the
    /// first day that stays.
    pub(crate) fn trim(&mut self, before: u32, excess: u64, gone: &[u32]) -> Result<u32, StoreError> {
        let write = self.database.begin_write()?;
        let mut first = before;
        {
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
            let since = self.since.max(u64::from(first) * u64::from(DAY));
            write.open_table(META)?.insert(SINCE, since)?;
            self.since = since;
        }
        write.commit()?;
        Ok(first)
    }
}

/// The days with sends of each object.
pub(crate) fn days(
    database: &Database,
    numbers: &[u32],
    range: &TimeRange,
) -> Result<Vec<Vec<DaySends>>, StoreError> {
    let read = database.begin_read()?;
    let rows = read.open_table(ROWS)?;
    let of = |number: &u32| {
        let mut days: BTreeMap<usize, FateCounts> = BTreeMap::new();
        for day in range.utc_days() {
            let key = (day, *number);
            if let Some(packed) = rows.get(key)? {
                range.add(&mut days, day, &unpacked(key, packed.value())?);
            }
        }
        Ok(range.told(days))
    };
    numbers.iter().map(of).collect()
}

fn read_all(write: &WriteTransaction, now: u64) -> Result<(u64, u64, Objects), StoreError> {
    let mut meta = write.open_table(META)?;
    let known = meta.get(SINCE)?.map(|since| since.value());
    let since = known.unwrap_or(now);
    if known.is_none() {
        meta.insert(SINCE, now)?;
    }
    let turn = meta.get(TURN)?.map_or(0, |turn| turn.value());
    for row in write.open_table(ROWS)?.iter()? {
        let (key, packed) = row?;
        unpacked(key.value(), packed.value())?;
    }
    let mut objects = Vec::new();
    for object in write.open_table(OBJECTS)?.iter()? {
        let (number, packed) = object?;
        let number = number.value();
        let object = row::unpack(&number.to_le_bytes(), packed.value());
        objects.push((number, object.ok_or_else(|| StoreError::Damaged(format!("object {number}")))?));
    }
    Ok((since, turn, objects))
}

fn unpacked(key: RowKey, packed: &[u8]) -> Result<Row, StoreError> {
    let wrong = || StoreError::Damaged(format!("the sends of object {} on day {}", key.1, key.0));
    Row::unpack(key, packed).ok_or_else(wrong)
}

fn unpackable() -> StoreError {
    StoreError::Failed("no memory for a row".to_owned())
}

/// A file of a newer format is left alone, and none is begun beside it.
fn refuse_newer(directory: &Path) -> Result<(), StoreError> {
    let failed = |error: std::io::Error| StoreError::Failed(error.to_string());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let format = name.strip_prefix("sends-v").and_then(|rest| rest.strip_suffix(".redb"));
        if let Some(format) = format.and_then(|format| format.parse().ok()).filter(|format| *format > FORMAT)
        {
            return Err(StoreError::Newer { path: path.display().to_string(), format });
        }
    }
    Ok(())
}
