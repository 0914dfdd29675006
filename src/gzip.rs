//! Gzip as `gunzip` reads it: one member after the other, and whatever follows the last one is left out.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// The first bytes of a gzip member (RFC 1952, 2.3.1).
pub const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Decompresses all members of what `R` holds. Zeros or other bytes behind the last member, which tapes, padded
/// blocks and careless concatenation leave there, end the content; a member that is cut short or damaged is an error.
#[derive(Debug)]
pub struct Members<R> {
    /// The member that is being read; then `rest` is none.
    member: Option<GzDecoder<R>>,
    /// What is read from, once the last member has ended.
    rest: Option<R>,
    has_trailing: bool,
}

impl<R: BufRead> Members<R> {
    /// Reads from `reader`, which begins with a member.
    pub fn new(reader: R) -> Self {
        Self { member: Some(GzDecoder::new(reader)), rest: None, has_trailing: false }
    }

    /// Whether something that is no member followed the last one; known once everything has been read.
    pub fn has_trailing(&self) -> bool {
        self.has_trailing
    }

    /// What is read from.
    pub fn get_ref(&self) -> Option<&R> {
        self.member.as_ref().map(GzDecoder::get_ref).or(self.rest.as_ref())
    }

    /// The member has ended: goes on with the next one, if there is one.
    fn next_member(&mut self, mut reader: R) -> io::Result<()> {
        // One byte may be all that is buffered; a member whose second byte is another is a damaged one.
        let next = reader.fill_buf().map(|ahead| ahead.first().copied());
        if let Ok(Some(byte)) = next
            && byte == MAGIC[0]
        {
            self.member = Some(GzDecoder::new(reader));
            return Ok(());
        }
        self.rest = Some(reader);
        self.has_trailing = next?.is_some();
        Ok(())
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(member) = &mut self.member else { return Ok(0) };
            let read = member.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if let Some(member) = self.member.take() {
                self.next_member(member.into_inner())?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        let mut members = Members::new(bytes);
        let mut out = Vec::new();
        members.read_to_end(&mut out)?;
        Ok((out, members.has_trailing()))
    }

    #[test]
    fn members_are_read_one_after_the_other_and_what_is_none_ends_them() {
        let two = [gzip(b"one,"), gzip(b""), gzip(b"two")].concat();
        assert_eq!(read(&two).unwrap(), (b"one,two".to_vec(), false));
        for behind in [&[0; 512][..], b"x", b"signature", &[0, 0x1f, 0x8b]] {
            assert_eq!(read(&[&two, behind].concat()).unwrap(), (b"one,two".to_vec(), true), "{behind:?}");
        }
    }

    #[test]
    fn a_member_that_is_cut_short_or_damaged_is_an_error_wherever_it_stands() {
        let (one, two) = (gzip(b"one"), gzip(b"two, which is longer"));
        for end in 1..two.len() {
            read(&[&one, &two[..end]].concat()).unwrap_err();
            read(&two[..end]).unwrap_err();
        }
        let mut damaged = [one, two].concat();
        let at = damaged.len() - 12;
        damaged[at] ^= 0x55;
        read(&damaged).unwrap_err();
    }
}
