//! Avro object containers: Braze's storage exports, and some messages of brokers.
//!
//! A container is a header (the writer's schema, the codec, a marker of 16 bytes) and blocks of datums, each followed by the
//! marker. A block that is damaged is counted, and reading goes on behind the next marker. Another container may begin where
//! a block ends (`cat a.avro b.avro`), with a schema, codec and marker of its own. Nothing here does any I/O: the caller
//! hands bytes over as they come.
//!
//! Source: Avro 1.12 specification, "Object Container Files".

mod codec;

use std::sync::Arc;

pub use self::codec::{Codec, Expander};

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
        let mut wire = Wire { bytes, pos: 0 };
        match wire.header(u64::MAX) {
            Err(Stop::More) if bytes.len() >= HEADER_BYTES_MAX => {
                Err(ContainerRefusal::Header("longer than any schema"))
            }
            Err(Stop::More) => Ok(None),
            Err(Stop::Wrong) => Err(ContainerRefusal::Header("not a map of metadata")),
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
    fn block<'b>(&self, bytes: &'b [u8], whole: bool) -> Result<Block<'b>, Stop> {
        let mut wire = Wire { bytes, pos: 0 };
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
    ) -> Result<(), Stop> {
        if marker == self.marker {
            return Ok(());
        }
        if count == 0 {
            // Zeros begin like this, too.
            return Err(Stop::Wrong);
        }
        if may_be_container(behind) {
            return if whole || behind.len() >= MAGIC.len() { Ok(()) } else { Err(Stop::More) };
        }
        let (_, _, next) = Wire { bytes: behind, pos: 0 }.block()?;
        if next == self.marker || next == marker { Ok(()) } else { Err(Stop::Wrong) }
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
            let mut wire = Wire { bytes: rest, pos: 0 };
            match wire.header(ENTRIES_MAX) {
                Ok((Some(schema), ..)) if std::str::from_utf8(schema).is_ok() => return Ok(at),
                Err(Stop::More) if !whole && rest.len() < HEADER_BYTES_MAX => return Err(at),
                Ok(_) => from = at + wire.pos,
                Err(_) => from = at + MAGIC.len(),
            }
            from = from.min(end);
        }
        // The last bytes may begin a marker, or the magic of a container.
        let surely = if whole { bytes.len() } else { (bytes.len() + 1).saturating_sub(MARKER_BYTES) };
        marker.ok_or(surely)
    }

    /// How to read the datums of a block once they are expanded to `bytes` bytes.
    fn framing(&self, count: u64, bytes: usize) -> Framing {
        // An event takes at least one byte, so a count above the number of bytes is a lie.
        if count > bytes as u64 {
            return Framing::Unreadable(bytes.max(1) as u64);
        }
        Framing::Avro(Datums { schema: Arc::clone(&self.schema), count })
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
            return Ok(self.pass(damage, bytes, whole));
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
            Err(Stop::More) if !whole => return Ok((0, BlockStep::Nothing)),
            Err(_) => {
                let (events, problem) = (plausible_count(bytes), "no whole block".to_owned());
                return Ok(self.pass(DamagedBlocks { events, bytes: 0, problem }, bytes, whole));
            }
        };
        let taken = match self.expander.expand(header.codec, block.stored, bytes_max, body) {
            Ok(expanded) => BlockStep::Block(header.framing(block.count, expanded)),
            Err(error) => BlockStep::Damage(DamagedBlocks {
                events: plausible(block.count, block.stored.len()),
                bytes: block.bytes as u64,
                problem: error.to_string(),
            }),
        };
        Ok((block.bytes, taken))
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

    fn pass(&mut self, mut damage: DamagedBlocks, bytes: &[u8], whole: bool) -> (usize, BlockStep) {
        let end = self.header.as_ref().map_or(Err(0), |header| header.damage(bytes, whole));
        let (Ok(taken) | Err(taken)) = end;
        damage.bytes += taken as u64;
        if end.is_err() && !whole {
            self.damage = Some(damage);
            return (taken, BlockStep::Nothing);
        }
        damage.events = damage.events.clamp(1, damage.bytes.max(1));
        (taken, BlockStep::Damage(damage))
    }
}

/// Appends the datums of a container, or of several one after the other, to `body`, and how they are to be read to `parts`.
/// Damaged blocks become [`Framing::Unreadable`], as do those that expand to more than 16 MiB in all.
///
/// # Errors
/// When one of them can't be read. Those before it have been appended then, and nothing behind it.
pub fn split(message: &[u8], body: &mut Vec<u8>, parts: &mut Vec<Part>) -> Result<(), ContainerRefusal> {
    let mut reader = BlockReader::default();
    let (start, mut rest) = (body.len(), message);
    loop {
        let room = MESSAGE_BYTES_MAX - (body.len() - start).min(MESSAGE_BYTES_MAX);
        let (bytes, taken) = reader.take(rest, true, room, body)?;
        rest = &rest[bytes..];
        let framing = match taken {
            BlockStep::Nothing => return Ok(()),
            BlockStep::Header => continue,
            BlockStep::Block(framing) => framing,
            BlockStep::Damage(damage) => Framing::Unreadable(damage.events),
        };
        parts.push(Part { end: body.len(), framing });
    }
}

/// Whether bytes at the place of a block begin with a container instead, as far as they go.
fn may_be_container(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes)
}

/// The count in the head of a damaged block, if it is plausible.
fn plausible_count(bytes: &[u8]) -> u64 {
    let mut wire = Wire { bytes, pos: 0 };
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

/// Why reading stopped.
enum Stop {
    /// More bytes are needed.
    More,
    Wrong,
}

/// Schema, codec, marker.
type Head<'b> = (Option<&'b [u8]>, Option<&'b [u8]>, [u8; MARKER_BYTES]);

/// Reads Avro's encoding of integers and bytes.
struct Wire<'b> {
    bytes: &'b [u8],
    pos: usize,
}

impl<'b> Wire<'b> {
    fn header(&mut self, mut entries_max: u64) -> Result<Head<'b>, Stop> {
        if self.take(MAGIC.len())? != MAGIC {
            return Err(Stop::Wrong);
        }
        let (mut schema, mut codec) = (None, None);
        loop {
            let count = self.integer()?;
            if count == 0 {
                return Ok((schema, codec, self.marker()?));
            }
            if count < 0 {
                self.integer()?;
            }
            entries_max = entries_max.checked_sub(count.unsigned_abs()).ok_or(Stop::Wrong)?;
            // Every entry takes bytes, so even a false count ends with the bytes.
            for _ in 0..count.unsigned_abs() {
                let (key, value) = (self.sized(HEADER_BYTES_MAX)?, self.sized(HEADER_BYTES_MAX)?);
                match key {
                    b"avro.schema" => schema = Some(value),
                    b"avro.codec" => codec = Some(value),
                    _ => {}
                }
            }
        }
    }

    fn block(&mut self) -> Result<(u64, &'b [u8], [u8; MARKER_BYTES]), Stop> {
        let count = u64::try_from(self.integer()?).map_err(|_| Stop::Wrong)?;
        let stored = self.sized(BLOCK_BYTES_MAX)?;
        Ok((count, stored, self.marker()?))
    }

    fn marker(&mut self) -> Result<[u8; MARKER_BYTES], Stop> {
        let bytes = self.take(MARKER_BYTES)?;
        bytes.try_into().map_err(|_| Stop::Wrong)
    }

    fn sized(&mut self, bytes_max: usize) -> Result<&'b [u8], Stop> {
        match usize::try_from(self.integer()?) {
            Ok(bytes) if bytes <= bytes_max => self.take(bytes),
            _ => Err(Stop::Wrong),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'b [u8], Stop> {
        let end = self.pos + bytes;
        let taken = self.bytes.get(self.pos..end).ok_or(Stop::More)?;
        self.pos = end;
        Ok(taken)
    }

    /// Zigzag, 7 bits a byte, least significant first.
    fn integer(&mut self) -> Result<i64, Stop> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(Stop::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use apache_avro::types::Value;
    use apache_avro::{Schema, Writer};
    use proptest::prelude::*;

    use super::*;
    use crate::containers::{SCHEMA, codecs, counts, datums, written};

    fn split_whole(message: &[u8]) -> Result<(Vec<u8>, Framing), ContainerRefusal> {
        let (mut body, mut parts) = (Vec::new(), Vec::new());
        split(message, &mut body, &mut parts)?;
        Ok((body, Framing::Parts(parts.into())))
    }

    /// Avro's encoding of an integer.
    fn integer(number: i64) -> Vec<u8> {
        let mut rest = (number << 1 ^ number >> 63).cast_unsigned();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).expect("7 bits"));
        bytes
    }

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [&integer(i64::try_from(bytes.len()).expect("is short")), bytes].concat()
    }

    /// A container made by hand: metadata, and blocks as count and stored bytes.
    fn made(metadata: &[(&str, &[u8])], blocks: &[(i64, &[u8])]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        if !metadata.is_empty() {
            // With a negative count and a size, as the specification allows.
            let entries: Vec<u8> = metadata
                .iter()
                .flat_map(|(key, value)| [sized(key.as_bytes()), sized(value)].concat())
                .collect();
            out.extend(integer(-i64::try_from(metadata.len()).expect("are few")));
            out.extend(sized(&entries));
        }
        out.push(0);
        out.extend([b'#'; MARKER_BYTES]);
        for (count, stored) in blocks {
            out.extend([integer(*count), sized(stored), vec![b'#'; MARKER_BYTES]].concat());
        }
        out
    }

    #[test]
    fn containers_of_every_codec_come_apart_as_they_were_written() {
        for codec in codecs() {
            for in_block in [1, 7, 1000] {
                let (body, framing) = split_whole(&written(codec, 0..100, in_block)).expect("is whole");
                assert!(body == datums(0..100), "{codec:?}");
                let Framing::Parts(parts) = &framing else { unreachable!() };
                assert_eq!(parts.len(), 100_usize.div_ceil(in_block));
                assert_eq!(counts(&framing), (100, 0));
                let Framing::Avro(Datums { schema, .. }) = &parts[0].framing else { panic!("are datums") };
                assert!(schema.text().contains("users.messages.email"));
            }
        }
    }

    #[test]
    fn without_a_codec_blocks_are_as_they_are() {
        let schema = ("avro.schema", SCHEMA.as_bytes());
        let message = made(&[schema, ("other", b"\xff")], &[(2, b"ab"), (1, b"c")]);
        let (body, framing) = split_whole(&message).expect("is whole");
        assert_eq!((&*body, counts(&framing)), (&b"abc"[..], (3, 0)));
    }

    #[test]
    fn headers_that_cannot_be_used_say_why() {
        let schema = ("avro.schema", SCHEMA.as_bytes());
        for (message, expected) in [
            (made(&[schema, ("avro.codec", b"bzip2")], &[]), "the codec \"bzip2\""),
            (made(&[schema, ("avro.codec", b"xz")], &[]), "null, deflate, snappy or zstandard"),
            (made(&[], &[]), "no schema"),
            (made(&[("avro.schema", b"\xff")], &[]), "not UTF-8"),
            (b"Obj\x02".to_vec(), "not a map"),
            ([&MAGIC[..], &[0xff; 12]].concat(), "not a map"),
            ([&MAGIC[..], &integer(1), &integer(i64::MAX)].concat(), "not a map"),
            ([&MAGIC[..], &integer(1), &integer(-1)].concat(), "not a map"),
            ([&MAGIC[..], &integer(1 << 60), &vec![0; HEADER_BYTES_MAX]].concat(), "longer than any schema"),
        ] {
            let refusal = split_whole(&message).expect_err(expected).to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
        let whole = made(&[schema], &[]);
        for cut in 0..whole.len() {
            assert_eq!(split_whole(&whole[..cut]).err(), Some(ContainerRefusal::Header("cut off")));
        }
    }

    #[test]
    fn a_damaged_block_is_counted_and_harms_no_other() {
        for codec in codecs() {
            let whole = written(codec, 0..40, 10);
            let header = Header::read(&whole).expect("is whole").expect("is whole").bytes;
            let block = header + header_next(&whole, header);
            let head = usize::from(whole[block + 1] >= 0x80);
            for (what, at) in [("stored", block + head + 20), ("length", block + 1)] {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                let (_, framing) = split_whole(&damaged).expect("the header is whole");
                let (read, lost) = counts(&framing);
                // Null and deflate have no checksum: of them, the datums tell.
                let is_booked = if what == "stored" { read + lost == 40 } else { (1..=10).contains(&lost) };
                assert!(matches!(read, 30 | 40) && is_booked, "{codec:?}: {what}: {read} {lost}");
            }
        }
    }

    #[test]
    fn a_damaged_marker_costs_no_event() {
        for codec in codecs() {
            let whole = written(codec, 0..40, 10);
            let header = Header::read(&whole).expect("is whole").expect("is whole").bytes;
            let first = header + header_next(&whole, header);
            for at in [header - 1, first - 1, whole.len() - 1] {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                let (body, framing) = split_whole(&damaged).expect("the header is readable");
                assert_eq!(counts(&framing), (40, 0), "{codec:?} at {at}");
                assert!(body == datums(0..40), "{codec:?} at {at}");
            }
        }
    }

    #[test]
    fn containers_one_after_the_other_are_read_each_with_its_own_header() {
        let [null, deflate, snappy, zstandard] = codecs();
        let other = [("avro.schema", &br#""string""#[..]), ("avro.codec", b"null")];
        let all = [
            written(null, 0..1, 1),
            written(deflate, 1..5_000, 100),
            written(snappy, 0..0, 1),
            written(zstandard, 5_000..5_001, 1),
            made(&other, &[(1, b"\x02a")]),
            written(snappy, 5_001..5_010, 2),
        ];
        let (body, framing) = split_whole(&all.concat()).expect("all are whole");
        let expected = [&*datums(0..5_001), b"\x02a", &datums(5_001..5_010)].concat();
        assert!(body == expected);
        assert_eq!(counts(&framing), (5_011, 0));
        let Framing::Parts(parts) = &framing else { unreachable!() };
        let schemas: Vec<_> = parts
            .iter()
            .filter_map(|part| match &part.framing {
                Framing::Avro(datums) => Some(&datums.schema),
                _ => None,
            })
            .collect();
        // What is made of a schema is remembered by its identity.
        let changes = schemas.windows(2).filter(|pair| !Arc::ptr_eq(pair[0], pair[1])).count();
        assert_eq!(changes, 2);
    }

    #[test]
    fn damage_never_swallows_the_next_container() {
        type Damage = fn(&mut Vec<u8>);
        let (one, two) = (written(codecs()[2], 0..1, 1), written(codecs()[3], 1..5_001, 100));
        let kinds: [(&str, Damage); 5] = [
            ("the last marker is damaged", |one| *one.last_mut().expect("is long") ^= 1),
            ("the last marker is cut off", |one| one.truncate(one.len() - 16)),
            ("the last marker is cut short", |one| one.truncate(one.len() - 3)),
            ("zeros are behind it", |one| one.resize(one.len() + 4096, 0)),
            ("text is behind it", |one| one.extend(b"\nObj\x01 and Obj\x01\xff are no headers\n")),
        ];
        for (what, damage) in kinds {
            let mut damaged = one.clone();
            damage(&mut damaged);
            let (_, framing) = split_whole(&[damaged, two.clone()].concat()).expect("the headers are whole");
            let (read, lost) = counts(&framing);
            assert!(matches!((read, lost), (5_001, 0 | 1) | (5_000, 1)), "{what}: {read} {lost}");
        }
    }

    #[test]
    fn a_container_that_cannot_be_read_is_refused_and_the_one_before_it_is_read() {
        let one = written(codecs()[1], 0..10, 3);
        let schema = ("avro.schema", SCHEMA.as_bytes());
        let foreign = made(&[schema, ("avro.codec", b"xz")], &[(1, b"a")]);
        for (behind, expected) in [
            (foreign.clone(), "the codec \"xz\""),
            (foreign[..30].to_vec(), "cut off"),
            (b"Ob".to_vec(), "cut off"),
            ([&MAGIC[..], &[0xff; 12]].concat(), "not a map"),
            ([&[0; 40][..], &foreign].concat(), "the codec \"xz\""),
        ] {
            let (mut body, mut parts) = (Vec::new(), Vec::new());
            let refusal = split(&[&*one, &behind].concat(), &mut body, &mut parts).expect_err(expected);
            assert!(refusal.to_string().contains(expected), "{refusal}");
            assert!(body == datums(0..10));
            assert_eq!(counts(&Framing::Parts(parts.into())).0, 10);
        }
    }

    fn header_next(whole: &[u8], header: usize) -> usize {
        let marker = &whole[header - MARKER_BYTES..header];
        memchr::memmem::find(&whole[header..], marker).expect("the first block ends") + MARKER_BYTES
    }

    #[test]
    fn a_container_that_is_cut_off_loses_its_last_block() {
        let whole = made(&[("avro.schema", SCHEMA.as_bytes())], &[(2, b"ab"), (3, b"cde")]);
        for cut in 1..16 {
            let (body, framing) = split_whole(&whole[..whole.len() - cut]).expect("the header is whole");
            assert_eq!((&*body, counts(&framing)), (&b"ab"[..], (2, 3)), "{cut}");
        }
    }

    #[test]
    fn counts_that_lie_are_not_believed() {
        let schema = ("avro.schema", SCHEMA.as_bytes());
        let counts = |blocks: &[(i64, &[u8])]| {
            counts(&split_whole(&made(&[schema], blocks)).expect("the header is whole").1)
        };
        assert_eq!(counts(&[(1 << 60, b"abc"), (1, b"a")]), (1, 3));
        assert_eq!(counts(&[(-5, b"abc"), (1, b"a")]), (1, 1));
        assert_eq!(counts(&[(0, b""), (1, b"a")]), (1, 0));
        let deflated =
            made(&[schema, ("avro.codec", b"deflate")], &[(1 << 60, b"\xff\xff"), (2, b"\xff\xff")]);
        let (_, framing) = split_whole(&deflated).expect("the header is whole");
        assert_eq!(super::tests::counts(&framing), (0, 1 + 2));
    }

    #[test]
    fn what_expands_without_end_is_given_up() {
        let long = vec![0; MESSAGE_BYTES_MAX + 1];
        let value = Value::Record(vec![("b".into(), Value::Bytes(long))]);
        let schema = r#"{"type":"record","name":"a","fields":[{"name":"b","type":"bytes"}]}"#;
        let schema = Schema::parse_str(schema).expect("is a schema");
        for codec in codecs().into_iter().skip(1) {
            let mut writer = Writer::with_codec(&schema, Vec::new(), codec);
            writer.append(value.clone()).expect("fits its schema");
            let message = writer.into_inner().expect("goes to memory");
            assert!(message.len() < MESSAGE_BYTES_MAX / 10);
            let (body, framing) = split_whole(&message).expect("the header is whole");
            assert_eq!((body.len(), counts(&framing)), (0, (0, 1)), "{codec:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_damage() {
        let mut stored = snap::raw::Encoder::new().compress_vec(b"abc").expect("is short");
        stored.extend(crc32fast::hash(b"abc").to_be_bytes());
        let mut out = b"before".to_vec();
        let mut expand = |stored: &[u8]| {
            let expanded = Expander::default().expand(Codec::Snappy, stored, 100, &mut out).ok();
            (expanded, String::from_utf8(out.clone()).expect("is text"))
        };
        stored[4] ^= 1;
        assert_eq!(expand(&stored), (None, "before".into()));
        assert_eq!(expand(b"ab"), (None, "before".into()));
        stored[4] ^= 1;
        assert_eq!(expand(&stored), (Some(3), "beforeabc".into()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Damage anywhere behind the header never panics, and loses no block that it does not touch.
        #[test]
        fn damage_loses_one_block_at_most(
            codec in 0usize..4, at: prop::sample::Index, bits in 1u8.., cut: bool
        ) {
            let whole = written(codecs()[codec], 0..60, 10);
            let behind = written(codecs()[0], 60..70, 10);
            let header = Header::read(&whole).expect("is whole").expect("is whole").bytes;
            let mut damaged = whole.clone();
            let at = header + at.index(whole.len() - header);
            damaged[at] ^= bits;
            if cut {
                damaged.truncate(at);
            }
            damaged.extend(behind);
            let (body, framing) = split_whole(&damaged).expect("the headers are whole");
            let (read, _) = counts(&framing);
            prop_assert!(read >= if cut { 10 } else { 60 }, "{}", read);
            let Framing::Parts(parts) = framing else { unreachable!() };
            prop_assert!(parts.iter().all(|part| part.end <= body.len()));
        }

        /// Arbitrary bytes behind a magic are refused or come apart, and never into more than they could hold.
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0u8..8], 0..300)) {
            let metadata: HashMap<_, _> = [("avro.schema", SCHEMA.as_bytes())].into();
            let header = made(&metadata.into_iter().collect::<Vec<_>>(), &[]);
            for message in [[&MAGIC[..], &bytes].concat(), [header, bytes].concat()] {
                if let Ok((_, framing)) = split_whole(&message) {
                    let (read, lost) = counts(&framing);
                    prop_assert!(read + lost <= message.len() as u64);
                }
            }
        }

        /// However often blocks lie about their number, they are not believed more than once.
        #[test]
        fn no_more_is_lost_than_there_is(repeat in 1_usize..50, count in 0_i64..500, stored in 0_i64..500) {
            let schema = ("avro.schema", SCHEMA.as_bytes());
            let lie = [integer(count), integer(stored), vec![b'#'; MARKER_BYTES]].concat();
            let message = [made(&[schema], &[]), lie.repeat(repeat)].concat();
            let (read, lost) = counts(&split_whole(&message).expect("the header is whole").1);
            prop_assert!(read + lost <= message.len() as u64, "{} {}", read, lost);
        }
    }
}
