//! What the door keeps of a body that it has read, so that a lane need not read it again.
//!
//! An extract is what a [`Decoder`](super::Decoder) hands out, element by element, and nothing else of the body:
//! about a fifth of it, and never more than its length. It lives in memory only, so its form may change at any
//! time. Numbers are in groups of 7 bits, the lowest first; a text is its length and its bytes.
//!
//! | kind, one byte | what follows |
//! |---|---|
//! | [`SEND`] | number of the event type; two bytes, bit 0: there is a time, bit n + 1: there is field n; the time; the id; the fields |
//! | [`IGNORED`] | the event type |
//! | [`MALFORMED`] and above | nothing; the reason is in the kind |

use crate::event::{Decoded, FIELDS, Malformed, SendEvent};
use crate::queue::Origin;

const SEND: u8 = 0;
const IGNORED: u8 = 1;
/// Plus the number of the reason.
const MALFORMED: u8 = 2;

/// By their number.
const REASONS: [Malformed; 7] = [
    Malformed::Json,
    Malformed::NotAnObject,
    Malformed::NoEventType,
    Malformed::NoId,
    Malformed::NoTime,
    Malformed::TooLarge,
    Malformed::Unreadable,
];

/// Appends one element.
pub(super) fn write(out: &mut Vec<u8>, element: Decoded<'_>) {
    match element {
        Decoded::Send(event) => write_send(out, &event),
        Decoded::Ignored { event_type } => {
            out.push(IGNORED);
            write_text(out, event_type);
        }
        Decoded::Malformed(malformed) => out.push(MALFORMED + malformed as u8),
    }
}

fn write_send(out: &mut Vec<u8>, event: &SendEvent<'_>) {
    let mut present = u16::from(event.time.is_some());
    for (number, field) in event.fields.iter().enumerate() {
        present |= u16::from(!field.is_empty()) << (number + 1);
    }
    out.push(SEND);
    write_number(out, event.event_type as u64);
    out.extend_from_slice(&present.to_le_bytes());
    if let Some(time) = event.time {
        write_number(out, time);
    }
    write_text(out, event.id);
    event.fields.iter().filter(|field| !field.is_empty()).for_each(|field| write_text(out, field));
}

#[inline]
fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    write_number(out, text.len() as u64);
    out.extend_from_slice(text);
}

#[inline]
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Hands out every element of an extract, as the decoder did that made it. Bytes that are no extract end in
/// [`Malformed::Json`], as they would in a body.
pub(super) fn read(extract: &[u8], origin: &Origin, emit: &mut dyn FnMut(Decoded<'_>)) {
    let mut rest = extract;
    while !rest.is_empty() {
        if let Some(element) = read_element(&mut rest, origin) {
            emit(element);
        } else {
            debug_assert!(false, "an extract is damaged");
            return emit(Decoded::Malformed(Malformed::Json));
        }
    }
}

#[inline]
fn read_element<'e>(rest: &mut &'e [u8], origin: &'e Origin) -> Option<Decoded<'e>> {
    Some(match read_bytes(rest, 1)?[0] {
        SEND => {
            let event_type = usize::try_from(read_number(rest)?).ok()?;
            let present = u16::from_le_bytes(read_bytes(rest, 2)?.try_into().ok()?);
            let time = if present & 1 == 1 { Some(read_number(rest)?) } else { None };
            let id = read_text(rest)?;
            let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
            for (number, field) in fields.iter_mut().enumerate() {
                if present >> (number + 1) & 1 == 1 {
                    *field = read_text(rest)?;
                }
            }
            super::complete(&mut fields, origin);
            Decoded::Send(SendEvent { event_type, id, time, fields })
        }
        IGNORED => Decoded::Ignored { event_type: read_text(rest)? },
        kind => Decoded::Malformed(*REASONS.get(usize::from(kind - MALFORMED))?),
    })
}

#[inline]
fn read_text<'e>(rest: &mut &'e [u8]) -> Option<&'e [u8]> {
    let length = usize::try_from(read_number(rest)?).ok()?;
    read_bytes(rest, length)
}

#[inline]
fn read_bytes<'e>(rest: &mut &'e [u8], length: usize) -> Option<&'e [u8]> {
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

#[inline]
fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A number comes back as it went in, whatever its size.
        #[test]
        fn numbers_come_back(number: u64, shift in 0u32..64) {
            let number = number >> shift;
            let mut out = Vec::new();
            write_number(&mut out, number);
            let mut rest = out.as_slice();
            prop_assert_eq!(read_number(&mut rest), Some(number));
            prop_assert!(rest.is_empty());
        }

        /// Bytes that are no extract are refused, never read into a panic.
        #[test]
        fn any_bytes_may_be_offered(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (mut rest, origin) = (bytes.as_slice(), Origin::default());
            while !rest.is_empty() && read_element(&mut rest, &origin).is_some() {}
        }
    }

    #[test]
    fn every_reason_comes_back() {
        // A reason more needs a place in the list.
        assert_eq!(REASONS.len(), Malformed::Unreadable as usize + 1);
        for malformed in REASONS {
            let mut out = Vec::new();
            write(&mut out, Decoded::Malformed(malformed));
            let (mut rest, origin) = (out.as_slice(), Origin::default());
            assert_eq!(read_element(&mut rest, &origin), Some(Decoded::Malformed(malformed)));
        }
    }
}
