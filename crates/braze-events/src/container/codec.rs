//! The codecs of Avro containers (Avro 1.12 specification, "Required Codecs" and "Optional Codecs").

use std::io::{self, Read};

use flate2::bufread::DeflateDecoder;

use super::BLOCK_BYTES_MAX;
use crate::zstandard::ZstdFrame;

/// zstandard's window: no block is longer, so no frame needs more.
const ZSTANDARD_WINDOW_BYTES_MAX: u64 = BLOCK_BYTES_MAX as u64;
/// No byte of snappy becomes more than this many: a copy of 64 bytes takes three. Source: snappy, `format_description.txt`.
const SNAPPY_RATIO_MAX: usize = 22;
/// The checksum behind a snappy block.
const CHECKSUM_BYTES: usize = 4;

/// How blocks are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Null,
    /// RFC 1951, without header or checksum.
    Deflate,
    /// With a CRC-32 of what was compressed, big-endian, behind it.
    Snappy,
    /// RFC 8878.
    Zstandard,
}

impl Codec {
    /// Finds a codec by the name in the metadata of a container.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"null" => Codec::Null,
            b"deflate" => Codec::Deflate,
            b"snappy" => Codec::Snappy,
            b"zstandard" => Codec::Zstandard,
            _ => return None,
        })
    }
}

/// Expands blocks. It never makes more bytes than it is allowed to, whatever a block says.
#[derive(Debug, Default)]
pub struct Expander {
    snappy: snap::raw::Decoder,
}

impl Expander {
    /// Expands `stored` and appends it to `out`, `bytes_max` bytes at most, and returns how many.
    ///
    /// # Errors
    /// When it is damaged or longer; `out` is as it was then.
    pub fn expand(
        &mut self,
        codec: Codec,
        stored: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let start = out.len();
        let expanded = match codec {
            Codec::Null if stored.len() <= bytes_max => {
                out.extend_from_slice(stored);
                Ok(())
            }
            Codec::Null => Err(too_long()),
            Codec::Deflate => read_within(DeflateDecoder::new(stored), bytes_max, out),
            Codec::Snappy => self.snappy(stored, bytes_max, out),
            Codec::Zstandard => zstandard(stored, bytes_max, out),
        };
        if expanded.is_err() {
            out.truncate(start);
        }
        expanded.map(|()| out.len() - start)
    }

    fn snappy(&mut self, stored: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let (stored, checksum) = stored.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
        let (start, bytes) = (out.len(), snap::raw::decompress_len(stored)?);
        if bytes > bytes_max {
            return Err(too_long());
        }
        // The memory is cleared before anything is expanded into it.
        if bytes > stored.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its length is wrong"));
        }
        out.resize(start + bytes, 0);
        self.snappy.decompress(stored, &mut out[start..])?;
        if crc32fast::hash(&out[start..]) == u32::from_be_bytes(*checksum) { Ok(()) } else { Err(damaged()) }
    }
}

/// Expands one frame after the other, as zstandard's own reader does.
fn zstandard(mut stored: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let end_max = out.len() + bytes_max;
    while !stored.is_empty() {
        let left = end_max - out.len();
        read_within(ZstdFrame::new(&mut stored, ZSTANDARD_WINDOW_BYTES_MAX), left, out)?;
    }
    Ok(())
}

fn read_within(decoder: impl Read, bytes_max: usize, out: &mut Vec<u8>) -> io::Result<()> {
    let read = decoder.take(bytes_max as u64 + 1).read_to_end(out)?;
    if read > bytes_max { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it expands to more than is allowed: it has to be written in smaller blocks",
    )
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong")
}
