//! What came to Datadog, request by request; what the points in a body add up to. Pure.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes of a body, inflated.
const RAW_BYTES_MAX: usize = 4 << 20;

/// Who has sent a request: it stands in the API key, which every start and every reload of a forwarder has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The process, in the order of their starts.
    pub(crate) life: u8,
    /// How often its keys were changed.
    pub(crate) generation: u8,
    pub(crate) connection: u16,
}

impl Sender {
    /// 32 hexadecimal digits.
    pub(crate) fn key(self) -> String {
        format!("{:04x}{:04x}{:024x}", self.life, self.generation, self.connection)
    }

    pub(crate) fn of_key(key: &str) -> Option<Self> {
        let part = |range| u16::from_str_radix(key.get(range)?, 16).ok();
        let (life, generation) = (part(0..4)?.try_into().ok()?, part(4..8)?.try_into().ok()?);
        Some(Self { life, generation, connection: part(28..32)? })
    }
}

/// What became of a request, as far as Datadog knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    Accepted,
    Refused(u16),
    /// The connection was closed in the place of an answer.
    HungUp,
    /// Whoever asked was gone before there was an answer.
    Unanswered,
}

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) sender: Sender,
    /// Milliseconds since the first event: when it had arrived.
    pub(crate) at: u32,
    pub(crate) points: u32,
    pub(crate) sends: u64,
    pub(crate) bytes: u32,
    pub(crate) fate: Fate,
}

/// What is in a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) points: u32,
    pub(crate) sends: u64,
}

/// Adds up the points of a deflated body. A body that is not as expected panics, which the audit tells.
pub(crate) fn add_up(body: &[u8]) -> Content {
    thread_local! {
        static INFLATED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(RAW_BYTES_MAX + 1));
    }
    INFLATED.with_borrow_mut(|raw| {
        raw.clear();
        let ended = Decompress::new(true).decompress_vec(body, raw, FlushDecompress::Finish).unwrap();
        assert_eq!(ended, Status::StreamEnd, "a body is whole, and no larger than Datadog takes");
        read(raw)
    })
}

/// A quotation mark inside of a text is escaped, so what is looked for is a key.
fn read(raw: &[u8]) -> Content {
    const POINTS: &[u8] = br#""points":["#;
    let mut content = Content::default();
    for at in memchr::memmem::find_iter(raw, POINTS) {
        let mut rest = &raw[at + POINTS.len()..];
        // `[TIME,[VALUE,…]]`, several of them with commas in between, to the bracket that ends all.
        while rest[0] != b']' {
            rest = rest.strip_prefix(b",").unwrap_or(rest);
            let open = memchr::memchr(b'[', &rest[1..]).unwrap() + 1;
            let close = memchr::memchr(b']', rest).unwrap();
            content.points += 1;
            content.sends += rest[open + 1..close].split(|byte| *byte == b',').map(number).sum::<u64>();
            rest = &rest[close + 2..];
        }
    }
    content
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| {
        assert!(digit.is_ascii_digit(), "a value is a whole number");
        number * 10 + u64::from(digit - b'0')
    })
}
