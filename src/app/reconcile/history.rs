//! The forwarder's side: its history, page by page.

use admin_api::{Client, ClientError, HistoryObject, HistoryQuery};

use super::Failure;
use crate::reconcile::DayRange;

/// Objects and days of a history that are held.
const ENTRIES_MAX: usize = 1_000_000;

/// Pages of a history.
const PAGES_MAX: usize = 10_000;

/// What is wanted of the history, and since when there is one.
pub(super) async fn read(
    forwarder: &Client,
    range: &DayRange,
    is_wanted: impl Fn(&HistoryObject) -> bool,
) -> Result<(Vec<HistoryObject>, Option<u64>), Failure> {
    let (from, to) = (range.first.to_string(), range.last.to_string());
    let query = HistoryQuery {
        from: Some(from.clone()),
        to: Some(to.clone()),
        time_zone: Some(range.time_zone.clone()),
        ..HistoryQuery::default()
    };
    let (mut objects, mut entries) = (Vec::new(), 0);
    let take = |object: HistoryObject| {
        if is_wanted(&object) {
            entries += 1 + object.days.len();
            objects.push(object);
        }
        if entries > ENTRIES_MAX {
            let reason =
                format!("/history has more than {ENTRIES_MAX} days of campaigns, Canvases and steps");
            return Err(ClientError::new(format!("{reason}; ask for fewer days, or name some of them")));
        }
        Ok(())
    };
    let last = forwarder.whole_history(query, PAGES_MAX, take).await.map_err(|error| {
        Failure::failed(format!(
            "the forwarder: {error}{}",
            if error.to_string().contains("status 404") {
                "; reconcile needs the history of sends, which this forwarder does not keep: is it switched off there, or \
                 is the forwarder older?"
            } else {
                ""
            }
        ))
    })?;
    if (&last.from, &last.to, &last.time_zone) != (&from, &to, &range.time_zone) {
        return Err(Failure::failed(format!(
            "the forwarder: /history answers for {} to {} in {:?}, and not for what was asked; is it another version?",
            last.from, last.to, last.time_zone
        )));
    }
    if last.since.is_none() {
        super::complain(
            "note: the forwarder has no history yet: nothing can be compared with Braze's numbers",
        );
    }
    Ok((objects, last.since))
}
