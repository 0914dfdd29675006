//! Messages on each connection, for people.

use admin_api::FlowState;
use admin_api::format::ago;
use datadog_points::outcome::{FailureReason, blames_proxy};

use crate::connection::Connection;
use crate::stats::{ConnectionBooks, DropReason};

/// The state of a connection at the Unix second `now`, and in words.
pub fn connection(books: &ConnectionBooks, connection: &Connection, now: u64) -> (FlowState, String) {
    let Some((last, at)) = &books.last_outcome else {
        let words =
            if connection.dry_run { "dry run: nothing was printed yet" } else { "nothing was sent yet" };
        return (FlowState::Quiet, words.to_owned());
    };
    let ago = ago(now.saturating_sub(*at));
    let site = &connection.site.name;
    match books.last_dropped {
        Some(DropReason::Failed(FailureReason::Connect)) if blames_proxy(last) => {
            (FlowState::Trouble, format!("the proxy on the way to {site} failed"))
        }
        Some(DropReason::Failed(FailureReason::Dns)) if blames_proxy(last) => {
            (FlowState::Trouble, format!("the name of the proxy on the way to {site} can't be looked up"))
        }
        Some(reason) => (FlowState::Trouble, outcome(reason, site)),
        None if books.last_is_printed && connection.dry_run => {
            (FlowState::Quiet, format!("dry run: printed {ago} ago, not sent"))
        }
        // A reload has made it a dry run, or has ended one.
        None if connection.dry_run => {
            (FlowState::Quiet, format!("dry run since the last send, accepted {ago} ago"))
        }
        None if books.last_is_printed => {
            (FlowState::Quiet, format!("nothing was sent since the dry run, which printed {ago} ago"))
        }
        None => (FlowState::Flowing, format!("accepted {ago} ago")),
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
        | DropReason::ConnectionRefusedConfiguration => why(reason).to_owned(),
    }
}

/// A reason in a few words, for people who have not read the code.
pub(super) const fn why(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Late => "too old for Datadog, which takes the last hour",
        DropReason::Early => "too far in the future for Datadog",
        DropReason::Unrouted => "no connection serves their app group",
        DropReason::ConnectionRefusedConfiguration => "the configuration of their connection is wrong",
        DropReason::Failed(FailureReason::Timeout) => "no answer from Datadog in time",
        DropReason::Failed(FailureReason::Connect) => "Datadog can't be reached",
        DropReason::Failed(FailureReason::Dns) => "Datadog's name can't be looked up",
        DropReason::Failed(FailureReason::HttpInvalid) => "what answers does not speak HTTP",
        DropReason::Failed(FailureReason::Defect) => "a defect of this program",
        DropReason::Failed(FailureReason::Http400) => "HTTP 400 (Datadog can't read the request)",
        DropReason::Failed(FailureReason::Http403) => "HTTP 403 (API key refused)",
        DropReason::Failed(FailureReason::Http413) => "HTTP 413 (too large for Datadog)",
        DropReason::Failed(FailureReason::Http429) => "HTTP 429 (Datadog limits the rate)",
        DropReason::Failed(FailureReason::Http4xx) => "HTTP 4xx (Datadog refuses the request)",
        DropReason::Failed(FailureReason::Http5xx) => "HTTP 5xx (Datadog has an error)",
        DropReason::Failed(FailureReason::HttpUnexpected) => "what answers is not Datadog's intake",
        DropReason::Failed(FailureReason::Shutdown) => "stopped before there was an answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datadog_points::site::Site;

    fn eu1(dry_run: bool) -> Connection {
        Connection {
            site: Site::parse("EU1").unwrap().0,
            metric: "m".into(),
            dry_run,
            ..Connection::named("acme".into())
        }
    }

    #[test]
    fn a_connection_is_told_by_its_last_outcome() {
        let books = |dropped, at| ConnectionBooks {
            last_outcome: Some(("…".into(), at)),
            last_dropped: dropped,
            ..ConnectionBooks::default()
        };
        let say = |books: &ConnectionBooks| connection(books, &eu1(false), 100);
        assert_eq!(say(&books(None, 98)), (FlowState::Flowing, "accepted 2 s ago".into()));
        assert_eq!(
            say(&books(Some(DropReason::Failed(FailureReason::Http403)), 98)),
            (FlowState::Trouble, "403: this key is not valid on EU1".into())
        );
        assert_eq!(say(&ConnectionBooks::default()), (FlowState::Quiet, "nothing was sent yet".into()));
    }

    #[test]
    fn the_failure_of_a_proxy_is_not_told_as_datadog_s() {
        for (reason, last, words) in [
            (FailureReason::Connect, "connect: connecting failed", "EU1 can't be reached"),
            (
                FailureReason::Connect,
                "connect: the proxy (HTTPS_PROXY): …",
                "the proxy on the way to EU1 failed",
            ),
            (FailureReason::Dns, "dns: the name …", "the name of EU1 can't be looked up"),
            (
                FailureReason::Dns,
                "dns: the proxy (ALL_PROXY): …",
                "the name of the proxy on the way to EU1 can't be looked up",
            ),
        ] {
            let books = ConnectionBooks {
                last_outcome: Some((last.into(), 98)),
                last_dropped: Some(DropReason::Failed(reason)),
                ..ConnectionBooks::default()
            };
            assert_eq!(connection(&books, &eu1(false), 100), (FlowState::Trouble, words.into()));
        }
    }

    #[test]
    fn of_a_dry_run_it_is_said_that_nothing_was_sent() {
        let none = ConnectionBooks::default();
        let last = |is_printed| ConnectionBooks {
            last_outcome: Some(("…".into(), 98)),
            last_is_printed: is_printed,
            ..ConnectionBooks::default()
        };
        for (books, dry_run, words) in [
            (none, true, "dry run: nothing was printed yet"),
            (last(true), true, "dry run: printed 2 s ago, not sent"),
            (last(false), true, "dry run since the last send, accepted 2 s ago"),
            (last(true), false, "nothing was sent since the dry run, which printed 2 s ago"),
        ] {
            assert_eq!(connection(&books, &eu1(dry_run), 100), (FlowState::Quiet, words.into()));
        }
    }
}
