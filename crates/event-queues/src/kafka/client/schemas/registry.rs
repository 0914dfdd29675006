//! The schema registry: one question, over HTTP.
//!
//! Sources: Confluent Schema Registry API reference, `GET /schemas/ids/{id}` and `/schemas/guids/{guid}`; Redpanda, Karapace and
//! Apicurio (`ccompat`) answer alike. Apicurio Registry's own REST API, versions 2 and 3, `GET /ids/globalIds/{id}` and
//! `/ids/contentIds/{id}`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use self::answer::RegistryAnswer;
use super::Lookup;
use crate::Secret;
use crate::kafka::SchemaIds;
use crate::kafka::client::frame::{SchemaKey, hyphened};
use http_client::{
    Proxies, ProxyError, Resolver, client_builder, connect_timeout, is_loopback, read_up_to, sentence,
};

mod answer;

/// How much of an answer is read. A schema of Braze's has 10 KB.
pub(super) const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// For one request, connecting included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// The registry is asked seldom; no connection is kept for longer than any server keeps it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no client. It never repeats the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrySetupError {
    /// The URL can't be used.
    #[error("is not the base URL of a schema registry: {0}")]
    Url(&'static str),
    /// There are credentials in the URL, and others beside it.
    #[error("carries a user or a password, and credentials are given beside it: give one of them")]
    Credentials,
    /// The credentials can't be put into a header.
    #[error("the schema registry's token has characters that can't be sent in a header")]
    Token,
    /// The system gives no threads for looking names up.
    #[error(
        "the threads that look up the schema registry's name can't be made: {0}; raise the limit of processes and threads"
    )]
    Threads(String),
    /// A proxy of the environment can't be used.
    #[error("can't be asked: {0}")]
    Proxy(ProxyError),
    /// TLS could not be set up.
    #[error(
        "the schema registry's HTTP client could not be made: {0}; are the system's root certificates installed (ca-certificates), or is SSL_CERT_FILE set to a bundle of them?"
    )]
    Client(String),
}

/// The API that a registry speaks, by the path of its base URL.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Api {
    /// Confluent's.
    Confluent,
    /// Confluent's, by Apicurio, whose own API is at this URL.
    Compatible(Url),
    /// Apicurio's own.
    Apicurio {
        /// Whether it is version 3, whose serializers write the id of the content by default.
        is_by_content: bool,
    },
}

/// A client of one registry.
pub(in super::super) struct SchemaRegistry {
    client: reqwest::Client,
    /// With user and password, if it came with them: the client makes a header of them.
    base: Url,
    api: Api,
    ids: SchemaIds,
    address: Box<str>,
    has_credentials: bool,
    timeout: Duration,
}

impl std::fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchemaRegistry").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SchemaRegistry {
    /// Opens nothing yet: the first question does. `url` is http or https, and may carry user and password, and a path;
    /// `auth` is `user:password` (in Confluent Cloud an API key and its secret), or else a bearer token. TLS trusts the
    /// system's certificate authorities (`SSL_CERT_FILE` adds a private one). It is asked through the proxy that the
    /// environment names, unless it is on loopback.
    ///
    /// # Errors
    /// When the URL or the credentials can't be used, or TLS can't be set up.
    pub(in super::super) fn new(
        url: &Secret,
        auth: Option<&Secret>,
        ids: SchemaIds,
        user_agent: &str,
    ) -> Result<Self, RegistrySetupError> {
        Self::with_timeout(url, auth, ids, user_agent, TIMEOUT)
    }

    pub(super) fn with_timeout(
        url: &Secret,
        auth: Option<&Secret>,
        ids: SchemaIds,
        user_agent: &str,
        timeout: Duration,
    ) -> Result<Self, RegistrySetupError> {
        let base = parse(url.expose())?;
        let has_user = !base.username().is_empty() || base.password().is_some();
        if has_user && auth.is_some() {
            return Err(RegistrySetupError::Credentials);
        }
        let accepted = HeaderValue::from_static("application/vnd.schemaregistry.v1+json, application/json");
        let mut headers = HeaderMap::from_iter([(ACCEPT, accepted)]);
        if let Some(auth) = auth {
            headers.insert(AUTHORIZATION, authorization(auth.expose().trim())?);
        }
        // With threads of its own: where there is none left, a look-up by another would panic.
        let resolver = Resolver::start().map_err(|error| RegistrySetupError::Threads(error.to_string()))?;
        let proxies = Proxies::towards(&base).map_err(RegistrySetupError::Proxy)?;
        let client = |error: reqwest::Error| RegistrySetupError::Client(sentence(&error));
        let client = client_builder(&Arc::new(resolver), &proxies, user_agent, timeout)
            .map_err(client)?
            .default_headers(headers)
            .timeout(timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(client)?;
        let (address, has_credentials) = (without_user(&base), has_user || auth.is_some());
        Ok(Self { client, api: api_of(&base), base, ids, address, has_credentials, timeout })
    }

    /// The registry's address, without credentials, for logs.
    pub(in super::super) fn address(&self) -> &str {
        &self.address
    }

    /// Whether credentials would cross a network unencrypted: plain http to anything but this machine.
    pub(in super::super) fn is_in_the_clear(&self) -> bool {
        let is_loopback = is_loopback(self.base.host_str().unwrap_or_default());
        self.has_credentials && self.base.scheme() == "http" && !is_loopback
    }

    /// Asks for a schema.
    pub(super) async fn schema(&self, key: SchemaKey) -> Lookup {
        let address = &self.address;
        let Some(url) = self.url_of(key) else {
            return Lookup::Never(format!(
                "the schema {key} can't be asked for at {address}, which is not the kind of registry that gave that id; \
                 set queue.kafka.schema_registry to the registry of the producer"
            ));
        };
        let is_raw = url.path().contains("/ids/globalIds/") || url.path().contains("/ids/contentIds/");
        let read = |answer: RegistryAnswer| answer.read(address, key, is_raw);
        match self.get(url).await.map(read) {
            Ok(Lookup::NotNow(reason)) | Err(reason) => {
                Lookup::NotNow(format!("the schema registry {address}: {reason}"))
            }
            Ok(answer) => answer,
        }
    }

    /// The URL of a schema. `None`: the registry has no such ids. They are Java's signed numbers, and the answer for a
    /// greater one is that for a wrong URL.
    fn url_of(&self, key: SchemaKey) -> Option<Url> {
        let is_by_content = match (self.ids, &self.api) {
            (SchemaIds::Content, _) => true,
            (SchemaIds::Auto, Api::Apicurio { is_by_content }) => *is_by_content,
            (SchemaIds::Auto | SchemaIds::Global, _) => false,
        };
        let by_content = |is_by_content| if is_by_content { "contentIds" } else { "globalIds" };
        let (base, kind, id) = match (key, &self.api) {
            (SchemaKey::Id(id), Api::Confluent | Api::Compatible(_)) => {
                i32::try_from(id).ok()?;
                return Some(below(&self.base, &["schemas", "ids", &id.to_string()]));
            }
            (SchemaKey::Guid(guid), Api::Confluent | Api::Compatible(_)) => {
                return Some(below(&self.base, &["schemas", "guids", &hyphened(guid)]));
            }
            (SchemaKey::Id(id), Api::Apicurio { .. }) => {
                (&self.base, by_content(is_by_content), u64::from(id))
            }
            (SchemaKey::LongId(id), Api::Apicurio { .. }) => (&self.base, by_content(is_by_content), id),
            (SchemaKey::LongId(id), Api::Compatible(own)) => (own, by_content(is_by_content), id),
            (SchemaKey::GlobalId(id), Api::Apicurio { .. }) => (&self.base, by_content(false), id),
            (SchemaKey::GlobalId(id), Api::Compatible(own)) => (own, by_content(false), id),
            (SchemaKey::ContentId(id), Api::Apicurio { .. }) => (&self.base, by_content(true), id),
            (SchemaKey::ContentId(id), Api::Compatible(own)) => (own, by_content(true), id),
            _ => return None,
        };
        i64::try_from(id).ok()?;
        let mut url = below(base, &["ids", kind, &id.to_string()]);
        url.set_query(Some("returnArtifactType=true"));
        Some(url)
    }

    /// The answer, or why there is none.
    async fn get(&self, url: Url) -> Result<RegistryAnswer, String> {
        let mut response = self.client.get(url).send().await.map_err(|error| self.message(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = Vec::new();
        let read = read_up_to(&mut response, &mut body, ANSWER_BYTES_MAX).await;
        let is_whole = read.map_err(|error| self.message(&error))?;
        let answer = RegistryAnswer { status, headers, body, is_whole };
        if is_whole || answer.is_schema() { Ok(answer) } else { Err(too_long("its answer")) }
    }

    fn message(&self, error: &reqwest::Error) -> String {
        match error.is_timeout() {
            true if error.is_connect() => format!("no connection within {:?}", connect_timeout(self.timeout)),
            true => format!("no answer within {:?}", self.timeout),
            false => sentence(error),
        }
    }
}

fn too_long(what: &str) -> String {
    format!("{what} has more than {ANSWER_BYTES_MAX} bytes")
}

/// The header of `user:password`, or of a token, which has no colon.
fn authorization(auth: &str) -> Result<HeaderValue, RegistrySetupError> {
    let text = if auth.contains(':') {
        format!("Basic {}", STANDARD.encode(auth))
    } else {
        format!("Bearer {auth}")
    };
    let mut value = HeaderValue::try_from(text).map_err(|_| RegistrySetupError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse(text: &str) -> Result<Url, RegistrySetupError> {
    let url = Url::parse(text.trim())
        .map_err(|_| RegistrySetupError::Url("it has to look like https://registry.example:8081"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(RegistrySetupError::Url("it has to begin with https:// (or http://)"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(RegistrySetupError::Url("it has a query or a fragment"));
    }
    Ok(url)
}

/// The API below a base URL.
fn api_of(base: &Url) -> Api {
    let path = base.path().trim_end_matches('/');
    if let Some((before, _version)) = path.split_once("/apis/ccompat/") {
        let mut own = base.clone();
        own.set_path(&format!("{before}/apis/registry/v2"));
        return Api::Compatible(own);
    }
    match path.split_once("/apis/registry/") {
        Some((_, version)) => Api::Apicurio { is_by_content: version != "v2" },
        None => Api::Confluent,
    }
}

/// A URL below another.
fn below(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// Scheme, host, port and path.
fn without_user(url: &Url) -> Box<str> {
    let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{host}{port}{}", url.path().trim_end_matches('/')).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(url: &str) -> Result<SchemaRegistry, RegistrySetupError> {
        SchemaRegistry::new(&url.into(), None, SchemaIds::Auto, "test/1")
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
            let registry = registry(url).unwrap();
            assert_eq!(registry.address(), address);
            assert!(!format!("{registry:?}{:?}", Secret::new(url)).contains("s3cret"));
        }
    }

    #[test]
    fn what_is_no_base_url_is_refused_without_repeating_it() {
        for url in
            ["", "registry:8081", "ftp://secret.example", "https://secret.example/?a", "https://", "/x"]
        {
            let error = registry(url).unwrap_err();
            assert!(matches!(error, RegistrySetupError::Url(_)), "{url}: {error:?}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn credentials_come_from_one_place_and_can_be_sent() {
        let with = |url: &str, auth: &str| {
            SchemaRegistry::new(&url.into(), Some(&auth.into()), SchemaIds::Auto, "test/1")
        };
        let error = with("https://a@registry.example", "key:s3cret").unwrap_err();
        assert_eq!(error, RegistrySetupError::Credentials);
        assert_eq!(with("https://registry.example", "a\nb").unwrap_err(), RegistrySetupError::Token);
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
            assert_eq!(registry(url).unwrap().is_in_the_clear(), is_in_the_clear, "{url}");
        }
        let url = "http://registry.example".into();
        let beside = SchemaRegistry::new(&url, Some(&"token".into()), SchemaIds::Auto, "test/1");
        assert!(beside.unwrap().is_in_the_clear());
    }

    #[test]
    fn where_a_schema_is_asked_for_depends_on_whose_registry_it_is() {
        const KEYS: [SchemaKey; 5] = [
            SchemaKey::Id(7),
            SchemaKey::LongId(7),
            SchemaKey::Guid(7),
            SchemaKey::GlobalId(7),
            SchemaKey::ContentId(7),
        ];
        const GUID: &str = "guids/00000000-0000-0000-0000-000000000007";
        // Below which path, and by which numbers, those before a value are asked for; Confluent's, and Apicurio's own.
        for (path, ids, confluent, own, numbers) in [
            ("/x", SchemaIds::Auto, "/x", "", ""),
            ("/apis/ccompat/v7/", SchemaIds::Auto, "/apis/ccompat/v7", "/apis/registry/v2", "globalIds"),
            ("/apis/ccompat/v7", SchemaIds::Content, "/apis/ccompat/v7", "/apis/registry/v2", "contentIds"),
            ("/p/apis/registry/v2", SchemaIds::Auto, "", "/p/apis/registry/v2", "globalIds"),
            ("/apis/registry/v2", SchemaIds::Content, "", "/apis/registry/v2", "contentIds"),
            ("/apis/registry/v3", SchemaIds::Auto, "", "/apis/registry/v3", "contentIds"),
            ("/apis/registry/v3/", SchemaIds::Global, "", "/apis/registry/v3", "globalIds"),
        ] {
            let url = format!("http://r.example{path}");
            let registry = SchemaRegistry::new(&url.as_str().into(), None, ids, "test/1").unwrap();
            let asked =
                KEYS.map(|key| registry.url_of(key).map(|url| url.path().to_owned()).unwrap_or_default());
            let below = |base: &str, rest: String| {
                if base.is_empty() { base.to_owned() } else { base.to_owned() + &rest }
            };
            let id = if confluent.is_empty() {
                below(own, format!("/ids/{numbers}/7"))
            } else {
                below(confluent, "/schemas/ids/7".to_owned())
            };
            let expected = [
                id,
                below(own, format!("/ids/{numbers}/7")),
                below(confluent, format!("/schemas/{GUID}")),
                below(own, "/ids/globalIds/7".to_owned()),
                below(own, "/ids/contentIds/7".to_owned()),
            ];
            assert_eq!(asked, expected, "{path} {ids:?}");
            assert_eq!([SchemaKey::Glue(7), SchemaKey::Azure].map(|key| registry.url_of(key)), [None, None]);
        }
    }

    #[test]
    fn a_number_that_no_registry_gives_is_not_asked_for() {
        let asks =
            |path: &str, key| registry(&format!("http://r.example{path}")).unwrap().url_of(key).is_some();
        for path in ["", "/apis/ccompat/v7"] {
            assert!(asks(path, SchemaKey::Id(0x7fff_ffff)), "{path}");
            assert!(!asks(path, SchemaKey::Id(0x8000_0000)), "{path}");
            assert!(!asks(path, SchemaKey::Id(u32::MAX)), "{path}");
        }
        assert!(asks("/apis/registry/v3", SchemaKey::Id(u32::MAX)));
        for key in [SchemaKey::LongId, SchemaKey::GlobalId, SchemaKey::ContentId] {
            for path in ["/apis/registry/v3", "/apis/ccompat/v7"] {
                assert!(asks(path, key(u64::MAX / 2)), "{path}");
                assert!(!asks(path, key(u64::MAX / 2 + 1)), "{path}");
            }
        }
    }

    #[tokio::test]
    async fn an_id_of_another_kind_of_registry_is_final_and_says_what_to_set() {
        let registry = registry("http://127.0.0.1:1/x").unwrap();
        let Lookup::Never(reason) = registry.schema(SchemaKey::GlobalId(5)).await else { panic!() };
        assert!(
            reason.contains("the schema with the global id 5") && reason.contains("http://127.0.0.1:1/x"),
            "{reason}"
        );
        assert!(reason.contains("set queue.kafka.schema_registry"), "{reason}");
    }
}
