//! What became of one request.
//!
//! There is no retry anywhere: points add up in Datadog and there is no idempotency key, so sending a
//! payload again after an ambiguous failure would count its sends twice.

use crate::stats::DropReason;

/// The fate of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Datadog answered 202. That is "accepted", not "delivered": a key of another site gets it, too.
    Accepted,
    /// It answered 202, and the body of that speaks of errors.
    AcceptedWithErrors {
        /// What the body says: never more than a kibibyte, and never the key.
        detail: String,
    },
    /// The payload's sends are lost, for this reason.
    Dropped {
        /// Under what they are booked.
        reason: DropReason,
        /// What happened, for the log and the status page: never more than a kibibyte of the answer, and
        /// never the key.
        detail: String,
    },
}

impl Outcome {
    /// A drop with its detail.
    pub fn dropped(reason: DropReason, detail: impl Into<String>) -> Self {
        Self::Dropped { reason, detail: detail.into() }
    }

    /// Why it was dropped; `None` if it was accepted.
    pub const fn reason(&self) -> Option<DropReason> {
        match self {
            Outcome::Accepted | Outcome::AcceptedWithErrors { .. } => None,
            Outcome::Dropped { reason, .. } => Some(*reason),
        }
    }
}

/// Classifies an answer by its status. `None`: accepted.
///
/// Declared by Datadog for this endpoint are 202, 400, 403, 408, 413 and 429; others occur. Redirects are
/// not followed, for the key must not travel to where an answer points.
pub const fn classify(status: u16) -> Option<DropReason> {
    match status {
        202 => None,
        400 => Some(DropReason::Http400),
        403 => Some(DropReason::Http403),
        413 => Some(DropReason::Http413),
        429 => Some(DropReason::Http429),
        401..=499 => Some(DropReason::Http4xx),
        500..=599 => Some(DropReason::Http5xx),
        _ => Some(DropReason::HttpUnexpected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_reason() {
        for (status, label) in [
            (400, "http_400"),
            (401, "http_4xx"),
            (403, "http_403"),
            (404, "http_4xx"),
            (408, "http_4xx"),
            (413, "http_413"),
            (429, "http_429"),
            (500, "http_5xx"),
            (503, "http_5xx"),
            (200, "http_unexpected"),
            (301, "http_unexpected"),
        ] {
            assert_eq!(classify(status).map(DropReason::label), Some(label), "{status}");
        }
        assert_eq!(classify(202), None);
    }
}
