//! Interprets a registry's answers. Pure.

use std::sync::Arc;

use reqwest::header::{HeaderMap, SERVER};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::super::Lookup;
use super::too_long;
use crate::WriterSchema;
use crate::kafka::client::frame::SchemaKey;

/// How much of the registry's name for a type is repeated.
const NAME_LENGTH_MAX: usize = 32;

/// Apicurio's header for the type of a content.
const ARTIFACT_TYPE: &str = "x-registry-artifacttype";

/// An answer as it came.
#[derive(Debug)]
pub(super) struct RegistryAnswer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Whether this is all of the body; more than the bound is not read.
    pub(super) is_whole: bool,
}

impl RegistryAnswer {
    /// Interprets it. A 404 is final only with the registry's own code for it: any other 404, and any answer that is no
    /// registry's, means that the URL is wrong or a proxy's. With `is_raw` the body is the schema, as Apicurio gives it.
    ///
    /// For a GUID every 404 is final: registries other than Confluent's don't have that endpoint, and each says so in its
    /// own way; and any value that begins with 1 looks like a GUID.
    ///
    /// Sources: Confluent Schema Registry API reference. 40401: subject not found, 40402: version not found, 40403: schema not
    /// found. Apicurio's `Error` and `ProblemDetails`: the name of the exception.
    pub(super) fn read(&self, address: &str, key: SchemaKey, is_raw: bool) -> Lookup {
        if !self.is_whole {
            // It will not become shorter, so it is no outage.
            return Lookup::Never(too_long(&format!("the schema {key} of the schema registry {address}")));
        }
        Lookup::NotNow(match self.status {
            200 if is_raw => return self.read_raw(key),
            200 => return self.read_schema(key),
            404 if self.says_no_such_schema(is_raw) => {
                let reason = format!("the schema registry {address} has no such schema (schema {key})");
                return Lookup::Never(reason);
            }
            404 if matches!(key, SchemaKey::Guid(_)) => {
                return Lookup::Never(format!(
                    "the schema registry {address} knows no schema {key}, or none by a GUID, as Confluent's of today does \
                     (404{}); is it the registry that the producer uses?",
                    self.stranger()
                ));
            }
            404 => format!("404: is schema_registry the base URL of a schema registry?{}", self.stranger()),
            300..=399 => format!("{}: redirects are not followed; give the final URL", self.status),
            401 | 403 => format!("{}: it refuses the credentials{}", self.status, self.stranger()),
            429 => "429: too many requests".to_owned(),
            500..=599 => format!("{}: it has failed", self.status),
            status => format!("{status}: an unexpected answer{}", self.stranger()),
        })
    }

    /// Whether it is a schema, as far as its beginning tells: whatever else is as long comes from a proxy, or a wrong URL.
    pub(super) fn is_schema(&self) -> bool {
        let has = |part: &[u8]| memchr::memmem::find(&self.body, part).is_some();
        let is_json = self.body.trim_ascii_start().starts_with(b"{");
        let is_labelled = self.headers.contains_key(ARTIFACT_TYPE);
        self.status == 200 && (is_labelled || is_json && (has(b"\"schema\"") || has(b"\"fields\"")))
    }

    fn says_no_such_schema(&self, is_raw: bool) -> bool {
        #[derive(Deserialize)]
        struct Failure {
            name: String,
        }
        if is_raw {
            let failure = serde_json::from_slice::<Failure>(&self.body);
            failure.is_ok_and(|failure| failure.name.ends_with("NotFoundException"))
        } else {
            matches!(self.error_code(), Some(40401..=40403))
        }
    }

    fn error_code(&self) -> Option<u32> {
        #[derive(Deserialize)]
        struct Failure {
            error_code: u32,
        }
        serde_json::from_slice::<Failure>(&self.body).ok().map(|failure| failure.error_code)
    }

    /// Reads a complete schema of Avro, or one of JSON. `schemaType` is left out for Avro.
    ///
    /// References to other schemas are not followed. A serialiser registers the complete schema of its record, and Braze's
    /// records are flat besides; references are registered on purpose, as for a union of the types in one topic. JSON is
    /// read without its schema. Source: Confluent's `KafkaAvroSerializer`, and its tutorial "How to handle multiple event
    /// types in a Kafka topic with Avro".
    fn read_schema(&self, key: SchemaKey) -> Lookup {
        #[derive(Deserialize)]
        struct SchemaBody {
            schema: Box<str>,
            #[serde(rename = "schemaType")]
            schema_type: Option<String>,
            references: Option<Vec<IgnoredAny>>,
        }
        let Ok(SchemaBody { schema, schema_type, references }) = serde_json::from_slice(&self.body) else {
            let stranger = self.stranger();
            return Lookup::NotNow(format!("200, but not a schema registry's answer{stranger}"));
        };
        let kind = schema_type.unwrap_or_default();
        if kind.eq_ignore_ascii_case("JSON") {
            return Lookup::Json;
        }
        if !kind.is_empty() && !kind.eq_ignore_ascii_case("AVRO") {
            return other_language(key, &within(&kind));
        }
        if references.is_some_and(|references| !references.is_empty()) {
            return Lookup::Never(format!(
                "the schema {key} refers to others (`references`), which is not supported: register it with those written \
                 out in it, and have the producer use that one"
            ));
        }
        Lookup::Schema(Arc::new(WriterSchema::new(&schema)))
    }

    /// Reads a content of Apicurio's: its type is stated beside it, or else detected.
    fn read_raw(&self, key: SchemaKey) -> Lookup {
        let kind = self.headers.get(ARTIFACT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let schema = serde_json::from_slice::<Value>(&self.body);
        match (kind.to_ascii_uppercase().as_str(), &schema) {
            (kind, Ok(schema)) if kind == "AVRO" || (kind.is_empty() && is_avro(schema)) => {
                Lookup::Schema(Arc::new(WriterSchema::new(&String::from_utf8_lossy(&self.body))))
            }
            ("AVRO", Err(_)) => {
                Lookup::Never(format!("the schema {key} is said to be Avro, and is no JSON, as Avro's are"))
            }
            ("JSON", _) | ("", Ok(Value::Object(_))) => Lookup::Json,
            ("", Err(_)) if !self.body.trim_ascii_start().starts_with(b"<") => {
                other_language(key, "neither Avro nor JSON")
            }
            ("", _) => Lookup::NotNow(format!("200, but not Apicurio's answer{}", self.stranger())),
            (kind, _) => other_language(key, &within(kind)),
        }
    }

    /// The likely sender of an answer that is not that of a usable registry.
    fn stranger(&self) -> String {
        let has = |name: &str| self.headers.contains_key(name);
        let holds = |part: &[u8]| memchr::memmem::find(&self.body, part).is_some();
        let known = if has("x-amzn-requestid") || has("x-amz-request-id") {
            "AWS"
        } else if has("x-ms-request-id") {
            "Azure"
        } else if holds(b"\"schemaText\"") || holds(b"\"responseMessage\"") {
            "Cloudera's registry"
        } else {
            let server = self.headers.get(SERVER).and_then(|server| server.to_str().ok());
            return server.map_or_else(String::new, |server| format!(" (its server: {})", within(server)));
        };
        format!(" (it looks like {known}; only the APIs of Confluent and of Apicurio are spoken)")
    }
}

/// Whether it is a schema of Avro: none of JSON has one of these types.
fn is_avro(schema: &Value) -> bool {
    match schema {
        Value::Array(_) | Value::String(_) => true,
        Value::Object(schema) => match schema.get("type") {
            Some(Value::String(kind)) => {
                matches!(kind.as_str(), "record" | "error" | "enum" | "fixed" | "map" | "bytes")
            }
            kind => matches!(kind, Some(Value::Object(_))),
        },
        _ => false,
    }
}

/// The advice for a schema that is neither Avro's nor JSON's.
fn other_language(key: SchemaKey, kind: &str) -> Lookup {
    Lookup::Never(format!(
        "the schema {key} is {kind}, which is not read: have the producer write Avro or JSON, or put a converter between"
    ))
}

fn within(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(NAME_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    const SEVEN: SchemaKey = SchemaKey::Id(7);

    fn answer(status: u16, body: &str) -> RegistryAnswer {
        RegistryAnswer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec(), is_whole: true }
    }

    fn read(status: u16, body: &str) -> Lookup {
        answer(status, body).read("a", SEVEN, false)
    }

    fn with(mut answer: RegistryAnswer, name: &'static str, value: &'static str) -> RegistryAnswer {
        answer.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        answer
    }

    #[test]
    fn a_schema_without_a_type_is_avro_and_unknown_fields_do_not_matter() {
        let plain = Lookup::Schema(Arc::new(WriterSchema::new("\"string\"")));
        for body in [
            r#"{"schema":"\"string\""}"#,
            r#"{"schema":"\"string\"","schemaType":"AVRO","references":[]}"#,
            r#"{"schema":"\"string\"","schemaType":"avro"}"#,
            r#"{"schema":"\"string\"","references":null,"ruleSet":{},"maxId":7,"guid":"x"}"#,
        ] {
            assert_eq!(read(200, body), plain, "{body}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_others_is_final_and_says_what_to_do_unless_it_is_of_json() {
        let body = r#"{"schema":"{}","references":[{"name":"a.B","subject":"a/b","version":3}]}"#;
        let Lookup::Never(reason) = read(200, body) else { panic!() };
        assert!(
            reason.contains("the schema 7 refers to others") && reason.contains("register it"),
            "{reason}"
        );
        let json = r#"{"schema":"{}","schemaType":"JSON","references":[{"name":"a"}]}"#;
        assert_eq!(read(200, json), Lookup::Json);
    }

    #[test]
    fn only_the_registrys_own_word_is_final() {
        let code = |code: u32| format!(r#"{{"error_code":{code},"message":"Schema not found"}}"#);
        assert!(matches!(read(404, &code(40403)), Lookup::Never(_)));
        assert!(matches!(read(404, &code(40401)), Lookup::Never(_)));
        assert!(matches!(read(404, &code(404)), Lookup::NotNow(_)));
        assert!(matches!(read(404, "<html>"), Lookup::NotNow(_)));
        // The code counts with its status only.
        for status in [200, 204, 301, 400, 401, 403, 422, 429, 500, 502, 503, 599] {
            assert!(matches!(read(status, &code(40403)), Lookup::NotNow(_)), "{status}");
        }
        // Redpanda's, Karapace's, a proxy's: they have no GUIDs.
        for body in [&code(404), r#"{"message":"Not found","code":404}"#, "404: Not SchemaBody", ""] {
            let no_guids = answer(404, body).read("a", SchemaKey::Guid(1), false);
            assert!(matches!(no_guids, Lookup::Never(reason) if reason.contains("GUID")), "{body}");
        }
        assert!(matches!(answer(503, "").read("a", SchemaKey::Guid(1), false), Lookup::NotNow(_)));
        let raw = |body: &str| answer(404, body).read("a", SchemaKey::GlobalId(1), true);
        assert!(matches!(raw(r#"{"name":"ContentNotFoundException","error_code":404}"#), Lookup::Never(_)));
        assert!(matches!(raw(r#"{"name":"ArtifactNotFoundException","status":404}"#), Lookup::Never(_)));
        assert!(matches!(raw(&code(40403)), Lookup::NotNow(_)));
    }

    #[test]
    fn another_language_is_final_and_is_named_within_bounds() {
        let body = |kind: &str| format!(r#"{{"schema":"syntax","schemaType":"{kind}"}}"#);
        let Lookup::Never(reason) = read(200, &body("PROTOBUF")) else { panic!() };
        assert!(
            reason.contains("the schema 7 is PROTOBUF") && reason.contains("have the producer"),
            "{reason}"
        );
        let Lookup::Never(reason) = read(200, &body(&"x\\n".repeat(500))) else { panic!() };
        assert!(reason.contains(&format!("is {},", "x".repeat(32))), "{reason}");
    }

    #[test]
    fn apicurios_content_is_known_by_what_is_said_of_it_or_by_itself() {
        let record = r#"{"type":"record","name":"a","fields":[]}"#;
        let avro = Lookup::Schema(Arc::new(WriterSchema::new(record)));
        let raw = |answer: RegistryAnswer| answer.read("a", SEVEN, true);
        assert_eq!(raw(answer(200, record)), avro);
        assert_eq!(raw(with(answer(200, record), ARTIFACT_TYPE, "AVRO")), avro);
        assert_eq!(raw(with(answer(200, record), ARTIFACT_TYPE, "JSON")), Lookup::Json);
        assert_eq!(raw(answer(200, r#"{"$schema":"x","type":"object"}"#)), Lookup::Json);
        for other in [
            with(answer(200, "syntax = \"proto3\";"), ARTIFACT_TYPE, "PROTOBUF"),
            answer(200, "syntax = \"proto3\";"),
            with(answer(200, "{}"), ARTIFACT_TYPE, "OPENAPI"),
        ] {
            assert!(matches!(raw(other), Lookup::Never(_)));
        }
        assert!(matches!(raw(answer(200, "<html>")), Lookup::NotNow(_)));
        assert!(matches!(raw(answer(200, "5")), Lookup::NotNow(_)));
        // What is labelled waits for nothing, whatever it is.
        assert!(matches!(raw(with(answer(200, "x"), ARTIFACT_TYPE, "AVRO")), Lookup::Never(_)));
        for labelled in [r#"{"type":"array","items":"long"}"#, r#"{"type":"string"}"#, r#""long""#] {
            let schema = Lookup::Schema(Arc::new(WriterSchema::new(labelled)));
            assert_eq!(raw(with(answer(200, labelled), ARTIFACT_TYPE, "AVRO")), schema);
        }
    }

    #[test]
    fn a_registry_of_another_kind_is_named() {
        for (answer, name) in [
            (with(answer(400, "{}"), "x-amzn-requestid", "1"), "AWS"),
            (with(answer(401, ""), "x-ms-request-id", "1"), "Azure"),
            (answer(200, r#"{"id":1,"schemaText":"x"}"#), "Cloudera"),
            (with(answer(404, "<html>"), "server", "nginx"), "its server: nginx"),
        ] {
            let Lookup::NotNow(reason) = answer.read("a", SEVEN, false) else { panic!("{name}") };
            assert!(reason.contains(name), "{reason}");
        }
    }

    #[test]
    fn what_is_too_long_is_a_schema_if_it_begins_like_one() {
        let long = |status, body: &str| RegistryAnswer { is_whole: false, ..answer(status, body) };
        let confluent = long(200, r#"{"subject":"a","schema":"{\"type"#);
        let apicurio = long(200, r#" {"type":"record","fields":["#);
        let labelled = with(long(200, "syntax ="), ARTIFACT_TYPE, "PROTOBUF");
        for schema in [confluent, apicurio, labelled] {
            assert!(schema.is_schema());
            let Lookup::Never(reason) = schema.read("a", SEVEN, false) else { panic!() };
            assert_eq!(reason, "the schema 7 of the schema registry a has more than 1048576 bytes");
        }
        for other in [long(200, "<html>\"schema\""), long(200, r#"{"a":1"#), long(500, r#"{"schema":""#)] {
            assert!(!other.is_schema());
        }
    }

    #[test]
    fn garbage_is_no_answer() {
        for body in ["", "null", "[]", "{}", r#"{"schema":7}"#, "<html>hello</html>", r#"{"schema":"x"#] {
            assert!(matches!(read(200, body), Lookup::NotNow(_)), "{body}");
        }
    }
}
