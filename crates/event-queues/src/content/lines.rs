//! Cuts content at newlines into bodies of whole lines: the fast path, which looks only at the last bytes of a buffer.

use std::io;
use std::mem;

use bytes::Bytes;

use super::Cut;
use super::buffer_pool::BufferPool;
use super::input::Input;
use super::json::is_beginning_of_json;

/// A buffer that is less than a quarter full is copied into a body of its own size, so that a thousand small
/// files in flight do not hold a thousand large buffers.
const COPY_BELOW: usize = 4;

/// How content comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Flow {
    /// It may be being written, member by member where it is compressed.
    #[default]
    Growing,
    /// From a pipe, whose writer may be slow: what is there is handed out instead of waiting for a full buffer.
    Slow,
}

impl Flow {
    /// What it looks like where content ends in the middle of an event, which is not handed out, but an error.
    pub(crate) fn cut_off_as_if(self) -> &'static str {
        match self {
            Flow::Growing => "as if it were being written",
            Flow::Slow => "as if its writer had been stopped",
        }
    }
}

/// Reads content line by line, many at a time.
pub(crate) struct Lines<'p> {
    pool: &'p BufferPool,
    line_bytes_max: usize,
    flow: Flow,
    buffer: Vec<u8>,
    filled: usize,
    /// How many bytes of the buffer are known to hold no newline.
    searched: usize,
    /// The position of the buffer in the content.
    position: u64,
    /// Inside a line that is too long.
    skipping: bool,
    oversized: u32,
    /// The error that follows the bytes before it.
    broken: Option<io::Error>,
    ended: bool,
}

impl<'p> Lines<'p> {
    /// Goes on where `content` stands, which must be the start of a line.
    pub(crate) fn new(pool: &'p BufferPool, line_bytes_max: usize, flow: Flow, input: &Input) -> Self {
        let position = input.position();
        Self {
            pool,
            line_bytes_max,
            flow,
            buffer: pool.take(1),
            filled: 0,
            searched: 0,
            position,
            skipping: false,
            oversized: 0,
            broken: None,
            ended: false,
        }
    }

    /// The next lines; `None` at the end.
    ///
    /// # Errors
    /// When the content can't be read on; every whole line before has been handed out then.
    pub(crate) fn next(&mut self, input: &mut Input) -> io::Result<Option<Cut>> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        while !self.ended {
            if self.filled == self.buffer.len() {
                self.make_room();
            }
            let read = match input.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.cut_off().map_or(Ok(0), Err),
                read => read,
            };
            match read {
                Ok(0) => {
                    self.ended = true;
                    let rest = self.rest();
                    self.pool.give(mem::take(&mut self.buffer));
                    return Ok(rest);
                }
                Ok(bytes) => self.filled += bytes,
                Err(error) => {
                    self.ended = true;
                    let Some(cut) = self.cut() else { return Err(error) };
                    self.broken = Some(error);
                    return Ok(Some(cut));
                }
            }
            if self.skipping {
                self.skip();
            }
            let full = self.filled == self.buffer.len();
            if (full || self.flow == Flow::Slow)
                && let Some(cut) = self.cut()
            {
                return Ok(Some(cut));
            }
        }
        Ok(None)
    }

    /// The error of content that ends in the middle of a JSON value.
    fn cut_off(&self) -> Option<io::Error> {
        let start = memchr::memrchr(b'\n', &self.buffer[..self.filled]).map_or(0, |at| at + 1);
        let line = &self.buffer[start..self.filled];
        let may_be = !self.skipping && !line.trim_ascii().is_empty();
        if !may_be || !is_beginning_of_json(line) {
            return None;
        }
        let from = self.position + start as u64;
        let text = format!(
            "its last line, from byte {from} on, ends in the middle of an event, {}",
            self.flow.cut_off_as_if()
        );
        Some(io::Error::new(io::ErrorKind::UnexpectedEof, text))
    }

    /// Makes room in a buffer that holds one unfinished line and nothing else.
    fn make_room(&mut self) {
        if self.filled > self.line_bytes_max {
            self.skipping = true;
            self.drop_front(self.filled);
        } else {
            let bytes = (self.buffer.len() * 2).min(self.line_bytes_max + 1);
            self.buffer.resize(bytes, 0);
        }
    }

    /// Drops the line that is too long, up to its newline where that has been read.
    fn skip(&mut self) {
        match memchr::memchr(b'\n', &self.buffer[..self.filled]) {
            Some(at) => {
                self.drop_front(at + 1);
                self.skipping = false;
                self.oversized = self.oversized.saturating_add(1);
            }
            None => self.drop_front(self.filled),
        }
    }

    fn drop_front(&mut self, bytes: usize) {
        self.buffer.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
        self.searched = 0;
        self.position += bytes as u64;
    }

    /// The whole lines in the buffer; what follows them stays.
    fn cut(&mut self) -> Option<Cut> {
        let fresh = &self.buffer[self.searched..self.filled];
        let end = memchr::memrchr(b'\n', fresh).map_or(0, |at| self.searched + at + 1);
        self.searched = self.filled;
        if end == 0 {
            return None;
        }
        Some(self.cut_at(end))
    }

    /// Everything in the buffer: the last line may lack its newline.
    fn rest(&mut self) -> Option<Cut> {
        if mem::take(&mut self.skipping) {
            self.oversized = self.oversized.saturating_add(1);
        }
        if self.filled == 0 && self.oversized == 0 {
            return None;
        }
        Some(self.cut_at(self.filled))
    }

    fn cut_at(&mut self, end: usize) -> Cut {
        let left = self.filled - end;
        let body = if end < self.buffer.len() / COPY_BELOW {
            let body = Bytes::copy_from_slice(&self.buffer[..end]);
            self.buffer.copy_within(end..self.filled, 0);
            body
        } else {
            let mut next = self.pool.take(left + 1);
            next[..left].copy_from_slice(&self.buffer[end..self.filled]);
            self.pool.lend(mem::replace(&mut self.buffer, next), end)
        };
        self.filled = left;
        self.searched = left;
        self.position += end as u64;
        Cut::lines(body, mem::take(&mut self.oversized), self.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::input::tests::{input, scripted};
    use super::*;

    fn read(text: &[u8], chunk: usize, line_bytes_max: usize, flow: Flow) -> Vec<Cut> {
        let pool = BufferPool::new(chunk);
        let mut input = input(text);
        let mut lines = Lines::new(&pool, line_bytes_max, flow, &input);
        std::iter::from_fn(|| lines.next(&mut input).unwrap()).collect()
    }

    fn cut(body: &'static str, oversized: u32, position: u64) -> Cut {
        Cut::lines(Bytes::from_static(body.as_bytes()), oversized, position)
    }

    #[test]
    fn a_body_ends_with_the_last_newline_that_fits() {
        assert_eq!(read(b"a\nb\ncc\nd", 6, 99, Flow::Growing), [cut("a\nb\n", 0, 4), cut("cc\nd", 0, 8)]);
    }

    #[test]
    fn a_line_at_the_limit_is_held_and_one_byte_more_is_not() {
        assert_eq!(read(b"a\n123456\nb\n", 4, 6, Flow::Growing).last(), Some(&cut("b\n", 0, 11)));
        let cuts = read(b"a\n1234567\nb\n", 4, 6, Flow::Growing);
        assert_eq!(cuts, [cut("a\n", 0, 2), cut("b\n", 1, 12)]);
    }

    #[test]
    fn a_last_line_that_is_too_long_is_counted_without_its_newline() {
        assert_eq!(read(b"a\n1234567", 4, 6, Flow::Growing), [cut("a\n", 0, 2), cut("", 1, 9)]);
        assert_eq!(read(b"a\n123456", 4, 6, Flow::Growing), [cut("a\n", 0, 2), cut("123456", 0, 8)]);
    }

    #[test]
    fn an_empty_file_gives_nothing() {
        assert_eq!(read(b"", 4, 6, Flow::Growing), []);
    }

    #[test]
    fn whole_lines_come_before_the_error_and_what_follows_them_does_not() {
        for step in [1, 3, 100] {
            let pool = BufferPool::new(64);
            let mut input = scripted(b"a\nbb\nccc", step, true);
            let mut lines = Lines::new(&pool, 99, Flow::Growing, &input);
            assert_eq!(lines.next(&mut input).unwrap(), Some(cut("a\nbb\n", 0, 5)));
            assert_eq!(lines.next(&mut input).unwrap_err().to_string(), "the disk is gone");
            assert_eq!(lines.next(&mut input).unwrap(), None);
        }
    }

    #[test]
    fn a_last_line_that_is_cut_off_is_not_handed_out_but_an_error() {
        let pool = BufferPool::new(64);
        for (text, held, is_cut_off) in [
            ("{}\n{\"a\":", "{}\n", true),
            ("{}\n[{}", "{}\n", true),
            ("{\"a", "", true),
            ("{}\n{}", "{}\n{}", false),
            ("{}\n", "{}\n", false),
            ("{}\n  ", "{}\n  ", false),
            // What is no JSON never will be.
            ("{}\n{a", "{}\n{a", false),
            ("{}\n-- end", "{}\n-- end", false),
        ] {
            for flow in [Flow::Growing, Flow::Slow] {
                let mut input = input(text.as_bytes());
                let mut lines = Lines::new(&pool, 99, flow, &input);
                let (mut bodies, mut error) = (Vec::new(), None);
                loop {
                    match lines.next(&mut input) {
                        Ok(Some(cut)) => bodies.extend_from_slice(&cut.body),
                        Ok(None) => break,
                        Err(told) => error = Some(told.to_string()),
                    }
                }
                assert_eq!(
                    (String::from_utf8(bodies).unwrap().as_str(), error.is_some()),
                    (held, is_cut_off)
                );
                let from = format!("from byte {} on", held.len());
                assert!(error.is_none_or(|error| error.contains(&from)), "{text}");
            }
        }
    }

    #[test]
    fn an_eager_reader_waits_for_no_full_buffer() {
        let pool = BufferPool::new(1000);
        let mut input = scripted(b"a\nb\nccccc\nd\n", 5, false);
        let mut lines = Lines::new(&pool, 99, Flow::Slow, &input);
        assert_eq!(lines.next(&mut input).unwrap(), Some(cut("a\nb\n", 0, 4)));
    }

    proptest! {
        /// For any bytes and any sizes: the bodies are the bytes in order without the lines that are too
        /// long, those are counted, each body but the last ends with a newline, and positions add up.
        #[test]
        fn every_line_is_handed_out_or_counted(
            text in vec(prop_oneof![3 => Just(b'x'), 1 => Just(b'\n')], 0..300),
            line_bytes_max in 1_usize..40,
            chunk in 1_usize..60,
            is_slow: bool,
        ) {
            let chunk = chunk.min(line_bytes_max + 1);
            let cuts = read(&text, chunk, line_bytes_max, if is_slow { Flow::Slow } else { Flow::Growing });
            let whole = text.split_inclusive(|&byte| byte == b'\n');
            let (held, long): (Vec<_>, Vec<_>) =
                whole.partition(|line| line.strip_suffix(b"\n").unwrap_or(line).len() <= line_bytes_max);
            let bodies: Vec<_> = cuts.iter().flat_map(|cut| cut.body.to_vec()).collect();
            prop_assert_eq!(bodies, held.concat());
            prop_assert_eq!(cuts.iter().map(|cut| cut.oversized as usize).sum::<usize>(), long.len());
            for pair in cuts.windows(2) {
                prop_assert!(pair[0].position < pair[1].position);
                prop_assert_eq!(text[usize::try_from(pair[0].position).unwrap() - 1], b'\n');
            }
            prop_assert_eq!(cuts.last().map_or(0, |cut| cut.position), text.len() as u64);
        }
    }
}
