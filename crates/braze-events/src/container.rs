//! Avro object containers: Braze's storage exports, and some messages of brokers.
//!
//! A container is a header (the writer's schema, the codec, a marker of 16 bytes) and blocks of datums, each followed by the
//! marker. A block that is damaged is counted, and reading goes on behind the next marker. Another container may begin where
//! a block ends (`cat a.avro b.avro`), with a schema, codec and marker of its own. Nothing here does any I/O: the caller
//! hands bytes over as they come.
//!
//! Source: Avro 1.12 specification, "Object Container Files".

mod codec;
mod wire;

use std::sync::Arc;

pub use self::codec::{Codec, Expander};
use self::wire::{TooLong, Wire, WireFault};

use crate::{Datums, Framing, Part, WriterSchema};

/// The first bytes of every container.
pub const MAGIC: [u8; 4] = *b"Obj\x01";
/// The longest block, as it is stored and expanded: writers make blocks of some 16 to 64 KiB, and an expanded block is held
/// in memory whole.
pub const BLOCK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest header; most of it is the schema.
pub const HEADER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How many bytes the datums of one message may have once they are expanded.
const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX;
const MARKER_BYTES: usize = 16;
/// The most entries of a header; writers make two to five. Bytes in the middle of damage can look like a header with more.
const ENTRIES_MAX: u64 = 100;

/// Why no part of a container can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerRefusal {
    /// Its codec is not built in.
    #[error(
        "it is an Avro container with the codec {0:?}, which is not supported; write it with null, deflate, \
         snappy or zstandard"
    )]
    Codec(String),
    /// Its header is cut off or damaged.
    #[error("it is an Avro container with a damaged header ({0}); export it again")]
    Header(&'static str),
}

/// The header, which precedes the blocks.
#[derive(Debug, PartialEq, Eq)]
pub struct Header {
    /// The schema that all datums were written with.
    pub schema: Arc<WriterSchema>,
    /// How blocks are stored.
    pub codec: Codec,
    /// The header's length in bytes.
    pub bytes: usize,
    marker: [u8; MARKER_BYTES],
}

impl Header {
    /// Reads the header at the start of `bytes`; `Ok(None)` if there is more of it to come.
    ///
    /// # Errors
    /// When it is damaged, too long, or names a codec that is not supported.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, ContainerRefusal> {
        let mut wire = Wire::new(bytes);
        match wire.header(u64::MAX) {
            Err(WireFault::More) if bytes.len() >= HEADER_BYTES_MAX => {
                Err(ContainerRefusal::Header("longer than any schema"))
            }
            Err(WireFault::More) => Ok(None),
            Err(WireFault::Wrong) => Err(ContainerRefusal::Header("not a map of metadata")),
            Ok((schema, codec, marker)) => Ok(Some(Self {
                schema: Arc::new(WriterSchema::new(
                    std::str::from_utf8(schema.ok_or(ContainerRefusal::Header("no schema"))?)
                        .map_err(|_| ContainerRefusal::Header("a schema that is not UTF-8"))?,
                )),
                codec: Codec::named(codec.unwrap_or(b"null")).ok_or_else(|| {
                    ContainerRefusal::Codec(String::from_utf8_lossy(codec.unwrap_or_default()).into())
                })?,
                bytes: wire.pos,
                marker,
            })),
        }
    }

    /// The block at the start of `bytes`, as far as its frame goes.
    fn block<'b>(&self, bytes: &'b [u8], whole: bool) -> Result<Block<'b>, WireFault> {
        let mut wire = Wire::new(bytes);
        let (count, stored, marker) = wire.block()?;
        self.check_marker(count, marker, &bytes[wire.pos..], whole)?;
        Ok(Block { count, stored, bytes: wire.pos })
    }

    /// Whether a block of `count` datums ends with `marker`. With another marker, if the bytes `behind` it are whole, only
    /// the marker is damaged: this one or the header's.
    fn check_marker(
        &self,
        count: u64,
        marker: [u8; MARKER_BYTES],
        behind: &[u8],
        whole: bool,
    ) -> Result<(), WireFault> {
        if marker == self.marker {
            return Ok(());
        }
        if count == 0 {
            // Zeros begin like this, too.
            return Err(WireFault::Wrong);
        }
        if may_be_container(behind) {
            return if whole || behind.len() >= MAGIC.len() { Ok(()) } else { Err(WireFault::More) };
        }
        let (_, _, next) = Wire::new(behind).block()?;
        if next == self.marker || next == marker { Ok(()) } else { Err(WireFault::Wrong) }
    }

    /// How far the damage at the start of `bytes` goes: to behind the next marker, or to the next container.
    ///
    /// # Errors
    /// When neither is there: the damage is at least this long, and more bytes are needed to tell. If these are the `whole`
    /// rest, all of them are damaged.
    fn damage(&self, bytes: &[u8], whole: bool) -> Result<usize, usize> {
        let marker = memchr::memmem::find(bytes, &self.marker).map(|at| at + MARKER_BYTES);
        let (end, mut from) = (marker.unwrap_or(bytes.len()), 0);
        while let Some(at) = memchr::memmem::find(&bytes[from..end], &MAGIC).map(|at| from + at) {
            let rest = &bytes[at..];
            let mut wire = Wire::new(rest);
            match wire.header(ENTRIES_MAX) {
                Ok((Some(schema), ..)) if std::str::from_utf8(schema).is_ok() => return Ok(at),
                Err(WireFault::More) if !whole && rest.len() < HEADER_BYTES_MAX => return Err(at),
                Ok(_) => from = at + wire.pos,
                Err(_) => from = at + MAGIC.len(),
            }
            from = from.min(end);
        }
        // The last bytes may begin a marker, or the magic of a container.
        let surely = if whole { bytes.len() } else { (bytes.len() + 1).saturating_sub(MARKER_BYTES) };
        marker.ok_or(surely)
    }

    /// How to read the datums of a block once they are expanded to `bytes` bytes; `None` if there can't be so many: an event
    /// takes at least one byte, and each byte is of one.
    fn framing(&self, count: u64, bytes: usize) -> Option<Framing> {
        let is_lie = count > bytes as u64 || count == 0 && bytes > 0;
        (!is_lie).then(|| Framing::Avro(Datums { schema: Arc::clone(&self.schema), count }))
    }
}

/// One block as it is stored.
struct Block<'b> {
    /// The number of datums that it states.
    count: u64,
    /// The datums, in the codec.
    stored: &'b [u8],
    /// Its length in bytes, with its head and marker.
    bytes: usize,
}

/// Reads containers out of bytes that the caller hands over as they come. Skips damage, to behind the next marker or to the
/// next container.
#[derive(Debug, Default)]
pub struct BlockReader {
    /// None before the first container.
    header: Option<Header>,
    expander: Expander,
    /// The damage that is being skipped.
    damage: Option<DamagedBlocks>,
    /// The block that this damage is, if it is one that is too long.
    too_long: Option<TooLong>,
}

/// What a [`BlockReader`] has consumed.
#[derive(Debug, PartialEq, Eq)]
pub enum BlockStep {
    /// At most some damage that goes on behind the bytes at hand.
    Nothing,
    /// The header of a container.
    Header,
    /// A block, and how to read its datums.
    Block(Framing),
    /// The rest of some damage.
    Damage(DamagedBlocks),
    /// All that is left: the beginning of a block, as far as can be told.
    CutOff(DamagedBlocks),
}

/// The loss in one place.
#[derive(Debug, PartialEq, Eq)]
pub struct DamagedBlocks {
    /// Events that are lost: at least one, and no more than can be in there.
    pub events: u64,
    /// Bytes that are lost.
    pub bytes: u64,
    /// What is wrong.
    pub problem: String,
}

impl BlockReader {
    /// Takes what stands at the start of `bytes`, which follow those that were taken before, and appends its datums to
    /// `body`, `bytes_max` at most. Returns how many bytes are taken. `whole` says that nothing comes behind `bytes`.
    ///
    /// # Errors
    /// When a container begins there that can't be read.
    pub fn take(
        &mut self,
        bytes: &[u8],
        whole: bool,
        bytes_max: usize,
        body: &mut Vec<u8>,
    ) -> Result<(usize, BlockStep), ContainerRefusal> {
        let Some(header) = &self.header else { return self.begin(bytes, whole) };
        if let Some(damage) = self.damage.take() {
            return Ok(self.pass(damage, bytes, whole, false));
        }
        if bytes.is_empty() {
            return Ok((0, BlockStep::Nothing));
        }
        // Read as a block it would have a negative number of datums.
        if may_be_container(bytes) {
            return self.begin(bytes, whole);
        }
        let block = match header.block(bytes, whole) {
            Ok(block) => block,
            Err(WireFault::More) if !whole => return Ok((0, BlockStep::Nothing)),
            Err(fault) => {
                let (events, problem) = (plausible_count(bytes), "no whole block".to_owned());
                let damage = DamagedBlocks { events, bytes: 0, problem };
                self.too_long = Wire::new(bytes).too_long();
                return Ok(self.pass(damage, bytes, whole, matches!(fault, WireFault::More)));
            }
        };
        let start = body.len();
        let problem = match self.expander.expand(header.codec, block.stored, bytes_max, body) {
            Ok(expanded) => match header.framing(block.count, expanded) {
                Some(framing) => return Ok((block.bytes, BlockStep::Block(framing))),
                None => format!("a head that says {} events, for {expanded} bytes of them", block.count),
            },
            Err(error) => error.to_string(),
        };
        body.truncate(start);
        let (events, bytes) = (plausible(block.count, block.stored.len()), block.bytes as u64);
        Ok((block.bytes, BlockStep::Damage(DamagedBlocks { events, bytes, problem })))
    }

    fn begin(&mut self, bytes: &[u8], whole: bool) -> Result<(usize, BlockStep), ContainerRefusal> {
        let Some(mut header) = Header::read(bytes)? else {
            return if whole {
                Err(ContainerRefusal::Header("cut off"))
            } else {
                Ok((0, BlockStep::Nothing))
            };
        };
        if let Some(before) = &self.header
            && before.schema == header.schema
        {
            // Decoders remember what they compiled of a schema by its identity.
            header.schema = Arc::clone(&before.schema);
        }
        let taken = header.bytes;
        self.header = Some(header);
        Ok((taken, BlockStep::Header))
    }

    /// Passes damage; where it `asks_for_more`, it may be a block that is cut off.
    fn pass(
        &mut self,
        mut damage: DamagedBlocks,
        bytes: &[u8],
        whole: bool,
        asks_for_more: bool,
    ) -> (usize, BlockStep) {
        let end = self.header.as_ref().map_or(Err(0), |header| header.damage(bytes, whole));
        let (Ok(taken) | Err(taken)) = end;
        damage.bytes += taken as u64;
        if end.is_err() && !whole {
            self.damage = Some(damage);
            return (taken, BlockStep::Nothing);
        }
        if let Some(TooLong { count, bytes }) = self.too_long.take()
            && bytes == damage.bytes
        {
            // The marker is where its head says, so it is whole.
            damage.events = count;
            let mib = BLOCK_BYTES_MAX / 1024 / 1024;
            damage.problem = format!(
                "longer than {mib} MiB: write the file with smaller blocks (a shorter sync interval)"
            );
        }
        damage.events = damage.events.clamp(1, damage.bytes.max(1));
        // A length that is wrong asks for more as well, but what comes behind it is found.
        let is_cut_off = asks_for_more && end.is_err();
        (taken, if is_cut_off { BlockStep::CutOff(damage) } else { BlockStep::Damage(damage) })
    }
}

/// Appends the datums of a container, or of several one after the other, to `body`, and how they are to be read to `parts`.
/// Blocks become [`Framing::Unreadable`] that are damaged, or expand to more than 16 MiB in all or beyond `body_max` of `body`.
///
/// # Errors
/// When one of them can't be read. Those before it have been appended then, and nothing behind it.
pub fn split(
    message: &[u8],
    body_max: usize,
    body: &mut Vec<u8>,
    parts: &mut Vec<Part>,
) -> Result<(), ContainerRefusal> {
    let mut reader = BlockReader::default();
    let (start, mut rest) = (body.len(), message);
    loop {
        let room = (start + MESSAGE_BYTES_MAX).min(body_max).saturating_sub(body.len());
        let (bytes, taken) = reader.take(rest, true, room, body)?;
        rest = &rest[bytes..];
        let framing = match taken {
            BlockStep::Nothing => return Ok(()),
            BlockStep::Header => continue,
            BlockStep::Block(framing) => framing,
            BlockStep::Damage(damage) | BlockStep::CutOff(damage) => Framing::Unreadable(damage.events),
        };
        add_part(parts, Part { end: body.len(), framing });
    }
}

/// Adds a part of a body. Blocks may be tiny, so one without datums is left out, and what is lost side by side is one part.
pub fn add_part(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), &part.framing) {
        (_, Framing::Avro(Datums { count: 0, .. })) => {}
        (Some(Part { framing: Framing::Unreadable(before), end }), Framing::Unreadable(events)) => {
            *before = before.saturating_add(*events);
            *end = part.end;
        }
        _ => parts.push(part),
    }
}

/// Whether bytes at the place of a block begin with a container instead, as far as they go.
fn may_be_container(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes)
}

/// The count in the head of a damaged block, if it is plausible.
fn plausible_count(bytes: &[u8]) -> u64 {
    let mut wire = Wire::new(bytes);
    let head = wire.integer().and_then(|count| wire.integer().map(|stored| (count, stored)));
    match head.map(|(count, stored)| (u64::try_from(count), usize::try_from(stored))) {
        Ok((Ok(count), Ok(stored))) => plausible(count, stored.min(bytes.len())),
        _ => 1,
    }
}

/// Every event has an id, and no codec packs one into less than a byte.
fn plausible(count: u64, stored_bytes: usize) -> u64 {
    if count <= stored_bytes as u64 { count.max(1) } else { 1 }
}

#[cfg(test)]
mod tests;
