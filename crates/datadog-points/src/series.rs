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
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_two_to_the_24_is_written_as_several_values() {
        let mut raw = Vec::new();
        write_points(&mut raw, [(7, 2 * VALUE_MAX + 3), (8, VALUE_MAX)]);
        assert_eq!(raw, b"[7,[16777216,16777216,3]],[8,[16777216]]");
    }
}
