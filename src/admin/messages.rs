//! Messages on each connection, for people.

use std::collections::HashMap;

use admin_api::FlowState;
use admin_api::format::{ago, grouped};
use datadog_points::outcome::{FailureReason, blames_proxy};

use super::rates::Dropping;
use crate::connection::Connection;
use event_lanes::stats::{ConnectionBooks, DropReason};

pub(super) const NOT_SINCE: &str = "nothing was sent since its key or URL was changed";

/// The state of a connection at the Unix second `now`, and in words.
pub fn connection(books: &ConnectionBooks, connection: &Connection, now: u64) -> (FlowState, String) {
    let Some((last, at)) = &books.last_outcome else {
        let words =
            if connection.dry_run { "dry run: nothing was printed yet" } else { "nothing was sent yet" };
        return (FlowState::Quiet, words.to_owned());
    };
    let ago = ago(now.saturating_sub(*at));
    let site = &connection.site.name;
    let failed = |words: String| (FlowState::Trouble, format!("{words} ({ago} ago)"));
    match books.last_dropped {
        Some(_) if books.is_retargeted => {
            (FlowState::Quiet, format!("{NOT_SINCE}; sends before that were dropped {ago} ago"))
        }
        Some(DropReason::Failed(FailureReason::Connect)) if blames_proxy(last) => {
            failed(format!("the proxy on the way to {site} failed"))
        }
        Some(DropReason::Failed(FailureReason::Dns)) if blames_proxy(last) => {
            failed(format!("the name of the proxy on the way to {site} can't be looked up"))
        }
        Some(reason) => failed(outcome(reason, site)),
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
        None if books.is_retargeted => {
            (FlowState::Quiet, format!("{NOT_SINCE}; sends before that were accepted {ago} ago"))
        }
        None => (FlowState::Flowing, format!("accepted {ago} ago")),
    }
}

/// The message for each connection that lately dropped sends as late or early, which no request shows; the first reason where
/// there are several. By connection name.
pub fn untimely(dropping: &[Dropping]) -> HashMap<&str, String> {
    let mut told = HashMap::new();
    let is_untimely = |drops: &&Dropping| matches!(drops.reason, DropReason::Late | DropReason::Early);
    for Dropping { connection, reason, sends } in dropping.iter().filter(is_untimely) {
        told.entry(&**connection).or_insert_with(|| {
            let were = if *sends == 1 { "send was" } else { "sends were" };
            format!("{} {were} dropped lately: {}", grouped(*sends), why(*reason))
        });
    }
    told
}

/// Why a request was lost: as [`why`] says it, with the site where that tells where to look.
pub(super) fn outcome(reason: DropReason, site: &str) -> String {
    match reason {
        DropReason::Failed(FailureReason::Http403) => {
            format!("403: this key is not valid on {site}")
        }
        DropReason::Failed(FailureReason::Timeout) => format!("no answer from {site} in time"),
        DropReason::Failed(FailureReason::Connect) => format!("{site} can't be reached"),
        DropReason::Failed(FailureReason::Dns) => format!("the name of {site} can't be looked up"),
        reason => why(reason).to_owned(),
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
mod tests;
