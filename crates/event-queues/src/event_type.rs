//! Event types in the names of files, objects and topics. Pure.

use std::path::{Component, Path};

/// The prefix of a path component that names the event type of the files below it: the layout of Braze's Currents storage
/// exports, `…/event_type=users.messages.email.Send/date=…/…`.
pub(super) const EVENT_TYPE: &str = "event_type=";

/// The prefix of every event type of Braze's users.
const ROOT: &str = "users.";

/// The event type in a name, which may have something before and behind it (`users.messages.email.Send.json`,
/// `export-users.messages.email.Send-0001.avro`): from the last `users.` that begins one, to the end of the first word with a
/// capital, as all of Braze's types end.
pub(super) fn event_type_in(name: &str) -> Option<&str> {
    let is_start = |at: &usize| !name[..*at].ends_with(|before: char| before.is_ascii_alphanumeric());
    let starts = name.rmatch_indices(ROOT).map(|(at, _)| at).filter(is_start);
    starts.map(|start| &name[start..]).find_map(event_type_at_start)
}

fn event_type_at_start(name: &str) -> Option<&str> {
    let mut end = 0;
    for word in name.split_inclusive('.') {
        let letters = word.bytes().take_while(u8::is_ascii_alphanumeric).count();
        if word.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Some(&name[..end + letters]);
        }
        if letters == 0 || letters + 1 != word.len() {
            return None;
        }
        end += word.len();
    }
    None
}

/// The event type that a path names: from the innermost directory that names one, else from the file's own name.
pub(super) fn event_type_of_path(path: &Path) -> Option<Box<str>> {
    let named = path.parent()?.components().rev().find_map(|component| match component {
        Component::Normal(name) => {
            name.to_str()?.strip_prefix(EVENT_TYPE).filter(|name| !name.is_empty()).map(Into::into)
        }
        _ => None,
    });
    named.or_else(|| event_type_in(path.file_name()?.to_str()?).map(Into::into))
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
            ("prod.users.braze.users.messages.email.Send", Some("users.messages.email.Send")),
            ("export.users.2026-11-20.users.messages.email.Send.json", Some("users.messages.email.Send")),
            ("users.messages.email.Send.users.2026", Some("users.messages.email.Send")),
            ("", None),
            ("braze.users.messages.email.Send-eu", Some("users.messages.email.Send")),
        ] {
            assert_eq!(event_type_in(topic), expected, "{topic}");
        }
    }
}
