//! What a monitor is narrowed to: filters of its query, each of which has to find what was meant.

use crate::app::{Failure, print_stderr};
use crate::monitors::Filter;
use datadog_points::normalize::stored_tag;

/// What stands in Braze's events for a field that the workspace hides. No tag is made of it.
const REDACTED: &str = "[REDACTED]";

/// The names that may be missing, and what is sure in their place.
const NAMES: [(&str, &str, &str); 3] = [
    ("campaign_name", "campaign_id", "--campaign-id"),
    ("canvas_name", "canvas_id", "--canvas-id"),
    ("canvas_step_name", "canvas_step_id", "--step-id"),
];

/// What joins, negates or widens terms of a query of Datadog's.
const SIGNS: &str = "!*,()";

/// The tags that sends have.
pub(super) struct SentTags<'c> {
    /// Of `tags.include`.
    pub(super) included: Vec<&'static str>,
    /// The connection, and `tags.static`; `None`: any, for no configuration is known.
    pub(super) of: Option<(&'c str, &'c [Box<str>])>,
}

impl SentTags<'_> {
    /// Whether a query with this filter can find anything.
    pub(super) fn check_filter(&self, filter: &Filter) -> Result<(), Failure> {
        let Filter { key, value } = filter;
        if !self.included.contains(&&**key) {
            return fail(self.lacks(key));
        }
        if value == REDACTED {
            return fail(redacted(value));
        }
        // A name may have such signs, and is looked for as it is stored; with an id an expression is meant.
        if key.ends_with("_id")
            && let Some(sign) = value.chars().find(|letter| SIGNS.contains(*letter))
        {
            return fail(format!(
                "{key}: {value:?} has {sign:?}, and is no expression: it is one id; print a monitor for each"
            ));
        }
        let stored = filter.stored();
        if stored.is_empty() {
            let reason = format!(
                "nothing is left of {value:?} in Datadog, so that no query finds it; watch it by its id"
            );
            return fail(reason);
        }
        if !value.is_ascii() || stored.chars().count() + key.len() + 1 >= 200 {
            print_stderr(&format!(
                "note: {value:?} is looked for as {key}:{stored}, but what Datadog makes of letters beyond ASCII and of long \
                 names is not published: compare with the tag in Datadog, or watch it by its id"
            ));
        }
        Ok(())
    }

    /// A tag as Datadog stores it: one that all have to have.
    pub(super) fn scope_of(&self, tag: &str) -> Result<String, Failure> {
        let stored = stored_tag(tag);
        if let Some(what) = operator(tag) {
            return fail(format!(
                "--tag {tag:?} has {what}, and is no expression: it is one KEY:VALUE that all have to have, written as \
                 Datadog stores it ({stored}); give --tag again for another"
            ));
        }
        let Some((key, value)) =
            stored.split_once(':').filter(|(key, value)| !key.is_empty() && !value.is_empty())
        else {
            return fail(format!("--tag {tag:?} is not KEY:VALUE"));
        };
        if tag.split_once(':').is_some_and(|(_, value)| value == REDACTED) {
            return fail(redacted(tag));
        }
        let Some((connection, fixed)) = self.of else { return Ok(stored) };
        let fixed: Vec<String> = fixed.iter().map(|tag| stored_tag(tag)).collect();
        let same_key: Vec<&str> =
            fixed.iter().map(|tag| &**tag).filter(|tag| tag.split(':').next() == Some(key)).collect();
        let is_sent =
            self.included.contains(&key) || fixed.contains(&stored) || (key, value) == ("overflow", "true");
        match (is_sent, &same_key[..]) {
            (true, _) => Ok(stored),
            (false, []) => fail(self.lacks(key)),
            (false, others) => fail(format!(
                "connection {connection} sends no {stored}: tags.static has {}",
                others.join(", ")
            )),
        }
    }

    fn lacks(&self, key: &str) -> String {
        let of = self.of.map_or("", |(connection, _)| connection);
        format!(
            "connection {of} sends no tag {key}: it is in neither tags.include nor tags.static; watch it by another"
        )
    }
}

/// Says of names that they are not sure.
pub(super) fn note_names(filters: &[Filter], scope: &[String]) {
    let is_used = |name: &str| {
        filters.iter().any(|filter| filter.key == name)
            || scope.iter().any(|tag| tag.split_once(':').is_some_and(|(key, _)| key == name))
    };
    let used: Vec<_> = NAMES.iter().filter(|(name, ..)| is_used(name)).collect();
    if used.is_empty() {
        return;
    }
    let names: Vec<&str> = used.iter().map(|(name, ..)| *name).collect();
    let sure: Vec<String> = used.iter().map(|(_, id, option)| format!("{id} ({option})")).collect();
    print_stderr(&format!(
        "note: sends of the first hour after something was made or renamed may have no {}, or the old one, and are not seen \
         here then; {} is sure",
        names.join(" or "),
        sure.join(" or ")
    ));
}

/// What would mean something in a query of Datadog's, and is lost in a stored tag.
fn operator(tag: &str) -> Option<String> {
    if tag.starts_with('-') {
        return Some("'-' at its beginning".to_owned());
    }
    let found = tag
        .chars()
        .find(|letter| letter.is_whitespace() || SIGNS.contains(*letter) || "{}".contains(*letter))?;
    Some(if found.is_whitespace() { "white space".to_owned() } else { format!("{found:?}") })
}

fn redacted(text: &str) -> String {
    format!(
        "{text:?} is never sent as a tag: the workspace hides this field from whoever reads its events; watch another"
    )
}

fn fail<T>(reason: String) -> Result<T, Failure> {
    Err(Failure::failed(reason))
}
