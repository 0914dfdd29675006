//! Objects that were found and are not settled yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::layout::PathHour;
use super::memory::ObjectRecord;

/// One object of one source, by the number of the source.
pub(super) type ObjectKey = (usize, String);

/// Objects in progress, shared by poller, reader and queue.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<ObjectKey, Way>>);

#[derive(Debug, Clone)]
struct Way {
    hour: Option<PathHour>,
    bytes: u64,
    modified: i64,
    /// Reading was interrupted for a temporary reason, then, behind this part that was handed out.
    interrupted: Option<(Instant, HandedOut)>,
}

/// How far this run has handed an object out, if at all: the record of that part, of whichever version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HandedOut(pub(super) Option<ObjectRecord>);

/// The sums over all objects in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PendingTotals {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// When the oldest of them was written, in Unix seconds.
    pub(super) oldest: Option<i64>,
}

impl Pending {
    /// Adds an object. Returns whether to hand it to the reader, and how far this run has handed it out; `None` while any
    /// version of it is in progress: that one settles first.
    pub(super) fn find(
        &self,
        key: &ObjectKey,
        hour: Option<PathHour>,
        bytes: u64,
        modified: i64,
    ) -> Option<HandedOut> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(way) = pending.get_mut(key) else {
            let way = Way { hour, bytes, modified, interrupted: None };
            pending.insert(key.clone(), way);
            return Some(HandedOut::default());
        };
        let (_, handed) = way.interrupted.take()?;
        *way = Way { hour, bytes, modified, interrupted: None };
        Some(handed)
    }

    /// Notes that it could not be read on for now.
    pub(super) fn interrupt(&self, key: &ObjectKey, handed: Option<ObjectRecord>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = pending.get_mut(key) {
            way.interrupted = Some((Instant::now(), HandedOut(handed)));
        }
    }

    /// Removes the objects of a source whose reading was interrupted before this moment, from which on all were found that
    /// are there: these are gone.
    pub(super) fn end_unfound(&self, source: usize, since: Instant) -> Vec<ObjectKey> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |(of, _): &ObjectKey, way: &mut Way| {
            *of == source && way.interrupted.as_ref().is_some_and(|(at, _)| *at < since)
        };
        pending.extract_if(is_gone).map(|(key, _)| key).collect()
    }

    /// Removes an object that is settled to its end, or is gone. Returns when it was written.
    pub(super) fn end(&self, key: &ObjectKey) -> Option<i64> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(key).map(|way| way.modified)
    }

    /// The oldest hour of a source with an object in progress.
    pub(super) fn oldest_hour(&self, source: usize) -> Option<PathHour> {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.iter().filter(|((of, _), _)| *of == source).filter_map(|(_, way)| way.hour).min()
    }

    pub(super) fn totals(&self) -> PendingTotals {
        let pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        PendingTotals {
            objects: pending.len() as u64,
            bytes: pending.values().map(|way| way.bytes).sum(),
            oldest: pending.values().map(|way| way.modified).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{FileLayout, ReadPlace};
    use crate::storage::client::memory::ObjectStanding;

    #[test]
    fn an_object_is_handed_over_once_and_again_from_where_it_was_interrupted() {
        let pending = Pending::default();
        let key = (0, "a".to_owned());
        let find = |bytes| pending.find(&key, Some(PathHour(7)), bytes, 5);
        assert_eq!(find(9), Some(HandedOut(None)));
        assert_eq!(find(9), None);
        assert_eq!(find(10), None, "the version before settles first");
        let place = ReadPlace { layout: FileLayout::Lines, position: 3, container: 0 };
        let (version, standing) = ("1".to_owned(), ObjectStanding::Begun);
        let record = ObjectRecord { version, standing, place: Some(place), print: None };
        pending.interrupt(&key, Some(record.clone()));
        assert_eq!(find(10), Some(HandedOut(Some(record))), "whichever version it is now");
        assert_eq!(find(10), None);
        assert_eq!(pending.oldest_hour(0), Some(PathHour(7)));
        assert_eq!(pending.oldest_hour(1), None);
        assert_eq!(pending.totals(), PendingTotals { objects: 1, bytes: 10, oldest: Some(5) });
        assert_eq!(pending.end(&key), Some(5));
        assert_eq!(pending.totals(), PendingTotals::default());

        assert_eq!(find(10), Some(HandedOut(None)));
        assert_eq!(pending.end_unfound(0, Instant::now()), [], "it is being read");
        let before = Instant::now();
        pending.interrupt(&key, None);
        assert_eq!(pending.end_unfound(0, before), [], "it was there then");
        assert_eq!(pending.end_unfound(1, Instant::now()), []);
        assert_eq!(pending.end_unfound(0, Instant::now()), [(0, "a".to_owned())]);
        assert_eq!(pending.totals(), PendingTotals::default());
    }
}
