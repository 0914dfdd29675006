//! The outcome of one request.
//!
//! There is no retry anywhere: points add up in Datadog and there is no idempotency key, so sending a
//! payload again after an ambiguous failure would count its sends twice.

/// Why a payload was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureReason {
    /// No answer in time.
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
    /// Any other status: redirects are not followed, and Datadog promises 202 for success only.
    HttpUnexpected,
    /// The process had to stop before there was an answer.
    Shutdown,
    /// The task that sent it panicked.
    Defect,
}

impl FailureReason {
    /// Its name for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            FailureReason::Timeout => "timeout",
            FailureReason::Connect => "connect",
            FailureReason::Dns => "dns",
            FailureReason::HttpInvalid => "http_invalid",
            FailureReason::Http400 => "http_400",
            FailureReason::Http403 => "http_403",
            FailureReason::Http413 => "http_413",
            FailureReason::Http429 => "http_429",
            FailureReason::Http4xx => "http_4xx",
            FailureReason::Http5xx => "http_5xx",
            FailureReason::HttpUnexpected => "http_unexpected",
            FailureReason::Shutdown => "shutdown",
            FailureReason::Defect => "defect",
        }
    }
}

/// What the detail of a drop begins with where a proxy is to blame; the variable that names it follows.
pub(crate) const PROXY: &str = "the proxy (";

/// Whether the words on a request without an answer say that a proxy is to blame.
#[must_use]
pub fn blames_proxy(words: &str) -> bool {
    words.contains(PROXY)
}

/// The fate of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Datadog answered 202. That is "accepted", not "delivered": a key of another site gets it, too.
    Accepted,
    /// It answered 202, with a body that mentions errors.
    AcceptedWithErrors {
        /// The body: never more than a kibibyte, and never the key.
        detail: String,
    },
    /// The payload's sends are lost, for this reason.
    Dropped {
        /// The reason to book.
        reason: FailureReason,
        /// What happened, for the log and the status page: never more than a kibibyte of the answer, and
        /// never the key.
        detail: String,
    },
}

impl Outcome {
    /// A drop with its detail.
    pub fn dropped(reason: FailureReason, detail: impl Into<String>) -> Self {
        Self::Dropped { reason, detail: detail.into() }
    }

    /// Why it was dropped; `None` if it was accepted.
    pub const fn reason(&self) -> Option<FailureReason> {
        match self {
            Outcome::Accepted | Outcome::AcceptedWithErrors { .. } => None,
            Outcome::Dropped { reason, .. } => Some(*reason),
        }
    }
}

/// Classifies an answer by its status. `None`: accepted.
///
/// Declared by Datadog for this endpoint are 202, 400, 403, 408, 413 and 429; others occur. Redirects are not followed: the
/// key must not travel to an address that an answer names.
pub const fn classify(status: u16) -> Option<FailureReason> {
    match status {
        202 => None,
        400 => Some(FailureReason::Http400),
        403 => Some(FailureReason::Http403),
        413 => Some(FailureReason::Http413),
        429 => Some(FailureReason::Http429),
        401..=499 => Some(FailureReason::Http4xx),
        500..=599 => Some(FailureReason::Http5xx),
        _ => Some(FailureReason::HttpUnexpected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_reason() {
        for (status, reason) in [
            (400, FailureReason::Http400),
            (401, FailureReason::Http4xx),
            (403, FailureReason::Http403),
            (404, FailureReason::Http4xx),
            (408, FailureReason::Http4xx),
            (413, FailureReason::Http413),
            (429, FailureReason::Http429),
            (500, FailureReason::Http5xx),
            (503, FailureReason::Http5xx),
            (200, FailureReason::HttpUnexpected),
            (301, FailureReason::HttpUnexpected),
        ] {
            assert_eq!(classify(status), Some(reason), "{status}");
        }
        assert_eq!(classify(202), None);
    }
}
