//! `braze-datadog generate`: man pages and shell completions, made from the command line's definition, for packages and
//! manual installations.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};

use super::command_line::{Arguments, GenerateArguments};
use super::{Failure, print_line};

const NAME: &str = env!("CARGO_PKG_NAME");

/// The shells that completions are written for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes them all, and prints where each is.
pub(super) fn generate(arguments: &GenerateArguments) -> Result<(), Failure> {
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
    let command = Arguments::command();
    clap_mangen::generate_to(command, directory)?;
    for shell in SHELLS {
        generate_to(shell, &mut Arguments::command(), NAME, directory)?;
    }
    let mut written = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    written.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(NAME)));
    written.sort();
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_man_page_and_every_shell_its_completions() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("new");
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
        let page = fs::read_to_string(at.join("braze-datadog-run.1")).unwrap();
        assert!(page.contains("import"), "{page}");
    }

    #[test]
    fn a_directory_that_can_not_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let directory = file.path().join("below");
        let failure = generate(&GenerateArguments { directory: directory.clone() }).unwrap_err();
        assert_eq!(failure.status, super::super::FAILED);
        assert!(failure.message.contains(directory.to_str().unwrap()), "{}", failure.message);
    }
}
