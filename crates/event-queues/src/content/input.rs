//! The content of one file or stream: unpacked, without a byte order mark, with a look ahead.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Seek, SeekFrom};

use super::formats;
use braze_events::container;
use braze_events::decompress::{Format, Members};

/// UTF-8's byte order mark: allowed by many writers, no part of the first value.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Enough to recognise that, all compressed formats, and most formats that are refused by their [name](formats).
const MAGIC_BYTES: usize = Format::MAGIC_BYTES;
/// How much compressed input is read at once: small beside what it expands to.
const COMPRESSED_BUFFER_BYTES: usize = 64 * 1024;
/// How much a look ahead reads at once: what a pipe holds.
const LOOK_AHEAD_BYTES: usize = 64 * 1024;
/// How many reads are remembered between two bodies; there are fewer, unless an event is too long to be held.
const READS_MAX: usize = 256;

/// The source of bytes: a file, standard input, a pipe.
pub(crate) type Reader = Box<dyn Read + Send>;

/// A reader of content that knows its position.
///
/// A position counts the bytes of the uncompressed content from its start; a byte order mark counts.
pub(crate) struct Input {
    stored: Stored,
    ahead: Vec<u8>,
    ahead_taken: usize,
    position: u64,
    /// An error of a look ahead; it is returned once the bytes before it have been handed out.
    broken: Option<io::Error>,
    /// After the latest reads of compressed content: the position read up to, and the compressed bytes consumed by then.
    reads: VecDeque<(u64, u64)>,
}

enum Stored {
    Plain(Uninterrupted),
    Packed(Box<Members<Compressed>>),
}

impl Input {
    /// Reads the first bytes and detects from them, never from the name, whether the content is compressed.
    ///
    /// # Errors
    /// When the first bytes can't be read, are a broken header, or those of a format that is not read.
    pub(crate) fn new(reader: Reader) -> io::Result<Self> {
        let mut reader = Uninterrupted(reader);
        let head = read_magic(&mut reader)?;
        if let Some(name) = cut_short(&head) {
            let text = format!("its {name} is cut short: it holds nothing but its first bytes");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let (stored, ahead) = if let Some(format) = Format::of(&head) {
            let chained = Cursor::new(head).chain(reader);
            let reader = BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, chained);
            let members = Members::new(format, Compressed { reader, consumed: 0 });
            (Stored::Packed(Box::new(members)), Vec::new())
        } else {
            (Stored::Plain(reader), head)
        };
        let (broken, reads) = (None, VecDeque::new());
        let mut input = Self { stored, ahead, ahead_taken: 0, position: 0, broken, reads };
        if input.is_compressed() {
            input.ahead = read_magic(&mut input.stored)?;
            input.note_read();
        }
        if let Some(refused) = input.compressed_twice() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, refused));
        }
        let bytes_needed = formats::bytes_needed(&input.ahead);
        while input.ahead.len() < bytes_needed && input.look_ahead(bytes_needed) {}
        if let Some(refused) = formats::refused(&input.ahead) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, refused));
        }
        if input.ahead.starts_with(&BYTE_ORDER_MARK) {
            input.take_ahead(BYTE_ORDER_MARK.len());
        }
        Ok(input)
    }

    /// Why content that is compressed within compressed content is not read.
    fn compressed_twice(&self) -> Option<String> {
        let Stored::Packed(members) = &self.stored else { return None };
        let (outer, inner) = (members.format().name(), Format::of(&self.ahead)?.name());
        Some(format!("it is {inner} within {outer}, which is not read; unpack it once"))
    }

    /// Whether this is an Avro object container; asked before anything is read.
    pub(crate) fn is_avro(&self) -> bool {
        self.ahead.starts_with(&container::MAGIC)
    }

    /// Whether the content is compressed in its file.
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self.stored, Stored::Packed(_))
    }

    /// The format of the compressed content, if something of another format follows and was left out; known once everything
    /// has been read.
    pub(crate) fn left_out_behind(&self) -> Option<Format> {
        match &self.stored {
            Stored::Packed(members) if members.has_trailing() => Some(members.format()),
            _ => None,
        }
    }

    /// How many bytes of content have been handed out, those of a byte order mark included.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// How many of the file's first bytes the content up to `position`, which has been handed out, came from; ask in
    /// ascending order.
    ///
    /// In a compressed file: the bytes that the decompressor had consumed when it returned that content. Fewer would be
    /// wrong, because decompressors return some content of damaged bytes before they notice; more would only risk including
    /// damage.
    pub(crate) fn file_position(&mut self, position: u64) -> u64 {
        if !self.is_compressed() {
            return position;
        }
        while self.reads.get(1).is_some_and(|(next, _)| self.reads[0].0 < position || *next <= position) {
            self.reads.pop_front();
        }
        self.reads.front().map_or(0, |(_, consumed)| *consumed)
    }

    /// The bytes that have been read but not handed out.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.ahead[self.ahead_taken..]
    }

    /// Reads some more, at most until `bytes_max` are ahead, without handing it out; `false` at the end. An
    /// error is kept for [`read`](Self::read), after the bytes before it.
    pub(crate) fn look_ahead(&mut self, bytes_max: usize) -> bool {
        let filled = self.ahead.len();
        let room = bytes_max.saturating_sub(self.ahead().len()).min(LOOK_AHEAD_BYTES);
        self.ahead.resize(filled + room, 0);
        let read = self.stored.read(&mut self.ahead[filled..]);
        self.ahead.truncate(filled + read.as_ref().map_or(0, |bytes| *bytes));
        match read {
            Ok(bytes) => {
                self.note_read();
                bytes > 0
            }
            Err(error) => {
                self.broken = Some(error);
                false
            }
        }
    }

    /// Hands out the next bytes; 0 at the end.
    ///
    /// # Errors
    /// When the file can't be read on. Nothing may be read after that.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = self.ahead();
        if !ahead.is_empty() {
            let bytes = ahead.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&ahead[..bytes]);
            self.take_ahead(bytes);
            return Ok(bytes);
        }
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let bytes = self.stored.read(buffer)?;
        self.position += bytes as u64;
        self.note_read();
        Ok(bytes)
    }

    /// Goes on at `position` of content that nothing has been read from. Seeks in a `file` that is not compressed.
    ///
    /// # Errors
    /// When the content can't be read, or ends before.
    pub(crate) fn skip_to(&mut self, position: u64, file: Option<&File>) -> io::Result<()> {
        if !self.is_compressed()
            && let Some(mut file) = file
        {
            file.seek(SeekFrom::Start(position))?;
            self.ahead = Vec::new();
            self.ahead_taken = 0;
            self.position = position;
            return Ok(());
        }
        let mut buffer = vec![0; LOOK_AHEAD_BYTES];
        while self.position < position {
            let left = usize::try_from(position - self.position).unwrap_or(usize::MAX).min(buffer.len());
            if self.read(&mut buffer[..left])? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content ends before"));
            }
        }
        Ok(())
    }

    fn take_ahead(&mut self, bytes: usize) {
        self.ahead_taken += bytes;
        self.position += bytes as u64;
        if self.ahead_taken == self.ahead.len() {
            self.ahead = Vec::new();
            self.ahead_taken = 0;
        }
    }

    /// Remembers how many compressed bytes the content read so far was made of.
    fn note_read(&mut self) {
        let Some(compressed) = self.stored.compressed() else { return };
        // No content was made of these.
        let consumed = compressed.consumed - self.stored.damaged_bytes();
        // Some decompressors take a whole block before they give its first byte. All content of that block was made of the
        // same bytes, so only the last of several reads counts.
        if self.reads.back().is_some_and(|(_, before)| *before == consumed) {
            self.reads.pop_back();
        } else if self.reads.len() == READS_MAX {
            self.reads.pop_front();
        }
        let read = self.position + self.ahead().len() as u64;
        self.reads.push_back((read, consumed));
    }
}

impl Stored {
    fn compressed(&self) -> Option<&Compressed> {
        match self {
            Stored::Plain(_) => None,
            Stored::Packed(members) => members.get_ref(),
        }
    }

    fn damaged_bytes(&self) -> u64 {
        match self {
            Stored::Plain(_) => 0,
            Stored::Packed(members) => members.damaged_bytes(),
        }
    }
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stored::Plain(reader) => reader.read(buffer),
            Stored::Packed(members) => members.read(buffer),
        }
    }
}

/// Compressed input that knows how much of it the decompressor has consumed. Bytes that are only buffered do not count:
/// damage that lies ahead must not become part of a fingerprint, or repairing it would look like another file.
struct Compressed {
    reader: BufReader<Chain<Cursor<Vec<u8>>, Uninterrupted>>,
    consumed: u64,
}

impl Read for Compressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.consumed += bytes as u64;
        Ok(bytes)
    }
}

impl BufRead for Compressed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes as u64;
        self.reader.consume(bytes);
    }
}

/// Not every decompressor can continue after a signal has interrupted a read, so the read is repeated here.
struct Uninterrupted(Reader);

impl Read for Uninterrupted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// What content begins that is all of it the first bytes of something. Read as text it would be booked as malformed, and once
/// it is whole, reading would go on in its middle.
fn cut_short(content: &[u8]) -> Option<&'static str> {
    let begins =
        |magic: &[u8]| !content.is_empty() && content.len() < magic.len() && magic.starts_with(content);
    match Format::of_beginning(content) {
        Some(format) => Some(format.name()),
        None if begins(&container::MAGIC) => Some("Avro container"),
        None => begins(&BYTE_ORDER_MARK).then_some("text"),
    }
}

fn read_magic(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(MAGIC_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use braze_events::testing::{FORMATS, pack};

    /// Hands out `bytes` in reads of at most `step` bytes, then fails or ends.
    pub(crate) struct Scripted {
        pub(crate) bytes: Cursor<Vec<u8>>,
        pub(crate) step: usize,
        pub(crate) fails: bool,
    }

    impl Read for Scripted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let step = self.step.min(buffer.len());
            match self.bytes.read(&mut buffer[..step])? {
                0 if self.fails && !buffer.is_empty() => Err(io::Error::other("the disk is gone")),
                bytes => Ok(bytes),
            }
        }
    }

    pub(crate) fn input(bytes: &[u8]) -> Input {
        scripted(bytes, usize::MAX, false)
    }

    pub(crate) fn scripted(bytes: &[u8], step: usize, fails: bool) -> Input {
        let reader = Scripted { bytes: Cursor::new(bytes.to_vec()), step, fails };
        Input::new(Box::new(reader)).unwrap()
    }

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read_all(input: &mut Input) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(all),
                bytes => all.extend_from_slice(&buffer[..bytes]),
            }
        }
    }

    #[test]
    fn any_content_comes_out_as_it_is_without_its_byte_order_mark() {
        let long = b"0123456789".repeat(20_000);
        for bytes in [&b""[..], b"a", b"abc", b"abcdefgh", &long] {
            let marked = [&BYTE_ORDER_MARK[..], bytes].concat();
            let two_members = [gzip(&bytes[..bytes.len() / 2]), gzip(&bytes[bytes.len() / 2..])].concat();
            for stored in [bytes.to_vec(), gzip(bytes), two_members, marked.clone(), gzip(&marked)] {
                for step in [1, 100_000] {
                    assert_eq!(read_all(&mut scripted(&stored, step, false)).unwrap(), bytes);
                }
            }
        }
    }

    #[test]
    fn positions_count_uncompressed_bytes_and_the_byte_order_mark() {
        let text = b"\xef\xbb\xbf0123456789";
        for stored in [text.to_vec(), gzip(text)] {
            let mut input = input(&stored);
            assert_eq!(input.position(), 3);
            let mut buffer = [0; 4];
            input.read(&mut buffer).unwrap();
            input.look_ahead(100);
            assert_eq!(input.position(), 3 + 1);
            read_all(&mut input).unwrap();
            assert_eq!(input.position(), 13);
            assert_eq!(input.file_position(13), stored.len() as u64);
        }
    }

    #[test]
    fn looking_ahead_takes_nothing_away() {
        for stored in [b"[123456789".to_vec(), gzip(b"[123456789")] {
            let mut input = scripted(&stored, 3, false);
            while input.look_ahead(8) && input.ahead().len() < 8 {}
            assert_eq!(input.ahead(), b"[1234567");
            assert_eq!(read_all(&mut input).unwrap(), b"[123456789");
        }
    }

    #[test]
    fn an_error_that_a_look_ahead_meets_follows_the_bytes_before_it() {
        let mut input = scripted(b"0123456789", 4, true);
        while input.look_ahead(100) {}
        let mut buffer = [0; 100];
        assert_eq!(input.read(&mut buffer).unwrap(), 10);
        assert_eq!(input.read(&mut buffer).unwrap_err().to_string(), "the disk is gone");
    }

    #[test]
    fn a_compressed_file_that_was_cut_off_or_damaged_is_an_error() {
        let whole = gzip(&b"0123456789".repeat(1000));
        for cut in 3..whole.len() {
            let opened = Input::new(Box::new(Cursor::new(whole[..cut].to_vec())));
            assert!(opened.and_then(|mut input| read_all(&mut input)).is_err(), "cut at {cut}");
        }
        let mut damaged = whole.clone();
        let checksum = whole.len() - 8;
        damaged[checksum] ^= 1;
        assert!(read_all(&mut input(&damaged)).is_err());
    }

    #[test]
    fn content_that_is_nothing_but_a_part_of_its_first_bytes_is_cut_short() {
        let avro = b"Obj\x01\x04\x14avro.codec".to_vec();
        let all =
            FORMATS.map(|format| pack(format, b"{}")).into_iter().chain([avro, b"\xef\xbb\xbf{}".to_vec()]);
        for whole in all {
            for cut in 1..4 {
                let opened = Input::new(Box::new(Cursor::new(whole[..cut].to_vec())));
                match opened.err() {
                    Some(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}"),
                    None => assert!(cut == 3 && whole[0] == 0xef, "{:?}", &whole[..cut]),
                }
            }
        }
        for text in [&b"["[..], b"1", b"{}", b"P", b"OK"] {
            assert_eq!(input(text).ahead(), text);
        }
    }

    #[test]
    fn compressed_bytes_that_the_decompressor_has_not_seen_do_not_count() {
        let first = gzip(b"[one]");
        let stored = [first.clone(), gzip(b"second")].concat();
        let mut input = input(&stored);
        let mut buffer = [0; 5];
        // The four bytes of the look ahead come first.
        assert_eq!(input.read(&mut buffer).unwrap(), 4);
        assert_eq!(input.read(&mut buffer[..1]).unwrap(), 1);
        assert!(input.file_position(5) <= first.len() as u64);
    }

    /// zstandard keeps its last window until it meets the damage, and only then hands it out.
    #[test]
    fn damage_is_no_part_of_what_a_file_is_known_by_though_what_came_before_it_is_read() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let mut before = Vec::new();
        for number in 0..20_000_u32 {
            let line = format!("{}\n", number.wrapping_mul(2_654_435_761));
            encoder.write_all(line.as_bytes()).unwrap();
            before.extend_from_slice(line.as_bytes());
            if number % 1000 == 999 {
                // A block ends where a line ends.
                encoder.flush().unwrap();
            }
        }
        let whole_until = encoder.get_ref().len();
        encoder.write_all(b"and so on").unwrap();
        let mut stored = encoder.finish().unwrap();
        // A kind of block that there is not.
        stored[whole_until] |= 0b110;
        let mut input = input(&stored);
        let mut buffer = vec![0; 1000];
        let (mut seen, mut last) = (Vec::new(), 0);
        while let Ok(bytes) = input.read(&mut buffer) {
            assert!(bytes > 0, "damage is no end");
            seen.extend_from_slice(&buffer[..bytes]);
            last = input.file_position(input.position());
        }
        assert!(seen == before, "all that came before is read");
        assert!(last <= whole_until as u64 && last > 4096, "{last} of {whole_until}");
    }

    #[test]
    fn the_file_position_is_that_of_the_read_that_gave_the_content_and_ends_at_the_end() {
        let text: String = (0..50_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        let stored = gzip(text.as_bytes());
        let mut input = input(&stored);
        let mut buffer = [0; 1000];
        let mut known_by = 0;
        loop {
            let from = input.position();
            if input.read(&mut buffer).unwrap() == 0 {
                break;
            }
            let consumed = input.reads.back().unwrap().1;
            // What was given before needs no more now.
            assert!(from == 0 || input.file_position(from) == known_by);
            known_by = input.file_position(input.position());
            assert_eq!(known_by, consumed);
        }
        assert_eq!(input.file_position(input.position()), stored.len() as u64);
    }

    /// Otherwise a repaired file would go on at a place that was only there in the damaged one.
    #[test]
    fn what_was_read_of_damaged_bytes_is_known_by_these() {
        let numbers = (0..40_000_u32).map(|n| n.wrapping_mul(2_654_435_761) >> (n % 20));
        let text: String = numbers.map(|number| number.to_string() + "\n").collect();
        let mut with_checksum = zstd::Encoder::new(Vec::new(), 3).unwrap();
        with_checksum.include_checksum(true).unwrap();
        with_checksum.write_all(text.as_bytes()).unwrap();
        let mut all = FORMATS.map(|format| pack(format, text.as_bytes())).to_vec();
        all.push(with_checksum.finish().unwrap());
        for (which, whole) in all.iter().enumerate() {
            for at in (10..whole.len()).step_by(whole.len() / 60) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                let Ok(mut input) = Input::new(Box::new(Cursor::new(damaged))) else { continue };
                let (mut buffer, mut same) = (vec![0; 1000], 0);
                while let Ok(bytes @ 1..) = input.read(&mut buffer) {
                    let read = usize::try_from(input.position()).unwrap();
                    let from = read - bytes;
                    let is_same = |(one, other): &(&u8, &u8)| one == other;
                    if same == from {
                        let given = buffer[..bytes].iter().zip(&text.as_bytes()[from.min(text.len())..]);
                        same += given.take_while(is_same).count();
                    }
                    for marked in [from + bytes / 2, read] {
                        let known_by = input.file_position(marked as u64);
                        let is_known = known_by > at as u64 || marked <= same;
                        assert!(
                            is_known,
                            "{which}: {known_by} bytes for {marked}, of which {same} are right, {at}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_compressed_twice_is_refused_by_name() {
        for (outer, outer_name) in FORMATS.map(|format| (format, format.name())) {
            for (inner, inner_name) in FORMATS.map(|format| (format, format.name())) {
                let stored = pack(outer, &pack(inner, b"{}"));
                let error = Input::new(Box::new(Cursor::new(stored))).err().unwrap().to_string();
                assert_eq!(
                    error,
                    format!("it is {inner_name} within {outer_name}, which is not read; unpack it once")
                );
            }
        }
    }

    #[test]
    fn an_avro_container_is_known_compressed_or_not() {
        let avro = b"Obj\x01\x04\x14avro.codec";
        assert!(input(avro).is_avro());
        assert!(input(&gzip(avro)).is_avro());
        assert!(!input(b"Object").is_avro());
    }
}
