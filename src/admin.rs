//! The admin port: health, metrics, status.

pub mod books;
mod probe;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;

pub use self::probe::probe;
use crate::listen::{self, Admission, Answer, Caller, ListenError, Listener, hang_up};

/// Connections at a time: an orchestrator, a scraper or two, people. Few, so that a scraper gone wild can't
/// take the file descriptors that the push port needs.
const CONNECTIONS_MAX: usize = 64;

/// Connections beyond those that are told so.
const REFUSALS_MAX: usize = 8;

const TEXT: &str = "text/plain; charset=utf-8";
/// Prometheus' text exposition format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// Nothing may be loaded, sent or framed: the page is text and links.
const PAGE_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>braze-datadog</title></head>\n",
    "<body>\n<h1>braze-datadog ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<ul>\n",
    "<li><a href=\"/livez\">/livez</a>: the process runs</li>\n",
    "<li><a href=\"/readyz\">/readyz</a>: it can take events</li>\n",
    "<li><a href=\"/metrics\">/metrics</a>: the books, for Prometheus</li>\n",
    "<li><a href=\"/status\">/status</a>: the books and each connection's last outcome, as JSON</li>\n",
    "</ul>\n</body>\n</html>\n",
);

/// How the admin listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The address and port.
    pub listen: SocketAddr,
}

/// What the port shows. Each is called once for every request, on the runtime: none may block.
pub struct Views {
    /// Whether the process can take events, and if not, why not.
    pub ready: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The books in Prometheus' text format 0.0.4.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The books and the rest, as JSON.
    pub status: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Views")
    }
}

/// The admin port, open but not yet served.
#[derive(Debug)]
pub struct AdminListener {
    listener: Listener,
    views: Views,
}

/// Opens the admin port.
///
/// # Errors
/// When it can't be listened on; the message names the setting.
pub async fn bind(settings: &Settings, views: Views) -> Result<AdminListener, ListenError> {
    let limits = listen::Limits {
        connections_max: CONNECTIONS_MAX,
        refusals_max: REFUSALS_MAX,
        ..listen::Limits::default()
    };
    let listener = Listener::bind(settings.listen, "admin.listen", limits).await?;
    Ok(AdminListener { listener, views })
}

impl AdminListener {
    /// Where it listens; with port 0 in the settings, the port that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true or its sender is gone, then gives requests under way `grace`. Returns
    /// how many connections were cut off because they took longer.
    pub async fn run(self, stop: watch::Receiver<bool>, grace: Duration) -> usize {
        let views = Arc::new(self.views);
        let handle = move |request, caller| {
            let views = Arc::clone(&views);
            async move { answer(&request, &caller, &views) }
        };
        self.listener.run(|| None, handle, stop, grace).await
    }
}

fn answer(request: &Request<Incoming>, caller: &Caller, views: &Views) -> Answer {
    let answer = if caller.admission == Admission::Crowded {
        let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many connections\n");
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    } else {
        view(request.method(), request.uri().path(), views)
    };
    // Nothing here reads a body.
    if request.body().is_end_stream() { answer } else { hang_up(answer) }
}

fn view(method: &Method, path: &str, views: &Views) -> Answer {
    let known = ["/", "/livez", "/readyz", "/metrics", "/status"];
    if !known.contains(&path) {
        return text(StatusCode::NOT_FOUND, TEXT, "there is nothing here; see /\n");
    }
    if method != Method::GET && method != Method::HEAD {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match path {
        "/livez" => text(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match (views.ready)() {
            Ok(()) => text(StatusCode::OK, TEXT, "ok\n"),
            Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
        },
        "/metrics" => text(StatusCode::OK, METRICS, (views.metrics)()),
        "/status" => text(StatusCode::OK, JSON, format!("{:#}\n", (views.status)())),
        _ => {
            let mut answer = text(StatusCode::OK, HTML, PAGE);
            let headers = answer.headers_mut();
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
            headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            answer
        }
    }
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
    use crate::listen::testing::{ask, connect};

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
            status: Box::new(|| serde_json::json!({ "version": "1" })),
        };
        let listener = bind(&Settings { listen: "127.0.0.1:0".parse().unwrap() }, views).await.unwrap();
        let address = listener.local_addr();
        let (stop, stopped) = watch::channel(false);
        let mut done = JoinSet::new();
        done.spawn(listener.run(stopped, Duration::from_secs(5)));
        Running { address, ready, stop, done }
    }

    fn request(method: &str, path: &str) -> Vec<u8> {
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
    }

    #[tokio::test]
    async fn each_view_has_its_content_type() {
        let running = running().await;
        let mut stream = connect(running.address).await;
        for (path, content_type, body) in [
            ("/livez", "text/plain; charset=utf-8", "ok\n"),
            ("/readyz", "text/plain; charset=utf-8", "ok\n"),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "braze_datadog_series 1\n"),
            ("/status", "application/json", "{\n  \"version\": \"1\"\n}\n"),
            ("/status?x", "application/json", "{\n  \"version\": \"1\"\n}\n"),
        ] {
            let reply = ask(&mut stream, &request("GET", path)).await;
            assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)), "{path}");
            assert_eq!(reply.body, body, "{path}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        }
    }

    #[tokio::test]
    async fn the_page_names_the_views_and_may_load_nothing() {
        let running = running().await;
        let reply = ask(&mut connect(running.address).await, &request("GET", "/")).await;
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none';"));
        for path in ["/livez", "/readyz", "/metrics", "/status"] {
            assert!(reply.body.contains(path), "{path}");
        }
        assert!(!reply.body.contains("<script"));
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
        let with_body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
        let reply = ask(&mut stream, with_body).await;
        assert_eq!((reply.status, reply.header("connection")), (405, Some("close")));
    }

    #[tokio::test]
    async fn not_being_ready_is_said_with_its_reason_and_the_probe_repeats_it() {
        let mut running = running().await;
        assert_eq!(probe(running.address, "/readyz").await, Ok(()));
        running.ready.store(false, Ordering::SeqCst);
        let reply = ask(&mut connect(running.address).await, &request("GET", "/readyz")).await;
        assert_eq!((reply.status, reply.body.as_str()), (503, "the queue is full\n"));
        let reason = format!("{}/readyz: status 503 the queue is full", running.address);
        assert_eq!(probe(running.address, "/readyz").await, Err(reason));
        assert_eq!(probe(running.address, "/livez").await, Ok(()));
        running.stop.send(true).unwrap();
        assert_eq!(running.done.join_next().await.unwrap().unwrap(), 0);
        assert!(probe(running.address, "/livez").await.is_err());
    }
}
