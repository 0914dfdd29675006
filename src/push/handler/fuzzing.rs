//! The push handler's processing of a complete body, for the fuzz target `push_body`.

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, HeaderValue};

use super::super::buffer_pool::BodyBuffers;
use super::super::coding::Coding;
use super::super::memory::{Memory, with_extract};
use super::super::refusal::Refusal;
use super::{Checked, Reader, RequestScope};

/// The result for a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The number of its events.
    pub events: u32,
    /// The extract for the queue.
    pub extract: Vec<u8>,
}

/// Processes a body as sent. `content_encoding` are the values of that header; `memory_bytes_max` is the limit for all
/// bodies together.
///
/// # Errors
/// The status of the answer.
pub fn take(
    content_encoding: &[&[u8]],
    mut wire: Vec<u8>,
    body_bytes_max: usize,
    memory_bytes_max: usize,
) -> Result<Taken, u16> {
    let status = |refusal: Refusal| refusal.answer().status().as_u16();
    let mut headers = HeaderMap::new();
    for value in content_encoding {
        headers.append(CONTENT_ENCODING, HeaderValue::from_bytes(value).map_err(|_| 400_u16)?);
    }
    let coding = Coding::of(&headers).map_err(status)?;
    if wire.len() > coding.wire_bytes_max(body_bytes_max) {
        return Err(status(Refusal::TooLarge { bytes_max: body_bytes_max }));
    }
    let mut share = Memory::new(memory_bytes_max, Duration::ZERO).share(None);
    share.try_grow(with_extract(wire.len())).map_err(status)?;
    let scope = RequestScope { app_groups: None, defaults: Arc::default() };
    let reader = Reader { scope, kept: BodyBuffers::default() };
    let checked = reader.read(coding, &mut wire, body_bytes_max, &mut share);
    checked.map(|Checked { events, extract, .. }| Taken { events, extract }).map_err(status)
}
