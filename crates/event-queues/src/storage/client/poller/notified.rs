//! What the buckets notify of, between two listings.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use object_store::{Error, ObjectStoreExt as _};
use tokio::time::Instant;

use super::super::layout::PathPart;
use super::super::notifications::{Notification, Notifications, NotifiedObject};
use super::{BucketPoller, Round, SWEEP_INTERVAL, Trouble};

/// How long a queue of notifications that can't be read is left alone.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// And one that had nothing but messages that are none, which come back at once where its visibility timeout is 0.
const STRAY_PAUSE: Duration = Duration::from_secs(5);

impl BucketPoller {
    /// Waits for the next listing, and takes what is notified meanwhile. After a listing that succeeded the next one has time, but
    /// where notifications can't be taken. Breaks where nobody reads any more.
    pub(super) async fn wait(&mut self, wait: Duration, failed: bool) -> ControlFlow<()> {
        self.is_stray_told = false;
        let begun = Instant::now();
        let Some(notifications) = self.notifications.clone() else { return self.sleep(begun + wait).await };
        let mut until = begun + if failed { wait } else { wait.max(SWEEP_INTERVAL) };
        while Instant::now() < until {
            let heard = tokio::select! {
                () = self.found.closed() => return ControlFlow::Break(()),
                () = tokio::time::sleep_until(until) => break,
                heard = notifications.receive() => heard,
            };
            let taken = match heard {
                Ok(messages) => self.take(&notifications, messages).await,
                Err(words) => Err(Trouble::Notifications(words)),
            };
            match taken {
                Ok(is_free) => {
                    if self.unheard.take().is_some() {
                        tracing::info!(queue = notifications.url.as_str(), "notifications are taken again");
                    }
                    if !is_free {
                        self.sleep(until.min(Instant::now() + STRAY_PAUSE)).await?;
                    }
                }
                Err(Trouble::Closed) => return ControlFlow::Break(()),
                // What was not deleted comes again. Until then it is listed as if there were none.
                Err(trouble) => {
                    self.tell_unheard(&notifications, trouble);
                    until = begun + wait;
                    self.sleep(until.min(Instant::now() + RETRY_INTERVAL)).await?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    async fn sleep(&self, until: Instant) -> ControlFlow<()> {
        tokio::select! {
            () = self.found.closed() => ControlFlow::Break(()),
            () = tokio::time::sleep_until(until) => ControlFlow::Continue(()),
        }
    }

    fn tell_unheard(&mut self, notifications: &Notifications, trouble: Trouble) {
        let words = match trouble {
            Trouble::Notifications(words) => words,
            Trouble::Store(error) => super::advice(&error),
            Trouble::Memory(error) => error.to_string(),
            Trouble::Closed => return,
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
    }

    /// Hands over the objects of messages, and deletes these. What can't be handed over, or is no notification, holds up nothing
    /// else. Returns whether the next messages may be taken at once.
    async fn take(
        &mut self,
        notifications: &Notifications,
        messages: Vec<Notification>,
    ) -> Result<bool, Trouble> {
        let is_empty = messages.is_empty();
        let (mut known, mut trouble) = (Vec::new(), None);
        'messages: for message in messages {
            let Some(objects) = &message.objects else {
                self.tell_stray(notifications, &message);
                continue;
            };
            for object in objects {
                match self.offer_notified(object).await {
                    Ok(()) => {}
                    Err(Trouble::Closed) => return Err(Trouble::Closed),
                    Err(error) => {
                        trouble = Some(error);
                        continue 'messages;
                    }
                }
            }
            known.push(message);
        }
        notifications.delete(&known).await.map_err(Trouble::Notifications)?;
        trouble.map_or(Ok(is_empty || !known.is_empty()), Err)
    }

    /// Once between two listings: there may be many, which come again and again.
    fn tell_stray(&mut self, notifications: &Notifications, message: &Notification) {
        if !std::mem::replace(&mut self.is_stray_told, true) {
            tracing::warn!(
                queue = notifications.url.as_str(),
                begins = message.beginning,
                "a message is no notification of S3, EventBridge or SNS, and is left in its queue"
            );
        }
    }

    /// Hands an object to the reader, if it is one that listing would find.
    async fn offer_notified(&mut self, object: &NotifiedObject) -> Result<(), Trouble> {
        let is_counted = object.path.parts().all(|part| match PathPart::of(part.as_ref()) {
            PathPart::EventType(event_type) => self.settings.event_types.contains(event_type),
            _ => true,
        });
        if !is_counted {
            return Ok(());
        }
        let buckets = Arc::clone(&self.buckets);
        for (source, bucket) in buckets.iter().enumerate() {
            let is_within = bucket.s3_name.as_deref() == Some(&*object.bucket)
                && object.path.prefix_matches(&bucket.prefix);
            // What was not listed for the first time is listed before anything else.
            let Some(record) = self.states[source].record.clone().filter(|_| is_within) else { continue };
            let meta = match bucket.store.head(&object.path).await {
                Ok(meta) => meta,
                // It is gone again.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            self.offer(source, meta, &record, &mut Round::default()).await?;
        }
        Ok(())
    }
}
