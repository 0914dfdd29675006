//! Records of files, found by a file's prefixes, by its path, or by age.
//!
//! A look-up takes a few steps, however many records there are. Of the digits that stand for a file's prefixes, the last
//! fifteen are a number and those before them a hash. So the record whose digits come next below those of a file is either a
//! prefix of it, or shows how many digits any other record can share with it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use redb::{ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition, WriteTransaction};
use twox_hash::XxHash3_128;

use super::fingerprint::DIGITS_MAX;
use super::import_state::{FileRecord, Id, StoredRecord};
use crate::state_file::{pack, unpack};
use redb_file::FileFault;

/// How many digits make a number.
const GROUP: usize = 15;

/// The hash of the digits before the last group, that group as a number from its first digit on, how many digits it has, and
/// the record.
type BeginningKey = (u64, u64, u8, Id);
/// The hash of a path, and its record.
type PathKey = (u64, Id);
/// The length covered by a record of an earlier version, which kept no prefixes; and the record.
type LengthKey = (u64, Id);
/// Whether the record is unfinished, when it was settled, and its id.
type AgeKey = (u8, u64, Id);

const RECORDS: TableDefinition<'_, Id, &[u8]> = TableDefinition::new("records");
const BEGINNINGS: TableDefinition<'_, BeginningKey, ()> = TableDefinition::new("beginnings");
const PATHS: TableDefinition<'_, PathKey, ()> = TableDefinition::new("paths");
const LENGTHS: TableDefinition<'_, LengthKey, ()> = TableDefinition::new("lengths");
const AGES: TableDefinition<'_, AgeKey, ()> = TableDefinition::new("ages");

/// Records: one for each content at each place where it was seen.
pub(super) enum RecordTable<'t> {
    /// In memory, for one run.
    Held(HeldRecords),
    /// In a file, within one commit.
    Stored(Box<StoredRecords<'t>>),
}

#[derive(Default)]
pub(super) struct HeldRecords {
    records: BTreeMap<Id, FileRecord>,
    beginnings: BTreeSet<BeginningKey>,
    paths: BTreeSet<PathKey>,
}

pub(super) struct StoredRecords<'t> {
    records: Table<'t, Id, &'static [u8]>,
    beginnings: Table<'t, BeginningKey, ()>,
    paths: Table<'t, PathKey, ()>,
    lengths: Table<'t, LengthKey, ()>,
    ages: Table<'t, AgeKey, ()>,
    next: Id,
    /// Whether it differs from the file.
    is_changed: bool,
}

impl<'t> RecordTable<'t> {
    /// An empty table in memory.
    pub(super) fn held() -> Self {
        Self::Held(HeldRecords::default())
    }

    /// The stored table, to be changed within one commit.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn stored(write: &'t WriteTransaction) -> Result<Self, FileFault> {
        let records = write.open_table(RECORDS)?;
        let next = records.last()?.map_or(0, |(id, _)| id.value() + 1);
        Ok(Self::Stored(Box::new(StoredRecords {
            records,
            beginnings: write.open_table(BEGINNINGS)?,
            paths: write.open_table(PATHS)?,
            lengths: write.open_table(LENGTHS)?,
            ages: write.open_table(AGES)?,
            next,
            is_changed: false,
        })))
    }

    /// Whether anything was changed.
    pub(super) fn is_changed(&self) -> bool {
        match self {
            Self::Held(_) => false,
            Self::Stored(stored) => stored.is_changed,
        }
    }

    /// How many there are.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn len(&self) -> Result<u64, FileFault> {
        match self {
            Self::Held(held) => Ok(held.records.len() as u64),
            Self::Stored(stored) => Ok(stored.records.len()?),
        }
    }

    /// The id of the next new record.
    pub(super) fn next(&self) -> Id {
        match self {
            Self::Held(held) => held.records.last_key_value().map_or(0, |(id, _)| id + 1),
            Self::Stored(stored) => stored.next,
        }
    }

    /// A record, if it was not forgotten.
    ///
    /// # Errors
    /// When it can't be read.
    pub(super) fn get(&self, id: Id) -> Result<Option<FileRecord>, FileFault> {
        match self {
            Self::Held(held) => Ok(held.records.get(&id).cloned()),
            Self::Stored(stored) => stored.get(id),
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn add(&mut self, record: &FileRecord) -> Result<Id, FileFault> {
        let id = self.next();
        self.set(id, record)?;
        Ok(id)
    }

    /// Replaces a record.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn set(&mut self, id: Id, record: &FileRecord) -> Result<(), FileFault> {
        match self {
            Self::Held(held) => held.set(id, record),
            Self::Stored(stored) => stored.set(id, record)?,
        }
        Ok(())
    }

    /// Forgets a record.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn forget(&mut self, id: Id) -> Result<(), FileFault> {
        match self {
            Self::Held(held) => held.forget(id),
            Self::Stored(stored) => {
                stored.forget(id)?;
            }
        }
        Ok(())
    }

    /// The records of this path, in the order in which they were made.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn of_path(&self, path: &str) -> Result<Vec<(Id, FileRecord)>, FileFault> {
        let hash = hash(path);
        let ids: Vec<Id> = match self {
            Self::Held(held) => held.paths.range((hash, 0)..=(hash, Id::MAX)).map(|(_, id)| *id).collect(),
            Self::Stored(stored) => {
                let found = stored.paths.range((hash, 0)..=(hash, Id::MAX))?;
                found.map(|entry| Ok(entry?.0.value().1)).collect::<Result<_, redb::StorageError>>()?
            }
        };
        let mut records = self.named(ids)?;
        // Two paths may have one hash.
        records.retain(|(_, record)| record.path == path);
        Ok(records)
    }

    /// The records of earlier versions that cover this many bytes.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn of_length(&self, bytes: u64) -> Result<Vec<(Id, FileRecord)>, FileFault> {
        let Self::Stored(stored) = self else { return Ok(Vec::new()) };
        let found = stored.lengths.range((bytes, 0)..=(bytes, Id::MAX))?;
        let ids = found.map(|entry| Ok(entry?.0.value().1)).collect::<Result<_, redb::StorageError>>()?;
        self.named(ids)
    }

    /// The records whose digits are a prefix of these digits.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn of_beginning(&self, digits: &str) -> Result<Vec<(Id, FileRecord)>, FileFault> {
        let mut ids = Vec::new();
        for before in (0..=digits.len()).step_by(GROUP) {
            let (hash, mut end) = (hash(&digits[..before]), digits.len().min(before + GROUP - 1));
            loop {
                let group = group(&digits[before..end]);
                let Some(below) = self.below((hash, group.0, group.1, Id::MAX))? else { break };
                if below.0 != hash {
                    break;
                }
                let common = before + common_digits((below.1, below.2), group);
                if common == before + usize::from(below.2) {
                    self.ids_of((below.0, below.1, below.2), &mut ids)?;
                    if common == before {
                        break;
                    }
                    end = common - 1;
                } else {
                    end = common;
                }
            }
        }
        self.named(ids)
    }

    /// The oldest record with these digits of which `is_it` says so. Those behind it are not read.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn first_alike(
        &self,
        digits: &str,
        is_it: impl Fn(&FileRecord) -> bool,
    ) -> Result<Option<(Id, FileRecord)>, FileFault> {
        let range = beginning_key(digits, 0)..=beginning_key(digits, Id::MAX);
        let get = |id: Id| Ok(self.get(id)?.filter(|record| is_it(record)).map(|record| (id, record)));
        match self {
            Self::Held(held) => held.beginnings.range(range).find_map(|(.., id)| get(*id).transpose()),
            Self::Stored(stored) => stored.beginnings.range(range)?.find_map(|entry| {
                entry.map_err(FileFault::from).and_then(|(key, _)| get(key.value().3)).transpose()
            }),
        }
        .transpose()
    }

    /// Forgets records, but none of the present run's, until they and those that it adds are `records_max` at most: finished
    /// ones first, the oldest of them first.
    ///
    /// # Errors
    /// When they can't be read or written.
    pub(super) fn make_room(
        &mut self,
        run: &HashSet<Id>,
        added: usize,
        records_max: usize,
    ) -> Result<(), FileFault> {
        let all = self.len()?.saturating_add(added as u64);
        let surplus = usize::try_from(all.saturating_sub(records_max as u64)).unwrap_or(usize::MAX);
        let Self::Stored(stored) = self else { return Ok(()) };
        let mut ids = Vec::new();
        for entry in stored.ages.iter()? {
            if ids.len() == surplus {
                break;
            }
            let (_, _, id) = entry?.0.value();
            if !run.contains(&id) {
                ids.push(id);
            }
        }
        ids.into_iter().try_for_each(|id| stored.forget(id).map(drop))
    }

    /// An indexed record exists.
    fn named(&self, ids: Vec<Id>) -> Result<Vec<(Id, FileRecord)>, FileFault> {
        ids.into_iter().map(|id| Ok((id, self.get(id)?.ok_or_else(|| missing(id))?))).collect()
    }

    /// The greatest key that is not above this one.
    fn below(&self, key: BeginningKey) -> Result<Option<BeginningKey>, FileFault> {
        match self {
            Self::Held(held) => Ok(held.beginnings.range(..=key).next_back().copied()),
            Self::Stored(stored) => {
                let below = stored.beginnings.range(..=key)?.next_back().transpose()?;
                Ok(below.map(|(key, _)| key.value()))
            }
        }
    }

    fn ids_of(&self, (hash, digits, count): (u64, u64, u8), ids: &mut Vec<Id>) -> Result<(), FileFault> {
        let range = (hash, digits, count, 0)..=(hash, digits, count, Id::MAX);
        match self {
            Self::Held(held) => ids.extend(held.beginnings.range(range).map(|(.., id)| *id)),
            Self::Stored(stored) => {
                for entry in stored.beginnings.range(range)? {
                    ids.push(entry?.0.value().3);
                }
            }
        }
        Ok(())
    }
}

impl HeldRecords {
    fn set(&mut self, id: Id, record: &FileRecord) {
        self.forget(id);
        self.beginnings.extend(digits(record).map(|digits| beginning_key(digits, id)));
        self.paths.insert((hash(&record.path), id));
        self.records.insert(id, record.clone());
    }

    fn forget(&mut self, id: Id) {
        let Some(record) = self.records.remove(&id) else { return };
        if let Some(digits) = digits(&record) {
            self.beginnings.remove(&beginning_key(digits, id));
        }
        self.paths.remove(&(hash(&record.path), id));
    }
}

impl StoredRecords<'_> {
    fn get(&self, id: Id) -> Result<Option<FileRecord>, FileFault> {
        let Some(packed) = self.records.get(id)? else { return Ok(None) };
        let named = || format!("file {id}");
        let stored: StoredRecord = unpack(&[&id.to_le_bytes()], packed.value(), named)?;
        stored.into_record().map(Some).ok_or_else(|| FileFault::Damaged(named()))
    }

    fn set(&mut self, id: Id, record: &FileRecord) -> Result<(), FileFault> {
        let before = self.get(id)?;
        if before.as_ref() == Some(record) {
            return Ok(());
        }
        self.next = self.next.max(id + 1);
        self.is_changed = true;
        if let Some(before) = before {
            self.remove_keys(id, &before)?;
        }
        let packed = pack(&[&id.to_le_bytes()], &StoredRecord::of(record))?;
        self.records.insert(id, packed.as_slice())?;
        match digits(record) {
            Some(digits) => self.beginnings.insert(beginning_key(digits, id), ())?,
            None => self.lengths.insert((record.mark.fingerprint.end, id), ())?,
        };
        self.paths.insert((hash(&record.path), id), ())?;
        self.ages.insert(age(record, id), ())?;
        Ok(())
    }

    fn forget(&mut self, id: Id) -> Result<(), FileFault> {
        let Some(record) = self.get(id)? else { return Ok(()) };
        self.is_changed = true;
        self.records.remove(id)?;
        self.remove_keys(id, &record)
    }

    fn remove_keys(&mut self, id: Id, record: &FileRecord) -> Result<(), FileFault> {
        let found = match digits(record) {
            Some(digits) => self.beginnings.remove(beginning_key(digits, id))?.is_some(),
            None => self.lengths.remove((record.mark.fingerprint.end, id))?.is_some(),
        };
        let found = self.paths.remove((hash(&record.path), id))?.is_some() && found;
        let found = self.ages.remove(age(record, id))?.is_some() && found;
        if found { Ok(()) } else { Err(missing(id)) }
    }
}

fn missing(id: Id) -> FileFault {
    FileFault::Damaged(format!("file {id} is not where it is looked for"))
}

fn age(record: &FileRecord, id: Id) -> AgeKey {
    (u8::from(!record.mark.finished), record.settled_at, id)
}

/// The digits of the first 64 KiB; none where an earlier version kept none.
fn digits(record: &FileRecord) -> Option<&str> {
    let beginnings = &*record.mark.fingerprint.whole.as_ref()?.beginnings;
    Some(beginnings.get(..DIGITS_MAX).unwrap_or(beginnings))
}

/// The sort key of a digit string: prefixes sort before it, extensions after.
fn beginning_key(digits: &str, id: Id) -> BeginningKey {
    let digits = digits.get(..DIGITS_MAX).unwrap_or(digits);
    let (before, last) = digits.split_at(digits.len() / GROUP * GROUP);
    let (number, count) = group(last);
    (hash(before), number, count, id)
}

/// A group of less than [`GROUP`] hexadecimal digits as a number, from the highest digit on, and how many there are.
fn group(digits: &str) -> (u64, u8) {
    let mut number = 0;
    for (at, digit) in digits.chars().enumerate() {
        number |= u64::from(digit.to_digit(16).unwrap_or_default()) << (60 - 4 * at);
    }
    (number, u8::try_from(digits.len()).unwrap_or(u8::MAX))
}

/// How many leading digits both share.
fn common_digits(one: (u64, u8), other: (u64, u8)) -> usize {
    let same = (one.0 ^ other.0).leading_zeros() / 4;
    usize::try_from(same).unwrap_or_default().min(usize::from(one.1)).min(usize::from(other.1))
}

fn hash(text: &str) -> u64 {
    u64::try_from(XxHash3_128::oneshot(text.as_bytes()) >> 64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::super::fingerprint::{Fingerprint, Whole};
    use super::super::import_state::{KIND, Mark};
    use super::*;
    use crate::content::FileLayout;
    use redb_file::RedbFile;

    fn record(path: &str, digits: Option<&str>, finished: bool, settled_at: u64) -> FileRecord {
        let whole = digits.map(|digits| Whole { hash: 7, beginnings: digits.into() });
        let fingerprint = Fingerprint { end: 10, head: 1, tail: 2, whole };
        let mark = Mark { layout: FileLayout::Lines, position: 10, finished, container: 0, fingerprint };
        FileRecord { path: path.to_owned(), mark, changed: None, settled_at }
    }

    fn open() -> (TempDir, RedbFile) {
        let root = tempfile::tempdir().unwrap();
        let file = RedbFile::open(root.path(), &KIND.file).unwrap();
        (root, file)
    }

    /// Does the same with records in a file and in memory.
    fn with_both(act: impl Fn(&mut RecordTable<'_>)) {
        act(&mut RecordTable::held());
        let (_root, file) = open();
        let stored = file.write(|write| {
            act(&mut RecordTable::stored(write)?);
            Ok(((), true))
        });
        stored.unwrap();
    }

    fn ids(found: Result<Vec<(Id, FileRecord)>, FileFault>) -> Vec<Id> {
        found.unwrap().into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn a_record_is_found_by_what_it_says_now_and_by_nothing_that_it_said() {
        with_both(|table| {
            assert_eq!((table.len().unwrap(), table.next()), (0, 0));
            let alike = |table: &RecordTable<'_>, digits: &str, is_it: &dyn Fn(&FileRecord) -> bool| {
                table.first_alike(digits, is_it).unwrap().map(|(id, _)| id)
            };
            let ids_of = |table: &RecordTable<'_>, path: &str, digits: &str| {
                (ids(table.of_path(path)), ids(table.of_beginning(digits)), alike(table, digits, &|_| true))
            };
            assert_eq!(table.add(&record("/a", Some("0f3a"), false, 1)).unwrap(), 0);
            assert_eq!(table.add(&record("/a", Some("0f3a"), true, 2)).unwrap(), 1);
            assert_eq!(ids_of(table, "/a", "0f3a"), (vec![0, 1], vec![0, 1], Some(0)));
            assert_eq!(alike(table, "0f3a", &|record| record.mark.finished), Some(1));
            let asked = std::cell::Cell::new(0);
            alike(table, "0f3a", &|_| asked.replace(asked.get() + 1) == 0);
            assert_eq!(asked.get(), 1, "those behind it are not read");
            table.set(0, &record("/b", Some("0f3ab"), true, 3)).unwrap();
            assert_eq!(ids_of(table, "/a", "0f3a"), (vec![1], vec![1], Some(1)));
            assert_eq!(ids_of(table, "/b", "0f3abc"), (vec![0], vec![0, 1], None));
            table.forget(0).unwrap();
            table.forget(0).unwrap();
            assert_eq!(ids_of(table, "/b", "0f3ab"), (vec![], vec![1], None));
            assert_eq!((table.get(0).unwrap(), table.len().unwrap(), table.next()), (None, 1, 2));
        });
    }

    #[test]
    fn what_earlier_versions_kept_is_found_by_its_length_until_more_is_known() {
        let (_root, file) = open();
        let stored = file.write(|write| {
            let mut table = RecordTable::stored(write)?;
            table.add(&record("/a", None, true, 1))?;
            assert_eq!((ids(table.of_length(10)), ids(table.of_length(9))), (vec![0], vec![]));
            table.set(0, &record("/a", Some(""), true, 1))?;
            assert_eq!((ids(table.of_length(10)), ids(table.of_beginning("0"))), (vec![], vec![0]));
            Ok(((), true))
        });
        stored.unwrap();
    }

    #[test]
    fn what_says_the_same_need_not_be_written() {
        let (_root, file) = open();
        let add = |is_new| {
            let written = file.write(|write| {
                let mut table = RecordTable::stored(write)?;
                assert!(!table.is_changed());
                table.set(0, &record("/a", Some("1"), true, 1))?;
                table.forget(7)?;
                assert_eq!(table.is_changed(), is_new);
                Ok(((), true))
            });
            written.unwrap();
        };
        add(true);
        add(false);
    }

    #[test]
    fn the_oldest_finished_files_are_forgotten_first_and_those_of_the_run_never() {
        let (_root, file) = open();
        let stored = file.write(|write| {
            let mut table = RecordTable::stored(write)?;
            for (path, finished, settled_at) in
                [("/run", true, 0), ("/half", false, 1), ("/new", true, 3), ("/old", true, 2)]
            {
                table.add(&record(path, Some("1"), finished, settled_at))?;
            }
            for (records_max, left) in
                [(5, vec![0, 1, 2, 3]), (4, vec![0, 1, 2]), (3, vec![0, 1]), (2, vec![0]), (0, vec![0])]
            {
                table.make_room(&HashSet::from([0]), 1, records_max)?;
                let there: Vec<Id> = (0..4).filter(|id| table.get(*id).unwrap().is_some()).collect();
                assert_eq!(there, left, "{records_max}");
            }
            Ok(((), true))
        });
        stored.unwrap();
    }

    #[test]
    fn a_record_that_is_indexed_and_not_there_is_damage() {
        let (_root, file) = open();
        let lost = file.write(|write| {
            let mut table = RecordTable::stored(write)?;
            table.add(&record("/a", Some("1"), true, 1))?;
            let RecordTable::Stored(stored) = &mut table else { unreachable!() };
            stored.records.remove(0)?;
            for found in [table.of_path("/a"), table.of_beginning("12")] {
                let Err(FileFault::Damaged(what)) = found else { panic!("{found:?}") };
                assert!(what.contains("file 0"), "{what}");
            }
            Ok(((), false))
        });
        lost.unwrap();
    }

    proptest! {
        /// For any digits, long ones that begin alike among them: a look-up finds exactly those that the digits begin
        /// with.
        #[test]
        fn a_look_up_finds_every_beginning_and_nothing_else(
            many in prop::collection::vec((0_usize..4, "[01]{0,6}"), 1..40),
            sought in (0_usize..4, "[01]{0,8}"),
        ) {
            let whole = |(long, end): &(usize, String)| "0123456789abcde".repeat(*long) + end;
            let records: Vec<String> = many.iter().map(whole).collect();
            let sought = whole(&sought);
            let expected: Vec<Id> = (0..).zip(&records).filter(|(_, digits)| sought.starts_with(&**digits)).map(|(id, _)| id).collect();
            let mut table = RecordTable::held();
            for digits in &records {
                table.add(&record("/x", Some(digits), true, 0)).unwrap();
            }
            let mut found = ids(table.of_beginning(&sought));
            found.sort_unstable();
            prop_assert_eq!(found, expected);
        }

        /// What is stored is what was given, whatever it is.
        #[test]
        fn a_record_is_stored_as_it_is(
            path in "\\PC*", digits in prop::option::of("[0-9a-f]{0,300}"), hash: u128, changed: Option<u64>, position: u64,
        ) {
            let mut given = record(&path, digits.as_deref(), true, position);
            given.changed = changed;
            if let Some(whole) = &mut given.mark.fingerprint.whole {
                *whole = Whole { hash, beginnings: Arc::clone(&whole.beginnings) };
            }
            let packed = pack(&[b"k"], &StoredRecord::of(&given)).unwrap();
            let read: StoredRecord = unpack(&[b"k"], &packed, String::new).unwrap();
            prop_assert_eq!(read.into_record(), Some(given));
        }
    }
}
