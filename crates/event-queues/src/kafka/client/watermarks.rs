//! What the poller makes of where partitions begin and end. The client hears that with each answer to a fetch, and says
//! it with its statistics, so that nobody has to ask the broker.

use std::time::{Duration, Instant};

use super::offsets::{Loss, Partition, Watermarks};
use super::poller::{Halt, Poller, PollerOutput};

/// After a change in what is fetched, statistics of the time before may still be on their way: they tell of an end only
/// when there were two since, and so much time has passed.
const STEADY_STATISTICS: u32 = 2;
const STEADY_AFTER: Duration = Duration::from_secs(2);

/// Since when the same partitions are fetched without a pause.
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
    /// A message that does not come next. A gap is looked into with the next statistics.
    pub(super) fn compare(&mut self, partition: &Partition, expected: i64, offset: i64) {
        if expected < offset {
            self.offsets.leave_out(partition, expected, offset);
        } else if offset < expected {
            let Partition { topic, number } = partition;
            tracing::warn!(
                %topic, partition = number, expected, offset,
                "kafka: a partition goes back: the topic was made anew, or the group's offsets were set"
            );
        }
    }

    /// The client's statistics.
    pub(super) fn look(&mut self, all: &[(Partition, Watermarks)]) {
        self.steady.statistics = self.steady.statistics.saturating_add(1);
        self.steady.is_news = true;
        for (partition, marks) in all {
            if let Some(loss) = self.offsets.look(partition, *marks) {
                self.tell_loss(partition, loss);
            }
        }
        self.parts.health.set_lag(self.offsets.lag());
        self.watch_commits();
    }

    fn tell_loss(&self, partition: &Partition, Loss { messages, expected, offset }: Loss) {
        self.parts.health.skip(messages);
        let Partition { topic, number } = partition;
        tracing::error!(
            %topic, partition = number, skipped = messages, expected, offset,
            "kafka: messages are lost: the broker threw them away before they were read; give the topic a longer \
             retention, or read faster"
        );
    }

    /// Nothing at all came out of a poll: whatever the client had fetched when it made its statistics has been taken.
    pub(super) fn emptied(&mut self) {
        let Steady { since, statistics, is_news } = &mut self.steady;
        if !*is_news
            || *statistics < STEADY_STATISTICS
            || since.elapsed() < STEADY_AFTER
            || self.batch.is_some()
        {
            return;
        }
        *is_news = false;
        for (partition, loss) in self.offsets.pass_ends() {
            self.tell_loss(&partition, loss);
        }
        self.parts.health.set_lag(self.offsets.lag());
    }

    /// Nothing comes. Where nobody wants to wait for more, it ends when there is no more.
    pub(super) fn rest(&mut self) -> Result<(), Halt> {
        let is_over =
            self.parts.is_until_empty && self.offsets.held().next().is_some() && self.offsets.are_at_end();
        if is_over {
            self.send(PollerOutput::End)?;
            self.parts.is_until_empty = false;
        }
        Ok(())
    }
}
