//! `braze-datadog run`: starts the parts, runs the pipeline over the imports and the queue, and takes the
//! parts down in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::command_line::ImportArguments;
use super::keys::{KeyWatch, WatchedIntake};
use super::reload::Reloader;
use super::views::Watched;
use super::{Failure, queues};
use crate::admin;
use crate::clock::Clock;
use crate::config::{self, Config, Warning};
use crate::lane;
use crate::pipeline::{Pipeline, PipelineCommand, PipelineSettings};
use crate::push::{self, Credentials, PushListener};
use crate::signal::{self, Request, Signals};
use crate::stats::Stats;
use crate::telemetry::{self, LogLevel};
use datadog_points::client::{self, HttpIntake, KeyValidator, Network};
use event_queues::embedded::Appender;
use send_counts::aggregate::tags::Layout;

/// Commands that may wait for the pipeline.
const COMMANDS_MAX: usize = 8;

/// How often the books are looked at for the page's hour; a look copies them, some microseconds a connection.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// How often the push port's certificate is looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_hours(24);

/// How long listeners may take to end once everything else has.
const LISTENERS_GRACE: Duration = Duration::from_secs(2);

/// How long the last line of `--once` waits for its reader: a pager may be looked at first.
const LAST_LINE_LIMIT: Duration = Duration::from_mins(1);

/// How long the last log lines wait for their reader.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);

/// Runs the forwarder until it is told to stop or, with `--once`, until there is nothing left to do.
pub(super) fn run(
    config: Config,
    warnings: &[Warning],
    path: &Path,
    import: &ImportArguments,
) -> Result<(), Failure> {
    // First of all: threads take over what is blocked, and a SIGHUP that nobody waits for ends the process.
    let signals = Signals::new(end_at_once).map_err(Failure::failed)?;
    let log_level = super::start_logging(&config)?;
    super::warn(path, warnings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers(config.lanes.get()))
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let ended = runtime.block_on(serve(config, path, import, signals, log_level));
    // What still blocks (a read of standard input, say) must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    telemetry::flush(LAST_WORDS_LIMIT);
    ended
}

/// Ends the process, whatever blocks.
fn end_at_once() {
    tracing::warn!("a second signal: stopping at once; what has no outcome stays in the queue");
    telemetry::flush(LAST_WORDS_LIMIT);
    std::process::exit(i32::from(super::FAILED));
}

/// Threads for sockets and timers: half as many as lanes. A push costs them twice what it costs a lane, but threads
/// beyond what the load needs only wake each other up: on two cores, two cost a sixth more than one.
fn workers(lanes: usize) -> usize {
    lanes.div_ceil(2)
}

async fn serve(
    config: Config,
    path: &Path,
    import: &ImportArguments,
    signals: Signals,
    log_level: LogLevel,
) -> Result<(), Failure> {
    let clock = Clock::system();
    let (queue, waiting, appender) = queues::open(&config, import.once)?;
    let files = queues::open_files(&config, import, &clock)?;
    let (stats, keys) = (Arc::new(Stats::new()), watch_keys(&config, &clock));
    let network = super::network(&config.connections)?;
    let validator = KeyValidator::new(&network).map_err(Failure::failed)?;
    let mut pipeline = start_pipeline(&config, &network, &stats, &keys, &clock)?;
    let (commands, mut commanded) = mpsc::channel(COMMANDS_MAX);
    let (stop, stopping) = watch::channel(false);
    let (connections, configured) = watch::channel(Arc::new(config.connections.clone()));
    let (configuration, shown) = watch::channel(Arc::new(config::redacted(&config, &config)));
    let push = open_push(&config, import.once, appender).await?;

    let watched = Watched {
        stats: Arc::clone(&stats),
        queue: waiting,
        started: clock.unix_seconds(),
        clock,
        heartbeat: pipeline.heartbeat(),
        connections: configured,
        keys: Arc::clone(&keys),
        stopping: stopping.clone(),
        push: push.as_ref().map(PushListener::counters),
        credentials: push.as_ref().map(PushListener::reload),
        catalogue: pipeline.catalogue(),
        rates: Arc::default(),
        configuration: shown,
    };
    let reloader = Reloader {
        path: path.to_owned(),
        started_with: config.clone(),
        commands: commands.clone(),
        connections,
        keys: Arc::clone(&keys),
        configuration,
        log_level,
        push: push.as_ref().map(PushListener::reload),
        reader: None,
    };
    let (mut push_listener, mut admin_listener) = (JoinSet::new(), JoinSet::new());
    let (stop_admin, admin_stopping) = watch::channel(false);
    open_admin(&config, import.once, &watched, admin_stopping, &mut admin_listener).await?;
    if let Some(push) = push {
        tracing::info!(address = %push.local_addr(), "push is open");
        push_listener.spawn(push.run(watched.clone().readiness(), stopping, config.shutdown_timeout));
    }
    let mut attendants = watch_over(&watched, keys, validator);
    attendants.spawn(attend(signals, reloader, commands, stop.clone()));
    announce(&config, path);

    let ended = queues::run(&mut pipeline, files, queue, &mut commanded, &stats).await;
    if !stop.send_replace(true) {
        signal::notify(signal::Notice::Stopping);
    }
    take_down(push_listener).await;
    // Health and metrics outlive everything that they tell about.
    stop_admin.send_replace(true);
    take_down(admin_listener).await;
    conclude(&watched, import.once)?;
    ended.map_err(Failure::failed)
}

fn watch_keys(config: &Config, clock: &Clock) -> Arc<KeyWatch> {
    let keys = KeyWatch::new(clock.clone());
    keys.configure(&config.connections, config.validate_keys);
    Arc::new(keys)
}

/// Tells what became of everything: in the log, and on standard output for a run that ends by itself.
fn conclude(watched: &Watched, once: bool) -> Result<(), Failure> {
    let books = watched.stats.snapshot();
    let (received, accepted, dropped) = (books.received, books.accepted(), books.dropped());
    tracing::info!(received, accepted, dropped, "stopped");
    if once {
        let totals = admin::status::totals(&books, watched.gauges().queue.depth);
        let line = serde_json::to_value(totals).map_err(Failure::failed)?.to_string();
        telemetry::write_within(LAST_LINE_LIMIT, line, super::print_line).map_err(|error| {
            Failure::failed(format!("the books can't be written to standard output: {error}"))
        })?;
    }
    Ok(())
}

fn start_pipeline(
    config: &Config,
    network: &Network,
    stats: &Arc<Stats>,
    keys: &Arc<KeyWatch>,
    clock: &Clock,
) -> Result<Pipeline<WatchedIntake>, Failure> {
    let settings = PipelineSettings {
        lanes: lane::LaneSettings {
            lanes: config.lanes.get(),
            event_types: config.events_count.clone(),
            aggregate: config.aggregate.clone(),
            dedup: config.dedup,
        },
        flush_interval: config.aggregate.flush_interval,
        flush_timeout: config.aggregate.flush_timeout,
        shutdown_timeout: config.shutdown_timeout,
    };
    let http = client::IntakeSettings {
        timeout: config.aggregate.flush_timeout,
        connection_age_max: config.connection_age_max,
    };
    let http = HttpIntake::new(http, network).map_err(Failure::failed)?;
    let intake = Arc::new(WatchedIntake { http, keys: Arc::clone(keys) });
    let layout = Arc::new(Layout::new(&config.tags));
    Pipeline::start(intake, settings, config.connections.clone(), layout, Arc::clone(stats), clock.clone())
        .map_err(Failure::failed)
}

/// Opens push, unless the run ends by itself: then nothing could be pushed that it is sure to count.
async fn open_push(
    config: &Config,
    once: bool,
    appender: Option<Appender>,
) -> Result<Option<PushListener>, Failure> {
    let Some(appender) = appender.filter(|_| !once) else { return Ok(None) };
    let Some(settings) = &config.push else { return Ok(None) };
    let (credentials, notices) = Credentials::load(settings).map_err(Failure::configuration)?;
    for notice in &notices {
        tracing::warn!("{notice}");
    }
    push::bind(settings, credentials, appender).await.map(Some).map_err(Failure::failed)
}

/// Opens the admin port. A run that ends by itself does without it if something else has the port: most
/// likely the daemon.
async fn open_admin(
    config: &Config,
    once: bool,
    watched: &Watched,
    stopping: watch::Receiver<bool>,
    listener: &mut JoinSet<usize>,
) -> Result<(), Failure> {
    match admin::bind(&config.admin, watched.clone().views()).await {
        Ok(admin) => {
            tracing::info!(address = %admin.local_addr(), "admin is open");
            listener.spawn(admin.run(stopping, LISTENERS_GRACE));
            Ok(())
        }
        Err(error) if once => {
            tracing::warn!(%error, "the admin port stays closed for this run");
            Ok(())
        }
        Err(error) => Err(Failure::failed(error)),
    }
}

fn announce(config: &Config, path: &Path) {
    for connection in &config.connections {
        tracing::info!(
            connection = %connection.name,
            site = %connection.site.name,
            url = %connection.site.base_url,
            app_groups = connection.app_group_ids.len(),
            dry_run = connection.dry_run,
            "connection"
        );
    }
    signal::notify(signal::Notice::Ready);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, file = %path.display(), lanes = config.lanes, "started");
}

/// Does what signals ask for, as long as the process runs.
async fn attend(
    mut signals: Signals,
    mut reloader: Reloader,
    commands: mpsc::Sender<PipelineCommand>,
    stop: watch::Sender<bool>,
) {
    let mut is_to_reload = false;
    loop {
        let request = if is_to_reload { Request::Reload } else { signals.next().await };
        is_to_reload = false;
        if request == Request::Stop {
            break;
        }
        signal::notify(signal::Notice::Reloading);
        let is_stopped = tokio::select! {
            biased;
            () = reloader.reload() => false,
            () = stop_requested(&mut signals, &mut is_to_reload) => true,
        };
        if is_stopped {
            break;
        }
        signal::notify(signal::Notice::Ready);
    }
    tracing::info!("stopping: flushing what is counted");
    if !stop.send_replace(true) {
        signal::notify(signal::Notice::Stopping);
    }
    // A pipeline that has ended needs no command.
    let _ended = commands.send(PipelineCommand::Stop).await;
    while signals.next().await == Request::Reload {
        tracing::warn!("stopping: the configuration is not read again");
    }
}

/// Waits for a request to stop; one to reload is noted.
async fn stop_requested(signals: &mut Signals, is_to_reload: &mut bool) {
    while signals.next().await == Request::Reload {
        *is_to_reload = true;
    }
}

/// Starts what looks at the running process from time to time; it ends when it is dropped.
fn watch_over(watched: &Watched, keys: Arc<KeyWatch>, validator: KeyValidator) -> JoinSet<()> {
    let (of_sample, of_certificate) = (watched.clone(), watched.clone());
    let mut attendants = JoinSet::new();
    if let Some(interval) = signal::watchdog_interval() {
        attendants.spawn(every(interval / 3, tell_watchdog(watched.clone())));
    }
    attendants.spawn(keys.run(validator));
    // For the hour that the page shows.
    attendants.spawn(every(SAMPLE_INTERVAL, move || of_sample.sample()));
    attendants.spawn(every(CERTIFICATE_INTERVAL, move || of_certificate.tell_of_certificate()));
    attendants
}

/// Tells the service manager that the process is alive, as long as the pipeline is.
fn tell_watchdog(watched: Watched) -> impl Fn() {
    move || {
        if watched.is_alive() {
            signal::notify(signal::Notice::Watchdog);
        }
    }
}

/// Does something now, and then at each `interval`.
async fn every(interval: Duration, act: impl Fn()) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        act();
    }
}

async fn take_down(mut listener: JoinSet<usize>) {
    let ended = async {
        while let Some(joined) = listener.join_next().await {
            match joined {
                Ok(0) => {}
                Ok(cut) => tracing::warn!(connections = cut, "connections were cut off at the stop"),
                Err(error) => tracing::error!(%error, "a listener has failed"),
            }
        }
    };
    if tokio::time::timeout(LISTENERS_GRACE, ended).await.is_err() {
        tracing::warn!("some connections were still open at the stop");
    }
}
