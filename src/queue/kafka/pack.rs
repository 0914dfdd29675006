//! Messages of one partition, gathered into one delivery.

use std::sync::Arc;

use super::positions::{Assignment, Partition};
use crate::queue::container;

/// A pack is handed over when it holds this much: enough that nothing is paid per message, small beside what a
/// lane has in hand.
const PACK_BYTES: usize = 512 * 1024;
const PACK_MESSAGES: usize = 4096;

/// What a message may have at most, as the docs of queue.kafka.topics say. An event of Braze has 900 KB at most, an
/// envelope holds several.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The first byte of Confluent's framing; four bytes follow that name the schema.
/// Source: Confluent's documentation, "Wire format".
const FRAMED: u8 = 0;
const FRAME_BYTES: usize = 5;

/// How a message is written, as far as its first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
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

/// A message within the body of a [`Pack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it ends; it begins where the one before ends.
    pub(super) end: usize,
    pub(super) kind: Kind,
}

/// Messages of one partition, one after another.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) partition: Partition,
    pub(super) assignment: Arc<Assignment>,
    pub(super) body: Vec<u8>,
    pub(super) pieces: Vec<Piece>,
    /// Messages that were left out because they are too large.
    pub(super) oversized: u32,
    /// The offset behind the last message.
    pub(super) next_offset: i64,
}

impl Pack {
    pub(super) fn new(partition: Partition, assignment: Arc<Assignment>, offset: i64) -> Self {
        let body = Vec::with_capacity(PACK_BYTES + PACK_BYTES / 8);
        Self { partition, assignment, body, pieces: Vec::new(), oversized: 0, next_offset: offset }
    }

    /// Whether it is time to hand it over.
    pub(super) fn is_full(&self) -> bool {
        self.body.len() >= PACK_BYTES || self.pieces.len() >= PACK_MESSAGES
    }

    /// How many messages it holds, with those that were left out.
    pub(super) fn messages(&self) -> usize {
        self.pieces.len() + self.oversized as usize
    }

    /// Adds the message at `offset`. A message without a value holds no event.
    pub(super) fn push(&mut self, offset: i64, value: &[u8]) {
        self.next_offset = offset + 1;
        if value.len() > MESSAGE_BYTES_MAX {
            self.oversized += 1;
            return;
        }
        let kind = kind_of(value);
        let value = if let Kind::Framed { .. } = kind { &value[FRAME_BYTES..] } else { value };
        self.body.extend_from_slice(value);
        self.pieces.push(Piece { end: self.body.len(), kind });
    }
}

fn kind_of(value: &[u8]) -> Kind {
    match value {
        [FRAMED, a, b, c, d, ..] => Kind::Framed { schema: u32::from_be_bytes([*a, *b, *c, *d]) },
        value if value.starts_with(&container::MAGIC) => Kind::Container,
        _ => Kind::Document,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_how_a_message_is_written() {
        assert_eq!(kind_of(b"{}"), Kind::Document);
        assert_eq!(kind_of(b""), Kind::Document);
        assert_eq!(kind_of(b"\0\0\0\x01\x02rest"), Kind::Framed { schema: 258 });
        assert_eq!(kind_of(b"\0\0\0\x01"), Kind::Document, "too short for a frame: not JSON either");
        assert_eq!(kind_of(b"Obj\x01..."), Kind::Container);
    }

    #[test]
    fn a_pack_holds_its_messages_one_after_another() {
        let partition = Partition { topic: "t".into(), number: 0 };
        let mut pack = Pack::new(partition, Arc::default(), 7);
        pack.push(7, b"{}");
        pack.push(8, b"\0\0\0\0\x09avro");
        pack.push(9, b"");
        pack.push(10, &vec![b' '; MESSAGE_BYTES_MAX + 1]);
        pack.push(12, b"[]");
        assert_eq!(pack.body, b"{}avro[]");
        let ends: Vec<_> = pack.pieces.iter().map(|piece| piece.end).collect();
        assert_eq!(ends, [2, 6, 6, 8]);
        assert_eq!(pack.pieces[1].kind, Kind::Framed { schema: 9 });
        assert_eq!((pack.oversized, pack.next_offset), (1, 13));
        assert!(!pack.is_full());
    }
}
