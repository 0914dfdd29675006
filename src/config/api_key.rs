//! The API key of a connection: its place, and messages about it that never quote it.

use std::path::Path;

use super::check::Check;
use super::diagnostic::{looks_like_key, quoted};
use super::files;
use super::schema::join;
use super::settings;
use braze_events::app_group;
use datadog_points::ApiKey;

/// The length of a Datadog API key: 32 hexadecimal digits.
const API_KEY_DIGITS: usize = 32;
/// The length of an application key, which people most often mistake for the API key.
const APPLICATION_KEY_DIGITS: usize = 40;

impl Check<'_> {
    /// The key from its place, one of three.
    pub(super) fn api_key(&mut self, section: &str, raw: &settings::ConnectionSection) -> ApiKey {
        let places = [
            ("api_key_file", &*raw.api_key_file),
            ("api_key_env", &*raw.api_key_env),
            ("api_key", &*raw.api_key.0),
        ];
        let given: Vec<_> = places.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        let key = match given[..] {
            [] if raw.dry_run => None,
            [] => {
                let reason =
                    "has no API key; set api_key_file (or api_key_env, or api_key), or dry_run = true";
                let mut explained = places.iter().map(|(place, _)| *place).chain(["dry_run"]);
                if !explained.any(|key| self.diagnostics.is_spoilt(&join(section, key))) {
                    self.diagnostics.error(section, reason);
                }
                None
            }
            [(place, text)] => self.api_key_at(&join(section, place), place, text),
            [(first, _), (second, _), ..] => {
                let origin = self.diagnostics.origin(&join(section, first)).to_owned();
                let reason = format!("is set, and so is {first} ({origin}); set one of them");
                self.diagnostics.error(&join(section, second), reason);
                None
            }
        };
        // Without a key there is an error already, or it is a dry run.
        ApiKey::new(&key.unwrap_or_default())
    }

    fn api_key_at(&mut self, key: &str, place: &str, text: &str) -> Option<String> {
        let (source, found) = match place {
            "api_key_file" => self.key_in_file(key, text, "an API key")?,
            "api_key_env" => self.key_in_environment(key, text)?,
            _ => {
                self.warn_if_origin_open(key, "an API key");
                ("the key".to_owned(), text.to_owned())
            }
        };
        self.check_key(key, &source, found.trim());
        Some(found)
    }

    /// The name of the key's place, and the key.
    pub(super) fn key_in_file(&mut self, key: &str, text: &str, what: &str) -> Option<(String, String)> {
        let path = self.path(key, text)?;
        self.key_files.insert(key.to_owned(), path.clone());
        let found = self.secret(key, &path, what, &format!("; {what} has to be in it"))?;
        Some((path.display().to_string(), found))
    }

    pub(super) fn key_in_environment(&mut self, key: &str, text: &str) -> Option<(String, String)> {
        // A REST API key of Braze is a UUID.
        let is_uuid = || text.len() > 20 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        if looks_like_key(text) || is_uuid() {
            let reason =
                "has to be the name of an environment variable, and this looks like an API key itself";
            self.diagnostics.error(key, reason);
            return None;
        }
        let source = format!("the environment variable {}", quoted(text));
        let Some((_, found)) = self.env.iter().find(|(name, _)| name == text) else {
            self.diagnostics.error(key, format!("{source} is not set"));
            return None;
        };
        Some((source, found.clone()))
    }

    /// Reports mistakes in a key without quoting it.
    fn check_key(&mut self, key: &str, source: &str, found: &str) {
        let length = found.chars().count();
        if let Some(reason) = api_key_fault(found) {
            self.diagnostics.error(key, format!("{source} {reason}"));
        } else if length == APPLICATION_KEY_DIGITS && found.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason =
                format!("{source} looks like an application key (40 digits); points need an API key (32)");
            self.diagnostics.warn(key, reason);
        } else if length != API_KEY_DIGITS || !found.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let reason = format!(
                "{source} does not look like an API key of Datadog, which has {API_KEY_DIGITS} hexadecimal digits; \
                 this has {length} characters"
            );
            self.diagnostics.warn(key, reason);
        }
    }
}

/// Reads a key from a file that the command line names, with warnings. `what` is its kind: "a REST API key".
///
/// # Errors
/// Why there is none. It completes a sentence that begins with the path, and never quotes the content.
pub fn read_key(path: &Path, what: &str) -> Result<(String, Option<String>), String> {
    let text = files::read_secret(path, files::SECRET_BYTES_MAX).map_err(|error| error.to_string())?;
    let key = text.trim();
    if let Some(reason) = api_key_fault(key) {
        return Err(reason.to_owned());
    }
    Ok((key.to_owned(), files::open_to_others(path, what)))
}

/// Why this is no API key. It completes a sentence.
pub fn api_key_fault(found: &str) -> Option<&'static str> {
    let has = |is_one: fn(char) -> bool| found.chars().any(is_one);
    let reason = if found.is_empty() {
        "is empty; an API key has to be in it"
    } else if found.starts_with('\u{feff}') {
        "begins with a byte order mark, as some editors write it; save it again as UTF-8 without one"
    } else if has(app_group::is_quote) {
        "has quotation marks in it; write the key alone, without them"
    } else if found.contains(['\r', '\n']) {
        "has several lines, with white space between them; write the key alone, on one line"
    } else if has(app_group::is_unseen) {
        "has control characters or others that can't be seen in it, as they come along when a key is copied; type it \
         anew, or copy it from the page where it was made into an empty file"
    } else if has(char::is_whitespace) {
        "has white space in the middle; write the key alone"
    } else if !found.bytes().all(|byte| byte.is_ascii_graphic()) {
        "has letters that no API key has; it has to be the key and nothing else"
    } else {
        return None;
    };
    Some(reason)
}

#[cfg(test)]
mod tests;
