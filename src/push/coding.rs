//! Content codings: detects a body's, and decodes it.

use std::io::{self, Read};
use std::mem;

use flate2::bufread::{DeflateDecoder, ZlibDecoder};
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, TRANSFER_ENCODING};

use super::memory::Share;
use super::refusal::Refusal;
use braze_events::decompress::{Format, Members};

/// The estimated size of a body after decompression, as a multiple of its size before. Braze's events compress to about a
/// sixth.
const RATIO_GUESS: usize = 8;

/// The initial room for an empty estimate.
const ROOM_BYTES_MIN: usize = 4096;

/// How far back a frame of zstandard may refer, as a power of two: the 8 MiB of a content coding (RFC 9659, section 3).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    /// The one coding that the headers name. A body with two codings is refused, and so is one that is coded for its transfer,
    /// other than in chunks.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut transfer = headers.get_all(TRANSFER_ENCODING).iter();
        let is_plain = transfer
            .next()
            .is_none_or(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if !is_plain || transfer.next().is_some() {
            return Err(Refusal::TransferEncoding);
        }
        let mut coding = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = value.to_str().map_err(|_| Refusal::Encoding)?;
            for name in value.split(',').map(|name| name.trim().to_ascii_lowercase()) {
                let named = match name.as_str() {
                    "" | "identity" => continue,
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "zstd" => Self::Zstd,
                    _ => return Err(Refusal::Encoding),
                };
                if coding != Self::Identity {
                    return Err(Refusal::Encoding);
                }
                coding = named;
            }
        }
        Ok(coding)
    }

    /// Bytes a body may have on the wire, so that after decompression it may have `bytes_max`: what does not
    /// compress grows by a header and 5 bytes for every 16 KiB or more.
    pub(super) fn wire_bytes_max(self, bytes_max: usize) -> usize {
        match self {
            Self::Identity => bytes_max,
            Self::Gzip | Self::Deflate | Self::Zstd => {
                bytes_max.saturating_add(bytes_max / 2048).saturating_add(1024)
            }
        }
    }

    /// The estimated memory for decompressing such a body, beside it.
    pub(super) fn guess(self, wire_bytes: usize, bytes_max: usize) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip | Self::Deflate | Self::Zstd => {
                wire_bytes.saturating_mul(RATIO_GUESS).clamp(ROOM_BYTES_MIN, bytes_max.max(ROOM_BYTES_MIN))
            }
        }
    }
}

/// A body without its coding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) body: Vec<u8>,
    /// How many bytes follow the last gzip member and are not one; they are left out, as gunzip does.
    pub(super) bytes_left_out: usize,
}

impl From<Vec<u8>> for Plain {
    fn from(body: Vec<u8>) -> Self {
        Self { body, bytes_left_out: 0 }
    }
}

/// Decompresses at most `bytes_max`; on overflow it stops and leaves `wire` unchanged. `share` has room for the body as it
/// came, and grows with the output.
pub(super) fn undo(
    coding: Coding,
    wire: &mut Vec<u8>,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Plain, Refusal> {
    if wire.is_empty() {
        return Ok(Vec::new().into());
    }
    let limits = Limits { first: coding.guess(wire.len(), bytes_max), bytes_max, wire_bytes: wire.len() };
    match coding {
        Coding::Identity => Ok(mem::take(wire).into()),
        Coding::Gzip => {
            let mut members = Members::new(Format::Gzip, &**wire);
            let body = unpack(&mut members, &limits, share)?;
            let rest = members.get_ref().filter(|_| members.has_trailing());
            Ok(Plain { body, bytes_left_out: rest.map_or(0, |rest| rest.len()) })
        }
        Coding::Zstd => {
            let mut frames = Members::with_window(Format::Zstd, &**wire, ZSTD_WINDOW_LOG_MAX);
            let body = unpack(&mut frames, &limits, share)?;
            // A frame states its length; bytes behind it are none of the sender's events (RFC 8878, section 3).
            if frames.has_trailing() {
                return Err(Refusal::Coding("something follows the compressed data"));
            }
            Ok(body.into())
        }
        Coding::Deflate => {
            let (body, rest) = if has_zlib_header(wire) {
                let mut decoder = ZlibDecoder::new(&**wire);
                (unpack(&mut decoder, &limits, share)?, decoder.into_inner())
            } else {
                let mut decoder = DeflateDecoder::new(&**wire);
                (unpack(&mut decoder, &limits, share)?, decoder.into_inner())
            };
            if rest.is_empty() {
                Ok(body.into())
            } else {
                Err(Refusal::Coding("something follows the compressed data"))
            }
        }
    }
}

struct Limits {
    first: usize,
    bytes_max: usize,
    wire_bytes: usize,
}

fn unpack(decoder: &mut impl Read, limits: &Limits, share: &mut Share) -> Result<Vec<u8>, Refusal> {
    // One byte more than allowed, to notice an overflow.
    let most = limits.bytes_max.saturating_add(1);
    let mut body = Vec::new();
    let mut target = limits.first.min(most);
    loop {
        share.try_grow(limits.wire_bytes.saturating_add(target))?;
        let room = target - body.len();
        body.reserve_exact(room);
        let read =
            decoder.by_ref().take(room as u64).read_to_end(&mut body).map_err(|error| reason(&error))?;
        if body.len() > limits.bytes_max {
            return Err(Refusal::TooLarge { bytes_max: limits.bytes_max });
        }
        if read < room {
            return Ok(body);
        }
        target = target.saturating_mul(2).min(most);
    }
}

/// RFC 9110 says that `deflate` is the zlib format, and names senders that leave its header out. The header
/// is known by its method and its check bits (RFC 1950).
fn has_zlib_header(wire: &[u8]) -> bool {
    let &[method, flags, ..] = wire else { return false };
    method & 0x0f == 8 && u16::from_be_bytes([method, flags]) % 31 == 0
}

fn reason(error: &io::Error) -> Refusal {
    Refusal::Coding(match error.kind() {
        io::ErrorKind::OutOfMemory => {
            "unpacking its zstandard takes a window of more than 8 MiB, which HTTP does not allow"
        }
        io::ErrorKind::UnexpectedEof => "the compressed data is cut short",
        _ => "the compressed data is damaged, or something follows it",
    })
}

#[cfg(test)]
mod tests;
