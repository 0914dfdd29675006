//! Connects to a store by a URL and options, and explains its errors.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, Error, ObjectStore, ObjectStoreScheme, RetryConfig,
};
use url::Url;

use super::stored::StoredConnector;
use crate::Secret;
use crate::storage::StorageSource;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a store may be silent in the middle of an answer; the rest of an object is requested again then.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request is retried where the store is busy (503 `SlowDown`) or away; then the next listing tries again.
/// Below five minutes, because a request keeps its first credentials in all retries.
const RETRY: Duration = Duration::from_mins(1);
/// How much of the innermost error's text is repeated.
const CAUSE_BYTES_MAX: usize = 300;
/// The end of the hosts of Cloudflare's R2.
const R2_HOST: &str = ".r2.cloudflarestorage.com";
/// How the client says that an answer has no length.
const NO_LENGTH: &str = "Content-Length Header missing";
/// The advice for keys that the client can't ask for.
pub(super) const UNREADABLE_KEY: &str = "a key in it can't be read here (it has an empty part, or one that is `.` or `..`); move \
                                         such objects out of the prefix";
const RETRIES_MAX: usize = 8;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// What the environment may say of a store's client (`AWS_PROXY_URL`, …), which takes its options as a whole.
const CLIENT_OPTIONS: [ClientConfigKey; 19] = [
    ClientConfigKey::AllowHttp,
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::NoSystemCertificates,
    ClientConfigKey::ConnectTimeout,
    ClientConfigKey::ReadTimeout,
    ClientConfigKey::Timeout,
    ClientConfigKey::Http1Only,
    ClientConfigKey::Http2Only,
    ClientConfigKey::Http2KeepAliveInterval,
    ClientConfigKey::Http2KeepAliveTimeout,
    ClientConfigKey::Http2KeepAliveWhileIdle,
    ClientConfigKey::Http2MaxFrameSize,
    ClientConfigKey::PoolIdleTimeout,
    ClientConfigKey::PoolMaxIdlePerHost,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::RandomizeAddresses,
    ClientConfigKey::UserAgent,
];

/// Why a store can't be made of the configuration. No request was made yet.
#[derive(Debug, thiserror::Error)]
pub enum StorageSetupError {
    /// The URL names no store.
    #[error(
        "{url} is not the URL of a bucket: {problem}; write s3://BUCKET/PREFIX/, gs://…, az://CONTAINER/… or file:///DIRECTORY/"
    )]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The URL may hold a secret, and is not repeated.
    #[error("the URL of a bucket {problem}")]
    Credentials {
        /// What is in it, and what to do.
        problem: &'static str,
    },
    /// The store knows no such option.
    #[error(
        "queue.storage.options.{key}: {store} has no such option; see https://docs.rs/object_store for its keys"
    )]
    Option {
        /// The key.
        key: String,
        /// The kind of the store.
        store: &'static str,
    },
    /// A place lies within another one.
    #[error("{url} lies within {other}, so that its events would be counted twice")]
    Within {
        /// The narrower one, or the second of two that are the same.
        url: String,
        /// The other one.
        other: String,
    },
    /// The queue of notifications can't be one.
    #[error(
        "queue.storage.notifications: {url} is not the URL of an Amazon SQS queue: {problem}; write \
         https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE"
    )]
    Notifications {
        /// As it was given.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The options do not go together.
    #[error("{url} can't be reached as it is configured: {problem}")]
    Options {
        /// As it was given.
        url: String,
        /// What the store's builder says.
        problem: String,
    },
}

/// A source that can be asked.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    /// The prefix that is listed.
    pub(super) prefix: ObjectPath,
    /// The URL as it was given, without a slash at its end: the source's name in the state.
    pub(super) url: Arc<str>,
    pub(super) app_group_id: Option<Box<str>>,
    /// The name of the bucket, if it is S3's.
    pub(super) s3_name: Option<Box<str>>,
    /// The directory that is listed, if it is one: a missing one has no objects, which its store does not call an error.
    directory: Option<PathBuf>,
    /// The store and the prefix in it, the same for all forms of a URL.
    place: (String, ObjectPath),
}

/// Builds a store from what the environment says, a URL and options. The builders are alike, and share no trait.
macro_rules! configured {
    ($builder:ty, $key:ty, $store:literal, $environment:expr, $url:expr, $options:expr) => {{
        let (environment, plain): ($builder, _) = ($environment, <$builder>::new());
        let client = client_beside(|key| {
            let key = <$key>::Client(key);
            let said = environment.get_config_value(&key);
            said.filter(|said| plain.get_config_value(&key).as_ref() != Some(said))
        });
        let mut builder = environment.with_url($url).with_retry(retry()).with_client_options(client);
        for (key, value) in $options {
            builder = builder.with_config(option::<$key>(key, $store)?, value.expose());
        }
        builder
    }};
}

impl Bucket {
    pub(super) fn new(
        source: &StorageSource,
        options: &BTreeMap<Box<str>, Secret>,
    ) -> Result<Self, StorageSetupError> {
        let given = source.url.trim();
        if let Some(problem) = StorageSource::refusal(given) {
            return Err(StorageSetupError::Credentials { problem });
        }
        let wrong = |problem: String| StorageSetupError::Url { url: given.to_owned(), problem };
        let url = Url::parse(given).map_err(|error| wrong(error.to_string()))?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|error| wrong(error.to_string()))?;
        // The HTTP client needs an installed provider; another part may have installed the same one.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let unfit =
            |error: Error| StorageSetupError::Options { url: given.to_owned(), problem: error.to_string() };
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::AmazonS3 => Arc::new(s3_builder(given, options)?.build().map_err(unfit)?),
            ObjectStoreScheme::GoogleCloudStorage => Arc::new(
                configured!(
                    GoogleCloudStorageBuilder,
                    GoogleConfigKey,
                    "Google Cloud Storage",
                    GoogleCloudStorageBuilder::from_env(),
                    given,
                    options
                )
                .with_http_connector(StoredConnector::default())
                .build()
                .map_err(unfit)?,
            ),
            ObjectStoreScheme::MicrosoftAzure => Arc::new(
                configured!(
                    MicrosoftAzureBuilder,
                    AzureConfigKey,
                    "Azure Blob Storage",
                    MicrosoftAzureBuilder::from_env(),
                    given,
                    options
                )
                .build()
                .map_err(unfit)?,
            ),
            ObjectStoreScheme::Local => match options.keys().next() {
                Some(key) => {
                    return Err(StorageSetupError::Option { key: key.to_string(), store: "a directory" });
                }
                None => Arc::new(LocalFileSystem::new()),
            },
            _ => return Err(wrong("its scheme is none of a store that is read".to_owned())),
        };
        let app_group_id = source.app_group_id.clone();
        let directory =
            matches!(scheme, ObjectStoreScheme::Local).then(|| Path::new("/").join(prefix.as_ref()));
        let s3_name =
            if matches!(scheme, ObjectStoreScheme::AmazonS3) { s3_name(&url).map(Into::into) } else { None };
        // A service that speaks S3's protocol has buckets of its own.
        let service = url.host_str().filter(|host| host.ends_with(R2_HOST)).unwrap_or_default();
        let real = directory.as_ref().and_then(|directory| directory.canonicalize().ok());
        let real = real.and_then(|real| ObjectPath::from_absolute_path(real).ok());
        let place = (format!("{service} {store}"), real.unwrap_or_else(|| prefix.clone()));
        let url = given.trim_end_matches('/').into();
        Ok(Self { store, prefix, url, app_group_id, s3_name, directory, place })
    }

    /// The name of an object in messages.
    pub(super) fn name(&self, path: impl fmt::Display) -> String {
        let bucket = self.url.strip_suffix(self.prefix.as_ref()).unwrap_or(&self.url);
        format!("{}/{path}", bucket.strip_suffix('/').unwrap_or(bucket))
    }

    /// Whether it is the one of S3 that a notification calls so.
    pub(super) fn is_s3s(&self, name: &str) -> bool {
        self.s3_name.as_deref() == Some(name)
    }

    /// # Errors
    /// When it is a directory, and not there.
    pub(super) fn ensure_there(&self) -> Result<(), Error> {
        match &self.directory {
            Some(directory) if !directory.is_dir() => {
                let path = directory.display().to_string();
                Err(Error::NotFound { path, source: "it is no directory".into() })
            }
            _ => Ok(()),
        }
    }
}

/// # Errors
/// When one lies within another one, or is the same.
pub(super) fn ensure_apart(buckets: &[Bucket]) -> Result<(), StorageSetupError> {
    for (at, bucket) in buckets.iter().enumerate() {
        let is_within = |other: &Bucket| {
            let ((store, prefix), (of, above)) = (&bucket.place, &other.place);
            store == of && prefix.prefix_matches(above)
        };
        let mut others = buckets.iter().enumerate().filter(|(of, _)| *of != at);
        if let Some((_, other)) = others.find(|(_, other)| is_within(other)) {
            return Err(StorageSetupError::Within {
                url: bucket.url.to_string(),
                other: other.url.to_string(),
            });
        }
    }
    Ok(())
}

/// The bucket that a URL of S3 names, in each form that the client takes.
fn s3_name(url: &Url) -> Option<&str> {
    let host = url.host_str()?;
    let (first, _) = host.split_once('.').unwrap_or((host, ""));
    match url.scheme() {
        "https" if first == "s3" || host.ends_with(R2_HOST) => url.path_segments()?.next(),
        "https" => Some(first),
        _ => Some(host),
    }
}

/// The client for S3, and for other requests with its credentials.
pub(super) fn s3_builder(
    url: &str,
    options: &BTreeMap<Box<str>, Secret>,
) -> Result<AmazonS3Builder, StorageSetupError> {
    s3_builder_of(AmazonS3Builder::from_env(), url, options)
}

fn s3_builder_of(
    environment: AmazonS3Builder,
    url: &str,
    options: &BTreeMap<Box<str>, Secret>,
) -> Result<AmazonS3Builder, StorageSetupError> {
    Ok(configured!(AmazonS3Builder, AmazonS3ConfigKey, "S3", environment, url, options))
}

fn option<K: FromStr>(key: &str, store: &'static str) -> Result<K, StorageSetupError> {
    key.to_ascii_lowercase().parse().map_err(|_| StorageSetupError::Option { key: key.to_owned(), store })
}

pub(super) fn client() -> ClientOptions {
    // No time limit: large objects take long.
    ClientOptions::new()
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(READ_TIMEOUT)
        .with_timeout_disabled()
}

/// The client with what the environment says of it.
fn client_beside(said: impl Fn(ClientConfigKey) -> Option<String>) -> ClientOptions {
    let said = CLIENT_OPTIONS.into_iter().filter_map(|key| Some((key, said(key)?)));
    said.fold(client(), |options, (key, value)| options.with_config(key, value))
}

fn retry() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: BACKOFF_FIRST, max_backoff: BACKOFF_MAX, ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY }
}

/// The advice for an error of a store, in words that stay the same while the trouble lasts.
pub(super) fn advice(error: &Error) -> String {
    let text = error.to_string();
    let status = status_of(&text);
    let advice = match (error, status) {
        (Error::Precondition { .. }, _) => "it was written over while it was read; it is read again",
        (Error::InvalidPath { .. }, _) => UNREADABLE_KEY,
        (_, None) if text.contains(NO_LENGTH) => {
            "the store, or a proxy before it, changes the object on its way and does not tell its length; store it without a \
             Content-Encoding (docs/limits.md)"
        }
        (Error::NotFound { .. }, _) | (_, Some("404")) => {
            "there is no such bucket or object; check the URL and the endpoint"
        }
        (_, Some("403")) if code_of(&text) == Some("InvalidObjectState") => {
            "it is archived (S3 Glacier): restore it, or move it out of the prefix"
        }
        (Error::PermissionDenied { .. }, _) | (_, Some("403")) => {
            "the store refuses it: the right to list and read is missing, or the credentials are wrong or expired \
             (docs/operating.md, \"Buckets\")"
        }
        (Error::Unauthenticated { .. }, _) | (_, Some("400" | "401")) => {
            "the store refuses the credentials or the request; check credentials, region and endpoint"
        }
        (_, Some("429" | "503")) => "the store asks to be asked less; it is tried again more slowly",
        _ => "it is tried again",
    };
    let cause = match status {
        Some(status) => match code_of(&text) {
            Some(code) => format!("{status} {code}"),
            None => status.to_owned(),
        },
        None => root_cause(error),
    };
    format!("{advice}: {cause}")
}

/// The status in an error's text.
fn status_of(text: &str) -> Option<&str> {
    const BEFORE: &str = "status code: ";
    let status = text.get(text.find(BEFORE)? + BEFORE.len()..)?.get(..3)?;
    status.bytes().all(|byte| byte.is_ascii_digit()).then_some(status)
}

/// The store's own code for an error.
fn code_of(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (!code.is_empty() && code.len() <= 100).then_some(code)
}

/// The innermost error, without how long it took.
fn root_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.get(..CAUSE_BYTES_MAX).unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(url: &str, options: &[(&str, &str)]) -> Result<Bucket, StorageSetupError> {
        let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Bucket::new(&StorageSource { url: url.into(), app_group_id: None }, &options)
    }

    #[test]
    fn a_store_is_made_of_a_url_and_its_options() {
        let s3 = bucket("s3://events/currents/", &[("region", "eu-west-1"), ("allow_http", "true")]).unwrap();
        assert_eq!(s3.prefix, ObjectPath::from("currents"));
        assert_eq!(&*s3.url, "s3://events/currents");
        assert_eq!(s3.name(ObjectPath::from("currents/a/b.avro")), "s3://events/currents/a/b.avro");
        let local = bucket("file:///data/in", &[]).unwrap();
        assert_eq!(local.name(ObjectPath::from("data/in/x")), "file:///data/in/x");
        assert!(bucket("gs://events", &[]).is_ok());
        assert!(bucket("az://events/x", &[("account_name", "a"), ("access_key", "YQ==")]).is_ok());
    }

    #[test]
    fn what_the_environment_says_of_the_client_holds_beside_the_limits_and_below_the_options() {
        let client = AmazonS3ConfigKey::Client;
        let environment = AmazonS3Builder::new()
            .with_config(client(ClientConfigKey::AllowHttp), "true")
            .with_config(client(ClientConfigKey::ProxyUrl), "http://proxy:1")
            .with_config(client(ClientConfigKey::UserAgent), "one");
        let options = [("user_agent".into(), "two".into())].into();
        let builder = s3_builder_of(environment, "s3://events", &options).unwrap();
        for (key, value) in [
            (ClientConfigKey::AllowHttp, Some("true")),
            (ClientConfigKey::ProxyUrl, Some("http://proxy:1")),
            (ClientConfigKey::UserAgent, Some("two")),
            (ClientConfigKey::ConnectTimeout, Some("10s")),
            (ClientConfigKey::ReadTimeout, Some("30s")),
            (ClientConfigKey::Timeout, None),
        ] {
            assert_eq!(builder.get_config_value(&client(key)).as_deref(), value, "{key:?}");
        }
        let environment = AmazonS3Builder::new().with_config(client(ClientConfigKey::ReadTimeout), "5s");
        let builder = s3_builder_of(environment, "s3://events", &BTreeMap::new()).unwrap();
        let read = builder.get_config_value(&client(ClientConfigKey::ReadTimeout));
        assert_eq!(read.as_deref(), Some("5s"));
    }

    #[test]
    fn the_name_of_a_bucket_is_known_in_each_form_of_its_url() {
        for url in [
            "s3://acme/currents/",
            "s3a://acme.with.dots/currents",
            "https://acme.s3.eu-central-1.amazonaws.com/currents/",
            "https://acme.s3.amazonaws.com/currents/",
            "https://acme.s3.dualstack.eu-central-1.amazonaws.com/currents/",
            "https://s3.eu-central-1.amazonaws.com/acme/currents/",
            "https://s3.dualstack.eu-central-1.amazonaws.com/acme/currents/",
            "https://account.r2.cloudflarestorage.com/acme/currents/",
            "https://account.eu.r2.cloudflarestorage.com/acme/currents/",
        ] {
            let s3 = bucket(url, &[]).unwrap();
            assert_eq!(s3.prefix, ObjectPath::from("currents"));
            assert_eq!(s3.store.to_string(), format!("AmazonS3({})", s3.s3_name.unwrap()), "{url}");
        }
        assert_eq!(bucket("gs://acme/currents/", &[]).unwrap().s3_name, None);
    }

    #[test]
    fn what_a_store_answers_becomes_advice_that_does_not_change_from_time_to_time() {
        let answered = |status: &str, milliseconds: u32| {
            let text = format!(
                "Error performing GET http://h/b in {milliseconds}ms - Server returned non-2xx status code: {status}: \
                 <?xml version=\"1.0\"?><Error><Code>Word</Code></Error>"
            );
            advice(&Error::Generic { store: "S3", source: text.into() })
        };
        for (status, expected) in [
            ("404 Not Found", "no such bucket or object; check the URL and the endpoint: 404 Word"),
            ("403 Forbidden", "the right to list and read is missing"),
            ("400 Bad Request", "check credentials, region and endpoint: 400 Word"),
            ("503 Slow Down", "it is tried again more slowly: 503 Word"),
            ("500 Internal", "it is tried again: 500 Word"),
        ] {
            assert!(answered(status, 5).contains(expected), "{}", answered(status, 5));
            assert_eq!(answered(status, 5), answered(status, 77));
        }
        let text = "status code: 403 Forbidden: <Error><Code>InvalidObjectState</Code></Error>";
        let words = advice(&Error::Generic { store: "S3", source: text.into() });
        assert_eq!(
            words,
            "it is archived (S3 Glacier): restore it, or move it out of the prefix: 403 InvalidObjectState"
        );
        let source = "Header: Content-Length Header missing from response".into();
        let words = advice(&Error::Generic { store: "GCS", source });
        assert!(words.contains("store it without a Content-Encoding"), "{words}");
        let refused = Error::Generic { store: "S3", source: "connection refused".into() };
        assert_eq!(advice(&refused), "it is tried again: connection refused");
    }

    #[test]
    fn what_names_no_store_or_no_option_is_told_with_what_to_write() {
        for (url, options, expected) in [
            ("events", &[][..], "write s3://BUCKET/PREFIX/"),
            ("ftp://events/x", &[], "write s3://BUCKET/PREFIX/"),
            ("https://example.com/x", &[], "write s3://BUCKET/PREFIX/"),
            ("s3://events", &[("regoin", "x")], "queue.storage.options.regoin: S3 has no such option"),
            ("gs://events", &[("region", "x")], "Google Cloud Storage has no such option"),
            ("file:///data", &[("region", "x")], "a directory has no such option"),
            ("file:///data/secret#1", &[], "has a ? or # in it"),
            ("s3://events/secret?y", &[], "has a ? or # in it"),
            (
                "s3://key:secret@events/x",
                &[],
                "has an @ in it; credentials belong into queue.storage.options",
            ),
        ] {
            let message = bucket(url, options).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains("secret"), "{url}: {message}");
        }
    }
}
