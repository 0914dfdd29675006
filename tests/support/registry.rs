//! A schema registry on the loopback that does as the test says. It stands alone, so that unit tests can take
//! it in, too.
#![expect(dead_code, reason = "each test is a crate of its own and uses a part of it; see NEVER_USED")]

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Keeps the expectation of dead code true even for a test that uses all of it.
const NEVER_USED: () = ();

/// What it does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Answers as a registry does.
    Answer,
    /// This status, with this body.
    Status(u16, String),
    /// Never answers.
    Hang,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Path and query, as they were written.
    pub(crate) path: String,
    /// The credentials; empty where there are none.
    pub(crate) authorization: String,
    /// The name of the client.
    pub(crate) user_agent: String,
    pub(crate) accept_encoding: String,
}

struct State {
    answers: BTreeMap<String, Value>,
    always: Behaviour,
    next: VecDeque<Behaviour>,
    asked: Vec<Asked>,
}

/// The registry. It stops when it is dropped.
pub(crate) struct ScriptedRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

impl ScriptedRegistry {
    /// Listens on a free port of the loopback, and knows no schema.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (answers, next, asked) = (BTreeMap::new(), VecDeque::new(), Vec::new());
        let state = Arc::new(Mutex::new(State { answers, always: Behaviour::Answer, next, asked }));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, runtime: Some(runtime) }
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Registers an Avro schema under an id.
    pub(crate) fn register(&self, id: u32, schema: &str) {
        self.answer(&format!("/schemas/ids/{id}"), json!({ "schema": schema }));
    }

    /// The body of the answer to a path, whatever it is.
    pub(crate) fn answer(&self, path: &str, body: Value) {
        self.state.lock().unwrap().answers.insert(path.to_owned(), body);
    }

    /// What it does with every request that [`ScriptedRegistry::next`] says nothing about.
    pub(crate) fn always(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().always = behaviour;
    }

    /// What it does with the requests to come, one each.
    pub(crate) fn next(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.state.lock().unwrap().next.extend(behaviours);
    }

    /// Every request, in the order in which they came.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        // Not waited for, for a runtime must not be waited for on another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(request, Arc::clone(&state)));
        connections.spawn(async move {
            // A client that goes away is the client's matter.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    let header = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let asked = Asked {
        path: path.clone(),
        authorization: header(AUTHORIZATION),
        user_agent: header(USER_AGENT),
        accept_encoding: header(ACCEPT_ENCODING),
    };
    let (behaviour, known) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked);
        let behaviour = state.next.pop_front().unwrap_or_else(|| state.always.clone());
        (behaviour, state.answers.get(&path).map(ToString::to_string))
    };
    Ok(match (behaviour, known) {
        (Behaviour::Hang, _) => std::future::pending().await,
        (Behaviour::Status(status, body), _) => respond(status, body),
        (Behaviour::Answer, Some(body)) => respond(200, body),
        (Behaviour::Answer, None) => {
            let code = if path.starts_with("/schemas/ids/") { 40403 } else { 40401 };
            respond(404, json!({ "error_code": code, "message": "not found" }).to_string())
        }
    })
}

fn respond(status: u16, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")
        // Only a redirect is asked where it leads to.
        .header(LOCATION, "/schemas/ids/1")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}
