//! The admin port's views of the running process.

use std::collections::HashSet;
use std::sync::Arc;

use admin_api::{
    ConnectionStatus, FlowState, History, HistoryStatus, KeyVerdict, OutcomeStatus, ReloadStatus,
    SearchAnswer, SettingValue, Status,
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::keys::KeyWatch;
use super::queue_watch::QueueWatch;
use super::reconcile::DailyReconcile;
use super::reload::{LastReload, RefusedReload};
use crate::admin::Views;
use crate::admin::history::{self, HistoryRefusal};
use crate::admin::process_usage::ProcessUsage;
use crate::admin::prometheus::{ProcessGauges, prometheus};
use crate::admin::rates::{Dropping, Rates};
use crate::admin::search::{self, Destination, SiteAndKey};
use crate::admin::{ConnectionList, headline, messages, status};
use crate::catalogue::Catalogue;
use crate::connection::{Connection, ConnectionSet, RefusedConnection};
use crate::forwarder_points::metrics::{ProcessProbe, ProcessState};
use crate::key_monitor::State;
use crate::pipeline::LoopStatus;
use crate::push::{self, Readiness};
use crate::telemetry;
use event_lanes::clock::Clock;
use event_lanes::stats::{Books, Stats};

/// The parts that can be viewed.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) stats: Arc<Stats>,
    pub(super) queue: QueueWatch,
    pub(super) clock: Clock,
    pub(super) started: u64,
    pub(super) pipeline: Arc<LoopStatus>,
    pub(super) connections: watch::Receiver<Arc<ConnectionSet>>,
    pub(super) keys: Arc<KeyWatch>,
    pub(super) reconcile: Arc<DailyReconcile>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) push: Option<Arc<push::Counters>>,
    pub(super) push_connections: Option<Arc<http_listener::Counts>>,
    pub(super) credentials: Option<push::Reload>,
    pub(super) catalogue: Arc<Catalogue>,
    /// Bytes that the history may have.
    pub(super) history_size_max: u64,
    pub(super) rates: Arc<Rates>,
    pub(super) configuration: watch::Receiver<SettingsInForce>,
    pub(super) last_reload: watch::Receiver<LastReload>,
    /// Whether no source of events is configured.
    pub(super) receives_nothing: bool,
}

/// The configuration in force, key by key, without secrets.
pub(super) type SettingsInForce = Arc<Vec<(String, String)>>;

impl Watched {
    /// The views for the admin port.
    pub(super) fn views(self) -> Views {
        let (metrics, status, search, history) = (self.clone(), self.clone(), self.clone(), self.clone());
        let alive = self.clone();
        Views {
            is_alive: Box::new(move || alive.is_alive()),
            ready: Box::new(move || self.ready()),
            metrics: Box::new(move || {
                let gauges = ProcessGauges { usage: ProcessUsage::read(), ..metrics.gauges() };
                prometheus(&metrics.books(), &gauges)
            }),
            status: Box::new(move |list| json(&status.status(list))),
            search: Box::new(move |query, zone| search.search(query, zone).map(|found| json(&found))),
            history: Box::new(move |query| history.history(query).map(|told| long_json(&told))),
        }
    }

    /// The process's part of the forwarder's own metrics.
    pub(super) fn probe(self) -> ProcessProbe {
        ProcessProbe::new(move || {
            let queue = self.queue.status();
            ProcessState {
                queue_depth: queue.depth,
                queue_waiting: queue.waiting,
                consumer_lag: queue.kafka.map(|broker| broker.lag),
                storage_lag_seconds: queue.storage.map(|buckets| buckets.lag_seconds),
                is_ready: self.ready().is_ok(),
                is_reload_refused: self.last_reload.borrow().is_refused(),
                connections_refused: self.connections.borrow().refused.len() as u64,
            }
        })
    }

    /// The readiness for the push port.
    pub(super) fn readiness(self) -> Readiness {
        let watched = self.clone();
        Readiness::new(move || self.ready().is_ok(), move || watched.is_alive())
    }

    /// Logs what is wrong with the push port's certificate.
    pub(super) fn check_certificate(&self) {
        if let Some(credentials) = &self.credentials {
            log_certificate_trouble(credentials, self.clock.unix_seconds());
        }
    }

    /// Whether the pipeline's loop has turned recently.
    pub(super) fn is_alive(&self) -> bool {
        !self.pipeline.is_stuck()
    }

    /// The metrics beside the books.
    pub(super) fn gauges(&self) -> ProcessGauges {
        ProcessGauges {
            is_ready: self.ready().is_ok(),
            queue: self.queue.status(),
            push_requests: self.push.iter().flat_map(|push| push.requests()).collect(),
            push_refused: self.push.iter().flat_map(|push| push.refused()).collect(),
            push_bytes: self.push.as_ref().map_or(0, |push| push.received_bytes()),
            push_handshakes_failed: self
                .push_connections
                .as_ref()
                .map_or(0, |counts| counts.handshakes_failed()),
            certificate_not_after: self.credentials.as_ref().and_then(push::Reload::certificate_not_after),
            keys: self.keys.known(),
            history: self.history_status(),
            reconcile: self.reconcile.status(),
            log_lines_lost: telemetry::lost_lines(),
            connections: self.connection_counts(),
            last_reload: self.last_reload(),
            started: self.started,
            uptime_seconds: self.clock.elapsed_milliseconds() / 1000,
            usage: None,
        }
    }

    /// The books. Names of a connection that is gone collapse no more, though they are known in case it comes back.
    fn books(&self) -> Books {
        let mut books = self.stats.snapshot();
        let configured = self.connections.borrow();
        let active: HashSet<&str> = configured.active.iter().map(|connection| &*connection.name).collect();
        for (name, connection) in &mut books.connections {
            if !active.contains(&**name) {
                connection.collapsing = Arc::default();
            }
        }
        books
    }

    /// How many connections there are, by the state of their configuration.
    fn connection_counts(&self) -> Vec<(&'static str, usize)> {
        let configured = self.connections.borrow();
        let keep_old = configured.refused.iter().filter(|refused| refused.keeps_old).count();
        vec![
            ("active", configured.active.len() - keep_old),
            ("outdated", keep_old),
            ("refused", configured.refused.len() - keep_old),
        ]
    }

    fn ready(&self) -> Result<(), String> {
        if *self.stopping.borrow() {
            return Err("stopping".into());
        }
        self.queue.ready()?;
        self.pipeline.ready()
    }

    /// Samples the books for the page's hour, and checks that the queue is still there.
    pub(super) fn sample(&self) {
        self.queue.check();
        self.rates.sample(&self.stats.snapshot(), self.clock.elapsed_milliseconds() / 1000);
    }

    fn search(&self, query: &str, time_zone: &str) -> Result<SearchAnswer, String> {
        let configured = self.connections.borrow().clone();
        let destination_of = |name: &str| {
            if let Some(connection) = configured.active.iter().find(|connection| *connection.name == *name) {
                return Destination::Site(SiteAndKey {
                    site: connection.site.name.to_string(),
                    is_dry_run: connection.dry_run,
                    key_refused: self.key_refused(connection),
                });
            }
            let is_left_out = configured.refused.iter().any(|refused| *refused.name == *name);
            if is_left_out { Destination::LeftOut } else { Destination::Removed }
        };
        let now = self.clock.unix_seconds();
        let history = self.catalogue.history();
        let since = history.and_then(|history| history.state().since);
        let past = (since, history::search(history, query, time_zone, now)?);
        Ok(search::answer(query, &self.catalogue.search(query), past, destination_of, self.started, now))
    }

    /// What Datadog says of a connection's key, where it refuses it.
    fn key_refused(&self, connection: &Connection) -> Option<String> {
        let key = self.keys.status(&connection.name);
        (key.state == State::Invalid && !connection.dry_run).then_some(key.words)
    }

    fn history(&self, query: &str) -> Result<History, HistoryRefusal> {
        history::answer(self.catalogue.history(), query, self.clock.unix_seconds())
    }

    fn history_status(&self) -> Option<HistoryStatus> {
        let state = self.catalogue.history()?.state();
        Some(status::history(state, self.history_size_max))
    }

    fn status(&self, list: ConnectionList) -> Status {
        let snapshot = self.stats.snapshot();
        let gauges = self.gauges();
        let now = self.clock.unix_seconds();
        let configured = self.connections.borrow().clone();
        let configuration = self.configuration.borrow().clone();
        let busiest = self.catalogue.busiest();
        let hour = self.rates.hour(gauges.uptime_seconds);
        let not_ready = self.ready().err();
        let connections = self.connections(&configured, &snapshot, &hour.dropping, now);
        let credentials = self.credentials.as_ref();
        let certificate_trouble = credentials.and_then(|credentials| credentials.certificate_trouble(now));
        let headline = headline::headline(&headline::Situation {
            hour: &hour,
            not_ready: not_ready.as_deref(),
            is_certificate_void: certificate_trouble.is_some_and(|trouble| !trouble.is_valid),
            receives_nothing: self.receives_nothing,
            is_reload_refused: self.last_reload.borrow().is_refused(),
            is_balanced: snapshot.balance(),
            connections: &connections,
            uptime_seconds: gauges.uptime_seconds,
        });
        let count =
            |is: fn(&ConnectionStatus) -> bool| connections.iter().filter(|one| is(one)).count() as u64;
        let setting =
            |(key, value): &(String, String)| SettingValue { key: key.clone(), value: value.clone() };
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now,
            started: gauges.started,
            uptime_seconds: gauges.uptime_seconds,
            headline,
            ready: not_ready.is_none(),
            not_ready_because: not_ready,
            rates: status::rates(&hour, now),
            busiest: status::busiest(&busiest, now),
            busiest_series: busiest.series.clone(),
            invariants: status::invariants(&snapshot),
            configuration: configuration.iter().map(setting).collect(),
            connections_total: connections.len() as u64,
            connections_in_trouble: count(|one| one.state == FlowState::Trouble),
            connections_dry_run: count(|one| one.dry_run),
            connections,
            last_reload: self.last_reload(),
            history: gauges.history,
            reconcile: gauges.reconcile,
            log_lines_lost: gauges.log_lines_lost,
            books: status::totals(&snapshot, gauges.queue.depth),
            queue: gauges.queue,
        };
        if list == ConnectionList::Short {
            status::shorten(&mut status);
        }
        status
    }

    fn last_reload(&self) -> ReloadStatus {
        let last = self.last_reload.borrow();
        let (refused, push_refused) = (last.configuration_refused(), last.push_refused());
        let reason = |refused: Option<&RefusedReload>| refused.map(|refused| refused.reason.clone());
        ReloadStatus {
            successful: !last.is_refused(),
            refused_because: reason(refused),
            refused_at: refused.map(|refused| refused.at),
            push_files_refused_because: reason(push_refused),
            push_files_refused_at: push_refused.map(|refused| refused.at),
            last_success: last.taken_over_at,
        }
    }

    /// The status of each connection, those left out first.
    fn connections(
        &self,
        configured: &ConnectionSet,
        books: &Books,
        dropping: &[Dropping],
        now: u64,
    ) -> Vec<ConnectionStatus> {
        let left_out = configured.refused.iter().filter(|refused| !refused.keeps_old);
        let left_out = left_out.map(|refused| left_out_status(refused, books));
        let mut untimely = messages::untimely(dropping);
        let active = configured.active.iter().map(|connection| {
            let mut status = self.connection(connection, books, now);
            if let Some(words) = untimely.remove(&*connection.name)
                && status.state != FlowState::Trouble
            {
                (status.state, status.words) = (FlowState::Trouble, words);
            }
            if let Some(refused) = configured.refused.iter().find(|refused| refused.name == connection.name) {
                status.refused = Some(refused.reason.clone());
                status.state = FlowState::Trouble;
                "its new configuration is wrong, and the old one stays".clone_into(&mut status.words);
            }
            status
        });
        left_out.chain(active).collect()
    }

    /// The status of one connection.
    fn connection(&self, connection: &Connection, books: &Books, now: u64) -> ConnectionStatus {
        let books = books.connections.get(&connection.name).cloned().unwrap_or_default();
        let key = self.keys.status(&connection.name);
        let (mut state, mut words) = messages::connection(&books, connection, now);
        // Sends with an invalid key reach nobody, whatever the intake answers.
        if key.state == State::Invalid && state != FlowState::Trouble {
            (state, words) = (FlowState::Trouble, key.words.clone());
        }
        ConnectionStatus {
            name: connection.name.to_string(),
            state,
            words,
            refused: None,
            site: connection.site.name.to_string(),
            url: connection.site.base_url.to_string(),
            metric: connection.metric.to_string(),
            dry_run: connection.dry_run,
            app_group_ids: connection.app_group_ids.iter().map(ToString::to_string).collect(),
            key: KeyVerdict {
                state: key.state.label().to_owned(),
                words: key.words,
                seconds_ago: key.seconds_ago,
            },
            names_collapsing: books.collapsing.tags_total,
            names_shared: books.collapsing.shared_total,
            collapsing: books.collapsing.tags.iter().map(status::collapsed).collect(),
            sends: status::sends(&books),
            last_outcome: books.last_outcome.map(|(outcome, at)| OutcomeStatus {
                outcome,
                dropped: books.last_dropped.map(|reason| reason.label().to_owned()),
                at,
                seconds_ago: now.saturating_sub(at),
            }),
        }
    }
}

/// The status of a connection that is left out.
fn left_out_status(refused: &RefusedConnection, books: &Books) -> ConnectionStatus {
    let books = books.connections.get(&refused.name).cloned().unwrap_or_default();
    ConnectionStatus {
        name: refused.name.to_string(),
        state: FlowState::Trouble,
        words: "left out: its configuration is wrong".to_owned(),
        refused: Some(refused.reason.clone()),
        app_group_ids: refused.app_group_ids.iter().flatten().map(ToString::to_string).collect(),
        sends: status::sends(&books),
        ..ConnectionStatus::default()
    }
}

/// The JSON of an answer, its keys in order.
fn json(answer: &impl Serialize) -> Value {
    // The keys are all strings, and nothing else could fail.
    serde_json::to_value(answer).unwrap_or_else(|error| json!({"error": error.to_string()}))
}

/// The text of a long answer, made without a copy.
fn long_json(answer: &impl Serialize) -> Vec<u8> {
    // As above.
    let mut text = serde_json::to_vec_pretty(answer).unwrap_or_default();
    text.push(b'\n');
    text.shrink_to_fit();
    text
}

/// Logs trouble, or soon to be, with the push port's certificate.
pub(super) fn log_certificate_trouble(credentials: &push::Reload, now: u64) {
    match credentials.certificate_trouble(now) {
        Some(trouble) if trouble.is_valid => tracing::warn!("{trouble}"),
        Some(trouble) => tracing::error!("senders can't trust this port: {trouble}"),
        None => {}
    }
}
