//! The queue's disk operations, and the place where tests make them fail.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, fstat, openat, renameat, stat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use crate::{OpenError, SettingNames, segments};

#[cfg(test)]
use self::fault::Faults;

/// `ENFILE` and `EMFILE`: the system, or this process, has no file descriptor left. Source: `errno(3)`; the numbers
/// are the same on all of Linux.
const NO_DESCRIPTORS: [i32; 2] = [23, 24];

/// What may help where a segment can't be read.
pub(crate) const CHECK_SEGMENT: &str = "check the disk; a segment that can't be repaired may be moved away, and its events are then counted as lost";

/// Whether an error says only that file descriptors are short, which passes.
pub(crate) fn is_short_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_DESCRIPTORS.contains(&code))
}

/// The directory that was at the path when the log was opened, even if it is moved later. So moved files are not taken for
/// lost, and nothing is written into a directory put in its place.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
    names: SettingNames,
    /// Open from the first use on. A process without a file descriptor left can't open it any more, and a failed sync would stop
    /// the log for good.
    handle: Arc<OnceLock<File>>,
    #[cfg(test)]
    faults: Arc<Faults>,
}

impl Directory {
    pub(crate) fn new(path: &Path) -> Directory {
        Directory {
            path: path.to_owned(),
            names: SettingNames::default(),
            handle: Arc::default(),
            #[cfg(test)]
            faults: Arc::default(),
        }
    }

    /// A directory on a disk that `faults` governs.
    #[cfg(test)]
    pub(crate) fn with_faults(path: &Path, faults: &Arc<Faults>) -> Directory {
        Directory { faults: Arc::clone(faults), ..Directory::new(path) }
    }

    /// The same, with these names in its messages.
    pub(crate) fn named(self, names: SettingNames) -> Directory {
        Directory { names, ..self }
    }

    pub(crate) fn names(&self) -> SettingNames {
        self.names
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes added, changed or removed names survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.sync()? {
            return Ok(());
        }
        self.handle()?.sync_all()
    }

    /// Opens the directory for all that is done in it.
    pub(crate) fn handle(&self) -> io::Result<&File> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let opened = File::open(&self.path)?;
        Ok(self.handle.get_or_init(|| opened))
    }

    /// Locks the directory for as long as it is open.
    pub(crate) fn try_lock(&self) -> Result<(), TryLockError> {
        #[cfg(test)]
        self.faults.lock_directory().map_err(TryLockError::Error)?;
        self.handle().map_err(TryLockError::Error)?.try_lock()
    }

    /// Locks a file in it for as long as that is open.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "a test's disk may refuse it"))]
    pub(crate) fn try_lock_file(&self, file: &File) -> Result<(), TryLockError> {
        #[cfg(test)]
        self.faults.lock_file().map_err(TryLockError::Error)?;
        file.try_lock()
    }

    /// What was removed while in use: the directory at its path, or `file`, of this name, in it. Data written to either is not
    /// found by a restart. `None` too where the system does not say.
    pub(crate) fn missing(&self, name: &str, file: &LogFile) -> Option<String> {
        let path = self.path.display();
        let handle = self.handle().ok()?;
        let ours = fstat(handle).ok()?;
        match stat(&self.path) {
            Ok(there) if identity(&there) != identity(&ours) => {
                return Some(format!("{path} is another directory now"));
            }
            Err(Errno::NOENT) => return Some(format!("{path} was removed")),
            _ => {}
        }
        let is_there = match statat(handle, name, AtFlags::empty()) {
            Ok(named) => identity(&named) == file.identity,
            Err(error) => error != Errno::NOENT,
        };
        (!is_there).then(|| format!("files in {path} were removed"))
    }

    /// Opens a file to read it.
    pub(crate) fn open_to_read(&self, name: &str) -> io::Result<File> {
        #[cfg(test)]
        self.faults.open()?;
        self.open_here(name, OFlags::RDONLY)
    }

    /// Opens a file, which is made when it is missing, to append to it.
    pub(crate) fn open_to_append(&self, name: &str) -> io::Result<LogFile> {
        self.open(name, OFlags::APPEND)
    }

    /// Opens a file, which is made when it is missing, to write at any place.
    pub(crate) fn open_to_write(&self, name: &str) -> io::Result<LogFile> {
        self.open(name, OFlags::empty())
    }

    fn open(&self, name: &str, flags: OFlags) -> io::Result<LogFile> {
        let file = self.open_here(name, OFlags::WRONLY | OFlags::CREATE | flags)?;
        Ok(LogFile {
            identity: identity(&fstat(&file)?),
            file,
            #[cfg(test)]
            faults: Arc::clone(&self.faults),
        })
    }

    fn open_here(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let (handle, flags) = (self.handle()?, flags | OFlags::CLOEXEC);
        let mode = Mode::from_raw_mode(0o666);
        Ok(File::from(retry_on_intr(|| openat(handle, name, flags, mode))?))
    }

    /// Replaces the content of a file by `text`.
    #[cfg_attr(not(test), expect(clippy::unused_self, reason = "a test's disk may refuse it"))]
    pub(crate) fn replace(&self, file: &mut File, text: &str) -> io::Result<()> {
        file.set_len(0)?;
        #[cfg(test)]
        self.faults.write(file, &[IoSlice::new(text.as_bytes())])?;
        file.write_all(text.as_bytes())
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(test)]
        self.faults.rename()?;
        let handle = self.handle()?;
        Ok(renameat(handle, from, handle, to)?)
    }

    /// Removes a file. One that is not there is fine.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(self.handle()?, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Makes an error for opening: the disk refuses an operation on `path`.
    pub(crate) fn refuses(
        &self,
        action: &'static str,
        path: &Path,
    ) -> impl Fn(io::Error) -> OpenError + use<> {
        let (path, directory) = (path.to_owned(), self.clone());
        move |reason| match reason.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                OpenError::Refused(format!(
                    "can't {action} {}: {}",
                    path.display(),
                    directory.explain(&reason)
                ))
            }
            _ => {
                let advice = directory.advice(&path, &reason);
                OpenError::Storage { action, path: path.clone(), reason, advice }
            }
        }
    }

    /// What may help where `path`, in here or the directory itself, is refused at the start.
    fn advice(&self, path: &Path, error: &io::Error) -> String {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        match error.kind() {
            _ if is_short_of_descriptors(error) => {
                "raise the limit of open files (LimitNOFILE= in the unit, ulimit -n, fs.file-max)".to_owned()
            }
            ErrorKind::OutOfMemory => "it needs more memory".to_owned(),
            ErrorKind::PermissionDenied if path != self.path && path.exists() => {
                format!("the files in {} must belong to this user: chown them", self.path.display())
            }
            ErrorKind::AlreadyExists if path.is_symlink() => {
                "it is a link to what does not exist: is the volume mounted?".to_owned()
            }
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::AlreadyExists
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidFilename
            | ErrorKind::ReadOnlyFilesystem => {
                format!("{} must be a directory that this user may write to", self.names.directory)
            }
            _ if segments::parse_file_name(name).is_some() => CHECK_SEGMENT.to_owned(),
            _ => "check the disk".to_owned(),
        }
    }

    /// Explains an error of a write here, with advice.
    pub(crate) fn explain(&self, error: &io::Error) -> String {
        let (path, size_max) = (self.path.display(), self.names.size_max);
        match error.kind() {
            ErrorKind::StorageFull => {
                format!("no space left on device in {path}: free space or lower {size_max}")
            }
            ErrorKind::QuotaExceeded => {
                format!("disk quota exceeded in {path}: raise it or lower {size_max}")
            }
            ErrorKind::FileTooLarge => format!(
                "a file in {path} reached the limit on the size of a file: raise it (ulimit -f, LimitFSIZE in systemd)"
            ),
            _ => format!("can't write in {path}: {error}"),
        }
    }
}

/// Device and inode, which tell files apart.
fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// A file of the queue, opened to be written.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    identity: (u64, u64),
    #[cfg(test)]
    faults: Arc<Faults>,
}

impl LogFile {
    /// Appends all of `pieces`, with as few calls as the system allows. After an error any part of them may
    /// have been written.
    pub(crate) fn append(&mut self, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write(&mut self.file, pieces)?;
        // Takes leading empty pieces away: a write of nothing but them would look like a full disk.
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            match self.file.write_vectored(pieces) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut pieces, written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write_at(bytes, offset)?;
        self.file.write_all_at(bytes, offset)
    }

    /// The file's length.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(crate) fn truncate(&self, bytes: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.truncate()?;
        self.file.set_len(bytes)
    }

    /// Makes writes survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.faults.sync()? {
            return Ok(());
        }
        self.file.sync_data()
    }
}

/// A disk that fails when a test says so.
#[cfg(test)]
pub(crate) mod fault {
    use std::fs::File;
    use std::io::{self, IoSlice, Write};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

    #[derive(Debug)]
    pub(crate) struct Faults {
        /// Bytes that can still be appended.
        pub(crate) room: AtomicU64,
        /// The length of a file at most.
        pub(crate) file_bytes_max: AtomicU64,
        pub(crate) sync_fails: AtomicBool,
        /// A sync does not come back while this is so.
        pub(crate) sync_hangs: AtomicBool,
        /// Syncs that pass before one fails.
        pub(crate) syncs_until_failure: AtomicU64,
        /// No file can be opened to be read.
        pub(crate) no_descriptors: AtomicBool,
        /// As a file system that can lock no directory.
        pub(crate) no_directory_locks: AtomicBool,
        /// As one that can lock nothing.
        pub(crate) no_file_locks: AtomicBool,
        pub(crate) truncate_fails: AtomicBool,
        pub(crate) rename_fails: AtomicBool,
        /// For tests that need no power cut and many cases.
        pub(crate) sync_is_skipped: AtomicBool,
        pub(crate) syncs: AtomicU64,
    }

    impl Default for Faults {
        fn default() -> Self {
            Faults {
                room: AtomicU64::new(u64::MAX),
                file_bytes_max: AtomicU64::new(u64::MAX),
                sync_fails: AtomicBool::new(false),
                sync_hangs: AtomicBool::new(false),
                syncs_until_failure: AtomicU64::new(u64::MAX),
                no_descriptors: AtomicBool::new(false),
                no_directory_locks: AtomicBool::new(false),
                no_file_locks: AtomicBool::new(false),
                truncate_fails: AtomicBool::new(false),
                rename_fails: AtomicBool::new(false),
                sync_is_skipped: AtomicBool::new(false),
                syncs: AtomicU64::new(0),
            }
        }
    }

    impl Faults {
        /// On a disk without room for all of `pieces`, writes what fits and fails, as a real one does.
        pub(crate) fn write(&self, file: &mut File, pieces: &[IoSlice<'_>]) -> io::Result<()> {
            let left = self.file_bytes_max.load(SeqCst).saturating_sub(file.metadata()?.len());
            let room = self.room.load(SeqCst).min(left);
            let bytes: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
            let has_room = self.room.load(SeqCst) != u64::MAX;
            if has_room {
                self.room.fetch_sub(bytes.min(room), SeqCst);
            }
            if bytes <= room {
                return Ok(());
            }
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            file.write_all(&all[..usize::try_from(room).unwrap()])?;
            Err(if has_room { io::ErrorKind::StorageFull } else { io::ErrorKind::FileTooLarge }.into())
        }

        pub(crate) fn open(&self) -> io::Result<()> {
            let is_short = self.no_descriptors.load(SeqCst);
            if is_short { Err(io::Error::from_raw_os_error(super::NO_DESCRIPTORS[1])) } else { Ok(()) }
        }

        pub(crate) fn lock_directory(&self) -> io::Result<()> {
            Self::lock(&self.no_directory_locks)
        }

        pub(crate) fn lock_file(&self) -> io::Result<()> {
            Self::lock(&self.no_file_locks)
        }

        fn lock(is_refused: &AtomicBool) -> io::Result<()> {
            let is_refused = is_refused.load(SeqCst);
            if is_refused { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
        }

        pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let is_short = offset + bytes.len() as u64 > self.file_bytes_max.load(SeqCst);
            if is_short { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
        }

        pub(crate) fn truncate(&self) -> io::Result<()> {
            if self.truncate_fails.load(SeqCst) { Err(io::Error::other("test")) } else { Ok(()) }
        }

        pub(crate) fn rename(&self) -> io::Result<()> {
            if self.rename_fails.load(SeqCst) { Err(io::Error::other("test")) } else { Ok(()) }
        }

        /// `Ok(true)`: done, without asking the disk.
        pub(crate) fn sync(&self) -> io::Result<bool> {
            self.syncs.fetch_add(1, SeqCst);
            while self.sync_hangs.load(SeqCst) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let passing = self.syncs_until_failure.load(SeqCst);
            self.syncs_until_failure.store(passing.saturating_sub(u64::from(passing != u64::MAX)), SeqCst);
            if self.sync_fails.load(SeqCst) || passing == 0 {
                return Err(io::Error::other("test"));
            }
            Ok(self.sync_is_skipped.load(SeqCst))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    #[test]
    fn many_pieces_are_appended_whole_with_empty_ones_among_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = Directory::new(directory.path()).open_to_append("f").unwrap();
        let texts: Vec<String> =
            (0..5000).map(|n| if n % 3 == 0 { String::new() } else { format!("{n},") }).collect();
        let mut pieces: Vec<_> = texts.iter().map(|text| IoSlice::new(text.as_bytes())).collect();
        file.append(&mut pieces).unwrap();
        file.append(&mut [IoSlice::new(b"")]).unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("f")).unwrap(), texts.concat());
    }

    #[test]
    fn a_disk_without_room_writes_what_fits_and_says_what_helps() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let disk = Directory::with_faults(directory.path(), &faults);
        let mut file = disk.open_to_append("f").unwrap();
        faults.room.store(3, SeqCst);
        let error = file.append(&mut [IoSlice::new(b"ab"), IoSlice::new(b"cd")]).unwrap_err();
        assert_eq!(fs::read(directory.path().join("f")).unwrap(), b"abc");
        let text = disk.explain(&error);
        assert!(text.starts_with("no space left on device in /"), "{text}");
        assert!(text.ends_with(": free space or lower size_max"), "{text}");
    }

    #[test]
    fn what_the_system_refuses_at_the_start_is_told_with_what_helps() {
        let names = SettingNames { directory: "log.directory", size_max: "log.size" };
        let directory = Directory::new(Path::new("/q")).named(names);
        // Numbers of errno(3).
        let cases: [(&[i32], &str, &str); 7] = [
            (
                &[1, 2, 13, 17, 20, 30],
                "lock",
                "log.directory must be a directory that this user may write to",
            ),
            (&[23, 24], "acknowledged", "(LimitNOFILE= in the unit, ulimit -n, fs.file-max)"),
            (&[12], "lock", ": it needs more memory"),
            (&[5, 6, 117], "acknowledged", ": check the disk"),
            (
                &[5, 21, 117],
                "00000000000000000007.log",
                ": check the disk; a segment that can't be repaired may be moved away, and its events are then counted as lost",
            ),
            (&[28, 122], "lock", " lower log.size"),
            (&[27], "lock", "(ulimit -f, LimitFSIZE in systemd)"),
        ];
        for (numbers, name, advice) in cases {
            for number in numbers {
                let error = io::Error::from_raw_os_error(*number);
                let text = directory.refuses("read", &directory.file(name))(error).to_string();
                assert!(text.contains("/q") && text.ends_with(advice), "{number}: {text}");
            }
        }
    }

    #[test]
    fn a_directory_that_was_opened_is_synced_without_being_opened_again() {
        let parent = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (parent.path().join("queue"), parent.path().join("elsewhere"));
        fs::create_dir(&path).unwrap();
        let directory = Directory::new(&path);
        directory.handle().unwrap();
        let copy = directory.clone();
        fs::rename(&path, elsewhere).unwrap();
        directory.sync().unwrap();
        copy.sync().unwrap();
        Directory::new(&path).sync().unwrap_err();
    }

    #[test]
    fn removing_a_file_that_is_gone_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        Directory::new(directory.path()).remove("nothing").unwrap();
    }
}
