//! What a lane does with each element of a delivery: know its kind, and for a send whether it is new, where it goes
//! and when it belongs, and count it.
//!
//! Sends are settled by the group. What can be worked out without changing anything (route, bucket, series) is
//! worked out at once, for the event's bytes are gone afterwards; then one question is asked for the ids of the
//! whole group, and only what is new is booked and counted. So the waits for memory of a group overlap, which is
//! where a third of a send's time went.

use std::sync::Arc;

use super::{LaneSettings, Plan};
use crate::stats::{DropReason, Stats, Tally, UNROUTED, can_be_label};
use braze_events::{Decoded, Field, Malformed, SEND_TYPES, SendEvent, Skipped};
use event_queues::Source;
use send_counts::aggregate::Aggregator;
use send_counts::aggregate::prepared::PreparedSends;
use send_counts::aggregate::window::{Placed, Window};
use send_counts::route::ConnectionId;
use send_counts::shared_dedup::{DedupGroup, SharedDedup};

/// How many sends are settled together: enough for their waits to overlap, few enough that they stay in the
/// first two levels of the cache.
const GROUP: usize = 128;

/// How many ignored event types a lane tells apart; a sender that invents more finds them in one count.
const IGNORED_MAX: usize = 128;

#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Unix seconds.
    pub(super) unix: u64,
    /// Milliseconds that never step back.
    pub(super) elapsed: u64,
}

/// Sends of a delivery that are in no bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Outside {
    late: u64,
    early: u64,
    refused: u64,
}

/// A send whose verdict is not known yet.
#[derive(Debug, Clone, Copy)]
enum PlacedSend {
    Unrouted,
    /// Never a bucket.
    Outside(ConnectionId, Placed),
    /// Its connection is left out.
    Refused(ConnectionId),
    /// To be counted in its series.
    Inside(ConnectionId),
}

impl PlacedSend {
    /// The connection that the send goes to.
    #[inline]
    const fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Unrouted => None,
            Self::Outside(connection, _) | Self::Refused(connection) | Self::Inside(connection) => {
                Some(connection)
            }
        }
    }
}

/// Counts for one lane.
pub(super) struct Counter {
    plan: Arc<Plan>,
    window: Window,
    /// By number of the event type.
    channels: Vec<Box<str>>,
    dedup: Arc<SharedDedup>,
    aggregator: Aggregator,
    /// The sends of the group, their ids, and the series of those inside Datadog's window; each in order.
    placed_sends: Vec<PlacedSend>,
    ids: DedupGroup,
    prepared: PreparedSends,
    /// Sends of this delivery, by connection number.
    counted: Vec<u64>,
    /// Those of them that are in no bucket.
    outside: Vec<Outside>,
    /// Sends of this delivery that no connection serves.
    unrouted: u64,
    unrouted_name: Arc<str>,
    /// Events of this delivery whose type is beyond [`IGNORED_MAX`].
    ignored_beyond: u64,
    /// Bytes of this delivery that no event could be read from, if anything was skipped.
    bytes_skipped: Option<u64>,
    tally: Tally,
}

impl Counter {
    /// Counts into `aggregator`.
    pub(super) fn new(
        settings: &LaneSettings,
        plan: Arc<Plan>,
        aggregator: Aggregator,
        dedup: Arc<SharedDedup>,
    ) -> Self {
        dedup.share_among(&plan.router.connections());
        Self {
            window: Window::new(&settings.aggregate),
            channels: settings.event_types.iter().map(|name| channel_of(name)).collect(),
            ids: dedup.new_group(),
            dedup,
            aggregator,
            placed_sends: Vec::new(),
            prepared: PreparedSends::default(),
            counted: vec![0; plan.connection_names.len()],
            outside: vec![Outside::default(); plan.connection_names.len()],
            plan,
            unrouted: 0,
            unrouted_name: UNROUTED.into(),
            ignored_beyond: 0,
            bytes_skipped: None,
            tally: Tally::default(),
        }
    }

    /// Goes on under another plan. What was counted before must have been cut.
    pub(super) fn replan(&mut self, plan: Arc<Plan>) {
        self.aggregator.lay_out(Arc::clone(&plan.layout));
        self.counted = vec![0; plan.connection_names.len()];
        self.outside = vec![Outside::default(); plan.connection_names.len()];
        self.dedup.share_among(&plan.router.connections());
        self.plan = plan;
    }

    /// Takes out what was counted of the deliveries that are booked.
    pub(super) fn cut(&mut self) -> Aggregator {
        self.aggregator.cut()
    }

    /// Takes an element of a delivery.
    #[inline]
    pub(super) fn count(&mut self, decoded: Decoded<'_>, now: Now) {
        match decoded {
            Decoded::Send(event) => self.send(event, now),
            Decoded::Ignored { event_type } => self.ignore(event_type),
            Decoded::Malformed(malformed) => self.malformed(malformed, 1),
            Decoded::Skipped(skipped) => self.skip(skipped),
        }
    }

    fn skip(&mut self, skipped: Skipped) {
        self.malformed(Malformed::Json, u64::from(skipped.stretches));
        *self.bytes_skipped.get_or_insert_default() += skipped.bytes;
    }

    /// Notes where a delivery came from whose elements have been taken, should somebody have to look there.
    pub(super) fn came_from(&mut self, source: &Source) {
        if let Some(bytes) = self.bytes_skipped.take() {
            let unreadable = self.tally.unreadable.entry(source.input()).or_default();
            unreadable.bytes += bytes;
            unreadable.last = source.to_string();
        }
    }

    #[inline]
    fn send(&mut self, event: SendEvent<'_>, now: Now) {
        let id = event.id;
        let send = self.prepare(event, now);
        self.dedup.add(&mut self.ids, id, send.connection());
        self.placed_sends.push(send);
        if self.placed_sends.len() == GROUP {
            self.settle(now);
        }
    }

    /// Where a send would go. Books and counts nothing, for the send may be a duplicate.
    #[inline]
    fn prepare(&mut self, event: SendEvent<'_>, now: Now) -> PlacedSend {
        let Some(route) = self.plan.router.route(event.field(Field::AppGroupId)) else {
            return PlacedSend::Unrouted;
        };
        let connection = route.connection;
        if route.is_refused {
            return PlacedSend::Refused(connection);
        }
        let bucket = match self.window.place(event.time, now.unix) {
            Placed::Bucket(bucket) => bucket,
            placed => return PlacedSend::Outside(connection, placed),
        };
        let mut fields = event.fields;
        // Not only where the event has none, or two names would take turns in one tag.
        if !route.app_group_name.is_empty() {
            fields[Field::AppGroupName as usize] = route.app_group_name.as_bytes();
        }
        let event = SendEvent { fields, ..event };
        let channel = self.channels.get(event.event_type).map_or("", |channel| channel);
        // A name can't be newer than now, whatever a placeholder's time says.
        let seen = event.time.map_or(now.unix, |time| time.min(now.unix));
        self.aggregator.prepare(&mut self.prepared, connection, &event, channel, bucket, seen);
        PlacedSend::Inside(connection)
    }

    /// Books the sends of the group, and counts those that are new.
    fn settle(&mut self, now: Now) {
        self.aggregator.prefetch(&self.prepared);
        let new = self.dedup.insert(&mut self.ids, now.elapsed);
        let mut inside = 0;
        for (send, is_new) in self.placed_sends.drain(..).zip(new) {
            self.tally.received += 1;
            self.tally.duplicate += u64::from(!is_new);
            match send {
                PlacedSend::Inside(connection) => {
                    if is_new {
                        self.counted[connection.index()] += 1;
                        self.aggregator.count(&self.prepared, inside);
                    }
                    inside += 1;
                }
                PlacedSend::Outside(connection, placed) if is_new => {
                    self.counted[connection.index()] += 1;
                    let outside = &mut self.outside[connection.index()];
                    *if placed == Placed::Late { &mut outside.late } else { &mut outside.early } += 1;
                }
                PlacedSend::Refused(connection) if is_new => {
                    self.counted[connection.index()] += 1;
                    self.outside[connection.index()].refused += 1;
                }
                PlacedSend::Unrouted if is_new => self.unrouted += 1,
                PlacedSend::Outside(..) | PlacedSend::Refused(_) | PlacedSend::Unrouted => {}
            }
        }
        self.prepared.clear();
    }

    fn ignore(&mut self, event_type: &[u8]) {
        self.tally.received += 1;
        if let Some((_, events)) =
            self.tally.ignored.iter_mut().find(|(known, _)| known.as_bytes() == event_type)
        {
            *events += 1;
        } else if self.tally.ignored.len() < IGNORED_MAX && can_be_label(event_type) {
            self.tally.ignored.push((String::from_utf8_lossy(event_type).into(), 1));
        } else {
            self.ignored_beyond += 1;
        }
    }

    /// Counts events that can't be read.
    pub(super) fn malformed(&mut self, malformed: Malformed, events: u64) {
        if events > 0 {
            self.tally.received += events;
            *self.tally.malformed.entry(malformed.reason()).or_default() += events;
        }
    }

    /// Books the delivery whole.
    pub(super) fn book(&mut self, stats: &Stats, now: Now) {
        self.settle(now);
        for ((name, sends), outside) in
            self.plan.connection_names.iter().zip(&mut self.counted).zip(&mut self.outside)
        {
            if *sends > 0 {
                self.tally.counted.push((Arc::clone(name), std::mem::take(sends)));
                let Outside { late, early, refused } = std::mem::take(outside);
                for (reason, dropped) in [
                    (DropReason::Late, late),
                    (DropReason::Early, early),
                    (DropReason::ConnectionRefusedConfiguration, refused),
                ] {
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
        self.tally.ids_forgotten = self.ids.take_forgotten_early();
        self.tally.ignored.push(("other".into(), std::mem::take(&mut self.ignored_beyond)));
        stats.book(&self.tally);
        self.tally.ignored.pop();
        self.tally.received = 0;
        self.tally.duplicate = 0;
        self.tally.counted.clear();
        self.tally.dropped.clear();
        self.tally.malformed.clear();
        self.tally.unreadable.clear();
        // The texts of the event types are kept for the next delivery.
        self.tally.ignored.iter_mut().for_each(|(_, events)| *events = 0);
    }
}

/// The value of the `channel` tag of an event type.
fn channel_of(event_type: &str) -> Box<str> {
    let known = SEND_TYPES.iter().find(|(name, _)| *name == event_type).map(|(_, channel)| *channel);
    let written = event_type.strip_prefix("users.messages.").and_then(|rest| rest.split('.').next());
    known.or(written).unwrap_or(event_type).into()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};
    use std::time::Duration;

    use foldhash::fast::RandomState;
    use proptest::prelude::*;

    use super::*;
    use braze_events::FIELDS;
    use send_counts::aggregate::tags::{self, Layout, Names, Tag};
    use send_counts::aggregate::{self, Late, Timestamp};
    use send_counts::dedup;
    use send_counts::route::{AppGroups, Router};

    const NOW: Now = Now { unix: 1_800_000_000, elapsed: 0 };

    /// For one connection, which serves the app group `served`.
    fn counter(window: Duration) -> Counter {
        serving("served", window, "")
    }

    /// For one connection, which serves the app group `app_group_id` and gives it a name, unless that is empty.
    fn serving(app_group_id: &str, window: Duration, name: &str) -> Counter {
        let (ids, names) = ([app_group_id.into()], HashMap::from([(app_group_id.into(), name.into())]));
        let app_groups = AppGroups { ids: &ids, names: &names };
        let tags =
            tags::TagSettings { include: Tag::ALL.to_vec(), static_tags: Vec::new(), names: Names::Latest };
        let plan = Arc::new(Plan {
            router: Router::new(&[(ConnectionId(0), app_groups)]),
            layout: Arc::new(Layout::new(&tags)),
            connection_names: vec!["acme".into()],
        });
        let settings = LaneSettings {
            lanes: 1,
            event_types: vec!["users.messages.email.Send".into()],
            aggregate: aggregate::AggregateSettings {
                timestamp: Timestamp::Event,
                late: Late::Drop,
                flush_interval: Duration::from_secs(10),
                flush_timeout: Duration::from_secs(5),
                series_max: 1000,
                series_max_total: 1000,
            },
            dedup: dedup::DedupSettings { window, max_ids: 100_000 },
        };
        let layout = Arc::clone(&plan.layout);
        let aggregator = Aggregator::new(layout, &settings.aggregate, RandomState::default());
        Counter::new(&settings, plan, aggregator, Arc::new(SharedDedup::new(settings.dedup, 1)))
    }

    /// What a send comes to, were it new.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Kind {
        Unrouted,
        Late,
        Early,
        Campaign(u8),
    }

    fn count(counter: &mut Counter, id: u16, kind: Kind) {
        let (id, campaign) = (id.to_string(), format!("{kind:?}"));
        let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
        fields[Field::AppGroupId as usize] = if kind == Kind::Unrouted { b"other" } else { b"served" };
        fields[Field::CampaignId as usize] = campaign.as_bytes();
        let time = match kind {
            Kind::Late => NOW.unix - 5000,
            Kind::Early => NOW.unix + 5000,
            _ => NOW.unix,
        };
        let event = SendEvent { event_type: 0, id: id.as_bytes(), time: Some(time), fields };
        counter.count(Decoded::Send(event), NOW);
    }

    #[test]
    fn types_that_can_be_no_label_take_no_place_of_those_that_can() {
        let (mut counter, stats) = (counter(Duration::ZERO), Stats::new());
        for number in 0..2 * IGNORED_MAX {
            let event_type = format!("odd type {number}");
            counter.count(Decoded::Ignored { event_type: event_type.as_bytes() }, NOW);
        }
        counter.count(Decoded::Ignored { event_type: b"users.messages.email.Open" }, NOW);
        counter.book(&stats, NOW);
        let ignored = stats.snapshot().ignored;
        assert_eq!((ignored["other"], ignored["users.messages.email.Open"]), (2 * IGNORED_MAX as u64, 1));
    }

    /// The sends of each series, by its key.
    fn series(cut: &Aggregator) -> BTreeMap<Vec<u8>, u64> {
        (0..cut.len()).map(|number| (cut.series(number).key.to_vec(), cut.series(number).sends())).collect()
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            1 => Just(Kind::Unrouted),
            1 => Just(Kind::Late),
            1 => Just(Kind::Early),
            5 => (0u8..40).prop_map(Kind::Campaign),
        ]
    }

    proptest! {
        /// A duplicate is booked as one and leaves no other trace: the books and the series (none of them empty) are
        /// those of the first sends alone, however sends are divided into deliveries and groups.
        #[test]
        fn a_duplicate_leaves_no_trace(
            deliveries in prop::collection::vec(prop::collection::vec((0u16..300, kinds()), 0..400), 0..5),
        ) {
            let (mut counter, mut expected) = (counter(Duration::from_mins(10)), counter(Duration::ZERO));
            let (stats, expected_stats) = (Stats::new(), Stats::new());
            let (mut seen, mut duplicates) = (HashSet::new(), 0);
            for delivery in &deliveries {
                for (id, kind) in delivery {
                    count(&mut counter, *id, *kind);
                    if seen.insert(*id) {
                        count(&mut expected, *id, *kind);
                        expected.settle(NOW);
                    } else {
                        duplicates += 1;
                    }
                }
                counter.book(&stats, NOW);
                expected.book(&expected_stats, NOW);
            }
            let (books, expected_books) = (stats.snapshot(), expected_stats.snapshot());
            prop_assert!(books.balance());
            prop_assert_eq!(books.duplicate, duplicates);
            prop_assert_eq!(books.received, expected_books.received + duplicates);
            prop_assert_eq!(&books.connections, &expected_books.connections);
            let cut = counter.cut();
            prop_assert_eq!(series(&cut), series(&expected.cut()));
        }
    }

    #[test]
    fn an_id_in_capitals_goes_where_it_is_served_and_stays_as_it_is_in_its_tag() {
        const SERVED: &str = "5f3e8f0a-1234-4cde-9abc-0123456789ab";
        let capitals = SERVED.to_uppercase();
        let mut counter = serving(SERVED, Duration::ZERO, "");
        for id in [SERVED, &capitals] {
            let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
            fields[Field::AppGroupId as usize] = id.as_bytes();
            let event = SendEvent { event_type: 0, id: b"1", time: Some(NOW.unix), fields };
            counter.count(Decoded::Send(event), NOW);
        }
        let stats = Stats::new();
        counter.book(&stats, NOW);
        let books = stats.snapshot();
        assert_eq!(books.connections.keys().map(|name| &**name).collect::<Vec<_>>(), ["acme"]);
        let series = series(&counter.cut());
        assert_eq!(series.len(), 2);
        for id in [SERVED, &capitals] {
            let with_id = series.keys().filter(|key| key.windows(id.len()).any(|part| part == id.as_bytes()));
            assert_eq!(with_id.count(), 1, "{id}");
        }
    }

    #[test]
    fn a_name_that_is_configured_takes_the_place_of_the_events() {
        for (configured, expected) in [("", ["", "sent"]), ("ours", ["ours", "ours"])] {
            for (sent, expected) in ["", "sent"].into_iter().zip(expected) {
                let mut counter = serving("served", Duration::ZERO, configured);
                let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
                fields[Field::AppGroupId as usize] = b"served";
                fields[Field::AppGroupName as usize] = sent.as_bytes();
                let event = SendEvent { event_type: 0, id: b"1", time: Some(NOW.unix), fields };
                counter.count(Decoded::Send(event), NOW);
                counter.book(&Stats::new(), NOW);
                assert_eq!(counter.cut().series(0).attributes.names[0], expected.as_bytes());
            }
        }
    }

    #[test]
    fn a_channel_is_named_after_its_event_type() {
        assert_eq!(&*channel_of("users.messages.email.Send"), "email");
        assert_eq!(&*channel_of("users.messages.telegram.Send"), "telegram");
        assert_eq!(&*channel_of("custom"), "custom");
    }
}
