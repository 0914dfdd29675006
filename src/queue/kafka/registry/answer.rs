//! What a registry's answer means. Pure.

use serde::Deserialize;

/// A schema that another one uses, by its place in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct Reference {
    pub(super) subject: Box<str>,
    pub(super) version: u32,
}

/// A schema, and what it needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) text: Box<str>,
    pub(super) references: Vec<Reference>,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Schema(Found),
    /// The registry works, and has no such thing.
    Unknown(&'static str),
    /// It is of another language, by the registry's name for it.
    NotAvro(String),
    /// No answer to the question, and why; it may be answered later.
    NotNow(String),
}

/// `GET /schemas/ids/{id}`, and the same fields of `GET /subjects/{subject}/versions/{version}`.
#[derive(Deserialize)]
struct Written {
    schema: Box<str>,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

/// The body of an error.
#[derive(Deserialize)]
struct Failure {
    error_code: u32,
}

/// How much of an unknown schema type is told.
const TYPE_LENGTH_MAX: usize = 32;

/// Reads an answer. A 404 is final only with the registry's own code for it: any other 404 says that the URL
/// is wrong, or a proxy's, and so does whatever else is no registry's answer.
///
/// Source: Confluent Schema Registry API reference. 40401: subject not found, 40402: version not found,
/// 40403: schema not found. `schemaType` is left out for Avro.
pub(super) fn read(status: u16, body: &[u8]) -> Answer {
    match status {
        200 => schema(body),
        404 => match serde_json::from_slice(body) {
            Ok(Failure { error_code: 40403 }) => Answer::Unknown("such schema"),
            Ok(Failure { error_code: 40401 | 40402 }) => Answer::Unknown("schema that this one refers to"),
            _ => Answer::NotNow("404: is schema_registry the base URL of a schema registry?".to_owned()),
        },
        300..=399 => Answer::NotNow(format!("{status}: redirects are not followed; give the final URL")),
        401 | 403 => Answer::NotNow(format!("{status}: it refuses the credentials")),
        429 => Answer::NotNow("429: too many requests".to_owned()),
        500..=599 => Answer::NotNow(format!("{status}: it has failed")),
        _ => Answer::NotNow(format!("{status}: an unexpected answer")),
    }
}

fn schema(body: &[u8]) -> Answer {
    let Ok(written) = serde_json::from_slice::<Written>(body) else {
        return Answer::NotNow("200, but not a schema registry's answer".to_owned());
    };
    match written.schema_type {
        Some(kind) if !kind.eq_ignore_ascii_case("AVRO") => {
            Answer::NotAvro(kind.chars().filter(|c| !c.is_control()).take(TYPE_LENGTH_MAX).collect())
        }
        _ => {
            Answer::Schema(Found { text: written.schema, references: written.references.unwrap_or_default() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Found {
        match read(200, body.as_bytes()) {
            Answer::Schema(found) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_schema_without_a_type_is_avro_and_unknown_fields_do_not_matter() {
        let plain = Found { text: "\"string\"".into(), references: Vec::new() };
        assert_eq!(found(r#"{"schema":"\"string\""}"#), plain);
        assert_eq!(found(r#"{"schema":"\"string\"","schemaType":"AVRO","references":[]}"#), plain);
        assert_eq!(found(r#"{"schema":"\"string\"","references":null,"ruleSet":{},"maxId":7}"#), plain);
        let body = r#"{"schema":"{}","references":[{"name":"a.B","subject":"a/b","version":3}]}"#;
        assert_eq!(found(body).references, [Reference { subject: "a/b".into(), version: 3 }]);
    }

    #[test]
    fn only_the_registrys_own_word_is_final() {
        let code = |code: u32| format!(r#"{{"error_code":{code},"message":"Schema not found"}}"#);
        assert!(matches!(read(404, code(40403).as_bytes()), Answer::Unknown(_)));
        assert!(matches!(read(404, code(40401).as_bytes()), Answer::Unknown(_)));
        assert!(matches!(read(404, code(404).as_bytes()), Answer::NotNow(_)));
        assert!(matches!(read(404, b"<html>"), Answer::NotNow(_)));
        // The code counts with its status only.
        for status in [200, 204, 301, 400, 401, 403, 422, 429, 500, 502, 503, 599] {
            assert!(matches!(read(status, code(40403).as_bytes()), Answer::NotNow(_)), "{status}");
        }
    }

    #[test]
    fn another_language_is_final_and_is_named_within_bounds() {
        let body = |kind: &str| format!(r#"{{"schema":"syntax","schemaType":"{kind}"}}"#);
        assert_eq!(read(200, body("PROTOBUF").as_bytes()), Answer::NotAvro("PROTOBUF".to_owned()));
        assert!(matches!(read(200, body("avro").as_bytes()), Answer::Schema(_)));
        let Answer::NotAvro(kind) = read(200, body(&"x\\n".repeat(500)).as_bytes()) else { panic!() };
        assert_eq!(kind, "x".repeat(32));
    }

    #[test]
    fn garbage_is_no_answer() {
        for body in ["", "null", "[]", "{}", r#"{"schema":7}"#, "<html>hello</html>", r#"{"schema":"x"#] {
            assert!(matches!(read(200, body.as_bytes()), Answer::NotNow(_)), "{body}");
        }
    }
}
