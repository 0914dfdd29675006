//! Reads Avro object containers, one or several one after the other: whole blocks, expanded, many to a body.

use std::fs::File;
use std::io;
use std::mem;
use std::path::PathBuf;

use bytes::Bytes;

use super::content::Content;
use crate::queue::container::{BLOCK_BYTES_MAX, Expander, Header, Piece, lost_within};
use crate::queue::{Framing, Part};

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;

/// Some whole blocks of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) body: Bytes,
    pub(super) framing: Framing,
    /// The position in the content that comes after these blocks.
    pub(super) position: u64,
    /// Where the container that goes on there begins.
    pub(super) container: u64,
}

/// Reads containers block by block. What is damaged is booked, told, and passed over to the next marker.
pub(super) struct Blocks {
    header: Header,
    /// Where the container of that header begins in the content.
    container: u64,
    path: PathBuf,
    expander: Expander,
    /// Hand out what is there instead of waiting for more: for pipes, whose writer may be slow.
    eager: bool,
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Of `buffer[taken]` in the content.
    position: u64,
    /// The damage that is being passed over.
    damage: Option<Damage>,
    times_damaged: u64,
    events_lost: u64,
    bytes_lost: u64,
    /// What comes after the blocks before it: content that can't be read, or a container.
    broken: Option<io::Error>,
    ended: bool,
    body: Vec<u8>,
    parts: Vec<Part>,
    /// Behind the last of the parts, and where the container begins that it lies in.
    position_of_parts: u64,
    container_of_parts: u64,
}

/// Where damage begins, and how many events its block says to hold.
#[derive(Clone, Copy)]
struct Damage {
    position: u64,
    events: u64,
}

impl Blocks {
    /// Reads the header of content that nothing has been read from.
    ///
    /// # Errors
    /// When it can't be read, is damaged, or has a codec that is not supported.
    pub(super) fn open(content: &mut Content, path: PathBuf, eager: bool) -> io::Result<Self> {
        let container = content.position();
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        let header = loop {
            if filled == buffer.len() {
                buffer.resize(filled * 2, 0);
            }
            let bytes = content.read(&mut buffer[filled..])?;
            filled += bytes;
            match Header::read(&buffer[..filled]) {
                Ok(Some(header)) => break header,
                Ok(None) if bytes > 0 => {}
                Ok(None) => {
                    let cut_off = "it is an Avro container whose header is cut off; export it again";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, cut_off));
                }
                Err(refusal) => return Err(io::Error::new(io::ErrorKind::InvalidData, refusal)),
            }
        };
        let position = container + header.bytes as u64;
        Ok(Self {
            taken: header.bytes,
            header,
            container,
            path,
            expander: Expander::default(),
            eager,
            buffer,
            filled,
            position,
            damage: None,
            times_damaged: 0,
            events_lost: 0,
            bytes_lost: 0,
            broken: None,
            ended: false,
            body: Vec::new(),
            parts: Vec::new(),
            position_of_parts: position,
            container_of_parts: container,
        })
    }

    /// Up to where the content has been handed out, or is about to be.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Where the container begins that the position lies in.
    pub(super) fn container(&self) -> u64 {
        self.container
    }

    /// Goes on at `position`, where a block or another container begins, of content from which only the header has been
    /// read.
    ///
    /// # Errors
    /// When the content can't be read, or ends before.
    pub(super) fn skip_to(&mut self, position: u64, content: &mut Content, file: &File) -> io::Result<()> {
        let bytes = usize::try_from(position.saturating_sub(self.position)).unwrap_or(usize::MAX);
        if bytes <= self.filled - self.taken {
            self.advance(bytes);
        } else {
            content.skip_to(position, file)?;
            (self.taken, self.filled) = (0, 0);
            self.position = position;
        }
        self.position_of_parts = self.position;
        Ok(())
    }

    /// The next blocks, until they come to `chunk_bytes`; `None` at the end.
    ///
    /// # Errors
    /// When the content can't be read on, or a container begins that can't be; every whole block before has been handed
    /// out then.
    pub(super) fn next(&mut self, content: &mut Content, chunk_bytes: usize) -> io::Result<Option<Run>> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        while self.body.len() < chunk_bytes && self.step(content)? {}
        if self.parts.is_empty() {
            self.tell_total();
            return Ok(None);
        }
        Ok(Some(self.run()))
    }

    /// Takes one block or some damage, or reads some more bytes. Returns whether to go on.
    fn step(&mut self, content: &mut Content) -> io::Result<bool> {
        let rest = &self.buffer[self.taken..self.filled];
        if rest.is_empty() && self.ended {
            if let Some(damage) = self.damage.take() {
                self.lose(damage, "no whole block");
            }
            return Ok(false);
        }
        if let Some(damage) = self.damage {
            return self.pass_damage(damage, content);
        }
        match self.header.piece(rest, self.ended) {
            Piece::More(_) => return self.fill(content),
            Piece::Container(header) => {
                self.container = self.position;
                self.advance(header.bytes);
                self.header = header;
            }
            Piece::Refused(refusal) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, refusal);
                return self.stop(error);
            }
            Piece::Damaged { events } => self.damage = Some(Damage { position: self.position, events }),
            Piece::Block(block) => {
                let (codec, bytes) = (self.header.codec, block.bytes);
                let damage = Damage { position: self.position, events: block.events_lost() };
                match self.expander.expand(codec, block.stored, BLOCK_BYTES_MAX, &mut self.body) {
                    Ok(expanded) => {
                        let framing = self.header.framing(block.count, expanded);
                        self.advance(bytes);
                        self.push(framing);
                    }
                    Err(error) => {
                        self.advance(bytes);
                        self.lose(damage, &error.to_string());
                    }
                }
            }
        }
        Ok(true)
    }

    /// Goes to behind the next marker, to the next container, or to the end.
    fn pass_damage(&mut self, damage: Damage, content: &mut Content) -> io::Result<bool> {
        let rest = &self.buffer[self.taken..self.filled];
        match self.header.damage(rest, self.ended) {
            Ok(bytes) => {
                self.advance(bytes);
                self.damage = None;
                self.lose(damage, "no whole block");
                Ok(true)
            }
            Err(bytes) => {
                self.advance(bytes);
                if self.ended { Ok(true) } else { self.fill(content) }
            }
        }
    }

    fn push(&mut self, framing: Framing) {
        self.parts.push(Part { end: self.body.len(), framing });
        self.position_of_parts = self.position;
        self.container_of_parts = self.container;
    }

    fn advance(&mut self, bytes: usize) {
        self.taken += bytes;
        self.position += bytes as u64;
    }

    /// Reads some more bytes. Returns whether to go on.
    fn fill(&mut self, content: &mut Content) -> io::Result<bool> {
        if self.eager && !self.parts.is_empty() {
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
        match content.read(&mut self.buffer[self.filled..]) {
            Ok(bytes) => {
                self.filled += bytes;
                self.ended = bytes == 0;
                Ok(true)
            }
            Err(error) => self.stop(error),
        }
    }

    /// Nothing follows but this error, once what is there has been handed out.
    fn stop(&mut self, error: io::Error) -> io::Result<bool> {
        if self.parts.is_empty() {
            return Err(error);
        }
        self.broken = Some(error);
        Ok(false)
    }

    /// Hands out what has been collected.
    fn run(&mut self) -> Run {
        let body = Bytes::from(mem::take(&mut self.body));
        let mut parts = mem::take(&mut self.parts);
        let framing = match (parts.pop(), parts.is_empty()) {
            (Some(only), true) => only.framing,
            (last, _) => {
                parts.extend(last);
                Framing::Parts(parts.into())
            }
        };
        Run { body, framing, position: self.position_of_parts, container: self.container_of_parts }
    }

    /// Books what is lost from where the damage begins up to here. Only the first damage of a file is told at once.
    fn lose(&mut self, damage: Damage, problem: &str) {
        let bytes = self.position - damage.position;
        let events = lost_within(damage.events, bytes);
        self.push(Framing::Unreadable(events));
        self.times_damaged += 1;
        self.events_lost += events;
        self.bytes_lost += bytes;
        if self.times_damaged == 1 {
            tracing::error!(
                file = %self.path.display(),
                position = damage.position,
                bytes,
                events,
                problem,
                "a block of an Avro container is damaged: its events are booked as malformed, and reading goes \
                 on with the next block; export the file again if they are needed"
            );
        }
    }

    fn tell_total(&mut self) {
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
