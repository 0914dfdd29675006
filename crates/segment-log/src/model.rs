//! The queue against a model: a sequence of frames, some of them lost to damage.

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::disk::Directory;
use crate::disk::fault::Faults;
use crate::{AppendError, Appender, Entry, Frame, LogReader, Opened, checkpoint, open_on};

const SIZE_MAX: u64 = 64 * 1024;

/// An action on a queue.
#[derive(Debug, Clone)]
enum Step {
    /// Appends frames of so many events and bytes at the same time.
    Append(Vec<(u32, usize)>),
    Receive(usize),
    /// Acknowledges up to one of the entries in hand.
    Acknowledge(prop::sample::Index),
    Reopen,
    Kill,
    /// A kill in the middle of a write of these bytes.
    Tear(Vec<u8>),
    /// A kill, and the disk brings old bytes back behind the end.
    Echo(usize),
    /// A byte changes on disk after an orderly end, or after a kill.
    Flip {
        file: prop::sample::Index,
        at: prop::sample::Index,
        with: u8,
        is_killed: bool,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let frames = prop::collection::vec((1u32..200, 20usize..3000), 1..8);
    let flip = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1u8.., any::<bool>());
    prop_oneof![
        6 => frames.prop_map(Step::Append),
        4 => (0usize..20).prop_map(Step::Receive),
        3 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
        1 => prop::collection::vec(any::<u8>(), 1..100).prop_map(Step::Tear),
        1 => (1usize..9000).prop_map(Step::Echo),
        2 => flip.prop_map(|(file, at, with, is_killed)| Step::Flip { file, at, with, is_killed }),
    ]
}

/// A frame that was appended and not acknowledged.
#[derive(Debug)]
struct Kept {
    id: u64,
    events: u32,
    body: Bytes,
    /// Whether damage has taken it.
    is_lost: bool,
}

struct Model {
    runtime: Runtime,
    directory: TempDir,
    queue: LogReader,
    appender: Appender,
    frames: VecDeque<Kept>,
    /// The first of `frames` that was not yet received since the queue was opened.
    position: usize,
    /// Received since then and not acknowledged: receipts and ids.
    in_hand: VecDeque<(u64, u64)>,
    ids: u64,
    acknowledged: Option<u64>,
    /// Lost events right behind the acknowledged ones, which the next opening may count once more.
    lost_at_the_edge: u64,
}

/// In memory where possible: nothing here tests a power cut.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(directory: &TempDir) -> (LogReader, Appender, Opened) {
    let faults = Faults::default();
    faults.sync_is_skipped.store(true, SeqCst);
    let disk = Directory::with_faults(directory.path(), &Arc::new(faults));
    let (mut queue, appender, opened) = open_on(disk, SIZE_MAX).unwrap();
    queue.until_empty(true);
    (queue, appender, opened)
}

fn body(id: u64, bytes: usize) -> Bytes {
    // Every body has the bytes of a magic in it, to lead a search astray.
    let mut body = format!("{id:>20}").into_bytes();
    body.extend_from_slice(b"\xFFBQ\xFE");
    body.resize(bytes.max(24), u8::try_from(id % 256).unwrap());
    body.into()
}

fn id_of(entry: &Entry) -> u64 {
    str::from_utf8(&entry.body[..20]).unwrap().trim().parse().unwrap()
}

impl Model {
    fn new() -> Model {
        let directory = self::directory();
        let (queue, appender, opened) = open(&directory);
        assert_eq!(opened, Opened::default());
        Model {
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            directory,
            queue,
            appender,
            frames: VecDeque::new(),
            position: 0,
            in_hand: VecDeque::new(),
            ids: 0,
            acknowledged: None,
            lost_at_the_edge: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Append(frames) => self.append(&frames),
            Step::Receive(count) => {
                for _ in 0..count {
                    let Some(entry) = self.receive() else { break };
                    let taken = self.take(&entry);
                    assert!(self.frames.range(taken.clone()).all(|frame| frame.is_lost), "skipped {taken:?}");
                }
            }
            Step::Acknowledge(index) => self.acknowledge(index),
            Step::Reopen => {
                let opened = self.reopen(false, |_| ());
                assert_eq!((opened.torn_bytes, opened.is_acknowledgement_lost), (0, false));
                self.survey(&opened, false);
            }
            Step::Kill => {
                let opened = self.reopen(true, |_| ());
                self.survey(&opened, false);
            }
            Step::Tear(bytes) => self.tear(|_| bytes),
            Step::Echo(count) => self.tear(|content| content[content.len().saturating_sub(count)..].to_vec()),
            Step::Flip { file, at, with, is_killed } => {
                let opened = self.reopen(is_killed, |files| flip(file.get(files), at, with));
                self.survey(&opened, true);
            }
        }
        assert!(self.appender.size() <= SIZE_MAX);
    }

    fn append(&mut self, frames: &[(u32, usize)]) {
        let (runtime, appender, ids) = (&self.runtime, &self.appender, &mut self.ids);
        let mut kept = Vec::new();
        runtime.block_on(async {
            let mut waiting = Vec::new();
            for (events, bytes) in frames {
                *ids += 1;
                let body = body(*ids, *bytes);
                let header = Bytes::from((*ids % 3).to_string());
                kept.push(Kept { id: *ids, events: *events, body: body.clone(), is_lost: false });
                let frame = Frame { events: *events, kind: 1, header, body };
                waiting.push(Box::pin(appender.append(frame)));
            }
            for (append, kept) in waiting.iter_mut().zip(kept) {
                match append.await {
                    Ok(()) => self.frames.push_back(kept),
                    Err(error) => assert_eq!(error, AppendError::Full),
                }
            }
        });
    }

    fn receive(&mut self) -> Option<Entry> {
        self.runtime.block_on(self.queue.next()).unwrap()
    }

    /// Checks an entry and returns which frames it went past.
    fn take(&mut self, entry: &Entry) -> std::ops::Range<usize> {
        let id = id_of(entry);
        let skipped = self.frames.range(self.position..).position(|frame| frame.id == id);
        let at = self.position + skipped.unwrap_or_else(|| panic!("{id} is acknowledged, or given twice"));
        assert_eq!(self.frames[at].body, entry.body);
        assert_eq!((entry.kind, &entry.header), (1, &Bytes::from((id % 3).to_string())));
        assert!(Some(entry.last()) > self.acknowledged, "the numbers went back");
        assert!(self.in_hand.back().is_none_or(|(receipt, _)| *receipt < entry.last()));
        assert!(!self.frames[at].is_lost, "{id} came back");
        self.in_hand.push_back((entry.last(), id));
        let taken = self.position..at;
        self.position = at + 1;
        taken
    }

    fn acknowledge(&mut self, index: prop::sample::Index) {
        if self.in_hand.is_empty() {
            return;
        }
        let (receipt, id) = self.in_hand[index.index(self.in_hand.len())];
        self.runtime.block_on(self.queue.acknowledge(receipt)).unwrap();
        self.acknowledged = Some(receipt);
        self.in_hand.retain(|(other, _)| *other > receipt);
        let count = 1 + self.frames.iter().position(|frame| frame.id == id).unwrap();
        self.frames.drain(..count);
        self.position -= count;
        self.lost_at_the_edge = 0;
        self.forget_the_edge();
    }

    /// Losses right behind the acknowledgement go with it, at once or when the queue finds them.
    fn forget_the_edge(&mut self) {
        while let Some(lost) = self.frames.pop_front_if(|frame| frame.is_lost) {
            self.lost_at_the_edge += u64::from(lost.events);
            self.position = self.position.saturating_sub(1);
        }
    }

    /// Closes or kills the queue, does something to its files (segments in order, then the acknowledgement),
    /// and opens it again.
    fn reopen(&mut self, is_killed: bool, change: impl FnOnce(&[PathBuf])) -> Opened {
        // Until nothing more comes.
        while self.receive().is_some() {}
        let copy = directory();
        if is_killed {
            for entry in fs::read_dir(&self.directory).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        let (queue, appender, _) = open(&directory());
        (self.queue, self.appender) = (queue, appender);
        if is_killed {
            self.directory = copy;
        }
        let mut files: Vec<_> =
            fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        files.sort();
        files.push(self.directory.path().join(checkpoint::NAME));
        change(&files);
        let opened;
        (self.queue, self.appender, opened) = open(&self.directory);
        self.position = 0;
        self.in_hand.clear();
        opened
    }

    fn tear(&mut self, tail: impl FnOnce(&[u8]) -> Vec<u8>) {
        let mut torn = 0;
        let opened = self.reopen(true, |files| {
            let file = &files[files.len() - 2];
            let content = fs::read(file).unwrap();
            let tail = tail(&content);
            torn = tail.len() as u64;
            fs::write(file, [content, tail].concat()).unwrap();
        });
        // Known damage at the end comes before torn bytes.
        assert!(opened.torn_bytes == torn || self.frames.iter().any(|frame| frame.is_lost));
        self.survey(&opened, false);
    }

    /// Receives everything, determines the losses, and compares the books.
    fn survey(&mut self, opened: &Opened, is_damaged: bool) {
        let mut skipped = Vec::new();
        while let Some(entry) = self.receive() {
            skipped.extend(self.take(&entry));
        }
        let end = self.position;
        // Even after a kill, damage at the very end is told from a write that was cut short.
        assert!(!is_damaged || opened.torn_bytes == 0, "{opened:?}");
        skipped.extend(end..self.frames.len());
        for at in skipped {
            assert!(is_damaged || self.frames[at].is_lost, "frame {} is missing", self.frames[at].id);
            self.frames[at].is_lost = true;
        }
        let events = |is_lost: bool| -> u64 {
            self.frames
                .iter()
                .filter(|frame| frame.is_lost == is_lost)
                .map(|frame| u64::from(frame.events))
                .sum()
        };
        let lost = self.appender.lost();
        assert!(
            (events(true)..=events(true) + self.lost_at_the_edge).contains(&lost),
            "{lost} are lost, not {}",
            events(true)
        );
        assert_eq!(self.appender.depth(), events(false));
        self.forget_the_edge();
    }
}

/// Changes one byte. Of the acknowledgement only first copies are hit, because that can happen many times.
fn flip(file: &PathBuf, at: prop::sample::Index, with: u8) {
    let mut bytes = fs::read(file).unwrap();
    let at = if file.ends_with(checkpoint::NAME) {
        at.index(80) / 40 * 8192 + at.index(40)
    } else {
        at.index(bytes.len())
    };
    bytes[at] ^= with;
    fs::write(file, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the queue and to its files, it opens; every frame that was answered comes out
    /// in order, once per opening, until it is acknowledged and never after; what damage took is counted
    /// event by event and costs nothing else; the numbers never go back.
    #[test]
    fn the_queue_does_what_the_model_does(steps in prop::collection::vec(steps(), 1..40)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.apply(Step::Kill);
        model.apply(Step::Reopen);
    }
}
