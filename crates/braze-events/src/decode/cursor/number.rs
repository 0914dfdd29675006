//! The numbers of JSON.

use super::{Broken, Cursor, Fault};

impl Cursor<'_> {
    /// A number. Returns whether it is nothing but digits.
    ///
    /// Its size is free, as in RFC 8259; `serde_json` calls 1e999 out of range. No number of this kind is
    /// ever used, and a field that nobody reads is no reason to refuse an event.
    #[inline]
    pub(in crate::decode) fn number(&mut self) -> Result<bool, Broken> {
        let start = self.pos + usize::from(self.byte(self.pos) == b'-');
        let mut at = self.after_digits(start)?;
        if self.byte(start) == b'0' && at > start + 1 {
            return self.fail(start + 1, Fault::Number);
        }
        let mut plain = start == self.pos;
        if self.byte(at) == b'.' {
            at = self.after_digits(at + 1)?;
            plain = false;
        }
        if matches!(self.byte(at), b'e' | b'E') {
            at += 1 + usize::from(matches!(self.byte(at + 1), b'+' | b'-'));
            at = self.after_digits(at)?;
            plain = false;
        }
        self.pos = at;
        Ok(plain)
    }

    #[inline]
    fn after_digits(&mut self, start: usize) -> Result<usize, Broken> {
        let mut at = start;
        // The times of events have ten.
        while let Some(eight) = self.text.get(at..at + 8).and_then(<[u8]>::first_chunk)
            && are_digits(u64::from_le_bytes(*eight))
        {
            at += 8;
        }
        while self.byte(at).is_ascii_digit() {
            at += 1;
        }
        if at == start { self.fail(at, Fault::Number) } else { Ok(at) }
    }
}

/// Whether each of eight bytes is a digit: their upper halves are 3, and stay so when 6 is added, which carries from 10 on.
#[inline]
const fn are_digits(bytes: u64) -> bool {
    const UPPER: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    const THREES: u64 = 0x3030_3030_3030_3030;
    const SIXES: u64 = 0x0606_0606_0606_0606;
    bytes & UPPER == THREES && (bytes.wrapping_add(SIXES)) & UPPER == THREES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::are_digits;

    proptest! {
        #[test]
        fn eight_digits_are_told_from_others(bytes in proptest::array::uniform8(
            prop_oneof![20 => b'0'..=b'9', 1 => any::<u8>()])) {
            prop_assert_eq!(are_digits(u64::from_le_bytes(bytes)), bytes.iter().all(u8::is_ascii_digit));
        }
    }

    #[test]
    fn the_neighbours_of_digits_are_none() {
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut bytes = *b"09900990";
                bytes[place] = byte;
                assert_eq!(
                    are_digits(u64::from_le_bytes(bytes)),
                    byte.is_ascii_digit(),
                    "{byte:#x} at {place}"
                );
            }
        }
    }
}
