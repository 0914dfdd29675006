//! Writes series as the JSON that Datadog's `POST /api/v1/distribution_points` takes.

/// The largest value that goes into one number. Datadog documents 32-bit metric values, and a 32-bit float
/// is exact up to here; a greater count is written as several values, whose sum is exact.
pub const VALUE_MAX: u64 = 1 << 24;

/// The name of a metric, as it stands in a request.
#[derive(Debug, Clone)]
pub struct Metric(Vec<u8>);

impl Metric {
    /// `name` as it is to appear in Datadog.
    pub fn new(name: &str) -> Self {
        let mut head = br#"{"metric":""#.to_vec();
        write_escaped(&mut head, name.as_bytes());
        head.extend_from_slice(br#"","type":"distribution","tags":["#);
        Self(head)
    }
}

/// Appends one series. A tag is written as its two halves back to back, which are UTF-8; a point is a time in Unix
/// seconds and a count.
pub(crate) fn write_series<'t>(
    raw: &mut Vec<u8>,
    metric: &Metric,
    tags: impl IntoIterator<Item = (&'t [u8], &'t [u8])>,
    points: impl IntoIterator<Item = (u32, u64)>,
) {
    raw.extend_from_slice(&metric.0);
    for (number, (key, value)) in tags.into_iter().enumerate() {
        raw.extend_from_slice(if number == 0 { b"\"" } else { b",\"" });
        write_escaped(raw, key);
        write_escaped(raw, value);
        raw.push(b'"');
    }
    raw.extend_from_slice(br#"],"points":["#);
    write_points(raw, points);
    raw.extend_from_slice(b"]}");
}

fn write_points(raw: &mut Vec<u8>, points: impl IntoIterator<Item = (u32, u64)>) {
    let mut digits = itoa::Buffer::new();
    for (number, (time, count)) in points.into_iter().enumerate() {
        raw.extend_from_slice(if number == 0 { b"[" } else { b",[" });
        raw.extend_from_slice(digits.format(time).as_bytes());
        raw.extend_from_slice(b",[");
        let mut left = count;
        while left > VALUE_MAX {
            raw.extend_from_slice(digits.format(VALUE_MAX).as_bytes());
            raw.push(b',');
            left -= VALUE_MAX;
        }
        raw.extend_from_slice(digits.format(left).as_bytes());
        raw.extend_from_slice(b"]]");
    }
}

/// Appends UTF-8 text as the inside of a JSON string.
fn write_escaped(raw: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = first_escaped(rest) {
        raw.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => raw.extend_from_slice(&[b'\\', byte]),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                raw.extend_from_slice(b"\\u00");
                raw.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[at + 1..];
    }
    raw.extend_from_slice(rest);
}

/// Where the first byte is that can't stand in a JSON string as it is. Nearly always there is none, so eight are looked at at a
/// time.
fn first_escaped(text: &[u8]) -> Option<usize> {
    let (eights, _) = text.as_chunks();
    let plain = eights.iter().take_while(|eight| !has_escaped(u64::from_le_bytes(**eight))).count() * 8;
    let behind = text[plain..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
    behind.map(|at| plain + at)
}

/// Whether one of eight bytes is below a space, a quote or a backslash.
#[inline]
const fn has_escaped(bytes: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let below_space = bytes.wrapping_sub(ONES * 0x20);
    let is_quote = (bytes ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let is_backslash = (bytes ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    // A bit is set by a borrow, and a byte that is one of them is the first to borrow.
    (below_space | is_quote | is_backslash) & HIGH & !bytes != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_is_escaped_as_serde_json_reads_it(text in proptest::collection::vec(
            prop_oneof![9 => any::<char>(), 9 => proptest::char::range(' ', '~'), 1 => proptest::char::range('\0', ' ')], 0..60)) {
            let text: String = text.into_iter().collect();
            let mut raw = b"\"".to_vec();
            write_escaped(&mut raw, text.as_bytes());
            raw.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&raw).unwrap(), text);
        }
    }

    #[test]
    fn each_byte_is_told_among_seven_of_each_other() {
        for other in 0x20..=u8::MAX {
            if matches!(other, b'"' | b'\\') {
                continue;
            }
            for byte in 0..=u8::MAX {
                for place in [0, 3, 7] {
                    let mut bytes = [other; 8];
                    bytes[place] = byte;
                    let is_escaped = matches!(byte, b'"' | b'\\' | 0..=0x1f);
                    assert_eq!(has_escaped(u64::from_le_bytes(bytes)), is_escaped, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn a_count_beyond_two_to_the_24_is_written_as_several_values() {
        let mut raw = Vec::new();
        write_points(&mut raw, [(7, 2 * VALUE_MAX + 3), (8, VALUE_MAX)]);
        assert_eq!(raw, b"[7,[16777216,16777216,3]],[8,[16777216]]");
    }
}
