//! The samples are what `samples/README.md` and `samples/truth.json` say they are: counted here once more, by
//! other means than the generator's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use serde_json::Value;

const BYTES_MAX: u64 = 3_000_000;

/// Counted by default, from the contract.
const SENDS: [&str; 8] = [
    "users.messages.email.Send",
    "users.messages.pushnotification.Send",
    "users.messages.sms.Send",
    "users.messages.webhook.Send",
    "users.messages.whatsapp.Send",
    "users.messages.contentcard.Send",
    "users.messages.rcs.Send",
    "users.messages.line.Send",
];

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}

fn truth() -> Value {
    serde_json::from_slice(&fs::read(samples().join("truth.json")).unwrap()).unwrap()
}

fn read(name: &str) -> String {
    let bytes = fs::read(samples().join(name)).unwrap();
    if Path::new(name).extension().is_none_or(|extension| extension != "gz") {
        return String::from_utf8(bytes).unwrap();
    }
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    text
}

/// The records of an object container, as the `apache-avro` crate reads them.
fn records(name: &str) -> Vec<Value> {
    let bytes = fs::read(samples().join(name)).unwrap();
    let reader = apache_avro::Reader::new(&bytes[..]).unwrap();
    reader.map(|record| Value::try_from(record.unwrap()).unwrap()).collect()
}

/// The events of a file, one document or one a line.
fn events(name: &str) -> Vec<Value> {
    if Path::new(name).extension().is_some_and(|extension| extension == "avro") {
        return records(name);
    }
    if name.contains(".ndjson") {
        return read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    }
    match serde_json::from_str(&read(name)).unwrap() {
        Value::Object(mut envelope) if envelope.contains_key("events") => {
            envelope["events"].take().as_array().unwrap().clone()
        }
        Value::Array(events) => events,
        event => vec![event],
    }
}

fn event_type<'e>(event: &'e Value, path: &'e str) -> &'e str {
    let from_path = || path.split('/').find_map(|part| part.strip_prefix("event_type="));
    event["event_type"].as_str().or_else(from_path).unwrap_or_default()
}

/// A field in either shape, a union or not.
fn field<'e>(event: &'e Value, name: &str) -> &'e str {
    let value = event.get("properties").unwrap_or(event).get(name).unwrap_or(&Value::Null);
    value.get("string").unwrap_or(value).as_str().unwrap_or_default()
}

fn numbers(of: &Value) -> BTreeMap<String, u64> {
    of.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.as_u64().unwrap())).collect()
}

#[test]
fn every_file_holds_what_the_truth_says() {
    for (name, expected) in truth()["files"].as_object().unwrap() {
        let (mut ids, mut duplicates, mut ignored) = (BTreeSet::new(), 0, 0);
        let mut sums: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
        let events = events(name);
        for event in &events {
            let kind = event_type(event, name);
            if !SENDS.contains(&kind) {
                ignored += 1;
            } else if !ids.insert(event["id"].as_str().unwrap()) {
                duplicates += 1;
            } else {
                let mut add =
                    |by, key: &str| *sums.entry(by).or_default().entry(key.to_owned()).or_default() += 1;
                add("sends_by_event_type", kind);
                add("sends_by_app_group_id", field(event, "app_group_id"));
                add("sends_by_campaign_id", field(event, "campaign_id"));
                add("sends_by_canvas_step_id", field(event, "canvas_step_id"));
            }
        }
        assert_eq!(expected["events"], events.len(), "{name}");
        assert_eq!(expected["sends"], ids.len(), "{name}");
        assert_eq!(
            (&expected["duplicates"], &expected["ignored"]),
            (&duplicates.into(), &ignored.into()),
            "{name}"
        );
        for (by, sums) in sums {
            assert_eq!(numbers(&expected[by]), sums, "{name}: {by}");
        }
    }
}

#[test]
fn the_large_sample_has_the_variety_that_the_readme_promises() {
    let events = events("currents.ndjson");
    let kinds: BTreeSet<&str> = events.iter().map(|event| event_type(event, "")).collect();
    for kind in SENDS.iter().chain(&["users.messages.email.Retry", "users.messages.sms.CarrierSend"]) {
        assert!(kinds.contains(kind), "no {kind}");
    }
    let names: BTreeSet<&str> = events.iter().map(|event| field(event, "campaign_name")).collect();
    for part in [",", "\"", ":", "|", "🔥", "出発", "价格", "[REDACTED]", "\\"] {
        assert!(names.iter().any(|name| name.contains(part)), "no campaign name with {part:?}");
    }
    assert!(names.iter().any(|name| name.chars().count() > 200));
    let null_name =
        |event: &Value| !field(event, "campaign_id").is_empty() && field(event, "campaign_name").is_empty();
    assert!(events.iter().any(null_name), "no name lags");
    assert!(events.iter().any(|event| field(event, "app_group_id").is_empty()));
    let line_has_no_canvas_name = |event: &Value| event["properties"].get("canvas_name").is_none();
    assert!(events.iter().filter(|e| event_type(e, "").ends_with("line.Send")).all(line_has_no_canvas_name));
    let text = read("currents.ndjson");
    assert!(text.contains("\\ud83d\\udd25") && text.contains("🔥"), "names are written in one way only");
}

#[test]
fn every_odd_body_is_in_the_truth_and_in_the_readme() {
    let truth = truth();
    let listed = truth["odd_bodies_sends"].as_object().unwrap();
    let readme = read("README.md");
    let (_, table) = readme.split_once("\n## Odd bodies\n").unwrap();
    let rows = || {
        table.lines().filter_map(|line| {
            let (name, said) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
            Some([name, said])
        })
    };
    let on_disk = fs::read_dir(samples().join("odd-bodies")).unwrap();
    let on_disk: BTreeSet<String> = on_disk.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(on_disk, listed.keys().map(|name| name.replace("odd-bodies/", "")).collect());
    for (name, sends) in listed {
        let short = format!("`{}`", name.replace("odd-bodies/", ""));
        let cells = rows().find(|cells| cells[0].contains(&short));
        let [_, said] = cells.unwrap_or_else(|| panic!("{name} is not in README.md"));
        let said: String = said.chars().take_while(char::is_ascii_digit).collect();
        assert_eq!(said, sends.as_u64().unwrap().to_string(), "README.md says this of {name}");
        let is_json = serde_json::from_str::<Value>(&read(name)).is_ok();
        let is_whole = !["odd-bodies/empty.json", "odd-bodies/cut-off.json"].contains(&name.as_str());
        assert_eq!(is_json, is_whole, "{name}");
    }
}

#[test]
fn every_sample_of_an_intermediary_is_in_the_truth_and_in_the_readme() {
    let truth = truth();
    let listed = truth["intermediaries"].as_object().unwrap();
    let on_disk = fs::read_dir(samples().join("intermediaries")).unwrap();
    let on_disk: BTreeSet<String> = on_disk.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(on_disk, listed.keys().map(|name| name.replace("intermediaries/", "")).collect());
    let readme = read("README.md");
    for (name, held) in listed {
        let short = name.replace("intermediaries/", "");
        assert!(readme.contains(&format!("`{short}`")), "{short} is not in README.md");
        assert_eq!(held["events"] == 0, name.contains("confirmation"), "{name}");
        // Whatever is around them, the ids of its sends stand in it, once it is out of base64.
        let bytes = fs::read(samples().join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        if !text.contains("base64") && !text.contains("\"data\"") {
            let types = text.matches("event_type").count() as u64;
            assert_eq!(held["events"], types, "{name}");
        }
    }
}

#[test]
fn the_samples_name_nobody_who_exists_and_stay_small() {
    let mut bytes = 0;
    let mut open = vec![samples()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        bytes += fs::metadata(&path).unwrap().len();
        let name = path.strip_prefix(samples()).unwrap().to_str().unwrap();
        if name.ends_with("json") || name.contains(".ndjson") {
            for (at, _) in read(name).match_indices('@') {
                assert!(
                    read(name)[at..].starts_with("@example.com"),
                    "{name} has an address outside example.com"
                );
            }
        }
    }
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
}

/// The generator's output is the committed files, byte for byte. It takes Python 3; a machine without it is
/// told so by the failure.
#[test]
fn the_generator_writes_these_very_files() {
    let generator = samples().join("generate.py");
    let checked =
        Command::new("python3").env("PYTHONDONTWRITEBYTECODE", "1").arg(generator).arg("--check").output();
    let checked = checked.unwrap_or_else(|error| panic!("python3 is needed (make tools): {error}"));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
