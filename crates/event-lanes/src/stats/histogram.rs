//! How often values of which size were seen.

/// A histogram with fixed bounds, as Prometheus reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds, ascending; the last bucket has none.
    pub bounds: &'static [f64],
    /// Observations by bucket, not cumulative; one more than there are bounds.
    pub buckets: Vec<u64>,
    /// The sum of all observations.
    pub sum: f64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    pub(super) fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
    }
}
