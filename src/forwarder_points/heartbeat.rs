//! The heartbeat: a point that says "the forwarder is there, and its requests are accepted", whether there are sends
//! or not. Without it nobody can tell in Datadog a campaign that does not send from a forwarder that does not run.

use super::{ForwarderPoint, version_tag};

/// The name of its metric. It is not the sends' metric, so that a sum over sends stays a number of sends.
pub const METRIC: &str = "braze.forwarder.heartbeat";

/// The heartbeat of one connection in one flush: one point with the value 1.
///
/// Its tags are those of every series (`tags.static`), `connection:NAME` and `version:X.Y.Z`, so that it is one series
/// per connection: five custom metrics at Datadog, and as many again for the days after an upgrade. There is no tag
/// for the machine on purpose: with it each new container would be another series.
pub fn point(connection: &str, static_tags: &[Box<str>], time: u64) -> ForwarderPoint {
    let own = [format!("connection:{connection}"), version_tag()];
    ForwarderPoint::new(METRIC, static_tags, own, time, 1)
}

#[cfg(test)]
mod tests;
