//! Why sends do not arrive.

use datadog_points::outcome::FailureReason;

/// Why sends were dropped: the values of the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Older than Datadog takes.
    Late,
    /// Further ahead than Datadog takes.
    Early,
    /// No connection serves the app group.
    Unrouted,
    /// The connection that serves the app group is left out, for its configuration is wrong.
    ConnectionRefusedConfiguration,
    /// Their request was not accepted.
    Failed(FailureReason),
}

impl DropReason {
    /// The value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            DropReason::Late => "late",
            DropReason::Early => "early",
            DropReason::Unrouted => "unrouted",
            DropReason::ConnectionRefusedConfiguration => "connection_refused_configuration",
            DropReason::Failed(reason) => reason.label(),
        }
    }
}
