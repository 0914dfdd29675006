use proptest::prelude::*;

use super::*;

#[test]
fn known_ranges_are_subtracted() {
    let difference = |range: Range<u64>, known: &[(u64, u64)]| -> Vec<(u64, u64)> {
        let known: Vec<_> = known.iter().map(|(start, end)| *start..*end).collect();
        subtract(range, &known).into_iter().map(|part| (part.start, part.end)).collect()
    };
    assert_eq!(difference(0..10, &[]), [(0, 10)]);
    assert_eq!(difference(0..10, &[(2, 4), (6, 20)]), [(0, 2), (4, 6)]);
    assert_eq!(difference(5..10, &[(0, 6), (8, 9)]), [(6, 8), (9, 10)]);
    assert_eq!(difference(5..10, &[(0, 20)]), []);
    assert_eq!(difference(5..10, &[(10, 20), (30, 40)]), [(5, 10)]);
    assert_eq!(difference(5..5, &[(8, 9)]), []);
}

proptest! {
    /// A number is in the difference exactly when it is in the range and in none of the known ones.
    #[test]
    fn the_difference_is_exact(range in 0u64..30, length in 0u64..20, cuts in proptest::collection::btree_set(0u64..60, 0..8)) {
        let range = range..range + length;
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let known: Vec<_> = cuts.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
        let parts = subtract(range.clone(), &known);
        for number in 0..60 {
            let expected = range.contains(&number) && !known.iter().any(|other| other.contains(&number));
            prop_assert_eq!(parts.iter().any(|part| part.contains(&number)), expected);
        }
    }
}
