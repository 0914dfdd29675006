//! Sends on their way into Kafka at the rate of the day, and the truth about them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};

use super::plan::{NEWSLETTER_PERCENT, Plan};
use super::population::Population;
use super::sends::Sends;
use super::truth::Truth;
use crate::support;

/// How long the broker may take for what is under way.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often it is looked what is due.
const TURN: Duration = Duration::from_millis(2);

/// Counts messages that the broker did not take.
#[derive(Debug, Clone, Default)]
struct Failures(Arc<AtomicU64>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
    }
}

/// Starts the thread that sends, until the day is over and the broker has everything.
pub(crate) fn start(
    mut client: ClientConfig,
    topic: &'static str,
    plan: Plan,
    population: Arc<Population>,
    begun: Instant,
) -> JoinHandle<Truth> {
    let failures = Failures::default();
    let producer: ThreadedProducer<Failures> = client
        // Each message is in the log once, whatever happens.
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "100")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "1000000")
        .set("delivery.report.only.error", "true")
        .create_with_context(failures.clone())
        .unwrap();
    let work = move || {
        let truth = run(&producer, topic, &plan, &population, begun);
        producer.flush(PATIENCE).unwrap();
        assert_eq!(failures.0.load(Ordering::Relaxed), 0, "the broker has taken every message");
        truth
    };
    thread::Builder::new().name("producer".into()).spawn(work).unwrap()
}

fn run(
    producer: &ThreadedProducer<Failures>,
    topic: &str,
    plan: &Plan,
    population: &Population,
    begun: Instant,
) -> Truth {
    let sets = vec![0; population.tag_sets() as usize];
    let mut truth = Truth { sets, sends: 0, seconds: Vec::new(), bytes: 0, behind: Duration::ZERO };
    let mut sends = Sends::new(1);
    // The first campaign of the largest customer.
    let newsletter = 0;
    let (mut due, mut last, mut value) = (0.0, 0.0, Vec::new());
    loop {
        let now = begun.elapsed().as_secs_f64();
        due += plan.rate_at(now) * (now - last);
        last = now;
        let (time, is_worst) = (support::unix_now(), plan.is_worst(now));
        let second = begun.elapsed().as_secs() as usize;
        truth.seconds.resize(second + 1, 0);
        // At most as much as keeps the clock right; the rest is due at the next look.
        let turn_end = Instant::now() + 10 * TURN;
        while due >= 1.0 && Instant::now() < turn_end {
            for _ in 0..64 {
                if due < 1.0 {
                    break;
                }
                due -= 1.0;
                let is_newsletter = is_worst && sends.next() % 100 < NEWSLETTER_PERCENT;
                let set = if is_newsletter { newsletter } else { sends.tag_set(population) };
                let key = sends.write(&mut value, population.owner(set), set, time);
                send(producer, BaseRecord::to(topic).key(&key[..]).payload(&value));
                truth.sets[set as usize] += 1;
                truth.seconds[second] += 1;
                truth.bytes += value.len() as u64;
                truth.sends += 1;
            }
        }
        let rate = plan.rate_at(now);
        if rate == 0.0 && due < 1.0 {
            return truth;
        }
        truth.behind = truth.behind.max(Duration::from_secs_f64(due / rate.max(1.0)));
        thread::sleep(TURN);
    }
}

/// Waits while too many are under way.
fn send(producer: &ThreadedProducer<Failures>, mut record: BaseRecord<'_, [u8], Vec<u8>>) {
    let give_up = Instant::now() + PATIENCE;
    while let Err((error, again)) = producer.send(record) {
        let is_full = error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
        assert!(is_full && Instant::now() < give_up, "a message could not be sent: {error}");
        thread::sleep(TURN);
        record = again;
    }
}
