//! Opens the configured queue, and runs the pipeline over the imports and over it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

#[cfg(feature = "kafka")]
use super::USER_AGENT;
use super::arguments::ImportArguments;
use super::keys::WatchedIntake;
use super::queue_watch::QueueWatch;
use super::{Failure, progress};
use crate::config::{Config, QueueKind};
use crate::pipeline::{Ended, Pipeline, PipelineCommand, PipelineError};
use crate::telemetry;
use event_lanes::clock::Clock;
use event_lanes::stats::Stats;
use event_queues::embedded::{self, Appender, EmbeddedQueue, Opened, Torn};
use event_queues::files::{self, FileReport, FilesQueue};
#[cfg(feature = "kafka")]
use event_queues::kafka::{self, KafkaQueue};
#[cfg(feature = "storage")]
use event_queues::storage::{self, StorageQueue, StorageRun, StorageSettings, StorageSource, StorageStart};

/// The configured queue.
pub(super) enum EventQueue {
    Embedded(Box<EmbeddedQueue>),
    #[cfg(feature = "kafka")]
    Kafka(Box<KafkaQueue>),
    #[cfg(feature = "storage")]
    Storage(Box<StorageQueue>),
}

/// The queue, open.
pub(super) struct OpenQueue {
    pub(super) queue: EventQueue,
    pub(super) watch: QueueWatch,
    /// For pushed events.
    pub(super) appender: Option<Appender>,
}

/// Opens the configured queue.
pub(super) fn open(config: &Config, once: bool, clock: &Clock) -> Result<OpenQueue, Failure> {
    match config.queue.kind {
        QueueKind::Embedded => {
            let (queue, appender) = open_embedded(config, once)?;
            let watch = QueueWatch::Embedded(appender.clone());
            Ok(OpenQueue { queue: EventQueue::Embedded(Box::new(queue)), watch, appender: Some(appender) })
        }
        QueueKind::Kafka => open_kafka(config, once),
        QueueKind::Storage => open_storage(config, once, clock),
    }
}

#[cfg(feature = "kafka")]
fn open_kafka(config: &Config, once: bool) -> Result<OpenQueue, Failure> {
    let opened = kafka::open(&config.queue.kafka, once, USER_AGENT);
    let (queue, watch) = opened.map_err(|error| {
        // What the system has none of now it may have at the next start.
        if error.may_pass() { Failure::failed(error) } else { Failure::configuration(error) }
    })?;
    let queue = EventQueue::Kafka(Box::new(queue));
    Ok(OpenQueue { queue, watch: QueueWatch::Kafka(watch), appender: None })
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_config: &Config, _once: bool) -> Result<OpenQueue, Failure> {
    Err(super::left_out::kafka())
}

#[cfg(feature = "storage")]
fn open_storage(config: &Config, once: bool, clock: &Clock) -> Result<OpenQueue, Failure> {
    let run = if once { StorageRun::Once } else { StorageRun::Follow };
    let (queue, watch) = open_buckets(config.queue.storage.clone(), run, clock)?;
    let queue = EventQueue::Storage(Box::new(queue));
    Ok(OpenQueue { queue, watch: QueueWatch::Storage(watch), appender: None })
}

#[cfg(feature = "storage")]
fn open_buckets(
    settings: StorageSettings,
    run: StorageRun,
    clock: &Clock,
) -> Result<(StorageQueue, storage::StorageWatch), Failure> {
    let clock = clock.clone();
    storage::open(settings, run, Arc::new(move || clock.unix_seconds())).map_err(|error| match error {
        storage::StorageOpenError::Setup(error) => Failure::configuration(error),
        error => Failure::failed(error),
    })
}

#[cfg(not(feature = "storage"))]
fn open_storage(_config: &Config, _once: bool, _clock: &Clock) -> Result<OpenQueue, Failure> {
    Err(super::left_out::storage("queue.kind = \"storage\""))
}

/// Finds what [`open`] would refuse in the configuration, without changing anything.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    match config.queue.kind {
        QueueKind::Embedded => Ok(()),
        QueueKind::Kafka => check_kafka(config),
        QueueKind::Storage => check_storage(config),
    }
}

#[cfg(feature = "kafka")]
fn check_kafka(config: &Config) -> Result<(), Failure> {
    kafka::check(&config.queue.kafka, USER_AGENT).map_err(Failure::configuration)
}

#[cfg(not(feature = "kafka"))]
fn check_kafka(_config: &Config) -> Result<(), Failure> {
    Err(super::left_out::kafka())
}

#[cfg(feature = "storage")]
fn check_storage(config: &Config) -> Result<(), Failure> {
    storage::check(&config.queue.storage).map_err(Failure::configuration)
}

#[cfg(not(feature = "storage"))]
fn check_storage(_config: &Config) -> Result<(), Failure> {
    Err(super::left_out::storage("queue.kind = \"storage\""))
}

/// First the imports, then the queue.
pub(super) async fn run(
    pipeline: &mut Pipeline<WatchedIntake>,
    imports: Imports,
    queue: EventQueue,
    commanded: &mut mpsc::Receiver<PipelineCommand>,
    stats: &Arc<Stats>,
) -> Result<(), PipelineError> {
    if let Some(mut files) = imports.files {
        let mut drawing = JoinSet::new();
        drawing.spawn(progress::draw(files.progress(), Arc::clone(stats)));
        let ended = pipeline.run(&mut files, commanded).await;
        drawing.shutdown().await;
        telemetry::wipe();
        match ended? {
            Ended::Stopped => return Ok(()),
            Ended::QueueEnded => {
                tracing::info!(files = files.progress().files_done(), "the import is finished");
            }
        }
    }
    #[cfg(feature = "storage")]
    if let Some((mut objects, watch)) = imports.objects {
        match pipeline.run(&mut *objects, commanded).await? {
            Ended::Stopped => return Ok(()),
            Ended::QueueEnded => {
                tracing::info!(objects = watch.counts().objects_counted, "the import is finished");
            }
        }
    }
    match queue {
        EventQueue::Embedded(mut queue) => pipeline.run(&mut *queue, commanded).await.map(|_ended| ()),
        #[cfg(feature = "kafka")]
        EventQueue::Kafka(mut queue) => {
            let ended = pipeline.run(&mut *queue, commanded).await;
            let closed = queue.close().await;
            ended.and(closed.map_err(PipelineError::from))
        }
        #[cfg(feature = "storage")]
        EventQueue::Storage(mut queue) => pipeline.run(&mut *queue, commanded).await.map(|_ended| ()),
    }
}

fn open_embedded(config: &Config, once: bool) -> Result<(EmbeddedQueue, Appender), Failure> {
    let settings = &config.queue.embedded;
    let (mut queue, appender, opened) = embedded::open(settings).map_err(Failure::failed)?;
    queue.until_empty(once);
    log_damaged_end(&opened);
    for gap in &opened.damaged {
        tracing::error!(
            segment = %gap.segment.display(),
            offset = gap.offset,
            bytes = gap.bytes,
            events = gap.events,
            "the queue is damaged here; it goes on behind the gap"
        );
    }
    for gap in &opened.doubtful {
        tracing::error!(
            segment = %gap.segment.display(),
            offset = gap.offset,
            bytes = gap.bytes,
            events_max = gap.events,
            "the queue's end is damaged: it goes on behind a gap, with at most as many events that were answered; none, if \
             the machine died while it was written"
        );
    }
    if opened.is_acknowledgement_lost {
        tracing::error!(
            "the queue's record of what was acknowledged is lost; what is left in it is counted again"
        );
    }
    tracing::info!(directory = %settings.directory.display(), waiting = opened.waiting, "the queue is open");
    Ok((queue, appender))
}

/// Logs the state of the queue's end.
fn log_damaged_end(opened: &Opened) {
    let bytes = opened.torn_bytes;
    match opened.torn {
        Torn::PerhapsAnswered { events_max: Some(events_max) } => tracing::error!(
            bytes,
            events_max,
            "the queue's end is damaged: a frame that is not whole was cut off, with at most as many events that were \
             answered; none, if the machine died while it was written"
        ),
        Torn::PerhapsAnswered { events_max: None } => tracing::error!(
            bytes,
            "the queue's end is damaged: a frame that is not whole was cut off, and nothing tells how many events it \
             held; none that was answered, if the machine died while it was written"
        ),
        Torn::Unanswered if bytes > 0 => tracing::warn!(
            bytes,
            "the queue ended in a frame that was not finished; it was cut off, and nobody was told that it was safe"
        ),
        Torn::Unanswered => {}
    }
    if opened.found > 0 {
        tracing::info!(
            events = opened.found,
            "events were found in the queue that nobody was told were safe"
        );
    }
}

/// Sources that are counted before the queue.
#[derive(Default)]
pub(super) struct Imports {
    files: Option<FilesQueue>,
    #[cfg(feature = "storage")]
    objects: Option<(Box<StorageQueue>, storage::StorageWatch)>,
}

/// Opens the imports: files, and buckets by their URLs.
pub(super) async fn open_imports(
    config: &Config,
    import: &ImportArguments,
    clock: &Clock,
) -> Result<Imports, Failure> {
    let (urls, files): (Vec<_>, Vec<_>) = import
        .import
        .iter()
        .cloned()
        .partition(|path| path.to_str().is_some_and(|text| text.contains("://")));
    #[cfg(not(feature = "storage"))]
    if let Some(url) = urls.first() {
        return Err(super::left_out::storage(&format!("--import {}", url.display())));
    }
    #[cfg(feature = "storage")]
    let objects = open_objects(config, &urls, import.again, clock)?;
    Ok(Imports {
        files: open_files(config, files, import.again, clock).await?,
        #[cfg(feature = "storage")]
        objects,
    })
}

#[cfg(feature = "storage")]
fn open_objects(
    config: &Config,
    urls: &[PathBuf],
    again: bool,
    clock: &Clock,
) -> Result<Option<(Box<StorageQueue>, storage::StorageWatch)>, Failure> {
    if urls.is_empty() {
        return Ok(None);
    }
    if config.queue.kind == QueueKind::Storage {
        return Err(Failure::configuration(
            "--import of a URL can't be used with queue.kind = \"storage\", which keeps what it remembers for itself; stop the \
             forwarder, and import with a configuration that has another queue",
        ));
    }
    let source = |url: &PathBuf| StorageSource { url: url.to_string_lossy().into(), app_group_id: None };
    let settings = StorageSettings {
        sources: urls.iter().map(source).collect(),
        start: StorageStart::Beginning,
        ..config.queue.storage.clone()
    };
    let (queue, watch) =
        open_buckets(settings, if again { StorageRun::Again } else { StorageRun::Once }, clock)?;
    Ok(Some((Box::new(queue), watch)))
}

/// Opens the files of an import, if there is one. That may take long and is done on a thread of its own, which a stop need not wait
/// for.
async fn open_files(
    config: &Config,
    files: Vec<PathBuf>,
    again: bool,
    clock: &Clock,
) -> Result<Option<FilesQueue>, Failure> {
    if files.is_empty() {
        return Ok(None);
    }
    let settings =
        files::FilesSettings { files, state_directory: Some(config.queue.embedded.directory.clone()), again };
    let (now, (done, opened)) = (clock.unix_seconds(), oneshot::channel());
    let open = move || {
        // Nobody may wait for it any more.
        let _stopped = done.send(files::open(&settings, now));
    };
    thread::Builder::new().name("files".into()).spawn(open).map_err(Failure::failed)?;
    let opened =
        opened.await.map_err(|_panicked| Failure::failed("the files could not be opened, by a defect"))?;
    let (queue, reports) = opened.map_err(Failure::failed)?;
    for report in &reports {
        match report {
            FileReport::Changed { .. }
            | FileReport::Misread { .. }
            | FileReport::Alike { .. }
            | FileReport::Empty { .. } => {
                tracing::warn!("{report}");
            }
            FileReport::LeftOut { .. } => {
                tracing::error!(problem = %report, "a file of an imported directory is left out; the others are read");
            }
            _ => tracing::info!("{report}"),
        }
    }
    Ok(Some(queue))
}
