//! How long to wait before the registry is asked again. Pure.

use std::time::Duration;

/// The wait after the first failure is at most this: a registry that restarts is back within a second or so.
const FIRST: Duration = Duration::from_millis(200);

/// No wait is longer: that late at most it is seen that the registry is back.
pub const WAIT_MAX: Duration = Duration::from_secs(15);

/// The wait after so many failures in a row (1 or more): twice as long each time, up to [`WAIT_MAX`], and of
/// that something between the half and the whole, by `chance`, so that forwarders that lost the registry
/// together do not come back together.
///
/// Any number will do for `chance`; all its bits count.
pub fn wait(failures: u32, chance: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(WAIT_MAX);
    let half = whole / 2;
    // A fraction of 2^32, so that the product of nanoseconds fits.
    let share = u128::from(u32::try_from(chance >> 32).unwrap_or(u32::MAX));
    let more = (half.as_nanos() * share) >> 32;
    half + Duration::from_nanos(u64::try_from(more).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_waits_double_up_to_the_longest() {
        let longest = |failures| wait(failures, u64::MAX).as_millis();
        assert_eq!([0, 1, 2, 3, 4].map(longest), [199, 199, 399, 799, 1_599]);
        assert_eq!(longest(8), 14_999);
        assert_eq!(longest(u32::MAX), 14_999);
        assert_eq!(wait(1, 0), Duration::from_millis(100));
    }

    proptest! {
        /// A wait is never shorter than half of the longest that is possible after as many failures, never
        /// longer than [`WAIT_MAX`], and more failures never make it possible to wait less.
        #[test]
        fn a_wait_lies_between_the_half_and_the_whole(failures in 0u32..100, chance: u64) {
            let (least, most) = (wait(failures, 0), wait(failures, u64::MAX));
            let found = wait(failures, chance);
            prop_assert!((least..=most).contains(&found));
            prop_assert!(most <= least * 2 && most <= WAIT_MAX);
            prop_assert!(wait(failures + 1, 0) >= least);
        }
    }
}
