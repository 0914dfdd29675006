//! The state of a consumer, for the admin port and for the pipeline.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::{BrokerRefusal, Trouble, topic_of};
pub(super) use troubles::is_pattern;
use troubles::{Slot, TroubleSlots};

mod leaders;
mod troubles;

/// How long the group may be without a coordinator before that is trouble: another broker takes over within seconds.
const COORDINATOR_AWAY_MAX: Duration = Duration::from_secs(30);

/// How long the group may take to make this client a member before that is trouble, and ends a run that ends with the partitions:
/// longer than it waits for a member that is busy, five minutes with Kafka's defaults (max.poll.interval.ms). It never answers
/// where there is no topic.
pub(super) const JOINING_MAX: Duration = Duration::from_mins(6);

/// What the group is to this client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    Member,
    /// There is a coordinator, and not yet a place.
    Joining,
    WithoutCoordinator,
}

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
    /// Since when the client's accounts show no connection that is up.
    none_is_up_since: Mutex<Option<Instant>>,
    is_paused: AtomicBool,
    troubles: Mutex<TroubleSlots>,
    /// Whether there is trouble that a message or a commit may disprove.
    is_refused: AtomicBool,
    /// Counting is stopped until commits are taken again.
    is_held: AtomicBool,
    /// Why nothing can be acknowledged any more.
    lost: OnceLock<Arc<str>>,
    /// Messages that are counted twice, because the last commit failed.
    repeated: AtomicU64,
    is_closed: AtomicBool,
}

/// A look at a consumer.
#[derive(Debug, Clone)]
pub struct KafkaWatch(pub(super) Arc<Health>);

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

    /// For how long, by the client's accounts up to this one, no connection has been up.
    pub(super) fn none_is_up_for(&self, one_is_up: bool) -> Duration {
        let mut since = self.none_is_up_since.lock().unwrap_or_else(PoisonError::into_inner);
        if one_is_up {
            *since = None;
            return Duration::ZERO;
        }
        since.get_or_insert_with(Instant::now).elapsed()
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Relaxed);
    }

    fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Relaxed)
    }

    fn troubles(&self) -> MutexGuard<'_, TroubleSlots> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes trouble. Returns whether to log it: not if it was there already, or the same message was logged a moment ago.
    pub(super) fn note_trouble(&self, trouble: Trouble, words: &str) -> bool {
        let mut troubles = self.troubles();
        if trouble == Trouble::Reads {
            troubles.readable.clear();
        }
        let is_news = troubles.slot(trouble).note_trouble(words);
        self.is_refused.store(troubles.may_be_disproved(), Ordering::Relaxed);
        is_news
    }

    fn note_topic_trouble(&self, topic: &str, words: &'static str) -> bool {
        let mut troubles = self.troubles();
        troubles.topics.insert(topic.to_owned(), words);
        let words = troubles.words_of_topics().unwrap_or_default();
        self.is_refused.store(true, Ordering::Relaxed);
        troubles.slot(Trouble::Topics).note_trouble(&words)
    }

    /// Notes a refusal, and logs it if it is news.
    pub(super) fn refuse(&self, refusal: &BrokerRefusal, reason: &str) {
        let BrokerRefusal { trouble, words } = *refusal;
        let is_news = match topic_of(reason) {
            Some(topic) if trouble == Trouble::Topics => self.note_topic_trouble(topic, words),
            _ => self.note_trouble(trouble, words),
        };
        if is_news {
            tracing::error!(reason, "kafka: {words}");
        }
    }

    /// The trouble lasts, if there is any.
    pub(super) fn lasts(&self, trouble: Trouble) {
        self.troubles().slot(trouble).seen = Some(Instant::now());
    }

    /// Whether lasting trouble of this kind was logged within the interval of repetition.
    pub(super) fn is_logged(&self, trouble: Trouble) -> bool {
        self.troubles().slot(trouble).is_logged()
    }

    /// Whether there is trouble of this kind.
    pub(super) fn is_in(&self, trouble: Trouble) -> bool {
        self.troubles().slot(trouble).words.is_some()
    }

    /// What is not read of `queue.kafka.topics`.
    pub(super) fn unread(&self) -> Option<String> {
        let all = Trouble::ALL.into_iter().filter(|trouble| trouble.is_of_some_topics());
        let words: Vec<_> = all.filter_map(|trouble| self.message(trouble)).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// Whether partitions have stood still for this long, because they may not be read.
    pub(super) fn is_unreadable_for(&self, at_least: Duration) -> bool {
        let mut troubles = self.troubles();
        self.is_connected()
            && [Trouble::Reads, Trouble::Standstill, Trouble::Leaders].into_iter().any(|trouble| {
                let Slot { words, since, .. } = troubles.slot(trouble);
                words.is_some() && since.is_some_and(|since| since.elapsed() >= at_least)
            })
    }

    /// The topics that are refused; patterns are not among them.
    pub(super) fn refused_topics(&self) -> Vec<String> {
        self.troubles().topics.keys().filter(|topic| !is_pattern(topic)).cloned().collect()
    }

    /// Of the topics asked for these are there.
    pub(super) fn note_topics_found(&self, asked: &[String], found: &[String]) {
        const ABSENT: &str = "a topic of queue.kafka.topics does not exist on the Kafka broker, or this client may not see it: \
                              create it, mend its name, or give this client the right to (Read and Describe on the topic)";
        if self.troubles().forgive_topics(|topic| found.iter().any(|one| one == topic)) {
            log_end(Trouble::Topics);
        }
        let refused = self.refused_topics();
        for topic in asked.iter().filter(|topic| !found.contains(topic) && !refused.contains(topic)) {
            if self.note_topic_trouble(topic, ABSENT) {
                tracing::error!(%topic, "kafka: {ABSENT}");
            }
        }
    }

    /// A broker is connected. Without messages to read, only this shows the end of a refusal.
    pub(super) fn note_connected(&self) {
        let mut troubles = self.troubles();
        if troubles.slot(Trouble::Access).is_out_of_date() {
            troubles.clear(Trouble::Access);
        }
    }

    /// Fetching goes on, and refusals of it would be reported again.
    pub(super) fn note_fetching(&self) {
        for trouble in [Trouble::Reads, Trouble::Standstill] {
            let mut troubles = self.troubles();
            if troubles.slot(trouble).is_out_of_date() && troubles.clear(trouble) {
                log_end(trouble);
            }
        }
    }

    /// All partitions are read to their end, so none of their topics is refused any more.
    pub(super) fn note_all_read(&self) {
        if self.clear(Trouble::Reads) {
            log_end(Trouble::Reads);
        }
    }

    /// What the group is to this client, by the client's latest account.
    pub(super) fn note_membership(&self, membership: Membership) {
        const AWAY: &str = "the coordinator of queue.kafka.group_id can't be had, so nothing is read: are all Kafka brokers \
                            there, and is their topic __consumer_offsets in order?";
        const UNHELPFUL: &str = "the coordinator of queue.kafka.group_id does not take this client into the group, so nothing is \
                                 read: is its topic __consumer_offsets in order?";
        let mut troubles = self.troubles();
        let is_settled = membership == Membership::Member;
        let same =
            troubles.unsettled.take().filter(|(before, _)| *before == membership && self.is_connected());
        // Another kind of trouble has a time of its own.
        if same.is_none() && troubles.clear(Trouble::Coordinator) && is_settled {
            log_end(Trouble::Coordinator);
        }
        if is_settled || !self.is_connected() {
            return;
        }
        let since = same.map_or_else(Instant::now, |(_, since)| since);
        troubles.unsettled = Some((membership, since));
        let (words, patience, explained_by): (_, _, &[Trouble]) = match membership {
            Membership::Joining => {
                (UNHELPFUL, JOINING_MAX, &[Trouble::Access, Trouble::Group, Trouble::Topics])
            }
            _ => (AWAY, COORDINATOR_AWAY_MAX, &[Trouble::Access, Trouble::Group]),
        };
        let is_explained = explained_by.iter().any(|trouble| troubles.slot(*trouble).words.is_some());
        if since.elapsed() >= patience
            && !is_explained
            && troubles.slot(Trouble::Coordinator).note_trouble(words)
        {
            tracing::error!("kafka: {words}");
        }
    }

    /// The trouble is over. Returns whether there was any.
    pub(super) fn clear(&self, trouble: Trouble) -> bool {
        self.troubles().clear(trouble)
    }

    /// The group has given partitions of these topics: what was refused of them, and of the group, is granted now.
    pub(super) fn assigned(&self, topics: &[&str]) {
        self.granted(topics, |_| ());
    }

    /// A message or a commit of these topics came through. `assigned` are those of all partitions that this process reads: where
    /// not all are readable, one of them may be that whose read was refused.
    pub(super) fn came_through<'t>(&self, topics: &[&str], mut assigned: impl Iterator<Item = &'t str>) {
        self.granted(topics, |troubles| {
            if troubles.slot(Trouble::Reads).words.is_none() {
                return;
            }
            let TroubleSlots { readable, .. } = troubles;
            readable.extend(topics.iter().map(|&topic| topic.to_owned()));
            if assigned.all(|topic| readable.contains(topic)) && troubles.clear(Trouble::Reads) {
                log_end(Trouble::Reads);
            }
        });
    }

    fn granted(&self, topics: &[&str], look_further: impl FnOnce(&mut TroubleSlots)) {
        if !self.is_refused.load(Ordering::Relaxed) {
            return;
        }
        let mut troubles = self.troubles();
        for trouble in Trouble::ALL.into_iter().filter(|trouble| trouble.is_disproved_by_messages()) {
            if troubles.clear(trouble) {
                log_end(trouble);
            }
        }
        // A pattern may fit nothing yet.
        if troubles.forgive_topics(|topic| is_pattern(topic) || topics.contains(&topic)) {
            log_end(Trouble::Topics);
        }
        look_further(&mut troubles);
        self.is_refused.store(troubles.may_be_disproved(), Ordering::Relaxed);
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
        self.troubles().slot(trouble).words.clone()
    }
}

fn log_end(trouble: Trouble) {
    tracing::info!(refused = ?trouble, "kafka: what was refused is granted, or there again");
}

impl KafkaWatch {
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
        self.0.is_paused()
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
mod tests;
