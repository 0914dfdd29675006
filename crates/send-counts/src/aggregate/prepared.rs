//! Counts sends by the group: first the series of each is worked out, then what they will be counted in is
//! looked at, all at once, and then those that are to be counted are counted.
//!
//! With many series each send waits for memory several times over (index, entry, key); in a group these waits
//! overlap. It is also what lets a lane ask for a group of ids at once whether they are new.

use std::hint::black_box;

use super::tags::{self, DIMENSIONS, Dimension};
use super::{Aggregator, Point, Span, saturate, store};
use crate::route::ConnectionId;
use braze_events::SendEvent;

/// Bytes that a processor fetches at once.
const CACHE_LINE: usize = 64;

/// What the key of a series and its names, which mostly lie behind it, take: three ids and names of Braze's.
const LINES_OF_A_SERIES: usize = 3;

/// Sends whose series are worked out and which are not counted yet.
#[derive(Debug, Default)]
pub struct PreparedSends {
    sends: Vec<PreparedSend>,
    /// Their keys and names.
    arena: Vec<u8>,
}

#[derive(Debug)]
struct PreparedSend {
    hash: u64,
    key: Span,
    /// By dimension; empty where there is none, or where the name is part of the key.
    names: [Span; DIMENSIONS],
    bucket: u32,
    seen: u32,
}

impl PreparedSends {
    /// Forgets them all.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.arena.clear();
    }

    fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.arena)
    }
}

impl Aggregator {
    /// Works out the series of a send and appends it to `prepared`; its number there is how many were before it. `bucket` and
    /// `seen` are as for [`Aggregator::record`].
    #[inline]
    pub fn prepare(
        &self,
        prepared: &mut PreparedSends,
        connection: ConnectionId,
        event: &SendEvent<'_>,
        channel: &str,
        bucket: u64,
        seen: u64,
    ) {
        let start = prepared.arena.len();
        let attributes = self.layout.write_key(&mut prepared.arena, connection, event, channel);
        let hash = self.hash(&prepared.arena[start..]);
        let key = Span::since(start, &prepared.arena);
        let names = attributes.names.map(|name| store(&mut prepared.arena, name));
        prepared.sends.push(PreparedSend {
            hash,
            key,
            names,
            bucket: saturate(bucket),
            seen: saturate(seen),
        });
    }

    /// Brings what the sends will be counted in into the cache. Changes nothing.
    pub fn prefetch(&self, prepared: &PreparedSends) {
        self.prefetch_all(prepared.sends.iter().map(|send| send.hash));
    }

    /// The same for series by the hashes of their keys.
    pub(super) fn prefetch_all(&self, hashes: impl Iterator<Item = u64>) {
        let mut prefetched = 0;
        for hash in hashes {
            // Nearly always the entry: it shares the 7 bits of the hash that the index compares.
            if let Some(number) = self.index.find(hash, |_| true) {
                let entry = &self.entries[*number as usize];
                prefetched ^= entry.names[DIMENSIONS - 1].span.length;
                for start in (entry.key.start as usize..).step_by(CACHE_LINE).take(LINES_OF_A_SERIES) {
                    prefetched ^= self.arena.get(start).copied().map_or(0, u16::from);
                }
            }
        }
        black_box(prefetched);
    }

    /// Counts one of the sends.
    #[inline]
    pub fn count(&mut self, prepared: &PreparedSends, number: usize) {
        let send = &prepared.sends[number];
        let point = Point { bucket: send.bucket, sends: 1 };
        let entry = self.add(prepared.bytes(send.key), send.hash, point);
        for (dimension, name) in Dimension::ALL.into_iter().zip(send.names) {
            // An overflow series takes the name of its app group only.
            if name.length > 0 && tags::takes_name(self.bytes(self.entries[entry].key), dimension) {
                self.set_name(entry, dimension, prepared.bytes(name), send.seen);
            }
        }
    }
}
