//! Knows the event ids of the last minutes, so that a redelivery, a retry or a split counts once.
//!
//! Ids are kept as 112 random-seeded hash bits with their owner, the connection that the event went to. Memory is bounded,
//! and every connection has a share of it: what it sends within its share is forgotten only when its time is over, and
//! what it sends beyond takes the room that is left. So a customer's flood pushes out its own ids and nobody else's.

mod huge_pages;
mod id_set;

use std::time::Duration;

use foldhash::quality::RandomState;

use self::id_set::IdSet;
use crate::hash;
use crate::route::ConnectionId;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupSettings {
    /// How long an id is remembered; zero switches deduplication off.
    pub window: Duration,
    /// How many ids are remembered at most; beyond it some are forgotten early.
    pub max_ids: usize,
}

/// The hash of an event id. The lowest 16 bits are not compared; the others are the same for two ids with a probability
/// of 2^-112, which stands for "never".
pub type IdHash = u128;

/// The bits of a hash that say in memory whose id it is.
const OWNER_BITS: u32 = 16;

/// Owner number of unrouted ids (the highest 16-bit value); connections beyond 65,534 share the one below it.
const NOBODY: u16 = u16::MAX;

/// Hashes event ids; seeded at random, so that nobody outside can make two ids collide.
#[derive(Debug, Clone, Default)]
pub struct IdHasher {
    high: RandomState,
    low: RandomState,
}

impl IdHasher {
    /// The hash of `id`.
    pub fn hash(&self, id: &[u8]) -> IdHash {
        (u128::from(hash(&self.high, id)) << 64) | u128::from(hash(&self.low, id))
    }
}

/// An event id that is asked for: its hash, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedId(IdHash);

impl OwnedId {
    /// The id with this hash, of an event that goes to `connection`; `None`: to nobody.
    pub fn new(hash: IdHash, connection: Option<ConnectionId>) -> Self {
        Self(hash >> OWNER_BITS << OWNER_BITS | u128::from(owner_of(connection)))
    }

    /// The number of its owner.
    #[expect(clippy::cast_possible_truncation, reason = "the owner's bits are the lowest")]
    const fn owner(self) -> u16 {
        self.0 as u16
    }
}

/// The number in memory of whoever owns the ids of a connection's events.
fn owner_of(connection: Option<ConnectionId>) -> u16 {
    connection.map_or(NOBODY, |id| u16::try_from(id.0).map_or(NOBODY - 1, |number| number.min(NOBODY - 1)))
}

/// A set of ids that forgets.
#[derive(Debug)]
pub struct Dedup {
    ids_max: usize,
    /// How many ids each connection has to itself.
    share: usize,
    /// By owner, whether it is a connection of the present; `None`: each is.
    present: Option<Vec<bool>>,
    /// The ids within the shares of their owners.
    within: IdSet,
    /// The ids beyond: the first to go when room is short.
    beyond: IdSet,
    /// How many ids an owner has within its share.
    held: Vec<usize>,
    /// Ids that had to go for others before the window was over.
    forgotten_early: u64,
    /// When time may have run out for an id, in milliseconds.
    forget_at: u64,
}

impl Dedup {
    /// An empty set, for one connection.
    pub fn new(settings: DedupSettings) -> Self {
        let window = u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX);
        Self {
            // Places are compared in 32 bits; the ring must be far from going round them.
            ids_max: settings.max_ids.clamp(1, 1 << 30),
            share: usize::MAX,
            present: None,
            within: IdSet::new(window),
            beyond: IdSet::new(window),
            held: Vec::new(),
            forgotten_early: 0,
            forget_at: 0,
        }
    }

    /// Divides the room among these connections. One has it all, and its oldest id goes for its newest. Of several, each
    /// has an equal part, and one part more is for whoever is beyond his own; the oldest ids of an owner whose share has become
    /// smaller are beyond it from then on, and so are all of one that is not among them.
    pub fn share_among(&mut self, connections: &[ConnectionId]) {
        let count = connections.len();
        self.share = if count > 1 { self.ids_max / (count + 1) } else { usize::MAX };
        let mut present = Vec::new();
        for connection in connections {
            let owner = usize::from(owner_of(Some(*connection)));
            present.resize(present.len().max(owner + 1), false);
            present[owner] = true;
        }
        self.present = Some(present);
        if (0..=u16::MAX).zip(&self.held).any(|(owner, held)| *held > self.share_of(owner)) {
            self.move_beyond();
        }
    }

    /// How many ids an owner has to itself.
    fn share_of(&self, owner: u16) -> usize {
        let is_present = |present: &Vec<bool>| present.get(usize::from(owner)).copied().unwrap_or(false);
        if owner != NOBODY && self.present.as_ref().is_none_or(is_present) { self.share } else { 0 }
    }

    /// Moves what is within no longer.
    #[cold]
    fn move_beyond(&mut self) {
        let (mut within, mut beyond) = (Vec::new(), self.beyond.take());
        for (time, id) in self.within.take() {
            let owner = OwnedId(id).owner();
            let share = self.share_of(owner);
            let held = self.held.get_mut(usize::from(owner)).filter(|held| **held > share);
            match held {
                Some(held) => {
                    *held -= 1;
                    beyond.push((time, id));
                }
                None => within.push((time, id)),
            }
        }
        beyond.sort_by_key(|(time, _)| *time);
        self.within.fill(within);
        self.beyond.fill(beyond);
        // The next id needs a mark of its time.
        self.forget_at = 0;
    }

    /// Looks at the places where ids that are about to be asked for would stand, so that the waits for memory
    /// overlap, and at those of the ids that would have to go for them. Changes nothing.
    pub fn prefetch(&self, ids: impl ExactSizeIterator<Item = OwnedId> + Clone) {
        let short = (self.len() + ids.len()).saturating_sub(self.ids_max);
        let ids = ids.map(|id| id.0);
        if self.beyond.is_empty() {
            self.within.prefetch(ids.chain(self.within.oldest_first().take(short)));
        } else {
            self.within.prefetch(ids.clone());
            self.beyond.prefetch(ids.chain(self.beyond.oldest_first().take(short)));
        }
    }

    /// Remembers `id` and says whether it is new. `now` is in milliseconds and never steps back.
    #[inline]
    pub fn insert(&mut self, id: OwnedId, now: u64) -> bool {
        if now >= self.forget_at {
            self.forget(now);
        }
        let Some(mut vacancy) = self.within.vacancy(id.0) else { return false };
        if !self.beyond.is_empty() && self.beyond.vacancy(id.0).is_none() {
            return false;
        }
        let is_within = self.is_within_share(id);
        if self.len() >= self.ids_max {
            if !self.make_room(is_within, now) {
                return true;
            }
            // Forgetting closes gaps, so the free slot may be nearer now.
            let Some(nearer) = self.within.vacancy(id.0) else { return false };
            vacancy = nearer;
        }
        if is_within {
            self.held[usize::from(id.owner())] += 1;
            self.within.insert(&vacancy, id.0);
        } else if let Some(vacancy) = self.beyond.vacancy(id.0) {
            self.beyond.insert(&vacancy, id.0);
        }
        true
    }

    /// How many ids were forgotten before the window was over since this was last asked: their repetitions count again.
    pub fn take_forgotten_early(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten_early)
    }

    /// How many ids are remembered.
    pub fn len(&self) -> usize {
        self.within.len() + self.beyond.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether its owner has room of its own for an id.
    #[inline]
    fn is_within_share(&mut self, id: OwnedId) -> bool {
        let share = self.share_of(id.owner());
        let owner = usize::from(id.owner());
        if share > 0 && self.held.len() <= owner {
            self.held.resize(owner + 1, 0);
        }
        self.held.get(owner).is_some_and(|held| *held < share)
    }

    /// Forgets an id for another one. Those beyond the shares go first; what is within goes for what is within only, and
    /// that happens to a lone connection. `false`: there is no room.
    fn make_room(&mut self, is_within: bool, now: u64) -> bool {
        let from_within = self.beyond.is_empty();
        if from_within && !is_within {
            self.forgotten_early += 1;
            return false;
        }
        let set = if from_within { &mut self.within } else { &mut self.beyond };
        self.forgotten_early += u64::from(set.is_oldest_in_window(now));
        if let Some(id) = set.forget_oldest()
            && from_within
        {
            release(&mut self.held, id);
        }
        true
    }

    #[cold]
    fn forget(&mut self, now: u64) {
        let within = self.within.forget(now, |id| release(&mut self.held, id));
        let beyond = self.beyond.forget(now, drop);
        self.forget_at = within.min(beyond);
    }
}

/// Gives the room of an id that was within a share back to its owner.
fn release(held: &mut [usize], id: IdHash) {
    if let Some(held) = held.get_mut(usize::from(OwnedId(id).owner())) {
        *held -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;

    fn dedup(window_milliseconds: u64, max_ids: usize) -> Dedup {
        Dedup::new(DedupSettings { window: Duration::from_millis(window_milliseconds), max_ids })
    }

    /// An id of the connection with this number.
    fn of(connection: u32, hash: u128) -> OwnedId {
        OwnedId::new(hash << 64, Some(ConnectionId(connection)))
    }

    fn id(hash: u128) -> OwnedId {
        of(0, hash << 32)
    }

    /// The connections with the first numbers.
    fn numbered(connections: usize) -> Vec<ConnectionId> {
        (0..).take(connections).map(ConnectionId).collect()
    }

    #[test]
    fn an_id_is_new_once_within_the_window_and_again_after_it() {
        let mut dedup = dedup(1000, 100);
        assert!(dedup.insert(id(7), 0));
        assert!(!dedup.insert(id(7), 999));
        assert!(dedup.insert(id(7), 1100));
        assert!(!dedup.insert(id(7), 1200));
    }

    #[test]
    fn beyond_the_bound_the_oldest_is_forgotten_first() {
        let mut dedup = dedup(1_000_000, 3);
        for number in 1..=4 {
            assert!(dedup.insert(id(number), 0));
        }
        assert_eq!(dedup.len(), 3);
        assert_eq!(dedup.take_forgotten_early(), 1);
        assert!(!dedup.insert(id(2), 0));
        assert!(dedup.insert(id(1), 0));
        assert_eq!((dedup.take_forgotten_early(), dedup.take_forgotten_early()), (1, 0));
    }

    #[test]
    fn what_is_forgotten_when_its_time_is_over_is_not_forgotten_early() {
        let mut dedup = dedup(1000, 3);
        for number in 1..=30 {
            assert!(dedup.insert(id(number), u64::try_from(number).unwrap() * 500));
        }
        assert_eq!(dedup.take_forgotten_early(), 0);
    }

    #[test]
    fn what_has_no_room_is_told_however_long_the_overload_lasts() {
        let mut dedup = dedup(1000, 3);
        // Ten ids in the time that three are remembered for, over five windows.
        for number in 1..=50 {
            assert!(dedup.insert(id(number), u64::try_from(number).unwrap() * 100));
        }
        assert_eq!(dedup.take_forgotten_early(), 47);
    }

    #[test]
    fn the_same_id_hashes_alike_and_others_do_not() {
        let hasher = IdHasher::default();
        assert_eq!(hasher.hash(b"a"), hasher.hash(b"a"));
        assert_ne!(hasher.hash(b"a"), hasher.hash(b"b"));
        assert_ne!(hasher.hash(b"a") >> 64, hasher.hash(b"a") & u128::from(u64::MAX));
    }

    #[test]
    fn an_id_is_known_whoever_owns_it() {
        let hash = IdHasher::default().hash(b"a");
        for (first, then) in [(Some(0), Some(1)), (Some(1), None), (None, Some(70_000))] {
            let mut dedup = dedup(1000, 100);
            dedup.share_among(&numbered(2));
            assert!(dedup.insert(OwnedId::new(hash, first.map(ConnectionId)), 0));
            assert!(!dedup.insert(OwnedId::new(hash, then.map(ConnectionId)), 0), "{first:?} {then:?}");
        }
    }

    #[test]
    fn a_flood_of_one_connection_pushes_out_no_id_of_the_others_and_its_newest_are_known() {
        const CONNECTIONS: u32 = 300;
        let mut dedup = dedup(600_000, 30_100);
        dedup.share_among(&numbered(CONNECTIONS as usize));
        let hasher = IdHasher::default();
        let calm = |connection: u32, number: u32| {
            let hash = hasher.hash(format!("{connection}/{number}").as_bytes());
            OwnedId::new(hash, Some(ConnectionId(connection)))
        };
        // A flood before, between and after, ten times what there is room for; and nobody's, which has no share at all.
        let mut flooded = 0u64;
        let mut flood = |dedup: &mut Dedup, connection: Option<ConnectionId>| {
            for _ in 0..100_000 {
                flooded += 1;
                let id = OwnedId::new(hasher.hash(&flooded.to_le_bytes()), connection);
                assert!(dedup.insert(id, 0));
                assert!(!dedup.insert(id, 0));
            }
        };
        flood(&mut dedup, Some(ConnectionId(0)));
        for number in 0..100 {
            for connection in 1..CONNECTIONS {
                assert!(dedup.insert(calm(connection, number), 0));
            }
            if number == 50 {
                flood(&mut dedup, None);
            }
        }
        flood(&mut dedup, Some(ConnectionId(0)));
        assert_eq!(dedup.len(), 30_100);
        dedup.take_forgotten_early();
        for connection in 1..CONNECTIONS {
            for number in 0..100 {
                assert!(!dedup.insert(calm(connection, number), 0), "{connection} {number}");
            }
        }
        assert_eq!(dedup.take_forgotten_early(), 0);
        // What is over makes room again, and the books of the shares with it.
        assert!(dedup.insert(of(1, 1), 700_000));
        assert_eq!((dedup.len(), dedup.held[1], dedup.held[0]), (1, 1, 0));
    }

    #[test]
    fn what_nobody_serves_takes_no_room_of_a_lone_connection() {
        let mut dedup = dedup(600_000, 100);
        assert!((0..100).all(|number| dedup.insert(id(number), 0)));
        assert!((100..300).all(|number| dedup.insert(OwnedId::new(number << 96, None), 0)));
        assert_eq!(dedup.take_forgotten_early(), 200);
        assert!((0..100).all(|number| !dedup.insert(id(number), 0)));
    }

    #[test]
    fn whatever_share_an_owner_had_before_his_newest_ids_are_known() {
        let mut dedup = dedup(600_000, 300);
        // One is there before the others, and is gone; another one has the rest, then there are several.
        assert!((500..510).all(|number| dedup.insert(of(1, number), 0)));
        assert!((0..290).all(|number| dedup.insert(of(0, number), 0)));
        for (round, connections) in (1u128..).zip([2, 9, 2, 4]) {
            dedup.share_among(&numbered(connections));
            let share = dedup.share;
            for step in 0..400_u128 {
                let (flood, calm) = (of(0, round * 1000 + step), of(2, round * 1000 + 400 + step / 10));
                assert!(dedup.insert(flood, 1) && !dedup.insert(flood, 1));
                assert_eq!(dedup.insert(calm, 1), step % 10 == 0, "within its share");
                assert!(dedup.held.iter().all(|held| *held <= share) && dedup.len() <= 300);
            }
            assert!((320..400_u128).all(|step| !dedup.insert(of(0, round * 1000 + step), 1)));
        }
        assert!(dedup.insert(of(0, 1), 700_000));
        assert_eq!((dedup.len(), dedup.held[0], dedup.held[2]), (1, 1, 0));
    }

    #[test]
    fn the_room_of_a_connection_that_is_gone_is_for_those_that_are_there() {
        let mut dedup = dedup(600_000, 300);
        dedup.share_among(&numbered(2));
        assert!(
            (0..100).all(|number| dedup.insert(of(0, number), 0) && dedup.insert(of(1, 100 + number), 0))
        );
        // One reload takes the place of the first by another, the next that one's.
        for (round, number) in (1u128..).zip([2, 3]) {
            dedup.share_among(&[ConnectionId(1), ConnectionId(number)]);
            assert!((0..300).all(|id| dedup.insert(of(number, round * 1000 + id), 1)));
            assert!(
                (200..300).all(|id| !dedup.insert(of(number, round * 1000 + id), 1)),
                "its newest are known"
            );
            assert!(
                (100..200).all(|id| !dedup.insert(of(1, id), 1)),
                "so is all of who stays within his share"
            );
            assert_eq!((dedup.len(), dedup.held[0], dedup.held[1]), (300, 0, 100));
        }
        // What still comes for one that is gone takes nothing of theirs.
        assert!(dedup.insert(of(0, 5000), 1) && !dedup.insert(of(0, 5000), 1));
        assert!((100..200).all(|id| !dedup.insert(of(1, id), 1)));
    }

    #[test]
    fn memory_for_a_flood_is_given_back_when_it_is_over() {
        let mut dedup = dedup(64_000, 100_000);
        dedup.share_among(&numbered(2));
        // Apart in the bits that the index goes by.
        let of = |number: u32| of(0, u128::from(number) << 33);
        let bytes = |dedup: &Dedup| [&dedup.within, &dedup.beyond].map(IdSet::bytes).iter().sum::<usize>();
        assert!((0..100_000).all(|number| dedup.insert(of(number), 0)));
        let most = bytes(&dedup);
        assert!((60..640).all(|second| dedup.insert(of((1 << 30) + second), 1000 * u64::from(second))));
        assert!(bytes(&dedup) < most / 10, "{} of {most}", bytes(&dedup));
        assert!(!dedup.insert(of((1 << 30) + 639), 640_000));
    }

    proptest! {
        /// It answers as a plain list of (id, time) would that forgets by the same two rules; an id may be
        /// remembered a step longer than the window, less a millisecond.
        #[test]
        fn it_agrees_with_a_plain_list(
            ids in prop::collection::vec((0u128..40, 0u64..30, 0u64..7), 1..400),
            bits in prop::sample::select(vec![16u32, 96, 120]),
            step in prop::sample::select(vec![1u64, 10, 100]),
            max_ids in 1usize..50,
            prefetched in any::<bool>(),
        ) {
            let window = 64 * step;
            let mut dedup = dedup(window, max_ids);
            let (mut plain, mut over) = (VecDeque::<(OwnedId, u64)>::new(), VecDeque::new());
            let mut now = 0;
            for (id, pause, odd) in ids {
                now += pause * step + odd % step;
                let id = OwnedId::new(id << bits, Some(ConnectionId(0)));
                while plain.front().is_some_and(|(_, time)| time + window <= now) { over.extend(plain.pop_front()); }
                over.retain(|(_, time)| time + window + step - 1 > now);
                let (is_known, may_be_known) = (plain.iter().any(|(known, _)| *known == id), over.iter().any(|(known, _)| *known == id));
                if prefetched { dedup.prefetch([id, id].into_iter()); }
                let is_new = dedup.insert(id, now);
                prop_assert!(!(is_new && is_known), "{id:?} is forgotten at {now}");
                prop_assert!(is_new || is_known || may_be_known, "{id:?} is still known at {now}");
                if is_new {
                    if plain.len() >= max_ids { plain.pop_front(); }
                    plain.push_back((id, now));
                }
                prop_assert!((plain.len()..=(plain.len() + over.len()).min(max_ids)).contains(&dedup.len()));
            }
        }

        /// Whoever sends what, and however the shares change: never more ids than there is room for, each id in one place,
        /// the books of the shares are those of the ids, and within its share a connection's id is known for the window.
        #[test]
        fn a_share_is_kept_whatever_the_others_do(
            sends in prop::collection::vec((0u32..6, 0u128..200, 0u64..3), 1..600),
            max_ids in 1usize..60,
            connections in 1usize..6,
            lone in 0usize..200,
            prefetched in any::<bool>(),
        ) {
            let mut dedup = dedup(64, max_ids);
            // The first of them had it all for a while, and then there were fewer.
            dedup.share_among(&numbered(if lone > 0 { 1 } else { connections }));
            // Number `connections` is nobody.
            let owner = |number: u32| ((number as usize) < connections).then_some(ConnectionId(number));
            // By owner: ids of the last window, oldest first, each with its time and whether it came within the share.
            let mut sent: Vec<VecDeque<(u128, u64, bool)>> = vec![VecDeque::new(); 6];
            let mut now = 0;
            for (at, (number, hash, pause)) in sends.into_iter().enumerate() {
                if at == lone / 2 { dedup.share_among(&numbered(1 + connections / 2)); }
                if at == lone { dedup.share_among(&numbered(connections)); }
                let number = if at < lone { 0 } else { number.min(u32::try_from(connections).unwrap()) };
                now += pause;
                let id = OwnedId::new((hash << 3 | u128::from(number)) << 100, owner(number));
                let sent = &mut sent[number as usize];
                sent.retain(|(_, time, _)| time + 64 > now);
                let known = sent.iter().position(|(known, ..)| *known == hash);
                if prefetched { dedup.prefetch([id].into_iter()); }
                let is_new = dedup.insert(id, now);
                prop_assert!(is_new || known.is_some(), "{number} {hash} at {now} did not come before");
                if is_new {
                    let forgotten = known.and_then(|known| sent.remove(known));
                    prop_assert!(!forgotten.is_some_and(|(.., fits)| fits), "{number} {hash} is forgotten at {now}");
                    let fits = at >= lone && connections > 1 && owner(number).is_some() && sent.len() < dedup.share;
                    sent.push_back((hash, now, fits));
                }
                prop_assert!(dedup.len() <= max_ids);
                let within = dedup.within.oldest_first().map(|id| OwnedId(id).owner());
                let mut held = vec![0; dedup.held.len()];
                within.for_each(|owner| held[usize::from(owner)] += 1);
                prop_assert_eq!(&held, &dedup.held);
            }
        }
    }

    #[test]
    fn it_stays_right_while_it_grows_and_forgets_by_the_hundred_thousand() {
        let hasher = IdHasher::default();
        let mut dedup = dedup(1_000_000, 50_000);
        let mut is_new = |number: u64| {
            dedup.insert(OwnedId::new(hasher.hash(&number.to_le_bytes()), Some(ConnectionId(0))), 0)
        };
        for round in 0u64..200_000 {
            assert!(is_new(round));
            assert!(!is_new(round.saturating_sub(round % 49_000)));
        }
        assert_eq!(dedup.len(), 50_000);
    }
}
