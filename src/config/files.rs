//! The files that a configuration names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest configuration; a larger file is another kind of file.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// The largest file of one secret, such as a key.
pub(super) const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The largest file of tokens; the push port reads no more either.
pub(super) const TOKENS_BYTES_MAX: u64 = 1 << 20;

/// Permission bits of users other than owner and group.
const OTHERS: u32 = 0o007;

/// Why a file can't be used. It completes a sentence and never quotes the content.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("does not exist")]
    Missing,
    #[error("is a link to what does not exist (is a volume not mounted?)")]
    BrokenLink,
    #[error("can't be read: {0}")]
    Unreadable(io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("is larger than {0} bytes, so it is probably another file")]
    TooLarge(u64),
    #[error("is not UTF-8 text")]
    NotText,
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error),
        }
    }
}

/// Reads a configuration file. Refuses a pipe: it can be read only once, and a reload would wait for its other end.
pub(super) fn read_config(path: &Path) -> Result<String, FileError> {
    check_file(path)?;
    read(path, CONFIG_BYTES_MAX)
}

/// Reads a file of secrets, which has so many bytes at most.
pub(super) fn read_secret(path: &Path, bytes_max: u64) -> Result<String, FileError> {
    check_file(path)?;
    read(path, bytes_max)
}

/// Whether there is a file that can be opened.
pub(super) fn check_file(path: &Path) -> Result<(), FileError> {
    // Checked before it is opened: opening a pipe waits for its other end.
    let metadata = fs::metadata(path).map_err(|error| match FileError::from(error) {
        FileError::Missing if path.is_symlink() => FileError::BrokenLink,
        error => error,
    })?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile);
    }
    File::open(path)?;
    Ok(())
}

/// What to say of `path`, which holds `what`, where everybody on the machine can read it; `None` for a missing file.
pub(super) fn open_to_others(path: &Path, what: &str) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let is_open = metadata.is_file() && metadata.permissions().mode() & OTHERS != 0;
    let remedy = remedy(metadata.uid());
    is_open.then(|| format!("{} holds {what} and is open to every user; {remedy}", path.display()))
}

/// A service that has a user of its own reads a file of root's as one of the others.
fn remedy(owner: u32) -> &'static str {
    if owner == 0 {
        "chmod o= it (before that chgrp it to the group of whoever runs this, if that is not root, and chmod g+r it)"
    } else {
        "chmod o= it"
    }
}

/// The entries of a directory, sorted by name.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, bytes_max: u64) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLarge(bytes_max));
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_can_still_read_what_is_no_longer_open() {
        assert_eq!(remedy(1000), "chmod o= it");
        assert!(remedy(0).starts_with("chmod o= it (before that chgrp it"), "{}", remedy(0));
    }

    /// At the default place a file that is missing may be meant.
    #[test]
    fn a_broken_link_is_no_missing_file() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        assert!(matches!(read_config(&link), Err(FileError::Missing)));
        std::os::unix::fs::symlink(directory.path().join("gone"), &link).unwrap();
        for read in [read_config(&link), read_secret(&link, 10)] {
            assert!(read.unwrap_err().to_string().starts_with("is a link to what does not exist"));
        }
        fs::write(directory.path().join("gone"), "a").unwrap();
        assert_eq!(read_config(&link).unwrap(), "a");
    }
}
