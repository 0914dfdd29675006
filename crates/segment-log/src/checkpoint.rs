//! The small file that says how far the log is acknowledged.
//!
//! It has two slots, written in turn, so that a write that is cut short spares the older one. Each slot is
//! two copies of one record in blocks of their own: a single damaged block never takes the newest record,
//! and so never gives acknowledged events out again.
//!
//! After the slots comes a note: how far the log is answered, rewritten before every answer and never synced. After a
//! crash of the process it is exact; after a crash of the machine it is a lower bound; the boot id in it says which. After
//! the note comes the range that was in doubt at an earlier start: the note has moved past it since, and would make it look
//! answered.

use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;

use bytes::{Buf, BufMut};

use crate::disk::{Directory, LogFile};
use crate::{FORMAT, OpenError, checksummed, is_read};

/// The name of the file.
pub(crate) const NAME: &str = "acknowledged";

const MAGIC: [u8; 8] = *b"\xFFBRZACK\xFE";

/// The unit in which disks write; copies share none.
const BLOCK_BYTES: usize = 4096;
const COPIES: usize = 2;
const SLOT_BYTES: usize = COPIES * BLOCK_BYTES;
/// They are written in turn.
pub(crate) const SLOTS: usize = 2;

const NOTE_OFFSET: u64 = (SLOTS * SLOT_BYTES) as u64;
const NOTE_MAGIC: [u8; 8] = *b"\xFFBRZEND\xFE";

/// Magic, CRC-32 of the rest, boot, next.
const NOTE_BYTES: usize = 36;

const DOUBT_OFFSET: u64 = NOTE_OFFSET + NOTE_BYTES as u64;
const DOUBT_MAGIC: [u8; 8] = *b"\xFFBRZDBT\xFE";

/// Magic, CRC-32 of the rest, start, end.
const DOUBT_BYTES: usize = 28;

/// Source: `random(4)`.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Magic, CRC-32 of the rest, format, generation, acknowledged, next.
const RECORD_BYTES: usize = 40;

/// The content of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Saved {
    /// Every event below this number is acknowledged.
    pub(crate) acknowledged: u64,
    /// Every event below this number was safe on disk when this was saved. Those missing below it were lost; those missing
    /// above it may never have been promised.
    pub(crate) next: u64,
}

/// The file, opened.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    file: LogFile,
    generation: u64,
    saved: Saved,
    boot: Option<u128>,
    noted: Option<Note>,
    doubted: Range<u64>,
    /// Whether the last note could be written.
    is_noting: bool,
}

/// How far the log was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    /// Every event below this number was answered.
    pub(crate) next: u64,
    /// No other event was: the machine has run on since it was written.
    pub(crate) is_exact: bool,
}

impl Checkpoint {
    /// Opens the file in `directory`, which is made when it is missing. `None`: nothing in it can be read.
    pub(crate) fn open(directory: &Directory) -> Result<(Checkpoint, Option<Saved>), OpenError> {
        let path = directory.file(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(directory.refuses("read", &path)(error)),
        };
        let mut newest: Option<Record> = None;
        for record in bytes.chunks(BLOCK_BYTES).filter_map(Record::decode) {
            if !is_read(record.format) {
                return Err(OpenError::Format {
                    path,
                    found: record.format,
                    setting: directory.names().directory,
                });
            }
            if newest.is_none_or(|other| other.generation < record.generation) {
                newest = Some(record);
            }
        }
        let failed = directory.refuses("write", &path);
        let mut checkpoint =
            Self::open_file(directory, bytes.len() < SLOTS * SLOT_BYTES, newest).map_err(&failed)?;
        checkpoint.noted =
            bytes.get(SLOTS * SLOT_BYTES..).and_then(|note| decode_note(note, checkpoint.boot));
        let doubt = bytes.get(SLOTS * SLOT_BYTES + NOTE_BYTES..).and_then(decode_doubt);
        checkpoint.doubted = doubt.unwrap_or_default();
        if let Some(record) = newest.filter(|record| record.format < FORMAT) {
            // An older version of this program would not understand the records from here on.
            checkpoint.save(record.saved).map_err(failed)?;
        }
        Ok((checkpoint, newest.map(|record| record.saved)))
    }

    fn open_file(directory: &Directory, is_short: bool, newest: Option<Record>) -> io::Result<Checkpoint> {
        let file = directory.open_to_write(NAME)?;
        if is_short {
            // Takes the room now, in case the disk is full later.
            let blank = vec![0; SLOTS * SLOT_BYTES];
            match newest {
                Some(_) => file.truncate(blank.len() as u64)?,
                None => file.write_at(&blank, 0)?,
            }
            file.sync()?;
            directory.sync()?;
        }
        let newest = newest.unwrap_or_default();
        let (generation, saved) = (newest.generation, newest.saved);
        Ok(Checkpoint { file, generation, saved, boot: boot(), noted: None, doubted: 0..0, is_noting: true })
    }

    /// The note of the previous run.
    pub(crate) fn noted(&self) -> Option<Note> {
        self.noted
    }

    /// Notes that every event below `next` is safe and about to be answered. Only the precision of damage reports depends on
    /// it: on a disk that is full at the start there may be no room for it, and then there is none.
    pub(crate) fn note(&mut self, next: u64) {
        self.write_aside(&encode_note(next, self.boot), NOTE_OFFSET);
    }

    /// The numbers among which events are missing that may never have been answered.
    pub(crate) fn doubted(&self) -> Range<u64> {
        self.doubted.clone()
    }

    /// Keeps those numbers, in place of earlier ones. The next save makes that durable.
    pub(crate) fn doubt(&mut self, numbers: &Range<u64>) {
        self.write_aside(&encode_doubt(numbers), DOUBT_OFFSET);
    }

    /// An older note than the last would be taken for exact, so where one can't be written there is none: to remove it needs no
    /// room.
    fn write_aside(&mut self, bytes: &[u8], offset: u64) {
        let written = self.file.write_at(bytes, offset);
        if self.is_noting && written.is_err() {
            let is_removed = self.file.truncate(NOTE_OFFSET).is_ok();
            tracing::warn!(
                is_removed,
                "how far the queue is answered can't be noted: damage to its end would be told less exactly, until a note can be \
                 written again"
            );
        }
        self.is_noting = written.is_ok();
    }

    /// Every event below this number is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.saved.acknowledged
    }

    pub(crate) fn saved(&self) -> Saved {
        self.saved
    }

    /// Makes `saved` survive a power cut. After an error the file must not be trusted any more.
    pub(crate) fn save(&mut self, saved: Saved) -> io::Result<()> {
        let generation = self.generation + 1;
        let record = Record { format: FORMAT, generation, saved }.encode();
        let mut slot = [0; SLOT_BYTES];
        for copy in slot.chunks_mut(BLOCK_BYTES) {
            copy[..RECORD_BYTES].copy_from_slice(&record);
        }
        let offset = generation % SLOTS as u64 * SLOT_BYTES as u64;
        self.file.write_at(&slot, offset)?;
        self.file.sync()?;
        self.generation = generation;
        self.saved = saved;
        Ok(())
    }
}

/// The present boot of the machine.
fn boot() -> Option<u128> {
    let text = fs::read_to_string(BOOT_ID).ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

/// An unknown boot is written as 0, and is never the same one.
fn encode_note(next: u64, boot: Option<u128>) -> [u8; NOTE_BYTES] {
    checksummed::encode(NOTE_MAGIC, |mut rest| {
        rest.put_u128_le(boot.unwrap_or_default());
        rest.put_u64_le(next);
    })
}

fn decode_note(bytes: &[u8], boot: Option<u128>) -> Option<Note> {
    let mut rest = checksummed::decode(NOTE_MAGIC, bytes.get(..NOTE_BYTES)?)?;
    let written = rest.try_get_u128_le().ok()?;
    Some(Note { next: rest.try_get_u64_le().ok()?, is_exact: boot == Some(written) })
}

fn encode_doubt(numbers: &Range<u64>) -> [u8; DOUBT_BYTES] {
    checksummed::encode(DOUBT_MAGIC, |mut rest| {
        rest.put_u64_le(numbers.start);
        rest.put_u64_le(numbers.end);
    })
}

fn decode_doubt(bytes: &[u8]) -> Option<Range<u64>> {
    let mut rest = checksummed::decode(DOUBT_MAGIC, bytes.get(..DOUBT_BYTES)?)?;
    Some(rest.try_get_u64_le().ok()?..rest.try_get_u64_le().ok()?)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Record {
    format: u32,
    generation: u64,
    saved: Saved,
}

impl Record {
    fn encode(self) -> [u8; RECORD_BYTES] {
        checksummed::encode(MAGIC, |mut rest| {
            rest.put_u32_le(self.format);
            rest.put_u64_le(self.generation);
            rest.put_u64_le(self.saved.acknowledged);
            rest.put_u64_le(self.saved.next);
        })
    }

    fn decode(block: &[u8]) -> Option<Record> {
        let mut rest = checksummed::decode(MAGIC, block.get(..RECORD_BYTES)?)?;
        Some(Record {
            format: rest.try_get_u32_le().ok()?,
            generation: rest.try_get_u64_le().ok()?,
            saved: Saved { acknowledged: rest.try_get_u64_le().ok()?, next: rest.try_get_u64_le().ok()? },
        })
    }
}

/// Changes the boot in the note of a file.
#[cfg(test)]
pub(crate) fn forge_boot(file: &std::path::Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = SLOTS * SLOT_BYTES;
    let note = decode_note(&bytes[at..], boot()).unwrap();
    bytes[at..at + NOTE_BYTES].copy_from_slice(&encode_note(note.next, boot().map(|boot| !boot)));
    fs::write(file, bytes).unwrap();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::SeqCst;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::fault::Faults;

    fn saved(n: u64) -> Saved {
        Saved { acknowledged: n, next: n + 5 }
    }

    fn reopened(directory: &Directory) -> Option<Saved> {
        Checkpoint::open(directory).unwrap().1
    }

    #[test]
    fn the_newest_record_wins() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory::new(directory.path());
        let (mut checkpoint, before) = Checkpoint::open(&directory).unwrap();
        assert_eq!(before, None);
        for n in 1..6 {
            checkpoint.save(saved(n)).unwrap();
            assert_eq!(reopened(&directory), Some(saved(n)));
        }
    }

    #[test]
    fn a_slot_that_was_cut_short_leaves_the_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory::new(directory.path());
        let (mut checkpoint, _) = Checkpoint::open(&directory).unwrap();
        checkpoint.save(saved(1)).unwrap();
        checkpoint.save(saved(2)).unwrap();
        let mut bytes = fs::read(directory.file(NAME)).unwrap();
        bytes[..SLOT_BYTES].fill(0);
        fs::write(directory.file(NAME), bytes).unwrap();
        assert_eq!(reopened(&directory), Some(saved(1)));
    }

    #[test]
    fn a_short_file_is_made_whole_without_losing_its_record() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory::new(directory.path());
        let (mut checkpoint, _) = Checkpoint::open(&directory).unwrap();
        checkpoint.save(saved(1)).unwrap();
        checkpoint.save(saved(2)).unwrap();
        let bytes = fs::read(directory.file(NAME)).unwrap();
        fs::write(directory.file(NAME), &bytes[..5000]).unwrap();
        assert_eq!(reopened(&directory), Some(saved(2)));
        assert_eq!(fs::metadata(directory.file(NAME)).unwrap().len(), (SLOTS * SLOT_BYTES) as u64);
    }

    #[test]
    fn an_older_format_is_read_and_becomes_the_present_one() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory::new(directory.path());
        let record = Record { format: FORMAT - 1, generation: 1, saved: saved(1) };
        fs::write(directory.file(NAME), record.encode()).unwrap();
        assert_eq!(reopened(&directory), Some(saved(1)));
        let bytes = fs::read(directory.file(NAME)).unwrap();
        let newest =
            bytes.chunks(BLOCK_BYTES).filter_map(Record::decode).max_by_key(|record| record.generation);
        assert_eq!(newest.unwrap().format, FORMAT);
    }

    #[test]
    fn a_format_of_the_future_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Directory::new(directory.path());
        let record = Record { format: FORMAT + 1, generation: 1, saved: saved(1) };
        fs::write(directory.file(NAME), record.encode()).unwrap();
        let error = Checkpoint::open(&directory).unwrap_err();
        assert!(matches!(error, OpenError::Format { found, .. } if found == FORMAT + 1));
    }

    #[test]
    fn a_note_that_can_not_be_written_leaves_none_that_would_be_taken_for_exact_and_the_next_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let directory = Directory::with_faults(directory.path(), &faults);
        let noted = || Checkpoint::open(&directory).unwrap().0.noted().map(|note| note.next);
        let (mut checkpoint, _) = Checkpoint::open(&directory).unwrap();
        checkpoint.save(saved(1)).unwrap();
        checkpoint.note(5);
        assert_eq!(noted(), Some(5));
        faults.file_bytes_max.store(NOTE_OFFSET, SeqCst);
        checkpoint.note(6);
        checkpoint.note(7);
        assert_eq!((noted(), reopened(&directory)), (None, Some(saved(1))));
        faults.file_bytes_max.store(u64::MAX, SeqCst);
        checkpoint.note(8);
        assert_eq!(noted(), Some(8));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A change of any single byte never takes the newest record away.
        #[test]
        fn one_flipped_byte_never_loses_an_acknowledgement(
            at in prop_oneof![0..RECORD_BYTES, 0..SLOTS * SLOT_BYTES],
            block in 0..4usize,
            flip in 1u8..,
            saves in 1u64..4,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let directory = Directory::new(directory.path());
            let (mut checkpoint, _) = Checkpoint::open(&directory).unwrap();
            for n in 1..=saves {
                checkpoint.save(saved(n)).unwrap();
            }
            let mut bytes = fs::read(directory.file(NAME)).unwrap();
            let at = (at + block * BLOCK_BYTES) % bytes.len();
            bytes[at] ^= flip;
            fs::write(directory.file(NAME), bytes).unwrap();
            prop_assert_eq!(reopened(&directory), Some(saved(saves)));
        }
    }
}
