//! Commits: when they are made, what their answers mean, and how refusals are handled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::broker_requests::CommitOffsets;
use super::callbacks::{Answer, Event};
use super::offsets::Partition;
use super::poller::Poller;
use super::refusal::{Refused, Trouble, of_commit};

/// How soon a commit that the broker refused is tried again.
const RECOMMIT_AFTER: Duration = Duration::from_secs(1);

/// How long commits may fail, or wait for an answer, before counting stops: sends counted in that time are counted again if
/// this process ends.
const FAILING_MAX: Duration = Duration::from_secs(30);

/// How often to check for an expected answer.
const LOOK: Duration = Duration::from_millis(2);

/// The commits that are under way.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// Offsets that the broker has not answered yet.
    under_way: usize,
    /// When refused commits are tried again.
    again_at: Option<Instant>,
    /// When the first commit since the last success was made.
    waiting_since: Option<Instant>,
    /// Topics that this client may not commit for.
    refused_topics: BTreeSet<Arc<str>>,
    /// Counting is stopped.
    is_held: bool,
}

impl Commits {
    /// Whether the broker has yet to answer.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way > 0
    }
}

impl Poller {
    /// Commits everything acknowledged since the last time, once the broker has answered that commit.
    pub(super) fn commit(&mut self) {
        if self.commits.is_under_way() || self.commits.again_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let offsets = self.offsets.request();
        self.ask_to_commit(offsets);
    }

    fn ask_to_commit(&mut self, offsets: CommitOffsets) {
        if offsets.is_empty() {
            return;
        }
        self.commits.again_at = None;
        self.commits.waiting_since.get_or_insert_with(Instant::now);
        self.commits.under_way = offsets.len();
        if let Err(offsets) = self.committer.send(offsets) {
            // The thread takes one request at a time; only a defect ends it.
            self.commits.under_way = 0;
            self.commits.again_at = Some(Instant::now() + RECOMMIT_AFTER);
            for (partition, offset) in &offsets {
                self.offsets.refuse(partition, *offset);
            }
        }
    }

    /// The answers to a commit.
    pub(super) fn committed(&mut self, answers: &[Answer]) {
        self.commits.under_way = self.commits.under_way.saturating_sub(answers.len());
        let mut refused: Option<(Refused, &KafkaError)> = None;
        let mut is_any_taken = false;
        for Answer { partition, offset, result } in answers {
            match result {
                Ok(()) => {
                    is_any_taken = true;
                    self.offsets.confirm(partition, *offset);
                    self.commits.refused_topics.remove(&partition.topic);
                }
                Err(error) => {
                    self.offsets.refuse(partition, *offset);
                    let kind = of_commit(error.rdkafka_error_code());
                    if let Refused::Right(_) = kind {
                        self.commits.refused_topics.insert(Arc::clone(&partition.topic));
                    }
                    if refused.is_none_or(|(known, _)| !matches!(known, Refused::Right(_))) {
                        refused = Some((kind, error));
                    }
                }
            }
        }
        self.show_lag();
        if let Some((kind, error)) = refused {
            self.commits.again_at = Some(Instant::now() + RECOMMIT_AFTER);
            self.refused(kind, error, is_any_taken);
        } else if !answers.is_empty() {
            self.commits.waiting_since = None;
            let topics: BTreeSet<&str> = answers.iter().map(|answer| &*answer.partition.topic).collect();
            self.came_through(&Vec::from_iter(topics));
        }
        if self.release() {
            tracing::info!("kafka: commits are taken again");
        }
    }

    /// A commit was refused, in part if `is_any_taken`.
    fn refused(&mut self, kind: Refused, error: &KafkaError, is_any_taken: bool) {
        match kind {
            Refused::InPassing => {
                // This is normal while the group rebalances: the next try settles it. Where counting is stopped nothing was
                // taken for long, and this is no sign that the next will be.
                tracing::debug!(%error, "kafka: a commit was refused; trying again");
                if is_any_taken || !self.commits.is_held {
                    self.commits.waiting_since = None;
                }
            }
            Refused::Perhaps => {
                tracing::debug!(%error, "kafka: a commit was refused; trying again");
                self.watch_commits();
            }
            Refused::Right(words) => {
                // Readable topics go on, as long as the group may be used.
                let is_of_group =
                    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
                let is_refused =
                    |partition: &Partition| self.commits.refused_topics.contains(&partition.topic);
                let is_all = is_of_group || self.offsets.assigned().all(is_refused);
                self.commits.waiting_since = None;
                self.log_refusal(words, &error.to_string(), is_all);
            }
        }
    }

    /// Stops counting while commits have failed for long: sends would be counted again.
    pub(super) fn watch_commits(&mut self) {
        let is_late = self.commits.waiting_since.is_some_and(|since| since.elapsed() > FAILING_MAX);
        if is_late && !self.commits.is_held {
            let words = "the Kafka broker has taken no commit for 30 s: is the coordinator of queue.kafka.group_id \
                         there, and its topic __consumer_offsets in order?";
            self.log_refusal(words, "no commit was taken for 30 s", true);
        }
    }

    fn log_refusal(&mut self, words: &str, reason: &str, is_all: bool) {
        let messages = self.offsets.counted_again(self.offsets.assigned());
        if is_all && !self.commits.is_held {
            self.commits.is_held = true;
            self.parts.health.hold(true);
        }
        if self.parts.health.note_trouble(Trouble::Commits, words) {
            tracing::error!(
                reason,
                messages,
                is_counting = !self.commits.is_held,
                "kafka: commits are refused, and what was counted since the last one is counted again if this process \
                 ends: {words}"
            );
        }
    }

    /// Resumes once nothing is refused any more. Returns whether that is news.
    fn release(&mut self) -> bool {
        let is_fine = self.commits.refused_topics.is_empty() && self.commits.waiting_since.is_none();
        let is_news = is_fine && self.parts.health.clear(Trouble::Commits);
        if is_news {
            self.commits.is_held = false;
            self.parts.health.hold(false);
        }
        is_news
    }

    /// Whether counting is stopped, because commits are refused.
    pub(super) fn is_held(&self) -> bool {
        self.commits.is_held
    }

    /// Partitions were given up: their refused commits are void, and counting resumes with the last of them.
    pub(super) fn forgive(&mut self) {
        let assigned: Vec<_> = self.offsets.assigned().cloned().collect();
        self.commits
            .refused_topics
            .retain(|topic| assigned.iter().any(|partition| partition.topic == *topic));
        if self.offsets.unconfirmed(&assigned).is_empty() {
            self.commits.refused_topics.clear();
            self.commits.waiting_since = None;
        }
        self.release();
    }

    /// The group revokes partitions while commits are refused. Sends that are counted and not sent must not be sent any
    /// more: the next owner counts them.
    pub(super) fn lose_held(&self) {
        self.parts.health.lose(
            "the group takes partitions away while commits are refused: what is counted of them can't be committed",
        );
    }

    /// Handles what needs nothing of the pipeline. Partitions that are to be given up, and what comes behind them, are kept for
    /// later.
    pub(super) fn attend_to_commits(&mut self) {
        for event in self.consumer.context().take_events() {
            let is_later = match event {
                Event::Revoked(_) => true,
                // The group waits for it.
                Event::Assigned(_) | Event::Known { .. } => !self.later.is_empty(),
                _ => false,
            };
            if is_later {
                self.defer(event);
            } else {
                self.handle(event);
            }
        }
        // The pipeline takes nothing while counting is stopped, and the other members of the group wait.
        if self.is_held() && self.later.iter().any(|event| matches!(event, Event::Revoked(_))) {
            self.lose_held();
        }
    }

    /// Commits everything acknowledged of `partitions`, and waits for the answer.
    ///
    /// # Errors
    /// Why they are not committed.
    pub(super) fn commit_now(&mut self, partitions: &[Partition], deadline: Instant) -> Result<(), String> {
        let mut reason = "there is no answer: is the coordinator of the group there?".to_owned();
        let mut gone = BTreeSet::new();
        loop {
            let mut offsets = self.offsets.unconfirmed(partitions);
            offsets.retain(|(partition, _)| !gone.contains(partition));
            if offsets.is_empty() {
                log_gone(&gone);
                return Ok(());
            }
            // Who is told to end does not wait for as long, and counts what is acknowledged by then.
            while let Ok(command) = self.parts.commands.try_recv() {
                let _is_to_end = self.obey(command).is_err();
            }
            let deadline = self.close_by.map_or(deadline, |close_by| close_by.min(deadline));
            let is_over = self.consumer.assignment_lost() || self.consumer.client().fatal_error().is_some();
            if is_over || Instant::now() >= deadline {
                return Err(reason);
            }
            if !self.commits.is_under_way() {
                self.ask_to_commit(offsets);
            }
            std::thread::sleep(LOOK);
            for event in self.consumer.context().take_events() {
                let Event::Committed(answers) = event else {
                    self.defer(event);
                    continue;
                };
                self.committed(&answers);
                gone.extend(
                    answers.iter().filter(|answer| is_gone(answer)).map(|answer| answer.partition.clone()),
                );
                let mut others = answers.iter().filter(|answer| !is_gone(answer));
                if let Some(error) = others.find_map(|answer| answer.result.as_ref().err()) {
                    reason = error.to_string();
                    if let Refused::Right(words) = of_commit(error.rdkafka_error_code()) {
                        return Err(words.to_owned());
                    }
                    std::thread::sleep(RECOMMIT_AFTER / 10);
                }
            }
        }
    }
}

/// Whether the broker does not have the partition any more.
fn is_gone(answer: &Answer) -> bool {
    let error = answer.result.as_ref().err();
    error.and_then(KafkaError::rdkafka_error_code) == Some(RDKafkaErrorCode::UnknownTopicOrPartition)
}

fn log_gone(gone: &BTreeSet<Partition>) {
    if let Some(Partition { topic, number }) = gone.first() {
        tracing::warn!(
            %topic, partition = number, partitions = gone.len(),
            "kafka: partitions are not on the broker any more, so what was counted of them can't be committed, nor read again"
        );
    }
}
