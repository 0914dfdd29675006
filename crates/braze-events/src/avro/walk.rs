//! Walks along the bytes of datums, skips the fields that do not matter, and notes where the others are.
//!
//! Source: Avro 1.12 specification, "Binary Encoding". Nothing is allocated on the word of the bytes, and the work is
//! bounded by their number: values that take no byte (a null, a record of nulls, an array of them that claims 2^60 items)
//! are paid from a budget.

use super::schema::{AvroPlan, Member, Node, NodeId, RecordNode, Unit};
use crate::event_fields::{ByteSpan, EventFields, EventTime, FieldKey, REDACTED, tag_key};

/// How deep values may be nested: recursive schemas allow any depth.
const DEPTH_MAX: u32 = 64;

/// How many steps may be made for a byte; every value of an honest schema takes at least one byte, or nearly
/// every one.
const STEPS_PER_BYTE: u64 = 16;
/// How many steps may be made in any case: enough for a record with this many nulls.
const STEPS: u64 = 4096;

/// The bytes do not fit the schema, and nobody knows where the next datum begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Misfit;

/// What a datum turned out to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stands<'p> {
    /// An event, now in `event_fields`; this is its schema.
    Event(&'p RecordNode),
    /// A branch of a union that is no record.
    NoRecord,
}

/// One run of datums.
pub(super) struct Walk<'p, 'b, 'f> {
    plan: &'p AvroPlan,
    text: &'b [u8],
    pos: usize,
    steps_left: u64,
    pub(super) found: &'f mut EventFields,
}

impl<'p, 'b, 'f> Walk<'p, 'b, 'f> {
    /// A walk over the datums in `text` from `start` on.
    pub(super) fn new(plan: &'p AvroPlan, text: &'b [u8], start: usize, found: &'f mut EventFields) -> Self {
        let bytes = text.len().saturating_sub(start) as u64;
        let steps_left = STEPS + bytes.saturating_mul(STEPS_PER_BYTE);
        Self { plan, text, pos: start, steps_left, found }
    }

    /// Reads the next datum into `event_fields`. The last one must end where the bytes end.
    pub(super) fn datum(&mut self, is_last: bool) -> Result<Stands<'p>, Misfit> {
        self.found.clear();
        let stands = match self.resolve(self.plan.root)? {
            Node::Record(record) => {
                self.event(&record.members)?;
                Stands::Event(record)
            }
            node => {
                self.skip(node, DEPTH_MAX)?;
                Stands::NoRecord
            }
        };
        if is_last && self.pos != self.text.len() {
            return Err(Misfit);
        }
        Ok(stands)
    }

    /// Passes the next datum, a record, and returns the bytes or the text of one of its members; empty where it is neither.
    pub(super) fn body(
        &mut self,
        record: &RecordNode,
        body: usize,
        is_last: bool,
    ) -> Result<&'b [u8], Misfit> {
        self.pay(record.members.len() as u64)?;
        let mut span = ByteSpan::EMPTY;
        for (number, member) in record.members.iter().enumerate() {
            if number != body {
                self.skip_member(member, DEPTH_MAX)?;
                continue;
            }
            match self.resolve(member.node)? {
                Node::Bytes | Node::Text => span = self.span()?,
                other => self.skip(other, DEPTH_MAX)?,
            }
        }
        if is_last && self.pos != self.text.len() {
            return Err(Misfit);
        }
        Ok(&self.text[span.start..span.end])
    }

    fn event(&mut self, members: &'p [Member]) -> Result<(), Misfit> {
        self.pay(members.len() as u64)?;
        for member in members {
            match member.key {
                FieldKey::Other | FieldKey::Events => self.skip_member(member, DEPTH_MAX)?,
                FieldKey::Tag(key) => {
                    let span = self.tag(member.node)?;
                    self.found.top.set(key, span);
                }
                FieldKey::EventType => self.found.event_type = self.string(member.node)?,
                FieldKey::Id => self.found.id = self.tag(member.node)?,
                FieldKey::Time => self.found.time = self.time(member.node)?,
                FieldKey::Properties => self.properties(member.node)?,
            }
        }
        Ok(())
    }

    /// Reads a record or map with tag fields, as Currents nests them.
    fn properties(&mut self, node: NodeId) -> Result<(), Misfit> {
        match self.resolve(node)? {
            Node::Record(record) => {
                self.pay(record.members.len() as u64)?;
                for member in &record.members {
                    if let FieldKey::Tag(key) = member.key {
                        let span = self.tag(member.node)?;
                        self.found.properties.set(key, span);
                    } else {
                        self.skip_member(member, DEPTH_MAX)?;
                    }
                }
                Ok(())
            }
            Node::Map(values) => self.property_map(*values),
            other => self.skip(other, DEPTH_MAX),
        }
    }

    fn property_map(&mut self, values: NodeId) -> Result<(), Misfit> {
        while let Some((entries, _)) = self.block()? {
            self.pay(entries)?;
            for _ in 0..entries {
                let key = self.span()?;
                if let Some(key) = tag_key(&self.text[key.start..key.end]) {
                    let span = self.tag(values)?;
                    self.found.properties.set(key, span);
                } else {
                    self.skip(&self.plan.nodes[values], DEPTH_MAX)?;
                }
            }
        }
        Ok(())
    }

    /// As [`Self::string`], but empty where the text is redacted.
    #[inline]
    fn tag(&mut self, node: NodeId) -> Result<ByteSpan, Misfit> {
        let span = self.string(node)?;
        Ok(if self.found.bytes(self.text, span) == REDACTED { ByteSpan::EMPTY } else { span })
    }

    /// A text, or an integer that is not negative as its digits; empty where the value is neither.
    #[inline]
    fn string(&mut self, node: NodeId) -> Result<ByteSpan, Misfit> {
        match self.resolve(node)? {
            Node::Text => {
                let span = self.span()?;
                let text = &self.text[span.start..span.end];
                let is_odd = std::str::from_utf8(text).is_err() || memchr::memchr(0, text).is_some();
                Ok(if is_odd { self.keep_characters(text) } else { span })
            }
            Node::Integer(_) => {
                let number = self.integer()?;
                Ok(u64::try_from(number).map_or(ByteSpan::EMPTY, |number| self.digits(number)))
            }
            Node::Enum(symbols) => {
                let symbol = self.symbol(symbols)?;
                Ok(self.keep(symbol.as_bytes()))
            }
            other => self.skip(other, DEPTH_MAX).map(|()| ByteSpan::EMPTY),
        }
    }

    /// Reads seconds: digits in a text, or an integer in the unit that its type states.
    fn time(&mut self, node: NodeId) -> Result<EventTime, Misfit> {
        match self.resolve(node)? {
            Node::Integer(unit) => {
                let number = u64::try_from(self.integer()?).ok();
                Ok(EventTime::from(match unit {
                    Unit::PerSecond(parts) => number.map(|number| number / parts),
                    Unit::NoInstant => None,
                }))
            }
            Node::Text => {
                let span = self.span()?;
                Ok(EventTime::of(&self.text[span.start..span.end]))
            }
            Node::Float => Ok(whole(f64::from(f32::from_le_bytes(self.bytes()?))).into()),
            Node::Double => Ok(whole(f64::from_le_bytes(self.bytes()?)).into()),
            Node::Null => Ok(EventTime::Absent),
            other => self.skip(other, DEPTH_MAX).map(|()| EventTime::Unusable),
        }
    }

    /// The next bytes.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let start = self.pos;
        self.pass(N)?;
        self.text[start..].first_chunk().copied().ok_or(Misfit)
    }

    /// The type that a value has, once its union has said which.
    #[inline]
    fn resolve(&mut self, node: NodeId) -> Result<&'p Node, Misfit> {
        let mut node = &self.plan.nodes[node];
        while let Node::Union(branches) = node {
            node = &self.plan.nodes[self.branch(branches)?];
        }
        Ok(node)
    }

    #[inline]
    fn branch(&mut self, branches: &[NodeId]) -> Result<NodeId, Misfit> {
        let number = usize::try_from(self.integer()?).map_err(|_| Misfit)?;
        branches.get(number).copied().ok_or(Misfit)
    }

    fn symbol(&mut self, symbols: &'p [Box<str>]) -> Result<&'p str, Misfit> {
        let number = usize::try_from(self.integer()?).map_err(|_| Misfit)?;
        symbols.get(number).map(|symbol| &**symbol).ok_or(Misfit)
    }

    /// A null and a text, or one of them, is what most fields are.
    #[inline]
    fn skip_member(&mut self, member: &Member, depth: u32) -> Result<(), Misfit> {
        let mut node = &self.plan.nodes[member.node];
        if let Node::Union(branches) = node {
            node = &self.plan.nodes[self.branch(branches)?];
        }
        match node {
            Node::Null => Ok(()),
            Node::Text => self.span().map(|_| ()),
            other => self.skip(other, depth),
        }
    }

    /// Passes over a value of any type; `depth` is how much deeper it may be nested.
    fn skip(&mut self, node: &Node, depth: u32) -> Result<(), Misfit> {
        match node {
            Node::Null => Ok(()),
            Node::Boolean => match self.text.get(self.pos) {
                Some(0 | 1) => self.pass(1),
                _ => Err(Misfit),
            },
            Node::Integer(_) => self.integer().map(|_| ()),
            Node::Fixed(bytes) => self.pass(*bytes),
            Node::Float => self.pass(4),
            Node::Double => self.pass(8),
            Node::Bytes | Node::Text => self.span().map(|_| ()),
            Node::Enum(symbols) => {
                let number = usize::try_from(self.integer()?).map_err(|_| Misfit)?;
                if number < symbols.len() { Ok(()) } else { Err(Misfit) }
            }
            Node::Array(items) => self.skip_blocks(*items, false, depth),
            Node::Map(values) => self.skip_blocks(*values, true, depth),
            Node::Union(branches) => {
                let branch = self.branch(branches)?;
                let depth = depth.checked_sub(1).ok_or(Misfit)?;
                self.skip(&self.plan.nodes[branch], depth)
            }
            Node::Record(record) => {
                self.pay(record.members.len() as u64)?;
                let depth = depth.checked_sub(1).ok_or(Misfit)?;
                record.members.iter().try_for_each(|member| self.skip_member(member, depth))
            }
        }
    }

    fn skip_blocks(&mut self, items: NodeId, keyed: bool, depth: u32) -> Result<(), Misfit> {
        let depth = depth.checked_sub(1).ok_or(Misfit)?;
        while let Some((count, bytes)) = self.block()? {
            if let Some(bytes) = bytes {
                self.pass(bytes)?;
                continue;
            }
            self.pay(count)?;
            for _ in 0..count {
                if keyed {
                    self.span()?;
                }
                self.skip(&self.plan.nodes[items], depth)?;
            }
        }
        Ok(())
    }

    /// The head of the next block of an array or map: how many items, and in how many bytes if it says so.
    fn block(&mut self) -> Result<Option<(u64, Option<usize>)>, Misfit> {
        let count = self.integer()?;
        if count == 0 {
            return Ok(None);
        }
        let bytes = if count < 0 { Some(self.length()?) } else { None };
        Ok(Some((count.unsigned_abs(), bytes)))
    }

    /// Pays for steps that may take no byte.
    #[inline]
    fn pay(&mut self, steps: u64) -> Result<(), Misfit> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(Misfit)?;
        Ok(())
    }

    /// An `int` or `long`: zigzag, 7 bits a byte, least significant first.
    #[inline]
    fn integer(&mut self) -> Result<i64, Misfit> {
        let first = *self.text.get(self.pos).ok_or(Misfit)?;
        self.pos += 1;
        if first < 0x80 {
            return Ok(unzigzag(u64::from(first)));
        }
        self.long_integer(first)
    }

    fn long_integer(&mut self, first: u8) -> Result<i64, Misfit> {
        let mut number = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = *self.text.get(self.pos).ok_or(Misfit)?;
            self.pos += 1;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                return Err(Misfit);
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(number));
            }
        }
        Err(Misfit)
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Misfit> {
        usize::try_from(self.integer()?).map_err(|_| Misfit)
    }

    /// Bytes or a text, with its length before it.
    #[inline]
    fn span(&mut self) -> Result<ByteSpan, Misfit> {
        let bytes = self.length()?;
        let start = self.pos;
        self.pass(bytes)?;
        Ok(ByteSpan { start, end: self.pos })
    }

    #[inline]
    fn pass(&mut self, bytes: usize) -> Result<(), Misfit> {
        if bytes > self.text.len() - self.pos {
            return Err(Misfit);
        }
        self.pos += bytes;
        Ok(())
    }

    fn digits(&mut self, number: u64) -> ByteSpan {
        self.keep(itoa::Buffer::new().format(number).as_bytes())
    }

    /// Keeps a text, with U+FFFD in the place of invalid UTF-8 and of NUL.
    #[cold]
    fn keep_characters(&mut self, text: &[u8]) -> ByteSpan {
        let text = String::from_utf8_lossy(text).replace('\0', "\u{fffd}");
        self.keep(text.as_bytes())
    }

    /// Keeps a value that the bytes do not hold as it is.
    fn keep(&mut self, value: &[u8]) -> ByteSpan {
        let kept = &mut self.found.unescaped;
        let start = self.text.len() + kept.len();
        kept.extend_from_slice(value);
        ByteSpan { start, end: start + value.len() }
    }
}

/// A time that is not negative, with its fraction cut off.
fn whole(number: f64) -> Option<u64> {
    /// 2^64.
    const TOO_MUCH: f64 = 18_446_744_073_709_551_616.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within the bounds")]
    (0.0..TOO_MUCH).contains(&number).then_some(number as u64)
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}
