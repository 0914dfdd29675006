//! What tests of this crate, and of those who read with it, need: packed bytes.
#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test stops at the first surprise")]

use std::io::Write as _;

use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::decompress::Format;

/// Every format.
pub const FORMATS: [Format; 4] = [Format::Gzip, Format::Bzip2, Format::Xz, Format::Zstd];

/// `text` in a format.
pub fn pack(format: Format, text: &[u8]) -> Vec<u8> {
    match format {
        Format::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        Format::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        Format::Xz => xz(text, &XzOptions::with_preset(1)),
        Format::Zstd => compress_to_vec(text, CompressionLevel::Fastest),
    }
}

/// `text` as xz, made with these options.
pub fn xz(text: &[u8], options: &XzOptions) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), options.clone()).unwrap();
    writer.write_all(text).unwrap();
    writer.finish().unwrap()
}
