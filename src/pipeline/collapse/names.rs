//! The names of one stored tag, and their ids. Hashes, because there may be a million.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// With more names than this for one tag it is not checked whether all belong to one id.
pub(super) const LOOKED_AT_MAX: usize = 16;

/// The names of one stored tag; nearly always one, which is all that most tags cost.
#[derive(Debug)]
pub(super) enum TagNames {
    One(u64, Ids),
    #[expect(clippy::box_collection, reason = "nearly always one name; a map is larger")]
    More(Box<HashMap<u64, Ids, RandomState>>),
}

/// The ids of a name: their hashes, each with how often it is known (once an app group); nearly always one.
#[derive(Debug)]
pub(super) enum Ids {
    One(u64, u32),
    #[expect(clippy::box_collection, reason = "nearly always one id; a map is larger")]
    More(Box<HashMap<u64, u32, RandomState>>),
}

impl TagNames {
    /// One name of one id.
    pub(super) fn one(name: u64, id: u64) -> Self {
        TagNames::One(name, Ids::One(id, 1))
    }

    /// Notes that an id has the name from now on.
    pub(super) fn learn(&mut self, name: u64, id: u64) {
        match self {
            TagNames::One(one, ids) if *one == name => ids.learn(id),
            TagNames::One(one, ids) => {
                let known = std::mem::replace(ids, Ids::One(id, 0));
                let both = [(*one, known), (name, Ids::One(id, 1))];
                *self = TagNames::More(Box::new(both.into_iter().collect()));
            }
            TagNames::More(names) => match names.entry(name) {
                Entry::Occupied(mut ids) => ids.get_mut().learn(id),
                Entry::Vacant(ids) => drop(ids.insert(Ids::One(id, 1))),
            },
        }
    }

    /// Notes that an id has the name no more; returns whether no name is left.
    pub(super) fn forget(&mut self, name: u64, id: u64) -> bool {
        match self {
            TagNames::One(one, ids) => *one == name && ids.forget(id),
            TagNames::More(names) => {
                if names.get_mut(&name).is_some_and(|ids| ids.forget(id)) {
                    names.remove(&name);
                }
                let last = if names.len() == 1 { names.drain().next() } else { None };
                if let Some((name, ids)) = last {
                    *self = TagNames::One(name, ids);
                }
                false
            }
        }
    }

    pub(super) fn ids_of(&self, name: u64) -> Option<&Ids> {
        match self {
            TagNames::One(one, ids) => (*one == name).then_some(ids),
            TagNames::More(names) => names.get(&name),
        }
    }

    /// Whether there are several names, not all of one id, as those of a renamed campaign are.
    pub(super) fn are_of_several_ids(&self) -> bool {
        let TagNames::More(names) = self else { return false };
        if names.len() > LOOKED_AT_MAX {
            return true;
        }
        let mut ids = names.values().flat_map(Ids::iter);
        let first = ids.next();
        ids.any(|id| first != Some(id))
    }

    /// How many ids have one of the names.
    pub(super) fn ids_total(&self) -> u64 {
        let ids: HashSet<u64, RandomState> = self.iter().flat_map(|(_, ids)| ids.iter()).collect();
        ids.len() as u64
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Ids)> {
        let (one, more) = match self {
            TagNames::One(one, ids) => (Some((*one, ids)), None),
            TagNames::More(names) => (None, Some(names.iter().map(|(name, ids)| (*name, ids)))),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            TagNames::One(..) => 1,
            TagNames::More(names) => names.len(),
        }
    }
}

impl Ids {
    pub(super) fn learn(&mut self, id: u64) {
        match self {
            Ids::One(one, known) if *one == id => *known += 1,
            Ids::One(one, known) => {
                *self = Ids::More(Box::new([(*one, *known), (id, 1)].into_iter().collect()));
            }
            Ids::More(ids) => *ids.entry(id).or_default() += 1,
        }
    }

    /// Returns whether it was the last.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        match self {
            Ids::One(one, known) => {
                *known -= u32::from(*one == id && *known > 0);
                *known == 0
            }
            Ids::More(ids) => {
                if let Entry::Occupied(mut known) = ids.entry(id) {
                    *known.get_mut() -= 1;
                    if *known.get() == 0 {
                        known.remove();
                    }
                }
                if ids.len() == 1
                    && let Some((last, known)) = ids.iter().next()
                {
                    *self = Ids::One(*last, *known);
                }
                false
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Ids::One(..) => 1,
            Ids::More(ids) => ids.len(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let (one, more) = match self {
            Ids::One(one, _) => (Some(*one), None),
            Ids::More(ids) => (None, Some(ids.keys().copied())),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }
}
