//! A row: the sends of one object on one day (UTC), by quarter of an hour; its encoding and its checksum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most reasons in one quarter of an hour; a program has no more than a dozen.
const REASONS_MAX: usize = 64;

/// The reason under which [`FateCounts::printed`] is kept in the file, whose format is older than it.
pub(crate) const PRINTED: &str = "printed";

/// Sends by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "KeptCounts", into = "KeptCounts")]
pub struct FateCounts {
    /// How many were counted.
    pub counted: u64,
    /// How many the far end accepted.
    pub accepted: u64,
    /// How many were printed, and sent to nobody.
    pub printed: u64,
    /// How many were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// As the file has them.
#[derive(Debug, Serialize, Deserialize)]
struct KeptCounts {
    counted: u64,
    accepted: u64,
    dropped: BTreeMap<String, u64>,
}

impl From<KeptCounts> for FateCounts {
    fn from(KeptCounts { counted, accepted, mut dropped }: KeptCounts) -> Self {
        let printed = dropped.remove(PRINTED).unwrap_or_default();
        Self { counted, accepted, printed, dropped }
    }
}

impl From<FateCounts> for KeptCounts {
    fn from(FateCounts { counted, accepted, printed, mut dropped }: FateCounts) -> Self {
        if printed > 0 {
            dropped.insert(PRINTED.to_owned(), printed);
        }
        Self { counted, accepted, dropped }
    }
}

impl FateCounts {
    /// Adds other counts.
    pub fn add(&mut self, other: &FateCounts) {
        self.counted = self.counted.saturating_add(other.counted);
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.printed = self.printed.saturating_add(other.printed);
        for (reason, sends) in &other.dropped {
            self.drop_for(reason, *sends);
        }
    }

    /// Adds sends that were dropped.
    pub(crate) fn drop_for(&mut self, reason: &str, sends: u64) {
        if let Some(known) = self.dropped.get_mut(reason) {
            *known = known.saturating_add(sends);
        } else if self.dropped.len() < REASONS_MAX {
            self.dropped.insert(reason.to_owned(), sends);
        }
    }

    /// The sum of dropped sends.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().fold(0, |sum, sends| sum.saturating_add(*sends))
    }
}

/// By the number of the quarter of an hour in its day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row(pub(crate) BTreeMap<u8, FateCounts>);

/// The day (UTC, since 1970) and the object's number.
pub(crate) type RowKey = (u32, u32);

impl Row {
    pub(crate) fn add(&mut self, other: &Row) {
        for (quarter, sends) in &other.0 {
            self.0.entry(*quarter).or_default().add(sends);
        }
    }

    /// Its encoding. `None`: encoding failed, for lack of memory.
    pub(crate) fn pack(&self, key: RowKey) -> Option<Vec<u8>> {
        redb_file::pack(&[&key_bytes(key)], self).ok()
    }

    /// Decodes a row; `None`: the bytes are damaged.
    pub(crate) fn unpack(key: RowKey, packed: &[u8]) -> Option<Self> {
        redb_file::unpack(&[&key_bytes(key)], packed)
    }
}

fn key_bytes((day, object): RowKey) -> [u8; 8] {
    ((u64::from(day) << 32) | u64::from(object)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts() -> impl Strategy<Value = FateCounts> {
        let dropped = prop::collection::btree_map("[a-z_0-9]{1,12}", any::<u64>(), 0..3);
        (any::<[u64; 3]>(), dropped).prop_map(|([counted, accepted, printed], dropped)| FateCounts {
            counted,
            accepted,
            printed,
            dropped,
        })
    }

    proptest! {
        /// What is packed is what is unpacked, under its own key, unless any bit of it is another.
        #[test]
        fn a_row_is_unpacked_as_it_was_packed_or_not_at_all(
            quarters in prop::collection::btree_map(0u8..96, counts(), 0..20),
            key in any::<(u32, u32)>(),
            bit in any::<prop::sample::Index>(),
        ) {
            let row = Row(quarters);
            let mut packed = row.pack(key).unwrap();
            prop_assert_eq!(Row::unpack(key, &packed), Some(row));
            prop_assert_eq!(Row::unpack((key.0 ^ 1, key.1), &packed), None);
            let bit = bit.index(packed.len() * 8);
            packed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Row::unpack(key, &packed), None);
        }
    }

    /// A row of a version that knew no printed sends is read, and written, as ever.
    #[test]
    fn what_was_printed_is_kept_in_the_older_format() {
        let kept = (7_u64, 2_u64, BTreeMap::from([("late".to_owned(), 1_u64)]));
        let row = BTreeMap::from([(3_u8, kept)]);
        let packed = redb_file::pack(&[&key_bytes((1, 2))], &row).unwrap();
        let mut known = Row::unpack((1, 2), &packed).unwrap();
        let dropped = [("late".to_owned(), 1)].into();
        assert_eq!(known.0[&3], FateCounts { counted: 7, accepted: 2, printed: 0, dropped });
        assert_eq!(known.pack((1, 2)).unwrap(), packed);
        known.add(&Row([(3, FateCounts { printed: 4, ..FateCounts::default() })].into()));
        let again = Row::unpack((1, 2), &known.pack((1, 2)).unwrap()).unwrap();
        assert_eq!((again.0[&3].printed, again.0[&3].dropped_in_all()), (4, 1));
    }

    #[test]
    fn a_quarter_of_an_hour_of_a_newsletter_is_small() {
        let sends = FateCounts { counted: 12_345, accepted: 12_345, ..FateCounts::default() };
        let row = Row([(36, sends.clone()), (37, sends)].into());
        assert_eq!(row.pack((20_000, 7)).unwrap().len(), 1 + 2 * 6 + 4);
    }
}
