//! Whether an API key is valid on a site, by Datadog's own word.

use serde::Deserialize;

use crate::site::Site;

/// Where a site is asked, below its base URL: a `GET` with the key in `DD-API-KEY`.
pub const VALIDATE_PATH: &str = "/api/v1/validate";

/// The result of asking a site about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Validity {
    /// The site knows the key.
    Valid,
    /// The site does not know the key; the status of its answer.
    Invalid(u16),
    /// No answer says either. The reason, with advice; it says nothing about the key.
    Unknown(String),
}

/// Datadog's answer. Source: `AuthenticationValidationResponse` of its `OpenAPI`.
#[derive(Deserialize)]
struct Answer {
    valid: bool,
}

impl Validity {
    /// The meaning for a key that is asked about on `site`, for people.
    pub fn message(&self, site: &Site) -> String {
        let site = &site.name;
        match self {
            Validity::Valid => format!("valid on {site}"),
            Validity::Invalid(status) => format!("{status}: this key is not valid on {site}"),
            Validity::Unknown(reason) => format!("unknown: {reason}"),
        }
    }
}

/// Reads an answer: its status, and as much of its body as was read.
///
/// Datadog says 200 `{"valid":true}` or 403, with a body in JSON or plain text. Anything else comes from a proxy, or from a
/// Datadog that is out of order, and must not be taken as an answer: other forwarders have put themselves out of service by
/// that.
pub fn classify(status: u16, body: &[u8]) -> Validity {
    let is_page = body.trim_ascii_start().first() == Some(&b'<');
    let reason = match status {
        200 => match serde_json::from_slice(body) {
            Ok(Answer { valid: true }) => return Validity::Valid,
            Ok(Answer { valid: false }) => return Validity::Invalid(status),
            Err(_) => "200, but not with Datadog's words; does a proxy answer in its place?",
        },
        403 if !is_page => return Validity::Invalid(status),
        403 => "403 with a web page, which is not Datadog's answer; does a proxy refuse the request?",
        300..=399 => "a redirect, which is not followed, for the key must not travel; does a proxy answer?",
        404 => {
            "404: whatever answers does not know /api/v1/validate; is it a proxy that passes on points alone?"
        }
        407 => "407: a proxy asks for a password; put it into HTTPS_PROXY (http://user:password@host:port)",
        429 => "429: Datadog has been asked too often; ask again later",
        500..=599 => return Validity::Unknown(format!("{status}: Datadog can't say; ask again later")),
        _ => return Validity::Unknown(format!("{status} is no answer of Datadog's; does a proxy answer?")),
    };
    Validity::Unknown(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_datadogs_own_words_say_anything_about_a_key() {
        assert_eq!(classify(200, b"{\"valid\":true}"), Validity::Valid);
        assert_eq!(classify(200, b" {\"valid\": true, \"more\": 1}\n"), Validity::Valid);
        assert_eq!(classify(200, b"{\"valid\":false}"), Validity::Invalid(200));
        for body in [&b"{\"errors\":[\"Forbidden\"]}"[..], b"Forbidden", b""] {
            assert_eq!(classify(403, body), Validity::Invalid(403));
        }
    }

    #[test]
    fn everything_else_is_unknown_and_says_why() {
        for (status, body, word) in [
            (200, &b""[..], "proxy"),
            (200, b"ok", "proxy"),
            (200, b"{\"status\":\"ok\"}", "proxy"),
            (202, b"{\"status\":\"ok\"}", "202"),
            (204, b"", "204"),
            (302, b"", "redirect"),
            (401, b"", "401"),
            (403, b" \n<html>blocked", "web page"),
            (404, b"page not found", "404"),
            (407, b"", "HTTPS_PROXY"),
            (429, b"", "429"),
            (500, b"", "500"),
            (503, b"<html>", "503"),
        ] {
            let Validity::Unknown(reason) = classify(status, body) else { panic!("{status} {body:?}") };
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn the_words_name_the_site() {
        let (site, _) = Site::parse("eu1").unwrap();
        assert_eq!(Validity::Valid.message(&site), "valid on EU1");
        assert_eq!(Validity::Invalid(403).message(&site), "403: this key is not valid on EU1");
        assert_eq!(Validity::Unknown("who knows".into()).message(&site), "unknown: who knows");
    }
}
