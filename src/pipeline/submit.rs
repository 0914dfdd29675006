//! Submissions: to which connection, how many requests at once, and for how long at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task;
use tokio::time::{Instant, timeout};

use crate::catalogue::Tracked;
use crate::connection::{Connection, ConnectionSet, Intake};
use crate::ledger::ClaimId;
use crate::pipeline::recheck::{LeftOut, Rechecked, recheck};
use crate::telemetry::Printer;
use datadog_points::client::within;
use datadog_points::outcome::{FailureReason, Outcome};
use datadog_points::payload::Payload;
use event_lanes::Plan;
use event_lanes::clock::Clock;
use send_counts::aggregate::tags::Layout;
use send_counts::aggregate::window::Window;
use send_counts::route::{ConnectionId, RefusedGroups, Router};

/// How many requests one connection has under way at once. A flush of the default 100,000 series makes about
/// 20 payloads; what waits longer for a permit than a request may take is dropped, so that a connection that
/// hangs can't pile up memory.
const REQUESTS_MAX: usize = 16;

/// How many requests start together, over all connections. A flush has one for each connection, and where thousands began at
/// once each would open a TLS connection of its own to the same host, for none was free yet.
const STARTING_MAX: usize = 256;

/// For how long a request is one that starts. One that takes longer is slow, and gives its permit to another.
const STARTING: Duration = Duration::from_millis(250);

/// How long a request waits for a permit to start (a quarter of `flush.timeout`, if that is shorter); then it
/// starts without one. So slow connections delay no other by more.
const STARTING_WAIT: Duration = Duration::from_secs(2);

/// That quarter: the payloads that queue behind this one share its deadline.
const STARTING_WAIT_PART: u32 = 4;

/// How much longer than `flush.timeout` an intake may take to return an outcome.
const GRACE: Duration = Duration::from_millis(250);

/// What a timer that fired late is given once more. Longer than [`GRACE`] and the intake's own.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The outcome of a payload.
#[derive(Debug)]
pub(super) struct Landed {
    /// `None`: nothing was left to send.
    pub(super) outcome: Option<Outcome>,
    /// Sends that were left out; the outcome does not cover them.
    pub(super) sends: LeftOut,
    /// Points of the forwarder's own that were left out.
    pub(super) own: LeftOut,
}

impl From<Outcome> for Landed {
    fn from(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), sends: LeftOut::default(), own: LeftOut::default() }
    }
}

/// The result of a submission's task; no landing if it was not sent, because the permits were closed.
pub(super) type Submitted = Result<(task::Id, Option<Landed>), task::JoinError>;

/// Checks whether points are still inside Datadog's window.
#[derive(Debug, Clone)]
pub(super) struct WindowCheck {
    pub(super) window: Window,
    pub(super) clock: Clock,
}

/// The data to book when a submission lands.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) claim: ClaimId,
    pub(super) connection: Arc<Connection>,
    pub(super) sends: u64,
    /// Own metrics' points; they stand for no send.
    pub(super) own: u64,
    /// Its series, for the catalogue.
    pub(super) tracked: Tracked,
}

/// What a request waits for before it starts.
#[derive(Debug, Clone)]
pub(super) struct RequestPermits {
    /// The requests that its connection may have under way.
    connection: Arc<Semaphore>,
    /// Those that start, of all connections.
    starting: Arc<Semaphore>,
}

/// Submits one payload once, within two time-outs: one to get a permit, one for the request. `None`: it was not sent and never
/// will be, because the permits were closed before it had one.
pub(super) async fn submit<I: Intake>(
    intake: Arc<I>,
    connection: Arc<Connection>,
    permits: RequestPermits,
    payload: Payload,
    window_check: WindowCheck,
    limit: Duration,
) -> Option<Landed> {
    let deadline = Instant::now() + limit;
    let permit = match within(limit, LOOK_AGAIN, permits.connection.acquire()).await {
        Some(Ok(permit)) => permit,
        Some(Err(_closed)) => return None,
        None => {
            let detail = format!(
                "waited {limit:?} (flush.timeout) for a turn behind {REQUESTS_MAX} requests under way"
            );
            return Some(Outcome::dropped(FailureReason::Timeout, detail).into());
        }
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let wait = left.min(STARTING_WAIT).min(limit / STARTING_WAIT_PART);
    let to_start = timeout(wait, permits.starting.acquire()).await.ok().and_then(Result::ok);
    if permits.connection.is_closed() {
        return None;
    }
    let Rechecked { payload, sends, own } =
        recheck(payload, &window_check.window, window_check.clock.unix_seconds());
    let Some(payload) = payload else { return Some(Landed { outcome: None, sends, own }) };
    // The intake keeps the time itself, and knows best how a request ended; this is for an intake that does not.
    let request = begin(to_start, intake.submit(connection, payload));
    let outcome = within(limit + GRACE, LOOK_AGAIN, request).await;
    drop(permit);
    let outcome = outcome.unwrap_or_else(|| {
        Outcome::dropped(FailureReason::Timeout, format!("no answer within {limit:?} (flush.timeout)"))
    });
    Some(Landed { outcome: Some(outcome), sends, own })
}

/// Waits for a request, which has its permit to start only for a while.
async fn begin<T>(permit: Option<SemaphorePermit<'_>>, request: impl Future<Output = T>) -> T {
    let mut request = std::pin::pin!(request);
    if let Ok(ended) = timeout(STARTING, &mut request).await {
        return ended;
    }
    drop(permit);
    request.await
}

/// Prints the output of a dry run, which counts as accepted whether anybody reads it or not. It has the time limit of a
/// request: a reader of standard output that stops must not hold up other connections.
pub(super) async fn print(printer: Printer, text: String, limit: Duration) -> Option<Landed> {
    if let Err(error) = printer.print(text, limit).await {
        tracing::warn!(%error, "a dry run's table was left out");
    }
    Some(Outcome::Accepted.into())
}

/// All present and former connections. A connection keeps its number over reloads, so that counts under it still reach it; a
/// removed one keeps its last settings for the same reason.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    /// By number.
    rows: Vec<ConnectionRow>,
    /// By name: a table of thousands must not be looked through for each of them.
    numbers: HashMap<Box<str>, usize>,
    /// By name, since the first request.
    permits: HashMap<Box<str>, Arc<Semaphore>>,
    starting: Arc<Semaphore>,
}

#[derive(Debug)]
struct ConnectionRow {
    connection: Arc<Connection>,
    state: RowState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum RowState {
    /// The configuration has it.
    Active,
    /// Its configuration is wrong, and its old form is in force; these are the app groups of the new one.
    Kept(Vec<Box<str>>),
    /// Its configuration is wrong; these are its app groups.
    Refused(Option<Vec<Box<str>>>),
    /// The configuration has it no more.
    Gone,
}

impl ConnectionTable {
    pub(super) fn new(connections: ConnectionSet) -> Self {
        let starting = Arc::new(Semaphore::new(STARTING_MAX));
        let (numbers, permits) = (HashMap::new(), HashMap::new());
        let mut table = Self { rows: Vec::new(), numbers, permits, starting };
        table.update(connections);
        table
    }

    /// Takes over the connections of a new configuration.
    pub(super) fn update(&mut self, connections: ConnectionSet) {
        for row in &mut self.rows {
            row.state = RowState::Gone;
            // A removed connection gets its counts, and nothing else.
            if row.connection.heartbeat || row.connection.forwarder_metrics {
                let connection = Arc::make_mut(&mut row.connection);
                (connection.heartbeat, connection.forwarder_metrics) = (false, false);
            }
        }
        for refused in connections.refused {
            let state = RowState::Refused(refused.app_group_ids);
            if let Some(known) = self.row(&refused.name) {
                // It keeps its last settings, for its counts.
                known.state = state;
            } else {
                let connection = Arc::new(Connection::named(refused.name));
                self.add(ConnectionRow { connection, state });
            }
        }
        for connection in connections.active {
            let row = ConnectionRow { connection: Arc::new(connection), state: RowState::Active };
            match self.row(&row.connection.name) {
                Some(known) => {
                    let state = match &mut known.state {
                        RowState::Refused(Some(ids)) => RowState::Kept(std::mem::take(ids)),
                        _ => RowState::Active,
                    };
                    *known = ConnectionRow { state, ..row };
                }
                None => self.add(row),
            }
        }
    }

    fn row(&mut self, name: &str) -> Option<&mut ConnectionRow> {
        self.numbers.get(name).map(|number| &mut self.rows[*number])
    }

    fn add(&mut self, row: ConnectionRow) {
        self.numbers.insert(row.connection.name.clone(), self.rows.len());
        self.rows.push(row);
    }

    /// The plan for the lanes.
    pub(super) fn plan(&self, layout: Arc<Layout>) -> Plan {
        let (mut served, mut refused) = (Vec::new(), Vec::new());
        for (id, row) in (0u32..).map(ConnectionId).zip(&self.rows) {
            match &row.state {
                RowState::Active => served.push((id, row.connection.app_groups())),
                RowState::Kept(wanted) => {
                    served.push((id, row.connection.app_groups()));
                    // A catch-all connection serves these app groups anyway.
                    if !row.connection.is_catch_all() {
                        refused.push((id, RefusedGroups { ids: Some(wanted) }));
                    }
                }
                RowState::Refused(ids) => refused.push((id, RefusedGroups { ids: ids.as_deref() })),
                RowState::Gone => {}
            }
        }
        let connection_names = self.rows.iter().map(|row| (*row.connection.name).into()).collect();
        Plan { router: Router::new(&served).refusing(&refused), layout, connection_names }
    }

    /// The connections to which counts go that were made before an update, by number; `router` is that of the present plan. A
    /// connection gets them in its present form, for an old key may be void already; and in its old form where it has another
    /// key or site now and no longer serves what it served: they are another one's.
    pub(super) fn receivers_of(&self, before: Vec<Arc<Connection>>, router: &Router) -> Vec<Arc<Connection>> {
        let mut receivers = self.snapshot();
        for ((id, receiver), old) in (0u32..).map(ConnectionId).zip(&mut receivers).zip(before) {
            let is_its =
                |app_group: &str| router.route(app_group.as_bytes()).is_some_and(|to| to.connection == id);
            let serves_all = if old.is_catch_all() {
                receiver.is_catch_all()
            } else {
                old.app_group_ids.iter().all(|app_group| is_its(app_group))
            };
            if !receiver.goes_as(&old) && !serves_all {
                *receiver = old;
            }
        }
        // One may have been told of the forwarder itself before, and another is now; drops add up in Datadog.
        let mut is_told = false;
        for receiver in &mut receivers {
            if receiver.forwarder_metrics && std::mem::replace(&mut is_told, true) {
                let receiver = Arc::make_mut(receiver);
                (receiver.forwarder_metrics, receiver.campaign_last_send_age) = (false, false);
            }
        }
        receivers
    }

    /// Those of `before` that have another key or URL now, by name.
    pub(super) fn retargeted<'t>(&'t self, before: &'t [Arc<Connection>]) -> impl Iterator<Item = &'t str> {
        before.iter().filter(|old| self.is_retargeted(old)).map(|old| &*old.name)
    }

    /// Whether a connection has another key or URL now than in this form of it.
    pub(super) fn is_retargeted(&self, old: &Connection) -> bool {
        let now = self.numbers.get(&old.name).map(|number| &self.rows[*number].connection);
        now.is_some_and(|now| !now.goes_as(old))
    }

    /// The connections as they are now, by number.
    pub(super) fn snapshot(&self) -> Vec<Arc<Connection>> {
        self.rows.iter().map(|row| Arc::clone(&row.connection)).collect()
    }

    /// The names of the configuration's connections, refused ones included.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().filter(|row| row.state != RowState::Gone).map(|row| &*row.connection.name)
    }

    /// Whether any connection gets points without sends.
    pub(super) fn has_news(&self) -> bool {
        self.rows.iter().any(|row| row.connection.heartbeat || row.connection.forwarder_metrics)
    }

    /// Whether any connection gets the forwarder's own metrics.
    pub(super) fn has_forwarder_metrics(&self) -> bool {
        self.rows.iter().any(|row| row.connection.forwarder_metrics)
    }

    /// Closes the permits: no request begins any more, and waiting payloads are not sent.
    pub(super) fn close_permits(&self) {
        self.permits.values().for_each(|permits| permits.close());
        self.starting.close();
    }

    /// What a request of a connection waits for.
    pub(super) fn permits(&mut self, name: &str) -> RequestPermits {
        let permits =
            self.permits.entry(name.into()).or_insert_with(|| Arc::new(Semaphore::new(REQUESTS_MAX)));
        RequestPermits { connection: Arc::clone(permits), starting: Arc::clone(&self.starting) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::connection::RefusedConnection;
    use datadog_points::ApiKey;
    use datadog_points::payload::Times;
    use datadog_points::site::Site;
    use send_counts::aggregate::tags::{Names, Tag, TagSettings};
    use send_counts::aggregate::{AggregateSettings, Late, Timestamp};
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Answers after a while, or never, and knows how many asked at the same time.
    #[derive(Debug, Default)]
    struct Crowd {
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Intake for Crowd {
        async fn submit(&self, connection: Arc<Connection>, _payload: Payload) -> Outcome {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            let takes = if connection.name.starts_with("slow") { 100 * LIMIT } else { LIMIT / 100 };
            sleep(takes).await;
            self.now.fetch_sub(1, Ordering::Relaxed);
            Outcome::Accepted
        }
    }

    /// Submits a payload each for so many slow connections at once, and so many for each of the quick ones; how long each took, and
    /// whether it was accepted.
    async fn crowd(slow: usize, quick: usize, payloads: usize) -> (Arc<Crowd>, Vec<(bool, bool, Duration)>) {
        let (intake, mut table, mut all) =
            (Arc::new(Crowd::default()), ConnectionTable::new(set(&[], &[])), JoinSet::new());
        let (clock, begun) = (Clock::system(), Instant::now());
        let settings = AggregateSettings {
            timestamp: Timestamp::Event,
            late: Late::Drop,
            flush_interval: 2 * LIMIT,
            flush_timeout: LIMIT,
            series_max: 1,
            series_max_total: 1,
        };
        let names = (0..slow).map(|number| format!("slow{number}"));
        for name in names.chain((0..quick * payloads).map(|number| format!("quick{}", number / payloads))) {
            let connection = Arc::new(Connection::named((*name).into()));
            let times = Times::at(clock.unix_seconds());
            let payload = Payload { body: "".into(), raw_bytes: 0, series: 1, sends: 1, times };
            let window_check = WindowCheck { window: Window::new(&settings), clock: clock.clone() };
            let request =
                submit(Arc::clone(&intake), connection, table.permits(&name), payload, window_check, LIMIT);
            all.spawn(async move {
                let outcome = request.await.and_then(|landed| landed.outcome);
                (name.starts_with("slow"), outcome == Some(Outcome::Accepted), begun.elapsed())
            });
        }
        (intake, all.join_all().await)
    }

    #[tokio::test(start_paused = true)]
    async fn thousands_of_requests_begin_a_few_hundred_at_a_time_and_all_of_them_soon() {
        let (intake, ended) = crowd(0, 4000, 1).await;
        assert_eq!(intake.most.load(Ordering::Relaxed), STARTING_MAX);
        assert_eq!(ended.len(), 4000);
        assert!(ended.iter().all(|(_, is_accepted, took)| *is_accepted && *took < LIMIT / 4));
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_are_slow_the_others_wait_for_a_quarter_of_the_limit_each_time() {
        const PAYLOADS: usize = REQUESTS_MAX + 4;
        let (_, ended) = crowd(4000, 100, PAYLOADS).await;
        assert_eq!(ended.len(), 4000 + 100 * PAYLOADS);
        for (is_slow, is_accepted, took) in ended {
            // The last few have waited for a turn before.
            let longest = if is_slow { 2 * LIMIT } else { 2 * (LIMIT / STARTING_WAIT_PART) + LIMIT / 25 };
            assert!(is_accepted != is_slow && took <= longest, "{is_slow} {is_accepted} {took:?}");
        }
    }

    fn set(active: &[&str], refused: &[&str]) -> ConnectionSet {
        let refused = refused.iter().map(|name| RefusedConnection {
            name: (*name).into(),
            app_group_ids: None,
            listed: Vec::new(),
            reason: "wrong".to_owned(),
            keeps_old: false,
        });
        ConnectionSet {
            active: active.iter().map(|name| Connection::named((*name).into())).collect(),
            refused: refused.collect(),
        }
    }

    #[test]
    fn what_was_counted_before_an_update_goes_to_whoever_served_it() {
        let one = |name: &str, key: &str, app_groups: &[&str]| Connection {
            api_key: ApiKey::new(key),
            app_group_ids: app_groups.iter().map(|id| (*id).into()).collect(),
            ..Connection::named(name.into())
        };
        let tags = TagSettings { include: Tag::ALL.to_vec(), static_tags: Vec::new(), names: Names::Latest };
        let layout = Arc::new(Layout::new(&tags));
        let receivers = |before: &[Connection], after: &[Connection]| {
            let mut table = ConnectionTable::new(before.to_vec().into());
            let old = table.snapshot();
            table.update(after.to_vec().into());
            let router = table.plan(Arc::clone(&layout)).router;
            table.receivers_of(old, &router)
        };
        let own = one("a", "old", &["g-a"]);
        // Rotated, also with more to serve; and where the key is the same, whatever else has changed.
        for after in [one("a", "new", &["g-a"]), one("a", "new", &["g-a", "g-c"]), one("a", "old", &["g-c"])]
        {
            assert_eq!(
                receivers(std::slice::from_ref(&own), std::slice::from_ref(&after)),
                [Arc::new(after)]
            );
        }
        let rest = [one("a", "old", &[])];
        assert_eq!(*receivers(&rest, &[one("a", "new", &[])])[0], one("a", "new", &[]), "that of the rest");
        // Two change places, one becomes another's, and one that of the rest, to which its own no longer belong.
        let before = [own.clone(), one("b", "other", &["g-b"])];
        for after in [
            [one("a", "other", &["g-b"]), one("b", "old", &["g-a"])],
            [one("a", "other", &["g-b"]), one("b", "other", &["g-c"])],
            [one("a", "new", &[]), one("b", "other", &["g-a"])],
        ] {
            assert_eq!(*receivers(&before, &after)[0], own, "{after:?}");
        }
        // What the forwarder tells of itself goes to one of them.
        let told = |one: &Connection, forwarder_metrics| Connection { forwarder_metrics, ..one.clone() };
        let is_told = |before: [bool; 2], after: [bool; 2]| {
            let before = [told(&own, before[0]), told(&one("b", "other", &["g-b"]), before[1])];
            let after =
                [told(&one("a", "new", &["g-c"]), after[0]), told(&one("b", "b", &["g-a"]), after[1])];
            receivers(&before, &after).iter().filter(|receiver| receiver.forwarder_metrics).count()
        };
        for (before, after) in [([true, false], [false, true]), ([false, true], [true, false])] {
            assert_eq!(is_told(before, after), 1, "{before:?} {after:?}");
        }
    }

    #[test]
    fn another_key_or_url_is_noticed() {
        let one = |name: &str, key: &str, site: &str| Connection {
            api_key: ApiKey::new(key),
            site: Site::parse(site).unwrap().0,
            ..Connection::named(name.into())
        };
        let before = vec![one("key", "k", "EU1"), one("new_metric", "k", "EU1"), one("site", "k", "EU1")];
        let mut table = ConnectionTable::new(before.into());
        let old = table.snapshot();
        let metric = Connection { metric: "m".into(), ..one("new_metric", "k", "EU1") };
        table.update(
            vec![one("new", "k", "EU1"), one("key", "l", "EU1"), metric, one("site", "k", "US5")].into(),
        );
        assert_eq!(table.retargeted(&old).collect::<Vec<_>>(), ["key", "site"]);
        assert_eq!(old.iter().map(|old| table.is_retargeted(old)).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_connection_keeps_its_number_whatever_becomes_of_it() {
        let mut table = ConnectionTable::new(set(&["a", "b"], &["wrong"]));
        let by_number = |table: &ConnectionTable| {
            table.snapshot().iter().map(|one| one.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(by_number(&table), ["wrong", "a", "b"]);
        table.update(set(&["c", "wrong"], &["b"]));
        assert_eq!(by_number(&table), ["wrong", "a", "b", "c"]);
        assert_eq!(table.names().collect::<Vec<_>>(), ["wrong", "b", "c"], "a is gone");
        table.update(set(&["a", "b", "c", "wrong"], &[]));
        assert_eq!(by_number(&table), ["wrong", "a", "b", "c"]);
    }
}
