//! The requests: a running forwarder's admin port, near or far.

use std::error::Error as _;
use std::time::Duration;

use reqwest::{Client, Url};
use serde::de::DeserializeOwned;

use super::told::{Search, Status};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Bytes of an answer; with 500 connections it has half a million.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Whom to ask.
#[derive(Debug, Clone)]
pub(super) struct Port {
    client: Client,
    url: Url,
}

impl Port {
    /// The admin port at `url`.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        // A second client in one process finds the provider installed, which is as good.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse(url).map_err(|error| {
            format!("--url {url}: {error}; it is the admin port's address, like http://127.0.0.1:8081")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("--url {url}: it begins with http:// or https://"));
        }
        let client = Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, url })
    }

    pub(super) async fn status(&self) -> Result<Status, String> {
        self.get("status", None).await
    }

    pub(super) async fn search(&self, query: &str) -> Result<Search, String> {
        self.get("search", Some(query)).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: Option<&str>) -> Result<T, String> {
        let mut url = self.url.join(path).map_err(|error| error.to_string())?;
        if let Some(query) = query {
            url.query_pairs_mut().append_pair("q", query);
        }
        let mut answer = self.client.get(url).send().await.map_err(|error| reason(&error))?;
        if !answer.status().is_success() {
            return Err(format!("/{path} answered {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| reason(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("/{path} answered more than {} MiB", ANSWER_BYTES_MAX >> 20));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| {
            format!("/{path} is not what a forwarder tells ({error}); is this its admin port?")
        })
    }
}

/// The last cause, which says most in one line.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("nothing within {TIMEOUT:?}");
    }
    let mut cause: &dyn std::error::Error = error;
    if let Some(source) = error.source() {
        cause = source;
    }
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
