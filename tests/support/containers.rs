//! Avro containers that the apache-avro crate has written, for the tests of crates that read them.

use std::ops::Range;

use apache_avro::types::Value;
use apache_avro::{DeflateSettings, Schema, Writer, ZstandardSettings};

use super::Framing;

/// The schema of [`written`] and [`datums`].
pub(crate) const SCHEMA: &str = r#"{"type":"record","name":"Send",
    "namespace":"dataexport.S3.inner.users.messages.email","fields":[
    {"name":"id","type":"string"},{"name":"time","type":"int"},
    {"name":"campaign_id","type":["null","string"]}]}"#;

/// Every codec.
pub(crate) fn codecs() -> [apache_avro::Codec; 4] {
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
pub(crate) fn written(codec: apache_avro::Codec, ids: Range<u32>, in_block: usize) -> Vec<u8> {
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
pub(crate) fn datums(ids: Range<u32>) -> Vec<u8> {
    let schema = Schema::parse_str(SCHEMA).expect("is a schema");
    ids.flat_map(|id| apache_avro::to_avro_datum(&schema, record(id)).expect("fits its schema")).collect()
}

/// How many events there are to be read, and how many are lost.
pub(crate) fn counts(framing: &Framing) -> (u64, u64) {
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
