use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::*;
use http_listener::testing::{ask, connect};

/// More than a socket holds.
const LONG_ANSWER: usize = 32 << 20;

struct Running {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    alive: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    done: JoinSet<usize>,
}

async fn running() -> Running {
    let ready = Arc::new(AtomicBool::new(true));
    let is_ready = Arc::clone(&ready);
    let alive = Arc::new(AtomicBool::new(true));
    let is_alive = Arc::clone(&alive);
    let views = Views {
        is_alive: Box::new(move || is_alive.load(Ordering::SeqCst)),
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
            "long" => Ok(vec![b' '; LONG_ANSWER]),
            query => Ok(format!("{:#}\n", serde_json::json!({ "query": query })).into_bytes()),
        }),
    };
    let settings =
        AdminSettings { listen: "127.0.0.1:0".parse().unwrap(), hosts: vec!["known.example".into()] };
    let listener = bind(&settings, views).await.unwrap();
    let address = listener.local_addr();
    let (stop, stopped) = watch::channel(false);
    let mut done = JoinSet::new();
    done.spawn(listener.run(stopped, Duration::from_secs(5)));
    Running { address, ready, alive, stop, done }
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

/// Who asks for much and does not read holds it; the next one waits until somebody has read, or is gone.
#[tokio::test]
async fn few_answers_of_the_history_are_held_for_those_who_do_not_read_them() {
    let running = running().await;
    let mut idle = Vec::new();
    for _ in 0..HISTORY_ANSWERS_MAX {
        let mut stream = connect(running.address).await;
        stream.write_all(&request("GET", "/history?long")).await.unwrap();
        // Its beginning has come, so it is made.
        stream.read_u8().await.unwrap();
        idle.push(stream);
    }
    let mut next = connect(running.address).await;
    let reply = ask(&mut next, &request("GET", "/history?id=1")).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(reply.body, "too many answers of the history are not read\n");
    // One of them goes, and another one reads all.
    idle.pop();
    assert_eq!(ask(&mut next, &request("GET", "/history?id=1")).await.status, 200);
    let mut last = connect(running.address).await;
    last.write_all(&request("GET", "/history?long")).await.unwrap();
    last.read_u8().await.unwrap();
    let mut left = 1;
    while left < LONG_ANSWER {
        left += idle[0].read(&mut vec![0; 1 << 20]).await.unwrap();
    }
    assert_eq!(ask(&mut next, &request("GET", "/history?id=1")).await.status, 200);
}

#[test]
fn a_search_does_not_wait_for_what_blocks_elsewhere() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
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

/// Takes so much of a core.
fn work_for(cost: Duration) {
    let begun = thread_time();
    while thread_time() < begun + cost {
        std::hint::spin_loop();
    }
}

/// A handler with this status, and metrics that are made so.
fn handler(
    status: impl Fn(ConnectionList) -> serde_json::Value + Send + Sync + 'static,
    make_metrics: impl Fn() + Send + Sync + 'static,
) -> AdminHandler {
    let views = Views {
        is_alive: Box::new(|| true),
        ready: Box::new(|| Ok(())),
        metrics: Box::new(move || {
            make_metrics();
            String::new()
        }),
        status: Box::new(status),
        search: Box::new(|_, _| Ok(serde_json::Value::Null)),
        history: Box::new(|_| Ok(Vec::new())),
    };
    let searches = WorkerPool::start("search", 1, SEARCH_WAIT_MAX).unwrap();
    let histories = WorkerPool::start("history-read", 1, SEARCH_WAIT_MAX).unwrap();
    AdminHandler::new(views, Hosts::new(&[]), searches, histories)
}

#[tokio::test]
async fn the_status_is_not_made_anew_for_everybody_who_asks() {
    let made = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = Arc::clone(&made);
    let handler = handler(move |_| serde_json::json!(count.fetch_add(1, Ordering::SeqCst)), || ());
    let first = status(&handler, ConnectionList::Short);
    let asked = (0..1_000).take_while(|_| status(&handler, ConnectionList::Short) == first).count();
    assert!(asked > 0, "{asked}");
    handler.status.lock().unwrap().as_mut().unwrap().until = Instant::now();
    assert_eq!(
        &*status(&handler, ConnectionList::Short),
        format!("{}\n", made.load(Ordering::SeqCst) - 1).as_bytes()
    );
    assert!(made.load(Ordering::SeqCst) >= 2);
}

#[tokio::test]
async fn what_is_costly_takes_a_tenth_of_a_core_at_most() {
    const COST: Duration = Duration::from_millis(60);
    let slow = |_| {
        work_for(COST);
        serde_json::Value::Null
    };
    let handler = handler(slow, || work_for(COST));
    let begun = Instant::now();
    metrics(&handler);
    status(&handler, ConnectionList::Short);
    status(&handler, ConnectionList::All);
    for place in [&handler.metrics, &handler.status, &handler.status_of_all] {
        let until = place.lock().unwrap().as_ref().unwrap().until;
        assert!(until >= begun + 10 * COST, "{:?}", until - begun);
    }
}

/// Who has seen a change elsewhere, and looks for it here, would not find it.
#[tokio::test]
async fn what_a_busy_machine_takes_long_for_is_not_kept_for_long() {
    const WAIT: Duration = Duration::from_millis(60);
    let handler = handler(|_| serde_json::Value::Null, || std::thread::sleep(WAIT));
    metrics(&handler);
    let until = handler.metrics.lock().unwrap().as_ref().unwrap().until;
    let left = until.saturating_duration_since(Instant::now());
    assert!(left < WAIT, "{left:?}");
}

#[test]
fn metrics_are_made_anew_where_that_is_cheap_and_cost_a_tenth_of_a_core_at_most() {
    assert_eq!(answer_age(Duration::from_micros(100)), Duration::from_micros(900));
    assert_eq!(answer_age(Duration::from_secs(1)), Duration::from_secs(9));
    assert_eq!(answer_age(Duration::from_hours(1)), ANSWER_AGE_MAX);
    let (place, mut made) = (Mutex::default(), 0);
    let mut ask = |age| {
        cached(
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
    let get = |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
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
    running.alive.store(false, Ordering::SeqCst);
    let reason = client.health("/livez").await.unwrap_err().to_string();
    assert_eq!(reason, "/livez: status 503 the pipeline is stuck");
    running.alive.store(true, Ordering::SeqCst);
    running.stop.send(true).unwrap();
    assert_eq!(running.done.join_next().await.unwrap().unwrap(), 0);
    assert!(client.health("/livez").await.is_err());
}
