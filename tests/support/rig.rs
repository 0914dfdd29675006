//! The rig of the integration tests: a Datadog intake on the loopback, the real binary, and events with
//! their truth. A test takes it in with `#[path = "../support/rig.rs"] mod support;` (there is no `mod.rs`
//! in this house).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(dead_code, reason = "each test is a crate of its own and uses a part of the rig; see NEVER_USED")]

pub(crate) mod analytics;
pub(crate) mod braze;
pub(crate) mod children;
pub(crate) mod events;
pub(crate) mod fetched;
pub(crate) mod forwarder;
pub(crate) mod intake;
pub(crate) mod loopback;
pub(crate) mod metrics;
pub(crate) mod ports;

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Keeps the expectation of dead code true even for a test that uses all of the rig.
const NEVER_USED: () = ();

/// How long a test waits for something that should happen at once, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The API key of a test that needs but one.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Unix seconds.
#[expect(clippy::disallowed_methods, reason = "the rig stands for the world outside, which has a clock")]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A body as gzip has it.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// An HTTP client that follows no redirect and uses no proxy. `certificate` (PEM) is trusted, and nothing
/// else is.
pub(crate) fn client(certificate: Option<&str>) -> reqwest::Client {
    // A second installation in this process fails, and that is fine: it is the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let trusted = certificate.map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    reqwest::Client::builder()
        .tls_certs_only(trusted)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// Asks `ready` every few milliseconds until it says `Some`, and stops the test when it does not.
pub(crate) async fn eventually<T>(what: &str, mut ready: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < give_up, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
