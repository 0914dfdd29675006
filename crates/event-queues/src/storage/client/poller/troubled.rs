//! Looks again for objects that can't be read, and leaves them out when their hour is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use object_store::path::Path;
use object_store::{Error, ObjectStoreExt as _};

use super::super::bucket_state::{ObjectRecord, ObjectStanding, Settled, SourceRecord};
use super::super::pending::{HandedOut, ObjectKey};
use super::{BucketPoller, Round, Trouble};

/// How many of them are looked for after one listing.
const LOOKED_FOR_MAX: usize = 64;

impl BucketPoller {
    /// Looks for the objects of a source that are to be tried again, and that the listing begun at this moment did not show: it
    /// is not of their hours.
    pub(super) async fn look_up_again(
        &mut self,
        source: usize,
        begun: Instant,
        record: &SourceRecord,
        round: &mut Round,
    ) -> Result<(), Trouble> {
        for key in self.health.pending.due_unseen(source, begun).into_iter().take(LOOKED_FOR_MAX) {
            let Ok(path) = Path::parse(&key.1) else { continue };
            match self.buckets[source].store.head(&path).await {
                Ok(meta) => self.offer(source, meta, record, round).await?,
                Err(Error::NotFound { .. }) => self.end_gone(source, &key),
                // Whether it may be read and whether it may be looked at are often the same right.
                Err(_) => self.health.pending.fail_again(&key, self.settings.poll_interval),
            }
        }
        Ok(())
    }

    fn end_gone(&self, source: usize, key: &ObjectKey) {
        self.health.pending.end(key);
        self.health.log_gone(&self.buckets[source].name(&key.1));
        self.health.clear_reading(source, &self.buckets[source].url);
    }

    /// Leaves out the objects of hours that are over, where they can't be read and others can: no hour would end otherwise.
    pub(super) async fn leave_out(&mut self, source: usize) -> Result<(), Trouble> {
        let newest = self.states[source].newest.values().max();
        let lateness = self.settings.lateness.as_secs();
        let Some(over) = newest.map(|newest| self.begun(*newest).before(lateness)) else { return Ok(()) };
        let url = Arc::clone(&self.buckets[source].url);
        let (mut keys, mut records): (Vec<ObjectKey>, Vec<Settled>) = (Vec::new(), Vec::new());
        for (key, version, HandedOut(handed)) in self.health.pending.failed_before(source, over) {
            let known = self.state.object(&url, &key.1)?;
            // What was handed out of it settles first.
            let is_settled =
                handed.is_none_or(|handed| known.as_ref().is_some_and(|known| known.is_as_far_as(&handed)));
            if !is_settled {
                continue;
            }
            let (place, print) = known.map_or((None, None), |known| (known.place, known.print));
            // Until it is written anew.
            let record = ObjectRecord { version, standing: ObjectStanding::LeftOut, place, print };
            records.push((Arc::clone(&url), key.1.clone(), record));
            keys.push(key);
        }
        if keys.is_empty() {
            return Ok(());
        }
        self.commit(move |state| state.settle(&records)).await?;
        for key in keys {
            self.health.pending.end(&key);
            self.health.left_out.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                object = self.buckets[source].name(&key.1),
                "an object of a bucket could not be read until its hour was over (queue.storage.lateness), while others could, \
                 and is left out until it is written anew"
            );
        }
        self.health.clear_reading(source, &url);
        Ok(())
    }
}
