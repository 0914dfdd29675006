//! What the forwarder sends beside the sends: points about itself and about silent campaigns. They travel with a flush,
//! once, and stand for no send; those of a request that failed are not repeated.

pub mod heartbeat;
pub mod last_send_age;
pub mod metrics;

use std::fmt;

use admin_api::format::harmless;

/// The prefix of their metrics. None of them stands for sends.
pub const PREFIX: &str = "braze.forwarder.";

/// One series with one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwarderPoint {
    /// Its metric.
    pub metric: &'static str,
    /// Sorted, each once.
    pub tags: Vec<Box<str>>,
    /// The first second of the bucket in which it was made, in Unix seconds.
    pub time: u32,
    /// Its value.
    pub value: u64,
}

impl ForwarderPoint {
    /// A point at the Unix second `time`; `own` are its tags beside the static ones.
    fn new(
        metric: &'static str,
        static_tags: &[Box<str>],
        own: impl IntoIterator<Item = String>,
        time: u64,
        value: u64,
    ) -> Self {
        let own = own.into_iter().map(Into::into);
        let mut tags: Vec<Box<str>> = static_tags.iter().cloned().chain(own).collect();
        tags.sort_unstable();
        tags.dedup();
        // Points have 32 bits for their time.
        Self { metric, tags, time: u32::try_from(time).unwrap_or(u32::MAX), value }
    }
}

/// The tag with the version of the forwarder.
fn version_tag() -> String {
    format!("version:{}", env!("CARGO_PKG_VERSION"))
}

/// As in the output of a dry run: a line, of which a terminal obeys nothing, whatever a campaign's name is.
impl fmt::Display for ForwarderPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}  {}", self.metric, self.value, harmless(&self.tags.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_campaign_makes_no_line_and_steers_no_terminal() {
        let tags = vec!["campaign_name:red\u{1b}[31m\nline".into()];
        let point = ForwarderPoint { metric: "m", tags, time: 7, value: 1 };
        assert_eq!(point.to_string(), "m 1  campaign_name:red\u{fffd}[31m\u{fffd}line");
    }
}
