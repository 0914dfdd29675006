//! The thread that reads the files one after the other and hands over bodies of whole events.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Limits;
use super::blocks::Blocks;
use super::buffer_pool::BufferPool;
use super::detect::{FileLayout, detect};
use super::elements::ElementSplitter;
use super::fingerprint::Fingerprinter;
use super::import_progress::ImportProgress;
use super::import_state::Mark;
use super::input::Input;
use super::lines::Lines;
use super::list::FileKind;
use super::plan::{Planned, Seen, Sight, Start};
use super::report::FileReport;
use crate::Framing;

/// How many bodies wait between the reader and the pipeline: one to take and one behind it. With the one that
/// is held back until it is known whether it is the last of its file, and the one being read, that makes four
/// buffers; a buffer is half a MiB, and 16 MiB only while it holds a line of that length.
const HANDED_MAX: usize = 2;

/// What the reader hands over.
#[derive(Debug)]
pub(super) enum ReaderOutput {
    Chunk(Chunk),
    /// Something about a file that is read, or is passed with this mark: what it holds has been handed over before.
    Reported(FileReport, Option<(usize, Mark)>),
    /// A file of a directory can't be read, or not to its end; the next one follows.
    LeftOut(String),
    /// A file can't be read on; nothing follows.
    Failed(String),
    /// Everything has been read; nothing follows.
    End,
}

/// Some whole events of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    /// How many lines or elements before the end of `body` were too long to be held.
    pub(super) oversized: u32,
    /// The position in the content that comes after these events.
    pub(super) position: u64,
    /// Of Avro, where the container begins that goes on there.
    pub(super) container: u64,
}

impl Cut {
    /// Whole lines with their newlines; the last of a file may lack its own.
    pub(super) fn lines(body: Bytes, oversized: u32, position: u64) -> Self {
        Self { body, framing: Framing::Lines, oversized, position, container: 0 }
    }
}

/// Some whole events of one of the planned files.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) cut: Cut,
    /// Which file it is.
    pub(super) file: usize,
    /// How far that file is settled when this chunk is; none for streams.
    pub(super) mark: Option<Mark>,
}

/// Why the reader stops before the end of a file.
enum Stop {
    /// Nobody takes what it reads any more.
    Closed,
    /// The content can't be read on: behind this position, or else behind what has been read of it.
    Failed(Option<u64>, io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(None, error)
    }
}

/// Starts reading. The thread ends with the last file, after a failure, or when the receiver is dropped. What is there
/// twice is handed over twice only if it `repeats`.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(
    files: Arc<[Planned]>,
    progress: Arc<ImportProgress>,
    limits: Limits,
    repeats: bool,
) -> io::Result<mpsc::Receiver<ReaderOutput>> {
    let (handed, receiver) = mpsc::channel(HANDED_MAX);
    let mut outbox = Outbox { handed, held: None };
    thread::Builder::new().name("import".to_owned()).spawn(move || {
        let pool = BufferPool::new(limits.chunk_bytes);
        let mut seen = (!repeats).then(Seen::default);
        for (index, planned) in files.iter().enumerate() {
            let problem = match read_file(index, planned, &mut seen, &progress, limits, &pool, &mut outbox) {
                Ok(()) => {
                    progress.add_file();
                    continue;
                }
                Err(Stop::Closed) => return,
                Err(Stop::Failed(position, error)) => format!(
                    "cannot read {} beyond byte {} of its content: {error}; repair or replace the file and run the \
                     import again, which goes on after the last settled flush",
                    planned.found.path.display(),
                    position.unwrap_or_default()
                ),
            };
            if !planned.found.is_listed {
                return outbox.close(ReaderOutput::Failed(problem));
            }
            if outbox.say(ReaderOutput::LeftOut(problem)).is_err() {
                return;
            }
        }
        outbox.close(ReaderOutput::End);
    })?;
    Ok(receiver)
}

fn read_file(
    index: usize,
    planned: &Planned,
    seen: &mut Option<Seen>,
    progress: &Arc<ImportProgress>,
    limits: Limits,
    pool: &BufferPool,
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    let sight = seen.as_ref().map_or(Ok(None), |seen| seen.find(planned))?;
    let found = match sight {
        Some(Sight::Passed(report, mark)) => {
            progress.add_bytes(usize::try_from(planned.bytes.unwrap_or_default()).unwrap_or(usize::MAX));
            return outbox.say(ReaderOutput::Reported(report, mark.map(|mark| (index, mark))));
        }
        Some(Sight::From(report, start)) => {
            outbox.say(ReaderOutput::Reported(report, None))?;
            Some(start)
        }
        None => None,
    };
    let start = found.as_ref().or(planned.start.as_ref());
    let mut reading = Reading::open(index, planned, start, progress, limits)?;
    let read = match reading.layout {
        FileLayout::Lines => reading.lines(pool, limits, outbox),
        FileLayout::Document => reading.document(start, limits, outbox),
        FileLayout::Avro => reading.blocks(planned, start, limits, outbox),
    };
    let mark =
        read.and_then(|()| reading.finish(&planned.found.path, outbox)).map_err(|stop| match stop {
            Stop::Failed(position, error) => Stop::Failed(position.or(Some(reading.input.position())), error),
            Stop::Closed => stop,
        })?;
    if let (Some(seen), Some(mark)) = (seen, mark) {
        seen.add(planned, mark);
    }
    Ok(())
}

/// One file that is being read.
struct Reading {
    index: usize,
    /// None for streams, which are not remembered.
    file: Option<(Arc<File>, Fingerprinter)>,
    input: Input,
    layout: FileLayout,
    /// Of Avro, where the container begins that is being read.
    container: u64,
}

impl Reading {
    /// Opens a file and goes to where it is to be read from; a document is always read from its beginning.
    fn open(
        index: usize,
        planned: &Planned,
        start: Option<&Start>,
        progress: &Arc<ImportProgress>,
        limits: Limits,
    ) -> io::Result<Self> {
        let path = &planned.found.path;
        let (reader, file): (super::input::Reader, _) = match planned.found.kind {
            FileKind::StandardInput => (Box::new(io::stdin()), None),
            FileKind::Stream => (Box::new(File::open(path)?), None),
            FileKind::Regular { .. } => {
                let file = Arc::new(File::open(path)?);
                (Box::new(Arc::clone(&file)), Some(file))
            }
        };
        let mut input = Input::new(reader, Arc::clone(progress))?;
        let mut prints = Fingerprinter::default();
        let layout = match (start, &file) {
            (Some(start), Some(file)) => {
                prints = start.go_on(file)?;
                if start.mark.layout == FileLayout::Lines {
                    input.skip_to(start.mark.position, file)?;
                }
                start.mark.layout
            }
            _ if input.is_avro() => FileLayout::Avro,
            _ => detect(&mut input, limits.look_ahead_bytes),
        };
        let file = file.map(|file| (file, prints));
        Ok(Self { index, file, input, layout, container: 0 })
    }

    fn is_stream(&self) -> bool {
        self.file.is_none()
    }

    fn lines(&mut self, pool: &BufferPool, limits: Limits, outbox: &mut Outbox) -> Result<(), Stop> {
        let mut lines = Lines::new(pool, limits.event_bytes_max, self.is_stream(), &self.input);
        while let Some(cut) = lines.next(&mut self.input)? {
            self.hand_over(cut, outbox)?;
        }
        Ok(())
    }

    fn blocks(
        &mut self,
        planned: &Planned,
        start: Option<&Start>,
        limits: Limits,
        outbox: &mut Outbox,
    ) -> Result<(), Stop> {
        let (path, eager) = (planned.found.path.clone(), self.is_stream());
        let start = start.zip(self.file.as_ref().map(|(file, _)| Arc::clone(file)));
        if let Some((start, file)) = &start
            && start.mark.container > 0
        {
            self.input.skip_to(start.mark.container, file)?;
        }
        let mut blocks = Blocks::open(&mut self.input, path, eager)?;
        if let Some((start, file)) = &start {
            blocks.skip_to(start.mark.position, &mut self.input, file)?;
        }
        loop {
            let next = blocks.next(&mut self.input, limits.chunk_bytes);
            let next = next.map_err(|error| Stop::Failed(Some(blocks.position()), error))?;
            self.container = next.as_ref().map_or(blocks.container(), |cut| cut.container);
            let Some(cut) = next else { return Ok(()) };
            self.hand_over(cut, outbox)?;
        }
    }

    fn document(&mut self, start: Option<&Start>, limits: Limits, outbox: &mut Outbox) -> Result<(), Stop> {
        let settled = start.map_or(0, |start| start.mark.position);
        let mut splitter = ElementSplitter::new(self.input.position(), settled, limits.event_bytes_max);
        let mut buffer = vec![0; limits.chunk_bytes];
        loop {
            let read = self.input.read(&mut buffer);
            match &read {
                Ok(0) => splitter.finish(),
                Ok(bytes) => splitter.push(&buffer[..*bytes]),
                Err(_) => {}
            }
            let is_due = splitter.waiting() >= limits.chunk_bytes || self.is_stream();
            if (is_due || matches!(read, Ok(0) | Err(_)))
                && let Some(cut) = splitter.take()
            {
                self.hand_over(cut, outbox)?;
            }
            if read? == 0 {
                return Ok(());
            }
        }
    }

    fn hand_over(&mut self, cut: Cut, outbox: &mut Outbox) -> Result<(), Stop> {
        let mark = self.mark(cut.position, &cut.body, false)?;
        outbox.put(Chunk { cut, file: self.index, mark })
    }

    /// The end of the file belongs to its last chunk: when that is settled, all of the file is, and this mark says so.
    fn finish(&mut self, path: &Path, outbox: &mut Outbox) -> Result<Option<Mark>, Stop> {
        if let Some(format) = self.input.left_out_behind() {
            let format = format.name();
            tracing::warn!(
                file = %path.display(),
                "bytes that are no {format} follow the compressed content; they are left out, as gunzip does"
            );
        }
        let mut mark = None;
        if let Some(chunk) = &mut outbox.held {
            mark = self.mark(self.input.position(), &[], true)?;
            chunk.mark.clone_from(&mark);
        }
        outbox.put_held()?;
        Ok(mark)
    }

    fn mark(&mut self, position: u64, body: &[u8], finished: bool) -> io::Result<Option<Mark>> {
        let Some((file, prints)) = &mut self.file else { return Ok(None) };
        // Only an uncompressed body of lines stands in the file as it is.
        let is_verbatim = self.layout == FileLayout::Lines && !self.input.is_compressed();
        let tail = if is_verbatim { body } else { &[] };
        let fingerprint = prints.take(file, self.input.file_position(position), tail)?;
        Ok(Some(Mark { layout: self.layout, position, finished, container: self.container, fingerprint }))
    }
}

/// The way to the queue. A chunk of a file that is remembered waits until the next one, or the end of its
/// file, is known.
struct Outbox {
    handed: mpsc::Sender<ReaderOutput>,
    held: Option<Chunk>,
}

impl Outbox {
    fn put(&mut self, chunk: Chunk) -> Result<(), Stop> {
        self.put_held()?;
        if chunk.mark.is_some() {
            self.held = Some(chunk);
            return Ok(());
        }
        self.send(chunk)
    }

    fn put_held(&mut self) -> Result<(), Stop> {
        self.held.take().map_or(Ok(()), |chunk| self.send(chunk))
    }

    fn send(&self, chunk: Chunk) -> Result<(), Stop> {
        self.handed.blocking_send(ReaderOutput::Chunk(chunk)).map_err(|_| Stop::Closed)
    }

    /// Says something about a file, after what was read before.
    fn say(&mut self, handed: ReaderOutput) -> Result<(), Stop> {
        self.put_held()?;
        self.handed.blocking_send(handed).map_err(|_| Stop::Closed)
    }

    /// Says the last word, after what is still held. It does not matter if nobody listens any more.
    fn close(mut self, last: ReaderOutput) {
        drop(self.say(last));
    }
}
