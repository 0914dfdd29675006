//! SIGHUP: reads the configuration again, and hands on what a running process can take over.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::keys::KeyWatch;
use super::views::Shown;
use crate::clock::Clock;
use crate::config::{Config, Warning, changes_needing_restart, redacted};
use crate::connection::Connection;
use crate::pipeline;
use crate::push::{self, Credentials};
use crate::telemetry::LogLevel;
use send_counts::aggregate::tags::Layout;

/// How long the files of a reload may take to be read.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// What a reload needs.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) path: PathBuf,
    /// The configuration that the process was started with: what needs a restart is as it says.
    pub(super) started_with: Config,
    pub(super) commands: mpsc::Sender<pipeline::PipelineCommand>,
    pub(super) connections: watch::Sender<Arc<Vec<Connection>>>,
    pub(super) keys: Arc<KeyWatch>,
    pub(super) configuration: watch::Sender<Shown>,
    pub(super) log_level: LogLevel,
    pub(super) push: Option<push::Reload>,
    /// The thread that read the files last: one that hangs is not joined by a second one.
    pub(super) reader: Option<JoinHandle<()>>,
}

/// What a reload has read.
struct Files {
    config: Config,
    warnings: Vec<Warning>,
    /// Of the push port, with what should be warned of.
    credentials: Option<(Credentials, Vec<String>)>,
}

/// Blocks on files. The messages name what is wrong.
fn read_files(path: &Path, push: Option<&push::PushSettings>) -> Result<Files, String> {
    let (config, warnings) = Config::load(path).map_err(|error| error.to_string())?;
    let credentials = push.map(Credentials::load).transpose().map_err(|error| error.to_string())?;
    Ok(Files { config, warnings, credentials })
}

impl Reloader {
    /// Reloads, and logs what came of it. A configuration that is wrong is refused whole. It may be abandoned by a stop.
    pub(super) async fn reload(&mut self) {
        match self.take_over().await {
            Ok(()) => {}
            Err(reason) => tracing::error!(
                file = %self.path.display(),
                %reason,
                "the configuration was refused; the old one stays in force"
            ),
        }
    }

    /// Reads all files on a thread of its own: a disk that does not answer holds nothing up but this reload.
    async fn read(&mut self) -> Result<Files, String> {
        let path = self.path.clone();
        let push = self.push.as_ref().and(self.started_with.push.clone());
        let (done, files) = oneshot::channel();
        let read = move || {
            // Whoever waits may have given up.
            let _given_up = done.send(read_files(&path, push.as_ref()));
        };
        if self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            return Err("the files of the reload before are still being read; does their disk answer?".into());
        }
        let reader = thread::Builder::new().name("reload".into()).spawn(read);
        self.reader =
            Some(reader.map_err(|error| format!("the files can't be read, for want of a thread: {error}"))?);
        match timeout(READ_LIMIT, files).await {
            Ok(Ok(files)) => files,
            Ok(Err(_panicked)) => Err("reading the files failed by a defect".into()),
            Err(_elapsed) => Err(format!(
                "the files could not be read within {READ_LIMIT:?}; does the disk or the share that they are on answer?"
            )),
        }
    }

    async fn take_over(&mut self) -> Result<(), String> {
        let Files { config, warnings, credentials } = self.read().await?;
        // Nothing was changed so far; from here on nothing is refused but the credentials, which come first.
        if let (Some(push), Some((credentials, notices))) = (&self.push, credentials) {
            push.swap(credentials).map_err(|error| error.to_string())?;
            super::views::tell_of_certificate(push, Clock::system().unix_seconds());
            for notice in notices {
                tracing::warn!("{notice}");
            }
        }
        super::warn(&self.path, &warnings);
        for key in changes_needing_restart(&self.started_with, &config) {
            tracing::warn!(key, "changed in the configuration, but needs a restart to take effect");
        }
        self.log_level.set(config.log.level);
        let layout = Arc::new(Layout::new(&config.tags));
        self.keys.configure(&config.connections, config.validate_keys);
        self.connections.send_replace(Arc::new(config.connections.clone()));
        self.configuration.send_replace(Arc::new(redacted(&self.started_with, &config)));
        let connections = config.connections.len();
        let reload = pipeline::PipelineCommand::Reload { connections: config.connections, layout };
        self.commands.send(reload).await.map_err(|_closed| "the process is stopping".to_owned())?;
        tracing::info!(file = %self.path.display(), connections, "the configuration was read again");
        Ok(())
    }
}
