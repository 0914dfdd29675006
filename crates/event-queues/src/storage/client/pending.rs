//! Objects that were found and are not settled yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::layout::PathHour;
use crate::content::ReadPlace;

/// One object of one source, by the number of the source.
pub(super) type ObjectKey = (usize, String);

/// Objects in progress, shared by poller, reader and queue.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<HashMap<ObjectKey, Way>>);

#[derive(Debug, Clone)]
struct Way {
    version: String,
    hour: Option<PathHour>,
    bytes: u64,
    modified: i64,
    /// Reading was interrupted for a temporary reason, behind this part that was handed out.
    interrupted: Option<HandedOut>,
}

/// How far this run has handed an object out, if at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HandedOut(pub(super) Option<ReadPlace>);

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
        version: &str,
        hour: Option<PathHour>,
        bytes: u64,
        modified: i64,
    ) -> Option<HandedOut> {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(way) = pending.get_mut(key) else {
            let way = Way { version: version.to_owned(), hour, bytes, modified, interrupted: None };
            pending.insert(key.clone(), way);
            return Some(HandedOut::default());
        };
        let handed = way.interrupted.take()?;
        if way.version == version {
            return Some(handed);
        }
        // Overwritten since: the part handed out of the old version is settled by itself.
        *way = Way { version: version.to_owned(), hour, bytes, modified, interrupted: None };
        Some(HandedOut::default())
    }

    /// Notes that it could not be read on for now.
    pub(super) fn interrupt(&self, key: &ObjectKey, handed: Option<ReadPlace>) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = pending.get_mut(key) {
            way.interrupted = Some(HandedOut(handed));
        }
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
    use crate::content::FileLayout;

    #[test]
    fn an_object_is_handed_over_once_and_again_from_where_it_was_interrupted() {
        let pending = Pending::default();
        let key = (0, "a".to_owned());
        let find = |version| pending.find(&key, version, Some(PathHour(7)), 10, 5);
        assert_eq!(find("1"), Some(HandedOut(None)));
        assert_eq!(find("1"), None);
        assert_eq!(find("2"), None, "the version before settles first");
        let place = ReadPlace { layout: FileLayout::Lines, position: 3, container: 0 };
        pending.interrupt(&key, Some(place));
        assert_eq!(find("1"), Some(HandedOut(Some(place))));
        assert_eq!(find("1"), None);
        pending.interrupt(&key, Some(place));
        assert_eq!(find("2"), Some(HandedOut(None)), "of another version nothing was read");
        assert_eq!(pending.oldest_hour(0), Some(PathHour(7)));
        assert_eq!(pending.oldest_hour(1), None);
        assert_eq!(pending.totals(), PendingTotals { objects: 1, bytes: 10, oldest: Some(5) });
        assert_eq!(pending.end(&key), Some(5));
        assert_eq!(pending.totals(), PendingTotals::default());
    }
}
