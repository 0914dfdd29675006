//! What tests of this crate, and of those who read with it, need: packed bytes, and containers that the apache-avro crate has written.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test stops at the first surprise"
)]

use std::io::Write as _;
use std::ops::Range;

use apache_avro::types::Value;
use apache_avro::{DeflateSettings, Schema, Writer, ZstandardSettings};
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};

use crate::Framing;
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
        Format::Zstd => zstd::encode_all(text, 1).unwrap(),
    }
}

/// `text` as xz, made with these options.
pub fn xz(text: &[u8], options: &XzOptions) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), options.clone()).unwrap();
    writer.write_all(text).unwrap();
    writer.finish().unwrap()
}

/// The schema of [`written`] and [`datums`].
pub const SCHEMA: &str = r#"{"type":"record","name":"Send",
    "namespace":"dataexport.S3.inner.users.messages.email","fields":[
    {"name":"id","type":"string"},{"name":"time","type":"int"},
    {"name":"campaign_id","type":["null","string"]}]}"#;

/// Every codec.
pub fn codecs() -> [apache_avro::Codec; 4] {
    let (deflate, zstandard) = (DeflateSettings::default(), ZstandardSettings::default());
    [
        apache_avro::Codec::Null,
        apache_avro::Codec::Deflate(deflate),
        apache_avro::Codec::Snappy,
        apache_avro::Codec::Zstandard(zstandard),
    ]
}

fn record(id: u32) -> Value {
    let campaign = Value::Union(1, Box::new(Value::String("c".repeat(id as usize % 300))));
    Value::Record(vec![
        ("id".into(), Value::String(format!("id-{id}"))),
        ("time".into(), Value::Int(1_795_341_600)),
        ("campaign_id".into(), campaign),
    ])
}

/// A container that the apache-avro crate has written, with so many records in each block.
pub fn written(codec: apache_avro::Codec, ids: Range<u32>, in_block: usize) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).expect("is a schema");
    let mut writer = Writer::with_codec(&schema, Vec::new(), codec);
    for (written, id) in ids.enumerate() {
        writer.append(record(id)).expect("fits its schema");
        if (written + 1) % in_block == 0 {
            writer.flush().expect("goes to memory");
        }
    }
    writer.into_inner().expect("goes to memory")
}

/// The datums of these records.
pub fn datums(ids: Range<u32>) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).expect("is a schema");
    ids.flat_map(|id| apache_avro::to_avro_datum(&schema, record(id)).expect("fits its schema")).collect()
}

/// How many events there are to be read, and how many are lost.
pub fn counts(framing: &Framing) -> (u64, u64) {
    match framing {
        Framing::Avro(datums) => (datums.count, 0),
        Framing::Unreadable(events) => (0, *events),
        Framing::Parts(parts) => {
            let counts = parts.iter().map(|part| counts(&part.framing));
            counts.fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
        }
        other => panic!("{other:?} in a container"),
    }
}
