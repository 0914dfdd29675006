//! What keeps a second process out of the log.
//!
//! A process locks two things: the file `lock`, which holds its pid and which earlier versions check, and the directory
//! itself, because the file can be deleted and made anew. On a network file system the lock
//! of a directory may hold on one machine only, while that of the file holds on all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};

use crate::OpenError;
use crate::disk::Directory;

/// The name of the file.
const NAME: &str = "lock";

/// Locks the log for as long as the result and `directory` are held.
pub(crate) fn lock(directory: &Directory) -> Result<File, OpenError> {
    let path = directory.file(NAME);
    let failed = directory.refuses("lock", &path);
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(&path).map_err(&failed)?;
    match directory.try_lock_file(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The number is for people only: the lock decides.
            let is_known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
            let holder =
                if is_known { format!("process {}", holder.trim()) } else { "another process".into() };
            return Err(in_use(directory, holder));
        }
        Err(TryLockError::Error(reason)) => {
            let setting = directory.names().directory;
            let advice = format!("{setting} must be on a file system that can lock files (flock)");
            return Err(OpenError::Storage { action: "lock", path, reason, advice });
        }
    }
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder =
                "another process, which holds the directory itself locked (lslocks tells its number)";
            return Err(in_use(directory, holder.to_owned()));
        }
        Err(TryLockError::Error(error)) => {
            tracing::warn!(
                directory = %directory.path().display(),
                %error,
                "the queue's directory can't be locked: only the file `lock` in it keeps a second process out; never \
                 remove that"
            );
        }
    }
    match directory.replace(&mut file, &format!("{}\n", std::process::id())) {
        // Events of the queue can be counted on a full disk, and then it is not full any more.
        Err(error) if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
            Err(failed(error))
        }
        _ => Ok(file),
    }
}

fn in_use(directory: &Directory, holder: String) -> OpenError {
    OpenError::InUse { directory: directory.path().to_owned(), holder, setting: directory.names().directory }
}
