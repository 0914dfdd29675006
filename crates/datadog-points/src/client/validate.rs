//! Asks Datadog whether a key is valid.

use std::time::Duration;

use reqwest::header::HeaderValue;

use super::answer::{ANSWER_BYTES_MAX, coding};
use super::{HttpError, Network};
use crate::ApiKey;
use crate::outcome::blames_proxy;
use crate::site::Site;
use crate::validity::{VALIDATE_PATH, Validity, classify};

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
        let (status, coding) = (answer.status().as_u16(), coding(answer.headers()));
        let mut body = Vec::new();
        if let Err(error) = http_client::read_up_to(&mut answer, &mut body, ANSWER_BYTES_MAX).await {
            return self.unreachable(site, &error);
        }
        let validity = classify(status, &body);
        // Whose words these are can't be read: packed, a page that a proxy refuses with looks like Datadog's 403.
        let is_unread =
            matches!((status, &validity), (200, Validity::Unknown(_)) | (403, Validity::Invalid(_)));
        match coding.filter(|_| is_unread) {
            Some(coding) => Validity::Unknown(format!(
                "{status} with {coding}, which was not asked for; does a proxy answer?"
            )),
            None => validity,
        }
    }

    /// No answer came. The advice depends on how far the request got.
    fn unreachable(&self, site: &Site, error: &reqwest::Error) -> Validity {
        let url = &site.base_url;
        let way = self.network.proxy_variable(url).map_or_else(
            || "is a proxy needed (HTTPS_PROXY)".to_owned(),
            |variable| format!("is it the proxy that {variable} names"),
        );
        if error.is_timeout() {
            let seconds = TIMEOUT.as_secs();
            return Validity::Unknown(format!(
                "no answer from {url} within {seconds} s; does a firewall stop it, or {way}?"
            ));
        }
        let sentence = self.network.sentence(url, error);
        if blames_proxy(&sentence) {
            return Validity::Unknown(format!("no answer from {url}: {sentence}"));
        }
        let hint = if sentence.contains("certificate") {
            "does a proxy open TLS on the way? then its root certificate has to be in SSL_CERT_FILE"
                .to_owned()
        } else {
            format!("is the network reachable from here, or {way}?")
        };
        Validity::Unknown(format!("no answer from {url}: {sentence}; {hint}"))
    }
}

#[cfg(test)]
mod tests;
