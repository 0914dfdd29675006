//! Ranges of sequence numbers.

use std::ops::Range;

/// How many numbers are in `range`.
pub(crate) fn length(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// The parts of `range` that are in none of `known`, which is in order.
pub(crate) fn subtract(mut range: Range<u64>, known: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    for other in known {
        if other.start > range.start && range.start < range.end {
            parts.push(range.start..other.start.min(range.end));
        }
        range.start = range.start.max(other.end);
    }
    if range.start < range.end {
        parts.push(range);
    }
    parts
}

#[cfg(test)]
mod tests;
