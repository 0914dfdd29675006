//! The grammar of JSON (RFC 8259), enforced in full, over a body whose strings are already marked.
//!
//! Nothing recurses: values of any depth are passed over with one bit per level.

mod number;

use super::escape::hex4;
use super::marks::first_mark;
use super::nesting::Nesting;
use crate::event_fields::ByteSpan;

/// What is wrong with a body. Its text never quotes the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the JSON ends too early")]
    End,
    #[error("unexpected character")]
    Unexpected,
    #[error("not a JSON number")]
    Number,
    #[error("control character in a string")]
    Control,
    #[error("invalid escape in a string")]
    Escape,
    #[error("characters after the end of the JSON")]
    Trailing,
    #[error("neither an event nor an array of events")]
    NotAnEnvelope,
    #[error("more than a third of it is no characters")]
    NoText,
}

/// A valid string, without its quotes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted {
    pub(super) span: ByteSpan,
    pub(super) escaped: bool,
}

/// The document is broken; the [`Cursor`] stands where and knows why.
///
/// It carries nothing, so that the results of the hottest methods stay in registers: with a fault inside,
/// they went through memory in unaligned pieces, which took half of the time of decoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken;

/// Reads one document. A method that fails leaves `pos` at the byte that is wrong, and `fault` set.
#[derive(Debug)]
pub(super) struct Cursor<'b> {
    text: &'b [u8],
    marks: &'b [u8],
    nesting: &'b mut Nesting,
    /// Whether the text is not valid UTF-8; the first byte of what is not is marked, as an escape is.
    lossy: bool,
    pub(super) pos: usize,
    /// Means something only after a method has failed.
    pub(super) fault: Fault,
}

impl<'b> Cursor<'b> {
    /// `marks` belong to a body that starts with `text`; the document is `text` from `pos` to its end.
    pub(super) fn new(
        text: &'b [u8],
        pos: usize,
        lossy: bool,
        marks: &'b [u8],
        nesting: &'b mut Nesting,
    ) -> Self {
        Self { text, marks, nesting, lossy, pos, fault: Fault::End }
    }

    /// Whether a string with marks in it may hold bytes that are not UTF-8.
    pub(super) fn is_lossy(&self) -> bool {
        self.lossy
    }

    pub(super) fn text(&self) -> &'b [u8] {
        self.text
    }

    /// 0, which no grammar allows, behind the end.
    #[inline]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn fail<T>(&mut self, at: usize, fault: Fault) -> Result<T, Broken> {
        self.pos = at.min(self.text.len());
        self.fault = match fault {
            Fault::NotAnEnvelope => fault,
            _ if self.pos < self.text.len() => fault,
            _ => Fault::End,
        };
        Err(Broken)
    }

    /// The next byte that is not white space, without passing it; 0 at the end.
    #[inline]
    pub(super) fn token(&mut self) -> u8 {
        let byte = self.byte(self.pos);
        if byte > b' ' { byte } else { self.token_after_blanks() }
    }

    #[inline(never)]
    fn token_after_blanks(&mut self) -> u8 {
        while matches!(self.byte(self.pos), b' ' | b'\n' | b'\r' | b'\t') {
            self.pos += 1;
        }
        self.byte(self.pos)
    }

    /// Whether nothing is left; to be asked after [`Self::token`] returned 0.
    pub(super) fn is_at_end(&self) -> bool {
        self.pos == self.text.len()
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Broken> {
        self.token();
        if self.is_at_end() { Ok(()) } else { self.fail(self.pos, Fault::Trailing) }
    }

    /// Passes the next token if it is `wanted`.
    #[inline]
    pub(super) fn expect(&mut self, wanted: u8) -> Result<(), Broken> {
        if self.token() != wanted {
            return self.fail(self.pos, Fault::Unexpected);
        }
        self.pos += 1;
        Ok(())
    }

    /// A key and its colon.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Quoted, Broken> {
        self.expect(b'"')?;
        self.rest_of_key()
    }

    /// A key whose opening quote has been passed, and its colon.
    #[inline]
    pub(super) fn rest_of_key(&mut self) -> Result<Quoted, Broken> {
        let key = self.string()?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Passes the opening quote of the first key of an object whose brace has been passed. `false`: the object is empty, and
    /// its end is passed.
    #[inline]
    pub(super) fn first_key(&mut self) -> Result<bool, Broken> {
        if self.token() == b'}' {
            self.pos += 1;
            return Ok(false);
        }
        self.expect(b'"').map(|()| true)
    }

    /// After the value of a member: passes the comma and the opening quote of the next key. `false`: the object ends, and its
    /// end is passed.
    #[inline]
    pub(super) fn next_key(&mut self) -> Result<bool, Broken> {
        if self.more_members()? { self.expect(b'"').map(|()| true) } else { Ok(false) }
    }

    /// Passes the comma before another member, or the closing brace.
    #[inline]
    pub(super) fn more_members(&mut self) -> Result<bool, Broken> {
        match self.token() {
            b',' => {
                self.pos += 1;
                Ok(true)
            }
            b'}' => {
                self.pos += 1;
                Ok(false)
            }
            _ => self.fail(self.pos, Fault::Unexpected),
        }
    }

    /// The end of a string that begins at `start`, if it has no escapes and `tail`, which begins with its closing quote, is
    /// what follows. Passes nothing.
    ///
    /// This is what nearly all keys and values are in JSON without blanks, with one comparison in place of several.
    #[expect(clippy::inline_always, reason = "measured: else every string goes through memory")]
    #[inline(always)]
    fn end_before<const N: usize>(&self, start: usize, tail: &[u8; N]) -> Option<usize> {
        let end = first_mark(self.marks, start);
        (self.text.get(end..end + N)? == tail).then_some(end)
    }

    /// Passes members of an object as long as they are strings without escapes or blanks and another member follows, from
    /// behind the opening quote of a key to behind that of the first one that is none. `each` is given key and value; with
    /// `false` it leaves a member for whoever comes next.
    ///
    /// Where it stands is not written down meanwhile: each place follows from the one before, so the way there is what a member
    /// takes.
    #[expect(clippy::inline_always, reason = "measured: as `end_before`")]
    #[inline(always)]
    pub(super) fn plain_members(&mut self, mut each: impl FnMut(&'b [u8], ByteSpan) -> bool) {
        let mut at = self.pos;
        while let Some(key_end) = self.end_before(at, b"\":\"")
            && let Some(end) = self.end_before(key_end + 3, b"\",\"")
        {
            let key = self.text.get(at..key_end).unwrap_or_default();
            if !each(key, ByteSpan { start: key_end + 3, end }) {
                break;
            }
            at = end + 3;
        }
        self.pos = at;
    }

    /// A string whose opening quote has been passed.
    #[expect(clippy::inline_always, reason = "measured: else every string goes through memory")]
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Quoted, Broken> {
        let start = self.pos;
        let end = first_mark(self.marks, start);
        if self.byte(end) == b'"' {
            self.pos = end + 1;
            return Ok(Quoted { span: ByteSpan { start, end }, escaped: false });
        }
        let end = self.string_with_escapes(end)?;
        Ok(Quoted { span: ByteSpan { start, end }, escaped: true })
    }

    /// Goes on at the first mark in a string. Returns where the closing quote is.
    #[inline(never)]
    fn string_with_escapes(&mut self, mut at: usize) -> Result<usize, Broken> {
        loop {
            match self.byte(at) {
                b'"' => {
                    self.pos = at + 1;
                    return Ok(at);
                }
                b'\\' => at += self.escape(at)?,
                // Not UTF-8, or NUL: whoever reads the string finds U+FFFD there.
                0x80.. => at += 1,
                0 if at < self.text.len() => at += 1,
                _ => return self.fail(at, Fault::Control),
            }
            at = first_mark(self.marks, at);
        }
    }

    /// The length of the escape whose backslash is at `at`.
    fn escape(&mut self, at: usize) -> Result<usize, Broken> {
        match self.byte(at + 1) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(2),
            // Half of a surrogate pair is legal grammar, and stands for U+FFFD.
            b'u' => self.hex(at + 2).map(|()| 6),
            _ => self.fail(at + 1, Fault::Escape),
        }
    }

    fn hex(&mut self, at: usize) -> Result<(), Broken> {
        if hex4(self.text.get(at..).unwrap_or_default()).is_some() {
            return Ok(());
        }
        let digits = self.text.iter().skip(at).take_while(|byte| byte.is_ascii_hexdigit()).count();
        self.fail(at + digits, Fault::Escape)
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Broken> {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        let same = rest.iter().zip(literal).take_while(|(a, b)| a == b).count();
        if same < literal.len() {
            return self.fail(self.pos + same, Fault::Unexpected);
        }
        self.pos += same;
        Ok(())
    }

    /// Passes over one value of any kind and depth.
    #[expect(clippy::inline_always, reason = "measured: most values are strings that nobody reads")]
    #[inline(always)]
    pub(super) fn skip(&mut self) -> Result<(), Broken> {
        let token = self.token();
        if token != b'"' {
            return self.skip_other(token);
        }
        self.pos += 1;
        self.string().map(|_| ())
    }

    #[inline(never)]
    fn skip_other(&mut self, token: u8) -> Result<(), Broken> {
        if matches!(token, b'{' | b'[') { self.skip_nested() } else { self.skip_bare(token) }
    }

    fn skip_bare(&mut self, token: u8) -> Result<(), Broken> {
        match token {
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => self.fail(self.pos, Fault::Unexpected),
        }
    }

    fn skip_nested(&mut self) -> Result<(), Broken> {
        self.nesting.clear();
        loop {
            // A value stands here.
            match self.token() {
                b'"' => {
                    self.pos += 1;
                    self.string()?;
                }
                b'{' => {
                    self.pos += 1;
                    self.nesting.push(true);
                    if self.token() != b'}' {
                        self.expect(b'"')?;
                        self.nested_members()?;
                        continue;
                    }
                }
                b'[' => {
                    self.pos += 1;
                    self.nesting.push(false);
                    if self.token() != b']' {
                        continue;
                    }
                }
                token => self.skip_bare(token)?,
            }
            // A value has ended, or an empty object or array is about to.
            if self.close_nested()? {
                return Ok(());
            }
        }
    }

    /// Passes members from a key on whose opening quote has been passed, up to a value.
    #[inline]
    fn nested_members(&mut self) -> Result<(), Broken> {
        self.plain_members(|_, _| true);
        self.rest_of_key().map(|_| ())
    }

    /// Passes closing brackets up to the next comma, and with it what comes before the next value. Returns whether the
    /// outermost bracket was closed.
    #[inline]
    fn close_nested(&mut self) -> Result<bool, Broken> {
        loop {
            let in_object = self.nesting.in_object();
            match self.token() {
                b',' => {
                    self.pos += 1;
                    if in_object {
                        self.expect(b'"')?;
                        self.nested_members()?;
                    }
                    return Ok(false);
                }
                b'}' if in_object => {}
                b']' if !in_object => {}
                _ => return self.fail(self.pos, Fault::Unexpected),
            }
            self.pos += 1;
            if self.nesting.pop() {
                return Ok(true);
            }
        }
    }
}
