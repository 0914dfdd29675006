//! The name of the machine's time zone.

use std::path::Path;

/// The IANA name that `TZ` says, or else the file that stands for the time zone; `None`: there is none.
pub(crate) fn name_of(tz: Option<&str>, local: Option<&Path>) -> Option<String> {
    let name = match tz.map(|tz| tz.strip_prefix(':').unwrap_or(tz)) {
        Some(path) if path.starts_with('/') => below_zoneinfo(path),
        Some(name) => Some(name),
        None => local.and_then(Path::to_str).and_then(below_zoneinfo),
    };
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

fn below_zoneinfo(path: &str) -> Option<&str> {
    path.split_once("/zoneinfo/").map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
