//! Adds up what the lanes counted.

use super::tags::{self, Dimension};
use super::{Aggregator, Entry, GROUP, add};

impl Aggregator {
    /// Adds what another lane counted. The bounds on the number of series hold for the sum.
    pub fn merge(&mut self, other: &Aggregator) {
        self.room.join(&other.room);
        for group in other.entries.chunks(GROUP) {
            self.prefetch_all(group.iter().map(|theirs| theirs.hash));
            for theirs in group {
                self.merge_one(other, theirs);
            }
        }
    }

    fn merge_one(&mut self, other: &Aggregator, theirs: &Entry) {
        let entry = self.add(other.bytes(theirs.key), theirs.hash, theirs.point);
        for point in theirs.more.iter().flat_map(|more| more.iter()) {
            add(&mut self.entries[entry], *point);
        }
        for (dimension, name) in Dimension::ALL.into_iter().zip(&theirs.names) {
            // A series that went into an overflow series leaves its names behind but the app group's.
            let has_place = tags::takes_name(self.bytes(self.entries[entry].key), dimension);
            if name.span.length > 0 && has_place {
                self.set_name(entry, dimension, other.bytes(name.span), name.seen);
            }
        }
    }
}
