//! Takes the buckets' notifications between two listings.

use std::sync::Arc;
use std::time::Duration;

use object_store::{Error, ObjectStoreExt as _};
use tokio::time::Instant;

use super::super::notifications::{Notification, Notifications, NotifiedObject};
use super::{BucketPoller, Over, Round, SWEEP_INTERVAL, TROUBLED_MAX, Trouble};

/// How long to wait after notifications could not be received.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Pause after a receive that returned only messages that are left in their queue; with a visibility timeout of 0 they return
/// at once.
const STRAY_PAUSE: Duration = Duration::from_secs(5);
/// How often a message that is left in its queue is logged: there may be many, which come again and again.
const STRAY_INTERVAL: Duration = Duration::from_mins(10);

/// What became of the messages of one receive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TakenMessages {
    /// Whether to take the next messages at once.
    pub(super) is_free: bool,
    /// Whether one tells of a bucket that is not read here, and is left in its queue.
    pub(super) is_foreign: bool,
}

impl BucketPoller {
    /// Waits for the next listing, and takes notifications meanwhile. After a successful listing the next one can wait
    /// longer, unless notifications can't be taken, or what was notified is to be looked at again.
    pub(super) async fn wait(&mut self, wait: Duration, failed: bool) -> Result<(), Over> {
        let begun = Instant::now();
        let Some(notifications) = self.notifications.clone() else { return self.sleep(begun + wait).await };
        let mut until = begun + if failed { wait } else { wait.max(SWEEP_INTERVAL) };
        loop {
            until = until.min(self.next_look(begun + wait).unwrap_or(until));
            if Instant::now() >= until {
                break;
            }
            let heard = tokio::select! {
                () = self.found.closed() => return Err(Over::Closed),
                () = tokio::time::sleep_until(until) => break,
                heard = notifications.receive() => heard,
            };
            let taken = match heard {
                Ok(messages) => self.take(&notifications, messages).await,
                Err(words) => Err(Trouble::Notifications(words)),
            };
            match taken {
                Ok(TakenMessages { is_free, is_foreign }) => {
                    if self.unheard.take().is_some() {
                        tracing::info!(queue = notifications.url.as_str(), "notifications are taken again");
                    }
                    // It is another bucket that notifies, perhaps alone: then listings go on as without notifications.
                    if is_foreign && !self.is_notified {
                        until = until.min(begun + wait);
                    }
                    if !is_free {
                        self.sleep(until.min(Instant::now() + STRAY_PAUSE)).await?;
                    }
                }
                // Messages that were not deleted come again. Until then listings go on as without notifications.
                Err(trouble) => {
                    self.log_unheard(&notifications, trouble)?;
                    until = begun + wait;
                    self.sleep(until.min(Instant::now() + RETRY_INTERVAL)).await?;
                }
            }
        }
        Ok(())
    }

    /// When a listing is to find what is not notified again: an object whose reading was interrupted, or that was written over
    /// while an earlier version was on its way. No earlier than this.
    fn next_look(&self, earliest: Instant) -> Option<Instant> {
        let due = self.health.pending.next_due().map(|due| earliest.max(due.into()));
        if self.is_outdated { Some(earliest) } else { due }
    }

    async fn sleep(&self, until: Instant) -> Result<(), Over> {
        tokio::select! {
            () = self.found.closed() => Err(Over::Closed),
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }

    fn log_unheard(&mut self, notifications: &Notifications, trouble: Trouble) -> Result<(), Over> {
        let words = match trouble {
            Trouble::Notifications(words) => words,
            Trouble::Store(error) => super::advice(&error),
            Trouble::Over(over) => return Err(over),
        };
        if self.unheard.as_deref() != Some(&*words) {
            let queue = notifications.url.as_str();
            tracing::warn!(
                queue,
                trouble = words,
                "notifications can't be taken; the buckets are listed instead"
            );
            self.unheard = Some(words);
        }
        Ok(())
    }

    /// Hands over the objects of messages, and deletes these. A message that can't be handed over, is no notification, or
    /// tells of another bucket, holds up no other.
    pub(super) async fn take(
        &mut self,
        notifications: &Notifications,
        messages: Vec<Notification>,
    ) -> Result<TakenMessages, Trouble> {
        let (is_empty, mut is_foreign) = (messages.is_empty(), false);
        let (mut known, mut trouble) = (Vec::new(), None);
        'messages: for message in messages {
            let Some(objects) = &message.objects else {
                self.log_stray(notifications, &message);
                continue;
            };
            let of_source =
                |object: &NotifiedObject| self.buckets.iter().any(|bucket| bucket.is_s3s(&object.bucket));
            match objects.first() {
                // A test of S3's, or about a removed object.
                None => {}
                Some(_) if objects.iter().any(of_source) => self.is_notified = true,
                Some(object) => {
                    is_foreign = true;
                    self.log_foreign(notifications, object);
                    continue;
                }
            }
            for object in objects {
                match self.offer_notified(object).await {
                    Ok(()) => {}
                    Err(Trouble::Over(over)) => return Err(Trouble::Over(over)),
                    Err(error) => {
                        trouble = Some(error);
                        continue 'messages;
                    }
                }
            }
            known.push(message);
        }
        notifications.delete(&known).await.map_err(Trouble::Notifications)?;
        let taken = TakenMessages { is_free: is_empty || !known.is_empty(), is_foreign };
        trouble.map_or(Ok(taken), Err)
    }

    fn log_foreign(&mut self, notifications: &Notifications, object: &NotifiedObject) {
        if is_due(&mut self.foreign_told) {
            tracing::warn!(
                queue = notifications.url.as_str(),
                bucket = object.bucket,
                "a message tells of a bucket that is not read here, and is left in its queue"
            );
        }
    }

    fn log_stray(&mut self, notifications: &Notifications, message: &Notification) {
        if is_due(&mut self.stray_told) {
            tracing::warn!(
                queue = notifications.url.as_str(),
                begins = message.beginning,
                "a message is no notification of S3, EventBridge or SNS, and is left in its queue"
            );
        }
    }

    /// Hands an object to the reader, if a listing would find it.
    async fn offer_notified(&mut self, object: &NotifiedObject) -> Result<(), Trouble> {
        if !self.is_counted(&object.path) {
            return Ok(());
        }
        let buckets = Arc::clone(&self.buckets);
        for (source, bucket) in buckets.iter().enumerate() {
            let is_within = bucket.is_s3s(&object.bucket) && object.path.prefix_matches(&bucket.prefix);
            // The first listing of a source comes before its notifications.
            let Some(record) = self.states[source].record.clone().filter(|_| is_within) else { continue };
            let meta = match bucket.store.head(&object.path).await {
                Ok(meta) => meta,
                // It is gone again.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut round = Round { troubled_max: TROUBLED_MAX, ..Round::default() };
            self.offer(source, meta, &record, &mut round).await?;
            // Only a listing finds it again.
            self.states[source].is_full |= round.is_full;
        }
        Ok(())
    }
}

/// Whether something is to be logged again; notes that it is.
fn is_due(told: &mut Option<Instant>) -> bool {
    let is_due = told.is_none_or(|told| told.elapsed() >= STRAY_INTERVAL);
    if is_due {
        *told = Some(Instant::now());
    }
    is_due
}
