//! Asks Braze's REST API what its dashboard counts: sends by day, of campaigns and of Canvas steps.
//!
//! ```
//! use std::io::{Read as _, Write as _};
//! use std::time::Duration;
//!
//! use braze_rest::{BrazeClient, RestKey};
//!
//! // Somebody who answers as Braze does.
//! let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let url = format!("http://{}", listener.local_addr()?);
//! let braze = std::thread::spawn(move || -> std::io::Result<()> {
//!     let (mut socket, _) = listener.accept()?;
//!     let _request = socket.read(&mut [0; 4096])?;
//!     let body = r#"{"message":"success","data":[{"time":"2026-11-20","messages":{"email":[{"sent":1200}]}}]}"#;
//!     write!(socket, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
//! });
//!
//! let client = BrazeClient::new(&url, RestKey::new("a-key")?, "example/1.0", Duration::from_secs(10))?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let days = runtime.block_on(client.campaign_series("8a3f", "2026-11-20T23:59:59+01:00", 1))?;
//! assert_eq!(days[0].sent.as_ref().map(|sent| sent["email"]), Some(Some(1200)));
//! # braze.join().map_err(|_| "the thread")??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod client;

use std::fmt;
use std::time::Duration;

pub use self::answer::{CampaignDay, CanvasDay, CanvasSeries, CanvasStep, ChannelSends, ListedObject};
pub use self::client::{BrazeClient, check_url};

/// Days that one request for a campaign may ask for. Source: Braze's API reference, `length`.
pub const CAMPAIGN_DAYS_MAX: u32 = 100;

/// Days that one request for a Canvas may ask for. Source: as above.
pub const CANVAS_DAYS_MAX: u32 = 14;

/// The endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// The sends of a campaign.
    CampaignSeries,
    /// The sends of a Canvas, by step.
    CanvasSeries,
    /// The campaigns of the key's workspace.
    CampaignList,
    /// The Canvases of the key's workspace.
    CanvasList,
}

impl Endpoint {
    /// The path below the base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Endpoint::CampaignSeries => "/campaigns/data_series",
            Endpoint::CanvasSeries => "/canvas/data_series",
            Endpoint::CampaignList => "/campaigns/list",
            Endpoint::CanvasList => "/canvas/list",
        }
    }

    /// The permission that the key needs, as Braze's dashboard names it.
    pub const fn permission(self) -> &'static str {
        match self {
            Endpoint::CampaignSeries => "campaigns.data_series",
            Endpoint::CanvasSeries => "canvas.data_series",
            Endpoint::CampaignList => "campaigns.list",
            Endpoint::CanvasList => "canvas.list",
        }
    }
}

/// A REST API key. It can't be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RestKey(Box<str>);

impl RestKey {
    /// The key, without white space around it.
    ///
    /// # Errors
    /// When it is empty, or holds a character that no key has.
    pub fn new(key: &str) -> Result<Self, SetupError> {
        let key = key.trim();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SetupError::Key);
        }
        Ok(Self(key.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestKey(…)")
    }
}

/// Why there is no client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The address can't be used.
    #[error(
        "is not the address of Braze's REST API: {0}; it looks like https://rest.fra-01.braze.eu (Braze's dashboard shows it under Settings, APIs and Identifiers)"
    )]
    Url(&'static str),
    /// The key can't be one.
    #[error("the REST API key is empty, or has characters in it that no key has")]
    Key,
    /// The system gives no threads for looking names up.
    #[error(
        "the threads that look up Braze's name can't be made: {0}; raise the limit of processes and threads"
    )]
    Threads(String),
    /// A proxy of the environment can't be used.
    #[error(transparent)]
    Proxy(http_client::ProxyError),
    /// TLS could not be set up.
    #[error(
        "the HTTP client towards Braze could not be made: {0}; are the system's root certificates installed (ca-certificates), or is SSL_CERT_FILE set to a bundle of them?"
    )]
    Client(String),
}

/// Why there is no answer that can be used. None of them holds the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// The key is not valid here, or may not call this endpoint.
    #[error(
        "Braze refuses the key for {} (status {status}{}): it needs the permission {}, and belongs to one workspace on one instance", .endpoint.path(), quoted(.said), .endpoint.permission()
    )]
    Refused {
        /// The endpoint.
        endpoint: Endpoint,
        /// 401 or 403.
        status: u16,
        /// Braze's message.
        said: String,
    },
    /// There is no such campaign or Canvas, or it has no analytics.
    #[error(
        "Braze does not know it (status {status}{}): is the id right, and the key one of its workspace?", quoted(.said)
    )]
    Unknown {
        /// 400 or 404.
        status: u16,
        /// Braze's message.
        said: String,
    },
    /// Too many requests.
    #[error("Braze's rate limit for {} is used up{}", .endpoint.path(), opens(*.opens_in))]
    RateLimited {
        /// The endpoint.
        endpoint: Endpoint,
        /// When it opens again, if Braze said so.
        opens_in: Option<Duration>,
    },
    /// Braze has failed, or is under maintenance.
    #[error("Braze could not answer {} (status {status})", .endpoint.path())]
    Failed {
        /// The endpoint.
        endpoint: Endpoint,
        /// A status of 500 or more.
        status: u16,
    },
    /// No answer came.
    #[error("no answer from Braze to {}: {reason}", .endpoint.path())]
    Unreachable {
        /// The endpoint.
        endpoint: Endpoint,
        /// The reason.
        reason: String,
    },
    /// The answer is not Braze's.
    #[error("what answered {} is not Braze's REST API ({reason}); is its address right?", .endpoint.path())]
    Foreign {
        /// The endpoint.
        endpoint: Endpoint,
        /// How that is known.
        reason: String,
    },
    /// Something is missing in the answer.
    #[error("Braze's answer to {} is not whole: {reason}", .endpoint.path())]
    Incomplete {
        /// The endpoint.
        endpoint: Endpoint,
        /// What is missing.
        reason: String,
    },
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", {said:?}") }
}

fn opens(within: Option<Duration>) -> String {
    match within.map(|within| within.as_secs().div_ceil(60)) {
        None => "; Braze does not say until when".to_owned(),
        Some(0 | 1) => "; ask again in a minute".to_owned(),
        Some(minutes) => format!("; ask again in {minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word_and_is_never_printed() {
        let key = RestKey::new(" s3cret\n").unwrap();
        assert_eq!(key.expose(), "s3cret");
        assert!(!format!("{key:?}").contains("s3cret"));
        for wrong in ["", " \n", "s3 cret", "clé", "a\u{1}b"] {
            let error = RestKey::new(wrong).unwrap_err().to_string();
            assert!(error.contains("REST API key") && !error.contains("cret"), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_permission_that_is_missing_and_when_to_come_back() {
        for endpoint in
            [Endpoint::CampaignSeries, Endpoint::CanvasSeries, Endpoint::CampaignList, Endpoint::CanvasList]
        {
            let error = RestError::Refused { endpoint, status: 401, said: "Invalid".into() }.to_string();
            assert!(error.contains(endpoint.permission()) && error.contains(endpoint.path()), "{error}");
            assert!(error.contains("401, \"Invalid\""), "{error}");
        }
        let limited = |opens_in| RestError::RateLimited { endpoint: Endpoint::CanvasSeries, opens_in };
        assert!(limited(Some(Duration::from_secs(1900))).to_string().ends_with("in 32 minutes"));
        assert!(limited(Some(Duration::from_secs(2))).to_string().ends_with("in a minute"));
        assert!(limited(None).to_string().contains("does not say"));
    }
}
