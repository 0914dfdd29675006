//! The client: one call, one request.

mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_client::{
    Proxies, Resolver, client_builder, connect_timeout, is_loopback, is_of_proxy, read_up_to, sentence,
};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use crate::answer::{self, CampaignDay, CanvasSeries, ListedObject};
use crate::{Endpoint, RestError, RestKey, SetupError};

/// Bytes of an answer: 100 days of a campaign with all of its channels and variations have two million.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Letters of a reason, with what Braze has said in it.
const REASON_LENGTH_MAX: usize = 300;

/// For how long an idle connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// Asks one instance of Braze with one key.
#[derive(Clone)]
pub struct BrazeClient {
    http: reqwest::Client,
    base: Url,
    proxies: Proxies,
    key: RestKey,
    timeout: Duration,
}

impl fmt::Debug for BrazeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrazeClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl BrazeClient {
    /// A client of the instance at `url`, each of whose answers may take `timeout`. It is asked through the proxy that
    /// the environment names, unless it is on loopback. Nothing is opened yet.
    ///
    /// # Errors
    /// When the address, the key or a proxy can't be used, or TLS can't be set up.
    pub fn new(url: &str, key: RestKey, user_agent: &str, timeout: Duration) -> Result<Self, SetupError> {
        let base = parse(url)?;
        let proxies = Proxies::towards(&base).map_err(SetupError::Proxy)?;
        Self::through(proxies, base, key, user_agent, timeout)
    }

    fn through(
        proxies: Proxies,
        base: Url,
        key: RestKey,
        user_agent: &str,
        timeout: Duration,
    ) -> Result<Self, SetupError> {
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|_| SetupError::Key)?;
        authorization.set_sensitive(true);
        let accepted = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization), (ACCEPT, accepted)]);
        // With threads of its own: where there is none left, a look-up by another would panic.
        let resolver = Resolver::start().map_err(|error| SetupError::Threads(error.to_string()))?;
        let client = |error: reqwest::Error| SetupError::Client(sentence(&error));
        let mut http = client_builder(&Arc::new(resolver), &proxies, user_agent, timeout)
            .map_err(client)?
            .default_headers(headers)
            .timeout(timeout)
            .pool_idle_timeout(IDLE_MAX);
        if base.scheme() == "http" {
            // Without TLS there is no need to read the system's certificates, or to have any.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(client)?;
        Ok(Self { http, base, proxies, key, timeout })
    }

    /// The sends of a campaign on the `days` that end at `ending_at` (ISO 8601, with its offset); 1 to
    /// [`crate::CAMPAIGN_DAYS_MAX`].
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn campaign_series(
        &self,
        campaign_id: &str,
        ending_at: &str,
        days: u32,
    ) -> Result<Vec<CampaignDay>, RestError> {
        let length = days.to_string();
        let query = [("campaign_id", campaign_id), ("length", &length), ("ending_at", ending_at)];
        let body = self.get(Endpoint::CampaignSeries, &query).await?;
        self.without_key(answer::campaign_series(&body))
    }

    /// The sends of a Canvas by step, deleted steps included; 1 to [`crate::CANVAS_DAYS_MAX`] days.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn canvas_series(
        &self,
        canvas_id: &str,
        ending_at: &str,
        days: u32,
    ) -> Result<CanvasSeries, RestError> {
        let length = days.to_string();
        let query = [
            ("canvas_id", canvas_id),
            ("length", &*length),
            ("ending_at", ending_at),
            ("include_step_breakdown", "true"),
            ("include_deleted_step_data", "true"),
        ];
        let body = self.get(Endpoint::CanvasSeries, &query).await?;
        self.without_key(answer::canvas_series(&body))
    }

    /// One page of the campaigns of the key's workspace, archived ones among them; pages count from 0, and the first empty
    /// one is the end.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn campaigns(&self, page: u32) -> Result<Vec<ListedObject>, RestError> {
        self.list(Endpoint::CampaignList, page).await
    }

    /// As [`BrazeClient::campaigns`], for Canvases.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn canvases(&self, page: u32) -> Result<Vec<ListedObject>, RestError> {
        self.list(Endpoint::CanvasList, page).await
    }

    async fn list(&self, endpoint: Endpoint, page: u32) -> Result<Vec<ListedObject>, RestError> {
        let page = page.to_string();
        let body = self.get(endpoint, &[("page", &page), ("include_archived", "true")]).await?;
        self.without_key(answer::list(endpoint, &body))
    }

    /// The body of an answer with status 200.
    async fn get(&self, endpoint: Endpoint, query: &[(&str, &str)]) -> Result<Vec<u8>, RestError> {
        let unreachable = |reason| RestError::Unreachable { endpoint, reason };
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(endpoint.path().trim_start_matches('/').split('/'));
        }
        url.query_pairs_mut().extend_pairs(query);
        let mut answer = self.http.get(url).send().await.map_err(|error| unreachable(self.reason(&error)))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let mut body = Vec::new();
        match read_up_to(&mut answer, &mut body, ANSWER_BYTES_MAX).await {
            Ok(true) => {}
            Ok(false) => {
                let reason = format!("it has more than {} MiB", ANSWER_BYTES_MAX >> 20);
                return Err(RestError::Incomplete { endpoint, reason });
            }
            // The status explains it already.
            Err(_) if status != 200 => {}
            Err(error) => {
                let reason = format!("it broke off ({})", self.reason(&error));
                return Err(RestError::Incomplete { endpoint, reason });
            }
        }
        match status::error(endpoint, status, &headers, &body) {
            None => Ok(body),
            Some(error) => self.without_key(Err(error)),
        }
    }

    /// Why there is no answer; whether a proxy is to blame is said first.
    fn reason(&self, error: &reqwest::Error) -> String {
        let base = self.base.as_str();
        match self.proxies.variable(base) {
            Some(variable) if is_of_proxy(base, error) => {
                format!("the proxy ({variable}): {}", sentence(error))
            }
            Some(variable) if error.is_timeout() && error.is_connect() => {
                let within = connect_timeout(self.timeout);
                format!(
                    "no connection within {within:?} (firewall, or is it the proxy that {variable} names?)"
                )
            }
            _ if error.is_timeout() => format!("none within {:?}", self.timeout),
            _ => sentence(error),
        }
    }

    /// Overwrites the key wherever Braze repeats it (it does so with a key that it does not know), and then shortens what is
    /// long.
    fn without_key<T>(&self, answer: Result<T, RestError>) -> Result<T, RestError> {
        let told = |text: String| shortened(&text.replace(self.key.expose(), "***"));
        answer.map_err(|error| match error {
            RestError::Refused { endpoint, status, said } => {
                RestError::Refused { endpoint, status, said: told(said) }
            }
            RestError::Unknown { status, said } => RestError::Unknown { status, said: told(said) },
            RestError::Unreachable { endpoint, reason } => {
                RestError::Unreachable { endpoint, reason: told(reason) }
            }
            RestError::Foreign { endpoint, reason } => RestError::Foreign { endpoint, reason: told(reason) },
            RestError::Incomplete { endpoint, reason } => {
                RestError::Incomplete { endpoint, reason: told(reason) }
            }
            RestError::RateLimited { .. } | RestError::Failed { .. } => error,
        })
    }
}

fn shortened(text: &str) -> String {
    let mut letters = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut short: String = letters.by_ref().take(REASON_LENGTH_MAX).collect();
    if letters.next().is_some() {
        short.push('…');
    }
    short
}

/// Whether this can be the address of Braze's REST API.
///
/// # Errors
/// Why it can't; the message does not repeat it, for it may hold a password.
pub fn check_url(text: &str) -> Result<(), SetupError> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Url, SetupError> {
    let url = Url::parse(text.trim()).map_err(|_| SetupError::Url("it is no URL"))?;
    let host = url.host_str().unwrap_or_default();
    let reason = match url.scheme() {
        "https" | "http" if host.starts_with("dashboard") => "that is the dashboard's",
        "https" | "http" if !url.username().is_empty() || url.password().is_some() => {
            "it carries a user or a password"
        }
        "https" | "http" if url.query().is_some() || url.fragment().is_some() => {
            "it has a query or a fragment"
        }
        "https" => return Ok(url),
        "http" if is_loopback(url.host_str().unwrap_or_default()) => return Ok(url),
        "http" => "it would carry the key unencrypted; write https://",
        _ => "it has to begin with https://",
    };
    Err(SetupError::Url(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    const KEY: &str = "planted-7c1e";

    fn client(url: &str, timeout: Duration) -> Result<BrazeClient, SetupError> {
        BrazeClient::new(url, RestKey::new(KEY).unwrap(), "test/1", timeout)
    }

    /// What is said where a proxy does this with the connection that it is asked for. Names are the proxy's matter.
    async fn asked_through(variable: &str, answer: Option<&'static [u8]>) -> String {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://u:hidden@{}", proxy.local_addr().unwrap());
        let proxies = Proxies::from_variables(|name| (name == variable).then(|| url.clone())).unwrap();
        let base = parse("https://braze.invalid").unwrap();
        let key = RestKey::new(KEY).unwrap();
        let client = BrazeClient::through(proxies, base, key, "test/1", Duration::from_secs(1)).unwrap();
        let mut answering = JoinSet::new();
        answering.spawn(async move {
            let (mut socket, _) = proxy.accept().await.unwrap();
            assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
            match answer {
                Some(bytes) => socket.write_all(bytes).await.unwrap(),
                None => tokio::time::sleep(Duration::from_secs(5)).await,
            }
        });
        client.campaigns(0).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_fails_at_a_proxy_is_told_as_the_proxys() {
        let start = "no answer from Braze to /campaigns/list: ";
        for answer in [&b"HTTP/1.1 407 No\r\n\r\n"[..], b"HTTP/1.1 503 No\r\n\r\n", b""] {
            let said = asked_through("HTTPS_PROXY", Some(answer)).await;
            assert!(
                said.starts_with(&format!("{start}the proxy (HTTPS_PROXY): connecting failed")),
                "{said}"
            );
        }
        let silent = asked_through("ALL_PROXY", None).await;
        let expected = "no connection within 750ms (firewall, or is it the proxy that ALL_PROXY names?)";
        assert_eq!(silent, format!("{start}{expected}"));
    }

    /// What comes of a question that is answered with these bytes, and the question.
    async fn asked(answer: &'static str) -> (Result<Vec<CampaignDay>, RestError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/proxy/", listener.local_addr().unwrap());
        let client = client(&url, Duration::from_millis(500)).unwrap();
        let mut braze = JoinSet::new();
        braze.spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let came = client.campaign_series("a b&c", "2026-11-20T23:59:59+01:00", 7).await;
        (came, braze.join_next().await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn a_question_carries_the_key_in_a_header_and_its_parameters_in_the_query() {
        let (days, request) =
            asked("HTTP/1.1 200 OK\r\ncontent-length: 31\r\n\r\n{\"message\":\"success\",\"data\":[]}").await;
        assert_eq!(days, Ok(Vec::new()));
        let first = request.lines().next().unwrap();
        assert_eq!(
            first,
            "GET /proxy/campaigns/data_series?campaign_id=a+b%26c&length=7&ending_at=2026-11-20T23%3A59%3A59%2B01%3A00 HTTP/1.1"
        );
        assert!(request.contains(&format!("authorization: Bearer {KEY}")), "{request}");
        assert!(request.contains("accept-encoding: identity"), "{request}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_apart_and_never_with_the_key() {
        for (answer, part) in [
            ("", "no answer from Braze to /campaigns/data_series: none within 500ms"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"message\":", "broke off"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"message\":1", "can't be read"),
            (
                "HTTP/1.1 401 Unauthorized\r\ncontent-length: 44\r\n\r\n{\"message\":\"Invalid API key: planted-7c1e\"}  ",
                "\"Invalid API key: ***\"",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 26\r\n\r\n{\"message\":\"planted-7c1e\"}", "\\\"***\\\""),
        ] {
            let (came, _) = asked(answer).await;
            let error = came.unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains(part) || told.contains(&part.replace('\\', "")), "{told}");
            assert!(!told.contains(KEY), "{told}");
        }
    }

    /// The key lies across each of the first 400 letters.
    #[tokio::test]
    async fn a_long_message_is_shortened_and_leaves_no_part_of_the_key() {
        for letters in (200..400).step_by(5) {
            let text = format!("{}{KEY}{}", "x".repeat(letters), "y".repeat(5_000));
            for (status, body) in [
                ("404 Not Found", format!(r#"{{"message":"{text}"}}"#)),
                ("202 Accepted", format!(r#"{{"message":"{text}"}}"#)),
                ("200 OK", format!(r#"{{"message":"{text}"}}"#)),
                ("200 OK", format!(r#"{{"message":"success","data":"{text}"}}"#)),
                ("200 OK", format!(r#"{{"message":"success","data":[{{"time":"{text}"}}]}}"#)),
            ] {
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let told = asked(answer.leak()).await.0.unwrap_err().to_string();
                assert!(told.contains("xxx") && !told.contains("pla"), "{letters}: {told}");
                assert!(told.chars().count() < 450, "{told}");
            }
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_without_the_url() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap();
        drop(closed);
        let client = client(&format!("http://{address}"), Duration::from_secs(5)).unwrap();
        let error = client.canvases(0).await.unwrap_err();
        assert!(error.to_string().starts_with("no answer from Braze to /canvas/list: connecting"), "{error}");
        assert!(!error.to_string().contains("http://"), "{error}");
    }

    #[test]
    fn an_address_that_would_show_the_key_or_is_not_the_api_is_refused() {
        let refused = |url: &str| client(url, IDLE_MAX).unwrap_err().to_string();
        for (url, part) in [
            ("rest.fra-01.braze.eu", "no URL"),
            ("http://rest.fra-01.braze.eu", "unencrypted"),
            ("https://dashboard-01.braze.eu", "dashboard's"),
            ("https://u:p@rest.fra-01.braze.eu", "a user or a password"),
            ("https://rest.fra-01.braze.eu/?a=b", "a query"),
            ("ftp://rest.fra-01.braze.eu", "begin with https://"),
        ] {
            let error = refused(url);
            assert!(error.contains(part) && error.contains("https://rest."), "{error}");
        }
        let shown = format!("{:?}", client("http://localhost:1", IDLE_MAX).unwrap());
        assert!(!shown.contains(KEY), "{shown}");
    }
}
