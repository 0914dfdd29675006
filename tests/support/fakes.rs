//! The scripted fakes of the two traits: a queue that redelivers what was not acknowledged, and an intake
//! that answers as it is told.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use braze_datadog::connection::Connection;
use braze_datadog::connection::Intake;
use datadog_points::outcome::FailureReason;
use datadog_points::outcome::Outcome;
use datadog_points::payload::Payload;
use event_queues::{Delivery, Framing, Queue, QueueError, Receipt, Source};
use tokio::sync::{Notify, Semaphore};

/// A queue in memory. [`FakeQueue::reopen`] is what a restart of the process does to a real one.
#[derive(Debug, Clone)]
pub(crate) struct FakeQueue {
    state: Arc<Mutex<State>>,
    grown: Arc<Notify>,
    next: usize,
    is_stalled: Arc<AtomicBool>,
    /// Whether the queue ends when it is empty.
    pub(crate) ends: bool,
}

#[derive(Debug, Default)]
struct State {
    bodies: Vec<String>,
    acknowledged: usize,
    fails_at: Option<usize>,
    recalls_at: Option<usize>,
    refuses_to_acknowledge: bool,
    is_unacknowledgeable: bool,
    is_held: bool,
}

impl FakeQueue {
    pub(crate) fn new(bodies: impl IntoIterator<Item = String>) -> Self {
        let state = State { bodies: bodies.into_iter().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        Self { state, grown: Arc::new(Notify::new()), next: 0, is_stalled: Arc::default(), ends: true }
    }

    pub(crate) fn waiting(mut self) -> Self {
        self.ends = false;
        self
    }

    pub(crate) fn failing_at(self, delivery: usize) -> Self {
        self.lock().fails_at = Some(delivery);
        self
    }

    pub(crate) fn recalling_at(self, delivery: usize) -> Self {
        self.lock().recalls_at = Some(delivery);
        self
    }

    /// The next acknowledgement fails.
    pub(crate) fn refuse_to_acknowledge(&self) {
        self.lock().refuses_to_acknowledge = true;
    }

    /// The queue knows that it can't acknowledge what is sent from here on.
    pub(crate) fn end_acknowledging(&self) {
        self.lock().is_unacknowledgeable = true;
    }

    /// Acknowledgements wait from here on, or go on.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// The queue can't acknowledge for the time being, or can again.
    pub(crate) fn hold(&self, is_held: bool) {
        self.lock().is_held = is_held;
    }

    pub(crate) fn push(&self, body: String) {
        self.lock().bodies.push(body);
        self.grown.notify_one();
    }

    /// How many deliveries are acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.lock().acknowledged
    }

    pub(crate) fn reopen(&self) -> Self {
        Self { next: self.acknowledged(), ..self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Queue for FakeQueue {
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        loop {
            {
                let state = self.lock();
                if state.fails_at == Some(self.next) {
                    return Err(QueueError("scripted failure".into()));
                }
                if let Some(body) = state.bodies.get(self.next) {
                    let body = body.clone().into();
                    let receipt = Receipt(self.next as u64 + 1);
                    let recall = state.recalls_at == Some(self.next);
                    drop(state);
                    self.next += 1;
                    let (framing, defaults) = (Framing::Lines, Arc::default());
                    return Ok(Some(Delivery {
                        body,
                        framing,
                        defaults,
                        source: Source::Push,
                        oversized: 0,
                        recall,
                        receipt,
                    }));
                }
            }
            if self.ends {
                return Ok(None);
            }
            self.grown.notified().await;
        }
    }

    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        let acknowledged = usize::try_from(receipt.0).unwrap();
        while self.is_stalled.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(acknowledged <= self.next, "acknowledged what was never delivered");
        let mut state = self.lock();
        if state.refuses_to_acknowledge {
            return Err(QueueError("scripted refusal".into()));
        }
        state.acknowledged = state.acknowledged.max(acknowledged);
        Ok(())
    }

    fn ensure_acknowledgeable(&self) -> Result<(), QueueError> {
        let is_over = self.lock().is_unacknowledgeable;
        if is_over { Err(QueueError("scripted end".into())) } else { Ok(()) }
    }

    fn held(&self) -> Option<QueueError> {
        self.lock().is_held.then(|| QueueError("scripted hold".into()))
    }
}

/// What the fake intake does with the requests of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    Accept,
    Refuse(FailureReason),
    /// Never answers.
    Hang,
    /// A defect of an intake.
    Panic,
    Slow(Duration),
    /// Answers when a permit is given.
    Gate(Arc<Semaphore>),
}

/// An intake in memory.
#[derive(Debug, Default)]
pub(crate) struct FakeIntake {
    behaviours: Mutex<HashMap<String, Behaviour>>,
    submissions: Mutex<Vec<(String, Payload)>>,
}

impl FakeIntake {
    pub(crate) fn set(&self, connection: &str, behaviour: Behaviour) {
        self.behaviours.lock().unwrap().insert(connection.into(), behaviour);
    }

    /// How many payloads came in, whatever became of them.
    pub(crate) fn requests(&self, connection: &str) -> usize {
        self.submissions.lock().unwrap().iter().filter(|(name, _)| name == connection).count()
    }

    /// The series that came in, decoded, payload by payload.
    pub(crate) fn series(&self, connection: &str) -> Vec<Vec<serde_json::Value>> {
        let submissions = self.submissions.lock().unwrap();
        let mine = submissions.iter().filter(|(name, _)| name == connection);
        mine.map(|(_, payload)| {
            let mut text = String::new();
            flate2::read::ZlibDecoder::new(&*payload.body).read_to_string(&mut text).unwrap();
            let body: serde_json::Value = serde_json::from_str(&text).unwrap();
            body["series"].as_array().unwrap().clone()
        })
        .collect()
    }

    /// Sends by the JSON of the tags, over all payloads of a connection.
    pub(crate) fn sends(&self, connection: &str) -> BTreeMap<String, u64> {
        let mut sends = BTreeMap::new();
        for series in self.series(connection).into_iter().flatten() {
            for point in series["points"].as_array().unwrap() {
                let sum: u64 = point[1].as_array().unwrap().iter().map(|value| value.as_u64().unwrap()).sum();
                *sends.entry(series["tags"].to_string()).or_default() += sum;
            }
        }
        sends
    }

    pub(crate) fn total(&self, connection: &str) -> u64 {
        self.sends(connection).values().sum()
    }
}

impl Intake for FakeIntake {
    async fn submit(&self, connection: Arc<Connection>, payload: Payload) -> Outcome {
        let name = connection.name.to_string();
        let behaviour = self.behaviours.lock().unwrap().get(&name).cloned().unwrap_or(Behaviour::Accept);
        self.submissions.lock().unwrap().push((name, payload));
        match behaviour {
            Behaviour::Accept => Outcome::Accepted,
            Behaviour::Refuse(reason) => Outcome::dropped(reason, "scripted"),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Panic => panic!("scripted"),
            Behaviour::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Outcome::Accepted
            }
            Behaviour::Gate(gate) => {
                gate.acquire().await.unwrap().forget();
                Outcome::Accepted
            }
        }
    }
}
