use redb::{ReadableTableMetadata as _, TableDefinition};

use super::*;

const KIND: RedbKind = RedbKind { name: "things", format: 2, cache_bytes: 64 << 10 };
const THINGS: TableDefinition<'_, u64, u64> = TableDefinition::new("things");

fn put(file: &RedbFile, key: u64, is_change: bool) -> Result<(), FileFault> {
    file.write(|write| {
        write.open_table(THINGS)?.insert(key, key)?;
        Ok(((), is_change))
    })
}

fn count(file: &RedbFile) -> u64 {
    file.read(|read| Ok(read.open_table(THINGS)?.len()?)).unwrap()
}

#[test]
fn a_write_is_there_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("made/when/missing");
    let file = RedbFile::open(&directory, &KIND).unwrap();
    put(&file, 1, true).unwrap();
    put(&file, 2, false).unwrap();
    let failed = file.write(|write| {
        write.open_table(THINGS)?.insert(3, 7)?;
        Err::<((), bool), _>(FileFault::Damaged("it is a test".to_owned()))
    });
    assert!(failed.is_err());
    let panicked = file.write::<()>(|_| panic!("as redb may"));
    assert!(matches!(panicked, Err(FileFault::Damaged(_))), "{panicked:?}");
    assert_eq!(count(&file), 1);
    drop(file);
    assert_eq!(count(&RedbFile::open(&directory, &KIND).unwrap()), 1);
}

#[test]
fn what_a_kill_left_of_a_new_file_is_begun_anew() {
    for left in ["", "half a file"] {
        let root = tempfile::tempdir().unwrap();
        let new = root.path().join("things-v2.redb.new");
        fs::write(&new, left).unwrap();
        let file = RedbFile::open(root.path(), &KIND).unwrap();
        put(&file, 1, true).unwrap();
        assert!(!new.exists() && count(&file) == 1);
    }
}

#[test]
fn a_file_that_is_cut_short_is_damaged_and_left_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let file = RedbFile::open(root.path(), &KIND).unwrap();
    put(&file, 1, true).unwrap();
    let path = file.path().to_owned();
    drop(file);
    let whole = fs::read(&path).unwrap();
    for length in [0, 1, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let fault = RedbFile::open(root.path(), &KIND).err();
        assert!(matches!(fault, Some(FileFault::Damaged(_))), "{length} bytes: {fault:?}");
        assert_eq!(fs::metadata(&path).unwrap().len(), length as u64);
    }
}

#[test]
fn what_is_there_and_cannot_be_looked_at_is_not_begun_anew() {
    let root = tempfile::tempdir().unwrap();
    let path = KIND.path(root.path());
    // A volume that is not mounted, and a link that leads in a circle.
    for target in [root.path().join("not/mounted"), path.clone()] {
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let fault = RedbFile::open(root.path(), &KIND).err();
        assert!(matches!(fault, Some(FileFault::Failed(_))), "{fault:?}");
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "none is begun");
        fs::remove_file(&path).unwrap();
    }
    let no_directory = root.path().join("a file");
    fs::write(&no_directory, "").unwrap();
    assert_eq!(KIND.is_there(&no_directory).unwrap_err().kind(), ErrorKind::NotADirectory);
}

#[test]
fn a_file_that_another_process_began_meanwhile_is_opened_instead() {
    let root = tempfile::tempdir().unwrap();
    let path = KIND.path(root.path());
    let new = path.with_extension("redb.new");
    let file = RedbFile::open(root.path(), &KIND).unwrap();
    put(&file, 1, true).unwrap();
    assert!(matches!(KIND.begin(&path, &new), Err(FileFault::Locked)));
    drop(file);
    drop(KIND.begin(&path, &new).unwrap());
    assert!(!new.exists());
    assert_eq!(count(&RedbFile::open(root.path(), &KIND).unwrap()), 1);
}

#[test]
fn a_file_that_lost_its_name_is_written_no_more() {
    let root = tempfile::tempdir().unwrap();
    let file = RedbFile::open(root.path(), &KIND).unwrap();
    put(&file, 1, true).unwrap();
    let away = root.path().join("away");
    fs::rename(file.path(), &away).unwrap();
    let fault = put(&file, 2, true).unwrap_err().to_string();
    assert!(fault.contains("moved away while it was in use"), "{fault}");
    fs::write(file.path(), "another").unwrap();
    assert!(put(&file, 2, true).unwrap_err().to_string().contains("replaced"));
    fs::rename(&away, file.path()).unwrap();
    put(&file, 2, true).unwrap();
    assert_eq!(count(&file), 2);
}

#[test]
fn a_second_process_and_a_newer_format_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = RedbFile::open(root.path(), &KIND).unwrap();
    assert!(matches!(RedbFile::open(root.path(), &KIND), Err(FileFault::Locked)));
    drop(file);
    for name in ["things-v1.redb", "things-v3.redb.damaged", "thing-v3.redb", "things-vx.redb"] {
        fs::write(root.path().join(name), "").unwrap();
    }
    drop(RedbFile::open(root.path(), &KIND).unwrap());
    let newer = root.path().join("things-v3.redb");
    fs::write(&newer, "").unwrap();
    let fault = RedbFile::open(root.path(), &KIND).unwrap_err();
    assert!(matches!(fault, FileFault::Newer { path, format: 3 } if path == newer));
}

#[test]
fn a_record_is_its_value_and_the_checksum_of_key_and_value() {
    let packed = pack(&[b"key", b"\0"], &7_u8).unwrap();
    let sum = crc32fast::hash(b"key\0\x07").to_le_bytes();
    assert_eq!(packed, [&[7], &sum[..]].concat());
    assert_eq!(unpack(&[b"key\0"], &packed), Some(7_u8));
    assert_eq!((unpack::<u8>(&[b"key"], &packed), unpack::<u8>(&[b"key\0"], &packed[..3])), (None, None));
}
