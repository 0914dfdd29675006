//! Our rules for tags against Datadog's own normaliser: what we cut off would not have been told apart there, what we
//! count as one is one there, and no value can pass for another.
//!
//! An input is a byte that chooses the field, and two values with a NUL between them.
#![no_main]

use braze_events::{FIELDS, Field, SendEvent};
use libdd_trace_normalization::normalize_utils::normalize_tag_cloned as normalized;
use libfuzzer_sys::fuzz_target;
use send_counts::aggregate::tags::{Layout, Names, Tag, TagSettings, clean};
use send_counts::route::ConnectionId;

/// Datadog: "Tags can be up to 200 characters long".
const CHARACTERS_MAX: usize = 200;

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let field = Field::ALL[usize::from(*choice) % FIELDS];
    let text = String::from_utf8_lossy(rest);
    let (one, other) = text.split_once('\0').unwrap_or((&text, ""));
    keeps_what_datadog_keeps(field, one);
    keeps_what_datadog_keeps(field, other);
    folds_only_what_datadog_folds(field, one, other);
    keys_are_unambiguous(field, one, other);
});

fn tag(field: Field, value: &str) -> String {
    format!("{}:{value}", field.name())
}

fn cleaned(field: Field, value: &str) -> &str {
    std::str::from_utf8(clean(value.as_bytes(), field.name())).expect("cut between characters")
}

/// What Datadog makes of a tag, without an end that it says a tag should not have.
fn seen(tag: &str) -> String {
    normalized(tag).trim_end_matches([':', '_']).to_owned()
}

fn is_short(field: Field, value: &str) -> bool {
    tag(field, value).chars().count() <= CHARACTERS_MAX
}

/// Datadog sees the tag that we send as it would see the whole one, up to the length that it takes.
fn keeps_what_datadog_keeps(field: Field, value: &str) {
    let clean = cleaned(field, value);
    assert!(value.starts_with(clean) && !clean.ends_with(':'));
    let sent = tag(field, clean);
    assert!(sent.chars().count() <= CHARACTERS_MAX);
    if is_short(field, value) {
        assert_eq!(seen(&sent), seen(&tag(field, value)));
        assert!(value[clean.len()..].bytes().all(|byte| byte == b':'));
    } else {
        assert!(normalized(&tag(field, value)).starts_with(&seen(&sent)));
    }
    // What is normal stays so: to normalise here first would change nothing there.
    let normal = normalized(&sent);
    assert_eq!(normalized(&normal), normal);
}

/// Two values that we count as one are one to Datadog.
fn folds_only_what_datadog_folds(field: Field, one: &str, other: &str) {
    let are_short = is_short(field, one) && is_short(field, other);
    if are_short && cleaned(field, one) == cleaned(field, other) {
        assert_eq!(seen(&tag(field, one)), seen(&tag(field, other)));
    }
}

/// Two sends are one series if, and only if, their tags are the same: no value can be made to look like another field.
fn keys_are_unambiguous(field: Field, one: &str, other: &str) {
    let include = Tag::ALL.to_vec();
    let layout = Layout::new(&TagSettings { include, static_tags: Vec::new(), names: Names::AsSent });
    let next = Field::ALL[(field as usize + 1) % FIELDS];
    let events = [(field, one), (field, other), (next, one), (next, other)];
    let sends = events.map(|(field, value)| {
        let mut event = SendEvent { event_type: 0, id: b"id", time: None, fields: [b""; FIELDS] };
        event.fields[field as usize] = value.as_bytes();
        let mut key = Vec::new();
        let attributes = layout.write_key(&mut key, ConnectionId(0), &event, "email");
        let mut tags = Vec::new();
        layout.tags(&mut tags, &key, &attributes);
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        assert!(tags.is_sorted());
        let expected = cleaned(field, value);
        assert_eq!(tags.contains(&tag(field, expected)), !expected.is_empty());
        (key, tags)
    });
    for (key, tags) in &sends {
        assert!(sends.iter().all(|(other, others)| (key == other) == (tags == others)));
    }
}
