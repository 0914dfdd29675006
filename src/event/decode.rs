//! From the bytes that Braze wrote to [`SendEvent`](super::SendEvent)s.

/// Not a body that Braze sends.
#[derive(Debug, thiserror::Error)]
#[error("not an envelope, at byte {offset}")]
pub struct NotAnEnvelope {
    offset: usize,
}

/// How many events a body holds.
///
/// # Errors
/// When it is not JSON, or not an envelope.
pub fn check(body: &[u8]) -> Result<u32, NotAnEnvelope> {
    use serde_json::Value;
    match serde_json::from_slice(body) {
        Ok(Value::Null) => Ok(0),
        Ok(Value::Array(all)) => Ok(u32::try_from(all.len()).unwrap_or(u32::MAX)),
        Ok(Value::Object(map)) => match map.get("events") {
            Some(Value::Array(all)) => Ok(u32::try_from(all.len()).unwrap_or(u32::MAX)),
            Some(_) => Err(NotAnEnvelope { offset: 0 }),
            None => Ok(u32::from(!map.is_empty())),
        },
        Ok(_) => Err(NotAnEnvelope { offset: 0 }),
        Err(error) => Err(NotAnEnvelope { offset: error.column() }),
    }
}
