//! Messages of one partition, gathered into one delivery.

use std::sync::Arc;

use super::frame::{self, MessageKind};
use super::offsets::{Assignment, Partition};
use crate::EventDefaults;
use crate::event_type::event_type_in;

/// A batch is handed over at this size: large enough to cost nothing per message, small beside the deliveries that a lane
/// has in hand.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_MESSAGES: usize = 4096;

/// The largest message, as the docs of queue.kafka.topics say. An event of Braze has 900 KB at most, an envelope holds
/// several.
pub(super) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A message within the body of a [`MessageBatch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchedMessage {
    /// Where it ends; it begins where the one before ends.
    pub(super) end: usize,
    pub(super) kind: MessageKind,
}

/// Messages of one partition, one after another.
#[derive(Debug)]
pub(super) struct MessageBatch {
    pub(super) partition: Partition,
    pub(super) assignment: Arc<Assignment>,
    pub(super) body: Vec<u8>,
    pub(super) messages: Vec<BatchedMessage>,
    /// Messages that were left out because they are too large.
    pub(super) oversized: u32,
    /// The offset behind the last message.
    pub(super) next_offset: i64,
    /// Whether there is a registry to be asked for schemas.
    has_registry: bool,
}

impl MessageBatch {
    pub(super) fn new(
        partition: Partition,
        assignment: Arc<Assignment>,
        offset: i64,
        has_registry: bool,
    ) -> Self {
        let body = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8);
        let messages = Vec::new();
        Self { partition, assignment, body, messages, oversized: 0, next_offset: offset, has_registry }
    }

    /// Whether to hand it over now.
    pub(super) fn is_full(&self) -> bool {
        self.body.len() >= BATCH_BYTES || self.messages.len() >= BATCH_MESSAGES
    }

    /// How many messages it holds, with those that were left out.
    pub(super) fn message_count(&self) -> usize {
        self.messages.len() + self.oversized as usize
    }

    /// Adds the message at `offset`. A message without a value holds no event. Its `headers` take precedence over its first
    /// bytes, unless it is JSON, which needs no schema: headers may be copied, or left over.
    pub(super) fn push(
        &mut self,
        offset: i64,
        value: &[u8],
        headers: impl FnOnce(&[u8]) -> Option<MessageKind>,
    ) {
        self.next_offset = offset + 1;
        if value.len() > MESSAGE_BYTES_MAX {
            self.oversized += 1;
            return;
        }
        let told = if value.is_empty() || frame::looks_like_json(value) { None } else { headers(value) };
        let (kind, frame_bytes) =
            told.map_or_else(|| frame::kind_of(value, self.has_registry), |kind| (kind, 0));
        self.body.extend_from_slice(&value[frame_bytes..]);
        self.messages.push(BatchedMessage { end: self.body.len(), kind });
    }
}

/// Braze has one topic per event type: `users.messages.email.Send`, with whatever before it. The topic's type applies to
/// events that do not state theirs.
pub(super) fn defaults_of(topic: &str) -> Arc<EventDefaults> {
    Arc::new(EventDefaults { event_type: event_type_in(topic).map(Into::into), ..EventDefaults::default() })
}

#[cfg(test)]
mod tests {
    use super::super::frame::SchemaKey;
    use super::*;

    #[test]
    fn a_pack_holds_its_messages_one_after_another() {
        let partition = Partition { topic: "t".into(), number: 0 };
        let mut batch = MessageBatch::new(partition, Arc::default(), 7, true);
        batch.push(7, b"{}", |_| None);
        batch.push(8, b"\0\0\0\0\x09avro", |_| None);
        batch.push(9, b"", |_| panic!("what has no value has no schema"));
        batch.push(10, &vec![b' '; MESSAGE_BYTES_MAX + 1], |_| None);
        batch.push(12, b"[]", |_| None);
        // A header is believed before what looks like a frame.
        let schema = SchemaKey::GlobalId(5);
        batch.push(13, b"\0\0\0\0\x09", |_| Some(MessageKind::Framed { schema }));
        batch.push(14, b" {}", |_| Some(MessageKind::Framed { schema }));
        assert_eq!(batch.body, b"{}avro[]\0\0\0\0\x09 {}");
        let ends: Vec<_> = batch.messages.iter().map(|message| message.end).collect();
        assert_eq!(ends, [2, 6, 6, 8, 13, 16]);
        let kinds = [1, 4].map(|at: usize| batch.messages[at].kind);
        assert_eq!(kinds, [SchemaKey::Id(9), schema].map(|schema| MessageKind::Framed { schema }));
        assert_eq!(batch.messages[5].kind, MessageKind::Document);
        assert_eq!((batch.oversized, batch.next_offset), (1, 15));
        assert!(!batch.is_full());
    }
}
