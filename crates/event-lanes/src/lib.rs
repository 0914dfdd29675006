//! A lane: plain synchronous code on a thread of its own that decodes, routes and records. There is one a core, so that all
//! cores work; whoever receives deliveries hands them to whichever is least busy. [`stats`] are the books.
//!
//! ```
//! use std::sync::Arc;
//!
//! use event_lanes::clock::Clock;
//! use event_lanes::stats::Stats;
//! use event_lanes::{LaneSettings, Lanes, Plan};
//! use event_queues::{Delivery, Framing, Receipt, Source};
//! use send_counts::aggregate::tags::{Layout, Names, Tag, TagSettings};
//! use send_counts::dedup::DedupSettings;
//! use send_counts::route::{AppGroups, ConnectionId, Router};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! // One connection, which serves every app group.
//! let all = AppGroups { ids: &[], names: &Default::default() };
//! let tags = TagSettings { include: Tag::ALL.to_vec(), static_tags: Vec::new(), names: Names::Latest };
//! let plan = Arc::new(Plan {
//!     router: Router::new(&[(ConnectionId(0), all)]),
//!     layout: Arc::new(Layout::new(&tags)),
//!     connection_names: vec!["acme".into()],
//! });
//! let settings = LaneSettings {
//!     lanes: 2,
//!     event_types: vec!["users.messages.email.Send".into()],
//!     aggregate: send_counts::testing::aggregate_settings(1_000),
//!     dedup: DedupSettings { window: std::time::Duration::from_secs(600), max_ids: 1_000 },
//! };
//! let (stats, clock) = (Arc::new(Stats::new()), Clock::system());
//! let lanes = Lanes::start(&settings, &plan, &stats, &clock)?;
//!
//! let event = format!(r#"{{"id": "1", "event_type": "users.messages.email.Send", "time": {}}}"#, clock.unix_seconds());
//! let delivery = Delivery {
//!     body: event.into(),
//!     framing: Framing::Document,
//!     defaults: Arc::default(),
//!     source: Source::Push,
//!     oversized: 0,
//!     recall: false,
//!     receipt: Receipt(1),
//! };
//! lanes.deliver(lanes.permit().await?, delivery.into()).await?;
//! let mut sends = 0;
//! for cut in lanes.cut().await? {
//!     sends += cut.await?.sends();
//! }
//! let books = stats.snapshot();
//! assert_eq!((sends, books.received, books.pending()), (1, 1, 1));
//! assert!(books.balance());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod clock;
mod counter;
mod group;
pub mod stats;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::counter::{Counter, Now};
pub use self::group::Group;
use crate::clock::Clock;
use crate::stats::Stats;
use braze_events::Malformed;
use braze_events::decode::Decoder;
use send_counts::aggregate::tags::Layout;
use send_counts::aggregate::{self, Aggregator};
use send_counts::dedup;
use send_counts::route::Router;
use send_counts::shared_dedup::SharedDedup;

/// How many groups of deliveries a lane has in hand, the one it works on included: enough to stay busy while the
/// pipeline is elsewhere. It bounds the memory for bodies: lanes times this times the largest group.
const GROUPS_MAX: usize = 4;

/// Room in a lane's channel for cuts and plans, beside deliveries.
const ORDERS_MAX: usize = 8;

/// What the lanes are made with; a change needs a restart.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// How many lanes.
    pub lanes: usize,
    /// The event types that are counted.
    pub event_types: Vec<Box<str>>,
    /// How sends become counts.
    pub aggregate: aggregate::AggregateSettings,
    /// How duplicates are noticed.
    pub dedup: dedup::DedupSettings,
}

/// What a reload can change.
#[derive(Debug)]
pub struct Plan {
    /// Which connection serves which app group.
    pub router: Router,
    /// Which tags a series has.
    pub layout: Arc<Layout>,
    /// The connections' names, by number.
    pub connection_names: Vec<Arc<str>>,
}

enum Order {
    Deliver(Group),
    Cut(oneshot::Sender<Aggregator>),
    Replan(Arc<Plan>),
}

/// A lane's thread has ended, which it does only by a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("a lane has died; this is a defect of braze-datadog, please report it with the log above")]
pub struct LaneLost;

/// Leave to hand one group to a lane.
#[derive(Debug)]
pub struct LanePermit(OwnedSemaphorePermit);

#[derive(Debug)]
struct Handle {
    orders: mpsc::Sender<Order>,
    in_hand: Arc<AtomicUsize>,
}

/// All lanes. They end when this is dropped.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Handle>,
    permits: Arc<Semaphore>,
}

impl Lanes {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        settings: &LaneSettings,
        plan: &Arc<Plan>,
        stats: &Arc<Stats>,
        clock: &Clock,
    ) -> io::Result<Self> {
        let permits = Arc::new(Semaphore::new(settings.lanes * GROUPS_MAX));
        let dedup = Arc::new(SharedDedup::new(settings.dedup, settings.lanes));
        // One seed for all, so that a series has one hash in every lane and is never hashed to be merged.
        let hasher = foldhash::fast::RandomState::default();
        let start = |number| {
            let (orders, received) = mpsc::channel(GROUPS_MAX + ORDERS_MAX);
            let in_hand = Arc::new(AtomicUsize::new(0));
            let layout = Arc::clone(&plan.layout);
            let aggregator =
                Aggregator::new(layout, &settings.aggregate, hasher.clone()).one_of(settings.lanes);
            let lane = Lane {
                decoder: Decoder::new(&settings.event_types, needs_time(settings)),
                counter: Counter::new(settings, Arc::clone(plan), aggregator, Arc::clone(&dedup)),
                stats: Arc::clone(stats),
                clock: clock.clone(),
                in_hand: Arc::clone(&in_hand),
                permits: Arc::clone(&permits),
            };
            thread::Builder::new().name(format!("lane-{number}")).spawn(move || lane.run(received))?;
            Ok(Handle { orders, in_hand })
        };
        let lanes = (0..settings.lanes).map(start).collect::<io::Result<_>>()?;
        Ok(Self { lanes, permits })
    }

    /// Waits until some lane takes another group. Cancel-safe. A lane that has died takes none: [`Lanes::deliver`] and
    /// [`Lanes::cut`] tell that.
    ///
    /// # Errors
    /// Never, as long as nobody closes the permits that the lanes share.
    pub async fn permit(&self) -> Result<LanePermit, LaneLost> {
        Arc::clone(&self.permits).acquire_owned().await.map(LanePermit).map_err(|_closed| LaneLost)
    }

    /// Hands a group to the lane that has the fewest in hand.
    ///
    /// # Errors
    /// When that lane has died.
    pub async fn deliver(&self, permit: LanePermit, group: Group) -> Result<(), LaneLost> {
        let least_busy = self.lanes.iter().min_by_key(|lane| lane.in_hand.load(Ordering::Relaxed));
        let lane = least_busy.ok_or(LaneLost)?;
        lane.in_hand.fetch_add(1, Ordering::Relaxed);
        // The lane gives the permit back when it is through with the group.
        permit.0.forget();
        lane.orders.send(Order::Deliver(group)).await.map_err(|_closed| LaneLost)
    }

    /// Tells every lane to cut after the deliveries it has in hand. The receivers get what was counted.
    ///
    /// # Errors
    /// When a lane has died.
    pub async fn cut(&self) -> Result<Vec<oneshot::Receiver<Aggregator>>, LaneLost> {
        let mut cuts = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            let (reply, cut) = oneshot::channel();
            lane.orders.send(Order::Cut(reply)).await.map_err(|_closed| LaneLost)?;
            cuts.push(cut);
        }
        Ok(cuts)
    }

    /// Gives every lane a new plan, for the deliveries after those it has in hand. What it has counted must
    /// have been cut before.
    ///
    /// # Errors
    /// When a lane has died.
    pub async fn replan(&self, plan: &Arc<Plan>) -> Result<(), LaneLost> {
        for lane in &self.lanes {
            lane.orders.send(Order::Replan(Arc::clone(plan))).await.map_err(|_closed| LaneLost)?;
        }
        Ok(())
    }
}

struct Lane {
    decoder: Decoder,
    counter: Counter,
    stats: Arc<Stats>,
    clock: Clock,
    in_hand: Arc<AtomicUsize>,
    permits: Arc<Semaphore>,
}

impl Lane {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            match order {
                Order::Deliver(group) => {
                    self.deliver(&group);
                    self.in_hand.fetch_sub(1, Ordering::Relaxed);
                    self.permits.add_permits(1);
                }
                Order::Cut(reply) => {
                    // If the receiver is gone, the pipeline no longer answers for these counts: their deliveries
                    // stay in the queue.
                    let _gone = reply.send(self.counter.cut());
                }
                Order::Replan(plan) => self.counter.replan(plan),
            }
        }
    }

    fn deliver(&mut self, group: &Group) {
        let now = Now { unix: self.clock.unix_seconds(), elapsed: self.clock.elapsed_milliseconds() };
        let counter = &mut self.counter;
        for delivery in group.deliveries() {
            self.decoder.decode(&delivery.body, &delivery.framing, &delivery.defaults, |decoded| {
                counter.count(decoded, now);
            });
            counter.malformed(Malformed::TooLarge, u64::from(delivery.oversized));
            counter.came_from(&delivery.source);
        }
        counter.book(&self.stats, now);
    }
}

fn needs_time(settings: &LaneSettings) -> bool {
    settings.aggregate.timestamp == aggregate::Timestamp::Event
}
