//! Decides where the reading of a source begins, and which of its hours are over.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use futures_util::stream::TryChunksError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::super::bucket_state::{
    BucketState, Moment, Need, ObjectRecord, ObjectStanding, Settled, SourceRecord, StateError, version,
};
use super::super::layout::{HourForm, PathHour};
use super::descent::Descent;
use super::{BucketPoller, Over, Round, Trouble};
use crate::event_type::event_type_of_path;
use crate::storage::StorageStart;

/// How many objects from before the first start are written to the state at once.
const PASSED_AT_ONCE: usize = 10_000;

/// What a source that was read before is read for from now on, too.
struct Added {
    record: SourceRecord,
    event_types: BTreeSet<Box<str>>,
}

impl BucketPoller {
    /// Writes to the state on another thread: a disk may take long for a commit, and this thread has more to do.
    pub(super) async fn commit<T: Send + 'static>(
        &self,
        write: impl FnOnce(&BucketState) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, Trouble> {
        // Its thread is gone only when the process is about to end.
        Ok(self.state_thread.write(write).await.ok_or(Trouble::Over(Over::Closed))??)
    }

    /// The record of a source; before its first reading, its beginning is decided, and so is that of new event types.
    pub(super) async fn begin(&mut self, source: usize) -> Result<SourceRecord, Trouble> {
        if let Some(record) = &self.states[source].record {
            return Ok(record.clone());
        }
        let url = Arc::clone(&self.buckets[source].url);
        let counted = self.state.event_types(&url)?;
        let record = if let Some(record) = self.state.source(&url)? {
            let known = counted.as_ref().unwrap_or(&self.settings.event_types);
            let event_types: BTreeSet<_> = self.settings.event_types.difference(known).cloned().collect();
            if self.settings.start == StorageStart::Now && !event_types.is_empty() {
                self.pass_what_is_there(source, Some(Added { record: record.clone(), event_types })).await?;
            }
            record
        } else {
            let record = match self.settings.start {
                StorageStart::Beginning => SourceRecord::default(),
                StorageStart::At(second) => {
                    SourceRecord { done_before: Some(PathHour::of(second).0), written_before: Some(second) }
                }
                StorageStart::Now => self.pass_what_is_there(source, None).await?,
            };
            let (url, written) = (Arc::clone(&url), record.clone());
            self.commit(move |state| state.set_source(&url, &written)).await?;
            let url = &*self.buckets[source].url;
            tracing::info!(url, start = ?self.settings.start, "a bucket is read for the first time");
            record
        };
        // Another run of the same state, an import for one, may count fewer types, and says nothing of what this one reads.
        if self.settings.start == StorageStart::Now && counted.as_ref() != Some(&self.settings.event_types) {
            let event_types = self.settings.event_types.clone();
            self.commit(move |state| state.set_event_types(&url, &event_types)).await?;
        }
        self.states[source].record = Some(record.clone());
        Ok(record)
    }

    /// Remembers all present objects as passed; of a source that was read before only those of new event types.
    async fn pass_what_is_there(
        &mut self,
        source: usize,
        added: Option<Added>,
    ) -> Result<SourceRecord, Trouble> {
        let (mut total, mut prefixes) = (0, Vec::new());
        let mut descent = Descent::from(&self.buckets[source].prefix);
        while let Some(level) = self.descend(source, &mut descent, true).await? {
            for some in level.objects.chunks(PASSED_AT_ONCE) {
                total += self.pass(source, some, added.as_ref()).await?;
            }
            prefixes.extend(level.listed);
        }
        let record = added.as_ref().map_or_else(
            || {
                // The names of directories tell the newest hour, so that years are not listed.
                let newest = self.states[source].newest.values().max();
                let before =
                    newest.map(|newest| self.begun(*newest).before(self.settings.lateness.as_secs()));
                SourceRecord { done_before: before.map(|hour| hour.0), written_before: None }
            },
            |added| added.record.clone(),
        );
        for listed in prefixes {
            let Some(listing) = self.listing(source, &listed, &record, true) else { continue };
            let mut listing = listing.try_chunks(PASSED_AT_ONCE);
            while let Some(some) = listing.next().await {
                let some = some.map_err(|TryChunksError(_, error)| error)?;
                total += self.pass(source, &some, added.as_ref()).await?;
            }
        }
        let event_types = added.map(|added| added.event_types);
        tracing::info!(
            url = &*self.buckets[source].url,
            objects = total,
            event_types = event_types.map(tracing::field::debug),
            "what lies in the bucket already is passed (queue.storage.start)"
        );
        Ok(record)
    }

    async fn pass(
        &self,
        source: usize,
        objects: &[ObjectMeta],
        added: Option<&Added>,
    ) -> Result<usize, Trouble> {
        let url = &self.buckets[source].url;
        let mut passed: Vec<Settled> = Vec::new();
        for meta in objects {
            let path = &meta.location;
            if let Some(Added { event_types, .. }) = added {
                let event_type = event_type_of_path(std::path::Path::new(path.as_ref()));
                let is_of_added = event_type.is_some_and(|event_type| event_types.contains(&event_type));
                // It may have been counted when its type was counted earlier.
                if !is_of_added || self.state.object(url, path.as_ref())?.is_some() {
                    continue;
                }
            }
            let (version, standing) = (version(meta), ObjectStanding::Passed);
            let record = ObjectRecord { version, standing, place: None, print: None };
            passed.push((Arc::clone(url), path.to_string(), record));
        }
        let count = passed.len();
        self.commit(move |state| state.settle(&passed)).await?;
        Ok(count)
    }

    /// Ends the hours that are over, and forgets their objects, and objects that are gone.
    pub(super) async fn close(
        &mut self,
        source: usize,
        record: &SourceRecord,
        round: Round,
    ) -> Result<(), Trouble> {
        let lateness = self.settings.lateness.as_secs();
        let newest = self.states[source].newest.values().max();
        let over = newest.map(|newest| self.begun(*newest).before(lateness));
        // Objects in progress must be found again after a kill, and those that were left alone when there is room.
        let open = self.health.pending.oldest_hour(source).into_iter().chain(round.left_alone).min();
        let over = over.map(|over| open.map_or(over, |open| open.min(over)).0);
        let done_before = record.done_before.max(over);
        let closed = SourceRecord { done_before, ..record.clone() };
        let Round { undated, hasher, .. } = round;
        let event_types = self.settings.event_types.clone();
        // Where nothing is left, the disk behind the directory may be away; and types that are not counted are not listed.
        let was_listed = move |path: &Path| {
            let event_type = event_type_of_path(std::path::Path::new(path.as_ref()));
            !undated.is_empty()
                && event_type.is_none_or(|event_type| event_types.contains(&event_type))
                && !undated.contains(&hasher.hash_one(path.as_ref()))
        };
        let need = move |path: &str| match Path::parse(path) {
            Ok(path) => match PathHour::in_path(&path) {
                Some(hour) if done_before.is_some_and(|before| hour.0 < before) => Need::Needless,
                None if was_listed(&path) => Need::Absent,
                _ => Need::Needed,
            },
            Err(_) => Need::Needed,
        };
        let moment = Moment { now: (self.now)(), absence_max: lateness };
        let (url, written) = (Arc::clone(&self.buckets[source].url), closed.clone());
        let forgotten = self.commit(move |state| state.close(&url, &written, moment, need)).await?;
        if forgotten > 0 {
            tracing::debug!(
                url = &*self.buckets[source].url,
                objects = forgotten,
                "objects of hours that are over, and objects that are gone, are forgotten"
            );
        }
        self.states[source].record = Some(closed);
        Ok(())
    }

    /// Tells why a run that reads from the beginning leaves out what an earlier start passed.
    pub(super) fn log_passed(&self, source: usize, record: &SourceRecord, objects: u64) {
        let url = &*self.buckets[source].url;
        if objects > 0 {
            tracing::warn!(
                url,
                objects,
                "objects are passed because an earlier run with this state_directory passed them (queue.storage.start); \
                 `--again` counts all objects of an imported URL, whatever was counted before"
            );
        }
        if let Some(hour) = record.done_before {
            let before = PathHour(hour).below(&Path::default(), HourForm::Date);
            tracing::info!(
                url,
                %before,
                "hours before this one are over for this state_directory, and are not read (queue.storage.start and lateness)"
            );
        }
    }
}
