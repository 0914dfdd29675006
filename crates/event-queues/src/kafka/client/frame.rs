//! How a message is encoded, as far as its first bytes and its headers tell: the prefix of its value, and the name of its
//! schema. Pure.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::message::Headers;

use braze_events::container;

/// Confluent's first byte before a number of four bytes, and Apicurio's before one of eight.
///
/// Sources: Confluent's documentation, "Wire format", and its `SchemaId`; Apicurio's `DefaultIdHandler` and `Legacy8ByteIdHandler`.
const NUMBER: u8 = 0;
/// Confluent's first byte before a GUID of 16 bytes.
const GUID: u8 = 1;
/// AWS Glue's first byte; the next says whether the value is packed, and 16 bytes are the UUID of a schema's version.
///
/// Source: AWS Glue Schema Registry's serializers, `AWSSchemaRegistryConstants`.
const GLUE: u8 = 3;
const GLUE_PLAIN: u8 = 0;
const GLUE_ZLIB: u8 = 5;

/// Azure Schema Registry's first serializers put four zeros and the id of a schema in 32 hexadecimal digits before the
/// value; now the media type names it.
const AZURE_DIGITS: usize = 32;
const AZURE_MEDIA_TYPE: &[u8] = b"avro/binary+";

/// How a message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// JSON, or something that will turn out not to be.
    Document,
    /// By a schema of Avro or JSON.
    Framed {
        /// The schema's name.
        schema: SchemaKey,
    },
    /// The same, and packed by zlib.
    Packed {
        /// The schema's name.
        schema: SchemaKey,
    },
    /// An Avro object container.
    Container,
}

/// The name of a message's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum SchemaKey {
    /// A number of four bytes before the value, or in Confluent's header.
    Id(u32),
    /// A number of eight bytes before the value: Apicurio's.
    LongId(u64),
    /// Confluent's, for the schema with everything it references.
    Guid(u128),
    /// In Apicurio's header.
    GlobalId(u64),
    /// In Apicurio's header.
    ContentId(u64),
    /// A version of a schema in AWS Glue, which is not asked.
    Glue(u128),
    /// A schema in Azure's registry, which is not asked.
    Azure,
}

impl SchemaKey {
    /// The owner of a registry that is not asked.
    pub(super) fn unasked(self) -> Option<&'static str> {
        match self {
            SchemaKey::Glue(_) => Some("AWS Glue"),
            SchemaKey::Azure => Some("Azure Schema Registry"),
            _ => None,
        }
    }
}

impl fmt::Display for SchemaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SchemaKey::Id(id) => write!(f, "{id}"),
            SchemaKey::LongId(id) => write!(f, "{id}, in eight bytes"),
            SchemaKey::Guid(guid) => f.write_str(&hyphened(guid)),
            SchemaKey::GlobalId(id) => write!(f, "with the global id {id}"),
            SchemaKey::ContentId(id) => write!(f, "with the content id {id}"),
            SchemaKey::Glue(version) => write!(f, "{} of AWS Glue", hyphened(version)),
            SchemaKey::Azure => f.write_str("of Azure Schema Registry"),
        }
    }
}

/// A UUID as it is written in URLs.
pub(super) fn hyphened(uuid: u128) -> String {
    let digits = format!("{uuid:032x}");
    let (first, second, third) = (&digits[..8], &digits[8..12], &digits[12..16]);
    format!("{first}-{second}-{third}-{}-{}", &digits[16..20], &digits[20..])
}

/// The kind by the first bytes of a value, and how many of them are the frame.
///
/// With a registry no value is taken for Azure's: Avro behind a small id may well begin with 32 digits.
pub(super) fn kind_of(value: &[u8], has_registry: bool) -> (MessageKind, usize) {
    let framed = |schema, bytes| (MessageKind::Framed { schema }, bytes);
    match value {
        [NUMBER, 0, 0, 0, id @ ..] if !has_registry && has_azure_id(id) => {
            framed(SchemaKey::Azure, 4 + AZURE_DIGITS)
        }
        // Numbers begin with 1, so none of four bytes is 0.
        [NUMBER, 0, 0, 0, 0, a, b, c, d, ..] => {
            framed(SchemaKey::LongId(u32::from_be_bytes([*a, *b, *c, *d]).into()), 9)
        }
        [NUMBER, a, b, c, d, ..] => framed(SchemaKey::Id(u32::from_be_bytes([*a, *b, *c, *d])), 5),
        [GUID, rest @ ..] if rest.len() >= 16 => framed(SchemaKey::Guid(uuid(rest)), 17),
        [GLUE, GLUE_PLAIN, rest @ ..] if rest.len() >= 16 => framed(SchemaKey::Glue(uuid(rest)), 18),
        [GLUE, GLUE_ZLIB, rest @ ..] if rest.len() >= 16 => {
            (MessageKind::Packed { schema: SchemaKey::Glue(uuid(rest)) }, 18)
        }
        value if value.starts_with(&container::MAGIC) => (MessageKind::Container, 0),
        _ => (MessageKind::Document, 0),
    }
}

/// Whether a value begins as a JSON object or array does.
pub(super) fn looks_like_json(value: &[u8]) -> bool {
    matches!(value.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The kind by the headers of a message. Of several headers of one name the last counts, as with the serializers.
///
/// A name that is not UTF-8, which the client library can't read, hides all of them.
pub(super) fn kind_in(headers: &impl Headers) -> Option<MessageKind> {
    let read = || {
        let (mut schema, mut is_json) = (None, false);
        for header in (0..headers.count()).filter_map(|number| headers.try_get(number)) {
            let value = header.value.unwrap_or_default();
            match header.key {
                "apicurio.value.encoding" => is_json = value.eq_ignore_ascii_case(b"JSON"),
                name => schema = key_in(name, value).or(schema),
            }
        }
        schema.map(|schema| if is_json { MessageKind::Document } else { MessageKind::Framed { schema } })
    };
    catch_unwind(AssertUnwindSafe(read)).ok().flatten()
}

/// Sources: Confluent's `HeaderSchemaIdSerializer`, whose value may go on behind the id (Protobuf's message); Apicurio's
/// `KafkaSerdeHeaders`, numbers of eight bytes; Azure's Kafka serializer.
fn key_in(name: &str, value: &[u8]) -> Option<SchemaKey> {
    match (name, value) {
        ("__value_schema_id", [NUMBER, a, b, c, d, ..]) => {
            Some(SchemaKey::Id(u32::from_be_bytes([*a, *b, *c, *d])))
        }
        ("__value_schema_id", [GUID, rest @ ..]) if rest.len() >= 16 => Some(SchemaKey::Guid(uuid(rest))),
        ("apicurio.value.globalId", value) => number(value).map(SchemaKey::GlobalId),
        ("apicurio.value.contentId", value) => number(value).map(SchemaKey::ContentId),
        ("content-type", value) if value.starts_with(AZURE_MEDIA_TYPE) => Some(SchemaKey::Azure),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

/// The first 16 bytes.
fn uuid(bytes: &[u8]) -> u128 {
    bytes.first_chunk().copied().map(u128::from_be_bytes).unwrap_or_default()
}

fn has_azure_id(bytes: &[u8]) -> bool {
    bytes.get(..AZURE_DIGITS).is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders};

    use super::*;

    const UUID: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    fn framed(schema: SchemaKey) -> MessageKind {
        MessageKind::Framed { schema }
    }

    #[test]
    fn the_first_bytes_tell_how_a_message_is_written_and_where_its_value_begins() {
        let version = uuid(&UUID);
        let behind = |head: &[u8]| [head, &UUID, b"rest"].concat();
        for (value, expected) in [
            (b"{}".to_vec(), (MessageKind::Document, 0)),
            (vec![], (MessageKind::Document, 0)),
            (b"\0\0\0\x01\x02rest".to_vec(), (framed(SchemaKey::Id(258)), 5)),
            (b"\0\0\0\0\0\0\0\x01\x02rest".to_vec(), (framed(SchemaKey::LongId(258)), 9)),
            // Too short for a frame: not JSON either.
            (b"\0\0\0\x01".to_vec(), (MessageKind::Document, 0)),
            (b"Obj\x01...".to_vec(), (MessageKind::Container, 0)),
            (behind(&[1]), (framed(SchemaKey::Guid(version)), 17)),
            (behind(&[3, 0]), (framed(SchemaKey::Glue(version)), 18)),
            (behind(&[3, 5]), (MessageKind::Packed { schema: SchemaKey::Glue(version) }, 18)),
            (behind(&[3, 1]), (MessageKind::Document, 0)),
            ([&[3, 0], &UUID[..15]].concat(), (MessageKind::Document, 0)),
            ([&[0; 4][..], &[b'a'; 32], b"rest"].concat(), (framed(SchemaKey::Azure), 36)),
            ([&[0; 4][..], &[b'a'; 31], b"rest"].concat(), (framed(SchemaKey::Id(0x61)), 5)),
        ] {
            assert_eq!(kind_of(&value, false), expected, "{value:?}");
        }
        let digits = [&[0, 0, 0, 0][..], &[b'a'; 32], b"rest"].concat();
        assert_eq!(kind_of(&digits, true), (framed(SchemaKey::Id(0x61)), 5));
    }

    #[test]
    fn headers_tell_the_schema_and_what_is_none_of_them_tells_nothing() {
        let of = |headers: &[(&str, &[u8])]| {
            let add = |all: OwnedHeaders, (key, value): &(&str, &[u8])| {
                all.insert(Header { key, value: Some(*value) })
            };
            kind_in(&headers.iter().fold(OwnedHeaders::new(), add))
        };
        let guid = [&[1][..], &UUID].concat();
        let long = 258_u64.to_be_bytes();
        for (headers, expected) in [
            (vec![("__value_schema_id", &guid[..])], Some(SchemaKey::Guid(uuid(&UUID)))),
            // Protobuf puts the message behind it.
            (
                vec![(
                    "__value_schema_id",
                    &[1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0][..],
                )],
                Some(SchemaKey::Guid(uuid(&UUID))),
            ),
            (vec![("__value_schema_id", &[0, 0, 0, 1, 2][..])], Some(SchemaKey::Id(258))),
            (vec![("__value_schema_id", &[2, 0, 0, 1, 2][..])], None),
            (vec![("__value_schema_id", &guid[..16])], None),
            (vec![("__key_schema_id", &guid[..])], None),
            (vec![("apicurio.value.globalId", &long[..])], Some(SchemaKey::GlobalId(258))),
            (vec![("apicurio.value.contentId", &long[..])], Some(SchemaKey::ContentId(258))),
            (vec![("apicurio.value.globalId", &long[..7])], None),
            (vec![("apicurio.key.globalId", &long[..]), ("trace", b"x")], None),
            (vec![("content-type", b"avro/binary+0123")], Some(SchemaKey::Azure)),
            (vec![("content-type", b"application/json")], None),
            (
                vec![("__value_schema_id", &guid[..]), ("x", b""), ("__value_schema_id", &[0, 0, 0, 0, 9])],
                Some(SchemaKey::Id(9)),
            ),
            (vec![], None),
        ] {
            assert_eq!(of(&headers), expected.map(framed), "{headers:?}");
        }
        let json = [("apicurio.value.globalId", &long[..]), ("apicurio.value.encoding", &b"JSON"[..])];
        assert_eq!(of(&json), Some(MessageKind::Document));
        let binary = [("apicurio.value.encoding", &b"BINARY"[..]), ("apicurio.value.globalId", &long[..])];
        assert_eq!(of(&binary), Some(framed(SchemaKey::GlobalId(258))));
    }

    /// Headers as the client library hands them over where a name is no UTF-8.
    struct Unreadable;

    impl Headers for Unreadable {
        fn count(&self) -> usize {
            1
        }

        fn try_get(&self, _number: usize) -> Option<Header<'_, &[u8]>> {
            panic!("a name that is no UTF-8")
        }
    }

    #[test]
    fn a_header_whose_name_is_no_text_ends_nothing() {
        assert_eq!(kind_in(&Unreadable), None);
    }

    #[test]
    fn a_guid_is_written_as_in_a_url() {
        assert_eq!(hyphened(uuid(&UUID)), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(SchemaKey::Guid(0).to_string(), "00000000-0000-0000-0000-000000000000");
    }
}
