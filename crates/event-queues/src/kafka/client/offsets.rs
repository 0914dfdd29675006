//! Which offsets may be committed: receipts on one side, partitions on the other.
//!
//! A partition belongs to this process from [`PartitionOffsets::assign`] to [`PartitionOffsets::forget`]. Messages handed
//! out in that time are remembered by receipt; later acknowledgements count for nothing, so that the offsets of a partition
//! that another member has taken over are never touched.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Origin, Receipt};

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
}

/// The period for which a partition belongs to this process.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// The topic's facts about its events.
    pub(super) origin: Arc<Origin>,
    is_over: AtomicBool,
}

impl Assignment {
    /// Whether the partition has been given up or lost: messages that are not counted by now must not be.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// Where a partition begins and ends, and how far it is fetched, by the client's last statistics. Negative where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    /// The offset of the first message that the broker still holds.
    pub(super) start: i64,
    /// The offset behind the last readable message: with transactions, the last settled one.
    pub(super) end: i64,
    /// The offset that is fetched next.
    pub(super) next: i64,
    /// Whether nothing is left to be fetched.
    pub(super) is_at_end: bool,
}

/// Offsets without a message. Markers of transactions, compaction and expired messages leave such gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    from: i64,
    to: i64,
}

impl Gap {
    /// The part of it that is lost, if the broker's first message is at `start`.
    fn loss(self, start: i64) -> Option<Loss> {
        let Gap { from, to } = self;
        let messages = u64::try_from(to.min(start) - from).unwrap_or(0);
        (messages > 0).then_some(Loss { messages, expected: from, offset: to })
    }
}

/// Messages that the broker threw away before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) messages: u64,
    /// The offset of the first missing message.
    pub(super) expected: i64,
    /// The offset of the message behind the gap.
    pub(super) offset: i64,
}

/// Gaps of a partition that wait to be examined; the smallest make room, because lost messages make large ones.
const GAPS_MAX: usize = 256;

/// The state of a partition while it belongs to this process. Messages are counted since it was assigned.
#[derive(Debug, Default)]
struct Held {
    assignment: Arc<Assignment>,
    /// The offset behind the last message that was handed out, and how many there were.
    delivered: Option<i64>,
    delivered_messages: u64,
    /// The offset behind the last message that is acknowledged.
    acknowledged: Option<i64>,
    acknowledged_messages: u64,
    /// The last requested offset, unless the broker has refused it.
    requested: Option<i64>,
    /// The last offset that the broker has confirmed.
    committed: Option<i64>,
    committed_messages: u64,
    /// Acknowledged offsets that are not confirmed, and how many messages stand before each.
    unconfirmed: VecDeque<(i64, u64)>,
    /// The end of the partition, once nothing is left before it.
    passed: Option<i64>,
    marks: Option<Watermarks>,
    gaps: Vec<Gap>,
}

impl Held {
    /// The offset that the next message should have.
    fn expected(&self) -> Option<i64> {
        self.passed.max(self.delivered).or(self.committed)
    }

    /// Messages that are left to be read, or to be committed.
    fn lag(&self) -> u64 {
        self.waiting() + self.delivered_messages - self.committed_messages
    }

    /// Messages that are left to be read, as far as is known.
    fn waiting(&self) -> u64 {
        let Some(marks) = self.marks else { return 0 };
        let position = self.expected().map_or(marks.start, |expected| expected.max(marks.start));
        u64::try_from(marks.end - position.max(0)).unwrap_or(0)
    }
}

/// A delivery that is handed out and not acknowledged yet.
#[derive(Debug)]
struct Open {
    receipt: Receipt,
    partition: Partition,
    assignment: Arc<Assignment>,
    /// The offset behind its last message.
    next_offset: i64,
    /// How many messages were handed out of the partition, with this one.
    messages: u64,
}

/// The books of one consumer. Pure: events are passed in.
#[derive(Debug, Default)]
pub(super) struct PartitionOffsets {
    last_receipt: u64,
    held: HashMap<Partition, Held>,
    /// In ascending order of receipts.
    open: VecDeque<Open>,
}

impl PartitionOffsets {
    /// Adds `partition`, which belongs to this process from here on; `committed` is the group's committed offset.
    pub(super) fn assign(&mut self, partition: Partition, origin: Arc<Origin>, committed: Option<i64>) {
        let assignment = Arc::new(Assignment { origin, is_over: AtomicBool::new(false) });
        let held = Held { assignment, requested: committed, committed, ..Held::default() };
        if let Some(before) = self.held.insert(partition, held) {
            before.assignment.is_over.store(true, Ordering::Release);
        }
    }

    /// Removes partitions, which belong to other members from here on.
    pub(super) fn forget<'a>(&mut self, partitions: impl IntoIterator<Item = &'a Partition>) {
        for partition in partitions {
            if let Some(held) = self.held.remove(partition) {
                held.assignment.is_over.store(true, Ordering::Release);
            }
        }
        self.open.retain(|open| !open.assignment.is_over());
    }

    /// The partitions that belong to this process, in no order.
    pub(super) fn held(&self) -> impl Iterator<Item = &Partition> {
        self.held.keys()
    }

    /// The assignment of a partition that belongs to this process.
    pub(super) fn assignment(&self, partition: &Partition) -> Option<&Arc<Assignment>> {
        self.held.get(partition).map(|held| &held.assignment)
    }

    /// The offset that the next message of `partition` should have, as far as it is known.
    pub(super) fn expected(&self, partition: &Partition) -> Option<i64> {
        self.held.get(partition).and_then(Held::expected)
    }

    /// Notes that this many messages of `partition`, up to before `next_offset`, are handed out.
    pub(super) fn deliver(&mut self, partition: &Partition, next_offset: i64, messages: usize) -> Receipt {
        let receipt = self.receipt();
        if let Some(held) = self.held.get_mut(partition) {
            held.delivered = Some(next_offset);
            held.delivered_messages += messages as u64;
            // It goes back if the topic was made anew.
            held.passed = held.passed.filter(|passed| *passed <= next_offset);
            let (partition, assignment) = (partition.clone(), Arc::clone(&held.assignment));
            let messages = held.delivered_messages;
            self.open.push_back(Open { receipt, partition, assignment, next_offset, messages });
        }
        receipt
    }

    /// Notes a gap: the message at `to` followed the one before `from`.
    pub(super) fn leave_out(&mut self, partition: &Partition, from: i64, to: i64) {
        let Some(held) = self.held.get_mut(partition) else { return };
        let gap = Gap { from, to };
        if held.gaps.len() < GAPS_MAX {
            held.gaps.push(gap);
        } else if let Some(smallest) = held.gaps.iter_mut().min_by_key(|gap| gap.to - gap.from)
            && smallest.to - smallest.from < to - from
        {
            *smallest = gap;
        }
    }

    /// Updates the watermarks of a partition. Returns the gaps since the last time that lie before the broker's first
    /// message: they are lost.
    pub(super) fn look(&mut self, partition: &Partition, marks: Watermarks) -> Option<Loss> {
        let held = self.held.get_mut(partition)?;
        held.marks = Some(marks);
        let losses = held.gaps.drain(..).filter_map(|gap| gap.loss(marks.start));
        losses.reduce(|all, loss| Loss {
            messages: all.messages + loss.messages,
            expected: all.expected.min(loss.expected),
            offset: all.offset.max(loss.offset),
        })
    }

    /// All fetched messages have been handed out: a partition without more has reached its end, whatever lies before it that
    /// is no message. Returns the losses among that.
    pub(super) fn pass_ends(&mut self) -> Vec<(Partition, Loss)> {
        let mut lost = Vec::new();
        for (partition, held) in &mut self.held {
            let Some(marks) = held.marks.filter(|marks| marks.is_at_end) else { continue };
            let expected = held.expected();
            if expected.is_some_and(|expected| expected >= marks.next) {
                continue;
            }
            held.passed = Some(marks.next);
            if let Some(expected) = expected {
                let gap = Gap { from: expected, to: marks.next };
                lost.extend(gap.loss(marks.start).map(|loss| (partition.clone(), loss)));
            }
        }
        lost
    }

    /// Whether all partitions are read to their end, as far as the client knows.
    pub(super) fn are_at_end(&self) -> bool {
        self.held.values().all(|held| {
            held.marks.is_some_and(|marks| marks.is_at_end && held.expected() == Some(marks.next))
        })
    }

    /// Messages that are left to be read, or to be committed.
    pub(super) fn lag(&self) -> u64 {
        self.held.values().map(Held::lag).sum()
    }

    /// Messages that are left to be read.
    pub(super) fn waiting(&self) -> u64 {
        self.held.values().map(Held::waiting).sum()
    }

    /// Messages of `partitions` that are counted and not confirmed by the broker.
    pub(super) fn counted_again<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> u64 {
        let held = partitions.into_iter().filter_map(|partition| self.held.get(partition));
        held.map(|held| held.acknowledged_messages - held.committed_messages).sum()
    }

    /// A receipt for a delivery without messages.
    pub(super) fn receipt(&mut self) -> Receipt {
        self.last_receipt += 1;
        Receipt(self.last_receipt)
    }

    /// Notes that every delivery up to and including `receipt` has an outcome.
    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        while let Some(open) = self.open.pop_front_if(|open| open.receipt <= receipt) {
            if let Some(held) = self.held.get_mut(&open.partition)
                && Arc::ptr_eq(&held.assignment, &open.assignment)
            {
                held.acknowledged = Some(open.next_offset);
                held.acknowledged_messages = open.messages;
                held.unconfirmed.push_back((open.next_offset, open.messages));
            }
        }
    }

    /// Whether everything that was handed out of `partitions` is acknowledged.
    pub(super) fn is_settled<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> bool {
        partitions
            .into_iter()
            .filter_map(|partition| self.held.get(partition))
            .all(|held| held.delivered == held.acknowledged)
    }

    /// The acknowledged offsets that are not requested yet; they count as requested from here on.
    pub(super) fn request(&mut self) -> Vec<(Partition, i64)> {
        let due = self.held.iter_mut().filter_map(|(partition, held)| {
            let offset = held.acknowledged.filter(|_| held.acknowledged != held.requested)?;
            held.requested = Some(offset);
            Some((partition.clone(), offset))
        });
        due.collect()
    }

    /// The offsets of `partitions` that the broker has not confirmed.
    pub(super) fn unconfirmed<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition>,
    ) -> Vec<(Partition, i64)> {
        let unconfirmed = partitions.into_iter().filter_map(|partition| {
            let held = self.held.get(partition)?;
            let offset = held.acknowledged.filter(|_| held.acknowledged != held.committed)?;
            Some((partition.clone(), offset))
        });
        unconfirmed.collect()
    }

    /// Notes that the broker has confirmed `offset`. Answers come in the order of the requests.
    pub(super) fn confirm(&mut self, partition: &Partition, offset: i64) {
        if let Some(held) = self.held.get_mut(partition) {
            held.committed = Some(offset);
            // Offsets only grow, except for a topic that was made anew.
            let is_known = held.unconfirmed.iter().any(|(known, _)| *known == offset);
            while let Some((known, messages)) =
                held.unconfirmed.pop_front_if(|(known, _)| is_known || *known <= offset)
            {
                held.committed_messages = messages;
                if known == offset {
                    break;
                }
            }
        }
    }

    /// Notes that the broker has refused `offset`: it is requested again, unless a greater one was requested meanwhile.
    pub(super) fn refuse(&mut self, partition: &Partition, offset: i64) {
        if let Some(held) = self.held.get_mut(partition)
            && held.requested == Some(offset)
        {
            held.requested = held.committed;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn partition(number: i32) -> Partition {
        Partition { topic: "t".into(), number }
    }

    fn holding(numbers: &[i32]) -> PartitionOffsets {
        let mut offsets = PartitionOffsets::default();
        for number in numbers {
            offsets.assign(partition(*number), Arc::default(), None);
        }
        offsets
    }

    #[test]
    fn an_offset_is_due_once_its_messages_are_acknowledged() {
        let mut offsets = holding(&[0, 1]);
        let first = offsets.deliver(&partition(0), 10, 10);
        let second = offsets.deliver(&partition(1), 5, 10);
        let third = offsets.deliver(&partition(0), 20, 10);
        assert_eq!(offsets.request(), []);
        offsets.acknowledge(first);
        assert_eq!(offsets.request(), [(partition(0), 10)]);
        assert_eq!(offsets.request(), [], "it is asked for once");
        offsets.acknowledge(second);
        assert_eq!(offsets.request(), [(partition(1), 5)]);
        assert!(offsets.is_settled([&partition(1)]));
        assert!(!offsets.is_settled([&partition(0), &partition(1)]));
        offsets.acknowledge(third);
        assert_eq!(offsets.request(), [(partition(0), 20)]);
        assert!(offsets.is_settled([&partition(0), &partition(1)]));
    }

    #[test]
    fn a_partition_that_was_given_up_is_never_committed_again() {
        let mut offsets = holding(&[0, 1]);
        let receipt = offsets.deliver(&partition(0), 10, 10);
        let assignment = Arc::clone(offsets.assignment(&partition(0)).unwrap());
        offsets.forget([&partition(0)]);
        assert!(assignment.is_over());
        offsets.acknowledge(receipt);
        assert_eq!(offsets.request(), []);
        assert!(offsets.is_settled([&partition(0)]), "nothing is owed for it");
    }

    #[test]
    fn what_was_handed_out_before_a_partition_came_back_counts_for_nothing() {
        let mut offsets = holding(&[0]);
        let before = offsets.deliver(&partition(0), 10, 10);
        offsets.forget([&partition(0)]);
        offsets.assign(partition(0), Arc::default(), Some(3));
        assert_eq!(offsets.expected(&partition(0)), Some(3));
        let after = offsets.deliver(&partition(0), 7, 10);
        offsets.acknowledge(before);
        assert_eq!(offsets.request(), []);
        offsets.acknowledge(after);
        assert_eq!(offsets.request(), [(partition(0), 7)]);
    }

    #[test]
    fn what_the_broker_refused_is_asked_for_again() {
        let mut offsets = holding(&[0]);
        let receipt = offsets.deliver(&partition(0), 10, 10);
        offsets.acknowledge(receipt);
        assert_eq!(offsets.request(), [(partition(0), 10)]);
        offsets.refuse(&partition(0), 10);
        assert_eq!(offsets.request(), [(partition(0), 10)]);
        assert_eq!(offsets.unconfirmed([&partition(0)]), [(partition(0), 10)]);
        offsets.confirm(&partition(0), 10);
        assert_eq!((offsets.request(), offsets.unconfirmed([&partition(0)])), (vec![], vec![]));
    }

    #[test]
    fn a_late_refusal_does_not_undo_a_later_request() {
        let mut offsets = holding(&[0]);
        for offset in [10, 20] {
            let receipt = offsets.deliver(&partition(0), offset, 10);
            offsets.acknowledge(receipt);
            offsets.request();
        }
        offsets.refuse(&partition(0), 10);
        assert_eq!(offsets.request(), []);
    }

    /// Marks of a partition that begins at `start`, with everything before `end` fetched.
    fn marks(start: i64, end: i64) -> Watermarks {
        Watermarks { start, end, next: end, is_at_end: true }
    }

    #[test]
    fn of_what_was_left_out_that_is_lost_which_lies_before_the_first_message() {
        let mut offsets = holding(&[0]);
        // A marker, then what was deleted in steps within a moment: each is told.
        for (from, to) in [(10, 11), (100, 900), (1000, 1800), (2000, 2001)] {
            offsets.leave_out(&partition(0), from, to);
        }
        let loss = offsets.look(&partition(0), marks(1800, 3000)).unwrap();
        assert_eq!(loss, Loss { messages: 1 + 800 + 800, expected: 10, offset: 1800 });
        assert_eq!(offsets.look(&partition(0), marks(1800, 3000)), None, "it is told once");
        offsets.leave_out(&partition(0), 2100, 2101);
        assert_eq!(offsets.look(&partition(0), marks(1800, 3000)), None, "a marker is no message");
        offsets.leave_out(&partition(0), 2200, 2300);
        let loss = offsets.look(&partition(0), marks(2250, 3000)).unwrap();
        assert_eq!(loss.messages, 50, "what lies behind the first message was left out by the broker");
    }

    #[test]
    fn many_small_gaps_make_room_for_a_large_one() {
        let mut offsets = holding(&[0]);
        (0..10_000).for_each(|at| offsets.leave_out(&partition(0), 10 * at, 10 * at + 1));
        offsets.leave_out(&partition(0), 200_000, 200_500);
        assert_eq!(offsets.held[&partition(0)].gaps.len(), GAPS_MAX);
        let loss = offsets.look(&partition(0), marks(200_500, 200_501)).unwrap();
        assert!(loss.messages >= 500, "{loss:?}");
    }

    #[test]
    fn a_marker_at_the_end_and_what_was_deleted_are_not_left_to_read() {
        let mut offsets = holding(&[0]);
        offsets.look(&partition(0), marks(0, 11));
        assert!(!offsets.are_at_end());
        assert_eq!(offsets.lag(), 11);
        let receipt = offsets.deliver(&partition(0), 10, 10);
        assert_eq!(offsets.lag(), 11, "ten to be committed, one that may be a message");
        assert_eq!(offsets.waiting(), 1);
        assert_eq!(offsets.pass_ends(), [], "a marker is no loss");
        assert_eq!(offsets.expected(&partition(0)), Some(11), "what follows follows the marker");
        assert!(offsets.are_at_end());
        offsets.acknowledge(receipt);
        assert_eq!(offsets.request(), [(partition(0), 10)]);
        assert_eq!((offsets.lag(), offsets.waiting()), (10, 0));
        offsets.confirm(&partition(0), 10);
        assert_eq!(offsets.lag(), 0);
        offsets.look(&partition(0), Watermarks { start: 500, end: 600, next: 520, is_at_end: false });
        assert_eq!(
            (offsets.lag(), offsets.waiting()),
            (100, 100),
            "what was deleted is not there to be read"
        );
        assert!(!offsets.are_at_end());
    }

    #[test]
    fn what_was_deleted_to_the_end_is_told_without_a_message_behind_it() {
        let mut offsets = PartitionOffsets::default();
        offsets.assign(partition(0), Arc::default(), Some(100));
        offsets.look(&partition(0), marks(600, 600));
        assert_eq!(offsets.lag(), 0);
        let loss = Loss { messages: 500, expected: 100, offset: 600 };
        assert_eq!(offsets.pass_ends(), [(partition(0), loss)]);
        assert_eq!((offsets.expected(&partition(0)), offsets.pass_ends()), (Some(600), vec![]));
    }

    #[test]
    fn what_is_counted_again_is_what_was_acknowledged_and_not_confirmed() {
        let mut offsets = holding(&[0, 1]);
        let all = [partition(0), partition(1)];
        let receipts = [(0, 10), (1, 30), (0, 20)]
            .map(|(number, offset)| offsets.deliver(&partition(number), offset, 7));
        offsets.acknowledge(receipts[1]);
        assert_eq!(offsets.counted_again(&all), 14);
        offsets.confirm(&partition(0), 10);
        assert_eq!(offsets.counted_again(&all), 7);
        offsets.acknowledge(receipts[2]);
        assert_eq!(offsets.counted_again(&all), 14);
        // The topic was made anew: its offsets begin again.
        let receipt = offsets.deliver(&partition(0), 3, 3);
        offsets.acknowledge(receipt);
        offsets.confirm(&partition(0), 3);
        assert_eq!(offsets.counted_again(&[partition(0)]), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Deliver(i32),
        /// A part of all receipts, in 256ths.
        Acknowledge(u8),
        Request,
        Confirm,
        Refuse,
        Move(i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3i32).prop_map(Step::Deliver),
            3 => any::<u8>().prop_map(Step::Acknowledge),
            2 => Just(Step::Request),
            1 => Just(Step::Confirm),
            1 => Just(Step::Refuse),
            1 => (0..3i32).prop_map(Step::Move),
        ]
    }

    proptest! {
        /// An offset that the broker is asked to remember stands behind acknowledged messages of this very
        /// assignment, and once all is acknowledged and asked for, it stands behind all of them.
        #[test]
        fn only_what_is_acknowledged_is_committed(steps in vec(step(), 0..60)) {
            let mut offsets = holding(&[0, 1, 2]);
            // Offsets of each partition: handed out in this assignment with receipts, and the next.
            let mut handed: Vec<Vec<(Receipt, i64)>> = vec![Vec::new(); 3];
            let mut next = [0i64; 3];
            let (mut acknowledged, mut asked) = (Receipt(0), Vec::new());
            for step in steps {
                match step {
                    Step::Deliver(number) => {
                        let at = usize::try_from(number).unwrap();
                        next[at] += 10;
                        let receipt = offsets.deliver(&partition(number), next[at], 10);
                        handed[at].push((receipt, next[at]));
                    }
                    Step::Acknowledge(part) => {
                        let upto = offsets.last_receipt * u64::from(part) / 255;
                        acknowledged = acknowledged.max(Receipt(upto));
                        offsets.acknowledge(Receipt(upto));
                    }
                    Step::Request => {
                        for (partition, offset) in offsets.request() {
                            let at = usize::try_from(partition.number).unwrap();
                            let allowed = handed[at].iter().filter(|(receipt, _)| *receipt <= acknowledged);
                            prop_assert_eq!(allowed.map(|(_, next)| *next).max(), Some(offset));
                            asked.push((partition, offset));
                        }
                    }
                    Step::Confirm => asked.drain(..).for_each(|(partition, offset)| offsets.confirm(&partition, offset)),
                    Step::Refuse => asked.drain(..).for_each(|(partition, offset)| offsets.refuse(&partition, offset)),
                    Step::Move(number) => {
                        offsets.forget([&partition(number)]);
                        offsets.assign(partition(number), Arc::default(), None);
                        handed[usize::try_from(number).unwrap()].clear();
                        asked.retain(|(partition, _)| partition.number != number);
                    }
                }
            }
            offsets.acknowledge(Receipt(offsets.last_receipt));
            prop_assert!(offsets.open.is_empty());
            let all = [partition(0), partition(1), partition(2)];
            prop_assert!(offsets.is_settled(&all));
            offsets.request();
            for (at, handed) in handed.iter().enumerate() {
                let held = &offsets.held[&all[at]];
                prop_assert_eq!(held.requested.or(held.committed), handed.last().map(|(_, next)| *next));
            }
        }
    }
}
