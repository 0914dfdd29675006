//! Content codings: detects a body's, and decodes it.

use std::io::{self, Read};
use std::mem;

use flate2::bufread::{DeflateDecoder, ZlibDecoder};
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;

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
    /// The one coding that the headers name. A body with two codings is refused.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
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
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::super::memory::Memory;
    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn undone(coding: Coding, wire: &[u8], bytes_max: usize) -> Result<Vec<u8>, Refusal> {
        let memory = Memory::new(64 * 1024 * 1024, Duration::ZERO);
        undo(coding, &mut wire.to_vec(), bytes_max, &mut memory.share(None)).map(|plain| plain.body)
    }

    fn coding(values: &[&'static str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        Coding::of(&headers).ok()
    }

    #[test]
    fn the_codings_of_the_contract_are_known_and_no_others() {
        assert_eq!(coding(&[]), Some(Coding::Identity));
        assert_eq!(coding(&["identity"]), Some(Coding::Identity));
        assert_eq!(coding(&["GZip"]), Some(Coding::Gzip));
        assert_eq!(coding(&["x-gzip, identity"]), Some(Coding::Gzip));
        assert_eq!(coding(&["identity", "deflate"]), Some(Coding::Deflate));
        assert_eq!(coding(&["zstd"]), Some(Coding::Zstd));
        for other in [&["br"][..], &["gzip, gzip"], &["gzip", "deflate"], &["gzip;q=1"], &["compress"]] {
            assert_eq!(coding(other), None, "{other:?}");
        }
    }

    #[test]
    fn members_of_gzip_are_read_one_after_the_other() {
        let wire = [gzip(b"[1,"), gzip(b"2]")].concat();
        assert_eq!(undone(Coding::Gzip, &wire, 100).unwrap(), b"[1,2]");
    }

    #[test]
    fn what_is_left_out_behind_a_gzip_is_measured() {
        let memory = Memory::new(1024 * 1024, Duration::ZERO);
        for behind in [0, 1, 512] {
            let wire = [gzip(b"[1,"), gzip(b"2]"), vec![0; behind]].concat();
            let plain = undo(Coding::Gzip, &mut wire.clone(), 100, &mut memory.share(None)).unwrap();
            assert_eq!(plain, Plain { body: b"[1,2]".to_vec(), bytes_left_out: behind });
        }
    }

    fn zstandard(body: &[u8]) -> Vec<u8> {
        braze_events::testing::pack(Format::Zstd, body)
    }

    #[test]
    fn frames_of_zstandard_are_read_one_after_the_other_within_the_window_of_a_content_coding() {
        let wire = [zstandard(b"[1,"), zstandard(b"2]")].concat();
        assert_eq!(undone(Coding::Zstd, &wire, 100).unwrap(), b"[1,2]");
        assert!(matches!(undone(Coding::Zstd, b"{}", 100), Err(Refusal::Coding(_))));
        // The head of a frame that asks for a window of 8 MiB, or of 16, and one block of a byte.
        let asks = |window: u8| [&[0x28, 0xb5, 0x2f, 0xfd, 0, window << 3, 9, 0, 0][..], b"0"].concat();
        assert_eq!(undone(Coding::Zstd, &asks(13), 100).unwrap(), b"0");
        let refusal = undone(Coding::Zstd, &asks(14), 100).unwrap_err().to_string();
        assert!(refusal.contains("8 MiB"), "{refusal}");
    }

    #[test]
    fn deflate_is_read_with_and_without_its_header() {
        assert_eq!(undone(Coding::Deflate, &zlib(b"{}"), 100).unwrap(), b"{}");
        assert_eq!(undone(Coding::Deflate, &raw_deflate(b"{}"), 100).unwrap(), b"{}");
    }

    #[test]
    fn what_is_cut_damaged_or_followed_by_something_is_refused() {
        let body = b"{\"events\":[{\"id\":\"1\"}]}";
        for (coding, whole) in [
            (Coding::Gzip, gzip(body)),
            (Coding::Deflate, zlib(body)),
            (Coding::Deflate, raw_deflate(body)),
            (Coding::Zstd, zstandard(body)),
        ] {
            for cut in 1..whole.len() {
                assert!(undone(coding, &whole[..cut], 100).is_err(), "{coding:?} cut at {cut}");
            }
            let mut long = whole.clone();
            long.push(b'x');
            match coding {
                // As gunzip does.
                Coding::Gzip => assert_eq!(undone(coding, &long, 100).unwrap(), body),
                _ => assert!(matches!(undone(coding, &long, 100), Err(Refusal::Coding(_))), "{coding:?}"),
            }
        }
        for coding in [Coding::Gzip, Coding::Deflate] {
            assert!(matches!(undone(coding, body, 100), Err(Refusal::Coding(_))), "{coding:?}");
        }
        let mut wrong_sum = gzip(body);
        let at = wrong_sum.len() - 5;
        wrong_sum[at] ^= 1;
        assert!(matches!(undone(Coding::Gzip, &wrong_sum, 100), Err(Refusal::Coding(_))));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let spaces = vec![b' '; 50_000_000];
        for (coding, bomb) in [(Coding::Gzip, gzip(&spaces)), (Coding::Zstd, zstandard(&spaces))] {
            assert!(bomb.len() < 100_000);
            let memory = Memory::new(2 * 1024 * 1024, Duration::ZERO);
            let mut share = memory.share(None);
            let refusal = undo(coding, &mut bomb.clone(), 1_000_000, &mut share).unwrap_err();
            assert!(matches!(refusal, Refusal::TooLarge { bytes_max: 1_000_000 }));
            assert!(share.bytes() < 1_200_000, "{}", share.bytes());
        }
    }

    #[test]
    fn unpacking_stops_where_the_memory_for_bodies_ends() {
        let wire = gzip(&vec![b' '; 100_000]);
        let memory = Memory::new(50_000, Duration::ZERO);
        let refusal = undo(Coding::Gzip, &mut wire.clone(), 1_000_000, &mut memory.share(None)).unwrap_err();
        assert!(matches!(refusal, Refusal::Memory));
    }

    proptest! {
        /// What was compressed comes back as it was, if and only if it is no longer than allowed; and a body
        /// that is allowed is never over the limit on the wire.
        #[test]
        fn the_limit_is_exact(
            body in prop::collection::vec(any::<u8>(), 0..20_000),
            repeat in 1_usize..4,
            slack in -2_isize..3,
        ) {
            let body = body.repeat(repeat);
            let bytes_max = body.len().saturating_add_signed(slack);
            for (coding, wire) in [
                (Coding::Gzip, gzip(&body)),
                (Coding::Deflate, zlib(&body)),
                (Coding::Deflate, raw_deflate(&body)),
                (Coding::Zstd, zstandard(&body)),
            ] {
                match undone(coding, &wire, bytes_max) {
                    Ok(unpacked) => {
                        prop_assert!(body.len() <= bytes_max);
                        prop_assert!(wire.len() <= coding.wire_bytes_max(bytes_max));
                        prop_assert_eq!(&unpacked, &body);
                    }
                    Err(Refusal::TooLarge { .. }) => prop_assert!(body.len() > bytes_max),
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
        }
    }
}
