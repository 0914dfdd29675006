//! What earlier versions left behind is read: each directory in `tests/process/upgrade` was written by the version in its
//! name, which was then killed. What a newer version wrote is refused, and left as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support;
use crate::support::forwarder::Configuration;
use crate::support::intake::{Behaviour, Intake};

const QUEUE_SOURCE: &str = "crates/segment-log/src/lib.rs";
const STATE_SOURCE: &str = "crates/event-queues/src/files/encoding.rs";

/// All that a queue directory may hold besides segments. A file that is not here needs a version of its own, and its
/// place in these tests.
const STATE_FILES: [&str; 5] =
    ["acknowledged", "imports-v3.redb", "imports.json", "imports.json.taken-over", "lock"];

const HOW: &str = "write it with `make upgrade-sample`, and commit it";

/// Sends by campaign.
type Sends = BTreeMap<String, u64>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A directory that an earlier version left behind, or this one.
#[derive(Debug)]
struct Sample {
    /// `VERSION-format-N-imports-M`
    name: String,
    path: PathBuf,
}

impl Sample {
    fn all() -> Vec<Self> {
        let entries =
            fs::read_dir(root().join("tests/process/upgrade")).unwrap().map(|entry| entry.unwrap().path());
        let mut samples: Vec<Self> = entries
            .filter(|path| path.is_dir())
            .map(|path| Self { name: path.file_name().unwrap().to_str().unwrap().to_owned(), path })
            .collect();
        samples.sort_by(|one, other| one.name.cmp(&other.name));
        samples
    }

    fn truth(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path.join("truth.json")).unwrap()).unwrap()
    }

    /// The sends that it has not yet been told the outcome of.
    fn waiting(&self) -> Sends {
        serde_json::from_value(self.truth()["waiting"].clone()).unwrap()
    }

    /// The queue's format, as its first segment says it.
    fn format(&self) -> u32 {
        let name = files(&self.path.join("queue")).into_keys().find(|name| is_segment(name)).unwrap();
        let head = fs::read(self.path.join("queue").join(name)).unwrap();
        u32::from_le_bytes(head[8..12].try_into().unwrap())
    }

    /// The format of its state of imports, as its `imports.json` says it.
    fn imports(&self) -> u32 {
        let state: Value =
            serde_json::from_slice(&fs::read(self.path.join("queue/imports.json")).unwrap()).unwrap();
        state["version"].as_u64().unwrap().try_into().unwrap()
    }

    /// Puts a copy where `configuration` looks for it, and says where the file that was imported is now: the first
    /// format knows a file by its path, later ones by what is in it. Restamped, for its events were new when it was
    /// written.
    fn unpack(&self, configuration: Configuration) -> (Configuration, PathBuf) {
        let configuration = configuration.text("events.late", "restamp");
        let queue = configuration.home().join("queue");
        fs::create_dir(&queue).unwrap();
        for (name, content) in files(&self.path.join("queue")) {
            fs::write(queue.join(name), content).unwrap();
        }
        let imported =
            configuration.file("import.ndjson", fs::read(self.path.join("import.ndjson")).unwrap());
        if self.imports() == 1 {
            let state = fs::read_to_string(queue.join("imports.json")).unwrap();
            let before = self.truth()["imported"].as_str().unwrap().to_owned();
            assert!(state.contains(&before), "{state}");
            let state = state.replace(&before, imported.to_str().unwrap());
            fs::write(queue.join("imports.json"), state).unwrap();
        }
        (configuration, imported)
    }
}

fn is_segment(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "log")
}

/// The files of a directory and what is in them; the lock holds nothing.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let files =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    files.filter(|(name, _)| name != "lock").collect()
}

/// The number that a source gives to a constant.
fn constant(source: &str, name: &str) -> u32 {
    let text = fs::read_to_string(root().join(source)).unwrap();
    let line = text.lines().find_map(|line| {
        line.trim_start_matches("pub(super) ").strip_prefix(&format!("const {name}: u32 = "))
    });
    line.unwrap_or_else(|| panic!("{source} has no {name}")).trim_end_matches(';').parse().unwrap()
}

fn accepted(intake: &Intake) -> Sends {
    let mut sends = Sends::new();
    for point in intake.accepted() {
        let campaign = point.tags.iter().find_map(|tag| tag.strip_prefix("campaign_id:")).unwrap();
        *sends.entry(campaign.to_owned()).or_default() += point.value;
    }
    sends
}

fn configuration(intake: &Intake) -> Configuration {
    Configuration::new().without("push.listen").connection("acme", &intake.url(), "acme-key", &[])
}

/// Makes the file longer than the version has read it, by three events.
fn grow(imported: &Path) {
    let mut text = fs::read_to_string(imported).unwrap();
    let line = text.lines().next().unwrap().to_owned();
    for number in 0..3 {
        let id = format!("grown-{number}");
        text += &line.replace("imported-0", &id).replace("imported", "grown");
        text.push('\n');
    }
    fs::write(imported, text).unwrap();
}

#[tokio::test]
async fn what_an_earlier_version_left_is_counted_once_and_nothing_else() {
    for sample in Sample::all() {
        let intake = Intake::start();
        let (configuration, imported) = sample.unpack(configuration(&intake));
        grow(&imported);
        let arguments = ["run", "--once", "--import", imported.to_str().unwrap()];
        let finished = configuration.run(&arguments).await;
        assert!(finished.status.success(), "{}: {}", sample.name, finished.stderr);
        let mut expected = sample.waiting();
        expected.insert("grown".to_owned(), 3);
        assert_eq!(accepted(&intake), expected, "{}", sample.name);
        assert_eq!(intake.violations(), Vec::<String>::new());

        let aside = configuration.home().join("queue/imports.json.taken-over");
        assert_eq!(aside.exists(), sample.imports() < 3, "{}", sample.name);
        let finished = configuration.run(&arguments).await;
        assert!(finished.status.success(), "{}: {}", sample.name, finished.stderr);
        assert_eq!(accepted(&intake), expected, "{}: a second run counts nothing", sample.name);
        for name in files(&configuration.home().join("queue")).into_keys() {
            assert!(
                is_segment(&name) || STATE_FILES.contains(&&*name),
                "what is {name}, and what is its version?"
            );
        }
    }
}

#[tokio::test]
async fn what_is_left_of_an_earlier_version_survives_a_crash_of_this_one() {
    for sample in Sample::all() {
        let intake = Intake::start();
        intake.always(Behaviour::Hang);
        let (configuration, _) = sample.unpack(configuration(&intake).text("flush.timeout", "30s"));
        let forwarder = configuration.start().await;
        let asked = async || (!intake.requests().is_empty()).then_some(());
        support::eventually("a flush is under way", asked).await;
        forwarder.crash().await;
        intake.always(Behaviour::Accept);
        let finished = configuration.run(&["run", "--once"]).await;
        assert!(finished.status.success(), "{}: {}", sample.name, finished.stderr);
        assert_eq!(accepted(&intake), sample.waiting(), "{}", sample.name);
    }
}

/// The head of a segment in the next format; the checksum is right.
fn raise(segment: &mut [u8]) {
    let next = u32::from_le_bytes(segment[8..12].try_into().unwrap()) + 1;
    segment[8..12].copy_from_slice(&next.to_le_bytes());
    let sum = crc32fast::hash(&segment[..12]);
    segment[12..16].copy_from_slice(&sum.to_le_bytes());
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused_and_left_as_it_is() {
    let (queue_format, state_version) = (constant(QUEUE_SOURCE, "FORMAT"), constant(STATE_SOURCE, "VERSION"));
    let newest = || Sample::all().into_iter().max_by_key(|of| (of.format(), of.imports())).unwrap();
    let intake = Intake::start();

    let (queue_is_newer, _) = newest().unpack(configuration(&intake));
    let queue = queue_is_newer.home().join("queue");
    let name = files(&queue).into_keys().find(|name| is_segment(name)).unwrap();
    let mut segment = fs::read(queue.join(&name)).unwrap();
    raise(&mut segment);
    fs::write(queue.join(&name), segment).unwrap();
    let said = [
        queue.to_str().unwrap().to_owned(),
        format!("format {}", queue_format + 1),
        format!("up to {queue_format}"),
    ];
    assert_refused(&queue_is_newer, &["run", "--once"], &said, &[&name, "acknowledged", "imports.json"])
        .await;

    let (state_is_newer, imported) = newest().unpack(configuration(&intake));
    let path = state_is_newer.home().join("queue/imports.json");
    let state = fs::read_to_string(&path).unwrap();
    let [now, next] = [state_version, state_version + 1].map(|version| format!("\"version\":{version}"));
    assert!(state.contains(&now), "{state}");
    fs::write(&path, state.replace(&now, &next)).unwrap();
    let said = [
        path.to_str().unwrap().to_owned(),
        format!("format {}", state_version + 1),
        format!("formats 1 to {state_version};"),
    ];
    assert_refused(
        &state_is_newer,
        &["run", "--once", "--import", imported.to_str().unwrap()],
        &said,
        &["imports.json", "imports-v3.redb"],
    )
    .await;
    assert_eq!(intake.requests().len(), 0, "nothing was counted");
}

/// The run fails, its message says these things and names the way out, and these files are as they were.
async fn assert_refused(configuration: &Configuration, arguments: &[&str], said: &[String], kept: &[&str]) {
    let queue = configuration.home().join("queue");
    let before = files(&queue);
    let finished = configuration.run(arguments).await;
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    for part in said.iter().map(String::as_str).chain(["the version that wrote it"]) {
        assert!(finished.stderr.contains(part), "{part:?} is not in {}", finished.stderr);
    }
    let after = files(&queue);
    assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
    for name in kept {
        assert!(before.get(*name) == after.get(*name), "{name} was touched");
    }
}

#[test]
fn every_format_that_is_read_and_every_released_version_has_a_directory() {
    let samples = Sample::all();
    for sample in &samples {
        let formats = format!("-format-{}-imports-{}", sample.format(), sample.imports());
        assert!(sample.name.ends_with(&formats), "{sample:?}");
    }
    for format in constant(QUEUE_SOURCE, "FORMAT_OLDEST")..=constant(QUEUE_SOURCE, "FORMAT") {
        let has = samples.iter().any(|sample| sample.format() == format);
        assert!(has, "no directory of queue format {format} in tests/process/upgrade: {HOW}");
    }
    for version in 1..=constant(STATE_SOURCE, "VERSION") {
        let has = samples.iter().any(|sample| sample.imports() == version);
        assert!(has, "no directory with imports.json of format {version} in tests/process/upgrade: {HOW}");
    }
    let current = format!("{}-format-", env!("CARGO_PKG_VERSION"));
    let has = samples.iter().any(|sample| sample.name.starts_with(&current));
    assert!(has, "no directory of version {} in tests/process/upgrade: {HOW}", env!("CARGO_PKG_VERSION"));
}
