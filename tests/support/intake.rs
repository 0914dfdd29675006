//! A Datadog intake on the loopback that does as it is told, and holds every request against what the real
//! one takes.
//!
//! It runs on a runtime of its own, so that a test may block, and may run on any flavour of runtime.

pub(crate) mod judge;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, LOCATION};
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use self::judge::Point;

const POINTS_PATH: &str = "/api/v1/distribution_points";
const VALIDATE_PATH: &str = "/api/v1/validate";

/// What the intake does with one request, once it has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// 202 `{"status":"ok"}`: the points count.
    Accept,
    /// This status with this text.
    Status(u16, &'static str),
    /// [`Behaviour::Accept`] after a while; the points count only if the client is still there then.
    Slow(Duration),
    /// Never answers.
    Hang,
    /// Ends the connection with a RST, without an answer.
    Reset,
    /// Answers something that is not HTTP, and closes.
    Garbage,
    /// 307 to this address.
    Redirect(String),
    /// This status with a body that never ends.
    EndlessBody(u16),
}

/// One request for [`POINTS_PATH`], as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// When its last byte had arrived.
    pub(crate) at: Instant,
    /// Path and query.
    pub(crate) path: String,
    /// All of them.
    pub(crate) headers: HeaderMap,
    /// The body as it was sent, still compressed.
    pub(crate) body: Bytes,
    /// What the body says, where it can be read.
    pub(crate) points: Vec<Point>,
    /// The number of series in the body.
    pub(crate) series: usize,
    /// The status that it was answered with, if it was.
    pub(crate) answered: Option<u16>,
}

impl Request {
    /// The API key; empty where there is none.
    pub(crate) fn key(&self) -> &str {
        self.header("dd-api-key")
    }

    /// A header's value; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The sum of its values.
    pub(crate) fn sends(&self) -> u64 {
        self.points.iter().map(|point| point.value).sum()
    }
}

type Decide = dyn Fn(&Request) -> Behaviour + Send + Sync;

/// What the intake was told, and what it has seen.
struct State {
    next: VecDeque<Behaviour>,
    decide: Arc<Decide>,
    revoked: HashSet<String>,
    validate: Option<(u16, &'static str)>,
    validations_hang: bool,
    requests: Vec<Request>,
    validations: Vec<String>,
    violations: Vec<String>,
    /// How many of them [`Intake::violations`] has told.
    told: usize,
    /// Requests that [`Intake::take_before`] has handed out.
    taken: usize,
}

/// The intake. It stops when it is dropped, and fails a test that has not asked for all of [`Intake::violations`].
pub(crate) struct Intake {
    address: SocketAddr,
    certificate: Option<String>,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl Intake {
    /// Listens on a free port of the loopback, without TLS, and accepts everything.
    pub(crate) fn start() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), None)
    }

    /// As [`Intake::start`], on a given address: an intake that comes back.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, None)
    }

    /// As [`Intake::start`], with TLS and a certificate that nobody knows; see [`Intake::certificate`].
    pub(crate) fn start_tls() -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(&["localhost", "127.0.0.1"]))
    }

    /// As [`Intake::start_tls`], with a certificate for a host of Datadog's, which only a proxy leads here.
    pub(crate) fn start_tls_for(host: &str) -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), Some(&[host]))
    }

    fn listen(address: SocketAddr, tls: Option<&[&str]>) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (certificate, acceptor) = tls.map(self_signed).unzip();
        let state = Arc::new(Mutex::new(State {
            next: VecDeque::new(),
            decide: Arc::new(|_| Behaviour::Accept),
            revoked: HashSet::new(),
            validate: None,
            validations_hang: false,
            requests: Vec::new(),
            validations: Vec::new(),
            violations: Vec::new(),
            told: 0,
            taken: 0,
        }));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self { address, certificate, state, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, for a connection's `url`.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate of [`Intake::start_tls`], PEM.
    pub(crate) fn certificate(&self) -> &str {
        self.certificate.as_deref().unwrap()
    }

    /// What it does with the requests to come, one each; after them [`Intake::decide`] counts again.
    pub(crate) fn next(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.lock().unwrap().next.extend(behaviours);
    }

    /// What it does with every request that [`Intake::next`] says nothing about.
    pub(crate) fn always(&self, behaviour: Behaviour) {
        self.decide(move |_| behaviour.clone());
    }

    /// As [`Intake::always`], by request.
    pub(crate) fn decide(&self, decide: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) {
        self.state.lock().unwrap().decide = Arc::new(decide);
    }

    /// From now on this key is answered 403, for points and for validation.
    pub(crate) fn revoke(&self, key: &str) {
        self.state.lock().unwrap().revoked.insert(key.to_owned());
    }

    /// Undoes [`Intake::revoke`].
    pub(crate) fn restore(&self, key: &str) {
        self.state.lock().unwrap().revoked.remove(key);
    }

    /// From now on every validation is answered so; `None`: by the key.
    pub(crate) fn validate_with(&self, answer: Option<(u16, &'static str)>) {
        self.state.lock().unwrap().validate = answer;
    }

    /// From now on no validation is answered at all.
    pub(crate) fn never_validate(&self) {
        self.state.lock().unwrap().validations_hang = true;
    }

    /// Every request for points, in the order in which they arrived.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The requests for points that arrived before `at`, each handed out once, and its points with it: a test that
    /// runs for hours can't keep them all. Call it when their fate is certain.
    pub(crate) fn take_before(&self, at: Instant) -> Vec<Request> {
        let mut state = self.state.lock().unwrap();
        let from = state.taken;
        let waiting = state.requests[from..].iter();
        let ready = waiting.take_while(|request| request.at < at).count();
        state.taken += ready;
        let empty = |request: &mut Request| Request {
            points: std::mem::take(&mut request.points),
            body: std::mem::take(&mut request.body),
            headers: std::mem::take(&mut request.headers),
            path: std::mem::take(&mut request.path),
            ..request.clone()
        };
        state.requests[from..from + ready].iter_mut().map(empty).collect()
    }

    /// The keys of the validations that were asked for, in order.
    pub(crate) fn validations(&self) -> Vec<String> {
        self.state.lock().unwrap().validations.clone()
    }

    /// What the real intake would have refused, or silently spoiled. What a test has not asked for fails it in the end.
    pub(crate) fn violations(&self) -> Vec<String> {
        let mut state = self.state.lock().unwrap();
        state.told = state.violations.len();
        state.violations.clone()
    }

    /// The points of all requests that were accepted.
    pub(crate) fn accepted(&self) -> Vec<Point> {
        let mut all = Vec::new();
        self.each_accepted(|point| all.push(point.clone()));
        all
    }

    /// Shows each accepted point. The intake does nothing meanwhile.
    fn each_accepted(&self, mut show: impl FnMut(&Point)) {
        let state = self.state.lock().unwrap();
        let accepted = state.requests.iter().filter(|request| request.answered == Some(202));
        accepted.flat_map(|request| &request.points).for_each(&mut show);
    }

    /// The sum of all accepted values.
    pub(crate) fn sends(&self) -> u64 {
        let mut sum = 0;
        self.each_accepted(|point| sum += point.value);
        sum
    }

    /// The sum of the accepted values by API key and tags.
    pub(crate) fn sums(&self) -> BTreeMap<(String, Vec<String>), u64> {
        let mut sums = BTreeMap::new();
        for point in self.accepted() {
            *sums.entry((point.key, point.tags)).or_default() += point.value;
        }
        sums
    }

    /// The sum of the accepted values by tags, for one API key.
    pub(crate) fn sums_of(&self, key: &str) -> BTreeMap<Vec<String>, u64> {
        let mut sums = BTreeMap::new();
        self.each_accepted(|point| {
            if point.key != key {
                return;
            }
            match sums.get_mut(&point.tags) {
                Some(sum) => *sum += point.value,
                None => drop(sums.insert(point.tags.clone(), point.value)),
            }
        });
        sums
    }

    /// Waits until so many sends have been accepted; more than that stops the test.
    pub(crate) async fn wait_for_sends(&self, sends: u64) {
        super::eventually(&format!("{sends} sends accepted"), async || (self.sends() >= sends).then_some(()))
            .await;
        assert_eq!(self.sends(), sends, "more sends were accepted than there are");
    }

    /// Waits until so many requests have arrived, whatever became of them.
    pub(crate) async fn wait_for_requests(&self, requests: usize) {
        let arrived = || self.state.lock().unwrap().requests.len();
        super::eventually(&format!("{requests} requests"), async || (arrived() >= requests).then_some(()))
            .await;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // On a thread of its own, because a runtime must not be waited for on another one. It is waited for,
        // so that the port is closed once the intake is gone.
        let stopped = std::thread::spawn(move || runtime.shutdown_timeout(super::PATIENCE)).join();
        assert!(stopped.is_ok(), "the intake did not stop");
        if !std::thread::panicking() {
            let state = self.state.lock().unwrap();
            assert_eq!(state.violations[state.told..], [""; 0], "the real intake would not have taken this");
        }
    }
}

fn self_signed(names: &[&str]) -> (String, TlsAcceptor) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let settings =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(settings)))
}

async fn accept(listener: std::net::TcpListener, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (tls, state) = (tls.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, |stream| stream, state).await,
                        // A client that does not trust the certificate is the client's matter.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, |stream| stream.get_ref().0, state).await;
                            }
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<S>(stream: S, socket: fn(&S) -> &TcpStream, state: Arc<Mutex<State>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answer: Pin<Box<dyn Future<Output = Result<Response<Answer>, Abrupt>> + Send>> =
            Box::pin(answer(request, Arc::clone(&state)));
        answer
    });
    let mut connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let Err(error) = Pin::new(&mut connection).await else { return };
    let Some(abrupt) = error.source().and_then(|source| source.downcast_ref::<Abrupt>()) else { return };
    let mut stream = connection.into_parts().io.into_inner();
    match abrupt {
        Abrupt::Reset => socket(&stream).set_zero_linger().unwrap(),
        Abrupt::Garbage => {
            // The client may hang up before it has heard it all.
            let _ = stream.write_all(b"SSH-2.0-this is not what you were looking for\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Answer>, Abrupt> {
    let (head, body) = request.into_parts();
    // A client that goes away in the middle of its body has asked for nothing.
    let Ok(body) = body.collect().await else { return Err(Abrupt::Reset) };
    let path = head.uri.to_string();
    let mut request = Request {
        at: Instant::now(),
        path,
        headers: head.headers,
        body: body.to_bytes(),
        points: Vec::new(),
        series: 0,
        answered: None,
    };
    match (&head.method, head.uri.path()) {
        (&Method::GET, VALIDATE_PATH) => {
            let (answer, hangs) = {
                let mut state = state.lock().unwrap();
                (validate(&request, &mut state), state.validations_hang)
            };
            if hangs { std::future::pending().await } else { Ok(answer) }
        }
        (&Method::POST, POINTS_PATH) => {
            let violations = judge::judge(&mut request);
            let (number, behaviour) = state.lock().unwrap().record(request, violations);
            behave(number, behaviour, &state).await
        }
        (method, path) => {
            state.lock().unwrap().violations.push(format!("nothing answers {method} {path}"));
            Ok(text(404, "page not found"))
        }
    }
}

impl State {
    /// Files a request; says its number and what is to be done with it.
    fn record(&mut self, request: Request, violations: Vec<String>) -> (usize, Behaviour) {
        let number = self.requests.len();
        self.violations
            .extend(violations.into_iter().map(|violation| format!("request {number}: {violation}")));
        let behaviour = if self.revoked.contains(request.key()) {
            Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}")
        } else {
            self.next.pop_front().unwrap_or_else(|| (self.decide)(&request))
        };
        self.requests.push(request);
        (number, behaviour)
    }
}

async fn behave(
    number: usize,
    behaviour: Behaviour,
    state: &Mutex<State>,
) -> Result<Response<Answer>, Abrupt> {
    let answered = |status| state.lock().unwrap().requests[number].answered = Some(status);
    match behaviour {
        Behaviour::Slow(wait) => tokio::time::sleep(wait).await,
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Reset => return Err(Abrupt::Reset),
        Behaviour::Garbage => return Err(Abrupt::Garbage),
        Behaviour::Accept => {}
        Behaviour::Status(status, body) => {
            answered(status);
            return Ok(text(status, body));
        }
        Behaviour::Redirect(location) => {
            answered(307);
            let mut response = text(307, "");
            response.headers_mut().insert(LOCATION, location.parse().unwrap());
            return Ok(response);
        }
        Behaviour::EndlessBody(status) => {
            answered(status);
            return Ok(respond(status, Answer::Endless));
        }
    }
    answered(202);
    Ok(text(202, "{\"status\":\"ok\"}"))
}

fn validate(request: &Request, state: &mut State) -> Response<Answer> {
    state.validations.push(request.key().to_owned());
    match state.validate {
        Some((status, body)) => text(status, body),
        None if request.key().is_empty() || state.revoked.contains(request.key()) => {
            text(403, "{\"errors\":[\"Forbidden\"]}")
        }
        None => text(200, "{\"valid\":true}"),
    }
}

fn text(status: u16, body: &'static str) -> Response<Answer> {
    respond(status, Answer::Text(Some(Bytes::from_static(body.as_bytes()))))
}

fn respond(status: u16, body: Answer) -> Response<Answer> {
    Response::builder().status(status).body(body).unwrap()
}

/// The body of an answer.
enum Answer {
    Text(Option<Bytes>),
    Endless,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(match self.get_mut() {
            Self::Text(text) => text.take().map(|text| Ok(Frame::data(text))),
            Self::Endless => Some(Ok(Frame::data(Bytes::from_static(&[b'a'; 16 << 10])))),
        })
    }
}

/// How a connection ends without an answer; it passes through hyper as the error of the service.
#[derive(Debug)]
enum Abrupt {
    Reset,
    Garbage,
}

impl fmt::Display for Abrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for Abrupt {}
