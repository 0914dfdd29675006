//! Customers, their tag sets, and how often each is sent: large customers have many tag sets, and of all tag sets a few get
//! most of the sends. Pure, and the same for the same numbers.

/// How the number of tag sets falls from the largest customer to the smallest. Of 2 million the largest of 5,000 has 50,000, the
/// average 400, the smallest 130.
const SIZE_EXPONENT: f64 = -0.7;

/// Scatters ranks over all tag sets: a prime, so that it has no divisor in common with their number.
const STRIDE: u64 = 1_000_000_007;

/// A send's tag set is a number; those of one customer are neighbours.
#[derive(Debug)]
pub(crate) struct Population {
    /// The first tag set of each customer, and behind the last one their number.
    starts: Vec<u32>,
    owners: Vec<u16>,
}

impl Population {
    pub(crate) fn new(connections: u16, tag_sets: u32) -> Self {
        let weight = |connection: u16| (f64::from(connection) + 1.0).powf(SIZE_EXPONENT);
        let all: f64 = (0..connections).map(weight).sum();
        let mut before = 0.0;
        let mut starts = vec![0];
        for connection in 0..connections {
            before += weight(connection);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at most the number"
            )]
            starts.push((f64::from(tag_sets) * (before / all).min(1.0)).round() as u32);
        }
        let owners = (0..connections).flat_map(|connection| {
            let place = usize::from(connection);
            std::iter::repeat_n(connection, (starts[place + 1] - starts[place]) as usize)
        });
        Self { owners: owners.collect(), starts }
    }

    pub(crate) fn tag_sets(&self) -> u32 {
        *self.starts.last().unwrap()
    }

    /// Whose tag set it is.
    pub(crate) fn owner(&self, set: u32) -> u16 {
        self.owners[set as usize]
    }

    /// The tag sets of a customer.
    pub(crate) fn sets_of(&self, connection: u16) -> std::ops::Range<u32> {
        let place = usize::from(connection);
        self.starts[place]..self.starts[place + 1]
    }

    /// Zipf's law with exponent 1, as a continuous curve, for a fraction in [0, 1).
    pub(crate) fn draw(&self, fraction: f64) -> u32 {
        let sets = self.tag_sets();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the number"
        )]
        let rank = (fraction * (f64::from(sets) + 1.0).ln()).exp() as u32;
        let place = (u64::from(rank.clamp(1, sets)) * STRIDE) % u64::from(sets);
        u32::try_from(place).unwrap()
    }
}

/// How many different tag sets so many sends have on average.
pub(crate) fn different(tag_sets: u32, sends: f64) -> f64 {
    let span = (f64::from(tag_sets) + 1.0).ln();
    let is_there = |rank: u32| 1.0 - (-sends * (1.0 / f64::from(rank)).ln_1p() / span).exp();
    (1..=tag_sets).map(is_there).sum()
}

/// The finish of `splitmix64`: scatters the bits, and maps no two numbers alike.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What an id is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum IdOf {
    AppGroup = 1,
    Campaign,
    Canvas,
    Step,
    Event,
    User,
}

/// Characters of an id.
pub(crate) const ID_LENGTH: usize = 36;

/// The id of a thing, always the same: 8-4-4-4-12 hexadecimal digits.
pub(crate) fn id(of: IdOf, number: u64) -> [u8; ID_LENGTH] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Every number of a kind has an id that no other has, for `mix` maps no two alike.
    let first = mix(number ^ ((of as u64) << 56));
    let bytes = (u128::from(first) << 64 | u128::from(mix(first))).to_be_bytes();
    let (mut out, mut at) = ([b'-'; ID_LENGTH], 0);
    for (number, byte) in bytes.into_iter().enumerate() {
        at += usize::from(matches!(number, 4 | 6 | 8 | 10));
        out[at] = HEX[usize::from(byte >> 4)];
        out[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out
}

/// As text.
pub(crate) fn id_text(of: IdOf, number: u64) -> String {
    String::from_utf8(id(of, number).to_vec()).unwrap()
}
