//! Logs changes of subscriptions of Amazon SNS.

use tracing::warn;

use super::super::coding::{self, Coding, Plain};
use super::super::intermediary::{Intermediary, SubscriptionChange, SubscriptionMessage};
use super::super::memory::Share;
use super::super::refusal::Refusal;
use super::{BodyLimits, PushHandler, UNPACK_INLINE_BYTES_MAX};
use http_listener::Caller;

/// Lines about subscriptions in ten seconds: each has a URL that comes once, so one must not hide another's, and a
/// platform subscribes to many topics at a time.
const SUBSCRIPTION_LINES_MAX: u32 = 100;

impl BodyLimits {
    /// The limits for who pushes. A change of a subscription has some 2 KiB, and is read on the connection's task: what takes
    /// longer there would delay other connections.
    pub(super) fn of(mut self, intermediary: &Intermediary) -> Self {
        if matches!(intermediary, Intermediary::Sns { subscription: Some(_) }) {
            self.body_bytes_max = self.body_bytes_max.min(UNPACK_INLINE_BYTES_MAX);
        }
        self
    }
}

impl PushHandler {
    /// Logs the change: a person decides whether to confirm a subscription. No event is in it.
    pub(super) fn log_subscription(
        &self,
        change: SubscriptionChange,
        limits: BodyLimits,
        coding: Coding,
        mut wire: Vec<u8>,
        mut share: Share,
        caller: &Caller,
    ) -> Result<u32, Refusal> {
        let Plain { body, .. } = coding::undo(coding, &mut wire, limits.body_bytes_max, &mut share)?;
        if let Some(hidden) = self.counters.subscription_log.pass_one_of(SUBSCRIPTION_LINES_MAX) {
            let (SubscriptionMessage { topic, url }, peer) = (SubscriptionMessage::of(&body), caller.peer);
            match change {
                SubscriptionChange::Subscribed => warn!(
                    %peer, topic, url, hidden,
                    "Amazon SNS asks whether this port is to be subscribed to a topic; if it is, open the URL, or use `aws sns \
                     confirm-subscription`: it is never opened from here, and nothing comes before that"
                ),
                SubscriptionChange::Unsubscribed => warn!(
                    %peer, topic, url, hidden,
                    "Amazon SNS has ended a subscription of this port; if that was a mistake, open the URL"
                ),
            }
        }
        Ok(0)
    }
}
