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
    /// No answer within `flush.timeout`.
    Timeout,
    /// No usable answer: connect, TLS, or reset.
    Connect,
    /// The name of the host can't be looked up.
    Dns,
    /// An answer that is not HTTP, or has more than 100 headers.
    HttpInvalid,
    /// Datadog says that the payload is wrong.
    Http400,
    /// Datadog says that the key is wrong.
    Http403,
    /// Datadog says that the payload is too large.
    Http413,
    /// Datadog says that the rate is too high.
    Http429,
    /// Any other 4xx.
    Http4xx,
    /// Any 5xx.
    Http5xx,
    /// Any other status: redirects are not followed, and Datadog promises 202 for success alone.
    HttpUnexpected,
    /// The process had to stop before there was an answer.
    Shutdown,
    /// The request's task panicked.
    Defect,
}

impl DropReason {
    /// The value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            DropReason::Late => "late",
            DropReason::Early => "early",
            DropReason::Unrouted => "unrouted",
            DropReason::Timeout => "timeout",
            DropReason::Connect => "connect",
            DropReason::Dns => "dns",
            DropReason::HttpInvalid => "http_invalid",
            DropReason::Http400 => "http_400",
            DropReason::Http403 => "http_403",
            DropReason::Http413 => "http_413",
            DropReason::Http429 => "http_429",
            DropReason::Http4xx => "http_4xx",
            DropReason::Http5xx => "http_5xx",
            DropReason::HttpUnexpected => "http_unexpected",
            DropReason::Shutdown => "shutdown",
            DropReason::Defect => "defect",
        }
    }
}

impl From<FailureReason> for DropReason {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::Timeout => Self::Timeout,
            FailureReason::Connect => Self::Connect,
            FailureReason::Dns => Self::Dns,
            FailureReason::HttpInvalid => Self::HttpInvalid,
            FailureReason::Http400 => Self::Http400,
            FailureReason::Http403 => Self::Http403,
            FailureReason::Http413 => Self::Http413,
            FailureReason::Http429 => Self::Http429,
            FailureReason::Http4xx => Self::Http4xx,
            FailureReason::Http5xx => Self::Http5xx,
            FailureReason::HttpUnexpected => Self::HttpUnexpected,
            FailureReason::Shutdown => Self::Shutdown,
            FailureReason::Defect => Self::Defect,
        }
    }
}
