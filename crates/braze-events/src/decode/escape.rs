//! Unescapes JSON strings.

/// The number in four hexadecimal digits at the start of `text`.
pub(super) fn hex4(text: &[u8]) -> Option<u32> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Unescapes `raw`, the inside of a valid string or its beginning, and appends it to `out`: with U+FFFD for NUL and for half of a
/// surrogate pair, or of an escape.
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    unescape_each(raw, out, |rest| memchr::memchr2(b'\\', 0, rest));
}

/// As [`unescape`], for what is read once more: a NUL stays one.
pub(super) fn unescape_json(raw: &[u8], out: &mut Vec<u8>) {
    unescape_each(raw, out, |rest| memchr::memchr(b'\\', rest));
}

fn unescape_each(raw: &[u8], out: &mut Vec<u8>, next: impl Fn(&[u8]) -> Option<usize>) {
    let mut rest = raw;
    while let Some(at) = next(rest) {
        out.extend_from_slice(&rest[..at]);
        if rest[at] == 0 {
            push(char::REPLACEMENT_CHARACTER, out);
            rest = &rest[at + 1..];
            continue;
        }
        let escape = &rest[at + 1..];
        let (plain, length) = match escape.first() {
            Some(b'b') => (b'\x08', 1),
            Some(b'f') => (b'\x0c', 1),
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'u') => {
                rest = escape.get(unescape_unicode(&escape[1..], out)..).unwrap_or_default();
                continue;
            }
            Some(&itself) => (itself, 1),
            None => return,
        };
        out.push(plain);
        rest = &escape[length..];
    }
    out.extend_from_slice(rest);
}

/// Appends the character of an escape whose `\u` is followed by `digits`. Returns the escape's length from the `u` on.
fn unescape_unicode(digits: &[u8], out: &mut Vec<u8>) -> usize {
    let high = hex4(digits).unwrap_or_default();
    let low = digits.get(4..).and_then(|rest| rest.strip_prefix(b"\\u")).and_then(hex4);
    let (code, length) = match (high, low) {
        (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) => {
            (0x1_0000 + ((high & 0x3ff) << 10 | low & 0x3ff), 11)
        }
        _ => (high, 5),
    };
    let character = char::from_u32(code).filter(|character| *character != '\0');
    push(character.unwrap_or(char::REPLACEMENT_CHARACTER), out);
    length
}

fn push(character: char, out: &mut Vec<u8>) {
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Replaces what is not UTF-8 in `text` from `start` on with U+FFFD.
#[cold]
pub(super) fn make_valid(text: &mut Vec<u8>, start: usize) {
    let valid = String::from_utf8_lossy(&text[start..]).into_owned();
    text.truncate(start);
    text.extend_from_slice(valid.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_becomes_its_character() {
        let mut out = b"before ".to_vec();
        unescape(br#"a\"\\\/\b\f\n\r\t\u00E9\u20ac\ud83D\uDe00z"#, &mut out);
        assert_eq!(String::from_utf8(out).expect("is UTF-8"), "before a\"\\/\u{8}\u{c}\n\r\té€😀z");
    }

    #[test]
    fn what_is_no_character_becomes_the_replacement_character() {
        let read = |raw: &[u8]| {
            let mut out = b"\xff".to_vec();
            unescape(raw, &mut out);
            make_valid(&mut out, 1);
            String::from_utf8(out[1..].to_vec()).expect("is UTF-8")
        };
        for (raw, expected) in [
            (&br"\ud83d"[..], "\u{fffd}"),
            (br"a\ud83dz", "a\u{fffd}z"),
            (br"\ud83d\u0041", "\u{fffd}A"),
            (br"\ud83d\ud83d\ude00", "\u{fffd}😀"),
            (br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (br"\u0000", "\u{fffd}"),
            (b"a\0z", "a\u{fffd}z"),
            (b"\xff\\n\xc3", "\u{fffd}\n\u{fffd}"),
            // Overlong forms, and surrogates as bytes.
            (b"\xc0\xafx", "\u{fffd}\u{fffd}x"),
            (b"\xed\xa0\x80x", "\u{fffd}\u{fffd}\u{fffd}x"),
        ] {
            assert_eq!(read(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn four_digits_are_hexadecimal_without_signs() {
        assert_eq!((hex4(b"00fF8"), hex4(b"+0ff"), hex4(b"0ff")), (Some(0xff), None, None));
    }
}
