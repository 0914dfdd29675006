//! What is remembered of objects, in one file: which are done, and how far the settled flushes have come in the others.
//!
//! A settlement writes what it settled, in one commit, whatever else is remembered. redb keeps the file whole over a kill, and
//! verifies each page when it is opened; for what is read later each record has a checksum of its own.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase as _, TableDefinition};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::content::ReadPlace;

/// The format of the file, which its name says; one that is raised is not opened by what is older.
const FORMAT: u32 = 1;
/// Memory for pages of the file.
const CACHE_BYTES: usize = 16 << 20;

/// By source and path.
const OBJECTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("objects");
/// By source.
const SOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sources");

/// Why what is remembered can't be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}, which remembers what was read of the buckets: {problem}", path = path.display())]
pub struct MemoryError {
    /// Of the file, or of its directory.
    pub path: PathBuf,
    /// What is wrong and what to do.
    pub problem: String,
}

/// How an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ObjectStanding {
    /// Settled up to its place.
    Begun,
    /// Settled to its end.
    Counted,
    /// It was there before the first start, which began with what came later.
    Passed,
    /// It is damaged, or of a format that is not read; what came before was counted. Another version is read.
    LeftOut,
}

/// What is remembered of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    /// Another one whenever the object is written.
    pub(super) version: String,
    pub(super) standing: ObjectStanding,
    pub(super) place: Option<ReadPlace>,
    /// The stored bytes that this stands for, as far as they are known.
    pub(super) print: Option<Print>,
}

/// What stored bytes are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Print {
    /// How many, from the first one on.
    pub(super) bytes: u64,
    /// XXH3 of them, 128 bits.
    pub(super) hash: u128,
}

/// What is remembered of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceRecord {
    /// What is before this hour is done: it is not listed any more. Hours since 1970.
    pub(super) done_before: Option<i64>,
    /// Objects without an hour that were written before this Unix second are not read.
    pub(super) written_before: Option<i64>,
}

/// One settled object: its source, its path, and what is remembered.
pub(super) type Settled = (Arc<str>, String, ObjectRecord);

/// The open file.
#[derive(Clone)]
pub(super) struct ObjectMemory {
    database: Arc<Database>,
    path: PathBuf,
}

/// What redb says, as far as it matters here.
enum Trouble {
    Locked,
    Failed(String),
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
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

impl ObjectMemory {
    /// Opens the file of `directory`, which is verified whole, or begins one.
    ///
    /// # Errors
    /// When another process has it, when it is damaged or of a newer version, or when it can't be read and written.
    pub(super) fn open(directory: &Path) -> Result<Self, MemoryError> {
        let path = directory.join(format!("objects-v{FORMAT}.redb"));
        refuse_newer(directory)?;
        let open = || {
            fs::create_dir_all(directory).map_err(|error| Trouble::Failed(error.to_string()))?;
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            // A new file has nothing to verify.
            builder.set_check_integrity_on_open(fs::metadata(&path).is_ok_and(|file| file.len() > 0));
            let database = builder.create(&path)?;
            let write = database.begin_write()?;
            write.open_table(OBJECTS)?;
            write.open_table(SOURCES)?;
            write.commit()?;
            Ok(database)
        };
        // redb may panic on a file that is damaged.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
        let opened = opened.unwrap_or_else(|_panic| Err(Trouble::Damaged("reading it panicked".to_owned())));
        match opened {
            Ok(database) => Ok(Self { database: Arc::new(database), path }),
            Err(trouble) => Err(error(&path, trouble)),
        }
    }

    fn guarded<T>(&self, act: impl FnOnce() -> Result<T, Trouble>) -> Result<T, MemoryError> {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        done.unwrap_or_else(|_panic| Err(Trouble::Damaged("reading it panicked".to_owned())))
            .map_err(|trouble| error(&self.path, trouble))
    }

    /// What is remembered of an object.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn object(&self, source: &str, path: &str) -> Result<Option<ObjectRecord>, MemoryError> {
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let objects = read.open_table(OBJECTS)?;
            let packed = objects.get((source, path))?;
            packed.map(|packed| unpack(&[source, path], packed.value())).transpose()
        })
    }

    /// What is remembered of a source; none before it was read for the first time.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn source(&self, source: &str) -> Result<Option<SourceRecord>, MemoryError> {
        self.guarded(|| {
            let read = self.database.begin_read()?;
            let sources = read.open_table(SOURCES)?;
            let packed = sources.get(source)?;
            packed.map(|packed| unpack(&[source], packed.value())).transpose()
        })
    }

    /// Forgets a source and its objects.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn forget(&self, source: &str) -> Result<(), MemoryError> {
        self.set_source(source, &SourceRecord::default(), |_| true)?;
        self.guarded(|| {
            let write = self.database.begin_write()?;
            write.open_table(SOURCES)?.remove(source)?;
            write.commit()?;
            Ok(())
        })
    }

    /// Makes what was settled durable.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn settle(&self, settled: &[Settled]) -> Result<(), MemoryError> {
        self.guarded(|| {
            let write = self.database.begin_write()?;
            {
                let mut objects = write.open_table(OBJECTS)?;
                for (source, path, record) in settled {
                    let packed = pack(&[source, path], record)?;
                    objects.insert((&**source, path.as_str()), packed.as_slice())?;
                }
            }
            write.commit()?;
            Ok(())
        })
    }

    /// Makes what is known of a source durable, and forgets those of its objects that it does not need to know any more.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn set_source(
        &self,
        source: &str,
        record: &SourceRecord,
        is_needless: impl Fn(&str) -> bool,
    ) -> Result<u64, MemoryError> {
        self.guarded(|| {
            let write = self.database.begin_write()?;
            let mut forgotten = 0;
            {
                write.open_table(SOURCES)?.insert(source, pack(&[source], record)?.as_slice())?;
                let mut objects = write.open_table(OBJECTS)?;
                let next = format!("{source}\0");
                objects.retain_in((source, "")..(next.as_str(), ""), |(_, path), _| {
                    let is_needless = is_needless(path);
                    forgotten += u64::from(is_needless);
                    !is_needless
                })?;
            }
            write.commit()?;
            Ok(forgotten)
        })
    }
}

fn pack(key: &[&str], value: &impl Serialize) -> Result<Vec<u8>, Trouble> {
    let mut packed =
        postcard::to_extend(value, Vec::new()).map_err(|error| Trouble::Failed(error.to_string()))?;
    packed.extend(checksum(key, &packed).to_le_bytes());
    Ok(packed)
}

fn unpack<T: DeserializeOwned>(key: &[&str], packed: &[u8]) -> Result<T, Trouble> {
    let damaged = || Trouble::Damaged(format!("the record of {}", key.join(" ")));
    let (value, sum) = packed.split_last_chunk::<4>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*sum) != checksum(key, value) {
        return Err(damaged());
    }
    postcard::from_bytes(value).map_err(|_| damaged())
}

/// Of a record with its key, so that a record in another's place does not hold.
fn checksum(key: &[&str], value: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for part in key {
        sum.update(part.as_bytes());
        sum.update(&[0]);
    }
    sum.update(value);
    sum.finalize()
}

fn error(path: &Path, trouble: Trouble) -> MemoryError {
    let problem = match trouble {
        Trouble::Locked => {
            "another process has it; give each forwarder a queue.storage.state_directory of its own, and a prefix of its own"
                .to_owned()
        }
        Trouble::Failed(problem) => {
            format!("{problem}; check the disk and the permissions. What was settled since it was last written is counted again")
        }
        Trouble::Damaged(what) => format!(
            "it is damaged ({what}); move it away, and set queue.storage.start to the hour from which on objects are to be \
             counted (those counted before are counted again from there on)"
        ),
    };
    MemoryError { path: path.to_owned(), problem }
}

/// A file of a newer format is left alone, and none is begun beside it.
fn refuse_newer(directory: &Path) -> Result<(), MemoryError> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let format = name.strip_prefix("objects-v").and_then(|rest| rest.strip_suffix(".redb"));
        if let Some(format) =
            format.and_then(|format| format.parse::<u32>().ok()).filter(|format| *format > FORMAT)
        {
            let problem = format!(
                "it was written by a newer version, in format {format}; this one reads format {FORMAT}. Run the newer version, \
                 or move the file away"
            );
            return Err(MemoryError { path, problem });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::FileLayout;

    fn record(version: &str) -> ObjectRecord {
        let place = ReadPlace { layout: FileLayout::Avro, position: 9, container: 3 };
        let print = Print { bytes: 10, hash: 7 };
        ObjectRecord {
            version: version.to_owned(),
            standing: ObjectStanding::Counted,
            place: Some(place),
            print: Some(print),
        }
    }

    fn settled(path: &str) -> Settled {
        ("s3://b".into(), path.to_owned(), record(path))
    }

    #[test]
    fn what_was_settled_is_there_after_a_start() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/when/missing");
        let memory = ObjectMemory::open(&directory).unwrap();
        memory.settle(&[settled("a"), settled("b")]).unwrap();
        drop(memory);
        let memory = ObjectMemory::open(&directory).unwrap();
        assert_eq!(memory.object("s3://b", "a").unwrap(), Some(record("a")));
        assert_eq!(memory.object("s3://b", "c").unwrap(), None);
        assert_eq!(memory.object("s3://bb", "a").unwrap(), None);
    }

    #[test]
    fn a_source_forgets_what_it_does_not_need_and_no_other_source_does() {
        let root = tempfile::tempdir().unwrap();
        let memory = ObjectMemory::open(root.path()).unwrap();
        let other = ("s3://b/x".into(), "a".to_owned(), record("a"));
        memory.settle(&[settled("a"), settled("b"), other]).unwrap();
        let source = SourceRecord { done_before: Some(5), written_before: None };
        assert_eq!(memory.source("s3://b").unwrap(), None);
        assert_eq!(memory.set_source("s3://b", &source, |path| path == "a").unwrap(), 1);
        assert_eq!(memory.source("s3://b").unwrap(), Some(source));
        assert_eq!(memory.object("s3://b", "a").unwrap(), None);
        assert!(memory.object("s3://b", "b").unwrap().is_some());
        assert!(memory.object("s3://b/x", "a").unwrap().is_some());
    }

    #[test]
    fn a_second_process_and_a_newer_format_are_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let memory = ObjectMemory::open(root.path()).unwrap();
        let message = ObjectMemory::open(root.path()).err().unwrap().to_string();
        assert!(message.contains("another process has it; give each forwarder"), "{message}");
        drop(memory);
        fs::write(root.path().join("objects-v2.redb"), "").unwrap();
        let message = ObjectMemory::open(root.path()).err().unwrap().to_string();
        assert!(message.contains("newer version, in format 2"), "{message}");
    }

    /// Every byte of the file, one after the other where there are few and every so many where there are many.
    #[test]
    fn a_flipped_bit_is_told_or_harms_nothing() {
        let root = tempfile::tempdir().unwrap();
        let memory = ObjectMemory::open(root.path()).unwrap();
        let all: Vec<_> = (0..300).map(|number| settled(&format!("path/{number:05}"))).collect();
        memory.settle(&all).unwrap();
        drop(memory);
        let path = root.path().join("objects-v1.redb");
        let whole = fs::read(&path).unwrap();
        let mut told = 0;
        for at in (0..whole.len()).step_by(whole.len() / 400) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            match ObjectMemory::open(root.path()) {
                Err(error) => {
                    told += 1;
                    assert!(
                        error.problem.contains("damaged") || error.problem.contains("it was written"),
                        "{error}"
                    );
                }
                Ok(memory) => {
                    for (source, path, record) in &all {
                        match memory.object(source, path) {
                            Ok(found) => assert_eq!(found.as_ref(), Some(record), "byte {at}"),
                            Err(_) => told += 1,
                        }
                    }
                }
            }
        }
        assert!(told > 0, "no flipped bit was seen at all");
    }
}
