//! The table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use admin_api::SendsBySide;
use admin_api::format::{grouped, harmless};
use jiff::civil::Date;

use super::{ComparedObject, ComparedSums, Reconciliation, UncomparedReason};

const HEAD: [&str; 6] = ["difference", "%", "Braze", "counted", "accepted", "dropped"];

/// The comparison as a table: the largest difference first, each with its parts; equal objects are only counted.
pub fn table(all: &Reconciliation) -> String {
    let differ: Vec<&ComparedObject> = all.objects.iter().filter(|object| is_shown(object)).collect();
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(differ.iter().map(|object| row(&object.sums)));
    rows.push(row(&all.total));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = format!(
        "Braze's dashboard and Datadog, {} to {}, days of {}. Beyond {} %: !\n\n",
        all.from, all.to, all.time_zone, all.tolerance_percent
    );
    let line = |row: &[String; 6], what: &str| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        format!("{}  {what}\n", cells.join("  "))
    };
    text.push_str(&line(&rows[0], ""));
    for (row, object) in rows[1..].iter().zip(&differ) {
        let mark = if object.within_tolerance { " " } else { "!" };
        text.push_str(&line(row, &format!("{mark} {}", title(object))));
        explain(&mut text, object);
    }
    text.push_str(&line(&rows[rows.len() - 1], "  all campaigns and Canvases together"));
    conclude(&mut text, all, differ.len());
    // Trailing spaces.
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Whether the table lists it.
fn is_shown(object: &ComparedObject) -> bool {
    !object.differences.is_empty()
        || object.days.iter().any(|day| day.not_compared == Some(UncomparedReason::NotSaid))
}

fn row(sums: &ComparedSums) -> [String; 6] {
    [
        plus(sums.sends.difference),
        sums.sends.difference_percent.map_or_else(|| "–".to_owned(), |percent| format!("{percent:+.2}")),
        grouped(sums.sends.braze),
        grouped(sums.sends.counted),
        grouped(sums.sends.accepted),
        grouped(sums.dropped.values().sum()),
    ]
}

fn plus(difference: i64) -> String {
    let sign = match difference {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", grouped(difference.unsigned_abs()))
}

fn title(object: &ComparedObject) -> String {
    let mut title = named(object.kind.label(), &object.name, &object.id);
    if !object.canvas_id.is_empty() {
        let canvas = if object.canvas_name.is_empty() { &object.canvas_id } else { &object.canvas_name };
        let _ = write!(title, " of Canvas {}", harmless(canvas));
    }
    title
}

fn named(kind: &str, name: &str, id: &str) -> String {
    let kind = if kind == "canvas" { "Canvas" } else { kind };
    if id.is_empty() && name.is_empty() {
        format!("{kind} without an id")
    } else if id.is_empty() {
        format!("{kind} {} without an id", harmless(name))
    } else if name.is_empty() {
        format!("{kind} {}", harmless(id))
    } else {
        format!("{kind} {} ({})", harmless(name), harmless(id))
    }
}

fn explain(text: &mut String, object: &ComparedObject) {
    for difference in &object.differences {
        let _ = writeln!(text, "      {}", harmless(&difference.words));
    }
    for day in object.days.iter().filter(|day| day.difference.is_some_and(|difference| difference != 0)) {
        let (difference, braze) = (plus(day.difference.unwrap_or(0)), grouped(day.braze.unwrap_or(0)));
        let (counted, accepted) = (grouped(day.counted), grouped(day.accepted));
        let _ = writeln!(
            text,
            "      {}: {difference} (Braze {braze}, counted {counted}, accepted {accepted})",
            day.day
        );
    }
    for day in object.days.iter().filter(|day| day.not_compared == Some(UncomparedReason::NotSaid)) {
        let _ = writeln!(
            text,
            "      {} {}; counted {}, accepted {}",
            day.day,
            UncomparedReason::NotSaid.message(),
            grouped(day.counted),
            grouped(day.accepted)
        );
    }
    if !object.channels_apart.is_empty() {
        let channels: Vec<String> = object.channels_apart.iter().map(|name| harmless(name)).collect();
        let _ =
            writeln!(text, "      apart, for the forwarder counts no sends of it: {}", channels.join(", "));
    }
}

fn conclude(text: &mut String, all: &Reconciliation, shown: usize) {
    let unseen = all.objects.iter().filter(|object| !is_shown(object) && !object.is_compared()).count();
    let agreeing = all.objects.len().saturating_sub(shown + unseen);
    let of = format!("of {} campaigns, Canvases and steps", all.objects.len());
    let _ = writeln!(text, "\nAgree to the send: {agreeing} {of}.");
    if unseen > 0 {
        let _ = writeln!(text, "Have sends only on days that are left out: {unseen} {of}.");
    }
    if let Some(printed) = printed(&all.total.sends) {
        let _ = writeln!(text, "\n{printed}.");
    }
    let days = uncompared_days(all);
    if !days.is_empty() {
        text.push_str("\nDays that are left out:\n");
        for (day, reason) in days {
            let _ = writeln!(text, "  {day} {}", reason.message());
        }
    }
    if !all.not_compared.is_empty() {
        text.push_str("\nNot compared (this is not 0):\n");
        for object in &all.not_compared {
            let title = named(object.kind.label(), &object.name, &object.id);
            let counted = grouped(object.counted);
            let _ = writeln!(text, "  {title}, {counted} counted: {}", harmless(&object.reason));
        }
    }
}

/// Says so where a dry run has printed some of the sends.
pub(super) fn printed(sends: &SendsBySide) -> Option<String> {
    let printed = grouped(sends.printed);
    (sends.printed > 0)
        .then(|| format!("{printed} of the accepted sends were printed by a dry run, not sent"))
}

/// Days that no object could be compared on, for a reason of the day.
fn uncompared_days(all: &Reconciliation) -> BTreeMap<Date, UncomparedReason> {
    let days = all.objects.iter().flat_map(|object| &object.days);
    let reasons = days.filter_map(|day| Some((day.day, day.not_compared?)));
    reasons.filter(|(_, reason)| *reason != UncomparedReason::NotSaid).collect()
}
