//! A scan through the frames of one segment, which steps over damage.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use memchr::memmem;

use crate::Gap;
use crate::frame::{HEAD_BYTES, Head, MAGIC};

/// Bytes read at once. Bodies are slices of such a piece and keep it alive.
pub(crate) const WINDOW_BYTES: u64 = 512 * 1024;

/// A place in a segment, and the bytes behind it.
#[derive(Debug)]
pub(crate) struct Scan {
    path: PathBuf,
    file: File,
    /// Where `window` begins in the file.
    offset: u64,
    /// Bytes that are read and not scanned yet.
    window: Bytes,
    /// The number that the next frame should have.
    expected: u64,
    damage: Option<DamagedBytes>,
    /// The number behind the last event that a sound head in the damage states.
    stated_end: u64,
}

/// Bytes outside whole frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DamagedBytes {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// A whole frame.
#[derive(Debug)]
pub(crate) struct ScannedFrame {
    /// The loss or damage right before it.
    pub(crate) gap: Option<Gap>,
    pub(crate) head: Head,
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
}

impl Scan {
    /// Begins at `offset` of a segment's `file`, where the event numbered `first` is expected.
    pub(crate) fn new(path: PathBuf, file: File, offset: u64, first: u64) -> Scan {
        Scan { path, file, offset, window: Bytes::new(), expected: first, damage: None, stated_end: first }
    }

    /// The number that follows the last frame's.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    pub(crate) fn file_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The damage since the last frame.
    pub(crate) fn damage(&self) -> Option<DamagedBytes> {
        self.damage
    }

    /// How many events the damage since the last frame held, as far as heads in it state.
    pub(crate) fn events_stated(&self) -> u64 {
        self.stated_end.saturating_sub(self.expected)
    }

    /// The next whole frame that ends at `limit` (bytes from the file's beginning) at the latest, and all of
    /// whose numbers are below `ceiling`. `None`: there is none, and the scan stands at `limit`.
    pub(crate) fn next(&mut self, limit: u64, ceiling: u64) -> io::Result<Option<ScannedFrame>> {
        while self.offset < limit {
            let head = if self.fill(HEAD_BYTES as u64, limit)? { Head::decode(&self.window) } else { None };
            let Some(head) = head else {
                self.skip_to_magic(limit)?;
                continue;
            };
            // A frame out of line is a stale block that a disk gave back: its numbers came before, or belong to another
            // segment.
            let in_line = head.first >= self.expected && head.end() <= ceiling;
            let start = self.offset;
            let content = if in_line { self.content(&head, limit)? } else { None };
            let Some((header, body)) = content else {
                if in_line {
                    self.stated_end = self.stated_end.max(head.end());
                }
                // The head is sound, so its length is, too: a search inside the frame could only mislead.
                self.skip(head.frame_bytes(), limit);
                continue;
            };
            let gap = self.gap_until(head.first, start);
            self.expected = head.end();
            return Ok(Some(ScannedFrame { gap, head, header, body }));
        }
        Ok(None)
    }

    /// Ends the scan where the number `ceiling` follows. Returns the loss before it.
    pub(crate) fn finish(&mut self, ceiling: u64) -> Option<Gap> {
        let gap = self.gap_until(ceiling, self.offset);
        self.expected = self.expected.max(ceiling);
        gap
    }

    /// The loss or damage before `number`, which stands at `offset`.
    fn gap_until(&mut self, number: u64, offset: u64) -> Option<Gap> {
        let damage = self.damage.take();
        let events = number.saturating_sub(self.expected);
        if damage.is_none() && events == 0 {
            return None;
        }
        let DamagedBytes { offset, bytes } = damage.unwrap_or(DamagedBytes { offset, bytes: 0 });
        Some(Gap { segment: self.path.clone(), offset, bytes, first: self.expected, events })
    }

    /// The header and body of the frame with this `head`, if they are whole.
    fn content(&mut self, head: &Head, limit: u64) -> io::Result<Option<(Bytes, Bytes)>> {
        let Ok(frame_bytes) = usize::try_from(head.frame_bytes()) else { return Ok(None) };
        if !self.fill(head.frame_bytes(), limit)? {
            return Ok(None);
        }
        let Ok(header_bytes) = usize::try_from(head.header_bytes) else { return Ok(None) };
        let content = self.window.slice(HEAD_BYTES..frame_bytes);
        if crc32fast::hash(&content) != head.checksum {
            return Ok(None);
        }
        self.advance(frame_bytes);
        Ok(Some((content.slice(..header_bytes), content.slice(header_bytes..))))
    }

    /// Moves to the next place where a frame may begin, at least one byte on.
    fn skip_to_magic(&mut self, limit: u64) -> io::Result<()> {
        self.skip(1, limit);
        while self.fill(HEAD_BYTES as u64, limit)? {
            if let Some(at) = memmem::find(&self.window, &MAGIC) {
                self.skip(at as u64, limit);
                return Ok(());
            }
            // The last bytes may be the first ones of a magic.
            self.skip((self.window.len() - (MAGIC.len() - 1)) as u64, limit);
        }
        self.skip(limit - self.offset, limit);
        Ok(())
    }

    /// Moves on over `bytes` of damage, up to `limit` at most.
    fn skip(&mut self, bytes: u64, limit: u64) {
        let bytes = bytes.min(limit - self.offset);
        let damage = self.damage.get_or_insert(DamagedBytes { offset: self.offset, bytes: 0 });
        damage.bytes += bytes;
        match usize::try_from(bytes) {
            Ok(inside) if inside <= self.window.len() => self.advance(inside),
            _ => {
                self.window.clear();
                self.offset += bytes;
            }
        }
        debug_assert!(self.offset <= limit, "skipped beyond {limit} to {}", self.offset);
    }

    fn advance(&mut self, bytes: usize) {
        self.window.advance(bytes);
        self.offset += bytes as u64;
    }

    /// Makes the window hold `bytes` at least. `false`: `limit` comes before.
    fn fill(&mut self, bytes: u64, limit: u64) -> io::Result<bool> {
        if self.window.len() as u64 >= bytes {
            return Ok(true);
        }
        let left = limit - self.offset;
        if left < bytes {
            return Ok(false);
        }
        let Ok(size) = usize::try_from(bytes.max(WINDOW_BYTES).min(left)) else { return Ok(false) };
        let mut window = vec![0; size];
        let have = self.window.len();
        window[..have].copy_from_slice(&self.window);
        read_at_most(&self.file, &mut window[have..], self.offset + have as u64)?;
        self.window = Bytes::from(window);
        Ok(true)
    }
}

/// Reads until `buffer` is full or the file ends. A file that is shorter than it was known to be leaves
/// zeros, which are no frame and so count as damage.
fn read_at_most(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::Frame;
    use crate::frame::Record;

    fn frame(first: u64, events: u32, body: &[u8]) -> Vec<u8> {
        let frame = Frame { events, kind: 0, header: Bytes::new(), body: Bytes::copy_from_slice(body) };
        let (mut lead, body, _) = Record::new(frame).unwrap().into_pieces(first);
        lead.extend_from_slice(&body);
        lead
    }

    fn scan(bytes: &[u8]) -> Scan {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Scan::new(PathBuf::from("s"), file, 0, 0)
    }

    /// First numbers of all frames, the gaps as (offset, bytes, first, events), and the damage at the end.
    #[derive(Debug, Default, PartialEq)]
    struct Seen {
        firsts: Vec<u64>,
        gaps: Vec<(u64, u64, u64, u64)>,
        tail: Option<DamagedBytes>,
    }

    fn see(scan: &mut Scan, limit: usize, ceiling: u64) -> Seen {
        let mut seen = Seen::default();
        while let Some(found) = scan.next(limit as u64, ceiling).unwrap() {
            seen.firsts.push(found.head.first);
            seen.gaps.extend(found.gap.map(|gap| (gap.offset, gap.bytes, gap.first, gap.events)));
        }
        seen.tail = scan.damage();
        seen
    }

    #[test]
    fn whole_frames_are_found_in_order() {
        let bytes = [frame(0, 2, b"ab"), frame(2, 1, b""), frame(3, 5, b"cde")].concat();
        let mut scan = scan(&bytes);
        assert_eq!(see(&mut scan, bytes.len(), 8), Seen { firsts: vec![0, 2, 3], ..Seen::default() });
        assert_eq!(scan.finish(8), None);
        assert_eq!(scan.finish(9).map(|gap| (gap.first, gap.events)), Some((8, 1)));
    }

    #[test]
    fn a_limit_that_grows_is_followed() {
        let one = frame(0, 2, b"ab");
        let bytes = [one.clone(), frame(2, 1, b"c")].concat();
        let mut scan = scan(&bytes);
        assert_eq!(see(&mut scan, one.len(), 2).firsts, [0]);
        assert_eq!(see(&mut scan, one.len(), 2).firsts, Vec::<u64>::new());
        assert_eq!(see(&mut scan, bytes.len(), 3).firsts, [2]);
    }

    #[test]
    fn damage_anywhere_in_a_frame_costs_that_frame_only() {
        let frames = [frame(0, 2, b"before"), frame(2, 3, b"damaged"), frame(5, 1, b"after")];
        let (from, bytes) = (frames[0].len(), frames[1].len());
        for at in 0..bytes {
            let mut file = frames.concat();
            file[from + at] ^= 0x40;
            let seen = see(&mut scan(&file), file.len(), 6);
            let gaps = vec![(from as u64, bytes as u64, 2, 3)];
            assert_eq!(seen, Seen { firsts: vec![0, 5], gaps, tail: None }, "byte {at}");
        }
    }

    #[test]
    fn damage_larger_than_the_window_is_stepped_over() {
        let zeros = vec![0; usize::try_from(WINDOW_BYTES).unwrap() * 2 + 17];
        let file = [frame(0, 1, b"a"), zeros.clone(), frame(9, 1, b"b")].concat();
        let seen = see(&mut scan(&file), file.len(), 10);
        assert_eq!((seen.firsts, seen.tail), (vec![0, 9], None));
        assert_eq!(seen.gaps, [(33, zeros.len() as u64, 1, 8)]);
    }

    #[test]
    fn a_magic_across_the_edge_of_the_window_is_found() {
        let window = usize::try_from(WINDOW_BYTES).unwrap();
        for before in window - 40..window + 40 {
            let file = [vec![1; before], frame(0, 1, b"b"), frame(1, 1, b"c")].concat();
            assert_eq!(see(&mut scan(&file), file.len(), 2).firsts, [0, 1], "{before}");
        }
    }

    #[test]
    fn a_frame_inside_the_body_of_a_damaged_frame_is_not_believed() {
        let forged = [frame(1, 500, b"forged"), b"rest".to_vec()].concat();
        let mut file = [frame(0, 3, &forged), frame(3, 1, b"after")].concat();
        file[HEAD_BYTES + forged.len() - 1] ^= 1;
        let seen = see(&mut scan(&file), file.len(), 1000);
        assert_eq!(seen.firsts, [3]);
    }

    #[test]
    fn frames_met_before_or_beyond_the_ceiling_are_damage() {
        let file = [frame(0, 2, b"a"), frame(0, 2, b"a"), frame(2, 1, b"b"), frame(70, 1, b"z")].concat();
        let mut scan = scan(&file);
        let seen = see(&mut scan, file.len(), 10);
        assert_eq!((seen.firsts, seen.gaps.len()), (vec![0, 2], 1));
        assert_eq!(seen.gaps[0].3, 0);
        assert_eq!(scan.finish(10).map(|gap| (gap.bytes, gap.events)), Some((33, 7)));
    }

    #[test]
    fn a_torn_frame_is_damage_at_the_end() {
        let whole = frame(0, 1, b"whole");
        let file = [whole.clone(), frame(1, 1, b"torn")].concat();
        for end in whole.len() + 1..file.len() {
            let seen = see(&mut scan(&file[..end]), end, 9);
            let tail = DamagedBytes { offset: whole.len() as u64, bytes: (end - whole.len()) as u64 };
            assert_eq!(seen, Seen { firsts: vec![0], gaps: vec![], tail: Some(tail) });
        }
    }

    #[test]
    fn a_file_that_became_shorter_ends_in_damage() {
        let file = frame(0, 1, b"whole");
        let seen = see(&mut scan(&file), file.len() + 1000, 9);
        assert_eq!(seen.tail, Some(DamagedBytes { offset: file.len() as u64, bytes: 1000 }));
    }
}
