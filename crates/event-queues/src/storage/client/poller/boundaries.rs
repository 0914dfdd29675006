//! Decides where the reading of a source begins, and which of its hours are over.

use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::TryChunksError;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::super::layout::PathHour;
use super::super::memory::{ObjectRecord, ObjectStanding, Settled, SourceRecord};
use super::super::pending::HandedOut;
use super::descent::Descent;
use super::{BucketPoller, Round, Trouble, version};
use crate::event_type::event_type_of_path;
use crate::storage::StorageStart;

/// How many objects from before the first start are written to the memory at once.
const PASSED_AT_ONCE: usize = 10_000;

impl BucketPoller {
    /// The record of a source; before its first reading, its beginning is decided.
    pub(super) async fn begin(&mut self, source: usize) -> Result<SourceRecord, Trouble> {
        if let Some(record) = &self.states[source].record {
            return Ok(record.clone());
        }
        let url = Arc::clone(&self.buckets[source].url);
        let record = if let Some(record) = self.memory.source(&url)? {
            record
        } else {
            let record = match self.settings.start {
                StorageStart::Beginning => SourceRecord::default(),
                StorageStart::At(second) => {
                    SourceRecord { done_before: Some(PathHour::of(second).0), written_before: Some(second) }
                }
                StorageStart::Now => self.pass_what_is_there(source).await?,
            };
            self.memory.set_source(&url, &record, |_| false)?;
            tracing::info!(url = &*url, start = ?self.settings.start, "a bucket is read for the first time");
            record
        };
        self.states[source].record = Some(record.clone());
        Ok(record)
    }

    /// Remembers all present objects as passed.
    async fn pass_what_is_there(&mut self, source: usize) -> Result<SourceRecord, Trouble> {
        let bucket = self.buckets[source].clone();
        let pass = |meta: &ObjectMeta| -> Settled {
            let (version, standing) = (version(meta), ObjectStanding::Passed);
            let record = ObjectRecord { version, standing, place: None, print: None };
            (Arc::clone(&bucket.url), meta.location.to_string(), record)
        };
        let (mut total, mut prefixes) = (0, Vec::new());
        let mut descent = Descent::from(&bucket.prefix);
        while let Some(level) = self.descend(source, &mut descent, true).await? {
            for some in level.objects.chunks(PASSED_AT_ONCE) {
                self.memory.settle(&some.iter().map(pass).collect::<Vec<_>>())?;
                total += some.len();
            }
            prefixes.extend(level.listed);
        }
        // The names of directories tell the newest hour, so that years are not listed.
        let newest = self.states[source].newest.values().max();
        let before = newest.map(|newest| self.begun(*newest).before(self.settings.lateness.as_secs()));
        let record = SourceRecord { done_before: before.map(|hour| hour.0), written_before: None };
        for listed in prefixes {
            let Some(listing) = self.listing(source, &listed, &record, true) else { continue };
            let mut listing = listing.try_chunks(PASSED_AT_ONCE);
            while let Some(some) = listing.next().await {
                let some = some.map_err(|TryChunksError(_, error)| error)?;
                self.memory.settle(&some.iter().map(pass).collect::<Vec<_>>())?;
                total += some.len();
            }
        }
        tracing::info!(
            url = &*bucket.url,
            objects = total,
            "what lies in the bucket already is passed (queue.storage.start)"
        );
        Ok(record)
    }

    /// Ends the hours that are over, and forgets their objects, and objects that are gone.
    pub(super) fn close(
        &mut self,
        source: usize,
        record: &SourceRecord,
        round: &Round,
    ) -> Result<(), Trouble> {
        let newest = self.states[source].newest.values().max();
        let over = newest.map(|newest| self.begun(*newest).before(self.settings.lateness.as_secs()));
        if let Some(over) = over {
            self.leave_out(source, over)?;
        }
        // Objects in progress must be found again after a kill, and those that were left alone when there is room.
        let open = self.health.pending.oldest_hour(source).into_iter().chain(round.left_alone).min();
        let over = over.map(|over| open.map_or(over, |open| open.min(over)).0);
        let done_before = record.done_before.max(over);
        let closed = SourceRecord { done_before, ..record.clone() };
        let url = &self.buckets[source].url;
        // Where nothing is left, the disk behind the directory may be away; and types that are not counted are not listed.
        let was_listed = |path: &Path| {
            let event_type = event_type_of_path(std::path::Path::new(path.as_ref()));
            !round.undated.is_empty()
                && event_type.is_none_or(|event_type| self.settings.event_types.contains(&event_type))
        };
        let is_needless = |path: &str| {
            Path::parse(path).is_ok_and(|path| match PathHour::in_path(&path) {
                Some(hour) => done_before.is_some_and(|before| hour.0 < before),
                None => was_listed(&path) && !round.undated.contains(&round.hasher.hash_one(path.as_ref())),
            })
        };
        let forgotten = self.memory.set_source(url, &closed, is_needless)?;
        if forgotten > 0 {
            tracing::debug!(
                url = &**url,
                objects = forgotten,
                "objects of hours that are over are forgotten"
            );
        }
        self.states[source].record = Some(closed);
        Ok(())
    }

    /// Leaves out the objects of hours that are over, where they can't be read and others can: no hour would end otherwise.
    fn leave_out(&self, source: usize, over: PathHour) -> Result<(), Trouble> {
        let bucket = &self.buckets[source];
        for (key, HandedOut(handed)) in self.health.pending.failed_before(source, over) {
            // What was handed out of it settles first.
            if handed.is_some() && self.memory.object(&bucket.url, &key.1)? != handed {
                continue;
            }
            self.health.pending.end(&key);
            self.health.left_out.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                object = bucket.name(&key.1),
                "an object of a bucket could not be read until its hour was over (queue.storage.lateness), while others could, \
                 and is left out"
            );
        }
        self.health.clear_reading(source, &bucket.url);
        Ok(())
    }
}
