//! How the bytes of a body are divided into events, and what holds of events that do not say it themselves.

use std::sync::Arc;

/// How the bytes of a body are divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// One JSON document: an envelope, an array, or a bare event.
    Document,
    /// JSON documents, one a line; a line that is not JSON harms no other line.
    Lines,
    /// The elements of a document that has been read before, in a form that is read faster.
    Extract,
    /// Avro datums back to back.
    Avro(Datums),
    /// No bytes, but this number of events, which the queue could not make readable. They are booked as malformed. A caller
    /// that takes the number from untrusted bytes bounds it.
    Unreadable(u64),
    /// Several parts one after the other, each divided in its own way: a message of a broker each. A fault in one harms no
    /// other.
    Parts(Arc<[Part]>),
}

/// Avro datums one after the other, with nothing before, between or behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datums {
    /// What all of them were written with.
    pub schema: Arc<WriterSchema>,
    /// Their number. Each is booked, whatever the bytes turn out to be, so a caller that takes the number from untrusted
    /// bytes bounds it by their number.
    pub count: u64,
}

/// The schema that Avro datums were written with. A decoder remembers the compiled form by identity: clone the [`Arc`]
/// rather than making a new one for every delivery.
#[derive(Debug, PartialEq, Eq)]
pub struct WriterSchema(Box<str>);

impl WriterSchema {
    /// `text` is the schema's JSON; it is parsed with the first read.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The schema's JSON.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// One of the parts that a body is made of. It begins where the part before it ends, or at the start of the
/// body; an empty one of JSON holds no event. Bytes behind the last part belong to
/// none and are not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it ends, counted from the start of the body.
    pub end: usize,
    /// How its bytes are divided.
    pub framing: Framing,
}

/// What holds of the events of a body that do not state it themselves, by where they came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventDefaults {
    /// From the path of the file or object (`event_type=…`), or from the name of the topic.
    pub event_type: Option<Box<str>>,
    /// From the push URL, or from the bucket's source.
    pub app_group_id: Option<Box<str>>,
    /// From the push URL, or from the bucket's source.
    pub app_group_name: Option<Box<str>>,
}
