//! Which fields of an event become tags, and how a tag is written.

/// Which tags a series has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The tags that are taken from events.
    pub include: Vec<Tag>,
    /// Whole tags (`env:prod`) that every series gets.
    pub static_tags: Vec<Box<str>>,
    /// What names do to the identity of a series.
    pub names: Names,
}

/// A tag that an event can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// A field of the event, under its own name.
    Field(crate::event::Field),
    /// `channel`: email, sms, …
    Channel,
}

/// What names do to the identity of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// One series per set of ids, with the newest name known for each id.
    Latest,
    /// A name is part of the series, as the event had it.
    AsSent,
}
