//! The books: the fate of every event. They balance after every booking, not only at quiet moments, because each booking is
//! made whole under one lock:
//!
//! - received = ignored + malformed + duplicate + counted
//! - counted = accepted + dropped + pending
//!
//! Nothing here is computed as a remainder: both sides are counted.

mod drop_reason;
mod histogram;
mod label;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use self::drop_reason::DropReason;
pub use self::histogram::Histogram;
pub(crate) use self::label::can_be_label;

/// The name under which unrouted sends are booked.
pub const UNROUTED: &str = "_unrouted";

/// The `connection` tag under which drops beyond the first hundred pairs are summed. No connection has this name.
pub const OTHERS: &str = "_others";

/// How many event types get a label of their own; so that a sender can't make the books grow without bound.
const IGNORED_TYPES_MAX: usize = 64;

/// The counts of one lane for one delivery; booked whole by [`Stats::book`].
#[derive(Debug, Default)]
pub struct Tally {
    /// Elements seen.
    pub received: u64,
    /// Events seen before.
    pub duplicate: u64,
    /// Ignored events by event type, as it was written.
    pub ignored: Vec<(Box<str>, u64)>,
    /// Malformed elements by reason.
    pub malformed: BTreeMap<&'static str, u64>,
    /// Sends counted, by connection name.
    pub counted: Vec<(Arc<str>, u64)>,
    /// Counted sends that were dropped on the spot, by connection name and reason.
    pub dropped: BTreeMap<(Arc<str>, DropReason), u64>,
    /// Ids forgotten before `dedup.window` was over, because of `dedup.max_ids`.
    pub ids_forgotten: u64,
    /// Bytes that no event could be read from, because the JSON around them is damaged, by input.
    pub unreadable: BTreeMap<&'static str, Unreadable>,
}

/// Bytes that no event could be read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub bytes: u64,
    /// The place of the last of them.
    pub last: String,
}

/// Names that become one tag value in Datadog, or one name that several ids have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollapsingTag {
    /// The tag as Datadog stores it.
    pub tag: String,
    /// The names as Braze wrote them, sorted; a readable number of them.
    pub names: Vec<String>,
    /// How many names there are.
    pub names_total: u64,
    /// Their ids, sorted; a readable number of them, and none where ids are not among the tags.
    pub ids: Vec<String>,
    /// How many ids there are.
    pub ids_total: u64,
    /// The tag that tells them apart.
    pub group_by: &'static str,
}

/// Name collisions of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collapsing {
    /// How many tags in Datadog stand for several names.
    pub tags_total: u64,
    /// How many other names several ids have.
    pub shared_total: u64,
    /// Some of both, the gravest first: different names before equal ones, and what more ids have before what fewer have.
    pub tags: Vec<CollapsingTag>,
}

impl CollapsingTag {
    /// Whether it is one name of several ids, instead of several names.
    pub const fn is_same_name(&self) -> bool {
        self.names_total == 1
    }
}

/// The books of one connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionBooks {
    /// Sends that were counted for it.
    pub counted: u64,
    /// Sends in requests that Datadog accepted, and those that a dry run has printed.
    pub accepted: u64,
    /// Those of `accepted` that a dry run has printed, and not sent.
    pub printed: u64,
    /// Accepted requests whose answer speaks of errors.
    pub accepted_with_errors: u64,
    /// Sends that were dropped.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Sends counted whose batch has no outcome yet.
    pub pending: u64,
    /// Its series in the last flush in which any connection had events.
    pub series: u64,
    /// Its name collisions; shared, for they seldom change.
    pub collapsing: Arc<Collapsing>,
    /// The last outcome, in words, and when (Unix seconds).
    pub last_outcome: Option<(String, u64)>,
    /// Why the sends of the last outcome were dropped; `None`: they were accepted or printed, or there was none yet.
    pub last_dropped: Option<DropReason>,
    /// Whether the sends of the last outcome were printed by a dry run, and not sent; they are booked as accepted.
    pub last_is_printed: bool,
    /// Whether it has another key or URL since the last outcome.
    pub is_retargeted: bool,
}

impl ConnectionBooks {
    /// Sends dropped, over all reasons.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether counted = accepted + dropped + pending.
    pub fn is_balanced(&self) -> bool {
        self.counted == self.accepted + self.dropped_total() + self.pending
    }

    fn settle(&mut self, sends: u64, dropped: Option<DropReason>, words: &str, now: u64) -> bool {
        let Some(pending) = self.pending.checked_sub(sends) else { return false };
        self.pending = pending;
        match dropped {
            // A request of heartbeats alone has an outcome, and no sends.
            Some(_) if sends == 0 => {}
            Some(reason) => *self.dropped.entry(reason).or_default() += sends,
            None => self.accepted += sends,
        }
        self.last_outcome = Some((words.to_owned(), now));
        self.last_dropped = dropped;
        (self.last_is_printed, self.is_retargeted) = (false, false);
        true
    }
}

/// One consistent state of the books.
#[derive(Debug, Clone, PartialEq)]
pub struct Books {
    /// Elements seen in deliveries.
    pub received: u64,
    /// Events of types that are not counted; at most 64 labels and `other`.
    pub ignored: BTreeMap<Box<str>, u64>,
    /// Elements that can't be counted, by reason.
    pub malformed: BTreeMap<&'static str, u64>,
    /// Events that were counted before.
    pub duplicate: u64,
    /// Ids forgotten before `dedup.window` was over, because of `dedup.max_ids`: their repetitions count again.
    pub ids_forgotten: u64,
    /// Bytes that no event could be read from, because the JSON around them is damaged, by input. Events that may have stood
    /// there are in `malformed`, one for each stretch.
    pub unreadable: BTreeMap<&'static str, Unreadable>,
    /// By connection name, [`UNROUTED`] among them.
    pub connections: BTreeMap<Box<str>, ConnectionBooks>,
    /// Own metrics' points in accepted requests. They stand for no send.
    pub own_points_accepted: u64,
    /// Own metrics' points that were dropped, by reason.
    pub own_points_dropped: BTreeMap<DropReason, u64>,
    /// Seconds from a cut to the last outcome of its batches.
    pub flush_seconds: Histogram,
    /// Bytes of a payload as sent.
    pub payload_bytes: Histogram,
}

impl Books {
    fn new() -> Self {
        Self {
            received: 0,
            ignored: BTreeMap::new(),
            malformed: BTreeMap::new(),
            duplicate: 0,
            ids_forgotten: 0,
            unreadable: BTreeMap::new(),
            connections: BTreeMap::new(),
            own_points_accepted: 0,
            own_points_dropped: BTreeMap::new(),
            flush_seconds: Histogram::new(&[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0]),
            payload_bytes: Histogram::new(&[1e3, 1e4, 5e4, 1e5, 2e5, 3e5, 4e5, 5e5]),
        }
    }

    /// Sends counted, over all connections.
    pub fn counted(&self) -> u64 {
        self.connections.values().map(|c| c.counted).sum()
    }

    /// Sends accepted, over all connections.
    pub fn accepted(&self) -> u64 {
        self.connections.values().map(|c| c.accepted).sum()
    }

    /// Those of [`Books::accepted`] that a dry run has printed, over all connections.
    pub fn printed(&self) -> u64 {
        self.connections.values().map(|c| c.printed).sum()
    }

    /// Sends dropped, over all connections and reasons.
    pub fn dropped(&self) -> u64 {
        self.connections.values().map(ConnectionBooks::dropped_total).sum()
    }

    /// Sends pending, over all connections.
    pub fn pending(&self) -> u64 {
        self.connections.values().map(|c| c.pending).sum()
    }

    /// Events ignored, over all types.
    pub fn ignored_total(&self) -> u64 {
        self.ignored.values().sum()
    }

    /// Elements that can't be counted, over all reasons.
    pub fn malformed_total(&self) -> u64 {
        self.malformed.values().sum()
    }

    /// What must be as many as were received: ignored + malformed + duplicate + counted.
    pub fn events_booked(&self) -> u64 {
        self.ignored_total() + self.malformed_total() + self.duplicate + self.counted()
    }

    /// Whether both invariants hold.
    pub fn balance(&self) -> bool {
        self.received == self.events_booked() && self.connections.values().all(ConnectionBooks::is_balanced)
    }

    fn ignore(&mut self, event_type: &str, events: u64) {
        let known = self.ignored.contains_key(event_type);
        let is_new = !known && can_be_label(event_type.as_bytes()) && self.ignored.len() < IGNORED_TYPES_MAX;
        let label = if known || is_new { event_type } else { "other" };
        *self.ignored.entry(label.into()).or_default() += events;
    }

    fn connection(&mut self, name: &str) -> &mut ConnectionBooks {
        self.connections.entry(name.into()).or_default()
    }
}

/// The books of the running process, shared by all parts.
#[derive(Debug)]
pub struct Stats {
    books: Mutex<Books>,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// Empty books.
    pub fn new() -> Self {
        Self { books: Mutex::new(Books::new()) }
    }

    /// Books the counts of a lane for one delivery.
    pub fn book(&self, tally: &Tally) {
        let mut books = self.lock();
        books.received += tally.received;
        books.duplicate += tally.duplicate;
        books.ids_forgotten += tally.ids_forgotten;
        for (event_type, events) in tally.ignored.iter().filter(|(_, events)| *events > 0) {
            books.ignore(event_type, *events);
        }
        for (reason, events) in &tally.malformed {
            *books.malformed.entry(reason).or_default() += events;
        }
        for (input, new) in &tally.unreadable {
            let unreadable = books.unreadable.entry(input).or_default();
            unreadable.bytes += new.bytes;
            unreadable.last.clone_from(&new.last);
        }
        for (name, sends) in &tally.counted {
            let connection = books.connection(name);
            connection.counted += sends;
            connection.pending += sends;
        }
        for ((name, reason), sends) in &tally.dropped {
            drop_pending(books.connection(name), *reason, *sends);
        }
    }

    /// Books the outcome of one request: `dropped` is `None` when Datadog accepted it. `words` describe it, for people.
    /// Returns `false` and books nothing if fewer sends were pending, which is a defect.
    pub fn book_outcome(
        &self,
        name: &str,
        sends: u64,
        dropped: Option<DropReason>,
        words: &str,
        now: u64,
    ) -> bool {
        self.lock().connection(name).settle(sends, dropped, words, now)
    }

    /// Books sends that a dry run has printed: as accepted, so that its books are those that a real run would have. Else
    /// as [`Stats::book_outcome`].
    pub fn book_printed(&self, name: &str, sends: u64, words: &str, now: u64) -> bool {
        let mut books = self.lock();
        let connection = books.connection(name);
        let is_booked = connection.settle(sends, None, words, now);
        if is_booked {
            connection.printed += sends;
            connection.last_is_printed = true;
        }
        is_booked
    }

    /// Books the outcome of own metrics' points, apart from sends.
    pub fn book_own_points(&self, points: u64, dropped: Option<DropReason>) {
        let mut books = self.lock();
        match dropped {
            _ if points == 0 => {}
            Some(reason) => *books.own_points_dropped.entry(reason).or_default() += points,
            None => books.own_points_accepted += points,
        }
    }

    /// Books an accepted request whose answer speaks of errors.
    pub fn book_accepted_with_errors(&self, name: &str) {
        self.lock().connection(name).accepted_with_errors += 1;
    }

    /// Books how many series each connection had in a flush; the others had none.
    pub fn set_series<'n>(&self, series: impl Iterator<Item = (&'n str, u64)>) {
        let mut books = self.lock();
        books.connections.values_mut().for_each(|connection| connection.series = 0);
        for (name, series) in series {
            books.connection(name).series = series;
        }
    }

    /// Notes how many tags of each connection stand for several names, and some of them; the others have none.
    pub fn set_collapsing<'n>(&self, found: impl Iterator<Item = (&'n str, Collapsing)>) {
        let mut books = self.lock();
        books.connections.values_mut().for_each(|connection| connection.collapsing = Arc::default());
        for (name, collapsing) in found {
            books.connection(name).collapsing = collapsing.into();
        }
    }

    /// Books the size of one payload.
    pub fn book_payload(&self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a payload is far below 2^52 bytes")]
        self.lock().payload_bytes.observe(bytes as f64);
    }

    /// Books how long a flush took, from the cut to the last outcome.
    pub fn book_flush(&self, duration: Duration) {
        self.lock().flush_seconds.observe(duration.as_secs_f64());
    }

    /// Makes a connection visible before its first send.
    pub fn add_connection(&self, name: &str) {
        self.lock().connection(name);
    }

    /// Notes that a connection has another key or URL: its last outcome says nothing about that.
    pub fn mark_retargeted(&self, name: &str) {
        self.lock().connection(name).is_retargeted = true;
    }

    /// A copy of the books as they are now.
    pub fn snapshot(&self) -> Books {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // A holder that panicked did so outside of arithmetic on the books, or the process is going down.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn drop_pending(connection: &mut ConnectionBooks, reason: DropReason, sends: u64) {
    connection.pending -= sends;
    *connection.dropped.entry(reason).or_default() += sends;
}

#[cfg(test)]
mod tests {
    use super::*;
    use datadog_points::outcome::FailureReason;
    use proptest::prelude::*;

    fn tally(counted: u64, late: u64) -> Tally {
        Tally {
            received: counted,
            counted: vec![("acme".into(), counted)],
            dropped: BTreeMap::from([(("acme".into(), DropReason::Late), late)]),
            ..Tally::default()
        }
    }

    #[test]
    fn a_send_is_pending_until_its_outcome_is_booked() {
        let stats = Stats::new();
        stats.book(&tally(5, 2));
        assert_eq!(stats.snapshot().pending(), 3);
        stats.book_outcome("acme", 3, None, "accepted", 7);
        let books = stats.snapshot();
        assert_eq!((books.pending(), books.accepted(), books.dropped()), (0, 3, 2));
        assert!(books.balance());
    }

    #[test]
    fn what_is_not_pending_can_not_be_settled() {
        let stats = Stats::new();
        stats.book(&tally(3, 0));
        assert!(stats.book_outcome("acme", 2, None, "accepted", 7));
        assert!(!stats.book_outcome("acme", 2, None, "accepted", 8));
        assert!(!stats.book_outcome(
            "acme",
            2,
            Some(DropReason::Failed(FailureReason::Defect)),
            "a defect",
            8
        ));
        let books = stats.snapshot();
        assert_eq!((books.pending(), books.accepted(), books.dropped()), (1, 2, 0));
        assert!(books.balance());
    }

    #[test]
    fn what_a_dry_run_has_printed_is_told_among_what_was_accepted() {
        let stats = Stats::new();
        stats.book(&tally(9, 0));
        stats.book_outcome("acme", 3, None, "accepted", 7);
        stats.book_printed("acme", 4, "printed", 8);
        assert!(!stats.book_printed("acme", 4, "printed", 9), "no more than two are pending");
        let books = stats.snapshot();
        assert_eq!((books.accepted(), books.printed(), books.pending()), (7, 4, 2));
        assert!(books.balance());
    }

    #[test]
    fn books_that_do_not_balance_are_noticed() {
        let mut books = Books::new();
        books.received = 1;
        assert!(!books.balance());
        let mut books = Books::new();
        books.connection("acme").pending = 1;
        assert!(!books.balance());
    }

    #[test]
    fn unknown_event_types_can_not_make_the_labels_grow() {
        let stats = Stats::new();
        for number in 0..10_000 {
            let ignored = vec![(format!("type{number}").into(), 1), ("\n weird \"".into(), 1)];
            stats.book(&Tally { received: 2, ignored, ..Tally::default() });
        }
        let books = stats.snapshot();
        assert!(books.ignored.len() <= IGNORED_TYPES_MAX + 1);
        assert!(books.ignored["other"] > 10_000);
        assert!(books.balance());
    }

    proptest! {
        /// The books balance after every booking, whatever is booked in whatever order.
        #[test]
        fn the_books_balance_at_every_moment(steps in prop::collection::vec((0u64..50, 0u64..50, any::<bool>()), 0..40)) {
            let stats = Stats::new();
            for (counted, late, accepted) in steps {
                stats.book(&tally(counted + late, late));
                prop_assert!(stats.snapshot().balance());
                stats.book_outcome("acme", counted, (!accepted).then_some(DropReason::Failed(FailureReason::Timeout)), "", 0);
                prop_assert!(stats.snapshot().balance());
            }
            prop_assert_eq!(stats.snapshot().pending(), 0);
        }
    }
}
