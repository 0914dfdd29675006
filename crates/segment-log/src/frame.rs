//! The bytes of one frame.
//!
//! A frame is a head of 32 bytes, and its user's header and body. Numbers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | [`MAGIC`] |
//! | 4 | 4 | CRC-32 of bytes 8 to 31 |
//! | 8 | 4 | CRC-32 of header and body |
//! | 12 | 3 | length of the header |
//! | 15 | 1 | kind, as its user counts kinds |
//! | 16 | 4 | length of the body |
//! | 20 | 4 | number of events, at least 1 |
//! | 24 | 8 | sequence number of the first event |
//!
//! The head has a checksum of its own, so that a damaged body leaves its length certain, and so that the body can be summed
//! up before the sequence number is known.

use bytes::{Buf, BufMut, Bytes};

use crate::{Entry, Frame, checksummed};

/// The first bytes of a frame. No UTF-8 text has the bytes FE and FF, so no JSON body holds it by design or by chance, and a
/// search for it does not stop inside a body.
pub(crate) const MAGIC: [u8; 4] = [0xFF, b'B', b'Q', 0xFE];

/// The length of a frame's head.
pub(crate) const HEAD_BYTES: usize = 32;

/// Headers are shorter than this.
const HEADER_BYTES_END: u32 = 1 << 24;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) checksum: u32,
    pub(crate) header_bytes: u32,
    pub(crate) kind: u8,
    pub(crate) body_bytes: u32,
    pub(crate) events: u32,
    pub(crate) first: u64,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        checksummed::encode(MAGIC, |mut rest| {
            rest.put_u32_le(self.checksum);
            rest.put_uint_le(self.header_bytes.into(), 3);
            rest.put_u8(self.kind);
            rest.put_u32_le(self.body_bytes);
            rest.put_u32_le(self.events);
            rest.put_u64_le(self.first);
        })
    }

    /// `None` when `bytes` do not begin with a whole head.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Head> {
        let mut rest = checksummed::decode(MAGIC, bytes.get(..HEAD_BYTES)?)?;
        let head = Head {
            checksum: rest.try_get_u32_le().ok()?,
            header_bytes: u32::try_from(rest.try_get_uint_le(3).ok()?).ok()?,
            kind: rest.try_get_u8().ok()?,
            body_bytes: rest.try_get_u32_le().ok()?,
            events: rest.try_get_u32_le().ok()?,
            first: rest.try_get_u64_le().ok()?,
        };
        let in_range = head.events > 0 && head.first.checked_add(u64::from(head.events)).is_some();
        in_range.then_some(head)
    }

    /// The length of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.header_bytes) + u64::from(self.body_bytes)
    }

    /// The sequence number that follows the last event's.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.events)
    }

    /// The entry of the frame.
    pub(crate) fn entry(&self, header: Bytes, body: Bytes) -> Entry {
        Entry { first: self.first, events: self.events, kind: self.kind, header, body }
    }
}

/// A frame that lacks only its sequence number.
#[derive(Debug)]
pub(crate) struct Record {
    head: Head,
    frame: Frame,
}

impl Record {
    /// Sums up `frame`. `None` when its length does not fit the format (4 GiB).
    pub(crate) fn new(frame: Frame) -> Option<Record> {
        let mut sum = crc32fast::Hasher::new();
        sum.update(&frame.header);
        sum.update(&frame.body);
        let head = Head {
            checksum: sum.finalize(),
            header_bytes: u32::try_from(frame.header.len()).ok().filter(|bytes| *bytes < HEADER_BYTES_END)?,
            kind: frame.kind,
            body_bytes: u32::try_from(frame.body.len()).ok()?,
            // Every frame needs a number, or it could not be acknowledged.
            events: frame.events.max(1),
            first: 0,
        };
        Some(Record { head, frame })
    }

    /// The length of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.head.frame_bytes()
    }

    pub(crate) fn events(&self) -> u64 {
        u64::from(self.head.events)
    }

    /// The two pieces to write, one after the other: head and header, then the body; and the entry to hand out once they are
    /// durable.
    pub(crate) fn into_pieces(self, first: u64) -> (Vec<u8>, Bytes, Entry) {
        let head = Head { first, ..self.head };
        let Frame { header, body, .. } = self.frame;
        let mut lead = Vec::with_capacity(HEAD_BYTES + header.len());
        lead.extend_from_slice(&head.encode());
        lead.extend_from_slice(&header);
        (lead, body.clone(), head.entry(header, body))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is encoded is decoded: head, header and body come back as they went in.
        #[test]
        fn a_frame_comes_back_as_it_went_in(
            header in proptest::collection::vec(any::<u8>(), 0..60),
            body in proptest::collection::vec(any::<u8>(), 0..300),
            events in 0u32..1000,
            kind: u8,
            first in 0u64..u64::MAX / 2,
        ) {
            let frame = Frame { events, kind, header: Bytes::from(header.clone()), body: Bytes::from(body.clone()) };
            let record = Record::new(frame).unwrap();
            let bytes = record.frame_bytes();
            let (lead, tail, entry) = record.into_pieces(first);
            let head = Head::decode(&lead).unwrap();
            prop_assert_eq!((head.first, head.events, head.kind), (first, events.max(1), kind));
            prop_assert_eq!(head.frame_bytes(), bytes);
            prop_assert_eq!((lead.len() + tail.len()) as u64, bytes);
            prop_assert_eq!(&lead[HEAD_BYTES..], &header);
            prop_assert_eq!(&tail, &body);
            prop_assert_eq!((entry.last(), entry.body), (head.end() - 1, tail));
        }

        /// No change of a single byte of a head goes unnoticed.
        #[test]
        fn a_head_with_a_flipped_byte_is_refused(at in 0..HEAD_BYTES, flip in 1u8.., first: u32) {
            let head = Head { checksum: 7, header_bytes: 0, kind: 0, body_bytes: 9, events: 3, first: first.into() };
            let mut bytes = head.encode();
            prop_assert_eq!(Head::decode(&bytes), Some(head));
            bytes[at] ^= flip;
            prop_assert_eq!(Head::decode(&bytes), None);
        }
    }

    #[test]
    fn a_head_of_no_events_or_beyond_all_numbers_is_refused() {
        let head = Head { checksum: 7, header_bytes: 0, kind: 0, body_bytes: 9, events: 1, first: 5 };
        assert_eq!(Head::decode(&Head { events: 0, ..head }.encode()), None);
        assert_eq!(Head::decode(&Head { first: u64::MAX, ..head }.encode()), None);
        assert_eq!(Head::decode(&head.encode()[..31]), None);
    }
}
