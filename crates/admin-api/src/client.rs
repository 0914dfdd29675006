//! Asks an admin port, near or far.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_client::{Proxies, read_up_to};
use reqwest::{StatusCode, Url, redirect, retry};
use serde::de::DeserializeOwned;

use crate::format::harmless;
use crate::{History, HistoryObject, HistoryQuery, SearchAnswer, Status};

/// Bytes of an answer; with 500 connections it has half a million.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// How long a reason may be; a longer one is none of a forwarder's, and is left out.
const REASON_BYTES_MAX: usize = 8 << 10;

/// Why there is no answer, in one line that names the path. A terminal obeys no character of it, whoever answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(String);

impl ClientError {
    /// An error with this text.
    #[expect(clippy::needless_pass_by_value, reason = "it is made for this error")]
    pub fn new(reason: String) -> Self {
        Self(harmless(&reason))
    }
}

/// A client of one admin port.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    timeout: Duration,
}

impl Client {
    /// The admin port at `url`, each of whose answers may take `timeout`. It is asked through the proxy that the
    /// environment names, unless it is on loopback.
    ///
    /// # Errors
    /// When `url` is not a URL, a proxy can't be used, or the system has no root certificates for one of both that begins
    /// with `https`.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, ClientError> {
        let wrong = |reason: &dyn ToString| ClientError::new(format!("{url}: {}", reason.to_string()));
        let mut parsed = Url::parse(url).map_err(|error| {
            wrong(&format!("{error}; it is the admin port's address, like http://127.0.0.1:8081"))
        })?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(wrong(&"it begins with http:// or https://"));
        }
        // What is joined to a path takes the place of what follows its last slash.
        if !parsed.path().ends_with('/') {
            parsed.set_path(&format!("{}/", parsed.path()));
        }
        let proxies = Proxies::towards(&parsed).map_err(|error| wrong(&error))?;
        Self::build(parsed, timeout, &proxies).map_err(|error| wrong(&last_cause(&error)))
    }

    /// The admin port that listens on `address` on this machine: one on all addresses is asked on loopback. Never
    /// through a proxy.
    ///
    /// # Errors
    /// None is known.
    pub fn local(address: SocketAddr, timeout: Duration) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::new(format!("{address}: {reason}"));
        let url = Url::parse(&format!("http://{}", reachable(address)))
            .map_err(|error| wrong(error.to_string()))?;
        Self::build(url, timeout, &Proxies::default()).map_err(|error| wrong(last_cause(&error)))
    }

    fn build(url: Url, timeout: Duration, proxies: &Proxies) -> reqwest::Result<Self> {
        // Any provider that was installed before is as good.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(redirect::Policy::none())
            .retry(retry::never());
        let mut http = proxies.apply(http)?;
        if url.scheme() == "http" && !proxies.use_tls() {
            // Without TLS there is no need to read the system's certificates, or to have any.
            http = http.tls_certs_only([]);
        }
        Ok(Self { http: http.build()?, url, timeout })
    }

    /// Where it is asked, without user, password and query.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = self.url.clone();
        // Neither can fail: it has a host.
        let _bare = url.set_username("").and_then(|()| url.set_password(None));
        url.set_query(None);
        harmless(url.as_str().trim_end_matches('/'))
    }

    /// Asks a path of health, like `/readyz`.
    ///
    /// # Errors
    /// What stood in the way, or what the port said if that was not 200.
    pub async fn health(&self, path: &str) -> Result<(), ClientError> {
        self.get(path, &[]).await.map(drop)
    }

    /// Asks for `/status`, with all connections.
    ///
    /// # Errors
    /// As for [`Client::health`], or when the answer is not a forwarder's.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.json("/status", &[("connections", "all".to_owned())]).await
    }

    /// Searches for the words of `query`; its days are those of a time zone with an IANA name, or of UTC.
    ///
    /// # Errors
    /// As for [`Client::status`]; the port's own sentence, where it does not know the time zone.
    pub async fn search(&self, query: &str, time_zone: Option<&str>) -> Result<SearchAnswer, ClientError> {
        let time_zone = time_zone.map(|zone| ("time_zone", zone.to_owned()));
        let parameters: Vec<_> = [("q", query.to_owned())].into_iter().chain(time_zone).collect();
        self.json("/search", &parameters).await
    }

    /// Asks what was sent on which day. One answer may not be all: see [`History::next`].
    ///
    /// # Errors
    /// As for [`Client::status`]; the port's own sentence, where it keeps no history or does not understand a day or a time zone.
    pub async fn history(&self, query: &HistoryQuery) -> Result<History, ClientError> {
        self.json("/history", &query.parameters()).await
    }

    /// Asks for all pages of the history, however many, and gives each object to `take`. What is returned is the last
    /// page, without objects.
    ///
    /// # Errors
    /// As for [`Client::history`], when there are more than `pages_max` pages, or when they go round in circles.
    pub async fn whole_history(
        &self,
        mut query: HistoryQuery,
        pages_max: usize,
        mut take: impl FnMut(HistoryObject) -> Result<(), ClientError>,
    ) -> Result<History, ClientError> {
        for _ in 0..pages_max {
            let mut page = self.history(&query).await?;
            let is_empty = page.objects.is_empty();
            page.objects.drain(..).try_for_each(&mut take)?;
            if page.next.is_none() {
                return Ok(page);
            }
            if is_empty || page.next == query.after {
                return Err(ClientError::new(
                    "/history: its pages do not end; is this a forwarder?".to_owned(),
                ));
            }
            query.after = page.next;
        }
        Err(ClientError::new(format!("/history: there are more than {pages_max} pages")))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let body = self.get(path, query).await?;
        serde_json::from_slice(&body).map_err(|error| {
            ClientError::new(format!(
                "{path} is not what a forwarder says ({error}); is this its admin port?"
            ))
        })
    }

    async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Vec<u8>, ClientError> {
        // Below the path of a proxy, the port's own paths are below it too.
        let mut url = self
            .url
            .join(path.trim_start_matches('/'))
            .map_err(|error| ClientError::new(format!("{path}: {error}")))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let failed = |error| ClientError::new(format!("{path}: {}", self.reason(&error)));
        let mut answer = self.http.get(url).send().await.map_err(failed)?;
        let (status, mut body) = (answer.status(), Vec::new());
        if status != StatusCode::OK {
            if !read_up_to(&mut answer, &mut body, REASON_BYTES_MAX).await.map_err(failed)? {
                body.clear();
            }
            let reason = String::from_utf8_lossy(&body);
            // A proxy's page has many lines.
            let words: Vec<&str> = reason.split_whitespace().collect();
            let reason = format!("{path}: status {} {}", status.as_u16(), words.join(" "));
            return Err(ClientError::new(reason.trim_end().to_owned()));
        }
        if read_up_to(&mut answer, &mut body, ANSWER_BYTES_MAX).await.map_err(failed)? {
            return Ok(body);
        }
        Err(ClientError::new(format!("{path}: the answer has more than {} MiB", ANSWER_BYTES_MAX >> 20)))
    }

    fn reason(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {:?}", self.timeout);
        }
        let cause = last_cause(error);
        if error.is_connect() { format!("{cause}; does braze-datadog run?") } else { cause }
    }
}

/// The address under which this machine reaches a port: loopback for one on all addresses.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The last cause, which says most in one line.
fn last_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// What a client hears from a port that answers with these bytes.
    async fn heard(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::local(listener.local_addr().unwrap(), LONG).unwrap();
        let mut port = JoinSet::new();
        port.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(answer).await.unwrap();
        });
        client.health("/readyz").await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_200_is_well() {
        assert_eq!(heard(b"HTTP/1.0 200 OK\r\n\r\nok\n").await, Ok(()));
        assert_eq!(heard(b"HTTP/1.1 200 OK\r\n\r\n").await, Ok(()));
        let full = heard(b"HTTP/1.0 503 Service Unavailable\r\na: b\r\n\r\nthe queue is full\n").await;
        assert_eq!(full, Err("/readyz: status 503 the queue is full".into()));
        assert_eq!(heard(b"HTTP/1.0 404 Not Found\r\n\r\n").await, Err("/readyz: status 404".into()));
        let steered =
            heard("HTTP/1.0 500 x\r\n\r\n\u{1b}]0;gone\u{7}\u{1b}[2J\n\u{9b}31m é\n".as_bytes()).await;
        let shown = "\u{fffd}]0;gone\u{fffd}\u{fffd}[2J \u{fffd}31m é";
        assert_eq!(steered, Err(format!("/readyz: status 500 {shown}")), "a terminal would obey it");
        for strange in [&b""[..], b"HTTP/1.", b"HTTP/1.0", b"SSH-2.0-OpenSSH", b"HTTP/1.\xff\xff\xff\xff"] {
            assert!(heard(strange).await.is_err());
        }
    }

    /// What is taken of a history whose pages are these, one for each request, and what was asked for.
    async fn pages_of(pages: &'static [&'static str], pages_max: usize) -> (Result<String, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::local(listener.local_addr().unwrap(), LONG).unwrap();
        let mut port = JoinSet::new();
        port.spawn(async move {
            let mut asked = String::new();
            for page in pages {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = socket.read(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request[..length]).into_owned();
                asked.push_str(text.lines().next().unwrap());
                let head = format!("HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
                socket.write_all(head.as_bytes()).await.unwrap();
            }
            asked
        });
        let mut ids = String::new();
        let query = HistoryQuery { from: Some("2026-11-20".into()), ..Default::default() };
        let whole = client.whole_history(query, pages_max, |object| {
            ids.push_str(&object.id);
            Ok(())
        });
        let ended = whole.await.map(drop).map_err(|error| error.to_string());
        (ended.map(|()| ids), port.join_next().await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_history_is_read_page_by_page_within_a_bound() {
        const FIRST: &str = r#"{"objects":[{"id":"a"},{"id":"b"}],"next":"b&c"}"#;
        let (ids, asked) = pages_of(&[FIRST, r#"{"objects":[{"id":"c"}]}"#], 2).await;
        assert_eq!(ids, Ok("abc".to_owned()));
        assert!(asked.contains("from=2026-11-20") && asked.contains("after=b%26c"), "{asked}");
        let (ended, _) = pages_of(&[FIRST, FIRST], 9).await;
        assert!(ended.unwrap_err().contains("do not end"));
        let (ended, _) = pages_of(&[r#"{"next":"x"}"#], 9).await;
        assert!(ended.unwrap_err().contains("do not end"));
        let (ended, _) = pages_of(&[FIRST], 1).await;
        assert!(ended.unwrap_err().contains("more than 1 pages"));
        let (ended, _) = pages_of(&[r#"{"objects":[{"kind":"\u001b[2J"}]}"#], 1).await;
        let reason = ended.unwrap_err();
        assert!(reason.contains("\u{fffd}[2J") && !reason.contains('\u{1b}'), "{reason:?}");
    }

    /// Answers one request, and gives what was asked.
    fn port_that_answers(listener: TcpListener, answer: &'static str) -> JoinSet<String> {
        let mut port = JoinSet::new();
        port.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = socket.read(&mut request).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        port
    }

    #[tokio::test]
    async fn a_search_names_the_time_zone_of_its_days() {
        for (time_zone, asked) in [
            (Some("Europe/Paris"), "GET /search?q=weekly+news&time_zone=Europe%2FParis "),
            (None, "GET /search?q=weekly+news "),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = Client::local(listener.local_addr().unwrap(), LONG).unwrap();
            let port = port_that_answers(listener, "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}");
            client.search("weekly news", time_zone).await.unwrap();
            let request = port.join_all().await.remove(0);
            assert!(request.starts_with(asked), "{request}");
        }
    }

    #[test]
    fn a_port_on_all_addresses_is_asked_on_loopback() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:81"), "127.0.0.1:81");
        assert_eq!(reached("[::]:81"), "[::1]:81");
        assert_eq!(reached("10.0.0.1:81"), "10.0.0.1:81");
    }

    #[tokio::test]
    async fn a_port_that_is_closed_or_silent_is_an_error_in_bounded_time() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let ask = |timeout| async move { Client::local(address, timeout).unwrap().health("/readyz").await };
        let error = ask(Duration::from_millis(50)).await.unwrap_err().to_string();
        assert_eq!(error, "/readyz: no answer within 50ms");
        drop(silent);
        let error = ask(LONG).await.unwrap_err().to_string();
        assert!(error.ends_with("does braze-datadog run?"), "{error}");
    }

    #[tokio::test]
    async fn below_a_path_with_and_without_a_slash_at_its_end_the_port_is_asked() {
        for (path, asked) in
            [("", "/readyz"), ("/", "/readyz"), ("/a/b", "/a/b/readyz"), ("/a/b/", "/a/b/readyz")]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}{path}", listener.local_addr().unwrap());
            let port = port_that_answers(listener, "HTTP/1.0 200 OK\r\n\r\n");
            Client::new(&url, LONG).unwrap().health("/readyz").await.unwrap();
            let request = port.join_all().await.remove(0);
            assert!(request.starts_with(&format!("GET {asked} HTTP/1.1")), "{request}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_port_is_refused() {
        for (url, reason) in [("8081", "the admin port's address"), ("ftp://x", "it begins with http://")] {
            let error = Client::new(url, LONG).unwrap_err().to_string();
            assert!(error.starts_with(url) && error.contains(reason), "{error}");
        }
        assert!(Client::new("http://[::1]:8081", LONG).is_ok());
    }
}
