//! Health on the push port, for load balancers that know one port only: without a token, and nothing but the state.

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use http_listener::{Answer, hang_up};

/// Says how the process is.
pub struct Readiness {
    is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    is_alive: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Readiness {
    /// Asks each time, on the runtime, whether it can take events, and whether it goes on at all.
    pub fn new(
        is_ready: impl Fn() -> bool + Send + Sync + 'static,
        is_alive: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { is_ready: Box::new(is_ready), is_alive: Box::new(is_alive) }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readiness")
    }
}

/// The answer to a request for health; `None`: the request is for something else. The reason for not being ready is not
/// public: the admin port has it.
pub(super) fn answer(request: &Request<Incoming>, readiness: &Readiness) -> Option<Answer> {
    let is_well = match request.uri().path() {
        "/healthz" | "/livez" => (readiness.is_alive)(),
        "/readyz" => (readiness.is_ready)(),
        _ => return None,
    };
    let answer = if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    } else if is_well {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    };
    // No handler here reads a body.
    Some(if request.body().is_end_stream() { answer } else { hang_up(answer) })
}

fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
