//! The truth about the day's sends. Pure.

use std::time::Duration;

use super::population::Population;

/// What was sent.
#[derive(Debug)]
pub(crate) struct Truth {
    /// By tag set.
    pub(crate) sets: Vec<u32>,
    pub(crate) sends: u64,
    /// By second.
    pub(crate) seconds: Vec<u64>,
    pub(crate) bytes: u64,
    /// How far the sends fell behind the rate at most.
    pub(crate) behind: Duration,
}

impl Truth {
    /// By customer.
    pub(crate) fn by_connection(&self, population: &Population, connections: u16) -> Vec<u64> {
        let sum = |connection| {
            population.sets_of(connection).map(|set| u64::from(self.sets[set as usize])).sum::<u64>()
        };
        (0..connections).map(sum).collect()
    }

    /// Tag sets with a send at least.
    pub(crate) fn different(&self) -> usize {
        self.sets.iter().filter(|sends| **sends > 0).count()
    }
}
