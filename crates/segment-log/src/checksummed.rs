//! Small records of a fixed length: a magic, the CRC-32 of the rest, the rest.

/// Makes a record; `fill` writes the rest. It is longer than magic and checksum.
pub(crate) fn encode<const M: usize, const N: usize>(
    magic: [u8; M],
    fill: impl FnOnce(&mut [u8]),
) -> [u8; N] {
    let mut bytes = [0; N];
    let (head, rest) = bytes.split_at_mut(M + 4);
    fill(rest);
    head[..M].copy_from_slice(&magic);
    head[M..].copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
    bytes
}

/// The rest of a record; `None`: it is damaged, or of another kind.
pub(crate) fn decode<const M: usize>(magic: [u8; M], record: &[u8]) -> Option<&[u8]> {
    let (sum, rest) = record.strip_prefix(&magic)?.split_first_chunk()?;
    (u32::from_le_bytes(*sum) == crc32fast::hash(rest)).then_some(rest)
}
