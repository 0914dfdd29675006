//! Reads the body of a push, within bounds of size, time and memory.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

use super::counters::Counters;
use super::memory::{Share, with_extract};
use super::refusal::Refusal;
use super::spare::Spare;

/// What is set aside for a body that does not say its length.
const ROOM_BYTES_FIRST: usize = 64 * 1024;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// All of it.
    pub(super) time_max: Duration,
    /// From one piece to the next.
    pub(super) idle_time_max: Duration,
}

/// Reads all of a body into memory that `share` answers for, with room for its extract. On an error the rest of it is unread.
pub(super) async fn read<B>(
    mut body: B,
    bytes_max: usize,
    pace: Pace,
    share: &mut Share,
    buffers: &Spare,
    counters: &Counters,
) -> Result<Vec<u8>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().exact().map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    let first = declared.unwrap_or(ROOM_BYTES_FIRST).min(bytes_max);
    share.grow(with_extract(first)).await?;
    let mut bytes = buffers.take(first);
    let deadline = Instant::now() + pace.time_max;
    loop {
        let piece_by = deadline.min(Instant::now() + pace.idle_time_max);
        let frame = match timeout_at(piece_by, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_broken))) => return Err(Refusal::Incomplete),
            Ok(None) => return Ok(bytes),
            Err(_elapsed) => return Err(Refusal::TooSlow),
        };
        let Ok(piece) = frame.into_data() else { continue };
        counters.book_bytes(piece.len());
        let needed = bytes.len() + piece.len();
        if needed > bytes_max {
            return Err(Refusal::TooLarge { bytes_max });
        }
        if needed > bytes.capacity() {
            let room = needed.max(bytes.capacity().saturating_mul(2)).min(bytes_max);
            share.grow(with_extract(room)).await?;
            bytes.reserve_exact(room - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
}
