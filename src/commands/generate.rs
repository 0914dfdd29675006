//! `braze-datadog generate`: man pages and shell completions, made from the command line's definition, for packages and
//! manual installations.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use super::command_line::{Arguments, GenerateArguments};
use crate::app::{Failure, print_line};

const NAME: &str = env!("CARGO_PKG_NAME");

/// The shells that completions are written for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes them all, and prints where each is.
pub(super) fn run(arguments: &GenerateArguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let written = write(directory).map_err(|error| {
        Failure::failed(format!("{}: {error}; name a directory that can be written to", directory.display()))
    })?;
    for path in written {
        print_line(&path.display().to_string()).map_err(Failure::failed)?;
    }
    Ok(())
}

fn write(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut written = write_pages(&command, directory)?;
    for shell in SHELLS {
        written.push(generate_to(shell, &mut Arguments::command(), NAME, directory)?);
    }
    written.sort();
    Ok(written)
}

/// Writes the man pages of a command and of those below it, and returns where they are.
fn write_pages(command: &Command, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut written = Vec::new();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        written.extend(write_pages(below, directory)?);
    }
    let (page, mut text) = (Man::new(command.clone()), Vec::new());
    page.render(&mut text)?;
    let path = directory.join(page.get_filename());
    fs::write(&path, examples_as_they_stand(&String::from_utf8_lossy(&text)))?;
    written.push(path);
    Ok(written)
}

/// A man page, in whose last part a line stays a line where it is an example or ends a sentence: roff would fill all of them into
/// one paragraph.
fn examples_as_they_stand(page: &str) -> String {
    let (mut text, mut is_extra, mut is_example) = (String::new(), false, false);
    for line in page.lines() {
        if line.starts_with(".SH") {
            is_extra = line == ".SH EXTRA";
        }
        let begins_with_space = is_extra && line.starts_with("  ");
        if begins_with_space != is_example {
            text.push_str(if begins_with_space { ".nf\n" } else { ".fi\n" });
            is_example = begins_with_space;
        }
        text.push_str(line);
        text.push('\n');
        if is_extra && !is_example && line.ends_with(['.', ':']) {
            text.push_str(".br\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_man_page_and_every_shell_its_completions() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("new");
        fs::create_dir(&at).unwrap();
        fs::write(at.join("my-braze-datadog-notes.txt"), "").unwrap();
        let written = write(&at).unwrap();
        let names: Vec<String> =
            written.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
        for name in ["braze-datadog.1", "braze-datadog.bash", "_braze-datadog", "braze-datadog.fish"] {
            assert!(names.iter().any(|written| written == name), "{name} is not in {names:?}");
        }
        for subcommand in Arguments::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("braze-datadog-{}.1", subcommand.get_name());
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        let others: Vec<_> = names.iter().filter(|name| name.contains("notes")).collect();
        assert!(others.is_empty(), "what was there before was not written: {names:?}");
        assert!(written.is_sorted(), "{written:?}");
        let page = fs::read_to_string(at.join("braze-datadog-run.1")).unwrap();
        assert!(page.contains("import"), "{page}");
        let (_, extra) = page.split_once("\n.SH EXTRA\n").unwrap();
        let example = "\n.nf\n  braze\\-datadog run \\-\\-import dataexport/ \\-\\-once  ";
        assert!(extra.contains(example) && extra.contains("remembered)\n.fi\nPoints in Datadog"), "{extra}");
    }

    #[test]
    fn an_example_of_a_man_page_stays_a_line() {
        let page = ".SH A\n  a\n.SH EXTRA\nOne\ntwo:\n  first\n  second\nThree.\n.SH VERSION\nv1.\n";
        let expected = ".SH A\n  a\n.SH EXTRA\nOne\ntwo:\n.br\n.nf\n  first\n  second\n.fi\nThree.\n.br\n.SH VERSION\nv1.\n";
        assert_eq!(examples_as_they_stand(page), expected);
        let last = ".SH EXTRA\n  first\n.SH VERSION\n";
        assert_eq!(examples_as_they_stand(last), ".SH EXTRA\n.nf\n  first\n.fi\n.SH VERSION\n");
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let directory = file.path().join("below");
        let failure = run(&GenerateArguments { directory: directory.clone() }).unwrap_err();
        assert_eq!(failure.status, crate::app::FAILED);
        assert!(failure.message.contains(directory.to_str().unwrap()), "{}", failure.message);
    }
}
