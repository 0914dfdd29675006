//! Whatever happened to the files of a queue, it opens without a panic; no event is given twice or under a number that
//! another one had; every whole frame before the damage is given back; and what was found once is found again.
//!
//! An input is a row of damages to a queue of several segments: what, which file, where, and what with.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use event_queues::embedded::{
    AppendError, Appender, EmbeddedQueue, EmbeddedSettings, OpenError, Pushed, open,
};
use event_queues::{EventDefaults, Queue as _, Receipt};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const SIZE_MAX: u64 = 64 * 1024;
const FRAMES: u32 = 36;
const RECEIVED: usize = 4;
const SEGMENT_HEAD_BYTES: usize = 16;
const FRAME_HEAD_BYTES: usize = 32;
const ACKNOWLEDGED: &str = "acknowledged";

/// What was received: the receipt and the body.
type Given = Vec<(u64, Bytes)>;

/// A frame of the queue before the damage.
struct Known {
    file: String,
    end: usize,
    receipt: u64,
    body: Vec<u8>,
}

/// A queue that some frames were appended to, and the first few of them acknowledged.
struct Base {
    files: BTreeMap<String, Vec<u8>>,
    frames: Vec<Known>,
    acknowledged: u64,
}

/// What a row of damages did.
#[derive(Default)]
struct Damage {
    /// By file, the first byte that is not what it was.
    from: BTreeMap<String, usize>,
    is_renamed: bool,
}

static BASE: LazyLock<Base> = LazyLock::new(Base::make);
static DIRECTORY: LazyLock<TempDir> = LazyLock::new(directory);
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().unwrap());

/// In memory where that can be had: nothing here asks what survives a power cut.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open_at(path: &Path) -> Result<(EmbeddedQueue, Appender), OpenError> {
    let (mut queue, appender, _) =
        open(&EmbeddedSettings { directory: path.to_owned(), size_max: SIZE_MAX })?;
    queue.until_empty(true);
    Ok((queue, appender))
}

fn reopen(path: &Path) -> (EmbeddedQueue, Appender) {
    open_at(path).expect("it has been opened before")
}

fn frame(number: u32) -> Pushed {
    let defaults =
        EventDefaults { app_group_id: (number % 3 == 0).then(|| "group".into()), ..EventDefaults::default() };
    // Every body has the bytes of a frame's magic in it, to lead a search astray.
    let mut body = [b"\xFFBQ\xFE", &number.to_le_bytes()[..]].concat();
    body.resize(16 + number as usize * 97 % 1500, number as u8);
    Pushed {
        events: 1 + number % 7,
        defaults: Arc::new(defaults),
        body: body.into(),
        is_extract: number % 2 == 0,
    }
}

fn drain(queue: &mut EmbeddedQueue) -> Given {
    let mut given = Given::new();
    while let Some(delivery) = RUNTIME.block_on(queue.receive()).expect("the disk can be read") {
        given.push((delivery.receipt.0, delivery.body));
    }
    given
}

impl Base {
    fn make() -> Self {
        let directory = directory();
        let (mut queue, appender) = open_at(directory.path()).unwrap();
        for number in 0..FRAMES {
            RUNTIME.block_on(appender.append(frame(number).into())).unwrap();
        }
        let given = drain(&mut queue);
        let acknowledged = given[RECEIVED].0;
        RUNTIME.block_on(queue.acknowledge(Receipt(acknowledged))).unwrap();
        drop((queue, appender));
        let files: BTreeMap<_, _> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .filter(|(name, _)| name != "lock")
            .collect();
        let segments = files.iter().filter(|(name, _)| *name != ACKNOWLEDGED);
        let frames: Vec<Known> = segments.flat_map(|(name, bytes)| frames_of(name, bytes)).collect();
        assert!(files.len() > 3 && frames.len() > 10, "{} files, {} frames", files.len(), frames.len());
        Self { files, frames, acknowledged }
    }
}

/// The frames of a segment, as `crates/segment-log/src/frame.rs` describes them.
fn frames_of(file: &str, bytes: &[u8]) -> Vec<Known> {
    let number = |at: usize, bytes_long: usize| {
        let mut number = [0; 8];
        number[..bytes_long].copy_from_slice(&bytes[at..at + bytes_long]);
        u64::from_le_bytes(number)
    };
    let (mut frames, mut at) = (Vec::new(), SEGMENT_HEAD_BYTES);
    while at < bytes.len() {
        let body = at + FRAME_HEAD_BYTES + number(at + 12, 3) as usize;
        let end = body + number(at + 16, 4) as usize;
        let receipt = number(at + 24, 8) + number(at + 20, 4) - 1;
        frames.push(Known { file: file.to_owned(), end, receipt, body: bytes[body..end].to_vec() });
        at = end;
    }
    frames
}

/// Reads an input from its beginning; behind its end everything is 0.
struct Choices<'i>(&'i [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> usize {
        self.0.split_off_first().copied().unwrap_or_default().into()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.byte() | self.byte() << 8) % limit.max(1)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.0.split_off(..count.min(self.0.len())).unwrap_or_default().to_vec()
    }
}

impl Damage {
    /// Does one thing to one file.
    fn apply(&mut self, files: &mut BTreeMap<String, Vec<u8>>, choices: &mut Choices<'_>) {
        let (kind, file) = (choices.byte() % 9, choices.byte());
        let Some(name) = files.keys().nth(file % files.len().max(1)).cloned() else { return };
        let bytes = files.get_mut(&name).expect("it is one of them");
        let at = choices.below(bytes.len() + 1);
        let mut from = at;
        match kind {
            0 if at < bytes.len() => bytes[at] ^= 1 | choices.byte() as u8,
            1 | 3 => {
                let count = choices.byte();
                let with = choices.bytes(count);
                let end = if kind == 1 { (at + with.len()).min(bytes.len()) } else { at };
                bytes.splice(at..end, with);
            }
            2 => bytes.truncate(at),
            4 => drop(bytes.drain(at..(at + 1 + choices.byte() * 8).min(bytes.len()))),
            5 => {
                let end = (at + 1 + choices.below(4096)).min(bytes.len());
                let copy = bytes[at.min(end)..end].to_vec();
                return self.paste(files, &copy, choices);
            }
            6 => {
                from = 0;
                files.remove(&name);
            }
            7 => {
                from = 0;
                *bytes = choices.bytes(usize::MAX);
            }
            8 if name != ACKNOWLEDGED => {
                self.is_renamed = true;
                let number = choices.bytes(8).iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                let bytes = files.remove(&name).expect("it is one of them");
                files.insert(format!("{number:020}.log"), bytes);
            }
            _ => return,
        }
        self.note(name, from);
    }

    /// Bytes of one place turn up at another.
    fn paste(&mut self, files: &mut BTreeMap<String, Vec<u8>>, copy: &[u8], choices: &mut Choices<'_>) {
        let file = choices.byte();
        let Some(name) = files.keys().nth(file % files.len()).cloned() else { return };
        let bytes = files.get_mut(&name).expect("it is one of them");
        let at = choices.below(bytes.len() + 1);
        let end = (at + copy.len()).min(bytes.len());
        bytes.splice(at..end, copy.iter().copied());
        self.note(name, at);
    }

    fn note(&mut self, file: String, at: usize) {
        self.from.entry(file).and_modify(|from| *from = at.min(*from)).or_insert(at);
    }

    fn is_whole(&self, frame: &Known) -> bool {
        self.from.get(&frame.file).is_none_or(|from| frame.end <= *from)
    }
}

fn write(path: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(path).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).unwrap();
    }
}

fuzz_target!(|input: &[u8]| {
    let (mut files, mut damage, mut choices) = (BASE.files.clone(), Damage::default(), Choices(input));
    while !choices.0.is_empty() {
        damage.apply(&mut files, &mut choices);
    }
    let path = DIRECTORY.path();
    write(path, &files);
    let (mut queue, appender) = match open_at(path) {
        Ok(opened) => opened,
        // Damage may look like a newer format, if it is where the format is said.
        Err(OpenError::Format { path, .. }) => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            let from = damage.from.get(name).copied();
            let said = if name == ACKNOWLEDGED { usize::MAX } else { SEGMENT_HEAD_BYTES };
            assert!(from.is_some_and(|from| from < said) || damage.is_renamed, "{name} is not damaged there");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let given = drain(&mut queue);
    assert_given(&given, &damage);
    drop((queue, appender));

    let (mut queue, appender) = reopen(path);
    assert!(drain(&mut queue) == given, "what was there is not there any more");
    goes_on(path, queue, appender, given, &damage);
});

/// What is given once is in order, is what it was, and lacks nothing that lies before the damage.
fn assert_given(given: &Given, damage: &Damage) {
    assert!(given.is_sorted_by_key(|(receipt, _)| *receipt));
    assert!(given.windows(2).all(|pair| pair[0].0 < pair[1].0), "given twice");
    let is_known = !damage.from.contains_key(ACKNOWLEDGED);
    for (receipt, body) in given {
        assert!(!is_known || *receipt > BASE.acknowledged, "{receipt} was acknowledged");
        if let Some(frame) = BASE.frames.iter().find(|frame| frame.receipt == *receipt) {
            assert!(body == &frame.body, "another body with the number {receipt}");
        }
    }
    let mut expected = BASE.frames.iter().filter(|frame| frame.receipt > BASE.acknowledged);
    let lost = expected.find(|frame| {
        damage.is_whole(frame) && given.binary_search_by_key(&frame.receipt, |(receipt, _)| *receipt).is_err()
    });
    assert!(lost.is_none() || damage.is_renamed, "{} is lost", lost.map_or(0, |frame| frame.receipt));
}

/// What is appended then gets a number of its own, and what is acknowledged does not come back.
fn goes_on(path: &Path, mut queue: EmbeddedQueue, appender: Appender, mut given: Given, damage: &Damage) {
    let appended = frame(FRAMES);
    let last = given.last().map(|(receipt, _)| *receipt);
    match RUNTIME.block_on(appender.append(appended.clone().into())) {
        Ok(()) => {
            let new = drain(&mut queue);
            assert!(new.len() == 1 && new[0].1 == appended.body, "what was appended does not come out");
            assert!(Some(new[0].0) > last, "{} is not a new number", new[0].0);
            let promised = BASE.frames.last().map(|frame| frame.receipt);
            assert!(damage.from.contains_key(ACKNOWLEDGED) || Some(new[0].0) > promised);
            given.extend(new);
        }
        Err(AppendError::Full) => {}
        Err(error) => panic!("{error}"),
    }
    let Some(middle) = given.len().checked_sub(1).map(|last| last / 2) else { return };
    RUNTIME.block_on(queue.acknowledge(Receipt(given[middle].0))).expect("the disk can be written");
    drop((queue, appender));
    let (mut queue, _appender) = reopen(path);
    assert!(drain(&mut queue) == given[middle + 1..], "acknowledged events come back, or others are gone");
}
