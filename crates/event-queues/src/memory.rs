//! The memory of imported files and of buckets' objects: one file, used by one process at a time.
//!
//! Each write is one commit, however large the memory is: redb keeps the file whole over a kill, and verifies every page
//! when the file is opened. It verifies nothing that is read later; for that each record has a checksum of its own, with its
//! key in it.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use redb::{Builder, Database, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// Cache for pages of the file; next to none in tests, so that reads come from the disk.
const CACHE_BYTES: usize = if cfg!(test) { 64 << 10 } else { 16 << 20 };

/// Why the memory can't be used.
#[derive(Debug)]
pub(crate) enum MemoryFault {
    /// Another process has it.
    Locked,
    /// A newer version wrote it, in the format of that number.
    Newer(PathBuf, u32),
    /// It can't be read or written.
    Failed(String),
    /// It is not what was written.
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for MemoryFault {
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

/// A kind of memory: its name, and the advice in its messages.
#[derive(Debug)]
pub(crate) struct MemoryKind {
    /// The first part of the file's name; the format follows.
    pub(crate) name: &'static str,
    /// The format. Earlier programs do not open a later format.
    pub(crate) format: u32,
    /// The message where another process has it.
    pub(crate) locked: &'static str,
    /// The advice where it is of a newer format.
    pub(crate) newer: &'static str,
    /// The advice where it can't be read or written.
    pub(crate) failed: &'static str,
    /// The advice where it is damaged.
    pub(crate) damaged: &'static str,
}

impl MemoryKind {
    /// The file of a directory.
    pub(crate) fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-v{}.redb", self.name, self.format))
    }

    /// Whether it exists: something has its name, whatever that is.
    ///
    /// # Errors
    /// When that can't be known, which is no reason to begin another.
    pub(crate) fn is_there(&self, directory: &Path) -> io::Result<bool> {
        is_there(&self.path(directory))
    }

    /// The path and the message for a fault of the file at `path`.
    pub(crate) fn tell(&self, path: &Path, fault: MemoryFault) -> (PathBuf, String) {
        let format = self.format;
        let problem = match fault {
            MemoryFault::Locked => format!("another process has it; {}", self.locked),
            MemoryFault::Newer(path, newer) => {
                let problem = format!(
                    "it was written by a newer version, in format {newer}; this one reads format {format}. {}",
                    self.newer
                );
                return (path, problem);
            }
            MemoryFault::Failed(problem) => format!("{problem}; {}", self.failed),
            MemoryFault::Damaged(what) => format!("it is damaged ({what}); {}", self.damaged),
        };
        (path.to_owned(), problem)
    }

    /// A file of a newer format is left alone, and none is begun beside it.
    fn refuse_newer(&self, directory: &Path) -> Result<(), MemoryFault> {
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let rest = name.strip_prefix(self.name).and_then(|rest| rest.strip_prefix("-v"));
            let format = rest.and_then(|rest| rest.strip_suffix(".redb")?.parse::<u32>().ok());
            if let Some(format) = format.filter(|format| *format > self.format) {
                return Err(MemoryFault::Newer(path, format));
            }
        }
        Ok(())
    }
}

/// The open file.
pub(crate) struct MemoryFile {
    database: Database,
    path: PathBuf,
    /// The file itself, whichever file has its name by now.
    inode: (u64, u64),
}

impl MemoryFile {
    /// Opens the file of `directory`, which is verified whole, or begins one; the directory is made when it is missing.
    ///
    /// # Errors
    /// When another process has it, when it is damaged or of a newer version, or when it can't be read and written.
    pub(crate) fn open(directory: &Path, kind: &MemoryKind) -> Result<Self, MemoryFault> {
        let path = kind.path(directory);
        kind.refuse_newer(directory)?;
        let failed = |error: io::Error| MemoryFault::Failed(error.to_string());
        make_directory(directory).map_err(failed)?;
        let database = if kind.is_there(directory).map_err(failed)? {
            open_existing(&path)?
        } else {
            begin(&path, &path.with_extension("redb.new"))?
        };
        let inode = inode(&path).map_err(failed)?;
        Ok(Self { database, path, inode })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the last commit.
    ///
    /// # Errors
    /// The error of `act`, and damage on which redb panics.
    #[cfg(any(feature = "storage", test))]
    pub(crate) fn read<T>(
        &self,
        act: impl FnOnce(&redb::ReadTransaction) -> Result<T, MemoryFault>,
    ) -> Result<T, MemoryFault> {
        use redb::ReadableDatabase as _;
        guarded(|| act(&self.database.begin_read()?))
    }

    /// Writes all or nothing of `act`, durably; nothing if it returns `false`.
    ///
    /// # Errors
    /// The error of `act`, or why the write is not durable: then the file is unchanged.
    pub(crate) fn write<T>(
        &self,
        act: impl FnOnce(&WriteTransaction) -> Result<(T, bool), MemoryFault>,
    ) -> Result<T, MemoryFault> {
        guarded(|| {
            let write = self.database.begin_write()?;
            let (done, is_change) = act(&write)?;
            if !is_change {
                write.abort()?;
                return Ok(done);
            }
            self.ensure_in_place()?;
            write.commit()?;
            Ok(done)
        })
    }

    /// Data in a file without a name is lost with the next start.
    fn ensure_in_place(&self) -> Result<(), MemoryFault> {
        match inode(&self.path) {
            Ok(inode) if inode == self.inode => Ok(()),
            Ok(_) => Err(MemoryFault::Failed("it was replaced while it was in use".to_owned())),
            Err(error) => {
                Err(MemoryFault::Failed(format!("it was moved away while it was in use ({error})")))
            }
        }
    }
}

/// Opens a file, which is read and verified as a whole. An empty one is damaged: a file gets its name only once it is whole.
fn open_existing(path: &Path) -> Result<Database, MemoryFault> {
    guarded(|| Ok(builder().set_check_integrity_on_open(true).open(path)?))
}

/// Begins a file at `new`, and gives it its name when it is whole, because a kill leaves half of it. Another process may
/// have done so meanwhile: then that one's file is opened.
fn begin(path: &Path, new: &Path) -> Result<Database, MemoryFault> {
    let failed = |error: io::Error| MemoryFault::Failed(error.to_string());
    let create = || guarded(|| Ok(builder().create(new)?));
    let database = match create() {
        Err(MemoryFault::Damaged(_)) => {
            remove_if_there(new).map_err(failed)?;
            create()
        }
        created => created,
    }?;
    if is_there(path).map_err(failed)? {
        remove_if_there(new).map_err(failed)?;
        drop(database);
        return open_existing(path);
    }
    fs::rename(new, path).and_then(|()| sync_parent(path)).map_err(failed)?;
    Ok(database)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// # Errors
/// When it is there and can't be removed.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// redb may panic on a file that is damaged.
fn guarded<T>(act: impl FnOnce() -> Result<T, MemoryFault>) -> Result<T, MemoryFault> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_panic| Err(MemoryFault::Damaged("reading it panicked".to_owned())))
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Packs a record stored under this key, with a checksum.
///
/// # Errors
/// When it can't be packed.
pub(crate) fn pack(key: &[&[u8]], value: &impl Serialize) -> Result<Vec<u8>, MemoryFault> {
    let mut packed =
        postcard::to_extend(value, Vec::new()).map_err(|error| MemoryFault::Failed(error.to_string()))?;
    packed.extend(checksum(key, &packed).to_le_bytes());
    Ok(packed)
}

/// Unpacks the record stored under this key.
///
/// # Errors
/// When it is not the stored record; `named` is its name in the message.
pub(crate) fn unpack<T: DeserializeOwned>(
    key: &[&[u8]],
    packed: &[u8],
    named: impl Fn() -> String,
) -> Result<T, MemoryFault> {
    let damaged = || MemoryFault::Damaged(format!("the record of {}", named()));
    let (value, sum) = packed.split_last_chunk::<4>().ok_or_else(damaged)?;
    if u32::from_le_bytes(*sum) != checksum(key, value) {
        return Err(damaged());
    }
    postcard::from_bytes(value).map_err(|_| damaged())
}

/// The checksum of a record with its key, so that a record in another's place is noticed.
fn checksum(key: &[&[u8]], value: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for part in key {
        sum.update(part);
        sum.update(&[0]);
    }
    sum.update(value);
    sum.finalize()
}

/// The thread that writes settled records. It is started early, so that nothing fails half-way because the system has no
/// thread left.
pub(crate) struct MemoryWriter<T> {
    /// None once it ends.
    orders: Option<SyncSender<Vec<T>>>,
    written: mpsc::Receiver<Result<(), String>>,
    is_writing: bool,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> MemoryWriter<T> {
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
        written.unwrap_or_else(|| Err("the thread that writes the memory ended unexpectedly".to_owned()))
    }
}

impl<T> Drop for MemoryWriter<T> {
    /// The file is closed behind it, and free for the next process; a write in progress is not waited for.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take().filter(|_| !self.is_writing) {
            // `wait` reported its panic, if it was called.
            let _told = thread.join();
        }
    }
}

/// Makes a directory that survives a power cut, with those above it.
fn make_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(directory)?;
    missing.into_iter().try_for_each(sync_parent)
}

/// Makes the name of a file or directory durable.
///
/// # Errors
/// When the system can't.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;

    use super::*;

    const KIND: MemoryKind = MemoryKind {
        name: "things",
        format: 2,
        locked: "wait",
        newer: "upgrade",
        failed: "look at the disk",
        damaged: "restore it",
    };
    const THINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("things");

    fn put(file: &MemoryFile, key: u64, is_change: bool) -> Result<(), MemoryFault> {
        file.write(|write| {
            write.open_table(THINGS)?.insert(key, pack(&[&key.to_le_bytes()], &"thing")?.as_slice())?;
            Ok(((), is_change))
        })
    }

    fn count(file: &MemoryFile) -> u64 {
        use redb::ReadableTableMetadata as _;
        file.read(|read| Ok(read.open_table(THINGS)?.len()?)).unwrap()
    }

    #[test]
    fn a_write_is_there_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/when/missing");
        let file = MemoryFile::open(&directory, &KIND).unwrap();
        put(&file, 1, true).unwrap();
        put(&file, 2, false).unwrap();
        let failed = file.write(|write| {
            write.open_table(THINGS)?.insert(3, [7].as_slice())?;
            Err::<((), bool), _>(MemoryFault::Damaged("it is a test".to_owned()))
        });
        assert!(failed.is_err());
        let panicked = file.write::<()>(|_| panic!("as redb may"));
        assert!(matches!(panicked, Err(MemoryFault::Damaged(_))), "{panicked:?}");
        assert_eq!(count(&file), 1);
        drop(file);
        assert_eq!(count(&MemoryFile::open(&directory, &KIND).unwrap()), 1);
    }

    #[test]
    fn what_a_kill_left_of_a_new_file_is_begun_anew() {
        for left in ["", "half a file"] {
            let root = tempfile::tempdir().unwrap();
            let new = root.path().join("things-v2.redb.new");
            fs::write(&new, left).unwrap();
            let file = MemoryFile::open(root.path(), &KIND).unwrap();
            put(&file, 1, true).unwrap();
            assert!(!new.exists() && count(&file) == 1);
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_damaged_and_left_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let file = MemoryFile::open(root.path(), &KIND).unwrap();
        put(&file, 1, true).unwrap();
        let path = file.path().to_owned();
        drop(file);
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2] {
            fs::write(&path, &whole[..length]).unwrap();
            let fault = MemoryFile::open(root.path(), &KIND).err();
            assert!(matches!(fault, Some(MemoryFault::Damaged(_))), "{length} bytes: {fault:?}");
            assert_eq!(fs::metadata(&path).unwrap().len(), length as u64);
        }
    }

    #[test]
    fn what_is_there_and_cannot_be_looked_at_is_not_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        let path = KIND.path(root.path());
        // A volume that is not mounted, and a link that leads in a circle.
        for target in [root.path().join("not/mounted"), path.clone()] {
            std::os::unix::fs::symlink(&target, &path).unwrap();
            let fault = MemoryFile::open(root.path(), &KIND).err();
            assert!(matches!(fault, Some(MemoryFault::Failed(_))), "{fault:?}");
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "none is begun");
            fs::remove_file(&path).unwrap();
        }
        let no_directory = root.path().join("a file");
        fs::write(&no_directory, "").unwrap();
        assert_eq!(KIND.is_there(&no_directory).unwrap_err().kind(), ErrorKind::NotADirectory);
    }

    #[test]
    fn a_file_that_another_process_began_meanwhile_is_opened_instead() {
        let root = tempfile::tempdir().unwrap();
        let path = KIND.path(root.path());
        let new = path.with_extension("redb.new");
        let file = MemoryFile::open(root.path(), &KIND).unwrap();
        put(&file, 1, true).unwrap();
        assert!(matches!(begin(&path, &new), Err(MemoryFault::Locked)));
        drop(file);
        drop(begin(&path, &new).unwrap());
        assert!(!new.exists());
        assert_eq!(count(&MemoryFile::open(root.path(), &KIND).unwrap()), 1);
    }

    #[test]
    fn a_file_that_lost_its_name_is_written_no_more() {
        let root = tempfile::tempdir().unwrap();
        let file = MemoryFile::open(root.path(), &KIND).unwrap();
        put(&file, 1, true).unwrap();
        let away = root.path().join("away");
        fs::rename(file.path(), &away).unwrap();
        let told = |fault: MemoryFault| KIND.tell(file.path(), fault).1;
        let words = told(put(&file, 2, true).unwrap_err());
        assert!(words.contains("moved away while it was in use"), "{words}");
        assert!(words.contains("look at the disk"), "{words}");
        fs::write(file.path(), "another").unwrap();
        assert!(told(put(&file, 2, true).unwrap_err()).contains("replaced"));
        fs::rename(&away, file.path()).unwrap();
        put(&file, 2, true).unwrap();
        assert_eq!(count(&file), 2);
    }

    #[test]
    fn a_second_process_and_a_newer_format_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let file = MemoryFile::open(root.path(), &KIND).unwrap();
        assert!(matches!(MemoryFile::open(root.path(), &KIND), Err(MemoryFault::Locked)));
        drop(file);
        for name in ["things-v1.redb", "things-v3.redb.damaged", "thing-v3.redb", "things-vx.redb"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        drop(MemoryFile::open(root.path(), &KIND).unwrap());
        let newer = root.path().join("things-v3.redb");
        fs::write(&newer, "").unwrap();
        let fault = MemoryFile::open(root.path(), &KIND).err().unwrap();
        let (path, words) = KIND.tell(root.path(), fault);
        assert_eq!(path, newer);
        assert!(words.contains("in format 3; this one reads format 2. upgrade"), "{words}");
    }

    #[test]
    fn a_record_holds_under_its_own_key_only() {
        let packed = pack(&[b"a", b"b"], &(7_u64, "value")).unwrap();
        let read = |key: &[&[u8]], packed: &[u8]| unpack::<(u64, String)>(key, packed, || "a b".to_owned());
        assert_eq!(read(&[b"a", b"b"], &packed).unwrap(), (7, "value".to_owned()));
        for key in [&[b"ab".as_slice()] as &[&[u8]], &[b"b", b"a"], &[]] {
            assert!(matches!(read(key, &packed), Err(MemoryFault::Damaged(_))));
        }
        for at in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[at] ^= 4;
            assert!(
                matches!(read(&[b"a", b"b"], &damaged), Err(MemoryFault::Damaged(what)) if what == "the record of a b")
            );
            assert!(read(&[b"a", b"b"], &packed[..at]).is_err());
        }
    }

    #[tokio::test]
    async fn a_writer_tells_how_each_write_went_and_frees_the_file_when_it_ends() {
        let root = tempfile::tempdir().unwrap();
        let file = MemoryFile::open(root.path(), &KIND).unwrap();
        let write = move |keys: &[u64]| {
            keys.iter().try_for_each(|key| {
                let is_bad = *key == 9;
                put(&file, *key, true).map_err(|_| String::new())?;
                if is_bad { Err("nine".to_owned()) } else { Ok(()) }
            })
        };
        let mut writer = MemoryWriter::start("test", write).unwrap();
        writer.wait().await.unwrap();
        for (keys, result) in [(vec![1, 2], Ok(())), (vec![9], Err("nine".to_owned())), (vec![3], Ok(()))] {
            writer.begin(keys);
            assert_eq!(writer.wait().await, result);
        }
        drop(writer);
        assert_eq!(count(&MemoryFile::open(root.path(), &KIND).unwrap()), 4);
    }

    #[tokio::test]
    async fn a_writer_that_is_gone_is_an_error() {
        let mut writer = MemoryWriter::start("test", |_: &[u64]| panic!("it is a test")).unwrap();
        for _ in 0..2 {
            writer.begin(vec![1]);
            assert!(writer.wait().await.unwrap_err().contains("ended unexpectedly"));
        }
    }
}
