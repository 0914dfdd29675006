//! The connections directory: one file a connection.

use std::collections::BTreeMap;
use std::path::Path;

use ::config::Value;
use serde_json::Value as Json;

use super::Candidate;
use super::check::could_be_key;
use super::connections::{APP_GROUP_IDS, DIRECTORY};
use super::diagnostic::Diagnostics;
use super::files::{self, FileError};
use super::schema::{Table, join};
use super::sources::{self, merge};
use braze_events::app_group::{self, IdFault};

/// Files of the connections directory that can't be used, by the name of their connection, with the app groups that could be
/// recovered.
pub(super) type Unread = BTreeMap<String, Option<Vec<String>>>;

/// The app groups of a connection whose file can't be used, if they can be recovered.
fn recover_app_groups(text: &str) -> Option<Vec<String>> {
    let (table, errors) = toml::de::DeTable::parse_recoverable(text);
    let list = table.get_ref().get(APP_GROUP_IDS)?;
    let (ids, span) = (list.get_ref().as_array()?, list.span());
    // In a list with a mistake a quote may have made two ids one, or the end may be missing.
    let is_touched = |error: &toml::de::Error| {
        error.span().is_none_or(|wrong| wrong.start <= span.end && wrong.end >= span.start)
    };
    // Of two lists the second is not read.
    let is_second = |error: &toml::de::Error| error.message() == "duplicate key";
    let is_whole = text.get(span.clone())?.ends_with(']');
    if !is_whole || errors.iter().any(|error| is_touched(error) || is_second(error)) {
        return None;
    }
    let ids: Option<Vec<_>> = ids.iter().map(|id| id.get_ref().as_str().map(str::to_owned)).collect();
    // An empty list may be the rest of a broken one.
    ids.filter(|ids| !ids.is_empty() && ids.iter().all(|id| is_possible(id)))
}

pub(super) fn is_possible(id: &str) -> bool {
    !matches!(app_group::fault(id), Some(IdFault::Impossible(_)))
}

/// The app groups of a connection that has a section and a file, if both list some.
fn app_groups_of_both(section: &Value, text: Option<&str>) -> Option<Vec<String>> {
    let list = section.clone().into_table().ok()?.remove(APP_GROUP_IDS)?.into_array().ok()?;
    let listed: Vec<_> = list.into_iter().filter_map(|id| id.into_string().ok()).collect();
    let recovered = recover_app_groups(text?)?;
    (!listed.is_empty()).then(|| [recovered, listed].concat())
}

/// The connections directory as it is written: in the environment, or else in the file. The environment is read twice: here only
/// to find further files, whose diagnostics come first.
pub(super) fn written(
    diagnostics: &mut Diagnostics,
    file: &Table,
    env: &[(String, String)],
    schema: &Json,
) -> Option<String> {
    let mut of_variables = Diagnostics::default();
    let variables = sources::environment(&mut of_variables, env, schema);
    // An empty variable wins, too.
    if !variables.contains_key(DIRECTORY) {
        return of(file);
    }
    diagnostics.came_from(DIRECTORY, of_variables.origin(DIRECTORY), false);
    of(&variables)
}

/// The connections directory that a source names.
fn of(source: &Table) -> Option<String> {
    let directory = source.get(DIRECTORY)?.clone().into_string().ok()?;
    (!directory.is_empty()).then_some(directory)
}

/// Whether a file is none of a connection's. Kubernetes keeps versions of mounted files in hidden folders, and editors keep hidden
/// files; keys may be beside their connections.
fn is_passed(path: &Path, file_name: &str) -> bool {
    file_name.starts_with('.') || path.extension().is_some_and(|extension| extension == "key")
}

/// Reads each `NAME.toml` of the connections directory; returns those that can't be used. `written` is how the configuration
/// names it.
pub(super) fn read(
    diagnostics: &mut Diagnostics,
    (written, directory): (&str, &Path),
    candidate: Option<Candidate<'_>>,
    schema: &Json,
    merged: &mut Table,
) -> Unread {
    const KEY: &str = DIRECTORY;
    let mut unread = Unread::new();
    if could_be_key(written, directory) {
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
        if let Some(section) = above.get(name) {
            let file = diagnostics.origin(&key).to_owned();
            diagnostics.error_at(
                &origin,
                &key,
                format!("is in {file} too; a connection is configured in one place"),
            );
            let text = files::read_config(&path).ok();
            unread.insert(name.to_owned(), app_groups_of_both(section, text.as_deref()));
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
