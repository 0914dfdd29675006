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
