//! What is picked out of one event: its keys, the forms their values take, and which of two values wins.

use super::cursor::{Broken, Cursor, Fault, Quoted, Span};
use super::escape::unescape;
use crate::event::{FIELDS, Field};

/// How many keys can become tag fields: one for each [`Field`], then the `*_api_id` of each id.
const KEYS: usize = FIELDS + 4;

/// What a workspace that redacts a field sends in its place.
const REDACTED: &[u8] = b"[REDACTED]";

/// A key of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    EventType,
    Id,
    Time,
    Properties,
    Events,
    /// An index below [`KEYS`].
    Tag(usize),
    Other,
}

impl Key {
    #[inline]
    fn of(name: &[u8]) -> Self {
        // Compared whole, by length first: patterns of bytes would be compared byte by byte.
        match name.len() {
            2 if name == b"id" => Key::Id,
            4 if name == b"time" => Key::Time,
            6 if name == b"events" => Key::Events,
            10 if name == b"event_type" => Key::EventType,
            10 if name == b"properties" => Key::Properties,
            _ => tag_key(name).map_or(Key::Other, Key::Tag),
        }
    }
}

/// The `*_api_id` of the id at index `2 * n` of [`Field::ALL`] is at `FIELDS + n`.
#[inline]
fn tag_key(name: &[u8]) -> Option<usize> {
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
struct Level {
    /// Bit n: `spans[n]` is of this event, and not empty.
    present: u16,
    spans: [Span; KEYS],
}

impl Level {
    #[inline]
    fn set(&mut self, key: usize, span: Span) {
        let bit = 1 << key;
        self.present = if span.is_empty() { self.present & !bit } else { self.present | bit };
        self.spans[key] = span;
    }
}

/// Where the reading of an object stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Behind `{}`.
    Empty,
    /// Behind the closing brace.
    End,
    /// Before the value of a key `events`: the object may be an envelope.
    Events,
}

/// The forms of a value that can mean something.
enum Value {
    Text(Span),
    /// Digits; they may be too many for a u64.
    Integer(Span),
    /// Digits in an Avro union: `{"int":n}`, `{"long":n}`.
    UnionInteger(Span),
    Absent,
}

/// What has been found in the event that is being read. Reused for every event.
#[derive(Debug, Default)]
pub(super) struct Found {
    top: Level,
    properties: Level,
    event_type: Span,
    id: Span,
    pub(super) time: Option<u64>,
    /// Values that had escapes, unescaped. A [`Span`] that starts behind the text points in here.
    unescaped: Vec<u8>,
    /// A key that had escapes, unescaped.
    key: Vec<u8>,
}

impl Found {
    /// Reads an object whose opening brace has been passed, and forgets what was found before.
    #[inline]
    pub(super) fn start(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, Broken> {
        self.top.present = 0;
        self.properties.present = 0;
        self.event_type = Span::EMPTY;
        self.id = Span::EMPTY;
        self.time = None;
        self.unescaped.clear();
        if cursor.token() == b'}' {
            cursor.pos += 1;
            return Ok(Step::Empty);
        }
        self.members(cursor)
    }

    /// Goes on behind the value of `events`.
    pub(super) fn resume(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, Broken> {
        if more_members(cursor)? { self.members(cursor) } else { Ok(Step::End) }
    }

    fn members(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, Broken> {
        loop {
            let name = cursor.key()?;
            match Key::of(self.name(cursor, name)) {
                Key::Other => cursor.skip()?,
                Key::Tag(key) => {
                    let span = self.tag(cursor)?;
                    self.top.set(key, span);
                }
                Key::EventType => self.event_type = self.text(cursor)?,
                Key::Id => self.id = self.tag(cursor)?,
                Key::Time => self.time = self.time(cursor)?,
                Key::Properties => self.properties(cursor)?,
                Key::Events => return Ok(Step::Events),
            }
            if !more_members(cursor)? {
                return Ok(Step::End);
            }
        }
    }

    fn properties(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Broken> {
        self.properties.present = 0;
        if cursor.token() != b'{' {
            return cursor.skip();
        }
        cursor.pos += 1;
        if cursor.token() == b'}' {
            cursor.pos += 1;
            return Ok(());
        }
        loop {
            let name = cursor.key()?;
            if let Some(key) = tag_key(self.name(cursor, name)) {
                let span = self.tag(cursor)?;
                self.properties.set(key, span);
            } else {
                cursor.skip()?;
            }
            if !more_members(cursor)? {
                return Ok(());
            }
        }
    }

    #[inline]
    fn name<'n>(&'n mut self, cursor: &Cursor<'n>, name: Quoted) -> &'n [u8] {
        let raw = cursor.text().get(name.span.start..name.span.end).unwrap_or_default();
        if !name.escaped {
            return raw;
        }
        self.key.clear();
        unescape(raw, &mut self.key);
        &self.key
    }

    /// A text, or an unsigned number as its text; empty where the value is neither.
    #[inline(never)]
    fn text(&mut self, cursor: &mut Cursor<'_>) -> Result<Span, Broken> {
        Ok(match self.value(cursor)? {
            Value::Text(span) => span,
            Value::Integer(span) if parse_u64(self.bytes(cursor.text(), span)).is_some() => span,
            _ => Span::EMPTY,
        })
    }

    /// As [`Self::text`], but empty where it is redacted.
    #[expect(clippy::inline_always, reason = "measured: else every value goes through memory")]
    #[inline(always)]
    fn tag(&mut self, cursor: &mut Cursor<'_>) -> Result<Span, Broken> {
        let span = if cursor.token() == b'"' {
            cursor.pos += 1;
            let text = cursor.string()?;
            self.keep(cursor, text)
        } else {
            self.text(cursor)?
        };
        Ok(if self.bytes(cursor.text(), span) == REDACTED { Span::EMPTY } else { span })
    }

    /// Seconds: digits, as a number or as a text.
    #[inline]
    fn time(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, Broken> {
        Ok(match self.value(cursor)? {
            Value::Text(span) | Value::Integer(span) | Value::UnionInteger(span) => {
                parse_u64(self.bytes(cursor.text(), span))
            }
            Value::Absent => None,
        })
    }

    #[inline]
    fn value(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, Broken> {
        match cursor.token() {
            b'"' => {
                cursor.pos += 1;
                let text = cursor.string()?;
                Ok(Value::Text(self.keep(cursor, text)))
            }
            b'{' => self.union(cursor),
            token => bare_value(cursor, token),
        }
    }

    /// The span of what `text` stands for.
    #[inline]
    fn keep(&mut self, cursor: &Cursor<'_>, text: Quoted) -> Span {
        if text.escaped { self.keep_unescaped(cursor, text.span) } else { text.span }
    }

    #[inline(never)]
    fn keep_unescaped(&mut self, cursor: &Cursor<'_>, span: Span) -> Span {
        let start = cursor.text().len() + self.unescaped.len();
        unescape(cursor.text().get(span.start..span.end).unwrap_or_default(), &mut self.unescaped);
        Span { start, end: cursor.text().len() + self.unescaped.len() }
    }

    /// An Avro union as JSON: an object with exactly one key, the type of its value.
    #[inline(never)]
    fn union(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, Broken> {
        cursor.pos += 1;
        if cursor.token() == b'}' {
            cursor.pos += 1;
            return Ok(Value::Absent);
        }
        let mut type_name = Branch::Unread;
        loop {
            let name = cursor.key()?;
            let branch = Branch::of(self.name(cursor, name));
            type_name = if matches!(type_name, Branch::Unread) || type_name == branch {
                branch
            } else {
                Branch::None
            };
            let value = self.union_value(cursor, type_name)?;
            if !more_members(cursor)? {
                return Ok(value);
            }
        }
    }

    fn union_value(&mut self, cursor: &mut Cursor<'_>, branch: Branch) -> Result<Value, Broken> {
        match (branch, cursor.token()) {
            (Branch::Text, b'"') => self.value(cursor),
            (Branch::Int | Branch::Long, token @ (b'0'..=b'9' | b'-')) => {
                Ok(match bare_value(cursor, token)? {
                    Value::Integer(span) => Value::UnionInteger(span),
                    _ => Value::Absent,
                })
            }
            _ => cursor.skip().map(|()| Value::Absent),
        }
    }

    /// The bytes of a span; `text` is the text that it was found in.
    #[inline]
    fn bytes<'e>(&'e self, text: &'e [u8], span: Span) -> &'e [u8] {
        let found = match span.start.checked_sub(text.len()) {
            Some(start) => self.unescaped.get(start..span.end.saturating_sub(text.len())),
            None => text.get(span.start..span.end),
        };
        found.unwrap_or_default()
    }

    /// Empty where there is none.
    #[inline]
    pub(super) fn event_type<'e>(&'e self, text: &'e [u8]) -> &'e [u8] {
        self.bytes(text, self.event_type)
    }

    /// Empty where there is none.
    #[inline]
    pub(super) fn id<'e>(&'e self, text: &'e [u8]) -> &'e [u8] {
        self.bytes(text, self.id)
    }

    /// Fills in the tag fields: an `*_api_id` before the id without `api`, `properties` before the top level.
    #[inline]
    pub(super) fn fields<'e>(&'e self, text: &'e [u8], fields: &mut [&'e [u8]; FIELDS]) {
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
}

/// The type that an Avro union names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Branch {
    Unread,
    Text,
    Int,
    Long,
    /// Another type, or several keys: no union that means anything here.
    None,
}

impl Branch {
    fn of(name: &[u8]) -> Self {
        match name {
            b"string" => Branch::Text,
            b"int" => Branch::Int,
            b"long" => Branch::Long,
            _ => Branch::None,
        }
    }
}

/// A value that is neither a string nor an object.
#[inline]
fn bare_value(cursor: &mut Cursor<'_>, token: u8) -> Result<Value, Broken> {
    if !matches!(token, b'0'..=b'9' | b'-') {
        return cursor.skip().map(|()| Value::Absent);
    }
    let start = cursor.pos;
    let plain = cursor.number()?;
    Ok(if plain { Value::Integer(Span { start, end: cursor.pos }) } else { Value::Absent })
}

/// Passes the comma before another member, or the closing brace.
#[inline]
fn more_members(cursor: &mut Cursor<'_>) -> Result<bool, Broken> {
    match cursor.token() {
        b',' => {
            cursor.pos += 1;
            Ok(true)
        }
        b'}' => {
            cursor.pos += 1;
            Ok(false)
        }
        _ => cursor.fail(cursor.pos, Fault::Unexpected),
    }
}

/// 1 to 20 digits that fit.
#[inline]
fn parse_u64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 20 {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::cursor::Nesting;
    use super::super::marks::Marks;
    use super::*;

    #[test]
    fn what_was_unescaped_is_forgotten_with_its_event() {
        let event = br#"{"campaign\u005fid":"\u0041","properties":{"canvas_id":"\u0042\u0042"}}"#;
        let (mut marks, mut nesting, mut found) = (Marks::default(), Nesting::default(), Found::default());
        marks.fill(event);
        for _ in 0..3 {
            let mut cursor = Cursor::new(event, 1, false, marks.bits(), &mut nesting);
            assert_eq!(found.start(&mut cursor).expect("is JSON"), Step::End);
            assert_eq!((&*found.unescaped, &*found.key), (&b"ABB"[..], &b"campaign_id"[..]));
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
