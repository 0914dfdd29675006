//! Compressed content as `gunzip` reads it: one member after the other; bytes behind the last one are left out. A stream of
//! xz and a frame of zstandard are members here, too.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use crate::zstandard::ZstdFrame;

/// The first bytes of a zstandard frame, and of a frame to be skipped, whose first byte varies in its low half (RFC 8878,
/// 3.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// How far back a zstandard frame or an xz block may refer, as a power of two: 128 MiB, what `zstd` makes without
/// `--long`, and twice what `xz -9` makes. That much of the content is held in memory.
const WINDOW_LOG_MAX: u32 = 27;
/// Memory of xz beside its dictionary, in KiB.
const XZ_OVERHEAD_KIB: u32 = 128;
/// Between xz streams there may be zeros, in groups of four (The .xz File Format, 2.2).
const XZ_PADDING_BYTES: u64 = 4;
/// How much is read from xz at once: a read that meets damage loses what it has unpacked.
const XZ_READ_BYTES: usize = 32 * 1024;

/// How content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// As `bzip2` makes it.
    Bzip2,
    /// The .xz file format, 1.2.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Format {
    /// How many first bytes identify the format.
    pub const MAGIC_BYTES: usize = 4;

    /// The format whose magic these bytes begin with.
    pub fn of(head: &[u8]) -> Option<Self> {
        Self::with_magic(|magic| head.starts_with(magic), head)
    }

    /// The format that these bytes begin, if they are all there is, and fewer than its magic has.
    pub fn of_beginning(head: &[u8]) -> Option<Self> {
        // The first byte of a frame to be skipped may be a letter or a bracket.
        let is_known = |magic: &[u8]| head.len() > 1 || magic[1..] != ZSTD_SKIPPABLE[1..];
        let begins = |magic: &[u8]| head.len() < magic.len() && magic.starts_with(head) && is_known(magic);
        if head.is_empty() { None } else { Self::with_magic(begins, head) }
    }

    /// The format of whose magic this is true; `head` says which frame to be skipped is meant.
    fn with_magic(is_true: impl Fn(&[u8]) -> bool, head: &[u8]) -> Option<Self> {
        let mut skippable = ZSTD_SKIPPABLE;
        skippable[0] |= head.first().map_or(0, |first| first & 0x0f);
        let magics: [(Self, &[u8]); 5] = [
            (Self::Gzip, &[0x1f, 0x8b]),
            (Self::Bzip2, b"BZh"),
            (Self::Xz, &[0xfd, b'7', b'z', b'X']),
            (Self::Zstd, &ZSTD_MAGIC),
            (Self::Zstd, &skippable),
        ];
        magics.into_iter().find(|(_, magic)| is_true(magic)).map(|(format, _)| format)
    }

    /// The usual name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstandard",
        }
    }

    /// Whether a member can begin with this byte. No more than one may be buffered; a member that goes on otherwise is
    /// damaged.
    fn may_begin_with(self, byte: u8) -> bool {
        match self {
            Self::Gzip => byte == 0x1f,
            Self::Bzip2 => byte == b'B',
            Self::Xz => byte == 0xfd,
            Self::Zstd => byte == ZSTD_MAGIC[0] || byte & 0xf0 == ZSTD_SKIPPABLE[0],
        }
    }

    /// Translates decoder errors to our messages; errors of the system pass unchanged.
    fn explain(self, error: io::Error, window_log_max: u32) -> io::Error {
        let name = self.name();
        let kind = error.kind();
        if kind == io::ErrorKind::OutOfMemory {
            // Callers with a window of their own give advice of their own.
            if window_log_max != WINDOW_LOG_MAX {
                return error;
            }
            let mib = (1 << WINDOW_LOG_MAX) / 1024 / 1024;
            return io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "unpacking its {name} takes a window of more than {mib} MiB in memory; pack it with a smaller one, \
                     or pipe it: {} FILE | braze-datadog run --once --import -",
                    if self == Self::Xz { "xz -dc" } else { "zstd -dc --long=31" }
                ),
            );
        }
        let is_ours = error.raw_os_error().is_none();
        match kind {
            io::ErrorKind::UnexpectedEof => io::Error::new(kind, format!("its {name} is cut short")),
            _ if is_ours => io::Error::new(kind, format!("its {name} is damaged ({error})")),
            _ => error,
        }
    }
}

/// Decompresses all members of what `R` holds. Zeros or other bytes behind the last member, left by tapes, padded blocks and
/// careless concatenation, end the content; a member that is cut short or damaged is an error.
pub struct Members<R: Read> {
    format: Format,
    window_log_max: u32,
    /// The member that is being read; `rest` is `None` meanwhile.
    member: Option<Decoder<R>>,
    /// The input, between two members and behind the last one.
    rest: Option<R>,
    /// Zeros behind the member before.
    padding: u64,
    is_over: bool,
    has_trailing: bool,
}

impl<R: BufRead> Members<R> {
    /// Reads from `reader`, which begins with a member.
    pub fn new(format: Format, reader: R) -> Self {
        Self::with_window(format, reader, WINDOW_LOG_MAX)
    }

    /// As [`Self::new`], with a bound of its own for how far back a zstandard frame may refer, as a power of two. One that
    /// refers farther ends in [`io::ErrorKind::OutOfMemory`].
    pub fn with_window(format: Format, reader: R, window_log_max: u32) -> Self {
        let member = Some(Decoder::new(format, reader, window_log_max));
        Self { format, window_log_max, member, rest: None, padding: 0, is_over: false, has_trailing: false }
    }

    /// How it is compressed.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether bytes that are no member followed the last one; known once everything has been read.
    pub fn has_trailing(&self) -> bool {
        self.has_trailing
    }

    /// How many of the bytes read last are surely damaged. All content, handed out or still to be handed out before the
    /// error, was made of the bytes before them.
    pub fn damaged_bytes(&self) -> u64 {
        match &self.member {
            Some(Decoder::Zstd(frame)) => frame.damaged_bytes(),
            _ => 0,
        }
    }

    /// The input, between members.
    pub fn get_ref(&self) -> Option<&R> {
        self.member.as_ref().map(Decoder::get_ref).or(self.rest.as_ref())
    }

    /// Goes on with the next member; `false`: there is none, and everything has been read.
    fn next_member(&mut self) -> io::Result<bool> {
        let Some(mut reader) = self.rest.take() else { return Ok(false) };
        let next = self.next_byte(&mut reader);
        if let Ok(Some(byte)) = next
            && self.format.may_begin_with(byte)
        {
            self.padding = 0;
            self.member = Some(Decoder::new(self.format, reader, self.window_log_max));
            return Ok(true);
        }
        self.rest = Some(reader);
        self.has_trailing = next?.is_some() || !self.padding.is_multiple_of(XZ_PADDING_BYTES);
        self.is_over = true;
        Ok(false)
    }

    /// Looks at the first byte of what follows a member; zeros that belong to the format are passed.
    fn next_byte(&mut self, reader: &mut R) -> io::Result<Option<u8>> {
        loop {
            let ahead = reader.fill_buf()?;
            let zeros = match self.format {
                Format::Xz => ahead.iter().take_while(|byte| **byte == 0).count(),
                _ => 0,
            };
            if zeros == 0 {
                return Ok(ahead.first().copied());
            }
            self.padding += zeros as u64;
            reader.consume(zeros);
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(member) = &mut self.member {
                let read =
                    member.read(buffer).map_err(|error| self.format.explain(error, self.window_log_max))?;
                if read > 0 {
                    return Ok(read);
                }
                self.rest = self.member.take().map(Decoder::into_inner);
            }
            if self.is_over || !self.next_member()? {
                return Ok(0);
            }
        }
    }
}

/// Reads one member.
enum Decoder<R: Read> {
    Gzip(Box<GzDecoder<R>>),
    Bzip2(BzDecoder<R>),
    Xz(Box<XzReader<R>>),
    Zstd(Box<ZstdFrame<R>>),
}

impl<R: BufRead> Decoder<R> {
    fn new(format: Format, reader: R, window_log_max: u32) -> Self {
        match format {
            Format::Gzip => Self::Gzip(Box::new(GzDecoder::new(reader))),
            Format::Bzip2 => Self::Bzip2(BzDecoder::new(reader)),
            Format::Xz => {
                let kib_max = (1 << WINDOW_LOG_MAX) / 1024 + XZ_OVERHEAD_KIB;
                Self::Xz(Box::new(XzReader::new_mem_limit(reader, false, kib_max)))
            }
            Format::Zstd => Self::Zstd(Box::new(ZstdFrame::new(reader, 1 << window_log_max))),
        }
    }

    fn get_ref(&self) -> &R {
        match self {
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Bzip2(decoder) => decoder.get_ref(),
            Self::Xz(decoder) => decoder.inner(),
            Self::Zstd(decoder) => decoder.get_ref(),
        }
    }

    fn into_inner(self) -> R {
        match self {
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.into_inner(),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => {
                let bytes = buffer.len().min(XZ_READ_BYTES);
                decoder.read(&mut buffer[..bytes])
            }
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use lzma_rust2::{CheckType, FilterType, XzOptions};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FORMATS, pack, xz};

    fn read(format: Format, bytes: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let mut members = Members::new(format, bytes);
        let mut out = Vec::new();
        members.read_to_end(&mut out)?;
        assert_eq!(members.read(&mut [0; 9]).unwrap(), 0, "an end is the end");
        Ok((out, members.has_trailing()))
    }

    #[test]
    fn a_format_is_known_by_its_first_bytes() {
        for format in FORMATS {
            for text in [&b""[..], b"text"] {
                let packed = pack(format, text);
                assert_eq!(Format::of(&packed), Some(format));
                assert_eq!(Format::of(&packed[..Format::MAGIC_BYTES]), Some(format));
                assert!(format.may_begin_with(packed[0]));
            }
        }
        assert_eq!(Format::of(&[0x5c, 0x2a, 0x4d, 0x18]), Some(Format::Zstd));
        for head in [&b""[..], b"{", b"[1,2", b"BZ", b"\x1f", b"\xfd7z", b"Obj\x01"] {
            assert_eq!(Format::of(head), None, "{head:?}");
        }
    }

    #[test]
    fn a_part_of_a_magic_is_told_from_text() {
        for (head, format) in [
            (&b"\x1f"[..], Format::Gzip),
            (b"B", Format::Bzip2),
            (b"BZ", Format::Bzip2),
            (b"\xfd", Format::Xz),
            (b"\xfd7z", Format::Xz),
            (&ZSTD_MAGIC[..1], Format::Zstd),
            (&ZSTD_MAGIC[..3], Format::Zstd),
            (b"\x5c\x2a", Format::Zstd),
            (b"\x50\x2a\x4d", Format::Zstd),
        ] {
            assert_eq!((Format::of_beginning(head), Format::of(head)), (Some(format), None), "{head:?}");
        }
        for head in [&b""[..], b"[", b"P", b"BA", b"BZh", b"{}", b"5", b"\x1f\x8b", &ZSTD_MAGIC] {
            assert_eq!(Format::of_beginning(head), None, "{head:?}");
        }
    }

    #[test]
    fn members_are_read_one_after_the_other_and_what_is_none_ends_them() {
        for format in FORMATS {
            let two = [pack(format, b"one,"), pack(format, b""), pack(format, b"two")].concat();
            assert_eq!(read(format, &two).unwrap(), (b"one,two".to_vec(), false), "{format:?}");
            for behind in [&[0; 511][..], b"x", b"signature", &[0, 0x1e]] {
                let read = read(format, &[&two, behind].concat()).unwrap();
                assert_eq!(read, (b"one,two".to_vec(), true), "{format:?}: {behind:?}");
            }
        }
        let behind = [&pack(Format::Gzip, b"one")[..], &[0, 0x1f, 0x8b]].concat();
        assert_eq!(read(Format::Gzip, &behind).unwrap(), (b"one".to_vec(), true), "as gunzip does");
    }

    #[test]
    fn the_padding_of_xz_belongs_to_it() {
        let (one, two) = (pack(Format::Xz, b"one,"), pack(Format::Xz, b"two"));
        for zeros in [4, 8, 4096] {
            let padding = vec![0; zeros];
            let padded = [&one[..], &padding, &two, &padding].concat();
            assert_eq!(read(Format::Xz, &padded).unwrap(), (b"one,two".to_vec(), false));
            read(Format::Xz, &padded[..padded.len() - zeros - 1]).unwrap_err();
        }
    }

    #[test]
    fn a_member_that_is_cut_short_or_damaged_is_an_error_wherever_it_stands() {
        for format in FORMATS {
            let (one, two) = (pack(format, b"one"), pack(format, b"two, which is longer"));
            for end in 1..two.len() {
                for cut in [[&one[..], &two[..end]].concat(), two[..end].to_vec()] {
                    let error = read(format, &cut).unwrap_err();
                    assert_eq!(
                        error.kind(),
                        io::ErrorKind::UnexpectedEof,
                        "{format:?} cut at {end}: {error}"
                    );
                    assert!(error.to_string().contains("is cut short"), "{format:?} cut at {end}: {error}");
                }
            }
            let mut damaged = [one, two].concat();
            let at = damaged.len() - 12;
            damaged[at] ^= 0x55;
            // What a damaged length leads behind the end of looks as if it were cut short.
            let error = read(format, &damaged).unwrap_err().to_string();
            let said = ["cut short", "damaged ("].map(|what| format!("its {} is {what}", format.name()));
            assert!(said.iter().any(|said| error.starts_with(said)), "{error}");
        }
    }

    #[test]
    fn every_check_of_xz_is_made() {
        for check in [CheckType::None, CheckType::Crc32, CheckType::Crc64, CheckType::Sha256] {
            let mut options = XzOptions::with_preset(1);
            options.set_check_sum_type(check);
            let packed = xz(b"0123456789", &options);
            assert_eq!(read(Format::Xz, &packed).unwrap().0, b"0123456789", "{check:?}");
            let at = memchr::memmem::find(&packed, b"0123456789").unwrap();
            let mut damaged = packed;
            damaged[at] ^= 1;
            assert_eq!(read(Format::Xz, &damaged).is_ok(), check == CheckType::None, "{check:?}");
        }
    }

    #[test]
    fn a_file_that_asks_for_gigabytes_is_refused_before_it_gets_them() {
        let with_dictionary = |mib: u32| {
            // The encoder would take the memory that the decoder must not, so the header alone is made to say it.
            let mut packed = xz(b"text", &XzOptions::with_preset(1));
            let property = 2 * (mib << 20).ilog2() - 2 * 12;
            packed[16] = u8::try_from(property).unwrap();
            let checksum = crc32fast::hash(&packed[12..20]).to_le_bytes();
            packed[20..24].copy_from_slice(&checksum);
            packed
        };
        assert_eq!(read(Format::Xz, &with_dictionary(128)).unwrap().0, b"text");
        for mib in [256, 2048] {
            let error = read(Format::Xz, &with_dictionary(mib)).unwrap_err().to_string();
            assert!(error.contains("more than 128 MiB") && error.contains("xz -dc FILE"), "{error}");
        }
        let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
        zstd.window_log(28).unwrap();
        zstd.write_all(b"text").unwrap();
        let error = read(Format::Zstd, &zstd.finish().unwrap()).unwrap_err().to_string();
        assert!(error.contains("more than 128 MiB") && error.contains("zstd -dc --long"), "{error}");
    }

    #[test]
    fn filters_of_xz_are_undone() {
        let mut options = XzOptions::with_preset(1);
        options.prepend_pre_filter(FilterType::Delta, 4);
        assert_eq!(read(Format::Xz, &xz(b"abcdabcdabce", &options)).unwrap().0, b"abcdabcdabce");
    }

    proptest! {
        /// No damage panics, and none that a checksum covers goes unseen.
        #[test]
        fn damage_anywhere_is_an_error_or_makes_no_difference(
            format in 0_usize..3, at: prop::sample::Index, bits in 1_u8.., text in "[a-f]{0,300}"
        ) {
            let mut packed = pack(FORMATS[format], text.as_bytes());
            let at = at.index(packed.len());
            packed[at] ^= bits;
            if let Ok((read, _)) = read(FORMATS[format], &packed) {
                prop_assert_eq!(read, text.as_bytes());
            }
        }

        /// Arbitrary bytes behind a magic never panic.
        #[test]
        fn arbitrary_bytes_never_panic(
            format in 0_usize..4, keep in 0_usize..40, rest in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            let packed = pack(FORMATS[format], b"0123456789");
            let mut bytes = packed[..keep.clamp(4, packed.len())].to_vec();
            bytes.extend(rest);
            drop(read(FORMATS[format], &bytes));
        }
    }
}
