//! Clients that push as Braze does: a batch that is not answered with 200 is pushed again as it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use super::random::Random;
use super::support;
use super::truth::Truth;

const CLIENTS: u64 = 4;

/// Between two pushes of a client, so that the machine is left to the process: some 25 batches a second in all.
const PAUSE: Duration = Duration::from_millis(150);

/// No answer to a push after this is none.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// The number of the process's life, which changes only while no push is under way.
pub(crate) type Gate = Arc<RwLock<u32>>;

/// The clients.
pub(crate) struct Load {
    clients: JoinSet<()>,
    stop: tokio::sync::watch::Sender<bool>,
    truth: Arc<Mutex<Truth>>,
}

/// One client.
struct Client {
    http: reqwest::Client,
    url: String,
    gate: Gate,
    truth: Arc<Mutex<Truth>>,
}

impl Load {
    pub(crate) fn start(seed: u64, url: &str, gate: &Gate) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut load = Self { clients: JoinSet::new(), stop, truth: Arc::default() };
        for number in 0..CLIENTS {
            let http = support::client(None);
            let client =
                Client { http, url: url.to_owned(), gate: Arc::clone(gate), truth: Arc::clone(&load.truth) };
            let mut random = Random::new(seed ^ ((number + 1) << 32));
            let stopped = stopped.clone();
            load.clients.spawn(async move {
                while !*stopped.borrow() {
                    client.deliver(&mut random).await;
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        load
    }

    /// Lets the clients deliver what they have in hand, and says what they pushed.
    pub(crate) async fn finish(mut self) -> Truth {
        self.stop.send_replace(true);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.truth.lock().unwrap())
    }
}

impl Client {
    /// Makes a batch, and pushes it until it is taken.
    async fn deliver(&self, random: &mut Random) {
        let (number, events) = self.truth.lock().unwrap().next(random);
        let number = usize::try_from(number).unwrap();
        let expected = events.len() as u64;
        let body = json!({ "events": events }).to_string();
        loop {
            let life = self.gate.read().await;
            let answer = self.push(&body).await;
            if self.is_taken(number, expected, *life, answer) {
                return;
            }
            drop(life);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Notes the answer to a batch; whether it was taken.
    fn is_taken(&self, number: usize, events: u64, life: u32, answer: Option<(u16, String)>) -> bool {
        let mut truth = self.truth.lock().unwrap();
        match answer {
            Some((200, text)) => {
                assert_eq!(text, format!("{{\"accepted\":{events}}}"));
                truth.batches[number].acknowledged = Some(life);
                return true;
            }
            // It is not in the queue.
            Some((503, _)) => truth.refusals += 1,
            None => truth.batches[number].unanswered.push(life),
            Some((status, text)) => panic!("a good batch was answered {status}: {text}"),
        }
        false
    }

    async fn push(&self, body: &str) -> Option<(u16, String)> {
        let request = self.http.post(&self.url).header("content-type", "application/json");
        let answer = request.timeout(ANSWER_TIME_MAX).body(body.to_owned()).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }
}
