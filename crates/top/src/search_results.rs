//! What a search found, in words.

use admin_api::format::grouped;
use admin_api::{SearchAnswer, SeriesMatch};

use crate::cells::clean;

/// How much was found.
pub(crate) fn said(found: &SearchAnswer) -> String {
    match found.matches {
        0 => format!("nothing among {} series", grouped(found.remembered_series)),
        matches => format!("{} of {} series", grouped(matches), grouped(found.remembered_series)),
    }
}

/// A series by its names, or its ids.
pub(crate) fn title(found: &SeriesMatch) -> String {
    let value = |key: &str| {
        let value = found.tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'));
        value.filter(|value| !value.trim().is_empty())
    };
    let step = value("canvas_step_name").or_else(|| value("canvas_step_id"));
    let campaign = value("campaign_name").or_else(|| value("campaign_id"));
    let parts: Vec<&str> = [value("canvas_name"), step, campaign].into_iter().flatten().collect();
    if parts.is_empty() { clean(&found.tags.join(" ")) } else { clean(&parts.join(" › ")) }
}

/// The details of a row of what was found.
pub(crate) fn search_details(found: &SearchAnswer, row: usize) -> Option<String> {
    if let Some(one) = found.objects.get(row) {
        let (kind, id, words, comparison) = (one.kind.label(), &one.id, &one.words, &one.comparison);
        return Some(format!("{}: {kind} {id}  {words}  {comparison}", one.connection));
    }
    let series = found.results.get(row - found.objects.len())?;
    Some(format!("{}: {}", series.connection, series.tags.join("  ")))
}
