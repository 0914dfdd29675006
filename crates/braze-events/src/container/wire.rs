//! The encoding of a container's header and blocks.

use super::{BLOCK_BYTES_MAX, HEADER_BYTES_MAX, MAGIC, MARKER_BYTES};

/// Why reading stopped.
pub(super) enum WireFault {
    /// More bytes are needed.
    More,
    Wrong,
}

/// The head of a block that is longer than is allowed.
#[derive(Debug)]
pub(super) struct TooLong {
    /// The number of datums that it states.
    pub(super) count: u64,
    /// The block's length in bytes, with its head and marker.
    pub(super) bytes: u64,
}

/// Schema, codec, marker.
pub(super) type Head<'b> = (Option<&'b [u8]>, Option<&'b [u8]>, [u8; MARKER_BYTES]);

/// Reads Avro's encoding of integers and bytes.
pub(super) struct Wire<'b> {
    bytes: &'b [u8],
    /// How many bytes have been read.
    pub(super) pos: usize,
}

impl<'b> Wire<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, pos: 0 }
    }

    pub(super) fn header(&mut self, mut entries_max: u64) -> Result<Head<'b>, WireFault> {
        if self.take(MAGIC.len())? != MAGIC {
            return Err(WireFault::Wrong);
        }
        let (mut schema, mut codec) = (None, None);
        loop {
            let count = self.integer()?;
            if count == 0 {
                return Ok((schema, codec, self.marker()?));
            }
            if count < 0 {
                self.integer()?;
            }
            entries_max = entries_max.checked_sub(count.unsigned_abs()).ok_or(WireFault::Wrong)?;
            // Every entry takes bytes, so even a false count ends with the bytes.
            for _ in 0..count.unsigned_abs() {
                let (key, value) = (self.sized(HEADER_BYTES_MAX)?, self.sized(HEADER_BYTES_MAX)?);
                match key {
                    b"avro.schema" => schema = Some(value),
                    b"avro.codec" => codec = Some(value),
                    _ => {}
                }
            }
        }
    }

    pub(super) fn block(&mut self) -> Result<(u64, &'b [u8], [u8; MARKER_BYTES]), WireFault> {
        let count = u64::try_from(self.integer()?).map_err(|_| WireFault::Wrong)?;
        let stored = self.sized(BLOCK_BYTES_MAX)?;
        Ok((count, stored, self.marker()?))
    }

    /// The block, if its head says that it is too long.
    pub(super) fn too_long(mut self) -> Option<TooLong> {
        let mut number = || self.integer().ok().and_then(|number| u64::try_from(number).ok());
        let (count, stored) = (number()?, number()?);
        if stored <= BLOCK_BYTES_MAX as u64 {
            return None;
        }
        let bytes = stored.checked_add((self.pos + MARKER_BYTES) as u64)?;
        Some(TooLong { count, bytes })
    }

    fn marker(&mut self) -> Result<[u8; MARKER_BYTES], WireFault> {
        let bytes = self.take(MARKER_BYTES)?;
        bytes.try_into().map_err(|_| WireFault::Wrong)
    }

    fn sized(&mut self, bytes_max: usize) -> Result<&'b [u8], WireFault> {
        match usize::try_from(self.integer()?) {
            Ok(bytes) if bytes <= bytes_max => self.take(bytes),
            _ => Err(WireFault::Wrong),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'b [u8], WireFault> {
        let end = self.pos + bytes;
        let taken = self.bytes.get(self.pos..end).ok_or(WireFault::More)?;
        self.pos = end;
        Ok(taken)
    }

    /// Zigzag, 7 bits a byte, least significant first.
    pub(super) fn integer(&mut self) -> Result<i64, WireFault> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err(WireFault::Wrong)
    }
}
