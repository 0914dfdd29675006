//! From Avro datums to [`SendEvent`](super::SendEvent)s, without a copy and without a tree.
//!
//! The writer's schema is compiled once (`schema`) into nodes that say how to pass over what does not matter and where the
//! dozen values are that do; a walk along the bytes (`walk`) borrows these. The code that interprets JSON's values
//! interprets them, so an event counts alike in either format.
//!
//! The type of an event is the value of its field `event_type`; else the part of its schema's full name from `users.` on
//! (Braze's storage exports: `dataexport.S3.inner.users.messages.email.Send`); else the type of the [`EventDefaults`](crate::EventDefaults).
//!
//! Azure Event Hubs' Capture writes a record without event fields and with bytes in `Body`: those bytes are read as a body
//! of JSON.

use std::sync::Arc;

use super::event_fields::{EventFields, Terms};
use super::{Decoded, Malformed};
use crate::{Datums, WriterSchema};

mod schema;
mod walk;

use schema::{AvroPlan, NotASchema, compile};
use walk::{Stands, Walk};

/// How many compiled schemas are kept: more than all of Braze's event types in several versions, as a registry gives them to
/// who reads every topic.
const PLANS_MAX: usize = 1_024;
/// How much memory they may take, with their texts: a schema of Braze's takes some 20 KiB, and a mebibyte of text at worst
/// fifteen. The one in use is kept, however large.
const PLAN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Compiled schemas; the least recently used ones are evicted.
#[derive(Debug, Default)]
pub(super) struct Plans {
    known: Vec<Known>,
    /// The sum of what they take.
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Known {
    schema: Arc<WriterSchema>,
    plan: Result<AvroPlan, NotASchema>,
    bytes: usize,
    last_use: u64,
}

impl Plans {
    /// Finds a schema by identity, which is the usual case, or by its text: every file brings its own copy.
    fn plan(&mut self, schema: &Arc<WriterSchema>) -> &Result<AvroPlan, NotASchema> {
        self.uses += 1;
        let same = |known: &Known| Arc::ptr_eq(&known.schema, schema);
        let equal = |known: &Known| known.schema.text() == schema.text();
        let at = self.known.iter().position(same).or_else(|| self.known.iter().position(equal));
        let at = at.unwrap_or_else(|| self.add(schema));
        // What is used often comes to stand where it is found at once.
        self.known.swap(at, at / 2);
        let known = &mut self.known[at / 2];
        if !Arc::ptr_eq(&known.schema, schema) {
            known.schema = Arc::clone(schema);
        }
        known.last_use = self.uses;
        &known.plan
    }

    /// Returns its index.
    fn add(&mut self, schema: &Arc<WriterSchema>) -> usize {
        let plan = compile(schema.text());
        let bytes = schema.text().len() + plan.as_ref().map_or(0, AvroPlan::bytes);
        while self.known.len() >= PLANS_MAX || self.bytes + bytes > PLAN_BYTES_MAX {
            let oldest = (0..self.known.len()).min_by_key(|at| self.known[*at].last_use);
            let Some(oldest) = oldest else { break };
            self.bytes -= self.known.swap_remove(oldest).bytes;
        }
        self.bytes += bytes;
        self.known.push(Known { schema: Arc::clone(schema), plan, bytes, last_use: 0 });
        self.known.len() - 1
    }

    /// Whether the datums are records that hold events as bytes, as Azure Event Hubs' Capture writes them.
    pub(super) fn hold_bodies(&mut self, datums: &Datums) -> bool {
        self.plan(&datums.schema).as_ref().is_ok_and(|plan| plan.holder().is_some())
    }

    /// Calls `take` once for each of the datums in `text` from `start` on, with the bytes that it holds, which may be none.
    /// Only for datums that [`hold_bodies`](Self::hold_bodies).
    pub(super) fn bodies(
        &mut self,
        text: &[u8],
        start: usize,
        datums: &Datums,
        found: &mut EventFields,
        mut take: impl FnMut(Result<&[u8], Malformed>),
    ) {
        let Ok(plan) = self.plan(&datums.schema) else { return };
        let Some((record, body)) = plan.holder() else { return };
        let mut walk = Walk::new(plan, text, start, found);
        for done in 0..datums.count {
            let Ok(body) = walk.body(record, body, done + 1 == datums.count) else {
                return (done..datums.count).for_each(|_| take(Err(Malformed::Avro)));
            };
            take(Ok(body));
        }
    }

    /// Calls `emit` once for each of the datums in `text` from `start` on.
    ///
    /// Datums have no marks between them, so nothing can be read behind one that does not fit the schema: it and all that
    /// follow are [`Malformed::Avro`]. So is the last one if it does not end where the bytes do, which is how a schema that
    /// is not the writer's shows. Invalid characters in a text are read as U+FFFD.
    ///
    /// Where the schema alone says that the type is not counted, nothing is read and all are ignored.
    pub(super) fn decode(
        &mut self,
        text: &[u8],
        start: usize,
        datums: &Datums,
        terms: Terms<'_>,
        found: &mut EventFields,
        emit: &mut dyn FnMut(Decoded<'_>),
    ) {
        let Ok(plan) = self.plan(&datums.schema) else {
            return (0..datums.count).for_each(|_| emit(Decoded::Malformed(Malformed::Schema)));
        };
        if let Some(event_type) =
            plan.fixed_type(terms.defaults).filter(|known| terms.rules.number_of(known).is_none())
        {
            return (0..datums.count).for_each(|_| emit(Decoded::Ignored { event_type }));
        }
        let mut walk = Walk::new(plan, text, start, found);
        for done in 0..datums.count {
            let is_last = done + 1 == datums.count;
            match walk.datum(is_last) {
                Ok(Stands::Event(record)) => {
                    let judged = terms.classify_event(walk.found.event(text), record.named.as_bytes());
                    emit(match judged {
                        Decoded::Malformed(Malformed::NoEventType) if !record.foreign.is_empty() => {
                            Decoded::Ignored { event_type: record.foreign.as_bytes() }
                        }
                        judged => judged,
                    });
                }
                Ok(Stands::NoRecord) => emit(Decoded::Malformed(Malformed::NotAnObject)),
                Err(_) => {
                    return (done..datums.count).for_each(|_| emit(Decoded::Malformed(Malformed::Avro)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
