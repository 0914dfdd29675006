//! What is remembered of a registry's answers, within bounds. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::queue::WriterSchema;

/// How long "no such schema" is believed. Short, for the schema may be registered after all, and the messages
/// to come would be lost; long enough that a row of bad messages costs one request.
const REFUSAL_KEPT: Duration = Duration::from_secs(30);

/// How long the registry has to say so before it is believed at first: its followers may lag behind.
const REFUSAL_DOUBTED: Duration = Duration::from_secs(3);

/// One doubt in so long, so that a row of bad messages with different ids costs 5 % of the time at most.
const DOUBT_INTERVAL: Duration = Duration::from_mins(1);

/// How many ids without a schema are remembered. They are made up, so there may be any number of them.
const REFUSALS_MAX: usize = 1_000;

/// What becomes of an id that the registry does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is believed.
    Final,
    /// Not yet.
    AskAgain,
}

#[derive(Debug)]
struct Refused {
    reason: String,
    first: Instant,
    /// Since when it is believed.
    believed: Option<Instant>,
}

/// Schemas by id, the least recently used one goes first; and ids that have none.
#[derive(Debug)]
pub(super) struct Known {
    schemas: HashMap<u32, (Arc<WriterSchema>, u64)>,
    schemas_max: usize,
    /// Counts the uses, to tell which was the last.
    uses: u64,
    refused: HashMap<u32, Refused>,
    last_doubt: Option<Instant>,
}

impl Known {
    /// Of at most so many schemas; one is remembered always.
    pub(super) fn new(schemas_max: usize) -> Self {
        Self {
            schemas: HashMap::new(),
            schemas_max: schemas_max.max(1),
            uses: 0,
            refused: HashMap::new(),
            last_doubt: None,
        }
    }

    /// The schema of an id.
    pub(super) fn schema(&mut self, id: u32) -> Option<Arc<WriterSchema>> {
        let (schema, used) = self.schemas.get_mut(&id)?;
        self.uses += 1;
        *used = self.uses;
        Some(Arc::clone(schema))
    }

    /// Remembers a schema.
    pub(super) fn learn(&mut self, id: u32, schema: WriterSchema) -> Arc<WriterSchema> {
        self.refused.remove(&id);
        if self.schemas.len() >= self.schemas_max && !self.schemas.contains_key(&id) {
            // A walk over all of them, but only beside a request, which takes far longer.
            let oldest = self.schemas.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|oldest| self.schemas.remove(&oldest));
        }
        self.uses += 1;
        let schema = Arc::new(schema);
        self.schemas.insert(id, (Arc::clone(&schema), self.uses));
        schema
    }

    /// Why an id has no schema, where that is believed at present.
    pub(super) fn refused(&self, id: u32, now: Instant) -> Option<String> {
        let refused = self.refused.get(&id)?;
        let believed = refused.believed?;
        (now.duration_since(believed) < REFUSAL_KEPT).then(|| refused.reason.clone())
    }

    /// The registry has said that an id has no schema, and why.
    pub(super) fn refuse(&mut self, id: u32, reason: &str, now: Instant) -> Refusal {
        // What was believed once and has to be asked for again is believed at once.
        if let Some(refused) = self.refused.get_mut(&id) {
            if refused.believed.is_none() && now.duration_since(refused.first) < REFUSAL_DOUBTED {
                return Refusal::AskAgain;
            }
            refused.believed = Some(now);
            reason.clone_into(&mut refused.reason);
            return Refusal::Final;
        }
        let is_doubted = self.last_doubt.is_none_or(|last| now.duration_since(last) >= DOUBT_INTERVAL);
        if is_doubted {
            self.last_doubt = Some(now);
        }
        self.make_room(now);
        let believed = (!is_doubted).then_some(now);
        self.refused.insert(id, Refused { reason: reason.to_owned(), first: now, believed });
        if is_doubted { Refusal::AskAgain } else { Refusal::Final }
    }

    /// Forgets refusals that are old, and all of them where that is not enough.
    fn make_room(&mut self, now: Instant) {
        if self.refused.len() < REFUSALS_MAX {
            return;
        }
        self.refused.retain(|_, refused| now.duration_since(refused.first) < REFUSAL_KEPT);
        if self.refused.len() >= REFUSALS_MAX {
            self.refused.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schema(text: &str) -> WriterSchema {
        WriterSchema::new(text)
    }

    #[test]
    fn the_schema_that_was_not_used_for_longest_goes_first() {
        let mut known = Known::new(2);
        known.learn(1, schema("one"));
        known.learn(2, schema("two"));
        assert!(known.schema(1).is_some());
        known.learn(3, schema("three"));
        assert!(known.schema(2).is_none() && known.schema(1).is_some() && known.schema(3).is_some());
        known.learn(3, schema("three"));
        assert!(known.schema(1).is_some(), "one that is there makes no room");
    }

    #[test]
    fn a_refusal_is_doubted_for_three_seconds_then_believed_for_thirty() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut known = Known::new(10);
        assert_eq!(known.refuse(7, "none", at(0)), Refusal::AskAgain);
        assert_eq!(known.refused(7, at(0)), None);
        assert_eq!(known.refuse(7, "none", at(2)), Refusal::AskAgain);
        assert_eq!(known.refuse(7, "none", at(3)), Refusal::Final);
        assert_eq!(known.refused(7, at(32)).as_deref(), Some("none"));
        assert_eq!(known.refused(7, at(33)), None);
        assert_eq!(known.refuse(7, "none", at(33)), Refusal::Final, "it is not doubted twice");
    }

    #[test]
    fn of_many_unknown_ids_one_a_minute_is_doubted() {
        let start = Instant::now();
        let mut known = Known::new(10);
        assert_eq!(known.refuse(1, "none", start), Refusal::AskAgain);
        assert_eq!(known.refuse(2, "none", start), Refusal::Final);
        assert_eq!(known.refuse(3, "none", start + Duration::from_secs(59)), Refusal::Final);
        assert_eq!(known.refuse(4, "none", start + Duration::from_mins(1)), Refusal::AskAgain);
    }

    #[test]
    fn an_id_that_has_a_schema_after_all_is_known() {
        let now = Instant::now();
        let mut known = Known::new(10);
        known.refuse(7, "none", now);
        known.learn(7, schema("seven"));
        assert_eq!(&*known.schema(7).unwrap().text, "seven");
        assert_eq!(known.refused(7, now), None);
    }

    proptest! {
        /// Whatever is learned and refused, no more is remembered than the bounds allow.
        #[test]
        fn the_memory_is_bounded(ids in prop::collection::vec((any::<bool>(), any::<u32>()), 1..3_000)) {
            let now = Instant::now();
            let mut known = Known::new(5);
            for (is_schema, id) in ids {
                if is_schema {
                    known.learn(id, schema("x"));
                } else {
                    known.refuse(id, "none", now);
                }
                prop_assert!(known.schemas.len() <= 5 && known.refused.len() <= REFUSALS_MAX);
            }
        }
    }
}
