//! The HTTP client towards Datadog.

mod validate;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use super::outcome::{Outcome, classify};
use super::payload::Payload;
use super::{Connection, Intake};
use crate::stats::DropReason;

pub use self::validate::KeyValidator;

/// How much of an error's body is read: enough for Datadog's sentence, too little for an endless body.
const ANSWER_BYTES_MAX: usize = 1024;

/// How long an idle connection is kept: shorter than any server does. A connection that the server has just
/// closed would lose a whole flush, for nothing is sent twice.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// How many idle connections are kept to one host.
const IDLE_MAX: usize = 8;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// TLS could not be set up.
    #[error(
        "the HTTP client could not be made: {0}; are the system's root certificates installed (ca-certificates), or is SSL_CERT_FILE set to a bundle of them?"
    )]
    Client(String),
}

/// Datadog's intake over HTTPS.
#[derive(Debug, Clone)]
pub struct HttpIntake {
    client: reqwest::Client,
    timeout: Duration,
}

impl HttpIntake {
    /// A client whose requests take `timeout` at most, connecting included. Proxies are taken from the
    /// environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(timeout: Duration) -> Result<Self, HttpError> {
        Ok(Self { client: client(timeout, IDLE_MAX)?, timeout })
    }

    async fn post(&self, connection: &Connection, payload: Payload) -> Outcome {
        let Ok(mut key) = HeaderValue::from_str(connection.api_key.expose()) else {
            return Outcome::dropped(DropReason::Http403, "the API key can't be sent in a header");
        };
        key.set_sensitive(true);
        let request = self
            .client
            .post(format!("{}/api/v1/distribution_points", connection.site.base_url))
            .header("DD-API-KEY", key)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "deflate")
            .body(payload.body);
        match request.send().await {
            Ok(answer) => read(answer, connection.api_key.expose().as_bytes()).await,
            Err(error) if error.is_timeout() => self.timed_out(),
            Err(error) => Outcome::dropped(DropReason::Connect, sentence(&error)),
        }
    }

    fn timed_out(&self) -> Outcome {
        Outcome::dropped(DropReason::Timeout, format!("no answer within {:?} (flush.timeout)", self.timeout))
    }
}

impl Intake for HttpIntake {
    async fn submit(&self, connection: Arc<Connection>, payload: Payload) -> Outcome {
        self.post(&connection, payload).await
    }
}

/// A client whose requests take `timeout` at most, with everything set that has a harmful default.
fn client(timeout: Duration, idle_max: usize) -> Result<reqwest::Client, HttpError> {
    // A second client in one process finds the provider installed, which is as good.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(timeout)
        .connect_timeout(timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_max)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("braze-datadog/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| HttpError::Client(sentence(&error)))
}

/// Classifies an answer; of an error's body at most [`ANSWER_BYTES_MAX`] are told, without the key.
async fn read(mut answer: reqwest::Response, key: &[u8]) -> Outcome {
    let status = answer.status();
    let Some(reason) = classify(status.as_u16()) else { return Outcome::Accepted };
    let mut body = Vec::new();
    // A key that begins within what is told must be read to its end to be known.
    let bytes_max = ANSWER_BYTES_MAX + key.len();
    // The status decides; a body that does not come whole is told as far as it came.
    while body.len() < bytes_max {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(bytes_max - body.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    mask(&mut body, key);
    body.truncate(ANSWER_BYTES_MAX);
    let text = String::from_utf8_lossy(&body);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let hint = match reason {
        DropReason::Http403 => " (is the API key valid on this site?)",
        DropReason::HttpUnexpected => " (Datadog answers 202; is this Datadog's intake?)",
        _ => "",
    };
    Outcome::dropped(
        reason,
        format!("{status}{hint}: {}", text.trim()).trim_end_matches([':', ' ']).to_owned(),
    )
}

/// Overwrites the key wherever an answer repeats it, as that of a proxy may.
fn mask(body: &mut [u8], key: &[u8]) {
    let found: Vec<usize> = memchr::memmem::find_iter(body, key).collect();
    for at in found {
        body[at..at + key.len()].fill(b'*');
    }
}

/// An error with what caused it, without the URL that reqwest puts into it.
fn sentence(error: &reqwest::Error) -> String {
    let mut sentence =
        if error.is_connect() { "connecting failed".to_owned() } else { "no usable answer".to_owned() };
    let mut source = error.source();
    while let Some(cause) = source {
        sentence.push_str(": ");
        sentence.push_str(&cause.to_string());
        source = cause.source();
    }
    sentence
}
