//! Submissions: to which connection, how many requests at once, and for how long at most.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task;

use crate::catalogue::Tracked;
use crate::clock::{Clock, within};
use crate::connection::{Connection, ConnectionSet, Intake};
use crate::lane::Plan;
use crate::ledger::ClaimId;
use crate::pipeline::recheck::{Rechecked, recheck};
use crate::telemetry::Printer;
use datadog_points::outcome::{FailureReason, Outcome};
use datadog_points::payload::Payload;
use send_counts::aggregate::tags::Layout;
use send_counts::aggregate::window::Window;
use send_counts::route::{ConnectionId, RefusedGroups, Router};

/// How many requests one connection has under way at once. A flush of the default 100,000 series makes about
/// 20 payloads; what waits longer for its turn than a request may take is dropped, so that a connection that
/// hangs can't pile up memory.
const REQUESTS_MAX: usize = 16;

/// How much longer than `flush.timeout` an intake may take to return an outcome.
const GRACE: Duration = Duration::from_millis(250);

/// How long to wait once more for a turn or an outcome where the timer itself fired late. Longer than the intake does.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The outcome of a payload.
#[derive(Debug)]
pub(super) struct Landed {
    /// `None`: nothing was left to send.
    pub(super) outcome: Option<Outcome>,
    /// Sends that were left out as older than Datadog takes; the outcome does not cover them.
    pub(super) late: u64,
    /// Sends that were left out as too far ahead.
    pub(super) early: u64,
}

impl From<Outcome> for Landed {
    fn from(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), late: 0, early: 0 }
    }
}

/// The result of a submission's task; no landing if it was not sent, because the turns were closed.
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

/// Submits one payload once, within two time-outs: one to get a turn, one for the request. `None`: it was not sent and never
/// will be, because the turns were closed before its own.
pub(super) async fn submit<I: Intake>(
    intake: Arc<I>,
    connection: Arc<Connection>,
    turns: Arc<Semaphore>,
    payload: Payload,
    window_check: WindowCheck,
    limit: Duration,
) -> Option<Landed> {
    let turn = match within(limit, LOOK_AGAIN, turns.acquire()).await {
        Some(Ok(turn)) => turn,
        Some(Err(_closed)) => return None,
        None => {
            let detail = format!(
                "waited {limit:?} (flush.timeout) for a turn behind {REQUESTS_MAX} requests under way"
            );
            return Some(Outcome::dropped(FailureReason::Timeout, detail).into());
        }
    };
    let Rechecked { payload, late, early } =
        recheck(payload, &window_check.window, window_check.clock.unix_seconds());
    let Some(payload) = payload else { return Some(Landed { outcome: None, late, early }) };
    // The intake keeps the time itself, and knows best how a request ended; this is for an intake that does not.
    let outcome = within(limit + GRACE, LOOK_AGAIN, intake.submit(connection, payload)).await;
    drop(turn);
    let outcome = outcome.unwrap_or_else(|| {
        Outcome::dropped(FailureReason::Timeout, format!("no answer within {limit:?} (flush.timeout)"))
    });
    Some(Landed { outcome: Some(outcome), late, early })
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
    /// By name, since the first request.
    turns: HashMap<Box<str>, Arc<Semaphore>>,
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
    /// Its configuration is wrong; these are its app groups.
    Refused(Option<Vec<Box<str>>>),
    /// The configuration has it no more.
    Gone,
}

impl ConnectionTable {
    pub(super) fn new(connections: ConnectionSet) -> Self {
        let mut table = Self { rows: Vec::new(), turns: HashMap::new() };
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
                self.rows.push(ConnectionRow { connection, state });
            }
        }
        for connection in connections.active {
            let row = ConnectionRow { connection: Arc::new(connection), state: RowState::Active };
            match self.row(&row.connection.name) {
                Some(known) => *known = row,
                None => self.rows.push(row),
            }
        }
    }

    fn row(&mut self, name: &str) -> Option<&mut ConnectionRow> {
        self.rows.iter_mut().find(|row| *row.connection.name == *name)
    }

    /// The plan for the lanes.
    pub(super) fn plan(&self, layout: Arc<Layout>) -> Plan {
        let (mut served, mut refused) = (Vec::new(), Vec::new());
        for (id, row) in (0u32..).map(ConnectionId).zip(&self.rows) {
            match &row.state {
                RowState::Active => served.push((id, row.connection.app_groups())),
                RowState::Refused(ids) => refused.push((id, RefusedGroups { ids: ids.as_deref() })),
                RowState::Gone => {}
            }
        }
        let connection_names = self.rows.iter().map(|row| (*row.connection.name).into()).collect();
        Plan { router: Router::new(&served).refusing(&refused), layout, connection_names }
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

    /// Closes the turns: no request begins any more, and waiting payloads are not sent.
    pub(super) fn close_turns(&self) {
        self.turns.values().for_each(|turns| turns.close());
    }

    /// The requests that a connection may have under way.
    pub(super) fn turns(&mut self, name: &str) -> Arc<Semaphore> {
        let turns = self.turns.entry(name.into()).or_insert_with(|| Arc::new(Semaphore::new(REQUESTS_MAX)));
        Arc::clone(turns)
    }
}
