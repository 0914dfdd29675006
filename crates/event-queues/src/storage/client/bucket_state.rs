//! The state of objects, in one [file](redb_file): which are done, and how far the settled flushes have come in the
//! others. A settlement is one commit, however large the state is.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use object_store::ObjectMeta;
use redb::{ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::content::ReadPlace;
use crate::state_file::{CACHE_BYTES, StateFileKind, pack, unpack};
use redb_file::{FileFault, RedbFile, RedbKind};

const KIND: StateFileKind = StateFileKind {
    file: RedbKind { name: "objects", format: 1, cache_bytes: CACHE_BYTES },
    locked: "give each forwarder a queue.storage.state_directory of its own, and a prefix of its own",
    newer: "Run the newer version, or move the file away",
    failed: "check the disk and the permissions; the next start opens it anew, and counts again what was settled since it was \
             last written",
    damaged: "move it away, and set queue.storage.start to the hour from which on objects are to be counted (those counted \
              before are counted again from there on)",
};

/// By source and path.
const OBJECTS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("objects");
/// By source.
const SOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sources");
/// By source: the event types that were counted of it. Earlier versions did not write it, and don't read it.
const EVENT_TYPES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("event_types");
/// By source and path: since when an object is not there any more, in Unix seconds. As the one before.
const ABSENT: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("absent");

/// Why the state can't be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}, which remembers what was read of the buckets: {problem}", path = path.display())]
pub struct StateError {
    /// The path of the file, or of its directory.
    pub path: PathBuf,
    /// What is wrong and what to do.
    pub problem: String,
}

/// The state of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ObjectStanding {
    /// Settled up to its place.
    Begun,
    /// Settled to its end.
    Counted,
    /// It was there before the first start, which began with later objects.
    Passed,
    /// It is damaged, or of a format that is not read; its content before that was counted. Another version is read.
    LeftOut,
}

/// The state of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ObjectRecord {
    /// Changes whenever the object is written.
    pub(super) version: String,
    pub(super) standing: ObjectStanding,
    pub(super) place: Option<ReadPlace>,
    /// The print of the stored bytes that this stands for, as far as known; of a part, of those read for it, which may
    /// be some more.
    pub(super) print: Option<ContentHash>,
}

/// Identifies what is written under an object's path.
pub(super) fn version(meta: &ObjectMeta) -> String {
    let ObjectMeta { e_tag, version, last_modified, size, .. } = meta;
    match (e_tag, version) {
        (Some(tag), _) => unquoted(tag).to_owned(),
        (None, Some(version)) => version.clone(),
        (None, None) => format!("{size}@{}", last_modified.timestamp_micros()),
    }
}

/// An `ETag` without its quotes: Azure writes them in the answer to a HEAD, and not in a listing.
fn unquoted(tag: &str) -> &str {
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

impl ObjectRecord {
    /// Earlier versions wrote an `ETag` as it came.
    fn unquoted(self) -> Self {
        Self { version: unquoted(&self.version).to_owned(), ..self }
    }

    /// Whether nothing of this version is to be read.
    pub(super) fn is_done(&self, version: &str) -> bool {
        self.version == version && self.standing != ObjectStanding::Begun
    }

    /// Whether they stand for the same content, of whichever version.
    pub(super) fn is_as_far_as(&self, other: &Self) -> bool {
        (self.standing, self.place, self.print) == (other.standing, other.place, other.print)
    }
}

/// Identifies stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContentHash {
    /// How many, from the first one on.
    pub(super) bytes: u64,
    /// XXH3 of them, 128 bits.
    pub(super) hash: u128,
}

/// The state of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceRecord {
    /// Objects before this hour are done and not listed any more. Hours since 1970.
    pub(super) done_before: Option<i64>,
    /// Objects without an hour that were written before this Unix second are not read.
    pub(super) written_before: Option<i64>,
}

/// Whether the record of an object is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Needed,
    /// As long as the object may come back, which it is given some time for.
    Absent,
    Needless,
}

/// One settled object: its source, its path, and its record.
pub(super) type Settled = (Arc<str>, String, ObjectRecord);

/// The open file.
#[derive(Clone)]
pub(super) struct BucketState(Arc<RedbFile>);

impl BucketState {
    /// Opens the file of `directory`, which is verified whole, or begins one.
    ///
    /// # Errors
    /// When another process has it, when it is damaged or of a newer version, or when it can't be read and written.
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        let opened = RedbFile::open(directory, &KIND.file).and_then(|file| {
            file.write(|write| {
                write.open_table(OBJECTS)?;
                write.open_table(SOURCES)?;
                write.open_table(EVENT_TYPES)?;
                write.open_table(ABSENT)?;
                Ok(((), true))
            })?;
            Ok(file)
        });
        opened.map(|file| Self(Arc::new(file))).map_err(|fault| error(&KIND.file.path(directory), fault))
    }

    /// Keeps all others from writing while `act` runs.
    #[cfg(test)]
    pub(super) fn hold(&self, act: impl FnOnce()) {
        let held = self.0.write(|_| {
            act();
            Ok(((), false))
        });
        held.unwrap();
    }

    fn explained<T>(&self, done: Result<T, FileFault>) -> Result<T, StateError> {
        done.map_err(|fault| error(self.0.path(), fault))
    }

    /// The record of an object.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn object(&self, source: &str, path: &str) -> Result<Option<ObjectRecord>, StateError> {
        self.explained(self.0.read(|read| {
            let objects = read.open_table(OBJECTS)?;
            let packed = objects.get((source, path))?;
            let named = || format!("{source} {path}");
            let unpack = |packed: &[u8]| unpack(&[source.as_bytes(), path.as_bytes()], packed, named);
            let record = packed.map(|packed| unpack(packed.value())).transpose()?;
            Ok(record.map(ObjectRecord::unquoted))
        }))
    }

    /// The record of a source; none before its first reading.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn source(&self, source: &str) -> Result<Option<SourceRecord>, StateError> {
        self.explained(self.0.read(|read| {
            let sources = read.open_table(SOURCES)?;
            let packed = sources.get(source)?;
            packed
                .map(|packed| unpack(&[source.as_bytes()], packed.value(), || source.to_owned()))
                .transpose()
        }))
    }

    /// The event types that were counted of a source; none where that is not known.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn event_types(&self, source: &str) -> Result<Option<BTreeSet<Box<str>>>, StateError> {
        self.explained(self.0.read(|read| {
            let types = read.open_table(EVENT_TYPES)?;
            let packed = types.get(source)?;
            packed
                .map(|packed| unpack(&[source.as_bytes()], packed.value(), || source.to_owned()))
                .transpose()
        }))
    }

    /// Makes the event types that are counted of a source durable.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn set_event_types(
        &self,
        source: &str,
        event_types: &BTreeSet<Box<str>>,
    ) -> Result<(), StateError> {
        self.explained(self.0.write(|write| {
            let packed = pack(&[source.as_bytes()], event_types)?;
            write.open_table(EVENT_TYPES)?.insert(source, packed.as_slice())?;
            Ok(((), true))
        }))
    }

    /// Forgets a source and its objects.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn forget(&self, source: &str) -> Result<(), StateError> {
        self.close(source, &SourceRecord::default(), Moment::default(), |_| Need::Needless)?;
        self.explained(self.0.write(|write| {
            write.open_table(SOURCES)?.remove(source)?;
            write.open_table(EVENT_TYPES)?.remove(source)?;
            Ok(((), true))
        }))
    }

    /// Makes settled objects durable.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn settle(&self, settled: &[Settled]) -> Result<(), StateError> {
        self.explained(self.0.write(|write| {
            let mut objects = write.open_table(OBJECTS)?;
            for (source, path, record) in settled {
                let packed = pack(&[source.as_bytes(), path.as_bytes()], record)?;
                objects.insert((&**source, path.as_str()), packed.as_slice())?;
            }
            Ok(((), true))
        }))
    }

    /// Makes the record of a source durable.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn set_source(&self, source: &str, record: &SourceRecord) -> Result<(), StateError> {
        self.explained(self.0.write(|write| {
            write.open_table(SOURCES)?.insert(source, pack(&[source.as_bytes()], record)?.as_slice())?;
            Ok(((), true))
        }))
    }

    /// Makes the record of a source durable, and forgets its objects that are not needed any more, or have been absent for
    /// too long. Returns how many.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn close(
        &self,
        source: &str,
        record: &SourceRecord,
        Moment { now, absence_max }: Moment,
        need: impl Fn(&str) -> Need,
    ) -> Result<u64, StateError> {
        self.explained(self.0.write(|write| {
            write.open_table(SOURCES)?.insert(source, pack(&[source.as_bytes()], record)?.as_slice())?;
            let next = format!("{source}\0");
            let of_source = (source, "")..(next.as_str(), "");
            let mut table = write.open_table(ABSENT)?;
            let mut known = BTreeMap::new();
            for row in table.range(of_source.clone())? {
                let (key, packed) = row?;
                let (_, path) = key.value();
                let named = || format!("{source} {path}");
                let since: u64 = unpack(&[source.as_bytes(), path.as_bytes()], packed.value(), named)?;
                known.insert(path.to_owned(), since);
            }
            let (mut forgotten, mut absent) = (0, BTreeMap::new());
            let mut objects = write.open_table(OBJECTS)?;
            objects.retain_in(of_source, |(_, path), _| {
                let is_kept = match need(path) {
                    Need::Needed => true,
                    Need::Needless => false,
                    Need::Absent => {
                        let since = known.get(path).map_or(now, |since| now.min(*since));
                        absent.insert(path.to_owned(), since);
                        now - since < absence_max
                    }
                };
                if !is_kept {
                    forgotten += 1;
                    absent.remove(path);
                }
                is_kept
            })?;
            for path in known.keys().filter(|path| !absent.contains_key(*path)) {
                table.remove((source, path.as_str()))?;
            }
            for (path, since) in absent.iter().filter(|(path, since)| known.get(*path) != Some(since)) {
                let packed = pack(&[source.as_bytes(), path.as_bytes()], since)?;
                table.insert((source, path.as_str()), packed.as_slice())?;
            }
            Ok((forgotten, true))
        }))
    }
}

/// A write to the state.
type Write = Box<dyn FnOnce(&BucketState) + Send>;

/// A thread that writes to the state for those who must not wait for a disk. It is started early, so that nothing fails
/// half-way because the system has no thread left, and ends with its handle.
pub(super) struct StateThread(SyncSender<Write>);

impl StateThread {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(state: BucketState) -> io::Result<Self> {
        let (writes, taken) = sync_channel::<Write>(1);
        // It does not keep the file open: who drops the queue may open it again.
        let file = Arc::downgrade(&state.0);
        drop(state);
        thread::Builder::new().name("storage-source".to_owned()).spawn(move || {
            for write in taken {
                let Some(file) = file.upgrade() else { return };
                write(&BucketState(file));
            }
        })?;
        Ok(Self(writes))
    }

    /// Writes; one at a time. `None` if the thread is gone.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&BucketState) -> Result<T, StateError> + Send + 'static,
    ) -> Option<Result<T, StateError>> {
        let (say, said) = oneshot::channel();
        let write: Write = Box::new(move |state| {
            // Nobody waits for it when the process is about to end.
            let _nobody = say.send(write(state));
        });
        self.0.try_send(write).ok()?;
        said.await.ok()
    }
}

/// When hours are closed, in Unix seconds, and for how many of them an object that is absent is remembered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) now: u64,
    pub(super) absence_max: u64,
}

fn error(path: &Path, fault: FileFault) -> StateError {
    let (path, problem) = KIND.message(path, fault);
    StateError { path, problem }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::content::FileLayout;

    fn record(version: &str) -> ObjectRecord {
        let place = ReadPlace { layout: FileLayout::Avro, position: 9, container: 3 };
        let print = ContentHash { bytes: 10, hash: 7 };
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

    /// The bytes of a value.
    fn packed(value: &impl serde::Serialize) -> Vec<u8> {
        pack(&[b"key"], value).unwrap()
    }

    /// What is written has no names in it. Where this fails, records need another format, and one that reads those of this one.
    #[test]
    fn records_are_laid_out_as_those_that_are_in_files_already() {
        let one = packed(&("v", 1_u8, Some((2_u8, 9_u64, 3_u64)), Some((10_u64, 7_u128))));
        assert_eq!(packed(&record("v")), one);
        let standings =
            [ObjectStanding::Begun, ObjectStanding::Counted, ObjectStanding::Passed, ObjectStanding::LeftOut];
        assert_eq!(packed(&standings), packed(&[0_u8, 1, 2, 3]));
        let layouts = [FileLayout::Lines, FileLayout::Document, FileLayout::Avro];
        assert_eq!(packed(&layouts), packed(&[0_u8, 1, 2]));
        let source = SourceRecord { done_before: Some(500_000), written_before: None };
        assert_eq!(packed(&source), packed(&(Some(500_000_i64), None::<i64>)));
    }

    #[test]
    fn what_was_settled_is_there_after_a_start() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/when/missing");
        let state = BucketState::open(&directory).unwrap();
        state.settle(&[settled("a"), settled("b")]).unwrap();
        drop(state);
        let state = BucketState::open(&directory).unwrap();
        assert_eq!(state.object("s3://b", "a").unwrap(), Some(record("a")));
        assert_eq!(state.object("s3://b", "c").unwrap(), None);
        assert_eq!(state.object("s3://bb", "a").unwrap(), None);
    }

    #[test]
    fn a_version_that_was_written_with_quotes_is_the_one_without() {
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        let quoted = ("s3://b".into(), "a".to_owned(), record("\"0x8D\""));
        state.settle(&[quoted]).unwrap();
        assert!(state.object("s3://b", "a").unwrap().unwrap().is_done("0x8D"));
        assert_eq!((unquoted("\"a\""), unquoted("a"), unquoted("\""), unquoted("")), ("a", "a", "\"", ""));
    }

    #[test]
    fn a_source_forgets_what_it_does_not_need_and_no_other_source_does() {
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        let other = ("s3://b/x".into(), "a".to_owned(), record("a"));
        state.settle(&[settled("a"), settled("b"), other]).unwrap();
        let source = SourceRecord { done_before: Some(5), written_before: None };
        assert_eq!(state.source("s3://b").unwrap(), None);
        let need = |path: &str| if path == "a" { Need::Needless } else { Need::Needed };
        assert_eq!(state.close("s3://b", &source, Moment::default(), need).unwrap(), 1);
        assert_eq!(state.source("s3://b").unwrap(), Some(source));
        assert_eq!(state.object("s3://b", "a").unwrap(), None);
        assert!(state.object("s3://b", "b").unwrap().is_some());
        assert!(state.object("s3://b/x", "a").unwrap().is_some());
    }

    #[test]
    fn an_absent_object_is_forgotten_after_a_time_without_a_break() {
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        state.settle(&[settled("a"), settled("b")]).unwrap();
        let close = |now, is_there: bool| {
            let need = |path: &str| if path == "b" || is_there { Need::Needed } else { Need::Absent };
            let moment = Moment { now, absence_max: 10 };
            state.close("s3://b", &SourceRecord::default(), moment, need).unwrap()
        };
        for (now, is_there) in
            [(100, false), (109, false), (110, true), (111, false), (120, false), (50, false)]
        {
            assert_eq!(close(now, is_there), 0, "{now}");
        }
        // The clock was set back.
        assert_eq!((close(59, false), close(60, false), close(61, false)), (0, 1, 0));
        assert_eq!(state.object("s3://b", "a").unwrap(), None);
        assert!(state.object("s3://b", "b").unwrap().is_some());
    }

    #[test]
    fn the_types_of_a_source_are_there_after_a_start_and_forgotten_with_it() {
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        assert_eq!(state.event_types("s3://b").unwrap(), None);
        let types = BTreeSet::from(["a".into(), "b".into()]);
        state.set_event_types("s3://b", &types).unwrap();
        drop(state);
        let state = BucketState::open(root.path()).unwrap();
        assert_eq!(state.event_types("s3://b").unwrap(), Some(types));
        state.forget("s3://b").unwrap();
        assert_eq!(state.event_types("s3://b").unwrap(), None);
    }

    /// Half a kilobyte is what the pages say. What is free in the file counts, for the disk has it.
    #[test]
    fn an_object_takes_less_than_half_a_kilobyte_on_disk_and_more_than_a_third() {
        const OBJECTS: usize = 20_000;
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        // Paths and tags as long as those of Braze and S3.
        let head =
            "dataexport.prod-01.S3.integration.5f3e8f0a12344cde9abc0123/event_type=users.messages.email.Send";
        let all: Vec<Settled> = (0..OBJECTS)
            .map(|number| {
                let path = format!("{head}/date=2026-11-27-10/442/part-prod01-0f1e2d3c-{number:012}.avro");
                ("s3://acme-currents/currents".into(), path, record(&format!("\"{number:032x}\"")))
            })
            .collect();
        all.chunks(1000).for_each(|settled| state.settle(settled).unwrap());
        drop(state);
        let bytes = fs::metadata(root.path().join("objects-v1.redb")).unwrap().len();
        let each = usize::try_from(bytes).unwrap() / OBJECTS;
        assert!((1024 / 3..=1024 / 2).contains(&each), "{each} bytes for each object");
    }

    #[test]
    fn a_second_process_what_is_damaged_and_a_newer_format_are_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        let message = BucketState::open(root.path()).err().unwrap().to_string();
        assert!(message.contains("another process has it; give each forwarder"), "{message}");
        drop(state);
        let path = root.path().join("objects-v1.redb");
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2] {
            fs::write(&path, &whole[..length]).unwrap();
            let message = BucketState::open(root.path()).err().unwrap().to_string();
            assert!(message.contains("it is damaged") && message.contains("move it away"), "{message}");
        }
        fs::write(root.path().join("objects-v2.redb"), "").unwrap();
        let message = BucketState::open(root.path()).err().unwrap().to_string();
        assert!(message.contains("newer version, in format 2"), "{message}");
    }

    /// Every byte of the file, one after the other where there are few and every so many where there are many.
    #[test]
    fn a_flipped_bit_is_told_or_harms_nothing() {
        let root = tempfile::tempdir().unwrap();
        let state = BucketState::open(root.path()).unwrap();
        let all: Vec<_> = (0..300).map(|number| settled(&format!("path/{number:05}"))).collect();
        state.settle(&all).unwrap();
        drop(state);
        let path = root.path().join("objects-v1.redb");
        let whole = fs::read(&path).unwrap();
        let mut explained = 0;
        for at in (0..whole.len()).step_by(whole.len() / 400) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            match BucketState::open(root.path()) {
                Err(error) => {
                    explained += 1;
                    assert!(
                        error.problem.contains("damaged") || error.problem.contains("it was written"),
                        "{error}"
                    );
                }
                Ok(state) => {
                    for (source, path, record) in &all {
                        match state.object(source, path) {
                            Ok(found) => assert_eq!(found.as_ref(), Some(record), "byte {at}"),
                            Err(_) => explained += 1,
                        }
                    }
                }
            }
        }
        assert!(explained > 0, "no flipped bit was seen at all");
    }
}
