//! What the whole platform takes, by what was measured. Pure.

use super::figures::{Costs, Work};
use super::population::different;

/// Braze's published peak: 21 million sends a minute.
pub(crate) const PLATFORM: f64 = 350_000.0;

/// What is reckoned for a platform on so many forwarders.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) forwarders: f64,
    /// Of one forwarder.
    pub(crate) sends: f64,
    pub(crate) series_a_flush: f64,
    pub(crate) counting: f64,
    pub(crate) flushing: f64,
    pub(crate) sending: f64,
    pub(crate) rest: f64,
    /// Of all.
    pub(crate) points: f64,
}

/// What a thing costs, as measured.
#[derive(Debug)]
pub(crate) struct Prices {
    /// CPU seconds a million sends.
    pub(crate) counting: f64,
    /// CPU seconds 200,000 series.
    pub(crate) flushing: f64,
    /// CPU milliseconds a request.
    pub(crate) sending: f64,
    /// Cores of a process.
    pub(crate) rest: f64,
    pub(crate) points_a_series: f64,
}

impl Prices {
    pub(crate) fn of(costs: &Costs) -> Self {
        Self {
            counting: costs.cpu(Work::Counting) / costs.sends * 1e6,
            flushing: costs.cpu(Work::Flushing) / costs.series * 2e5,
            sending: costs.cpu(Work::Sending) / costs.requests * 1e3,
            rest: costs.cpu(Work::Rest) / costs.seconds,
            points_a_series: costs.points / costs.series,
        }
    }
}

/// At the platform's peak, with a flush every so many seconds and a request a connection and flush, or one for 5,000 series.
pub(crate) fn platform(
    prices: &Prices,
    (tag_sets, connections): (u32, u16),
    flush: f64,
    forwarders: f64,
) -> Platform {
    let sends = PLATFORM / forwarders;
    let series = different(tag_sets, sends * flush);
    let requests = f64::from(connections) + series / 5000.0;
    Platform {
        forwarders,
        sends,
        series_a_flush: series,
        counting: sends / 1e6 * prices.counting,
        flushing: series / 2e5 * prices.flushing / flush,
        sending: requests / flush * prices.sending / 1e3,
        rest: prices.rest,
        points: series * prices.points_a_series / flush * forwarders,
    }
}

impl Platform {
    /// Of one forwarder.
    pub(crate) fn cores(&self) -> f64 {
        self.counting + self.flushing + self.sending + self.rest
    }
}
