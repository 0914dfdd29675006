//! The schema registry: one question, over HTTP.
//!
//! Source: Confluent Schema Registry API reference, `GET /schemas/ids/{id}`; Redpanda, Karapace and Apicurio (`ccompat`)
//! answer alike.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Lookup;
use crate::Secret;
use crate::WriterSchema;
use dns_lookup::{Patient, Resolver, is_loopback, sentence};

/// How much of an answer is read. A schema of Braze's has 10 KB.
pub(super) const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// For one request, connecting included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// A registry is asked seldom; a connection is not kept for longer than any server keeps it.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// How much of an unknown schema type is told.
const TYPE_LENGTH_MAX: usize = 32;

/// Why there is no client. It never repeats the URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrySetupError {
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
pub(in super::super) struct SchemaRegistry {
    client: reqwest::Client,
    /// With user and password, if it came with them: the client makes a header of them.
    base: Url,
    address: Box<str>,
    has_credentials: bool,
    timeout: Duration,
}

impl std::fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("address", &self.address).finish_non_exhaustive()
    }
}

impl SchemaRegistry {
    /// Opens nothing yet: the first question does. `url` is http or https, and may carry user and password, and a path;
    /// `auth` is `user:password` (in Confluent Cloud an API key and its secret), or else a bearer token. TLS trusts the
    /// system's certificate authorities (`SSL_CERT_FILE` adds a private one); proxies are taken from the environment.
    ///
    /// # Errors
    /// When the URL or the credentials can't be used, or TLS can't be set up.
    pub(in super::super) fn new(url: &Secret, auth: Option<&Secret>) -> Result<Self, RegistrySetupError> {
        Self::with_timeout(url, auth, TIMEOUT)
    }

    pub(super) fn with_timeout(
        url: &Secret,
        auth: Option<&Secret>,
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
        // A second client in one process finds the provider installed, which is as good.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        // With threads of its own: where there is none left, a look-up by another would panic.
        let resolver = Resolver::start().map_err(|error| RegistrySetupError::Threads(error.to_string()))?;
        let client = reqwest::Client::builder()
            .dns_resolver(Patient { resolver: Arc::new(resolver), wait_max: timeout })
            .default_headers(headers)
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(concat!("braze-datadog/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| RegistrySetupError::Client(sentence(&error)))?;
        let (address, has_credentials) = (without_user(&base), has_user || auth.is_some());
        Ok(Self { client, base, address, has_credentials, timeout })
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

    /// Asks for the schema of an id.
    pub(super) async fn schema(&self, id: u32) -> Lookup {
        let address = &self.address;
        match self.get(id).await.map(|(status, body)| read(address, id, status, &body)) {
            Ok(Lookup::NotNow(reason)) | Err(reason) => {
                Lookup::NotNow(format!("the schema registry {address}: {reason}"))
            }
            Ok(answer) => answer,
        }
    }

    /// Status and body, or why there is none.
    async fn get(&self, id: u32) -> Result<(u16, Vec<u8>), String> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["schemas", "ids", &id.to_string()]);
        }
        let mut answer = self.client.get(url).send().await.map_err(|error| self.told(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.told(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("its answer has more than {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((answer.status().as_u16(), body))
    }

    fn told(&self, error: &reqwest::Error) -> String {
        if error.is_timeout() { format!("no answer within {:?}", self.timeout) } else { sentence(error) }
    }
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

/// What an answer means. A 404 is final only with the registry's own code for it: any other 404 says that the URL is wrong,
/// or a proxy's, and so does whatever else is no registry's answer.
///
/// Source: Confluent Schema Registry API reference. 40401: subject not found, 40402: version not found, 40403: schema not
/// found.
fn read(address: &str, id: u32, status: u16, body: &[u8]) -> Lookup {
    #[derive(Deserialize)]
    struct Failure {
        error_code: u32,
    }
    Lookup::NotNow(match status {
        200 => return read_schema(id, body),
        404 => match serde_json::from_slice(body) {
            Ok(Failure { error_code: 40401..=40403 }) => {
                let reason = format!("the schema registry {address} has no such schema (schema {id})");
                return Lookup::Never(reason);
            }
            _ => "404: is schema_registry the base URL of a schema registry?".to_owned(),
        },
        300..=399 => format!("{status}: redirects are not followed; give the final URL"),
        401 | 403 => format!("{status}: it refuses the credentials"),
        429 => "429: too many requests".to_owned(),
        500..=599 => format!("{status}: it has failed"),
        _ => format!("{status}: an unexpected answer"),
    })
}

/// A schema that is Avro and whole. `schemaType` is left out for Avro.
///
/// References to other schemas are not followed. A serialiser registers the schema that its record was made with, which is
/// whole, and Braze's records are flat besides; somebody has to register references on purpose, as for a union of what
/// may be in one topic.
/// Source: Confluent's `KafkaAvroSerializer`, and its tutorial "How to handle multiple event types in a Kafka topic with Avro".
fn read_schema(id: u32, body: &[u8]) -> Lookup {
    #[derive(Deserialize)]
    struct Found {
        schema: Box<str>,
        #[serde(rename = "schemaType")]
        schema_type: Option<String>,
        references: Option<Vec<IgnoredAny>>,
    }
    match serde_json::from_slice(body) {
        Err(_) => Lookup::NotNow("200, but not a schema registry's answer".to_owned()),
        Ok(Found { schema_type: Some(kind), .. }) if !kind.eq_ignore_ascii_case("AVRO") => {
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(TYPE_LENGTH_MAX).collect();
            Lookup::Never(format!("the schema {id} is not Avro but {kind}"))
        }
        Ok(Found { references: Some(references), .. }) if !references.is_empty() => Lookup::Never(format!(
            "the schema {id} refers to others (`references`), which is not supported: register it with those written \
             out in it, and have the producer use that one"
        )),
        Ok(Found { schema, .. }) => Lookup::Schema(Arc::new(WriterSchema::new(&schema))),
    }
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
        SchemaRegistry::new(&url.into(), None)
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
        let with = |url: &str, auth: &str| SchemaRegistry::new(&url.into(), Some(&auth.into()));
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
        let beside = SchemaRegistry::new(&"http://registry.example".into(), Some(&"token".into()));
        assert!(beside.unwrap().is_in_the_clear());
    }

    #[test]
    fn a_schema_without_a_type_is_avro_and_unknown_fields_do_not_matter() {
        let plain = Lookup::Schema(Arc::new(WriterSchema::new("\"string\"")));
        for body in [
            r#"{"schema":"\"string\""}"#,
            r#"{"schema":"\"string\"","schemaType":"AVRO","references":[]}"#,
            r#"{"schema":"\"string\"","references":null,"ruleSet":{},"maxId":7}"#,
        ] {
            assert_eq!(read("a", 7, 200, body.as_bytes()), plain, "{body}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_others_is_final_and_says_what_to_do() {
        let body = r#"{"schema":"{}","references":[{"name":"a.B","subject":"a/b","version":3}]}"#;
        let Lookup::Never(reason) = read("a", 7, 200, body.as_bytes()) else { panic!() };
        assert!(
            reason.contains("the schema 7 refers to others") && reason.contains("register it"),
            "{reason}"
        );
    }

    #[test]
    fn only_the_registrys_own_word_is_final() {
        let code = |code: u32| format!(r#"{{"error_code":{code},"message":"Schema not found"}}"#);
        assert!(matches!(read("a", 7, 404, code(40403).as_bytes()), Lookup::Never(_)));
        assert!(matches!(read("a", 7, 404, code(40401).as_bytes()), Lookup::Never(_)));
        assert!(matches!(read("a", 7, 404, code(404).as_bytes()), Lookup::NotNow(_)));
        assert!(matches!(read("a", 7, 404, b"<html>"), Lookup::NotNow(_)));
        // The code counts with its status only.
        for status in [200, 204, 301, 400, 401, 403, 422, 429, 500, 502, 503, 599] {
            assert!(matches!(read("a", 7, status, code(40403).as_bytes()), Lookup::NotNow(_)), "{status}");
        }
    }

    #[test]
    fn another_language_is_final_and_is_named_within_bounds() {
        let body = |kind: &str| format!(r#"{{"schema":"syntax","schemaType":"{kind}"}}"#);
        let named = |kind: &str| Lookup::Never(format!("the schema 7 is not Avro but {kind}"));
        assert_eq!(read("a", 7, 200, body("PROTOBUF").as_bytes()), named("PROTOBUF"));
        assert!(matches!(read("a", 7, 200, body("avro").as_bytes()), Lookup::Schema(_)));
        assert_eq!(read("a", 7, 200, body(&"x\\n".repeat(500)).as_bytes()), named(&"x".repeat(32)));
    }

    #[test]
    fn garbage_is_no_answer() {
        for body in ["", "null", "[]", "{}", r#"{"schema":7}"#, "<html>hello</html>", r#"{"schema":"x"#] {
            assert!(matches!(read("a", 7, 200, body.as_bytes()), Lookup::NotNow(_)), "{body}");
        }
    }
}
