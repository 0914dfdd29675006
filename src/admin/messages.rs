//! What people are told: whether sends flow, and how each connection is, in words.

use admin_api::format::{ago, grouped};
use admin_api::{FlowState, Headline};
use datadog_points::outcome::FailureReason;

use super::rates::Hour;
use crate::stats::{ConnectionBooks, DropReason};

/// Whether sends flow: the answer at one look. `not_ready` is why no events can be taken.
pub fn headline(hour: &Hour, not_ready: Option<&str>, uptime_seconds: u64) -> Headline {
    let (state, words) = if let Some(worst) = hour.dropping.first() {
        let others = match hour.dropping.len() - 1 {
            0 => String::new(),
            1 => ", and for one more reason".to_owned(),
            others => format!(", and for {others} more reasons"),
        };
        let place = match worst.connection.as_str() {
            crate::stats::UNROUTED => String::new(),
            name => format!(" on {name}"),
        };
        let words = format!("Sends are being dropped: {}{place}{others}", short(worst.reason));
        (FlowState::Trouble, words)
    } else if let Some(reason) = not_ready {
        (FlowState::Trouble, format!("No events are taken: {reason}"))
    } else {
        match hour.quiet_seconds {
            None => (FlowState::Quiet, format!("No sends since the start {} ago", ago(uptime_seconds))),
            // As long as it is measured over.
            Some(quiet) if hour.minute.counted == 0 => {
                (FlowState::Quiet, format!("No sends for {}", ago(quiet)))
            }
            Some(_) => {
                let rate = rate(hour.minute.counted, hour.minute_seconds);
                (FlowState::Flowing, format!("Sends flow: {rate}"))
            }
        }
    };
    Headline { state, words }
}

/// How a connection is, in words, at the Unix second `now`. `site` is its site's name.
pub fn connection(books: &ConnectionBooks, site: &str, now: u64) -> (FlowState, String) {
    let Some((_, at)) = books.last_outcome else {
        return (FlowState::Quiet, "nothing was sent yet".to_owned());
    };
    let ago = ago(now.saturating_sub(at));
    match books.last_dropped {
        None => (FlowState::Flowing, format!("accepted {ago} ago")),
        Some(reason) => (FlowState::Trouble, outcome(reason, site)),
    }
}

/// Why a request was lost, and where to look.
pub(super) fn outcome(reason: DropReason, site: &str) -> String {
    match reason {
        DropReason::Failed(FailureReason::Http403) => format!("403: this key is not valid on {site}"),
        DropReason::Failed(FailureReason::Http400) => "400: Datadog could not read the request".to_owned(),
        DropReason::Failed(FailureReason::Http413) => "413: the request was too large for Datadog".to_owned(),
        DropReason::Failed(FailureReason::Http429) => "429: Datadog limits the rate".to_owned(),
        DropReason::Failed(FailureReason::Http4xx) => "Datadog refused the request".to_owned(),
        DropReason::Failed(FailureReason::Http5xx) => "Datadog had an error".to_owned(),
        DropReason::Failed(FailureReason::HttpUnexpected) => {
            "what answered is not Datadog's intake".to_owned()
        }
        DropReason::Failed(FailureReason::Timeout) => format!("no answer from {site} in time"),
        DropReason::Failed(FailureReason::Connect) => format!("{site} can't be reached"),
        DropReason::Failed(FailureReason::Dns) => format!("the name of {site} can't be looked up"),
        DropReason::Failed(FailureReason::HttpInvalid) => {
            "what answered does not speak HTTP as Datadog does".to_owned()
        }
        DropReason::Failed(FailureReason::Defect) => "lost to a defect of this program".to_owned(),
        DropReason::Failed(FailureReason::Shutdown) => "stopped before there was an answer".to_owned(),
        DropReason::Late
        | DropReason::Early
        | DropReason::Unrouted
        | DropReason::ConnectionRefusedConfiguration => short(reason).to_owned(),
    }
}

/// A reason in two or three words.
pub const fn short(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Late => "too old for Datadog",
        DropReason::Early => "too far in the future",
        DropReason::Unrouted => "no connection serves them",
        DropReason::ConnectionRefusedConfiguration => "its configuration is wrong",
        DropReason::Failed(FailureReason::Timeout) => "no answer in time",
        DropReason::Failed(FailureReason::Connect) => "no connection to Datadog",
        DropReason::Failed(FailureReason::Dns) => "no address of Datadog",
        DropReason::Failed(FailureReason::HttpInvalid) => "an answer that is not HTTP",
        DropReason::Failed(FailureReason::Defect) => "a defect",
        DropReason::Failed(FailureReason::Http400) => "400",
        DropReason::Failed(FailureReason::Http403) => "403",
        DropReason::Failed(FailureReason::Http413) => "413",
        DropReason::Failed(FailureReason::Http429) => "429",
        DropReason::Failed(FailureReason::Http4xx) => "a 4xx answer",
        DropReason::Failed(FailureReason::Http5xx) => "a 5xx answer",
        DropReason::Failed(FailureReason::HttpUnexpected) => "an unexpected answer",
        DropReason::Failed(FailureReason::Shutdown) => "stopped before an answer",
    }
}

/// Sends a second, or in the last minute where that says more.
fn rate(sends: u64, seconds: u64) -> String {
    let a_second = sends / seconds.max(1);
    match (a_second, sends) {
        (0, 1) => "1 in the last minute".to_owned(),
        (0, sends) => format!("{sends} in the last minute"),
        (a_second, _) => format!("{} a second", grouped(a_second)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::rates::{Dropping, Sends};
    use super::*;

    fn hour(counted: u64, quiet_seconds: Option<u64>, dropping: &[(&str, DropReason)]) -> Hour {
        Hour {
            slots: Vec::new(),
            minute: Sends { counted, ..Sends::default() },
            minute_seconds: 60,
            quiet_seconds,
            dropping: dropping
                .iter()
                .map(|(name, reason)| Dropping { connection: (*name).into(), reason: *reason, sends: 1 })
                .collect(),
        }
    }

    #[test]
    fn the_headline_says_whether_sends_flow() {
        let say = |hour: Hour, not_ready| headline(&hour, not_ready, 200).words;
        assert_eq!(say(hour(60 * 1234, Some(0), &[]), None), "Sends flow: 1,234 a second");
        assert_eq!(say(hour(12, Some(5), &[]), None), "Sends flow: 12 in the last minute");
        assert_eq!(say(hour(0, Some(725), &[]), None), "No sends for 12 minutes");
        assert_eq!(say(hour(0, None, &[]), None), "No sends since the start 3 minutes ago");
        assert_eq!(
            say(hour(9, Some(0), &[]), Some("the queue is full")),
            "No events are taken: the queue is full"
        );
        let forbidden = [("acme", DropReason::Failed(FailureReason::Http403))];
        assert_eq!(say(hour(9, Some(0), &forbidden), None), "Sends are being dropped: 403 on acme");
        let three = [("_unrouted", DropReason::Unrouted), ("b", DropReason::Late), ("c", DropReason::Early)];
        assert_eq!(
            say(hour(9, Some(0), &three), None),
            "Sends are being dropped: no connection serves them, and for 2 more reasons"
        );
        assert_eq!(headline(&hour(9, Some(0), &three), None, 0).state, FlowState::Trouble);
    }

    #[test]
    fn a_connection_is_told_by_its_last_outcome() {
        let books = |dropped, at| ConnectionBooks {
            last_outcome: Some(("…".into(), at)),
            last_dropped: dropped,
            ..ConnectionBooks::default()
        };
        let say = |books: &ConnectionBooks| connection(books, "EU1", 100);
        assert_eq!(say(&books(None, 98)), (FlowState::Flowing, "accepted 2 s ago".into()));
        assert_eq!(
            say(&books(Some(DropReason::Failed(FailureReason::Http403)), 98)),
            (FlowState::Trouble, "403: this key is not valid on EU1".into())
        );
        assert_eq!(say(&ConnectionBooks::default()), (FlowState::Quiet, "nothing was sent yet".into()));
    }
}
