//! The schema registry: what the number in front of a Confluent-framed Avro value stands for.
//!
//! The registry is asked once for each id and then remembered, for an id never changes its meaning. What it
//! can't say is either *final* (there is no such schema, or it is not Avro: the message is malformed) or *for
//! now* (it is away, overloaded, refuses the credentials, or is no registry at all): then the caller keeps the
//! message, waits as [`backoff`] says, and asks again. So no event is lost because the registry is.
//!
//! Source: Confluent Schema Registry API reference, `GET /schemas/ids/{id}` and
//! `GET /subjects/{subject}/versions/{version}`; Redpanda, Karapace and Apicurio (`ccompat`) answer alike.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::answer::{Answer, Found, Reference};
use self::http::Http;
use self::known::{Known, Refusal};
use crate::queue::WriterSchema;

mod answer;
pub mod backoff;
mod http;
mod inline;
mod known;

#[cfg(test)]
#[path = "../../../tests/support/registry.rs"]
mod scripted;

/// How many schemas one schema may refer to, directly and by others. Braze's refer to none.
const REFERENCES_MAX: usize = 32;

pub use super::Secret;

/// Who we are to the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// What the URL says (`https://user:password@…`), which may be nothing.
    #[default]
    FromUrl,
    /// HTTP basic: in Confluent Cloud an API key and its secret.
    Basic {
        /// The user, or the API key.
        user: Box<str>,
        /// The password, or the API key's secret.
        password: Secret,
    },
    /// `Authorization: Bearer`.
    Bearer(Secret),
}

impl Credentials {
    /// `user:password`, or a token, which has no colon.
    pub fn parse(text: &str) -> Self {
        match text.trim().split_once(':') {
            Some((user, password)) => {
                Credentials::Basic { user: user.into(), password: Secret::new(password) }
            }
            None => Credentials::Bearer(Secret::new(text.trim())),
        }
    }
}

/// Where the registry is and how it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its base URL, http or https; may carry user and password, and a path.
    pub url: Box<str>,
    /// Beside those of the URL; both is an error.
    pub credentials: Credentials,
    /// For one request, connecting included.
    pub timeout: Duration,
    /// How many schemas are remembered. There is one for each event type and version of it: a few hundred.
    /// Each may take [`ANSWER_BYTES_MAX`], and takes 10 KB.
    pub schemas_max: usize,
}

impl Settings {
    /// For this URL: 5 s a request, 1,000 schemas.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            credentials: Credentials::default(),
            timeout: Duration::from_secs(5),
            schemas_max: 1_000,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

pub use self::http::{ANSWER_BYTES_MAX, SetupError};

/// What an id stands for.
#[derive(Debug, PartialEq, Eq)]
struct Resolved {
    /// The Avro schema, JSON.
    text: Box<str>,
    /// The schemas of the named types that `text` uses and does not define, JSON; each stands behind those that
    /// it needs itself. Mostly none.
    references: Box<[Box<str>]>,
}

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There will be none: whatever is framed with this id is malformed.
    #[error("{0}")]
    Final(String),
    /// The registry can't be asked at present. The message is kept, and the question is asked again.
    #[error("{0}")]
    ForNow(String),
}

/// What the registry suffers from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// In words, without secrets.
    pub reason: String,
    /// Since when no question was answered.
    pub since: Instant,
    /// Questions without an answer, one after the other.
    pub failures: u32,
}

/// The client of one registry.
#[derive(Debug)]
pub struct Registry {
    http: Http,
    known: Known,
    trouble: Option<Trouble>,
}

impl Registry {
    /// Opens nothing yet: the first question does. TLS trusts the system's certificate authorities
    /// (`SSL_CERT_FILE` adds a private one); proxies are taken from the environment.
    ///
    /// # Errors
    /// When the URL or the credentials can't be used, or TLS can't be set up.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let http = Http::new(settings)?;
        Ok(Self { http, known: Known::new(settings.schemas_max), trouble: None })
    }

    /// The registry's address, without credentials, for logs.
    pub fn address(&self) -> &str {
        self.http.address()
    }

    /// Whether credentials would cross a network unencrypted: plain http to anything but this machine.
    pub fn is_in_the_clear(&self) -> bool {
        self.http.is_in_the_clear()
    }

    /// What is wrong at present; `None` while the last question was answered.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// The schema of an id: remembered, or asked for with at most one request at a time.
    ///
    /// An id that the registry does not know is asked for again for a few seconds before that is final, for a
    /// registry's followers may lag behind its leader.
    ///
    /// Cancel-safe: what was not remembered is asked for again.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn schema(&mut self, id: u32) -> Result<Arc<WriterSchema>, RegistryError> {
        if let Some(schema) = self.known.schema(id) {
            return Ok(schema);
        }
        if let Some(reason) = self.known.refused(id, Instant::now()) {
            return Err(RegistryError::Final(reason));
        }
        match self.resolve(id).await {
            Ok(Resolved { text, references }) => {
                self.trouble = None;
                Ok(self.known.learn(id, WriterSchema::new(&inline::inline(&text, &references))))
            }
            Err(Unresolved::Never(reason)) => {
                self.trouble = None;
                match self.known.refuse(id, &reason, Instant::now()) {
                    Refusal::Final => Err(RegistryError::Final(reason)),
                    Refusal::AskAgain => Err(self.troubled(format!("{reason}; it may be new, asking again"))),
                }
            }
            Err(Unresolved::NotNow(reason)) => Err(self.troubled(reason)),
        }
    }

    fn troubled(&mut self, reason: String) -> RegistryError {
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            reason: String::new(),
            since: Instant::now(),
            failures: 0,
        });
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.reason.clone_from(&reason);
        RegistryError::ForNow(reason)
    }

    /// Asks for a schema and all that it refers to, depth first, so that each comes behind what it needs.
    async fn resolve(&self, id: u32) -> Result<Resolved, Unresolved> {
        let Found { text, references } = self.ask(&["schemas", "ids", &id.to_string()], id).await?;
        let mut ordered = Vec::new();
        let mut seen = HashSet::new();
        let mut open: Vec<Step> = references.into_iter().rev().map(Step::Ask).collect();
        while let Some(step) = open.pop() {
            let reference = match step {
                Step::Done(text) => {
                    ordered.push(text);
                    continue;
                }
                Step::Ask(reference) => reference,
            };
            if !seen.insert(reference.clone()) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                let reason = format!("the schema {id} refers to more than {REFERENCES_MAX} others");
                return Err(Unresolved::Never(reason));
            }
            let version = reference.version.to_string();
            let path = ["subjects", &reference.subject, "versions", &version];
            let found = self.ask(&path, id).await?;
            open.push(Step::Done(found.text));
            open.extend(found.references.into_iter().rev().map(Step::Ask));
        }
        Ok(Resolved { text, references: ordered.into() })
    }

    async fn ask(&self, path: &[&str], id: u32) -> Result<Found, Unresolved> {
        let answer = match self.http.get(path).await {
            Ok((status, body)) => answer::read(status, &body),
            Err(reason) => Answer::NotNow(reason),
        };
        let address = self.address();
        match answer {
            Answer::Schema(found) => Ok(found),
            Answer::Unknown(what) => {
                Err(Unresolved::Never(format!("the schema registry {address} has no {what} (schema {id})")))
            }
            Answer::NotAvro(kind) => {
                Err(Unresolved::Never(format!("the schema {id} is not Avro but {kind}")))
            }
            Answer::NotNow(reason) => {
                Err(Unresolved::NotNow(format!("the schema registry {address}: {reason}")))
            }
        }
    }
}

enum Step {
    Ask(Reference),
    Done(Box<str>),
}

enum Unresolved {
    Never(String),
    NotNow(String),
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::scripted::{Behaviour, ScriptedRegistry};
    use super::*;

    fn registry(scripted: &ScriptedRegistry) -> Registry {
        Registry::new(&Settings::new(&scripted.url())).unwrap()
    }

    fn for_now(result: Result<Arc<WriterSchema>, RegistryError>) -> String {
        match result {
            Err(RegistryError::ForNow(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn paths(scripted: &ScriptedRegistry) -> Vec<String> {
        scripted.asked().into_iter().map(|asked| asked.path).collect()
    }

    #[tokio::test]
    async fn a_schema_is_asked_for_once() {
        let scripted = ScriptedRegistry::start();
        scripted.register(7, "\"string\"");
        let mut registry = registry(&scripted);
        for _ in 0..3 {
            assert_eq!(registry.schema(7).await.unwrap().text(), "\"string\"");
        }
        assert_eq!(paths(&scripted), ["/schemas/ids/7"]);
        assert_eq!(registry.trouble(), None);
    }

    #[tokio::test]
    async fn a_registry_that_fails_is_asked_again_and_its_trouble_is_told_until_it_answers() {
        let scripted = ScriptedRegistry::start();
        scripted.register(7, "\"string\"");
        let mut registry = registry(&scripted);
        let unhappy = [401, 403, 429, 500, 502, 503].map(|status| Behaviour::Status(status, String::new()));
        scripted.next(unhappy);
        for failures in 1..=6 {
            let reason = for_now(registry.schema(7).await);
            assert!(reason.contains(registry.address()), "{reason}");
            let trouble = registry.trouble().unwrap();
            assert_eq!((trouble.failures, &trouble.reason), (failures, &reason));
        }
        assert!(registry.schema(7).await.is_ok());
        assert_eq!(registry.trouble(), None);
    }

    #[tokio::test]
    async fn what_is_no_registry_makes_nothing_final() {
        let scripted = ScriptedRegistry::start();
        scripted.register(1, "\"int\"");
        let mut registry = registry(&scripted);
        for (status, body) in [(200, "<html>"), (404, "<html>"), (302, ""), (308, ""), (204, "")] {
            scripted.next([Behaviour::Status(status, body.to_owned())]);
            for_now(registry.schema(7).await);
        }
        assert_eq!(scripted.asked().len(), 5, "a redirect was followed");
        drop(scripted);
        let reason = for_now(registry.schema(7).await);
        assert!(reason.contains("connect") || reason.contains("no usable answer"), "{reason}");
    }

    #[tokio::test]
    async fn a_registry_that_hangs_costs_the_timeout_and_a_body_without_end_its_bound() {
        let scripted = ScriptedRegistry::start();
        let timeout = Duration::from_millis(200);
        let mut registry = Registry::new(&Settings { timeout, ..Settings::new(&scripted.url()) }).unwrap();
        scripted.next([Behaviour::Hang]);
        let asked = Instant::now();
        assert!(for_now(registry.schema(7).await).contains("within 200ms"));
        assert!(asked.elapsed() < Duration::from_secs(5));

        let mut registry = self::registry(&scripted);
        let large = |bytes: usize| json!({ "schema": "x".repeat(bytes) }).to_string();
        scripted.next([Behaviour::Status(200, large(ANSWER_BYTES_MAX))]);
        assert!(for_now(registry.schema(7).await).contains("more than 1048576 bytes"));
        scripted.next([Behaviour::Status(200, large(ANSWER_BYTES_MAX - 100))]);
        assert!(registry.schema(7).await.is_ok());
    }

    #[tokio::test]
    async fn an_unknown_id_is_final_once_it_was_doubted_for_a_while_and_then_it_is_not_asked_for_again() {
        let scripted = ScriptedRegistry::start();
        let mut registry = registry(&scripted);
        let asked = Instant::now();
        let reason = loop {
            match registry.schema(7).await {
                Err(RegistryError::Final(reason)) => break reason,
                Err(RegistryError::ForNow(_)) => assert!(registry.trouble().is_some()),
                Ok(schema) => panic!("{schema:?}"),
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        assert!(reason.contains("no such schema (schema 7)"), "{reason}");
        assert!((3..10).contains(&asked.elapsed().as_secs()), "{:?}", asked.elapsed());
        assert_eq!(registry.trouble(), None);
        let before = scripted.asked().len();
        assert_eq!(registry.schema(7).await, Err(RegistryError::Final(reason)));
        assert_eq!(scripted.asked().len(), before);
        // The next one in the same minute is believed at once.
        assert!(matches!(registry.schema(8).await, Err(RegistryError::Final(_))));
    }

    #[tokio::test]
    async fn a_schema_of_another_language_is_final() {
        let scripted = ScriptedRegistry::start();
        let mut registry = registry(&scripted);
        // The one doubt of this minute.
        for_now(registry.schema(1).await);
        scripted.answer("/schemas/ids/7", json!({ "schema": "syntax", "schemaType": "PROTOBUF" }));
        let error = registry.schema(7).await.unwrap_err();
        assert_eq!(error, RegistryError::Final("the schema 7 is not Avro but PROTOBUF".to_owned()));
    }

    #[tokio::test]
    async fn references_come_before_what_needs_them_each_once() {
        let scripted = ScriptedRegistry::start();
        let to = |subject: &str| json!({ "name": "n", "subject": subject, "version": 2 });
        scripted.answer("/schemas/ids/7", json!({ "schema": "main", "references": [to("a"), to("b/c d")] }));
        let version = |subject: &str| format!("/subjects/{subject}/versions/2");
        scripted.answer(&version("a"), json!({ "schema": "A", "references": [to("d")] }));
        scripted.answer(&version("b%2Fc%20d"), json!({ "schema": "B", "references": [to("d"), to("a")] }));
        scripted.answer(&version("d"), json!({ "schema": "D" }));
        let schema = registry(&scripted).resolve(7).await.ok().unwrap();
        assert_eq!((&*schema.text, &*schema.references), ("main", &["D".into(), "A".into(), "B".into()][..]));
        assert_eq!(scripted.asked().len(), 4, "{:?}", paths(&scripted));
    }

    #[tokio::test]
    async fn references_in_a_circle_end_and_too_many_are_final() {
        let scripted = ScriptedRegistry::start();
        let mut registry = registry(&scripted);
        for_now(registry.schema(1).await);
        let to = |subject: String| json!({ "name": "n", "subject": subject, "version": 1 });
        scripted.answer("/schemas/ids/7", json!({ "schema": "main", "references": [to("a".into())] }));
        let circle = json!({ "schema": "A", "references": [to("a".into())] });
        scripted.answer("/subjects/a/versions/1", circle);
        assert_eq!(registry.resolve(7).await.ok().unwrap().references.len(), 1);

        for (id, count) in [(8, 32), (9, 33)] {
            let all: Vec<_> = (0..count).map(|number| to(format!("s{number}"))).collect();
            for number in 0..count {
                scripted.answer(&format!("/subjects/s{number}/versions/1"), json!({ "schema": "S" }));
            }
            scripted.answer(&format!("/schemas/ids/{id}"), json!({ "schema": "main", "references": all }));
        }
        assert_eq!(registry.resolve(8).await.ok().unwrap().references.len(), 32);
        assert!(matches!(registry.schema(9).await, Err(RegistryError::Final(_))));
    }

    #[tokio::test]
    async fn credentials_are_sent_and_are_in_no_word_of_it() {
        let scripted = ScriptedRegistry::start();
        let host = scripted.address();
        let with = |url: String, credentials| Settings { credentials, ..Settings::new(&url) };
        let basic = Credentials::Basic { user: "key".into(), password: Secret::new("s3cret/+") };
        let all = [
            (with(format!("http://key:s3cret%2F%2B@{host}"), Credentials::FromUrl), "Basic a2V5OnMzY3JldC8r"),
            (with(format!("http://{host}"), basic), "Basic a2V5OnMzY3JldC8r"),
            (with(format!("http://{host}"), Credentials::Bearer(Secret::new("s3cret"))), "Bearer s3cret"),
            (with(format!("http://{host}/base/"), Credentials::FromUrl), ""),
        ];
        for (settings, header) in all {
            let mut registry = Registry::new(&settings).unwrap();
            scripted.next([Behaviour::Status(401, "s3cret".to_owned())]);
            let reason = for_now(registry.schema(7).await);
            assert_eq!(scripted.asked().last().unwrap().authorization, header);
            assert!(!format!("{reason}{settings:?}{registry:?}").contains("s3cret"), "{reason}");
        }
        assert_eq!(paths(&scripted).last().unwrap(), "/base/schemas/ids/7");
    }
}
