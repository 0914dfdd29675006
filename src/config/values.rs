//! Types of configuration values: durations, sizes, addresses and secrets, as they are written.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::fmt::friendly::{Spacing, SpanPrinter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// Longer than any duration that a setting can sensibly have, and far from every overflow: a year.
const DURATION_MAX: Duration = Duration::from_hours(366 * 24);

/// More digits than [`DURATION_MAX`] has in its smallest unit.
const DURATION_DIGITS_MAX: usize = 11;

/// The units of a size, in any case; those for output come last.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Why a text is invalid. It completes a sentence that begins with the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
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
    #[error(
        "is not an address to listen on, which is an IP address and a port: 127.0.0.1:8080 for this machine only, \
         0.0.0.0:8080 for all"
    )]
    NotAnAddress,
}

/// A duration, written like `1h30m`: whole numbers with their units, from the largest to the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("x-value" = "duration", "pattern" = r"^\s*([0-9]+(h|m|s|ms))+\s*$"))]
pub(super) struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let text = text.trim();
        let (number, rest) = split_number(text, ValueError::NotADuration)?;
        if rest.is_empty() {
            return Err(ValueError::DurationWithoutUnit(number));
        }
        // jiff accepts more: white space, fractions, days, words.
        if !text.bytes().all(|byte| byte.is_ascii_digit() || b"hms".contains(&byte)) {
            return Err(ValueError::NotADuration);
        }
        if text.split(['h', 'm', 's']).any(|digits| digits.len() > DURATION_DIGITS_MAX) {
            return Err(ValueError::TooLarge);
        }
        let duration: SignedDuration = text.parse().map_err(|_no_duration| ValueError::NotADuration)?;
        let duration = duration.unsigned_abs();
        if duration > DURATION_MAX { Err(ValueError::TooLarge) } else { Ok(Self(duration)) }
    }
}

impl From<Span> for String {
    fn from(Span(duration): Span) -> Self {
        SpanPrinter::new().spacing(Spacing::None).unsigned_duration_to_string(&duration)
    }
}

/// A number of bytes, written like `4GiB`, `500KB` (thousands), `16 MiB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("x-value" = "size", "type" = ["string", "integer"], "minimum" = 1))]
#[schemars(extend("pattern" = r"^\s*[0-9]+\s*(([KkMmGgTt][Ii]?)?[Bb])?\s*$"))]
pub(super) struct Size(pub u64);

impl TryFrom<String> for Size {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let (number, unit) = split_number(text.trim(), ValueError::NotASize)?;
        let unit = unit.trim_start();
        if unit.is_empty() {
            return Ok(Self(number));
        }
        if let Some(letter) =
            ['K', 'M', 'G', 'T'].iter().find(|letter| unit.eq_ignore_ascii_case(&letter.to_string()))
        {
            return Err(ValueError::AmbiguousUnit(*letter));
        }
        let is_it = |(name, _): &&(&str, u64)| unit.eq_ignore_ascii_case(name);
        let (_, bytes) = SIZE_UNITS.iter().find(is_it).ok_or(ValueError::NotASize)?;
        number.checked_mul(*bytes).map(Self).ok_or(ValueError::TooLarge)
    }
}

impl From<Size> for String {
    /// In the largest unit that leaves it whole.
    fn from(Size(bytes): Size) -> Self {
        let is_whole = |(_, unit): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*unit);
        match SIZE_UNITS[5..].iter().rev().find(is_whole) {
            Some((name, unit)) => format!("{}{name}", bytes / unit),
            None => format!("{bytes}B"),
        }
    }
}

/// An IP address and a port to listen on; `localhost` is 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("x-value" = "address"))]
pub(super) struct Address(pub SocketAddr);

impl TryFrom<String> for Address {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let plain = text.trim();
        let numbers = plain.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address = numbers.as_deref().unwrap_or(plain).parse();
        address.map(Self).map_err(|_no_address| ValueError::NotAnAddress)
    }
}

impl From<Address> for String {
    fn from(Address(address): Address) -> Self {
        address.to_string()
    }
}

/// A password, a key, or a text that may hold one. It can't be printed. It is serialized as a fingerprint, which tells two
/// of them apart and means nothing outside of this process.
#[derive(Default, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("x-secret" = true))]
pub(super) struct SecretText(pub String);

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match &*self.0 {
            "" => serializer.serialize_str(""),
            secret => serializer.serialize_str(&format!("{:016x}", SEED.hash_one(secret))),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// The whole number at the beginning, and what follows it.
fn split_number(text: &str, otherwise: ValueError) -> Result<(u64, &str), ValueError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(otherwise);
    }
    if rest.strip_prefix('.').is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit())) {
        return Err(ValueError::Fraction);
    }
    // Digits alone fail only by being too many.
    let number = number.parse().map_err(|_| ValueError::TooLarge)?;
    Ok((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duration(text: &str) -> Result<Duration, ValueError> {
        Span::try_from(text.to_owned()).map(|Span(duration)| duration)
    }

    fn size(text: &str) -> Result<u64, ValueError> {
        Size::try_from(text.to_owned()).map(|Size(bytes)| bytes)
    }

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
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_how_one_is_written() {
        for text in ["", "s", "10x", "-5s", "10 s", "5s10m", "5s5s", "10S", "1d", "5s1"] {
            assert_eq!(duration(text), Err(ValueError::NotADuration), "{text}");
        }
        assert_eq!(duration("10"), Err(ValueError::DurationWithoutUnit(10)));
        assert_eq!(duration("1.5s"), Err(ValueError::Fraction));
        for text in ["99999999999999999999s", "9999999999999999h", "9000h"] {
            assert_eq!(duration(text), Err(ValueError::TooLarge), "{text}");
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
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_says_how_one_is_written() {
        for text in ["", "GiB", "-1", "4XB", "4 Gi B", "lots", "4GiBs"] {
            assert_eq!(size(text), Err(ValueError::NotASize), "{text}");
        }
        assert_eq!(size("4G"), Err(ValueError::AmbiguousUnit('G')));
        assert_eq!(size("1.5GiB"), Err(ValueError::Fraction));
        for text in ["18446744073709551616", "99999999TiB"] {
            assert_eq!(size(text), Err(ValueError::TooLarge), "{text}");
        }
    }

    proptest! {
        /// What is written reads back as the same duration, and any text is read or refused.
        #[test]
        fn durations_survive_a_round(ms in 0..=31_622_400_000_u64, text in "\\PC{0,20}|[0-9hms.]{0,12}") {
            let span = Duration::from_millis(ms);
            prop_assert_eq!(duration(&String::from(Span(span))), Ok(span));
            let _ = duration(&text);
        }

        /// What is written reads back as the same size, and any text is read or refused.
        #[test]
        fn sizes_survive_a_round(bytes: u64, shift in 0_u32..60, text in "\\PC{0,20}|[0-9KMGTiB .]{0,12}") {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(size(&String::from(Size(bytes))), Ok(bytes));
            let _ = size(&text);
        }
    }
}
