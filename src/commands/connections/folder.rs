//! The connections directory: its files are written whole, get the directory's owner, and are there together or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use admin_api::Status;

use super::command_line::Common;
use super::running::{self, Running};
use crate::app::Failure;
use crate::config::{Candidate, Config};
use crate::connection::{Connection, ConnectionSet};

/// The mode of files: readable by their owner only.
const OF_OWNER: u32 = 0o600;
const OF_GROUP: u32 = 0o640;

/// How long to wait for another process that changes something, longer than it waits for the forwarder; and how often to look.
const LOCK_LIMIT: Duration = Duration::from_mins(1);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The directory, and the configuration that names it.
pub(super) struct Folder {
    config_path: PathBuf,
    config: Config,
    directory: PathBuf,
    /// Held by who changes something: two at a time would mix their files.
    _lock: Option<File>,
}

impl Folder {
    /// The same, to change something. Waits for another process that does.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub(super) fn open_to_change(common: &Common) -> Result<Self, Failure> {
        let directory = Self::open(common)?.directory;
        // What is wrong with the directory is told where something is written; some network file systems have no locks.
        let lock = File::open(&directory).ok();
        let asked = Instant::now();
        while let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            if asked.elapsed() > LOCK_LIMIT {
                return Err(Failure::failed(format!(
                    "nothing was changed: another `braze-datadog connections` is at work in {}",
                    directory.display()
                )));
            }
            thread::sleep(LOCK_POLL);
        }
        // Only now it is known what the other one has left.
        Ok(Self { _lock: lock, ..Self::open(common)? })
    }

    /// # Errors
    /// When anything but connections is wrong with the configuration, or it names no directory.
    pub(super) fn open(common: &Common) -> Result<Self, Failure> {
        let config_path = common.config.path();
        let (config, _) = Config::load_to_edit(&config_path, None).map_err(Failure::configuration)?;
        let Some(directory) = config.connections_directory.clone() else {
            return Err(Failure::configuration(format!(
                "{}: connections_directory is not set: say there which folder holds the files of connections, and \
                 restart the forwarder once",
                config_path.display()
            )));
        };
        Ok(Self { config_path, config, directory, _lock: None })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn flush_timeout(&self) -> Duration {
        self.config.aggregate.flush_timeout
    }

    pub(super) fn running(&self) -> Result<Running, Failure> {
        Running::new(self.config.admin.listen, &self.directory)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.toml"))
    }

    /// Whether there is a file of this name in the directory itself.
    pub(super) fn has_file(&self, name: &str) -> bool {
        !name.contains('/') && self.file(name).symlink_metadata().is_ok()
    }

    /// Where a connection's file is while it is being removed: it is hidden, and so none of the forwarder's.
    fn aside(&self, name: &str) -> PathBuf {
        self.directory.join(format!(".{name}.toml.removed"))
    }

    /// Whether a removal of this connection was interrupted.
    pub(super) fn is_aside(&self, name: &str) -> bool {
        !name.contains('/') && self.aside(name).symlink_metadata().is_ok()
    }

    /// Takes a connection's file from the forwarder, as it is: it may have to come back. Its key stays, which the forwarder
    /// does not look for then.
    pub(super) fn set_aside(&self, name: &str) -> Result<(), Failure> {
        let file = self.file(name);
        let moved = match fs::rename(&file, self.aside(name)) {
            // A removal that was interrupted goes on.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_aside(name) => Ok(()),
            moved => moved,
        };
        moved.and_then(|()| self.sync()).map_err(|error| cannot("be removed", &file, &error))
    }

    /// Gives it back.
    pub(super) fn put_back(&self, name: &str) -> Result<(), Failure> {
        let (file, aside) = (self.file(name), self.aside(name));
        fs::rename(&aside, &file).and_then(|()| self.sync()).map_err(|error| {
            let put_back = format!("be put back, and is {}", aside.display());
            cannot(&put_back, &file, &error)
        })
    }

    /// Whether no connection beside this one is right, or wrong and in force as it was, of which the forwarder that has this
    /// status knows.
    pub(super) fn is_last(&self, name: &str, status: &Status) -> bool {
        let ConnectionSet { active, refused } = &self.config.connections;
        let goes_on = |other: &str| other != name && running::is_outdated(status, other);
        active.iter().all(|one| *one.name == *name) && !refused.iter().any(|one| goes_on(&one.name))
    }

    /// Whether there is a connection of this name, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.has_file(name) || self.names().any(|known| known == name)
    }

    /// The names of all connections, right or wrong.
    fn names(&self) -> impl Iterator<Item = &str> {
        let set = &self.config.connections;
        set.active.iter().map(|one| &*one.name).chain(set.refused.iter().map(|one| &*one.name))
    }

    /// # Errors
    /// When there is none, or it is wrong.
    pub(super) fn known(&self, name: &str) -> Result<Connection, Failure> {
        let set = &self.config.connections;
        if let Some(refused) = set.refused.iter().find(|one| *one.name == *name) {
            return Err(Failure::configuration(&refused.reason));
        }
        let found = set.active.iter().find(|one| *one.name == *name).cloned();
        found.ok_or_else(|| {
            let names = crate::app::names(set.active.iter().map(|one| &*one.name));
            let names = if names.is_empty() { "none".to_owned() } else { names };
            Failure::configuration(format!("there is no connection {name}; there are: {names}"))
        })
    }

    /// The file of a connection's key, if it has one.
    pub(super) fn key_file(&self, name: &str) -> Option<PathBuf> {
        self.config.key_file(name).map(Path::to_owned)
    }

    /// A connection's file as it would be with this key in it, whatever is wrong with the place of a key that it names.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn text_with_key(&self, name: &str, key: &str) -> Result<String, Failure> {
        let file = self.file(name);
        let text = fs::read_to_string(&file).map_err(|error| cannot("be read", &file, &error))?;
        let rest = text.lines().filter(|line| !line.trim_start().starts_with("api_key"));
        Ok(rest.fold(format!("api_key = {key:?}\n"), |text, line| text + line + "\n"))
    }

    /// The forwarder's reading of a connection's file.
    ///
    /// # Errors
    /// Its mistakes.
    pub(super) fn check(&self, name: &str, text: &str) -> Result<Connection, Failure> {
        let candidate = Some(Candidate { name, text });
        let (config, _) =
            Config::load_to_edit(&self.config_path, candidate).map_err(Failure::configuration)?;
        let set = config.connections;
        if let Some(refused) = set.refused.into_iter().find(|one| *one.name == *name) {
            return Err(Failure::configuration(format!("nothing was changed: {}", refused.reason)));
        }
        set.active
            .into_iter()
            .find(|one| *one.name == *name)
            .ok_or_else(|| Failure::failed("the connection was not read, by a defect"))
    }

    /// Writes a connection's key, then its file: a forwarder that reads in between finds no connection.
    pub(super) fn write_both(&self, name: &str, text: &str, key: &str) -> Result<Vec<String>, Failure> {
        let (file, key_file) = (self.file(name), self.directory.join(format!("{name}.key")));
        if key_file.symlink_metadata().is_ok() {
            let key_file = key_file.display();
            return Err(Failure::failed(format!(
                "nothing was added: {key_file} is there already, perhaps another connection's key; remove it if it is not"
            )));
        }
        self.write(&key_file, &format!("{key}\n"), OF_OWNER)?;
        if let Err(failure) = self.write(&file, text, OF_GROUP) {
            // The failure is returned; its message also mentions a file that is left over.
            return Err(match fs::remove_file(&key_file) {
                Ok(()) => failure,
                Err(error) => Failure::failed(format!(
                    "{}; and {} is left over: {error}",
                    failure.message,
                    key_file.display()
                )),
            });
        }
        Ok(vec![file.display().to_string(), key_file.display().to_string()])
    }

    /// Replaces a connection's key; owner, group and the group's right to read stay. Returns what was in the file, if it could
    /// be read.
    pub(super) fn replace_key(&self, key_file: &Path, key: &str) -> Result<Option<String>, Failure> {
        let before = fs::read_to_string(key_file).ok();
        self.write(key_file, &format!("{key}\n"), OF_OWNER)?;
        Ok(before)
    }

    /// Whether a connection other than `name` names this file for its key.
    fn is_key_of_another(&self, key: &Path, name: &str) -> bool {
        self.names().any(|other| other != name && self.config.key_file(other) == Some(key))
    }

    /// Removes a connection's file, then its key, if that is in the directory, too, and no other connection's.
    pub(super) fn remove_both(&self, name: &str, key_file: Option<&Path>) -> Result<Vec<String>, Failure> {
        let (file, own_key) = (self.file(name), self.directory.join(format!("{name}.key")));
        let aside = self.aside(name);
        let keys = [Some(own_key.as_path()), key_file.filter(|file| file.parent() == Some(&self.directory))];
        let keys = keys.into_iter().flatten().filter(|key| !self.is_key_of_another(key, name));
        let mut removed = Vec::new();
        for path in [file.as_path(), &aside].into_iter().chain(keys) {
            let known_as = if path == aside { &*file } else { path };
            match fs::remove_file(path) {
                Ok(()) => removed.push(known_as.display().to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot("be removed", path, &error)),
            }
        }
        self.sync().map_err(|error| cannot("be written to", &self.directory, &error))?;
        Ok(removed)
    }

    /// Writes a file whole: first under another name, then renamed.
    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
        let directory = path.parent().unwrap_or(&self.directory);
        let mut hidden = OsString::from(".");
        hidden.push(path.file_name().unwrap_or_default());
        hidden.push(".new");
        let new = directory.join(hidden);
        let written = self.write_new(&new, path, text, mode).and_then(|()| fs::rename(&new, path));
        let written = written.and_then(|()| File::open(directory)?.sync_all());
        written.map_err(|error| {
            // It may not exist yet.
            let _absent = fs::remove_file(&new);
            cannot("be written", path, &error)
        })
    }

    fn write_new(&self, path: &Path, replaced: &Path, text: &str, mode: u32) -> io::Result<()> {
        // The directory's owner may not be who runs this, and could have put a link there.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(OF_OWNER).open(path)?;
        let own = file.metadata()?;
        let give = |owner: &fs::Metadata| {
            let is_given = (owner.uid(), owner.gid()) == (own.uid(), own.gid());
            if is_given { Ok(()) } else { fchown(&file, Some(owner.uid()), Some(owner.gid())) }
        };
        // One that is replaced may belong to another user than the directory, and be read by a group; only root gives that back.
        let known = fs::metadata(replaced).ok();
        let is_of_group = known.as_ref().is_some_and(|known| known.mode() & OF_GROUP != 0);
        let kept = known.filter(|known| give(known).is_ok());
        let mode = if let Some(known) = kept {
            mode | (known.mode() & OF_GROUP)
        } else {
            let directory = fs::metadata(&self.directory)?;
            // Its owner may not be in its group: then a file that no group has read has the owner's own.
            let is_owners = directory.uid() == own.uid() && !is_of_group;
            give(&directory).or_else(|error| if is_owners { Ok(()) } else { Err(error) })?;
            mode
        };
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let hint = if error.kind() == io::ErrorKind::PermissionDenied {
        "; run this as root, or as the user that the directory belongs to"
    } else {
        ""
    };
    Failure::failed(format!("{} can't {what}: {error}{hint}", path.display()))
}
