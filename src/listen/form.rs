//! What the query of a URL says.

/// Undoes `application/x-www-form-urlencoded`: `+` is a space, `%XX` a byte, and a `%` that begins no such
/// pair is itself.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high << 4 | low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            _ => bytes.push(first),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sign_is_no_digit() {
        assert_eq!(decode("%+4%-1%2B"), "% 4%-1+");
    }

    proptest! {
        /// Any text that is percent-encoded byte by byte comes back as it was.
        #[test]
        fn decoding_undoes_encoding(text in "\\PC{0,40}") {
            let encoded = text.bytes().fold(String::new(), |mut all, byte| {
                write!(all, "%{byte:02x}").unwrap();
                all
            });
            prop_assert_eq!(decode(&encoded), text);
        }
    }
}
