//! The same with a broker in place of the queue: what it has taken is what was acknowledged.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use super::broker::{Broker, Compression, Producer};
use super::lab::Lab;
use super::random::Random;
use super::road::{Road, Way};
use super::schedule::{Fault, Track, row, with_broker};
use super::support::PATIENCE;
use super::support::forwarder::{Configuration, quote};
use super::table::Table;
use super::truth::Truth;

const TOPIC: &str = "braze.sends";
const GROUP: &str = "braze-datadog";
const PARTITIONS: i32 = 4;

/// So long the broker waits for a member that was killed, and half as long before it hands out partitions.
const SESSION_TIMEOUT_MS: &str = "3000";

const PAUSE: Duration = Duration::from_millis(40);

/// The broker, and the way to it.
pub(crate) struct Far {
    broker: Broker,
    road: Road,
    /// Held while a batch is on its way, so that no request of the producer is cut in two and sent twice.
    is_well: Arc<Mutex<bool>>,
}

impl Far {
    async fn start() -> Self {
        let road = Road::open(Way::Closed);
        let broker = Broker::start_advertising(Some(road.address()));
        road.lead(Way::To(broker.socket()));
        broker.create_topic(TOPIC, PARTITIONS).await;
        Self { broker, road, is_well: Arc::new(Mutex::new(true)) }
    }

    /// Begins or ends what troubles it.
    pub(crate) fn trouble(&mut self, fault: Fault, is_on: bool) {
        let mut is_well = self.is_well.lock().unwrap();
        *is_well = !is_on;
        match (fault, is_on) {
            (Fault::BrokerGone, true) => self.road.lead(Way::Closed),
            (Fault::BrokerGone, false) => self.road.lead(Way::To(self.broker.socket())),
            (_, true) => self.broker.freeze(),
            (_, false) => self.broker.thaw(),
        }
    }

    fn load(&self, seed: u64) -> Load {
        let producer = self.broker.producer(Compression::Lz4);
        let is_well = Arc::clone(&self.is_well);
        let stop = Arc::new(Mutex::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut truth, mut random) = (Truth::default(), Random::new(seed));
            while !*stopped.lock().unwrap() {
                produce(&producer, &mut truth, &mut random, &is_well);
                std::thread::sleep(PAUSE);
            }
            (truth, producer)
        });
        Load { thread: Some(thread), stop }
    }
}

/// Sends a batch, a message each event, and waits until the broker has it.
fn produce(producer: &Producer, truth: &mut Truth, random: &mut Random, is_well: &Mutex<bool>) {
    let held = is_well.lock().unwrap();
    if !*held {
        return;
    }
    let (number, events) = truth.next(random);
    for (position, event) in events.iter().enumerate() {
        // What was sent twice is for the same partition.
        let key = if position as u64 >= super::truth::BATCH { 0 } else { position };
        producer.send(TOPIC, &format!("user-{number}-{key}"), event.to_string().as_bytes());
    }
    producer.flush();
    truth.batches[usize::try_from(number).unwrap()].acknowledged = Some(0);
}

/// A row of batches.
struct Load {
    thread: Option<JoinHandle<(Truth, Producer)>>,
    stop: Arc<Mutex<bool>>,
}

impl Load {
    fn finish(mut self) -> (Truth, Producer) {
        *self.stop.lock().unwrap() = true;
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Of a run that has failed; the others go on.
        *self.stop.lock().unwrap() = true;
    }
}

fn configuration(broker: &str) -> Configuration {
    let option = |name| format!("queue.kafka.options.{}", quote(name));
    Configuration::new()
        .without("queue.embedded.directory")
        .without("push.listen")
        .text("queue.kind", "kafka")
        .set("queue.kafka.brokers", &format!("[{}]", quote(broker)))
        .set("queue.kafka.topics", &format!("[{}]", quote(TOPIC)))
        .text("queue.kafka.group_id", GROUP)
        .text(&option("session.timeout.ms"), SESSION_TIMEOUT_MS)
        .text(&option("heartbeat.interval.ms"), "500")
}

/// A whole run: faults, rest, audit.
pub(crate) async fn run(seed: u64, lasting: Duration) -> Table {
    let far = Far::start().await;
    let load = far.load(seed);
    let mut lab = Lab::open(configuration(&far.broker.address()));
    lab.far = Some(far);
    lab.partitions = Some(PARTITIONS.unsigned_abs().into());
    lab.lives_now().await;
    let faults = [Track::Member, Track::Reload, Track::Broker].map(Track::faults).concat();
    let rows = with_broker().into_iter().map(|track| row(seed, track)).collect();
    lab.suffer(rows, &faults, lasting).await;
    lab.lives_now().await;
    let (truth, producer) = load.finish();
    let ends = producer.ends(TOPIC);
    let give_up = Instant::now() + 2 * PATIENCE;
    while let Some(committed) = lab.far.as_ref().map(|far| far.broker.committed(GROUP, TOPIC))
        && committed != ends
    {
        assert!(Instant::now() < give_up, "committed {committed:?}, and sent {ends:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
        lab.look().await;
    }
    let verdict = lab.close(&truth).await;
    assert!(verdict.findings.is_empty(), "\n{}", verdict.findings.join("\n"));
    std::mem::take(&mut lab.table)
}
