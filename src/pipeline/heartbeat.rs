//! The heartbeat: a point that says "the forwarder is there, and its requests are accepted", whether there are sends
//! or not. Without it nobody can tell in Datadog a campaign that does not send from a forwarder that does not run.

use std::fmt;

/// The name of its metric. It is not the sends' metric, so that a sum over sends stays a number of sends.
pub const METRIC: &str = "braze.forwarder.heartbeat";

/// The heartbeat of one connection in one flush: one point with the value 1.
///
/// Its tags are those of every series (`tags.static`), `connection:NAME` and `version:X.Y.Z`, so that it is one series
/// per connection: five custom metrics at Datadog, and as many again for the days after an upgrade. There is no tag
/// for the machine on purpose: with it each new container would be another series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// Sorted, each once.
    pub tags: Vec<Box<str>>,
    /// When it was made, in Unix seconds.
    pub time: u32,
}

impl Heartbeat {
    /// The heartbeat of a connection that has this name.
    pub fn new(connection: &str, static_tags: &[Box<str>], time: u64) -> Self {
        let own = [format!("connection:{connection}"), format!("version:{}", env!("CARGO_PKG_VERSION"))];
        let mut tags: Vec<Box<str>> = static_tags.iter().cloned().chain(own.map(Into::into)).collect();
        tags.sort_unstable();
        tags.dedup();
        // Points have 32 bits for their time.
        Self { tags, time: u32::try_from(time).unwrap_or(u32::MAX) }
    }
}

/// As in the output of a dry run.
impl fmt::Display for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{METRIC}  {}", self.tags.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_tags_are_the_static_ones_connection_and_version_sorted_and_each_once() {
        let static_tags = ["zone:a".into(), "env:prod".into(), "connection:acme".into()];
        let heartbeat = Heartbeat::new("acme", &static_tags, 7);
        let version = format!("version:{}", env!("CARGO_PKG_VERSION"));
        let tags: Vec<&str> = heartbeat.tags.iter().map(|tag| &**tag).collect();
        assert_eq!(tags, ["connection:acme", "env:prod", &version, "zone:a"]);
        assert_eq!(
            heartbeat.to_string(),
            format!("braze.forwarder.heartbeat  connection:acme env:prod {version} zone:a")
        );
    }
}
