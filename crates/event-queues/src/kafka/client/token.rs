//! Reads a token for SASL's OAUTHBEARER from a file that another program keeps fresh (as Kubernetes does with the tokens of
//! service accounts).

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The claims of a token.
#[derive(PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    /// The subject.
    pub(super) subject: String,
    /// Milliseconds since 1970.
    pub(super) expires_milliseconds: i64,
}

/// Reads the token, a JSON Web Token (RFC 7519) with `exp` and, mostly, `sub`. Its signature is the broker's
/// business.
///
/// # Errors
/// What is wrong with the file, without its content.
pub(super) fn read(file: &Path) -> Result<Token, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("can't read queue.kafka.oauth_token_file {}: {error}", file.display()))?;
    parse(text.trim()).ok_or_else(|| {
        format!("queue.kafka.oauth_token_file {} holds no JSON Web Token with an exp", file.display())
    })
}

fn parse(text: &str) -> Option<Token> {
    let [_header, claims, _signature] = text.split('.').collect::<Vec<_>>().try_into().ok()?;
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()?;
    let expires = claims["exp"].as_i64().or_else(|| claims["exp"].as_str()?.parse().ok())?;
    let subject = claims["sub"].as_str().unwrap_or("braze-datadog").to_owned();
    Some(Token { text: text.to_owned(), subject, expires_milliseconds: expires.checked_mul(1000)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whom_it_stands_for_and_until_when() {
        // {"alg":"none"} . {"sub":"forwarder","exp":1800000000}
        let text = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJmb3J3YXJkZXIiLCJleHAiOjE4MDAwMDAwMDB9.x";
        let token = parse(text).unwrap();
        assert_eq!((&*token.subject, token.expires_milliseconds), ("forwarder", 1_800_000_000_000));
        assert_eq!(token.text, text);
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        for text in ["", "a.b", "a.b.c", "a.e30.c", "a.eyJleHAiOiJ4In0.c", "a.!.c"] {
            assert!(parse(text).is_none(), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(read(&file).err().unwrap().contains("can't read"));
        std::fs::write(&file, "planted").unwrap();
        let error = read(&file).err().unwrap();
        assert!(error.contains("no JSON Web Token") && !error.contains("planted"));
    }
}
