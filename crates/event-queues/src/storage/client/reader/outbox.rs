//! Hands over the chunks of an object.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::bucket_state::ObjectRecord;
use super::{Closed, ObjectChunk, ObjectOutput, ReadObject};
use crate::content::{ReadPlace, Stop};

/// The way to the queue. The last chunk is held until its successor is known: the last one stands for the end of the object.
pub(super) struct ObjectOutbox<'h> {
    pub(super) handed: &'h mpsc::Sender<ObjectOutput>,
    pub(super) held: Option<Box<ObjectChunk>>,
    /// The record of what was handed out, or of what was settled before.
    pub(super) handed_out: Option<ObjectRecord>,
}

impl ObjectOutbox<'_> {
    /// Up to where the object was read, or is settled.
    pub(super) fn last_place(&self) -> Option<ReadPlace> {
        let last = self.held.as_ref().map(|chunk| &chunk.record).or(self.handed_out.as_ref());
        last.and_then(|record| record.place)
    }

    pub(super) fn put(&mut self, chunk: ObjectChunk) -> Result<(), Stop> {
        let sent = self.put_held();
        self.held = Some(Box::new(chunk));
        sent.map_err(|Closed| Stop::Closed)
    }

    pub(super) fn put_held(&mut self) -> Result<(), Closed> {
        let Some(chunk) = self.held.take() else { return Ok(()) };
        let record = chunk.record.clone();
        self.handed.blocking_send(ObjectOutput::Chunk(chunk)).map_err(|_| Closed)?;
        self.handed_out = Some(record);
        Ok(())
    }

    /// The object has been read to its end.
    pub(super) fn finish(&mut self, object: Arc<ReadObject>, whole: ObjectRecord) -> Result<(), Closed> {
        let last = match self.held.take() {
            Some(chunk) => ObjectOutput::Chunk(Box::new(ObjectChunk { record: whole, ..*chunk })),
            None => ObjectOutput::Passed(object, whole),
        };
        self.handed.blocking_send(last).map_err(|_| Closed)
    }
}
