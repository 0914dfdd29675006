//! The forwarder's side: its history, page by page, of a forwarder elsewhere or of this process.

use admin_api::{Client, ClientError, HistoryObject, HistoryQuery};

use crate::admin::history;
use crate::app::{Failure, print_stderr};
use crate::reconcile::DayRange;
use send_history::SendHistory;

/// The most objects and days of a history that are held.
const ENTRIES_MAX: usize = 1_000_000;

/// The most pages of a history.
const PAGES_MAX: usize = 10_000;

/// Objects of a page of this process's own history.
const OWN_PAGE: usize = 5_000;

/// A filter over a history.
struct Wanted<W> {
    filter: W,
    objects: Vec<HistoryObject>,
    entries: usize,
}

impl<W: Fn(&HistoryObject) -> bool> Wanted<W> {
    fn new(filter: W) -> Self {
        Self { filter, objects: Vec::new(), entries: 0 }
    }

    fn take(&mut self, object: HistoryObject) -> Result<(), String> {
        if (self.filter)(&object) {
            self.entries += 1 + object.days.len();
            self.objects.push(object);
        }
        if self.entries > ENTRIES_MAX {
            return Err(format!(
                "/history has more than {ENTRIES_MAX} days of campaigns, Canvases and steps; ask for fewer days, or name \
                 some of them"
            ));
        }
        Ok(())
    }
}

fn query(range: &DayRange) -> HistoryQuery {
    HistoryQuery {
        from: Some(range.first.to_string()),
        to: Some(range.last.to_string()),
        time_zone: Some(range.time_zone.clone()),
        ..HistoryQuery::default()
    }
}

/// Reads this process's history, at the Unix second `now`. It reads the disk.
pub(super) fn read_own(
    own: Option<&SendHistory>,
    range: &DayRange,
    is_wanted: impl Fn(&HistoryObject) -> bool,
    now: u64,
) -> Result<(Vec<HistoryObject>, Option<u64>), Failure> {
    let mut query = HistoryQuery { limit: Some(OWN_PAGE), ..query(range) };
    let mut wanted = Wanted::new(is_wanted);
    loop {
        let page = history::read(own, query.clone(), now).map_err(Failure::failed)?;
        page.objects.into_iter().try_for_each(|object| wanted.take(object)).map_err(Failure::failed)?;
        if page.next.is_none() {
            return Ok((wanted.objects, page.since));
        }
        query.after = page.next;
    }
}

/// Reads the selected part of the history, and since when it is kept.
pub(crate) async fn read(
    forwarder: &Client,
    range: &DayRange,
    is_wanted: impl Fn(&HistoryObject) -> bool,
) -> Result<(Vec<HistoryObject>, Option<u64>), Failure> {
    let mut wanted = Wanted::new(is_wanted);
    let take = |object: HistoryObject| wanted.take(object).map_err(ClientError::new);
    let query = query(range);
    let last = forwarder.whole_history(query.clone(), PAGES_MAX, take).await.map_err(|error| {
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
    let asked = (query.from.as_ref(), query.to.as_ref(), query.time_zone.as_ref());
    if (Some(&last.from), Some(&last.to), Some(&last.time_zone)) != asked {
        return Err(Failure::failed(format!(
            "the forwarder: /history answers for {:?} to {:?} in {:?}, and not for what was asked; is it another version?",
            last.from, last.to, last.time_zone
        )));
    }
    if last.since.is_none() {
        print_stderr("note: the forwarder has no history yet: nothing can be compared with Braze's numbers");
    }
    Ok((wanted.objects, last.since))
}
