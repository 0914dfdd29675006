//! The schemas of messages, by the number before a value or the id in a header.
//!
//! The registry is asked once for each and the answer is remembered, because an id never changes its meaning. While the
//! registry can't be asked (it is away, overloaded, refuses the credentials, or is no registry at all) the message waits,
//! and the question is repeated: an outage of the registry loses no event. Messages without a schema are malformed.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::known::KnownSchemas;
use super::frame::SchemaKey;
use super::health::Health;
use super::refusal::Trouble;
use crate::WriterSchema;

mod known;
mod registry;

pub use self::registry::RegistrySetupError;
pub(super) use self::registry::SchemaRegistry;

#[cfg(test)]
#[path = "../../../../../tests/support/registry.rs"]
pub(super) mod scripted;

/// The wait after the first failure: a registry that restarts is back within a second or so.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait, and so how late the end of an outage is noticed.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The result of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// A schema of Avro.
    Schema(Arc<WriterSchema>),
    /// A schema of JSON, which is read without it.
    Json,
    /// There is no usable schema, and why: messages with this id are malformed.
    Never(String),
    /// The registry can't be asked at present, and why: the message waits.
    NotNow(String),
}

/// An outage of the registry.
#[derive(Debug)]
struct Away {
    since: Instant,
    /// Failed questions in a row.
    failures: u32,
}

/// The schemas of one registry.
#[derive(Debug)]
pub(super) struct Schemas {
    registry: SchemaRegistry,
    known: KnownSchemas,
    away: Option<Away>,
    health: Arc<Health>,
}

impl Schemas {
    pub(super) fn new(registry: SchemaRegistry, health: Arc<Health>) -> Self {
        Self { registry, known: KnownSchemas::default(), away: None, health }
    }

    /// The schema of a message. Waits while the registry can't be asked; [`Lookup::NotNow`] says that `is_over` came first,
    /// so that the answer is not needed any more.
    pub(super) async fn wait_for(&mut self, key: SchemaKey, is_over: impl Fn() -> bool) -> Lookup {
        loop {
            let answer = self.look_up(key).await;
            let Lookup::NotNow(reason) = &answer else { return answer };
            if self.health.note_trouble(Trouble::Registry, reason) {
                tracing::error!(
                    schema = %key,
                    reason,
                    "kafka: waiting for the schema registry; nothing is lost"
                );
            }
            let failures = self.away.as_ref().map_or(1, |away| away.failures);
            tokio::time::sleep(wait(failures, RandomState::new().hash_one(key))).await;
            if is_over() {
                // Perhaps nobody asks again, so nobody would find out that the outage is over.
                self.away = None;
                self.health.clear(Trouble::Registry);
                return answer;
            }
        }
    }

    /// The remembered schema, or else the registry's answer.
    async fn look_up(&mut self, key: SchemaKey) -> Lookup {
        let answer = match self.known.find(key, Instant::now()) {
            Some(known) => known,
            None => self.known.learn(key, self.registry.schema(key).await, Instant::now()),
        };
        if let Lookup::NotNow(_) = &answer {
            let away = self.away.get_or_insert_with(|| Away { since: Instant::now(), failures: 0 });
            away.failures = away.failures.saturating_add(1);
            return answer;
        }
        self.health.clear(Trouble::Registry);
        if let (Some(away), Lookup::Schema(_) | Lookup::Json) = (self.away.take(), &answer) {
            let (registry, waited) = (self.registry.address(), away.since.elapsed());
            tracing::info!(registry, ?waited, "kafka: the schema registry answers again");
        }
        answer
    }
}

/// The wait after this many failures in a row (1 or more): twice as long each time, up to [`WAIT_MAX`], and of that a part
/// between a half and the whole, by `chance`, so that forwarders that lost the registry together do not return together. Any
/// number will do for `chance`; its upper half counts.
fn wait(failures: u32, chance: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let half = FIRST_WAIT.saturating_mul(1 << doublings).min(WAIT_MAX) / 2;
    // A fraction of 2^32, so that the product of nanoseconds fits.
    let more = (half.as_nanos() * u128::from(chance >> 32)) >> 32;
    half + Duration::from_nanos(u64::try_from(more).unwrap_or_default())
}

#[cfg(test)]
mod tests;
