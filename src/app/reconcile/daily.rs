//! The daily comparison in the running process, in the background: no lane, flush or stop waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use admin_api::ReconcileStatus;
use braze_rest::BrazeClient;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::{BRAZE_TIMEOUT, OBJECTS_MAX, ask, history, named};
use crate::app::{Failure, USER_AGENT};
use crate::catalogue::Catalogue;
use crate::reconcile::{
    AttemptOutcome, ComparisonTerms, CountedTypes, DailySchedule, NextAttempt, ReconcileAttempt,
    ReconcileSettings, Reconciliation, compare,
};
use event_lanes::clock::Clock;
use send_history::SendHistory;

/// Workspaces that are compared at a time.
const ATTEMPTS_MAX: usize = 4;

/// How long the history may take to open; then the attempt fails.
const OPENING_SECONDS_MAX: u32 = 120;

/// The longest wait before the clock, which may have been set, is read again.
const LOOK_INTERVAL: Duration = Duration::from_mins(1);

/// The daily comparison of the running process.
#[derive(Debug)]
pub(in crate::app) struct DailyReconcile {
    schedule: Mutex<DailySchedule>,
    clock: Clock,
    /// Something may be due earlier than before.
    woken: Notify,
}

/// The parts of the process that an attempt needs.
#[derive(Debug, Clone)]
struct OwnSide {
    catalogue: Arc<Catalogue>,
    types: CountedTypes,
    clock: Clock,
}

impl DailyReconcile {
    /// A schedule without workspaces.
    pub(in crate::app) fn new(clock: Clock) -> Self {
        Self { schedule: Mutex::default(), clock, woken: Notify::new() }
    }

    /// Takes over settings, and logs their mistakes. Where somebody `is_asking` for it, what has failed is tried again.
    pub(in crate::app) fn configure(&self, settings: &ReconcileSettings, is_asking: bool) {
        for refused in &settings.refused {
            tracing::error!(
                connection = refused.connection.as_deref(),
                reason = %refused.reason,
                "nothing is compared with Braze's dashboard, for what is written in [reconcile] is wrong: put it right; \
                 sends are counted as ever"
            );
        }
        let now = self.clock.unix_seconds();
        let mut schedule = self.lock();
        schedule.configure(settings, now);
        if is_asking {
            schedule.retry_failed(now);
        }
        drop(schedule);
        self.woken.notify_one();
    }

    /// The status; `None`: it is off.
    pub(in crate::app) fn status(&self) -> Option<ReconcileStatus> {
        self.lock().status()
    }

    /// Runs the comparisons that are due, for as long as it is polled.
    pub(in crate::app) async fn run(self: Arc<Self>, catalogue: Arc<Catalogue>, events_count: Vec<Box<str>>) {
        let types = CountedTypes::parse(&events_count.join(","));
        let own = OwnSide { catalogue, types, clock: self.clock.clone() };
        let mut attempts = JoinSet::new();
        loop {
            let due = self.lock().due(ATTEMPTS_MAX - attempts.len(), self.clock.unix_seconds());
            for attempt in due {
                let own = own.clone();
                attempts.spawn(async move {
                    let outcome = on_a_thread(attempt.clone(), own).await;
                    (attempt, outcome)
                });
            }
            tokio::select! {
                biased;
                Some(joined) = attempts.join_next() => match joined {
                    Ok((attempt, outcome)) => self.finished(&attempt, &outcome),
                    Err(error) => tracing::error!(%error, "the comparison with Braze's dashboard failed by a defect"),
                },
                () = self.woken.notified() => {}
                () = tokio::time::sleep(self.wait()), if attempts.len() < ATTEMPTS_MAX => {}
            }
        }
    }

    fn wait(&self) -> Duration {
        let now = self.clock.unix_seconds();
        let seconds = |due: u64| Duration::from_secs(due.saturating_sub(now).max(1));
        self.lock().next_due().map_or(LOOK_INTERVAL, seconds).min(LOOK_INTERVAL)
    }

    fn finished(&self, attempt: &ReconcileAttempt, outcome: &AttemptOutcome) {
        let connection = attempt.workspace.connection.as_deref();
        // Before it is logged: who has read the line sees what it says in the status, too.
        let next = self.lock().finished(attempt, outcome, self.clock.unix_seconds());
        if let Some(all) = outcome.result() {
            log_reconciliation(connection, all);
        }
        match (&outcome.failed, next) {
            (None, _) | (_, NextAttempt::Never) => {}
            (Some(reason), NextAttempt::Retry(seconds)) => tracing::warn!(
                connection,
                %reason,
                seconds,
                "the comparison with Braze's dashboard failed; it is tried again after that time"
            ),
            (Some(reason), NextAttempt::NextDay) => tracing::error!(
                connection,
                %reason,
                "the comparison with Braze's dashboard failed several times; it is tried again on the next day"
            ),
        }
    }

    fn lock(&self) -> MutexGuard<'_, DailySchedule> {
        // A panicked holder left it whole, or the process is going down.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs the result of a comparison.
fn log_reconciliation(connection: Option<&str>, all: &Reconciliation) {
    let beyond = all.objects.iter().filter(|object| !object.within_tolerance).count();
    let (from, to, braze, accepted) = (all.from, all.to, all.total.sends.braze, all.total.sends.accepted);
    let (objects, not_compared) = (all.objects.len(), all.not_compared.len());
    if !all.is_any_compared() {
        tracing::info!(
            connection,
            %from,
            %to,
            not_compared,
            "nothing was compared with Braze's dashboard: there are no sends of these days that could be"
        );
    } else if beyond > 0 {
        tracing::warn!(
            connection,
            %from,
            %to,
            braze,
            accepted,
            objects,
            beyond,
            not_compared,
            "Datadog differs from Braze's dashboard by more than reconcile.tolerance: /status and the page say where and why"
        );
    } else {
        tracing::info!(
            connection, %from, %to, braze, accepted, objects, not_compared, "compared with Braze's dashboard"
        );
    }
}

/// Runs an attempt on a thread of its own: it reads the disk, and processes answers of megabytes. It ends when its caller is
/// gone.
async fn on_a_thread(attempt: ReconcileAttempt, own: OwnSide) -> AttemptOutcome {
    let (mut done, outcome) = oneshot::channel();
    let thread = thread::Builder::new().name("reconcile".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = done.closed() => AttemptOutcome::default(),
                    outcome = compare_now(&attempt, &own) => outcome,
                }
            }),
            Err(error) => failed(error),
        };
        // The caller may be gone.
        let _stopping = done.send(outcome);
    });
    match thread {
        Ok(_) => outcome.await.unwrap_or_else(|_panicked| failed("it ended by a defect of this program")),
        Err(error) => failed(format!("there is no thread for it: {error}")),
    }
}

fn failed(reason: impl std::fmt::Display) -> AttemptOutcome {
    AttemptOutcome { compared: None, failed: Some(reason.to_string()) }
}

async fn compare_now(attempt: &ReconcileAttempt, own: &OwnSide) -> AttemptOutcome {
    match compare_all(attempt, own).await {
        Ok(outcome) => outcome,
        Err(Failure { message, .. }) => failed(message),
    }
}

/// Waits until the history, which is verified whole at the start, is open or can't be used.
async fn opened(history: Option<&SendHistory>) {
    let is_settled = |history: &SendHistory| {
        let state = history.state();
        state.since.is_some() || state.trouble.is_some()
    };
    for _ in 0..OPENING_SECONDS_MAX {
        if history.is_none_or(is_settled) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn note(note: &str) {
    tracing::info!("{note}");
}

/// Says so where the workspace's app group is none that the history has.
fn missing_group(attempt: &ReconcileAttempt, history: Option<&SendHistory>) -> Option<String> {
    if attempt.workspace.app_group_id.is_empty() {
        return None;
    }
    let sent = history?.find(|_| true);
    attempt.missing_group(sent.iter().map(|(_, object)| (&*object.connection, &*object.app_group_id)))
}

async fn compare_all(attempt: &ReconcileAttempt, own: &OwnSide) -> Result<AttemptOutcome, Failure> {
    opened(own.catalogue.history()).await;
    let now = own.clock.unix_seconds();
    let workspace = &attempt.workspace;
    let range = attempt.range(now).map_err(Failure::failed)?;
    let wanted = |object: &admin_api::HistoryObject| attempt.covers(object);
    let (objects, since) = history::read_own(own.catalogue.history(), &range, wanted, now)?;
    if objects.is_empty()
        && let Some(missing) = missing_group(attempt, own.catalogue.history())
    {
        return Err(Failure::failed(missing));
    }
    let asked = named(&[], &[], &objects);
    if asked.len() > OBJECTS_MAX {
        return Err(Failure::failed(format!(
            "{} campaigns and Canvases are more than Braze is asked about at a time ({OBJECTS_MAX}); set reconcile.days lower",
            asked.len()
        )));
    }
    let braze = BrazeClient::new(&workspace.braze_url, workspace.key.clone(), USER_AGENT, BRAZE_TIMEOUT)
        .map_err(Failure::failed)?;
    if asked.iter().all(|object| object.id.is_empty()) {
        // Braze would be asked nothing, and a wrong key look like a right one.
        ask::try_key(&braze, &range, note).await?;
    }
    let answers = ask::series(&braze, &range, asked, note).await?;
    let (types, tolerance) = (&own.types, attempt.tolerance);
    let left_out = own.catalogue.history().map_or(0, |history| history.state().left_out);
    let terms = ComparisonTerms { range: &range, types, tolerance, since, left_out, now };
    let compared = compare(&terms, objects, answers.all);
    Ok(AttemptOutcome { compared: Some(compared), failed: answers.broken_off })
}
