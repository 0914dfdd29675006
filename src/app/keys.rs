//! Validates each connection's key on its own site, in the background: no start, flush or stop waits for it, and its result
//! drops nothing.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use crate::connection::Connection;
use crate::connection::Intake;
use crate::key_monitor::{KeyEvent, KeyStatus, Keys, Question};
use datadog_points::client::{HttpIntake, KeyValidator};
use datadog_points::outcome::Outcome;
use datadog_points::payload::Payload;
use datadog_points::validity::Validity;
use event_lanes::clock::Clock;

/// How many keys are validated at once: 500 connections take seconds, and a dead network takes few sockets.
pub(crate) const QUESTIONS_MAX: usize = 8;

/// How long to wait when nothing is due.
const IDLE: Duration = Duration::from_mins(10);

/// The validity of the connections' keys in the running process.
#[derive(Debug)]
pub(super) struct KeyWatch {
    keys: Mutex<Keys>,
    clock: Clock,
    /// Something may be due earlier than before.
    woken: Notify,
}

impl KeyWatch {
    /// A watch over no connection.
    pub(super) fn new(clock: Clock) -> Self {
        Self { keys: Mutex::default(), clock, woken: Notify::new() }
    }

    /// Watches these connections from here on; new keys and sites are validated at once, if `validate` allows it.
    pub(super) fn configure(&self, connections: &[Connection], validate: bool) {
        self.lock().configure(connections, validate, self.now());
        self.woken.notify_one();
    }

    /// The state of a connection's key, for people.
    pub(super) fn status(&self, connection: &str) -> KeyStatus {
        self.lock().status(connection, self.now())
    }

    /// The connections whose key is known to be valid or not.
    pub(super) fn known(&self) -> Vec<(Box<str>, bool)> {
        self.lock().known().map(|(name, is_valid)| (name.into(), is_valid)).collect()
    }

    /// Validates whatever is due, for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, validator: KeyValidator) {
        let mut asking = JoinSet::new();
        loop {
            let (due, wait) = self.due(QUESTIONS_MAX - asking.len());
            for question in due {
                asking.spawn(ask(validator.clone(), question));
            }
            tokio::select! {
                biased;
                Some(joined) = asking.join_next() => self.answered(joined),
                () = self.woken.notified() => {}
                () = tokio::time::sleep(wait), if asking.len() < QUESTIONS_MAX => {}
            }
        }
    }

    /// The questions that are due, and how long until there may be more.
    fn due(&self, questions_max: usize) -> (Vec<Question>, Duration) {
        let now = self.now();
        let mut keys = self.lock();
        let due = keys.due(questions_max, now);
        let wait = keys.next_due().map(|next| Duration::from_millis(next.saturating_sub(now)));
        (due, wait.unwrap_or(IDLE).min(IDLE))
    }

    fn answered(&self, joined: Result<(Question, Validity), JoinError>) {
        match joined {
            Ok((question, validity)) => {
                let random = RandomState::new().hash_one(&question.connection);
                let change = self.lock().answered(&question, &validity, random, self.now());
                if let Some(change) = change {
                    log_key_event(&question, &validity, change);
                }
            }
            // It is asked again: see `Keys::due`.
            Err(error) => tracing::error!(%error, "asking about a key failed by a defect"),
        }
    }

    fn now(&self) -> u64 {
        self.clock.elapsed_milliseconds()
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        // A panicked holder left it whole, or the process is going down.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(validator: KeyValidator, question: Question) -> (Question, Validity) {
    let validity = validator.ask(&question.site, &question.key).await;
    (question, validity)
}

fn log_key_event(question: &Question, validity: &Validity, change: KeyEvent) {
    let (connection, site) = (&question.connection, &question.site.name);
    let words = validity.message(&question.site);
    match change {
        KeyEvent::Invalid => tracing::error!(
            %connection,
            %site,
            answer = %words,
            "the API key is not valid on this site: what is sent with it reaches nobody; put the right key or site \
             into the configuration and send SIGHUP (braze-datadog check --online --find-site says where the key is \
             valid)"
        ),
        KeyEvent::ValidAgain => tracing::info!(%connection, %site, "the API key is valid again"),
        KeyEvent::Valid => tracing::debug!(%connection, %site, "the API key is valid"),
        KeyEvent::Unknown => tracing::info!(
            %connection,
            %site,
            answer = %words,
            "whether the API key is valid can't be found out for now; sends are not affected"
        ),
    }
}

/// Datadog's intake; its outcomes may be a reason to validate a key.
#[derive(Debug)]
pub(super) struct WatchedIntake {
    pub(super) http: HttpIntake,
    pub(super) keys: Arc<KeyWatch>,
}

impl Intake for WatchedIntake {
    async fn submit(&self, connection: Arc<Connection>, payload: Payload) -> Outcome {
        let outcome = self.http.submit(Arc::clone(&connection), payload).await;
        let is_due_earlier = self.keys.lock().heard(&connection, &outcome, self.keys.now());
        if is_due_earlier {
            self.keys.woken.notify_one();
        }
        outcome
    }
}
