//! Unwraps events of intermediaries: the value of one key of an object that names no type itself, as an object, an array, a
//! text of JSON, or base64 of JSON. Wrappers may be nested.
//!
//! A wrapper's content is taken only if there is an event in it, or damage in the place of one; else the object counts as if
//! it had no content. An object in an envelope of Braze is never a wrapper.
//!
//! Only an object that names no type and is no event by its other fields is read a second time for this: an event of Braze
//! costs nothing here.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::cursor::Broken;
use super::escape::unescape_json;
use super::extract;
use super::{BYTE_ORDER_MARK, Damaged, Fault, NotAnEnvelope, Pass, Place, Reader};
use crate::Skipped;
use crate::event_fields::{ByteSpan, Element};

/// How many keys there are.
const WRAPPERS: usize = 11;

/// The keys in which intermediaries put the event, or what holds it. Of several in one object, the first that has an event
/// counts.
const WRAPPER_KEYS: [&[u8]; WRAPPERS] = [
    b"detail",      // Amazon EventBridge
    b"Message",     // Amazon SNS
    b"Records",     // AWS Lambda, from SQS, SNS and Kinesis
    b"body",        // Amazon SQS in `Records`
    b"Sns",         // Amazon SNS in `Records`
    b"kinesis",     // Amazon Kinesis in `Records`
    b"records",     // Amazon Data Firehose
    b"payload",     // Kafka Connect's JsonConverter
    b"data",        // CloudEvents; Pub/Sub in `message`; Kinesis and Firehose in their records
    b"data_base64", // CloudEvents
    b"message",     // Google Pub/Sub
];

/// Where the values of [`WRAPPER_KEYS`] are.
type WrappedValues = [Option<ByteSpan>; WRAPPERS];

/// The deepest nesting: `EventBridge`'s in SNS's in SQS's in Lambda's takes four, Kinesis's three. Each level reads its
/// content once, and no level holds more than the one around it.
pub(super) const DEPTH_MAX: u8 = 5;

/// Base64 as intermediaries write it, with padding or without.
const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

/// The state for reading wrappers.
#[derive(Debug, Default)]
pub(super) struct Wrappers {
    /// Reads a wrapper's content; made with the first wrapper.
    inner: Option<Box<Unwrapper>>,
    /// How many wrappers the content is in.
    depth: u8,
    /// The first damage in a wrapper.
    pub(super) damage: Option<NotAnEnvelope>,
}

impl Wrappers {
    /// Whether this is the content of one. Behind damage there nothing is unwrapped once more, or the time for it would multiply
    /// with each level.
    pub(super) fn are_around(&self) -> bool {
        self.depth > 0
    }
}

/// Reads a wrapper's content. Made when the first one is met, and reused.
#[derive(Debug, Default)]
struct Unwrapper {
    reader: Reader,
    /// The content, where the body does not hold it as it is.
    content: Vec<u8>,
    /// The text that held base64.
    encoded: Vec<u8>,
    /// The elements that were found.
    extract: Vec<u8>,
    /// Those of an earlier value, which is damaged.
    damaged: Vec<u8>,
}

/// What a wrapper holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Events.
    Events,
    /// Damage in the place of an event.
    Damaged,
    Nothing,
}

impl Pass<'_> {
    /// Looks into an object, from `start` up to the cursor, that names no type. Returns whether its content has been handed
    /// out.
    #[inline(never)]
    pub(super) fn typeless(
        &mut self,
        start: usize,
        place: Place,
        emit: &mut dyn FnMut(Element<'_>),
    ) -> Result<bool, Broken> {
        if self.unwrap(start, place, emit) {
            return Ok(true);
        }
        self.ensure_no_envelope(start, place).map(|()| false)
    }

    /// If the object read last, from `start` up to the cursor, is a wrapper, hands out its content; returns whether it is.
    #[cold]
    #[inline(never)]
    pub(super) fn unwrap(&mut self, start: usize, place: Place, emit: &mut dyn FnMut(Element<'_>)) -> bool {
        if place == Place::Envelope || self.wrappers.depth >= DEPTH_MAX || self.found.are_an_events() {
            return false;
        }
        let wrapped = self.wrapped(start);
        if wrapped.iter().all(Option::is_none) {
            return false;
        }
        let text = self.cursor.text();
        let needs_type = !self.found.id.is_empty();
        let Wrappers { inner, depth, damage } = &mut *self.wrappers;
        let unwrapper = inner.get_or_insert_default();
        unwrapper.reader.wrappers.depth = *depth + 1;
        let mut damaged = None;
        for span in wrapped.into_iter().flatten() {
            match unwrapper.read(text, span, needs_type) {
                Content::Events => {
                    unwrapper.hand_out(span, damage, emit);
                    return true;
                }
                // Kept rather than read again: wrappers within wrappers would be read twice as often each.
                Content::Damaged if damaged.is_none() => {
                    std::mem::swap(&mut unwrapper.extract, &mut unwrapper.damaged);
                    damaged = Some((span, unwrapper.reader.wrappers.damage));
                }
                Content::Damaged | Content::Nothing => {}
            }
        }
        let Some((span, inner)) = damaged else { return false };
        std::mem::swap(&mut unwrapper.extract, &mut unwrapper.damaged);
        unwrapper.reader.wrappers.damage = inner;
        unwrapper.hand_out(span, damage, emit);
        true
    }

    /// Where the wrapped values are in the object from `start` up to the cursor, which has been read before.
    fn wrapped(&mut self, start: usize) -> WrappedValues {
        let end = std::mem::replace(&mut self.cursor.pos, start + 1);
        let mut wrapped = WrappedValues::default();
        // The object was read before, so it is not broken.
        let _read: Result<(), Broken> = self.find_wrapped(&mut wrapped);
        self.cursor.pos = end;
        wrapped
    }

    fn find_wrapped(&mut self, wrapped: &mut WrappedValues) -> Result<(), Broken> {
        if self.cursor.token() == b'}' {
            return Ok(());
        }
        loop {
            let name = self.cursor.key()?;
            let name = self.found.name(&self.cursor, name);
            let key = WRAPPER_KEYS.iter().position(|key| *key == name);
            self.cursor.token();
            let start = self.cursor.pos;
            self.cursor.skip()?;
            if let Some(key) = key {
                wrapped[key] = Some(ByteSpan { start, end: self.cursor.pos });
            }
            if !self.cursor.more_members()? {
                return Ok(());
            }
        }
    }
}

impl Unwrapper {
    /// Hands out the elements that were read last, from the value at `span`.
    fn hand_out(
        &mut self,
        span: ByteSpan,
        damage: &mut Option<NotAnEnvelope>,
        emit: &mut dyn FnMut(Element<'_>),
    ) {
        let inner = self.reader.wrappers.damage.take();
        *damage = damage.or(inner.map(|at| NotAnEnvelope { offset: span.start, ..at }));
        extract::read(&self.extract, emit);
    }

    /// Reads the value at `span`, and keeps the elements in it.
    fn read(&mut self, text: &[u8], span: ByteSpan, needs_type: bool) -> Content {
        self.extract.clear();
        self.reader.wrappers.damage = None;
        let value = text.get(span.start..span.end).unwrap_or_default();
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        let Some(quoted) = quoted else {
            let is_structure = matches!(value, [b'{' | b'[', ..]);
            return if is_structure { self.scan(value, needs_type, false) } else { Content::Nothing };
        };
        let mut content = std::mem::take(&mut self.content);
        content.clear();
        unescape_json(quoted, &mut content);
        let mut read = Content::Nothing;
        if is_json(&content) || self.decode_base64(&mut content) {
            let json = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
            read = self.scan(json, needs_type, true);
        }
        self.content = content;
        read
    }

    /// Replaces `content` by what its base64 stands for, if that looks like JSON.
    fn decode_base64(&mut self, content: &mut Vec<u8>) -> bool {
        self.encoded.clear();
        std::mem::swap(&mut self.encoded, content);
        let encoded = self.encoded.trim_ascii();
        let engine = if memchr::memchr2(b'-', b'_', encoded).is_some() { URL_SAFE } else { STANDARD };
        engine.decode_vec(encoded, content).is_ok() && is_json(content)
    }

    fn scan(&mut self, json: &[u8], needs_type: bool, may_be_damaged: bool) -> Content {
        let (mut typed, mut identified) = (0_u32, false);
        let out = &mut self.extract;
        let mut emit = |element: Element<'_>| {
            if let Element::Event(event) = element {
                typed = typed.saturating_add(u32::from(!event.event_type.is_empty()));
                identified |= !event.id.is_empty() && event.time.seconds().is_some();
            }
            extract::write(out, &element);
        };
        let ascii = self.reader.marks.fill(json);
        let read = self.reader.document(json, 0, ascii, &mut emit);
        let has_events = typed > 0 || (identified && !needs_type);
        let Err(Damaged { at, recovered }) = read else {
            return match self.reader.wrappers.damage {
                _ if has_events => Content::Events,
                Some(_) => Content::Damaged,
                None => Content::Nothing,
            };
        };
        // An unknown structure is read from outside, as without a wrapper.
        if at.fault == Fault::NotAnEnvelope && typed <= recovered.events {
            return Content::Nothing;
        }
        if recovered.skipped.stretches > 0 || (at.fault == Fault::End && !has_events) {
            let stretches = recovered.skipped.stretches.max(1);
            let skipped = Skipped { stretches, bytes: recovered.skipped.bytes };
            extract::write(&mut self.extract, &Element::Skipped(skipped));
            self.reader.wrappers.damage = self.reader.wrappers.damage.or(Some(at));
        }
        if has_events {
            Content::Events
        } else if may_be_damaged {
            Content::Damaged
        } else {
            Content::Nothing
        }
    }
}

/// Whether it begins as an object with a key, an empty one, or an array of objects.
fn is_json(content: &[u8]) -> bool {
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content).trim_ascii_start();
    let Some((first, behind)) = content.split_first() else { return false };
    matches!((first, behind.trim_ascii_start().first()), (b'{', Some(b'"')) | (b'[', Some(b'{')))
}

#[cfg(test)]
mod tests;
