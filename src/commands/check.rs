//! `braze-datadog check`: finds what `run` would find, and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::command_line::CheckArguments;
use super::online;
use crate::app::serve::RECEIVES_NOTHING;
use crate::app::{Failure, WRONG_CONFIGURATION, load, names, network, print_line, print_stderr, queues};
use crate::config::{Config, QueueKind, describe};
use crate::push::Credentials;
use event_lanes::clock::Clock;

pub(super) fn run(given: &CheckArguments) -> Result<(), Failure> {
    let (config, warnings) = load(&given.config.path())?;
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    if let Some(push) = &config.push {
        let (credentials, found) = Credentials::load(push).map_err(Failure::configuration)?;
        let trouble = credentials.certificate_trouble(Clock::system().unix_seconds());
        warnings.extend(found.into_iter().chain(trouble.map(|trouble| trouble.to_string())));
    }
    warnings.extend(of_this_machine(&config).map_err(Failure::configuration)?);
    let network = match network(&config.connections.active) {
        Err(Failure { status, message }) if status != WRONG_CONFIGURATION => {
            warnings.push(message);
            Ok(())
        }
        made => made.map(drop),
    };
    for warning in &warnings {
        print_stderr(&format!("warning: {warning}"));
    }
    complain_once(
        (config.connections.refused.iter().map(|refused| &*refused.reason))
            .chain(config.reconcile.refused.iter().map(|refused| &*refused.reason)),
    );
    queues::check(&config)?;
    network?;
    print_line(describe(&config).trim_end()).map_err(Failure::failed)?;
    let asked =
        if given.online { online::check(&config.connections.active, given.find_site) } else { Ok(()) };
    match (conclude(&config, given.deny_warnings, warnings.len()), asked) {
        // What is wrong stays wrong, whether or not Datadog could be asked.
        (Err(wrong), Err(unanswered)) => {
            print_stderr(&unanswered.message);
            Err(wrong)
        }
        (concluded, asked) => concluded.and(asked),
    }
}

/// Complains of each line once: what two connections claim is wrong with both.
fn complain_once<'r>(reasons: impl Iterator<Item = &'r str>) {
    let mut told = BTreeSet::new();
    for reason in reasons {
        let lines: Vec<&str> = reason.lines().filter(|line| told.insert(*line)).collect();
        if !lines.is_empty() {
            print_stderr(&lines.join("\n"));
        }
    }
}

/// The exit status by what was found here.
fn conclude(config: &Config, deny_warnings: bool, warnings: usize) -> Result<(), Failure> {
    if let refused @ [_, ..] = &config.connections.refused[..] {
        let names = names(refused.iter().map(|refused| &*refused.name));
        let reason = format!("{} left out, for what is written for them is wrong: {names}", refused.len());
        return Err(Failure::configuration(reason));
    }
    if !config.reconcile.refused.is_empty() {
        let reason = "nothing is compared with Braze's dashboard where what is written for it is wrong";
        return Err(Failure::configuration(reason));
    }
    if deny_warnings && warnings > 0 {
        return Err(Failure::configuration(format!("{warnings} warnings, and --deny-warnings")));
    }
    Ok(())
}

/// Checks that depend on this machine and user: ports, permissions.
fn of_this_machine(config: &Config) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    if config.receives_nothing() {
        warnings.push(RECEIVES_NOTHING.to_owned());
    }
    let push = config.push.as_ref().map(|push| ("push.listen", push.listen));
    warnings.extend(push.into_iter().chain([("admin.listen", config.admin.listen)]).filter_map(port));
    if config.queue.kind == QueueKind::Embedded {
        warnings.extend(directory("queue.embedded.directory", &config.queue.embedded.directory)?);
    }
    if config.queue.kind == QueueKind::Storage {
        warnings.extend(directory("queue.storage.state_directory", &config.queue.storage.state_directory)?);
    }
    if let Some(history) = &config.history {
        // Without it everything else goes on.
        let trouble = directory("history.directory", &history.directory).unwrap_or_else(Some);
        warnings.extend(trouble);
    }
    Ok(warnings)
}

/// Why this address can't be listened on.
fn port((key, address): (&str, SocketAddr)) -> Option<String> {
    match TcpListener::bind(address) {
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Some(format!("{key}: {address} is in use: by a forwarder that runs, or by something else"))
        }
        Err(error) => Some(format!("{key}: nothing can listen on {address} here: {error}")),
    }
}

/// What will keep the directory that `key` names from being made or written to: a warning where another user might be able
/// to, else an error. Makes nothing.
fn directory(key: &str, path: &Path) -> Result<Option<String>, String> {
    for place in path.ancestors() {
        match fs::metadata(place) {
            Ok(found) if !found.is_dir() => {
                return Err(format!("{key}: {} is no directory", place.display()));
            }
            Ok(_)
                if place == path
                    && let Some(file) = file_of_another(path) =>
            {
                let file = file.display();
                return Ok(Some(format!(
                    "{key}: this user can't write to {file}; the files there have to belong to the one that runs the forwarder: chown them"
                )));
            }
            Ok(_) => {
                let is_allowed = access(place, Access::WRITE_OK | Access::EXEC_OK);
                return Ok(is_allowed.err().map(|error| {
                    let place = place.display();
                    format!("{key}: this user can't write to {place}: {error}; the one that runs the forwarder has to")
                }));
            }
            Err(error) if error.kind() == ErrorKind::NotFound && place.is_symlink() => {
                let place = place.display();
                return Ok(Some(format!(
                    "{key}: {place} is a link to what does not exist: is the volume mounted?"
                )));
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Ok(Some(format!("{key}: {}: {error}", place.display()))),
        }
    }
    Ok(None)
}

/// A file in a directory that this user can't write to, as an import by root leaves them.
fn file_of_another(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?;
    let mut files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
    files.find(|file| access(file, Access::WRITE_OK).is_err())
}
