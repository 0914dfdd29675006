//! Reads the intake's answers.

use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::Value;

use crate::outcome::FailureReason;
use crate::outcome::{Outcome, classify};

/// How much of an answer's body is read: enough for Datadog's sentence, too little for an endless body.
pub(super) const ANSWER_BYTES_MAX: usize = 1024;

/// How long a body is waited for at least: the status decides, and is there already.
const BODY_WAIT_MIN: Duration = Duration::from_millis(100);

/// How long a body is waited for at most.
const BODY_WAIT_MAX: Duration = Duration::from_secs(1);

/// The shortest part of a key that is masked: fewer bytes give nothing away, and may be the end of any word.
const KEY_PART_MIN: usize = 4;

/// Whether the server says that it closes idle connections within `idle`, or so soon after it that the close could
/// meet a request. Source: the `timeout` parameter of `Keep-Alive`, draft-thomson-hybi-http-timeout.
pub(super) fn closes_within(headers: &HeaderMap, idle: Duration) -> bool {
    let parameters = headers.get_all("keep-alive").iter().filter_map(|value| value.to_str().ok());
    let mut timeouts = parameters.flat_map(|value| value.split(',')).filter_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| seconds.trim().parse::<u64>().ok())?
    });
    timeouts.any(|seconds| seconds <= idle.as_secs() + 1)
}

/// That an answer has a coding, in words which repeat nothing of it.
pub(super) fn coding(headers: &HeaderMap) -> Option<&'static str> {
    let value = headers.get(CONTENT_ENCODING)?.as_bytes().trim_ascii();
    let is = |coding: &str| value.eq_ignore_ascii_case(coding.as_bytes());
    match value {
        _ if is("") || is("identity") => None,
        _ if is("gzip") => Some("Content-Encoding gzip"),
        _ if is("deflate") => Some("Content-Encoding deflate"),
        _ if is("br") => Some("Content-Encoding br"),
        _ if is("zstd") => Some("Content-Encoding zstd"),
        _ => Some("a Content-Encoding"),
    }
}

/// Classifies an answer, `left` before its time is over; the outcome holds at most [`ANSWER_BYTES_MAX`] of its body, without
/// the key.
pub(super) async fn outcome(mut answer: reqwest::Response, key: &[u8], left: Duration) -> Outcome {
    let status = answer.status();
    let coding = coding(answer.headers());
    let wait = left.clamp(BODY_WAIT_MIN, BODY_WAIT_MAX);
    // A key that begins within the bytes that are kept must be read to its end to be masked.
    let body = beginning(&mut answer, ANSWER_BYTES_MAX + key.len(), wait).await;
    let Some(reason) = classify(status.as_u16()) else { return accepted(body, key) };
    let hint = match reason {
        FailureReason::Http403 => " (is the API key valid on this site?)",
        FailureReason::HttpUnexpected => " (Datadog answers 202; is this Datadog's intake?)",
        _ => "",
    };
    let text = match coding {
        Some(coding) => format!("with {coding}, which was not asked for"),
        None => printable(body, key),
    };
    Outcome::dropped(
        reason,
        format!("{status}{hint}: {}", text.trim()).trim_end_matches([':', ' ']).to_owned(),
    )
}

/// The beginning of a body, as far as it comes in time.
async fn beginning(answer: &mut reqwest::Response, bytes_max: usize, wait: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    let read = http_client::read_up_to(answer, &mut body, bytes_max);
    // What has come by then is kept, and what came before the connection broke off.
    let _elapsed = tokio::time::timeout(wait, read).await;
    body
}

/// A 202 is accepted; but where its body mentions errors, somebody has to know.
fn accepted(body: Vec<u8>, key: &[u8]) -> Outcome {
    let has_errors = match serde_json::from_slice::<Value>(&body) {
        Ok(answer) => match &answer["errors"] {
            Value::Array(errors) => !errors.is_empty(),
            Value::Object(errors) => !errors.is_empty(),
            Value::String(errors) => !errors.is_empty(),
            _ => false,
        },
        // Longer than the bytes that were read, or not JSON.
        Err(_) => memchr::memmem::find(&body, b"\"errors\"").is_some(),
    };
    if has_errors { Outcome::AcceptedWithErrors { detail: printable(body, key) } } else { Outcome::Accepted }
}

/// A body for a message.
fn printable(mut body: Vec<u8>, key: &[u8]) -> String {
    mask(&mut body, key);
    body.truncate(ANSWER_BYTES_MAX);
    String::from_utf8_lossy(&body).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Overwrites the key wherever an answer repeats it, as a proxy's may: whole, and as far as it goes where the body breaks off
/// within it.
fn mask(body: &mut [u8], key: &[u8]) {
    let found: Vec<usize> = memchr::memmem::find_iter(body, key).collect();
    for at in found {
        body[at..at + key.len()].fill(b'*');
    }
    let part = (KEY_PART_MIN..key.len()).rev().find(|length| body.ends_with(&key[..*length]));
    let end = body.len();
    body[end - part.unwrap_or(0)..].fill(b'*');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_announces_to_close_soon_is_heard() {
        for (value, closes) in [
            ("timeout=5", true),
            ("timeout=5, max=100", true),
            ("max=100,Timeout = 30", true),
            ("timeout=31", true),
            ("timeout=60", false),
            ("max=1", false),
            ("timeout=soon", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([("keep-alive".parse().unwrap(), value.parse().unwrap())]);
            assert_eq!(closes_within(&headers, Duration::from_secs(30)), closes, "{value}");
        }
        assert!(!closes_within(&HeaderMap::new(), Duration::from_secs(30)));
    }

    #[test]
    fn a_key_that_the_answer_breaks_off_in_is_masked_as_far_as_it_goes() {
        let key = b"0123456789abcdef0123456789abcdef";
        for length in 0..=key.len() {
            let mut body = [b"no such key: ", &key[..length]].concat();
            mask(&mut body, key);
            let kept = if length < KEY_PART_MIN { length } else { 0 };
            assert!(body.ends_with(&key[..kept]) && !body[..13 + kept].contains(&b'*'), "{length}");
            assert!(body[13 + kept..].iter().all(|byte| *byte == b'*'), "{length}");
        }
    }

    #[test]
    fn a_202_that_speaks_of_errors_says_so_without_the_key() {
        for body in ["", "{\"status\":\"ok\"}", "{\"errors\":[]}", "ok", "{\"errors\":null}"] {
            assert_eq!(accepted(body.into(), b"k3y"), Outcome::Accepted, "{body}");
        }
        let long = format!("{{\"errors\":[\"{}\"]}}", "x".repeat(2000));
        for body in ["{\"errors\":[\"k3y\\nis odd\"]}", "{\"errors\":\"no\"}", &long[..1024]] {
            let Outcome::AcceptedWithErrors { detail } = accepted(body.into(), b"k3y") else {
                panic!("{body}")
            };
            assert!(detail.contains("errors") && !detail.contains("k3y"), "{detail}");
        }
    }
}
