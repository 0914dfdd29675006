//! Partitions that no broker leads, or none that can be reached.

use std::time::{Duration, Instant};

use super::{Health, log_end};
use crate::kafka::client::refusal::Trouble;

/// How long a partition may be without a leader before that is trouble: another broker takes over within seconds.
const LEADER_AWAY_MAX: Duration = Duration::from_secs(30);

impl Health {
    /// These of the partitions that this process reads, by name, have no leader that can be reached, by the client's latest
    /// account. Messages of them neither come nor count as waiting.
    pub(in super::super) fn note_leaders(&self, leaderless: &[String]) {
        let mut troubles = self.troubles();
        // What is paused needs no connection, and without any broker it is not the leaders.
        if leaderless.is_empty() || self.is_paused() || !self.is_connected() {
            troubles.leaderless_since = None;
            if troubles.clear(Trouble::Leaders) {
                log_end(Trouble::Leaders);
            }
            return;
        }
        let since = *troubles.leaderless_since.get_or_insert_with(Instant::now);
        let explained_by = [Trouble::Access, Trouble::Topics, Trouble::Reads];
        if since.elapsed() < LEADER_AWAY_MAX
            || explained_by.iter().any(|trouble| troubles.slot(*trouble).words.is_some())
        {
            return;
        }
        let words = format!(
            "partitions of queue.kafka.topics have no leader that can be reached, so they are not read (are all Kafka brokers \
             there, and can this machine reach them?): {}",
            leaderless.join(", ")
        );
        if troubles.slot(Trouble::Leaders).note_trouble(&words) {
            tracing::error!("kafka: {words}");
        }
    }
}
