//! The extract of a body: the push handler writes one, so that a lane need not read the body again.
//!
//! An extract holds the elements that a reader finds in a body, and nothing else of it: about a quarter of its length. Where
//! invalid bytes become U+FFFD, which has three, it could be longer than the body, which is then refused. It does not depend on
//! which types are counted. The queue stores extracts, so their form changes only together with the queue's format. Numbers are in
//! groups of 7 bits, the lowest first; a text is its length and its bytes.
//!
//! | kind, one byte | what follows |
//! |---|---|
//! | [`EVENT`] | two bytes, of which bit n says whether there is field n, bit 8 a time, bit 9 one that can't be used; the type; the id; the time; the fields |
//! | [`NOT_AN_OBJECT`], [`EMPTY`], [`FOREIGN`] | nothing |
//! | [`SKIPPED`] | how many stretches; how many bytes |

use super::cursor::Fault;
use super::{BYTE_ORDER_MARK, NotAnEnvelope, Reader, Scope};
use crate::event_fields::{Element, EventTime, RawEvent};
use crate::{FIELDS, Malformed, Skipped};

const EVENT: u8 = 0;
const NOT_AN_OBJECT: u8 = 1;
/// An event without any field, such as `{}`.
const EMPTY: u8 = 2;
/// An event of an app group that its sender may not speak for.
const FOREIGN: u8 = 3;
/// Bytes that were skipped because of damage: in a wrapper, or at the end of the document.
const SKIPPED: u8 = 4;

/// How much longer than its body an extract may be: what stands for damage at the end has at most so many bytes.
const BYTES_MORE_MAX: usize = 16;

/// Set where there is a time.
const TIME: u16 = 1 << FIELDS;
/// Set where there is a time that can't be one. A reader that does not know this bit finds no time.
const UNUSABLE_TIME: u16 = TIME << 1;

/// What the push handler found in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// How many elements a [`Decoder`](super::Decoder) finds in the extract; each stretch that was skipped is one.
    pub elements: u32,
    /// What was skipped, if anything was.
    pub damage: Option<Damage>,
}

/// Damage in a body that events could be read from all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The first damage.
    pub first: NotAnEnvelope,
    /// The sum of all damage.
    pub skipped: Skipped,
}

/// The push handler's check of a push body: JSON in an envelope of Braze, or damaged JSON with events that can be read.
/// Appends the elements that a [`Decoder`](super::Decoder) finds in it as one
/// [`Framing::Document`](crate::Framing::Document) to `out`, as a [`Framing::Extract`](crate::Framing::Extract), which has at most
/// 16 bytes more than the body. To decode it gives the same elements in a tenth of the time, whichever types are counted by then.
/// On an error `out` holds scrap.
///
/// For a sender that may not speak for everyone, an event beyond its `scope` becomes [`Malformed::ForeignAppGroup`],
/// whatever else it is.
///
/// # Errors
/// When it is neither an object, an array, `null` nor empty, or has `events` that are no array, or is not JSON, and no
/// event that says its type can be read from it; or when the extract would be longer than the body, for U+FFFD stands for most of
/// it.
pub fn extract(body: &[u8], out: &mut Vec<u8>, scope: Option<Scope<'_>>) -> Result<Extracted, NotAnEnvelope> {
    match scope {
        None => extract_each(body, out, |element| element),
        Some(scope) => extract_each(body, out, |element| scope.classify(element)),
    }
}

fn extract_each(
    body: &[u8],
    out: &mut Vec<u8>,
    classify: impl Fn(Element<'_>) -> Element<'_>,
) -> Result<Extracted, NotAnEnvelope> {
    let json = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut reader = Reader::default();
    let ascii = reader.marks.fill(json);
    let (mut elements, mut has_event, mut skipped) = (0u32, false, Skipped::default());
    let end_max = out.len() + body.len() + BYTES_MORE_MAX;
    let mut emit = |element: Element<'_>| {
        has_event |= matches!(element, Element::Event(event) if !event.event_type.is_empty());
        let stretches = if let Element::Skipped(damage) = element {
            skipped.stretches = skipped.stretches.saturating_add(damage.stretches);
            skipped.bytes = skipped.bytes.saturating_add(damage.bytes);
            damage.stretches
        } else {
            1
        };
        elements = elements.saturating_add(stretches);
        if out.len() <= end_max {
            write(out, &classify(element));
        }
    };
    let read = reader.document(json, 0, ascii, &mut emit);
    let at = reader.wrappers.damage.take().or(read.as_ref().err().map(|damaged| damaged.at));
    let shifted = |at: NotAnEnvelope| NotAnEnvelope { offset: at.offset + (body.len() - json.len()), ..at };
    let refused = read.as_ref().err().map(|damaged| shifted(damaged.at));
    read.err().and_then(|damaged| damaged.element()).into_iter().for_each(&mut emit);
    if let Some(refused) = refused.filter(|_| !has_event) {
        return Err(refused);
    }
    if out.len() > end_max {
        let offset = str::from_utf8(body).map_or_else(|odd| odd.valid_up_to(), |_| 0);
        return Err(NotAnEnvelope { fault: Fault::NoText, offset });
    }
    let damage = at.filter(|_| skipped.stretches > 0).map(|at| Damage { first: shifted(at), skipped });
    Ok(Extracted { elements, damage })
}

/// Appends one element.
pub(super) fn write(out: &mut Vec<u8>, element: &Element<'_>) {
    let event = match element {
        Element::Event(event) => event,
        Element::Malformed(Malformed::ForeignAppGroup) => return out.push(FOREIGN),
        // An element is malformed in one way only: it is no object.
        Element::Malformed(_) => return out.push(NOT_AN_OBJECT),
        Element::Skipped(Skipped { stretches, bytes }) => {
            out.push(SKIPPED);
            write_number(out, u64::from(*stretches));
            return write_number(out, *bytes);
        }
    };
    if *event == RawEvent::default() {
        return out.push(EMPTY);
    }
    let mut present = match event.time {
        EventTime::Absent => 0,
        EventTime::Seconds(_) => TIME,
        EventTime::Unusable => UNUSABLE_TIME,
    };
    for (number, field) in event.fields.iter().enumerate() {
        present |= u16::from(!field.is_empty()) << number;
    }
    out.push(EVENT);
    out.extend_from_slice(&present.to_le_bytes());
    write_text(out, event.event_type);
    write_text(out, event.id);
    if let EventTime::Seconds(time) = event.time {
        write_number(out, time);
    }
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

/// Hands out every element of an extract, as the reader of the body did. Bytes that are not an extract end in
/// [`Malformed::Json`], as they would in a body.
pub(super) fn read(extract: &[u8], emit: &mut dyn FnMut(Element<'_>)) {
    let mut rest = extract;
    while !rest.is_empty() {
        let Some(element) = read_element(&mut rest) else {
            return emit(Element::Malformed(Malformed::Json));
        };
        emit(element);
    }
}

#[inline]
fn read_element<'e>(rest: &mut &'e [u8]) -> Option<Element<'e>> {
    match read_bytes(rest, 1)?[0] {
        EVENT => {}
        NOT_AN_OBJECT => return Some(Element::Malformed(Malformed::NotAnObject)),
        EMPTY => return Some(Element::Event(RawEvent::default())),
        FOREIGN => return Some(Element::Malformed(Malformed::ForeignAppGroup)),
        SKIPPED => {
            let stretches = u32::try_from(read_number(rest)?).ok()?;
            return Some(Element::Skipped(Skipped { stretches, bytes: read_number(rest)? }));
        }
        _ => return None,
    }
    let present = u16::from_le_bytes(read_bytes(rest, 2)?.try_into().ok()?);
    let (event_type, id) = (read_text(rest)?, read_text(rest)?);
    let time = match present & (TIME | UNUSABLE_TIME) {
        0 => EventTime::Absent,
        TIME => EventTime::Seconds(read_number(rest)?),
        _ => EventTime::Unusable,
    };
    let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
    for (number, field) in fields.iter_mut().enumerate() {
        if present >> number & 1 == 1 {
            *field = read_text(rest)?;
        }
    }
    Some(Element::Event(RawEvent { event_type, id, time, fields }))
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
            let mut elements = 0;
            read(&bytes, &mut |_| elements += 1);
            prop_assert!(elements <= bytes.len());
        }
    }

    #[test]
    fn every_kind_of_element_comes_back() {
        let mut out = Vec::new();
        let elements = [
            Element::Malformed(Malformed::NotAnObject),
            Element::Malformed(Malformed::ForeignAppGroup),
            Element::Event(RawEvent::default()),
            Element::Event(RawEvent {
                event_type: b"type",
                time: EventTime::Unusable,
                ..RawEvent::default()
            }),
            Element::Skipped(Skipped { stretches: 3, bytes: 1 << 40 }),
        ];
        for element in &elements {
            write(&mut out, element);
        }
        let mut at = 0;
        read(&out, &mut |element| {
            assert_eq!(element, elements[at]);
            at += 1;
        });
        assert_eq!(at, elements.len());
    }

    #[test]
    fn an_extract_that_is_cut_short_ends_in_what_can_not_be_read() {
        let mut out = Vec::new();
        let fields = std::array::from_fn(|_| &b"field"[..]);
        let event = Element::Event(RawEvent {
            event_type: b"type",
            id: b"id",
            time: EventTime::Seconds(u64::MAX),
            fields,
        });
        write(&mut out, &Element::Malformed(Malformed::NotAnObject));
        write(&mut out, &event);
        for cut in 1..=out.len() {
            let mut last = None;
            read(&out[..cut], &mut |element| last = Some(element == event));
            assert_eq!(last, Some(cut == out.len()), "{cut}");
        }
    }
}
