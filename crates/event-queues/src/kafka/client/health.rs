//! The state of a consumer, for the admin port and for the pipeline.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::{BrokerRefusal, Trouble};

/// How soon the same message about the same trouble is logged again.
const TELL_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// A refused connection is tried again within ten seconds, and its refusal reported within half a minute: after this time
/// without a report the refusal is over.
const REFUSED_AGAIN_WITHIN: Duration = Duration::from_mins(1);

/// Written by the consumer's thread, read by any.
#[derive(Debug, Default)]
pub(super) struct Health {
    lag: AtomicU64,
    waiting: AtomicU64,
    partitions: AtomicU64,
    skipped: AtomicU64,
    /// Whether the group is to be joined: before, no broker is asked for.
    is_joining: AtomicBool,
    is_connected: AtomicBool,
    is_paused: AtomicBool,
    troubles: Mutex<[Slot; Trouble::ALL.len()]>,
    /// Whether there is trouble that a message or a commit disproves.
    is_refused: AtomicBool,
    /// Counting is stopped until commits are taken again.
    is_held: AtomicBool,
    /// Why nothing can be acknowledged any more.
    lost: OnceLock<Arc<str>>,
    /// Messages that are counted twice, because the last commit failed.
    repeated: AtomicU64,
    is_closed: AtomicBool,
}

/// One kind of trouble.
#[derive(Debug, Default)]
struct Slot {
    /// The message, while it lasts.
    words: Option<Arc<str>>,
    /// When it was last reported.
    seen: Option<Instant>,
    /// The message that was logged last, and when.
    told: Option<(Arc<str>, Instant)>,
}

/// A look at a consumer.
#[derive(Debug, Clone)]
pub struct Watch(pub(super) Arc<Health>);

impl Health {
    /// Messages that are not read yet, or not committed; and those of them that are not read.
    pub(super) fn set_lag(&self, messages: u64, waiting: u64) {
        self.lag.store(messages, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(super) fn set_partitions(&self, partitions: usize) {
        self.partitions.store(partitions as u64, Ordering::Relaxed);
    }

    pub(super) fn skip(&self, messages: u64) {
        self.skipped.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn join(&self) {
        self.is_joining.store(true, Ordering::Relaxed);
    }

    /// Returns whether that is news.
    pub(super) fn set_connected(&self, is_connected: bool) -> bool {
        self.is_connected.swap(is_connected, Ordering::Relaxed) != is_connected
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    /// Notes trouble. Returns whether to log it: not if it was there already, or the same message was logged a moment ago.
    pub(super) fn complain(&self, trouble: Trouble, words: &str) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut troubles[trouble as usize];
        if trouble.is_disproved_by_messages() {
            self.is_refused.store(true, Ordering::Relaxed);
        }
        let now = Instant::now();
        slot.seen = Some(now);
        if slot.words.as_deref() == Some(words) {
            return false;
        }
        let words: Arc<str> = words.into();
        slot.words = Some(Arc::clone(&words));
        let is_told = slot.told.as_ref().is_some_and(|(told, at)| {
            *told == words && now.saturating_duration_since(*at) < TELL_AGAIN_AFTER
        });
        if !is_told {
            slot.told = Some((words, now));
        }
        !is_told
    }

    /// Notes a refusal, and logs it if it is news.
    pub(super) fn refuse(&self, refusal: &BrokerRefusal, reason: &str) {
        if self.complain(refusal.trouble, refusal.words) {
            tracing::error!(reason, "kafka: {}", refusal.words);
        }
    }

    /// Whether lasting trouble of this kind was logged within the interval of repetition.
    pub(super) fn is_told(&self, trouble: Trouble) -> bool {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot { words, told, .. } = &troubles[trouble as usize];
        words.is_some() && told.as_ref().is_some_and(|(_, at)| at.elapsed() < TELL_AGAIN_AFTER)
    }

    /// A broker is connected. Without messages to read, only this shows the end of a refusal.
    pub(super) fn is_let_in(&self) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let Slot { words, seen, .. } = &mut troubles[Trouble::Access as usize];
        if words.is_some() && seen.is_none_or(|seen| seen.elapsed() > REFUSED_AGAIN_WITHIN) {
            *words = None;
        }
    }

    /// The trouble is over. Returns whether there was any.
    pub(super) fn clear(&self, trouble: Trouble) -> bool {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles[trouble as usize].words.take().is_some()
    }

    /// A message or a commit came through: whatever was refused before is granted now.
    pub(super) fn came_through(&self) {
        if self.is_refused.load(Ordering::Relaxed) && self.is_refused.swap(false, Ordering::Relaxed) {
            for trouble in Trouble::ALL.into_iter().filter(|trouble| trouble.is_disproved_by_messages()) {
                if self.clear(trouble) {
                    tracing::info!(refused = ?trouble, "kafka: messages or commits come through behind a refusal");
                }
            }
        }
    }

    /// Commits are refused for good, or taken again.
    pub(super) fn hold(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::Relaxed);
    }

    /// Why nothing may be counted at present.
    pub(super) fn held(&self) -> Option<String> {
        self.is_held.load(Ordering::Relaxed).then(|| {
            self.message(Trouble::Commits)
                .map_or_else(|| "commits are refused".to_owned(), |words| words.to_string())
        })
    }

    /// Nothing can be acknowledged from here on. The first reason stands.
    pub(super) fn lose(&self, reason: &str) {
        self.lost.get_or_init(|| reason.into());
    }

    /// Why nothing can be acknowledged any more.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.get().map(|reason| &**reason)
    }

    pub(super) fn add_repeated(&self, messages: u64) {
        self.repeated.fetch_add(messages, Ordering::Relaxed);
    }

    /// Everything acknowledged is committed, or counted as repeated; only leaving the group is left to be done.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    pub(super) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    fn message(&self, trouble: Trouble) -> Option<Arc<str>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)[trouble as usize].words.clone()
    }
}

impl Watch {
    /// Messages of the partitions of this process that are not read yet, or not committed.
    pub fn lag(&self) -> u64 {
        self.0.lag.load(Ordering::Relaxed)
    }

    /// Those of them that are not read yet.
    pub fn waiting(&self) -> u64 {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How many partitions this process reads.
    pub fn partitions(&self) -> u64 {
        self.0.partitions.load(Ordering::Relaxed)
    }

    /// Messages that the broker had thrown away before they were read, since the start.
    pub fn skipped(&self) -> u64 {
        self.0.skipped.load(Ordering::Relaxed)
    }

    /// Whether fetching is paused because the pipeline is full.
    pub fn is_paused(&self) -> bool {
        self.0.is_paused.load(Ordering::Relaxed)
    }

    /// What keeps events from coming, in words; `None` while all is well.
    pub fn trouble(&self) -> Option<Arc<str>> {
        // A broker that refuses this client can be reached, and says why it can't be used.
        self.0.message(Trouble::Access).or_else(|| {
            if self.0.is_connected() || !self.0.is_joining.load(Ordering::Relaxed) {
                Trouble::ALL.into_iter().find_map(|trouble| self.0.message(trouble))
            } else {
                Some("no Kafka broker can be reached".into())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (Arc<Health>, Watch) {
        let health = Arc::new(Health::default());
        health.set_connected(true);
        (Arc::clone(&health), Watch(health))
    }

    #[test]
    fn one_trouble_does_not_hide_or_clear_another() {
        let (health, watch) = watched();
        assert!(health.complain(Trouble::Registry, "the registry is away"));
        assert!(health.complain(Trouble::Topics, "no such topic"));
        assert_eq!(watch.trouble().as_deref(), Some("no such topic"));
        assert!(health.clear(Trouble::Topics));
        assert_eq!(watch.trouble().as_deref(), Some("the registry is away"));
        assert!(health.complain(Trouble::Access, "no right"));
        assert!(health.clear(Trouble::Registry));
        assert_eq!(watch.trouble().as_deref(), Some("no right"));
    }

    #[test]
    fn a_message_behind_a_refusal_makes_it_ready_again_and_leaves_the_registry_alone() {
        let (health, watch) = watched();
        for trouble in [Trouble::Access, Trouble::Topics, Trouble::Callbacks] {
            assert!(health.complain(trouble, "refused"));
        }
        health.complain(Trouble::Registry, "the registry is away");
        health.came_through();
        assert_eq!(watch.trouble().as_deref(), Some("the registry is away"));
        health.clear(Trouble::Registry);
        assert_eq!(watch.trouble(), None);
    }

    #[test]
    fn the_same_trouble_is_logged_once_a_minute_however_often_it_comes_and_goes() {
        let (health, _watch) = watched();
        assert!(health.complain(Trouble::Access, "refused"));
        assert!(!health.complain(Trouble::Access, "refused"), "it is there already");
        health.came_through();
        assert!(!health.complain(Trouble::Access, "refused"), "it was told a moment ago");
        assert!(health.complain(Trouble::Access, "refused otherwise"));
    }

    #[test]
    fn what_is_refused_is_told_before_what_can_not_be_reached() {
        let health = Arc::new(Health::default());
        let watch = Watch(Arc::clone(&health));
        assert_eq!(watch.trouble(), None, "an import comes before the group is joined");
        health.join();
        assert_eq!(watch.trouble().as_deref(), Some("no Kafka broker can be reached"));
        health.complain(Trouble::Access, "the password is wrong");
        assert_eq!(watch.trouble().as_deref(), Some("the password is wrong"));
    }
}
