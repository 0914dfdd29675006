//! Senders that mean well, beside those that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{PATIENCE, eventually, unix_now};

/// Events of a batch, each of them a send.
pub(crate) const BATCH: u64 = 20;

/// The app group of the senders that mean well.
pub(crate) const APP_GROUP: &str = "good";

/// Two senders, one on a connection that it keeps, one on a new connection for each push.
pub(crate) struct Good {
    senders: JoinSet<()>,
    stop: Arc<AtomicBool>,
    delivered: Arc<AtomicU64>,
}

impl Good {
    /// Starts pushing to a URL. `certificates` (PEM) are trusted.
    pub(crate) fn start(url: &str, certificates: Option<&str>, token: &str) -> Self {
        let (stop, delivered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let marks = Arc::new(AtomicU64::new(0));
        let mut senders = JoinSet::new();
        for keeps_connection in [true, false] {
            let sender = Sender {
                client: client(certificates, keeps_connection),
                url: url.to_owned(),
                token: token.to_owned(),
                keeps_connection,
            };
            let (stop, delivered, marks) = (Arc::clone(&stop), Arc::clone(&delivered), Arc::clone(&marks));
            senders.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    sender.deliver(marks.fetch_add(1, Ordering::Relaxed)).await;
                    delivered.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        Self { senders, stop, delivered }
    }

    /// Waits until so many more batches were answered with 200: the senders are served.
    pub(crate) async fn more(&self, batches: u64) {
        let goal = self.delivered.load(Ordering::Relaxed) + batches;
        let served = async || (self.delivered.load(Ordering::Relaxed) >= goal).then_some(());
        eventually("well-behaved senders are served", served).await;
    }

    /// Ends; how many sends were pushed and answered with 200.
    pub(crate) async fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.senders.join_next().await {
            ended.unwrap();
        }
        self.delivered.load(Ordering::Relaxed) * BATCH
    }
}

struct Sender {
    client: reqwest::Client,
    url: String,
    token: String,
    keeps_connection: bool,
}

impl Sender {
    /// Every answer is 200. A new connection that breaks among thousands of others is tried again, as Braze does.
    async fn deliver(&self, mark: u64) {
        let give_up = Instant::now() + PATIENCE;
        let body = batch(mark);
        loop {
            let push = self.client.post(&self.url).bearer_auth(&self.token).body(body.clone());
            match push.send().await {
                Ok(answer) => {
                    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
                    return;
                }
                Err(error) => assert!(
                    !self.keeps_connection && !error.is_timeout() && Instant::now() < give_up,
                    "a well-behaved sender was not served: {error:?}"
                ),
            }
        }
    }
}

fn client(certificates: Option<&str>, keeps_connection: bool) -> reqwest::Client {
    // A second installation in this process fails, and that is fine: it is the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bundle = certificates.unwrap_or_default();
    let trusted = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only(trusted).no_proxy().timeout(PATIENCE);
    client.pool_max_idle_per_host(usize::from(keeps_connection)).build().unwrap()
}

fn batch(mark: u64) -> String {
    let time = unix_now();
    let event = |number| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("good-{mark}-{number}"),
            "time": time,
            "properties": { "app_group_id": APP_GROUP, "campaign_id": format!("good-{}", mark % 10) },
        })
    };
    json!({ "events": (0..BATCH).map(event).collect::<Vec<_>>() }).to_string()
}
