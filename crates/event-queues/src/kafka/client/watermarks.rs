//! The poller's handling of watermarks. The client learns them with each fetch and reports them with its statistics, so the
//! broker need not be asked.

use std::time::{Duration, Instant};

use super::broker_requests::BrokerQuestion;
use super::health::JOINING_MAX;
use super::offsets::{Loss, Partition, Watermarks};
use super::poller::{Halt, Joining, Poller, PollerOutput, TopicsAsked};
use super::refusal::Trouble;

/// After a change of the fetched partitions, old statistics may still be on their way: an end counts only after two new
/// ones, and this much time.
const STEADY_STATISTICS: u32 = 2;
const STEADY_AFTER: Duration = Duration::from_secs(2);

/// How long a run that ends with the partitions waits for one: longer than others take to give one up.
const WITHOUT_MAX: Duration = Duration::from_mins(1);

/// How often what is refused is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(20);

/// How often it is asked whether topics are there that were there: as librdkafka does by itself (topic.metadata.refresh.interval.ms).
const LOOK_AGAIN_AFTER: Duration = Duration::from_mins(5);

/// The time since which the same partitions are fetched without a pause.
#[derive(Debug)]
pub(super) struct Steady {
    since: Instant,
    statistics: u32,
    /// There were statistics since the last look at ends.
    is_news: bool,
}

impl Steady {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), statistics: 0, is_news: false }
    }

    /// Partitions came or went, or fetching was paused or resumed.
    pub(super) fn disturb(&mut self) {
        *self = Self::new();
    }
}

impl Poller {
    /// Notes a gap before a message, to be examined with statistics from after its fetch.
    pub(super) fn compare(&mut self, partition: &Partition, expected: i64, offset: i64) {
        if expected < offset {
            self.offsets.leave_out(partition, expected, offset);
        } else if offset < expected {
            self.offsets.go_back(partition);
            let Partition { topic, number } = partition;
            tracing::warn!(
                %topic, partition = number, expected, offset,
                "kafka: a partition goes back: the topic was made anew, or the group's offsets were set"
            );
        }
    }

    /// Handles the client's statistics.
    pub(super) fn update_watermarks(&mut self, all: &[(Partition, Watermarks)]) {
        self.steady.statistics = self.steady.statistics.saturating_add(1);
        self.steady.is_news = true;
        for (partition, marks) in all {
            let end = if self.is_paused { self.offsets.end(partition).max(marks.end) } else { marks.end };
            if let Some(loss) = self.offsets.update_watermarks(partition, Watermarks { end, ..*marks }) {
                self.log_loss(partition, loss);
            }
        }
        // What is not fetched has no news of its end.
        if self.is_paused && !self.is_asking {
            let assigned = self.offsets.assigned().cloned().collect();
            self.is_asking = self.questions.send(BrokerQuestion::Ends(assigned)).is_ok();
        }
        self.show_lag();
        self.watch_commits();
        self.watch_refusals();
    }

    /// Handles the ends of paused partitions.
    pub(super) fn update_ends(&mut self, ends: &[(Partition, i64)]) {
        self.is_asking = false;
        for (partition, end) in ends.iter().filter(|_| self.is_paused) {
            self.offsets.raise_end(partition, *end);
        }
        self.show_lag();
    }

    /// Shows how much there is left to read, or to commit.
    pub(super) fn show_lag(&self) {
        self.parts.health.set_lag(self.offsets.lag(), self.offsets.waiting());
    }

    pub(super) fn log_loss(&self, partition: &Partition, Loss { messages, expected, offset }: Loss) {
        self.parts.health.skip(messages);
        let Partition { topic, number } = partition;
        tracing::error!(
            %topic, partition = number, skipped = messages, expected, offset,
            "kafka: messages are lost: the broker threw them away before they were read; give the topic a longer \
             retention, or read faster"
        );
    }

    /// A poll gave nothing at all: everything that the client had fetched by its last statistics has been taken.
    pub(super) fn emptied(&mut self) {
        let Steady { since, statistics, is_news } = &mut self.steady;
        if !*is_news
            || *statistics < STEADY_STATISTICS
            || since.elapsed() < STEADY_AFTER
            || self.batch.is_some()
            || !self.early.is_empty()
        {
            return;
        }
        *is_news = false;
        for (partition, loss) in self.offsets.pass_ends() {
            self.log_loss(&partition, loss);
        }
        self.show_lag();
    }

    /// Looks whether what is refused is so still: librdkafka reports only the beginning.
    fn watch_refusals(&mut self) {
        // Nothing would be reported.
        if self.is_paused || !self.parts.health.is_connected() {
            self.parts.health.lasts(Trouble::Reads);
        }
        self.parts.health.note_fetching();
        let mut topics = self.parts.health.refused_topics();
        let every = if topics.is_empty() { LOOK_AGAIN_AFTER } else { TRY_AGAIN_AFTER };
        topics.extend(
            self.parts.unwatched.iter().filter(|topic| !topics.contains(topic)).cloned().collect::<Vec<_>>(),
        );
        let is_due = match self.topics_asked {
            TopicsAsked::Never => true,
            TopicsAsked::UnderWay => false,
            TopicsAsked::Answered(at) => at.elapsed() >= every,
        };
        if is_due
            && !topics.is_empty()
            && self.parts.health.is_connected()
            && self.questions.send(BrokerQuestion::Topics(topics)).is_ok()
        {
            self.topics_asked = TopicsAsked::UnderWay;
        }
        // A fetch that is begun anew tells its refusal anew.
        if self.parts.health.is_in(Trouble::Reads)
            && !self.is_paused
            && self.tried_at.is_none_or(|tried| tried.elapsed() >= TRY_AGAIN_AFTER)
        {
            self.tried_at = Some(Instant::now());
            self.pause();
            self.resume();
        }
    }

    /// Handles which of the topics asked for are there.
    pub(super) fn update_topics(&mut self, asked: &[String], found: Option<&[String]>) {
        self.topics_asked = TopicsAsked::Answered(Instant::now());
        if let Some(found) = found {
            self.parts.health.note_topics_found(asked, found);
        }
    }

    /// Nothing comes, or all has been read that was there at the beginning. A run that ends with the partitions ends if all are at
    /// their end, or those that may be read, and fails if the group gives it none.
    pub(super) fn rest(&mut self) -> Result<(), Halt> {
        if !self.parts.is_until_empty {
            return Ok(());
        }
        if let Joining::Unanswered(connected) = self.joining {
            let is_connected = self.parts.health.is_connected();
            let since = is_connected.then(|| connected.unwrap_or_else(Instant::now));
            self.joining = Joining::Unanswered(since);
            if since.is_some_and(|since| since.elapsed() >= JOINING_MAX) {
                return Err(Halt::Failed(format!(
                    "the group has not answered within {JOINING_MAX:?}: there is no topic of queue.kafka.topics, the \
                     group's coordinator is not there, or other members have all partitions"
                )));
            }
        }
        if self.without_since.is_some_and(|since| since.elapsed() >= WITHOUT_MAX) {
            return Err(Halt::Failed(format!(
                "the group has given this process no partition within {WITHOUT_MAX:?}: other members have them all, or there is \
                 no topic of queue.kafka.topics"
            )));
        }
        if self.offsets.assigned().next().is_none() {
            return Ok(());
        }
        let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
        // Who is told nothing of topics that are not there asks before the end.
        if !self.parts.unwatched.is_empty() && !matches!(self.topics_asked, TopicsAsked::Answered(_)) {
            return Ok(());
        }
        let is_at_end = self.offsets.are_at_end();
        if is_at_end {
            self.parts.health.note_all_read();
        }
        // What may not be read has no end.
        let is_stuck =
            || idle_since.elapsed() >= WITHOUT_MAX && self.parts.health.is_unreadable_for(WITHOUT_MAX);
        if is_at_end || is_stuck() {
            self.send(PollerOutput::End)?;
            self.parts.is_until_empty = false;
        }
        Ok(())
    }
}
