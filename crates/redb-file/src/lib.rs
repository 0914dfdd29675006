//! One [redb] file of a directory, used by one process at a time.
//!
//! redb keeps the file whole over a kill: a commit is there or it is not. It verifies the checksum of every page when the
//! file is opened, but not when a page is read later, so callers give each record a checksum of its own: [`pack`] does.
//!
//! ```
//! use redb::TableDefinition;
//! use redb_file::{RedbKind, RedbFile};
//!
//! const KIND: RedbKind = RedbKind { name: "things", format: 1, cache_bytes: 1 << 20 };
//! const THINGS: TableDefinition<'_, u64, &str> = TableDefinition::new("things");
//!
//! let directory = tempfile::tempdir()?;
//! let file = RedbFile::open(directory.path(), &KIND)?;
//! file.write(|write| {
//!     write.open_table(THINGS)?.insert(7, "seven")?;
//!     Ok(((), true))
//! })?;
//! let seven = file.read(|read| Ok(read.open_table(THINGS)?.get(7)?.map(|thing| thing.value().to_owned())))?;
//! assert_eq!(seven.as_deref(), Some("seven"));
//! assert!(directory.path().join("things-v1.redb").exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase as _, WriteTransaction};

pub use self::record::{pack, unpack};

mod record;

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// Another process has it.
    #[error("another process has it")]
    Locked,
    /// A newer version wrote this file, in this format.
    #[error("{} was written by a newer version, in format {format}", path.display())]
    Newer {
        /// The newer file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// It can't be read or written.
    #[error("{0}")]
    Failed(String),
    /// It does not hold what was written.
    #[error("it is damaged ({0})")]
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for FileFault {
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

/// A kind of file.
#[derive(Debug)]
pub struct RedbKind {
    /// The first part of the file's name; the format follows.
    pub name: &'static str,
    /// The format. Earlier programs do not open a later format.
    pub format: u32,
    /// Bytes of memory for pages.
    pub cache_bytes: usize,
}

impl RedbKind {
    /// The file of a directory.
    #[must_use]
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}-v{}.redb", self.name, self.format))
    }

    /// Whether it exists: something has its name, whatever that is.
    ///
    /// # Errors
    /// When that can't be known, which is no reason to begin another.
    pub fn is_there(&self, directory: &Path) -> io::Result<bool> {
        is_there(&self.path(directory))
    }

    /// A file of a newer format is left alone, and none is begun beside it.
    fn refuse_newer(&self, directory: &Path) -> Result<(), FileFault> {
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let rest = name.strip_prefix(self.name).and_then(|rest| rest.strip_prefix("-v"));
            let format = rest.and_then(|rest| rest.strip_suffix(".redb")?.parse::<u32>().ok());
            if let Some(format) = format.filter(|format| *format > self.format) {
                return Err(FileFault::Newer { path, format });
            }
        }
        Ok(())
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        builder
    }

    /// Opens a file, which is read and verified as a whole. An empty one is damaged: a file gets its name only once it is
    /// whole.
    fn open_existing(&self, path: &Path) -> Result<Database, FileFault> {
        guarded(|| Ok(self.builder().set_check_integrity_on_open(true).open(path)?))
    }

    /// Begins a file at `new`, and gives it its name when it is whole, because a kill leaves half of it. Another process may
    /// have done so meanwhile: then that one's file is opened.
    fn begin(&self, path: &Path, new: &Path) -> Result<Database, FileFault> {
        let create = || guarded(|| Ok(self.builder().create(new)?));
        let database = match create() {
            Err(FileFault::Damaged(_)) => {
                remove_if_there(new).map_err(failed)?;
                create()
            }
            created => created,
        }?;
        if is_there(path).map_err(failed)? {
            remove_if_there(new).map_err(failed)?;
            drop(database);
            return self.open_existing(path);
        }
        fs::rename(new, path).and_then(|()| sync_parent(path)).map_err(failed)?;
        Ok(database)
    }
}

/// The open file.
pub struct RedbFile {
    database: Database,
    path: PathBuf,
    /// The file itself, whichever file has its name by now.
    inode: (u64, u64),
}

impl fmt::Debug for RedbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RedbFile {
    /// Opens the file of `directory`, which is verified whole, or begins one; the directory is made when it is missing.
    ///
    /// # Errors
    /// When another process has it, when it is damaged or of a newer version, or when it can't be read and written.
    pub fn open(directory: &Path, kind: &RedbKind) -> Result<Self, FileFault> {
        let path = kind.path(directory);
        kind.refuse_newer(directory)?;
        make_directory(directory).map_err(failed)?;
        let database = if kind.is_there(directory).map_err(failed)? {
            kind.open_existing(&path)?
        } else {
            kind.begin(&path, &path.with_extension("redb.new"))?
        };
        let inode = inode(&path).map_err(failed)?;
        Ok(Self { database, path, inode })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the last commit.
    ///
    /// # Errors
    /// The error of `act`, and damage on which redb panics.
    pub fn read<T>(
        &self,
        act: impl FnOnce(&ReadTransaction) -> Result<T, FileFault>,
    ) -> Result<T, FileFault> {
        guarded(|| act(&self.database.begin_read()?))
    }

    /// Writes all or nothing of `act`, durably; nothing if it returns `false`.
    ///
    /// # Errors
    /// The error of `act`, or why the write is not durable: then the file is unchanged.
    pub fn write<T>(
        &self,
        act: impl FnOnce(&WriteTransaction) -> Result<(T, bool), FileFault>,
    ) -> Result<T, FileFault> {
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
    fn ensure_in_place(&self) -> Result<(), FileFault> {
        match inode(&self.path) {
            Ok(inode) if inode == self.inode => Ok(()),
            Ok(_) => Err(FileFault::Failed("it was replaced while it was in use".to_owned())),
            Err(error) => Err(FileFault::Failed(format!("it was moved away while it was in use ({error})"))),
        }
    }
}

/// Removes a file, if it exists.
///
/// # Errors
/// When it is there and can't be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the name of a file or directory durable.
///
/// # Errors
/// When the system can't.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn failed(error: io::Error) -> FileFault {
    FileFault::Failed(error.to_string())
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// redb may panic on a file that is damaged.
fn guarded<T>(act: impl FnOnce() -> Result<T, FileFault>) -> Result<T, FileFault> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|_panic| Err(FileFault::Damaged("reading it panicked".to_owned())))
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes a directory that survives a power cut, with those above it.
fn make_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect();
    fs::create_dir_all(directory)?;
    missing.into_iter().try_for_each(sync_parent)
}

#[cfg(test)]
mod tests;
