//! Why a push is refused, and the answer that makes Braze do the right thing next.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::json;

use event_queues::embedded::AppendError;
use http_listener::Answer;

/// The wait for a disk that is full of events, or broken: the pipeline, or a person, needs a while.
const RETRY_QUEUE: Duration = Duration::from_secs(10);

/// The wait for a restart, or a moment of overload.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(2);

/// The challenge for a request without a token, and for an invalid token: RFC 6750, section 3.
const CHALLENGE: &str = "Bearer realm=\"braze-datadog\"";
const CHALLENGE_INVALID: &str = "Bearer realm=\"braze-datadog\", error=\"invalid_token\"";

/// Why a push is refused.
///
/// 401, 403 and 404 make Braze give up the events, 400 makes it split the batch and then give up: they are only for requests
/// that would fail again. Trouble that may pass is 408 or 503, which Braze sends again, as all other statuses.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is nothing here; push to /v1/events")]
    NotFound,
    #[error("use POST")]
    NotPost,
    #[error("a bearer token is needed, and {}", if *.has_token { "this is none that is known here" } else { "none was sent" })]
    Unauthorized { has_token: bool },
    #[error(
        "this token is bound to other app groups than the app_group_id in the URL; correct the URL, or use the token \
         of that app group"
    )]
    ForeignUrl,
    #[error(
        "a page in a browser sent this (it has an Origin), and without push.token_file any page could; set that, or push \
         without an Origin"
    )]
    Page,
    #[error("this Content-Encoding is not understood; send gzip, deflate, zstd or none")]
    Encoding,
    #[error("this Transfer-Encoding is not understood; send chunked alone, or a Content-Length")]
    TransferEncoding,
    #[error("the body is larger than {bytes_max} bytes after decompression; send smaller batches")]
    TooLarge { bytes_max: usize },
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the body ended early")]
    Incomplete,
    #[error("the body is not in the chunks that its Transfer-Encoding says")]
    Framing,
    #[error("the body is not what its Content-Encoding says: {0}")]
    Coding(&'static str),
    #[error("{0}")]
    NotAnEnvelope(String),
    #[error("too many connections")]
    Crowded,
    #[error("stopping")]
    Stopping,
    #[error("too many bodies are being read")]
    Memory,
    #[error("too many large bodies are being checked")]
    Busy,
    #[error("the queue takes nothing at the moment")]
    NotAccepting,
    #[error("the queue did not take it: {0}")]
    Append(AppendError),
    #[error("reading the body failed inside; please report it")]
    Inside,
}

impl Refusal {
    /// The status, the value of the `reason` label, and when it is worth another try.
    fn class(&self) -> (StatusCode, &'static str, Option<Duration>) {
        const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "path", None),
            Self::NotPost => (StatusCode::METHOD_NOT_ALLOWED, "method", None),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "token", None),
            Self::ForeignUrl => (StatusCode::UNAUTHORIZED, "foreign_url", None),
            Self::Page => (StatusCode::FORBIDDEN, "page", None),
            Self::Encoding | Self::TransferEncoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", None),
            Self::TooLarge { .. } | Self::Append(AppendError::TooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large", None)
            }
            // Not 400: a body that was cut short on its way is whole when it is sent again.
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow", None),
            Self::Incomplete => (StatusCode::REQUEST_TIMEOUT, "incomplete", None),
            Self::Coding(_) | Self::Framing => (StatusCode::BAD_REQUEST, "coding", None),
            Self::NotAnEnvelope(_) => (StatusCode::BAD_REQUEST, "not_json", None),
            Self::Crowded => (UNAVAILABLE, "connections", Some(RETRY_SOON)),
            Self::Stopping => (UNAVAILABLE, "stopping", Some(RETRY_SOON)),
            Self::Memory => (UNAVAILABLE, "memory", Some(RETRY_SOON)),
            Self::Busy => (UNAVAILABLE, "threads", Some(RETRY_SOON)),
            Self::Append(AppendError::Full) => (UNAVAILABLE, "queue_full", Some(RETRY_QUEUE)),
            Self::NotAccepting | Self::Append(_) => (UNAVAILABLE, "queue", Some(RETRY_QUEUE)),
            Self::Inside => (StatusCode::INTERNAL_SERVER_ERROR, "defect", None),
        }
    }

    pub(super) fn reason(&self) -> &'static str {
        self.class().1
    }

    /// The message for the sender. Paths and causes on this machine are for its log.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Append(AppendError::Full) => "the queue is full".into(),
            Self::Append(AppendError::TooLarge { .. }) => "the batch is too large for the queue".into(),
            Self::Append(_) => "the queue can't be written".into(),
            other => other.to_string(),
        }
    }

    /// Whether a person must act, because a repetition will fail, too.
    pub(super) fn is_grave(&self) -> bool {
        match self {
            Self::Append(error) => !matches!(error, AppendError::Full),
            other => matches!(other, Self::Inside),
        }
    }

    pub(super) fn answer(&self) -> Answer {
        let (status, _, retry_after) = self.class();
        let mut answer = json_answer(status, &json!({ "error": self.text() }));
        let headers = answer.headers_mut();
        if let Some(after) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        match self {
            Self::Unauthorized { has_token: false } => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
            }
            Self::Unauthorized { has_token: true } | Self::ForeignUrl => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE_INVALID));
            }
            Self::NotPost => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            Self::Encoding => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, zstd"));
            }
            _ => {}
        }
        answer
    }
}

/// An answer with a JSON body.
pub(super) fn json_answer(status: StatusCode, body: &serde_json::Value) -> Answer {
    answer_of(status, body.to_string())
}

/// The same for JSON that is already text.
pub(super) fn answer_of(status: StatusCode, json: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(json)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_503_says_when_to_come_back_and_nothing_else_does() {
        let all = [
            Refusal::NotFound,
            Refusal::NotPost,
            Refusal::Unauthorized { has_token: false },
            Refusal::Unauthorized { has_token: true },
            Refusal::ForeignUrl,
            Refusal::Page,
            Refusal::Encoding,
            Refusal::TransferEncoding,
            Refusal::Framing,
            Refusal::TooLarge { bytes_max: 1 },
            Refusal::TooSlow,
            Refusal::Incomplete,
            Refusal::Coding("x"),
            Refusal::NotAnEnvelope("x".into()),
            Refusal::Crowded,
            Refusal::Stopping,
            Refusal::Memory,
            Refusal::Busy,
            Refusal::NotAccepting,
            Refusal::Append(AppendError::Full),
            Refusal::Append(AppendError::TooLarge { bytes: 2, bytes_max: 1, setting: "size_max" }),
            Refusal::Append(AppendError::Disk("x".into())),
            Refusal::Inside,
        ];
        for refusal in all {
            let answer = refusal.answer();
            let unavailable = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
            let is_queue = matches!(refusal, Refusal::NotAccepting | Refusal::Append(_));
            let seconds = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            let told = if is_queue { "10" } else { "2" };
            assert_eq!(seconds, unavailable.then_some(told), "as docs/contract.md has it: {refusal:?}");
            let is_forbidden = answer.status() == StatusCode::FORBIDDEN;
            assert_eq!(is_forbidden, matches!(refusal, Refusal::Page), "Braze is no page: {refusal:?}");
        }
    }

    #[test]
    fn the_sender_is_not_told_about_the_disk() {
        let refusal = Refusal::Append(AppendError::Disk("/var/lib/x: no space".into()));
        assert!(!refusal.text().contains("/var"));
        assert!(refusal.is_grave());
    }
}
