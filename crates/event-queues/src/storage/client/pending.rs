//! Objects that were found and are not settled yet.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bucket_state::ObjectRecord;
use super::layout::PathHour;

/// How many objects of a source that can't be read for now are kept, to be tried again.
pub(super) const TROUBLED_MAX: usize = 256;
/// How many more are tried at a time beyond them, for others may be readable; one that fails is not kept.
const PROBES_MAX: usize = 64;
/// The longest wait after failures, unless listings are rarer.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// An object has failed by itself if it failed so often after others of its source had been read.
const ALONE_MIN: u32 = 3;

/// The wait after so many failures in a row.
pub(super) fn backoff(interval: Duration, failures: u32) -> Duration {
    interval.saturating_mul(1 << failures.min(6)).min(BACKOFF_MAX.max(interval))
}

/// One object of one source, by the number of the source.
pub(super) type ObjectKey = (usize, String);

/// Objects in progress, shared by poller, reader and queue.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<ObjectTable>);

#[derive(Debug, Default)]
struct ObjectTable {
    objects: HashMap<ObjectKey, ObjectProgress>,
    /// The keys of troubled objects and of probes: few, while `objects` may hold a hundred thousand that wait for a flush.
    watched: HashSet<ObjectKey>,
    /// By source: when an object was last read to its end.
    read: HashMap<usize, Instant>,
    /// By source: the oldest hour of the probes that failed. They are not kept, and a listing finds them again.
    failed_probes: HashMap<usize, PathHour>,
}

#[derive(Debug)]
struct ObjectProgress {
    found: Found,
    /// How far this run has handed it out, as far as the reader has said.
    handed: HandedOut,
    /// Whether its end has been taken to be counted.
    is_taken: bool,
    /// Set while reading is interrupted for a temporary reason: when it is tried again.
    due: Option<Instant>,
    /// When it was last known to be there.
    seen: Instant,
    /// The failures in a row, the last one, and how many came after others of the source had been read.
    failures: u32,
    failed: Instant,
    failures_alone: u32,
    /// It is tried although so many others can't be read.
    is_probe: bool,
}

/// What a listing tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: String,
    pub(super) hour: Option<PathHour>,
    pub(super) bytes: u64,
    pub(super) modified: i64,
}

/// How far this run has handed an object out, if at all: the record of that part, of whichever version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HandedOut(pub(super) Option<ObjectRecord>);

/// What is to be done with an object that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It is handed to the reader.
    Read(HandedOut),
    /// It is on its way, or not yet to be tried again.
    Wait,
    /// An earlier version is on its way, and settles first.
    WaitForEarlier,
    /// Too many others can't be read.
    Full,
}

/// The sums over all objects in progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PendingTotals {
    pub(super) objects: u64,
    /// Those of which not all has been taken to be counted.
    pub(super) unread: u64,
    pub(super) bytes: u64,
    /// When the oldest of them was written, in Unix seconds.
    pub(super) oldest: Option<i64>,
}

impl ObjectProgress {
    fn new(found: Found, now: Instant) -> Self {
        let handed = HandedOut::default();
        Self {
            found,
            handed,
            is_taken: false,
            due: None,
            seen: now,
            failures: 0,
            failed: now,
            failures_alone: 0,
            is_probe: false,
        }
    }

    /// Notes a failure at a moment. `read` is when another object of its source was last read to its end.
    fn fail(&mut self, now: Instant, interval: Duration, read: Option<Instant>) {
        if self.failures > 0 && read.is_some_and(|read| read > self.failed) {
            self.failures_alone += 1;
        }
        self.due = Some(now + backoff(interval, self.failures));
        self.failures = self.failures.saturating_add(1);
        self.failed = now;
    }

    fn is_troubled(&self) -> bool {
        self.due.is_some() || self.failures > 0
    }
}

impl ObjectTable {
    /// The objects of a source that are troubled or probes.
    fn watched(&self, source: usize) -> impl Iterator<Item = (&ObjectKey, &ObjectProgress)> {
        let watched = self.watched.iter().filter(move |(of, _)| *of == source);
        watched.filter_map(|key| self.objects.get_key_value(key))
    }

    fn troubled(&self, source: usize) -> usize {
        self.watched(source).filter(|(_, object)| object.is_troubled()).count()
    }

    fn probes(&self, source: usize) -> usize {
        self.watched(source).filter(|(_, object)| object.is_probe).count()
    }

    /// Changes an object, if it is in progress.
    fn change<T>(&mut self, key: &ObjectKey, change: impl FnOnce(&mut ObjectProgress) -> T) -> Option<T> {
        let object = self.objects.get_mut(key)?;
        let changed = change(object);
        if object.is_troubled() || object.is_probe {
            self.watched.insert(key.clone());
        } else {
            self.watched.remove(key);
        }
        Some(changed)
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<ObjectProgress> {
        self.watched.remove(key);
        self.objects.remove(key)
    }
}

impl Pending {
    fn table(&self) -> MutexGuard<'_, ObjectTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an object, unless so many others of its source can't be read.
    pub(super) fn find(&self, key: &ObjectKey, found: Found, troubled_max: usize) -> Disposition {
        let (mut table, now) = (self.table(), Instant::now());
        if !table.objects.contains_key(key) {
            let is_probe = table.troubled(key.0) >= troubled_max;
            if is_probe && table.probes(key.0) >= PROBES_MAX {
                return Disposition::Full;
            }
            if is_probe {
                table.watched.insert(key.clone());
            }
            table.objects.insert(key.clone(), ObjectProgress { is_probe, ..ObjectProgress::new(found, now) });
            return Disposition::Read(HandedOut::default());
        }
        let known = table.change(key, |object| {
            object.seen = now;
            let is_same = object.found.version == found.version;
            match object.due {
                Some(due) if now < due && is_same => Disposition::Wait,
                Some(_) => {
                    (object.found, object.due) = (found, None);
                    Disposition::Read(object.handed.clone())
                }
                None if is_same => Disposition::Wait,
                None => Disposition::WaitForEarlier,
            }
        });
        known.unwrap_or(Disposition::Wait)
    }

    /// Notes that the last of it has been taken to be counted.
    pub(super) fn take(&self, key: &ObjectKey) {
        self.table().change(key, |object| object.is_taken = true);
    }

    /// Notes that it could not be read on for now. It is tried again at once, or, as it failed, after this interval, later
    /// from failure to failure.
    pub(super) fn interrupt(&self, key: &ObjectKey, handed: Option<ObjectRecord>, failed: Option<Duration>) {
        let (mut table, now) = (self.table(), Instant::now());
        let read = table.read.get(&key.0).copied();
        let is_needless = table.change(key, |object| {
            object.due = Some(now);
            object.seen = now;
            if let Some(interval) = failed {
                if object.handed.0 != handed {
                    // It came further than the last time.
                    (object.failures, object.failures_alone) = (0, 0);
                }
                object.fail(now, interval, read);
            }
            object.handed = HandedOut(handed);
            object.is_probe && object.handed.0.is_none() && failed.is_some()
        });
        if is_needless == Some(true)
            && let Some(hour) = table.remove(key).and_then(|object| object.found.hour)
        {
            let oldest = table.failed_probes.entry(key.0).or_insert(hour);
            *oldest = hour.min(*oldest);
        }
    }

    /// Notes that an interrupted object still can't be read.
    pub(super) fn fail_again(&self, key: &ObjectKey, interval: Duration) {
        let (mut table, now) = (self.table(), Instant::now());
        let read = table.read.get(&key.0).copied();
        table.change(key, |object| {
            object.seen = now;
            object.fail(now, interval, read);
        });
    }

    /// The interrupted objects of a source that are to be tried again, and were not seen since this moment.
    pub(super) fn due_unseen(&self, source: usize, since: Instant) -> Vec<ObjectKey> {
        let now = Instant::now();
        let is_due =
            |object: &ObjectProgress| object.due.is_some_and(|due| due <= now) && object.seen < since;
        self.table()
            .watched(source)
            .filter(|(_, object)| is_due(object))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Forgets the probes of a source that failed: what finds them again begins.
    pub(super) fn forget_failed_probes(&self, source: usize) {
        self.table().failed_probes.remove(&source);
    }

    /// Notes that an object was read to its end.
    pub(super) fn read(&self, key: &ObjectKey) {
        self.table().read.insert(key.0, Instant::now());
        self.calm(key);
    }

    /// Notes that the store has no trouble with an object any more.
    pub(super) fn calm(&self, key: &ObjectKey) {
        self.table()
            .change(key, |object| (object.failures, object.failures_alone, object.is_probe) = (0, 0, false));
    }

    /// Whether an object of a source could not be read the last time.
    pub(super) fn has_failed(&self, source: usize) -> bool {
        self.table().watched(source).any(|(_, object)| object.failures > 0)
    }

    /// Whether so few objects of a source can't be read that new ones are worth looking for.
    pub(super) fn has_room(&self, source: usize) -> bool {
        self.table().troubled(source) < TROUBLED_MAX / 2
    }

    /// When the first of the interrupted objects is to be tried again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let table = self.table();
        table.watched.iter().filter_map(|key| table.objects.get(key)?.due).min()
    }

    /// Removes the objects of a source whose reading was interrupted, and that were last seen before this moment, from which
    /// on all were found that are there: these are gone.
    pub(super) fn end_unfound(&self, source: usize, since: Instant) -> Vec<ObjectKey> {
        let mut table = self.table();
        let is_gone = |object: &ObjectProgress| object.due.is_some() && object.seen < since;
        let gone: Vec<ObjectKey> =
            table.watched(source).filter(|(_, object)| is_gone(object)).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            table.remove(key);
        }
        gone
    }

    /// The interrupted objects of hours before this one that fail by themselves, while others of their source are read.
    pub(super) fn failed_before(&self, source: usize, hour: PathHour) -> Vec<(ObjectKey, String, HandedOut)> {
        let is_failed = |object: &ObjectProgress| {
            object.due.is_some()
                && object.failures_alone >= ALONE_MIN
                && object.found.hour.is_some_and(|of| of < hour)
        };
        let table = self.table();
        let failed = table.watched(source).filter(|(_, object)| is_failed(object));
        failed
            .map(|(key, object)| (key.clone(), object.found.version.clone(), object.handed.clone()))
            .collect()
    }

    /// Removes an object that is settled to its end, is gone, or is left out. Returns when it was written.
    pub(super) fn end(&self, key: &ObjectKey) -> Option<i64> {
        self.table().remove(key).map(|object| object.found.modified)
    }

    /// The oldest hour of a source with an object in progress, or with a probe that failed.
    pub(super) fn oldest_hour(&self, source: usize) -> Option<PathHour> {
        let table = self.table();
        let pending = table.objects.iter().filter(|((of, _), _)| *of == source);
        pending
            .filter_map(|(_, object)| object.found.hour)
            .chain(table.failed_probes.get(&source).copied())
            .min()
    }

    pub(super) fn totals(&self) -> PendingTotals {
        let table = self.table();
        PendingTotals {
            objects: table.objects.len() as u64,
            unread: table.objects.values().filter(|object| !object.is_taken).count() as u64,
            bytes: table.objects.values().map(|object| object.found.bytes).sum(),
            oldest: table.objects.values().map(|object| object.found.modified).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{FileLayout, ReadPlace};
    use crate::storage::client::bucket_state::ObjectStanding;

    const LONG: Duration = Duration::from_hours(1);

    fn find_of(pending: &Pending, path: &str, version: &str, bytes: u64) -> Disposition {
        let found = Found { version: version.to_owned(), hour: Some(PathHour(7)), bytes, modified: 5 };
        pending.find(&(0, path.to_owned()), found, 2)
    }

    fn record() -> ObjectRecord {
        let place = ReadPlace { layout: FileLayout::Lines, position: 3, container: 0 };
        let (version, standing) = ("1".to_owned(), ObjectStanding::Begun);
        ObjectRecord { version, standing, place: Some(place), print: None }
    }

    #[test]
    fn an_object_is_handed_over_once_and_again_from_where_it_was_interrupted() {
        let pending = Pending::default();
        let key = (0, "a".to_owned());
        let find = |version: &str, bytes| find_of(&pending, "a", version, bytes);
        assert_eq!(find("1", 9), Disposition::Read(HandedOut(None)));
        assert_eq!(find("1", 9), Disposition::Wait);
        assert_eq!(find("2", 10), Disposition::WaitForEarlier);
        pending.interrupt(&key, Some(record()), None);
        assert_eq!(
            find("2", 10),
            Disposition::Read(HandedOut(Some(record()))),
            "whichever version it is now"
        );
        assert_eq!(find("2", 10), Disposition::Wait);
        assert_eq!(pending.oldest_hour(0), Some(PathHour(7)));
        assert_eq!(pending.oldest_hour(1), None);
        let totals = PendingTotals { objects: 1, unread: 1, bytes: 10, oldest: Some(5) };
        assert_eq!(pending.totals(), totals);
        pending.take(&key);
        assert_eq!(pending.totals(), PendingTotals { unread: 0, ..totals }, "it does not wait any more");
        assert_eq!(pending.end(&key), Some(5));
        assert_eq!(pending.totals(), PendingTotals::default());
    }

    #[test]
    fn an_interrupted_object_that_is_not_found_any_more_is_gone() {
        let pending = Pending::default();
        let key = (0, "a".to_owned());
        let find = |version: &str| find_of(&pending, "a", version, 9);
        assert_eq!(find("1"), Disposition::Read(HandedOut(None)));
        assert_eq!(pending.end_unfound(0, Instant::now()), [], "it is being read");
        let before = Instant::now();
        pending.interrupt(&key, None, Some(LONG));
        assert_eq!(pending.end_unfound(0, before), [], "it was there then");
        let before = Instant::now();
        assert_eq!(find("1"), Disposition::Wait, "it is not yet due");
        assert_eq!(pending.end_unfound(0, before), [], "it is there");
        assert_eq!(pending.end_unfound(1, Instant::now()), []);
        assert_eq!(pending.end_unfound(0, Instant::now()), [(0, "a".to_owned())]);
        assert_eq!(pending.totals(), PendingTotals::default());
    }

    #[test]
    fn an_object_that_fails_waits_ever_longer_until_it_comes_further_or_is_another_one() {
        let pending = Pending::default();
        let key = (0, "a".to_owned());
        let wait = |handed| {
            pending.interrupt(&key, handed, Some(LONG));
            pending.next_due().unwrap() - Instant::now()
        };
        assert_eq!(find_of(&pending, "a", "1", 9), Disposition::Read(HandedOut(None)));
        assert!(wait(None) <= LONG, "listings are rarer than any wait");
        let short = Duration::from_secs(30);
        assert_eq!([0, 1, 2, 9].map(|failures| backoff(short, failures).as_secs()), [30, 60, 120, 300]);
        assert_eq!(find_of(&pending, "a", "1", 9), Disposition::Wait);
        assert!(pending.has_failed(0) && !pending.has_failed(1));
        assert_eq!(find_of(&pending, "a", "2", 9), Disposition::Read(HandedOut(None)), "it was written anew");
        assert!(pending.has_failed(0), "it is not read yet");
        pending.read(&key);
        assert!(!pending.has_failed(0));
    }

    #[test]
    fn what_fails_while_others_are_read_is_told_from_a_store_that_fails() {
        let pending = Pending::default();
        let key = (0, "a".to_owned());
        let fail = |handed| pending.interrupt(&key, handed, Some(Duration::ZERO));
        let failed = |hour| pending.failed_before(0, PathHour(hour)).len();
        assert_eq!(find_of(&pending, "a", "1", 9), Disposition::Read(HandedOut(None)));
        (0..9).for_each(|_| fail(None));
        assert_eq!(failed(8), 0, "none could be read");
        for _ in 0..ALONE_MIN {
            assert_eq!(failed(8), 0);
            pending.read(&(0, "b".to_owned()));
            fail(None);
        }
        assert_eq!((failed(7), failed(8)), (0, 1));
        fail(Some(record()));
        assert_eq!(failed(8), 0, "it came further");
    }

    #[test]
    fn no_new_object_is_taken_up_while_many_others_can_not_be_read() {
        let pending = Pending::default();
        for path in ["a", "b", "c"] {
            assert_eq!(find_of(&pending, path, "1", 9), Disposition::Read(HandedOut(None)));
        }
        pending.interrupt(&(0, "a".to_owned()), None, Some(LONG));
        pending.interrupt(&(0, "b".to_owned()), None, Some(Duration::ZERO));
        // A few are tried all the same: if they can be read, it is not the store that fails.
        for number in 0..PROBES_MAX {
            assert_eq!(find_of(&pending, &number.to_string(), "1", 9), Disposition::Read(HandedOut(None)));
        }
        assert_eq!(find_of(&pending, "d", "1", 9), Disposition::Full);
        assert_eq!(find_of(&pending, "b", "1", 9), Disposition::Read(HandedOut(None)), "it is known");
        pending.read(&(0, "0".to_owned()));
        assert_eq!(find_of(&pending, "d", "1", 9), Disposition::Read(HandedOut(None)));
        // One that fails is not kept, but its hour is.
        let objects = pending.totals().objects;
        pending.interrupt(&(0, "d".to_owned()), None, Some(LONG));
        assert_eq!(pending.totals().objects, objects - 1);
        for path in ["a", "b", "c", "0"] {
            pending.end(&(0, path.to_owned()));
        }
        for number in 1..PROBES_MAX {
            pending.end(&(0, number.to_string()));
        }
        assert_eq!((pending.totals().objects, pending.oldest_hour(0)), (0, Some(PathHour(7))));
        pending.forget_failed_probes(0);
        assert_eq!(pending.oldest_hour(0), None);
    }

    #[test]
    fn what_is_due_and_was_not_listed_is_looked_for() {
        let (pending, begun) = (Pending::default(), Instant::now());
        let due = |since| pending.due_unseen(0, since).len();
        assert_eq!(find_of(&pending, "a", "1", 9), Disposition::Read(HandedOut(None)));
        pending.interrupt(&(0, "a".to_owned()), None, Some(Duration::ZERO));
        assert_eq!((due(begun), due(Instant::now())), (0, 1));
        pending.fail_again(&(0, "a".to_owned()), LONG);
        assert_eq!(due(Instant::now()), 0, "not yet");
        assert!(pending.has_failed(0));
    }
}
