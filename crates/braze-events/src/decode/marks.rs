//! Where strings can end: the only part of decoding that looks at every byte.

use wide::u8x16;

/// One bit for each byte of a body, set at quotes, backslashes and control characters: at everything that
/// ends, bends or breaks a string. The end of a string is then a `trailing_zeros` away from its start.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Least significant bit first. Everything behind the body is marked, so that a search always ends.
    bits: Vec<u8>,
    /// By block: whether it has bytes beyond ASCII.
    beyond_ascii: Vec<bool>,
}

/// Bytes that one word of marks covers.
const BLOCK: usize = 64;

impl Marks {
    /// Marks `body` in place of what was marked before. Returns whether all of it is ASCII.
    pub(super) fn fill(&mut self, body: &[u8]) -> bool {
        let (blocks, rest) = body.as_chunks::<BLOCK>();
        self.bits.resize((blocks.len() + 2) * size_of::<u64>(), 0);
        self.beyond_ascii.resize(blocks.len() + 1, false);
        let mut any = false;
        // The zeros that fill the last block are control characters: they mark the end of the body.
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let (words, _) = self.bits.as_chunks_mut();
        for ((block, word), beyond) in
            blocks.iter().chain([&last]).zip(&mut *words).zip(&mut self.beyond_ascii)
        {
            (*word, *beyond) = marks_of(block);
            any |= *beyond;
        }
        if let Some(word) = words.last_mut() {
            *word = u64::MAX.to_le_bytes();
        }
        !any
    }

    /// Whether the body is known to be ASCII from `start` to `end`; `false` where it shares a block with what is not.
    pub(super) fn is_ascii(&self, start: usize, end: usize) -> bool {
        let blocks = self.beyond_ascii.get(start / BLOCK..end.div_ceil(BLOCK)).unwrap_or(&[true]);
        // Without an early end: they are few.
        !blocks.iter().fold(false, |any, beyond| any | beyond)
    }

    /// Marks one byte more of the body.
    pub(super) fn set(&mut self, at: usize) {
        if let Some(bits) = self.bits.get_mut(at / 8) {
            *bits |= 1 << (at % 8);
        }
    }

    pub(super) fn bits(&self) -> &[u8] {
        &self.bits
    }
}

/// The marks of one block, and whether it has bytes beyond ASCII.
#[inline]
fn marks_of(block: &[u8; BLOCK]) -> ([u8; 8], bool) {
    let mut word = 0;
    let mut seen = u8x16::splat(0);
    for (place, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = u8x16::new(*bytes);
        seen |= bytes;
        let control = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
        let marked = control | bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
        word |= u64::from(marked.to_bitmask()) << (place * 16);
    }
    (word.to_le_bytes(), seen.to_bitmask() != 0)
}

/// The first mark at or after `from`, which is at most the length of the body that `bits` belong to.
#[inline]
pub(super) fn first_mark(bits: &[u8], from: usize) -> usize {
    let (mut at, mut skip) = (from / 8, from % 8);
    while let Some(word) = bits.get(at..at + 8).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word) >> skip;
        if word != 0 {
            return at * 8 + skip + word.trailing_zeros() as usize;
        }
        (at, skip) = (at + 8, 0);
    }
    bits.len() * 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// From any place, the first mark is the first byte that is a quote, a backslash or a control
        /// character, or the end of the body; and ASCII is what std calls ASCII.
        #[test]
        fn marks_agree_with_a_byte_by_byte_search(body in proptest::collection::vec(
            prop_oneof![20 => b'#'..=b'[', 1 => any::<u8>()], 0..400)) {
            let mut marks = Marks::default();
            prop_assert_eq!(marks.fill(&body), body.is_ascii());
            for (start, end) in [(0, body.len()), (body.len() / 3, body.len() * 2 / 3), (body.len(), body.len())] {
                let covering = start / BLOCK * BLOCK..(end.div_ceil(BLOCK) * BLOCK).min(body.len());
                prop_assert_eq!(marks.is_ascii(start, end), body.get(covering).is_none_or(<[u8]>::is_ascii));
            }
            for from in 0..=body.len() {
                let slow = body[from..].iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
                prop_assert_eq!(first_mark(marks.bits(), from), slow.map_or(body.len(), |at| from + at));
            }
        }
    }

    #[test]
    fn marks_of_an_earlier_body_are_forgotten() {
        let mut marks = Marks::default();
        marks.fill(&[b'"'; 1000]);
        assert!(marks.fill(b"abc\"def"));
        assert_eq!((first_mark(marks.bits(), 0), first_mark(marks.bits(), 4)), (3, 7));
    }
}
