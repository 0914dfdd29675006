//! The queue on a directory, which is a store like any other.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::storage::{Now, StorageRun, StorageSettings, StorageSource, StorageStart};
use crate::{Delivery, Queue as _, Receipt};
use braze_events::testing::{FORMATS, pack};

const SEND: &str = "users.messages.email.Send";
/// As the names of Currents' directories are.
const HOUR: &str = "event_type=users.messages.email.Send/date=2026-11-27-10";

/// Some days after the hours of the tests.
fn now() -> Now {
    std::sync::Arc::new(|| 1_796_000_000)
}

struct Place {
    root: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bucket")).unwrap();
        Self { root }
    }

    fn write(&self, path: &str, content: &(impl AsRef<[u8]> + ?Sized)) -> PathBuf {
        let path = self.root.path().join("bucket").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As stores do: whole, or not at all.
        let new = self.root.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }

    fn settings(&self, start: StorageStart) -> StorageSettings {
        let url = format!("file://{}", self.root.path().join("bucket").display());
        StorageSettings {
            sources: vec![StorageSource { url: url.into(), app_group_id: Some("g".into()) }],
            poll_interval: Duration::from_millis(20),
            start,
            lateness: Duration::from_hours(2),
            state_directory: self.root.path().join("state"),
            options: BTreeMap::new(),
            notifications: None,
            event_types: [SEND.into()].into(),
        }
    }

    /// Reads everything once, and settles it: the bodies in the order of their names.
    async fn count(&self) -> Vec<String> {
        self.count_from(StorageStart::Beginning).await
    }

    async fn count_from(&self, start: StorageStart) -> Vec<String> {
        self.count_at(start, now()).await
    }

    async fn count_at(&self, start: StorageStart, now: Now) -> Vec<String> {
        self.count_with(self.settings(start), now).await
    }

    async fn count_with(&self, settings: StorageSettings, now: Now) -> Vec<String> {
        let (mut queue, _) = open(settings, StorageRun::Once, now).unwrap();
        let (mut bodies, mut last) = (Vec::new(), Receipt(0));
        while let Some(delivery) = queue.receive().await.unwrap() {
            bodies.push(text(&delivery));
            last = delivery.receipt;
        }
        queue.acknowledge(last).await.unwrap();
        drop(queue);
        wait_until_free(self).await;
        bodies.sort();
        bodies
    }
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}

fn event(id: u32) -> String {
    format!("{{\"id\":\"{id}\"}}\n")
}

#[tokio::test]
async fn what_was_counted_is_not_counted_again_and_what_is_new_is() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    assert_eq!(place.count().await, [event(1)]);
    assert_eq!(place.count().await, [""; 0]);
    place.write(&format!("{HOUR}/b"), &event(2));
    place.write("event_type=users.messages.email.Send/date=2026-11-27-11/c", &event(3));
    assert_eq!(place.count().await, [event(2), event(3)]);
}

#[tokio::test]
async fn again_forgets_what_was_counted() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    assert_eq!(place.count().await, [event(1)]);
    let (mut queue, _) = open(place.settings(StorageStart::Beginning), StorageRun::Again, now()).unwrap();
    assert_eq!(text(&queue.receive().await.unwrap().unwrap()), event(1));
}

#[tokio::test]
async fn what_is_not_settled_comes_again() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    place.write(&format!("{HOUR}/b"), &event(2));
    let (mut queue, _) = open(place.settings(StorageStart::Beginning), StorageRun::Once, now()).unwrap();
    let first = queue.receive().await.unwrap().unwrap();
    let second = queue.receive().await.unwrap().unwrap();
    queue.acknowledge(first.receipt).await.unwrap();
    drop(queue);
    wait_until_free(&place).await;
    assert_eq!(place.count().await, [text(&second)]);
}

/// The lister may hold what is remembered for a moment longer than the queue.
async fn wait_until_free(place: &Place) {
    for _ in 0..500 {
        if super::bucket_state::BucketState::open(&place.root.path().join("state")).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the state is still in use");
}

#[tokio::test]
async fn types_that_are_not_counted_and_what_is_hidden_or_empty_are_not_read() {
    let place = Place::new();
    place.write(&format!("deep/er/{HOUR}/a"), &event(1));
    place.write("event_type=users.behaviors.Purchase/date=2026-11-27-10/b", &event(2));
    place.write(&format!("{HOUR}/_SUCCESS"), "x");
    place.write(&format!("{HOUR}/.c.crc"), "x");
    place.write(&format!("{HOUR}/empty"), "");
    place.write("loose", &event(3));
    place.write(&format!("{HOUR}/odd ü%20+&=#?.avro"), &event(4));
    assert_eq!(place.count().await, [event(1), event(3), event(4)]);
}

#[tokio::test]
async fn the_path_says_the_type_and_the_source_the_app_group() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    let (mut queue, _) = open(place.settings(StorageStart::Beginning), StorageRun::Once, now()).unwrap();
    let delivery = queue.receive().await.unwrap().unwrap();
    assert_eq!(delivery.defaults.event_type.as_deref(), Some(SEND));
    assert_eq!(delivery.defaults.app_group_id.as_deref(), Some("g"));
    assert_eq!(delivery.source.input(), "storage");
    assert!(
        delivery.source.to_string().contains(&format!("bucket/{HOUR}/a, before byte 11")),
        "{}",
        delivery.source
    );
}

#[tokio::test]
async fn a_start_now_passes_what_is_there_and_one_at_a_moment_what_is_older() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    place.write("loose", &event(2));
    assert_eq!(place.count_from(StorageStart::Now).await, [""; 0]);
    place.write(&format!("{HOUR}/late"), &event(3));
    place.write("loose too", &event(4));
    assert_eq!(place.count_from(StorageStart::Now).await, [event(3), event(4)]);

    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    place.write("event_type=users.messages.email.Send/date=2026-11-27-12/b", &event(2));
    let noon = "2026-11-27T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(place.count_from(StorageStart::At(noon)).await, [event(2)]);
}

#[tokio::test]
async fn an_object_that_is_written_over_gives_what_is_new_in_it() {
    let place = Place::new();
    let path = format!("{HOUR}/a");
    place.write(&path, &event(1));
    assert_eq!(place.count().await, [event(1)]);
    place.write(&path, &event(1));
    assert_eq!(place.count().await, [""; 0], "the same bytes");
    place.write(&path, &(event(1) + &event(2)));
    assert_eq!(place.count().await, [event(2)], "it has grown");
    place.write(&path, &event(3));
    assert_eq!(place.count().await, [event(3)], "it is another one");
    assert_eq!(place.count().await, [""; 0]);
}

#[tokio::test]
async fn hours_that_are_over_are_not_listed_again_and_forgotten() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    place.write("event_type=users.messages.email.Send/date=2026-11-27-14/b", &event(2));
    assert_eq!(place.count().await, [event(1), event(2)]);
    // The hours before 12 end with the listing that finds everything settled.
    assert_eq!(place.count().await, [""; 0]);
    place.write(&format!("{HOUR}/too late"), &event(3));
    place.write("event_type=users.messages.email.Send/date=2026-11-27-12/late", &event(4));
    assert_eq!(place.count().await, [event(4)]);
    // What names no hour has none that could be over, whatever its name sorts before.
    place.write("Anything/0001", &event(5));
    assert_eq!(place.count().await, [event(5)]);
    let state = super::bucket_state::BucketState::open(&place.root.path().join("state")).unwrap();
    let url = place.settings(StorageStart::Now).sources[0].url.clone();
    let of = |path: &str| {
        let path = place.root.path().join("bucket").join(path);
        state.object(&url, path.to_str().unwrap().trim_start_matches('/')).unwrap()
    };
    assert!(of(&format!("{HOUR}/a")).is_none());
    assert!(of("event_type=users.messages.email.Send/date=2026-11-27-14/b").is_some());
}

#[tokio::test]
async fn a_type_that_is_counted_from_now_on_brings_nothing_from_before() {
    const SMS: &str = "event_type=users.messages.sms.Send/date=2026-11-27-10";
    for start in [StorageStart::Now, StorageStart::Beginning] {
        let place = Place::new();
        place.write(&format!("{HOUR}/a"), &event(1));
        place.write(&format!("{SMS}/a"), &event(2));
        let is_all = start == StorageStart::Beginning;
        assert_eq!(place.count_from(start).await.len(), usize::from(is_all));
        // What came while nothing ran is new in the types that were counted, and only in them.
        place.write(&format!("{HOUR}/b"), &event(3));
        place.write(&format!("{SMS}/b"), &event(4));
        place.write("loose", &event(5));
        let more = |types: &[&str]| StorageSettings {
            event_types: types.iter().map(|name| (*name).into()).collect(),
            ..place.settings(start)
        };
        let both = [SEND, "users.messages.sms.Send"];
        let expected = [event(2), event(3), event(4), event(5)];
        let bodies = place.count_with(more(&both), now()).await;
        assert_eq!(bodies, if is_all { expected.to_vec() } else { vec![event(3), event(5)] });
        place.write(&format!("{SMS}/c"), &event(6));
        assert_eq!(place.count_with(more(&both), now()).await, [event(6)]);
        // And one that was counted before is not counted again.
        assert_eq!(place.count_with(more(&[SEND]), now()).await, [""; 0]);
        assert_eq!(place.count_with(more(&both), now()).await, [""; 0]);
    }
}

/// The clock at such a moment.
fn at(time: &str) -> Now {
    let second = time.parse::<jiff::Timestamp>().unwrap().as_second().unsigned_abs();
    std::sync::Arc::new(move || second)
}

#[tokio::test]
async fn an_hour_is_not_over_before_its_lateness_is_whatever_hour_a_path_names() {
    const TYPE: &str = "event_type=users.messages.email.Send";
    for (old, ahead, time) in [
        // A day that has just begun.
        ("date=2026-11-26", "date=2026-11-27", "2026-11-27T00:05:00Z"),
        // The writer's clock, or a mistake.
        ("date=2026-11-27-10", "date=2026-11-29-09", "2026-11-27T11:59:59Z"),
    ] {
        for start in [StorageStart::Beginning, StorageStart::Now] {
            let is_counted = start == StorageStart::Beginning;
            let place = Place::new();
            place.write(&format!("{TYPE}/{old}/a"), &event(1));
            place.write(&format!("{TYPE}/{ahead}/a"), &event(2));
            assert_eq!(place.count_at(start, at(time)).await.len(), 2 * usize::from(is_counted));
            assert_eq!(place.count_at(start, at(time)).await, [""; 0]);
            place.write(&format!("{TYPE}/{old}/late"), &event(3));
            place.write(&format!("{TYPE}/{ahead}/b"), &event(4));
            assert_eq!(place.count_at(start, at(time)).await, [event(3), event(4)], "{old} {ahead}");
            assert_eq!(place.count_at(start, at("2026-11-28T00:00:00Z")).await, [""; 0]);
            place.write(&format!("{TYPE}/{old}/too late"), &event(5));
            assert_eq!(place.count_at(start, at("2026-11-28T00:00:00Z")).await, [""; 0], "{old} {ahead}");
        }
    }
}

#[tokio::test]
async fn an_object_without_an_hour_is_remembered_while_it_is_there_and_for_the_lateness_after_that() {
    let place = Place::new();
    let path = place.write("loose", &event(1));
    place.write("other", &event(2));
    let count = async |time: String| place.count_at(StorageStart::Beginning, at(&time)).await;
    assert_eq!(count("2026-11-27T10:00:00Z".to_owned()).await, [event(1), event(2)]);
    for (gone, back, is_forgotten) in
        [("27T10", "27T11", false), ("27T12", "27T13", false), ("27T14", "27T16", true)]
    {
        fs::remove_file(&path).unwrap();
        for time in [gone, back] {
            assert_eq!(count(format!("2026-11-{time}:30:00Z")).await, [""; 0]);
        }
        place.write("loose", &event(1));
        let expected = if is_forgotten { vec![event(1)] } else { Vec::new() };
        assert_eq!(count(format!("2026-11-{back}:45:00Z")).await, expected, "{gone} {back}");
    }
}

#[tokio::test]
async fn what_is_not_listed_for_a_while_is_not_new_when_it_is_back() {
    let place = Place::new();
    place.write("loose", &event(1));
    place.write("event_type=users.messages.email.Send/a", &event(2));
    place.write("event_type=users.messages.sms.Send/b", &event(3));
    assert_eq!(place.count().await, [event(1), event(2)]);
    // As a mount point is while nothing is mounted.
    let [bucket, away] = ["bucket", "away"].map(|name| place.root.path().join(name));
    fs::rename(&bucket, &away).unwrap();
    fs::create_dir(&bucket).unwrap();
    assert_eq!(place.count().await, [""; 0]);
    fs::remove_dir(&bucket).unwrap();
    fs::rename(&away, &bucket).unwrap();
    assert_eq!(place.count().await, [""; 0], "all of it was counted before");
    // And as a type is that is not counted for a while.
    let settings = StorageSettings {
        event_types: ["users.messages.sms.Send".into()].into(),
        ..place.settings(StorageStart::Beginning)
    };
    let (mut queue, _) = open(settings, StorageRun::Once, now()).unwrap();
    let delivery = queue.receive().await.unwrap().unwrap();
    assert_eq!(text(&delivery), event(3));
    queue.acknowledge(delivery.receipt).await.unwrap();
    assert!(queue.receive().await.unwrap().is_none());
    drop(queue);
    wait_until_free(&place).await;
    assert_eq!(place.count().await, [""; 0]);
}

#[tokio::test]
async fn damage_is_left_out_and_the_rest_is_counted() {
    let place = Place::new();
    let mut damaged = crate::content::gzip(event(1).repeat(100_000).as_bytes());
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0);
    place.write(&format!("{HOUR}/a.gz"), &damaged);
    place.write(&format!("{HOUR}/b"), &event(2));
    let (events, counts, problem) = count_lines(&place).await;
    assert!(events > 1000 && events < 100_001, "{events}");
    let problem = problem.unwrap();
    assert!(problem.contains("one object was not read to its end") && problem.contains("a.gz"), "{problem}");
    assert_eq!((counts.objects_counted, counts.objects_left_out, counts.objects_waiting), (1, 1, 0));
}

/// Reads everything once, and settles it: how many lines came, how many objects wait after that, and how the run fails.
async fn count_lines(place: &Place) -> (usize, StorageCounts, Option<String>) {
    let (mut queue, watch) = open(place.settings(StorageStart::Beginning), StorageRun::Once, now()).unwrap();
    let (mut lines, mut last) = (0, Receipt(0));
    let problem = loop {
        match queue.receive().await {
            Ok(Some(delivery)) => {
                lines += lines_of(&delivery);
                last = delivery.receipt;
            }
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    assert_eq!(watch.counts().objects_unread, 0, "what is taken does not wait");
    queue.acknowledge(last).await.unwrap();
    drop(queue);
    wait_until_free(place).await;
    (lines, watch.counts(), problem)
}

fn lines_of(delivery: &Delivery) -> usize {
    memchr::memchr_iter(b'\n', &delivery.body).count()
}

#[tokio::test]
async fn an_object_that_was_damaged_and_is_repaired_goes_on_behind_what_was_counted() {
    const EVENTS: u32 = 200_000;
    let whole: String = (0..EVENTS).map(|id| event(id.wrapping_mul(2_654_435_761))).collect();
    // In two members: a decompressor tells the damage of the second where it begins.
    let (first, second) = whole.split_at(whole.find('\n').map_or(0, |line| whole.len() / 2 / line * line));
    let [first, second] = [first, second].map(|part| crate::content::gzip(part.as_bytes()));
    let (repaired, middle) = ([&*first, &second].concat(), first.len());
    let mut damaged = repaired.clone();
    damaged[middle + 1] = 0;
    for broken in [damaged, repaired[..middle + 100].to_vec(), repaired[..middle - 100].to_vec()] {
        let place = Place::new();
        let write = |content: &[u8]| place.write(&format!("{HOUR}/a.gz"), content);
        write(&broken);
        let (before, counts, _) = count_lines(&place).await;
        assert!(before > 10_000 && before < EVENTS as usize, "{before}");
        assert_eq!((counts.objects_left_out, counts.objects_waiting), (1, 0));
        // The same damage, written once more, gives nothing.
        write(&broken);
        assert_eq!(count_lines(&place).await.0, 0);
        write(&repaired);
        let (after, counts, problem) = count_lines(&place).await;
        assert_eq!(before + after, EVENTS as usize);
        assert_eq!((counts.objects_counted, counts.objects_waiting, problem), (1, 0, None));
        assert_eq!(count_lines(&place).await.0, 0);
    }
}

/// Decompressors hand out content of damaged bytes before they notice.
#[tokio::test]
async fn an_object_that_was_damaged_within_a_member_and_is_repaired_loses_nothing() {
    const EVENTS: usize = 60_000;
    let whole: String =
        (0..60_000_u32).map(|id| event(id.wrapping_mul(2_654_435_761) >> (id % 16))).collect();
    let array = format!("[{}]", whole.trim_end().replace('\n', ",\n"));
    for (format, content) in FORMATS.into_iter().flat_map(|format| [(format, &whole), (format, &array)]) {
        let repaired = pack(format, content.as_bytes());
        for part in [1, 3, 6] {
            let mut damaged = repaired.clone();
            damaged[repaired.len() * part / 7] ^= 0x10;
            let place = Place::new();
            place.write(&format!("{HOUR}/a"), &damaged);
            let (before, counts, _) = count_lines(&place).await;
            // The library does not see all damage of zstandard without a checksum.
            if counts.objects_left_out == 0 {
                continue;
            }
            place.write(&format!("{HOUR}/a"), &repaired);
            let (after, counts, problem) = count_lines(&place).await;
            assert!(after == EVENTS || before + after == EVENTS, "{format:?} {part}: {before} {after}");
            assert_eq!((counts.objects_counted, counts.objects_waiting, problem), (1, 0, None));
        }
    }
}

#[tokio::test]
async fn an_object_that_is_another_one_after_its_damage_is_counted_from_its_start() {
    let place = Place::new();
    let whole: String = (0..100_000).map(event).collect();
    let mut damaged = crate::content::gzip(whole.as_bytes());
    damaged.truncate(damaged.len() / 2);
    place.write(&format!("{HOUR}/a.gz"), &damaged);
    assert!(count_lines(&place).await.0 > 1_000);
    place.write(&format!("{HOUR}/a.gz"), &event(1));
    assert_eq!(count_lines(&place).await.0, 1);
}

#[tokio::test]
async fn an_object_that_grows_or_is_touched_while_it_is_partly_settled_goes_on_behind_that() {
    const EVENTS: u32 = 200_000;
    let plain = (0..EVENTS).map(event).collect::<String>().into_bytes();
    // All its bytes have been read when the first part is settled.
    let packed = crate::content::gzip(event(1).repeat(EVENTS as usize).as_bytes());
    let one = event(0).into_bytes();
    for (whole, more) in [(&plain, one.clone()), (&packed, crate::content::gzip(&one))] {
        for more in [&[][..], &more] {
            let place = Place::new();
            let path = format!("{HOUR}/a");
            place.write(&path, whole);
            let (mut queue, _) =
                open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).unwrap();
            let first = queue.receive().await.unwrap().unwrap();
            queue.acknowledge(first.receipt).await.unwrap();
            drop(queue);
            wait_until_free(&place).await;
            place.write(&path, &[&**whole, more].concat());
            let (lines, counts, problem) = count_lines(&place).await;
            assert_eq!(lines_of(&first) + lines, EVENTS as usize + usize::from(!more.is_empty()));
            assert_eq!((counts.objects_counted, problem), (1, None));
            assert_eq!(count_lines(&place).await.0, 0);
        }
    }
}

#[tokio::test]
async fn an_object_that_grows_in_the_middle_of_an_event_loses_none() {
    let place = Place::new();
    let path = format!("{HOUR}/a");
    let whole = (0..100).map(event).collect::<String>();
    let (mut lines, steps) = (0, [5, 400, 401, whole.len() - 1, whole.len()]);
    for end in steps {
        place.write(&path, &whole[..end]);
        let (more, counts, problem) = count_lines(&place).await;
        lines += more;
        assert_eq!(lines, memchr::memchr_iter(b'\n', &whole.as_bytes()[..end]).count(), "{end}");
        let is_cut_off = end < whole.len() - 1;
        assert_eq!(
            (counts.objects_left_out, problem.is_some()),
            (u64::from(is_cut_off), is_cut_off),
            "{end}"
        );
    }
    assert_eq!(lines, 100);
}

#[tokio::test]
async fn an_object_that_ends_in_the_middle_is_left_out_from_there_on_until_it_is_whole() {
    let array = format!("[{}]", (0..100).map(event).collect::<Vec<_>>().join(",").replace('\n', ""));
    let lines = (0..100).map(event).collect::<String>();
    let members = |text: &str| {
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        let [first, second] = [first, second].map(crate::content::gzip);
        (first.clone(), [first, second].concat())
    };
    let cut = |text: &str| (text.as_bytes()[..text.len() / 2].to_vec(), text.as_bytes().to_vec());
    for (begun, whole) in [cut(&array), members(&array), members(&lines)] {
        let place = Place::new();
        place.write(&format!("{HOUR}/a"), &begun);
        let (before, counts, problem) = count_lines(&place).await;
        assert!((40..60).contains(&before) && counts.objects_left_out == 1, "{before}");
        assert!(problem.unwrap().contains("as if it were being written"));
        place.write(&format!("{HOUR}/a"), &whole);
        let (after, counts, problem) = count_lines(&place).await;
        assert_eq!((before + after, counts.objects_left_out, problem), (100, 0, None));
    }
}

#[tokio::test]
async fn objects_that_are_gone_when_they_are_read_are_told_and_read_when_they_come_back() {
    // More than are handed out and fetched ahead.
    const OBJECTS: u32 = 20;
    for run in [StorageRun::Follow, StorageRun::Once] {
        let place = Place::new();
        for id in 0..OBJECTS {
            place.write(&format!("{HOUR}/{id:02}"), &event(id));
        }
        let (mut queue, watch) = open(place.settings(StorageStart::Beginning), run, now()).unwrap();
        eventually("all are found", || watch.counts().objects_waiting == u64::from(OBJECTS)).await;
        let [bucket, away] = ["bucket", "away"].map(|name| place.root.path().join(name));
        fs::rename(&bucket, &away).unwrap();
        let mut bodies = Vec::new();
        let ended = loop {
            match tokio::time::timeout(Duration::from_millis(300), queue.receive()).await {
                Ok(Ok(Some(delivery))) => {
                    bodies.push(text(&delivery));
                    queue.acknowledge(delivery.receipt).await.unwrap();
                }
                Ok(ended) => break Some(ended.unwrap_err().to_string()),
                Err(_) => break None,
            }
        };
        assert!(bodies.len() < OBJECTS as usize, "{}", bodies.len());
        assert_eq!(ended.is_some(), run == StorageRun::Once);
        assert!(ended.is_none_or(|ended| ended.contains("was removed before it was read")));
        let counts = watch.counts();
        assert_eq!(counts.objects_left_out + bodies.len() as u64, u64::from(OBJECTS));
        fs::rename(&away, &bucket).unwrap();
        if run == StorageRun::Follow {
            while bodies.len() < OBJECTS as usize {
                bodies.push(text(&queue.receive().await.unwrap().unwrap()));
            }
        } else {
            drop(queue);
            wait_until_free(&place).await;
            bodies.extend(place.count().await);
        }
        bodies.sort();
        let mut all: Vec<_> = (0..OBJECTS).map(event).collect();
        all.sort();
        assert_eq!(bodies, all);
    }
}

#[tokio::test]
async fn what_holds_nothing_to_be_counted_is_recorded_by_itself() {
    let place = Place::new();
    let path = format!("{HOUR}/a");
    place.write(&path, &event(1));
    assert_eq!(place.count().await, [event(1)]);
    // The same bytes as another version, and one without an event.
    place.write(&path, &event(1));
    place.write(&format!("{HOUR}/b"), "[]");
    let (mut queue, watch) =
        open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).unwrap();
    {
        let mut receive = std::pin::pin!(queue.receive());
        let recorded = async {
            eventually("both are found", || watch.counts().objects_waiting == 2).await;
            eventually("both are recorded", || watch.counts().objects_waiting == 0).await;
        };
        tokio::select! {
            received = &mut receive => panic!("{received:?}"),
            () = recorded => {}
        }
    }
    assert_eq!(watch.counts().lag_seconds, 0);
    // And what is counted after it is settled as ever.
    place.write(&format!("{HOUR}/c"), &event(2));
    let delivery = queue.receive().await.unwrap().unwrap();
    place.write(&format!("{HOUR}/d"), "[]");
    tokio::select! {
        received = queue.receive() => panic!("{received:?}"),
        () = eventually("it is found", || watch.counts().objects_waiting == 2) => {}
    }
    queue.acknowledge(delivery.receipt).await.unwrap();
    tokio::select! {
        received = queue.receive() => panic!("{received:?}"),
        () = eventually("it is recorded", || watch.counts().objects_waiting == 0) => {}
    }
    // Nor does it wait for the next delivery when everything before it is settled.
    place.write(&format!("{HOUR}/e"), "[]");
    let recorded = async {
        eventually("it is found", || watch.counts().objects_waiting == 1).await;
        eventually("it is recorded", || watch.counts().objects_waiting == 0).await;
    };
    tokio::select! {
        received = queue.receive() => panic!("{received:?}"),
        () = recorded => {}
    }
    drop(queue);
    wait_until_free(&place).await;
    let (lines, counts, _) = count_lines(&place).await;
    assert_eq!((lines, counts.bytes_read), (0, 0), "a start looks at none of them again");
}

#[tokio::test]
async fn a_run_that_ends_records_what_holds_nothing_to_be_counted() {
    let place = Place::new();
    place.write(&format!("{HOUR}/b"), "[]");
    let (mut queue, watch) = open(place.settings(StorageStart::Beginning), StorageRun::Once, now()).unwrap();
    assert!(queue.receive().await.unwrap().is_none());
    assert_eq!((watch.counts().objects_waiting, watch.counts().objects_counted), (0, 1));
}

#[tokio::test]
async fn nothing_is_sent_once_what_was_settled_could_not_be_written() {
    let place = Place::new();
    place.write(&format!("{HOUR}/a"), &event(1));
    let (mut queue, _) = open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).unwrap();
    let delivery = queue.receive().await.unwrap().unwrap();
    queue.acknowledge(delivery.receipt).await.unwrap();
    queue.ensure_acknowledgeable().unwrap();
    let state = place.root.path().join("state");
    fs::rename(&state, place.root.path().join("away")).unwrap();
    // It needs no delivery, so that receiving is what writes it.
    place.write(&format!("{HOUR}/b"), "[]");
    let failed = tokio::time::timeout(Duration::from_secs(20), queue.receive()).await.unwrap().unwrap_err();
    let reason = queue.ensure_acknowledgeable().unwrap_err().to_string();
    assert!(reason.contains("moved away while it was in use"), "{reason}");
    assert_eq!(failed.to_string(), reason);
}

#[tokio::test]
async fn nothing_is_sent_once_what_was_listed_could_not_be_written() {
    let place = Place::new();
    let bucket = place.root.path().join("bucket");
    fs::remove_dir(&bucket).unwrap();
    let (mut queue, watch) =
        open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).unwrap();
    eventually("it is listed in vain", || watch.trouble().is_some()).await;
    fs::rename(place.root.path().join("state"), place.root.path().join("away")).unwrap();
    queue.ensure_acknowledgeable().unwrap();
    // Its first listing writes where its reading begins.
    fs::create_dir(&bucket).unwrap();
    let failed = tokio::time::timeout(Duration::from_secs(20), queue.receive()).await.unwrap().unwrap_err();
    let reason = queue.ensure_acknowledgeable().unwrap_err().to_string();
    assert!(reason.contains("moved away while it was in use"), "{reason}");
    assert!(reason.contains("the next start opens it anew"), "{reason}");
    assert_eq!(failed.to_string(), reason);
}

#[tokio::test]
async fn a_bucket_that_is_away_is_told_and_waited_for() {
    let place = Place::new();
    let bucket = place.root.path().join("bucket");
    place.write(&format!("{HOUR}/a"), &event(1));
    let (mut queue, watch) =
        open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).unwrap();
    let delivery = queue.receive().await.unwrap().unwrap();
    queue.acknowledge(delivery.receipt).await.unwrap();
    assert_eq!(watch.trouble(), None);
    let away = place.root.path().join("away");
    fs::rename(&bucket, &away).unwrap();
    eventually("the trouble", || watch.trouble().is_some_and(|words| words.contains("can't be listed")))
        .await;
    fs::rename(&away, &bucket).unwrap();
    place.write(&format!("{HOUR}/b"), &event(2));
    assert_eq!(text(&queue.receive().await.unwrap().unwrap()), event(2));
    eventually("the end of the trouble", || watch.trouble().is_none()).await;
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} has not come");
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let place = Place::new();
    let _first = open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).unwrap();
    let message =
        open(place.settings(StorageStart::Beginning), StorageRun::Follow, now()).err().unwrap().to_string();
    assert!(message.contains("another process has it"), "{message}");
    assert!(message.contains(&*Path::new("state/objects-v1.redb").to_string_lossy()), "{message}");
}

#[test]
fn a_place_within_another_one_is_refused_however_they_are_written() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("in");
    fs::create_dir_all(directory.join("x")).unwrap();
    std::os::unix::fs::symlink(&directory, root.path().join("link")).unwrap();
    let file = |path: &str| format!("file://{}/{path}", root.path().display());
    let settings = |first: &str, second: &str| StorageSettings {
        sources: [first, second].map(|url| StorageSource { url: url.into(), app_group_id: None }).to_vec(),
        ..Place::new().settings(StorageStart::Now)
    };
    for (first, second) in [
        ("s3://b/", "s3a://b/x/"),
        ("s3://b/x", "https://b.s3.eu-central-1.amazonaws.com/x/"),
        ("https://s3.eu-central-1.amazonaws.com/b/x/y", "s3://b/x/"),
        ("s3://b/x/", "S3://b/x/"),
        ("s3://b/a%20b/", "s3://b/a b/c/"),
        (&file("in/"), &file("in/../in/x/")),
        (&file("in"), &file("link/x")),
    ] {
        let message = check(&settings(first, second)).unwrap_err().to_string();
        assert!(message.contains(first.trim_end_matches('/')), "{message}");
        assert!(
            message.contains(second.trim_end_matches('/')) && message.contains("counted twice"),
            "{message}"
        );
    }
    for (first, second) in [
        ("s3://b/x/", "s3://b/xy/"),
        ("s3://b/x/", "s3://c/x/"),
        ("s3://b/x/", "https://account.r2.cloudflarestorage.com/b/x/"),
        (&file("in/x"), &file("in/y")),
    ] {
        check(&settings(first, second)).unwrap();
    }
}
