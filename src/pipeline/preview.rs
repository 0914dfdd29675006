//! The output of a dry run: the series of a flush as a small table.

use std::fmt::Write;

use admin_api::format::is_steering;
use send_counts::aggregate::Aggregator;
use send_counts::aggregate::tags::TagText;

use crate::connection::Connection;

/// How many series a table shows; its last line adds up the rest.
const ROWS_MAX: usize = 25;

/// How much of a value a table shows, in characters: whole names, and enough of ids to tell them apart.
const VALUE_MAX: usize = 24;

/// The series with the given numbers as a table for a terminal, busiest first.
pub fn preview(cut: &Aggregator, numbers: &[u32], connection: &Connection) -> String {
    let mut rows: Vec<(u64, u32)> =
        numbers.iter().map(|number| (cut.series(*number as usize).sends(), *number)).collect();
    rows.sort_unstable_by_key(|(sends, number)| (std::cmp::Reverse(*sends), *number));
    let total: u64 = rows.iter().map(|(sends, _)| sends).sum();
    let mut text = format!(
        "\n{} → {} (dry run: nothing is sent)   {total} sends in {} series of {}\n{:>10}  tags\n",
        connection.name,
        connection.site.name,
        rows.len(),
        connection.metric,
        "sends",
    );
    let mut tags: Vec<TagText<'_>> = Vec::new();
    for (sends, number) in rows.iter().take(ROWS_MAX) {
        let series = cut.series(*number as usize);
        cut.layout().tags(&mut tags, series.key, &series.attributes);
        // Formatting into a String can't fail.
        let _infallible = write!(text, "{sends:>10} ");
        for tag in &tags {
            text.push(' ');
            // Braze's names are free text: terminal control characters are shown, not obeyed.
            text.extend(String::from_utf8_lossy(tag.key).chars().map(masked));
            let value = String::from_utf8_lossy(tag.value);
            text.extend(value.chars().take(VALUE_MAX).map(masked));
            if value.chars().nth(VALUE_MAX).is_some() {
                text.push('…');
            }
        }
        text.push('\n');
    }
    if let Some(rest) = rows.get(ROWS_MAX..).filter(|rest| !rest.is_empty()) {
        let sends: u64 = rest.iter().map(|(sends, _)| sends).sum();
        let _infallible = writeln!(text, "{sends:>10}  in {} more series", rest.len());
    }
    text
}

fn masked(letter: char) -> char {
    if is_steering(letter) { '\u{fffd}' } else { letter }
}

#[cfg(test)]
mod tests;
