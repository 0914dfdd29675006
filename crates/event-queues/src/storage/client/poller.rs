//! Finds new objects in the buckets, by listing them.
//!
//! A listing costs money, a thousand keys at a time. So it descends to the prefixes of counted event types, and lists each
//! from the hours before the newest on (`date=…`, or `2026/11/27/10`); every so often all hours that may still get late
//! objects. A prefix without hours is listed whole. Where the bucket notifies of new objects, notifications are taken between two such listings of all
//! hours.

mod boundaries;
mod descent;
mod notified;
mod troubled;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{Error, ObjectMeta};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::descent::{Descent, Hours, LevelKind, Listed};
use super::bucket::{Bucket, advice};
use super::bucket_state::{BucketState, ObjectStanding, SourceRecord, StateError, StateThread, version};
use super::health::BucketHealth;
use super::layout::{HourForm, PathHour, PathPart, is_hidden};
use super::notifications::Notifications;
use super::pending::{Disposition, Found, HandedOut, TROUBLED_MAX, backoff};
use super::reader::{FoundObject, ObjectInput};
use crate::storage::{Now, StorageSettings, StorageStart};

/// How many new objects wait for the reader; listing waits while there is no room.
pub(super) const FOUND_MAX: usize = 256;
/// Each listing starts this many seconds before the newest hour found.
const RECENT_SECONDS: u64 = 2 * 3600;
/// How long it may take until a late object is found.
const SWEEP_INTERVAL: Duration = Duration::from_mins(10);
/// An hour in a path that is further ahead of this machine's clock is a mistake, and ends no other hour.
const AHEAD_MAX: i64 = 48;
/// Why nothing more can be found in this round, or at all.
enum Trouble {
    Store(Error),
    /// The message.
    Notifications(String),
    Over(Over),
}

/// Why nothing more can be found at all.
pub(super) enum Over {
    /// The receiver is gone: the process is about to end.
    Closed,
    /// The state can't be used any more.
    State(StateError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<StateError> for Trouble {
    fn from(error: StateError) -> Self {
        Self::Over(Over::State(error))
    }
}

pub(super) struct BucketPoller {
    pub(super) buckets: Arc<[Bucket]>,
    pub(super) settings: StorageSettings,
    pub(super) state: BucketState,
    pub(super) state_thread: StateThread,
    pub(super) health: Arc<BucketHealth>,
    pub(super) found: mpsc::Sender<ObjectInput>,
    pub(super) now: Now,
    pub(super) states: Vec<SourceState>,
    pub(super) notifications: Option<Arc<Notifications>>,
    /// Why notifications can't be taken, while that lasts.
    pub(super) unheard: Option<String>,
    /// Whether a notification of one of the buckets was taken in this run.
    pub(super) is_notified: bool,
    /// Whether an object was found in this round of which an earlier version is on its way.
    pub(super) is_outdated: bool,
    /// When a message that is no notification was last logged.
    pub(super) stray_told: Option<Instant>,
    /// When a notification of another bucket was last logged.
    pub(super) foreign_told: Option<Instant>,
}

/// The state of a source in this run.
#[derive(Debug, Default)]
pub(super) struct SourceState {
    record: Option<SourceRecord>,
    /// The newest hour of each level that names hours.
    newest: BTreeMap<Path, PathHour>,
    levels: BTreeMap<Path, LevelKind>,
    /// The prefixes whose objects all have an hour in slashes, as far as was seen; in others a name tells nothing of an
    /// object's age.
    in_slashes: BTreeSet<Path>,
    swept: Option<Instant>,
    /// Whether the last listing left new objects alone, for too many others can't be read.
    is_full: bool,
    /// Whether it was told that keys are passed.
    is_nameless_told: bool,
    /// The failed listings in a row, and when it is listed again.
    failures: u32,
    due: Option<Instant>,
}

/// The state of one listing.
#[derive(Default)]
struct Round {
    is_sweep: bool,
    /// The hashes of all paths without an hour.
    undated: HashSet<u64>,
    hasher: foldhash::fast::RandomState,
    /// No new object is taken up while so many others of the source can't be read.
    troubled_max: usize,
    /// Whether new objects were left alone for that, and the oldest hour among them.
    is_full: bool,
    left_alone: Option<PathHour>,
    /// How many objects are passed because an earlier start passed them.
    passed: u64,
}

impl BucketPoller {
    /// Lists until the receiver is gone, or `once`. It ends with the state, too: once that has failed it refuses everything
    /// until it is opened anew, which the next start does.
    pub(super) async fn run(mut self, once: bool) {
        let last = match self.find(once).await {
            Ok(last) => last,
            Err(Over::Closed) => return,
            Err(Over::State(error)) => ObjectInput::Failed(self.health.fail(error.to_string())),
        };
        // The receiver is gone only when the process is about to end.
        let _nobody = self.found.send(last).await;
    }

    /// As [`Self::run`]: what the reader is told last.
    async fn find(&mut self, once: bool) -> Result<ObjectInput, Over> {
        loop {
            let mut failed = None;
            self.is_outdated = false;
            for source in 0..self.buckets.len() {
                if self.states[source].due.is_some_and(|due| Instant::now() < due) {
                    continue;
                }
                failed = self.list_or_log(source, once).await?.or(failed);
            }
            if once {
                return Ok(failed.map_or(ObjectInput::End, ObjectInput::Failed));
            }
            // Where one fails, the others go on.
            let has_failed = self.states.iter().any(|state| state.failures > 0);
            let is_notified = self.notifications.is_some();
            let asked = self.states.iter().filter(|state| !(is_notified && has_failed) || state.failures > 0);
            let due = asked.filter_map(|state| state.due).min();
            let wait = due.map_or(self.settings.poll_interval, |due| due.duration_since(Instant::now()));
            self.wait(wait, has_failed).await?;
        }
    }

    /// Lists a source, and says when that is due again. Returns why it failed, if it did.
    async fn list_or_log(&mut self, source: usize, once: bool) -> Result<Option<String>, Over> {
        self.health.listings.fetch_add(1, Ordering::Relaxed);
        let reason = match self.list(source, once).await {
            Ok(()) => {
                if self.health.listing.clear(source) {
                    tracing::info!(url = &*self.buckets[source].url, "the bucket can be listed again");
                }
                None
            }
            Err(trouble) => {
                self.health.listings_failed.fetch_add(1, Ordering::Relaxed);
                Some(self.log_trouble(source, trouble)?)
            }
        };
        let state = &mut self.states[source];
        state.failures = if reason.is_some() { state.failures.saturating_add(1) } else { 0 };
        state.due = Some(Instant::now() + backoff(self.settings.poll_interval, state.failures));
        Ok(reason)
    }

    fn log_trouble(&self, source: usize, trouble: Trouble) -> Result<String, Over> {
        let url = &self.buckets[source].url;
        let words = match trouble {
            Trouble::Store(error) => format!("{url} can't be listed: {}", advice(&error)),
            Trouble::Notifications(words) => words,
            Trouble::Over(over) => return Err(over),
        };
        if self.health.listing.note_trouble(source, &words) {
            tracing::error!(url = &**url, trouble = words, "a bucket can't be listed");
        }
        Ok(words)
    }

    /// Lists a source, and hands over its new objects.
    async fn list(&mut self, source: usize, once: bool) -> Result<(), Trouble> {
        self.buckets[source].ensure_there()?;
        let record = self.begin(source).await?;
        let begun = std::time::Instant::now();
        let SourceState { swept, is_full, .. } = self.states[source];
        let is_sweep = once
            || swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL)
            // What was left alone may be of any hour.
            || (is_full && self.health.pending.has_room(source));
        let troubled_max = if once { usize::MAX } else { TROUBLED_MAX };
        let mut round = Round { is_sweep, troubled_max, ..Round::default() };
        if is_sweep {
            self.leave_out(source).await?;
            self.health.pending.forget_failed_probes(source);
            self.states[source].levels.clear();
        }
        let mut descent = Descent::from(&self.buckets[source].prefix);
        while let Some(level) = self.descend(source, &mut descent, round.is_sweep).await? {
            for meta in level.objects {
                self.offer(source, meta, &record, &mut round).await?;
            }
            for listed in level.listed {
                self.list_prefix(source, listed, &record, &mut round).await?;
            }
        }
        if !is_sweep {
            self.look_up_again(source, begun, &record, &mut round).await?;
        }
        let is_full = round.is_full;
        if is_sweep {
            for (_, path) in self.health.pending.end_unfound(source, begun) {
                let name = self.buckets[source].name(path);
                self.health.log_gone(&name);
            }
            self.health.clear_reading(source, &self.buckets[source].url);
            if once && self.settings.start == StorageStart::Beginning {
                self.log_passed(source, &record, round.passed);
            }
            self.close(source, &record, round).await?;
            self.states[source].swept = Some(Instant::now());
        }
        let state = &mut self.states[source];
        state.is_full = is_full || (state.is_full && !is_sweep);
        Ok(())
    }

    /// The listing of a prefix, from the first hour on that may have new objects; none if it is of an hour before that.
    fn listing(
        &self,
        source: usize,
        listed: &Listed,
        record: &SourceRecord,
        is_sweep: bool,
    ) -> Option<BoxStream<'static, Result<ObjectMeta, Error>>> {
        let state = &self.states[source];
        let newest = state.newest.get(&listed.level);
        let recent = newest.map(|newest| self.begun(*newest).before(RECENT_SECONDS));
        let done = record.done_before.map(PathHour);
        let first = if is_sweep { done } else { recent.max(done) };
        let after = match listed.hours {
            Hours::Of(hour) if first.is_some_and(|first| hour < first) => return None,
            Hours::Named(HourForm::Slashes) if !state.in_slashes.contains(&listed.prefix) => None,
            Hours::Named(form) => first.map(|first| first.below(&listed.level, form)),
            Hours::Of(_) | Hours::Untold => None,
        };
        let store = &self.buckets[source].store;
        Some(match &after {
            Some(after) => store.list_with_offset(Some(&listed.prefix), after),
            None => store.list(Some(&listed.prefix)),
        })
    }

    async fn list_prefix(
        &mut self,
        source: usize,
        listed: Listed,
        record: &SourceRecord,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        let Some(mut listing) = self.listing(source, &listed, record, round.is_sweep) else { return Ok(()) };
        let mut is_in_slashes = None;
        while let Some(meta) = listing.next().await {
            let meta = meta?;
            if let Some(hour) = PathHour::in_path(&meta.location) {
                self.see(source, &listed.level, hour);
            }
            // A marker of a directory has no hour.
            if meta.size > 0 {
                let is_below = PathHour::is_below(&listed.level, &meta.location);
                is_in_slashes = Some(is_below && is_in_slashes.unwrap_or(true));
            }
            self.offer(source, meta, record, round).await?;
        }
        match is_in_slashes {
            Some(true) => self.states[source].in_slashes.insert(listed.prefix),
            Some(false) => self.states[source].in_slashes.remove(&listed.prefix),
            None => false,
        };
        Ok(())
    }

    /// Notes an hour of a level, unless that is a mistake.
    fn see(&mut self, source: usize, level: &Path, hour: PathHour) {
        if !self.is_believable(hour) {
            return;
        }
        let newest = &mut self.states[source].newest;
        match newest.get_mut(level) {
            Some(newest) => *newest = hour.max(*newest),
            None => drop(newest.insert(level.clone(), hour)),
        }
    }

    fn is_believable(&self, hour: PathHour) -> bool {
        hour.0 <= self.present().0.saturating_add(AHEAD_MAX)
    }

    fn present(&self) -> PathHour {
        PathHour::of(i64::try_from((self.now)()).unwrap_or(i64::MAX))
    }

    /// The newest hour, as far as it has begun: a day counts as its last hour, and other paths may be ahead, too.
    fn begun(&self, newest: PathHour) -> PathHour {
        newest.min(self.present())
    }

    /// Whether a path names no event type, or one that is counted.
    fn is_counted(&self, path: &Path) -> bool {
        path.parts().all(|part| match PathPart::of(part.as_ref()) {
            PathPart::EventType(event_type) => self.settings.event_types.contains(event_type),
            _ => true,
        })
    }

    /// Hands an object to the reader, if it is new.
    async fn offer(
        &mut self,
        source: usize,
        meta: ObjectMeta,
        record: &SourceRecord,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        let bucket = &self.buckets[source];
        let hour = PathHour::in_path(&meta.location);
        if hour.is_none() {
            round.undated.insert(round.hasher.hash_one(meta.location.as_ref()));
        }
        let modified = meta.last_modified.timestamp();
        let is_before = match hour {
            Some(hour) => record.done_before.is_some_and(|before| hour.0 < before),
            None => record.written_before.is_some_and(|before| modified < before),
        };
        // A marker of a directory, or of a job that is done, is no object.
        let is_none = meta.size == 0 || is_hidden(&meta.location, &bucket.prefix);
        if is_before || is_none || !self.is_counted(&meta.location) {
            return Ok(());
        }
        self.health.found(modified);
        let version = version(&meta);
        let known = self.state.object(&bucket.url, meta.location.as_ref())?;
        if let Some(known) = known.filter(|known| known.is_done(&version)) {
            round.passed += u64::from(known.standing == ObjectStanding::Passed);
            self.health.done(modified);
            return Ok(());
        }
        let key = (source, meta.location.to_string());
        let found = Found { version: version.clone(), hour, bytes: meta.size, modified };
        let handed = match self.health.pending.find(&key, found, round.troubled_max) {
            Disposition::Read(HandedOut(handed)) => handed,
            Disposition::Wait => return Ok(()),
            Disposition::WaitForEarlier => {
                self.is_outdated = true;
                return Ok(());
            }
            Disposition::Full => {
                round.is_full = true;
                round.left_alone = round.left_alone.into_iter().chain(hour).min();
                return Ok(());
            }
        };
        // It may have been settled since the look-up.
        let known = self.state.object(&bucket.url, meta.location.as_ref())?;
        if known.as_ref().is_some_and(|known| known.is_done(&version)) {
            self.health.pending.end(&key);
            return Ok(());
        }
        let object = FoundObject { source, meta, version, record: handed.or(known) };
        self.found.send(ObjectInput::Object(Box::new(object))).await.map_err(|_| Trouble::Over(Over::Closed))
    }
}

#[cfg(test)]
mod tests;
