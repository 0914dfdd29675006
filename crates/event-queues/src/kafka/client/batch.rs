//! Messages of one partition, gathered into one delivery.

use std::sync::Arc;

use super::offsets::{Assignment, Partition};
use crate::event_type::event_type_in;
use braze_events::container;

use crate::Origin;

/// A batch is handed over when it holds this much: enough that nothing is paid per message, small beside what a
/// lane has in hand.
const BATCH_BYTES: usize = 512 * 1024;
const BATCH_MESSAGES: usize = 4096;

/// What a message may have at most, as the docs of queue.kafka.topics say. An event of Braze has 900 KB at most, an
/// envelope holds several.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first byte of Confluent's framing; four bytes follow that name the schema.
/// Source: Confluent's documentation, "Wire format".
const FRAMED: u8 = 0;
const FRAME_BYTES: usize = 5;

/// How a message is written, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// JSON, or what will prove not to be.
    Document,
    /// Confluent's framing, without its five bytes; the schema registry knows how to read it.
    Framed {
        /// The schema's number in the registry.
        schema: u32,
    },
    /// An Avro object container.
    Container,
}

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
}

impl MessageBatch {
    pub(super) fn new(partition: Partition, assignment: Arc<Assignment>, offset: i64) -> Self {
        let body = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8);
        Self { partition, assignment, body, messages: Vec::new(), oversized: 0, next_offset: offset }
    }

    /// Whether it is time to hand it over.
    pub(super) fn is_full(&self) -> bool {
        self.body.len() >= BATCH_BYTES || self.messages.len() >= BATCH_MESSAGES
    }

    /// How many messages it holds, with those that were left out.
    pub(super) fn message_count(&self) -> usize {
        self.messages.len() + self.oversized as usize
    }

    /// Adds the message at `offset`. A message without a value holds no event.
    pub(super) fn push(&mut self, offset: i64, value: &[u8]) {
        self.next_offset = offset + 1;
        if value.len() > MESSAGE_BYTES_MAX {
            self.oversized += 1;
            return;
        }
        let kind = kind_of(value);
        let value = if let MessageKind::Framed { .. } = kind { &value[FRAME_BYTES..] } else { value };
        self.body.extend_from_slice(value);
        self.messages.push(BatchedMessage { end: self.body.len(), kind });
    }
}

fn kind_of(value: &[u8]) -> MessageKind {
    match value {
        [FRAMED, a, b, c, d, ..] => MessageKind::Framed { schema: u32::from_be_bytes([*a, *b, *c, *d]) },
        value if value.starts_with(&container::MAGIC) => MessageKind::Container,
        _ => MessageKind::Document,
    }
}

/// Braze has one topic per event type: `users.messages.email.Send`, with whatever before it. It stands for events
/// that do not say their type themselves.
pub(super) fn origin_of(topic: &str) -> Arc<Origin> {
    Arc::new(Origin { event_type: event_type_in(topic).map(Into::into), ..Origin::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_how_a_message_is_written() {
        assert_eq!(kind_of(b"{}"), MessageKind::Document);
        assert_eq!(kind_of(b""), MessageKind::Document);
        assert_eq!(kind_of(b"\0\0\0\x01\x02rest"), MessageKind::Framed { schema: 258 });
        assert_eq!(kind_of(b"\0\0\0\x01"), MessageKind::Document, "too short for a frame: not JSON either");
        assert_eq!(kind_of(b"Obj\x01..."), MessageKind::Container);
    }

    #[test]
    fn a_pack_holds_its_messages_one_after_another() {
        let partition = Partition { topic: "t".into(), number: 0 };
        let mut batch = MessageBatch::new(partition, Arc::default(), 7);
        batch.push(7, b"{}");
        batch.push(8, b"\0\0\0\0\x09avro");
        batch.push(9, b"");
        batch.push(10, &vec![b' '; MESSAGE_BYTES_MAX + 1]);
        batch.push(12, b"[]");
        assert_eq!(batch.body, b"{}avro[]");
        let ends: Vec<_> = batch.messages.iter().map(|message| message.end).collect();
        assert_eq!(ends, [2, 6, 6, 8]);
        assert_eq!(batch.messages[1].kind, MessageKind::Framed { schema: 9 });
        assert_eq!((batch.oversized, batch.next_offset), (1, 13));
        assert!(!batch.is_full());
    }
}
