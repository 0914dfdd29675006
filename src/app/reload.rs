//! Handles SIGHUP, or a file that changes: reads the configuration again, and applies the settings that a running process
//! can take over.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::file_watch::{FileNews, FileWatch, Stamps, stamps};
use super::keys::KeyWatch;
use super::reconcile::DailyReconcile;
use super::views::SettingsInForce;
use crate::config::{Config, Warning, changes_needing_restart, redacted};
use crate::connection::{Connection, ConnectionSet};
use crate::pipeline;
use crate::push::{self, Credentials};
use crate::telemetry::LogLevel;
use event_lanes::clock::Clock;
use send_counts::aggregate::tags::Layout;

/// How long reading the files of a reload may take.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How long what was read may take to be in force before it is told all the same: a queue that can't acknowledge for the time
/// being holds it up.
const IN_FORCE_LIMIT: Duration = Duration::from_secs(5);

/// Why the files are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// SIGHUP.
    Signal,
    /// The watched files are to be read.
    Files(FileNews),
}

/// What was read, beside what had been read before.
#[derive(Debug, PartialEq, Eq)]
enum Reread {
    Same,
    /// The files of the push port alone.
    Credentials,
    /// The configuration, with the number of its connections.
    Configuration(usize, Changes),
}

/// The result of the last reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastReload {
    /// The last SIGHUP was refused as a whole, whatever else has been taken over since.
    signal_refused: Option<RefusedReload>,
    /// So were the files that have changed since.
    files_refused: Option<RefusedReload>,
    /// When one was taken over last, in Unix seconds; the start is one.
    pub(super) taken_over_at: u64,
}

/// A reload that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RefusedReload {
    pub(super) reason: String,
    /// In Unix seconds.
    pub(super) at: u64,
}

impl LastReload {
    pub(super) const fn at_start(now: u64) -> Self {
        Self { signal_refused: None, files_refused: None, taken_over_at: now }
    }

    fn note(&mut self, trigger: Trigger, ended: &Result<Reread, String>, now: u64) {
        let is_as_before = trigger == Trigger::Files(FileNews::RefusedBefore)
            && match (ended, &self.files_refused) {
                (Ok(reread), refused) => *reread == Reread::Same && refused.is_none(),
                (Err(reason), Some(refused)) => *reason == refused.reason,
                (Err(_), None) => false,
            };
        if is_as_before {
            return;
        }
        if ended.is_ok() {
            self.taken_over_at = now;
        }
        let refused = ended.as_ref().err().map(|reason| RefusedReload { reason: reason.clone(), at: now });
        match trigger {
            // It has read all files.
            Trigger::Signal => (self.signal_refused, self.files_refused) = (refused, None),
            Trigger::Files(_) => self.files_refused = refused,
        }
    }

    /// The refusal that stands; of two the later one.
    pub(super) fn refused(&self) -> Option<&RefusedReload> {
        self.files_refused.as_ref().or(self.signal_refused.as_ref())
    }
}

/// The parts that take over changes.
#[derive(Debug)]
pub(super) struct Reloadable {
    pub(super) commands: mpsc::Sender<pipeline::PipelineCommand>,
    pub(super) keys: Arc<KeyWatch>,
    pub(super) log_level: LogLevel,
    pub(super) push: Option<push::Reload>,
    pub(super) reconcile: Arc<DailyReconcile>,
}

/// Reads the configuration again, and returns the settings in force.
#[derive(Debug)]
pub(super) struct Reloader {
    path: PathBuf,
    /// Whether one wrong connection refuses the whole configuration.
    is_strict: bool,
    clock: Clock,
    /// The configuration at the start: the settings that need a restart are still in force.
    started_with: Config,
    /// The configuration read last.
    read_last: Config,
    /// The stamps of the token and certificate files that were taken over last; none since the start.
    push_files: Option<Stamps>,
    in_force: Reloadable,
    pub(super) files: FileWatch,
    pub(super) connections: watch::Sender<Arc<ConnectionSet>>,
    pub(super) configuration: watch::Sender<SettingsInForce>,
    pub(super) last_reload: watch::Sender<LastReload>,
    /// The thread of the last read: while it hangs, no second one is started.
    reader: Option<JoinHandle<()>>,
}

/// The result of reading the files.
struct Files {
    config: Config,
    warnings: Vec<Warning>,
    /// The credentials of the push port, with warnings.
    credentials: Option<(Credentials, Vec<String>)>,
    /// The stamps of their files before they were read.
    read_from: Stamps,
}

/// Reads the files; blocks. The configuration's own is read on SIGHUP alone; else those that the one read last names are. The
/// messages name the mistakes.
fn read_files(
    path: &Path,
    named_by: Option<&Config>,
    in_force: &[Connection],
    is_strict: bool,
    push: Option<&push::PushSettings>,
) -> Result<Files, String> {
    let read = match named_by {
        None => Config::load_over(path, in_force),
        Some(config) => config.load_named_over(path, in_force),
    };
    let (mut config, warnings) = read.map_err(|error| error.to_string())?;
    if is_strict {
        config = config.require_all().map_err(|error| error.to_string())?;
    }
    let read_from = stamps(push.into_iter().flat_map(push::PushSettings::files).map(Path::to_owned));
    let credentials = push.map(Credentials::load).transpose().map_err(|error| error.to_string())?;
    Ok(Files { config, warnings, credentials, read_from })
}

impl Reloader {
    /// For a process that was started with `config` from the file `path`.
    ///
    /// # Errors
    /// When the system gives no thread to watch files.
    pub(super) fn new(
        path: &Path,
        config: &Config,
        is_strict: bool,
        clock: &Clock,
        in_force: Reloadable,
    ) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            is_strict,
            clock: clock.clone(),
            started_with: config.clone(),
            read_last: config.clone(),
            push_files: None,
            in_force,
            files: FileWatch::start(config)?,
            connections: watch::Sender::new(Arc::new(config.connections.clone())),
            configuration: watch::Sender::new(Arc::new(redacted(config, config))),
            last_reload: watch::Sender::new(LastReload::at_start(clock.unix_seconds())),
            reader: None,
        })
    }

    /// Reloads, and logs the result. A wrong configuration is refused as a whole; a wrong connection only by itself. A stop
    /// may abandon it.
    pub(super) async fn reload(&mut self, trigger: Trigger) {
        let is_first = self.push_files.is_none();
        let ended = self.take_over(trigger).await;
        let is_refused = ended.is_err() || !self.connections.borrow().refused.is_empty();
        self.files.are_refused(is_refused);
        let told = self.last_reload.borrow().files_refused.as_ref().map(|refused| refused.reason.clone());
        // Before it is logged: who has read the line sees what it says in the metrics, too.
        let now = self.clock.unix_seconds();
        self.last_reload.send_modify(|last| last.note(trigger, &ended, now));
        let file = self.path.display();
        match ended {
            Err(reason) => {
                if trigger != Trigger::Files(FileNews::RefusedBefore) || told.as_ref() != Some(&reason) {
                    tracing::error!(%file, %reason, "the configuration was refused; the old one stays in force");
                }
            }
            Ok(Reread::Configuration(connections, Changes { added, removed, changed, rotated })) => {
                tracing::info!(
                    %file,
                    connections,
                    added,
                    removed,
                    changed,
                    rotated,
                    "the configuration was read again"
                );
            }
            Ok(Reread::Credentials) if !is_first => {
                tracing::info!("the tokens and the certificate of the push port were read again");
            }
            Ok(Reread::Credentials | Reread::Same) => {}
        }
    }

    /// Reads all files on a thread of its own: a disk that does not answer holds up only this reload.
    async fn read(&mut self, trigger: Trigger) -> Result<Files, String> {
        let path = self.path.clone();
        let named_by = (trigger != Trigger::Signal).then(|| self.read_last.clone());
        let push = self.in_force.push.as_ref().and(self.started_with.push.clone());
        let (in_force, is_strict) = (self.connections.borrow().clone(), self.is_strict);
        let (done, files) = oneshot::channel();
        let read = move || {
            // The caller may have given up.
            let read = read_files(&path, named_by.as_ref(), &in_force.active, is_strict, push.as_ref());
            let _given_up = done.send(read);
        };
        if self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            return Err("the files of the reload before are still being read; does their disk answer?".into());
        }
        let reader = thread::Builder::new().name("reload".into()).spawn(read);
        self.reader =
            Some(reader.map_err(|error| format!("the files can't be read, for want of a thread: {error}"))?);
        match timeout(READ_LIMIT, files).await {
            Ok(Ok(files)) => {
                // Its thread may not have ended yet, and is done.
                self.reader = None;
                files
            }
            Ok(Err(_panicked)) => Err("reading the files failed by a defect".into()),
            Err(_elapsed) => Err(format!(
                "the files could not be read within {READ_LIMIT:?}; does the disk or the share that they are on answer?"
            )),
        }
    }

    /// Warnings of the start are not repeated.
    fn swap_credentials(&self, read: (Credentials, Vec<String>), is_told: bool) -> Result<(), String> {
        let (Some(push), (credentials, warnings)) = (&self.in_force.push, read) else { return Ok(()) };
        push.swap(credentials).map_err(|error| error.to_string())?;
        if !is_told {
            super::views::tell_of_certificate(push, self.clock.unix_seconds());
            for warning in warnings {
                tracing::warn!("{warning}");
            }
        }
        Ok(())
    }

    async fn take_over(&mut self, trigger: Trigger) -> Result<Reread, String> {
        let Files { mut config, warnings, credentials, read_from } = self.read(trigger).await?;
        let is_same = trigger != Trigger::Signal && config == self.read_last;
        let before = self.push_files.replace(read_from);
        if is_same && before == self.push_files {
            return Ok(Reread::Same);
        }
        // Nothing was changed so far; from here on only the credentials can be refused, so they come first.
        if let Some(credentials) = credentials {
            // Soon after the start the files are read once more, because they may have changed in between.
            self.swap_credentials(credentials, is_same && before.is_none())?;
        }
        if is_same {
            return Ok(Reread::Credentials);
        }
        self.read_last = config.clone();
        self.files.watch(&config, self.started_with.push.as_ref());
        super::warn(&self.path, &warnings);
        for key in changes_needing_restart(&self.started_with, &config) {
            tracing::warn!(key, "changed in the configuration, but needs a restart to take effect");
        }
        self.in_force.log_level.set(config.log.level);
        let layout = Arc::new(Layout::new(&config.tags));
        let before = self.connections.borrow().clone();
        config.connections.keep_old(&before);
        super::tell_refused(&config.connections);
        self.in_force.keys.configure(&config.connections.active, config.validate_keys);
        self.in_force.reconcile.configure(&config.reconcile);
        let connections = config.connections.clone();
        let (in_force, is_in_force) = oneshot::channel();
        let reload = pipeline::PipelineCommand::Reload { connections, layout, in_force };
        self.in_force.commands.send(reload).await.map_err(|_closed| "the process is stopping".to_owned())?;
        // Before it is shown: who sees a connection may send to it.
        let _late_or_stopping = timeout(IN_FORCE_LIMIT, is_in_force).await;
        let changes = Changes::between(&before.active, &config.connections.active);
        let connections = config.connections.active.len();
        self.configuration.send_replace(Arc::new(redacted(&self.started_with, &config)));
        self.connections.send_replace(Arc::new(config.connections));
        Ok(Reread::Configuration(connections, changes))
    }
}

/// The changes of a reload, by connection name; empty: no change to report.
#[derive(Debug, PartialEq, Eq)]
struct Changes {
    added: Option<String>,
    removed: Option<String>,
    changed: Option<String>,
    /// Connections of which only the key changed.
    rotated: Option<String>,
}

impl Changes {
    fn between<'c>(old: &'c [Connection], new: &'c [Connection]) -> Self {
        let by_name = |all: &'c [Connection]| -> HashMap<&'c str, &'c Connection> {
            all.iter().map(|one| (&*one.name, one)).collect()
        };
        let (before, after) = (by_name(old), by_name(new));
        let (mut added, mut changed, mut rotated) = (Vec::new(), Vec::new(), Vec::new());
        for now in new {
            match before.get(&*now.name) {
                None => added.push(&*now.name),
                Some(before) if *before == now => {}
                Some(before)
                    if (Connection { api_key: now.api_key.clone(), ..(*before).clone() }) == *now =>
                {
                    rotated.push(&*now.name);
                }
                Some(_) => changed.push(&*now.name),
            }
        }
        let removed = old.iter().map(|one| &*one.name).filter(|name| !after.contains_key(name)).collect();
        let told = |names: Vec<&str>| (!names.is_empty()).then(|| super::names(names.into_iter()));
        Self { added: told(added), removed: told(removed), changed: told(changed), rotated: told(rotated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datadog_points::ApiKey;

    fn connection(name: &str, key: &str, metric: &str) -> Connection {
        Connection { api_key: ApiKey::new(key), metric: metric.into(), ..Connection::named(name.into()) }
    }

    #[test]
    fn a_refused_sighup_stands_until_the_next_one_and_files_until_they_are_mended() {
        use Trigger::Signal;
        const FILES: Trigger = Trigger::Files(FileNews::Changed);
        const REFUSED_BEFORE: Trigger = Trigger::Files(FileNews::RefusedBefore);
        let mut last = LastReload::at_start(1);
        let mut note = |trigger, reason: Option<&str>, now| {
            let reread = if trigger == REFUSED_BEFORE { Reread::Same } else { Reread::Credentials };
            last.note(trigger, &reason.map_or(Ok(reread), |reason| Err(reason.to_owned())), now);
            (last.refused().map(|refused| (refused.reason.clone(), refused.at)), last.taken_over_at)
        };
        let refused = |reason: &str, at| Some((reason.to_owned(), at));
        assert_eq!(note(Signal, Some("main"), 2), (refused("main", 2), 1));
        assert_eq!(note(FILES, None, 3), (refused("main", 2), 3));
        assert_eq!(note(FILES, Some("token"), 4), (refused("token", 4), 3));
        assert_eq!(note(FILES, None, 5), (refused("main", 2), 5));
        assert_eq!(note(FILES, Some("token"), 6), (refused("token", 6), 5));
        assert_eq!(note(Signal, None, 7), (None, 7));
        assert_eq!(note(FILES, Some("token"), 8), (refused("token", 8), 7));
        assert_eq!(note(FILES, None, 9), (None, 9));
        // What is read again for having been refused tells of news only.
        assert_eq!(note(REFUSED_BEFORE, None, 10), (None, 9));
        assert_eq!(note(REFUSED_BEFORE, Some("disk"), 11), (refused("disk", 11), 9));
        assert_eq!(note(REFUSED_BEFORE, Some("disk"), 12), (refused("disk", 11), 9));
        assert_eq!(note(REFUSED_BEFORE, None, 13), (None, 13));
    }

    #[test]
    fn what_a_reload_did_is_told_by_name_wherever_a_connection_stands() {
        let old = [
            connection("changed", "k", "m"),
            connection("removed", "k", "m"),
            connection("rotated", "k", "m"),
            connection("same", "k", "m"),
        ];
        let new = [
            connection("added", "k", "m"),
            connection("same", "k", "m"),
            connection("rotated", "other", "m"),
            connection("changed", "other", "n"),
        ];
        let Changes { added, removed, changed, rotated } = Changes::between(&old, &new);
        let told = [added, removed, changed, rotated].map(Option::unwrap);
        assert_eq!(told, ["added", "removed", "changed", "rotated"]);
        let nothing = Changes { added: None, removed: None, changed: None, rotated: None };
        assert_eq!(Changes::between(&old, &old), nothing);
    }
}
