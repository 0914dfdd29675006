//! Handles SIGHUP, or a file that changes: reads the configuration again, and applies the settings that a running process
//! can take over.

mod changes;
mod push_files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use self::changes::{ConnectionChanges, is_any_refused};
use self::push_files::{PushFiles, ReadPushFiles};
use super::file_watch::{FileNews, FileWatch};
use super::keys::KeyWatch;
use super::reconcile::DailyReconcile;
use super::views::SettingsInForce;
use crate::config::{Config, Warning, changes_needing_restart, redacted};
use crate::connection::{Connection, ConnectionSet};
use crate::pipeline;
use crate::push;
use crate::reconcile::ReconcileSettings;
use crate::telemetry::LogLevel;
use event_lanes::clock::Clock;
use send_counts::aggregate::tags::Layout;

/// How long reading the files of a reload may take.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait until a reload is in force before reporting it anyway: a queue that can't acknowledge at present holds it
/// up.
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
    Configuration(usize, ConnectionChanges),
}

/// What came of a reload.
#[derive(Debug, PartialEq, Eq)]
struct ReloadOutcome {
    reread: Reread,
    /// Why the configuration was refused.
    configuration_refused: Option<String>,
    /// Why files of the push port were refused, whatever came of the configuration.
    push_refused: Option<String>,
}

impl ReloadOutcome {
    /// Everything was refused.
    const fn refused_whole(reason: String) -> Self {
        Self { reread: Reread::Same, configuration_refused: Some(reason), push_refused: None }
    }

    const fn is_refused(&self) -> bool {
        self.configuration_refused.is_some() || self.push_refused.is_some()
    }
}

/// The result of the last reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastReload {
    /// The last SIGHUP was refused as a whole, whatever else has been taken over since.
    signal_refused: Option<RefusedReload>,
    /// What has changed since in other files of the configuration was refused.
    files_refused: Option<RefusedReload>,
    /// Files of the push port were refused by themselves.
    push_refused: Option<RefusedReload>,
    /// When a configuration was taken over last, in Unix seconds; the start is one.
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
        Self { signal_refused: None, files_refused: None, push_refused: None, taken_over_at: now }
    }

    /// Whether this is what was known before, of files that are read again for having been refused.
    fn knows(&self, trigger: Trigger, outcome: &ReloadOutcome) -> bool {
        let is_known = |refused: &Option<RefusedReload>, reason: &Option<String>| {
            refused.as_ref().map(|refused| &refused.reason) == reason.as_ref()
        };
        trigger == Trigger::Files(FileNews::RefusedBefore)
            && outcome.reread == Reread::Same
            && is_known(&self.files_refused, &outcome.configuration_refused)
            && is_known(&self.push_refused, &outcome.push_refused)
    }

    fn note(&mut self, trigger: Trigger, outcome: &ReloadOutcome, now: u64) {
        if self.knows(trigger, outcome) {
            return;
        }
        if outcome.configuration_refused.is_none() {
            self.taken_over_at = now;
        }
        let refused = |reason: &String| RefusedReload { reason: reason.clone(), at: now };
        let configuration_refused = outcome.configuration_refused.as_ref().map(refused);
        match trigger {
            // It has read all files.
            Trigger::Signal => (self.signal_refused, self.files_refused) = (configuration_refused, None),
            Trigger::Files(_) => self.files_refused = configuration_refused,
        }
        self.push_refused = outcome.push_refused.as_ref().map(refused);
    }

    /// The refusal of the configuration that stands; of two the later one.
    pub(super) fn configuration_refused(&self) -> Option<&RefusedReload> {
        self.files_refused.as_ref().or(self.signal_refused.as_ref())
    }

    /// The refusal of files of the push port that stands.
    pub(super) const fn push_refused(&self) -> Option<&RefusedReload> {
        self.push_refused.as_ref()
    }

    pub(super) fn is_refused(&self) -> bool {
        self.configuration_refused().is_some() || self.push_refused.is_some()
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
    /// The daily comparison as it is in force.
    reconcile: ReconcileSettings,
    /// The files of the push port, if it is open.
    push_files: Option<PushFiles>,
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
    configuration: Result<(Config, Vec<Warning>), String>,
    push: Option<ReadPushFiles>,
}

/// Reads the files; blocks. The main one is read on SIGHUP alone; else those that the one read last names are. The messages
/// name the mistakes.
fn read_files(
    path: &Path,
    read_last: &Config,
    is_main_read: bool,
    in_force: &[Connection],
    is_strict: bool,
    push: Option<&push::PushSettings>,
) -> Files {
    let read = if is_main_read {
        read_last.load_over(path, in_force)
    } else {
        read_last.load_named_over(path, in_force)
    };
    let read = read.and_then(|(config, warnings)| {
        Ok((if is_strict { config.require_all()? } else { config }, warnings))
    });
    let configuration = read.map_err(|error| {
        let is_old = !is_main_read && error.is_of(path);
        format!("{error}{}", if is_old { " (of the main file, what was read of it last)" } else { "" })
    });
    Files { configuration, push: push.map(ReadPushFiles::read) }
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
        let push_files = config.push.clone().zip(in_force.push.clone());
        Ok(Self {
            path: path.to_owned(),
            is_strict,
            clock: clock.clone(),
            started_with: config.clone(),
            read_last: config.clone(),
            reconcile: config.reconcile.clone(),
            push_files: push_files.map(|(settings, port)| PushFiles::new(settings, port)),
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
        let outcome = self.take_over(trigger).await.unwrap_or_else(ReloadOutcome::refused_whole);
        let is_refused = outcome.is_refused() || is_any_refused(&self.connections.borrow(), &self.reconcile);
        self.files.set_refused(is_refused);
        let (is_known, was_refused) = {
            let last = self.last_reload.borrow();
            (last.knows(trigger, &outcome), last.is_refused())
        };
        // Before it is logged: who has read the line sees what it says in the metrics, too.
        let now = self.clock.unix_seconds();
        self.last_reload.send_modify(|last| last.note(trigger, &outcome, now));
        if !is_known {
            if was_refused && outcome.reread == Reread::Same && !self.last_reload.borrow().is_refused() {
                let file = self.path.display();
                tracing::info!(%file, "nothing is refused any more: what is in force is what the files say");
            }
            self.log_outcome(outcome);
        }
    }

    fn log_outcome(&self, outcome: ReloadOutcome) {
        let file = self.path.display();
        if let Some(reason) = &outcome.configuration_refused {
            tracing::error!(%file, %reason, "the configuration was refused; the old one stays in force");
        }
        if let Some(reason) = &outcome.push_refused {
            tracing::error!(
                %reason,
                "the configuration was refused in part: files of the push port are wrong, and what was read of them before \
                 stays in force"
            );
        }
        match outcome.reread {
            Reread::Configuration(connections, ConnectionChanges { added, removed, changed, rotated }) => {
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
            Reread::Credentials if outcome.push_refused.is_some() => {
                tracing::info!("what is right of the push port's files was read again");
            }
            Reread::Credentials => {
                tracing::info!("the tokens and the certificate of the push port were read again");
            }
            Reread::Same => {}
        }
    }

    /// Reads all files on a thread of its own: a disk that does not answer holds up only this reload.
    async fn read(&mut self, trigger: Trigger) -> Result<Files, String> {
        let path = self.path.clone();
        let (read_last, is_main_read) = (self.read_last.clone(), trigger == Trigger::Signal);
        let push = self.push_files.as_ref().map(|files| files.settings().clone());
        let (in_force, is_strict) = (self.connections.borrow().clone(), self.is_strict);
        let (done, files) = oneshot::channel();
        let read = move || {
            // The caller may have given up.
            let read =
                read_files(&path, &read_last, is_main_read, &in_force.active, is_strict, push.as_ref());
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
                Ok(files)
            }
            Ok(Err(_panicked)) => Err("reading the files failed by a defect".into()),
            Err(_elapsed) => Err(format!(
                "the files could not be read within {READ_LIMIT:?}; does the disk or the share that they are on answer?"
            )),
        }
    }

    /// Takes over what was read. What SIGHUP reads is refused as a whole; of files that have changed each by itself, so that
    /// a mistake in one holds up no other.
    async fn take_over(&mut self, trigger: Trigger) -> Result<ReloadOutcome, String> {
        let Files { configuration, push } = self.read(trigger).await?;
        let is_asked = trigger == Trigger::Signal;
        let (configuration, configuration_refused) = match configuration {
            Ok((config, _)) if !is_asked && config == self.read_last => (None, None),
            Ok(read) => (Some(read), None),
            Err(reason) if is_asked => return Err(reason),
            Err(reason) => (None, Some(reason)),
        };
        let config = configuration.as_ref().map_or(&self.read_last, |(config, _)| config);
        let mut outcome = ReloadOutcome { reread: Reread::Same, configuration_refused, push_refused: None };
        if let (Some(files), Some(read)) = (&mut self.push_files, push) {
            outcome.push_refused = files.refused(&read, config.push.as_ref());
            // Nothing was changed so far.
            if is_asked && let Some(reason) = outcome.push_refused {
                return Err(reason);
            }
            files.log_moved(&read, config.push.as_ref(), is_asked);
            // Soon after the start the files are read once more, because they may have changed in between; warnings of the
            // start are not repeated.
            let is_told = configuration.is_none() && files.is_first();
            if let Some(warnings) = files.take_over(read, is_asked)?
                && !is_told
            {
                files.warn(&warnings, self.clock.unix_seconds());
                outcome.reread = Reread::Credentials;
            }
        }
        if let Some((config, warnings)) = configuration {
            outcome.reread = self.put_in_force(config, &warnings, is_asked).await?;
        }
        Ok(outcome)
    }

    async fn put_in_force(
        &mut self,
        mut config: Config,
        warnings: &[Warning],
        is_asked: bool,
    ) -> Result<Reread, String> {
        self.read_last = config.clone();
        self.files.watch(&config, self.started_with.push.as_ref());
        super::warn(&self.path, warnings);
        for key in changes_needing_restart(&self.started_with, &config) {
            tracing::warn!(key, "changed in the configuration, but needs a restart to take effect");
        }
        self.in_force.log_level.set(config.log.level);
        let layout = Arc::new(Layout::new(&config.tags));
        let before = self.connections.borrow().clone();
        config.keep_old(&before);
        super::log_refused(&config.connections);
        self.in_force.keys.configure(&config.connections.active, config.validate_keys);
        config.reconcile.keep_old(&self.reconcile, |name| config.connections.keeps_old(name));
        self.in_force.reconcile.configure(&config.reconcile, is_asked);
        self.reconcile = config.reconcile.clone();
        let connections = config.connections.clone();
        let (in_force, is_in_force) = oneshot::channel();
        let reload = pipeline::PipelineCommand::Reload { connections, layout, in_force };
        self.in_force.commands.send(reload).await.map_err(|_closed| "the process is stopping".to_owned())?;
        // Before it is shown: who sees a connection may send to it.
        let _late_or_stopping = timeout(IN_FORCE_LIMIT, is_in_force).await;
        let changes = ConnectionChanges::between(&before.active, &config.connections.active);
        let connections = config.connections.active.len();
        self.configuration.send_replace(Arc::new(redacted(&self.started_with, &config)));
        self.connections.send_replace(Arc::new(config.connections));
        Ok(Reread::Configuration(connections, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_main_file_was_read_earlier_is_said_where_the_mistake_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        let acme = "url = \"https://localhost\"\napi_key_file = \"acme.key\"\n";
        let main = format!("connections_directory = \"d\"\n[connections.acme]\n{acme}");
        std::fs::write(at("a.toml"), main).unwrap();
        std::fs::write(at("acme.key"), "0123456789abcdef0123456789abcdef").unwrap();
        let (config, _) = Config::load(&at("a.toml")).unwrap();
        let refused = || {
            let files = read_files(&at("a.toml"), &config, false, &[], true, None);
            files.configuration.map(|_| ()).unwrap_err()
        };
        std::fs::write(at("d/b.toml"), "dry_run =\n").unwrap();
        let of_directory = refused();
        assert!(
            of_directory.contains("b.toml: ") && !of_directory.contains("(of the main file"),
            "{of_directory}"
        );
        std::fs::remove_file(at("acme.key")).unwrap();
        let of_both = refused();
        assert!(of_both.ends_with(" (of the main file, what was read of it last)"), "{of_both}");
    }

    #[test]
    fn a_key_of_braze_that_can_not_be_read_is_read_again_though_all_else_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("a.toml"), folder.path().join("braze.key"));
        let braze =
            "[reconcile]\nbraze_url = \"https://rest.fra-01.braze.eu\"\nbraze_key_file = \"./braze.key\"\n";
        std::fs::write(&path, format!("{braze}[connections.acme]\ndry_run = true\n")).unwrap();
        std::fs::write(&key, "5b1e7a90-1234-4cde-9abc-0123456789ab").unwrap();
        let is_read_again = || {
            let (config, _) = Config::load(&path).unwrap();
            assert!(config.connections.refused.is_empty(), "{:?}", config.connections);
            is_any_refused(&config.connections, &config.reconcile)
        };
        assert!(!is_read_again());
        std::fs::remove_file(&key).unwrap();
        assert!(is_read_again());
    }

    #[test]
    fn a_refused_sighup_stands_until_the_next_one_and_files_until_they_are_mended() {
        use Trigger::Signal;
        const FILES: Trigger = Trigger::Files(FileNews::Changed);
        const REFUSED_BEFORE: Trigger = Trigger::Files(FileNews::RefusedBefore);
        let mut last = LastReload::at_start(1);
        let mut note = |trigger, reason: Option<&str>, now| {
            let reread = if trigger == REFUSED_BEFORE { Reread::Same } else { Reread::Credentials };
            let outcome = ReloadOutcome { reread, configuration_refused: None, push_refused: None };
            let refused = |reason: &str| ReloadOutcome::refused_whole(reason.to_owned());
            last.note(trigger, &reason.map_or(outcome, refused), now);
            let refused = last.configuration_refused();
            (refused.map(|refused| (refused.reason.clone(), refused.at)), last.taken_over_at)
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
        // The configuration and the files of the push port are each a matter of its own.
        let apart = |reread, configuration: Option<&str>, push: Option<&str>| ReloadOutcome {
            reread,
            configuration_refused: configuration.map(str::to_owned),
            push_refused: push.map(str::to_owned),
        };
        for (outcome, now, at) in [
            (apart(Reread::Same, None, Some("token")), 20, 20),
            (apart(Reread::Credentials, Some("acme"), None), 21, 20),
            (apart(Reread::Credentials, Some("acme"), Some("certificate")), 22, 20),
            (apart(Reread::Same, None, None), 23, 23),
        ] {
            let mut last = LastReload::at_start(1);
            last.taken_over_at = at.min(20);
            last.note(FILES, &outcome, now);
            let reason = |refused: Option<&RefusedReload>| refused.map(|refused| refused.reason.clone());
            assert_eq!(reason(last.configuration_refused()), outcome.configuration_refused);
            assert_eq!(reason(last.push_refused()), outcome.push_refused);
            assert_eq!((last.is_refused(), last.taken_over_at), (outcome.is_refused(), at));
            assert!(last.knows(REFUSED_BEFORE, &ReloadOutcome { reread: Reread::Same, ..outcome }));
        }
        // What is right was taken over, and is told again only where there is news.
        let of_push = |reread| ReloadOutcome {
            reread,
            configuration_refused: None,
            push_refused: Some("token".to_owned()),
        };
        for (reread, now) in [(Reread::Credentials, 14), (Reread::Same, 15), (Reread::Credentials, 16)] {
            let is_news = reread != Reread::Same;
            let outcome = of_push(reread);
            assert_eq!(last.knows(REFUSED_BEFORE, &outcome), !is_news);
            last.note(REFUSED_BEFORE, &outcome, now);
            let at = if is_news { now } else { 14 };
            assert_eq!((last.push_refused().map(|refused| refused.at), last.taken_over_at), (Some(at), at));
        }
    }
}
