//! The same with a broker in place of the queue: what it has taken is what was acknowledged.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use super::asked;
use super::broker::{Broker, Compression, Producer, SESSION_TIMEOUT_MS};
use super::lab::Lab;
use super::random::Random;
use super::road::{Road, Way};
use super::schedule::{Fault, KAFKA, Track, row};
use super::support::PATIENCE;
use super::support::forwarder::{Configuration, quote};
use super::truth::Truth;

const TOPIC: &str = "braze.sends";
const GROUP: &str = "braze-datadog";
const PARTITIONS: i32 = 4;

/// How long the run takes where nobody says otherwise.
const SECONDS: u64 = 25;

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
        Load { thread, stop }
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
    thread: JoinHandle<(Truth, Producer)>,
    stop: Arc<Mutex<bool>>,
}

impl Load {
    fn finish(self) -> (Truth, Producer) {
        *self.stop.lock().unwrap() = true;
        self.thread.join().unwrap()
    }
}

fn configuration(broker: &str) -> Configuration {
    let session = format!("queue.kafka.options.{}", quote("session.timeout.ms"));
    Configuration::new()
        .without("queue.embedded.directory")
        .without("push.listen")
        .text("queue.kind", "kafka")
        .set("queue.kafka.brokers", &format!("[{}]", quote(broker)))
        .set("queue.kafka.topics", &format!("[{}]", quote(TOPIC)))
        .text("queue.kafka.group_id", GROUP)
        .text(&session, SESSION_TIMEOUT_MS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_with_a_broker() {
    let seed = asked("CHAOS_SEED").unwrap_or(3);
    let seconds = asked("CHAOS_SECONDS").unwrap_or(SECONDS);
    println!(
        "CHAOS_SEED={seed} CHAOS_SECONDS={seconds} cargo test --features kafka --test chaos faults_with_a_broker -- --nocapture"
    );
    let far = Far::start().await;
    let load = far.load(seed);
    let mut lab = Lab::open(configuration(&far.broker.address()));
    lab.far = Some(far);
    lab.partitions = Some(PARTITIONS.unsigned_abs().into());
    lab.lives_now().await;
    let faults = [Track::Member.faults(), Track::Broker.faults()].concat();
    lab.suffer(KAFKA.map(|track| row(seed, track)).into(), &faults, Duration::from_secs(seconds)).await;
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
    let table = &lab.table;
    println!("a broker, seed {seed}, {seconds} s\n{}", table.with(&verdict, &truth));
    assert!(verdict.findings.is_empty(), "\n{}", verdict.findings.join("\n"));
}
