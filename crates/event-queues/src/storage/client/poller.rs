//! Finds new objects in the buckets, by listing them.
//!
//! A listing costs money, a thousand keys at a time. So it descends to the prefixes of counted event types, and lists each
//! from the hour before the newest on (`date=…`); every so often all hours that may still get late objects. A prefix without
//! hours is listed whole. Where the bucket notifies of new objects, notifications are taken between two such listings of all
//! hours.

mod boundaries;
mod notified;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{Error, ObjectMeta};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::bucket::{Bucket, advice};
use super::layout::{PathHour, PathPart, is_hidden};
use super::memory::{MemoryError, ObjectMemory, ObjectStanding, SourceRecord};
use super::notifications::Notifications;
use super::pending::HandedOut;
use super::reader::{FoundObject, ObjectInput};
use super::watch::BucketHealth;
use crate::storage::{Now, StorageSettings};

/// How many new objects wait for the reader; listing waits while there is no room.
pub(super) const FOUND_MAX: usize = 256;
/// Each listing starts this many seconds before the newest hour found.
const RECENT_SECONDS: u64 = 2 * 3600;
/// How long it may take until a late object is found.
const SWEEP_INTERVAL: Duration = Duration::from_mins(10);
/// The longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_mins(5);
/// How many levels of a bucket are searched for event types.
const DEPTH_MAX: usize = 8;
/// An hour in a path that is further ahead of this machine's clock is a mistake, and ends no other hour.
const AHEAD_MAX: i64 = 48;
/// Why nothing more can be found in this round, or at all.
enum Trouble {
    Store(Error),
    /// The message.
    Notifications(String),
    Memory(MemoryError),
    Closed,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<MemoryError> for Trouble {
    fn from(error: MemoryError) -> Self {
        Self::Memory(error)
    }
}

pub(super) struct BucketPoller {
    pub(super) buckets: Arc<[Bucket]>,
    pub(super) settings: StorageSettings,
    pub(super) memory: ObjectMemory,
    pub(super) health: Arc<BucketHealth>,
    pub(super) found: mpsc::Sender<ObjectInput>,
    pub(super) now: Now,
    pub(super) states: Vec<SourceState>,
    pub(super) notifications: Option<Arc<Notifications>>,
    /// Why notifications can't be taken, while that lasts.
    pub(super) unheard: Option<String>,
    /// Whether a message that is no notification was logged since the last listing.
    pub(super) is_stray_told: bool,
}

/// The state of a source in this run.
#[derive(Debug, Default)]
pub(super) struct SourceState {
    record: Option<SourceRecord>,
    /// The newest hour of each prefix with hours.
    newest: BTreeMap<Path, PathHour>,
    /// The prefixes with hours; in others a name tells nothing of an object's age.
    dated: BTreeSet<Path>,
    swept: Option<Instant>,
}

/// A prefix to be listed.
#[derive(Debug)]
struct Listed {
    prefix: Path,
    /// Only what comes after it.
    after: Option<Path>,
}

/// The state of one listing.
#[derive(Default)]
struct Round {
    is_sweep: bool,
    /// The hashes of all paths without an hour.
    undated: HashSet<u64>,
    hasher: foldhash::fast::RandomState,
}

impl BucketPoller {
    /// Lists until the receiver is gone, or `once`.
    pub(super) async fn run(mut self, once: bool) {
        let mut failures = 0_u32;
        loop {
            let (mut failed, mut reason) = (false, String::new());
            for source in 0..self.buckets.len() {
                self.health.listings.fetch_add(1, Ordering::Relaxed);
                match self.list(source, once).await {
                    Ok(()) => {
                        if self.health.clear(source) {
                            tracing::info!(
                                url = &*self.buckets[source].url,
                                "the bucket can be listed again"
                            );
                        }
                    }
                    Err(Trouble::Closed) => return,
                    Err(trouble) => {
                        self.health.listings_failed.fetch_add(1, Ordering::Relaxed);
                        (failed, reason) = (true, self.tell(source, trouble));
                    }
                }
            }
            if once {
                let last = if failed { ObjectInput::Failed(reason) } else { ObjectInput::End };
                // The receiver is gone only when the process is about to end.
                let _nobody = self.found.send(last).await;
                return;
            }
            failures = if failed { failures + 1 } else { 0 };
            let wait = self.settings.poll_interval.saturating_mul(1 << failures.min(6));
            let wait = if failed { wait.min(BACKOFF_MAX.max(self.settings.poll_interval)) } else { wait };
            if self.wait(wait, failed).await.is_break() {
                return;
            }
        }
    }

    fn tell(&self, source: usize, trouble: Trouble) -> String {
        let url = &self.buckets[source].url;
        let words = match trouble {
            Trouble::Store(error) => format!("{url} can't be listed: {}", advice(&error)),
            Trouble::Memory(error) => error.to_string(),
            Trouble::Notifications(words) => words,
            Trouble::Closed => String::new(),
        };
        if self.health.complain(source, &words) {
            tracing::error!(url = &**url, trouble = words, "a bucket can't be listed");
        }
        words
    }

    /// Lists a source, and hands over its new objects.
    async fn list(&mut self, source: usize, once: bool) -> Result<(), Trouble> {
        self.buckets[source].ensure_there()?;
        let record = self.begin(source).await?;
        let begun = std::time::Instant::now();
        let swept = self.states[source].swept;
        let mut round = Round {
            is_sweep: once || swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL),
            ..Round::default()
        };
        let mut objects = Vec::new();
        let prefixes = self.discover(source, &mut objects).await?;
        for meta in objects {
            self.offer(source, meta, &record, &mut round).await?;
        }
        for prefix in prefixes {
            if round.is_sweep || !self.states[source].dated.contains(&prefix) {
                for meta in self.look_into(source, &prefix).await? {
                    self.offer(source, meta, &record, &mut round).await?;
                }
            }
            let after = self.after(source, &prefix, &record, round.is_sweep);
            self.list_prefix(source, Listed { prefix, after }, &record, &mut round).await?;
        }
        if round.is_sweep {
            for (_, path) in self.health.pending.end_unfound(source, begun) {
                let name = self.buckets[source].name(path);
                self.health.tell_gone(&name);
            }
            self.close(source, &record, &round)?;
            self.states[source].swept = Some(Instant::now());
        }
        Ok(())
    }

    /// Descends to the prefixes that are to be listed; objects on the way are collected.
    async fn discover(&self, source: usize, objects: &mut Vec<ObjectMeta>) -> Result<Vec<Path>, Trouble> {
        let bucket = &self.buckets[source];
        let (mut found, mut open) = (Vec::new(), vec![(bucket.prefix.clone(), 0)]);
        while let Some((prefix, depth)) = open.pop() {
            let level = bucket.store.list_with_delimiter(Some(&prefix)).await?;
            objects.extend(level.objects);
            let names = |prefix: &Path| prefix.filename().map(str::to_owned).unwrap_or_default();
            let is_dated =
                level.common_prefixes.iter().any(|below| PathPart::of(&names(below)) == PathPart::Hour);
            if is_dated || depth == DEPTH_MAX {
                found.push(prefix);
                continue;
            }
            for below in level.common_prefixes {
                match PathPart::of(&names(&below)) {
                    PathPart::EventType(event_type) if !self.settings.event_types.contains(event_type) => {}
                    PathPart::EventType(_) => found.push(below),
                    PathPart::Hidden => {}
                    PathPart::Hour | PathPart::Other => open.push((below, depth + 1)),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// Finds out whether a prefix has hours, and the objects beside these.
    async fn look_into(&mut self, source: usize, prefix: &Path) -> Result<Vec<ObjectMeta>, Trouble> {
        let level = self.buckets[source].store.list_with_delimiter(Some(prefix)).await?;
        let state = &mut self.states[source];
        let hours = level.common_prefixes.iter().filter_map(|below| PathHour::in_part(below.filename()?));
        if hours.count() > 0 {
            state.dated.insert(prefix.clone());
        } else {
            state.dated.remove(prefix);
        }
        Ok(level.objects)
    }

    /// The key after which a prefix is listed.
    fn after(&self, source: usize, prefix: &Path, record: &SourceRecord, is_sweep: bool) -> Option<Path> {
        if !self.states[source].dated.contains(prefix) {
            return None;
        }
        let newest = self.states[source].newest.get(prefix);
        let recent = newest.map(|newest| self.begun(*newest).before(RECENT_SECONDS));
        let done = record.done_before.map(PathHour);
        let hour = if is_sweep { done } else { recent.max(done) }?;
        Some(prefix.clone().join(hour.to_string()))
    }

    async fn list_prefix(
        &mut self,
        source: usize,
        listed: Listed,
        record: &SourceRecord,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        let store = Arc::clone(&self.buckets[source].store);
        let mut listing = match &listed.after {
            Some(after) => store.list_with_offset(Some(&listed.prefix), after),
            None => store.list(Some(&listed.prefix)),
        };
        while let Some(meta) = listing.next().await {
            let meta = meta?;
            if let Some(hour) = PathHour::in_path(&meta.location).filter(|hour| self.is_believable(*hour)) {
                let newest = self.states[source].newest.entry(listed.prefix.clone()).or_insert(hour);
                *newest = hour.max(*newest);
            }
            self.offer(source, meta, record, round).await?;
        }
        Ok(())
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

    /// Hands an object to the reader, if it is new.
    async fn offer(
        &self,
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
        if is_before || meta.size == 0 || is_hidden(&meta.location, &bucket.prefix) {
            return Ok(());
        }
        self.health.found(modified);
        let version = version(&meta);
        let known = self.memory.object(&bucket.url, meta.location.as_ref())?;
        if known
            .as_ref()
            .is_some_and(|known| known.version == version && known.standing != ObjectStanding::Begun)
        {
            self.health.done(modified);
            return Ok(());
        }
        let key = (source, meta.location.to_string());
        let Some(HandedOut(handed)) = self.health.pending.find(&key, hour, meta.size, modified) else {
            return Ok(());
        };
        // It may have been settled since the look-up.
        let known = self.memory.object(&bucket.url, meta.location.as_ref())?;
        if known
            .as_ref()
            .is_some_and(|known| known.version == version && known.standing != ObjectStanding::Begun)
        {
            self.health.pending.end(&key);
            return Ok(());
        }
        let object = FoundObject { source, meta, version, record: handed.or(known) };
        self.found.send(ObjectInput::Object(Box::new(object))).await.map_err(|_| Trouble::Closed)
    }
}

/// Identifies what is written under an object's path.
fn version(meta: &ObjectMeta) -> String {
    let ObjectMeta { e_tag, version, last_modified, size, .. } = meta;
    match (e_tag, version) {
        (Some(tag), _) => tag.clone(),
        (None, Some(version)) => version.clone(),
        (None, None) => format!("{size}@{}", last_modified.timestamp_micros()),
    }
}
