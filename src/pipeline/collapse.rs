//! Finds names that become one tag value in Datadog.
//!
//! Datadog makes `weekly_newsletter` of `Weekly newsletter` and of `weekly_newsletter!`: a query by that value adds up two
//! campaigns. It can't be seen there, so it is reported here. Two campaigns with the very same name are added up as well;
//! that is reported apart and after the others, because it is often intended (each Canvas has its "Email 1"). The id
//! identifies a campaign: under several app groups, or with one and without, it is one.
//!
//! Only hashes are kept, about 60 bytes a name: [`KnownNames`] has the texts, bounds their number, and is asked when there
//! is something to show.

mod names;

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hash as _, Hasher};

use foldhash::fast::RandomState;
use foldhash::quality;

use self::names::{LOOKED_AT_MAX, TagNames};
use datadog_points::normalize;
use event_lanes::stats::{Collapsing, CollapsingTag};
use send_counts::aggregate::names::{Change, KnownNames, NameOf};
use send_counts::aggregate::tags::{self, Dimension};
use send_counts::route::ConnectionId;

/// How many tags are shown of a connection, the gravest first.
const TAGS_MAX: usize = 20;

/// How many names and ids are shown of a tag.
const NAMES_MAX: usize = 10;
const IDS_MAX: usize = 20;

/// The names by stored tag. Hashes identify them: two of a million names share one with a probability of 10⁻⁷, and the names
/// that are shown are compared by their texts.
#[derive(Debug, Default)]
pub struct Collapse {
    hasher: quality::RandomState,
    /// By stored tag.
    tags: HashMap<u64, TagNames, RandomState>,
    connections: BTreeMap<ConnectionId, Findings>,
    is_changed: bool,
    /// A buffer for a stored tag.
    stored: String,
}

/// A name of one kind (campaign, step, …) of a connection, and its stored tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TagAndName {
    tag: u64,
    name: u64,
}

/// The findings for a connection.
#[derive(Debug, Default)]
struct Findings {
    /// Tags of several names with different ids.
    collapsing: BTreeSet<u64>,
    /// Names of several ids.
    shared: BTreeSet<TagAndName>,
}

impl Collapse {
    /// Follows the names that were learned and forgotten since the last time. Returns the findings by connection, if they
    /// have changed; a connection without any is not in them.
    pub fn follow(&mut self, known: &mut KnownNames) -> Option<BTreeMap<ConnectionId, Collapsing>> {
        if let Some(changes) = known.take_changes() {
            for change in changes.iter() {
                match change {
                    Change::Learnt(of) => self.learn(of),
                    Change::Forgotten(of) => self.forget(of),
                }
            }
        } else {
            *self = Self {
                hasher: self.hasher.clone(),
                is_changed: !self.connections.is_empty(),
                ..Self::default()
            };
            self.tags.reserve(known.len());
            known.iter().for_each(|name| self.learn(name));
        }
        std::mem::take(&mut self.is_changed).then(|| self.summary(known))
    }

    fn learn(&mut self, of: NameOf<'_>) {
        let (hashes, id) = (self.hashes(of), self.id(of));
        match self.tags.entry(hashes.tag) {
            // The usual case: one name of one id is no finding.
            Entry::Vacant(tag) => drop(tag.insert(TagNames::one(hashes.name, id))),
            Entry::Occupied(mut tag) => {
                tag.get_mut().learn(hashes.name, id);
                self.review(of.connection, hashes);
            }
        }
    }

    fn forget(&mut self, of: NameOf<'_>) {
        let (hashes, id) = (self.hashes(of), self.id(of));
        let Some(names) = self.tags.get_mut(&hashes.tag) else { return };
        if names.forget(hashes.name, id) {
            self.tags.remove(&hashes.tag);
        }
        self.review(of.connection, hashes);
    }

    /// Examines a tag and a name again after a change.
    fn review(&mut self, connection: ConnectionId, hashes: TagAndName) {
        let names = self.tags.get(&hashes.tag);
        let is_collapsing = names.is_some_and(TagNames::are_of_several_ids);
        let is_shared = names.and_then(|names| names.ids_of(hashes.name)).is_some_and(|ids| ids.len() > 1);
        let known = self.connections.get(&connection);
        let was_told = known
            .is_some_and(|known| known.collapsing.contains(&hashes.tag) || known.shared.contains(&hashes));
        if !(is_collapsing || is_shared || was_told) {
            return;
        }
        let found = self.connections.entry(connection).or_default();
        put(&mut found.collapsing, hashes.tag, is_collapsing);
        put(&mut found.shared, hashes, is_shared);
        self.is_changed = true;
    }

    fn summary(&self, known: &KnownNames) -> BTreeMap<ConnectionId, Collapsing> {
        let mut told = BTreeMap::new();
        let mut drafts = Vec::new();
        let mut wanted: HashMap<u64, usize, RandomState> = HashMap::default();
        for (connection, found) in &self.connections {
            let total = found.collapsing.len() as u64;
            let (all, shared_total) = self.gravest_first(*connection, found);
            told.insert(*connection, Collapsing { tags_total: total, shared_total, tags: Vec::new() });
            for (draft, names) in all {
                wanted.extend(names.into_iter().map(|name| (name, drafts.len())));
                drafts.push(draft);
            }
        }
        if !wanted.is_empty() {
            for of in known.iter() {
                if let Some(draft) = wanted.get(&self.hash(of, of.name)) {
                    drafts[*draft].add(of);
                }
            }
        }
        for draft in drafts {
            let connection = draft.connection;
            if let (Some(tag), Some(told)) = (draft.finish(), told.get_mut(&connection)) {
                told.tags.push(tag);
            }
        }
        for told in told.values_mut() {
            let gravity = |tag: &CollapsingTag| (tag.is_same_name(), Reverse(tag.ids_total));
            told.tags.sort_by(|a, b| (gravity(a), &a.tag).cmp(&(gravity(b), &b.tag)));
        }
        told
    }

    /// The findings of a connection with their names, the gravest first, and how many names of several ids are not among
    /// those of a tag with different names.
    fn gravest_first(&self, connection: ConnectionId, found: &Findings) -> (Vec<(Draft, Vec<u64>)>, u64) {
        let collapsing = found.collapsing.iter().filter_map(|tag| {
            let names = self.tags.get(tag)?;
            let shown = names.iter().take(LOOKED_AT_MAX).map(|(name, _)| name).collect();
            Some((Draft::new(connection, names.len(), names.ids_total()), shown))
        });
        let mut all: Vec<(Draft, Vec<u64>)> = collapsing.collect();
        let different = all.len();
        let is_told = |hashes: &TagAndName| found.collapsing.contains(&hashes.tag);
        all.extend(found.shared.iter().filter(|hashes| !is_told(hashes)).filter_map(|hashes| {
            let ids = self.tags.get(&hashes.tag)?.ids_of(hashes.name)?;
            Some((Draft::new(connection, 1, ids.len() as u64), vec![hashes.name]))
        }));
        let shared_total = (all.len() - different) as u64;
        all.sort_by_key(|(draft, _)| (draft.names_total == 1, Reverse(draft.ids_total)));
        all.truncate(TAGS_MAX);
        (all, shared_total)
    }

    /// The hashes of a name and of its stored tag.
    fn hashes(&mut self, of: NameOf<'_>) -> TagAndName {
        let mut text = std::mem::take(&mut self.stored);
        store(&mut text, of);
        let hashes = TagAndName { tag: self.hash(of, text.as_bytes()), name: self.hash(of, of.name) };
        self.stored = text;
        hashes
    }

    /// The hash of an id; without one, of the name itself.
    fn id(&self, of: NameOf<'_>) -> u64 {
        self.hash(of, if of.id.is_empty() { of.name } else { of.id })
    }

    fn hash(&self, of: NameOf<'_>, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(of.connection.0);
        of.dimension.hash(&mut hasher);
        hasher.write(text);
        hasher.finish()
    }
}

/// The report on a tag, while its texts are gathered.
struct Draft {
    connection: ConnectionId,
    dimension: Dimension,
    tag: String,
    names: BTreeSet<String>,
    names_total: usize,
    ids: BTreeSet<String>,
    ids_total: u64,
}

impl Draft {
    fn new(connection: ConnectionId, names_total: usize, ids_total: u64) -> Self {
        let (tag, names, ids) = (String::new(), BTreeSet::new(), BTreeSet::new());
        Self { connection, dimension: Dimension::AppGroup, tag, names, names_total, ids, ids_total }
    }

    fn add(&mut self, of: NameOf<'_>) {
        let tag = stored(of);
        if self.names.is_empty() {
            self.tag = tag;
            self.dimension = of.dimension;
        } else if self.tag != tag {
            // Two texts share a hash.
            return;
        }
        if self.names.len() < NAMES_MAX {
            self.names.insert(tags::lossy(of.name).into_owned());
        }
        if self.ids.len() < IDS_MAX && !of.id.is_empty() {
            self.ids.insert(String::from_utf8_lossy(of.id).into_owned());
        }
    }

    fn finish(self) -> Option<CollapsingTag> {
        let is_one_text_less = self.names_total > 1 && self.names.len() < 2;
        (!self.names.is_empty() && !is_one_text_less).then(|| CollapsingTag {
            tag: self.tag,
            names: self.names.into_iter().collect(),
            names_total: self.names_total as u64,
            ids: self.ids.into_iter().collect(),
            ids_total: self.ids_total,
            group_by: self.dimension.id_field().name(),
        })
    }
}

/// The stored tag of a name.
fn stored(of: NameOf<'_>) -> String {
    let mut tag = String::new();
    store(&mut tag, of);
    tag
}

/// The same, into `tag`.
fn store(tag: &mut String, of: NameOf<'_>) {
    normalize::store(tag, &[of.dimension.name_field().name(), ":", &tags::lossy(of.name)]);
}

fn put<T: Ord>(set: &mut BTreeSet<T>, element: T, belongs: bool) {
    if belongs {
        set.insert(element);
    } else {
        set.remove(&element);
    }
}

#[cfg(test)]
mod tests;
