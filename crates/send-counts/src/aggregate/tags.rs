//! Which fields of an event become tags, what makes two sends the same series, and how a tag is written.
//!
//! A series is identified by a *key*: the bytes of the values that tell it from others, each behind its
//! length. With [`Names::Latest`] an id stands for its name, so that a campaign that is renamed stays one
//! series; a name is part of the key only where there is no id to stand for it.

use std::borrow::Cow;

use crate::route::ConnectionId;
use braze_events::{Field, SendEvent};

/// The longest tag that Datadog takes, in characters, its key and the colon included. Source: Datadog's
/// "Getting started with tags".
const TAG_CHARACTERS_MAX: usize = 200;

/// Which tags a series has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagSettings {
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
    Field(Field),
    /// `channel`: email, sms, …
    Channel,
}

impl Tag {
    /// Every tag on offer, in alphabetical order.
    pub const ALL: [Tag; 9] = [
        Tag::Field(Field::AppGroupId),
        Tag::Field(Field::AppGroupName),
        Tag::Field(Field::CampaignId),
        Tag::Field(Field::CampaignName),
        Tag::Field(Field::CanvasId),
        Tag::Field(Field::CanvasName),
        Tag::Field(Field::CanvasStepId),
        Tag::Field(Field::CanvasStepName),
        Tag::Channel,
    ];

    /// The tag's key.
    pub const fn name(self) -> &'static str {
        match self {
            Tag::Field(field) => field.name(),
            Tag::Channel => "channel",
        }
    }
}

/// What names do to the identity of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// One series per set of ids, with the newest name known for each id.
    Latest,
    /// A name is part of the series, as the event had it.
    AsSent,
}

/// What has an id and a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// An app group: a workspace of Braze.
    AppGroup,
    /// A campaign.
    Campaign,
    /// A Canvas.
    Canvas,
    /// A step of a Canvas.
    CanvasStep,
}

/// How many dimensions there are.
pub const DIMENSIONS: usize = Dimension::ALL.len();

impl Dimension {
    /// All of them, in the order of a key's parts.
    pub const ALL: [Self; 4] = [Self::AppGroup, Self::Campaign, Self::Canvas, Self::CanvasStep];

    /// The field that has its id.
    pub const fn id_field(self) -> Field {
        match self {
            Self::AppGroup => Field::AppGroupId,
            Self::Campaign => Field::CampaignId,
            Self::Canvas => Field::CanvasId,
            Self::CanvasStep => Field::CanvasStepId,
        }
    }

    /// The field that has its name.
    pub const fn name_field(self) -> Field {
        match self {
            Self::AppGroup => Field::AppGroupName,
            Self::Campaign => Field::CampaignName,
            Self::Canvas => Field::CanvasName,
            Self::CanvasStep => Field::CanvasStepName,
        }
    }
}

/// The byte behind the connection: what kind of series it is.
const ORDINARY: u8 = 0;
const OVERFLOW: u8 = 1;

/// The bytes before the first value of a key: the connection and the kind.
const HEAD: usize = 5;

/// How keys and tags are laid out under given settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    id: [bool; DIMENSIONS],
    name: [bool; DIMENSIONS],
    channel: bool,
    latest: bool,
    /// Sorted, without repetitions.
    static_tags: Vec<Box<str>>,
}

/// One tag of a series, on its way into a payload. `key` holds the colon, too; a static tag is all key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagText<'a> {
    /// `campaign_id:`
    pub key: &'a [u8],
    /// The value as Braze wrote it, cut to what Datadog takes.
    pub value: &'a [u8],
}

impl std::fmt::Display for TagText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", lossy(self.key), lossy(self.value))
    }
}

/// Bytes as text, with what is no UTF-8 replaced. As [`String::from_utf8_lossy`], which takes longer where all is well.
pub fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// A name that belongs to the id of a dimension without being part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes<'a> {
    /// By dimension; empty where there is none, or where the name is part of the key.
    pub names: [&'a [u8]; DIMENSIONS],
}

impl Layout {
    /// The layout that follows from the settings.
    pub fn new(settings: &TagSettings) -> Self {
        let has = |tag: Tag| settings.include.contains(&tag);
        let mut static_tags = settings.static_tags.clone();
        static_tags.sort_unstable();
        static_tags.dedup();
        Self {
            id: Dimension::ALL.map(|dimension| has(Tag::Field(dimension.id_field()))),
            name: Dimension::ALL.map(|dimension| has(Tag::Field(dimension.name_field()))),
            channel: has(Tag::Channel),
            latest: settings.names == Names::Latest,
            static_tags,
        }
    }

    /// The tags that every series gets: sorted, each once.
    pub fn static_tags(&self) -> &[Box<str>] {
        &self.static_tags
    }

    /// Appends the key of an event's series to `key` and returns the names that go with it.
    pub fn write_key<'e>(
        &self,
        key: &mut Vec<u8>,
        connection: ConnectionId,
        event: &SendEvent<'e>,
        channel: &str,
    ) -> Attributes<'e> {
        start(key, connection, ORDINARY);
        let mut attributes = Attributes::default();
        for dimension in Dimension::ALL {
            attributes.names[dimension as usize] = self.write_dimension(key, dimension, event);
        }
        write_part(key, if self.channel { channel.as_bytes() } else { b"" });
        attributes
    }

    /// Writes into `overflow` the key of the series that takes what is beyond the bound, for the series that has
    /// `key`. It has the app group's tags, or none when there are too many app groups as well.
    pub fn overflow_of(overflow: &mut Vec<u8>, key: &[u8], with_app_group: bool) {
        overflow.clear();
        start(overflow, connection_of(key), OVERFLOW);
        if with_app_group {
            let mut parts = Parts(&key[HEAD..]);
            write_part(overflow, parts.next().unwrap_or_default());
            write_part(overflow, parts.next().unwrap_or_default());
        }
    }

    /// Whether the name of a dimension belongs to its id, instead of being part of the key.
    pub fn names_by_id(&self, dimension: Dimension) -> bool {
        self.latest && self.id[dimension as usize] && self.name[dimension as usize]
    }

    /// Whether series show a name for a dimension.
    pub fn has_names(&self, dimension: Dimension) -> bool {
        self.name[dimension as usize]
    }

    /// The tags of a series, sorted, each once, in `tags`.
    pub fn tags<'a>(&'a self, tags: &mut Vec<TagText<'a>>, key: &'a [u8], attributes: &Attributes<'a>) {
        tags.clear();
        tags.extend(self.static_tags.iter().map(|tag| TagText { key: tag.as_bytes(), value: b"" }));
        let mut parts = Parts(&key[HEAD..]);
        for dimension in Dimension::ALL {
            push_tag(tags, Tag::Field(dimension.id_field()), parts.next().unwrap_or_default());
            let name_part = parts.next().unwrap_or_default();
            let value = if name_part.is_empty() { attributes.names[dimension as usize] } else { name_part };
            push_tag(tags, Tag::Field(dimension.name_field()), value);
        }
        push_tag(tags, Tag::Channel, parts.next().unwrap_or_default());
        if is_overflow(key) {
            tags.push(TagText { key: b"overflow:", value: b"true" });
        }
        if !self.static_tags.is_empty() {
            tags.sort_unstable_by(|a, b| whole(*a).cmp(whole(*b)));
            tags.dedup_by(|a, b| whole(*a).eq(whole(*b)));
        }
    }

    /// Writes id and name of one dimension; returns the name if it is not part of the key.
    #[inline]
    fn write_dimension<'e>(
        &self,
        key: &mut Vec<u8>,
        dimension: Dimension,
        event: &SendEvent<'e>,
    ) -> &'e [u8] {
        let (id_field, name_field) = (dimension.id_field(), dimension.name_field());
        let id =
            if self.id[dimension as usize] { clean(event.field(id_field), id_field.name()) } else { b"" };
        let name = if self.name[dimension as usize] {
            clean(event.field(name_field), name_field.name())
        } else {
            b""
        };
        if id.is_empty() && name.is_empty() {
            // Two empty parts; most dimensions have nothing.
            key.extend_from_slice(&[0; 4]);
            return b"";
        }
        write_part(key, id);
        if self.latest && !id.is_empty() {
            write_part(key, b"");
            name
        } else {
            write_part(key, name);
            b""
        }
    }
}

/// Which connection a key belongs to.
pub fn connection_of(key: &[u8]) -> ConnectionId {
    ConnectionId(key.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}

/// Whether the key is that of an overflow series.
pub fn is_overflow(key: &[u8]) -> bool {
    key.get(HEAD - 1) == Some(&OVERFLOW)
}

/// Whether a series with this key shows a name for a dimension. Overflow series show that of their app group only.
pub fn takes_name(key: &[u8], dimension: Dimension) -> bool {
    !is_overflow(key) || (dimension == Dimension::AppGroup && !id_of(key, dimension).is_empty())
}

/// The id of a dimension in a key; empty where there is none.
pub fn id_of(key: &[u8], dimension: Dimension) -> &[u8] {
    Parts(&key[HEAD..]).nth(dimension as usize * 2).unwrap_or_default()
}

/// Id and name of a dimension in a key; empty where they are not part of it.
pub fn id_and_name_of(key: &[u8], dimension: Dimension) -> (&[u8], &[u8]) {
    let mut parts = Parts(&key[HEAD..]);
    let id = parts.nth(dimension as usize * 2).unwrap_or_default();
    (id, parts.next().unwrap_or_default())
}

/// The name of a dimension in a key; empty where there is none, or where an id stands for it.
pub fn name_of(key: &[u8], dimension: Dimension) -> &[u8] {
    Parts(&key[HEAD..]).nth(dimension as usize * 2 + 1).unwrap_or_default()
}

/// A value as it may stand in a tag: cut to what Datadog takes with its key, without colons at the end.
#[inline]
pub fn clean<'v>(value: &'v [u8], key: &str) -> &'v [u8] {
    let characters_max = TAG_CHARACTERS_MAX - key.len() - 1;
    let mut value = if value.len() <= characters_max { value } else { cut(value, characters_max) };
    while let Some(shorter) = value.strip_suffix(b":") {
        value = shorter;
    }
    value
}

/// The first `characters_max` characters of a UTF-8 text.
fn cut(value: &[u8], characters_max: usize) -> &[u8] {
    let starts = value.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80);
    match starts.map(|(at, _)| at).nth(characters_max) {
        Some(end) => &value[..end],
        None => value,
    }
}

fn start(key: &mut Vec<u8>, connection: ConnectionId, kind: u8) {
    key.extend_from_slice(&connection.0.to_le_bytes());
    key.push(kind);
}

#[inline]
fn write_part(key: &mut Vec<u8>, value: &[u8]) {
    // A clean value has at most 200 characters of four bytes.
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&length.to_le_bytes());
    // Most are: a copy of nothing costs as much as one of an id.
    if length > 0 {
        key.extend_from_slice(&value[..usize::from(length)]);
    }
}

/// The values of a key, in order.
struct Parts<'k>(&'k [u8]);

impl<'k> Iterator for Parts<'k> {
    type Item = &'k [u8];

    fn next(&mut self) -> Option<&'k [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        self.0 = rest;
        Some(value)
    }
}

fn push_tag<'a>(tags: &mut Vec<TagText<'a>>, tag: Tag, value: &'a [u8]) {
    if !value.is_empty() {
        tags.push(TagText { key: tag_key(tag), value });
    }
}

const fn tag_key(tag: Tag) -> &'static [u8] {
    match tag {
        Tag::Field(Field::AppGroupId) => b"app_group_id:",
        Tag::Field(Field::AppGroupName) => b"app_group_name:",
        Tag::Field(Field::CampaignId) => b"campaign_id:",
        Tag::Field(Field::CampaignName) => b"campaign_name:",
        Tag::Field(Field::CanvasId) => b"canvas_id:",
        Tag::Field(Field::CanvasName) => b"canvas_name:",
        Tag::Field(Field::CanvasStepId) => b"canvas_step_id:",
        Tag::Field(Field::CanvasStepName) => b"canvas_step_name:",
        Tag::Channel => b"channel:",
    }
}

fn whole(tag: TagText<'_>) -> impl Iterator<Item = &u8> {
    tag.key.iter().chain(tag.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event<'e>(fields: &[(Field, &'e str)]) -> SendEvent<'e> {
        let mut event =
            SendEvent { event_type: 0, id: b"id", time: None, fields: [b""; braze_events::FIELDS] };
        for (field, value) in fields {
            event.fields[*field as usize] = value.as_bytes();
        }
        event
    }

    fn layout(include: &[Tag], static_tags: &[&str], names: Names) -> Layout {
        let static_tags = static_tags.iter().map(|tag| (*tag).into()).collect();
        Layout::new(&TagSettings { include: include.to_vec(), static_tags, names })
    }

    fn tags_of(layout: &Layout, event: &SendEvent<'_>) -> (Vec<u8>, Vec<String>) {
        let mut key = Vec::new();
        let attributes = layout.write_key(&mut key, ConnectionId(3), event, "email");
        let mut tags = Vec::new();
        layout.tags(&mut tags, &key, &attributes);
        let tags =
            tags.iter().map(|tag| String::from_utf8(whole(*tag).copied().collect()).unwrap()).collect();
        (key, tags)
    }

    #[test]
    fn tags_are_sorted_and_equal_only_once() {
        let layout =
            layout(&Tag::ALL, &["zone:a", "env:prod", "env:prod", "campaign_id:c1", "beta"], Names::Latest);
        let event =
            event(&[(Field::CampaignId, "c1"), (Field::CampaignName, "News"), (Field::AppGroupId, "g")]);
        let (key, tags) = tags_of(&layout, &event);
        assert_eq!(
            tags,
            [
                "app_group_id:g",
                "beta",
                "campaign_id:c1",
                "campaign_name:News",
                "channel:email",
                "env:prod",
                "zone:a"
            ]
        );
        assert_eq!(connection_of(&key), ConnectionId(3));
        assert_eq!(id_of(&key, Dimension::Campaign), b"c1");
    }

    #[test]
    fn ids_are_the_identity_and_names_go_with_them() {
        let layout = layout(&Tag::ALL, &[], Names::Latest);
        let old = tags_of(&layout, &event(&[(Field::CampaignId, "c1"), (Field::CampaignName, "Old")])).0;
        let new = tags_of(&layout, &event(&[(Field::CampaignId, "c1"), (Field::CampaignName, "New")])).0;
        assert_eq!(old, new);
        let nameless = tags_of(&layout, &event(&[(Field::CampaignName, "Old")])).0;
        let other = tags_of(&layout, &event(&[(Field::CampaignName, "New")])).0;
        assert_ne!(nameless, other, "without an id the name is all there is");
    }

    #[test]
    fn as_sent_makes_a_name_part_of_the_identity() {
        let layout = layout(&Tag::ALL, &[], Names::AsSent);
        let (old, tags) =
            tags_of(&layout, &event(&[(Field::CampaignId, "c1"), (Field::CampaignName, "Old")]));
        let (new, _) = tags_of(&layout, &event(&[(Field::CampaignId, "c1"), (Field::CampaignName, "New")]));
        assert_ne!(old, new);
        assert_eq!(tags, ["campaign_id:c1", "campaign_name:Old", "channel:email"]);
    }

    #[test]
    fn a_field_that_is_not_included_does_not_tell_series_apart() {
        let layout = layout(&[Tag::Field(Field::CampaignName)], &[], Names::Latest);
        let (one, tags) =
            tags_of(&layout, &event(&[(Field::CampaignId, "c1"), (Field::CampaignName, "News")]));
        let (two, _) = tags_of(&layout, &event(&[(Field::CampaignId, "c2"), (Field::CampaignName, "News")]));
        assert_eq!(one, two);
        assert_eq!(tags, ["campaign_name:News"]);
    }

    #[test]
    fn the_overflow_series_has_the_app_groups_tags_and_its_mark() {
        let layout = layout(&Tag::ALL, &["env:prod"], Names::Latest);
        let event =
            event(&[(Field::CampaignId, "c1"), (Field::AppGroupId, "g"), (Field::AppGroupName, "Group")]);
        let (mut ordinary, mut key, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        let mut attributes = layout.write_key(&mut ordinary, ConnectionId(1), &event, "email");
        Layout::overflow_of(&mut key, &ordinary, true);
        for (dimension, name) in Dimension::ALL.into_iter().zip(&mut attributes.names) {
            if !takes_name(&key, dimension) {
                *name = b"";
            }
        }
        layout.tags(&mut tags, &key, &attributes);
        let tags: Vec<String> =
            tags.iter().map(|tag| String::from_utf8(whole(*tag).copied().collect()).unwrap()).collect();
        assert_eq!(tags, ["app_group_id:g", "app_group_name:Group", "env:prod", "overflow:true"]);
        let mut tags = Vec::new();
        Layout::overflow_of(&mut key, &ordinary, false);
        layout.tags(&mut tags, &key, &Attributes::default());
        assert_eq!(tags.iter().map(TagText::to_string).collect::<Vec<_>>(), ["env:prod", "overflow:true"]);
    }

    #[test]
    fn a_value_is_cut_at_two_hundred_characters_with_its_key() {
        let long = "é".repeat(300);
        let cut = clean(long.as_bytes(), "campaign_name");
        assert_eq!(std::str::from_utf8(cut).unwrap().chars().count() + "campaign_name:".len(), 200);
        let colons = format!("{}{}", "x".repeat(10), ":".repeat(300));
        assert_eq!(clean(colons.as_bytes(), "campaign_name"), b"xxxxxxxxxx");
        assert_eq!(clean(b":::", "campaign_name"), b"");
    }

    proptest! {
        /// A tag never has more than 200 characters, never ends in a colon, and is the beginning of what
        /// Braze wrote.
        #[test]
        fn a_clean_tag_is_one_that_datadog_takes(value in "\\PC{0,260}") {
            let cleaned = std::str::from_utf8(clean(value.as_bytes(), "canvas_step_name")).unwrap();
            prop_assert!(cleaned.chars().count() + "canvas_step_name:".len() <= 200);
            prop_assert!(!cleaned.ends_with(':'));
            prop_assert!(value.starts_with(cleaned));
        }
    }
}
