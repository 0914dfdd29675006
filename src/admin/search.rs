//! Makes the answer of `/search`: what was found in the catalogue and in the history, and whether it reaches Datadog.

use admin_api::format::ago;
use admin_api::{FlowState, ObjectMatch, SearchAnswer, SeriesMatch};

use super::history::PastMatches;
use super::messages;
use crate::catalogue::{LastOutcome, SearchHit, SearchHits};

/// Where the sends of a connection go now.
#[derive(Debug, Clone)]
pub enum Destination {
    /// Nowhere: the connection has been removed.
    Removed,
    /// Nowhere: the connection is left out, for its configuration is wrong.
    LeftOut,
    /// To a site, with the connection's key.
    Site(SiteAndKey),
}

/// A site, and what is known of the key for it.
#[derive(Debug, Clone)]
pub struct SiteAndKey {
    /// Its name.
    pub site: String,
    /// Whether sends are printed instead of sent there.
    pub is_dry_run: bool,
    /// What Datadog says of the key, where it is refused.
    pub key_refused: Option<String>,
}

/// The result of a search, in the catalogue and in the history, which is kept since `history_since`. `destination_of`
/// returns where the sends of a connection go.
pub fn answer(
    query: &str,
    search: &SearchHits,
    (history_since, past): (Option<u64>, PastMatches),
    destination_of: impl Fn(&str) -> Destination,
    started: u64,
    now: u64,
) -> SearchAnswer {
    let series = |found: &SearchHit| {
        let (state, words) = verdict(found, &destination_of(&found.connection), now);
        SeriesMatch {
            connection: found.connection.clone(),
            tags: found.tags.clone(),
            sends: found.sends,
            last_send: found.last_send,
            last_send_seconds_ago: now.saturating_sub(found.last_send),
            state,
            words,
            accepted_at: found.accepted_at,
            minutes: found.trend.as_ref().map(|trend| trend.minutes(now).to_vec()),
        }
    };
    let object = |object| as_of_now(object, &destination_of);
    SearchAnswer {
        query: query.to_owned(),
        matches: search.matches as u64,
        results: search.found.iter().map(series).collect(),
        remembered_series: search.remembered as u64,
        left_out_series: search.left_out as u64,
        since: started,
        objects: past.objects.into_iter().map(object).collect(),
        objects_total: past.objects_total as u64,
        history_since,
        history_trouble: past.trouble,
    }
}

/// What was sent today, and was accepted with a key that Datadog refuses, is not told as well; of the days before it is not
/// known whether the key was valid.
fn as_of_now(object: ObjectMatch, destination_of: impl Fn(&str) -> Destination) -> ObjectMatch {
    let is_of_today = object.days.last().is_some_and(|today| today.counted > Some(0));
    if !is_of_today || object.state != FlowState::Flowing {
        return object;
    }
    match destination_of(&object.connection) {
        Destination::Site(SiteAndKey { key_refused: Some(refused), .. }) => {
            let words = format!("{}, but they reach nobody: {refused}", object.words);
            ObjectMatch { state: FlowState::Trouble, words, ..object }
        }
        _ => object,
    }
}

/// Whether the sends of a series reach Datadog. An outcome is told of the connection as it was then.
fn verdict(found: &SearchHit, to: &Destination, now: u64) -> (FlowState, String) {
    const REMOVED: &str = "its connection has been removed";
    let ago = |at: u64| ago(now.saturating_sub(at));
    match (to, found.outcome) {
        (Destination::Site(to), Some(last)) => outcome_of(found, last, to, ago),
        (Destination::Site(_), None) => {
            (FlowState::Quiet, "counted; its first request has no outcome yet".to_owned())
        }
        (Destination::LeftOut, _) => {
            let before = accepted_before(found, ago);
            let words = "does not reach Datadog: the configuration of its connection is wrong";
            (FlowState::Trouble, format!("{words}{before}"))
        }
        (Destination::Removed, None) => (FlowState::Quiet, REMOVED.to_owned()),
        (Destination::Removed, Some(last)) => {
            let words = format!("{REMOVED}; sends before that were {} {} ago", fate(last), ago(last.at));
            (FlowState::Quiet, words)
        }
    }
}

/// The last outcome of a series, whose sends go to a site now.
fn outcome_of(
    found: &SearchHit,
    last: LastOutcome,
    to: &SiteAndKey,
    ago: impl Fn(u64) -> String,
) -> (FlowState, String) {
    let when = ago(last.at);
    let quiet = |words: String| (FlowState::Quiet, words);
    let accepted =
        || found.accepted_at.map(|at| format!("; last accepted {} ago", ago(at))).unwrap_or_default();
    match last.dropped {
        None if last.is_printed() && to.is_dry_run => {
            quiet(format!("dry run: printed, not sent{}", accepted()))
        }
        _ if last.is_retargeted => {
            quiet(format!("{}; sends before that were {} {when} ago", messages::NOT_SINCE, fate(last)))
        }
        Some(reason) if to.is_dry_run && !last.is_dry_run => {
            let why = messages::outcome(reason, &to.site);
            quiet(format!("dry run since the last send, dropped {when} ago: {why}"))
        }
        Some(reason) => {
            let (why, before) = (messages::outcome(reason, &to.site), accepted_before(found, ago));
            (FlowState::Trouble, format!("does not reach Datadog: {why} ({when} ago){before}"))
        }
        None if to.is_dry_run => quiet(format!("dry run since the last send, accepted {when} ago")),
        None if last.is_printed() => {
            quiet(format!("nothing was sent since the dry run, which printed {when} ago{}", accepted()))
        }
        None => match &to.key_refused {
            // The intake takes points with the key of another site, too.
            Some(refused) => {
                (FlowState::Trouble, format!("accepted {when} ago, but reaches nobody: {refused}"))
            }
            None => (FlowState::Flowing, format!("reaches Datadog: accepted {when} ago")),
        },
    }
}

fn accepted_before(found: &SearchHit, ago: impl Fn(u64) -> String) -> String {
    match found.accepted_at {
        Some(at) => format!("; last accepted {} ago", ago(at)),
        None => "; never accepted since the start".to_owned(),
    }
}

const fn fate(last: LastOutcome) -> &'static str {
    match last.dropped {
        Some(_) => "dropped",
        None if last.is_printed() => "printed",
        None => "accepted",
    }
}

#[cfg(test)]
mod tests;
