//! How the JSON of one event is read into [`EventFields`]: its members, and the forms their values take.

use super::cursor::{Broken, Cursor, Quoted};
use super::escape::{make_valid, unescape};
use crate::event_fields::{ByteSpan, EventFields, EventTime, FieldKey, REDACTED, parse_u64, tag_key};

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

/// What is kept of a text that is not as it stands in the body. No tag is so long, nor any id, and where it is all U+FFFD it
/// takes three times as much.
const UNESCAPED_TEXT_MAX: usize = 64 * 1024;

/// The forms of a value that can mean something.
enum Value {
    Text(ByteSpan),
    /// Digits; they may be too many for a u64.
    Integer(ByteSpan),
    /// A number that is not digits alone.
    Decimal(ByteSpan),
    /// A number in an Avro union: `{"int":n}`, `{"long":n}`, `{"double":n}`.
    UnionNumber(ByteSpan),
    /// `null`.
    Absent,
    Other,
}

impl EventFields {
    /// Reads an object whose opening brace has been passed, and forgets what was found before.
    #[inline]
    pub(super) fn start(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, Broken> {
        self.clear();
        if cursor.first_key()? { self.members(cursor) } else { Ok(Step::Empty) }
    }

    /// Goes on behind the value of `events`.
    pub(super) fn resume(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, Broken> {
        if cursor.next_key()? { self.members(cursor) } else { Ok(Step::End) }
    }

    /// The members from the one on whose opening quote has been passed.
    fn members(&mut self, cursor: &mut Cursor<'_>) -> Result<Step, Broken> {
        loop {
            self.plain_members(cursor);
            let name = cursor.rest_of_key()?;
            match FieldKey::of(self.name(cursor, name)) {
                FieldKey::Other => cursor.skip()?,
                FieldKey::Tag(key) => {
                    let span = self.tag(cursor)?;
                    self.top.set(key, span);
                }
                FieldKey::EventType => self.event_type = self.text(cursor)?,
                FieldKey::Id => self.id = self.tag(cursor)?,
                FieldKey::Time => self.time = self.time(cursor)?,
                FieldKey::Properties => self.properties(cursor)?,
                FieldKey::Events => return Ok(Step::Events),
            }
            if !cursor.next_key()? {
                return Ok(Step::End);
            }
        }
    }

    /// Members that are plain strings, but for those whose meaning depends on more than that.
    #[inline]
    fn plain_members(&mut self, cursor: &mut Cursor<'_>) {
        let text = cursor.text();
        cursor.plain_members(|name, value| {
            match FieldKey::of(name) {
                FieldKey::Other => {}
                FieldKey::Tag(key) => self.top.set(key, self.unless_redacted(text, value)),
                FieldKey::EventType => self.event_type = value,
                FieldKey::Id => self.id = self.unless_redacted(text, value),
                FieldKey::Time | FieldKey::Properties | FieldKey::Events => return false,
            }
            true
        });
    }

    fn properties(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Broken> {
        self.properties.clear();
        if cursor.token() != b'{' {
            return cursor.skip();
        }
        cursor.pos += 1;
        let mut more = cursor.first_key()?;
        while more {
            let text = cursor.text();
            cursor.plain_members(|name, value| {
                if let Some(key) = tag_key(name) {
                    self.properties.set(key, self.unless_redacted(text, value));
                }
                true
            });
            more = self.other_property(cursor)?;
        }
        Ok(())
    }

    /// A property of any form, from behind the opening quote of its key. Goes on as [`Cursor::next_key`].
    #[inline(never)]
    fn other_property(&mut self, cursor: &mut Cursor<'_>) -> Result<bool, Broken> {
        let name = cursor.rest_of_key()?;
        if let Some(key) = tag_key(self.name(cursor, name)) {
            let span = self.tag(cursor)?;
            self.properties.set(key, span);
        } else {
            cursor.skip()?;
        }
        cursor.next_key()
    }

    #[inline]
    pub(super) fn name<'n>(&'n mut self, cursor: &Cursor<'n>, name: Quoted) -> &'n [u8] {
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
    fn text(&mut self, cursor: &mut Cursor<'_>) -> Result<ByteSpan, Broken> {
        Ok(match self.value(cursor)? {
            Value::Text(span) => span,
            Value::Integer(span) if parse_u64(self.bytes(cursor.text(), span)).is_some() => span,
            _ => ByteSpan::EMPTY,
        })
    }

    /// As [`Self::text`], but empty where it is redacted.
    #[expect(clippy::inline_always, reason = "measured: else every value goes through memory")]
    #[inline(always)]
    fn tag(&mut self, cursor: &mut Cursor<'_>) -> Result<ByteSpan, Broken> {
        let span = if cursor.token() == b'"' {
            cursor.pos += 1;
            let text = cursor.string()?;
            self.keep(cursor, text)
        } else {
            self.text(cursor)?
        };
        Ok(self.unless_redacted(cursor.text(), span))
    }

    #[inline]
    fn unless_redacted(&self, text: &[u8], span: ByteSpan) -> ByteSpan {
        if self.bytes(text, span) == REDACTED { ByteSpan::EMPTY } else { span }
    }

    /// Seconds, as a number or as a text.
    #[inline]
    fn time(&mut self, cursor: &mut Cursor<'_>) -> Result<EventTime, Broken> {
        Ok(match self.value(cursor)? {
            Value::Text(span) | Value::Integer(span) | Value::Decimal(span) | Value::UnionNumber(span) => {
                EventTime::of(self.bytes(cursor.text(), span))
            }
            Value::Absent => EventTime::Absent,
            Value::Other => EventTime::Unusable,
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
    fn keep(&mut self, cursor: &Cursor<'_>, text: Quoted) -> ByteSpan {
        if text.escaped { self.keep_unescaped(cursor, text.span) } else { text.span }
    }

    #[inline(never)]
    fn keep_unescaped(&mut self, cursor: &Cursor<'_>, span: ByteSpan) -> ByteSpan {
        let from = self.unescaped.len();
        let start = cursor.text().len() + from;
        unescape(beginning(cursor.text().get(span.start..span.end).unwrap_or_default()), &mut self.unescaped);
        if cursor.is_lossy() {
            make_valid(&mut self.unescaped, from);
        }
        ByteSpan { start, end: cursor.text().len() + self.unescaped.len() }
    }

    /// An Avro union as JSON: an object with exactly one key, the type of its value.
    #[inline(never)]
    fn union(&mut self, cursor: &mut Cursor<'_>) -> Result<Value, Broken> {
        cursor.pos += 1;
        if cursor.token() == b'}' {
            cursor.pos += 1;
            return Ok(Value::Other);
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
            if !cursor.more_members()? {
                return Ok(value);
            }
        }
    }

    fn union_value(&mut self, cursor: &mut Cursor<'_>, branch: Branch) -> Result<Value, Broken> {
        match (branch, cursor.token()) {
            (Branch::Text, b'"') => self.value(cursor),
            (Branch::Number(_), token @ (b'0'..=b'9' | b'-')) => Ok(match bare_value(cursor, token)? {
                Value::Integer(span) | Value::Decimal(span) => Value::UnionNumber(span),
                other => other,
            }),
            _ => cursor.skip().map(|()| Value::Other),
        }
    }
}

/// The type that an Avro union names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Branch {
    Unread,
    Text,
    /// One of the numbers, told apart by its first letter.
    Number(u8),
    /// Another type, or several keys: no union that means anything here.
    None,
}

impl Branch {
    fn of(name: &[u8]) -> Self {
        match name {
            b"string" => Branch::Text,
            b"int" => Branch::Number(b'i'),
            b"long" => Branch::Number(b'l'),
            b"float" => Branch::Number(b'f'),
            b"double" => Branch::Number(b'd'),
            _ => Branch::None,
        }
    }
}

/// A value that is neither a string nor an object.
#[inline]
fn bare_value(cursor: &mut Cursor<'_>, token: u8) -> Result<Value, Broken> {
    if !matches!(token, b'0'..=b'9' | b'-') {
        let other = if token == b'n' { Value::Absent } else { Value::Other };
        return cursor.skip().map(|()| other);
    }
    let start = cursor.pos;
    let plain = cursor.number()?;
    let span = ByteSpan { start, end: cursor.pos };
    Ok(if plain { Value::Integer(span) } else { Value::Decimal(span) })
}

/// What is kept of a text, up to the end of a character.
fn beginning(text: &[u8]) -> &[u8] {
    let mut end = text.len().min(UNESCAPED_TEXT_MAX);
    while end + 4 > UNESCAPED_TEXT_MAX && text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::marks::Marks;
    use super::super::nesting::Nesting;
    use super::*;

    #[test]
    fn what_was_unescaped_is_forgotten_with_its_event() {
        let event = br#"{"campaign\u005fid":"\u0041","properties":{"canvas_id":"\u0042\u0042"}}"#;
        let (mut marks, mut nesting, mut found) =
            (Marks::default(), Nesting::default(), EventFields::default());
        marks.fill(event);
        for _ in 0..3 {
            let mut cursor = Cursor::new(event, 1, false, marks.bits(), &mut nesting);
            assert_eq!(found.start(&mut cursor).expect("is JSON"), Step::End);
            assert_eq!((&*found.unescaped, &*found.key), (&b"ABB"[..], &b"campaign_id"[..]));
        }
    }

    #[test]
    fn of_a_long_text_with_escapes_whole_characters_are_kept() {
        for before in 0..4 {
            let text = ["x".repeat(before), "é€😀".repeat(20_000)].concat();
            let kept = str::from_utf8(beginning(text.as_bytes())).unwrap();
            assert!(UNESCAPED_TEXT_MAX - kept.len() < 4, "{}", kept.len());
        }
        assert_eq!(beginning(&vec![0xbf; 100_000]).len(), UNESCAPED_TEXT_MAX - 4);
        assert_eq!(beginning(b"short"), b"short");
    }

    #[test]
    fn a_text_of_bytes_that_are_no_characters_takes_bounded_memory() {
        // Cut within an escape, too.
        for odd in [&b"\xff"[..], b"\0", b"ab\\u0000"] {
            let event = [b"{\"id\":\"", &*odd.repeat(1_000_000), b"\"}"].concat();
            let (mut marks, mut nesting, mut found) =
                (Marks::default(), Nesting::default(), EventFields::default());
            marks.fill(&event);
            let mut cursor = Cursor::new(&event, 1, true, marks.bits(), &mut nesting);
            assert_eq!(found.start(&mut cursor).expect("is JSON"), Step::End);
            assert!(found.unescaped.len() <= 3 * UNESCAPED_TEXT_MAX, "{}", found.unescaped.len());
        }
    }
}
