//! From the bytes that Braze wrote to [`SendEvent`](super::SendEvent)s, without a copy and without a tree.
//!
//! A body is looked at twice: once 64 bytes at a time, to mark where strings can end (`marks`), and once by a
//! cursor (`cursor`) that hops from mark to mark, enforces the grammar, and picks the dozen fields that matter
//! (`fields`). All of the body is validated as `serde_json` would, with these differences: there is no limit on
//! depth, and none on the size of numbers; and what is no character in a string (half of a surrogate pair, bytes that
//! are not UTF-8, NUL) does not spoil its event, but is read as U+FFFD.
//!
//! Avro goes another way (`event::avro`) to the same events.
//!
//! Where a key comes twice in one object the last one wins; only of several `events` each gives its elements.

use super::avro::Plans;
pub use super::event_fields::Scope;
use super::event_fields::{Element, EventFields, Rules, Terms};
use super::{Decoded, Malformed, Skipped};
use crate::{Datums, EventDefaults, Framing, Part};

mod cursor;
mod escape;
mod extract;
mod fields;
mod marks;
mod nesting;
mod recover;
#[cfg(test)]
mod reference;
mod unwrap;

use cursor::{Broken, Cursor, Fault};
pub use extract::{Damage, Extracted, extract};
use fields::Step;
use marks::Marks;
use nesting::Nesting;
use recover::{RecoveredElement, Trust};
use unwrap::Wrappers;

/// Some writers put it before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads bodies. Its memory is reused from body to body: a fraction of the largest body so far, for marks,
/// nesting and the unescaped values of one event.
#[derive(Debug)]
pub struct Decoder {
    rules: Rules,
    reader: Reader,
    plans: Plans,
    /// Reads the JSON that Avro datums hold as bytes, once there were such; the marks of the other are those of the body.
    inner: Option<Box<Reader>>,
}

/// What reading JSON needs, whatever is counted.
#[derive(Debug, Default)]
struct Reader {
    marks: Marks,
    nesting: Nesting,
    found: EventFields,
    wrappers: Wrappers,
}

/// Where a body is not JSON, or not in an envelope of Braze. Says what and where, and nothing of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault} at byte {offset}")]
pub struct NotAnEnvelope {
    fault: Fault,
    offset: usize,
}

/// A document that is broken, and what was read of it behind that.
struct Damaged {
    at: NotAnEnvelope,
    recovered: RecoveredElement,
}

impl Decoder {
    /// A decoder of the event types in `count`; [`SendEvent::event_type`](super::SendEvent::event_type) is an index into it. With
    /// `time_needed`, a counted event without usable time is [`Malformed::NoTime`].
    pub fn new(count: &[Box<str>], time_needed: bool) -> Self {
        Self {
            rules: Rules { counted: count.into(), time_needed },
            reader: Reader::default(),
            plans: Plans::default(),
            inner: None,
        }
    }

    /// Calls `emit` once for each element of `body`, in order.
    ///
    /// Where the JSON breaks, reading goes on at the next event that is whole and says its type, or its id and time;
    /// what had to be skipped comes at the end of the document as one [`Decoded::Skipped`].
    pub fn decode(
        &mut self,
        body: &[u8],
        framing: &Framing,
        defaults: &EventDefaults,
        mut emit: impl FnMut(Decoded<'_>),
    ) {
        // Once over the whole body, however many parts it has.
        let ascii = has_json(framing) && self.reader.marks.fill(body);
        self.part(body, 0, framing, ascii, defaults, &mut emit);
    }

    /// Reads `text` from `start` on, as `framing` says. The marks are those of a body that starts with `text`.
    fn part(
        &mut self,
        text: &[u8],
        start: usize,
        framing: &Framing,
        ascii: bool,
        defaults: &EventDefaults,
        emit: &mut dyn FnMut(Decoded<'_>),
    ) {
        let terms = Terms { rules: &self.rules, defaults };
        match framing {
            Framing::Document => self.reader.documents(text, start, None, ascii, terms, emit),
            Framing::Lines => self.reader.documents(text, start, Some(b'\n'), ascii, terms, emit),
            Framing::Avro(datums) if self.plans.hold_bodies(datums) => {
                self.bodies(text, start, datums, defaults, emit);
            }
            Framing::Avro(datums) => {
                self.plans.decode(text, start, datums, terms, &mut self.reader.found, emit);
            }
            Framing::Extract => extract::read(&text[start..], &mut |element| emit(terms.classify(element))),
            Framing::Unreadable(events) => {
                (0..*events).for_each(|_| emit(Decoded::Malformed(Malformed::Unreadable)));
            }
            Framing::Parts(parts) => {
                let mut start = start;
                for Part { end, framing } in parts.iter() {
                    let end = (*end).clamp(start, text.len());
                    self.part(&text[..end], start, framing, ascii, defaults, emit);
                    start = end;
                }
            }
        }
    }

    /// Reads the JSON that each of `datums` holds; what holds nothing is no event.
    fn bodies(
        &mut self,
        text: &[u8],
        start: usize,
        datums: &Datums,
        defaults: &EventDefaults,
        emit: &mut dyn FnMut(Decoded<'_>),
    ) {
        let terms = Terms { rules: &self.rules, defaults };
        let inner = self.inner.get_or_insert_default();
        self.plans.bodies(text, start, datums, &mut self.reader.found, |body| match body {
            Ok(body) => {
                let ascii = inner.marks.fill(body);
                inner.documents(body, 0, None, ascii, terms, emit);
            }
            Err(malformed) => emit(Decoded::Malformed(malformed)),
        });
    }
}

impl Damaged {
    /// What stands for the damage, if anything was lost by it.
    fn element(&self) -> Option<Element<'static>> {
        let RecoveredElement { events, skipped } = self.recovered;
        match self.at.fault {
            Fault::NotAnEnvelope if events == 0 => Some(Element::Malformed(Malformed::NotAnObject)),
            // Whatever came behind is not there.
            Fault::End if skipped.stretches == 0 => {
                Some(Element::Skipped(Skipped { stretches: 1, bytes: 0 }))
            }
            _ => (skipped.stretches > 0).then_some(Element::Skipped(skipped)),
        }
    }
}

impl Reader {
    /// Reads the documents in `text` from `start` on, which `separator` divides, or the one that it is.
    fn documents(
        &mut self,
        text: &[u8],
        mut start: usize,
        separator: Option<u8>,
        ascii: bool,
        terms: Terms<'_>,
        emit: &mut dyn FnMut(Decoded<'_>),
    ) {
        if text[start..].starts_with(BYTE_ORDER_MARK) {
            start += BYTE_ORDER_MARK.len();
        }
        while start < text.len() {
            let length = separator.and_then(|separator| memchr::memchr(separator, &text[start..]));
            let end = length.map_or(text.len(), |length| start + length);
            let mut judged = |element: Element<'_>| emit(terms.classify(element));
            if let Err(damaged) = self.document(&text[..end], start, ascii, &mut judged)
                && let Some(element) = damaged.element()
            {
                emit(terms.classify(element));
            }
            start = end + 1;
        }
    }

    /// Reads `text` from `start` on. The marks are those of a body that starts with `text`.
    fn document(
        &mut self,
        text: &[u8],
        start: usize,
        ascii: bool,
        emit: &mut dyn FnMut(Element<'_>),
    ) -> Result<(), Damaged> {
        // A body with one name that is not ASCII is mostly lines that are, and to see that is far cheaper.
        let ascii = ascii || self.marks.is_ascii(start, text.len()) || text[start..].is_ascii();
        let lossy = !ascii && simdutf8::basic::from_utf8(&text[start..]).is_err();
        if lossy {
            self.mark_invalid(text, start);
        }
        let mut pass = Pass {
            cursor: Cursor::new(text, start, lossy, self.marks.bits(), &mut self.nesting),
            found: &mut self.found,
            wrappers: &mut self.wrappers,
            start,
            settled: start,
            is_in_envelope: false,
        };
        pass.document(emit).map_err(|Broken| {
            let at = NotAnEnvelope { fault: pass.cursor.fault, offset: pass.cursor.pos };
            let trust = if at.fault == Fault::NotAnEnvelope { Trust::Structure } else { Trust::Nothing };
            Damaged { at, recovered: pass.recover(text.len(), trust, emit) }
        })
    }

    /// Marks what is not UTF-8, so that the cursor takes a string with it for one with escapes: no other is looked
    /// at twice.
    #[cold]
    fn mark_invalid(&mut self, text: &[u8], start: usize) {
        let mut at = start;
        for chunk in text[start..].utf8_chunks() {
            at += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                self.marks.set(at);
            }
            at += chunk.invalid().len();
        }
    }
}

/// Whether there is anything to be read with marks.
fn has_json(framing: &Framing) -> bool {
    match framing {
        Framing::Document | Framing::Lines => true,
        Framing::Avro(_) | Framing::Unreadable(_) | Framing::Extract => false,
        Framing::Parts(parts) => parts.iter().any(|part| has_json(&part.framing)),
    }
}

/// Where an object stands, which decides whether it may be an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    TopArray,
    Envelope,
}

/// What an object turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Empty,
    Event,
    /// Its elements have been handed out.
    Envelope,
    /// Its `events`, at this offset, are neither an array nor null.
    NotAnEnvelope(usize),
}

/// One document on its way through.
struct Pass<'d> {
    cursor: Cursor<'d>,
    found: &'d mut EventFields,
    wrappers: &'d mut Wrappers,
    /// Where the document begins.
    start: usize,
    /// Where the last element ended that was handed out.
    settled: usize,
    /// Whether the cursor is among the elements of an envelope; when the document breaks, whether it broke there.
    is_in_envelope: bool,
}

impl Pass<'_> {
    /// Values one behind the other: objects, arrays and nulls, or one value of another kind, which holds no event.
    fn document(&mut self, emit: &mut dyn FnMut(Element<'_>)) -> Result<(), Broken> {
        loop {
            let token = self.cursor.token();
            let start = self.cursor.pos;
            let read = match token {
                0 if self.cursor.is_at_end() => return Ok(()),
                b'{' => self.top_object(emit),
                b'[' => self.elements(Place::TopArray, emit),
                b'n' => self.cursor.skip(),
                _ if self.settled > self.start => self.cursor.fail(start, Fault::Trailing),
                _ => self.cursor.fail(start, Fault::NotAnEnvelope),
            };
            read.or_else(|Broken| self.refuse(start))?;
            self.settled = self.cursor.pos;
        }
    }

    /// The value at `start` could not be taken. If it is only no envelope of Braze, the grammar is known to hold up to its end,
    /// and to that of the document if this is the end.
    fn refuse(&mut self, start: usize) -> Result<(), Broken> {
        if self.cursor.fault == Fault::NotAnEnvelope {
            let at = std::mem::replace(&mut self.cursor.pos, start);
            self.cursor.skip()?;
            self.cursor.end()?;
            return self.cursor.fail(at, Fault::NotAnEnvelope);
        }
        Err(Broken)
    }

    fn top_object(&mut self, emit: &mut dyn FnMut(Element<'_>)) -> Result<(), Broken> {
        let start = self.cursor.pos;
        match self.object(Place::Top, emit)? {
            Shape::Empty | Shape::Envelope => Ok(()),
            Shape::Event => {
                if self.found.event_type.is_empty() && self.typeless(start, Place::Top, emit)? {
                    return Ok(());
                }
                emit(Element::Event(self.found.event(self.cursor.text())));
                Ok(())
            }
            Shape::NotAnEnvelope(start) => self.cursor.fail(start, Fault::NotAnEnvelope),
        }
    }

    /// The elements of the array at the cursor.
    fn elements(&mut self, place: Place, emit: &mut dyn FnMut(Element<'_>)) -> Result<(), Broken> {
        self.cursor.expect(b'[')?;
        self.settled = self.cursor.pos;
        if self.cursor.token() == b']' {
            self.cursor.pos += 1;
            return Ok(());
        }
        self.is_in_envelope = place == Place::Envelope;
        loop {
            if self.cursor.token() == b'{' {
                let start = self.cursor.pos;
                let is_taken = self.object(place, emit)? == Shape::Envelope
                    || (self.found.event_type.is_empty() && self.typeless(start, place, emit)?);
                if !is_taken {
                    emit(Element::Event(self.found.event(self.cursor.text())));
                }
            } else {
                let start = self.cursor.pos;
                self.cursor.skip()?;
                if self.cursor.text()[start] == b'[' && self.hides_events(start) {
                    return self.cursor.fail(start, Fault::NotAnEnvelope);
                }
                // Else a quote too many has hidden the start of an event.
                if !matches!(self.cursor.token(), b',' | b']') {
                    return self.cursor.fail(self.cursor.pos, Fault::Unexpected);
                }
                emit(Element::Malformed(Malformed::NotAnObject));
            }
            self.settled = self.cursor.pos;
            match self.cursor.token() {
                b',' => self.cursor.pos += 1,
                b']' => {
                    self.cursor.pos += 1;
                    self.is_in_envelope = false;
                    return Ok(());
                }
                _ => return self.cursor.fail(self.cursor.pos, Fault::Unexpected),
            }
        }
    }

    /// Reads the object at the cursor into `event_fields`, or hands out its elements if it is an envelope. There are
    /// no envelopes in envelopes, so this recurses no deeper than twice.
    fn object(&mut self, place: Place, emit: &mut dyn FnMut(Element<'_>)) -> Result<Shape, Broken> {
        self.cursor.pos += 1;
        let mut shape = Shape::Event;
        let mut step = self.found.start(&mut self.cursor)?;
        while step == Step::Events {
            let token = self.cursor.token();
            if token == b'[' && place != Place::Envelope {
                self.elements(Place::Envelope, emit)?;
                if shape == Shape::Event {
                    shape = Shape::Envelope;
                }
            } else {
                if place == Place::Top && token != b'n' {
                    shape = Shape::NotAnEnvelope(self.cursor.pos);
                } else if place == Place::Top && shape == Shape::Event {
                    shape = Shape::Envelope;
                }
                self.cursor.skip()?;
            }
            step = self.found.resume(&mut self.cursor)?;
        }
        Ok(if step == Step::Empty { Shape::Empty } else { shape })
    }
}

#[cfg(test)]
mod tests;
