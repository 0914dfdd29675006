//! What the push URL's query says of the events.

use event_queues::Origin;

/// Reads `app_group_id` and `app_group_name`; the first of each that is not empty counts, everything else
/// is ignored.
///
/// A value that is not UTF-8 gets U+FFFD in it instead of an answer of 400: a slip in the connector's URL
/// must not cost events, and it shows in the tag.
pub(super) fn read(query: &str) -> Origin {
    let mut origin = Origin::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match &*key {
            "app_group_id" => &mut origin.app_group_id,
            "app_group_name" => &mut origin.app_group_name,
            _ => continue,
        };
        if place.is_none() && !value.is_empty() {
            *place = Some(value.into());
        }
    }
    origin
}

#[cfg(test)]
mod tests;
