//! A record's bytes: its value, and a checksum of that and its key.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FileFault;

/// Packs a record stored under this key, with a checksum. The parts of a key are summed as they are, with nothing between them.
///
/// # Errors
/// When it can't be packed.
pub fn pack(key: &[&[u8]], value: &impl Serialize) -> Result<Vec<u8>, FileFault> {
    let mut packed =
        postcard::to_extend(value, Vec::new()).map_err(|error| FileFault::Failed(error.to_string()))?;
    packed.extend(checksum(key, &packed));
    Ok(packed)
}

/// Unpacks the record stored under this key. `None`: it is not the stored record.
#[must_use]
pub fn unpack<T: DeserializeOwned>(key: &[&[u8]], packed: &[u8]) -> Option<T> {
    let (value, sum) = packed.split_last_chunk()?;
    if *sum == checksum(key, value) { postcard::from_bytes(value).ok() } else { None }
}

/// It covers the key, so that a record in another's place is noticed.
fn checksum(key: &[&[u8]], value: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    for part in key {
        sum.update(part);
    }
    sum.update(value);
    sum.finalize().to_le_bytes()
}
