//! Lists the files to import: which, of what kind, and what their paths tell about their events.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FileReport, ImportError};
use crate::EventDefaults;
use crate::event_type::event_type_of_path as event_type;

/// One thing to import.
#[derive(Debug)]
pub(super) struct ListedFile {
    /// As it was given, or found below a directory that was given.
    pub(super) path: PathBuf,
    pub(super) kind: FileKind,
    pub(super) defaults: Arc<EventDefaults>,
    /// It was found below a directory that was given: if it can't be read, the others still are.
    pub(super) is_listed: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Regular {
        /// The absolute path without symbolic links: the name it is remembered under.
        key: String,
    },
    /// A pipe or a device, which has no beginning to come back to.
    Stream,
    StandardInput,
}

/// Lists the files to import, in the order given; a directory stands for the files below it in the order of their names,
/// except those whose name, or whose directory's, begins with `.` or `_`. A file that is named twice, in whatever way, is
/// listed once. An entry of a directory that can't be imported is reported, and the others are listed.
///
/// # Errors
/// When one of the paths that were given can't be imported.
pub(super) fn list(
    paths: &[PathBuf],
    files_max: usize,
) -> Result<(Vec<ListedFile>, Vec<FileReport>), ImportError> {
    let mut list = List { files_max, ..List::default() };
    for path in paths {
        if path.as_os_str() == "-" {
            list.add_standard_input()?;
            continue;
        }
        let kind = fs::metadata(path).map_err(|error| unreadable(path, &error))?.file_type();
        if kind.is_dir() {
            let before = (list.found.len(), list.passed, list.reports.len());
            let hidden_before = list.hidden;
            list.walk(path)?;
            if before == (list.found.len(), list.passed, list.reports.len()) {
                list.reports.push(FileReport::Empty { path: path.clone() });
            }
            let entries = list.hidden - hidden_before;
            if entries > 0 {
                list.reports.push(FileReport::Hidden { path: path.clone(), entries });
            }
        } else if kind.is_file() {
            list.add_regular(path, false)?;
        } else if kind.is_socket() {
            let problem = "it is a socket, which can't be opened as a file".to_owned();
            return Err(ImportError::File { path: path.clone(), problem });
        } else {
            list.add(path.clone(), FileKind::Stream, defaults(path), false)?;
        }
    }
    Ok((list.found, list.reports))
}

/// Says that a path can't be read, and why.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> ImportError {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("{error}; let the user that runs braze-datadog read it")
        }
        _ => error.to_string(),
    };
    ImportError::File { path: path.to_owned(), problem }
}

#[derive(Default)]
struct List {
    files_max: usize,
    found: Vec<ListedFile>,
    reports: Vec<FileReport>,
    keys: HashSet<String>,
    /// How many times a file was named again.
    passed: usize,
    /// How many entries of directories were left out for their names.
    hidden: usize,
    /// Directories that have been entered: symbolic links may lead back into one.
    entered: HashSet<PathBuf>,
}

impl List {
    fn walk(&mut self, directory: &Path) -> Result<(), ImportError> {
        let refuse = |error: io::Error| unreadable(directory, &error);
        if !self.entered.insert(directory.canonicalize().map_err(refuse)?) {
            return Ok(());
        }
        let entries = fs::read_dir(directory).map_err(refuse)?;
        let mut paths: Vec<_> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(refuse)?;
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(b".") || name.starts_with(b"_") {
                self.hidden += 1;
                continue;
            }
            match self.add_entry(&path) {
                Err(ImportError::File { path, problem }) => {
                    self.reports.push(FileReport::LeftOut { path, problem });
                }
                added => added?,
            }
        }
        Ok(())
    }

    fn add_entry(&mut self, path: &Path) -> Result<(), ImportError> {
        let kind = fs::metadata(path).map_err(|error| unreadable(path, &error))?.file_type();
        if kind.is_dir() {
            self.walk(path)
        } else if kind.is_file() {
            self.add_regular(path, true)
        } else {
            Ok(())
        }
    }

    fn add_regular(&mut self, path: &Path, is_listed: bool) -> Result<(), ImportError> {
        let absolute = path.canonicalize().map_err(|error| unreadable(path, &error))?;
        let Some(key) = absolute.to_str() else {
            let problem = "its path is not UTF-8, so it can't be remembered; rename it".to_owned();
            return Err(ImportError::File { path: path.to_owned(), problem });
        };
        if !self.keys.insert(key.to_owned()) {
            self.passed += 1;
            return Ok(());
        }
        // The path as it was given may name a type that links lead away from.
        let defaults = event_type(path).map_or_else(|| defaults(&absolute), |_| defaults(path));
        self.add(path.to_owned(), FileKind::Regular { key: key.to_owned() }, defaults, is_listed)
    }

    fn add_standard_input(&mut self) -> Result<(), ImportError> {
        let path = PathBuf::from("-");
        if self.found.iter().any(|found| found.kind == FileKind::StandardInput) {
            let problem = "standard input can be read only once; name it once".to_owned();
            return Err(ImportError::File { path, problem });
        }
        self.add(path, FileKind::StandardInput, EventDefaults::default(), false)
    }

    fn add(
        &mut self,
        path: PathBuf,
        kind: FileKind,
        defaults: EventDefaults,
        is_listed: bool,
    ) -> Result<(), ImportError> {
        if self.found.len() == self.files_max {
            return Err(ImportError::TooManyFiles { files_max: self.files_max });
        }
        self.found.push(ListedFile { path, kind, defaults: Arc::new(defaults), is_listed });
        Ok(())
    }
}

fn defaults(path: &Path) -> EventDefaults {
    EventDefaults { event_type: event_type(path), ..EventDefaults::default() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(paths: &[PathBuf], root: &Path) -> Vec<String> {
        let found = list(paths, 100).unwrap().0;
        let name = |found: &ListedFile| found.path.strip_prefix(root).unwrap().display().to_string();
        found.iter().map(name).collect()
    }

    fn write(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
    }

    #[test]
    fn a_file_may_have_the_event_type_in_its_name() {
        for (name, expected) in [
            ("users.messages.email.Send.json", Some("users.messages.email.Send")),
            ("d/users.messages.email.Send.json.gz", Some("users.messages.email.Send")),
            ("export-users.messages.sms.Send-0001.avro", Some("users.messages.sms.Send")),
            ("users.canvas.Entry", Some("users.canvas.Entry")),
            ("event_type=users.canvas.Entry/users.messages.sms.Send.avro", Some("users.canvas.Entry")),
            ("myusers.messages.sms.Send.avro", None),
            ("users.json", None),
            ("users.messages.json", None),
            ("users..Send", None),
            ("part-0001.avro", None),
        ] {
            assert_eq!(event_type(Path::new(name)).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_directory_stands_for_the_files_below_it_in_the_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["b/2", "b/1", "a", "c/d/e", ".hidden", "_SUCCESS", "_temporary/x", ".git/y"]);
        assert_eq!(names(&[root.path().into()], root.path()), ["a", "b/1", "b/2", "c/d/e"]);
    }

    #[test]
    fn files_keep_the_order_in_which_they_were_given_and_come_once() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["a", "b", "d/c"]);
        symlink(root.path().join("a"), root.path().join("link")).unwrap();
        let paths = ["b", "d/../a", "link", "d", "b", "d/c"].map(|name| root.path().join(name));
        assert_eq!(names(&paths, root.path()), ["b", "d/../a", "d/c"]);
    }

    #[test]
    fn links_in_a_circle_end() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["d/a"]);
        symlink(root.path(), root.path().join("d/up")).unwrap();
        assert_eq!(names(&[root.path().into()], root.path()), ["d/a"]);
    }

    #[test]
    fn the_event_type_comes_from_the_innermost_directory_that_names_one() {
        for (path, expected) in [
            (
                "event_type=users.messages.email.Send/date=2026-11-22/a.avro",
                Some("users.messages.email.Send"),
            ),
            ("event_type=x/event_type=y/a", Some("y")),
            ("event_type=/a", None),
            ("d/event_type=x", None),
            ("a", None),
        ] {
            assert_eq!(event_type(Path::new(path)).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_event_type_is_found_where_a_link_leads_too() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["event_type=x/a"]);
        symlink(root.path().join("event_type=x/a"), root.path().join("b")).unwrap();
        let found = list(&[root.path().join("b")], 9).unwrap().0;
        assert_eq!(found[0].defaults.event_type.as_deref(), Some("x"));
    }

    #[test]
    fn an_empty_directory_is_told_and_no_error() {
        let root = tempfile::tempdir().unwrap();
        let (found, reports) = list(&[root.path().into()], 9).unwrap();
        assert!(found.is_empty());
        assert_eq!(reports, [FileReport::Empty { path: root.path().into() }]);
    }

    #[test]
    fn what_is_left_out_for_its_name_is_told() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["a/_old/x", "a/.b", "a/c", "b/_x"]);
        let paths = ["a", "b", "a/_old"].map(|name| root.path().join(name));
        let (found, reports) = list(&paths, 9).unwrap();
        assert_eq!(
            found.iter().map(|found| &found.path).collect::<Vec<_>>(),
            [&paths[0].join("c"), &paths[2].join("x")]
        );
        let [a, b] = [0, 1].map(|at| paths[at].clone());
        let told = [
            FileReport::Hidden { path: a, entries: 2 },
            FileReport::Empty { path: b.clone() },
            FileReport::Hidden { path: b, entries: 1 },
        ];
        assert_eq!(reports, told);
        assert!(told[0].to_string().contains("2 entries") && told[2].to_string().contains("one entry"));
    }

    #[test]
    fn what_cannot_be_imported_is_named() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &["a", "b", "c"]);
        let refuse = |paths: &[PathBuf]| list(paths, 2).unwrap_err().to_string();

        let missing = root.path().join("nothing");
        let text = refuse(std::slice::from_ref(&missing));
        assert_eq!(
            text,
            format!("cannot import {}: there is no such file; check the path", missing.display())
        );
        assert!(refuse(&["-".into(), "-".into()]).contains("only once"));
        assert!(refuse(&[root.path().into()]).contains("more than 2 files"));

        let odd = root.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        fs::write(&odd, "").unwrap();
        assert!(refuse(&[odd]).contains("not UTF-8"));
    }
}
