//! The settings that all clients towards Datadog share: look-ups of names, proxies, and the roots of TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::outcome::PROXY;
use http_client::{Proxies, ProxyError, Resolver, client_builder, is_of_proxy, sentence};

/// The advice where there are no root certificates.
const CERTIFICATES: &str = "are the system's root certificates installed (ca-certificates), or is SSL_CERT_FILE set to a bundle of them?";

/// How long a connection may be silent before its peer is probed, so that a dead one is noticed, and address translation on
/// the way does not forget an idle one.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The interval of further probes, and how many there are.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// TLS could not be set up.
    #[error("the HTTP client could not be made: {0}; {CERTIFICATES}")]
    Client(String),
    /// A proxy of the environment can't be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The system gives no thread to look names up on.
    #[error(
        "no thread could be started to look up names: {0}; is there a limit on threads (pids.max, ulimit -u)?"
    )]
    Thread(io::Error),
}

/// Settings that the clients share.
#[derive(Debug, Clone)]
pub struct Network {
    resolver: Arc<Resolver>,
    proxies: Proxies,
    tls: ClientConfig,
    /// Why there are no root certificates.
    no_roots: Option<Arc<str>>,
    user_agent: &'static str,
}

impl Network {
    /// The system's names and root certificates, and the environment's proxies. Missing root certificates are an error only
    /// if TLS `is_needed`.
    ///
    /// # Errors
    /// When one of them can't be used, or the system gives no thread.
    pub fn start(user_agent: &'static str, is_needed: bool) -> Result<Self, HttpError> {
        let proxies = Proxies::from_environment()?;
        Self::new(user_agent, Resolver::start().map_err(HttpError::Thread)?, proxies, is_needed)
    }

    /// As [`Network::start`], with these names and proxies.
    ///
    /// # Errors
    /// When TLS `is_needed` and can't be used.
    pub fn new(
        user_agent: &'static str,
        resolver: Resolver,
        proxies: Proxies,
        is_needed: bool,
    ) -> Result<Self, HttpError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let error = |error: rustls::Error| HttpError::Client(error.to_string());
        let builder = || {
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()
        };
        let is_needed = is_needed || proxies.use_tls();
        let (tls, no_roots) = match builder().map_err(error)?.with_platform_verifier() {
            Ok(trusting) => (trusting.with_no_client_auth(), None),
            Err(reason) if is_needed => return Err(error(reason)),
            Err(reason) => {
                let nobody = builder().map_err(error)?.with_root_certificates(RootCertStore::empty());
                (nobody.with_no_client_auth(), Some(reason.to_string().into()))
            }
        };
        Ok(Self { resolver: Arc::new(resolver), proxies, tls, no_roots, user_agent })
    }

    /// Why nothing can be sent to `base_url`, if TLS prevents it.
    pub(super) fn no_tls(&self, base_url: &str) -> Option<String> {
        let reason = self.no_roots.as_deref().filter(|_| base_url.starts_with("https:"))?;
        Some(format!("TLS trusted nobody at the start: {reason}; {CERTIFICATES} Then restart."))
    }

    /// The variable that names the proxy for a URL, wherever that is reached directly.
    pub(super) fn proxy_variable(&self, base_url: &str) -> Option<&'static str> {
        self.proxies.variable(base_url)
    }

    /// Why there is no answer from `base_url`; whether a proxy is to blame is said first.
    pub(super) fn sentence(&self, base_url: &str, error: &reqwest::Error) -> String {
        match self.proxy_variable(base_url).filter(|_| is_of_proxy(base_url, error)) {
            Some(variable) => format!("{PROXY}{variable}): {}", sentence(error)),
            None => sentence(error),
        }
    }

    /// A client whose requests take `timeout` at most, with everything set that has a harmful default.
    pub(super) fn client(
        &self,
        timeout: Duration,
        idle_max: Duration,
        idle_connections_max: usize,
    ) -> Result<reqwest::Client, HttpError> {
        let error = |error: reqwest::Error| HttpError::Client(sentence(&error));
        client_builder(&self.resolver, &self.proxies, self.user_agent, timeout)
            .map_err(error)?
            .tls_backend_preconfigured(self.tls.clone())
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(None)
            .pool_idle_timeout(idle_max)
            .pool_max_idle_per_host(idle_connections_max)
            .build()
            .map_err(error)
    }
}
