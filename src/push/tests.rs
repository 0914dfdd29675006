use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::body::Pace;
use super::*;
use braze_events::{Decoded, Malformed, decode};
use http_listener::testing::{Reply, TlsPair, ask, connect, eventually, read_reply, tls_client};

const LONG: Duration = Duration::from_secs(20);
const ENVELOPE: &[u8] = br#"{"events":[{"id":"a"},{"id":"b"}]}"#;

/// What the scripted queue does with the next frames.
#[derive(Debug, Clone, Copy)]
enum Script {
    Take,
    TakeSlowly,
    /// Nothing of it ends, and what waits stays in its memory.
    Hang,
    Full,
    TooLarge,
    Disk,
}

struct Running {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    accepting: Arc<AtomicBool>,
    frames: Arc<Mutex<Vec<Pushed>>>,
    stuck: Arc<Mutex<Vec<Share>>>,
    counters: Arc<Counters>,
    reload: Reload,
    stop: watch::Sender<bool>,
    done: JoinSet<usize>,
}

fn limits() -> handler::BodyLimits {
    handler::BodyLimits::new(1_000_000)
}

fn credentials(tokens: Option<&str>, tls: Option<&TlsPair>) -> Credentials {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(tokens.unwrap_or_default().as_bytes()).unwrap();
    let settings = PushSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        token_file: tokens.map(|_| file.path().into()),
        tls: tls.map(|pair| TlsFiles { certificate: pair.certificate.clone(), key: pair.key.clone() }),
        body_bytes_max: 1_000_000,
    };
    Credentials::load(&settings).unwrap().0
}

async fn running(limits: handler::BodyLimits, credentials: Credentials) -> Running {
    running_within(http_listener::ConnectionLimits::default(), limits, credentials).await
}

async fn running_within(
    seats: http_listener::ConnectionLimits,
    limits: handler::BodyLimits,
    credentials: Credentials,
) -> Running {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(address, "push.listen", seats).await.unwrap();
    let address = listener.local_addr();
    let (reload, counters) = (Reload::new(address, credentials), Arc::new(Counters::default()));
    let script = Arc::new(Mutex::new(Script::Take));
    let accepting = Arc::new(AtomicBool::new(true));
    let (frames, stuck) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (stop, stopped) = watch::channel(false);
    let append = {
        let (script, frames, stuck) = (Arc::clone(&script), Arc::clone(&frames), Arc::clone(&stuck));
        move |frame, share| {
            let (now, frames, stuck) = (*script.lock().unwrap(), Arc::clone(&frames), Arc::clone(&stuck));
            async move {
                let share: Share = share;
                match now {
                    Script::Take => {}
                    Script::Hang => {
                        stuck.lock().unwrap().push(share);
                        return std::future::pending().await;
                    }
                    Script::TakeSlowly => sleep(Duration::from_millis(500)).await,
                    Script::Full => return Err(AppendError::Full),
                    Script::TooLarge => {
                        return Err(AppendError::TooLarge { bytes: 2, bytes_max: 1, setting: "size_max" });
                    }
                    Script::Disk => return Err(AppendError::Disk("/secret/path".into())),
                }
                frames.lock().unwrap().push(frame);
                Ok(())
            }
        }
    };
    let accepts = {
        let (accepting, script) = (Arc::clone(&accepting), Arc::clone(&script));
        move || match *script.lock().unwrap() {
            _ if accepting.load(Ordering::SeqCst) => Ok(()),
            Script::Full => Err(Refusal::Append(AppendError::Full)),
            _ => Err(Refusal::NotAccepting),
        }
    };
    let pool = handler::start_pool(limits).unwrap();
    let is_ready = Arc::clone(&accepting);
    let readiness = Readiness::new(move || is_ready.load(Ordering::SeqCst), || true);
    let handler = PushHandler::new(limits, reload.clone(), Arc::clone(&counters), pool, readiness);
    let mut done = JoinSet::new();
    done.spawn(serve(listener, handler, reload.clone(), accepts, append, stopped, LONG));
    Running { address, script, accepting, frames, stuck, counters, reload, stop, done }
}

async fn open() -> Running {
    running(limits(), credentials(None, None)).await
}

impl Running {
    fn say(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }

    async fn connect(&self) -> TcpStream {
        connect(self.address).await
    }

    async fn push(&self, headers: &str, body: &[u8]) -> Reply {
        ask(&mut self.connect().await, &request("/v1/events", headers, body)).await
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.frames.lock().unwrap().iter().map(|frame| frame.body.to_vec()).collect()
    }

    fn count(&self, status: u16) -> u64 {
        self.counters.requests().find(|(code, _)| *code == status).unwrap().1
    }
}

fn request(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// What the queue gets of a body.
fn extract(body: &[u8]) -> Vec<u8> {
    let mut extract = Vec::new();
    decode::extract(body, &mut extract, None).unwrap();
    extract
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn assert_refused(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert!(!body["error"].as_str().unwrap().is_empty());
    assert_eq!(reply.header("retry-after").is_some(), status == 503, "{reply:?}");
    assert_eq!(reply.header("www-authenticate").is_some(), status == 401, "{reply:?}");
}

#[tokio::test]
async fn a_batch_is_answered_with_its_events_once_the_queue_has_it() {
    let running = open().await;
    let target = "/v1/events?app_group_id=g1&app_group_name=Acme+%C3%9C";
    let reply = ask(&mut running.connect().await, &request(target, "", ENVELOPE)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"accepted":2}"#));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let frames = running.frames.lock().unwrap();
    assert_eq!((frames[0].events, frames[0].is_extract), (2, true));
    assert_eq!(frames[0].body, extract(ENVELOPE));
    assert_eq!(frames[0].defaults.app_group_id.as_deref(), Some("g1"));
    assert_eq!(frames[0].defaults.app_group_name.as_deref(), Some("Acme Ü"));
    drop(frames);
    assert_eq!(running.count(200), 1);
    assert_eq!(running.counters.received_bytes(), ENVELOPE.len() as u64);
}

#[tokio::test]
async fn no_events_are_well_after_the_token_check_and_make_no_frame() {
    let running = running(limits(), credentials(Some("secret=="), None)).await;
    for body in [&b""[..], br#"{"events":[]}"#, b"[]", b"null"] {
        let reply = running.push("Authorization: Bearer secret==\r\n", body).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"accepted":0}"#), "{body:?}");
        assert_refused(&running.push("", body).await, 401);
    }
    let no_length = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret==\r\n\r\n";
    assert_eq!(ask(&mut running.connect().await, no_length).await.status, 200);
    let gzip = "Content-Encoding: gzip\r\nAuthorization: Bearer secret==\r\n";
    assert_eq!(running.push(gzip, b"").await.status, 200);
    assert!(running.bodies().is_empty());
}

#[tokio::test]
async fn only_a_known_token_is_let_in() {
    let running = running(limits(), credentials(Some("one\ntwo=="), None)).await;
    for headers in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer two=\r\n",
        "Authorization: Basic one\r\n",
        "Authorization: one\r\n",
        "Authorization: Bearer one\r\nAuthorization: Bearer one\r\n",
        "Authorization: Bearer \u{fc}\r\n",
    ] {
        let reply = running.push(headers, ENVELOPE).await;
        assert_refused(&reply, 401);
        let is_token = headers.contains("Bearer ") || headers.contains("Basic ");
        let error = if is_token { ", error=\"invalid_token\"" } else { "" };
        let challenge = format!("Bearer realm=\"braze-datadog\"{error}");
        assert_eq!(reply.header("www-authenticate"), Some(&*challenge), "{headers}");
        assert_eq!(reply.body.contains("none was sent"), !is_token, "{reply:?}");
    }
    for headers in ["Authorization: Bearer one\r\n", "authorization: bearer two==\r\n"] {
        assert_eq!(running.push(headers, ENVELOPE).await.status, 200, "{headers}");
    }
    assert_eq!((running.count(200), running.count(401)), (2, 7));
}

#[tokio::test]
async fn a_bound_token_speaks_for_its_own_app_groups_only() {
    let tokens = "free\none g-1\ntwo g-1,g-2";
    let running = running(limits(), credentials(Some(tokens), None)).await;
    let ask_for = async |token: &str, query: &str, body: &[u8]| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        let whole = request(&format!("/v1/events{query}"), &headers, body);
        ask(&mut running.connect().await, &whole).await
    };
    let body = br#"{"events":[{"id":"a","app_group_id":"g-1"},{"id":"b","app_group_id":"g-3"},{"id":"c"}]}"#;
    for (token, query, own, app_group_id) in [
        ("free", "", &[0, 1, 2][..], None),
        ("one", "", &[0, 2], Some("g-1")),
        ("one", "?app_group_id=g-1&app_group_name=x", &[0, 2], Some("g-1")),
        ("two", "", &[0], None),
        ("two", "?app_group_id=g-2", &[0, 2], Some("g-2")),
    ] {
        let reply = ask_for(token, query, body).await;
        assert_eq!((reply.status, &*reply.body), (200, r#"{"accepted":3}"#), "{token}{query}");
        let frame = running.frames.lock().unwrap().pop().unwrap();
        assert_eq!(
            (frame.events, frame.defaults.app_group_id.as_deref()),
            (3, app_group_id),
            "{token}{query}"
        );
        let mut seen = Vec::new();
        let mut decoder = decode::Decoder::new(&[], false);
        decoder.decode(&frame.body, &event_queues::Framing::Extract, &frame.defaults, |decoded| {
            seen.push(decoded == Decoded::Malformed(Malformed::ForeignAppGroup));
        });
        let foreign: Vec<bool> = (0..3).map(|number| !own.contains(&number)).collect();
        assert_eq!(seen, foreign, "{token}{query}");
    }
    // With or without a body: whoever sets the connector up is told at once.
    for body in [body.as_slice(), b""] {
        let reply = ask_for("one", "?app_group_id=g-2", body).await;
        assert_refused(&reply, 401);
        assert!(reply.body.contains("app_group_id") && !reply.body.contains("g-"), "{reply:?}");
        let challenge = "Bearer realm=\"braze-datadog\", error=\"invalid_token\"";
        assert_eq!(reply.header("www-authenticate"), Some(challenge));
        assert_eq!(ask_for("free", "?app_group_id=g-2", body).await.status, 200);
    }
}

#[tokio::test]
async fn new_tokens_count_from_the_next_request_on() {
    let running = running(limits(), credentials(Some("old"), None)).await;
    let mut stream = running.connect().await;
    let old = request("/v1/events", "Authorization: Bearer old\r\n", ENVELOPE);
    assert_eq!(ask(&mut stream, &old).await.status, 200);
    running.reload.swap(credentials(Some("new"), None)).unwrap();
    assert_eq!(ask(&mut stream, &old).await.status, 401);
    assert_eq!(running.push("Authorization: Bearer new\r\n", ENVELOPE).await.status, 200);
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405_and_nothing_is_403() {
    let running = open().await;
    let slash = ask(&mut running.connect().await, &request("/v1/events/", "", ENVELOPE)).await;
    assert_eq!(slash.status, 200, "a slash too many is no reason for Braze to give up");
    for path in ["/", "/v1/event", "/v1/events/x", "/V1/EVENTS"] {
        assert_refused(&ask(&mut running.connect().await, &request(path, "", ENVELOPE)).await, 404);
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let text = format!("{method} /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
        let reply = ask(&mut running.connect().await, text.as_bytes()).await;
        assert_refused(&reply, 405);
        assert_eq!(reply.header("allow"), Some("POST"), "{method}");
    }
    let mut stream = running.connect().await;
    stream.write_all(b"HEAD /v1/events HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.0 405 ") && said.ends_with("\r\n\r\n"), "{said}");
}

#[tokio::test]
async fn who_looks_at_other_paths_is_answered_404_and_booked_as_no_push() {
    let running = open().await;
    for (method, path) in [("GET", "/"), ("GET", "/v1/event"), ("HEAD", "/favicon.ico")] {
        let text = format!("{method} {path} HTTP/1.0\r\n\r\n");
        let mut stream = running.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut said = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.unwrap();
        assert!(said.starts_with("HTTP/1.0 404 "), "{said}");
        assert_eq!(said.contains("push to /v1/events"), method == "GET", "{said}");
    }
    assert_eq!(running.counters.requests().map(|(_, count)| count).sum::<u64>(), 0);
    assert!(running.counters.refused().is_empty());
    assert_refused(&ask(&mut running.connect().await, &request("/v1/event", "", ENVELOPE)).await, 404);
    assert_eq!(running.counters.refused()[0].0, "path", "Braze with a wrong URL");
}

#[tokio::test]
async fn without_tokens_no_page_in_a_browser_may_push() {
    let open = open().await;
    let asking = running(limits(), credentials(Some("secret"), None)).await;
    for origin in ["https://evil.example", "null", "http://127.0.0.1:8080"] {
        let headers = format!("Origin: {origin}\r\nContent-Type: text/plain\r\n");
        for body in [ENVELOPE, b""] {
            let reply = open.push(&headers, body).await;
            assert_refused(&reply, 403);
            assert!(reply.body.contains("push.token_file") && !reply.body.contains("evil"), "{reply:?}");
        }
        // A page does not know the token.
        assert_refused(&asking.push(&headers, ENVELOPE).await, 401);
        let known = format!("{headers}Authorization: Bearer secret\r\n");
        assert_eq!(asking.push(&known, ENVELOPE).await.status, 200);
    }
    assert!(open.bodies().is_empty());
    assert_eq!(open.counters.refused(), [("page", 6, 0)]);
}

#[tokio::test]
async fn health_is_told_without_a_token_and_without_a_reason() {
    let running = running_with_seats(1, "secret\nother").await;
    // Where every seat is taken, too.
    let mut holder = running.connect().await;
    holder
            .write_all(b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer secret\r\n\r\n{")
            .await
            .unwrap();
    let get = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes();
    let mut stream = running.connect().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz?x"] {
        let reply = ask(&mut stream, &get("GET", path)).await;
        assert_eq!((reply.status, &*reply.body), (200, "ok\n"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    running.accepting.store(false, Ordering::SeqCst);
    for (path, status, body) in
        [("/healthz", 200, "ok\n"), ("/livez", 200, "ok\n"), ("/readyz", 503, "not ready\n")]
    {
        let reply = ask(&mut stream, &get("GET", path)).await;
        assert_eq!((reply.status, &*reply.body), (status, body), "{path}");
    }
    let refused = ask(&mut stream, &request("/readyz", "", b"x")).await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(refused.header("connection"), Some("close"));
    let mut stream = running.connect().await;
    stream.write_all(b"HEAD /readyz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.0 503 ") && said.ends_with("\r\n\r\n"), "{said}");
    // What is asked for health is no push.
    assert_eq!(running.counters.requests().map(|(_, count)| count).sum::<u64>(), 0);
}

#[tokio::test]
async fn what_is_no_envelope_is_400_without_a_word_of_it_and_the_connection_goes_on() {
    let running = open().await;
    let mut stream = running.connect().await;
    for body in [&b"{\"events\":[{\"id\":\"SECRET"[..], b"SECRET", b"\"SECRET\"", b"{} SECRET", b"\xff"] {
        let reply = ask(&mut stream, &request("/v1/events", "", body)).await;
        assert_refused(&reply, 400);
        assert!(!reply.body.contains("SECRET"), "{reply:?}");
    }
    assert_eq!(ask(&mut stream, &request("/v1/events", "", ENVELOPE)).await.status, 200);
}

#[tokio::test]
async fn compressed_bodies_reach_the_queue_as_they_were() {
    let running = open().await;
    let two_members = [gzip(&ENVELOPE[..10]), gzip(&ENVELOPE[10..])].concat();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(ENVELOPE).unwrap();
    let zlib = zlib.finish().unwrap();
    for (coding, wire) in [
        ("gzip", gzip(ENVELOPE)),
        ("x-gzip", two_members),
        // As gunzip does, what follows the last member is left out.
        ("gzip", [gzip(ENVELOPE), b"more".to_vec()].concat()),
        ("deflate", zlib),
        ("zstd", zstd::encode_all(ENVELOPE, 1).unwrap()),
        ("identity", ENVELOPE.to_vec()),
    ] {
        let reply = running.push(&format!("Content-Encoding: {coding}\r\n"), &wire).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"accepted":2}"#), "{coding}");
    }
    assert_eq!(running.bodies(), vec![extract(ENVELOPE); 6]);
    assert_refused(&running.push("Content-Encoding: gzip\r\n", ENVELOPE).await, 400);
    let reply = running.push("Content-Encoding: br\r\n", ENVELOPE).await;
    assert_refused(&reply, 415);
    assert_eq!(reply.header("accept-encoding"), Some("gzip, deflate, zstd"));
}

/// An envelope of exactly that many bytes.
fn envelope_of(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"events":[{"id":"a"}]}"#.to_vec();
    body.resize(bytes, b' ');
    body
}

#[tokio::test]
async fn what_is_queued_of_a_push_is_never_longer_than_it() {
    let running = open().await;
    let event = |id: &[u8]| [br#"{"event_type":"t","id":""#, id, br#""}"#].concat();
    // One id of bytes that are no characters is cut; many of them would take three times their length.
    let one = event(&vec![0xff; 900_000]);
    assert_eq!(running.push("", &one).await.status, 200);
    let many = event(&[0xff; 300]).repeat(100);
    let refused = running.push("", &many).await;
    assert_refused(&refused, 400);
    assert!(refused.body.contains("no characters at byte 24"), "{}", refused.body);
    // As in a text of another encoding.
    let latin = event(b"Caf\xe9 Noir, Z\xfcrich").repeat(100);
    assert_eq!(running.push("", &latin).await.status, 200);
    let queued = running.bodies();
    assert!(queued[0].len() < 200_000 && queued[1].len() <= latin.len() && queued.len() == 2);
}

#[tokio::test]
async fn the_limit_is_exact_with_and_without_compression() {
    let running = open().await;
    let fits = envelope_of(1_000_000);
    let over = envelope_of(1_000_001);
    assert_eq!(running.push("", &fits).await.status, 200);
    assert_eq!(running.push("Content-Encoding: gzip\r\n", &gzip(&fits)).await.status, 200);
    assert_eq!(running.bodies(), vec![extract(&fits); 2]);
    assert_refused(&running.push("", &over).await, 413);
    assert_refused(&running.push("Content-Encoding: gzip\r\n", &gzip(&over)).await, 413);
    let bomb = gzip(&envelope_of(100_000_000));
    assert!(bomb.len() < 200_000);
    assert_refused(&running.push("Content-Encoding: gzip\r\n", &bomb).await, 413);
    running.say(Script::TooLarge);
    assert_refused(&running.push("", ENVELOPE).await, 413);
    assert_eq!(running.count(413), 4);
}

#[tokio::test]
async fn what_tells_of_a_subscription_is_small_on_the_wire_and_unpacked() {
    let running = open().await;
    for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
        let sns = format!("x-amz-sns-message-type: {kind}\r\n");
        let gzipped = format!("{sns}Content-Encoding: gzip\r\n");
        assert_eq!(running.push(&sns, &envelope_of(2048)).await.status, 200);
        assert_eq!(running.push(&gzipped, &gzip(&envelope_of(2048))).await.status, 200);
        let over = running.push(&sns, &envelope_of(32_769)).await;
        assert_refused(&over, 413);
        assert!(over.body.contains("32768 bytes"), "{over:?}");
        assert_refused(&running.push(&gzipped, &gzip(&envelope_of(32_769))).await, 413);
        // Members without content unpack to nothing, and take time.
        assert_refused(&running.push(&gzipped, &gzip(b"").repeat(5_000)).await, 413);
        let frames = b"\x50\x2a\x4d\x18\0\0\0\0".repeat(10_000);
        assert_refused(&running.push(&format!("{sns}Content-Encoding: zstd\r\n"), &frames).await, 413);
    }
    assert_eq!(running.bodies(), [] as [Vec<u8>; 0]);
    assert_eq!(running.push("", &envelope_of(32_769)).await.status, 200, "a push may have more");
}

#[tokio::test]
async fn chunked_bodies_are_taken_and_bounded() {
    let running = open().await;
    let mut stream = running.connect().await;
    let head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.unwrap();
    for piece in ENVELOPE.chunks(5) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
        stream.write_all(piece).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    assert_eq!(ask(&mut stream, b"0\r\n\r\n").await.status, 200);
    assert_eq!(running.bodies(), [extract(ENVELOPE)]);
    stream.write_all(head).await.unwrap();
    assert_eq!(ask(&mut stream, b"0\r\n\r\n").await.body, r#"{"accepted":0}"#);
    stream.write_all(head).await.unwrap();
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    // The client writes 2 MB without looking, and reads the answer only then.
    for _ in 0..32 {
        stream.write_all(&chunk).await.unwrap();
    }
    assert_refused(&read_reply(&mut stream).await.unwrap(), 413);
}

#[tokio::test]
async fn a_refused_body_is_never_asked_for() {
    let running = running(limits(), credentials(Some("secret"), None)).await;
    let expect = "POST /v1/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n";
    let mut stream = running.connect().await;
    let wrong = format!("{expect}Content-Length: 5\r\nAuthorization: Bearer wrong\r\n\r\n");
    assert_refused(&ask(&mut stream, wrong.as_bytes()).await, 401);
    let mut stream = running.connect().await;
    let large = format!("{expect}Content-Length: 1000001\r\nAuthorization: Bearer secret\r\n\r\n");
    assert_refused(&ask(&mut stream, large.as_bytes()).await, 413);
    let mut stream = running.connect().await;
    let length = ENVELOPE.len();
    let fine = format!("{expect}Content-Length: {length}\r\nAuthorization: Bearer secret\r\n\r\n");
    assert_eq!(ask(&mut stream, fine.as_bytes()).await.status, 100);
    assert_eq!(ask(&mut stream, ENVELOPE).await.status, 200);
}

#[tokio::test]
async fn who_writes_a_large_body_first_still_reads_the_refusal() {
    let running = running(limits(), credentials(Some("secret"), None)).await;
    let large = envelope_of(6_000_000);
    for (headers, status) in [("", 401), ("Authorization: Bearer secret\r\n", 413)] {
        for _ in 0..5 {
            let reply = running.push(headers, &large).await;
            assert_refused(&reply, status);
            assert_eq!(reply.header("connection"), Some("close"));
        }
    }
}

#[tokio::test]
async fn an_ordinary_client_reads_the_refusal_too() {
    // Fails where another test was first, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let running = running(limits(), credentials(Some("secret"), None)).await;
    let client = reqwest::Client::builder().no_proxy().timeout(LONG).build().unwrap();
    let url = format!("http://{}/v1/events", running.address);
    for (token, bytes, status) in [("wrong", 6_000_000, 401), ("secret", 6_000_000, 413), ("secret", 50, 200)]
    {
        let push = client.post(&url).bearer_auth(token).body(envelope_of(bytes));
        assert_eq!(push.send().await.unwrap().status().as_u16(), status);
    }
}

const PARTIAL: &[u8] = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";

#[tokio::test]
async fn a_body_that_pauses_too_long_is_408() {
    let pace = Pace { time_max: LONG * 10, stretch_time_max: Duration::from_millis(100) };
    let running = running(handler::BodyLimits { pace, ..limits() }, credentials(None, None)).await;
    let mut stream = running.connect().await;
    let reply = tokio::time::timeout(LONG, ask(&mut stream, PARTIAL)).await.unwrap();
    assert_refused(&reply, 408);
    assert_eq!(reply.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_body_that_trickles_too_long_is_408() {
    for pace in [
        Pace { time_max: Duration::from_millis(300), stretch_time_max: LONG },
        Pace { time_max: LONG, stretch_time_max: Duration::from_millis(300) },
    ] {
        let running = running(handler::BodyLimits { pace, ..limits() }, credentials(None, None)).await;
        let (mut reader, mut writer) = running.connect().await.into_split();
        writer.write_all(PARTIAL).await.unwrap();
        let drip = async {
            for _ in 0..50 {
                sleep(Duration::from_millis(20)).await;
                if writer.write_all(b" ").await.is_err() {
                    return;
                }
            }
        };
        let both = async { tokio::join!(read_reply(&mut reader), drip) };
        let (reply, ()) = tokio::time::timeout(LONG / 2, both).await.unwrap();
        assert_refused(&reply.unwrap(), 408);
    }
}

#[tokio::test]
async fn a_body_that_comes_in_good_stretches_may_take_longer() {
    let pace = Pace { time_max: LONG, stretch_time_max: Duration::from_secs(3) };
    let running = running(handler::BodyLimits { pace, ..limits() }, credentials(None, None)).await;
    // Longer than one stretch may take: each 64 KiB of it have 0.7 s.
    let whole = request("/v1/events", "", &envelope_of(500_000));
    let mut stream = running.connect().await;
    for piece in whole.chunks(70_000) {
        stream.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
}

#[tokio::test]
async fn who_announces_large_bodies_and_sends_little_takes_no_memory_from_others() {
    let running = running(limits(), credentials(None, None)).await;
    let head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{";
    let mut holders = Vec::new();
    for _ in 0..200 {
        let mut holder = running.connect().await;
        holder.write_all(head).await.unwrap();
        holders.push(holder);
    }
    eventually(|| running.counters.received_bytes() == 200).await;
    assert_eq!(running.push("", &envelope_of(1_000_000)).await.status, 200);
}

#[test]
fn what_all_connections_reserve_first_leaves_room_for_a_body_of_full_size() {
    let connections = http_listener::ConnectionLimits::default().connections_max;
    let first = connections * memory::with_extract(body::ROOM_BYTES_FIRST);
    for body_bytes_max in [1, 1024 * 1024, 8 * 1024 * 1024, 16 * 1024 * 1024] {
        let limits = handler::BodyLimits::new(body_bytes_max);
        // Compressed and not, or with its extract.
        assert!(first + 2 * body_bytes_max <= limits.memory_bytes_max, "{body_bytes_max}");
    }
}

#[tokio::test]
async fn a_small_body_that_unpacks_to_much_is_taken_all_the_same() {
    let running = open().await;
    let body = envelope_of(999_999);
    let packed = gzip(&body);
    assert!(packed.len() < 32 * 1024);
    assert_eq!(running.push("Content-Encoding: gzip\r\n", &packed).await.status, 200);
    assert_eq!(running.bodies(), [extract(&body)]);
}

#[tokio::test]
async fn a_body_that_ends_early_reaches_nothing() {
    let running = open().await;
    let mut stream = running.connect().await;
    stream.write_all(&request("/v1/events", "", ENVELOPE)[..80]).await.unwrap();
    stream.shutdown().await.unwrap();
    if let Some(reply) = read_reply(&mut stream).await {
        assert_refused(&reply, 408);
    }
    assert!(running.bodies().is_empty());
}

#[tokio::test]
async fn a_push_whose_sender_closes_its_half_or_goes_away_is_appended_once() {
    let running = open().await;
    running.say(Script::TakeSlowly);
    let mut half = running.connect().await;
    half.write_all(&request("/v1/events", "", ENVELOPE)).await.unwrap();
    half.shutdown().await.unwrap();
    let mut gone = running.connect().await;
    gone.write_all(&request("/v1/events", "", ENVELOPE)).await.unwrap();
    eventually(|| running.counters.received_bytes() == 2 * ENVELOPE.len() as u64).await;
    drop(gone);
    assert_eq!(read_reply(&mut half).await.unwrap().body, r#"{"accepted":2}"#);
    eventually(|| running.count(200) == 2).await;
    assert_eq!(running.bodies(), vec![extract(ENVELOPE); 2]);
}

#[tokio::test]
async fn broken_chunks_are_400_and_a_body_that_is_cut_short_is_408() {
    let running = open().await;
    let head = "POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, status) in
        [("2\r\n[]x\r\n", 400), ("2;\u{1}\n", 400), ("zz\r\n", 400), ("5\r\n[]", 408), ("", 408)]
    {
        let mut stream = running.connect().await;
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let reply = read_reply(&mut stream).await.unwrap();
        assert_refused(&reply, status);
        assert_eq!(reply.header("connection"), Some("close"), "{body:?}");
    }
    let reasons: Vec<_> =
        running.counters.refused().into_iter().map(|(reason, count, _)| (reason, count)).collect();
    assert_eq!(reasons, [("coding", 3), ("incomplete", 2)]);
}

#[tokio::test]
async fn what_is_coded_for_its_transfer_is_415() {
    let running = open().await;
    for headers in
        ["Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"]
    {
        let whole = format!("POST /v1/events HTTP/1.1\r\nHost: x\r\n{headers}\r\n2\r\n[]\r\n0\r\n\r\n");
        let reply = ask(&mut running.connect().await, whole.as_bytes()).await;
        assert_refused(&reply, 415);
        assert_eq!((reply.header("accept-encoding"), reply.header("connection")), (None, Some("close")));
    }
    let fine =
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked \r\n\r\n2\r\n[]\r\n0\r\n\r\n";
    assert_eq!(ask(&mut running.connect().await, fine).await.status, 200);
}

#[tokio::test]
async fn a_queue_that_can_not_take_it_is_503_and_the_reason_stays_here() {
    let running = open().await;
    let mut stream = running.connect().await;
    for script in [Script::Full, Script::Disk] {
        running.say(script);
        let reply = ask(&mut stream, &request("/v1/events", "", ENVELOPE)).await;
        assert_refused(&reply, 503);
        assert!(!reply.body.contains("secret"), "{reply:?}");
        assert_eq!(reply.header("connection"), None);
    }
    running.say(Script::Take);
    assert_eq!(ask(&mut stream, &request("/v1/events", "", ENVELOPE)).await.status, 200);
    running.accepting.store(false, Ordering::SeqCst);
    assert_refused(&running.push("", &envelope_of(2000)).await, 503);
    assert_eq!(running.push("", br#"{"events":[]}"#).await.status, 200);
    assert_eq!(running.push("", b"").await.status, 200);
}

#[tokio::test]
async fn a_full_queue_is_told_and_booked_as_such_by_the_first_push_and_by_those_after_it() {
    let running = open().await;
    running.say(Script::Full);
    for accepting in [true, false, false] {
        running.accepting.store(accepting, Ordering::SeqCst);
        let reply = running.push("", &envelope_of(2000)).await;
        assert_refused(&reply, 503);
        assert!(reply.body.contains("the queue is full"), "{reply:?}");
    }
    let refused = running.counters.refused();
    assert!(matches!(refused[..], [("queue_full", 3, _)]), "{refused:?}");
    running.say(Script::Disk);
    assert_refused(&running.push("", &envelope_of(2000)).await, 503);
    assert_eq!(running.counters.refused()[0].0, "queue");
}

/// Proxies that stream send in chunks what had a length.
#[tokio::test]
async fn a_credential_check_is_answered_while_the_queue_takes_nothing_with_a_length_or_in_chunks() {
    let running = open().await;
    running.say(Script::Full);
    running.accepting.store(false, Ordering::SeqCst);
    let chunked = async |headers: &str, body: &[u8]| {
        let head =
            format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{headers}\r\n");
        let chunks = body
            .chunks(1000)
            .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        let whole = [head.into_bytes(), chunks.collect::<Vec<_>>().concat(), b"0\r\n\r\n".to_vec()].concat();
        ask(&mut running.connect().await, &whole).await
    };
    for body in [&b""[..], b"{}", br#"{"events":[]}"#] {
        for reply in [running.push("", body).await, chunked("", body).await] {
            assert_eq!((reply.status, &*reply.body), (200, r#"{"accepted":0}"#), "{body:?}");
        }
    }
    assert_eq!(chunked("Content-Encoding: gzip\r\n", &gzip(b"{}")).await.status, 200);
    let (blank, events) = (vec![b' '; 1025], envelope_of(2000));
    for body in [ENVELOPE, &blank, &events] {
        for reply in [running.push("", body).await, chunked("", body).await] {
            assert_refused(&reply, 503);
            assert!(reply.body.contains("the queue is full"), "{reply:?}");
        }
    }
    running.accepting.store(true, Ordering::SeqCst);
    running.say(Script::Take);
    assert_eq!(chunked("", &events).await.status, 200);
    assert_eq!(running.bodies(), [extract(&events)]);
}

#[tokio::test]
async fn more_bodies_than_memory_holds_are_503_until_there_is_room() {
    let limits = handler::BodyLimits {
        memory_bytes_max: 1_400_000,
        memory_wait_max: Duration::from_millis(100),
        ..limits()
    };
    let running = running(limits, credentials(None, None)).await;
    let body = envelope_of(1_000_000);
    let whole = request("/v1/events", "", &body);
    let mut holder = running.connect().await;
    holder.write_all(&whole[..500_000]).await.unwrap();
    eventually(|| running.counters.received_bytes() > 400_000).await;
    assert_refused(&running.push("", &body).await, 503);
    let compressed = gzip(&body);
    assert_refused(&running.push("Content-Encoding: gzip\r\n", &compressed).await, 503);
    assert_eq!(running.push("", ENVELOPE).await.status, 200);
    assert_eq!(ask(&mut holder, &whole[500_000..]).await.status, 200);
    // A body counts until the queue has made it durable.
    running.say(Script::TakeSlowly);
    let expected = running.counters.received_bytes() + body.len() as u64;
    holder.write_all(&whole).await.unwrap();
    eventually(|| running.counters.received_bytes() == expected).await;
    assert_refused(&running.push("", &body).await, 503);
    assert_eq!(read_reply(&mut holder).await.unwrap().status, 200);
    assert_eq!(running.push("", &body).await.status, 200);
}

#[tokio::test]
async fn what_waits_in_the_queue_counts_though_its_senders_are_gone() {
    let limits = handler::BodyLimits {
        memory_bytes_max: 4_000_000,
        memory_wait_max: Duration::from_millis(100),
        ..limits()
    };
    let mut running = running(limits, credentials(None, None)).await;
    running.say(Script::Hang);
    let body = envelope_of(900_000);
    let mut senders = Vec::new();
    for stuck in 1..=3 {
        let mut sender = running.connect().await;
        sender.write_all(&request("/v1/events", "", &body)).await.unwrap();
        eventually(|| running.stuck.lock().unwrap().len() == stuck).await;
        senders.push(sender);
    }
    // All handlers end, as they do when their connections are cut off.
    running.done.shutdown().await;
    drop(senders);
    let mut waiting = std::mem::take(&mut *running.stuck.lock().unwrap());
    assert!(waiting.iter().map(Share::bytes).sum::<usize>() >= 3 * body.len());
    let mut one = waiting.remove(0);
    let more = one.bytes() + limits.memory_bytes_max - 3 * body.len();
    assert!(one.try_grow(more).is_err());
    drop(waiting);
    one.try_grow(more).unwrap();
}

async fn running_with_seats(connections_max: usize, tokens: &str) -> Running {
    let seats = http_listener::ConnectionLimits {
        connections_max,
        strangers_min: 4,
        ..http_listener::ConnectionLimits::default()
    };
    running_within(seats, limits(), credentials(Some(tokens), None)).await
}

#[tokio::test]
async fn one_valid_token_with_slow_bodies_leaves_their_share_of_the_seats_to_the_others() {
    let running = running_with_seats(20, "many\nfew\nnone").await;
    let head = |token: &str, length: usize| {
        format!(
            "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let slow = format!("{}{{", head("many", 100));
    let mut holders = Vec::new();
    for _ in 0..28 {
        let mut stream = running.connect().await;
        stream.write_all(slow.as_bytes()).await.unwrap();
        holders.push(stream);
    }
    eventually(|| running.counters.received_bytes() == 20).await;
    // On a connection for each push, on one that is kept, and while the others come again.
    let whole = request("/v1/events", "Authorization: Bearer few\r\n", ENVELOPE);
    let mut kept = running.connect().await;
    for _ in 0..100 {
        assert_eq!(ask(&mut kept, &whole).await.status, 200);
        assert_eq!(ask(&mut running.connect().await, &whole).await.status, 200);
        let mut again = running.connect().await;
        again.write_all(slow.as_bytes()).await.unwrap();
        holders.push(again);
    }
    // A body of the other's that was given up for it was told so.
    let told = async {
        for holder in &mut holders {
            if let Some(reply) = read_reply(holder).await {
                return reply;
            }
        }
        panic!("nobody was told");
    };
    assert_refused(&tokio::time::timeout(LONG, told).await.unwrap(), 503);
    assert_eq!(running.frames.lock().unwrap().len(), 200);
}

#[test]
fn large_bodies_do_not_wait_for_what_blocks_elsewhere() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
        let hung = tokio::task::spawn_blocking(move || released.recv());
        let running = open().await;
        let body = envelope_of(900_000);
        let packed = gzip(&[ENVELOPE, &vec![b' '; 900_000]].concat());
        let pushes = async {
            assert_eq!(running.push("", &body).await.status, 200);
            assert_eq!(running.push("Content-Encoding: gzip\r\n", &packed).await.status, 200);
        };
        let answered = tokio::time::timeout(LONG, pushes).await;
        release.send(()).unwrap();
        hung.await.unwrap().unwrap();
        answered.expect("the only thread that may block is taken by something else");
    });
}

#[tokio::test]
async fn a_large_body_for_which_no_thread_is_free_is_503_and_the_connection_goes_on() {
    let limits = handler::BodyLimits { thread_wait_max: Duration::ZERO, ..limits() };
    let running = running(limits, credentials(None, None)).await;
    let whole = request("/v1/events", "", &envelope_of(900_000));
    let mut senders = JoinSet::new();
    for _ in 0..60 {
        let (address, whole) = (running.address, whole.clone());
        senders.spawn(async move {
            let mut stream = connect(address).await;
            let reply = ask(&mut stream, &whole).await;
            if reply.status == 200 {
                return 0;
            }
            assert_refused(&reply, 503);
            assert_eq!(ask(&mut stream, &request("/v1/events", "", ENVELOPE)).await.status, 200);
            1
        });
    }
    let refused: u64 = senders.join_all().await.into_iter().sum();
    assert_eq!((running.count(200), running.count(503)), (60, refused));
}

/// Lines of a log.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn has(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(words)
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_request_that_reaches_no_handler_is_told_with_its_sender_and_what_it_was() {
    let large = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(100_000));
    let lines = "GET / HTTP/1.1\r\n".to_owned() + &"X: y\r\n".repeat(101) + "\r\n";
    for (sent, answer, told) in [
        ("\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n", "HTTP/1.1 400 ", "https"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", "it is HTTP/2"),
        (&large, "HTTP/1.1 431 ", "16 KiB"),
        (&lines, "HTTP/1.1 431 ", "100 lines"),
        ("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400 ", "its header can't be read"),
    ] {
        let log = Log::default();
        let writer = log.clone();
        let logged = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _logging = tracing::subscriber::set_default(logged);
        let running = open().await;
        let mut stream = running.connect().await;
        let peer = stream.local_addr().unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut said = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut said).await.unwrap();
        assert!(said.starts_with(answer) && said.is_empty() == answer.is_empty(), "{said}");
        for words in ["no request in HTTP/1.1", told, &format!("peer={peer}")] {
            assert!(log.has(words), "{words}: {log:?}");
        }
    }
}

#[tokio::test]
async fn many_senders_at_once_are_all_served() {
    let running = open().await;
    let mut senders = JoinSet::new();
    for _ in 0..40 {
        let address = running.address;
        senders.spawn(async move {
            let mut stream = connect(address).await;
            for _ in 0..25 {
                let reply = ask(&mut stream, &request("/v1/events", "", ENVELOPE)).await;
                assert_eq!(reply.status, 200);
            }
            stream.write_all(&request("/v1/events", "", ENVELOPE).repeat(5)).await.unwrap();
            for _ in 0..5 {
                assert_eq!(read_reply(&mut stream).await.unwrap().status, 200);
            }
        });
    }
    senders.join_all().await;
    assert_eq!(running.bodies().len(), 40 * 30);
    assert_eq!(running.count(200), 40 * 30);
}

#[tokio::test]
async fn a_stop_answers_the_push_under_way() {
    let mut running = open().await;
    running.say(Script::TakeSlowly);
    let whole = request("/v1/events", "", ENVELOPE);
    let mut appending = running.connect().await;
    appending.write_all(&whole).await.unwrap();
    let mut sending = running.connect().await;
    let sent = whole.len() - 10;
    sending.write_all(&whole[..sent]).await.unwrap();
    let expected = (2 * ENVELOPE.len() - 10) as u64;
    eventually(|| running.counters.received_bytes() == expected).await;
    running.stop.send(true).unwrap();
    sleep(Duration::from_millis(50)).await;
    sending.write_all(&whole[sent..]).await.unwrap();
    assert_eq!(read_reply(&mut appending).await.unwrap().status, 200);
    assert_eq!(read_reply(&mut sending).await.unwrap().status, 200);
    assert_eq!(running.done.join_next().await.unwrap().unwrap(), 0);
    assert_eq!(running.bodies().len(), 2);
}

#[tokio::test]
async fn new_connections_get_the_new_certificate() {
    let (old, new) = (TlsPair::new(), TlsPair::new());
    let running = running(limits(), credentials(Some("secret"), Some(&old))).await;
    let whole = request("/v1/events", "Authorization: Bearer secret\r\n", ENVELOPE);
    let mut before = tls_client(running.address, &old, &["http/1.1"]).await.unwrap();
    assert_eq!(ask(&mut before, &whole).await.status, 200);
    running.reload.swap(credentials(Some("secret"), Some(&new))).unwrap();
    assert!(tls_client(running.address, &old, &[]).await.is_err());
    let mut after = tls_client(running.address, &new, &[]).await.unwrap();
    assert_eq!(ask(&mut after, &whole).await.status, 200);
    assert_eq!(ask(&mut before, &whole).await.status, 200);
}
