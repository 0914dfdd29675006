//! Distribution points for Datadog: tags and points become payloads within Datadog's limits, and each payload one request
//! with an outcome.
//!
//! Nothing is sent twice: points add up in Datadog, and there is no idempotency key.
//!
//! ```
//! use datadog_points::payload::{PayloadLimits, Metric, PayloadWriter};
//!
//! let mut payloads = Vec::new();
//! let mut writer = PayloadWriter::new(PayloadLimits::default());
//! let tags: [(&[u8], &[u8]); 1] = [(b"campaign_name:", b"Newsletter")];
//! writer.series(&Metric::new("messages.sent"), tags, [(1_800_000_000, 7)], 7, &mut |payload| payloads.push(payload));
//! writer.finish(&mut |payload| payloads.push(payload));
//! assert_eq!((payloads.len(), payloads[0].series, payloads[0].sends), (1, 1, 7));
//! // `datadog_points::client::HttpIntake::post` sends each of them once.
//! ```
//!
//! The feature `client` is for what sends them.

#[cfg(feature = "client")]
pub mod client;
pub mod normalize;
pub mod outcome;
pub mod payload;
mod series;
#[cfg(feature = "client")]
pub mod site;
#[cfg(feature = "client")]
pub mod validity;

use std::fmt;

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
