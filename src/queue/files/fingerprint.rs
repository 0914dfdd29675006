//! Tells whether a file still begins with what was counted of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};

/// How much is looked at on each side. Ids and times differ in every event, so a few events would do; 64 KiB
/// cost about as much as opening the file.
const WINDOW_BYTES: usize = 64 * 1024;

/// The first `end` bytes of a file, known by their beginning and their end. What follows them does not
/// matter, so a file that was appended to stays the same file; neither do its times, so touching changes
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// How many bytes of the file, as it lies on disk, it speaks of.
    pub(super) end: u64,
    /// CRC-32 of the first of them, 64 KiB at most.
    head: u32,
    /// CRC-32 of the last of them, 64 KiB at most.
    tail: u32,
}

impl Fingerprint {
    /// Whether `file` still begins with these bytes.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn matches(&self, file: &File) -> io::Result<bool> {
        if file.metadata()?.len() < self.end {
            return Ok(false);
        }
        Ok(Fingerprinter::default().take(file, self.end, &[])? == *self)
    }
}

/// Takes fingerprints of one file while it is being read.
#[derive(Default)]
pub(super) struct Fingerprinter {
    head: Option<u32>,
    window: Vec<u8>,
}

impl Fingerprinter {
    /// The fingerprint of the first `end` bytes; `tail` are the last of them as far as they are at hand.
    ///
    /// # Errors
    /// When the file can't be read, or has become shorter than `end`.
    pub(super) fn take(&mut self, file: &File, end: u64, tail: &[u8]) -> io::Result<Fingerprint> {
        let bytes = usize::try_from(end).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        let head = match self.head {
            Some(head) if bytes == WINDOW_BYTES => head,
            _ => self.checksum(file, 0, bytes)?,
        };
        if bytes == WINDOW_BYTES {
            self.head = Some(head);
        }
        let tail = match tail.len().checked_sub(bytes) {
            Some(from) => crc32fast::hash(&tail[from..]),
            None if end == bytes as u64 => head,
            None => self.checksum(file, end - bytes as u64, bytes)?,
        };
        Ok(Fingerprint { end, head, tail })
    }

    fn checksum(&mut self, file: &File, from: u64, bytes: usize) -> io::Result<u32> {
        self.window.resize(bytes, 0);
        file.read_exact_at(&mut self.window, from)?;
        Ok(crc32fast::hash(&self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn take(file: &File, end: u64) -> Fingerprint {
        Fingerprinter::default().take(file, end, &[]).unwrap()
    }

    #[test]
    fn appending_changes_nothing() {
        for bytes in [10, WINDOW_BYTES, 3 * WINDOW_BYTES] {
            let mut content = vec![7; bytes];
            let print = take(&file(&content), bytes as u64);
            content.extend(b"more");
            assert!(print.matches(&file(&content)).unwrap());
        }
    }

    #[test]
    fn a_byte_within_either_window_changes_it() {
        let content = vec![7; 3 * WINDOW_BYTES];
        let print = take(&file(&content), content.len() as u64);
        for at in [0, WINDOW_BYTES - 1, 2 * WINDOW_BYTES, 3 * WINDOW_BYTES - 1] {
            let mut changed = content.clone();
            changed[at] = 8;
            assert!(!print.matches(&file(&changed)).unwrap(), "at {at}");
        }
    }

    #[test]
    fn a_shorter_file_is_another_file() {
        assert!(!take(&file(b"abcd"), 4).matches(&file(b"abc")).unwrap());
    }

    #[test]
    fn bytes_at_hand_give_the_same_as_bytes_read_again() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = file(&content);
        for (from, end) in [(0, 10), (0, 70_000), (5, 70_000), (300_000, 400_000), (399_000, 400_000)] {
            let mut prints = Fingerprinter::default();
            prints.take(&file, 66_000, &[]).unwrap();
            let body = &content[from..end];
            assert_eq!(prints.take(&file, end as u64, body).unwrap(), take(&file, end as u64));
        }
    }
}
