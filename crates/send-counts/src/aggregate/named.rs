//! Where the names of series lie: in the arena, each in room of its own.

use super::tags::{self, Dimension};
use super::{Aggregator, Name, store};

impl Aggregator {
    /// Keeps `name` if it is newer than the one known.
    #[inline]
    pub(super) fn set_name(&mut self, entry: usize, dimension: Dimension, name: &[u8], seen: u32) {
        let known = &mut self.entries[entry].names[dimension as usize];
        if seen < known.seen && known.span.length > 0 {
            return;
        }
        if *known.span.of(&self.arena) == *name {
            known.seen = seen;
        } else if name.len() <= usize::from(known.room) {
            known.seen = seen;
            // In its old place: names that come and go must not make the arena grow.
            known.span = known.span.overwrite(&mut self.arena, name);
        } else {
            self.move_name(entry, dimension, name, seen);
        }
    }

    /// Gives a name a new place, or leaves the old one where the connection's names have all the room they may.
    fn move_name(&mut self, entry: usize, dimension: Dimension, name: &[u8], seen: u32) {
        let key = self.bytes(self.entries[entry].key);
        let (connection, overflow) = (tags::connection_of(key), tags::is_overflow(key));
        // Overflow series are few.
        if !overflow && !self.room.has_bytes(connection, self.arena.len()) {
            return;
        }
        let known = self.entries[entry].names[dimension as usize];
        // Twice the room each time, or a name that becomes longer letter by letter would fill the arena.
        let room = if known.room == 0 { name.len() } else { name.len().next_power_of_two() };
        let span = store(&mut self.arena, name);
        self.arena.resize(span.start as usize + room, 0);
        self.room.take_name(connection, room);
        let room = u16::try_from(room).unwrap_or(span.length);
        self.entries[entry].names[dimension as usize] = Name { span, room, seen };
    }
}
