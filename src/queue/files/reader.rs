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
use super::content::Content;
use super::fingerprint::Fingerprinter;
use super::judge::{Layout, judge};
use super::lines::Lines;
use super::list::Kind;
use super::memory::Mark;
use super::notice::Notice;
use super::plan::{Planned, Seen, Sight, Start};
use super::pool::Pool;
use super::progress::Progress;
use super::split::{Pieces, Splitter};
use crate::queue::Framing;

/// How many bodies wait between the reader and the pipeline: one to take and one behind it. With the one that
/// is held back until it is known whether it is the last of its file, and the one being read, that makes four
/// buffers; a buffer is half a MiB, and 16 MiB only while it holds a line of that length.
const HANDED_MAX: usize = 2;

/// What the reader hands over.
#[derive(Debug)]
pub(super) enum Handed {
    Chunk(Chunk),
    /// Something about a file that is read, or is passed with this mark: what it holds has been handed over before.
    Noticed(Notice, Option<(usize, Mark)>),
    /// A file of a directory can't be read, or not to its end; the next one follows.
    LeftOut(String),
    /// A file can't be read on; nothing follows.
    Failed(String),
    /// Everything has been read; nothing follows.
    End,
}

/// Some whole events of one file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    pub(super) oversized: u32,
    /// Which of the planned files it is from.
    pub(super) file: usize,
    /// Where it ends in the content of that file.
    pub(super) end: u64,
    /// How far that file is settled when this chunk is; none for streams.
    pub(super) mark: Option<Mark>,
}

/// Why the reader stops before the end.
enum Stop {
    /// Nobody takes what it reads any more.
    Closed,
    Failed(String),
}

/// Starts reading. The thread ends with the last file, after a failure, or when the receiver is dropped. What is there
/// twice is handed over twice only if it `repeats`.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(
    files: Arc<[Planned]>,
    progress: Arc<Progress>,
    limits: Limits,
    repeats: bool,
) -> io::Result<mpsc::Receiver<Handed>> {
    let (handed, receiver) = mpsc::channel(HANDED_MAX);
    let mut outbox = Outbox { handed, held: None };
    thread::Builder::new().name("import".to_owned()).spawn(move || {
        let pool = Pool::new(limits.chunk_bytes);
        let mut seen = (!repeats).then(Seen::default);
        for (index, planned) in files.iter().enumerate() {
            match read_file(index, planned, &mut seen, &progress, limits, &pool, &mut outbox) {
                Ok(()) => progress.add_file(),
                Err(Stop::Closed) => return,
                Err(Stop::Failed(problem)) if planned.found.is_listed => {
                    if outbox.leave_out(problem).is_err() {
                        return;
                    }
                }
                Err(Stop::Failed(problem)) => return outbox.close(Handed::Failed(problem)),
            }
        }
        outbox.close(Handed::End);
    })?;
    Ok(receiver)
}

fn read_file(
    index: usize,
    planned: &Planned,
    seen: &mut Option<Seen>,
    progress: &Arc<Progress>,
    limits: Limits,
    pool: &Pool,
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    let path = &planned.found.path;
    let sight = seen.as_ref().map_or(Ok(None), |seen| seen.find(planned));
    let found = match sight.map_err(|error| fail(path, 0, &error))? {
        Some(Sight::Passed(notice, mark)) => {
            progress.add_bytes(usize::try_from(planned.bytes.unwrap_or_default()).unwrap_or(usize::MAX));
            return outbox.notice(notice, mark.map(|mark| (index, mark))).map_err(|_| Stop::Closed);
        }
        Some(Sight::From(notice, start)) => {
            outbox.notice(notice, None).map_err(|_| Stop::Closed)?;
            Some(start)
        }
        None => None,
    };
    let start = found.as_ref().or(planned.start.as_ref());
    let mut reading =
        Reading::open(index, planned, start, progress, limits).map_err(|error| fail(path, 0, &error))?;
    let read = match reading.layout {
        Layout::Lines => reading.lines(pool, limits, outbox),
        Layout::Document => reading.document(start, limits, outbox),
        Layout::Avro => reading.blocks(planned, start, limits, outbox),
    };
    let mark = read.and_then(|()| reading.finish(path, outbox)).map_err(|failure| match failure {
        Failure::Closed => Stop::Closed,
        Failure::Read(error) => fail(path, reading.content.position(), &error),
        Failure::At(position, error) => fail(path, position, &error),
    })?;
    if let (Some(seen), Some(mark)) = (seen, mark) {
        seen.add(planned, mark);
    }
    Ok(())
}

fn fail(path: &Path, position: u64, error: &io::Error) -> Stop {
    Stop::Failed(format!(
        "cannot read {} beyond byte {position} of its content: {error}; repair or replace the file and run \
         the import again, which goes on after the last settled flush",
        path.display()
    ))
}

enum Failure {
    Closed,
    /// Where the content has been read up to.
    Read(io::Error),
    /// At this position in the content.
    At(u64, io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Read(error)
    }
}

/// One file that is being read.
struct Reading {
    index: usize,
    /// None for streams, which are not remembered.
    file: Option<(Arc<File>, Fingerprinter)>,
    content: Content,
    layout: Layout,
    /// Of Avro, where the container begins that is being read.
    container: u64,
}

impl Reading {
    /// Opens a file and goes to where it is to be read from; a document is always read from its beginning.
    fn open(
        index: usize,
        planned: &Planned,
        start: Option<&Start>,
        progress: &Arc<Progress>,
        limits: Limits,
    ) -> io::Result<Self> {
        let path = &planned.found.path;
        let (reader, file): (super::content::Reader, _) = match planned.found.kind {
            Kind::StandardInput => (Box::new(io::stdin()), None),
            Kind::Stream => (Box::new(File::open(path)?), None),
            Kind::Regular { .. } => {
                let file = Arc::new(File::open(path)?);
                (Box::new(Arc::clone(&file)), Some(file))
            }
        };
        let mut content = Content::new(reader, Arc::clone(progress))?;
        let mut prints = Fingerprinter::default();
        let layout = match (start, &file) {
            (Some(start), Some(file)) => {
                prints = start.go_on(file)?;
                if start.mark.layout == Layout::Lines {
                    content.skip_to(start.mark.position, file)?;
                }
                start.mark.layout
            }
            _ if content.is_avro() => Layout::Avro,
            _ => judge(&mut content, limits.look_ahead_bytes),
        };
        let file = file.map(|file| (file, prints));
        Ok(Self { index, file, content, layout, container: 0 })
    }

    fn is_stream(&self) -> bool {
        self.file.is_none()
    }

    fn lines(&mut self, pool: &Pool, limits: Limits, outbox: &mut Outbox) -> Result<(), Failure> {
        let mut lines = Lines::new(pool, limits.event_bytes_max, self.is_stream(), &self.content);
        while let Some(cut) = lines.next(&mut self.content)? {
            self.hand_over(cut.body, Framing::Lines, cut.oversized, cut.position, outbox)?;
        }
        Ok(())
    }

    fn blocks(
        &mut self,
        planned: &Planned,
        start: Option<&Start>,
        limits: Limits,
        outbox: &mut Outbox,
    ) -> Result<(), Failure> {
        let (path, eager) = (planned.found.path.clone(), self.is_stream());
        let start = start.zip(self.file.as_ref().map(|(file, _)| Arc::clone(file)));
        if let Some((start, file)) = &start
            && start.mark.container > 0
        {
            self.content.skip_to(start.mark.container, file)?;
        }
        let mut blocks = Blocks::open(&mut self.content, path, eager)?;
        if let Some((start, file)) = &start {
            blocks.skip_to(start.mark.position, &mut self.content, file)?;
        }
        loop {
            let next = blocks.next(&mut self.content, limits.chunk_bytes);
            let Some(run) = next.map_err(|error| Failure::At(blocks.position(), error))? else { break };
            self.container = run.container;
            self.hand_over(run.body, run.framing, 0, run.position, outbox)?;
        }
        self.container = blocks.container();
        Ok(())
    }

    fn document(
        &mut self,
        start: Option<&Start>,
        limits: Limits,
        outbox: &mut Outbox,
    ) -> Result<(), Failure> {
        let settled = start.map_or(0, |start| start.mark.position);
        let mut splitter = Splitter::new(self.content.position(), settled, limits.event_bytes_max);
        let mut buffer = vec![0; limits.chunk_bytes];
        loop {
            let read = self.content.read(&mut buffer);
            if let Ok(bytes) = read {
                splitter.push(&buffer[..bytes]);
            }
            let ended = matches!(read, Ok(0));
            if ended {
                splitter.finish();
            }
            let is_due = splitter.waiting() >= limits.chunk_bytes || self.is_stream();
            if (ended || read.is_err() || is_due)
                && let Some(Pieces { body, oversized, position }) = splitter.take()
            {
                self.hand_over(body.into(), Framing::Lines, oversized, position, outbox)?;
            }
            if ended || read? == 0 {
                return Ok(());
            }
        }
    }

    fn hand_over(
        &mut self,
        body: Bytes,
        framing: Framing,
        oversized: u32,
        position: u64,
        outbox: &mut Outbox,
    ) -> Result<(), Failure> {
        let mark = self.mark(position, &body, false)?;
        outbox.put(Chunk { body, framing, oversized, file: self.index, end: position, mark })
    }

    /// The end of the file belongs to its last chunk: when that is settled, all of the file is, and this mark says so.
    fn finish(&mut self, path: &Path, outbox: &mut Outbox) -> Result<Option<Mark>, Failure> {
        if let Some(format) = self.content.left_out_behind() {
            let format = format.name();
            tracing::warn!(
                file = %path.display(),
                "bytes that are no {format} follow the compressed content; they are left out, as gunzip does"
            );
        }
        let mut mark = None;
        if let Some(chunk) = &mut outbox.held {
            mark = self.mark(self.content.position(), &[], true)?;
            chunk.mark.clone_from(&mark);
        }
        outbox.put_held()?;
        Ok(mark)
    }

    fn mark(&mut self, position: u64, body: &[u8], finished: bool) -> io::Result<Option<Mark>> {
        let Some((file, prints)) = &mut self.file else { return Ok(None) };
        // Only an uncompressed body of lines stands in the file as it is.
        let is_verbatim = self.layout == Layout::Lines && !self.content.is_compressed();
        let tail = if is_verbatim { body } else { &[] };
        let fingerprint = prints.take(file, self.content.file_position(position), tail)?;
        Ok(Some(Mark { layout: self.layout, position, finished, container: self.container, fingerprint }))
    }
}

/// The way to the queue. A chunk of a file that is remembered waits until the next one, or the end of its
/// file, is known.
struct Outbox {
    handed: mpsc::Sender<Handed>,
    held: Option<Chunk>,
}

impl Outbox {
    fn put(&mut self, chunk: Chunk) -> Result<(), Failure> {
        self.put_held()?;
        if chunk.mark.is_some() {
            self.held = Some(chunk);
            return Ok(());
        }
        self.send(chunk)
    }

    fn put_held(&mut self) -> Result<(), Failure> {
        self.held.take().map_or(Ok(()), |chunk| self.send(chunk))
    }

    fn send(&self, chunk: Chunk) -> Result<(), Failure> {
        self.handed.blocking_send(Handed::Chunk(chunk)).map_err(|_| Failure::Closed)
    }

    /// Says something about the file that comes next, after what came of the one before.
    fn notice(&mut self, notice: Notice, passed: Option<(usize, Mark)>) -> Result<(), Failure> {
        self.put_held()?;
        self.handed.blocking_send(Handed::Noticed(notice, passed)).map_err(|_| Failure::Closed)
    }

    /// Says that a file is not read on, after what came of it.
    fn leave_out(&mut self, problem: String) -> Result<(), Failure> {
        self.put_held()?;
        self.handed.blocking_send(Handed::LeftOut(problem)).map_err(|_| Failure::Closed)
    }

    /// Says the last word, after what is still held. It does not matter if nobody listens any more.
    fn close(mut self, last: Handed) {
        if self.put_held().is_ok() {
            drop(self.handed.blocking_send(last));
        }
    }
}
