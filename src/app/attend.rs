//! Handles events of the running process: signals, and files that change.

use tokio::sync::{mpsc, watch};

use super::file_watch::FileNews;
use super::reload::{Reloader, Trigger};
use crate::pipeline::PipelineCommand;
use crate::signal::{self, Request, Signals};

/// Handles signals and file changes, for as long as the process runs.
pub(super) async fn attend(
    mut signals: Signals,
    mut reloader: Reloader,
    commands: mpsc::Sender<PipelineCommand>,
    stop: watch::Sender<bool>,
) {
    let mut is_to_reload = false;
    loop {
        let trigger = if std::mem::take(&mut is_to_reload) {
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
        let is_stopped = tokio::select! {
            biased;
            () = reloader.reload(trigger) => false,
            () = stop_requested(&mut signals, &mut is_to_reload) => true,
        };
        if is_stopped {
            break;
        }
        signal::notify(signal::ServiceState::Ready);
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

/// Waits for a request to stop; one to reload is noted.
async fn stop_requested(signals: &mut Signals, is_to_reload: &mut bool) {
    while signals.next().await == Request::Reload {
        *is_to_reload = true;
    }
}
