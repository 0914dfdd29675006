//! What is remembered of imported files: `imports.json`, written whole and put in place by renaming.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::OpenError;
use super::fingerprint::Fingerprint;
use super::judge::Layout;

const NAME: &str = "imports.json";
/// The format that this program writes. A program refuses newer ones: it can't know what they mean.
const VERSION: u32 = 1;

/// How far the settled flushes have come in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// How it was read: judged once, so that a file that grows is not read another way.
    pub(super) layout: Layout,
    /// How many bytes of its uncompressed content are settled.
    pub(super) position: u64,
    /// Whether that is all of it.
    pub(super) finished: bool,
    /// Of Avro, where the container begins that holds there, if it is not the first of the file.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(super) container: u64,
    /// Of the bytes on disk that the position stands for.
    pub(super) fingerprint: Fingerprint,
}

impl Mark {
    /// How many bytes on disk need not be read to go on from here.
    pub(super) fn bytes_skipped(&self) -> u64 {
        // Compressed content is read again up to the position, and so is a document.
        if self.layout != Layout::Document && self.position == self.fingerprint.end {
            self.position
        } else {
            0
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_first(container: &u64) -> bool {
    *container == 0
}

/// What is remembered of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) mark: Mark,
    /// When it was written, in Unix seconds.
    pub(super) settled_at: u64,
}

/// What is remembered, by the absolute path of the file.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Read {
    files: BTreeMap<String, Entry>,
}

#[derive(Serialize)]
struct Written<'m> {
    version: u32,
    files: &'m BTreeMap<String, Entry>,
}

impl Memory {
    /// Reads what is remembered in `directory`, which is made when it is missing.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or was written by a newer version of this program.
    pub(super) fn load(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(NAME);
        let entries = match make_directory(directory).and_then(|()| fs::read(&path)) {
            Ok(bytes) => parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error.to_string()),
        };
        match entries {
            Ok(entries) => Ok(Self { path, entries }),
            Err(problem) => Err(OpenError::Memory { path, problem }),
        }
    }

    /// The error of an import that can't use this memory.
    pub(super) fn refuse(&self, problem: String) -> OpenError {
        OpenError::Memory { path: self.path.clone(), problem }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn set(&mut self, key: &str, entry: Entry) {
        self.entries.insert(key.to_owned(), entry);
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// Forgets files outside the present run until it and they are `files_max` at most: first those that
    /// were finished, the oldest of them first.
    pub(super) fn make_room(&mut self, run: &HashSet<&str>, files_max: usize) {
        let mut others: Vec<_> = self.entries.iter().filter(|(key, _)| !run.contains(key.as_str())).collect();
        let surplus = (others.len() + run.len()).saturating_sub(files_max);
        others.sort_by_key(|(_, entry)| (!entry.mark.finished, entry.settled_at));
        let surplus: Vec<_> = others.into_iter().take(surplus).map(|(key, _)| key.clone()).collect();
        for key in surplus {
            self.entries.remove(&key);
        }
    }

    /// Makes what is remembered durable: after a power cut the file is the old one or this one.
    ///
    /// # Errors
    /// When that failed; the message names the file and what to do.
    pub(super) fn write(&self) -> Result<(), String> {
        self.replace().map_err(|error| {
            format!(
                "cannot write {}: {error}; what was counted since it was last written would be counted again. \
                 Check the disk and the permissions of its directory, then run the import again",
                self.path.display()
            )
        })
    }

    fn replace(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("json.new");
        let bytes = serde_json::to_vec(&Written { version: VERSION, files: &self.entries })?;
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        sync_parent(&self.path)
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
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The version comes first, so that a newer format is told from a damaged file.
fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, String> {
    let damaged = |error: serde_json::Error| {
        format!(
            "it is damaged ({error}); restore it, or remove it and import only files that have not been \
             counted yet"
        )
    };
    let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(format!(
            "it has format {version}, and this version of braze-datadog reads format {VERSION}; use the \
             version that wrote it"
        ));
    }
    let Read { files } = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::fingerprint::Fingerprinter;
    use super::*;

    fn entry(position: u64, finished: bool, settled_at: u64) -> Entry {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        let fingerprint = Fingerprinter::default().take(&file, position, &[]).unwrap();
        Entry {
            mark: Mark { layout: Layout::Document, position, finished, container: 0, fingerprint },
            settled_at,
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("made/when/missing");
        let mut memory = Memory::load(&directory).unwrap();
        memory.set("/a \"b\"/ü", entry(10, true, 5));
        memory.write().unwrap();
        memory.set("/c", entry(20, false, 6));
        memory.write().unwrap();
        let read = Memory::load(&directory).unwrap();
        assert_eq!(read.entries, memory.entries);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "the temporary file is gone");
    }

    #[test]
    fn what_a_killed_writer_left_does_not_matter() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("imports.json.new"), "{\"version\":1,\"fi").unwrap();
        let mut memory = Memory::load(root.path()).unwrap();
        memory.set("/a", entry(10, true, 5));
        memory.write().unwrap();
        assert_eq!(Memory::load(root.path()).unwrap().entries, memory.entries);
    }

    #[test]
    fn a_damaged_or_newer_memory_is_refused_with_advice() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(NAME);
        for (text, expected) in [
            ("", "damaged"),
            ("{\"version\":1,\"files\":{\"/a\":", "damaged"),
            ("{\"version\":1,\"files\":{\"/a\":{}}}", "damaged"),
            ("{\"version\":2,\"files\":7}", "use the version that wrote it"),
        ] {
            fs::write(&path, text).unwrap();
            let message = Memory::load(root.path()).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(&*path.to_string_lossy()), "{message}");
        }
    }

    #[test]
    fn a_memory_that_cannot_be_written_names_its_file() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("gone");
        let memory = Memory::load(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
        assert!(memory.write().unwrap_err().contains("gone/imports.json"));
    }

    #[test]
    fn the_oldest_finished_files_are_forgotten_first_and_those_of_the_run_never() {
        let root = tempfile::tempdir().unwrap();
        let mut memory = Memory::load(root.path()).unwrap();
        for (key, finished, settled_at) in
            [("/run", true, 0), ("/half", false, 1), ("/old", true, 2), ("/new", true, 3)]
        {
            memory.set(key, entry(10, finished, settled_at));
        }
        let run = HashSet::from(["/run", "/unknown"]);
        let mut left = |files_max| {
            memory.make_room(&run, files_max);
            memory.entries.keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(left(5), ["/half", "/new", "/old", "/run"]);
        assert_eq!(left(4), ["/half", "/new", "/run"]);
        assert_eq!(left(3), ["/half", "/run"]);
        assert_eq!(left(2), ["/run"]);
    }
}
