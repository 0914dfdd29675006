//! Reads facts about the events from the push URL's query, and checks them.

use super::refusal::Refusal;
use super::token::AppGroups;
use braze_events::app_group;
use event_queues::EventDefaults;

/// Reads `app_group_id` and `app_group_name`; the first of each that is not empty counts, everything else
/// is ignored.
///
/// A value that is not UTF-8 gets U+FFFD in it instead of an answer of 400: a slip in the connector's URL
/// must not cost events, and it shows in the tag. So does a zero byte, which Datadog takes in no tag.
pub(super) fn read(query: &str) -> EventDefaults {
    let mut defaults = EventDefaults::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match &*key {
            "app_group_id" => &mut defaults.app_group_id,
            "app_group_name" => &mut defaults.app_group_name,
            _ => continue,
        };
        if place.is_none() && !value.is_empty() {
            *place = Some(value.replace('\0', "\u{fffd}").into());
        }
    }
    defaults
}

/// The token in a query, for senders without headers: RFC 6750, section 2.3. An unescaped plus sign has become a blank,
/// which no token has.
pub(super) fn token_in(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "access_token").map(|(_, token)| token.replace(' ', "+"))
}

/// The same for a request whose token is bound to app groups: the URL's app group must be among them. Events without an app
/// group get the URL's, else the only one of the token.
pub(super) fn read_within(query: &str, app_groups: &AppGroups) -> Result<EventDefaults, Refusal> {
    let mut defaults = read(query);
    match (&defaults.app_group_id, &**app_groups) {
        (Some(named), own) if own.contains(&app_group::canonical(named)) => {}
        (Some(_), _) => return Err(Refusal::ForeignUrl),
        (None, [only]) => defaults.app_group_id = Some(only.clone()),
        (None, _) => {}
    }
    Ok(defaults)
}

#[cfg(test)]
mod tests;
