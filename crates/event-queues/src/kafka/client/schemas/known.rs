//! Remembers a registry's answers, within bounds. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Lookup;
use crate::kafka::client::frame::SchemaKey;

/// How many schemas are remembered. There is one for each event type and version of it: a few hundred. Each takes some 10
/// KB, and at most the length of an [answer](super::registry::ANSWER_BYTES_MAX).
const SCHEMAS_MAX: usize = 1_000;

/// How many ids without a schema are remembered. Bad messages may hold any number of them.
const REFUSALS_MAX: usize = 1_000;

/// How long "no such schema" is believed. Short, because the schema may be registered after all, and further messages would
/// be lost; long enough that a row of bad messages costs one request.
const REFUSAL_KEPT: Duration = Duration::from_secs(30);

/// How long "no such schema" is doubted at first, because followers of the registry may lag behind.
const REFUSAL_DOUBTED: Duration = Duration::from_secs(3);

/// The interval of doubts, so that bad messages with different ids cost 5 % of the time at most.
const DOUBT_INTERVAL: Duration = Duration::from_mins(1);

/// The answers about the ids that were asked for last.
#[derive(Debug)]
pub(super) struct KnownSchemas {
    /// Schemas of Avro, and which ids are of JSON.
    schemas: Recent<Lookup>,
    refusals: Recent<Refusal>,
    last_doubt: Option<Instant>,
}

/// The registry's answer that there is no schema.
#[derive(Debug)]
enum Refusal {
    /// It is asked again.
    Doubted {
        since: Instant,
    },
    Believed {
        since: Instant,
        reason: String,
    },
}

impl Default for KnownSchemas {
    fn default() -> Self {
        Self { schemas: Recent::new(SCHEMAS_MAX), refusals: Recent::new(REFUSALS_MAX), last_doubt: None }
    }
}

impl KnownSchemas {
    /// The remembered answer for an id; never [`Lookup::NotNow`].
    pub(super) fn find(&mut self, id: SchemaKey, now: Instant) -> Option<Lookup> {
        if let Some(schema) = self.schemas.take(id) {
            self.schemas.put(id, schema.clone());
            return Some(schema);
        }
        match self.refusals.get(id)? {
            Refusal::Believed { since, reason } if now.duration_since(*since) < REFUSAL_KEPT => {
                Some(Lookup::Never(reason.clone()))
            }
            _ => None,
        }
    }

    /// Remembers the registry's answer, and returns the answer to use: the first "no such schema" is doubted.
    pub(super) fn learn(&mut self, id: SchemaKey, answer: Lookup, now: Instant) -> Lookup {
        match &answer {
            Lookup::Schema(_) | Lookup::Json => {
                self.refusals.take(id);
                self.schemas.put(id, answer.clone());
            }
            Lookup::Never(reason) if self.is_doubted(id, reason, now) => {
                return Lookup::NotNow(format!("{reason}; it may be new, asking again"));
            }
            Lookup::Never(_) | Lookup::NotNow(_) => {}
        }
        answer
    }

    fn is_doubted(&mut self, id: SchemaKey, reason: &str, now: Instant) -> bool {
        let doubted = match self.refusals.take(id) {
            Some(Refusal::Doubted { since }) => Some(since),
            // An answer that was believed before needs no doubt again.
            Some(Refusal::Believed { .. }) => None,
            None => {
                let is_time = self.last_doubt.is_none_or(|last| now.duration_since(last) >= DOUBT_INTERVAL);
                is_time.then(|| *self.last_doubt.insert(now))
            }
        };
        let doubted = doubted.filter(|since| now.duration_since(*since) < REFUSAL_DOUBTED);
        let refusal = match doubted {
            Some(since) => Refusal::Doubted { since },
            None => Refusal::Believed { since: now, reason: reason.to_owned() },
        };
        self.refusals.put(id, refusal);
        doubted.is_some()
    }
}

/// Values by id, the one that was put last at the end. A value is looked for from there, so that one that is used all the
/// time is found at once.
#[derive(Debug)]
struct Recent<T> {
    values: VecDeque<(SchemaKey, T)>,
    values_max: usize,
}

impl<T> Recent<T> {
    const fn new(values_max: usize) -> Self {
        Self { values: VecDeque::new(), values_max }
    }

    fn get(&self, id: SchemaKey) -> Option<&T> {
        self.values.iter().rev().find(|(known, _)| *known == id).map(|(_, value)| value)
    }

    fn take(&mut self, id: SchemaKey) -> Option<T> {
        let at = self.values.iter().rposition(|(known, _)| *known == id)?;
        self.values.remove(at).map(|(_, value)| value)
    }

    /// Where there is no room, what was put before all others goes.
    fn put(&mut self, id: SchemaKey, value: T) {
        self.take(id);
        if self.values.len() >= self.values_max {
            self.values.pop_front();
        }
        self.values.push_back((id, value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::sync::Arc;

    use super::*;
    use crate::WriterSchema;

    fn known(schemas_max: usize) -> KnownSchemas {
        KnownSchemas { schemas: Recent::new(schemas_max), ..KnownSchemas::default() }
    }

    fn schema(text: &str) -> Lookup {
        Lookup::Schema(Arc::new(WriterSchema::new(text)))
    }

    fn never() -> Lookup {
        Lookup::Never("none".to_owned())
    }

    fn is_believed(known: &mut KnownSchemas, id: u32, now: Instant) -> bool {
        match known.learn(SchemaKey::Id(id), never(), now) {
            Lookup::NotNow(reason) => {
                assert!(reason.contains("none; it may be new"), "{reason}");
                false
            }
            answer => answer == never(),
        }
    }

    #[test]
    fn the_schema_that_was_not_used_for_longest_goes_first() {
        let mut known = known(2);
        let now = Instant::now();
        known.learn(SchemaKey::Id(1), schema("one"), now);
        known.learn(SchemaKey::Id(2), schema("two"), now);
        assert!(known.find(SchemaKey::Id(1), now).is_some());
        known.learn(SchemaKey::Id(3), schema("three"), now);
        assert_eq!([1, 2, 3].map(|id| known.find(SchemaKey::Id(id), now).is_some()), [true, false, true]);
        known.learn(SchemaKey::Id(3), schema("three"), now);
        assert!(known.find(SchemaKey::Id(1), now).is_some(), "one that is there makes no room");
    }

    #[test]
    fn a_refusal_is_doubted_for_three_seconds_then_believed_for_thirty() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut known = known(10);
        assert!(!is_believed(&mut known, 7, at(0)));
        assert_eq!(known.find(SchemaKey::Id(7), at(0)), None);
        assert!(!is_believed(&mut known, 7, at(2)));
        assert!(is_believed(&mut known, 7, at(3)));
        assert_eq!(known.find(SchemaKey::Id(7), at(32)), Some(never()));
        assert_eq!(known.find(SchemaKey::Id(7), at(33)), None);
        assert!(is_believed(&mut known, 7, at(33)), "it is not doubted twice");
    }

    #[test]
    fn of_many_unknown_ids_one_a_minute_is_doubted() {
        let start = Instant::now();
        let mut known = known(10);
        assert!(!is_believed(&mut known, 1, start));
        assert!(is_believed(&mut known, 2, start));
        assert!(is_believed(&mut known, 3, start + Duration::from_secs(59)));
        assert!(!is_believed(&mut known, 4, start + Duration::from_mins(1)));
    }

    #[test]
    fn an_id_that_has_a_schema_after_all_is_known() {
        let now = Instant::now();
        let mut known = known(10);
        known.learn(SchemaKey::Id(7), never(), now);
        known.learn(SchemaKey::Id(7), schema("seven"), now);
        assert_eq!(known.find(SchemaKey::Id(7), now), Some(schema("seven")));
        assert!(known.refusals.get(SchemaKey::Id(7)).is_none());
    }

    #[test]
    fn an_id_of_json_is_remembered_as_one_and_ids_of_two_kinds_are_two() {
        let (now, mut known) = (Instant::now(), known(10));
        known.learn(SchemaKey::GlobalId(7), Lookup::Json, now);
        assert_eq!(known.find(SchemaKey::GlobalId(7), now), Some(Lookup::Json));
        for other in [SchemaKey::Id(7), SchemaKey::ContentId(7), SchemaKey::LongId(7), SchemaKey::Guid(7)] {
            assert_eq!(known.find(other, now), None, "{other}");
        }
    }

    #[test]
    fn what_the_registry_can_not_say_is_not_remembered() {
        let (now, mut known) = (Instant::now(), known(10));
        let away = Lookup::NotNow("away".to_owned());
        assert_eq!(known.learn(SchemaKey::Id(7), away.clone(), now), away);
        assert_eq!(known.find(SchemaKey::Id(7), now), None);
    }

    proptest! {
        /// Whatever is learned and refused, no more is remembered than the bounds allow.
        #[test]
        fn the_memory_is_bounded(ids in prop::collection::vec((any::<bool>(), any::<u32>()), 1..3_000)) {
            let now = Instant::now();
            let mut known = known(5);
            for (is_schema, id) in ids {
                known.learn(SchemaKey::Id(id), if is_schema { schema("x") } else { never() }, now);
                prop_assert!(known.schemas.values.len() <= 5 && known.refusals.values.len() <= REFUSALS_MAX);
            }
        }
    }
}
