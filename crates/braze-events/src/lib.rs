//! Braze's message events, read from the bytes that Braze wrote: JSON and Avro, in every envelope.
//!
//! ```
//! use braze_events::decode::Decoder;
//! use braze_events::{Decoded, Field, Framing, EventDefaults};
//!
//! let body = br#"{"events": [{"event_type": "users.messages.email.Send", "id": "1", "time": 1800000000,
//!     "properties": {"campaign_id": "c1", "campaign_name": "Newsletter"}}]}"#;
//! let mut decoder = Decoder::new(&["users.messages.email.Send".into()], true);
//! let mut campaigns = Vec::new();
//! decoder.decode(body, &Framing::Document, &EventDefaults::default(), |decoded| {
//!     if let Decoded::Send(send) = decoded {
//!         campaigns.push(String::from_utf8_lossy(send.field(Field::CampaignName)).into_owned());
//!     }
//! });
//! assert_eq!(campaigns, ["Newsletter"]);
//! ```

pub mod app_group;
mod avro;
pub mod container;
#[cfg(test)]
#[path = "../../../tests/support/containers.rs"]
mod containers;
pub mod decode;
pub mod decompress;
mod event_fields;
mod framing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod zstandard;

pub use framing::{Datums, EventDefaults, Framing, Part, WriterSchema};

/// The event types that this program knows by name, and the channel each belongs to. An event type that
/// is not counted is ignored; one that is not known is ignored as `other`, for new ones arrive monthly.
///
/// Source: Braze's Currents event glossary, "Message engagement events".
pub const SEND_TYPES: &[(&str, &str)] = &[
    ("users.messages.email.Send", "email"),
    ("users.messages.pushnotification.Send", "pushnotification"),
    ("users.messages.sms.Send", "sms"),
    ("users.messages.webhook.Send", "webhook"),
    ("users.messages.whatsapp.Send", "whatsapp"),
    ("users.messages.contentcard.Send", "contentcard"),
    ("users.messages.rcs.Send", "rcs"),
    ("users.messages.line.Send", "line"),
    ("users.messages.liveactivity.Send", "liveactivity"),
];

/// The fields of an event that can become tags, by their place in [`SendEvent::fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Field {
    /// `app_group_id`, or `app_group_api_id` where both exist.
    AppGroupId,
    /// `app_group_name`.
    AppGroupName,
    /// `campaign_id`, or `campaign_api_id` where both exist.
    CampaignId,
    /// `campaign_name`.
    CampaignName,
    /// `canvas_id`, or `canvas_api_id` where both exist.
    CanvasId,
    /// `canvas_name`.
    CanvasName,
    /// `canvas_step_id`, or `canvas_step_api_id` where both exist.
    CanvasStepId,
    /// `canvas_step_name`.
    CanvasStepName,
}

/// How many [`Field`]s there are.
pub const FIELDS: usize = 8;

impl Field {
    /// All of them, in the order of [`SendEvent::fields`], which is also their alphabetical order.
    pub const ALL: [Field; FIELDS] = [
        Field::AppGroupId,
        Field::AppGroupName,
        Field::CampaignId,
        Field::CampaignName,
        Field::CanvasId,
        Field::CanvasName,
        Field::CanvasStepId,
        Field::CanvasStepName,
    ];

    /// The name of the field in the event, and of the tag.
    pub const fn name(self) -> &'static str {
        match self {
            Field::AppGroupId => "app_group_id",
            Field::AppGroupName => "app_group_name",
            Field::CampaignId => "campaign_id",
            Field::CampaignName => "campaign_name",
            Field::CanvasId => "canvas_id",
            Field::CanvasName => "canvas_name",
            Field::CanvasStepId => "canvas_step_id",
            Field::CanvasStepName => "canvas_step_name",
        }
    }
}

/// One event of a counted type. Every slice is valid UTF-8, unescaped, and lives as long as the call that
/// hands the event over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendEvent<'e> {
    /// Which of the counted types it is: an index into the list that the decoder was made with.
    pub event_type: usize,
    /// The globally unique id; never empty.
    pub id: &'e [u8],
    /// Unix seconds, where the event has a usable time.
    pub time: Option<u64>,
    /// By [`Field`]; empty where the event has none (absent, `null`, `""` and `[REDACTED]` are the same).
    pub fields: [&'e [u8]; FIELDS],
}

impl<'e> SendEvent<'e> {
    /// The value of one field; empty where there is none.
    pub const fn field(&self, field: Field) -> &'e [u8] {
        self.fields[field as usize]
    }
}

/// The kinds of elements of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'e> {
    /// An event of a counted type.
    Send(SendEvent<'e>),
    /// An event of another type, which is normal.
    Ignored {
        /// As Braze wrote it; unbounded and untrusted.
        event_type: &'e [u8],
    },
    /// Something that can't be counted.
    Malformed(Malformed),
    /// Damage, in the place of the events it hit.
    Skipped(Skipped),
}

/// Bytes of a document that no event could be read from, because its JSON is damaged there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many stretches they are. How many events each was is not known; it is booked as one, [`Malformed::Json`].
    pub stretches: u32,
    /// How many bytes they have together; none where the document only ends too early.
    pub bytes: u64,
}

/// Why an element of a body can't be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// Bytes that are not JSON, up to the next event that can be read, or to the end of the document (or of the line).
    Json,
    /// The bytes do not fit the Avro schema, from here to the end of the datums.
    Avro,
    /// The Avro schema can't be read, or is not that of a record.
    Schema,
    /// An element that is not an object, or a datum that is not a record.
    NotAnObject,
    /// No `event_type` in the event, nor from where it came.
    NoEventType,
    /// A counted type without an `id`.
    NoId,
    /// A counted type without a `time`, where the time matters.
    NoTime,
    /// A counted type whose `time` can't be one, where the time matters.
    BadTime,
    /// Longer than any event of Braze can be; never held in memory.
    TooLarge,
    /// Lost before it could be read: it lay in a damaged block, or its schema could not be had.
    Unreadable,
    /// An event of an app group that its sender may not speak for, or of none where that leaves several.
    ForeignAppGroup,
}

impl Malformed {
    /// The value of the `reason` label.
    pub const fn reason(self) -> &'static str {
        match self {
            Malformed::Json => "json",
            Malformed::Avro => "avro",
            Malformed::Schema => "schema",
            Malformed::NotAnObject => "not_an_object",
            Malformed::NoEventType => "no_event_type",
            Malformed::NoId => "no_id",
            Malformed::NoTime => "no_time",
            Malformed::BadTime => "bad_time",
            Malformed::TooLarge => "too_large",
            Malformed::Unreadable => "unreadable",
            Malformed::ForeignAppGroup => "foreign_app_group",
        }
    }
}
