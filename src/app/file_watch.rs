//! Notices changes of connections' files and keys, and of the push port's tokens and certificate.
//!
//! It looks at names, sizes and times once a second, which takes less than a millisecond for some hundred files. Events of
//! the system would come sooner, but not from network file systems, nor for targets of the links that Kubernetes swaps; and
//! Datadog takes longer than that to accept a new key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;

use crate::config::Config;
use crate::push::PushSettings;

/// How often the files are checked. A change is taken over once the files have stayed the same for as long, because editors
/// and copies write in several steps.
const INTERVAL: Duration = Duration::from_secs(1);

/// After so many checks a change is taken over though files still change: one that is written all the time (a log, an editor's
/// own) holds up no other.
const UNSETTLED_MAX: u32 = 10;

/// The watched files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Watched {
    /// The connections directory.
    directory: Option<PathBuf>,
    /// Keys, tokens, certificate.
    secret_files: BTreeSet<PathBuf>,
}

impl Watched {
    fn of(config: &Config, push: Option<&PushSettings>) -> Self {
        let push_files = push.into_iter().flat_map(PushSettings::files);
        let secret_files = config.key_files().chain(push_files).map(Path::to_owned).collect();
        Self { directory: config.connections_directory.clone(), secret_files }
    }

    /// The present stamps of the files; blocks.
    fn look(&self) -> Stamps {
        let entries = self.directory.iter().flat_map(fs::read_dir).flatten().flatten();
        // A key stands beside its connection: it is looked at once.
        let paths: BTreeSet<PathBuf> =
            entries.map(|entry| entry.path()).chain(self.secret_files.iter().cloned()).collect();
        stamps(paths)
    }
}

/// The present stamps of files; blocks.
pub(super) fn stamps(files: impl IntoIterator<Item = PathBuf>) -> Stamps {
    files.into_iter().map(|path| (Stamp::of(&path), path)).map(|(stamp, path)| (path, stamp)).collect()
}

/// The stamps of files at one moment; `None`: no file.
pub(super) type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

/// Identifies a file's version, behind all links: device, inode, size, and the times of change of content and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None`: it does not exist, or can't be examined.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// The stamps at the last notification, and at the last check.
#[derive(Debug, Default)]
struct Debounce {
    told: Option<Stamps>,
    seen: Stamps,
    /// Looks since there is something to tell.
    unsettled: u32,
}

impl Debounce {
    /// Takes the present stamps; returns whether the files are to be read.
    fn is_due(&mut self, now: Stamps) -> bool {
        let is_news = self.told.as_ref() != Some(&now);
        self.unsettled = if is_news { self.unsettled + 1 } else { 0 };
        let is_due = is_news && (self.seen == now || self.unsettled > UNSETTLED_MAX);
        if is_due {
            self.told = Some(now.clone());
            self.unsettled = 0;
        }
        self.seen = now;
        is_due
    }
}

/// The watch, which ends with the process.
#[derive(Debug)]
pub(super) struct FileWatch {
    watched: Arc<Mutex<Watched>>,
    changed: Arc<Notify>,
}

impl FileWatch {
    /// Starts a thread of its own, because a disk that does not answer blocks it. The first notification comes soon after
    /// the start, because the files may have changed since they were read.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(config: &Config) -> io::Result<Self> {
        let watched = Arc::new(Mutex::new(Watched::of(config, config.push.as_ref())));
        let changed = Arc::new(Notify::new());
        let (of_thread, notify) = (Arc::clone(&watched), Arc::clone(&changed));
        thread::Builder::new().name("file-watch".into()).spawn(move || {
            let mut debounce = Debounce::default();
            loop {
                thread::sleep(INTERVAL);
                let watched = of_thread.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if watched != Watched::default() && debounce.is_due(watched.look()) {
                    notify.notify_one();
                }
            }
        })?;
        Ok(Self { watched, changed })
    }

    /// Watches the files of another configuration from here on, and those of the push port as it is in force: that one
    /// changes with a restart only.
    pub(super) fn watch(&self, config: &Config, push: Option<&PushSettings>) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Watched::of(config, push);
    }

    /// Waits until a file has changed since the last notification.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The notifications for each state of the files.
    fn told(debounce: &mut Debounce, watched: &Watched) -> [bool; 3] {
        [0; 3].map(|_| debounce.is_due(watched.look()))
    }

    #[test]
    fn each_change_is_told_once_when_it_has_settled() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("connections");
        fs::create_dir(&directory).unwrap();
        let (file, key) = (directory.join("acme.toml"), home.path().join("key"));
        let watched = Watched { directory: Some(directory.clone()), secret_files: [key.clone()].into() };
        let mut debounce = Debounce::default();
        let mut told = || told(&mut debounce, &watched);
        assert_eq!(told(), [false, true, false], "as it is found");
        fs::write(&file, "a").unwrap();
        assert_eq!(told(), [false, true, false], "added");
        fs::write(&file, "b").unwrap();
        assert_eq!(told(), [false, true, false], "written over");
        fs::write(home.path().join("new"), "b").unwrap();
        fs::rename(home.path().join("new"), &file).unwrap();
        assert_eq!(told(), [false, true, false], "renamed over");
        fs::write(&key, "k").unwrap();
        assert_eq!(told(), [false, true, false], "a key that was missing");
        fs::remove_file(&file).unwrap();
        assert_eq!(told(), [false, true, false], "removed");
        assert_eq!(told(), [false; 3]);
    }

    #[test]
    fn a_link_that_is_swapped_is_a_change() {
        let home = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(home.path().join(version)).unwrap();
            fs::write(home.path().join(version).join("acme.toml"), version).unwrap();
        }
        let (data, next) = (home.path().join("..data"), home.path().join("..next"));
        symlink("v1", &data).unwrap();
        symlink("..data/acme.toml", home.path().join("acme.toml")).unwrap();
        let watched = Watched { directory: Some(home.path().to_owned()), secret_files: BTreeSet::new() };
        let mut debounce = Debounce::default();
        assert_eq!(told(&mut debounce, &watched), [false, true, false]);
        symlink("v2", &next).unwrap();
        fs::rename(&next, &data).unwrap();
        assert_eq!(told(&mut debounce, &watched), [false, true, false]);
    }

    #[test]
    fn what_changes_all_the_time_is_told_when_it_stops() {
        let stamps = |size| {
            BTreeMap::from([(
                PathBuf::from("a"),
                Some(Stamp { file: (1, 1), size, modified: (0, 0), changed: (0, 0) }),
            )])
        };
        let mut debounce = Debounce::default();
        assert!((0..9).all(|size| !debounce.is_due(stamps(size))));
        assert!(debounce.is_due(stamps(8)));
        assert!(!debounce.is_due(stamps(8)));
        // One that never rests is read all the same.
        assert_eq!((9..40).filter(|size| debounce.is_due(stamps(*size))).count(), 2);
    }
}
