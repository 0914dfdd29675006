//! The bytes of one frame: what a push becomes on disk.
//!
//! A frame is a head of 32 bytes, the origin, and the body: what the door has found in what was pushed, or a JSON
//! document. Numbers are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | [`MAGIC`] |
//! | 4 | 4 | CRC-32 of bytes 8 to 31 |
//! | 8 | 4 | CRC-32 of origin and body |
//! | 12 | 3 | length of the origin |
//! | 15 | 1 | 1: the body is an extract, 0: it is a JSON document |
//! | 16 | 4 | length of the body |
//! | 20 | 4 | number of events, at least 1 |
//! | 24 | 8 | sequence number of the first event |
//!
//! The head has a checksum of its own, so that a damaged body does not make its length doubtful, and so that
//! whoever appends can sum up the body before the sequence number is known.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use crate::queue::embedded::Frame;
use crate::queue::{Delivery, Framing, Origin, Receipt, Source};

/// What a frame begins with. No UTF-8 text has the bytes FE and FF, so no JSON body holds it by design or by
/// chance, and a search for it does not stop inside a body.
pub(super) const MAGIC: [u8; 4] = [0xFF, b'B', b'Q', 0xFE];

/// The length of a frame's head.
pub(super) const HEAD_BYTES: usize = 32;

/// Where the checksummed part of the head begins.
const SUMMED_FROM: usize = 8;

/// Origins are shorter than this.
const ORIGIN_BYTES_END: u32 = 1 << 24;

/// The length of a text that is not there.
const NO_TEXT: u32 = u32::MAX;

/// What stands at the beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) checksum: u32,
    pub(super) origin_bytes: u32,
    pub(super) is_extract: bool,
    pub(super) body_bytes: u32,
    pub(super) events: u32,
    pub(super) first: u64,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut rest = &mut bytes[SUMMED_FROM..];
        rest.put_u32_le(self.checksum);
        rest.put_uint_le(self.origin_bytes.into(), 3);
        rest.put_u8(self.is_extract.into());
        rest.put_u32_le(self.body_bytes);
        rest.put_u32_le(self.events);
        rest.put_u64_le(self.first);
        let sum = crc32fast::hash(&bytes[SUMMED_FROM..]);
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..SUMMED_FROM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` when `bytes` do not begin with a whole head.
    pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
        let mut rest = bytes.get(..HEAD_BYTES)?.strip_prefix(&MAGIC)?;
        let sum = rest.try_get_u32_le().ok()?;
        if crc32fast::hash(rest) != sum {
            return None;
        }
        let head = Head {
            checksum: rest.try_get_u32_le().ok()?,
            origin_bytes: u32::try_from(rest.try_get_uint_le(3).ok()?).ok()?,
            is_extract: match rest.try_get_u8().ok()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            body_bytes: rest.try_get_u32_le().ok()?,
            events: rest.try_get_u32_le().ok()?,
            first: rest.try_get_u64_le().ok()?,
        };
        let in_range = head.events > 0 && head.first.checked_add(u64::from(head.events)).is_some();
        in_range.then_some(head)
    }

    /// The length of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.origin_bytes) + u64::from(self.body_bytes)
    }

    /// The sequence number that follows the last event's.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.events)
    }

    /// How the body is to be read.
    pub(super) fn framing(&self) -> Framing {
        if self.is_extract { Framing::Extract } else { Framing::Document }
    }

    /// What acknowledges the frame: the number of its last event.
    pub(super) fn receipt(&self) -> Receipt {
        Receipt(self.end() - 1)
    }
}

/// A frame that is ready to be written but for its sequence number.
#[derive(Debug)]
pub(super) struct Record {
    head: Head,
    origin_bytes: Vec<u8>,
    frame: Frame,
}

impl Record {
    /// Sums up `frame`. `None` when its length does not fit the format (4 GiB).
    pub(super) fn new(frame: Frame) -> Option<Record> {
        let origin_bytes = encode_origin(&frame.origin)?;
        let mut sum = crc32fast::Hasher::new();
        sum.update(&origin_bytes);
        sum.update(&frame.body);
        let head = Head {
            checksum: sum.finalize(),
            origin_bytes: u32::try_from(origin_bytes.len()).ok().filter(|bytes| *bytes < ORIGIN_BYTES_END)?,
            is_extract: frame.is_extract,
            body_bytes: u32::try_from(frame.body.len()).ok()?,
            // Every frame needs a number, or it could not be acknowledged.
            events: frame.events.max(1),
            first: 0,
        };
        Some(Record { head, origin_bytes, frame })
    }

    /// The length of the whole frame.
    pub(super) fn frame_bytes(&self) -> u64 {
        self.head.frame_bytes()
    }

    pub(super) fn events(&self) -> u64 {
        u64::from(self.head.events)
    }

    /// The two pieces to be written, one after the other: head and origin, then the body; and what is handed out
    /// once they are durable.
    pub(super) fn into_pieces(self, first: u64) -> (Vec<u8>, Bytes, Delivery) {
        let head = Head { first, ..self.head };
        let mut lead = Vec::with_capacity(HEAD_BYTES + self.origin_bytes.len());
        lead.extend_from_slice(&head.encode());
        lead.extend_from_slice(&self.origin_bytes);
        let Frame { origin, body, .. } = self.frame;
        let delivery = Delivery {
            body: body.clone(),
            framing: head.framing(),
            origin,
            source: Source::Push,
            oversized: 0,
            recall: false,
            receipt: head.receipt(),
        };
        (lead, body, delivery)
    }
}

/// Three texts, each a length and its bytes; nothing at all where none is known, which is the usual case.
fn encode_origin(origin: &Origin) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    if *origin == Origin::default() {
        return Some(bytes);
    }
    for text in [&origin.event_type, &origin.app_group_id, &origin.app_group_name] {
        match text {
            Some(text) => {
                bytes.put_u32_le(u32::try_from(text.len()).ok().filter(|length| *length != NO_TEXT)?);
                bytes.put_slice(text.as_bytes());
            }
            None => bytes.put_u32_le(NO_TEXT),
        }
    }
    Some(bytes)
}

/// `None` when `bytes` are not an origin.
pub(super) fn decode_origin(mut bytes: &[u8]) -> Option<Origin> {
    if bytes.is_empty() {
        return Some(Origin::default());
    }
    let mut texts = [None, None, None];
    for text in &mut texts {
        let length = bytes.try_get_u32_le().ok()?;
        if length != NO_TEXT {
            let (head, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *text = Some(Box::from(str::from_utf8(head).ok()?));
            bytes = rest;
        }
    }
    let [event_type, app_group_id, app_group_name] = texts;
    bytes.is_empty().then_some(Origin { event_type, app_group_id, app_group_name })
}

/// Remembers the last origin, for most frames of a log have the same.
#[derive(Debug, Default)]
pub(super) struct Origins {
    bytes: Bytes,
    origin: Arc<Origin>,
}

impl Origins {
    /// `None` when `bytes` are not an origin.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Option<Arc<Origin>> {
        if self.bytes != bytes {
            self.origin = Arc::new(decode_origin(bytes)?);
            self.bytes = Bytes::copy_from_slice(bytes);
        }
        Some(Arc::clone(&self.origin))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins() -> impl Strategy<Value = Origin> {
        let text = || proptest::option::of(".{0,20}".prop_map(String::into_boxed_str));
        (text(), text(), text()).prop_map(|(event_type, app_group_id, app_group_name)| Origin {
            event_type,
            app_group_id,
            app_group_name,
        })
    }

    proptest! {
        /// What is encoded is decoded: head, origin and body come back as they went in.
        #[test]
        fn a_frame_comes_back_as_it_went_in(
            origin in origins(),
            body in proptest::collection::vec(any::<u8>(), 0..300),
            events in 0u32..1000,
            is_extract: bool,
            first in 0u64..u64::MAX / 2,
        ) {
            let frame = Frame { events, origin: Arc::new(origin.clone()), body: Bytes::from(body.clone()), is_extract };
            let record = Record::new(frame).unwrap();
            let bytes = record.frame_bytes();
            let (lead, tail, delivery) = record.into_pieces(first);
            let head = Head::decode(&lead).unwrap();
            prop_assert_eq!((head.first, head.events, head.is_extract), (first, events.max(1), is_extract));
            prop_assert_eq!(head.frame_bytes(), bytes);
            prop_assert_eq!((lead.len() + tail.len()) as u64, bytes);
            prop_assert_eq!(decode_origin(&lead[HEAD_BYTES..]), Some(origin));
            prop_assert_eq!(&tail, &body);
            prop_assert_eq!((delivery.body, delivery.receipt), (tail, head.receipt()));
        }

        /// No change of a single byte of a head goes unnoticed.
        #[test]
        fn a_head_with_a_flipped_byte_is_refused(at in 0..HEAD_BYTES, flip in 1u8.., first: u32) {
            let head = Head { checksum: 7, origin_bytes: 0, is_extract: false, body_bytes: 9, events: 3, first: first.into() };
            let mut bytes = head.encode();
            prop_assert_eq!(Head::decode(&bytes), Some(head));
            bytes[at] ^= flip;
            prop_assert_eq!(Head::decode(&bytes), None);
        }

        /// Bytes that are no origin are refused, never misread into a panic.
        #[test]
        fn any_bytes_may_be_offered_as_an_origin(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(origin) = decode_origin(&bytes) {
                prop_assert_eq!(decode_origin(&encode_origin(&origin).unwrap()), Some(origin));
            }
        }
    }

    #[test]
    fn a_head_of_no_events_or_beyond_all_numbers_is_refused() {
        let head =
            Head { checksum: 7, origin_bytes: 0, is_extract: false, body_bytes: 9, events: 1, first: 5 };
        assert_eq!(Head::decode(&Head { events: 0, ..head }.encode()), None);
        assert_eq!(Head::decode(&Head { first: u64::MAX, ..head }.encode()), None);
        assert_eq!(Head::decode(&head.encode()[..31]), None);
    }

    #[test]
    fn equal_origins_are_shared() {
        let mut origins = Origins::default();
        let origin = Origin { app_group_id: Some("a".into()), ..Origin::default() };
        let bytes = encode_origin(&origin).unwrap();
        let one = origins.decode(&bytes).unwrap();
        let two = origins.decode(&bytes).unwrap();
        assert_eq!(*one, origin);
        assert!(Arc::ptr_eq(&one, &two));
    }
}
