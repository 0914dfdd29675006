//! The running forwarder: whether it has taken over a change.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use admin_api::{Client, ConnectionStatus, ReloadStatus, Status};
use serde::Serialize;

use crate::app::Failure;

/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How often the forwarder is asked.
const INTERVAL: Duration = Duration::from_millis(250);

/// Whether the forwarder has a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TakenOver {
    /// It is in force.
    InForce,
    /// No forwarder of this configuration answers at its `admin.listen`.
    NotRunning,
    /// The command did not wait.
    NotWaitedFor,
}

impl TakenOver {
    pub(super) const fn message(self) -> &'static str {
        match self {
            Self::InForce => "the running forwarder has taken it over",
            Self::NotRunning => {
                "no forwarder with this configuration answers at admin.listen: one that runs all the same takes it over within \
                 seconds, else it holds from the next start on"
            }
            Self::NotWaitedFor => "a running forwarder takes it over within seconds",
        }
    }
}

/// Why a change is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// The forwarder has refused it.
    Refused(String),
    /// It has not read the files within this time.
    Late(SocketAddr, Duration),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(
                f,
                "the running forwarder refuses it: {reason} (of the main file it knows what it read at its start or the last \
                 SIGHUP)"
            ),
            Self::Late(address, wait) => write!(
                f,
                "it is written, but the forwarder at {address} has not taken it over within {wait:?}: its log says why, and \
                 SIGHUP makes it read again"
            ),
        }
    }
}

/// The forwarder, if there is one.
pub(super) struct Running {
    client: Client,
    address: SocketAddr,
    directory: PathBuf,
}

impl Running {
    pub(super) fn new(address: SocketAddr, directory: &Path) -> Result<Self, Failure> {
        let client = Client::local(address, ANSWER_LIMIT).map_err(Failure::failed)?;
        Ok(Self { client, address, directory: directory.to_owned() })
    }

    /// Its status, if it reads this directory.
    pub(super) async fn status(&self) -> Option<Status> {
        let status = self.client.status().await.ok()?;
        // It may have come to it by a link.
        let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = real(&self.directory);
        let is_ours = |setting: &admin_api::SettingValue| {
            setting.key == "connections_directory" && real(Path::new(&setting.value)) == directory
        };
        status.configuration.iter().any(is_ours).then_some(status)
    }

    /// Waits until it has read its files after `since` (Unix seconds), and `is_in_force` confirms the change.
    pub(super) async fn wait(
        &self,
        wait: Duration,
        since: u64,
        is_in_force: impl Fn(&Status) -> Result<bool, NotTaken>,
    ) -> Result<TakenOver, NotTaken> {
        if wait.is_zero() {
            return Ok(TakenOver::NotWaitedFor);
        }
        if self.status().await.is_none() {
            return Ok(TakenOver::NotRunning);
        }
        let waited = tokio::time::timeout(wait, async {
            loop {
                if let Some(status) = self.status().await {
                    let ReloadStatus { last_success, refused_because, refused_at, .. } = &status.last_reload;
                    let is_read = *last_success > since;
                    if is_read && is_in_force(&status)? {
                        return Ok(TakenOver::InForce);
                    }
                    // An earlier refusal is another matter: what was wrong then may be mended.
                    if let Some(reason) = refused_because
                        && refused_at.is_some_and(|at| at > since)
                    {
                        return Err(NotTaken::Refused(reason.clone()));
                    }
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        waited.await.unwrap_or(Err(NotTaken::Late(self.address, wait)))
    }
}

fn find<'s>(status: &'s Status, name: &str) -> Option<&'s ConnectionStatus> {
    status.connections.iter().find(|connection| connection.name == name)
}

/// Whether a connection is in force as its file has it.
pub(super) fn in_force(status: &Status, name: &str) -> Result<bool, NotTaken> {
    match find(status, name) {
        Some(ConnectionStatus { refused: Some(reason), .. }) => Err(NotTaken::Refused(reason.clone())),
        found => Ok(found.is_some()),
    }
}

/// Whether a connection is wrong, and in force as it was before.
pub(super) fn is_outdated(status: &Status, name: &str) -> bool {
    // One that is left out goes nowhere.
    find(status, name).is_some_and(|connection| connection.refused.is_some() && !connection.url.is_empty())
}

/// Whether a connection is gone.
pub(super) fn is_gone(status: &Status, name: &str) -> bool {
    find(status, name).is_none()
}
