//! What is known of a connection, and where its payloads go in.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use datadog_points::ApiKey;
use datadog_points::client::HttpIntake;
use datadog_points::outcome::Outcome;
use datadog_points::payload::Payload;
use datadog_points::site::Site;
use send_counts::route::AppGroups;

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
    /// Send a [heartbeat](crate::pipeline::heartbeat) with every flush, and a flush at every tick.
    pub heartbeat: bool,
    /// Send [what the forwarder tells of itself](crate::pipeline::forwarder_metrics), with a flush at every tick.
    pub forwarder_metrics: bool,
}

impl Connection {
    /// What says which sends are its own.
    pub fn app_groups(&self) -> AppGroups<'_> {
        AppGroups { ids: &self.app_group_ids, names: &self.app_group_names }
    }
}

/// Where payloads go in.
pub trait Intake: Send + Sync + 'static {
    /// Submits one payload, once, and says what became of it. It takes no longer than `flush.timeout`.
    fn submit(&self, connection: Arc<Connection>, payload: Payload) -> impl Future<Output = Outcome> + Send;
}

impl Intake for HttpIntake {
    async fn submit(&self, connection: Arc<Connection>, payload: Payload) -> Outcome {
        self.post(&connection.site, &connection.api_key, payload).await
    }
}
