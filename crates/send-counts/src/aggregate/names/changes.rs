//! What has come to be known of names and was forgotten, for whoever follows.

use super::{NAME_BYTES_MEAN_MAX, NameOf, name_of};
use crate::aggregate::{Span, store};

/// A change of what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'c> {
    /// An id has this name now.
    Learnt(NameOf<'c>),
    /// It has it no more, or is forgotten.
    Forgotten(NameOf<'c>),
}

/// Changes in the order in which they came; owners and names lie one behind the other in `arena`.
#[derive(Debug, Default)]
pub struct Changes {
    list: Vec<Entry>,
    arena: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    is_learnt: bool,
    owner: Span,
    name: Span,
}

impl Changes {
    /// In the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = Change<'_>> {
        self.list.iter().map(|entry| {
            let of = name_of(entry.owner.of(&self.arena), entry.name.of(&self.arena));
            if entry.is_learnt { Change::Learnt(of) } else { Change::Forgotten(of) }
        })
    }
}

/// Changes that nobody has taken yet.
#[derive(Debug)]
pub(super) struct ChangeLog {
    /// `None`: they were too many, or all names mean something else.
    changes: Option<Changes>,
    /// A log with more entries than there can be names costs more to follow than starting over.
    changes_max: usize,
}

impl ChangeLog {
    pub(super) fn new(changes_max: usize) -> Self {
        Self { changes: Some(Changes::default()), changes_max }
    }

    /// An owner has this name from now on.
    pub(super) fn learn(&mut self, owner: &[u8], name: &[u8]) {
        self.note(true, owner, name);
    }

    /// An owner has this name no more.
    pub(super) fn forget(&mut self, owner: &[u8], name: &[u8]) {
        self.note(false, owner, name);
    }

    /// All names are to be looked at anew.
    pub(super) fn give_up(&mut self) {
        self.changes = None;
    }

    pub(super) fn take(&mut self) -> Option<Changes> {
        self.changes.replace(Changes::default())
    }

    fn note(&mut self, is_learnt: bool, owner: &[u8], name: &[u8]) {
        let Some(Changes { list, arena }) = &mut self.changes else { return };
        if list.len() >= self.changes_max
            || arena.len() >= self.changes_max.saturating_mul(NAME_BYTES_MEAN_MAX)
        {
            return self.give_up();
        }
        let (owner, name) = (store(arena, owner), store(arena, name));
        list.push(Entry { is_learnt, owner, name });
    }
}
