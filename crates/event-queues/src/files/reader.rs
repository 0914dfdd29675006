//! The thread that reads the files one after the other and hands over bodies of whole events.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::fingerprint::Fingerprinter;
use super::import_progress::{Booked, ImportProgress};
use super::import_state::Mark;
use super::index::FindError;
use super::list::{FileKind, ListedFile};
use super::plan::{Planned, Seen, Sight, Start};
use super::report::FileReport;
use crate::content::{BufferPool, Content, Cut, FileLayout, ReadLimits, Reader, Stop};

/// How many bodies wait between the reader and the pipeline: one to take and one behind it. With the one that is held back
/// until the next shows whether it is the last of its file, and the one being read, that makes four buffers; a buffer is
/// half a MiB, and 16 MiB only while it holds a line of that length.
const HANDED_MAX: usize = 2;

/// What the reader hands over.
#[derive(Debug)]
pub(super) enum ReaderOutput {
    Chunk(Chunk),
    /// A report on a file that is read, or is passed with this mark: all content before it has been handed over.
    Reported(FileReport, Option<(usize, Mark)>),
    /// A file of a directory can't be read, or not to its end; the next one follows.
    LeftOut(String),
    /// A file can't be read on; nothing follows.
    Failed(String),
    /// Everything has been read; nothing follows.
    End,
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

/// Starts reading. The thread ends with the last file, after a failure, or when the receiver is dropped. A copy of a file is
/// handed over again only if it `repeats`.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn start(
    files: Arc<[Planned]>,
    progress: Arc<ImportProgress>,
    limits: ReadLimits,
    repeats: bool,
) -> io::Result<mpsc::Receiver<ReaderOutput>> {
    let (handed, receiver) = mpsc::channel(HANDED_MAX);
    let mut outbox = Outbox { handed, held: None, counted: None };
    thread::Builder::new().name("import".to_owned()).spawn(move || {
        let pool = BufferPool::new(limits.chunk_bytes);
        let mut seen = (!repeats).then(Seen::new);
        for (index, planned) in files.iter().enumerate() {
            let problem = match read_file(index, planned, &mut seen, &progress, limits, &pool, &mut outbox) {
                Ok(()) => {
                    progress.add_file();
                    continue;
                }
                Err(Stop::Closed) => return,
                Err(Stop::Failed(position, error)) => format!(
                    "cannot read {} beyond byte {} of its content: {error}; {}",
                    name(&planned.found),
                    position.unwrap_or_default(),
                    advice(&planned.found.kind, position.unwrap_or_default(), outbox.counted)
                ),
            };
            if !planned.found.is_listed {
                return outbox.close(ReaderOutput::Failed(problem));
            }
            if outbox.report(ReaderOutput::LeftOut(problem)).is_err() {
                return;
            }
        }
        outbox.close(ReaderOutput::End);
    })?;
    Ok(receiver)
}

fn name(found: &ListedFile) -> String {
    match found.kind {
        FileKind::StandardInput => "standard input".to_owned(),
        FileKind::Regular { .. } | FileKind::Stream => found.path.display().to_string(),
    }
}

/// The advice for a file that can't be read beyond `position`. `counted`: how many of its first bytes on disk the events handed
/// over came from.
fn advice(kind: &FileKind, position: u64, counted: Option<u64>) -> String {
    if !matches!(kind, FileKind::Regular { .. }) {
        if position == 0 {
            return "nothing of it is counted; check what it is".to_owned();
        }
        return "what came before is counted, and counts twice where it is imported again".to_owned();
    }
    let Some(bytes) = counted else {
        return "repair or replace the file and run the import again".to_owned();
    };
    format!(
        "repair the file and run the import again: while its first {bytes} bytes on disk are the same, it goes on after the \
         last settled flush; where they are repaired, too, it is counted from its start, and what was counted of it counts \
         twice"
    )
}

fn read_file(
    index: usize,
    planned: &Planned,
    seen: &mut Option<Seen>,
    progress: &Arc<ImportProgress>,
    limits: ReadLimits,
    pool: &BufferPool,
    outbox: &mut Outbox,
) -> Result<(), Stop> {
    outbox.counted = None;
    let sight = seen.as_ref().map_or(Ok(None), |seen| seen.find(planned))?;
    let found = match sight {
        Some(Sight::Passed(report, mark)) => {
            progress.add_bytes(usize::try_from(planned.bytes.unwrap_or_default()).unwrap_or(usize::MAX));
            return outbox.report(ReaderOutput::Reported(report, mark.map(|mark| (index, mark))));
        }
        Some(Sight::From(report, start)) => {
            outbox.report(ReaderOutput::Reported(report, None))?;
            Some(start)
        }
        None => None,
    };
    let start = found.as_ref().or(planned.start.as_ref());
    outbox.counted = start.map(|start| start.mark.fingerprint.end);
    let (mut content, mut prints) = open(planned, start, progress, limits)?;
    let mut handed = None;
    let read = content.read(pool, limits, &mut |cut, content| {
        let mark = prints.mark(cut.position, &cut.body, false, content)?;
        handed.clone_from(&mark);
        outbox.put(Chunk { cut, file: index, mark })
    });
    let ended = read.and_then(|()| finish(&mut content, &mut prints, outbox));
    // Of what can't be read on, the part that was handed over is not read again in a copy.
    let mark = ended.as_ref().map_or(&handed, |finished| finished);
    if let (Some(seen), Some(mark)) = (seen, mark) {
        seen.add(planned, mark.clone())?;
    }
    ended.map(drop)
}

/// Opens a file and seeks to the start of reading.
fn open(
    planned: &Planned,
    start: Option<&Start>,
    progress: &Arc<ImportProgress>,
    limits: ReadLimits,
) -> io::Result<(Content, Prints)> {
    let path = &planned.found.path;
    let (reader, file): (Reader, _) = match planned.found.kind {
        FileKind::StandardInput => (Box::new(io::stdin()), None),
        FileKind::Stream => (Box::new(File::open(path)?), None),
        FileKind::Regular { .. } => {
            let file = Arc::new(File::open(path)?);
            (Box::new(Arc::clone(&file)), Some(file))
        }
    };
    let reader = Box::new(Booked { reader, progress: Arc::clone(progress) });
    let start = start.filter(|_| file.is_some());
    let printer = match (start, &file) {
        (Some(start), Some(file)) => start.go_on(file)?,
        _ => Fingerprinter::default(),
    };
    let place = start.map(|start| start.mark.place());
    let content = Content::open(reader, path.clone(), file.clone(), place, limits)?;
    match file {
        Some(file) => Ok((content, Prints(Some((file, printer))))),
        None => Ok((content.eager(), Prints(None))),
    }
}

impl From<FindError> for Stop {
    fn from(error: FindError) -> Self {
        match error {
            FindError::File(error) => error.into(),
            FindError::State(fault) => io::Error::other(format!("{fault:?}")).into(),
        }
    }
}

/// The fingerprints of one file while it is read; none for streams, which are not remembered.
struct Prints(Option<(Arc<File>, Fingerprinter)>);

impl Prints {
    fn mark(
        &mut self,
        position: u64,
        body: &[u8],
        finished: bool,
        content: &mut Content,
    ) -> io::Result<Option<Mark>> {
        let Some((file, printer)) = &mut self.0 else { return Ok(None) };
        let Content { layout, container, .. } = *content;
        // Only an uncompressed body of lines is a verbatim part of the file.
        let is_verbatim = layout == FileLayout::Lines && !content.input.is_compressed();
        let tail = if is_verbatim { body } else { &[] };
        // What is left out behind compressed content belongs to the finished file: that is known by all its bytes.
        let end = match content.input.left_out_behind() {
            Some(_) if finished => file.metadata()?.len(),
            _ => content.input.file_position(position),
        };
        let fingerprint = printer.take(file, end, tail)?;
        Ok(Some(Mark { layout, position, finished, container, fingerprint }))
    }
}

/// The end of the file belongs to its last chunk: when that is settled, all of the file is, and this mark says so.
fn finish(content: &mut Content, prints: &mut Prints, outbox: &mut Outbox) -> Result<Option<Mark>, Stop> {
    let mut mark = None;
    if let Some(chunk) = &mut outbox.held {
        let position = content.input.position();
        mark =
            prints.mark(position, &[], true, content).map_err(|error| Stop::Failed(Some(position), error))?;
        chunk.mark.clone_from(&mark);
    }
    outbox.put_held()?;
    Ok(mark)
}

/// The way to the queue. A chunk of a file that is remembered waits until the next one, or the end of its
/// file, is known.
struct Outbox {
    handed: mpsc::Sender<ReaderOutput>,
    held: Option<Chunk>,
    /// How many first bytes of the present file what was handed over of it was made of; none for streams.
    counted: Option<u64>,
}

impl Outbox {
    fn put(&mut self, chunk: Chunk) -> Result<(), Stop> {
        self.put_held()?;
        if let Some(mark) = &chunk.mark {
            self.counted = Some(mark.fingerprint.end);
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

    /// Hands over a report, behind the chunks read before.
    fn report(&mut self, handed: ReaderOutput) -> Result<(), Stop> {
        self.put_held()?;
        self.handed.blocking_send(handed).map_err(|_| Stop::Closed)
    }

    /// Hands over the held chunk and the last output. The receiver may be gone.
    fn close(mut self, last: ReaderOutput) {
        drop(self.report(last));
    }
}
