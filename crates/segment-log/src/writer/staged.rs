//! What one group writes.

use bytes::Bytes;

use super::AppendReply;
use crate::Entry;
use crate::frame::Record;

/// Frames of one group that are ready to be written.
#[derive(Debug, Default)]
pub(super) struct Staged {
    pub(super) pieces: Vec<(Vec<u8>, Bytes)>,
    pub(super) entries: Vec<Entry>,
    pub(super) replies: Vec<AppendReply>,
    pub(super) bytes: u64,
    pub(super) events: u64,
}

impl Staged {
    /// Adds a frame behind the others; `next` is the number of the first one.
    pub(super) fn push(&mut self, record: Record, reply: AppendReply, next: u64) {
        let (bytes, events) = (record.frame_bytes(), record.events());
        let (lead, body, entry) = record.into_pieces(next + self.events);
        self.pieces.push((lead, body));
        self.entries.push(entry);
        self.replies.push(reply);
        self.bytes += bytes;
        self.events += events;
    }
}
