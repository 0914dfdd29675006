//! The keys in which intermediaries put the event, or what holds it. Pure.

use crate::event_fields::ByteSpan;

/// How many there are.
pub(super) const WRAPPERS: usize = 11;

/// The keys in which intermediaries put the event, or what holds it; of several the first that has an event counts.
pub(super) const WRAPPER_KEYS: [&[u8]; WRAPPERS] = [
    b"detail",      // Amazon EventBridge
    b"Message",     // Amazon SNS
    b"Records",     // AWS Lambda, from SQS, SNS and Kinesis
    b"body",        // Amazon SQS in `Records`
    b"Sns",         // Amazon SNS in `Records`
    b"kinesis",     // Amazon Kinesis in `Records`
    b"records",     // Amazon Data Firehose
    b"payload",     // Kafka Connect's JsonConverter
    b"data",        // CloudEvents; Pub/Sub in `message`; Kinesis and Firehose in their records
    b"data_base64", // CloudEvents
    b"message",     // Google Pub/Sub
];

/// The values that may be wrapped in an object.
#[derive(Debug, Default)]
pub(super) struct WrappedValues {
    /// Bit n: `spans[n]` is of this object.
    present: u16,
    spans: [ByteSpan; WRAPPERS],
}

impl WrappedValues {
    /// Forgets what was found before.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.present = 0;
    }

    /// Keeps where the value of one of [`WRAPPER_KEYS`] is.
    pub(super) fn set(&mut self, key: usize, span: ByteSpan) {
        self.present |= 1 << key;
        self.spans[key] = span;
    }

    /// Whether anything may be wrapped in this object.
    pub(super) fn is_any(&self) -> bool {
        self.present != 0
    }

    /// Where the value of one of [`WRAPPER_KEYS`] is.
    pub(super) fn get(&self, key: usize) -> Option<ByteSpan> {
        (self.present >> key & 1 == 1).then(|| self.spans[key])
    }
}

/// Whether a key of 3, 4, 6, 7 or 11 bytes may be one of [`WRAPPER_KEYS`], as far as its first letters tell; few of Braze's own
/// keys look like them.
#[inline]
pub(super) fn may_be_one(name: &[u8]) -> bool {
    match (name.len(), name.first()) {
        (7, Some(b'M' | b'R' | b'k' | b'm' | b'p' | b'r')) | (4, Some(b'b' | b'd')) | (3, Some(b'S')) => true,
        (6 | 11, Some(b'd')) => name.starts_with(b"det") || name.starts_with(b"data_"),
        _ => false,
    }
}

/// Which of [`WRAPPER_KEYS`] it is.
#[cold]
#[inline(never)]
pub(super) fn position(name: &[u8]) -> Option<usize> {
    WRAPPER_KEYS.iter().position(|key| *key == name)
}
