//! The labels of ignored event types.

/// The longest event type that gets a label of its own. Braze's longest is about half of it.
const IGNORED_TYPE_LENGTH_MAX: usize = 100;

/// Whether an event type that is not counted can be told by its name.
pub(crate) fn can_be_label(event_type: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    event_type.len() <= IGNORED_TYPE_LENGTH_MAX && event_type.iter().all(is_plain)
}
