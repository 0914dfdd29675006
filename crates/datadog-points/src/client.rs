//! The HTTP client towards Datadog.

mod answer;
mod network;
mod validate;

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};

use crate::ApiKey;
use crate::outcome::FailureReason;
use crate::outcome::Outcome;
use crate::payload::Payload;
use crate::site::Site;

pub use http_client::{LookUp, LookUpError, Proxies, ProxyError, Resolver, sentence};

pub use self::network::{HttpError, Network};
pub use self::validate::KeyValidator;

/// How long an idle connection is kept: beyond the default `flush.interval`, and half of what common servers and load
/// balancers allow. A connection that the server has closed meanwhile is noticed before a byte is written, and another is
/// made. A close that is still on its way can't be noticed: see [`IDLE_MAX_BRIEF`].
const IDLE_MAX: Duration = Duration::from_secs(30);

/// The same at a server that closes early: one that announces so (`Keep-Alive: timeout=…`), or broke off a request.
/// A request that meets the close is lost, for nothing is sent twice; so a connection that may be about to be closed
/// is not used.
const IDLE_MAX_BRIEF: Duration = Duration::from_secs(3);

/// How long a server is remembered as one that closes early.
const EARLY_CLOSER: Duration = Duration::from_hours(1);

/// How many such servers are remembered.
const EARLY_CLOSERS_MAX: usize = 10_000;

/// How many idle connections are kept to one host.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// How long to look for an answer once more where the timer itself fired late.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A timer later than this fired late: the process was stopped, or had no processor.
const LATE: Duration = Duration::from_millis(5);

/// Waits for `future`, but not longer than `limit`. Where the timer itself fires late, because the process was stopped, say,
/// the result may be there but unread: then `future` gets `look_again` more, once.
pub async fn within<F: Future>(limit: Duration, look_again: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let deadline = tokio::time::Instant::now() + limit;
    if let Ok(output) = tokio::time::timeout_at(deadline, &mut future).await {
        return Some(output);
    }
    if deadline.elapsed() < LATE {
        return None;
    }
    tokio::time::timeout(look_again, future).await.ok()
}

/// How long one request may take, and for how long one connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeSettings {
    /// Connecting included.
    pub timeout: Duration,
    /// The name of the setting, for messages.
    pub timeout_name: &'static str,
    /// After this no request begins on a connection, and the host's name is looked up again.
    pub connection_age_max: Duration,
}

/// Datadog's intake over HTTPS.
#[derive(Debug)]
pub struct HttpIntake {
    network: Network,
    settings: IntakeSettings,
    clients: Mutex<Clients>,
    /// Base URLs of servers that close early, and since when.
    early_closers: Mutex<HashMap<Box<str>, Instant>>,
}

/// Clients whose connections are of one age: with the last request of an old pair its connections are closed.
#[derive(Debug)]
struct Clients {
    ordinary: reqwest::Client,
    /// For servers that close early.
    brief: reqwest::Client,
    made: Instant,
}

impl Clients {
    fn new(network: &Network, timeout: Duration) -> Result<Self, HttpError> {
        let client = |idle_max| network.client(timeout, idle_max, IDLE_CONNECTIONS_MAX);
        Ok(Self { ordinary: client(IDLE_MAX)?, brief: client(IDLE_MAX_BRIEF)?, made: Instant::now() })
    }
}

impl HttpIntake {
    /// An intake whose requests take `settings.timeout` at most, connecting included.
    ///
    /// # Errors
    /// When a client can't be made.
    pub fn new(settings: IntakeSettings, network: &Network) -> Result<Self, HttpError> {
        let clients = Mutex::new(Clients::new(network, settings.timeout)?);
        Ok(Self { network: network.clone(), settings, clients, early_closers: Mutex::default() })
    }

    /// Submits one payload, once, and returns its outcome. It takes no longer than the settings say.
    pub async fn post(&self, site: &Site, api_key: &ApiKey, payload: Payload) -> Outcome {
        let Ok(mut key) = HeaderValue::from_str(api_key.expose()) else {
            return Outcome::dropped(FailureReason::Http403, "the API key can't be sent in a header");
        };
        key.set_sensitive(true);
        let base_url = &site.base_url;
        if let Some(reason) = self.network.no_tls(base_url) {
            return Outcome::dropped(FailureReason::Connect, reason);
        }
        let request = self
            .client(base_url)
            .post(format!("{base_url}/api/v1/distribution_points"))
            .header("DD-API-KEY", key)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "deflate")
            .body(payload.body);
        let started = Instant::now();
        match within(self.settings.timeout, LOOK_AGAIN, request.send()).await {
            Some(Ok(answer)) => {
                if answer::closes_within(answer.headers(), IDLE_MAX) {
                    self.note_early_closer(base_url);
                }
                let left = self.settings.timeout.saturating_sub(started.elapsed());
                answer::outcome(answer, api_key.expose().as_bytes(), left).await
            }
            Some(Err(error)) => self.failed(base_url, &error),
            None => self.timed_out(),
        }
    }

    /// The client for a server, with connections that are not too old.
    fn client(&self, base_url: &str) -> reqwest::Client {
        let closes_early =
            lock(&self.early_closers).get(base_url).is_some_and(|at| at.elapsed() < EARLY_CLOSER);
        let mut clients = lock(&self.clients);
        if clients.made.elapsed() >= self.settings.connection_age_max {
            match Clients::new(&self.network, self.settings.timeout) {
                Ok(made) => *clients = made,
                // The same settings worked at the start; the old client is better than none.
                Err(error) => tracing::warn!(%error, "the HTTP client could not be renewed"),
            }
        }
        if closes_early { clients.brief.clone() } else { clients.ordinary.clone() }
    }

    fn note_early_closer(&self, base_url: &str) {
        let mut early_closers = lock(&self.early_closers);
        if early_closers.len() >= EARLY_CLOSERS_MAX {
            early_closers.clear();
        }
        early_closers.insert(base_url.into(), Instant::now());
    }

    fn failed(&self, base_url: &str, error: &reqwest::Error) -> Outcome {
        let reason = reason(error);
        if reason == FailureReason::Timeout && error.is_connect() {
            let within = http_client::connect_timeout(self.settings.timeout);
            let way = self.network.proxy_variable(base_url).map_or_else(
                || "firewall, proxy".to_owned(),
                |variable| format!("or is it the proxy that {variable} names"),
            );
            let detail =
                format!("no connection within {within:?}: is {base_url} reachable from here ({way})?");
            return Outcome::dropped(reason, detail);
        }
        if reason == FailureReason::Connect && !error.is_connect() {
            self.note_early_closer(base_url);
        }
        Outcome::dropped(reason, self.network.sentence(base_url, error))
    }

    fn timed_out(&self) -> Outcome {
        let IntakeSettings { timeout, timeout_name, .. } = self.settings;
        Outcome::dropped(FailureReason::Timeout, format!("no answer within {timeout:?} ({timeout_name})"))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panicked holder left it whole, or the process is going down.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no answer.
fn reason(error: &reqwest::Error) -> FailureReason {
    let first: Option<&(dyn std::error::Error + 'static)> = error.source();
    let causes = || std::iter::successors(first, |cause| (*cause).source());
    if causes().any(<dyn std::error::Error>::is::<LookUpError>) {
        FailureReason::Dns
    } else if causes().any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse)) {
        FailureReason::HttpInvalid
    } else if error.is_timeout() {
        FailureReason::Timeout
    } else {
        FailureReason::Connect
    }
}
