//! What the name of a topic says of the events in it.

use std::sync::Arc;

use crate::queue::Origin;

/// Where the name of an event type begins.
const FAMILY: &str = "users.";

/// Braze has one topic per event type: `users.messages.email.Send`, with whatever before it. It stands for events
/// that do not say their type themselves.
pub(super) fn origin_of(topic: &str) -> Arc<Origin> {
    Arc::new(Origin { event_type: event_type_of(topic).map(Into::into), ..Origin::default() })
}

/// An event type has a family, an object and a verb with a capital: `users.messages.email.Send`.
fn event_type_of(topic: &str) -> Option<&str> {
    let stands_alone = |start: &usize| *start == 0 || topic[..*start].ends_with(['.', '-', '_']);
    let start = topic.match_indices(FAMILY).map(|(start, _)| start).find(stands_alone)?;
    let name = &topic[start..];
    let (_, verb) = name.rsplit_once('.')?;
    let is_type = name.split('.').count() >= 3 && verb.starts_with(|first: char| first.is_ascii_uppercase());
    is_type.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_can_be_named_after_its_event_type() {
        for (topic, expected) in [
            ("users.messages.email.Send", Some("users.messages.email.Send")),
            ("braze.currents.users.messages.sms.Send", Some("users.messages.sms.Send")),
            ("eu-users.canvas.Entry", Some("users.canvas.Entry")),
            ("braze.sends", None),
            ("braze.users.sends", None),
            ("users.messages", None),
            ("superusers.messages.email.Send", None),
            ("", None),
        ] {
            assert_eq!(event_type_of(topic), expected, "{topic}");
        }
    }
}
