//! The HTTP client towards the registry.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Url};

use super::{Credentials, Settings};
use crate::dns::{Patient, Resolver};

/// How much of an answer is read. A schema of Braze's has 10 KB.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A registry is asked seldom; a connection is not kept for longer than any server keeps it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no client. It never repeats the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The URL can't be used.
    #[error("is not the base URL of a schema registry: {0}")]
    Url(&'static str),
    /// There are credentials in the URL, and others beside it.
    #[error("carries a user or a password, and credentials are given beside it: give one of them")]
    Credentials,
    /// They can't be put into a header.
    #[error("the schema registry's token has characters that can't be sent in a header")]
    Token,
    /// The system gives no threads for looking names up.
    #[error(
        "the threads that look up the schema registry's name can't be made: {0}; raise the limit of processes and threads"
    )]
    Threads(String),
    /// TLS could not be set up.
    #[error(
        "the schema registry's HTTP client could not be made: {0}; are the system's root certificates installed (ca-certificates), or is SSL_CERT_FILE set to a bundle of them?"
    )]
    Client(String),
}

/// A client that knows its base URL and who it is.
#[derive(Clone)]
pub(super) struct Http {
    client: reqwest::Client,
    /// With user and password, if it came with them: the client makes a header of them.
    base: Url,
    credentials: Credentials,
    address: Box<str>,
    timeout: Duration,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let base = parse(&settings.url)?;
        if has_user(&base) && settings.credentials != Credentials::FromUrl {
            return Err(SetupError::Credentials);
        }
        if let Credentials::Bearer(token) = &settings.credentials {
            HeaderValue::from_str(&token.0).map_err(|_| SetupError::Token)?;
        }
        // A second client in one process finds the provider installed, which is as good.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        // With threads of its own: where there is none left, a look-up by another would panic.
        let resolver = Resolver::start().map_err(|error| SetupError::Threads(error.to_string()))?;
        let names = Patient { resolver: Arc::new(resolver), wait_max: settings.timeout };
        let client = reqwest::Client::builder()
            .dns_resolver(names)
            .timeout(settings.timeout)
            .connect_timeout(settings.timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("braze-datadog/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SetupError::Client(sentence(&error)))?;
        let address = without_user(&base);
        let credentials = settings.credentials.clone();
        Ok(Self { client, base, credentials, address, timeout: settings.timeout })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_in_the_clear(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let has_credentials = has_user(&self.base) || self.credentials != Credentials::FromUrl;
        has_credentials && self.base.scheme() == "http" && !is_loopback
    }

    /// Status and body, or why there is none.
    pub(super) async fn get(&self, path: &[&str]) -> Result<(u16, Vec<u8>), String> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request =
            self.client.get(url).header(ACCEPT, "application/vnd.schemaregistry.v1+json, application/json");
        let mut answer = self.authorized(request).send().await.map_err(|error| self.told(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.told(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((answer.status().as_u16(), body))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Credentials::FromUrl => request,
            Credentials::Basic { user, password } => request.basic_auth(user, Some(&password.0)),
            Credentials::Bearer(token) => match HeaderValue::from_str(&format!("Bearer {}", token.0)) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    request.header(AUTHORIZATION, value)
                }
                // Checked at the start.
                Err(_) => request,
            },
        }
    }

    fn told(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() { format!("no answer within {:?}", self.timeout) } else { sentence(error) }
    }
}

fn parse(text: &str) -> Result<Url, SetupError> {
    let url = Url::parse(text.trim())
        .map_err(|_| SetupError::Url("it has to look like https://registry.example:8081"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SetupError::Url("it has to begin with https:// (or http://)"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(SetupError::Url("it has a query or a fragment"));
    }
    Ok(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Scheme, host, port and path.
fn without_user(url: &Url) -> Box<str> {
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{host}{port}{}", url.path().trim_end_matches('/')).into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::kafka::registry::Secret;

    fn http(url: &str) -> Result<Http, SetupError> {
        Http::new(&Settings::new(url))
    }

    #[test]
    fn an_address_is_shown_without_credentials() {
        for (url, address) in [
            ("https://registry.example", "https://registry.example"),
            ("http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
            (
                "https://key:s3cret@registry.example:8443/apis/ccompat/v7/",
                "https://registry.example:8443/apis/ccompat/v7",
            ),
        ] {
            let http = http(url).unwrap();
            assert_eq!(http.address(), address);
            assert!(!format!("{http:?}{:?}", Settings::new(url)).contains("s3cret"));
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_it() {
        for url in
            ["", "registry:8081", "ftp://secret.example", "https://secret.example/?a", "https://", "/x"]
        {
            let error = http(url).unwrap_err();
            assert!(matches!(error, SetupError::Url(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn credentials_come_from_one_place_and_can_be_sent() {
        let with = |url: &str, credentials| Http::new(&Settings { credentials, ..Settings::new(url) });
        let basic = Credentials::Basic { user: "key".into(), password: Secret::new("s3cret") };
        assert_eq!(with("https://a@registry.example", basic).unwrap_err(), SetupError::Credentials);
        let bad = Credentials::Bearer(Secret::new("a\nb"));
        assert_eq!(with("https://registry.example", bad).unwrap_err(), SetupError::Token);
    }

    #[test]
    fn credentials_over_plain_http_to_another_machine_are_in_the_clear() {
        for (url, is_in_the_clear) in [
            ("http://key:secret@registry.example", true),
            ("http://registry.example", false),
            ("https://key:secret@registry.example", false),
            ("http://key:secret@localhost:8081", false),
            ("http://key:secret@127.0.0.1:8081", false),
            ("http://key:secret@[::1]:8081", false),
        ] {
            assert_eq!(http(url).unwrap().is_in_the_clear(), is_in_the_clear, "{url}");
        }
    }
}
