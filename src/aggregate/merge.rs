//! Adds up what the lanes counted.

use super::tags::{self, Layout};
use super::{Aggregator, Entry, add};

impl Aggregator {
    /// Adds what another lane counted. The bound on the number of series holds for the sum.
    pub fn merge(&mut self, other: &Aggregator) {
        for theirs in &other.entries {
            let entry = self.find_or_insert_like(other, theirs);
            for point in theirs.more.iter().flat_map(|more| more.iter()) {
                add(&mut self.entries[entry], *point);
            }
            for (dimension, name) in theirs.names.iter().enumerate() {
                // A series that went into an overflow series leaves its names behind but the app group's.
                let has_place = tags::takes_name(self.bytes(self.entries[entry].key), dimension);
                if name.span.length > 0 && has_place {
                    self.set_name(entry, dimension, other.bytes(name.span), name.seen);
                }
            }
        }
    }

    /// The entry with the key of `theirs`, or the overflow entry that takes it, with their first point added.
    fn find_or_insert_like(&mut self, other: &Aggregator, theirs: &Entry) -> usize {
        let key = other.bytes(theirs.key);
        self.key.clear();
        self.key.extend_from_slice(key);
        let connection = tags::connection_of(key);
        let overflow = tags::is_overflow(key);
        let mut hash = theirs.hash;
        let mut found = self.find(hash);
        for with_app_group in [true, false] {
            if found.is_some() || self.has_room(connection, tags::is_overflow(&self.key)) {
                break;
            }
            if !(overflow && with_app_group) {
                Layout::overflow_of(&mut self.key, key, with_app_group);
                hash = self.hash_key();
                found = self.find(hash);
            }
        }
        match found {
            Some(entry) => {
                add(&mut self.entries[entry], theirs.point);
                entry
            }
            None => self.insert(hash, theirs.point),
        }
    }
}
