//! The admin port: health, metrics, status, search, history, and the page for people.

pub mod headline;
pub mod history;
mod hosts;
pub mod messages;
mod page;
pub mod process_usage;
pub mod prometheus;
pub mod rates;
pub mod search;
pub mod status;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::warn;

use self::history::HistoryRefusal;
use self::hosts::Hosts;
pub use self::hosts::is_name;
use self::process_usage::thread_time;
use http_listener::sampled::Sampled;
use http_listener::worker_pool::{WorkError, WorkerPool};
use http_listener::{Answer, Listener, OpenPortError, hang_up};

/// Connections at a time: an orchestrator, a scraper or two, people. Few, so that a runaway scraper can't take the file
/// descriptors that the push port needs.
const CONNECTIONS_MAX: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus' text exposition format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
/// How long an answer of `/status` is reused at least: people look every second or two, and with many connections it costs a
/// millisecond or more.
const STATUS_AGE: Duration = Duration::from_millis(250);

/// How long an answer is reused at most, whatever it cost.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(10);

/// Bytes of a search's query string.
const QUERY_BYTES_MAX: usize = 1_000;

/// How long a search or history query waits for those before it; each takes some hundredths of a second.
const SEARCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Answers of the history that are held at a time, until their connections have taken them: each has some megabytes.
const HISTORY_ANSWERS_MAX: usize = 4;

/// The settings of the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// The address and port.
    pub listen: SocketAddr,
    /// Host names that it answers to, beside addresses and `localhost`.
    pub hosts: Vec<Box<str>>,
}

/// Answers a search: words, and a time zone.
pub type SearchView = dyn Fn(&str, &str) -> Result<serde_json::Value, String> + Send + Sync;

/// Answers a query of the history, in JSON.
pub type HistoryView = dyn Fn(&str) -> Result<Vec<u8>, HistoryRefusal> + Send + Sync;

/// Which connections a status lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionList {
    /// If there are many, those in trouble and the busiest.
    Short,
    /// All of them.
    All,
}

/// The data that the port shows. All functions but search and history are called on the runtime, and may not block.
pub struct Views {
    /// Whether the pipeline goes on.
    pub is_alive: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the process can take events, and if not, why.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The books in Prometheus' text format 0.0.4.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The books and the rest, as JSON.
    pub status: Box<dyn Fn(ConnectionList) -> serde_json::Value + Send + Sync>,
    /// The series that match all words of a text, with days of a time zone, as JSON; or an error. Called on a thread that
    /// may block, one at a time.
    pub search: Box<SearchView>,
    /// The sends by day, for the query of a URL, as JSON, which may be long. Called like the search, on a thread of its own.
    pub history: Box<HistoryView>,
}

/// Answers requests: the views, and their cached answers.
struct AdminHandler {
    views: Views,
    hosts: Hosts,
    refusals: Sampled,
    metrics: Mutex<Option<CachedAnswer>>,
    status: Mutex<Option<CachedAnswer>>,
    status_of_all: Mutex<Option<CachedAnswer>>,
    searches: WorkerPool,
    histories: WorkerPool,
    history_answers: Arc<Semaphore>,
}

/// An answer of the history, and its permit, which is given back once the answer is written or its connection is gone.
struct HeldAnswer {
    body: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// A cached answer.
struct CachedAnswer {
    until: Instant,
    body: Bytes,
}

/// The admin port, open but not yet served.
pub struct AdminListener {
    listener: Listener,
    handler: Arc<AdminHandler>,
}

/// Opens the admin port.
///
/// # Errors
/// When it can't be listened on (the message names the setting), or the threads for searches and for the history can't be made.
pub async fn bind(settings: &AdminSettings, views: Views) -> Result<AdminListener, OpenPortError> {
    let limits = http_listener::ConnectionLimits {
        // No connection is vouched for here: one more takes the place of the oldest that is not being answered.
        connections_max: 0,
        strangers_min: CONNECTIONS_MAX,
        ..http_listener::ConnectionLimits::default()
    }
    .within_descriptors();
    let listener = Listener::bind(settings.listen, "admin.listen", limits).await?;
    let searches = WorkerPool::start("search", 1, SEARCH_WAIT_MAX)?;
    let histories = WorkerPool::start("history-read", 1, SEARCH_WAIT_MAX)?;
    let handler = AdminHandler::new(views, Hosts::new(&settings.hosts), searches, histories);
    Ok(AdminListener { listener, handler: Arc::new(handler) })
}

impl AdminListener {
    /// Where it listens; with port 0 in the settings, the port that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true or its sender is gone, then gives requests under way `grace`. Returns
    /// how many connections were cut off because they took longer.
    pub async fn run(self, stop: watch::Receiver<bool>, grace: Duration) -> usize {
        let handle = move |request, _caller| {
            let handler = Arc::clone(&self.handler);
            async move { answer(&request, handler).await }
        };
        self.listener.run(|| None, handle, stop, grace).await
    }
}

impl AdminHandler {
    fn new(views: Views, hosts: Hosts, searches: WorkerPool, histories: WorkerPool) -> Self {
        let (metrics, status, status_of_all) = (Mutex::default(), Mutex::default(), Mutex::default());
        let refusals = Sampled::default();
        let history_answers = Arc::new(Semaphore::new(HISTORY_ANSWERS_MAX));
        Self { views, hosts, refusals, metrics, status, status_of_all, searches, histories, history_answers }
    }
}

async fn answer(request: &Request<Incoming>, handler: Arc<AdminHandler>) -> Answer {
    let answer = match health(request.uri().path(), &handler) {
        Some(answer) if is_get(request) => answer,
        Some(_) => use_get(),
        None => view(request, handler).await,
    };
    // No handler here reads a body.
    if request.body().is_end_stream() { answer } else { hang_up(answer) }
}

/// Health is for orchestrators, which use any host name; it tells a foreign web page nothing useful.
fn health(path: &str, handler: &AdminHandler) -> Option<Answer> {
    match path {
        "/livez" | "/healthz" if (handler.views.is_alive)() => Some(text(StatusCode::OK, TEXT, "ok\n")),
        "/livez" | "/healthz" => Some(text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the pipeline is stuck\n")),
        "/readyz" => Some(match (handler.views.ready)() {
            Ok(()) => text(StatusCode::OK, TEXT, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        }),
        _ => None,
    }
}

async fn view(request: &Request<Incoming>, handler: Arc<AdminHandler>) -> Answer {
    if let Err(misdirected) = handler.hosts.check(request) {
        if let Some(hidden) = handler.refusals.pass() {
            let host = &misdirected.host;
            warn!(%host, hidden, "the admin port refused a request: its Host is not among admin.hosts");
        }
        return text(StatusCode::MISDIRECTED_REQUEST, TEXT, misdirected.text());
    }
    let path = request.uri().path();
    let file = page::file(path);
    if file.is_none() && !["/metrics", "/status", "/search", "/history"].contains(&path) {
        return text(StatusCode::NOT_FOUND, TEXT, "there is nothing here; see /\n");
    }
    if !is_get(request) {
        return use_get();
    }
    if let Some(file) = file {
        return page::answer(file, request.headers());
    }
    match path {
        "/metrics" => text(StatusCode::OK, METRICS, metrics(&handler)),
        "/status" => match parameter(request, "connections").as_deref() {
            None => text(StatusCode::OK, JSON, status(&handler, ConnectionList::Short)),
            Some("all") => text(StatusCode::OK, JSON, status(&handler, ConnectionList::All)),
            Some(_) => text(StatusCode::BAD_REQUEST, TEXT, "connections can be all, or left out\n"),
        },
        "/history" => history(request.uri().query().unwrap_or_default(), handler).await,
        _ => {
            let words = parameter(request, "q").unwrap_or_default();
            let time_zone = parameter(request, "time_zone").unwrap_or_else(|| "UTC".to_owned());
            search(words, time_zone, handler).await
        }
    }
}

fn is_get(request: &Request<Incoming>) -> bool {
    request.method() == Method::GET || request.method() == Method::HEAD
}

fn use_get() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// The status. It is made anew four times a second at most, and as often as takes a tenth of a core, however many requests
/// come.
fn status(handler: &AdminHandler, list: ConnectionList) -> Bytes {
    let place = match list {
        ConnectionList::Short => &handler.status,
        ConnectionList::All => &handler.status_of_all,
    };
    cached(place, |cost| answer_age(cost).max(STATUS_AGE), || format!("{:#}\n", (handler.views.status)(list)))
}

/// The metrics. They are made anew as often as takes a tenth of a core, however many requests come: with few connections,
/// always.
fn metrics(handler: &AdminHandler) -> Bytes {
    cached(&handler.metrics, answer_age, || (handler.views.metrics)())
}

/// How long to reuse an answer that took so much of a core.
fn answer_age(cost: Duration) -> Duration {
    cost.saturating_mul(9).min(ANSWER_AGE_MAX)
}

/// The cached answer while it is fresh, else a new one of `make`, cached for the `age` of its cost.
fn cached(
    place: &Mutex<Option<CachedAnswer>>,
    age: impl FnOnce(Duration) -> Duration,
    make: impl FnOnce() -> String,
) -> Bytes {
    let mut cached = place.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = Instant::now();
    if let Some(CachedAnswer { until, body }) = &*cached
        && asked < *until
    {
        return body.clone();
    }
    // Not the time that has passed: what is cheap would be stale for long where the machine is busy.
    let begun = thread_time();
    let body = Bytes::from(make());
    let cost = thread_time().saturating_sub(begun);
    *cached = Some(CachedAnswer { until: Instant::now() + age(cost), body: body.clone() });
    body
}

/// The first value of a parameter of the query.
fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned())
}

async fn search(words: String, time_zone: String, handler: Arc<AdminHandler>) -> Answer {
    if words.len() > QUERY_BYTES_MAX {
        return text(StatusCode::URI_TOO_LONG, TEXT, "the search is too long\n");
    }
    let found = handler.searches.run({
        let handler = Arc::clone(&handler);
        move || (handler.views.search)(&words, &time_zone).map(|found| format!("{found:#}\n"))
    });
    match found.await {
        Ok(Ok(found)) => text(StatusCode::OK, JSON, found),
        Ok(Err(reason)) => text(StatusCode::BAD_REQUEST, TEXT, format!("{reason}\n")),
        Err(WorkError::Busy) => busy("too many searches at a time\n"),
        Err(WorkError::Panicked) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the search failed\n"),
    }
}

async fn history(query: &str, handler: Arc<AdminHandler>) -> Answer {
    if query.len() > QUERY_BYTES_MAX {
        return text(StatusCode::URI_TOO_LONG, TEXT, "the query is too long\n");
    }
    let permit = timeout(SEARCH_WAIT_MAX, Arc::clone(&handler.history_answers).acquire_owned());
    let Ok(Ok(permit)) = permit.await else { return busy("too many answers of the history are not read\n") };
    let told = handler.histories.run({
        let (handler, query) = (Arc::clone(&handler), query.to_owned());
        move || (handler.views.history)(&query)
    });
    match told.await {
        Ok(Ok(body)) => text(StatusCode::OK, JSON, Bytes::from_owner(HeldAnswer { body, _permit: permit })),
        Ok(Err(refusal)) => match refusal {
            HistoryRefusal::NotKept => text(StatusCode::NOT_FOUND, TEXT, format!("{refusal}\n")),
            HistoryRefusal::Wrong(_) => text(StatusCode::BAD_REQUEST, TEXT, format!("{refusal}\n")),
            HistoryRefusal::Unavailable(_) => busy(format!("{refusal}\n")),
        },
        Err(WorkError::Busy) => busy("too many ask for history at a time\n"),
        Err(WorkError::Panicked) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the history could not be read\n")
        }
    }
}

/// The answer to trouble that may pass within a second.
fn busy(reason: impl Into<Bytes>) -> Answer {
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests;
