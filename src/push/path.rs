//! Where Braze pushes to, and who looks elsewhere.

use hyper::body::Incoming;
use hyper::{Method, Request};

use super::refusal::Refusal;
use http_listener::{Answer, hang_up};

const PATH: &str = "/v1/events";

/// An extra slash in Braze's form must not end in the 404 at which Braze gives up.
pub(super) fn is_for_push(path: &str) -> bool {
    path.trim_end_matches('/') == PATH
}

/// The answer to who looks at a path where nothing is, as scanners and balancers' checks do; `None`: it may be a push. No
/// sender of events does so, and what is booked as a 404 wakes somebody.
pub(super) fn probe(request: &Request<Incoming>) -> Option<Answer> {
    let is_look = matches!(*request.method(), Method::GET | Method::HEAD);
    (is_look && !is_for_push(request.uri().path())).then(|| hang_up(Refusal::NotFound.answer()))
}
