//! What is picked out of one event, whatever it was written in: its keys, which of two values wins, and what
//! the event is worth.

use super::{Decoded, FIELDS, Field, Malformed, SendEvent, Skipped};
use crate::EventDefaults;
use crate::app_group;

/// How many keys can become tag fields: one for each [`Field`], then the `*_api_id` of each id.
const KEYS: usize = FIELDS + 4;

/// What a workspace that redacts a field sends in its place.
pub(super) const REDACTED: &[u8] = b"[REDACTED]";

/// A key of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldKey {
    EventType,
    Id,
    Time,
    Properties,
    Events,
    /// An index below [`KEYS`].
    Tag(usize),
    Other,
}

impl FieldKey {
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        // Compared whole, by length first: patterns of bytes would be compared byte by byte.
        match name.len() {
            2 if name == b"id" => FieldKey::Id,
            4 if name == b"time" => FieldKey::Time,
            6 if name == b"events" => FieldKey::Events,
            10 if name == b"event_type" => FieldKey::EventType,
            10 if name == b"properties" => FieldKey::Properties,
            _ => tag_key(name).map_or(FieldKey::Other, FieldKey::Tag),
        }
    }
}

/// The `*_api_id` of the id at index `2 * n` of [`Field::ALL`] is at `FIELDS + n`.
#[inline]
pub(super) fn tag_key(name: &[u8]) -> Option<usize> {
    Some(match name.len() {
        9 if name == b"canvas_id" => Field::CanvasId as usize,
        11 if name == b"campaign_id" => Field::CampaignId as usize,
        11 if name == b"canvas_name" => Field::CanvasName as usize,
        12 if name == b"app_group_id" => Field::AppGroupId as usize,
        13 if name == b"campaign_name" => Field::CampaignName as usize,
        13 if name == b"canvas_api_id" => FIELDS + 2,
        14 if name == b"canvas_step_id" => Field::CanvasStepId as usize,
        14 if name == b"app_group_name" => Field::AppGroupName as usize,
        15 if name == b"campaign_api_id" => FIELDS + 1,
        16 if name == b"canvas_step_name" => Field::CanvasStepName as usize,
        16 if name == b"app_group_api_id" => FIELDS,
        18 if name == b"canvas_step_api_id" => FIELDS + 3,
        _ => return None,
    })
}

/// The tag fields of one object.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// Bit n: `spans[n]` is of this event, and not empty.
    present: u16,
    spans: [ByteSpan; KEYS],
}

impl Level {
    #[inline]
    pub(super) fn clear(&mut self) {
        self.present = 0;
    }

    #[inline]
    pub(super) fn set(&mut self, key: usize, span: ByteSpan) {
        let bit = 1 << key;
        self.present = if span.is_empty() { self.present & !bit } else { self.present | bit };
        self.spans[key] = span;
    }
}

/// A place in the bytes of an element: in the text itself, or behind it, in what was unescaped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByteSpan {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl ByteSpan {
    pub(super) const EMPTY: ByteSpan = ByteSpan { start: 0, end: 0 };

    #[inline]
    pub(super) const fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// What an event says of its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EventTime {
    /// Nothing: no `time`, `null`, an empty or redacted text.
    #[default]
    Absent,
    /// Unix seconds.
    Seconds(u64),
    /// Something that can't be a time.
    Unusable,
}

impl EventTime {
    /// What a text or a number says.
    #[inline]
    pub(super) fn of(text: &[u8]) -> Self {
        parse_u64(text).map_or_else(|| Self::of_other(text), EventTime::Seconds)
    }

    #[cold]
    fn of_other(text: &[u8]) -> Self {
        if text.is_empty() || text == REDACTED {
            return EventTime::Absent;
        }
        parse_decimal(text).into()
    }

    /// Unix seconds, where there is a usable time.
    #[inline]
    pub(super) fn seconds(self) -> Option<u64> {
        if let EventTime::Seconds(seconds) = self { Some(seconds) } else { None }
    }
}

impl From<Option<u64>> for EventTime {
    /// A value that is there, whether it can be a time or not.
    fn from(seconds: Option<u64>) -> Self {
        seconds.map_or(EventTime::Unusable, EventTime::Seconds)
    }
}

/// What has been found in the event that is being read. Reused for every event.
#[derive(Debug, Default)]
pub(super) struct EventFields {
    pub(super) top: Level,
    pub(super) properties: Level,
    pub(super) event_type: ByteSpan,
    pub(super) id: ByteSpan,
    pub(super) time: EventTime,
    /// Values that had escapes, unescaped. A [`ByteSpan`] that starts behind the text points in here.
    pub(super) unescaped: Vec<u8>,
    /// A key that had escapes, unescaped.
    pub(super) key: Vec<u8>,
}

impl EventFields {
    /// Forgets what was found before.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.top.clear();
        self.properties.clear();
        self.event_type = ByteSpan::EMPTY;
        self.id = ByteSpan::EMPTY;
        self.time = EventTime::Absent;
        self.unescaped.clear();
    }

    /// Whether these are fields of an event, whatever its type: an id, a time and one that can become a tag. No intermediary puts
    /// the three on what it wraps.
    pub(super) fn are_an_events(&self) -> bool {
        let has_tag = self.top.present | self.properties.present != 0;
        has_tag && !self.id.is_empty() && self.time.seconds().is_some()
    }

    /// The bytes of a span; `text` is the text that it was found in.
    #[inline]
    pub(super) fn bytes<'e>(&'e self, text: &'e [u8], span: ByteSpan) -> &'e [u8] {
        let found = match span.start.checked_sub(text.len()) {
            Some(start) => self.unescaped.get(start..span.end.saturating_sub(text.len())),
            None => text.get(span.start..span.end),
        };
        found.unwrap_or_default()
    }

    /// Fills in the tag fields: an `*_api_id` before the id without `api`, `properties` before the top level.
    #[inline]
    fn fields<'e>(&'e self, text: &'e [u8], fields: &mut [&'e [u8]; FIELDS]) {
        let present = self.top.present | self.properties.present;
        for (index, field) in fields.iter_mut().enumerate() {
            let api_id = FIELDS + index / 2;
            let key = if index % 2 == 0 && present >> api_id & 1 == 1 { api_id } else { index };
            if present >> key & 1 == 1 {
                let inner = self.properties.present >> key & 1 == 1;
                let level = if inner { &self.properties } else { &self.top };
                *field = self.bytes(text, level.spans[key]);
            }
        }
    }

    /// The event as it is in `text`.
    #[inline]
    pub(super) fn event<'e>(&'e self, text: &'e [u8]) -> RawEvent<'e> {
        let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
        self.fields(text, &mut fields);
        let (event_type, id) = (self.bytes(text, self.event_type), self.bytes(text, self.id));
        RawEvent { event_type, id, time: self.time, fields }
    }
}

/// One element of a body, before it is judged by what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element<'e> {
    Event(RawEvent<'e>),
    /// It is no event, whatever is counted.
    Malformed(Malformed),
    /// What was passed because of damage, at the end of its document.
    Skipped(Skipped),
}

/// An event as it is; what it does not say is empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RawEvent<'e> {
    pub(super) event_type: &'e [u8],
    pub(super) id: &'e [u8],
    pub(super) time: EventTime,
    pub(super) fields: [&'e [u8]; FIELDS],
}

/// The app groups that a sender may speak for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'m> {
    /// Their ids as [`app_group::canonical`] has them, in order.
    pub app_groups: &'m [Box<str>],
    /// Whether an event may name none, for it is known from outside the body which of them is meant.
    pub may_be_silent: bool,
}

impl Scope<'_> {
    /// Puts a verdict in the place of an event that goes beyond the mandate.
    pub(super) fn classify<'e>(&self, element: Element<'e>) -> Element<'e> {
        let Element::Event(event) = element else { return element };
        let app_group_id = event.fields[Field::AppGroupId as usize];
        let is_own = match app_group_id {
            [] => self.may_be_silent,
            id => self.holds(id) || app_group::lowered(id).is_some_and(|id| self.holds(&id)),
        };
        if is_own { element } else { Element::Malformed(Malformed::ForeignAppGroup) }
    }

    fn holds(&self, id: &[u8]) -> bool {
        self.app_groups.binary_search_by(|own| own.as_bytes().cmp(id)).is_ok()
    }
}

/// Which events count, and what they need for it.
#[derive(Debug)]
pub(super) struct Rules {
    /// The types that are counted.
    pub(super) counted: Box<[Box<str>]>,
    /// Whether an event without a usable time is malformed.
    pub(super) time_needed: bool,
}

/// What an event is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'t> {
    pub(super) rules: &'t Rules,
    pub(super) defaults: &'t EventDefaults,
}

impl<'e> Terms<'e> {
    /// What an element is worth.
    #[inline]
    pub(super) fn classify(self, element: Element<'e>) -> Decoded<'e> {
        match element {
            Element::Event(event) => self.classify_event(event, b""),
            Element::Malformed(malformed) => Decoded::Malformed(malformed),
            Element::Skipped(skipped) => Decoded::Skipped(skipped),
        }
    }

    /// What an event is worth. `named` is the type that its schema names, empty where there is none: it counts for
    /// less than what the event says itself, and for more than where it came from.
    #[inline]
    pub(super) fn classify_event(self, event: RawEvent<'e>, named: &'e [u8]) -> Decoded<'e> {
        let Terms { rules, defaults } = self;
        let event_type = match (event.event_type, named) {
            ([], []) => from_defaults(defaults.event_type.as_deref()),
            ([], named) => named,
            (event_type, _) => event_type,
        };
        if event_type.is_empty() {
            return Decoded::Malformed(Malformed::NoEventType);
        }
        let Some(index) = rules.number_of(event_type) else {
            return Decoded::Ignored { event_type };
        };
        let RawEvent { id, time, mut fields, .. } = event;
        if id.is_empty() {
            return Decoded::Malformed(Malformed::NoId);
        }
        if rules.time_needed && time.seconds().is_none() {
            let is_absent = time == EventTime::Absent;
            return Decoded::Malformed(if is_absent { Malformed::NoTime } else { Malformed::BadTime });
        }
        let [app_group_id, app_group_name, ..] = &mut fields;
        if app_group_id.is_empty() {
            *app_group_id = from_defaults(defaults.app_group_id.as_deref());
        }
        if app_group_name.is_empty() {
            *app_group_name = from_defaults(defaults.app_group_name.as_deref());
        }
        Decoded::Send(SendEvent { event_type: index, id, time: time.seconds(), fields })
    }
}

impl Rules {
    /// Where a type stands among those that are counted.
    #[inline]
    pub(super) fn number_of(&self, event_type: &[u8]) -> Option<usize> {
        self.counted.iter().position(|counted| counted.as_bytes() == event_type)
    }
}

fn from_defaults(value: Option<&str>) -> &[u8] {
    value.unwrap_or_default().as_bytes()
}

/// The digits of the largest u64.
const U64_DIGITS_MAX: usize = 20;

/// 1 to 20 digits that fit.
#[inline]
pub(super) fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > U64_DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

/// An exponent; one that is beyond all bounds is at the bound.
fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    // `parse` says that a number is too large before it has seen all of it.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let bound = if is_negative { i32::MIN } else { i32::MAX };
    Some(std::str::from_utf8(text).ok()?.parse().unwrap_or(bound))
}

/// A decimal number without a sign, as JSON writes it, with its fraction cut off.
fn parse_decimal(number: &[u8]) -> Option<u64> {
    let (mantissa, exponent) = match number.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&number[..at], parse_exponent(&number[at + 1..])?),
        None => (number, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
        Some(at) if at + 1 < mantissa.len() => (&mantissa[..at], &mantissa[at + 1..]),
        Some(_) => return None,
        // Digits alone have been tried before.
        None if mantissa.len() == number.len() => return None,
        None => (mantissa, &b""[..]),
    };
    let digits = || whole.iter().chain(fraction);
    if whole.is_empty() || !digits().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = digits().take_while(|digit| **digit == b'0').count();
    if zeros == whole.len() + fraction.len() {
        return Some(0);
    }
    // Where the point stands, counted from the first digit that is not zero.
    let point = i64::try_from(whole.len()).ok()? + i64::from(exponent) - i64::try_from(zeros).ok()?;
    let wanted = match usize::try_from(point) {
        Ok(wanted) if wanted > U64_DIGITS_MAX => return None,
        Ok(wanted) => wanted,
        Err(_) => 0,
    };
    let digits = digits().skip(zeros).chain(std::iter::repeat(&b'0')).take(wanted);
    digits
        .copied()
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_cut_at_its_point() {
        for (number, seconds) in [
            ("1795771955.0", Some(1_795_771_955)),
            ("1795771955.999999999999999999999999", Some(1_795_771_955)),
            ("1.795771955e9", Some(1_795_771_955)),
            ("1.7957719559E+9", Some(1_795_771_955)),
            ("17957719550e-1", Some(1_795_771_955)),
            ("0.00017e6", Some(170)),
            ("0.9", Some(0)),
            ("0e999", Some(0)),
            ("5e-2000000000", Some(0)),
            ("0e9795168803", Some(0)),
            ("5e-99999999999", Some(0)),
            ("18446744073709551615.9", Some(u64::MAX)),
            ("18446744073709551616.0", None),
            ("1e20", None),
            ("1e999999999999", None),
            ("-1.0", None),
            ("+1.0", None),
            ("1.", None),
            (".5", None),
            ("1e", None),
            ("1.5.5", None),
            ("0x10", None),
            ("0e7000000000000[9", None),
            ("1e-99999999999 ", None),
            ("1e+", None),
            ("1e+-5", None),
            ("2026-11-27T00:00:00Z", None),
        ] {
            assert_eq!(parse_decimal(number.as_bytes()), seconds, "{number}");
        }
    }

    #[test]
    fn every_field_has_its_key() {
        for field in Field::ALL {
            assert_eq!(tag_key(field.name().as_bytes()), Some(field as usize));
            let api_id = field.name().replace("_id", "_api_id");
            if api_id != field.name() {
                assert_eq!(tag_key(api_id.as_bytes()), Some(FIELDS + field as usize / 2));
            }
        }
    }
}
