//! Reads Avro object containers, one or several one after the other: whole blocks, expanded, many to a body.

use std::fs::File;
use std::io;
use std::mem;
use std::path::PathBuf;

use bytes::Bytes;

use super::Cut;
use super::input::Input;
use super::lines::Flow;
use crate::{Framing, Part};
use braze_events::container::{BLOCK_BYTES_MAX, BlockReader, BlockStep, DamagedBlocks, add_part};

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;
/// How many blocks a body may hold: they may be as small as 18 bytes, and a part takes more than that.
const PARTS_MAX: usize = 4096;

/// Hands the content to a [`BlockReader`]; books damage and reports it.
#[derive(Default)]
pub(crate) struct Blocks {
    reader: BlockReader,
    /// The position of the current container in the content.
    container: u64,
    path: PathBuf,
    flow: Flow,
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    /// The position of `buffer[taken]` in the content.
    position: u64,
    times_damaged: u64,
    events_lost: u64,
    bytes_lost: u64,
    /// The error that follows the blocks before it: content that can't be read, or a container.
    broken: Option<io::Error>,
    ended: bool,
    body: Vec<u8>,
    parts: Vec<Part>,
    /// The position behind the last of the parts, and that of its container.
    position_of_parts: u64,
    container_of_parts: u64,
}

impl Blocks {
    /// Reads the header of content that nothing has been read from.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or has a codec that is not supported.
    pub(crate) fn open(input: &mut Input, path: PathBuf, flow: Flow) -> io::Result<Self> {
        let position = input.position();
        let mut blocks = Self {
            path,
            flow,
            buffer: vec![0; READ_BYTES],
            container: position,
            position,
            position_of_parts: position,
            container_of_parts: position,
            ..Self::default()
        };
        while blocks.position == position && blocks.step(input)? {}
        blocks.position_of_parts = blocks.position;
        Ok(blocks)
    }

    /// The position up to which content has been handed out, or is about to be.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The position of the container at that position.
    pub(crate) fn container(&self) -> u64 {
        self.container
    }

    /// Goes on at `position`, where a block or another container begins, of content from which only the header has been
    /// read.
    ///
    /// # Errors
    /// When the content can't be read, or ends before.
    pub(crate) fn skip_to(
        &mut self,
        position: u64,
        input: &mut Input,
        file: Option<&File>,
    ) -> io::Result<()> {
        let bytes = usize::try_from(position.saturating_sub(self.position)).unwrap_or(usize::MAX);
        if bytes <= self.filled - self.taken {
            self.advance(bytes);
        } else {
            input.skip_to(position, file)?;
            (self.taken, self.filled) = (0, 0);
            self.position = position;
        }
        self.position_of_parts = self.position;
        Ok(())
    }

    /// The next blocks, until they come to `chunk_bytes` or are many; `None` at the end.
    ///
    /// # Errors
    /// When the content can't be read on, or a container begins that can't be; every whole block before has been handed
    /// out then.
    pub(crate) fn next(&mut self, input: &mut Input, chunk_bytes: usize) -> io::Result<Option<Cut>> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        while self.body.len() < chunk_bytes && self.parts.len() < PARTS_MAX && self.step(input)? {}
        if self.parts.is_empty() {
            self.log_total();
            return Ok(None);
        }
        Ok(Some(self.cut()))
    }

    /// Takes a header, a block or some damage, or reads some more bytes. Returns whether to go on.
    fn step(&mut self, input: &mut Input) -> io::Result<bool> {
        let rest = &self.buffer[self.taken..self.filled];
        let (bytes, taken) = match self.reader.take(rest, self.ended, BLOCK_BYTES_MAX, &mut self.body) {
            Ok(taken) => taken,
            Err(refusal) => return self.stop(io::Error::new(io::ErrorKind::InvalidData, refusal)),
        };
        if let BlockStep::CutOff(_) = &taken {
            let text = format!("it ends in the middle of a block, {}", self.flow.cut_off_as_if());
            return self.stop(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let before = self.position;
        self.advance(bytes);
        match taken {
            BlockStep::Nothing => return self.fill(input),
            BlockStep::Header => self.container = before,
            BlockStep::Block(framing) => self.push(framing),
            BlockStep::Damage(damage) | BlockStep::CutOff(damage) => self.lose(&damage),
        }
        Ok(true)
    }

    fn push(&mut self, framing: Framing) {
        add_part(&mut self.parts, Part { end: self.body.len(), framing });
        self.position_of_parts = self.position;
        self.container_of_parts = self.container;
    }

    fn advance(&mut self, bytes: usize) {
        self.taken += bytes;
        self.position += bytes as u64;
    }

    /// Reads some more bytes. Returns whether to go on.
    fn fill(&mut self, input: &mut Input) -> io::Result<bool> {
        if self.ended || self.flow == Flow::Slow && !self.parts.is_empty() {
            return Ok(false);
        }
        if self.filled == self.buffer.len() {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
            if self.filled > self.buffer.len() / 2 {
                // It grows with what has been read, whatever length a block claims.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        match input.read(&mut self.buffer[self.filled..]) {
            Ok(bytes) => {
                self.filled += bytes;
                self.ended = bytes == 0;
                Ok(true)
            }
            Err(error) => self.stop(error),
        }
    }

    /// Once the blocks at hand have been handed out, only this error follows.
    fn stop(&mut self, error: io::Error) -> io::Result<bool> {
        if self.parts.is_empty() {
            return Err(error);
        }
        self.broken = Some(error);
        Ok(false)
    }

    /// Hands out the collected blocks.
    fn cut(&mut self) -> Cut {
        let body = Bytes::from(mem::take(&mut self.body));
        let mut parts = mem::take(&mut self.parts);
        let framing = match (parts.pop(), parts.is_empty()) {
            (Some(only), true) => only.framing,
            (last, _) => {
                parts.extend(last);
                Framing::Parts(parts.into())
            }
        };
        let (position, container) = (self.position_of_parts, self.container_of_parts);
        Cut { body, framing, oversized: 0, position, container }
    }

    /// Books the events lost in the damage that ends here. Only the first damage of a file is reported at once.
    fn lose(&mut self, DamagedBlocks { events, bytes, problem }: &DamagedBlocks) {
        self.push(Framing::Unreadable(*events));
        self.times_damaged += 1;
        self.events_lost += events;
        self.bytes_lost += bytes;
        if self.times_damaged == 1 {
            tracing::error!(
                file = %self.path.display(),
                position = self.position - bytes,
                bytes,
                events,
                problem,
                "a block of an Avro container is damaged: its events are booked as malformed, and reading goes \
                 on with the next block; export the file again if they are needed"
            );
        }
    }

    fn log_total(&mut self) {
        let blocks = mem::take(&mut self.times_damaged);
        if blocks > 1 {
            tracing::error!(
                file = %self.path.display(),
                blocks,
                bytes = self.bytes_lost,
                events = self.events_lost,
                "an Avro container has several damaged blocks; their events are booked as malformed"
            );
        }
    }
}
