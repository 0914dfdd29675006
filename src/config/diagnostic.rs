//! Diagnostics of a configuration, worded so that the reader knows what to change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::reconcile::RECONCILE;

/// A diagnostic on one key of the configuration: an error, or a [`Warning`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file or the environment variable with the key.
    pub origin: String,
    /// The key, with its sections (`connections.acme.site`); empty where it is about the whole of the origin.
    pub key: String,
    /// What is wrong and what to do. It never holds a key or a token.
    pub reason: String,
}

/// Something that is accepted, and that someone should look at.
pub type Warning = Diagnostic;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.key {
            "" => write!(f, "{}: {}", self.origin, self.reason),
            key => write!(f, "{}: {key}: {}", self.origin, self.reason),
        }
    }
}

/// The configuration can't be used. It names everything that is wrong with it, one diagnostic a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.diagnostics))]
pub struct ConfigError {
    /// At least one, in the order of the configuration.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Whether anything is wrong with this file itself.
    pub fn is_of(&self, file: &Path) -> bool {
        let origin = super::absolute(file).display().to_string();
        self.diagnostics.iter().any(|diagnostic| diagnostic.origin == origin)
    }
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

/// The diagnostics so far, and the file or variable of each key.
#[derive(Default)]
pub(super) struct Diagnostics {
    errors: Vec<Diagnostic>,
    warnings: Vec<Warning>,
    origins: BTreeMap<String, String>,
    /// Keys and sections that are present but unreadable; the empty one is a whole file. For these "missing" is not
    /// reported.
    spoilt: BTreeSet<String>,
    /// Sections with the names of keys that belong into another one.
    misplaced: BTreeSet<(String, String)>,
    file: String,
}

impl Diagnostics {
    /// `file` is the place for keys that are nowhere.
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    /// Notes where `key` was written; for a key the last note counts, for a section the first.
    pub(super) fn came_from(&mut self, key: &str, origin: &str, is_section: bool) {
        if !is_section || !self.origins.contains_key(key) {
            self.origins.insert(key.to_owned(), origin.to_owned());
        }
    }

    pub(super) fn error(&mut self, key: &str, reason: impl Into<String>) {
        let origin = self.origin(key).to_owned();
        self.error_at(&origin, key, reason);
    }

    pub(super) fn error_at(&mut self, origin: &str, key: &str, reason: impl Into<String>) {
        self.errors.push(Diagnostic {
            origin: origin.to_owned(),
            key: key.to_owned(),
            reason: reason.into(),
        });
    }

    /// An error about a value, which it repeats unless it could be a secret.
    pub(super) fn refuse(&mut self, key: &str, value: &str, reason: impl fmt::Display) {
        self.error(key, format!("{} {reason}", quoted(value)));
    }

    /// A warning about a value, which it repeats unless it could be a secret.
    pub(super) fn doubt(&mut self, key: &str, value: &str, reason: impl fmt::Display) {
        self.warn(key, format!("{} {reason}", quoted(value)));
    }

    /// An error for text that leaves `key` unread.
    pub(super) fn unread_at(&mut self, origin: &str, key: &str, reason: impl Into<String>) {
        self.error_at(origin, key, reason);
        self.spoil(key);
    }

    /// Notes that `key` is present but unreadable, which is an error already.
    pub(super) fn spoil(&mut self, key: &str) {
        self.spoilt.insert(key.to_owned());
    }

    /// Notes a key in a wrong section, which is an error already.
    pub(super) fn misplace(&mut self, section: &str, name: &str) {
        self.misplaced.insert((section.to_owned(), name.to_owned()));
    }

    /// Reports `key` as missing, unless it was present but invalid and already reported.
    pub(super) fn missing(&mut self, key: &str, told_at: &str, reason: &str) {
        if !self.is_spoilt(key) {
            self.error(told_at, reason);
        }
    }

    /// Whether `key`, or something in it, was present but unreadable.
    pub(super) fn is_spoilt(&self, key: &str) -> bool {
        let is_meant =
            |spoilt: &String| spoilt.is_empty() || is_within(key, spoilt) || is_within(spoilt, key);
        self.is_misplaced(key) || self.spoilt.iter().any(is_meant)
    }

    /// Whether `key` stands in a wrong section. A mistake in a connection, or in the comparison with Braze, leaves out that alone:
    /// it explains nothing that is missing elsewhere.
    fn is_misplaced(&self, key: &str) -> bool {
        let name = key.rsplit('.').next().unwrap_or(key);
        let explains = |section: &str| {
            let is_left_out_alone = section == RECONCILE || section.starts_with("connections.");
            !is_left_out_alone || is_within(key, section)
        };
        self.misplaced.iter().any(|(section, misplaced)| misplaced == name && explains(section))
    }

    pub(super) fn warn(&mut self, key: &str, reason: impl Into<String>) {
        let origin = self.origin(key).to_owned();
        self.warnings.push(Warning { origin, key: key.to_owned(), reason: reason.into() });
    }

    /// The file or variable of `key`, or else of the nearest section around it.
    pub(super) fn origin(&self, key: &str) -> &str {
        let mut key = key;
        loop {
            if let Some(origin) = self.origins.get(key) {
                return origin;
            }
            match key.rsplit_once('.') {
                Some((section, _)) => key = section,
                None => return &self.file,
            }
        }
    }

    /// Checked settings could still not be combined. The known mistakes explain it best; the cause itself is not shown,
    /// because it may quote a secret.
    pub(super) fn into_defect(mut self) -> ConfigError {
        if self.errors.is_empty() {
            self.error(
                "",
                "can't be used, though nothing was found to be wrong with it: a defect of this program",
            );
        }
        self.into_error()
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<(T, Vec<Warning>), ConfigError> {
        if self.errors.is_empty() { Ok((value, self.warnings)) } else { Err(self.into_error()) }
    }

    /// Whether an error of just this key has been reported.
    pub(super) fn has_error(&self, key: &str) -> bool {
        self.errors.iter().any(|error| error.key == key)
    }

    /// The errors so far.
    pub(super) fn errors(&self) -> &[Diagnostic] {
        &self.errors
    }

    pub(super) fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    pub(super) fn into_error(self) -> ConfigError {
        ConfigError { diagnostics: self.errors }
    }
}

/// Whether a key equals the other, or is in that section.
pub(super) fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// How much of a value a message repeats, in characters.
const SHOWN_MAX: usize = 80;

/// The length of a Datadog API key in hexadecimal digits: the shortest secret that is recognised by its look.
const KEY_DIGITS: usize = 32;

/// A value for a message: quoted, escaped, shortened, and hidden if it looks like an API key in a wrong place.
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

/// Whether a part of `value` could be an API key, or a private key.
pub(super) fn looks_like_key(value: &str) -> bool {
    value.split(|letter: char| !letter.is_ascii_hexdigit()).any(|run| run.len() >= KEY_DIGITS)
        || value.contains("-----BEGIN")
}

/// How many letters and digits a token has in a row, and other text seldom has.
const RANDOM_RUN: usize = 20;

/// Whether a part of `value` could be a token or a generated password: letters and digits mixed. Braze's hexadecimal ids are
/// not.
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
    // A word of n letters may have n / 3 slips; with more, a suggestion would be a misleading guess.
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
    fn a_diagnostic_reads_as_origin_key_reason() {
        let mut diagnostic =
            Diagnostic { origin: "a.toml".into(), key: "flush.interval".into(), reason: "no".into() };
        assert_eq!(diagnostic.to_string(), "a.toml: flush.interval: no");
        diagnostic.key.clear();
        assert_eq!(diagnostic.to_string(), "a.toml: no");
        let error = ConfigError { diagnostics: vec![diagnostic.clone(), diagnostic] };
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
