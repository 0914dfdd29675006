//! Turns the content of a file or an object into bodies of whole events: unpacks it, detects its layout, cuts it. The same for
//! every source.
//!
//! Content is NDJSON, a JSON array, an envelope (`{"events":[…]}`) or several of these one after the other, or Avro object
//! containers, any of it compressed with gzip, bzip2, xz or zstandard. The content alone tells which, never the name
//! (`detect`). NDJSON is cut at newlines without looking at the events (`lines`); a document is cut into its elements, one a
//! line (`elements`); a container is expanded block by block (`blocks`). So a broken event harms no other, or none beyond
//! its block.

mod blocks;
mod buffer_pool;
mod detect;
mod elements;
mod formats;
mod input;
mod json;
mod lines;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Framing;

pub(crate) use self::buffer_pool::BufferPool;
pub(crate) use self::detect::{FileLayout, was_misread};
pub(crate) use self::input::{Input, Reader};

use self::blocks::Blocks;
use self::detect::detect;
use self::elements::ElementSplitter;
use self::lines::{Flow, Lines};

/// The bounds of reading. They are constants; tests make them small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    /// The approximate size of a delivery's body: large enough that the cost per delivery does not show (a fingerprint, two
    /// channels), small enough to stay in a core's cache until it is decoded.
    pub(crate) chunk_bytes: usize,
    /// A line or an element that is longer is not held but counted as oversized. A Braze event is at most
    /// 900 KB; an envelope of one line may hold several.
    pub(crate) event_bytes_max: usize,
    /// How many bytes the detection looks at. No event is as long, so a longer first line that starts like JSON can only be
    /// a document.
    pub(crate) look_ahead_bytes: usize,
}

pub(crate) const READ_LIMITS: ReadLimits =
    ReadLimits { chunk_bytes: 512 * 1024, event_bytes_max: 16 * 1024 * 1024, look_ahead_bytes: 1024 * 1024 };

/// Some whole events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) body: Bytes,
    pub(crate) framing: Framing,
    /// How many lines or elements before the end of `body` were too long to be held.
    pub(crate) oversized: u32,
    /// The position in the content that comes after these events.
    pub(crate) position: u64,
    /// The position of the Avro container that goes on at `position`; 0 for other layouts.
    pub(crate) container: u64,
}

impl Cut {
    /// Whole lines with their newlines; the last of a file may lack its own.
    pub(crate) fn lines(body: Bytes, oversized: u32, position: u64) -> Self {
        Self { body, framing: Framing::Lines, oversized, position, container: 0 }
    }
}

/// Where reading goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReadPlace {
    /// How the content was read: detected once, so that content that grows is not read another way.
    pub(crate) layout: FileLayout,
    /// The position in the uncompressed content.
    pub(crate) position: u64,
    /// The position of the Avro container in force at `position`; 0: the first one, or another layout.
    pub(crate) container: u64,
}

/// Why reading stops before the end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The receiver is gone.
    Closed,
    /// The content can't be read on: behind this position, or `None`: behind the bytes read so far.
    Failed(Option<u64>, io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(None, error)
    }
}

/// Takes a cut, and the content, for the caller's bookkeeping.
pub(crate) type Take<'a> = dyn FnMut(Cut, &mut Content) -> Result<(), Stop> + 'a;

/// The content of one file or object that is being read.
pub(crate) struct Content {
    pub(crate) input: Input,
    pub(crate) layout: FileLayout,
    /// The position of the Avro container that is being read.
    pub(crate) container: u64,
    /// The path for messages.
    path: PathBuf,
    /// The file, to seek in without reading.
    file: Option<Arc<File>>,
    start: Option<ReadPlace>,
    flow: Flow,
}

impl Content {
    /// Begins to read at the first byte. A document is always read from its beginning, but nothing before `start` is handed
    /// out. With a `file`, bytes that need not be read are skipped.
    ///
    /// # Errors
    /// When the first bytes can't be read, are damaged, or are of a format that is not read.
    pub(crate) fn open(
        reader: Reader,
        path: PathBuf,
        file: Option<Arc<File>>,
        start: Option<ReadPlace>,
        limits: ReadLimits,
    ) -> io::Result<Self> {
        let mut input = Input::new(reader)?;
        let layout = match &start {
            Some(start) => {
                if start.layout == FileLayout::Lines {
                    input.skip_to(start.position, file.as_deref())?;
                }
                start.layout
            }
            None if input.is_avro() => FileLayout::Avro,
            None => detect(&mut input, limits.look_ahead_bytes),
        };
        Ok(Self { input, layout, container: 0, path, file, start, flow: Flow::Growing })
    }

    /// Hands out the bytes at hand instead of waiting for more.
    pub(crate) fn eager(self) -> Self {
        Self { flow: Flow::Slow, ..self }
    }

    /// Hands over everything, in order.
    ///
    /// # Errors
    /// When the content can't be read to its end; what comes before has been handed over then.
    pub(crate) fn read(
        &mut self,
        pool: &BufferPool,
        limits: ReadLimits,
        take: &mut Take<'_>,
    ) -> Result<(), Stop> {
        let read = match self.layout {
            FileLayout::Lines => self.lines(pool, limits, take),
            FileLayout::Document => self.document(limits, take),
            FileLayout::Avro => self.blocks(limits, take),
        };
        read.map_err(|stop| match stop {
            Stop::Failed(position, error) => Stop::Failed(position.or(Some(self.input.position())), error),
            Stop::Closed => stop,
        })?;
        if let Some(format) = self.input.left_out_behind() {
            let format = format.name();
            tracing::warn!(
                file = %self.path.display(),
                "bytes that are no {format} follow the compressed content; they are left out, as gunzip does"
            );
        }
        Ok(())
    }

    fn lines(&mut self, pool: &BufferPool, limits: ReadLimits, take: &mut Take<'_>) -> Result<(), Stop> {
        let mut lines = Lines::new(pool, limits.event_bytes_max, self.flow, &self.input);
        while let Some(cut) = lines.next(&mut self.input)? {
            take(cut, self)?;
        }
        Ok(())
    }

    fn blocks(&mut self, limits: ReadLimits, take: &mut Take<'_>) -> Result<(), Stop> {
        let file = self.file.clone();
        if let Some(start) = self.start
            && start.container > 0
        {
            self.input.skip_to(start.container, file.as_deref())?;
        }
        let mut blocks = Blocks::open(&mut self.input, self.path.clone(), self.flow)?;
        if let Some(start) = self.start {
            blocks.skip_to(start.position, &mut self.input, file.as_deref())?;
        }
        loop {
            let next = blocks.next(&mut self.input, limits.chunk_bytes);
            let next = next.map_err(|error| Stop::Failed(Some(blocks.position()), error))?;
            self.container = next.as_ref().map_or(blocks.container(), |cut| cut.container);
            let Some(cut) = next else { return Ok(()) };
            take(cut, self)?;
        }
    }

    fn document(&mut self, limits: ReadLimits, take: &mut Take<'_>) -> Result<(), Stop> {
        let settled = self.start.map_or(0, |start| start.position);
        let mut splitter = ElementSplitter::new(self.input.position(), settled, limits.event_bytes_max);
        let mut buffer = vec![0; limits.chunk_bytes];
        let mut is_cut_off = false;
        loop {
            let read = self.input.read(&mut buffer);
            match &read {
                Ok(0) => is_cut_off = splitter.finish_or_cut_off(),
                Ok(bytes) => splitter.push(&buffer[..*bytes]),
                Err(_) => {}
            }
            let is_due = splitter.waiting() >= limits.chunk_bytes || self.flow == Flow::Slow;
            if (is_due || matches!(read, Ok(0) | Err(_)))
                && let Some(cut) = splitter.take()
            {
                take(cut, self)?;
            }
            if read? == 0 {
                return if is_cut_off { Err(cut_off(self.flow).into()) } else { Ok(()) };
            }
        }
    }
}

/// The error of a document that ends in the middle.
fn cut_off(flow: Flow) -> io::Error {
    let text =
        format!("it ends in the middle of an array, an envelope or an event, {}", flow.cut_off_as_if());
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

/// Fails now if the content can't be read.
///
/// # Errors
/// When it is of a format that is not read, or damaged at its beginning.
pub(crate) fn check(reader: Reader, path: PathBuf) -> io::Result<()> {
    let mut input = Input::new(reader)?;
    if input.is_avro() {
        Blocks::open(&mut input, path, Flow::Growing)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) use self::input::tests::gzip;
