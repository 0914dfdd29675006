//! Frames of zstandard (RFC 8878), unpacked by `ruzstd`. `ruzstd` releases a frame's last window only at the frame's end,
//! does not know frames to be skipped, and leaves the checksum to its caller; all three are handled here.

use std::error::Error;
use std::io::{self, Read};

use ruzstd::decoding::errors::{
    DecodeBlockContentError, DecompressBlockError, FrameDecoderError, FrameHeaderError, ReadFrameHeaderError,
};
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
    /// Bytes read of a damaged block of which no content was made.
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

    /// How many of the bytes read last are of a damaged block, if no content was made of it.
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
            if gave_nothing(&error) {
                self.damaged_bytes = self.source.read - before;
            }
            self.broken = Some(explain(error));
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

/// Whether a damaged block has given no content. `ruzstd` keeps what it unpacked of one whose sequences lead astray.
fn gave_nothing(error: &FrameDecoderError) -> bool {
    match error {
        FrameDecoderError::FailedToReadBlockBody(DecodeBlockContentError::DecompressBlockError(error)) => {
            !matches!(error, DecompressBlockError::ExecuteSequencesError(_))
        }
        FrameDecoderError::FailedToReadBlockHeader(_) | FrameDecoderError::FailedToReadBlockBody(_) => true,
        _ => false,
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
mod tests;
