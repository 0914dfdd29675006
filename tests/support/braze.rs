//! Clients that push as Braze does: a batch that is not answered with 200 is sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::intake::judge::Point;

/// Events of a marked batch, each of them a send.
pub(crate) const BATCH: u64 = 100;

/// How long a client waits before it sends a batch again.
const RETRY: Duration = Duration::from_millis(20);

/// One client.
#[derive(Clone)]
pub(crate) struct Braze {
    client: reqwest::Client,
    url: String,
}

impl Braze {
    /// A client of a push URL.
    pub(crate) fn new(url: &str) -> Self {
        Self { client: super::client(None), url: url.to_owned() }
    }

    /// Pushes once; `None` where there was no answer.
    pub(crate) async fn push(&self, body: &str) -> Option<u16> {
        let request = self.client.post(&self.url).header("content-type", "application/json");
        let answer = request.body(body.to_owned()).send().await.ok()?;
        Some(answer.status().as_u16())
    }

    /// Pushes until the answer is 200. Only 503 and no answer at all are reasons to try again.
    pub(crate) async fn deliver(&self, body: &str) {
        let give_up = Instant::now() + super::PATIENCE;
        loop {
            match self.push(body).await {
                Some(200) => return,
                None | Some(503) => {}
                Some(other) => panic!("a good batch was answered {other}"),
            }
            assert!(Instant::now() < give_up, "a batch was not taken for {:?}", super::PATIENCE);
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Clients that push marked batches without end, each the next one when its last one was answered with 200.
pub(crate) struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    begun: Arc<AtomicU64>,
}

impl Load {
    /// Starts so many clients. The batch with the mark `n` is of the app group `n` modulo their number.
    pub(crate) fn start(url: &str, clients: usize, app_groups: &'static [&'static str]) -> Self {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut load = Self { clients: JoinSet::new(), stop, begun };
        for _ in 0..clients {
            let (stop, begun, braze) = (Arc::clone(&load.stop), Arc::clone(&load.begun), Braze::new(url));
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mark = begun.fetch_add(1, Ordering::Relaxed);
                    braze.deliver(&marked_batch(mark, app_group(app_groups, mark))).await;
                    // Leaves the machine to the forwarder.
                    tokio::time::sleep(RETRY).await;
                }
            });
        }
        load
    }

    /// Waits until so many more batches were begun: the load flows.
    pub(crate) async fn more(&self, batches: u64) {
        let goal = self.begun.load(Ordering::Relaxed) + batches;
        let begun = async || (self.begun.load(Ordering::Relaxed) >= goal).then_some(());
        super::eventually(&format!("{batches} more batches are pushed"), begun).await;
    }

    /// Lets every client deliver the batch that it has in hand. Says how many batches there were; the marks
    /// are the numbers below that.
    pub(crate) async fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.begun.load(Ordering::Relaxed)
    }
}

/// The app group of a mark.
pub(crate) fn app_group(app_groups: &'static [&'static str], mark: u64) -> &'static str {
    app_groups[usize::try_from(mark).unwrap() % app_groups.len()]
}

/// A batch that can be told apart at the intake: see [`marked_events`].
fn marked_batch(mark: u64, app_group: &str) -> String {
    json!({ "events": marked_events(mark, app_group).collect::<Vec<_>>() }).to_string()
}

/// [`BATCH`] sends of one moment, with a campaign of their own.
pub(crate) fn marked_events(mark: u64, app_group: &str) -> impl Iterator<Item = Value> {
    let time = super::unix_now();
    (0..BATCH).map(move |number| {
        json!({
            "event_type": "users.messages.email.Send",
            "id": format!("batch-{mark}-{number}"),
            "time": time,
            "user": { "user_id": "someone" },
            "properties": { "app_group_id": app_group, "campaign_id": format!("batch-{mark}") },
        })
    })
}

/// The mark of a point.
pub(crate) fn mark(point: &Point) -> u64 {
    let mark = point.tags.iter().find_map(|tag| tag.strip_prefix("campaign_id:batch-"));
    mark.unwrap_or_else(|| panic!("not of a marked batch: {point:?}")).parse().unwrap()
}

/// The sums of points by their mark.
pub(crate) fn by_mark<'p>(points: impl IntoIterator<Item = &'p Point>) -> BTreeMap<u64, u64> {
    let mut sums = BTreeMap::new();
    for point in points {
        *sums.entry(mark(point)).or_default() += point.value;
    }
    sums
}

/// Stops the test unless each of so many batches was counted once: no event is missing, none came twice.
pub(crate) fn assert_each_once(points: &[Point], batches: u64) {
    let sums = by_mark(points);
    let wrong: Vec<(u64, u64)> = (0..batches)
        .map(|mark| (mark, sums.get(&mark).copied().unwrap_or_default()))
        .filter(|(_, sends)| *sends != BATCH)
        .collect();
    assert_eq!(wrong, [], "of {batches} batches of {BATCH} these marks have another number of sends");
    assert_eq!(sums.len() as u64, batches, "there are marks that nobody pushed");
}
