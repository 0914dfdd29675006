//! The state of imported files and of buckets' objects: the records of a [file](redb_file), and the thread that writes them.
//!
//! Each write is one commit, however large the state is. redb verifies nothing that is read after the file was opened; for
//! that each record has a checksum of its own, with its key in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use redb_file::{FileFault, RedbKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// Cache for pages of the file; next to none in tests, so that reads come from the disk.
pub(crate) const CACHE_BYTES: usize = if cfg!(test) { 64 << 10 } else { 16 << 20 };

/// A kind of state: its file, and the advice in its messages.
#[derive(Debug)]
pub(crate) struct StateFileKind {
    /// The file.
    pub(crate) file: RedbKind,
    /// The advice where another process has it.
    pub(crate) locked: &'static str,
    /// The advice where it is of a newer format.
    pub(crate) newer: &'static str,
    /// The advice where it can't be read or written.
    pub(crate) failed: &'static str,
    /// The advice where it is damaged.
    pub(crate) damaged: &'static str,
}

impl StateFileKind {
    /// The path and the message for a fault of the file at `path`.
    pub(crate) fn message(&self, path: &Path, fault: FileFault) -> (PathBuf, String) {
        let format = self.file.format;
        let problem = match fault {
            FileFault::Newer { path, format: newer } => {
                let problem = format!(
                    "it was written by a newer version, in format {newer}; this one reads format {format}. {}",
                    self.newer
                );
                return (path, problem);
            }
            FileFault::Locked => format!("{fault}; {}", self.locked),
            FileFault::Failed(_) => format!("{fault}; {}", self.failed),
            FileFault::Damaged(_) => format!("{fault}; {}", self.damaged),
        };
        (path.to_owned(), problem)
    }
}

/// Packs a record stored under this key, with a checksum.
///
/// # Errors
/// When it can't be packed.
pub(crate) fn pack(key: &[&[u8]], value: &impl Serialize) -> Result<Vec<u8>, FileFault> {
    redb_file::pack(&ended(key), value)
}

/// Unpacks the record stored under this key.
///
/// # Errors
/// When it is not the stored record; `named` is its name in the message.
pub(crate) fn unpack<T: DeserializeOwned>(
    key: &[&[u8]],
    packed: &[u8],
    named: impl Fn() -> String,
) -> Result<T, FileFault> {
    redb_file::unpack(&ended(key), packed)
        .ok_or_else(|| FileFault::Damaged(format!("the record of {}", named())))
}

/// A key with a zero behind each part, so that no other key has the same bytes.
fn ended<'k>(key: &[&'k [u8]]) -> Vec<&'k [u8]> {
    key.iter().flat_map(|part| [*part, b"\0"]).collect()
}

/// The thread that writes settled records. It is started early, so that nothing fails half-way because the system has no
/// thread left.
pub(crate) struct StateWriter<T> {
    /// None once it ends.
    orders: Option<SyncSender<Vec<T>>>,
    written: mpsc::Receiver<Result<(), String>>,
    is_writing: bool,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> StateWriter<T> {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        name: &str,
        write: impl Fn(&[T]) -> Result<(), String> + Send + 'static,
    ) -> io::Result<Self> {
        let (orders, taken) = sync_channel::<Vec<T>>(1);
        let (said, written) = mpsc::channel(1);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(settled) = taken.recv() {
                if said.blocking_send(write(&settled)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), written, is_writing: false, thread: Some(thread) })
    }

    /// Begins to write; the one before has been waited for.
    pub(crate) fn begin(&mut self, settled: Vec<T>) {
        // `wait` reports a thread that is gone.
        let _told_later = self.orders.as_ref().map(|orders| orders.try_send(settled));
        self.is_writing = true;
    }

    /// Waits for the write that was begun, if any. A call that is given up leaves it to the next.
    ///
    /// # Errors
    /// When it could not be written.
    pub(crate) async fn wait(&mut self) -> Result<(), String> {
        if !self.is_writing {
            return Ok(());
        }
        let written = self.written.recv().await;
        self.is_writing = false;
        written.unwrap_or_else(|| Err("the thread that writes the state ended unexpectedly".to_owned()))
    }
}

impl<T> Drop for StateWriter<T> {
    /// The file is closed behind it, and free for the next process; a write in progress is not waited for.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take().filter(|_| !self.is_writing) {
            // `wait` reported its panic, if it was called.
            let _told = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;
    use redb_file::RedbFile;

    use super::*;

    const KIND: StateFileKind = StateFileKind {
        file: RedbKind { name: "things", format: 2, cache_bytes: CACHE_BYTES },
        locked: "wait",
        newer: "upgrade",
        failed: "look at the disk",
        damaged: "restore it",
    };
    const THINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("things");

    fn put(file: &RedbFile, key: u64, is_change: bool) -> Result<(), FileFault> {
        file.write(|write| {
            write.open_table(THINGS)?.insert(key, pack(&[&key.to_le_bytes()], &"thing")?.as_slice())?;
            Ok(((), is_change))
        })
    }

    fn count(file: &RedbFile) -> u64 {
        use redb::ReadableTableMetadata as _;
        file.read(|read| Ok(read.open_table(THINGS)?.len()?)).unwrap()
    }

    #[test]
    fn a_fault_is_told_with_what_to_do() {
        let path = Path::new("/state/things-v2.redb");
        for (fault, message) in [
            (FileFault::Locked, "another process has it; wait"),
            (FileFault::Failed("No space".to_owned()), "No space; look at the disk"),
            (FileFault::Damaged("page 7".to_owned()), "it is damaged (page 7); restore it"),
        ] {
            assert_eq!(KIND.message(path, fault), (path.to_owned(), message.to_owned()));
        }
        let newer = PathBuf::from("/state/things-v3.redb");
        let (named, words) = KIND.message(path, FileFault::Newer { path: newer.clone(), format: 3 });
        assert_eq!(named, newer);
        assert!(words.contains("in format 3; this one reads format 2. upgrade"), "{words}");
    }

    #[test]
    fn a_record_holds_under_its_own_key_only() {
        let packed = pack(&[b"a", b"b"], &(7_u64, "value")).unwrap();
        let read = |key: &[&[u8]], packed: &[u8]| unpack::<(u64, String)>(key, packed, || "a b".to_owned());
        assert_eq!(read(&[b"a", b"b"], &packed).unwrap(), (7, "value".to_owned()));
        for key in [&[b"ab".as_slice()] as &[&[u8]], &[b"b", b"a"], &[]] {
            assert!(matches!(read(key, &packed), Err(FileFault::Damaged(_))));
        }
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 4;
            assert!(
                matches!(read(&[b"a", b"b"], &damaged), Err(FileFault::Damaged(what)) if what == "the record of a b")
            );
            assert!(read(&[b"a", b"b"], &packed[..at]).is_err());
        }
    }

    #[tokio::test]
    async fn a_writer_tells_how_each_write_went_and_frees_the_file_when_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let file = RedbFile::open(root.path(), &KIND.file).unwrap();
        let write = move |keys: &[u64]| {
            keys.iter().try_for_each(|key| {
                let is_bad = *key == 9;
                put(&file, *key, true).map_err(|_| String::new())?;
                if is_bad { Err("nine".to_owned()) } else { Ok(()) }
            })
        };
        let mut writer = StateWriter::start("test", write).unwrap();
        writer.wait().await.unwrap();
        for (keys, result) in [(vec![1, 2], Ok(())), (vec![9], Err("nine".to_owned())), (vec![3], Ok(()))] {
            writer.begin(keys);
            assert_eq!(writer.wait().await, result);
        }
        drop(writer);
        assert_eq!(count(&RedbFile::open(root.path(), &KIND.file).unwrap()), 4);
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_is_an_error() {
        let mut writer = StateWriter::start("test", |_: &[u64]| panic!("it is a test")).unwrap();
        for _ in 0..2 {
            writer.begin(vec![1]);
            assert!(writer.wait().await.unwrap_err().contains("ended unexpectedly"));
        }
    }
}
