use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::disk::fault::Faults;

const SIZE_MAX: u64 = 64 * 1024;

fn settings(directory: &TempDir) -> LogSettings {
    LogSettings::new(directory.path().join("queue"), SIZE_MAX)
}

fn open_at(directory: &TempDir) -> (LogReader, Appender, Opened) {
    let (mut queue, appender, opened) = open(&settings(directory)).unwrap();
    queue.until_empty(true);
    (queue, appender, opened)
}

fn open_with(directory: &TempDir, faults: &Arc<Faults>) -> (LogReader, Appender, Opened) {
    let disk = Directory::with_faults(&settings(directory).directory, faults);
    let (mut queue, appender, opened) = open_on(disk, SIZE_MAX).unwrap();
    queue.until_empty(true);
    (queue, appender, opened)
}

fn frame(events: u32, body: impl Into<Bytes>) -> Frame {
    Frame { events, kind: 0, header: Bytes::new(), body: body.into() }
}

/// A body of `bytes` that tells `n`.
fn body(n: usize, bytes: usize) -> Vec<u8> {
    format!("{n:>bytes$}").into_bytes()
}

/// The numbers that the bodies tell, and the last receipt.
async fn drain(queue: &mut LogReader) -> (Vec<usize>, Option<u64>) {
    let (mut numbers, mut receipt) = (Vec::new(), None);
    while let Some(entry) = queue.next().await.unwrap() {
        assert!(receipt < Some(entry.last()));
        receipt = Some(entry.last());
        numbers.push(str::from_utf8(&entry.body).unwrap().trim().parse().unwrap());
    }
    (numbers, receipt)
}

fn segment_files(directory: &TempDir) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(settings(directory).directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

/// What a process that is killed now would leave behind.
fn killed(directory: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("queue")).unwrap();
    for entry in fs::read_dir(settings(directory).directory).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join("queue").join(entry.file_name())).unwrap();
    }
    copy
}

fn damage(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x20;
    fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn frames_come_out_as_they_went_in_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, opened) = open_at(&directory);
    assert_eq!(opened, Opened::default());
    let header = Bytes::from("Acme Ünlimited");
    let with_header = Frame { events: 100, kind: 200, header: header.clone(), body: "[1]".into() };
    appender.append(with_header).await.unwrap();
    appender.append(frame(2, "[2]")).await.unwrap();
    assert_eq!(appender.depth(), 102);

    let one = queue.next().await.unwrap().unwrap();
    let two = queue.next().await.unwrap().unwrap();
    assert_eq!((&*one.body, one.last(), one.kind, &one.header), (&b"[1]"[..], 99, 200, &header));
    assert_eq!((&*two.body, two.last(), two.kind, &*two.header), (&b"[2]"[..], 101, 0, &b""[..]));
    assert!(queue.next().await.unwrap().is_none());
    queue.acknowledge(one.last()).await.unwrap();
    assert_eq!(appender.depth(), 2);
    queue.acknowledge(two.last()).await.unwrap();
    queue.acknowledge(one.last()).await.unwrap();
    assert_eq!((appender.depth(), appender.lost()), (0, 0));
}

#[tokio::test]
async fn what_is_not_acknowledged_is_given_again_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..5 {
        appender.append(frame(3, body(n, 100))).await.unwrap();
    }
    assert_eq!(drain(&mut queue).await, (vec![0, 1, 2, 3, 4], Some(14)));
    queue.acknowledge(5).await.unwrap();
    let after_a_kill = killed(&directory);
    drop((queue, appender));
    for directory in [directory, after_a_kill] {
        let (mut queue, appender, opened) = open_at(&directory);
        assert_eq!(opened, Opened { waiting: 9, ..Opened::default() });
        assert_eq!(drain(&mut queue).await, (vec![2, 3, 4], Some(14)));
        appender.append(frame(3, body(5, 100))).await.unwrap();
        assert_eq!(drain(&mut queue).await, (vec![5], Some(17)));
    }
}

#[tokio::test]
async fn receiving_waits_for_an_append_and_may_be_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    queue.until_empty(false);
    let wait = tokio::time::timeout(Duration::from_millis(20), queue.next());
    wait.await.expect_err("there is nothing to receive");
    let (entry, outcome) = tokio::join!(queue.next(), appender.append(frame(1, "[]")));
    outcome.unwrap();
    assert_eq!(entry.unwrap().unwrap().body, "[]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_that_wait_together_share_an_fsync() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (mut queue, appender, _) = open_with(&directory, &faults);
    let before = faults.syncs.load(SeqCst);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..400 {
        let appender = appender.clone();
        tasks.spawn(async move { appender.append(frame(1, body(n, 50))).await });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
    }
    let syncs = faults.syncs.load(SeqCst) - before;
    assert!(syncs < 200, "{syncs} fsyncs for 400 appends");
    let numbers: HashSet<_> = drain(&mut queue).await.0.into_iter().collect();
    assert_eq!(numbers, (0..400).collect());
}

#[tokio::test]
async fn what_a_frame_holds_is_kept_until_its_fate_is_certain_though_its_sender_has_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (_queue, appender, _) = open_with(&directory, &faults);
    let share = Arc::new(());
    let append = |bytes| appender.append_holding(frame(1, vec![b' '; bytes]), Box::new(Arc::clone(&share)));
    // Given back by the time of the answer, whichever it is.
    append(100).await.unwrap();
    append(2 * usize::try_from(SIZE_MAX).unwrap()).await.unwrap_err();
    assert_eq!(Arc::strong_count(&share), 1);
    faults.sync_hangs.store(true, SeqCst);
    for _ in 0..50 {
        let given_up = tokio::time::timeout(Duration::from_millis(1), append(100));
        given_up.await.expect_err("the disk hangs");
    }
    let held = Arc::strong_count(&share);
    faults.sync_hangs.store(false, SeqCst);
    assert_eq!(held, 51, "the frames are in memory");
    append(100).await.unwrap();
    assert_eq!(Arc::strong_count(&share), 1);
}

#[tokio::test]
async fn a_disk_that_does_not_answer_is_told_for_as_long_as_that_lasts() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (_queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(1, body(1, 100))).await.unwrap();
    assert_eq!(appender.stalled_for(), None);
    faults.sync_hangs.store(true, SeqCst);
    let mut waits = tokio::task::JoinSet::new();
    let waiting = appender.clone();
    waits.spawn(async move { waiting.append(frame(1, body(2, 100))).await });
    while appender.stalled_for().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(waits.try_join_next().is_none());
    faults.sync_hangs.store(false, SeqCst);
    waits.join_next().await.unwrap().unwrap().unwrap();
    while appender.stalled_for().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_emptied_and_taken_into_use_again() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(1, body(7, 100))).await.unwrap();
    drop((queue, appender));
    let faults = Arc::new(Faults { room: 0.into(), ..Faults::default() });
    let (mut queue, appender, _) = open_with(&directory, &faults);
    let (numbers, receipt) = drain(&mut queue).await;
    assert_eq!(numbers, [7]);
    let refusal = appender.append(frame(1, body(8, 100))).await.unwrap_err();
    assert!(matches!(refusal, AppendError::Disk(_)), "{refusal}");
    queue.acknowledge(receipt.unwrap()).await.unwrap();
    assert_eq!(appender.depth(), 0);
    assert_eq!(segment_files(&directory)[0].metadata().unwrap().len(), 16, "it is emptied");
    faults.room.store(u64::MAX, SeqCst);
    appender.append(frame(1, body(9, 100))).await.unwrap();
    assert_eq!(drain(&mut queue).await.0, [9]);
}

#[tokio::test]
async fn on_a_full_disk_what_was_acknowledged_before_gives_its_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let (mut queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(1, body(0, 100))).await.unwrap();
    queue.acknowledge(0).await.unwrap();
    assert_eq!(appender.size(), 148, "it is little, and there is no need");
    faults.room.store(0, SeqCst);
    appender.append(frame(1, body(1, 100))).await.unwrap_err();
    appender.check();
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if appender.size() == 16 {
            break;
        }
    }
    let on_disk = segment_files(&directory)[0].metadata().unwrap().len();
    assert_eq!((appender.size(), on_disk), (16, 16));
    faults.room.store(u64::MAX, SeqCst);
    appender.append(frame(1, body(2, 100))).await.unwrap();
    assert_eq!(drain(&mut queue).await, (vec![0, 2], Some(1)));
}

#[tokio::test]
async fn a_reader_without_a_file_descriptor_waits_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(1, body(7, 100))).await.unwrap();
    drop((queue, appender));
    let faults = Arc::default();
    let disk = Directory::with_faults(&settings(&directory).directory, &faults);
    faults.no_descriptors.store(true, SeqCst);
    let (mut queue, appender, _) = open_on(disk, SIZE_MAX).unwrap();
    let wait = tokio::time::timeout(Duration::from_millis(50), queue.next());
    wait.await.expect_err("there is nothing to read it with");
    faults.no_descriptors.store(false, SeqCst);
    assert_eq!(queue.next().await.unwrap().unwrap().body, body(7, 100));
    assert!(appender.stopped().is_none());

    // A log that is closed meanwhile does not wait for ever.
    drop((queue, appender));
    faults.no_descriptors.store(true, SeqCst);
    drop(open_on(Directory::with_faults(&settings(&directory).directory, &faults), SIZE_MAX).unwrap());
}

#[tokio::test]
async fn space_comes_back_when_events_are_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..300 {
        appender.append(frame(1, body(n, 1000))).await.unwrap();
        let (numbers, receipt) = drain(&mut queue).await;
        assert_eq!(numbers, [n]);
        // One frame always waits, so that no moment is idle.
        if let Some(receipt) = receipt.and_then(|receipt| receipt.checked_sub(1)) {
            queue.acknowledge(receipt).await.unwrap();
        }
        assert!(appender.size() <= 2 * SIZE_MAX / 8, "{}", appender.size());
    }
    let on_disk: u64 = segment_files(&directory).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(on_disk, appender.size());
    queue.acknowledge(299).await.unwrap();
    assert_eq!(segment_files(&directory).len(), 1);
}

#[tokio::test]
async fn a_full_log_refuses_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    let mut count = 0;
    let refusal = loop {
        match appender.append(frame(1, body(count, 1000))).await {
            Ok(()) => count += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refusal, AppendError::Full);
    assert!((60..=64).contains(&count), "{count}");
    assert!(appender.size() <= SIZE_MAX);
    assert!(!appender.is_accepting() && appender.is_full());
    let (numbers, _) = drain(&mut queue).await;
    queue.acknowledge(0).await.unwrap();
    assert!(!appender.is_accepting(), "no space came back by that");
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    queue.acknowledge(20).await.unwrap();
    assert!(appender.is_accepting() && !appender.is_full());
    appender.append(frame(1, body(count, 1000))).await.unwrap();
}

#[tokio::test]
async fn the_largest_frame_fits_whenever_everything_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    let bytes_max = usize::try_from(SIZE_MAX).unwrap() - 2 * 16 - 32;
    let too_large = appender.append(frame(1, body(0, bytes_max + 1))).await.unwrap_err();
    assert!(matches!(too_large, AppendError::TooLarge { .. }), "{too_large}");
    for n in 0..3 {
        appender.append(frame(1, body(n, 10))).await.unwrap();
        let refusal = appender.append(frame(1, body(n, bytes_max))).await.unwrap_err();
        assert_eq!(refusal, AppendError::Full);
        let (_, receipt) = drain(&mut queue).await;
        queue.acknowledge(receipt.unwrap()).await.unwrap();
        assert!(appender.is_accepting());
        appender.append(frame(1, body(n, bytes_max))).await.unwrap();
        let (numbers, receipt) = drain(&mut queue).await;
        assert_eq!(numbers, [n]);
        queue.acknowledge(receipt.unwrap()).await.unwrap();
        assert_eq!(appender.size(), 16);
    }
}

#[tokio::test]
async fn a_body_of_sixteen_mebibytes_goes_through() {
    let directory = tempfile::tempdir().unwrap();
    let settings = LogSettings { size_max: 1 << 30, ..settings(&directory) };
    let (mut queue, appender, _) = open(&settings).unwrap();
    let large: Bytes = (0..16u32 << 20).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    appender.append(frame(1, "before")).await.unwrap();
    appender.append(frame(1, large.clone())).await.unwrap();
    appender.append(frame(1, "after")).await.unwrap();
    for expected in ["before".into(), large, "after".into()] {
        assert!(queue.next().await.unwrap().unwrap().body == expected);
    }
}

#[tokio::test]
async fn what_is_read_at_once_is_bounded_with_its_headers() {
    let directory = tempfile::tempdir().unwrap();
    let settings = LogSettings { size_max: 64 << 20, ..settings(&directory) };
    let (queue, appender, _) = open(&settings).unwrap();
    let header = Bytes::from(vec![b' '; 64 * 1024]);
    for n in 0..20 {
        appender.append(Frame { header: header.clone(), ..frame(1, body(n, 10)) }).await.unwrap();
    }
    drop((queue, appender));
    let (mut queue, ..) = open(&settings).unwrap();
    queue.next().await.unwrap();
    let in_hand = queue.ready.len() + 1;
    assert!(in_hand <= reader::BATCH_BYTES / header.len() + 1, "{in_hand} of 20 at once");
    queue.until_empty(true);
    assert_eq!(drain(&mut queue).await.0, (1..20).collect::<Vec<_>>());
}

#[test]
fn one_process_at_a_time_has_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    let error = open(&settings(&directory)).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}:", std::process::id())), "{error}");
    drop(queue);
    open(&settings(&directory)).unwrap_err();
    drop(appender);
    open(&settings(&directory)).unwrap();
}

#[tokio::test]
async fn a_process_whose_lock_file_is_gone_is_alone_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let lock = settings(&directory).directory.join("lock");
    let (mut queue, appender, _) = open_at(&directory);
    for replace in [|_: &Path| {}, |lock: &Path| fs::write(lock, "7\n").unwrap()] {
        fs::remove_file(&lock).unwrap();
        replace(&lock);
        let error = open(&settings(&directory)).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("in use by another process, which"), "{error}");
    }
    appender.append(frame(1, "0")).await.unwrap();
    assert_eq!(drain(&mut queue).await.0, [0]);
    drop((queue, appender));
    open(&settings(&directory)).unwrap();
}

#[test]
fn an_earlier_version_that_locks_only_the_file_keeps_the_log() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_at(&directory));
    let lock = fs::File::open(settings(&directory).directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let error = open(&settings(&directory)).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(lock);
    open(&settings(&directory)).unwrap();
}

#[test]
fn where_a_directory_can_not_be_locked_the_lock_file_keeps_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let open_here = || open_on(Directory::with_faults(&settings(&directory).directory, &faults), SIZE_MAX);
    faults.no_directory_locks.store(true, SeqCst);
    let held = open_here().unwrap();
    let error = open_here().unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(held);
    open_here().unwrap();
}

#[test]
fn a_file_system_that_can_lock_nothing_is_refused_and_told_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    faults.no_file_locks.store(true, SeqCst);
    let disk = Directory::with_faults(&settings(&directory).directory, &faults);
    let error = open_on(disk, SIZE_MAX).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "/queue/lock: unsupported: directory must be on a file system that can lock files (flock)"
        ),
        "{error}"
    );
}

#[test]
fn a_start_that_gets_too_few_threads_ends_and_leaves_the_log_free() {
    let directory = tempfile::tempdir().unwrap();
    for threads in 0..2 {
        let settings = settings(&directory);
        let (ended, end) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            threads::fault::LEFT.set(threads);
            ended.send(open(&settings).unwrap_err().to_string()).unwrap();
        });
        let error = end.recv_timeout(Duration::from_mins(2)).expect("the start hangs");
        assert!(error.contains("can't start the threads of /") && error.contains("TasksMax="), "{error}");
    }
    open(&settings(&directory)).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let names = SettingNames { directory: "log.directory", size_max: "log.size" };
    let settings = LogSettings { names, ..settings(&directory) };
    fs::write(&settings.directory, "a file").unwrap();
    let error = open(&settings).unwrap_err().to_string();
    assert!(error.contains(settings.directory.to_str().unwrap()), "{error}");
    assert!(error.contains("log.directory must be a directory"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_at(&directory));
    let file = segment_files(&directory).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    set_format(&mut bytes, 3);
    fs::write(&file, &bytes).unwrap();
    let error = open(&settings(&directory)).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 3, .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), bytes);
}

#[tokio::test]
async fn a_file_that_claims_the_last_number_is_no_segment_and_harms_no_append() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_at(&directory));
    let file = segment_files(&directory).remove(0);
    let stray = file.with_file_name(format!("{}.log", u64::MAX));
    fs::copy(&file, &stray).unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    appender.append(frame(3, body(0, 100))).await.unwrap();
    let entry = queue.next().await.unwrap().unwrap();
    assert_eq!(entry.last(), 2);
    assert!(stray.exists());
}

/// Changes the version in the head of a segment.
fn set_format(bytes: &mut [u8], format: u8) {
    bytes[8] = format;
    let sum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
}

#[tokio::test]
async fn an_older_format_is_read_on() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(3, body(0, 100))).await.unwrap();
    drop((queue, appender));
    let file = segment_files(&directory).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    set_format(&mut bytes, 1);
    fs::write(&file, &bytes).unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    appender.append(frame(2, body(1, 100))).await.unwrap();
    assert_eq!(drain(&mut queue).await, (vec![0, 1], Some(4)));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_costs_nothing_that_was_answered() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    faults.sync_is_skipped.store(true, SeqCst);
    let (_queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(3, body(0, 100))).await.unwrap();
    let whole = segment_files(&directory)[0].metadata().unwrap().len();
    let before = killed(&directory);
    appender.append(frame(3, body(1, 100))).await.unwrap();
    for cut in 1..=132 {
        let killed = killed(&directory);
        let file = &segment_files(&killed)[0];
        fs::File::options().write(true).open(file).unwrap().set_len(whole + 132 - cut).unwrap();
        // It was killed before it could answer.
        let noted = |of: &TempDir| settings(of).directory.join(checkpoint::NAME);
        fs::copy(noted(&before), noted(&killed)).unwrap();
        let (mut queue, appender, opened) = open_with(&killed, &faults);
        assert_eq!(opened, Opened { waiting: 3, torn_bytes: 132 - cut, ..Opened::default() });
        appender.append(frame(3, body(2, 100))).await.unwrap();
        assert_eq!(drain(&mut queue).await, (vec![0, 2], Some(5)));
        assert_eq!(appender.lost(), 0);
    }
}

#[tokio::test]
async fn a_segment_that_was_cut_shorter_after_a_kill_costs_a_number_of_events_that_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (_queue, appender, _) = open_at(&directory);
    for n in 0..3 {
        appender.append(frame(10, body(n, 100))).await.unwrap();
    }
    for (bytes, left) in [(16, 0), (16 + 132 - 1, 0), (16 + 132, 1), (16 + 132 + 40, 1), (16 + 395, 2)] {
        let killed = killed(&directory);
        let file = segment_files(&killed).remove(0);
        fs::File::options().write(true).open(file).unwrap().set_len(bytes).unwrap();
        let (mut queue, appender, opened) = open_at(&killed);
        let lost: u64 = opened.damaged.iter().map(|gap| gap.events).sum();
        assert_eq!((opened.waiting, lost), (left * 10, 30 - left * 10), "cut to {bytes}: {opened:?}");
        assert_eq!((opened.torn, opened.torn_bytes, appender.lost()), (Torn::Unanswered, 0, lost));
        appender.append(frame(1, body(7, 100))).await.unwrap();
        assert_eq!(drain(&mut queue).await.1, Some(30), "no number is given twice");
    }
}

#[tokio::test]
async fn where_the_machine_has_died_a_torn_end_may_have_been_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    let before = killed(&directory);
    appender.append(frame(7, body(1, 100))).await.unwrap();
    drop((queue, appender));
    for (bytes, events_max) in [(16 + 132 + 31, None), (16 + 132 + 32, Some(7)), (16 + 263, Some(7))] {
        let killed = killed(&directory);
        // The note is as old as the disk had it, and of another boot.
        machine_died(&killed, &before);
        let file = segment_files(&killed).remove(0);
        fs::File::options().write(true).open(file).unwrap().set_len(bytes).unwrap();
        let (_, appender, opened) = open_at(&killed);
        assert_eq!((opened.waiting, opened.torn_bytes, opened.found), (10, bytes - 148, 0));
        assert_eq!(opened.torn, Torn::PerhapsAnswered { events_max });
        assert_eq!(appender.at_start().perhaps_lost, events_max.unwrap_or_default());
    }
}

/// The machine dies: of the notes that the process has made the disk has those of `before`, of an earlier boot.
fn machine_died(directory: &TempDir, before: &TempDir) {
    let noted = |of: &TempDir| settings(of).directory.join(checkpoint::NAME);
    fs::copy(noted(before), noted(directory)).unwrap();
    checkpoint::forge_boot(&noted(directory));
}

/// The disk loses these bytes of the first segment.
fn lose(directory: &TempDir, bytes: std::ops::Range<usize>) {
    let file = segment_files(directory).remove(0);
    let mut content = fs::read(&file).unwrap();
    content[bytes].fill(0);
    fs::write(&file, content).unwrap();
}

#[tokio::test]
async fn where_the_machine_has_died_a_hole_before_the_end_may_have_been_answered_and_one_that_was_noted_has_been()
 {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    let before = killed(&directory);
    for n in 1..4 {
        appender.append(frame(7, body(n, 100))).await.unwrap();
    }
    drop((queue, appender));
    // In the second frame, which is behind the note, and in the first one, which is before it.
    for (offset, lost, perhaps_lost, left) in [(148, 0, 7, 24), (16, 10, 0, 21)] {
        let killed = killed(&directory);
        machine_died(&killed, &before);
        lose(&killed, offset..offset + 132);
        let (mut queue, appender, opened) = open_at(&killed);
        assert_eq!((appender.lost(), appender.at_start().perhaps_lost), (lost, perhaps_lost), "{opened:?}");
        assert_eq!((opened.waiting, opened.damaged.len() + opened.doubtful.len()), (left, 1));
        assert_eq!(drain(&mut queue).await.1, Some(30));
        assert_eq!(appender.lost(), lost, "it is told once");
    }
}

#[tokio::test]
async fn what_was_perhaps_lost_before_what_is_lost_is_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    let before = killed(&directory);
    for n in 1..5 {
        appender.append(frame(7, body(n, 100))).await.unwrap();
    }
    drop((queue, appender));
    // The machine dies, and the second frame may never have been answered; later the disk loses the fourth.
    machine_died(&directory, &before);
    lose(&directory, 148..280);
    drop(open_at(&directory));
    lose(&directory, 412..544);
    let (mut queue, appender, opened) = open_at(&directory);
    assert_eq!((opened.waiting, opened.damaged.len(), opened.doubtful.len()), (24, 1, 1), "{opened:?}");
    let counts = || (appender.depth(), appender.lost(), appender.at_start().perhaps_lost);
    assert_eq!(counts(), (24, 7, 7));
    let (_, receipt) = drain(&mut queue).await;
    assert_eq!(counts(), (24, 7, 7), "it is told once");
    queue.acknowledge(receipt.unwrap()).await.unwrap();
    assert_eq!(counts(), (0, 7, 7));
}

#[tokio::test]
async fn what_was_perhaps_lost_stays_so_however_often_the_process_or_the_machine_dies() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    let noted = |of: &TempDir| settings(of).directory.join(checkpoint::NAME);
    let before = killed(&directory);
    for n in 1..3 {
        appender.append(frame(7, body(n, 100))).await.unwrap();
    }
    drop((queue, appender));
    machine_died(&directory, &before);
    lose(&directory, 148..280);
    for has_machine_died in [false, false, true, false] {
        let (queue, appender, opened) = open_at(&directory);
        assert_eq!((appender.lost(), appender.at_start().perhaps_lost), (0, 7), "{opened:?}");
        appender.append(frame(1, body(3, 100))).await.unwrap();
        let after = killed(&directory);
        drop((queue, appender));
        fs::copy(noted(&after), noted(&directory)).unwrap();
        if has_machine_died {
            checkpoint::forge_boot(&noted(&directory));
        }
    }
    // Once what follows is acknowledged there is nothing left to be told of it.
    let (mut queue, appender, _) = open_at(&directory);
    let (_, receipt) = drain(&mut queue).await;
    queue.acknowledge(receipt.unwrap() - 1).await.unwrap();
    drop((queue, appender));
    let (_, _, opened) = open_at(&directory);
    assert_eq!(opened, Opened { waiting: 1, ..Opened::default() });
    // Other damage is known as well as before.
    let (queue, appender, _) = open_at(&directory);
    drop((queue, appender));
    let file = segment_files(&directory).remove(0);
    damage(&file, usize::try_from(file.metadata().unwrap().len()).unwrap() - 1);
    let (_, appender, opened) = open_at(&directory);
    assert_eq!((appender.lost(), appender.at_start().perhaps_lost), (1, 0), "{opened:?}");
}

#[tokio::test]
async fn what_is_found_and_was_never_answered_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (_queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    faults.sync_fails.store(true, SeqCst);
    appender.append(frame(4, body(1, 100))).await.unwrap_err();
    let (_, appender, opened) = open_at(&killed(&directory));
    assert_eq!((opened.waiting, opened.found, appender.at_start().found), (14, 4, 4));
}

#[tokio::test]
async fn a_segment_that_was_only_begun_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    drop(open_at(&directory));
    let file = &segment_files(&directory)[0];
    for bytes in 0..16 {
        fs::File::options().write(true).open(file).unwrap().set_len(bytes).unwrap();
        let (mut queue, appender, opened) = open_at(&directory);
        assert_eq!(opened.torn_bytes, bytes);
        assert_eq!(fs::read(file).unwrap().len(), 16);
        appender.append(frame(1, body(7, 10))).await.unwrap();
        let (numbers, receipt) = drain(&mut queue).await;
        assert_eq!(numbers, [7]);
        queue.acknowledge(receipt.unwrap()).await.unwrap();
        drop((queue, appender));
        fs::remove_dir_all(settings(&directory).directory).unwrap();
        drop(open_at(&directory));
    }
}

#[tokio::test]
async fn a_kill_while_space_is_given_back_loses_nothing_and_raises_no_alarm() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    queue.acknowledge(9).await.unwrap();
    // The last segment is emptied already, and has its old name still.
    let killed = killed(&directory);
    fs::File::options().write(true).open(&segment_files(&killed)[0]).unwrap().set_len(16).unwrap();
    let (mut queue, appender, opened) = open_at(&killed);
    assert_eq!(opened, Opened::default());
    appender.append(frame(10, body(1, 100))).await.unwrap();
    let (numbers, receipt) = drain(&mut queue).await;
    assert_eq!((numbers, receipt), (vec![1], Some(19)));
    queue.acknowledge(19).await.unwrap();
    assert_eq!((appender.lost(), segment_files(&killed).len()), (0, 1));
}

#[tokio::test]
async fn damage_in_the_last_segment_is_told_on_opening_and_stepped_over() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    for n in 0..3 {
        appender.append(frame(10, body(n, 100))).await.unwrap();
    }
    drop((queue, appender));
    let file = segment_files(&directory).remove(0);
    damage(&file, 16 + 132 + 50);
    let (mut queue, appender, opened) = open_at(&directory);
    let gap = Gap { segment: file, offset: 148, bytes: 132, first: 10, events: 10 };
    assert_eq!(opened, Opened { waiting: 20, damaged: vec![gap], ..Opened::default() });
    assert_eq!(drain(&mut queue).await, (vec![0, 2], Some(29)));
    assert_eq!((appender.lost(), appender.depth()), (10, 20));
    queue.acknowledge(9).await.unwrap();
    assert_eq!(appender.depth(), 10);
    queue.acknowledge(29).await.unwrap();
    assert_eq!((appender.lost(), appender.depth()), (10, 0));
}

#[tokio::test]
async fn damage_in_an_earlier_segment_is_counted_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    for n in 0..20 {
        appender.append(frame(10, body(n, 1000))).await.unwrap();
    }
    drop((queue, appender));
    let files = segment_files(&directory);
    assert!(files.len() > 2);
    damage(&files[0], 500);
    // The last frame of the segment, and the segment's head.
    damage(&files[1], 5);
    damage(&files[1], usize::try_from(files[1].metadata().unwrap().len()).unwrap() - 1);
    let (mut queue, appender, opened) = open_at(&directory);
    assert_eq!((opened.damaged.len(), opened.waiting), (0, 200));
    let (numbers, receipt) = drain(&mut queue).await;
    assert_eq!((numbers.len(), receipt), (18, Some(199)));
    assert!(!numbers.contains(&0));
    assert_eq!((appender.lost(), appender.depth()), (20, 180));
    queue.acknowledge(199).await.unwrap();
    assert_eq!(appender.depth(), 0);
}

#[tokio::test]
async fn a_segment_that_is_missing_is_counted_as_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    for n in 0..30 {
        appender.append(frame(10, body(n, 1000))).await.unwrap();
    }
    drop((queue, appender));
    let files = segment_files(&directory);
    assert!(files.len() > 3);
    fs::remove_file(&files[0]).unwrap();
    fs::remove_file(&files[2]).unwrap();
    let (mut queue, appender, opened) = open_at(&directory);
    assert_eq!(opened.damaged.len(), 1);
    let (numbers, _) = drain(&mut queue).await;
    let lost = appender.lost();
    assert!(lost > opened.damaged[0].events);
    assert_eq!(lost + numbers.len() as u64 * 10, 300);
    assert_eq!(appender.depth(), 300 - lost);
}

#[tokio::test]
async fn a_damaged_end_is_lost_not_torn_and_its_numbers_are_not_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    appender.append(frame(10, body(1, 100))).await.unwrap();
    drop((queue, appender));
    let file = segment_files(&directory).remove(0);
    damage(&file, 16 + 132 + 50);
    let (mut queue, appender, opened) = open_at(&directory);
    assert_eq!((opened.waiting, opened.torn_bytes, opened.damaged.len()), (10, 0, 1));
    assert_eq!(drain(&mut queue).await, (vec![0], Some(9)));
    queue.acknowledge(9).await.unwrap();
    assert_eq!((appender.depth(), appender.lost()), (0, 10));
    assert_eq!(segment_files(&directory).len(), 1, "the damaged one must not stay for ever");
    appender.append(frame(10, body(2, 100))).await.unwrap();
    assert_eq!(drain(&mut queue).await, (vec![2], Some(29)));
}

#[tokio::test]
async fn an_acknowledgement_outlives_the_loss_of_every_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..3 {
        appender.append(frame(10, body(n, 100))).await.unwrap();
    }
    drain(&mut queue).await;
    queue.acknowledge(19).await.unwrap();
    drop((queue, appender));
    for file in segment_files(&directory) {
        fs::remove_file(file).unwrap();
    }
    let (mut queue, appender, opened) = open_at(&directory);
    assert_eq!((opened.waiting, opened.damaged[0].events, appender.lost()), (0, 10, 10));
    appender.append(frame(1, body(7, 10))).await.unwrap();
    assert_eq!(drain(&mut queue).await, (vec![7], Some(30)));
}

#[tokio::test]
async fn without_the_record_of_acknowledgements_everything_is_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    appender.append(frame(10, body(1, 100))).await.unwrap();
    queue.acknowledge(9).await.unwrap();
    drop((queue, appender));
    fs::remove_file(settings(&directory).directory.join(checkpoint::NAME)).unwrap();
    let (mut queue, _, opened) = open_at(&directory);
    assert!(opened.is_acknowledgement_lost);
    assert_eq!(drain(&mut queue).await.0, [0, 1]);
}

#[test]
fn a_kill_during_the_very_first_start_raises_no_alarm() {
    for bytes in [0, 7, 16] {
        let directory = tempfile::tempdir().unwrap();
        drop(open_at(&directory));
        // The record is blank still, and the segment may be only begun.
        let record = settings(&directory).directory.join(checkpoint::NAME);
        fs::write(record, vec![0; 16384]).unwrap();
        let segment = segment_files(&directory).remove(0);
        fs::File::options().write(true).open(segment).unwrap().set_len(bytes).unwrap();
        let (.., opened) = open_at(&directory);
        assert_eq!(opened, Opened { torn_bytes: bytes % 16, ..Opened::default() });
    }
}

#[tokio::test]
async fn what_is_in_hand_is_not_acknowledged_and_does_not_wait() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..100 {
        appender.append(frame(1, body(n, 100))).await.unwrap();
    }
    let (depth, waiting) = (appender.depth(), appender.waiting());
    assert!(depth == 100 && (1..100).contains(&waiting), "there is room in hand for some of them: {waiting}");
    assert_eq!(drain(&mut queue).await.1, Some(99));
    assert_eq!((appender.depth(), appender.waiting()), (100, 0));
    queue.acknowledge(99).await.unwrap();
    assert_eq!((appender.depth(), appender.waiting()), (0, 0));
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_log_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (mut queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(1, body(0, 100))).await.unwrap();
    faults.room.store(77, SeqCst);
    for _ in 0..3 {
        let error = appender.append(frame(1, body(9, 100))).await.unwrap_err();
        assert!(matches!(&error, AppendError::Disk(text) if text.contains("no space left")), "{error}");
    }
    assert!(appender.is_accepting(), "the next may be shorter");
    let refusal = || appender.refusal().map(|reason| reason.to_string());
    assert!(refusal().is_some_and(|reason| reason.contains("no space left")));
    // By itself it finds out when there is room; while there is none it stays.
    appender.check();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(refusal().is_some());
    faults.room.store(1 << 20, SeqCst);
    for _ in 0..500 {
        appender.check();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if refusal().is_none() {
            break;
        }
    }
    assert_eq!(refusal(), None);
    // And an append tells as well.
    faults.room.store(77, SeqCst);
    appender.append(frame(1, body(9, 100))).await.unwrap_err();
    assert!(refusal().is_some());
    faults.room.store(u64::MAX, SeqCst);
    appender.append(frame(1, body(1, 100))).await.unwrap();
    assert_eq!(refusal(), None);
    assert_eq!(drain(&mut queue).await, (vec![0, 1], Some(1)));
    let killed = killed(&directory);
    let (mut queue, _, opened) = open_at(&killed);
    assert_eq!(opened, Opened { waiting: 2, ..Opened::default() });
    assert_eq!(drain(&mut queue).await.0, [0, 1]);
}

#[tokio::test]
async fn a_segment_that_was_only_begun_keeps_a_full_disk_from_nothing() {
    for begun in [0, 7] {
        let directory = tempfile::tempdir().unwrap();
        let (queue, appender, _) = open_at(&directory);
        for n in 0..3 {
            appender.append(frame(1, body(n, 100))).await.unwrap();
        }
        drop((queue, appender));
        let path = settings(&directory).directory.join(segments::file_name(3));
        fs::write(&path, &b"\xFFBRZLOG\xFE"[..begun]).unwrap();
        let faults = Arc::new(Faults::default());
        faults.room.store(0, SeqCst);
        let (mut queue, appender, opened) = open_with(&directory, &faults);
        assert_eq!((opened.waiting, opened.damaged.len(), path.exists()), (3, 0, false));
        assert_eq!(drain(&mut queue).await, (vec![0, 1, 2], Some(2)));
        faults.room.store(u64::MAX, SeqCst);
        appender.append(frame(1, body(3, 100))).await.unwrap();
        assert_eq!(drain(&mut queue).await, (vec![3], Some(3)));
    }
}

#[tokio::test]
async fn a_limit_on_the_size_of_files_refuses_once_and_then_makes_shorter_segments() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let (mut queue, appender, _) = open_with(&directory, &faults);
    faults.file_bytes_max.store(5000, SeqCst);
    let mut answered = Vec::new();
    for n in 0..20 {
        match appender.append(frame(1, body(n, 1000))).await {
            Ok(()) => answered.push(n),
            Err(AppendError::Disk(reason)) => assert!(reason.contains("limit on the size"), "{reason}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(answered.len(), 19, "only the first that did not fit is refused");
    assert!(segment_files(&directory).iter().all(|file| file.metadata().unwrap().len() <= 5000));
    // One that no file can hold costs nothing but itself.
    let error = appender.append(frame(1, body(20, 6000))).await.unwrap_err();
    assert!(matches!(error, AppendError::Disk(_)), "{error}");
    appender.append(frame(1, body(21, 1000))).await.unwrap();
    answered.push(21);
    assert_eq!(drain(&mut queue).await.0, answered);
    assert!(appender.is_accepting());
}

#[tokio::test]
async fn after_a_failed_fsync_the_log_stops_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (mut queue, appender, _) = open_with(&directory, &faults);
    queue.until_empty(false);
    appender.append(frame(1, body(0, 100))).await.unwrap();
    assert_eq!(queue.next().await.unwrap().unwrap().last(), 0);
    faults.sync_fails.store(true, SeqCst);
    let (received, outcome) = tokio::join!(queue.next(), appender.append(frame(1, body(1, 100))));
    let reason = received.unwrap_err().to_string();
    assert!(reason.contains("fsync failed in /"), "{reason}");
    assert!(matches!(outcome, Err(AppendError::Stopped(_))), "{outcome:?}");
    faults.sync_fails.store(false, SeqCst);
    let syncs = faults.syncs.load(SeqCst);
    queue.next().await.unwrap_err();
    queue.ensure_acknowledgeable().unwrap_err();
    let again = appender.append(frame(1, body(2, 100))).await;
    assert!(matches!(again, Err(AppendError::Stopped(_))), "{again:?}");
    assert!(!appender.is_accepting());
    assert!(appender.stopped().is_some());
    drop((queue, appender));
    assert_eq!(faults.syncs.load(SeqCst), syncs, "an fsync was tried again");
    let (mut queue, ..) = open_at(&directory);
    assert_eq!(drain(&mut queue).await.0[0], 0);
}

#[tokio::test]
async fn what_was_sent_before_an_append_failed_is_still_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (mut queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(10, body(0, 100))).await.unwrap();
    queue.ensure_acknowledgeable().unwrap();
    faults.sync_fails.store(true, SeqCst);
    appender.append(frame(10, body(1, 100))).await.unwrap_err();
    let reason = queue.ensure_acknowledgeable().unwrap_err().to_string();
    assert!(reason.contains("fsync failed in /"), "{reason}");
    faults.sync_fails.store(false, SeqCst);
    queue.acknowledge(9).await.unwrap();
    drop((queue, appender));
    let (mut queue, ..) = open_at(&directory);
    assert_eq!(drain(&mut queue).await.0, [1], "found, for it may or may not have been written");
}

#[tokio::test]
async fn a_start_that_can_not_acknowledge_gives_nothing_out() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..3 {
        appender.append(frame(10, body(n, 100))).await.unwrap();
    }
    queue.acknowledge(9).await.unwrap();
    drop((queue, appender));
    // Nothing has changed since, so nothing but the proof itself is written: the segment's sync passes, then that
    // of the directory, whose names may not be safe since a kill, then that of one slot, then that of the other.
    for passing in 1..4 {
        let faults = Arc::new(Faults::default());
        faults.syncs_until_failure.store(passing, SeqCst);
        let disk = Directory::with_faults(&settings(&directory).directory, &faults);
        let error = open_on(disk, SIZE_MAX).map(|_| ()).unwrap_err().to_string();
        if passing == 1 {
            assert!(error.contains("sync") && error.contains("queue"), "{error}");
        } else {
            assert!(error.contains("acknowledged") && error.contains("nothing was given out"), "{error}");
        }
    }
    let (mut queue, _, opened) = open_at(&directory);
    assert_eq!(opened, Opened { waiting: 20, ..Opened::default() });
    assert_eq!(drain(&mut queue).await.0, [1, 2]);
}

#[tokio::test]
async fn an_acknowledgement_that_is_not_durable_stops_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (mut queue, appender, _) = open_with(&directory, &faults);
    appender.append(frame(1, body(0, 100))).await.unwrap();
    faults.sync_fails.store(true, SeqCst);
    let error = queue.acknowledge(0).await.unwrap_err().to_string();
    assert!(error.contains("acknowledgement"), "{error}");
    assert_eq!(appender.depth(), 1);
    queue.next().await.unwrap_err();
}

#[tokio::test]
async fn a_directory_that_is_taken_away_refuses_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    appender.append(frame(1, body(0, 100))).await.unwrap();
    let path = settings(&directory).directory;
    let aside = directory.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    let removed = appender.append(frame(1, body(1, 100))).await.unwrap_err();
    assert!(matches!(&removed, AppendError::Disk(text) if text.contains("was removed")), "{removed}");
    assert!(!appender.is_accepting());
    fs::create_dir(&path).unwrap();
    let swapped = appender.append(frame(1, body(2, 100))).await.unwrap_err();
    assert!(matches!(&swapped, AppendError::Disk(text) if text.contains("another directory")), "{swapped}");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "nothing goes into the other one");
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    appender.append(frame(1, body(3, 100))).await.unwrap();
    assert!(appender.is_accepting());
    assert_eq!(drain(&mut queue).await.0, [0, 3], "what was refused was given out");
    // Where nothing is appended it is noticed all the same.
    for file in segment_files(&directory) {
        fs::remove_file(file).unwrap();
    }
    appender.check();
    while appender.is_accepting() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let emptied = appender.append(frame(1, body(4, 100))).await.unwrap_err();
    assert!(matches!(&emptied, AppendError::Disk(text) if text.contains("files in")), "{emptied}");
}

/// Another directory in the place of the log's, with files of the same names.
struct Swapped {
    path: PathBuf,
    /// Where the log's own is.
    aside: PathBuf,
    foreign: HashSet<PathBuf>,
}

impl Swapped {
    fn new(directory: &TempDir) -> Swapped {
        let (path, aside) = (settings(directory).directory, directory.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        let foreign = fs::read_dir(&aside).unwrap().map(|entry| path.join(entry.unwrap().file_name()));
        let foreign = foreign.inspect(|file| fs::write(file, "foreign").unwrap()).collect();
        Swapped { path, aside, foreign }
    }

    /// Puts the log's own directory back. What is in the other one is as it was.
    fn undo(self) {
        let foreign = fs::read_dir(&self.path).unwrap().map(|entry| entry.unwrap().path());
        let foreign = foreign.inspect(|file| assert!(fs::read(file).unwrap() == b"foreign")).collect();
        assert_eq!(self.foreign, foreign);
        fs::remove_dir_all(&self.path).unwrap();
        fs::rename(self.aside, self.path).unwrap();
    }
}

#[tokio::test]
async fn what_waits_in_a_directory_that_is_taken_away_is_read_and_not_taken_for_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (queue, appender, _) = open_at(&directory);
    for n in 0..60 {
        appender.append(frame(1, body(n, 1000))).await.unwrap();
    }
    drop((queue, appender));
    // The reader is a segment or two ahead and waits.
    let (mut queue, appender, _) = open_at(&directory);
    let swapped = Swapped::new(&directory);
    assert_eq!(drain(&mut queue).await, ((0..60).collect(), Some(59)));
    assert_eq!(appender.lost(), 0);
    queue.acknowledge(50).await.unwrap();
    swapped.undo();
    queue.acknowledge(59).await.unwrap();
    assert_eq!(segment_files(&directory).len(), 1);
    assert!(appender.stopped().is_none());
}

#[tokio::test]
async fn no_segment_is_begun_while_the_directory_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..7 {
        appender.append(frame(1, body(n, 1000))).await.unwrap();
    }
    let swapped = Swapped::new(&directory);
    let refusal = appender.append(frame(1, body(7, 1000))).await.unwrap_err();
    assert!(matches!(&refusal, AppendError::Disk(text) if text.contains("another directory")), "{refusal}");
    swapped.undo();
    assert_eq!(segment_files(&directory).len(), 1);
    appender.append(frame(1, body(8, 1000))).await.unwrap();
    assert_eq!(segment_files(&directory).len(), 2, "the segment was full");
    let kept = [0, 1, 2, 3, 4, 5, 6, 8];
    assert_eq!(drain(&mut queue).await.0, kept);
    let killed = killed(&directory);
    let (mut queue, ..) = open_at(&killed);
    assert_eq!(drain(&mut queue).await.0, kept);
}

#[tokio::test]
async fn a_segment_that_was_moved_elsewhere_takes_nothing_that_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let (_queue, appender, _) = open_at(&directory);
    appender.append(frame(1, body(0, 100))).await.unwrap();
    let (file, elsewhere) = (segment_files(&directory).remove(0), directory.path().join("elsewhere"));
    fs::rename(&file, &elsewhere).unwrap();
    for n in 1..3 {
        let refusal = appender.append(frame(1, body(n, 100))).await.unwrap_err();
        assert!(matches!(&refusal, AppendError::Disk(text) if text.contains("files in")), "{refusal}");
        fs::write(&file, "foreign").unwrap();
    }
    fs::rename(&elsewhere, &file).unwrap();
    appender.append(frame(1, body(3, 100))).await.unwrap();
}

#[tokio::test]
async fn an_acknowledgement_while_the_directory_is_away_stops_nothing_and_touches_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..20 {
        appender.append(frame(1, body(n, 1000))).await.unwrap();
    }
    assert_eq!(drain(&mut queue).await.1, Some(19));
    let swapped = Swapped::new(&directory);
    queue.acknowledge(19).await.unwrap();
    assert_eq!((appender.depth(), appender.stopped()), (0, None));
    swapped.undo();
    appender.append(frame(1, body(20, 1000))).await.unwrap();
    assert_eq!(drain(&mut queue).await, (vec![20], Some(20)));
    queue.acknowledge(20).await.unwrap();
    assert_eq!(segment_files(&directory).len(), 1);
}

#[tokio::test]
async fn where_an_emptied_segment_can_not_be_renamed_the_log_goes_on_in_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Arc::default();
    let (mut queue, appender, _) = open_with(&directory, &faults);
    for n in 0..6 {
        appender.append(frame(1, body(n, 1000))).await.unwrap();
    }
    assert_eq!(drain(&mut queue).await.1, Some(5));
    faults.rename_fails.store(true, SeqCst);
    queue.acknowledge(5).await.unwrap();
    assert_eq!((appender.size(), appender.stopped()), (16, None), "its space came back all the same");
    // Too large for the writer to hand them over: the reader takes them from the files.
    for n in 6..12 {
        appender.append(frame(1, body(n, 5000))).await.unwrap();
    }
    assert_eq!(drain(&mut queue).await, ((6..12).collect(), Some(11)));
    assert_eq!(appender.lost(), 0);
    let killed = killed(&directory);
    let (mut queue, appender, opened) = open_at(&killed);
    assert_eq!(opened, Opened { waiting: 6, ..Opened::default() });
    assert_eq!(drain(&mut queue).await, ((6..12).collect(), Some(11)));
    assert_eq!(appender.lost(), 0);
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_stops_the_run_and_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..60 {
        appender.append(frame(1, body(n, 1000))).await.unwrap();
    }
    // The reader is a few batches ahead and waits, far from here. A directory opens, but can't be read.
    let files = segment_files(&directory);
    let file = &files[files.len() - 2];
    let aside = directory.path().join("aside");
    fs::rename(file, &aside).unwrap();
    fs::create_dir(file).unwrap();
    let reason = loop {
        match queue.next().await {
            Ok(entry) => assert!(entry.is_some(), "ended as if all were well"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(reason.contains(file.to_str().unwrap()), "{reason}");
    queue.next().await.unwrap_err();
    assert_eq!(appender.lost(), 0);
    drop((queue, appender));
    let reason = open(&settings(&directory)).unwrap_err().to_string();
    assert!(reason.contains(file.to_str().unwrap()), "{reason}");
    fs::remove_dir(file).unwrap();
    fs::rename(aside, file).unwrap();
    let (mut queue, ..) = open_at(&directory);
    assert_eq!(drain(&mut queue).await.0.len(), 60);
}

#[tokio::test]
async fn an_append_that_is_given_up_is_in_the_log_wholly_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let (mut queue, appender, _) = open_at(&directory);
    for n in 0..50 {
        let append = appender.append(frame(2, body(n, 500)));
        let wait = Duration::from_micros(n as u64 * 10);
        // Given up or not, either is fine.
        let _outcome = tokio::time::timeout(wait, append).await;
    }
    appender.append(frame(2, body(50, 500))).await.unwrap();
    let (numbers, _) = drain(&mut queue).await;
    assert!(numbers.is_sorted());
    assert_eq!(numbers.last(), Some(&50));
    assert_eq!(appender.depth(), numbers.len() as u64 * 2);
}
