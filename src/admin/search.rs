//! Makes the answer of `/search`: what was found in the catalogue and in the history, and whether it reaches Datadog.

use admin_api::format::ago;
use admin_api::{FlowState, ObjectMatch, SearchAnswer, SeriesMatch};

use super::history::PastMatches;
use super::messages;
use crate::catalogue::{SearchHit, SearchHits};

/// The part of a connection that a search needs.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// The name of its site; empty where the connection is gone.
    pub site: String,
    /// Whether its sends are printed instead of sent.
    pub is_dry_run: bool,
    /// What Datadog says of its key, where that is refused.
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
    match destination_of(&object.connection).key_refused {
        Some(refused) => {
            let words = format!("{}, but they reach nobody: {refused}", object.words);
            ObjectMatch { state: FlowState::Trouble, words, ..object }
        }
        None => object,
    }
}

/// Whether the sends of a series reach Datadog.
fn verdict(found: &SearchHit, to: &Destination, now: u64) -> (FlowState, String) {
    let ago = |at: u64| ago(now.saturating_sub(at));
    if to.is_dry_run {
        let before = found.accepted_at.map(|at| format!("; last accepted {} ago", ago(at)));
        let words = format!("dry run: printed, not sent{}", before.unwrap_or_default());
        return (FlowState::Quiet, words);
    }
    match found.outcome {
        None => (FlowState::Quiet, "counted; its first request has no outcome yet".to_owned()),
        Some(last) => match (last.dropped, &to.key_refused) {
            // The intake takes points with the key of another site, too.
            (None, Some(refused)) => {
                let words = format!("accepted {} ago, but reaches nobody: {refused}", ago(last.at));
                (FlowState::Trouble, words)
            }
            (None, None) => (FlowState::Flowing, format!("reaches Datadog: accepted {} ago", ago(last.at))),
            (Some(reason), _) => {
                let before = match found.accepted_at {
                    Some(at) => format!("; last accepted {} ago", ago(at)),
                    None => "; never accepted since the start".to_owned(),
                };
                let why = messages::outcome(reason, &to.site);
                (FlowState::Trouble, format!("does not reach Datadog: {why} ({} ago){before}", ago(last.at)))
            }
        },
    }
}

#[cfg(test)]
mod tests;
