//! Handles events of the running process: signals, and files that change.

use tokio::sync::{mpsc, watch};

use super::file_watch::FileNews;
use super::reload::{Reloader, Trigger};
use crate::pipeline::PipelineCommand;
use crate::signal::{self, Request, Signals};

/// What signals asked for before anybody could do it.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) is_to_stop: bool,
    is_to_reload: bool,
}

impl Noted {
    /// Waits for a request to stop; one to reload is noted, too.
    pub(super) async fn until_stop(&mut self, signals: &mut Signals) {
        while signals.next().await == Request::Reload {
            self.is_to_reload = true;
        }
        self.is_to_stop = true;
    }
}

/// Handles signals and file changes, for as long as the process runs.
pub(super) async fn attend(
    mut signals: Signals,
    mut noted: Noted,
    mut reloader: Reloader,
    commands: mpsc::Sender<PipelineCommand>,
    stop: watch::Sender<bool>,
) {
    while !noted.is_to_stop {
        let trigger = if std::mem::take(&mut noted.is_to_reload) {
            Trigger::Signal
        } else {
            tokio::select! {
                biased;
                request = signals.next() => match request {
                    Request::Stop => break,
                    Request::Reload => Trigger::Signal,
                },
                news = reloader.files.news() => Trigger::Files(news),
            }
        };
        if trigger != Trigger::Files(FileNews::RefusedBefore) {
            signal::notify(signal::ServiceState::Reloading);
        }
        tokio::select! {
            biased;
            () = reloader.reload(trigger) => signal::notify(signal::ServiceState::Ready),
            () = noted.until_stop(&mut signals) => {}
        }
    }
    begin_to_stop(&stop);
    tracing::info!("stopping: flushing what is counted");
    // A pipeline that has ended needs no command.
    let _ended = commands.send(PipelineCommand::Stop).await;
    while signals.next().await == Request::Reload {
        tracing::warn!("stopping: the configuration is not read again");
    }
}

/// Announces the stop to the parts, and once to the service manager.
pub(super) fn begin_to_stop(stop: &watch::Sender<bool>) {
    if !stop.send_replace(true) {
        signal::notify(signal::ServiceState::Stopping);
    }
}
