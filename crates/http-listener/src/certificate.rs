//! The validity of certificates.
//!
//! Only two dates at a fixed place of a certificate are needed here; rustls does not expose them, and a parser of whole
//! certificates would bring a score of crates.

/// A certificate should be replaced this long before its end: a third of its life, and fourteen days at most.
const NEAR_SECONDS_MAX: i64 = 14 * 86_400;

/// The period in which all certificates of a chain hold, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateValidity {
    /// Its first second.
    pub not_before: i64,
    /// Its last second.
    pub not_after: i64,
}

/// The state of a certificate at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It holds, and will for a while.
    Valid,
    /// It holds, and ends in this many seconds.
    Ending(i64),
    /// It ended this many seconds ago.
    Expired(i64),
    /// It begins to hold in this many seconds.
    Early(i64),
}

impl CertificateValidity {
    /// Reads the DER of a certificate; `None`: it is not one.
    pub(crate) fn read(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (_, mut fields, _) = element(certificate)?;
        // RFC 5280, 4.1: an explicit version, which may be missing, then serial number, algorithm and issuer.
        if fields.first() == Some(&0xa0) {
            fields = element(fields)?.2;
        }
        for _ in 0..3 {
            fields = element(fields)?.2;
        }
        let (_, validity, _) = element(fields)?;
        let (kind, not_before, rest) = element(validity)?;
        let not_before = time(kind, not_before)?;
        let (kind, not_after, _) = element(rest)?;
        Some(Self { not_before, not_after: time(kind, not_after)? })
    }

    /// The period in which both hold.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// The state at a time, in Unix seconds.
    pub fn at(self, now: i64) -> Standing {
        let left = self.not_after.saturating_sub(now);
        let near = (self.not_after.saturating_sub(self.not_before) / 3).min(NEAR_SECONDS_MAX);
        match left {
            ..0 => Standing::Expired(-left),
            _ if now < self.not_before => Standing::Early(self.not_before - now),
            _ if left < near => Standing::Ending(left),
            _ => Standing::Valid,
        }
    }
}

/// The kind and content of the first element, and the bytes behind it (X.690).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let bytes = usize::from(first & 0x7f);
        if !(1..=4).contains(&bytes) {
            return None;
        }
        let (length, rest) = rest.split_at_checked(bytes)?;
        (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((kind, content, rest))
}

/// `UTCTime` (YYMMDDHHMMSSZ, of 1950 to 2049) or `GeneralizedTime` (YYYYMMDDHHMMSSZ), as RFC 5280 has them.
fn time(kind: u8, text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let (year, rest) = match (kind, text.len()) {
        (0x17, 12) => (None, text),
        (0x18, 14) => (Some(number(&text[..4])), &text[4..]),
        _ => return None,
    };
    let (year, rest) = match year {
        Some(year) => (year, rest),
        None => (number(&rest[..2]) + if number(&rest[..2]) < 50 { 2000 } else { 1900 }, &rest[2..]),
    };
    let part = |at: usize| number(&rest[at..at + 2]);
    let (month, day) = (part(0), part(2));
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    is_date.then(|| days(year, month, day) * 86_400 + part(4) * 3_600 + part(6) * 60 + part(8))
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

/// Days since 1970. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_dates_are_read_in_both_of_their_forms() {
        for (from, until, seconds) in [
            ((2020, 2, 29), (2021, 3, 1), (1_582_934_400, 1_614_556_800)),
            ((1975, 1, 1), (2049, 12, 31), (157_766_400, 2_524_521_600)),
            ((2050, 1, 1), (4096, 1, 1), (2_524_608_000, 67_090_118_400)),
        ] {
            let validity = CertificateValidity::read(&certificate(from, until)).unwrap();
            assert_eq!((validity.not_before, validity.not_after), seconds, "{from:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates_wherever_it_ends() {
        let whole = certificate((2020, 1, 1), (2030, 1, 1));
        for length in 0..whole.len() {
            assert_eq!(CertificateValidity::read(&whole[..length]), None, "{length}");
        }
        for wrong in [&b""[..], b"\x30", b"\x30\x89\x01", b"\x30\x84\xff\xff\xff\xff", b"hello", &[0x30; 64]]
        {
            assert_eq!(CertificateValidity::read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_end_is_near_two_weeks_before_and_earlier_where_life_is_short() {
        const DAY: i64 = 86_400;
        let year = CertificateValidity { not_before: 0, not_after: 365 * DAY };
        assert_eq!(year.at(-1), Standing::Early(1));
        assert_eq!(year.at(0), Standing::Valid);
        assert_eq!(year.at(351 * DAY), Standing::Valid);
        assert_eq!(year.at(351 * DAY + 1), Standing::Ending(14 * DAY - 1));
        assert_eq!(year.at(365 * DAY), Standing::Ending(0));
        assert_eq!(year.at(365 * DAY + 1), Standing::Expired(1));
        let days = CertificateValidity { not_before: 0, not_after: 6 * DAY };
        assert_eq!(
            (days.at(4 * DAY), days.at(4 * DAY + 1)),
            (Standing::Valid, Standing::Ending(2 * DAY - 1))
        );
        assert_eq!(year.and(days), days);
    }
}
