//! Tells whether a file holds the bytes that were counted, wherever it lies by now.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use twox_hash::XxHash3_128;

/// How many bytes are hashed at each end. Ids and times differ in every event, so a few events would do; 64 KiB cost about
/// as much as opening the file.
pub(super) const WINDOW_BYTES: usize = 64 * 1024;
/// The least distance between two prefixes whose hashes are kept; the greatest is a sixteenth of the length before them: a
/// hundred digits for the first 10 KB, sixteen more whenever the length doubles.
const BEGINNING_BYTES_MIN: u64 = 8;
const BEGINNINGS_EACH_DOUBLING: u32 = 16;

/// How many there are in [`WINDOW_BYTES`].
pub(super) const DIGITS_MAX: usize = 160;

/// The first `end` bytes of a file. Bytes behind them do not matter, so a file that was appended to still begins with them;
/// neither do its name and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// How many bytes of the file, as it lies on disk, the fingerprint covers.
    pub(super) end: u64,
    /// CRC-32 of the first of them, 64 KiB at most.
    pub(super) head: u32,
    /// CRC-32 of the last of them, 64 KiB at most. With the head it quickly tells different files apart.
    pub(super) tail: u32,
    /// The proof that a file is the same one; versions before the second format did not keep it.
    pub(super) whole: Option<Whole>,
}

/// The proof for all bytes up to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    /// XXH3, 128 bits: two different files have the same by accident once in 10³⁸.
    pub(super) hash: u128,
    /// The last hex digit of the hash of each prefix; tells a truncated file from a different one.
    pub(super) beginnings: Arc<str>,
}

impl Fingerprint {
    /// Whether `file` looks as if it began with these bytes: their beginning and their end are the same.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn looks_like(&self, file: &File) -> io::Result<bool> {
        if file.metadata()?.len() < self.end {
            return Ok(false);
        }
        let mut prints = Fingerprinter::default();
        Ok(prints.head(file, self.end)? == self.head && prints.tail(file, self.end, &[])? == self.tail)
    }

    /// Reads all of these bytes in `file`. If they are the same, returns a fingerprinter that continues behind them. Without
    /// a proof, the same beginning and end must do.
    ///
    /// # Errors
    /// When the file can't be read.
    pub(super) fn go_on(&self, file: &File) -> io::Result<Option<Fingerprinter>> {
        if !self.looks_like(file)? {
            return Ok(None);
        }
        let mut prints = Fingerprinter::default();
        let taken = prints.take(file, self.end, &[])?;
        Ok(self.agrees_with(&taken).then(|| prints.slim()))
    }

    /// Whether both cover the same bytes, as far as this one can tell.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let same = |one: &Whole| other.whole.as_ref().is_some_and(|other| other.hash == one.hash);
        (self.end, self.head, self.tail) == (other.end, other.head, other.tail)
            && self.whole.as_ref().is_none_or(same)
    }

    /// Whether both are proved to cover the same bytes.
    pub(super) fn is_proved_same(&self, other: &Self) -> bool {
        self.whole.is_some() && self.agrees_with(other)
    }

    /// Whether a shorter print covers a prefix of these bytes: all hashes that lie within it agree, and there is one. The
    /// bytes behind the last of them, a sixteenth at most, remain unknown.
    pub(super) fn begins_with(&self, shorter: &Self) -> bool {
        let (Some(whole), Some(short)) = (&self.whole, &shorter.whole) else { return false };
        let is_known = !short.beginnings.is_empty() || shorter.end == 0;
        shorter.end < self.end && is_known && whole.beginnings.starts_with(&*short.beginnings)
    }
}

/// Takes fingerprints of one file from its start to its end.
#[derive(Clone, Default)]
pub(super) struct Fingerprinter {
    hasher: XxHash3_128,
    hashed: u64,
    beginnings: String,
    /// Where the next beginning ends; 0 before the first byte.
    next: u64,
    head: Option<u32>,
    window: Vec<u8>,
}

impl std::fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fingerprinter").field("hashed", &self.hashed).finish_non_exhaustive()
    }
}

impl Fingerprinter {
    /// The fingerprint of the first `end` bytes; `at_hand` are the last of them, as far as they are in memory; the others
    /// are read from the file. Ends come in ascending order, so nothing is read twice.
    ///
    /// # Errors
    /// When the file can't be read, or has become shorter than `end`.
    pub(super) fn take(&mut self, file: &File, end: u64, at_hand: &[u8]) -> io::Result<Fingerprint> {
        if end < self.hashed {
            *self = Self::default();
        }
        self.go_to(file, end, at_hand)?;
        let (head, tail) = (self.head(file, end)?, self.tail(file, end, at_hand)?);
        let whole = Whole { hash: self.hasher.finish_128(), beginnings: (*self.beginnings).into() };
        Ok(Fingerprint { end, head, tail, whole: Some(whole) })
    }

    /// The digits of the prefixes of these bytes.
    pub(super) fn beginnings_of(bytes: &[u8]) -> String {
        let mut prints = Self::default();
        prints.add(bytes);
        prints.beginnings
    }

    /// The same without its buffer, to be kept.
    pub(super) fn slim(mut self) -> Self {
        self.window = Vec::new();
        self
    }

    fn go_to(&mut self, file: &File, end: u64, at_hand: &[u8]) -> io::Result<()> {
        let from = end.saturating_sub(at_hand.len() as u64);
        let mut window = mem::take(&mut self.window);
        while self.hashed < from {
            let bytes = usize::try_from(from - self.hashed).unwrap_or(usize::MAX).min(WINDOW_BYTES);
            window.resize(bytes, 0);
            file.read_exact_at(&mut window, self.hashed)?;
            self.add(&window);
        }
        self.window = window;
        let known = usize::try_from(self.hashed - from).unwrap_or(usize::MAX);
        self.add(at_hand.get(known..).unwrap_or_default());
        Ok(())
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.next = self.next.max(BEGINNING_BYTES_MIN);
            let room = usize::try_from(self.next - self.hashed).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.write(now);
            self.hashed += now.len() as u64;
            if self.hashed == self.next {
                let digit = u32::try_from(self.hasher.finish_128() & 0xf).unwrap_or_default();
                self.beginnings.extend(char::from_digit(digit, 16));
                let each = 1_u64 << self.next.ilog2().saturating_sub(BEGINNINGS_EACH_DOUBLING.ilog2());
                self.next += each.max(BEGINNING_BYTES_MIN);
            }
            bytes = later;
        }
    }

    fn head(&mut self, file: &File, end: u64) -> io::Result<u32> {
        let bytes = window_of(end);
        if let Some(head) = self.head.filter(|_| bytes == WINDOW_BYTES) {
            return Ok(head);
        }
        let head = self.checksum(file, 0, bytes)?;
        self.head = (bytes == WINDOW_BYTES).then_some(head);
        Ok(head)
    }

    fn tail(&mut self, file: &File, end: u64, at_hand: &[u8]) -> io::Result<u32> {
        let bytes = window_of(end);
        match at_hand.len().checked_sub(bytes) {
            Some(from) => Ok(crc32fast::hash(&at_hand[from..])),
            None => self.checksum(file, end - bytes as u64, bytes),
        }
    }

    fn checksum(&mut self, file: &File, from: u64, bytes: usize) -> io::Result<u32> {
        self.window.resize(bytes, 0);
        file.read_exact_at(&mut self.window, from)?;
        Ok(crc32fast::hash(&self.window))
    }
}

/// How many bytes are hashed at each end of a length.
fn window_of(end: u64) -> usize {
    usize::try_from(end).unwrap_or(usize::MAX).min(WINDOW_BYTES)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn take(file: &File, end: u64) -> Fingerprint {
        Fingerprinter::default().take(file, end, &[]).unwrap()
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn appending_changes_nothing() {
        for bytes in [10, WINDOW_BYTES, 3 * WINDOW_BYTES] {
            let mut content = vec![7; bytes];
            let print = take(&file(&content), bytes as u64);
            content.extend(b"more");
            assert!(print.looks_like(&file(&content)).unwrap());
            assert!(print.go_on(&file(&content)).unwrap().is_some());
        }
    }

    #[test]
    fn a_byte_within_either_window_changes_how_it_looks_and_any_byte_what_is_proved() {
        let content = vec![7; 3 * WINDOW_BYTES];
        let print = take(&file(&content), content.len() as u64);
        let middle = [WINDOW_BYTES, 2 * WINDOW_BYTES - 1];
        for at in [0, WINDOW_BYTES - 1, 2 * WINDOW_BYTES, 3 * WINDOW_BYTES - 1].into_iter().chain(middle) {
            let mut changed = content.clone();
            changed[at] = 8;
            let changed = file(&changed);
            assert_eq!(print.looks_like(&changed).unwrap(), middle.contains(&at), "at {at}");
            assert!(print.go_on(&changed).unwrap().is_none(), "at {at}");
        }
    }

    #[test]
    fn a_shorter_file_is_another_file() {
        let print = take(&file(b"abcd"), 4);
        assert!(!print.looks_like(&file(b"abc")).unwrap() && print.go_on(&file(b"abc")).unwrap().is_none());
    }

    #[test]
    fn a_print_without_a_hash_proves_nothing() {
        let print = Fingerprint { whole: None, ..take(&file(b"abcd"), 4) };
        assert!(print.agrees_with(&take(&file(b"abcd"), 4)));
        assert!(
            !print.is_proved_same(&take(&file(b"abcd"), 4)) && !print.begins_with(&take(&file(b"ab"), 2))
        );
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

    #[test]
    fn prints_that_are_taken_on_are_those_of_the_whole() {
        let file = file(&noise(300_000));
        let whole = take(&file, 300_000);
        let mut on = take(&file, 123_456).go_on(&file).unwrap().unwrap();
        assert_eq!(on.take(&file, 300_000, &[]).unwrap(), whole);
    }

    #[test]
    fn the_digits_of_the_beginnings_grow_with_the_logarithm_of_the_length() {
        let digits =
            |bytes: usize| take(&file(&vec![1; bytes]), bytes as u64).whole.unwrap().beginnings.len();
        assert_eq!([7, 8, 128, 256, WINDOW_BYTES, 1 << 20].map(digits), [0, 1, 16, 32, DIGITS_MAX, 224]);
    }

    #[test]
    fn a_file_that_was_cut_is_told_from_another_one_of_its_length() {
        let content = noise(100_000);
        let whole = take(&file(&content), 100_000);
        for cut in [0, 8, 40, 150, 5_000, 50_000, 99_999] {
            assert!(whole.begins_with(&take(&file(&content[..cut]), cut as u64)), "{cut}");
            // Another byte before the last sixteenth, and everything after it is other than it was.
            if cut >= 150 {
                let mut other = content[..cut].to_vec();
                other[cut / 2] ^= 1;
                assert!(!whole.begins_with(&take(&file(&other), cut as u64)), "{cut}");
            }
        }
        assert!(!whole.begins_with(&whole) && !whole.begins_with(&take(&file(&content), 7)));
    }

    proptest! {
        /// However a file is read, in whatever pieces: its print is the same.
        #[test]
        fn pieces_do_not_matter(ends in prop::collection::vec(0_u64..200_000, 1..9)) {
            let file = file(&noise(200_000));
            let mut ends = ends;
            ends.sort_unstable();
            let mut prints = Fingerprinter::default();
            for end in ends {
                prop_assert_eq!(prints.take(&file, end, &[]).unwrap(), take(&file, end));
            }
        }
    }
}
