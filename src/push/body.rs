//! Reads the body of a push, within bounds of size, time and memory.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::buffer_pool::{BUFFER_BYTES_MAX, BodyBuffers};
use super::counters::Received;
use super::memory::{Share, with_extract};
use super::refusal::Refusal;

/// The memory reserved for a body before its first byte: a sender that announces much and sends little takes as little from
/// others. All connections together can't fill the memory for bodies with it.
pub(super) const ROOM_BYTES_FIRST: usize = 32 * 1024;

/// After that it is at least this: most batches of Braze's are whole by then.
const ROOM_BYTES_NEXT: usize = 128 * 1024;

/// A body must arrive at this many bytes per time limit; the last, shorter part has the same limit.
const STRETCH_BYTES: usize = 64 * 1024;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// All of it.
    pub(super) time_max: Duration,
    /// Each 64 KiB of it.
    pub(super) stretch_time_max: Duration,
}

/// Reads all of a body into memory that `share` answers for, with room for its extract. On an error the rest of it is unread.
pub(super) async fn read<B>(
    mut body: B,
    bytes_max: usize,
    pace: Pace,
    share: &mut Share,
    buffers: &BodyBuffers,
    received: &Received<'_>,
) -> Result<Vec<u8>, Refusal>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    let declared = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    // No body needs more room than this.
    let room_max = declared.unwrap_or(bytes_max).min(bytes_max);
    let mut room = room_max.min(ROOM_BYTES_FIRST);
    share.grow(with_extract(room)).await?;
    // Memory that is not written to is not used yet, and growing would copy a usual batch once.
    let mut bytes = buffers.take(room_max.min(BUFFER_BYTES_MAX));
    let deadline = Instant::now() + pace.time_max;
    let (mut stretch_end, mut stretch_by) = (STRETCH_BYTES, Instant::now() + pace.stretch_time_max);
    loop {
        let frame = match timeout_at(deadline.min(stretch_by), body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(broken))) => return Err(reason(&broken)),
            Ok(None) => return Ok(bytes),
            Err(_elapsed) => return Err(Refusal::TooSlow),
        };
        let Ok(piece) = frame.into_data() else { continue };
        received.add(piece.len());
        let needed = bytes.len() + piece.len();
        if needed > bytes_max {
            return Err(Refusal::TooLarge { bytes_max });
        }
        if needed > room {
            room = needed.max(room.saturating_mul(2)).max(ROOM_BYTES_NEXT).min(room_max.max(needed));
            share.grow(with_extract(room)).await?;
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.extend_from_slice(&piece);
        if bytes.len() >= stretch_end {
            stretch_end = bytes.len() + STRETCH_BYTES;
            stretch_by = Instant::now() + pace.stretch_time_max;
        }
    }
}

/// Chunks that can't be read would be so again; whatever else broke the body may have passed by then.
fn reason(broken: &(dyn Error + 'static)) -> Refusal {
    let mut causes = iter::successors(Some(broken), |cause| Error::source(*cause));
    let kind = causes.find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        Some(ErrorKind::InvalidData | ErrorKind::InvalidInput) => Refusal::Framing,
        _ => Refusal::Incomplete,
    }
}
