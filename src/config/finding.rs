//! What is wrong with a configuration, said so that whoever reads it knows what to change.

use std::fmt;

/// Something about one key of the configuration: an error, or a [`Warning`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file or the environment variable that says it.
    pub origin: String,
    /// The key, with its sections (`connections.acme.site`); empty where it is about the whole of the origin.
    pub key: String,
    /// What is wrong and what to do. It never holds a key or a token.
    pub reason: String,
}

/// Something that is accepted, and that someone should look at.
pub type Warning = Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.key {
            "" => write!(f, "{}: {}", self.origin, self.reason),
            key => write!(f, "{}: {key}: {}", self.origin, self.reason),
        }
    }
}

/// The configuration can't be used. It names everything that is wrong with it, one finding a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.findings))]
pub struct ConfigError {
    /// At least one, in the order of the configuration.
    pub findings: Vec<Finding>,
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// How much of a value a message repeats, in characters.
const SHOWN_MAX: usize = 80;

/// As many hexadecimal digits in a row as a Datadog API key has: the shortest secret that is known by its look.
const KEY_DIGITS: usize = 32;

/// A value for a message: in quotation marks, escaped, cut, and not at all if it looks like an API key that
/// was put into a wrong place.
pub(super) fn quoted(value: &str) -> String {
    if looks_like_key(value) {
        return "(not shown: it looks like an API key)".to_owned();
    }
    if looks_random(value) {
        return "(not shown: it could be a secret)".to_owned();
    }
    let mut shown: String = value.chars().take(SHOWN_MAX).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Whether there is something in `value` that could be an API key, or a private key.
pub(super) fn looks_like_key(value: &str) -> bool {
    value.split(|letter: char| !letter.is_ascii_hexdigit()).any(|run| run.len() >= KEY_DIGITS)
        || value.contains("-----BEGIN")
}

/// How many letters and digits there are in a row in a token, and seldom in anything else.
const RANDOM_RUN: usize = 20;

/// Whether there is something in `value` that could be a token or a generated password: letters and digits mixed. The
/// hexadecimal ids of Braze are none.
pub(super) fn looks_random(value: &str) -> bool {
    let mixed = |run: &str| {
        run.len() >= RANDOM_RUN
            && run.bytes().any(|byte| byte.is_ascii_digit())
            && run.bytes().any(|byte| byte.is_ascii_alphabetic() && !byte.is_ascii_hexdigit())
    };
    value.split(|letter: char| !letter.is_ascii_alphanumeric()).any(mixed)
}

/// The known word that `word` was probably meant to be.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let word = plain(word);
    // A word of n letters bears n / 3 slips; beyond it, a suggestion is a guess that misleads.
    let slips_max = (word.chars().count() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &plain(known)), known))
        .filter(|(slips, _)| *slips <= slips_max)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, known)| known)
}

/// `; did you mean "…"?`, or nothing.
pub(super) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_origin_key_reason() {
        let mut finding =
            Finding { origin: "a.toml".into(), key: "flush.interval".into(), reason: "no".into() };
        assert_eq!(finding.to_string(), "a.toml: flush.interval: no");
        finding.key.clear();
        assert_eq!(finding.to_string(), "a.toml: no");
        let error = ConfigError { findings: vec![finding.clone(), finding] };
        assert_eq!(error.to_string(), "a.toml: no\na.toml: no");
    }

    #[test]
    fn values_are_escaped_cut_and_never_a_key() {
        assert_eq!(quoted("a\u{1b}\"\n"), "\"a\\u{1b}\\\"\\n\"");
        assert!(quoted(&"é".repeat(200)).chars().count() < 90);
        let key = "0123456789abcdef0123456789ABCDEF";
        for value in [key.to_owned(), format!("https://x/?k={key}"), format!("{key}{key}")] {
            assert!(!quoted(&value).contains(key), "{}", quoted(&value));
        }
        for id in ["5f3e8f0a-1234-4cde-9abc-0123456789ab", "5f3e8f0a12344cde9abc0123", "braze.messaging.sent"]
        {
            assert!(!looks_like_key(id) && !looks_random(id), "{id} is no key");
        }
        let token = "Zm9vYmFyMDEyMzQ1Njc4OQ==";
        assert!(!quoted(&format!("Bearer {token}")).contains(token));
        assert!(!quoted("-----BEGIN PRIVATE KEY-----").contains("BEGIN"));
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let known = ["interval", "timeout", "max_series"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("max-series", known), Some("max_series"));
        assert_eq!(nearest("TIMEOUT", known), Some("timeout"));
        assert_eq!(nearest("retries", known), None);
        assert_eq!(nearest("", known), None);
    }
}
