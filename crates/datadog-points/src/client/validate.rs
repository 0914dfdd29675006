//! Asks Datadog whether a key is valid.

use std::time::Duration;

use reqwest::header::HeaderValue;

use super::answer::ANSWER_BYTES_MAX;
use super::{HttpError, Network};
use crate::ApiKey;
use crate::outcome::blames_proxy;
use crate::site::Site;
use crate::validity::{VALIDATE_PATH, Validity, judge};

/// How long one question may take, whatever `flush.timeout` is: nothing waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The client that asks about keys. It shares no connections with the one that submits points, and keeps none: the
/// next question comes in an hour.
#[derive(Debug, Clone)]
pub struct KeyValidator {
    client: reqwest::Client,
    network: Network,
}

impl KeyValidator {
    /// A client of its own.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(network: &Network) -> Result<Self, HttpError> {
        Ok(Self { client: network.client(TIMEOUT, Duration::ZERO, 0)?, network: network.clone() })
    }

    /// Asks once; it takes ten seconds at most. The result holds neither the key nor any part of an answer.
    pub async fn ask(&self, site: &Site, key: &ApiKey) -> Validity {
        let Ok(mut value) = HeaderValue::from_str(key.expose()) else {
            return Validity::Unknown(
                "the key can't be sent in a header; is it the key and nothing else?".into(),
            );
        };
        value.set_sensitive(true);
        if let Some(reason) = self.network.no_tls(&site.base_url) {
            return Validity::Unknown(reason);
        }
        let request = self
            .client
            .get(format!("{}{VALIDATE_PATH}", site.base_url))
            .header("DD-API-KEY", value)
            .header("Accept", "application/json")
            .timeout(TIMEOUT);
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return self.unreachable(site, &error),
        };
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while body.len() < ANSWER_BYTES_MAX {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - body.len())]);
                }
                Ok(None) => break,
                Err(error) => return self.unreachable(site, &error),
            }
        }
        judge(status, &body)
    }

    /// No answer came. The advice depends on how far the request got.
    fn unreachable(&self, site: &Site, error: &reqwest::Error) -> Validity {
        let url = &site.base_url;
        if error.is_timeout() {
            let seconds = TIMEOUT.as_secs();
            return Validity::Unknown(format!(
                "no answer from {url} within {seconds} s; does a firewall stop it, or is a proxy needed (HTTPS_PROXY)?"
            ));
        }
        let sentence = self.network.sentence(url, error);
        if blames_proxy(&sentence) {
            return Validity::Unknown(format!("no answer from {url}: {sentence}"));
        }
        let hint = if sentence.contains("certificate") {
            "does a proxy open TLS on the way? then its root certificate has to be in SSL_CERT_FILE"
        } else {
            "is the network reachable from here, or is a proxy needed (HTTPS_PROXY)?"
        };
        Validity::Unknown(format!("no answer from {url}: {sentence}; {hint}"))
    }
}
