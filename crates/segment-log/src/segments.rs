//! The files of the log: which there are, how the last one grows, and when their space comes back.
//!
//! A segment is named by its first sequence number and begins with a head of 16 bytes: magic, format version
//! and CRC-32 of both.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};

use bytes::{Buf, BufMut};

use crate::FORMAT;
use crate::disk::{Directory, LogFile};

/// The length of a segment's head.
pub(crate) const HEAD_BYTES: u64 = 16;

const MAGIC: [u8; 8] = *b"\xFFBRZLOG\xFE";

/// A segment is closed when the next frame would make it longer than this.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SEGMENT_BYTES_MIN: u64 = 4096;

/// The whole log is this many segments when it is full, so that space comes back in parts.
const SEGMENTS: u64 = 8;

/// Where no segment begins: a million events a second take 292,000 years to get here. A file with a greater number is not
/// ours, and counting on from it could reach the greatest number.
const FIRST_MAX: u64 = u64::MAX / 2;

/// The file that finds out whether there is room again. It has no name while it is written.
const PROBE: &str = "room";

/// What is found out at most.
const PROBE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The part of a segment's size that acknowledged events may occupy.
const IDLE_PART: u64 = 4;

/// The segments of the log.
#[derive(Debug)]
pub(crate) struct Segments {
    directory: Directory,
    sealed: VecDeque<Sealed>,
    sealed_bytes: u64,
    active: Active,
    segment_bytes: u64,
}

/// A segment that is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) first: u64,
    pub(crate) bytes: u64,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) first: u64,
    /// The length of the good part: everything before it is whole and durable.
    pub(crate) bytes: u64,
    file: LogFile,
}

/// The outcome of a refusal by the disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    /// Everything is as before.
    RolledBack(String),
    /// The content of the disk is unknown.
    Fatal(String),
}

impl Active {
    /// Makes a new segment and its name durable.
    pub(crate) fn create(directory: &Directory, first: u64) -> Result<Active, WriteFailure> {
        let name = file_name(first);
        let made = directory.open_to_append(&name).and_then(|mut file| {
            // A segment of this name can only be the rest of a failed attempt: no event has this number.
            file.truncate(0)?;
            file.append(&mut [IoSlice::new(&encode_head())])?;
            Ok(file)
        });
        let file = match made {
            Ok(file) => file,
            Err(error) => {
                // It must not come back after a power cut, when the previous segment has grown beyond it.
                let undone = directory.remove(&name).and_then(|()| directory.sync());
                return Err(match undone {
                    Ok(()) => WriteFailure::RolledBack(directory.explain(&error)),
                    Err(_) => WriteFailure::Fatal(directory.explain(&error)),
                });
            }
        };
        file.sync().and_then(|()| directory.sync()).map_err(|error| fatal_sync(directory, &error))?;
        Ok(Active { first, bytes: HEAD_BYTES, file })
    }

    /// Opens the last segment of an earlier run and truncates it behind its last whole frame.
    pub(crate) fn reopen(directory: &Directory, first: u64, good: u64, bytes: u64) -> io::Result<Active> {
        let mut file = directory.open_to_append(&file_name(first))?;
        if good < HEAD_BYTES {
            file.truncate(0)?;
            file.append(&mut [IoSlice::new(&encode_head())])?;
        } else if good < bytes {
            file.truncate(good)?;
        }
        // A killed process may have left whole frames that no fsync has covered yet.
        file.sync()?;
        Ok(Active { first, bytes: good.max(HEAD_BYTES), file })
    }
}

impl Segments {
    pub(crate) fn new(
        directory: Directory,
        sealed: VecDeque<Sealed>,
        active: Active,
        size_max: u64,
    ) -> Segments {
        let segment_bytes = (size_max / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let sealed_bytes = sealed.iter().map(|segment| segment.bytes).sum();
        Segments { directory, sealed, sealed_bytes, active, segment_bytes }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Bytes on disk.
    pub(crate) fn size(&self) -> u64 {
        self.sealed_bytes + self.active.bytes
    }

    /// The first numbers of all segments, in order.
    pub(crate) fn firsts(&self) -> Vec<u64> {
        self.sealed.iter().map(|segment| segment.first).chain([self.active.first]).collect()
    }

    /// Where the last segment ends.
    pub(crate) fn end(&self) -> u64 {
        self.active.bytes
    }

    /// Whether the last segment, with `staged` bytes to be written first, is too full for `bytes` more, or was emptied and has a
    /// name other than `next`: a reader may stand behind what was in it.
    pub(crate) fn is_complete(&self, staged: u64, bytes: u64, next: u64) -> bool {
        let length = self.active.bytes + staged;
        if length > HEAD_BYTES { length + bytes > self.segment_bytes } else { self.active.first != next }
    }

    /// Appends `pieces`, `bytes` in all, to the last segment and makes them durable.
    pub(crate) fn append(&mut self, pieces: &mut [IoSlice<'_>], bytes: u64) -> Result<(), WriteFailure> {
        if let Err(error) = self.active.file.append(pieces) {
            let reason = self.directory.explain(&error);
            if error.kind() == ErrorKind::FileTooLarge
                && let Ok(reached) = self.active.file.bytes()
            {
                // The system allows no longer files, so segments are shorter from now on.
                self.segment_bytes = self.segment_bytes.min(reached.max(HEAD_BYTES));
            }
            return Err(match self.active.file.truncate(self.active.bytes) {
                Ok(()) => WriteFailure::RolledBack(reason),
                Err(error) => {
                    WriteFailure::Fatal(format!("{reason}, and what was written can't be cut: {error}"))
                }
            });
        }
        self.active.file.sync().map_err(|error| fatal_sync(&self.directory, &error))?;
        self.active.bytes += bytes;
        Ok(())
    }

    /// Whether the disk takes an append of this size again. Changes nothing.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        let bytes = bytes.min(self.segment_bytes).min(PROBE_BYTES_MAX);
        let zeros = vec![0; usize::try_from(bytes).unwrap_or_default()];
        let written = self.directory.open_to_write(PROBE).and_then(|mut file| {
            self.directory.remove(PROBE)?;
            file.append(&mut [IoSlice::new(&zeros)])
        });
        written.is_ok()
    }

    /// What was removed under the log, if anything.
    pub(crate) fn missing(&self) -> Option<String> {
        self.directory.missing(&file_name(self.active.first), &self.active.file)
    }

    /// Goes on in a new segment that begins with the number `next`.
    pub(crate) fn roll(&mut self, next: u64) -> Result<(), WriteFailure> {
        let fresh = Active::create(&self.directory, next)?;
        let full = std::mem::replace(&mut self.active, fresh);
        self.sealed.push_back(Sealed { first: full.first, bytes: full.bytes });
        self.sealed_bytes += full.bytes;
        Ok(())
    }

    /// Removes the segments all of whose numbers are below `acknowledged`. A segment that can't be removed
    /// stays in the books, to be tried again.
    pub(crate) fn release(&mut self, acknowledged: u64) -> io::Result<()> {
        while let Some(segment) = self.sealed.front() {
            let following = self.sealed.get(1).map_or(self.active.first, |segment| segment.first);
            if following > acknowledged {
                break;
            }
            self.directory.remove(&file_name(segment.first))?;
            self.sealed_bytes -= segment.bytes;
            self.sealed.pop_front();
        }
        Ok(())
    }

    /// Whether the last segment holds more acknowledged bytes than it should.
    pub(crate) fn is_worth_recycling(&self) -> bool {
        self.active.bytes > self.segment_bytes / IDLE_PART
    }

    /// Empties the last segment, all of whose numbers are acknowledged, and renames it to `next`. It needs no new file, so a
    /// full disk gets its space back.
    pub(crate) fn recycle(&mut self, next: u64) -> Result<(), WriteFailure> {
        if self.active.first == next {
            return Ok(());
        }
        let refused = |error| WriteFailure::RolledBack(self.directory.explain(&error));
        self.active.file.truncate(HEAD_BYTES).map_err(refused)?;
        self.active.bytes = HEAD_BYTES;
        // Under its old name it is complete: see `is_complete`.
        self.directory.rename(&file_name(self.active.first), &file_name(next)).map_err(refused)?;
        self.directory.sync().map_err(|error| fatal_sync(&self.directory, &error))?;
        self.active.first = next;
        Ok(())
    }
}

/// After a failed fsync the content of the disk is unknown: the system may have dropped the bytes and call the next fsync a
/// success. So it is never tried again.
pub(crate) fn fatal_sync(directory: &Directory, error: &io::Error) -> WriteFailure {
    let path = directory.path().display();
    WriteFailure::Fatal(format!("fsync failed in {path}: {error}: check the disk, then start again"))
}

/// The name of the segment that begins with the number `first`. Names sort as numbers do.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The number that a segment of this name begins with; `None` for other files.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let first = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(first) == name && first <= FIRST_MAX).then_some(first)
}

fn encode_head() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.put_u32_le(FORMAT);
    bytes.put_u32_le(crc32fast::hash(&bytes));
    bytes
}

/// The format version of a segment; `None` when the head is damaged.
pub(crate) fn decode_head(bytes: &[u8]) -> Option<u32> {
    let (summed, mut sum) = bytes.split_at_checked(12)?;
    let mut format = summed.strip_prefix(&MAGIC)?;
    (sum.try_get_u32_le().ok()? == crc32fast::hash(summed)).then_some(())?;
    format.try_get_u32_le().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;
    use crate::disk::fault::Faults;

    fn segments(size_max: u64) -> (tempfile::TempDir, Arc<Faults>, Segments) {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let disk = Directory::with_faults(directory.path(), &faults);
        let active = Active::create(&disk, 0).unwrap();
        (directory, faults, Segments::new(disk, VecDeque::new(), active, size_max))
    }

    fn append(segments: &mut Segments, bytes: &[u8]) -> Result<(), WriteFailure> {
        segments.append(&mut [IoSlice::new(bytes)], bytes.len() as u64)
    }

    fn files(directory: &tempfile::TempDir) -> Vec<(String, u64)> {
        let mut files: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn names_sort_as_numbers_and_other_files_are_none() {
        assert_eq!(file_name(42), "00000000000000000042.log");
        assert_eq!(parse_file_name(&file_name(FIRST_MAX)), Some(FIRST_MAX));
        assert_eq!(parse_file_name(&file_name(FIRST_MAX + 1)), None, "numbers could end behind it");
        for name in ["42.log", "acknowledged", "+0000000000000000042.log", "00000000000000000042.log~"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_head_tells_its_format_unless_it_is_damaged() {
        let head = encode_head();
        assert_eq!(head.len() as u64, HEAD_BYTES);
        assert_eq!(decode_head(&head), Some(FORMAT));
        for at in 0..head.len() {
            let mut head = head.clone();
            head[at] ^= 1;
            assert_eq!(decode_head(&head), None);
        }
        assert_eq!(decode_head(&head[..15]), None);
    }

    #[test]
    fn a_segment_is_complete_before_it_grows_beyond_its_share() {
        let (_directory, _, mut segments) = segments(80_000);
        assert!(!segments.is_complete(0, 1_000_000, 0), "an empty one takes a frame of any size");
        append(&mut segments, &[1; 9000]).unwrap();
        assert!(!segments.is_complete(0, 984, 9));
        assert!(segments.is_complete(0, 985, 9));
        assert!(segments.is_complete(1, 984, 9));
    }

    #[test]
    fn space_comes_back_segment_by_segment() {
        let (directory, _, mut segments) = segments(80_000);
        for next in [10, 20] {
            append(&mut segments, &[1; 100]).unwrap();
            segments.roll(next).unwrap();
        }
        assert_eq!(segments.size(), 248);
        segments.release(19).unwrap();
        assert_eq!(segments.firsts(), [10, 20]);
        segments.release(20).unwrap();
        assert_eq!((segments.firsts(), segments.size()), (vec![20], 16));
        assert_eq!(files(&directory), [(file_name(20), 16)]);
    }

    #[test]
    fn an_idle_segment_is_emptied_in_place() {
        let (directory, _, mut segments) = segments(80_000);
        append(&mut segments, &[1; 3000]).unwrap();
        assert!(segments.is_worth_recycling());
        segments.recycle(7).unwrap();
        assert_eq!(files(&directory), [(file_name(7), 16)]);
        append(&mut segments, &[1; 10]).unwrap();
        assert_eq!(files(&directory), [(file_name(7), 26)]);
        assert!(!segments.is_worth_recycling());
    }

    #[test]
    fn a_full_disk_leaves_the_log_as_it_was() {
        let (directory, faults, mut segments) = segments(80_000);
        append(&mut segments, &[1; 100]).unwrap();
        faults.room.store(50, SeqCst);
        assert!(matches!(append(&mut segments, &[1; 100]), Err(WriteFailure::RolledBack(_))));
        assert_eq!((segments.size(), files(&directory)), (116, vec![(file_name(0), 116)]));
        assert!(matches!(segments.roll(5), Err(WriteFailure::RolledBack(_))));
        assert_eq!(files(&directory), [(file_name(0), 116)]);
        segments.recycle(5).unwrap();
        faults.room.store(u64::MAX, SeqCst);
        append(&mut segments, &[1; 100]).unwrap();
        assert_eq!(files(&directory), [(file_name(5), 116)]);
    }

    #[test]
    fn what_cannot_be_undone_is_fatal() {
        let (_directory, faults, mut segments) = segments(80_000);
        faults.room.store(50, SeqCst);
        faults.truncate_fails.store(true, SeqCst);
        assert!(matches!(append(&mut segments, &[1; 100]), Err(WriteFailure::Fatal(_))));
        faults.truncate_fails.store(false, SeqCst);
        faults.room.store(u64::MAX, SeqCst);
        faults.sync_fails.store(true, SeqCst);
        assert!(matches!(append(&mut segments, &[1; 100]), Err(WriteFailure::Fatal(_))));
        assert!(matches!(segments.roll(9), Err(WriteFailure::Fatal(_))));
    }
}
