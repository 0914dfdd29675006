//! How far an import has come, for a progress display.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one run. Reading is ahead of counting and settling by the chunks in flight.
#[derive(Debug, Default)]
pub struct ImportProgress {
    bytes_total: Option<u64>,
    files_total: u64,
    bytes_read: AtomicU64,
    files_done: AtomicU64,
}

impl ImportProgress {
    pub(super) fn new(files_total: u64, bytes_total: Option<u64>) -> Self {
        Self { bytes_total, files_total, ..Self::default() }
    }

    /// Bytes of the files as they lie on disk (compressed where they are) that this run had to read when it
    /// started; `None` where standard input or a pipe is among them, whose length nobody knows.
    pub fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// How many files this run reads; those that are passed are not among them.
    pub fn files_total(&self) -> u64 {
        self.files_total
    }

    /// Bytes read so far. More than [`bytes_total`](Self::bytes_total) when a file grew meanwhile.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// How many files have been read to their end.
    pub fn files_done(&self) -> u64 {
        self.files_done.load(Ordering::Relaxed)
    }

    pub(super) fn add_bytes(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_file(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts the bytes that are read through it.
pub(super) struct Booked<R> {
    pub(super) reader: R,
    pub(super) progress: Arc<ImportProgress>,
}

impl<R: Read> Read for Booked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).inspect(|bytes| self.progress.add_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::content::{Input, gzip};

    #[test]
    fn every_byte_on_disk_is_booked_once() {
        let text = b"0123456789".repeat(50_000);
        for stored in [text.clone(), gzip(&text)] {
            let progress = Arc::new(ImportProgress::default());
            let reader = Cursor::new(stored.clone());
            let mut input = Input::new(Box::new(Booked { reader, progress: Arc::clone(&progress) })).unwrap();
            input.look_ahead(1000);
            while input.read(&mut [0; 1000]).unwrap() > 0 {}
            assert_eq!(progress.bytes_read(), stored.len() as u64);
        }
    }
}
