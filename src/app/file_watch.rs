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
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Config;
use crate::push::PushSettings;

/// How often the files are checked. A change is taken over once the files have stayed the same for as long, because editors
/// and copies write in several steps.
const INTERVAL: Duration = Duration::from_secs(1);

/// After so many checks a change is taken over though files still change: one that is written all the time (a log, an editor's
/// own) holds up no other.
const UNSETTLED_MAX: u32 = 10;

/// After so many checks files that were refused are read again though they look the same: a disk or a share may have failed for
/// a moment, and what is missing is not among the watched ones where nothing could be read.
const REFUSED_AGAIN: u32 = 60;

/// The watched files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct WatchedFiles {
    /// The connections directory.
    directory: Option<PathBuf>,
    /// Keys, tokens, certificate.
    secret_files: BTreeSet<PathBuf>,
}

impl WatchedFiles {
    fn of(config: &Config, push: Option<&PushSettings>) -> Self {
        let push_files = push.into_iter().flat_map(PushSettings::files);
        let secret_files = config.key_files().chain(push_files).map(Path::to_owned).collect();
        Self { directory: config.connections_directory.clone(), secret_files }
    }

    /// The present stamps of the files; blocks.
    fn stamps(&self) -> Stamps {
        let entries = self.directory.iter().flat_map(fs::read_dir).flatten().flatten();
        // A key stands beside its connection: it is looked at once.
        let paths: BTreeSet<PathBuf> =
            entries.map(|entry| entry.path()).chain(self.secret_files.iter().cloned()).collect();
        stamps(paths)
    }
}

/// The present stamps of files; blocks.
pub(super) fn stamps(files: impl IntoIterator<Item = PathBuf>) -> Stamps {
    let stamped = |path: PathBuf| {
        let stamp = Stamp::of(&path);
        (path, stamp)
    };
    files.into_iter().map(stamped).collect()
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
    fn update(&mut self, now: Stamps) -> bool {
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

/// Why the files are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileNews {
    /// One has changed.
    Changed,
    /// They were refused a while ago.
    RefusedBefore,
}

/// When the files are to be read.
#[derive(Debug, Default)]
struct Looks {
    debounce: Debounce,
    /// Since the last news.
    quiet: u32,
}

impl Looks {
    /// Takes the present stamps; `are_refused`: as they were read last.
    fn news(&mut self, now: Stamps, are_refused: bool) -> Option<FileNews> {
        self.quiet += 1;
        let news = if self.debounce.update(now) {
            FileNews::Changed
        } else if are_refused && self.quiet >= REFUSED_AGAIN {
            FileNews::RefusedBefore
        } else {
            return None;
        };
        self.quiet = 0;
        Some(news)
    }
}

/// The watch, which ends with the process.
#[derive(Debug)]
pub(super) struct FileWatch {
    shared: Arc<SharedWatch>,
    news: watch::Receiver<FileNews>,
}

/// What the thread and the reloads share.
#[derive(Debug, Default)]
struct SharedWatch {
    watched: Mutex<WatchedFiles>,
    are_refused: AtomicBool,
}

impl FileWatch {
    /// Starts a thread of its own, because a disk that does not answer blocks it. The first notification comes soon after
    /// the start, because the files may have changed since they were read.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(config: &Config) -> io::Result<Self> {
        let watched = Mutex::new(WatchedFiles::of(config, config.push.as_ref()));
        let shared = Arc::new(SharedWatch { watched, ..SharedWatch::default() });
        let of_thread = Arc::clone(&shared);
        // What it is made with is no news.
        let (tell, news) = watch::channel(FileNews::Changed);
        thread::Builder::new().name("file-watch".into()).spawn(move || {
            let mut looks = Looks::default();
            loop {
                thread::sleep(INTERVAL);
                let watched = lock(&of_thread.watched).clone();
                if watched == WatchedFiles::default() {
                    continue;
                }
                let are_refused = of_thread.are_refused.load(Ordering::Relaxed);
                if let Some(news) = looks.news(watched.stamps(), are_refused) {
                    tell.send_replace(news);
                }
            }
        })?;
        Ok(Self { shared, news })
    }

    /// Watches the files of another configuration from here on, and those of the push port as it is in force: that one
    /// changes with a restart only.
    pub(super) fn watch(&self, config: &Config, push: Option<&PushSettings>) {
        *lock(&self.shared.watched) = WatchedFiles::of(config, push);
    }

    /// Notes whether the files, or some of them, were refused: then they are read again once a minute.
    pub(super) fn set_refused(&self, are_refused: bool) {
        self.shared.are_refused.store(are_refused, Ordering::Relaxed);
    }

    /// Waits until the files are to be read. Cancel-safe.
    pub(super) async fn news(&mut self) -> FileNews {
        // Without its thread there is no more news.
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.news.borrow_and_update()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is whole at any moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The notifications for each state of the files.
    fn told(debounce: &mut Debounce, watched: &WatchedFiles) -> [bool; 3] {
        [0; 3].map(|_| debounce.update(watched.stamps()))
    }

    #[test]
    fn each_change_is_told_once_when_it_has_settled() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("connections");
        fs::create_dir(&directory).unwrap();
        let (file, key) = (directory.join("acme.toml"), home.path().join("key"));
        let watched = WatchedFiles { directory: Some(directory.clone()), secret_files: [key.clone()].into() };
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
        let watched = WatchedFiles { directory: Some(home.path().to_owned()), secret_files: BTreeSet::new() };
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
        assert!((0..9).all(|size| !debounce.update(stamps(size))));
        assert!(debounce.update(stamps(8)));
        assert!(!debounce.update(stamps(8)));
        // One that never rests is read all the same.
        assert_eq!((9..40).filter(|size| debounce.update(stamps(*size))).count(), 2);
    }

    #[test]
    fn files_that_were_refused_are_read_again_once_a_minute() {
        let mut looks = Looks::default();
        let mut news = |looked: u32, are_refused| -> Vec<(u32, FileNews)> {
            let told = |look| Some((look, looks.news(Stamps::default(), are_refused)?));
            (0..looked).filter_map(told).collect()
        };
        assert_eq!(news(300, false), [(0, FileNews::Changed)]);
        let again = FileNews::RefusedBefore;
        assert_eq!(news(130, true), [(0, again), (60, again), (120, again)]);
        assert_eq!(news(300, false), []);
    }
}
