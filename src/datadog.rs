//! Datadog's side: where a connection sends, what it sends, and what came of it.

pub mod collapse;
pub mod encode;
pub mod heartbeat;
pub mod http;
pub mod keys;
pub mod monitor;
pub mod normal;
pub mod outcome;
pub mod payload;
pub mod preview;
pub mod rejudge;
pub mod site;
pub mod validity;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use self::outcome::Outcome;
use self::payload::Payload;
use self::site::Site;

/// A Datadog site and API key, and the app groups that they serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The section's name in the configuration: `[a-z0-9_]+`.
    pub name: Box<str>,
    /// Where its points go.
    pub site: Site,
    /// Never shown.
    pub api_key: ApiKey,
    /// The app groups it serves; empty: every app group that no other connection names.
    pub app_group_ids: Vec<Box<str>>,
    /// Names by app group id, for events that carry none.
    pub app_group_names: HashMap<Box<str>, Box<str>>,
    /// The name of the metric.
    pub metric: Box<str>,
    /// Print the points instead of sending them.
    pub dry_run: bool,
    /// Send a [heartbeat] with every flush, and a flush at every tick.
    pub heartbeat: bool,
}

/// A Datadog API key. It can't be printed: `Debug` shows its length only, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Box<str>);

impl ApiKey {
    /// Takes a key as it was configured, without the white space around it.
    pub fn new(key: &str) -> Self {
        Self(key.trim().into())
    }

    /// The key itself, for the `DD-API-KEY` header and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({} characters)", self.0.chars().count())
    }
}

/// Where payloads go in.
pub trait Intake: Send + Sync + 'static {
    /// Submits one payload, once, and says what became of it. It takes no longer than `flush.timeout`.
    fn submit(&self, connection: Arc<Connection>, payload: Payload) -> impl Future<Output = Outcome> + Send;
}
