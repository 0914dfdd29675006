//! Maps Braze's channels to counted event types.

use std::collections::BTreeSet;

/// The event types that the forwarder counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedTypes(BTreeSet<String>);

impl CountedTypes {
    /// Parses a list as in `events.count` and `/status`: separated by commas.
    pub fn parse(text: &str) -> Self {
        Self(text.split(',').map(|name| name.trim().to_owned()).collect())
    }

    /// Whether sends of a channel, by its name in Braze's REST API, are counted.
    pub fn have(&self, channel: &str) -> bool {
        event_type(channel).is_some_and(|name| self.0.contains(name))
    }
}

/// The event type that stands for a channel's sends. In-app messages, banners and feature flags have none: they are shown,
/// not sent. Nor has an unknown channel, so that nothing is compared with it.
///
/// Source: Braze's API reference, "Export campaign analytics", message types; its Currents glossary, message engagement
/// events.
fn event_type(channel: &str) -> Option<&'static str> {
    Some(match channel {
        "email" => "users.messages.email.Send",
        "sms" => "users.messages.sms.Send",
        "webhook" => "users.messages.webhook.Send",
        "whatsapp" | "whats_app" => "users.messages.whatsapp.Send",
        "content_card" | "content_cards" => "users.messages.contentcard.Send",
        "rcs" => "users.messages.rcs.Send",
        "line" => "users.messages.line.Send",
        "push" => "users.messages.pushnotification.Send",
        other if other.ends_with("_push") => "users.messages.pushnotification.Send",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
