//! Finds the token of a request.

use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;

use super::intermediary::FIREHOSE_ACCESS_KEY;
use super::query;
use super::refusal::Refusal;
use super::token::{AppGroups, Tokens};

/// The token of a request, and the app groups that it is bound to: in `Authorization`, else in Firehose's header, else in
/// the URL, for services that can't send headers.
pub(super) fn find_token(tokens: &Tokens, head: &Parts) -> Result<(usize, Option<AppGroups>), Refusal> {
    let (found, has_token) = if head.headers.contains_key(AUTHORIZATION) {
        let has_token = head.headers.get_all(AUTHORIZATION).iter().any(is_token);
        (one(head, AUTHORIZATION).and_then(|value| tokens.find(value.as_bytes())), has_token)
    } else if head.headers.contains_key(FIREHOSE_ACCESS_KEY) {
        let key = one(head, HeaderName::from_static(FIREHOSE_ACCESS_KEY));
        (key.and_then(|key| tokens.find_plain(key.as_bytes())), true)
    } else {
        let token = head.uri.query().and_then(query::token_in);
        (token.as_ref().and_then(|token| tokens.find_plain(token.as_bytes())), token.is_some())
    };
    found.ok_or(Refusal::Unauthorized { has_token })
}

/// Refuses pages, for a port that asks no token. A browser lets every page send a simple POST anywhere, to this machine's
/// loopback as well, without asking the port; it adds `Origin`, and only a browser does (Fetch, section 3.2).
pub(super) fn ensure_no_page(head: &Parts) -> Result<(), Refusal> {
    if head.headers.contains_key(ORIGIN) { Err(Refusal::Page) } else { Ok(()) }
}

/// The value of a header that occurs once.
fn one(head: &Parts, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = head.headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_token(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    let is_alone = scheme.len() == value.len();
    !is_alone && [&b"bearer"[..], b"basic"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}
