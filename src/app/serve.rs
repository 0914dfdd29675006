//! `braze-datadog run`: starts the parts, runs the pipeline over the imports and the queue, and stops the parts in order.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::arguments::{ImportArguments, RunArguments};
use super::attend::Noted;
use super::keys::{KeyWatch, WatchedIntake};
use super::queues::Imports;
use super::reconcile::DailyReconcile;
use super::reload::{Reloadable, Reloader};
use super::views::Watched;
use super::{Failure, attend, queues};
use crate::admin;
use crate::admin::rates::Rates;
use crate::config::Config;
use crate::pipeline::{Pipeline, PipelineSettings};
use crate::push::{self, Credentials, PushListener};
use crate::signal::{self, Signals};
use crate::telemetry::{self, LogLevel};
use datadog_points::client::{self, HttpIntake, KeyValidator, Network};
use event_lanes::LaneSettings;
use event_lanes::clock::Clock;
use event_lanes::stats::Stats;
use event_queues::embedded::Appender;
use send_counts::aggregate::tags::Layout;
use send_history::SendHistory;

/// Commands that may wait for the pipeline.
const COMMANDS_MAX: usize = 8;

/// How often the books are sampled for the page's hour; a sample copies them, some microseconds a connection.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest wait between two signs of life: a service manager asks for one in seconds.
const WATCHDOG_TICK_MIN: Duration = Duration::from_millis(10);

/// How often the push port's certificate is looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_hours(24);

/// How long writing the history may take once nothing more is sent.
const HISTORY_LIMIT: Duration = Duration::from_secs(5);

/// How long listeners may take to end once everything else has. The queue takes nothing any more by then: what comes later
/// would be refused, and is sent again.
const LISTENERS_GRACE: Duration = Duration::from_secs(2);

/// How long writing the last line of `--once` may take: a pager may read it late.
const LAST_LINE_LIMIT: Duration = Duration::from_mins(1);

/// How long writing the last log lines may take. On a busy machine it is some time before their thread gets a core.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

/// The warning for a process without any source of events.
pub(crate) const RECEIVES_NOTHING: &str = "nothing can come in: [push] is off, and the queue is the embedded one; write [push] into the configuration for \
     Braze to push to, or set queue.kind = \"kafka\"; --import counts files";

/// `braze-datadog run`
pub(crate) fn start(arguments: &RunArguments) -> Result<(), Failure> {
    // First of all: threads inherit the blocked signals, and an unhandled one would end the process, or, as the first in a
    // container, would be lost.
    let signals = Signals::new(end_at_once).map_err(Failure::failed)?;
    let path = arguments.config.path();
    let (mut config, warnings) = super::load(&path)?;
    if arguments.strict {
        config = config.require_all().map_err(Failure::configuration)?;
    }
    let (import, is_strict) = (&arguments.import, arguments.strict);
    let log_level = super::start_logging(&config)?;
    super::warn(&path, &warnings);
    super::log_refused(&config.connections);
    if config.receives_nothing() && import.import.is_empty() {
        tracing::warn!("{RECEIVES_NOTHING}");
    }
    let runtime = super::runtime(workers(config.lanes.get()))?;
    let ended = runtime.block_on(serve(config, &path, import, is_strict, signals, log_level));
    // Threads that still block (in a read of standard input, say) must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    telemetry::flush(LAST_WORDS_LIMIT);
    ended
}

/// Ends the process, whatever else blocks.
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

/// Runs the forwarder until it is told to stop or, with `--once`, until everything is counted.
async fn serve(
    config: Config,
    path: &Path,
    import: &ImportArguments,
    is_strict: bool,
    mut signals: Signals,
    log_level: LogLevel,
) -> Result<(), Failure> {
    let clock = Clock::system();
    let queue = queues::open(&config, import.once, &clock)?;
    let (imports, noted) = open_imports(&config, import, &clock, &mut signals).await?;
    let (stats, keys) = (Arc::new(Stats::new()), watch_keys(&config, &clock));
    let network = super::network(&config.connections.active)?;
    let validator = KeyValidator::new(&network).map_err(Failure::failed)?;
    let reconcile = Arc::new(DailyReconcile::new(clock.clone()));
    let mut pipeline = start_pipeline(&config, &network, &stats, &keys, &clock)?;
    let (commands, mut commanded) = mpsc::channel(COMMANDS_MAX);
    let (stop, stopping) = watch::channel(false);
    let push = open_push(&config, import.once, queue.appender).await?;
    let in_force = Reloadable {
        commands: commands.clone(),
        keys: Arc::clone(&keys),
        log_level,
        push: push.as_ref().map(PushListener::reload),
        reconcile: Arc::clone(&reconcile),
    };
    let reloader = Reloader::new(path, &config, is_strict, &clock, in_force).map_err(Failure::failed)?;
    let watched = Watched {
        stats: Arc::clone(&stats),
        queue: queue.watch,
        started: clock.unix_seconds(),
        clock,
        pipeline: pipeline.loop_status(),
        connections: reloader.connections.subscribe(),
        keys: Arc::clone(&keys),
        reconcile: Arc::clone(&reconcile),
        stopping: stopping.clone(),
        push: push.as_ref().map(PushListener::counters),
        push_connections: push.as_ref().map(PushListener::connections),
        credentials: push.as_ref().map(PushListener::reload),
        catalogue: pipeline.catalogue(),
        history_size_max: config.history.as_ref().map_or(0, |history| history.size_max),
        rates: Arc::new(Rates::new(config.aggregate.flush_interval, config.aggregate.flush_timeout)),
        configuration: reloader.configuration.subscribe(),
        last_reload: reloader.last_reload.subscribe(),
        receives_nothing: config.receives_nothing() && import.import.is_empty(),
    };
    pipeline.probe(watched.clone().probe());
    let (mut push_listener, mut admin_listener) = (JoinSet::new(), JoinSet::new());
    let (stop_admin, admin_stopping) = watch::channel(false);
    open_admin(&config, import.once, &watched, admin_stopping, &mut admin_listener).await?;
    if let Some(push) = push {
        tracing::info!(address = %push.local_addr(), "push is open");
        push_listener.spawn(push.run(watched.clone().readiness(), stopping, config.shutdown_timeout));
    }
    let mut attendants = watch_over(&watched, &config, import.once, keys, validator);
    attendants.spawn(attend::attend(signals, noted, reloader, commands, stop.clone()));
    announce(&config, path);

    let ended = queues::run(&mut pipeline, imports, queue.queue, &mut commanded, &stats).await;
    attend::begin_to_stop(&stop);
    take_down(push_listener, watched.push_connections.clone()).await;
    write_history(&watched);
    // Health and metrics outlive everything that they report on.
    stop_admin.send_replace(true);
    take_down(admin_listener, None).await;
    let concluded = conclude(&watched, &mut pipeline, import.once);
    ended.map_err(Failure::failed)?;
    concluded
}

/// Opens the imports, unless a stop is asked for before that is done: files may have to be read, to compare them with what was
/// counted.
async fn open_imports(
    config: &Config,
    import: &ImportArguments,
    clock: &Clock,
    signals: &mut Signals,
) -> Result<(Imports, Noted), Failure> {
    let mut noted = Noted::default();
    let imports = tokio::select! {
        biased;
        imports = queues::open_imports(config, import, clock) => imports?,
        () = noted.until_stop(signals) => {
            tracing::info!("a stop is asked for while files are compared with what was counted: none of them is imported");
            Imports::default()
        }
    };
    Ok((imports, noted))
}

fn watch_keys(config: &Config, clock: &Clock) -> Arc<KeyWatch> {
    let keys = KeyWatch::new(clock.clone());
    keys.configure(&config.connections.active, config.validate_keys);
    Arc::new(keys)
}

/// Reports the result: in the log, and for a run that ends by itself on standard output and by the exit status.
fn conclude(watched: &Watched, pipeline: &mut Pipeline<WatchedIntake>, once: bool) -> Result<(), Failure> {
    let books = watched.stats.snapshot();
    pipeline.log_rest(&books);
    let (received, accepted, dropped) = (books.received, books.accepted(), books.dropped());
    tracing::info!(received, accepted, dropped, "stopped");
    if once {
        let totals = admin::status::totals(&books, watched.gauges().queue.depth);
        let line = serde_json::to_value(totals).map_err(Failure::failed)?.to_string();
        telemetry::write_within(LAST_LINE_LIMIT, &line, super::print_line).map_err(|error| {
            Failure::failed(format!("the books can't be written to standard output: {error}"))
        })?;
    }
    if once && dropped > 0 {
        let reasons = "the reasons are in the log, and in the books by connection";
        return Err(Failure {
            status: super::DROPPED,
            message: format!("{dropped} sends were dropped; {reasons}"),
        });
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
        lanes: LaneSettings {
            lanes: config.lanes.get(),
            event_types: config.events_count.clone(),
            aggregate: config.aggregate.clone(),
            dedup: config.dedup,
        },
        shutdown_timeout: config.shutdown_timeout,
    };
    let http = client::IntakeSettings {
        timeout: config.aggregate.flush_timeout,
        timeout_name: "flush.timeout",
        connection_age_max: config.connection_age_max,
    };
    let http = HttpIntake::new(http, network).map_err(Failure::failed)?;
    let intake = Arc::new(WatchedIntake { http, keys: Arc::clone(keys) });
    let layout = Arc::new(Layout::new(&config.tags));
    let connections = config.connections.clone();
    let pipeline = Pipeline::start(intake, settings, connections, layout, Arc::clone(stats), clock.clone());
    let pipeline = pipeline.map_err(Failure::failed)?;
    keep_history(config, &pipeline, clock)?;
    Ok(pipeline)
}

/// Starts the history of sends, whose thread opens the file.
fn keep_history(config: &Config, pipeline: &Pipeline<WatchedIntake>, clock: &Clock) -> Result<(), Failure> {
    if let Some(settings) = &config.history {
        let clock = clock.clone();
        let history = SendHistory::start(settings, move || clock.unix_seconds()).map_err(Failure::failed)?;
        pipeline.catalogue().keep(history);
    }
    Ok(())
}

/// Writes the rest of the history.
fn write_history(watched: &Watched) {
    if let Some(history) = watched.catalogue.history()
        && !history.stop(HISTORY_LIMIT)
    {
        tracing::warn!("the history of sends could not be written in time: its last seconds are missing");
    }
}

/// Opens push, unless the run ends by itself: then a push might come too late to be counted.
async fn open_push(
    config: &Config,
    once: bool,
    appender: Option<Appender>,
) -> Result<Option<PushListener>, Failure> {
    let Some(appender) = appender.filter(|_| !once) else { return Ok(None) };
    let Some(settings) = &config.push else { return Ok(None) };
    let (credentials, warnings) = Credentials::load(settings).map_err(Failure::configuration)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    push::bind(settings, credentials, appender).await.map(Some).map_err(Failure::failed)
}

/// Opens the admin port. A run that ends by itself goes on without it if the port is taken, most likely by the daemon.
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
    for connection in &config.connections.active {
        tracing::info!(
            connection = %connection.name,
            site = %connection.site.name,
            url = %connection.site.base_url,
            app_groups = connection.app_group_ids.len(),
            dry_run = connection.dry_run,
            "connection"
        );
    }
    signal::notify(signal::ServiceState::Ready);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, file = %path.display(), lanes = config.lanes, "started");
}

/// Starts the periodic checks of the running process; they end when the result is dropped.
fn watch_over(
    watched: &Watched,
    config: &Config,
    once: bool,
    keys: Arc<KeyWatch>,
    validator: KeyValidator,
) -> JoinSet<()> {
    let (of_sample, of_certificate) = (watched.clone(), watched.clone());
    let mut attendants = JoinSet::new();
    if let Some(interval) = signal::watchdog_interval() {
        attendants.spawn(every((interval / 3).max(WATCHDOG_TICK_MIN), notify_watchdog(watched.clone())));
    }
    attendants.spawn(keys.run(validator));
    // A run that ends by itself is gone by the next day.
    if !once {
        watched.reconcile.configure(&config.reconcile, false);
        let (reconcile, catalogue) = (Arc::clone(&watched.reconcile), Arc::clone(&watched.catalogue));
        attendants.spawn(reconcile.run(catalogue, config.events_count.clone()));
    }
    attendants.spawn(every(SAMPLE_INTERVAL, signal::notify_if_owed));
    // For the page's hour.
    attendants.spawn(every(SAMPLE_INTERVAL, move || of_sample.sample()));
    attendants.spawn(every(CERTIFICATE_INTERVAL, move || of_certificate.check_certificate()));
    attendants
}

/// Tells the service manager that the process is alive, as long as the pipeline is.
fn notify_watchdog(watched: Watched) -> impl Fn() {
    move || {
        if watched.is_alive() {
            signal::notify(signal::ServiceState::Watchdog);
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

/// Waits for a listener to end; one that does not is cut off, with the connections that it counts.
async fn take_down(mut listener: JoinSet<usize>, counts: Option<Arc<http_listener::Counts>>) {
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
        let connections = counts.map(|counts| counts.open());
        tracing::warn!(connections, "connections were cut off at the stop");
    }
}
