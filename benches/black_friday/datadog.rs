//! Datadog for thousands of connections: TLS, answers as slow as they are told, and a line of books for each request.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::arrivals::{Arrival, Content, Fate, Sender, add_up};
use super::plan::{Treatment, treatment};
use super::population::mix;

/// How long a slow one takes, from the first to the last; a forwarder waits for 5 s.
const SLOW: (u64, u64) = (300, 7_000);

/// How long others take: the way to Datadog, and its work.
const WELL: (u64, u64) = (20, 80);

/// The books.
#[derive(Debug)]
struct Books {
    /// When the first event was sent: no request comes before it.
    begun: OnceLock<Instant>,
    connections: u16,
    arrivals: Mutex<Vec<Arrival>>,
    handshakes: AtomicU64,
    /// Requests that no forwarder may send.
    spoilt: AtomicU64,
}

/// It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Datadog {
    address: SocketAddr,
    certificate: String,
    books: Arc<Books>,
    runtime: Option<Runtime>,
}

impl Datadog {
    /// Listens on a free port of the loopback.
    pub(crate) fn start(connections: u16) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (certificate, acceptor) = self_signed();
        let books = Arc::new(Books {
            begun: OnceLock::new(),
            connections,
            arrivals: Mutex::default(),
            handshakes: AtomicU64::new(0),
            spoilt: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("datadog")
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(accept(listener, acceptor, Arc::clone(&books)));
        Self { address, certificate, books, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The day begins.
    pub(crate) fn begin(&self, begun: Instant) {
        assert!(self.books.begun.set(begun).is_ok(), "it has begun once, and nothing has come before");
    }

    /// PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Every request so far.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.books.arrivals.lock().unwrap().clone()
    }

    pub(crate) fn handshakes(&self) -> u64 {
        self.books.handshakes.load(Ordering::Relaxed)
    }

    pub(crate) fn spoilt(&self) -> u64 {
        self.books.spoilt.load(Ordering::Relaxed)
    }
}

impl Drop for Datadog {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn self_signed() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(settings)))
}

async fn accept(listener: std::net::TcpListener, tls: TlsAcceptor, books: Arc<Books>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (tls, books) = (tls.clone(), Arc::clone(&books));
                open.spawn(async move {
                    // One that is gone again has asked for nothing.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    books.handshakes.fetch_add(1, Ordering::Relaxed);
                    let service = hyper::service::service_fn(|request| answer(request, Arc::clone(&books)));
                    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // It ends in the middle where the forwarder gives up, is killed, or is hung up on; each request is booked.
                    let _ended = connection.await;
                });
            }
            Some(ended) = open.join_next() => {
                // It has panicked, and said why.
                books.spoilt.fetch_add(u64::from(ended.is_err()), Ordering::Relaxed);
            }
        }
    }
}

/// A request that has come; it is booked when its fate is known, which is none where it is given up.
struct Booking<'b> {
    books: &'b Books,
    arrival: Arrival,
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        self.books.arrivals.lock().unwrap().push(self.arrival);
    }
}

async fn answer(request: Request<Incoming>, books: Arc<Books>) -> Result<Response<Full<Bytes>>, HungUp> {
    let (head, body) = request.into_parts();
    let key = head.headers.get("dd-api-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let sender = Sender::of_key(key).unwrap_or_else(|| panic!("a key that nobody has: {key}"));
    // What has not come whole is no request.
    let Ok(body) = body.collect().await else { return Err(HungUp) };
    let body = body.to_bytes();
    let at = u32::try_from(books.begun.get_or_init(Instant::now).elapsed().as_millis()).unwrap();
    let Content { points, sends } = add_up(&body);
    let bytes = u32::try_from(body.len()).unwrap();
    drop(body);
    let arrival = Arrival { sender, at, points, sends, bytes, fate: Fate::Unanswered };
    let mut booking = Booking { books: &books, arrival };
    let (pause, fate) = decide(treatment(sender.connection, books.connections), u64::from(at) ^ sends << 32);
    tokio::time::sleep(pause).await;
    booking.arrival.fate = fate;
    let (status, text) = match fate {
        Fate::Accepted => (202, "{\"status\":\"ok\"}"),
        Fate::Refused(status) => (status, "{\"errors\":[\"not today\"]}"),
        Fate::HungUp | Fate::Unanswered => return Err(HungUp),
    };
    Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
}

fn decide(treatment: Treatment, chance: u64) -> (Duration, Fate) {
    let chance = mix(chance);
    let between = |(least, most): (u64, u64)| Duration::from_millis(least + chance % (most - least));
    match treatment {
        Treatment::Well | Treatment::Judged => (between(WELL), Fate::Accepted),
        Treatment::Slow => (between(SLOW), Fate::Accepted),
        Treatment::Failing => {
            let fate = [Fate::Refused(500), Fate::Refused(429), Fate::HungUp][(chance >> 32) as usize % 3];
            (between(WELL), fate)
        }
    }
}

/// The end of a connection without an answer; it passes through hyper as the error of the service.
#[derive(Debug)]
struct HungUp;

impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up")
    }
}

impl Error for HungUp {}
