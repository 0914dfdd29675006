//! The connections directory: one file a connection.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::Candidate;
use super::connections::{APP_GROUP_IDS, DIRECTORY};
use super::diagnostic::{Diagnostics, looks_like_key};
use super::files::{self, FileError};
use super::schema::{Table, join};
use super::sources::{self, merge};

/// Unreadable files of the connections directory, by the name of their connection, with the app groups that could be
/// recovered.
pub(super) type Unread = BTreeMap<String, Option<Vec<String>>>;

/// The app groups of a connection whose file is not TOML, if they can be recovered.
fn recover_app_groups(text: &str) -> Option<Vec<String>> {
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    let list = table.get_ref().get(APP_GROUP_IDS)?;
    let (ids, span) = (list.get_ref().as_array()?, list.span());
    // In a list with a mistake a quote may have made two ids one, or the end may be missing.
    let is_touched = |error: &toml::de::Error| {
        error.span().is_none_or(|wrong| wrong.start <= span.end && wrong.end >= span.start)
    };
    if !text.get(span.clone())?.ends_with(']') || errors.iter().any(is_touched) {
        return None;
    }
    let ids: Option<Vec<_>> = ids.iter().map(|id| id.get_ref().as_str().map(str::to_owned)).collect();
    // An empty list may be the rest of a broken one.
    ids.filter(|ids| !ids.is_empty())
}

/// Whether a source says which connections directory there is, or that there is none.
pub(super) fn is_set(source: &Table) -> bool {
    source.contains_key(DIRECTORY)
}

/// The connections directory that a source names.
pub(super) fn of(source: &Table) -> Option<String> {
    let directory = source.get(DIRECTORY)?.clone().into_string().ok()?;
    (!directory.is_empty()).then_some(directory)
}

/// Whether a file is none of a connection's. Kubernetes keeps versions of mounted files in hidden folders, and editors keep hidden
/// files; keys may be beside their connections.
fn is_passed(path: &Path, file_name: &str) -> bool {
    file_name.starts_with('.') || path.extension().is_some_and(|extension| extension == "key")
}

/// Reads each `NAME.toml` of the connections directory; returns the unreadable ones.
pub(super) fn read(
    diagnostics: &mut Diagnostics,
    directory: &Path,
    candidate: Option<Candidate<'_>>,
    schema: &Json,
    merged: &mut Table,
) -> Unread {
    const KEY: &str = DIRECTORY;
    let mut unread = Unread::new();
    if looks_like_key(&directory.to_string_lossy()) {
        let origin = diagnostics.origin(KEY).to_owned();
        diagnostics.unread_at(&origin, KEY, "has to be a path, and this looks like an API key");
        return unread;
    }
    let paths = match files::entries(directory) {
        Ok(paths) => paths,
        Err(error) => {
            let hint = if matches!(error, FileError::Missing) { "; make it, or leave it out" } else { "" };
            let origin = diagnostics.origin(KEY).to_owned();
            diagnostics.unread_at(&origin, KEY, format!("{} {error}{hint}", directory.display()));
            return unread;
        }
    };
    let above =
        merged.get("connections").cloned().and_then(|above| above.into_table().ok()).unwrap_or_default();
    if let Some(Candidate { name, text }) = candidate {
        let origin = directory.join(format!("{name}.toml")).display().to_string();
        match sources::connection(diagnostics, text, &origin, schema, name) {
            Some(connection) => merge(merged, connection),
            None => _ = unread.insert(name.to_owned(), None),
        }
    }
    for path in paths {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A candidate stands in the place of its file.
        let is_replaced = candidate.is_some_and(|one| file_name.strip_suffix(".toml") == Some(one.name));
        if is_replaced || is_passed(&path, &file_name) {
            continue;
        }
        let origin = path.display().to_string();
        let Some(name) = file_name.strip_suffix(".toml") else {
            diagnostics.warn(KEY, format!("{origin} is ignored: its name does not end in .toml"));
            continue;
        };
        let key = join("connections", name);
        if above.contains_key(name) {
            let file = diagnostics.origin(&key).to_owned();
            diagnostics.error_at(
                &origin,
                &key,
                format!("is in {file} too; a connection is configured in one place"),
            );
            continue;
        }
        match files::read_config(&path) {
            Ok(text) => match sources::connection(diagnostics, &text, &origin, schema, name) {
                Some(connection) => merge(merged, connection),
                None => _ = unread.insert(name.to_owned(), recover_app_groups(&text)),
            },
            Err(error) => {
                diagnostics.unread_at(&origin, &key, error.to_string());
                unread.insert(name.to_owned(), None);
            }
        }
    }
    unread
}

#[cfg(test)]
mod tests;
