//! Asks Datadog whether a key is valid.

use std::time::Duration;

use reqwest::header::HeaderValue;

use super::answer::{ANSWER_BYTES_MAX, coding};
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
        let (status, coding) = (answer.status().as_u16(), coding(answer.headers()));
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
        let validity = judge(status, &body);
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
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use dns_lookup::{Proxies, Resolver};

    /// What is said of a key on `site` by a client whose connections may take 300 ms.
    async fn asked(site: &str, variable: Option<(&str, &str)>) -> Validity {
        let named = |name: &str| variable.filter(|(known, _)| *known == name).map(|(_, url)| url.to_owned());
        let proxies = Proxies::from_variables(named).unwrap();
        let nobody = Resolver::start_with(|_: &str| Err(std::io::Error::other("no names"))).unwrap();
        let network = Network::new("test/1", nobody, proxies, false).unwrap();
        let client = network.client(Duration::from_millis(400), Duration::ZERO, 0).unwrap();
        let validator = KeyValidator { client, network };
        validator.ask(&Site::from_url(site).unwrap(), &ApiKey::new("k3y")).await
    }

    #[tokio::test]
    async fn a_proxy_that_does_not_answer_is_named() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        for scheme in ["http", "socks5h"] {
            let url = format!("{scheme}://{address}");
            let validity = asked("https://datadog.invalid", Some(("ALL_PROXY", &url))).await;
            let Validity::Unknown(said) = validity else { panic!("{validity:?}") };
            assert!(
                said.ends_with("does a firewall stop it, or is it the proxy that ALL_PROXY names?"),
                "{said}"
            );
        }
        // It leads on, to nobody who speaks TLS.
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", proxy.local_addr().unwrap());
        let mut leading = JoinSet::new();
        leading.spawn(async move {
            let (mut socket, _) = proxy.accept().await.unwrap();
            assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        });
        let validity = asked("https://datadog.invalid", Some(("HTTPS_PROXY", &url))).await;
        let Validity::Unknown(said) = validity else { panic!("{validity:?}") };
        assert!(said.ends_with("reachable from here, or is it the proxy that HTTPS_PROXY names?"), "{said}");
        let Validity::Unknown(said) = asked("http://127.0.0.1:1", None).await else { panic!() };
        assert!(said.ends_with("reachable from here, or is a proxy needed (HTTPS_PROXY)?"), "{said}");
    }

    /// What is said of a key where these bytes are answered, and the question.
    async fn answered(answer: &'static [u8]) -> (Validity, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap();
            socket.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (asked(&url, None).await, answering.join_next().await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn an_answer_in_a_coding_is_no_answer_of_datadogs() {
        for (answer, part) in [
            (
                &b"HTTP/1.1 403 No\r\ncontent-encoding: GZIP\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08"[..],
                "403 with Content-Encoding gzip, which was not asked for; does a proxy answer?",
            ),
            (
                b"HTTP/1.1 200 OK\r\ncontent-encoding: k3y\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08",
                "200 with a Content-Encoding, which was not asked for; does a proxy answer?",
            ),
        ] {
            let (validity, request) = answered(answer).await;
            assert_eq!(validity, Validity::Unknown(part.to_owned()));
            assert!(request.contains("accept-encoding: identity"), "{request}");
        }
        let plain =
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 14\r\n\r\n{\"valid\":true}";
        assert_eq!(answered(plain).await.0, Validity::Valid, "what can be read is");
        let refused = b"HTTP/1.1 403 No\r\ncontent-encoding: identity\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answered(refused).await.0, Validity::Invalid(403));
    }
}
