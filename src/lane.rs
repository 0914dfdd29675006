//! A lane: plain synchronous code on a thread of its own that decodes, routes and records. There is one a
//! core, so that all cores work; the [pipeline](crate::pipeline) hands deliveries to whichever is least busy.

mod group;
mod shared_dedup;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

pub use self::group::Group;
use self::shared_dedup::SharedDedup;
use crate::aggregate::tags::Layout;
use crate::aggregate::window::{Placed, Window};
use crate::aggregate::{self, Aggregator};
use crate::clock::Clock;
use crate::dedup;
use crate::event::decode::Decoder;
use crate::event::{Decoded, Field, Malformed, SEND_TYPES, SendEvent};
use crate::route::Router;
use crate::stats::{DropReason, IGNORED_TYPE_LENGTH_MAX, Stats, Tally, UNROUTED};

/// How many groups of deliveries a lane has in hand, the one it works on included: enough to stay busy while the
/// pipeline is elsewhere. It bounds the memory for bodies: lanes times this times the largest group.
const GROUPS_MAX: usize = 4;

/// Room in a lane's channel for cuts and plans, beside deliveries.
const ORDERS_MAX: usize = 8;

/// How many ignored event types a lane tells apart; a sender that invents more finds them in one count.
const IGNORED_MAX: usize = 128;

/// What the lanes are made with; a change needs a restart.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many lanes.
    pub lanes: usize,
    /// The event types that are counted.
    pub event_types: Vec<Box<str>>,
    /// How sends become counts.
    pub aggregate: aggregate::Settings,
    /// How duplicates are noticed.
    pub dedup: dedup::Settings,
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
pub struct Room(OwnedSemaphorePermit);

#[derive(Debug)]
struct Handle {
    orders: mpsc::Sender<Order>,
    in_hand: Arc<AtomicUsize>,
}

/// All lanes. They end when this is dropped.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Handle>,
    room: Arc<Semaphore>,
}

impl Lanes {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        settings: &Settings,
        plan: &Arc<Plan>,
        stats: &Arc<Stats>,
        clock: &Clock,
    ) -> io::Result<Self> {
        let room = Arc::new(Semaphore::new(settings.lanes * GROUPS_MAX));
        let dedup = Arc::new(SharedDedup::new(settings.dedup, settings.lanes));
        // One seed for all, so that a series has one hash in every lane and is never hashed to be merged.
        let hasher = foldhash::fast::RandomState::default();
        let start = |number| {
            let (orders, received) = mpsc::channel(GROUPS_MAX + ORDERS_MAX);
            let in_hand = Arc::new(AtomicUsize::new(0));
            let lane = Lane {
                decoder: Decoder::new(&settings.event_types, needs_time(settings)),
                counter: Counter {
                    aggregator: Aggregator::new(
                        Arc::clone(&plan.layout),
                        &settings.aggregate,
                        hasher.clone(),
                    ),
                    window: Window::new(&settings.aggregate),
                    channels: settings.event_types.iter().map(|name| channel_of(name)).collect(),
                    dedup: Arc::clone(&dedup),
                    counted: vec![0; plan.connection_names.len()],
                    outside: vec![Outside::default(); plan.connection_names.len()],
                    plan: Arc::clone(plan),
                    unrouted: 0,
                    ignored_beyond: 0,
                    unrouted_name: UNROUTED.into(),
                    tally: Tally::default(),
                },
                settings: settings.aggregate.clone(),
                hasher: hasher.clone(),
                stats: Arc::clone(stats),
                clock: clock.clone(),
                in_hand: Arc::clone(&in_hand),
                room: Arc::clone(&room),
            };
            thread::Builder::new().name(format!("lane-{number}")).spawn(move || lane.run(received))?;
            Ok(Handle { orders, in_hand })
        };
        let lanes = (0..settings.lanes).map(start).collect::<io::Result<_>>()?;
        Ok(Self { lanes, room })
    }

    /// Waits until some lane takes another group. Cancel-safe.
    ///
    /// # Errors
    /// When a lane has died.
    pub async fn room(&self) -> Result<Room, LaneLost> {
        Arc::clone(&self.room).acquire_owned().await.map(Room).map_err(|_closed| LaneLost)
    }

    /// Hands a group to the lane that has the fewest in hand.
    ///
    /// # Errors
    /// When that lane has died.
    pub async fn deliver(&self, room: Room, group: Group) -> Result<(), LaneLost> {
        let least_busy = self.lanes.iter().min_by_key(|lane| lane.in_hand.load(Ordering::Relaxed));
        let lane = least_busy.ok_or(LaneLost)?;
        lane.in_hand.fetch_add(1, Ordering::Relaxed);
        // The lane gives the permit back when it is through with the group.
        room.0.forget();
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
    settings: aggregate::Settings,
    hasher: foldhash::fast::RandomState,
    stats: Arc<Stats>,
    clock: Clock,
    in_hand: Arc<AtomicUsize>,
    room: Arc<Semaphore>,
}

impl Lane {
    fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            match order {
                Order::Deliver(group) => {
                    self.deliver(&group);
                    self.in_hand.fetch_sub(1, Ordering::Relaxed);
                    self.room.add_permits(1);
                }
                Order::Cut(reply) => {
                    // Whoever asked and is gone no longer answers for what was counted: the deliveries stay
                    // in the queue.
                    let _gone = reply.send(self.counter.aggregator.cut());
                }
                Order::Replan(plan) => self.replan(plan),
            }
        }
    }

    fn deliver(&mut self, group: &Group) {
        let now = Now { unix: self.clock.unix_seconds(), elapsed: self.clock.elapsed_milliseconds() };
        let counter = &mut self.counter;
        for delivery in group.deliveries() {
            self.decoder.decode(&delivery.body, &delivery.framing, &delivery.origin, |decoded| {
                counter.count(decoded, now);
            });
            counter.malformed(Malformed::TooLarge, u64::from(delivery.oversized));
        }
        counter.book(&self.stats);
    }

    fn replan(&mut self, plan: Arc<Plan>) {
        let layout = Arc::clone(&plan.layout);
        self.counter.aggregator = Aggregator::new(layout, &self.settings, self.hasher.clone());
        self.counter.counted = vec![0; plan.connection_names.len()];
        self.counter.outside = vec![Outside::default(); plan.connection_names.len()];
        self.counter.plan = plan;
    }
}

#[derive(Clone, Copy)]
struct Now {
    /// Unix seconds.
    unix: u64,
    /// Milliseconds that never step back.
    elapsed: u64,
}

/// Sends of a delivery that are outside Datadog's window.
#[derive(Debug, Clone, Copy, Default)]
struct Outside {
    late: u64,
    early: u64,
}

/// What a lane does with each element of a delivery.
struct Counter {
    plan: Arc<Plan>,
    window: Window,
    /// By number of the event type.
    channels: Vec<Box<str>>,
    dedup: Arc<SharedDedup>,
    aggregator: Aggregator,
    /// Sends of this delivery, by connection number.
    counted: Vec<u64>,
    /// Those of them that are outside Datadog's window.
    outside: Vec<Outside>,
    /// Sends of this delivery that no connection serves.
    unrouted: u64,
    unrouted_name: Arc<str>,
    /// Events of this delivery whose type is beyond [`IGNORED_MAX`].
    ignored_beyond: u64,
    tally: Tally,
}

impl Counter {
    #[inline]
    fn count(&mut self, decoded: Decoded<'_>, now: Now) {
        match decoded {
            Decoded::Send(event) => self.send(event, now),
            Decoded::Ignored { event_type } => self.ignore(event_type),
            Decoded::Malformed(malformed) => self.malformed(malformed, 1),
        }
    }

    #[inline]
    fn send(&mut self, event: SendEvent<'_>, now: Now) {
        self.tally.received += 1;
        if !self.dedup.is_new(event.id, now.elapsed) {
            self.tally.duplicate += 1;
            return;
        }
        let Some(route) = self.plan.router.route(event.field(Field::AppGroupId)) else {
            self.unrouted += 1;
            return;
        };
        let connection = route.connection;
        self.counted[connection.index()] += 1;
        let bucket = match self.window.place(event.time, now.unix) {
            Placed::Bucket(bucket) => bucket,
            placed => {
                let outside = &mut self.outside[connection.index()];
                *if placed == Placed::Late { &mut outside.late } else { &mut outside.early } += 1;
                return;
            }
        };
        let mut fields = event.fields;
        if event.field(Field::AppGroupName).is_empty() {
            fields[Field::AppGroupName as usize] = route.app_group_name.as_bytes();
        }
        let event = SendEvent { fields, ..event };
        let channel = self.channels.get(event.event_type).map_or("", |channel| channel);
        // A name can't be newer than now, whatever a placeholder's time says.
        let seen = event.time.map_or(now.unix, |time| time.min(now.unix));
        self.aggregator.record(connection, &event, channel, bucket, seen);
    }

    fn ignore(&mut self, event_type: &[u8]) {
        self.tally.received += 1;
        if let Some((_, events)) =
            self.tally.ignored.iter_mut().find(|(known, _)| known.as_bytes() == event_type)
        {
            *events += 1;
        } else if self.tally.ignored.len() < IGNORED_MAX && event_type.len() <= IGNORED_TYPE_LENGTH_MAX {
            self.tally.ignored.push((String::from_utf8_lossy(event_type).into(), 1));
        } else {
            self.ignored_beyond += 1;
        }
    }

    fn malformed(&mut self, malformed: Malformed, events: u64) {
        if events > 0 {
            self.tally.received += events;
            *self.tally.malformed.entry(malformed.reason()).or_default() += events;
        }
    }

    /// Books the delivery whole.
    fn book(&mut self, stats: &Stats) {
        for ((name, sends), outside) in
            self.plan.connection_names.iter().zip(&mut self.counted).zip(&mut self.outside)
        {
            if *sends > 0 {
                self.tally.counted.push((Arc::clone(name), std::mem::take(sends)));
                let Outside { late, early } = std::mem::take(outside);
                for (reason, dropped) in [(DropReason::Late, late), (DropReason::Early, early)] {
                    if dropped > 0 {
                        self.tally.dropped.insert((Arc::clone(name), reason), dropped);
                    }
                }
            }
        }
        if self.unrouted > 0 {
            let unrouted = Arc::clone(&self.unrouted_name);
            self.tally.counted.push((Arc::clone(&unrouted), self.unrouted));
            self.tally.dropped.insert((unrouted, DropReason::Unrouted), std::mem::take(&mut self.unrouted));
        }
        self.tally.ignored.push(("other".into(), std::mem::take(&mut self.ignored_beyond)));
        stats.book(&self.tally);
        self.tally.ignored.pop();
        self.tally.received = 0;
        self.tally.duplicate = 0;
        self.tally.counted.clear();
        self.tally.dropped.clear();
        self.tally.malformed.clear();
        // The texts of the event types are kept for the next delivery.
        self.tally.ignored.iter_mut().for_each(|(_, events)| *events = 0);
    }
}

fn needs_time(settings: &Settings) -> bool {
    settings.aggregate.timestamp == aggregate::Timestamp::Event
}

/// The value of the `channel` tag of an event type.
fn channel_of(event_type: &str) -> Box<str> {
    let known = SEND_TYPES.iter().find(|(name, _)| *name == event_type).map(|(_, channel)| *channel);
    let written = event_type.strip_prefix("users.messages.").and_then(|rest| rest.split('.').next());
    known.or(written).unwrap_or(event_type).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_named_after_its_event_type() {
        assert_eq!(&*channel_of("users.messages.email.Send"), "email");
        assert_eq!(&*channel_of("users.messages.telegram.Send"), "telegram");
        assert_eq!(&*channel_of("custom"), "custom");
    }
}
