//! The push handler takes a body alike whatever it is coded with, unpacks no more than it is allowed to, and refuses codings
//! that it does not know and bodies that are coded twice.
//!
//! An input is a byte of choices, a byte for each coding, and the body: what was coded, or what stands on the wire.
#![no_main]

use std::io::Write as _;

use braze_datadog::push::fuzzing::take;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use libfuzzer_sys::fuzz_target;

#[path = "../support/peak.rs"]
mod peak;

/// More than any limit here.
const AMPLE: usize = 64 * 1024 * 1024;

/// What unpacking takes beside the bodies: the state of an inflater.
const STATE_BYTES: usize = 256 * 1024;

const CODINGS: [(&str, Coder); 9] = [
    ("identity", |body| body.to_vec()),
    ("gzip", gzip),
    ("X-GZIP", |body| {
        let (front, back) = body.split_at(body.len() / 3);
        [gzip(front), gzip(back)].concat()
    }),
    ("deflate", zlib),
    (" deflate ", raw_deflate),
    ("", |body| body.to_vec()),
    ("zstd", |body| zstd::bulk::compress(body, 1).unwrap()),
    ("br", |body| body.to_vec()),
    ("gzip;q=1", gzip),
];

type Coder = fn(&[u8]) -> Vec<u8>;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// Whether the contract knows these codings, none or one of which is one.
fn is_known(names: &[&str]) -> bool {
    let mut coded = 0;
    names.iter().map(|name| name.trim().to_ascii_lowercase()).all(|name| match name.as_str() {
        "" | "identity" => true,
        "gzip" | "x-gzip" | "deflate" | "zstd" => {
            coded += 1;
            coded == 1
        }
        _ => false,
    })
}

fuzz_target!(|input: &[u8]| {
    let Some((choices, rest)) = input.split_first() else { return };
    let Some((kinds, body)) = rest.split_at_checked(usize::from(choices & 3)) else { return };
    let codings: Vec<_> = kinds.iter().map(|kind| CODINGS[usize::from(*kind) % CODINGS.len()]).collect();
    let names: Vec<&str> = codings.iter().map(|(name, _)| *name).collect();
    // In one header, or in one each.
    let joined = names.join(",");
    let values: Vec<&[u8]> = if choices & 4 == 0 {
        names.iter().map(|name| name.as_bytes()).collect()
    } else {
        vec![joined.as_bytes()]
    };
    if choices & 8 == 0 {
        any_wire(&values, body);
    } else {
        let wire = codings.iter().fold(body.to_vec(), |body, (_, code)| code(&body));
        coded(&values, is_known(&names), wire, body, choices >> 4);
    }
});

/// Bytes that may be anything: whatever they unpack to stays within the limit, and within the memory.
fn any_wire(values: &[&[u8]], wire: &[u8]) {
    const BODY_BYTES_MAX: usize = 64 * 1024;
    const MEMORY_BYTES_MAX: usize = 128 * 1024;
    let owned = wire.to_vec();
    let (taken, bytes) = peak::peak_of(|| take(values, owned, BODY_BYTES_MAX, MEMORY_BYTES_MAX));
    if let Ok(taken) = &taken {
        assert!(taken.extract.len() <= BODY_BYTES_MAX);
    }
    // What an extract grows by is accounted for only once it is made.
    assert!(bytes <= 2 * MEMORY_BYTES_MAX + STATE_BYTES, "{bytes} bytes for {taken:?}");
}

/// A body that was coded is taken as it is taken plain.
fn coded(values: &[&[u8]], is_known: bool, wire: Vec<u8>, body: &[u8], limits: u8) {
    let (body_bytes_max, memory_bytes_max) = match limits % 4 {
        0 => (AMPLE / 8, AMPLE),
        1 => (body.len(), AMPLE),
        2 => (body.len().saturating_sub(1), AMPLE),
        _ => (AMPLE / 8, 16 * 1024),
    };
    let taken = take(values, wire, body_bytes_max, memory_bytes_max);
    if !is_known {
        assert_eq!(taken, Err(415));
        return;
    }
    // A share that is too small for the coded body may do for the plain one, and the other way round.
    if memory_bytes_max < AMPLE && taken == Err(503) {
        return;
    }
    assert_eq!(taken, take(&[], body.to_vec(), body_bytes_max, AMPLE), "{} bytes at most", body_bytes_max);
}
