//! SIGHUP: reads the configuration again, and hands on what a running process can take over.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::keys::KeyWatch;
use super::views::Shown;
use crate::aggregate::tags::Layout;
use crate::config::{Config, Log, changes_needing_restart, shown};
use crate::datadog::Connection;
use crate::pipeline;
use crate::push::{self, Credentials};
use crate::telemetry::LogLevel;

/// What a reload needs.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) path: PathBuf,
    /// The configuration that the process was started with: what needs a restart is as it says.
    pub(super) started_with: Config,
    pub(super) commands: mpsc::Sender<pipeline::Command>,
    pub(super) connections: watch::Sender<Arc<Vec<Connection>>>,
    pub(super) keys: Arc<KeyWatch>,
    pub(super) configuration: watch::Sender<Shown>,
    pub(super) log_level: LogLevel,
    pub(super) push: Option<push::Reload>,
}

impl Reloader {
    /// Reloads, and logs what came of it. A configuration that is wrong is refused whole.
    pub(super) async fn reload(&self) {
        match self.take_over().await {
            Ok(()) => {}
            Err(reason) => tracing::error!(
                file = %self.path.display(),
                %reason,
                "the configuration was refused; the old one stays in force"
            ),
        }
    }

    async fn take_over(&self) -> Result<(), String> {
        let (config, warnings) = Config::load(&self.path).map_err(|error| error.to_string())?;
        let credentials = match (&self.push, &self.started_with.push) {
            (Some(push), Some(settings)) => {
                let (credentials, notices) =
                    Credentials::load(settings).map_err(|error| error.to_string())?;
                Some((push, credentials, notices))
            }
            _ => None,
        };
        // Nothing was changed so far; from here on nothing is refused but the credentials, which come first.
        if let Some((push, credentials, notices)) = credentials {
            push.swap(credentials).map_err(|error| error.to_string())?;
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
        let in_force = Config {
            tags: config.tags.clone(),
            log: Log { level: config.log.level, ..self.started_with.log },
            ..self.started_with.clone()
        };
        self.configuration.send_replace(Arc::new(shown(&in_force)));
        let connections = config.connections.len();
        let reload = pipeline::Command::Reload { connections: config.connections, layout };
        self.commands.send(reload).await.map_err(|_closed| "the process is stopping".to_owned())?;
        tracing::info!(file = %self.path.display(), connections, "the configuration was read again");
        Ok(())
    }
}
