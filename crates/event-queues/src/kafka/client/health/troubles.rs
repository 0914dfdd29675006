//! What keeps events from coming, by kind and by topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::refusal::Trouble;
use super::Membership;

/// How soon the same message about the same trouble is logged again.
const TELL_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// A refused connection is tried again within ten seconds, and its refusal reported within half a minute; a fetch, too: after
/// this time without a report the refusal is over.
pub(super) const REFUSED_AGAIN_WITHIN: Duration = Duration::from_mins(1);

/// All trouble there is.
#[derive(Debug, Default)]
pub(super) struct TroubleSlots {
    pub(super) slots: [Slot; Trouble::ALL.len()],
    /// Topics and patterns of the subscription that are refused, with the message.
    pub(super) topics: BTreeMap<String, &'static str>,
    /// Topics that were read since a read was refused last.
    pub(super) readable: BTreeSet<String>,
    /// Why this client is not a member although a broker is connected, and since when.
    pub(super) unsettled: Option<(Membership, Instant)>,
    /// Since when a partition has no leader that can be reached.
    pub(super) leaderless_since: Option<Instant>,
}

/// One kind of trouble.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The message, while it lasts.
    pub(super) words: Option<Arc<str>>,
    /// Since when it lasts.
    pub(super) since: Option<Instant>,
    /// When it was last reported.
    pub(super) seen: Option<Instant>,
    /// The message that was logged last, and when.
    pub(super) told: Option<(Arc<str>, Instant)>,
}

impl Slot {
    /// Notes trouble. Returns whether to log it: not if it was there already, or the same message was logged a moment ago.
    pub(super) fn note_trouble(&mut self, words: &str) -> bool {
        let now = Instant::now();
        self.seen = Some(now);
        if self.words.as_deref() == Some(words) {
            return false;
        }
        if self.words.is_none() {
            self.since = Some(now);
        }
        let words: Arc<str> = words.into();
        self.words = Some(Arc::clone(&words));
        let is_told = self.told.as_ref().is_some_and(|(told, at)| {
            *told == words && now.saturating_duration_since(*at) < TELL_AGAIN_AFTER
        });
        if !is_told {
            self.told = Some((words, now));
        }
        !is_told
    }

    /// Whether it lasts, and was logged within the interval of repetition.
    pub(super) fn is_logged(&self) -> bool {
        self.words.is_some() && self.told.as_ref().is_some_and(|(_, at)| at.elapsed() < TELL_AGAIN_AFTER)
    }

    /// Whether it has not been reported for so long that it is over.
    pub(super) fn is_out_of_date(&self) -> bool {
        self.words.is_some() && self.seen.is_none_or(|seen| seen.elapsed() > REFUSED_AGAIN_WITHIN)
    }
}

impl TroubleSlots {
    pub(super) fn slot(&mut self, trouble: Trouble) -> &mut Slot {
        &mut self.slots[trouble as usize]
    }

    /// Whether a message or a commit may disprove any of it.
    pub(super) fn may_be_disproved(&mut self) -> bool {
        let mut all = Trouble::ALL.into_iter();
        all.any(|one| {
            (one.is_disproved_by_messages() || one.is_of_some_topics()) && self.slot(one).words.is_some()
        })
    }

    /// The message about the topics that are refused.
    pub(super) fn words_of_topics(&self) -> Option<String> {
        let mut by_words: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (topic, words) in &self.topics {
            by_words.entry(words).or_default().push(topic);
        }
        let all: Vec<_> =
            by_words.into_iter().map(|(words, topics)| format!("{words}: {}", topics.join(", "))).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// These are refused no more. Returns whether none is left, and there were any.
    pub(super) fn forgive_topics(&mut self, is_over: impl Fn(&str) -> bool) -> bool {
        self.topics.retain(|topic, _| !is_over(topic));
        let words = self.words_of_topics();
        let slot = self.slot(Trouble::Topics);
        let before = std::mem::replace(&mut slot.words, words.map(Into::into));
        before.is_some() && slot.words.is_none()
    }

    /// The trouble is over. Returns whether there was any.
    pub(super) fn clear(&mut self, trouble: Trouble) -> bool {
        self.slot(trouble).words.take().is_some()
    }
}

/// librdkafka takes for a regular expression what begins so.
pub(in super::super) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}
