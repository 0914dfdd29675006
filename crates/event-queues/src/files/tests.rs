use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::Framing;
use crate::containers as container;
use crate::content::gzip;
use braze_events::decompress::Format::{Bzip2, Gzip, Xz, Zstd};
use braze_events::testing::pack;

const NOW: u64 = 1_795_341_600;

/// A directory with files to import and a state beside them.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn settings(&self, files: &[&Path]) -> FilesSettings {
        let files = files.iter().map(|path| path.to_path_buf()).collect();
        FilesSettings { files, state_directory: Some(self.0.path().join("state")), again: false }
    }

    fn open(&self, files: &[&Path], limits: Limits) -> (FilesQueue, Vec<FileReport>) {
        open_within(&self.settings(files), NOW, limits).unwrap()
    }
}

fn tiny(chunk_bytes: usize) -> Limits {
    Limits { read: ReadLimits { chunk_bytes, ..READ_LIMITS }, ..LIMITS }
}

async fn rest(queue: &mut FilesQueue) -> Vec<Delivery> {
    let mut all = Vec::new();
    while let Some(delivery) = queue.receive().await.unwrap() {
        assert_eq!(delivery.framing, Framing::Lines);
        all.push(delivery);
    }
    assert!(queue.receive().await.unwrap().is_none(), "the end is the end");
    all
}

fn text(deliveries: &[Delivery]) -> String {
    deliveries.iter().map(|delivery| str::from_utf8(&delivery.body).unwrap()).collect()
}

/// The events in deliveries, those of envelopes and arrays on one line one by one.
fn events(deliveries: &[Delivery]) -> Vec<Value> {
    // The last line of a file may lack its newline.
    let lines = deliveries.iter().flat_map(|delivery| delivery.body.split(|&byte| byte == b'\n'));
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    lines.flat_map(|line| flat(serde_json::from_slice(line).unwrap())).collect()
}

fn flat(value: Value) -> Vec<Value> {
    match value {
        Value::Array(elements) => elements,
        Value::Object(mut object) if object.get("events").is_some_and(Value::is_array) => {
            flat(object.remove("events").unwrap())
        }
        value => vec![value],
    }
}

fn lines(range: std::ops::Range<u32>) -> String {
    lines_of(&range.collect::<Vec<_>>())
}

fn lines_of(ids: &[u32]) -> String {
    ids.iter().fold(String::new(), |lines, id| lines + &json!({ "id": id }).to_string() + "\n")
}

#[tokio::test]
async fn files_are_handed_out_in_order_with_what_their_paths_say() {
    let place = Place::new();
    let a = place.write("event_type=users.messages.email.Send/a", lines(0..3));
    let b = place.write("b", gzip(lines(3..5).as_bytes()));
    let (mut queue, reports) = place.open(&[&a, &b], LIMITS);
    assert!(reports.is_empty());
    let all = rest(&mut queue).await;
    assert_eq!(text(&all), lines(0..5));
    let types: Vec<_> = all.iter().map(|delivery| delivery.defaults.event_type.as_deref()).collect();
    assert_eq!(types, [Some("users.messages.email.Send"), None]);
    assert!(all[0].receipt < all[1].receipt);
    let progress = queue.progress();
    let bytes = [&a, &b].map(|path| fs::metadata(path).unwrap().len()).iter().sum();
    assert_eq!((progress.bytes_read(), progress.bytes_total()), (bytes, Some(bytes)));
    assert_eq!((progress.files_done(), progress.files_total()), (2, 2));
}

#[tokio::test]
async fn a_file_that_is_settled_is_passed_until_it_is_asked_for_again() {
    let place = Place::new();
    for content in [lines(0..100).into_bytes(), gzip(lines(0..100).as_bytes()), b"[1,2]\n \n".to_vec()] {
        let file = place.write(&format!("f{}", content.len()), &content);
        let (mut queue, _) = place.open(&[&file], tiny(10));
        let first = rest(&mut queue).await;
        queue.acknowledge(first.last().unwrap().receipt).await.unwrap();

        // Touching it, or writing the same once more, changes nothing.
        place.write(file.file_name().unwrap().to_str().unwrap(), &content);
        drop(queue);
        let (mut queue, reports) = place.open(&[&file], tiny(10));
        assert!(rest(&mut queue).await.is_empty());
        let bytes = content.len() as u64;
        assert_eq!(reports, [FileReport::Counted { path: file.clone(), bytes, settled_at: NOW }]);

        let settings = FilesSettings { again: true, ..place.settings(&[&file]) };
        drop(queue);
        let (mut queue, reports) = open_within(&settings, NOW, tiny(10)).unwrap();
        assert_eq!(text(&rest(&mut queue).await), text(&first));
        assert!(reports.is_empty());
    }
}

#[tokio::test]
async fn nothing_is_remembered_before_it_is_acknowledged() {
    let place = Place::new();
    let file = place.write("a", lines(0..9));
    for _ in 0..2 {
        let (mut queue, reports) = place.open(&[&file], tiny(20));
        assert_eq!(text(&rest(&mut queue).await), lines(0..9));
        assert!(reports.is_empty());
    }
}

#[tokio::test]
async fn a_file_that_has_grown_gives_what_is_new() {
    for pack in [|text: &str| text.as_bytes().to_vec(), |text: &str| gzip(text.as_bytes())] {
        let place = Place::new();
        let file = place.write("a", pack(&lines(0..9)));
        let (mut queue, _) = place.open(&[&file], LIMITS);
        let all = rest(&mut queue).await;
        queue.acknowledge(all.last().unwrap().receipt).await.unwrap();

        let grown = [pack(&lines(0..9)), pack(&lines(9..12))].concat();
        place.write("a", grown);
        drop(queue);
        let (mut queue, reports) = place.open(&[&file], LIMITS);
        let position = lines(0..9).len() as u64;
        assert_eq!(reports, [FileReport::Grown { path: file, before: None, position }]);
        let all = rest(&mut queue).await;
        assert_eq!(text(&all), lines(9..12));
        queue.acknowledge(all.last().unwrap().receipt).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_is_counted_from_its_start() {
    let place = Place::new();
    let file = place.write("a", lines(0..9));
    for (content, acknowledged) in [(lines(1..9), 1), (lines(2..12), 2), ("[]".to_owned(), 0)] {
        let (mut queue, _) = place.open(&[&file], tiny(20));
        let first = queue.receive().await.unwrap().unwrap();
        queue.acknowledge(first.receipt).await.unwrap();
        place.write("a", &content);
        drop(queue);
        let (mut queue, reports) = place.open(&[&file], tiny(20));
        assert_eq!(reports, [FileReport::Changed { path: file.clone() }], "{acknowledged}");
        assert_eq!(text(&rest(&mut queue).await), if content == "[]" { "" } else { &content });
    }
}

#[tokio::test]
async fn a_receipt_in_the_middle_settles_the_files_before_it() {
    let place = Place::new();
    let files: Vec<_> = (0..3).map(|n| place.write(&n.to_string(), lines(10 * n..10 * n + 9))).collect();
    let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    let (mut queue, _) = place.open(&files, tiny(30));
    let all = rest(&mut queue).await;
    let per_file = all.len() / 3;
    queue.acknowledge(all[per_file].receipt).await.unwrap();
    // Covered already.
    queue.acknowledge(all[0].receipt).await.unwrap();
    drop(queue);
    let (mut queue, reports) = place.open(&files, tiny(30));
    assert!(matches!(reports[..], [FileReport::Counted { .. }, FileReport::Continued { .. }]), "{reports:?}");
    let left = rest(&mut queue).await;
    assert_eq!(text(&left), text(&all[per_file + 1..]));
}

#[tokio::test]
async fn without_a_directory_nothing_is_remembered() {
    let place = Place::new();
    let file = place.write("a", lines(0..9));
    let settings = FilesSettings { state_directory: None, ..place.settings(&[&file]) };
    for _ in 0..2 {
        let (mut queue, _) = open(&settings, NOW).unwrap();
        let all = rest(&mut queue).await;
        assert_eq!(text(&all), lines(0..9));
        queue.acknowledge(all[0].receipt).await.unwrap();
    }
}

#[tokio::test]
async fn what_precedes_a_read_error_is_handed_out_and_a_repaired_file_goes_on() {
    let noise: Vec<_> = (0..60_000_u32).map(|id| id.wrapping_mul(2_654_435_761)).collect();
    let whole = lines_of(&noise);
    let array = format!("[{}]", whole.trim_end().replace('\n', ",\n"));
    for (format, text_of) in
        [(Gzip, &array), (Gzip, &whole), (Bzip2, &whole), (Xz, &whole), (Xz, &array), (Zstd, &whole)]
    {
        let (first, second) = text_of.as_bytes().split_at(text_of.len() / 2);
        let packed = [pack(format, first), pack(format, second)].concat();
        let middle = pack(format, first).len();
        let mut damaged = packed.clone();
        damaged[middle + 1] = 0;
        for broken in [packed[..middle + 100].to_vec(), packed[..middle - 100].to_vec(), damaged] {
            let place = Place::new();
            let file = place.write("a", broken);
            let (mut queue, _) = place.open(&[&file], tiny(1000));
            let mut seen = Vec::new();
            let error = loop {
                match queue.receive().await {
                    Ok(delivery) => seen.push(delivery.unwrap()),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains("cannot read") && error.contains(&*file.to_string_lossy()), "{error}");
            assert!(queue.receive().await.is_err(), "an error is no end");
            assert!(text(&seen).len() > whole.len() / 4);
            queue.acknowledge(seen.last().unwrap().receipt).await.unwrap();

            place.write("a", &packed);
            drop(queue);
            let (mut queue, reports) = place.open(&[&file], tiny(1000));
            assert!(matches!(reports[..], [FileReport::Continued { .. }]), "{reports:?}");
            seen.extend(rest(&mut queue).await);
            let ids: Vec<_> = events(&seen).iter().map(|event| event["id"].as_u64().unwrap()).collect();
            assert!(ids.into_iter().eq(noise.iter().map(|id| u64::from(*id))));
        }
    }
}

#[tokio::test]
async fn blocks_without_datums_take_no_memory_and_tiny_ones_are_divided() {
    let whole = container::written(apache_avro::Codec::Null, 0..2, 1);
    let first = datums_at(&whole);
    let (header, blocks) = whole.split_at(first);
    let marker = &header[header.len() - 16..];
    let empty = [&[0, 0][..], marker].concat().repeat(100_000);
    let tiny_blocks = [&[2, 2, b'x'][..], marker].concat().repeat(10_000);
    let place = Place::new();
    let file = place.write("a", [header, &empty, blocks, &empty, &tiny_blocks, &empty].concat());
    let (mut queue, _) = place.open(&[&file], LIMITS);
    let (mut sizes, mut read) = (Vec::new(), 0);
    let mut last = None;
    while let Some(delivery) = queue.receive().await.unwrap() {
        read += container::counts(&delivery.framing).0;
        let Framing::Parts(parts) = &delivery.framing else { panic!("{:?}", delivery.framing) };
        sizes.push(parts.len());
        last = Some(delivery.receipt);
    }
    assert_eq!((sizes.iter().sum::<usize>(), read), (10_002, 10_002));
    assert!(sizes.iter().all(|parts| *parts <= 4096), "{sizes:?}");
    queue.acknowledge(last.unwrap()).await.unwrap();
    drop(queue);
    let (_, reports) = place.open(&[&file], LIMITS);
    assert!(matches!(reports[..], [FileReport::Counted { .. }]), "{reports:?}");
}

/// Where the first block of a container begins.
fn datums_at(container: &[u8]) -> usize {
    braze_events::container::Header::read(container).unwrap().unwrap().bytes
}

#[tokio::test]
async fn a_file_that_is_only_the_beginning_of_a_magic_is_not_read_and_nothing_is_lost_when_it_is_whole() {
    for format in [Gzip, Bzip2, Xz, Zstd] {
        let packed = pack(format, lines(0..9).as_bytes());
        for cut in 1..4 {
            let place = Place::new();
            let file = place.write("a", &packed[..cut]);
            let error = open_within(&place.settings(&[&file]), NOW, LIMITS).err().unwrap().to_string();
            assert!(error.contains("is cut short"), "{error}");
            place.write("a", &packed);
            let (mut queue, reports) = place.open(&[&file], LIMITS);
            assert_eq!((text(&rest(&mut queue).await), reports.len()), (lines(0..9), 0));
        }
    }
}

/// Reads until an error, or the end; settles what was read. Returns that, and the error.
async fn read_as_far_as_it_goes(queue: &mut FilesQueue) -> (Vec<Delivery>, Option<String>) {
    let mut all: Vec<Delivery> = Vec::new();
    let error = loop {
        match queue.receive().await {
            Ok(Some(delivery)) => all.push(delivery),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    if let Some(last) = all.last() {
        queue.acknowledge(last.receipt).await.unwrap();
    }
    (all, error)
}

/// Decompressors hand out content of damaged bytes before they notice.
#[tokio::test]
async fn a_file_that_was_damaged_within_a_member_and_is_repaired_goes_on_exactly_or_is_counted_from_its_start()
 {
    let whole = lines_of(&(0..60_000_u32).map(|id| id.wrapping_mul(2_654_435_761)).collect::<Vec<_>>());
    let array = format!("[{}]", whole.trim_end().replace('\n', ",\n"));
    for (format, content) in
        [Gzip, Bzip2, Xz, Zstd].into_iter().flat_map(|format| [(format, &whole), (format, &array)])
    {
        let packed = pack(format, content.as_bytes());
        for part in [1, 3, 6] {
            let at = packed.len() * part / 7;
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            let place = Place::new();
            let file = place.write("a", &damaged);
            let (mut queue, _) = place.open(&[&file], tiny(10_000));
            let (first, error) = read_as_far_as_it_goes(&mut queue).await;
            // The library does not see all damage of zstandard without a checksum.
            let Some(error) = error else { continue };
            assert_eq!(error.contains("first"), !first.is_empty(), "{error}");
            drop(queue);
            // The same damage gives nothing that was given before; what a failing read unpacked depends on its size.
            let (mut queue, reports) = place.open(&[&file], tiny(10_000));
            assert!(matches!(reports[..], [FileReport::Continued { .. }]) || first.is_empty(), "{reports:?}");
            let (more, error) = read_as_far_as_it_goes(&mut queue).await;
            let error = error.expect("is damaged as it was");
            let first = [text(&first), text(&more)].concat();
            drop(queue);

            place.write("a", &packed);
            let (mut queue, reports) = place.open(&[&file], tiny(10_000));
            let (rest, no_error) = read_as_far_as_it_goes(&mut queue).await;
            assert_eq!(no_error, None, "{format:?} {at}");
            let goes_on = match reports[..] {
                [FileReport::Continued { .. }] => true,
                [FileReport::Changed { .. }] => false,
                _ => first.is_empty() && reports.is_empty(),
            };
            let all = if goes_on { [first.clone(), text(&rest)].concat() } else { text(&rest) };
            assert!(objects(&all) == objects(&whole), "{format:?} {at} {reports:?}");
            // As the error said.
            let known_by = error.split_once("its first ").and_then(|(_, words)| words.split(' ').next());
            let known_by = known_by.map_or(0, |bytes| bytes.parse().unwrap());
            assert_eq!(goes_on, known_by <= at || first.is_empty(), "{error} {at}");
        }
    }
}

/// The lines, without the brackets around the elements of an array.
fn objects(lines: &str) -> Vec<&str> {
    lines.lines().map(|line| line.trim_start_matches('[').trim_end_matches(']')).collect()
}

#[tokio::test]
async fn a_container_goes_on_behind_the_last_settled_block() {
    for codec in container::codecs() {
        for packed in [false, true] {
            let whole = container::written(codec, 0..100, 7);
            let place = Place::new();
            let file = place.write("a", if packed { gzip(&whole) } else { whole });
            let (mut seen, mut runs) = (Vec::new(), 0);
            loop {
                let (mut queue, _) = place.open(&[&file], tiny(1));
                let Some(delivery) = queue.receive().await.unwrap() else { break };
                // Two blocks a run, of which one is settled.
                queue.receive().await.unwrap();
                queue.acknowledge(delivery.receipt).await.unwrap();
                assert_eq!(container::counts(&delivery.framing).1, 0);
                seen.extend_from_slice(&delivery.body);
                runs += 1;
            }
            assert!(seen == container::datums(0..100), "{codec:?}");
            assert_eq!(runs, 100_u32.div_ceil(7));
        }
    }
}

#[tokio::test]
async fn containers_one_after_the_other_go_on_with_the_header_that_holds_there() {
    type Pack = fn(&[u8]) -> Vec<u8>;
    let [null, deflate, snappy, zstandard] = container::codecs();
    let all = [
        container::written(null, 0..1, 1),
        container::written(deflate, 1..50, 7),
        container::written(snappy, 50..50, 1),
        container::written(zstandard, 50..100, 7),
    ];
    let whole = all.concat();
    let packs: [Pack; 5] = [
        <[u8]>::to_vec,
        gzip,
        |bytes| pack(Bzip2, bytes),
        |bytes| pack(Xz, bytes),
        |bytes| pack(Zstd, bytes),
    ];
    for pack in packs {
        for stored in [pack(&whole), all.iter().flat_map(|one| pack(one)).collect()] {
            let place = Place::new();
            let file = place.write("a", &stored);
            let (mut seen, mut runs) = (Vec::new(), 0);
            let mut read_on = async |file: &Path| {
                let (mut queue, _) = place.open(&[file], tiny(1));
                let Some(delivery) = queue.receive().await.unwrap() else { return false };
                // Two blocks a run, of which one is settled.
                queue.receive().await.unwrap();
                queue.acknowledge(delivery.receipt).await.unwrap();
                assert_eq!(container::counts(&delivery.framing).1, 0);
                seen.extend_from_slice(&delivery.body);
                runs += 1;
                true
            };
            while read_on(&file).await {}
            // It grows by a container, as by `cat b.avro >> a.avro`.
            place.write("a", [stored, pack(&container::written(snappy, 100..110, 20))].concat());
            while read_on(&file).await {}
            assert!(seen == container::datums(0..110));
            assert_eq!(runs, 1 + 49_u32.div_ceil(7) + 50_u32.div_ceil(7) + 1);
        }
    }
}

#[tokio::test]
async fn a_container_that_cannot_be_read_fails_where_it_begins_and_goes_on_when_it_is_repaired() {
    let one = container::written(apache_avro::Codec::Snappy, 0..10, 3);
    let two = container::written(apache_avro::Codec::Null, 10..20, 3);
    let mut damaged = two.clone();
    damaged[4] = 0xff;
    for bad in [damaged, two[..60].to_vec()] {
        for limits in [tiny(1), LIMITS] {
            let place = Place::new();
            let file = place.write("a", [&*one, &bad].concat());
            for _ in 0..2 {
                let (mut queue, _) = place.open(&[&file], limits);
                let (mut last, mut count) = (None, 0);
                let error = loop {
                    match queue.receive().await {
                        Ok(delivery) => {
                            let delivery = delivery.expect("it never passes as done");
                            count += container::counts(&delivery.framing).0;
                            last = Some(delivery.receipt);
                        }
                        Err(error) => break error.to_string(),
                    }
                };
                let expected = format!("beyond byte {} of its content: it is an Avro container", one.len());
                assert!(error.contains(&expected), "{error}");
                assert!(count == 10 || last.is_none(), "{count}");
                if let Some(last) = last {
                    queue.acknowledge(last).await.unwrap();
                }
            }
            place.write("a", [&*one, &two].concat());
            let (mut queue, reports) = place.open(&[&file], limits);
            assert!(matches!(reports[..], [FileReport::Continued { .. }]), "{reports:?}");
            let mut bodies = Vec::new();
            while let Some(delivery) = queue.receive().await.unwrap() {
                bodies.extend_from_slice(&delivery.body);
            }
            assert!(bodies == container::datums(10..20));
        }
    }
}

#[tokio::test]
async fn damage_in_a_container_is_counted_and_read_past() {
    let whole = container::written(apache_avro::Codec::Snappy, 0..1000, 10);
    for (chunk_bytes, at) in [(1, whole.len() / 2), (READ_LIMITS.chunk_bytes, whole.len() / 3)] {
        let place = Place::new();
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        let file = place.write("a", &damaged);
        let (mut queue, _) = place.open(&[&file], tiny(chunk_bytes));
        let (mut read, mut lost) = (0, 0);
        while let Some(delivery) = queue.receive().await.unwrap() {
            let counts = container::counts(&delivery.framing);
            (read, lost) = (read + counts.0, lost + counts.1);
            queue.acknowledge(delivery.receipt).await.unwrap();
        }
        assert!((980..=990).contains(&read) && lost >= 10, "{read} {lost}");
        drop(queue);
        let (_, reports) = place.open(&[&file], LIMITS);
        assert!(matches!(reports[..], [FileReport::Counted { .. }]), "{reports:?}");
    }
}

#[tokio::test]
async fn a_container_that_is_being_written_is_counted_up_to_its_last_whole_block_and_the_rest_later() {
    let whole = container::written(apache_avro::Codec::Snappy, 0..1000, 10);
    let place = Place::new();
    let (mut read, mut errors) = (0, 0);
    let ends = [whole.len() / 3, whole.len() / 2, whole.len() / 2, whole.len() - 5, whole.len()];
    for end in ends {
        let file = place.write("a", &whole[..end]);
        let (mut queue, _) = place.open(&[&file], LIMITS);
        loop {
            match queue.receive().await {
                Ok(Some(delivery)) => {
                    let (events, lost) = container::counts(&delivery.framing);
                    assert_eq!(lost, 0);
                    read += events;
                    queue.acknowledge(delivery.receipt).await.unwrap();
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(error.to_string().contains("in the middle of a block"), "{error}");
                    errors += 1;
                    break;
                }
            }
        }
        assert!(read * whole.len() as u64 / 1000 <= end as u64 + 1000, "{read}");
    }
    assert_eq!((read, errors), (1000, ends.len() - 1));
}

#[test]
fn a_codec_that_is_not_built_in_is_refused_by_name() {
    let place = Place::new();
    let schema = b"\x02\x16avro.schema\x04{}";
    let avro = [b"Obj\x01".as_slice(), schema, b"\x02\x14avro.codec\x0abzip2\0", &[7; 16]].concat();
    let file = place.write("a.avro", avro);
    let error = open(&place.settings(&[&file]), NOW).err().unwrap().to_string();
    assert!(error.contains("\"bzip2\"") && error.contains("a.avro"), "{error}");
}

#[test]
fn nothing_is_imported_when_one_of_the_files_cannot_be() {
    let place = Place::new();
    let good = place.write("good", lines(0..9));
    let avro = place.write("avro", b"Obj\x01\x04");
    let packed = place.write("packed", gzip(b"Obj\x01\x04"));
    let broken = place.write("broken", [0x1f, 0x8b, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    let missing = place.0.path().join("missing");
    for (bad, expected) in [
        (&avro, "Avro"),
        (&packed, "Avro"),
        (&broken, "invalid gzip header"),
        (&missing, "there is no such file"),
    ] {
        let error = open(&place.settings(&[&good, bad]), NOW).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains(&*bad.to_string_lossy()), "{error}");
    }
    let state = ImportState::open(&place.0.path().join("state")).unwrap();
    assert_eq!(remembered(&state), []);
}

/// All records.
fn remembered(state: &ImportState) -> Vec<FileRecord> {
    let read = |records: Option<&mut RecordTable<'_>>| {
        let records = records.unwrap();
        Ok((0..records.next()).filter_map(|id| records.get(id).unwrap()).collect())
    };
    state.plan(read, |_| false).unwrap()
}

#[test]
fn a_state_that_cannot_be_used_stops_the_import() {
    let place = Place::new();
    let good = place.write("good", lines(0..9));
    place.write("state/imports.json", "{}");
    assert!(matches!(open(&place.settings(&[&good]), NOW), Err(ImportError::State { .. })));
    let settings = FilesSettings { state_directory: Some(good.clone()), ..place.settings(&[&good]) };
    assert!(matches!(open(&settings, NOW), Err(ImportError::State { .. })));
    fs::remove_file(place.0.path().join("state/imports.json")).unwrap();
    fs::create_dir(place.0.path().join("state/imports.json.new")).unwrap();
    let error = open(&place.settings(&[&good]), NOW).err().unwrap().to_string();
    assert!(error.contains("imports-v3.redb") && error.contains("Check the disk"), "{error}");
    let limits = Limits { files_max: 0, ..LIMITS };
    let error = open_within(&place.settings(&[&good]), NOW, limits).err().unwrap();
    assert!(matches!(error, ImportError::TooManyFiles { files_max: 0 }));
}

#[tokio::test]
async fn a_pipe_is_read_as_it_is_written_and_not_remembered() {
    let place = Place::new();
    let pipe = place.0.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (mut queue, _) = place.open(&[&pipe], LIMITS);
    let mut writer =
        tokio::task::spawn_blocking(move || File::options().write(true).open(pipe).unwrap()).await.unwrap();
    for id in 0..3 {
        writer.write_all(lines(id..id + 1).as_bytes()).unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), queue.receive()).await.unwrap();
        let delivery = next.unwrap().unwrap();
        assert_eq!(text(std::slice::from_ref(&delivery)), lines(id..id + 1));
        queue.acknowledge(delivery.receipt).await.unwrap();
    }
    drop(writer);
    assert!(rest(&mut queue).await.is_empty());
    assert_eq!(queue.progress().bytes_total(), None);
    drop(queue);
    assert_eq!(remembered(&ImportState::open(&place.0.path().join("state")).unwrap()), []);
}

#[tokio::test]
async fn a_pipe_gives_the_elements_of_a_document_as_they_are_written() {
    let place = Place::new();
    let pipe = place.0.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (mut queue, _) =
        place.open(&[&pipe], Limits { read: ReadLimits { look_ahead_bytes: 1, ..READ_LIMITS }, ..LIMITS });
    let mut writer =
        tokio::task::spawn_blocking(move || File::options().write(true).open(pipe).unwrap()).await.unwrap();
    writer.write_all(b"[").unwrap();
    for id in 0..3 {
        write!(writer, "{{\"id\":{id}}},").unwrap();
        let next = tokio::time::timeout(Duration::from_secs(10), queue.receive()).await.unwrap();
        assert!(text(&[next.unwrap().unwrap()]).contains(&format!("{{\"id\":{id}}}")));
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_before_its_turn_is_not_mistaken_for_the_old_one() {
    let place = Place::new();
    let second = place.write("second", lines(0..9));
    let (mut queue, _) = place.open(&[&second], tiny(20));
    let delivery = queue.receive().await.unwrap().unwrap();
    queue.acknowledge(delivery.receipt).await.unwrap();

    // The reader is a few chunks ahead at most, so it is still in the first file.
    let first = place.write("first", lines(0..1000));
    drop(queue);
    let (mut queue, reports) = place.open(&[&first, &second], tiny(20));
    assert!(matches!(reports[..], [FileReport::Continued { .. }]), "{reports:?}");
    place.write("second", lines(100..200));
    let mut seen = Vec::new();
    let error = loop {
        match queue.receive().await {
            Ok(delivery) => seen.push(delivery.unwrap()),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("second") && error.contains("replaced after the import began"), "{error}");
    assert_eq!(text(&seen), lines(0..1000));
}

#[tokio::test]
async fn a_queue_that_is_dropped_ends_its_reader() {
    let place = Place::new();
    let file = place.write("a", lines(0..1000));
    let (mut queue, _) = place.open(&[&file], tiny(10));
    queue.receive().await.unwrap();
    let files = Arc::downgrade(&queue.files);
    drop(queue);
    while files.strong_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_acknowledgement_that_was_given_up_is_made_good_by_the_next() {
    let place = Place::new();
    let file = place.write("a", lines(0..9));
    let (mut queue, _) = place.open(&[&file], tiny(20));
    let all = rest(&mut queue).await;
    {
        let given_up = std::pin::pin!(queue.acknowledge(all.last().unwrap().receipt));
        // Polled once: the write is under way, or already done.
        let _ = given_up.poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    }
    queue.acknowledge(all[0].receipt).await.unwrap();
    drop(queue);
    let (_, reports) = place.open(&[&file], tiny(20));
    assert!(matches!(reports[..], [FileReport::Counted { .. }]), "{reports:?}");
}

#[tokio::test]
async fn an_acknowledgement_that_cannot_be_made_durable_is_an_error_until_it_can() {
    let place = Place::new();
    let file = place.write("a", lines(0..9));
    let (mut queue, _) = place.open(&[&file], LIMITS);
    let all = rest(&mut queue).await;
    let [state, away] = ["state", "away"].map(|name| place.0.path().join(name));
    fs::rename(&state, &away).unwrap();
    for _ in 0..2 {
        assert!(queue.acknowledge(all[0].receipt).await.unwrap_err().to_string().contains("cannot write"));
    }
    fs::rename(&away, &state).unwrap();
    queue.acknowledge(all[0].receipt).await.unwrap();
    drop(queue);
    let (_, reports) = place.open(&[&file], LIMITS);
    assert!(matches!(reports[..], [FileReport::Counted { .. }]), "{reports:?}");
}

/// Reads everything and settles it; says what came and what was said.
async fn import(place: &Place, files: &[&Path]) -> (String, Vec<FileReport>) {
    import_with(&place.settings(files)).await
}

async fn import_with(settings: &FilesSettings) -> (String, Vec<FileReport>) {
    let (mut queue, reports) = open_within(settings, NOW, tiny(100)).unwrap();
    let all = rest(&mut queue).await;
    if let Some(last) = all.last() {
        queue.acknowledge(last.receipt).await.unwrap();
    }
    (text(&all), reports)
}

/// Two contents of one length with the same beginning and end.
fn twins() -> [String; 2] {
    let [head, tail] = [lines(0..9_000), lines(10_000..19_000)];
    ["\"a\"", "\"b\""].map(|middle| format!("{head}{{\"id\":{middle}}}\n{tail}"))
}

#[tokio::test]
async fn a_file_that_was_renamed_is_passed_and_known_by_its_new_name() {
    for content in [lines(0..100).into_bytes(), gzip(lines(0..100).as_bytes()), b"[1,2,\n 3]".to_vec()] {
        let place = Place::new();
        let before = place.write("inbox/a", &content);
        import(&place, &[&before]).await;
        let path = place.0.path().join("done");
        fs::rename(&before, &path).unwrap();
        let bytes = content.len() as u64;
        let renamed = FileReport::Renamed { path: path.clone(), before, bytes, settled_at: NOW };
        assert_eq!(import(&place, &[&path]).await, (String::new(), vec![renamed]));
        let counted = FileReport::Counted { path: path.clone(), bytes, settled_at: NOW };
        assert_eq!(import(&place, &[&path]).await, (String::new(), vec![counted]));
        let again = FilesSettings { again: true, ..place.settings(&[&path]) };
        assert!(!import_with(&again).await.0.is_empty());
    }
}

#[tokio::test]
async fn a_copy_is_passed_with_the_name_of_what_it_equals_until_it_is_asked_for() {
    let place = Place::new();
    let of = place.write("a", lines(0..100));
    import(&place, &[&of]).await;
    let path = place.write("b", lines(0..100));
    let bytes = lines(0..100).len() as u64;
    for _ in 0..3 {
        let (text, reports) = import(&place, &[&path]).await;
        let copied = FileReport::Copied { path: path.clone(), of: of.clone(), bytes, settled_at: Some(NOW) };
        assert_eq!((text, reports), (String::new(), vec![copied]));
    }
    let again = FilesSettings { again: true, ..place.settings(&[&path]) };
    assert_eq!(import_with(&again).await, (lines(0..100), vec![]));
    // Both are what they were, and go on as one of them does.
    place.write("a", lines(0..120));
    assert_eq!(import(&place, &[&of]).await.0, lines(100..120));
    place.write("b", lines(0..120));
    assert_eq!(import(&place, &[&path]).await.0, "");
}

#[tokio::test]
async fn what_is_there_twice_is_counted_once_in_one_run_too() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| place.write(name, lines(0..100)));
    let longer = place.write("longer", lines(0..150));
    let (mut queue, reports) = place.open(&[&a, &b, &longer], tiny(100));
    let all = rest(&mut queue).await;
    assert_eq!((text(&all), reports), (lines(0..150), vec![]));
    assert_eq!(queue.progress().files_done(), 3);
    // What is settled of the first says nothing of the others before the first is settled.
    queue.acknowledge(all[3].receipt).await.unwrap();
    drop(queue);
    let (queue, reports) = place.open(&[&a], tiny(100));
    assert!(matches!(reports[..], [FileReport::Continued { .. }]), "{reports:?}");
    drop(queue);
    let rest = import(&place, &[&a, &b, &longer]).await.0;
    assert_eq!(super::tests::text(&all[..=3]) + &rest, lines(0..150));
    let (text, reports) = import(&place, &[&a, &b, &longer]).await;
    assert_eq!(text, "");
    assert!(
        matches!(&reports[..], [FileReport::Counted { .. }, FileReport::Copied { of, .. }, FileReport::Counted { .. }] if *of == a),
        "{reports:?}"
    );
    let again = FilesSettings { again: true, ..place.settings(&[&a, &b]) };
    assert_eq!(import_with(&again).await.0, lines(0..100).repeat(2));
}

#[tokio::test]
async fn two_files_with_the_same_beginning_end_and_length_are_two_files() {
    let [one, other] = twins();
    assert_eq!(one.len(), other.len());
    for same_path in [true, false] {
        let place = Place::new();
        let a = place.write("a", &one);
        assert_eq!(import(&place, &[&a]).await.0, one);
        let b = place.write(if same_path { "a" } else { "b" }, &other);
        let (text, reports) = import(&place, &[&b]).await;
        assert!(text == other);
        assert_eq!(reports, if same_path { vec![FileReport::Changed { path: b }] } else { vec![] });
        // And what has grown from one of them has not grown from the other.
        let c = place.write("c", format!("{other}{}", lines(0..2)));
        assert_eq!(import(&place, &[&c]).await.0, lines(0..2));
    }
}

#[tokio::test]
async fn a_file_that_was_cut_shorter_has_nothing_new() {
    let noise = lines_of(&(0..20_000_u32).map(|id| id.wrapping_mul(2_654_435_761)).collect::<Vec<_>>());
    for whole in [lines(0..100).into_bytes(), noise.clone().into_bytes(), gzip(noise.as_bytes())] {
        let place = Place::new();
        let path = place.write("a", &whole);
        import(&place, &[&path]).await;
        for bytes in [whole.len() / 2, whole.len() - 1, 100, 0] {
            place.write("a", &whole[..bytes]);
            let (of, counted) = (path.clone(), whole.len() as u64);
            let cut = FileReport::CutShort { path: path.clone(), of, bytes: bytes as u64, counted };
            assert_eq!(import(&place, &[&path]).await, (String::new(), vec![cut]), "{bytes}");
        }
        place.write("a", &whole);
        assert!(matches!(import(&place, &[&path]).await.1[..], [FileReport::Counted { .. }]));
        // One that is as short and another one is new.
        place.write("a", lines(500..540));
        assert_eq!(
            import(&place, &[&path]).await,
            (lines(500..540), vec![FileReport::Changed { path: path.clone() }])
        );
    }
}

#[tokio::test]
async fn a_log_that_is_rotated_is_counted_once_whatever_its_name_is() {
    let place = Place::new();
    let [log, first, second] = ["app.log", "app.log.1", "app.log.2"].map(|name| place.0.path().join(name));
    place.write("app.log", lines(0..100));
    assert_eq!(import(&place, &[&log]).await.0, lines(0..100));
    // It grows once more before it is rotated, and another one takes its name.
    place.write("app.log", lines(0..130));
    fs::rename(&log, &first).unwrap();
    place.write("app.log", lines(200..250));
    let (text, reports) = import(&place, &[&log, &first]).await;
    assert_eq!(text, lines(200..250) + &lines(100..130));
    let position = lines(0..100).len() as u64;
    let grown = FileReport::Grown { path: first.clone(), before: Some(log.clone()), position };
    assert_eq!(reports, [FileReport::Changed { path: log.clone() }, grown]);
    fs::rename(&first, &second).unwrap();
    fs::rename(&log, &first).unwrap();
    place.write("app.log", lines(300..310));
    assert_eq!(import(&place, &[&log]).await.0, lines(300..310));
    let (text, reports) = import(&place, &[&log, &first, &second]).await;
    assert_eq!(text, "");
    assert!(
        matches!(
            reports[..],
            [FileReport::Counted { .. }, FileReport::Renamed { .. }, FileReport::Renamed { .. }]
        ),
        "{reports:?}"
    );
}

#[tokio::test]
async fn a_half_read_file_goes_on_under_another_name() {
    for (whole, events) in [
        (lines(0..100).into_bytes(), lines(0..100)),
        (gzip(lines(0..100).as_bytes()), lines(0..100)),
        (format!("[{}]", lines(0..100).trim_end().replace('\n', ",\n")).into_bytes(), lines(0..100)),
    ] {
        for copied in [false, true] {
            let place = Place::new();
            let before = place.write("a", &whole);
            let (mut queue, _) = place.open(&[&before], tiny(100));
            let first = queue.receive().await.unwrap().unwrap();
            queue.acknowledge(first.receipt).await.unwrap();
            drop(queue);
            let path = place.write("b", &whole);
            if !copied {
                fs::remove_file(&before).unwrap();
            }
            let (text, reports) = import(&place, &[&path]).await;
            // An element of an array stays in brackets.
            let text = (super::tests::text(&[first]) + &text).replace(['[', ']'], "");
            assert_eq!(text, events);
            assert!(
                matches!(&reports[..], [FileReport::Continued { before: Some(at), .. }] if *at == before),
                "{reports:?}"
            );
            if copied {
                let (text, reports) = import(&place, &[&before]).await;
                assert_eq!(text, "");
                assert!(
                    matches!(&reports[..], [FileReport::Copied { of, .. }] if *of == path),
                    "{reports:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn an_import_again_that_is_interrupted_goes_on_whatever_copies_there_are() {
    let place = Place::new();
    let [a, b] = ["a", "b"].map(|name| place.write(name, lines(0..100)));
    import(&place, &[&a, &b]).await;
    let again = FilesSettings { again: true, ..place.settings(&[&a]) };
    let (mut queue, _) = open_within(&again, NOW, tiny(100)).unwrap();
    let first = queue.receive().await.unwrap().unwrap();
    queue.acknowledge(first.receipt).await.unwrap();
    drop(queue);
    assert_eq!(text(&[first]) + &import(&place, &[&a]).await.0, lines(0..100));
}

#[tokio::test]
async fn a_file_that_says_it_was_not_touched_is_not_read_as_a_whole() {
    let place = Place::new();
    let file = place.write("a", lines(0..100));
    let settings = place.settings(&[&file]);
    // Long enough after the file was written.
    let later = NOW + 1_000_000_000;
    let pass = || open_within(&settings, later, LIMITS).unwrap().1;
    let (mut queue, _) = open_within(&settings, later, LIMITS).unwrap();
    let all = rest(&mut queue).await;
    queue.acknowledge(all[0].receipt).await.unwrap();
    // With a wrong hash it is the same only if its content is not read.
    drop(queue);
    let state = ImportState::open(settings.state_directory.as_deref().unwrap()).unwrap();
    let mut record = remembered(&state).remove(0);
    record.mark.fingerprint.whole.as_mut().unwrap().hash ^= 1;
    state.settle(&[(0, record)]).unwrap();
    drop(state);
    assert!(matches!(pass()[..], [FileReport::Counted { .. }]));
    File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(matches!(pass()[..], [FileReport::Changed { .. }]));
}

/// As the first version of the state was written.
fn write_old(place: &Place, path: &Path, content: &str) {
    let sum = crc32fast::hash(content.as_bytes());
    let (path, bytes) = (path.to_str().unwrap(), content.len());
    let print = json!({ "end": bytes, "head": sum, "tail": sum });
    let file = json!({ "layout": "lines", "position": bytes, "finished": true, "fingerprint": print, "settled_at": 5 });
    let state = json!({ "version": 1, "files": { path: file } });
    place.write("state/imports.json", state.to_string());
}

#[tokio::test]
async fn what_an_earlier_version_remembered_is_passed_and_proved_from_then_on() {
    let place = Place::new();
    let (a, b) = (place.write("a", lines(0..100)), place.0.path().join("b"));
    write_old(&place, &a, &lines(0..100));
    assert!(matches!(import(&place, &[&a]).await.1[..], [FileReport::Counted { settled_at: 5, .. }]));
    fs::rename(&a, &b).unwrap();
    assert!(matches!(import(&place, &[&b]).await.1[..], [FileReport::Renamed { settled_at: 5, .. }]));
    // Where the file was moved before, nothing is proved; that is told.
    fs::remove_dir_all(place.0.path().join("state")).unwrap();
    write_old(&place, &a, &lines(0..100));
    let (text, reports) = import(&place, &[&b]).await;
    assert_eq!((text, reports), (lines(0..100), vec![FileReport::Alike { path: b, of: a, settled_at: 5 }]));
}

#[test]
fn an_acknowledgement_needs_no_new_thread() {
    let place = Place::new();
    let file = place.write("a", lines(0..9));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    runtime.block_on(async {
        let (mut queue, _) = place.open(&[&file], LIMITS);
        let all = rest(&mut queue).await;
        // The only thread that there may be is taken.
        let taken = tokio::task::spawn_blocking(move || held.recv());
        let acknowledged = queue.acknowledge(all[0].receipt);
        let in_time = tokio::time::timeout(Duration::from_secs(10), acknowledged).await;
        drop(release);
        assert!(in_time.is_ok_and(|result| result.is_ok()) && taken.await.is_ok());
    });
}

#[tokio::test]
async fn importing_one_file_again_counts_no_other_again() {
    let place = Place::new();
    let [small, large, copy] =
        [("small", 100), ("large", 500), ("copy", 500)].map(|(name, last)| place.write(name, lines(0..last)));
    import(&place, &[&large, &copy]).await;
    let again = |file: &Path| FilesSettings { again: true, ..place.settings(&[file]) };
    assert_eq!(import_with(&again(&small)).await.0, lines(0..100));
    for _ in 0..2 {
        let (text, reports) = import(&place, &[&small, &large, &copy]).await;
        assert_eq!(text, "");
        assert!(
            matches!(
                reports[..],
                [FileReport::Counted { .. }, FileReport::Counted { .. }, FileReport::Copied { .. }]
            ),
            "{reports:?}"
        );
        assert_eq!(import_with(&again(&large)).await.0, lines(0..500));
        assert_eq!(import(&place, &[&small, &large]).await.0, "");
        import(&place, &[&large, &copy]).await;
    }
}

#[tokio::test]
async fn what_is_imported_again_and_shorter_than_before_goes_on_where_it_was_cut_off() {
    let (place, whole) = (Place::new(), lines(0..50));
    let file = place.write("a", lines(0..100));
    import(&place, &[&file]).await;
    place.write("a", &whole[..whole.len() / 2 + 3]);
    let again = FilesSettings { again: true, ..place.settings(&[&file]) };
    let (mut seen, _, problem) = import_what_can_be(&again).await;
    assert!(problem.unwrap().contains("as if it were being written"));
    place.write("a", whole);
    seen.extend(import_what_can_be(&place.settings(&[&file])).await.0);
    assert_eq!(seen, (0..50).map(|id| json!({ "id": id })).collect::<Vec<_>>());
}

#[test]
fn a_remembered_path_that_is_a_pipe_by_now_is_not_waited_for() {
    let place = Place::new();
    let [before, path] = ["a", "b"].map(|name| place.write(name, lines(0..9)));
    block_on(import(&place, &[&before]));
    fs::remove_file(&before).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&before).status().unwrap().success());
    let settings = place.settings(&[&path]);
    let (done, reports) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || done.send(open_within(&settings, NOW, LIMITS).unwrap().1));
    let reports = reports.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(reports[..], [FileReport::Renamed { .. }]), "{reports:?}");
}

#[tokio::test]
async fn a_finished_file_with_bytes_behind_its_compressed_content_is_passed() {
    let packed = gzip(lines(0..100).as_bytes());
    for behind in [&[0; 512][..], b"signature"] {
        let place = Place::new();
        let stored = [&*packed, behind].concat();
        let file = place.write("a", &stored);
        assert_eq!(import(&place, &[&file]).await, (lines(0..100), vec![]));
        let bytes = stored.len() as u64;
        let counted = FileReport::Counted { path: file.clone(), bytes, settled_at: NOW };
        assert_eq!(import(&place, &[&file]).await, (String::new(), vec![counted]));
        // A member behind them is told to be left out, as before.
        place.write("a", [&*stored, &packed].concat());
        let (text, reports) = import(&place, &[&file]).await;
        assert_eq!(text, "");
        assert!(matches!(reports[..], [FileReport::Grown { .. }]), "{reports:?}");
    }
}

/// Reads what can be read and settles it; says which events came, what was said, and how it failed.
async fn import_what_can_be(settings: &FilesSettings) -> (Vec<Value>, Vec<FileReport>, Option<String>) {
    let (mut queue, reports) = open_within(settings, NOW, tiny(100)).unwrap();
    let (all, problem) = read_as_far_as_it_goes(&mut queue).await;
    (events(&all), reports, problem)
}

#[tokio::test]
async fn copies_of_what_is_not_whole_are_counted_once_in_one_run_too() {
    let whole = lines(0..100);
    let cut_off = whole.clone() + "{\"id\":";
    let array = whole.trim_end().replace('\n', ",\n");
    let [cut_array, whole_array] = [",", "]"].map(|end| format!("[{array}{end}"));
    let packed = pack(Gzip, whole.as_bytes());
    for (content, other, more) in [
        (cut_off.as_bytes(), cut_off.clone() + "500}\n", lines(500..501)),
        (cut_off.as_bytes(), whole.clone() + &lines(500..510), lines(500..510)),
        (cut_array.as_bytes(), whole_array, String::new()),
        (&packed[..packed.len() - 3], lines(500..510), lines(500..510)),
    ] {
        let place = Place::new();
        for name in ["d/a", "d/b"] {
            place.write(name, content);
        }
        place.write("d/c", other);
        let settings = place.settings(&[&place.0.path().join("d")]);
        let (counted, _, problem) = import_what_can_be(&settings).await;
        let expected = whole.clone() + &more;
        let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(counted, expected);
        // Each of the two is told.
        assert!(problem.unwrap().contains("2 files were not read to their end"));
        assert_eq!(import_what_can_be(&settings).await.0, Vec::<Value>::new());
    }
}

#[tokio::test]
async fn compressed_content_that_ends_in_the_middle_of_a_line_loses_none() {
    let whole = lines(0..110);
    let (first, second) = whole.as_bytes().split_at(whole.len() / 2 + 3);
    for format in [Gzip, Bzip2, Xz, Zstd] {
        let place = Place::new();
        let [first, second] = [first, second].map(|part| pack(format, part));
        let file = place.write("a", &first);
        let settings = place.settings(&[&file]);
        let (mut seen, _, problem) = import_what_can_be(&settings).await;
        assert!(problem.unwrap().contains("as if it were being written"));
        place.write("a", [first, second].concat());
        let (rest, _, problem) = import_what_can_be(&settings).await;
        assert_eq!(problem, None);
        seen.extend(rest);
        let expected: Vec<_> = (0..110).map(|id| json!({ "id": id })).collect();
        assert_eq!(seen, expected);
    }
}

fn sends(range: std::ops::Range<u32>) -> Vec<Value> {
    range
        .map(|id| json!({ "event_type": "users.messages.email.Send", "id": id, "properties": { "a": [id] } }))
        .collect()
}

/// The beginning of a document, in its first event, and the whole; plain, and compressed in two members.
fn cut_in_the_first_event(whole: &str) -> [[Vec<u8>; 2]; 2] {
    let (first, second) = whole.as_bytes().split_at(100);
    let packed = [gzip(first), gzip(second)];
    let cut = [&*packed[0], &packed[1][..12]].concat();
    [[first.to_vec(), whole.as_bytes().to_vec()], [cut, packed.concat()]]
}

#[tokio::test]
async fn a_document_that_is_cut_off_in_its_first_event_costs_no_event_of_another_or_its_own() {
    for outside in [Outside::Array, Outside::Envelope] {
        let whole = |last| Written::Pretty(outside).write(&sends(0..last));
        for [[cut, other], [_, own]] in [0, 1].map(|way| {
            [cut_in_the_first_event(&whole(30))[way].clone(), cut_in_the_first_event(&whole(40))[way].clone()]
        }) {
            let place = Place::new();
            let settings = place.settings(&[&place.0.path().join("inbox")]);
            let path = place.write("inbox/00", &cut);
            for _ in 0..2 {
                let (events, _, problem) = import_what_can_be(&settings).await;
                assert!(events.is_empty() && problem.unwrap().contains("inbox/00"));
            }
            place.write("inbox/01", &other);
            let (events, _, problem) = import_what_can_be(&settings).await;
            assert_eq!((events, problem.is_some()), (sends(0..30), true));
            place.write("inbox/00", &own);
            let (events, _, problem) = import_what_can_be(&place.settings(&[&path])).await;
            assert_eq!((events, problem), (sends(0..40), None));
        }
    }
}

/// As earlier versions have read the beginning of a document, were it cut off in its first event.
#[tokio::test]
async fn what_was_read_as_lines_and_held_no_event_stands_for_nothing_of_a_document() {
    for [cut, whole] in cut_in_the_first_event(&Written::Pretty(Outside::Envelope).write(&sends(0..30))) {
        let place = Place::new();
        let before = place.write("a", &cut);
        let end = if cut.len() == 100 { 100 } else { cut.len() as u64 - 12 };
        let remember = || {
            let file = File::open(&before).unwrap();
            let fingerprint = fingerprint::Fingerprinter::default().take(&file, end, &[]).unwrap();
            let layout = crate::content::FileLayout::Lines;
            let mark = Mark { layout, position: 100, finished: true, container: 0, fingerprint };
            let path = before.to_str().unwrap().to_owned();
            let state = ImportState::open(&place.0.path().join("state")).unwrap();
            state.settle(&[(0, FileRecord { path, mark, changed: None, settled_at: 5 })]).unwrap();
        };
        remember();
        let (of, other) = (before.clone(), place.write("b", &whole));
        let grown = |path: &Path| FileReport::Misread { path: path.to_owned(), of: of.clone() };
        let (events, reports, problem) = import_what_can_be(&place.settings(&[&other])).await;
        assert_eq!((events, reports, problem), (sends(0..30), vec![grown(&other)], None));
        // Under its own name nothing is left of it but what is true.
        fs::remove_dir_all(place.0.path().join("state")).unwrap();
        remember();
        place.write("a", &whole);
        let (events, reports, problem) = import_what_can_be(&place.settings(&[&before])).await;
        assert_eq!((events, reports, problem), (sends(0..30), vec![grown(&before)], None));
        let (text, reports) = import(&place, &[&before]).await;
        assert!(text.is_empty() && matches!(reports[..], [FileReport::Counted { .. }]), "{reports:?}");
        let state = ImportState::open(&place.0.path().join("state")).unwrap();
        assert_eq!(remembered(&state).len(), 1);
    }
}

#[tokio::test]
async fn a_document_that_is_cut_off_anywhere_fails_and_gives_each_event_once_when_it_is_whole() {
    for written in [
        Written::OnOneLine(Outside::Array),
        Written::OneEventALine(Outside::Envelope),
        Written::Pretty(Outside::EnvelopeAmongOthers),
        Written::PrettyEvents,
    ] {
        let whole = written.write(&sends(0..3));
        for end in (1..whole.len()).step_by(7) {
            let place = Place::new();
            let file = place.write("a", &whole[..end]);
            let settings = place.settings(&[&file]);
            let (mut seen, _, problem) = import_what_can_be(&settings).await;
            let is_whole = serde_json::from_str::<serde::de::IgnoredAny>(&whole[..end]).is_ok();
            let is_told =
                problem.as_ref().is_some_and(|problem| problem.contains("as if it were being written"));
            assert!(
                is_told || seen.len() == 3 || is_whole || matches!(written, Written::PrettyEvents),
                "{end}"
            );
            assert_eq!(import_what_can_be(&settings).await.0, Vec::<Value>::new());
            place.write("a", &whole);
            let (rest, _, problem) = import_what_can_be(&settings).await;
            seen.extend(rest);
            assert_eq!((seen, problem), (sends(0..3), None), "{end}");
        }
    }
}

/// Damage that seems to open a bracket holds back nothing, whether or not it will ever be repaired.
#[tokio::test]
async fn events_behind_damage_that_opens_a_bracket_are_handed_out() {
    let sends: Vec<_> = sends(0..3).iter().map(Value::to_string).collect();
    for damage in ["{\"b\":[1,", "{\"b\":[1,{\"c\":", "[", "{\"event_type\":\"t\",\"p\":[{\"c\":["] {
        let place = Place::new();
        let file = place.write("a", format!("[{},{damage}{},{}]", sends[0], sends[1], sends[2]));
        let (mut queue, _) = place.open(&[&file], LIMITS);
        let mut handed = Vec::new();
        while let Ok(Some(delivery)) = queue.receive().await {
            handed.push(delivery);
        }
        let handed = self::text(&handed);
        assert!(sends.iter().all(|send| handed.contains(send)), "{damage}: {handed}");
    }
}

#[derive(Debug, Clone)]
enum Written {
    Lines { newline: &'static str, blank: bool, last: bool },
    OnOneLine(Outside),
    OneEventALine(Outside),
    Pretty(Outside),
    PrettyEvents,
}

#[derive(Debug, Clone, Copy)]
enum Outside {
    Array,
    Envelope,
    EnvelopeAmongOthers,
}

impl Written {
    fn write(&self, events: &[Value]) -> String {
        match self {
            Written::Lines { newline, blank, last } => {
                let newline = if *blank { format!("{newline} {newline}") } else { newline.to_string() };
                let lines: Vec<_> = events.iter().map(Value::to_string).collect();
                lines.join(&newline) + if *last { &newline } else { "" }
            }
            Written::OnOneLine(outside) => outside.around(events).to_string(),
            Written::OneEventALine(outside) => {
                let lines: Vec<_> = events.iter().map(Value::to_string).collect();
                let marked = outside.around(&[json!("the events")]).to_string();
                marked.replace("\"the events\"", &format!("\n{}\n", lines.join(",\n")))
            }
            Written::Pretty(outside) => serde_json::to_string_pretty(&outside.around(events)).unwrap(),
            Written::PrettyEvents => {
                events.iter().map(|event| serde_json::to_string_pretty(event).unwrap() + "\n").collect()
            }
        }
    }
}

impl Outside {
    fn around(self, events: &[Value]) -> Value {
        match self {
            Outside::Array => json!(events),
            Outside::Envelope => json!({ "events": events }),
            // The keys are written in the order of the alphabet.
            Outside::EnvelopeAmongOthers => {
                json!({ "a": { "events": [1] }, "b": "events", "events": events, "z": [{ "id": 0 }] })
            }
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    let outside =
        || prop_oneof![Just(Outside::Array), Just(Outside::Envelope), Just(Outside::EnvelopeAmongOthers)];
    prop_oneof![
        (prop_oneof![Just("\n"), Just("\r\n")], any::<bool>(), any::<bool>())
            .prop_map(|(newline, blank, last)| Written::Lines { newline, blank, last }),
        outside().prop_map(Written::OnOneLine),
        outside().prop_map(Written::OneEventALine),
        outside().prop_map(Written::Pretty),
        Just(Written::PrettyEvents),
    ]
}

fn event() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[\"\\\\{}\\[\\]:,\n a-cü]{0,8}",
        Just("events".to_owned()),
        Just("\u{1f600}\\".to_owned()),
    ];
    (text.clone(), text, any::<i32>()).prop_map(|(key, value, number)| {
            json!({ "id": value, "properties": { key: [number, { "events": [value] }, null] } })
        })
}

/// How a file is stored: plain or compressed in that many members, with or without a byte order mark.
fn store(text: &str, members: usize, mark: bool) -> Vec<u8> {
    let text = if mark { format!("\u{feff}{text}") } else { text.to_owned() };
    match members {
        0 => text.into_bytes(),
        members => text.as_bytes().chunks(text.len().div_ceil(members).max(1)).flat_map(gzip).collect(),
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Limits that are small, but never so small that an event of the tests is too long.
fn limits() -> impl Strategy<Value = Limits> {
    (1_usize..300, 1_usize..600).prop_map(|(chunk_bytes, look_ahead_bytes)| Limits {
        read: ReadLimits { chunk_bytes, look_ahead_bytes, event_bytes_max: 2000 },
        files_max: 2,
        records_max: 2,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// For any events, any way to write and to store them, and any sizes of chunk and look ahead: the
    /// lines of the deliveries are the events in order.
    #[test]
    fn any_layout_gives_exactly_its_events(
        expected in vec(event(), 1..12),
        written in written(),
        members in 0_usize..3,
        mark: bool,
        limits in limits(),
    ) {
        let place = Place::new();
        let limits = Limits { read: ReadLimits { event_bytes_max: 1_000_000, ..limits.read }, ..limits };
        let file = place.write("a", store(&written.write(&expected), members, mark));
        let (mut queue, _) = place.open(&[&file], limits);
        let all = block_on(rest(&mut queue));
        prop_assert_eq!(events(&all), expected);
        prop_assert_eq!(all.iter().map(|delivery| delivery.oversized).sum::<u32>(), 0);
    }

    /// For any stop points: what was acknowledged before each and what comes after the last add up to
    /// the events, and to the oversized ones among them, without loss or repetition.
    #[test]
    fn any_stops_lose_and_repeat_nothing(
        parts in vec((vec(prop_oneof![4 => event().prop_map(Some), 1 => Just(None)], 1..12), written(), 0_usize..3), 1..3),
        limits in limits(),
        stops in vec((0_usize..9, 0_usize..9), 0..5),
    ) {
        let place = Place::new();
        let mut expected = Vec::new();
        let mut files = Vec::new();
        for (part, written, members) in &parts {
            // No two are the same, and none is the beginning of another.
            let mut part = part.clone();
            part.insert(0, Some(json!({ "id": files.len() })));
            let long = json!({ "id": "x".repeat(3000) });
            let all: Vec<_> = part.iter().map(|event| event.clone().unwrap_or(long.clone())).collect();
            // A whole line that is an envelope must not be too long itself.
            let written = match written {
                Written::OnOneLine(outside @ (Outside::Envelope | Outside::EnvelopeAmongOthers)) => {
                    &Written::Pretty(*outside)
                }
                written => written,
            };
            files.push(place.write(&files.len().to_string(), store(&written.write(&all), *members, false)));
            expected.extend(part.clone());
        }
        let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
        let mut settled = Vec::new();
        for (ahead, acknowledged) in stops {
            let (mut queue, _) = place.open(&files, limits);
            block_on(async {
                let mut seen = Vec::new();
                while seen.len() <= ahead && let Some(delivery) = queue.receive().await.unwrap() {
                    seen.push(delivery);
                }
                seen.truncate(acknowledged);
                if let Some(last) = seen.last() {
                    queue.acknowledge(last.receipt).await.unwrap();
                }
                settled.extend(seen);
            });
        }
        let (mut queue, _) = place.open(&files, limits);
        settled.extend(block_on(rest(&mut queue)));
        let oversized: u32 = settled.iter().map(|delivery| delivery.oversized).sum();
        prop_assert_eq!(oversized as usize, expected.iter().filter(|event| event.is_none()).count());
        let held: Vec<_> = expected.into_iter().flatten().collect();
        prop_assert_eq!(events(&settled), held);
    }

    /// For any broken lines among good ones, the first included: every line is handed out as it is.
    #[test]
    fn broken_lines_harm_no_others(
        lines in vec(prop_oneof![
            2 => event().prop_map(|event| event.to_string()),
            1 => prop_oneof![
                Just("garbage"), Just("{\"a\":"), Just("{\"a\" 1}"), Just("\"open"), Just("42"),
                Just("{\"id\":\"x\",\"p\":{\"q\":[1,"), Just("[2026-11-22] started"), Just("{"),
            ].prop_map(str::to_owned),
        ], 2..12),
        last in event(),
        chunk in 1_usize..300,
    ) {
        let place = Place::new();
        let text = format!("{}\n{last}\n{last}\n", lines.join("\n"));
        let file = place.write("a", &text);
        let (mut queue, _) = place.open(&[&file], tiny(chunk));
        prop_assert_eq!(super::tests::text(&block_on(rest(&mut queue))), text);
    }
}
