//! The admin port: health, metrics, status, search, history, and the page for people.

pub mod headline;
pub mod history;
mod hosts;
pub mod messages;
mod page;
pub mod process_usage;
pub mod prometheus;
pub mod rates;
pub mod status;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tracing::warn;

use self::history::HistoryRefusal;
use self::hosts::Hosts;
pub use self::hosts::is_name;
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
/// How long an answer of `/status` is reused: people look every second or two, and with many connections it costs a
/// millisecond or more.
const STATUS_AGE_MAX: Duration = Duration::from_millis(250);

/// Bytes of a search's query string.
const QUERY_BYTES_MAX: usize = 1_000;

/// How long a search or history query waits for those before it; each takes some hundredths of a second.
const SEARCH_WAIT_MAX: Duration = Duration::from_secs(10);

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

/// Answers a query of the history.
pub type HistoryView = dyn Fn(&str) -> Result<serde_json::Value, HistoryRefusal> + Send + Sync;

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
    /// Whether the process can take events, and if not, why.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The books in Prometheus' text format 0.0.4.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The books and the rest, as JSON.
    pub status: Box<dyn Fn(ConnectionList) -> serde_json::Value + Send + Sync>,
    /// The series that match all words of a text, with days of a time zone, as JSON; or an error. Called on a thread that
    /// may block, one at a time.
    pub search: Box<SearchView>,
    /// The sends by day, for the query of a URL, as JSON. Called like the search, on a thread of its own.
    pub history: Box<HistoryView>,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Views")
    }
}

/// The views, and their cached answers.
struct Desk {
    views: Views,
    hosts: Hosts,
    refusals: Sampled,
    metrics: Mutex<Option<Kept>>,
    status: Mutex<Option<Kept>>,
    status_of_all: Mutex<Option<Kept>>,
    searches: WorkerPool,
    histories: WorkerPool,
}

/// A cached answer.
struct Kept {
    until: Instant,
    body: Bytes,
}

/// The admin port, open but not yet served.
#[derive(Debug)]
pub struct AdminListener {
    listener: Listener,
    views: Views,
    hosts: Hosts,
    searches: WorkerPool,
    histories: WorkerPool,
}

/// Opens the admin port.
///
/// # Errors
/// When it can't be listened on (the message names the setting), or the thread for searches can't be made.
pub async fn bind(settings: &AdminSettings, views: Views) -> Result<AdminListener, OpenPortError> {
    let limits = http_listener::ConnectionLimits {
        // No connection is vouched for here: one more takes the place of the oldest that is not being answered.
        connections_max: 0,
        strangers_min: CONNECTIONS_MAX,
        ..http_listener::ConnectionLimits::default()
    };
    let listener = Listener::bind(settings.listen, "admin.listen", limits).await?;
    let searches = WorkerPool::start("search", 1, SEARCH_WAIT_MAX)?;
    let histories = WorkerPool::start("history-read", 1, SEARCH_WAIT_MAX)?;
    Ok(AdminListener { listener, views, hosts: Hosts::new(&settings.hosts), searches, histories })
}

impl AdminListener {
    /// Where it listens; with port 0 in the settings, the port that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true or its sender is gone, then gives requests under way `grace`. Returns
    /// how many connections were cut off because they took longer.
    pub async fn run(self, stop: watch::Receiver<bool>, grace: Duration) -> usize {
        let desk = Arc::new(Desk::new(self.views, self.hosts, self.searches, self.histories));
        let handle = move |request, _caller| {
            let desk = Arc::clone(&desk);
            async move { answer(&request, desk).await }
        };
        self.listener.run(|| None, handle, stop, grace).await
    }
}

impl Desk {
    fn new(views: Views, hosts: Hosts, searches: WorkerPool, histories: WorkerPool) -> Self {
        let (metrics, status, status_of_all) = (Mutex::default(), Mutex::default(), Mutex::default());
        let refusals = Sampled::default();
        Self { views, hosts, refusals, metrics, status, status_of_all, searches, histories }
    }
}

async fn answer(request: &Request<Incoming>, desk: Arc<Desk>) -> Answer {
    let answer = match health(request.uri().path(), &desk) {
        Some(answer) if is_get(request) => answer,
        Some(_) => use_get(),
        None => view(request, desk).await,
    };
    // No handler here reads a body.
    if request.body().is_end_stream() { answer } else { hang_up(answer) }
}

/// Health is for orchestrators, which use any host name; it tells a foreign web page nothing useful.
fn health(path: &str, desk: &Desk) -> Option<Answer> {
    match path {
        "/livez" | "/healthz" => Some(text(StatusCode::OK, TEXT, "ok\n")),
        "/readyz" => Some(match (desk.views.ready)() {
            Ok(()) => text(StatusCode::OK, TEXT, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        }),
        _ => None,
    }
}

async fn view(request: &Request<Incoming>, desk: Arc<Desk>) -> Answer {
    if let Err(misdirected) = desk.hosts.check(request) {
        if let Some(hidden) = desk.refusals.pass() {
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
        "/metrics" => text(StatusCode::OK, METRICS, metrics(&desk)),
        "/status" => match parameter(request, "connections").as_deref() {
            None => text(StatusCode::OK, JSON, status(&desk, ConnectionList::Short)),
            Some("all") => text(StatusCode::OK, JSON, status(&desk, ConnectionList::All)),
            Some(_) => text(StatusCode::BAD_REQUEST, TEXT, "connections can be all, or left out\n"),
        },
        "/history" => history(request.uri().query().unwrap_or_default(), desk).await,
        _ => {
            let words = parameter(request, "q").unwrap_or_default();
            let time_zone = parameter(request, "time_zone").unwrap_or_else(|| "UTC".to_owned());
            search(words, time_zone, desk).await
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

/// The status, not older than [`STATUS_AGE_MAX`], however many requests come.
fn status(desk: &Desk, list: ConnectionList) -> Bytes {
    let place = match list {
        ConnectionList::Short => &desk.status,
        ConnectionList::All => &desk.status_of_all,
    };
    kept(place, |_cost| STATUS_AGE_MAX, || format!("{:#}\n", (desk.views.status)(list)))
}

/// The metrics. They are made anew as often as takes a tenth of a core, however many requests come: with few connections,
/// always.
fn metrics(desk: &Desk) -> Bytes {
    kept(&desk.metrics, metrics_age_max, || (desk.views.metrics)())
}

/// How long to reuse metrics that took this long.
fn metrics_age_max(cost: Duration) -> Duration {
    (9 * cost).min(STATUS_AGE_MAX)
}

/// The cached answer while it is fresh, else a new one of `make`, cached for `age_max` of its cost.
fn kept(
    place: &Mutex<Option<Kept>>,
    age_max: impl FnOnce(Duration) -> Duration,
    make: impl FnOnce() -> String,
) -> Bytes {
    let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = Instant::now();
    if let Some(Kept { until, body }) = &*kept
        && asked < *until
    {
        return body.clone();
    }
    let body = Bytes::from(make());
    let finished = Instant::now();
    *kept = Some(Kept { until: finished + age_max(finished - asked), body: body.clone() });
    body
}

/// The first value of a parameter of the query.
fn parameter(request: &Request<Incoming>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned())
}

async fn search(words: String, time_zone: String, desk: Arc<Desk>) -> Answer {
    if words.len() > QUERY_BYTES_MAX {
        return text(StatusCode::URI_TOO_LONG, TEXT, "the search is too long\n");
    }
    let found = desk.searches.run({
        let desk = Arc::clone(&desk);
        move || (desk.views.search)(&words, &time_zone).map(|found| format!("{found:#}\n"))
    });
    match found.await {
        Ok(Ok(found)) => text(StatusCode::OK, JSON, found),
        Ok(Err(reason)) => text(StatusCode::BAD_REQUEST, TEXT, format!("{reason}\n")),
        Err(WorkError::Busy) => busy("too many searches at a time\n"),
        Err(WorkError::Panicked) => text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the search failed\n"),
    }
}

async fn history(query: &str, desk: Arc<Desk>) -> Answer {
    if query.len() > QUERY_BYTES_MAX {
        return text(StatusCode::URI_TOO_LONG, TEXT, "the query is too long\n");
    }
    let told = desk.histories.run({
        let (desk, query) = (Arc::clone(&desk), query.to_owned());
        move || (desk.views.history)(&query).map(|told| format!("{told:#}\n"))
    });
    match told.await {
        Ok(Ok(told)) => text(StatusCode::OK, JSON, told),
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
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::task::JoinSet;

    use super::*;
    use http_listener::testing::{ask, connect};

    struct Running {
        address: SocketAddr,
        ready: Arc<AtomicBool>,
        stop: watch::Sender<bool>,
        done: JoinSet<usize>,
    }

    async fn running() -> Running {
        let ready = Arc::new(AtomicBool::new(true));
        let is_ready = Arc::clone(&ready);
        let views = Views {
            ready: Box::new(move || {
                if is_ready.load(Ordering::SeqCst) { Ok(()) } else { Err("the queue is full".into()) }
            }),
            metrics: Box::new(|| "braze_datadog_series 1\n".into()),
            status: Box::new(|list| match list {
                ConnectionList::Short => serde_json::json!({ "version": "1" }),
                ConnectionList::All => serde_json::json!({ "version": "all" }),
            }),
            search: Box::new(|query, zone| match zone {
                "UTC" => Ok(serde_json::json!({ "query": query })),
                other => Err(format!("`{other}` is not a time zone")),
            }),
            history: Box::new(|query| match query {
                "off" => Err(HistoryRefusal::NotKept),
                "opening" => Err(HistoryRefusal::Unavailable("it is being opened".into())),
                "from=x" => Err(HistoryRefusal::Wrong("`x` is not a day".into())),
                query => Ok(serde_json::json!({ "query": query })),
            }),
        };
        let settings =
            AdminSettings { listen: "127.0.0.1:0".parse().unwrap(), hosts: vec!["known.example".into()] };
        let listener = bind(&settings, views).await.unwrap();
        let address = listener.local_addr();
        let (stop, stopped) = watch::channel(false);
        let mut done = JoinSet::new();
        done.spawn(listener.run(stopped, Duration::from_secs(5)));
        Running { address, ready, stop, done }
    }

    fn request(method: &str, path: &str) -> Vec<u8> {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn each_view_has_its_content_type() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        for (path, content_type, body) in [
            ("/livez", "text/plain; charset=utf-8", "ok\n"),
            ("/readyz", "text/plain; charset=utf-8", "ok\n"),
            ("/healthz", "text/plain; charset=utf-8", "ok\n"),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "braze_datadog_series 1\n"),
            ("/status", "application/json", "{\n  \"version\": \"1\"\n}\n"),
            ("/status?x", "application/json", "{\n  \"version\": \"1\"\n}\n"),
            ("/status?connections=all", "application/json", "{\n  \"version\": \"all\"\n}\n"),
        ] {
            let reply = ask(&mut stream, &request("GET", path)).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{path}");
            assert_eq!(reply.body, body, "{path}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        }
    }

    #[tokio::test]
    async fn the_page_and_its_files_may_load_only_one_another() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        for (path, content_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/page.css", "text/css; charset=utf-8"),
            ("/page.js", "text/javascript; charset=utf-8"),
            ("/icon.svg", "image/svg+xml"),
        ] {
            let reply = ask(&mut stream, &request("GET", path)).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{path}");
            assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none';"));
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
            let known = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {}\r\n\r\n",
                reply.header("etag").unwrap()
            );
            let again = ask(&mut stream, known.as_bytes()).await;
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
        }
    }

    #[tokio::test]
    async fn without_scripts_the_page_says_where_to_look() {
        let running = running().await;
        let reply = ask(&mut connect(running.address).await, &request("GET", "/")).await;
        for path in ["/livez", "/readyz", "/metrics", "/status"] {
            assert!(reply.body.contains(path), "{path}");
        }
    }

    #[tokio::test]
    async fn a_search_is_told_the_words_of_the_url() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        for (asked, words) in [
            ("?q=weekly+newsletter", "weekly newsletter"),
            ("?x=1&q=50%25%20off%C3%A9", "50% offé"),
            ("?q=100%+%zz%4", "100% %zz%4"),
            ("", ""),
        ] {
            let reply = ask(&mut stream, &request("GET", &format!("/search{asked}"))).await;
            let told: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
            assert_eq!((reply.status, told["query"].as_str()), (200, Some(words)), "{asked}");
        }
        let reply = ask(&mut stream, &request("GET", "/status?connections=some")).await;
        assert_eq!((reply.status, &*reply.body), (400, "connections can be all, or left out\n"));
        let long = format!("/search?q={}", "a".repeat(QUERY_BYTES_MAX + 1));
        assert_eq!(ask(&mut stream, &request("GET", &long)).await.status, 414);
    }

    #[tokio::test]
    async fn what_was_sent_on_which_day_is_told_or_why_not() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        for (asked, status, body) in [
            ("/history?id=1", 200, "{\n  \"query\": \"id=1\"\n}\n"),
            ("/history?off", 404, "no history of sends is kept: history.directory is empty\n"),
            ("/history?from=x", 400, "`x` is not a day\n"),
            ("/history?opening", 503, "it is being opened\n"),
            ("/search?q=a&time_zone=Paris", 400, "`Paris` is not a time zone\n"),
        ] {
            let reply = ask(&mut stream, &request("GET", asked)).await;
            assert_eq!((reply.status, &*reply.body), (status, body), "{asked}");
        }
        let long = format!("/history?id={}", "a".repeat(QUERY_BYTES_MAX));
        assert_eq!(ask(&mut stream, &request("GET", &long)).await.status, 414);
    }

    #[test]
    fn a_search_does_not_wait_for_what_blocks_elsewhere() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
            let hung = tokio::task::spawn_blocking(move || released.recv());
            let running = running().await;
            let mut stream = connect(running.address).await;
            let whole = request("GET", "/search?q=x");
            let answered = tokio::time::timeout(Duration::from_secs(20), ask(&mut stream, &whole)).await;
            release.send(()).unwrap();
            hung.await.unwrap().unwrap();
            let reply = answered.expect("the only thread that may block is taken by something else");
            assert_eq!(reply.status, 200);
        });
    }

    #[tokio::test]
    async fn the_status_is_not_made_anew_for_everybody_who_asks() {
        let made = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&made);
        let views = Views {
            ready: Box::new(|| Ok(())),
            metrics: Box::new(String::new),
            status: Box::new(move |_| serde_json::json!(count.fetch_add(1, Ordering::SeqCst))),
            search: Box::new(|_, _| Ok(serde_json::Value::Null)),
            history: Box::new(|_| Ok(serde_json::Value::Null)),
        };
        let searches = WorkerPool::start("search", 1, SEARCH_WAIT_MAX).unwrap();
        let histories = WorkerPool::start("history-read", 1, SEARCH_WAIT_MAX).unwrap();
        let desk = Desk::new(views, Hosts::new(&[]), searches, histories);
        let first = status(&desk, ConnectionList::Short);
        let asked = (0..1_000).take_while(|_| status(&desk, ConnectionList::Short) == first).count();
        assert!(asked > 0, "{asked}");
        desk.status.lock().unwrap().as_mut().unwrap().until = Instant::now();
        assert_eq!(
            &*status(&desk, ConnectionList::Short),
            format!("{}\n", made.load(Ordering::SeqCst) - 1).as_bytes()
        );
        assert!(made.load(Ordering::SeqCst) >= 2);
    }

    #[test]
    fn metrics_are_made_anew_where_that_is_cheap_and_cost_a_tenth_of_a_core_at_most() {
        assert_eq!(metrics_age_max(Duration::from_micros(100)), Duration::from_micros(900));
        assert_eq!(metrics_age_max(Duration::from_secs(1)), STATUS_AGE_MAX);
        let (place, mut made) = (Mutex::default(), 0);
        let mut ask = |age| {
            kept(
                &place,
                |_cost| age,
                || {
                    made += 1;
                    made.to_string()
                },
            )
        };
        assert_eq!([ask(Duration::ZERO), ask(Duration::from_hours(1)), ask(Duration::ZERO)], ["1", "2", "2"]);
    }

    #[tokio::test]
    async fn names_that_nobody_has_named_are_refused_but_for_health() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        let get =
            |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        for path in ["/", "/page.js", "/status", "/search?q=x", "/metrics", "/nothing"] {
            let reply = ask(&mut stream, &get(path, "evil.example:8081")).await;
            assert_eq!((reply.status, reply.header("content-type")), (421, Some(TEXT)), "{path}");
            assert!(reply.body.contains("[admin]\nhosts = [\"evil.example\"]\n"), "{reply:?}");
        }
        for path in ["/livez", "/readyz", "/healthz"] {
            assert_eq!(ask(&mut stream, &get(path, "evil.example")).await.status, 200, "{path}");
        }
        let own = running.address.to_string();
        for host in ["known.example", "Known.Example:443", "localhost:8081", "10.0.0.1:8081", &own] {
            assert_eq!(ask(&mut stream, &get("/status", host)).await.status, 200, "{host}");
        }
    }

    #[tokio::test]
    async fn head_says_what_get_would_without_the_body() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        let head = b"HEAD /metrics HTTP/1.0\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, head).await.unwrap();
        let mut said = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.0 200 OK\r\n"), "{said}");
        assert!(said.contains("content-length: 23\r\n") && said.ends_with("\r\n\r\n"), "{said}");
    }

    #[tokio::test]
    async fn other_methods_and_paths_are_refused() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        let reply = ask(&mut stream, &request("DELETE", "/status")).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")));
        assert_eq!(ask(&mut stream, &request("GET", "/v1/events")).await.status, 404);
        let with_body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
        let reply = ask(&mut stream, with_body).await;
        assert_eq!((reply.status, reply.header("connection")), (405, Some("close")));
    }

    #[tokio::test]
    async fn not_being_ready_is_said_with_its_reason_and_the_client_repeats_it() {
        let mut running = running().await;
        let client = admin_api::Client::local(running.address, Duration::from_secs(3)).unwrap();
        assert_eq!(client.health("/readyz").await, Ok(()));
        running.ready.store(false, Ordering::SeqCst);
        let reply = ask(&mut connect(running.address).await, &request("GET", "/readyz")).await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "the queue is full\n"));
        let reason = client.health("/readyz").await.unwrap_err().to_string();
        assert_eq!(reason, "/readyz: status 503 the queue is full");
        assert_eq!(client.health("/livez").await, Ok(()));
        running.stop.send(true).unwrap();
        assert_eq!(running.done.join_next().await.unwrap().unwrap(), 0);
        assert!(client.health("/livez").await.is_err());
    }
}
