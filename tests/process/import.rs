//! `braze-datadog run --import … --once`, the real binary: every sample is counted as its truth says, and the
//! books that are printed at the end say the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use bzip2::write::BzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use serde_json::{Value, json};

use crate::support::events::Events;
use crate::support::forwarder::{Configuration, Finished};
use crate::support::intake::{Behaviour, Intake};
use crate::support::metrics::Books;
use crate::support::{self, KEY, gzip};

const EMAIL: &str = "storage/event_type=users.messages.email.Send/date=2026-11-20-10/part.ndjson";
const PUSH: &str =
    "storage/event_type=users.messages.pushnotification.Send/date=2026-11-20-10/part.ndjson.gz";
const OPENS: &str = "storage/event_type=users.messages.email.Open/date=2026-11-20-10/part.ndjson";

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

fn truth() -> Value {
    serde_json::from_slice(&fs::read(sample("truth.json")).unwrap()).unwrap()
}

/// The samples are days old, so they are counted as of now unless a test says otherwise.
fn configuration(intake: &Intake) -> Configuration {
    Configuration::new().connection("acme", &intake.url(), KEY, &[]).text("events.late", "restamp")
}

async fn import(configuration: &Configuration, files: &[&Path], options: &[&str]) -> Finished {
    let mut arguments = vec!["run", "--once"];
    arguments.extend(options);
    for file in files {
        arguments.extend(["--import", file.to_str().unwrap()]);
    }
    configuration.run(&arguments).await
}

/// What the truth says of these samples together, with every send accepted.
fn truth_of(samples: &[&str]) -> Books {
    let truth = truth();
    let held = |name: &str| truth["files"].get(name).unwrap_or(&truth["intermediaries"][name]).clone();
    let sum = |of: &str| samples.iter().map(|name| held(name)[of].as_u64().unwrap()).sum();
    Books {
        received: sum("events"),
        ignored: sum("ignored"),
        duplicate: sum("duplicates"),
        counted: sum("sends"),
        accepted: sum("sends"),
        ..Books::default()
    }
}

/// The last line of a run that ended well; its status says whether sends were dropped.
fn last_line(finished: &Finished) -> Value {
    let line: Value = serde_json::from_str(finished.stdout.lines().next_back().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let status = if line["dropped"] == 0 { 0 } else { 3 };
    assert_eq!(finished.status.code(), Some(status), "{finished:?}");
    line
}

/// The books of a run that succeeded. They balance, in all their parts, and nothing is pending.
fn books(finished: &Finished) -> Books {
    let line = last_line(finished);
    let books = Books::told(&line);
    assert!(books.balance(), "{line}");
    assert_eq!(
        (books.pending, &line["queue_depth"], &line["balanced"]),
        (0, &Value::from(0), &Value::Bool(true)),
        "{line}"
    );
    assert_eq!(numbers(&line["ignored_by_event_type"]).values().sum::<u64>(), books.ignored, "{line}");
    assert_eq!(numbers(&line["malformed_by_reason"]).values().sum::<u64>(), books.malformed, "{line}");
    let parts = [("counted", books.counted), ("accepted", books.accepted), ("dropped", books.dropped)];
    for (name, total) in parts {
        let connections = line["connections"].as_object().unwrap().values();
        assert_eq!(connections.map(|of| of[name].as_u64().unwrap()).sum::<u64>(), total, "{name}: {line}");
    }
    books
}

/// The sends that the intake accepted, by the value of one tag; empty where it is left out.
fn by_tag(intake: &Intake, key: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (tags, sum) in intake.sums_of(KEY) {
        let value = tags.iter().find_map(|tag| tag.strip_prefix(key)?.strip_prefix(':'));
        *sums.entry(value.unwrap_or_default().to_owned()).or_default() += sum;
    }
    sums
}

fn numbers(of: &Value) -> BTreeMap<String, u64> {
    of.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.as_u64().unwrap())).collect()
}

#[tokio::test]
async fn every_sample_is_counted_as_its_truth_says() {
    let truth = truth();
    let files = truth["files"].as_object().unwrap().iter();
    // A message of Kafka is no file, and what asks for a confirmation no event.
    let is_file = |name: &str| !name.ends_with(".message") && !name.contains("confirmation");
    let wrapped = truth["intermediaries"].as_object().unwrap().iter().filter(|(name, _)| is_file(name));
    for (name, expected) in files.chain(wrapped) {
        let intake = Intake::start();
        let configuration = configuration(&intake).set("tags.include", &on_offer());
        let finished = import(&configuration, &[&sample(name)], &[]).await;
        assert_eq!(books(&finished), truth_of(&[name]), "{name}");
        assert_eq!(intake.violations(), Vec::<String>::new(), "{name}");
        for tag in ["app_group_id", "campaign_id", "canvas_step_id"] {
            assert_eq!(by_tag(&intake, tag), numbers(&expected[&format!("sends_by_{tag}")]), "{name}: {tag}");
        }
        let line = last_line(&finished);
        assert_eq!(
            numbers(&line["ignored_by_event_type"]),
            numbers(&expected["ignored_by_event_type"]),
            "{name}"
        );
        let channels: BTreeMap<String, u64> = numbers(&expected["sends_by_event_type"])
            .into_iter()
            .map(|(event_type, sends)| (channel(&event_type).to_owned(), sends))
            .collect();
        assert_eq!(by_tag(&intake, "channel"), channels, "{name}");
    }
}

fn on_offer() -> String {
    r#"["app_group_id", "campaign_id", "campaign_name", "canvas_step_id", "channel"]"#.to_owned()
}

fn channel(event_type: &str) -> &str {
    event_type.split('.').nth(2).unwrap()
}

#[tokio::test]
async fn every_odd_body_is_counted_as_the_truth_says() {
    for (name, sends) in truth()["odd_bodies_sends"].as_object().unwrap() {
        let intake = Intake::start();
        let finished = import(&configuration(&intake), &[&sample(name)], &[]).await;
        let sends = sends.as_u64().unwrap();
        if name == "odd-bodies/cut-off.json" {
            // What is whole counts; the rest may still be written.
            assert_eq!(finished.status.code(), Some(1), "{finished:?}");
            assert!(finished.stderr.contains("as if it were being written"), "{}", finished.stderr);
            assert_eq!(intake.sends(), sends);
            continue;
        }
        let books = books(&finished);
        assert_eq!((books.accepted, books.dropped), (sends, 0), "{name}: {books:?}");
        assert_eq!(intake.sends(), books.accepted, "{name}");
        if ["odd-bodies/no-id.json", "odd-bodies/no-time.json"].contains(&name.as_str()) {
            assert_eq!((books.received, books.malformed), (1, 1), "{name}");
        }
    }
    let intake = Intake::start();
    let configuration = configuration(&intake).text("events.timestamp", "arrival");
    let finished = import(&configuration, &[&sample("odd-bodies/no-time.json")], &[]).await;
    assert_eq!((books(&finished).accepted, intake.sends()), (1, 1));
}

#[tokio::test]
async fn several_files_and_directories_are_one_import() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let packed = configuration.file("no-name-says-so", gzip(&fs::read(sample("currents.ndjson")).unwrap()));
    let (storage, batch) = (sample("storage"), sample("currents-batch.json"));
    let finished = import(&configuration, &[&storage, &packed, &batch, &packed], &[]).await;
    let samples = [EMAIL, PUSH, OPENS, "currents.ndjson", "currents-batch.json"];
    let expected = truth_of(&samples);
    assert_eq!(books(&finished), expected);
    assert_eq!((intake.sends(), intake.violations()), (expected.accepted, Vec::new()));
}

#[tokio::test]
async fn a_directory_of_avro_containers_is_counted_whatever_their_codec() {
    let intake = Intake::start();
    let finished = import(&configuration(&intake), &[&sample("storage-avro")], &[]).await;
    let truth = truth();
    let names = truth["files"].as_object().unwrap().keys().filter(|name| name.starts_with("storage-avro"));
    let names: Vec<&str> = names.map(String::as_str).collect();
    assert_eq!(names.len(), 4, "one for each codec");
    assert_eq!(books(&finished), truth_of(&names));
}

#[tokio::test]
async fn standard_input_is_read_to_its_end_and_not_remembered() {
    let intake = Intake::start();
    let expected = truth_of(&["currents.ndjson"]);
    let plain = fs::read(sample("currents.ndjson")).unwrap();
    for (round, content) in [gzip(&plain), plain].into_iter().enumerate() {
        let configuration = configuration(&intake).standard_input(content);
        for again in 1..=2 {
            let finished = import(&configuration, &[Path::new("-")], &[]).await;
            assert_eq!(books(&finished), expected);
            let runs = u64::try_from(2 * round + again).unwrap();
            assert_eq!(intake.sends(), runs * expected.accepted);
        }
    }
}

#[tokio::test]
async fn a_file_that_was_counted_is_passed_with_a_message_unless_it_is_to_be_counted_again() {
    let intake = Intake::start();
    let (configuration, file) = (configuration(&intake), sample("currents-batch.json"));
    let expected = truth_of(&["currents-batch.json"]);
    for (options, counts) in [(&[][..], true), (&[], false), (&["--again"], true), (&[], false)] {
        let before = intake.sends();
        let finished = import(&configuration, &[&file], options).await;
        assert_eq!(books(&finished), if counts { expected } else { Books::default() });
        assert_eq!(intake.sends() - before, if counts { expected.accepted } else { 0 });
        let message = format!("{} was counted on 20", file.display());
        assert_eq!(finished.stderr.contains(&message), !counts, "{}", finished.stderr);
        assert_eq!(finished.stderr.contains("use --again to count it anew"), !counts, "{}", finished.stderr);
    }
}

#[tokio::test]
async fn one_file_that_is_missing_or_none_stops_the_import_before_it_begins() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let missing = configuration.home().join("missing.ndjson");
    let socket = configuration.home().join("socket");
    let _bound = UnixListener::bind(&socket).unwrap();
    for (path, reason) in [(&missing, "there is no such file"), (&socket, "it is a socket")] {
        let finished = import(&configuration, &[&sample("currents.ndjson"), path], &[]).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let message = format!("cannot import {}: {reason}", path.display());
        assert!(finished.stderr.contains(&message), "{}", finished.stderr);
        assert!(finished.stdout.is_empty() && intake.requests().is_empty());
    }

    // The other one is as new.
    let finished = import(&configuration, &[&sample("currents.ndjson")], &[]).await;
    assert_eq!(books(&finished), truth_of(&["currents.ndjson"]));
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_named() {
    let intake = Intake::start();
    let misspelt = configuration(&intake).text("flush.intervall", "1s");
    let finished = import(&misspelt, &[&sample("currents.ndjson")], &[]).await;
    assert_eq!(finished.status.code(), Some(78), "{finished:?}");
    for part in ["braze-datadog.toml", "flush.intervall", "interval"] {
        assert!(finished.stderr.contains(part), "no {part} in {}", finished.stderr);
    }
    assert!(!finished.stderr.contains(KEY));

    let missing = misspelt.home().join("none.toml");
    for path in [&*missing, misspelt.home()] {
        let output = Command::new(env!("CARGO_BIN_EXE_braze-datadog"))
            .args(["run", "--once", "--config"])
            .arg(path)
            .arg("--import")
            .arg(sample("currents.ndjson"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
    assert!(intake.requests().is_empty());
}

#[tokio::test]
async fn old_events_are_dropped_as_late_and_booked() {
    let intake = Intake::start();
    for name in ["currents-batch.json", "currents.ndjson"] {
        // In one flush, however slow the machine is.
        let configuration = configuration(&intake).text("flush.interval", "10m");
        let configuration = configuration.without("events.late").text("events.timestamp", "event");
        let finished = import(&configuration, &[&sample(name)], &[]).await;
        let expected = truth_of(&[name]);
        let (accepted, dropped) = (0, expected.accepted);
        assert_eq!(books(&finished), Books { accepted, dropped, ..expected });
        let reasons = numbers(&last_line(&finished)["connections"]["acme"]["dropped_by_reason"]);
        // Three events of the larger sample are far ahead of their time.
        let early = reasons.get("early").copied().unwrap_or_default();
        assert_eq!(reasons["late"], dropped - early, "{reasons:?}");
        assert_eq!(early, if name == "currents.ndjson" { 3 } else { 0 }, "{reasons:?}");
        let said = |line: &&str| line.contains(r#""level":"ERROR""#) && line.contains(r#""reason":"late""#);
        let said: Vec<&str> = finished.stderr.lines().filter(said).collect();
        assert_eq!(said.len(), 1, "one line for all: {}", finished.stderr);
        assert!(said[0].contains(&format!(r#""sends":{}"#, reasons["late"])), "{said:?}");
    }
    assert!(intake.requests().is_empty());
}

#[tokio::test]
async fn old_events_count_as_of_now_when_they_are_restamped_or_counted_by_arrival() {
    for (key, value) in [("events.late", "restamp"), ("events.timestamp", "arrival")] {
        let intake = Intake::start();
        let configuration = configuration(&intake).without("events.late").text(key, value);
        let started = support::unix_now();
        let finished = import(&configuration, &[&sample("currents.ndjson")], &[]).await;
        let expected = truth_of(&["currents.ndjson"]);
        assert_eq!(books(&finished), expected);
        assert_eq!(intake.violations(), Vec::<String>::new());
        let now = started..=support::unix_now();
        assert!(intake.accepted().iter().all(|point| now.contains(&point.time)), "{key}");
    }
}

#[tokio::test]
async fn what_datadog_refuses_is_booked_and_the_file_is_done() {
    let intake = Intake::start();
    intake.always(Behaviour::Status(403, "{\"errors\":[\"Forbidden\"]}"));
    // In one flush, however slow the machine is.
    let configuration = configuration(&intake).text("flush.interval", "10m");
    let expected = truth_of(&["currents-batch.json"]);
    let finished = import(&configuration, &[&sample("currents-batch.json")], &[]).await;
    assert_eq!(books(&finished), Books { accepted: 0, dropped: expected.accepted, ..expected });
    let reasons = &last_line(&finished)["connections"]["acme"]["dropped_by_reason"];
    assert_eq!(numbers(reasons), [("http_403".to_owned(), expected.accepted)].into());
    assert_eq!(intake.requests().len(), 1);
    // There is no retry, not even by another run.
    assert_eq!(
        books(&import(&configuration, &[&sample("currents-batch.json")], &[]).await),
        Books::default()
    );
}

#[tokio::test]
async fn the_books_at_the_end_are_those_of_the_metrics() {
    let intake = Intake::start();
    let content = Events::new(8).ndjson(3_000) + "{\"cut\":\n" + &Events::new(8).ndjson(20);
    let mut all = Vec::new();
    for once in [false, true] {
        let configuration = configuration(&intake);
        let file = configuration.file("events.ndjson", &content);
        if once {
            all.push(books(&import(&configuration, &[&file], &[]).await));
            continue;
        }
        let daemon = configuration.start_with(&["--import", file.to_str().unwrap()]).await;
        daemon.settled(3_021).await;
        all.push(daemon.books_balance().await);
        assert!(daemon.stop().await.success());
    }
    assert_eq!(all[0], all[1]);
    assert_eq!((all[0].received, all[0].malformed), (3_021, 1));
    assert!(all[0].ignored > 0 && all[0].duplicate > 0, "{:?}", all[0]);
    assert_eq!(intake.sends(), 2 * all[0].accepted);
}

/// NDJSON of so many e-mail sends of now; `name` tells their ids from those of others.
fn sends(name: &str, count: u32) -> Vec<u8> {
    let now = support::unix_now();
    let line = |number: u32| {
        format!(
            "{{\"event_type\":\"users.messages.email.Send\",\"id\":\"{name}-{number}\",\"time\":{now},\
             \"app_group_id\":\"g\",\"campaign_id\":\"c\"}}\n"
        )
    };
    (0..count).map(line).collect::<String>().into_bytes()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

type Pack = fn(&[u8]) -> Vec<u8>;

/// How to pack, by the name that messages give it.
const PACKS: [(&str, Pack); 4] = [("gzip", gzip), ("bzip2", bzip2), ("xz", xz), ("zstandard", zstd)];

#[tokio::test]
async fn compressed_files_are_known_by_their_first_bytes_and_what_follows_their_last_member_is_left_out() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let mut files = Vec::new();
    for (name, pack) in PACKS {
        let two = [pack(&sends(&format!("{name}-1"), 500)), pack(&sends(&format!("{name}-2"), 500))].concat();
        files.push(configuration.file(&format!("two-{name}.json"), two));
        let behind = [pack(&sends(&format!("{name}-3"), 300)), b"signed by nobody".to_vec()].concat();
        files.push(configuration.file(&format!("{name}.with-something-behind"), behind));
    }
    // What xz itself pads with is no cause for a warning.
    files.push(configuration.file("padded.xz", [xz(&sends("padded", 10)), vec![0; 1024]].concat()));
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let finished = import(&configuration, &files, &[]).await;
    let books = books(&finished);
    assert_eq!((books.received, books.accepted), (4 * 1_300 + 10, 4 * 1_300 + 10));
    for (name, _) in PACKS {
        let said = format!("bytes that are no {name} follow");
        assert_eq!(finished.stderr.matches(&said).count(), 1, "{name}: {}", finished.stderr);
    }
    assert_eq!(finished.stderr.matches("follow the compressed content").count(), 4, "{}", finished.stderr);
    // They are remembered as any other.
    let again = import(&configuration, &files, &[]).await;
    assert_eq!(self::books(&again).received, 0);
}

#[tokio::test]
async fn a_compressed_file_that_is_cut_short_counts_what_is_there_and_fails() {
    for (name, pack) in PACKS {
        let intake = Intake::start();
        let configuration = configuration(&intake);
        let whole = pack(&sends("cut", 20_000));
        let file = configuration.file("events", &whole[..whole.len() - 7]);
        for _ in 0..2 {
            let finished = import(&configuration, &[&file], &[]).await;
            assert_eq!(finished.status.code(), Some(1), "{name}: {finished:?}");
            let said = format!("of its content: its {name} is cut short");
            assert!(finished.stderr.contains(&said), "{name}: {}", finished.stderr);
        }
        let before = intake.sends();
        assert!((10_000..=20_000).contains(&before), "{name}: {before}");
        // The whole file goes on where the other one ended, and nothing is counted twice.
        configuration.file("events", &whole);
        let rest = import(&configuration, &[&file], &[]).await;
        assert!(rest.status.success(), "{name}: {rest:?}");
        assert_eq!(intake.sends(), 20_000, "{name}");
    }
}

#[tokio::test]
async fn standard_input_may_be_packed_in_any_way() {
    for (name, pack) in PACKS {
        let intake = Intake::start();
        let configuration = configuration(&intake).standard_input(pack(&sends("piped", 1_000)));
        let finished = import(&configuration, &[Path::new("-")], &[]).await;
        assert_eq!(books(&finished).accepted, 1_000, "{name}");
    }
}

#[tokio::test]
async fn a_file_that_was_read_in_part_goes_on_where_it_was_moved_to() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let whole = zstd::encode_all(&*sends("moved", 20_000), 1).unwrap();
    let file = configuration.file("events.zst", &whole[..whole.len() - 7]);
    let finished = import(&configuration, &[&file], &[]).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let before = intake.sends();
    assert!((1..20_000).contains(&before), "{before}");
    fs::remove_file(&file).unwrap();
    let moved = configuration.file("moved.zst", &whole);
    let finished = import(&configuration, &[&moved], &[]).await;
    assert_eq!(books(&finished).accepted, 20_000 - before);
    told(&finished, &[moved.to_str().unwrap(), "was counted as", file.to_str().unwrap(), "goes on there"]);
}

#[tokio::test]
async fn a_format_that_is_not_read_is_refused_by_name_and_never_remembered() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let tar = [&[b'e'; 257][..], b"ustar  \0", &[0; 1024], b"{}"].concat();
    for (name, content, format) in [
        ("events.lz4", &b"\x04\x22\x4d\x18rest of it"[..], "lz4"),
        ("events.7z", b"7z\xbc\xaf\x27\x1crest of it", "7z"),
        ("events.json", b"PK\x03\x04rest of it", "zip"),
        ("events.tar", &tar, "tar"),
        ("events.tar.xz", &xz(&tar), "tar"),
    ] {
        let file = configuration.file(name, content);
        for _ in 0..2 {
            let finished = import(&configuration, &[&file], &[]).await;
            assert_eq!(finished.status.code(), Some(1), "{finished:?}");
            let said = format!("{name}: it is {format}, which is not read; ");
            assert!(finished.stderr.contains(&said), "{}", finished.stderr);
        }
    }
    // What no first bytes tell is read as JSON, as a log with a line between events is.
    let table = configuration.file("events.csv", "id,event_type\n1,users.messages.email.Send\n");
    let finished = import(&configuration, &[&table], &[]).await;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert_eq!(last_line(&finished)["malformed_by_reason"]["json"], 2);
    assert_eq!(intake.sends(), 0);
}

/// An Avro container of so many e-mail sends of now.
fn avro(name: &str, count: u32, codec: apache_avro::Codec) -> Vec<u8> {
    let schema = r#"{"type":"record","name":"Send","namespace":"users.messages.email","fields":[
        {"name":"id","type":"string"},{"name":"time","type":"int"},
        {"name":"app_group_id","type":"string"},{"name":"campaign_id","type":"string"}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let mut writer = apache_avro::Writer::with_codec(&schema, Vec::new(), codec);
    let now = i32::try_from(support::unix_now()).unwrap();
    for number in 0..count {
        let text = |text: &str| apache_avro::types::Value::String(text.to_owned());
        let value = apache_avro::types::Value::Record(vec![
            ("id".to_owned(), text(&format!("{name}-{number}"))),
            ("time".to_owned(), apache_avro::types::Value::Int(now)),
            ("app_group_id".to_owned(), text("g")),
            ("campaign_id".to_owned(), text("c")),
        ]);
        writer.append(value).unwrap();
    }
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn avro_containers_one_after_the_other_are_all_counted() {
    let one = avro("one", 1, apache_avro::Codec::Null);
    let many = avro("many", 5_000, apache_avro::Codec::Snappy);
    let mut damaged = one.clone();
    *damaged.last_mut().unwrap() ^= 1;
    for (what, stored) in [
        ("as they are", [&*one, &many].concat()),
        ("packed as one", gzip(&[&*one, &many].concat())),
        ("as members", [gzip(&one), gzip(&many)].concat()),
        ("as streams of xz", [xz(&one), vec![0; 4], xz(&many)].concat()),
        ("the last marker of the first is damaged", [&*damaged, &many].concat()),
        (
            "a header alone before and behind",
            [&avro("none", 0, apache_avro::Codec::Null), &*one, &many].concat(),
        ),
    ] {
        let intake = Intake::start();
        let configuration = configuration(&intake);
        let file = configuration.file("two.avro", stored);
        let books = books(&import(&configuration, &[&file], &[]).await);
        assert_eq!((books.received, books.accepted, intake.sends()), (5_001, 5_001, 5_001), "{what}");
    }
    // The header of the second one can't be read: what is before it is counted, and the file is not done.
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let mut damaged = many.clone();
    damaged[4] = 0xff;
    let file = configuration.file("two.avro", [&*one, &damaged].concat());
    for _ in 0..2 {
        let finished = import(&configuration, &[&file], &[]).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let said = format!("beyond byte {} of its content: it is an Avro container", one.len());
        assert!(finished.stderr.contains(&said), "{}", finished.stderr);
    }
    configuration.file("two.avro", [&*one, &many].concat());
    let rest = import(&configuration, &[&file], &[]).await;
    assert_eq!((books(&rest).received, intake.sends()), (5_000, 5_001));
}

#[tokio::test]
async fn a_bad_entry_of_a_directory_keeps_no_other_from_being_counted_and_is_told() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let directory = configuration.home().join("inbox");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.ndjson"), sends("a", 10)).unwrap();
    std::os::unix::fs::symlink("nowhere", directory.join("b-dangling")).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"c-\xff.ndjson");
    fs::write(directory.join(odd), sends("c", 10)).unwrap();
    let cut = gzip(&sends("d", 10));
    fs::write(directory.join("d.gz"), &cut[..cut.len() - 9]).unwrap();
    fs::write(directory.join("e.zip"), b"PK\x03\x04").unwrap();
    fs::write(directory.join("users.messages.sms.Send-1.json"), {
        let now = support::unix_now();
        format!("{{\"id\":\"flat\",\"time\":{now},\"app_group_id\":\"g\",\"campaign_id\":\"sms\"}}\n")
    })
    .unwrap();
    fs::write(directory.join("z.ndjson"), sends("z", 10)).unwrap();
    let finished = import(&configuration, &[&directory], &[]).await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("4 files were not read to their end"), "{}", finished.stderr);
    for name in ["b-dangling", "c-", "d.gz", "e.zip"] {
        let told = |line: &&str| line.contains("is left out") && line.contains(name);
        assert_eq!(finished.stderr.lines().filter(told).count(), 1, "{name}: {}", finished.stderr);
    }
    let campaigns = by_tag(&intake, "campaign_id");
    assert_eq!(campaigns.get("sms"), Some(&1), "{campaigns:?}");
    assert!(campaigns["c"] >= 20, "{campaigns:?}");
}

/// One line of the log, at INFO, says these.
fn told(finished: &Finished, parts: &[&str]) {
    let says =
        |line: &&str| line.contains(r#""level":"INFO""#) && parts.iter().all(|part| line.contains(part));
    assert_eq!(finished.stderr.lines().filter(says).count(), 1, "{parts:?}: {}", finished.stderr);
}

#[tokio::test]
async fn a_file_that_was_moved_or_copied_is_passed_and_told_unless_it_is_to_be_counted_again() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let file = configuration.file("events.ndjson", sends("moved", 100));
    assert_eq!(books(&import(&configuration, &[&file], &[]).await).accepted, 100);
    let [done, copy] = ["done.ndjson", "copy.ndjson"].map(|name| configuration.home().join(name));
    fs::rename(&file, &done).unwrap();
    let finished = import(&configuration, &[&done], &[]).await;
    assert_eq!(books(&finished), Books::default());
    told(&finished, &[done.to_str().unwrap(), "was counted on 20", file.to_str().unwrap(), "--again"]);
    fs::copy(&done, &copy).unwrap();
    for _ in 0..2 {
        let finished = import(&configuration, &[&copy], &[]).await;
        assert_eq!(books(&finished), Books::default());
        told(&finished, &[copy.to_str().unwrap(), "holds the same", done.to_str().unwrap(), "--again"]);
    }
    assert_eq!(books(&import(&configuration, &[&copy], &["--again"]).await).accepted, 100);
    assert_eq!(intake.sends(), 200);
}

#[tokio::test]
async fn only_what_is_new_is_counted_of_a_file_that_grew_was_cut_or_was_replaced() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let content = sends("first", 150);
    let end = |events: usize| {
        content.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(events - 1).unwrap().0 + 1
    };
    let write = |content: &[u8]| configuration.file("events.ndjson", content);
    let file = write(&content[..end(100)]);
    let counted = async || books(&import(&configuration, &[&file], &[]).await).accepted;
    assert_eq!(counted().await, 100);
    for (events, new) in [(50, 0), (100, 0), (150, 50), (100, 0), (150, 0)] {
        write(&content[..end(events)]);
        assert_eq!(counted().await, new, "{events}");
    }
    write(&content[..end(50)]);
    let finished = import(&configuration, &[&file], &[]).await;
    told(&finished, &["holds the first", "nothing in it is new", "--again"]);
    write(&sends("other", 50));
    assert_eq!(counted().await, 50);
    assert_eq!(intake.sends(), 200);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_counted_up_to_its_last_whole_event_and_the_rest_later() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let content = sends("growing", 100);
    for (end, counted, status) in
        [(content.len() / 3, 33, 1), (content.len() / 3, 0, 1), (content.len(), 67, 0)]
    {
        let file = configuration.file("events.ndjson", &content[..end]);
        let finished = import(&configuration, &[&file], &[]).await;
        assert_eq!(finished.status.code(), Some(status), "{finished:?}");
        assert_eq!(finished.stderr.contains("as if it were being written"), status == 1, "{finished:?}");
        let line: Value = serde_json::from_str(finished.stdout.lines().next_back().unwrap()).unwrap();
        assert_eq!((&line["accepted"], &line["malformed"]), (&json!(counted), &json!(0)));
    }
    assert_eq!(intake.sends(), 100);
}

#[tokio::test]
async fn standard_input_that_ends_in_the_middle_counts_what_is_whole_and_fails() {
    let lines = sends("piped", 100);
    let events = lines.strip_suffix(b"\n").unwrap();
    let array = String::from_utf8(events.to_vec()).unwrap().replace('\n', ",\n");
    let packed = avro("piped", 100, apache_avro::Codec::Null);
    for (content, counted, said) in [
        (format!("[\n{array},\n").into_bytes(), 100, "an array, an envelope or an event"),
        (format!("{{\"events\":[{array},").into_bytes(), 100, "an array, an envelope or an event"),
        (format!("[{}", &array[..array.len() - 9]).into_bytes(), 99, "an array, an envelope or an event"),
        (lines[..lines.len() - 9].to_vec(), 99, "an event"),
        (gzip(&lines[..lines.len() - 9]), 99, "an event"),
        ([&*packed, &packed[..packed.len() - 9]].concat(), 100, "a block"),
    ] {
        let intake = Intake::start();
        let configuration = configuration(&intake).standard_input(content);
        let finished = import(&configuration, &[Path::new("-")], &[]).await;
        assert_eq!(finished.status.code(), Some(1), "{said}: {finished:?}");
        let middle = format!("ends in the middle of {said}, as if its writer had been stopped");
        for said in ["cannot read standard input beyond byte ", &middle] {
            assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
        }
        assert_eq!(intake.sends(), counted, "{said}");
    }
}

#[tokio::test]
async fn a_damaged_memory_is_refused_and_nothing_is_counted() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let files = ["a", "b"].map(|name| configuration.file(&format!("{name}.ndjson"), sends(name, 10)));
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    assert_eq!(books(&import(&configuration, &files, &[]).await).accepted, 20);
    let memory = configuration.home().join("queue/imports-v3.redb");
    let good = fs::read(&memory).unwrap();
    let path = files[0].to_str().unwrap().as_bytes();
    let at = good.windows(path.len()).position(|bytes| bytes == path).unwrap();
    let mut flipped = good.clone();
    flipped[at] ^= 1;
    for (bad, said) in [
        (Some(flipped), "damaged"),
        (Some(good[..good.len() / 2].to_vec()), "damaged"),
        (Some(Vec::new()), "damaged"),
        (Some(good[..1].to_vec()), "damaged"),
        (Some(b"{\"version\":2}".to_vec()), "damaged"),
        (None, "is missing; restore that"),
    ] {
        match &bad {
            Some(bad) => fs::write(&memory, bad).unwrap(),
            None => fs::remove_file(&memory).unwrap(),
        }
        let finished = import(&configuration, &files, &[]).await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        for said in
            [said, memory.to_str().unwrap(), "which remembers what was imported", "not been counted yet"]
        {
            assert!(finished.stderr.contains(said), "{said:?} is not in {}", finished.stderr);
        }
        assert_eq!(memory.exists(), bad.is_some(), "none is begun");
    }
    assert_eq!(intake.sends(), 20);
    fs::write(&memory, good).unwrap();
    assert_eq!(books(&import(&configuration, &files, &[]).await), Books::default());
}

#[tokio::test]
async fn a_stop_while_files_are_compared_is_heeded_and_the_books_are_printed() {
    let intake = Intake::start();
    let configuration = configuration(&intake);
    let path = configuration.file("blank.ndjson", "\n".repeat(256 << 20));
    assert_eq!(import(&configuration, &[&path], &[]).await.status.code(), Some(0));
    // Another time on it, so that its content has to say whether it was counted: read for seconds.
    let file = fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    let mut forwarder = configuration.spawn(&["run", "--once", "--import", path.to_str().unwrap()]);
    forwarder.says("the queue is open").await;
    forwarder.signal("TERM");
    assert_eq!(forwarder.wait().await.code(), Some(0), "{}", forwarder.log());
    forwarder.says("none of them is imported").await;
    let books: Value = serde_json::from_str(forwarder.stdout().trim_end()).unwrap();
    assert_eq!(books["received"], 0);
}
