//! Which connection may have another series: what bounds each of them, and what bounds all of them together.
//!
//! Only a series or a name that is new asks; a send of a known series costs nothing here.

use super::{AggregateSettings, Aggregator};
use crate::route::ConnectionId;

/// How many overflow series a connection has, one an app group, before they are counted as one.
pub(super) const OVERFLOW_APP_GROUPS_MAX: usize = 1000;

/// Beyond this, what is not known yet goes to overflow series, whatever the settings say: places in the arena have
/// 32 bits, and this leaves them room for the overflow series and the names still to come.
const ARENA_BYTES_MAX: usize = 2 << 30;

/// What keys and names of a connection's series may take, for each that it may have, before further ones go to overflow
/// series: Braze's take a fifth of it, and those of a sender who means harm up to six times as much.
const SERIES_BYTES_MEAN_MAX: usize = 1024;

/// A connection with a bound of a few series may have long ones all the same.
const SERIES_BYTES_MIN: usize = 64 * 1024;

/// What a connection has.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// Series that are no overflow series.
    ordinary: usize,
    overflow: usize,
    /// What the keys and names of the ordinary ones take in the arena.
    bytes: usize,
}

/// What the connections have, and may have.
#[derive(Debug)]
pub(super) struct SeriesRoom {
    /// For each connection.
    series_max: usize,
    /// For all connections.
    total: usize,
    /// The same, once all lanes are merged.
    total_of_all_lanes: usize,
    /// By connection number.
    held: Vec<Held>,
    /// The ordinary series of all connections.
    ordinary: usize,
    /// How many connections have ordinary series.
    connections: usize,
    /// How many had some the last time, so that the shares are right from the beginning.
    connections_before: usize,
}

impl SeriesRoom {
    pub(super) fn new(settings: &AggregateSettings) -> Self {
        Self {
            series_max: settings.series_max,
            total: settings.series_max_total,
            total_of_all_lanes: settings.series_max_total,
            held: Vec::new(),
            ordinary: 0,
            connections: 0,
            connections_before: 0,
        }
    }

    /// The same bounds, with nothing held yet.
    pub(super) fn emptied(&self) -> Self {
        let connections_before =
            if self.connections > 0 { self.connections } else { self.connections_before };
        Self { held: Vec::new(), ordinary: 0, connections: 0, connections_before, ..*self }
    }

    /// The next connections may be others.
    pub(super) fn forget_before(&mut self) {
        self.connections_before = 0;
    }

    /// From here on the total of all lanes holds, for what they hold is coming together.
    pub(super) fn join(&mut self, other: &Self) {
        self.total = self.total_of_all_lanes;
        self.connections_before = self.connections_before.max(other.connections);
    }

    /// Whether the connection may have another series.
    pub(super) fn has_room(&self, connection: ConnectionId, overflow: bool, arena_bytes: usize) -> bool {
        let held = self.held_by(connection);
        if overflow {
            return held.overflow < OVERFLOW_APP_GROUPS_MAX;
        }
        held.ordinary < self.series_max
            && self.is_fair(held, held.ordinary, self.ordinary, self.total)
            && self.has_bytes(connection, arena_bytes)
    }

    /// Whether the connection's keys and names may take more of an arena that holds `arena_bytes`.
    pub(super) fn has_bytes(&self, connection: ConnectionId, arena_bytes: usize) -> bool {
        let held = self.held_by(connection);
        let bytes_of = |series: usize| series.saturating_mul(SERIES_BYTES_MEAN_MAX).max(SERIES_BYTES_MIN);
        // Half of it, for shares may need as much again.
        let total = bytes_of(self.total).min(ARENA_BYTES_MAX / 2);
        held.bytes < bytes_of(self.series_max) && self.is_fair(held, held.bytes, arena_bytes, total)
    }

    /// Whether a connection that has `has` of a `sum` may have more. While the sum is below its `total`, each may; then
    /// only those that have less than their share, until the sum is twice the total.
    fn is_fair(&self, held: Held, has: usize, sum: usize, total: usize) -> bool {
        if sum < total {
            return true;
        }
        let connections = self.connections + usize::from(held.ordinary == 0);
        let share = total / connections.max(self.connections_before).max(1);
        sum < total.saturating_mul(2) && has < share.max(1)
    }

    /// Books a new series, whose key takes so many bytes.
    pub(super) fn take(&mut self, connection: ConnectionId, overflow: bool, bytes: usize) {
        let connection = connection.index();
        if self.held.len() <= connection {
            self.held.resize(connection + 1, Held::default());
        }
        let held = &mut self.held[connection];
        if overflow {
            held.overflow += 1;
            return;
        }
        self.connections += usize::from(held.ordinary == 0);
        self.ordinary += 1;
        held.ordinary += 1;
        held.bytes += bytes;
    }

    /// Books a name of a series that there is.
    pub(super) fn take_name(&mut self, connection: ConnectionId, bytes: usize) {
        if let Some(held) = self.held.get_mut(connection.index()) {
            held.bytes += bytes;
        }
    }

    fn held_by(&self, connection: ConnectionId) -> Held {
        self.held.get(connection.index()).copied().unwrap_or_default()
    }
}

impl Aggregator {
    /// One of so many `lanes`: it keeps to its part of the total until what they have cut is merged.
    #[must_use]
    pub fn one_of(mut self, lanes: usize) -> Self {
        self.room.total = (self.room.total_of_all_lanes / lanes.max(1)).max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use foldhash::fast::RandomState;
    use proptest::prelude::*;

    use super::super::tests::{Recorder, counts, send};
    use super::*;

    const LANES: usize = 3;
    /// As many sends of a campaign, so that one comes in every lane.
    const COPIES: u32 = 3;
    const TOTAL: usize = 30_000;
    const CONNECTIONS: u32 = 300;
    const FLOODER: u32 = 7;
    /// Overflow series of a connection, all in one app group.
    const OVERFLOW: usize = 1;

    /// Sends by connection, tags and bucket.
    type Counts = BTreeMap<(u32, String, u32), u64>;

    struct Lanes(Vec<Recorder>);

    impl Lanes {
        fn new() -> Self {
            let hasher = RandomState::default();
            Self((0..LANES).map(|_| Recorder::within(TOTAL, TOTAL, LANES, hasher.clone())).collect())
        }

        fn record(&mut self, number: u32, connection: u32, campaign: &str) {
            self.0[number as usize % LANES].record(connection, &send(campaign, "Name"), 100);
        }

        /// So many new tag sets of one connection.
        fn flood(&mut self, connection: u32, numbers: std::ops::Range<u32>) {
            numbers.for_each(|number| self.record(number, connection, &format!("flood-{number}")));
        }

        /// Every connection sends for some campaigns, in every lane.
        fn send_a_few(&mut self, campaigns: std::ops::Range<u32>) {
            for connection in (0..CONNECTIONS).filter(|connection| *connection != FLOODER) {
                for number in campaigns.clone() {
                    let campaign = format!("c{}", number / COPIES);
                    self.record(number, connection, &campaign);
                }
            }
        }

        /// What the others have, the series of each lane, and the merged cut.
        fn flush(&mut self) -> (Counts, Vec<usize>, Aggregator) {
            let mut cuts: Vec<_> = self.0.iter_mut().map(Recorder::cut).collect();
            let series = cuts.iter().map(Aggregator::len).collect();
            let mut merged = cuts.remove(0);
            for cut in &cuts {
                merged.merge(cut);
            }
            let mut of_others = counts(&merged);
            of_others.retain(|(connection, _, _), _| *connection != FLOODER);
            (of_others, series, merged)
        }
    }

    #[test]
    fn a_flood_of_one_connection_changes_no_count_of_the_others() {
        let (mut calm, mut flooded) = (Lanes::new(), Lanes::new());
        for flush in 0..2 {
            calm.send_a_few(0..12);
            flooded.flood(FLOODER, 0..400_000);
            flooded.send_a_few(0..6);
            flooded.flood(FLOODER, 400_000..700_000);
            flooded.send_a_few(6..12);
            flooded.flood(FLOODER, 700_000..1_000_000);
            let ((expected, ..), (actual, lanes, merged)) = (calm.flush(), flooded.flush());
            assert_eq!(expected.len(), 299 * 4);
            assert!(expected.keys().all(|(_, tags, _)| !tags.contains("overflow")));
            assert_eq!(actual, expected, "flush {flush}");
            let of_others = 299 * 4;
            for series in lanes {
                assert!(series <= TOTAL / LANES + of_others + OVERFLOW, "{series}");
                assert!(series >= TOTAL / LANES, "{series}");
            }
            assert!(merged.len() <= TOTAL + of_others + OVERFLOW, "{}", merged.len());
            assert_eq!(merged.sends(), 1_000_000 + 299 * 12);
        }
    }

    #[test]
    fn who_has_less_than_a_share_goes_on_until_it_has_it() {
        let mut recorder = Recorder::within(1000, 100, 1, RandomState::default());
        let mut series = |connection: u32, numbers: std::ops::Range<u32>| {
            numbers.for_each(|number| recorder.record(connection, &send(&format!("c{number}"), ""), 100));
        };
        series(0, 0..500);
        series(1, 0..500);
        let cut = recorder.cut();
        let lengths = |cut: &Aggregator| -> Vec<usize> {
            cut.by_connection().iter().map(|(_, numbers)| numbers.len()).collect()
        };
        assert_eq!(lengths(&cut), [100 + OVERFLOW, 50 + OVERFLOW]);
        assert_eq!(cut.sends(), 1000);
        // The next time it is known that there are two, and a third comes.
        for connection in [0, 1, 2] {
            (0..500).for_each(|number| recorder.record(connection, &send(&format!("c{number}"), ""), 100));
        }
        let cut = recorder.cut();
        assert_eq!(lengths(&cut), [100 + OVERFLOW, 50 + OVERFLOW, 33 + OVERFLOW]);
    }

    #[test]
    fn long_keys_of_one_connection_leave_the_others_their_names() {
        let mut recorder = Recorder::within(1000, 100, 1, RandomState::default());
        let filler = "é".repeat(170);
        for number in 0..1000 {
            recorder.record(0, &send(&format!("{number}{filler}"), &filler), 10);
        }
        recorder.record(1, &send("c1", "Weekly"), 10);
        let cut = recorder.cut();
        let others = cut.by_connection().remove(1).1;
        assert_eq!(others.len(), 1);
        assert_eq!(cut.series(others[0] as usize).attributes.names[1], b"Weekly");
        assert_eq!(cut.sends(), 1001);
    }

    proptest! {
        /// Whoever floods, and in whatever order: twice the total is never passed, and no send is lost.
        #[test]
        fn twice_the_total_is_never_passed(
            floods in prop::collection::vec((0u32..40, 1u32..60), 1..60), total in 1usize..100, lanes in 1usize..4,
        ) {
            let hasher = RandomState::default();
            let mut all: Vec<_> = (0..lanes).map(|_| Recorder::within(50, total, lanes, hasher.clone())).collect();
            let (mut sends, mut connections) = (0, std::collections::BTreeSet::new());
            for (at, (connection, count)) in floods.into_iter().enumerate() {
                connections.insert(connection);
                for number in 0..count {
                    let campaign = format!("{at}-{number}");
                    all[number as usize % lanes].record(connection, &send(&campaign, "Name"), 100);
                    sends += 1;
                }
            }
            let overflow = connections.len() * OVERFLOW;
            let mut cuts: Vec<_> = all.iter_mut().map(Recorder::cut).collect();
            for cut in &cuts {
                prop_assert!(cut.len() <= 2 * (total / lanes).max(1) + overflow);
            }
            let mut merged = cuts.remove(0);
            for cut in &cuts {
                merged.merge(cut);
            }
            prop_assert!(merged.len() <= (2 * total).max(2 * lanes) + overflow);
            prop_assert_eq!(merged.sends(), sends);
        }
    }
}
