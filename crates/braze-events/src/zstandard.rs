//! Frames of zstandard (RFC 8878), unpacked by `ruzstd`. `ruzstd` releases a frame's last window only at the frame's end,
//! does not know frames to be skipped, and leaves the checksum to its caller; all three are handled here.

use std::error::Error;
use std::io::{self, Read};

use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// An empty, uncompressed last block of a frame, and room for a checksum.
const END: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];

/// Reads one frame, and no byte behind it. Content before damage is handed out before the error.
///
/// It holds a window and a block of the content in memory. The memory grows with the content, not with the size that the
/// head of the frame states.
pub(crate) struct ZstdFrame<R> {
    source: Tallied<R>,
    decoder: FrameDecoder,
    has_begun: bool,
    /// Bytes read of a block that can't be unpacked.
    damaged_bytes: u64,
    /// The error that follows the content unpacked before it.
    broken: Option<io::Error>,
}

impl<R: Read> ZstdFrame<R> {
    /// A frame that may refer back by this many bytes.
    pub(crate) fn new(source: R, window_bytes_max: u64) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(window_bytes_max);
        let source = Tallied { reader: source, read: 0 };
        Self { source, decoder, has_begun: false, damaged_bytes: 0, broken: None }
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.source.reader
    }

    /// How many of the bytes read last are of a block that can't be unpacked. Content that is handed out from then on lies
    /// before them.
    pub(crate) fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    pub(crate) fn into_inner(self) -> R {
        self.source.reader
    }

    /// Reads the head; a frame that is to be skipped is one without content.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.reset(&mut self.source) {
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut self.source.by_ref().take(length), &mut io::sink())?;
                if skipped < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
            }
            begun => begun.map_err(explain),
        }
    }

    /// Unpacks a block more. At the end of the frame everything can be handed out.
    fn unpack(&mut self) -> io::Result<()> {
        let (block, before) = (BlockDecodingStrategy::UptoBlocks(1), self.source.read);
        if let Err(error) = self.decoder.decode_blocks(&mut self.source, block) {
            self.broken = Some(explain(error));
            self.damaged_bytes = self.source.read - before;
            // The frame ends behind the blocks that are whole.
            self.decoder.decode_blocks(&END[..], BlockDecodingStrategy::All).map_err(explain)?;
        }
        Ok(())
    }

    /// Called once everything has been handed out: the checksum covers what was handed out.
    fn check(&self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
        }
        Ok(())
    }
}

impl<R: Read> Read for ZstdFrame<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if !self.has_begun {
            self.has_begun = true;
            self.begin()?;
        }
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            self.unpack()?;
        }
        let read = self.decoder.read(buffer)?;
        if read == 0 {
            return self.broken.take().map_or_else(|| self.check(), Err).map(|()| 0);
        }
        Ok(read)
    }
}

/// Counts the bytes that are read from the source.
struct Tallied<R> {
    reader: R,
    read: u64,
}

impl<R: Read> Read for Tallied<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.read += bytes as u64;
        Ok(bytes)
    }
}

/// Errors of the source pass unchanged; a window that is too large becomes a lack of memory.
fn explain(error: FrameDecoderError) -> io::Error {
    if matches!(
        error,
        FrameDecoderError::WindowSizeTooBig { .. }
            | FrameDecoderError::FrameHeaderError(FrameHeaderError::WindowTooBig { .. })
    ) {
        return io::Error::new(io::ErrorKind::OutOfMemory, error);
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(this) = cause {
        if let Some(said) = this.downcast_ref::<io::Error>() {
            return match said.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(said.kind(), said.to_string()),
            };
        }
        cause = this.source();
    }
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const WINDOW_BYTES_MAX: u64 = 8 << 20;

    /// Everything that comes before the end, and the end.
    fn read(mut bytes: &[u8], step: usize) -> (Vec<u8>, io::Result<()>) {
        let mut out = Vec::new();
        let mut buffer = vec![0; step];
        while !bytes.is_empty() {
            let mut frame = ZstdFrame::new(&mut bytes, WINDOW_BYTES_MAX);
            loop {
                match frame.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => out.extend_from_slice(&buffer[..read]),
                    Err(error) => return (out, Err(error)),
                }
            }
        }
        (out, Ok(()))
    }

    /// As zstandard's own library reads them.
    fn reference(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut decoder = zstd::Decoder::with_buffer(bytes)?;
        decoder.window_log_max(WINDOW_BYTES_MAX.ilog2())?;
        let mut out = Vec::new();
        decoder.read_to_end(&mut out)?;
        Ok(out)
    }

    fn pack(text: &[u8], level: i32, checksum: bool) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
        encoder.include_checksum(checksum).unwrap();
        let (first, second) = text.split_at(text.len() / 3);
        encoder.write_all(first).unwrap();
        // A block ends here.
        encoder.flush().unwrap();
        encoder.write_all(second).unwrap();
        encoder.finish().unwrap()
    }

    /// Text that is repeated near and far, of 3 MB: more than a window of the lower levels.
    fn long() -> Vec<u8> {
        let numbers =
            (0..400_000_u32).map(|number| (number % 70_000).wrapping_mul(2_654_435_761).to_string());
        numbers.collect::<String>().into_bytes()
    }

    #[test]
    fn every_level_is_read_with_frames_that_are_to_be_skipped_between() {
        let long = long();
        for level in [-5, 1, 3, 9, 19] {
            for checksum in [false, true] {
                let packed = pack(&long, level, checksum);
                let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
                let all = [&skipped[..], &packed, &skipped, &pack(b"", level, checksum), &packed].concat();
                for step in [4096, 1 << 20] {
                    let (text, end) = read(&all, step);
                    end.unwrap();
                    assert!(text == [&long[..], &long].concat(), "level {level}");
                }
                let (text, end) = read(&all[..5], 10);
                assert_eq!((text.len(), end.unwrap_err().kind()), (0, io::ErrorKind::UnexpectedEof));
            }
        }
    }

    #[test]
    fn all_whole_blocks_before_damage_are_handed_out() {
        let long = long();
        let packed = pack(&long, 1, true);
        let (text, end) = read(&packed[..packed.len() - 5], 4096);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(long.starts_with(&text) && long.len() - text.len() <= 128 << 10, "{}", text.len());

        let mut damaged = packed;
        *damaged.last_mut().unwrap() ^= 1;
        let (text, end) = read(&damaged, 4096);
        assert!(text == long && end.unwrap_err().to_string() == "its checksum is wrong");
    }

    #[test]
    fn what_the_source_says_is_told() {
        struct Fails(io::ErrorKind);
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(if self.0 == io::ErrorKind::Other {
                    io::Error::from_raw_os_error(5)
                } else {
                    self.0.into()
                })
            }
        }
        let packed = pack(&long(), 1, true);
        for cut in [0, 2, 5, 9, 10_000, packed.len() - 2] {
            let mut failing =
                ZstdFrame::new(packed[..cut].chain(Fails(io::ErrorKind::Other)), WINDOW_BYTES_MAX);
            let error = io::copy(&mut failing, &mut io::sink()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5), "{cut}");
            let mut failing =
                ZstdFrame::new(packed[..cut].chain(Fails(io::ErrorKind::TimedOut)), WINDOW_BYTES_MAX);
            let error = io::copy(&mut failing, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{cut}");
        }
    }

    #[test]
    fn a_window_that_is_too_large_is_refused() {
        for (log, fits) in [(23, true), (24, false), (27, false)] {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(b"text").unwrap();
            let (_, end) = read(&encoder.finish().unwrap(), 10);
            assert_eq!(
                end.map_err(|error| error.kind()).err(),
                (!fits).then_some(io::ErrorKind::OutOfMemory)
            );
        }
    }

    proptest! {
        /// Whatever is written is read, as zstandard's own library reads it.
        #[test]
        fn what_is_packed_is_read(
            words in prop::collection::vec("[a-z]{1,6}|[0-9 ]{1,40}", 0..400), level in -3_i32..12, step in 1_usize..300
        ) {
            let text = words.concat().into_bytes();
            let (read, end) = read(&pack(&text, level, true), step);
            prop_assert!(end.is_ok());
            prop_assert_eq!(read, text);
        }

        /// Damage never panics. With a checksum none of it goes unseen. Without one nobody sees the most of it; then what both
        /// read is the same, and of what the library refuses a hundredth is read here.
        #[test]
        fn damage_is_seen_where_there_is_a_checksum_and_read_as_the_library_reads_it(
            words in prop::collection::vec("[a-z]{1,6}|[0-9 ]{1,40}", 0..60), at: prop::sample::Index, bits in 1_u8..,
            checksum: bool
        ) {
            let text = words.concat().into_bytes();
            let mut packed = pack(&text, 3, checksum);
            let at = at.index(packed.len());
            packed[at] ^= bits;
            let (read, end) = read(&packed, 100);
            // The bit that says whether there is one may be what is damaged.
            let is_checked = checksum && at != 4;
            match (end, reference(&packed)) {
                (Ok(()), Ok(library)) => prop_assert_eq!(read, library),
                (Ok(()), Err(_)) if is_checked => prop_assert_eq!(read, text),
                _ => {}
            }
        }
    }
}
