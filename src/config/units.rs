//! Durations and sizes, as they are written in the configuration.

use std::fmt::Write as _;
use std::time::Duration;

/// Longer than any duration that a setting can sensibly have, and far from every overflow: a year.
const DURATION_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// From the largest to the smallest, which is the order they are written in.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// By their lower-case names.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// Why a text is not a duration or a size. It completes a sentence that begins with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnitError {
    #[error("is not a duration, which is written like \"250ms\", \"10s\", \"10m\" or \"1h30m\"")]
    NotADuration,
    #[error("is a duration without a unit; for seconds write \"{0}s\"")]
    DurationWithoutUnit(u64),
    #[error("is not a size, which is written like \"16MiB\", \"4GiB\", \"500KB\" or as a number of bytes")]
    NotASize,
    #[error("has a unit that could mean two things; write {0}iB (powers of 1024) or {0}B (powers of 1000)")]
    AmbiguousUnit(char),
    #[error("is a fraction; write a whole number of a smaller unit")]
    Fraction,
    #[error("is too large to be meant")]
    TooLarge,
}

/// Reads `250ms`, `10s`, `1h30m`, `0s`: whole numbers with their units, from the largest to the smallest.
pub(super) fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::NotADuration);
    }
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest, UnitError::NotADuration)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() && after.is_empty() && rest.len() == text.len() {
            return Err(UnitError::DurationWithoutUnit(number));
        }
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or(UnitError::NotADuration)?;
        let part_ms = number.checked_mul(*unit_ms).ok_or(UnitError::TooLarge)?;
        total_ms = total_ms.checked_add(part_ms).ok_or(UnitError::TooLarge)?;
        rest = after;
    }
    if total_ms > DURATION_MS_MAX {
        return Err(UnitError::TooLarge);
    }
    Ok(Duration::from_millis(total_ms))
}

/// Reads `4GiB`, `500KB` (thousands), `16 MiB`, `4096`: bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text.trim(), UnitError::NotASize)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    if unit.is_empty() {
        return Ok(number);
    }
    if let Some(letter) = ["k", "m", "g", "t"].iter().find(|letter| **letter == unit) {
        return Err(UnitError::AmbiguousUnit(letter.chars().next().unwrap_or_default().to_ascii_uppercase()));
    }
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(UnitError::NotASize)?;
    number.checked_mul(*bytes).ok_or(UnitError::TooLarge)
}

/// Whether `text` is a size and nothing else that it could be.
pub(super) fn is_size(text: &str) -> bool {
    parse_size(text).is_ok()
}

/// Writes a duration as [`parse_duration`] reads it.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, unit_ms) in DURATION_UNITS {
        if rest_ms >= unit_ms {
            // Writing to a String can't fail.
            let _ = write!(text, "{}{name}", rest_ms / unit_ms);
            rest_ms %= unit_ms;
        }
    }
    text
}

/// Writes a size as [`parse_size`] reads it, in the largest unit that leaves it whole.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// The whole number at the beginning, and what follows it.
fn split_number(text: &str, otherwise: UnitError) -> Result<(u64, &str), UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(otherwise);
    }
    if rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())) {
        return Err(UnitError::Fraction);
    }
    // Digits alone fail only by being too many.
    let number = number.parse().map_err(|_| UnitError::TooLarge)?;
    Ok((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_in_their_units() {
        for (text, ms) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("2h5s1ms", 7_205_001),
            ("0s", 0),
            (" 5s ", 5_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_how_one_is_written() {
        for text in ["", "s", "10x", "-5s", "10 s", "5s10m", "5s5s", "10S", "1d", "5s1"] {
            assert_eq!(parse_duration(text), Err(UnitError::NotADuration), "{text}");
        }
        assert_eq!(parse_duration("10"), Err(UnitError::DurationWithoutUnit(10)));
        assert_eq!(parse_duration("1.5s"), Err(UnitError::Fraction));
        for text in ["99999999999999999999s", "9999999999999999h", "9000h"] {
            assert_eq!(parse_duration(text), Err(UnitError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_in_their_units() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("16MiB", 16 << 20),
            ("16 mib", 16 << 20),
            ("500KB", 500_000),
            ("4096", 4096),
            ("7B", 7),
            ("1TiB", 1 << 40),
            ("2tb", 2_000_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_how_one_is_written() {
        for text in ["", "GiB", "-1", "4XB", "4 Gi B", "lots", "4GiBs"] {
            assert_eq!(parse_size(text), Err(UnitError::NotASize), "{text}");
        }
        assert_eq!(parse_size("4G"), Err(UnitError::AmbiguousUnit('G')));
        assert_eq!(parse_size("1.5GiB"), Err(UnitError::Fraction));
        for text in ["18446744073709551616", "99999999TiB"] {
            assert_eq!(parse_size(text), Err(UnitError::TooLarge), "{text}");
        }
    }

    proptest! {
        /// What is written reads back as the same duration, and any text is read or refused.
        #[test]
        fn durations_survive_a_round(ms in 0..=DURATION_MS_MAX, text in "\\PC{0,20}|[0-9hms.]{0,12}") {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            let _ = parse_duration(&text);
        }

        /// What is written reads back as the same size, and any text is read or refused.
        #[test]
        fn sizes_survive_a_round(bytes: u64, shift in 0_u32..60, text in "\\PC{0,20}|[0-9KMGTiB .]{0,12}") {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            let _ = parse_size(&text);
        }
    }
}
