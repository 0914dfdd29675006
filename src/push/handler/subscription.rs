//! What Amazon SNS asks or tells instead of handing events over.

use tracing::warn;

use super::super::coding::{self, Coding, Plain};
use super::super::intermediary::{SnsNotice, SnsWords};
use super::super::memory::Share;
use super::super::refusal::Refusal;
use super::{CHECK_INLINE_BYTES_MAX, PushHandler};
use http_listener::Caller;

impl PushHandler {
    /// Tells what Amazon SNS asks or says: who looks after this decides whether a subscription is confirmed. No event is in it.
    pub(super) fn take_notice(
        &self,
        notice: SnsNotice,
        coding: Coding,
        mut wire: Vec<u8>,
        mut share: Share,
        caller: &Caller,
    ) -> Result<u32, Refusal> {
        let bytes_max = self.limits.body_bytes_max.min(CHECK_INLINE_BYTES_MAX);
        let Plain { body, .. } = coding::undo(coding, &mut wire, bytes_max, &mut share)?;
        if let Some(hidden) = self.counters.notice_log.pass() {
            let (SnsWords { topic, url }, peer) = (SnsWords::of(&body), caller.peer);
            match notice {
                SnsNotice::Subscribed => warn!(
                    %peer, topic, url, hidden,
                    "Amazon SNS asks whether this port is to be subscribed to a topic; if it is, open the URL, or use `aws sns \
                     confirm-subscription`: it is never opened from here, and nothing comes before that"
                ),
                SnsNotice::Unsubscribed => warn!(
                    %peer, topic, url, hidden,
                    "Amazon SNS has ended a subscription of this port; if that was a mistake, open the URL"
                ),
            }
        }
        Ok(0)
    }
}
