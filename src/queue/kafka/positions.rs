//! Which offsets may be committed: receipts on one side, partitions on the other.
//!
//! A partition belongs to this process from [`Positions::assign`] to [`Positions::forget`]. What was handed out
//! of it in that time is remembered by receipt; what is acknowledged later than that counts for nothing, so that
//! the offsets of a partition that another member has taken over are never touched.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::queue::{Origin, Receipt};

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Partition {
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
}

/// The time for which a partition belongs to this process.
#[derive(Debug, Default)]
pub(super) struct Assignment {
    /// What the topic says of its events.
    pub(super) origin: Arc<Origin>,
    is_over: AtomicBool,
}

impl Assignment {
    /// Whether the partition has been given up or lost: what has not been counted of it until now must not be.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

/// What is known of a partition while it belongs to this process.
#[derive(Debug)]
struct Held {
    assignment: Arc<Assignment>,
    /// The offset behind the last message that was handed out.
    delivered: Option<i64>,
    /// The offset behind the last message that is acknowledged.
    acknowledged: Option<i64>,
    /// The offset that the broker was asked to remember, if it has not refused.
    requested: Option<i64>,
    /// The offset that the broker is known to remember.
    committed: Option<i64>,
}

/// Something that was handed out and is not acknowledged yet.
#[derive(Debug)]
struct Open {
    receipt: Receipt,
    partition: Partition,
    assignment: Arc<Assignment>,
    /// The offset behind its last message.
    next_offset: i64,
}

/// The books of one consumer. Pure: it is told what happens.
#[derive(Debug, Default)]
pub(super) struct Positions {
    last_receipt: u64,
    held: HashMap<Partition, Held>,
    /// In the order of receipts.
    open: VecDeque<Open>,
}

impl Positions {
    /// From here on `partition` belongs to this process; `committed` is what the broker remembers for the group.
    pub(super) fn assign(&mut self, partition: Partition, origin: Arc<Origin>, committed: Option<i64>) {
        let assignment = Arc::new(Assignment { origin, is_over: AtomicBool::new(false) });
        let held = Held { assignment, delivered: None, acknowledged: None, requested: committed, committed };
        if let Some(before) = self.held.insert(partition, held) {
            before.assignment.is_over.store(true, Ordering::Release);
        }
    }

    /// From here on they belong to somebody else.
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
        self.held.get(partition).and_then(|held| held.delivered.or(held.committed))
    }

    /// Messages of `partition` up to before `next_offset` are handed out.
    pub(super) fn deliver(&mut self, partition: &Partition, next_offset: i64) -> Receipt {
        let receipt = self.receipt();
        if let Some(held) = self.held.get_mut(partition) {
            held.delivered = Some(next_offset);
            let (partition, assignment) = (partition.clone(), Arc::clone(&held.assignment));
            self.open.push_back(Open { receipt, partition, assignment, next_offset });
        }
        receipt
    }

    /// A receipt for something that holds no message.
    pub(super) fn receipt(&mut self) -> Receipt {
        self.last_receipt += 1;
        Receipt(self.last_receipt)
    }

    /// Everything up to and including `receipt` has an outcome.
    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        while let Some(open) = self.open.pop_front_if(|open| open.receipt <= receipt) {
            if let Some(held) = self.held.get_mut(&open.partition)
                && Arc::ptr_eq(&held.assignment, &open.assignment)
            {
                held.acknowledged = Some(open.next_offset);
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

    /// What the broker has not been asked to remember yet. It counts as asked from here on.
    pub(super) fn request(&mut self) -> Vec<(Partition, i64)> {
        let due = self.held.iter_mut().filter_map(|(partition, held)| {
            let offset = held.acknowledged.filter(|_| held.acknowledged != held.requested)?;
            held.requested = Some(offset);
            Some((partition.clone(), offset))
        });
        due.collect()
    }

    /// What the broker is not known to remember, of `partitions`.
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

    /// The broker remembers `offset`. Answers come in the order of the requests.
    pub(super) fn confirm(&mut self, partition: &Partition, offset: i64) {
        if let Some(held) = self.held.get_mut(partition) {
            held.committed = Some(offset);
        }
    }

    /// The broker has refused `offset`: it has to be asked again, unless it was asked for more meanwhile.
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

    fn holding(numbers: &[i32]) -> Positions {
        let mut positions = Positions::default();
        for number in numbers {
            positions.assign(partition(*number), Arc::default(), None);
        }
        positions
    }

    #[test]
    fn an_offset_is_due_once_its_messages_are_acknowledged() {
        let mut positions = holding(&[0, 1]);
        let first = positions.deliver(&partition(0), 10);
        let second = positions.deliver(&partition(1), 5);
        let third = positions.deliver(&partition(0), 20);
        assert_eq!(positions.request(), []);
        positions.acknowledge(first);
        assert_eq!(positions.request(), [(partition(0), 10)]);
        assert_eq!(positions.request(), [], "it is asked for once");
        positions.acknowledge(second);
        assert_eq!(positions.request(), [(partition(1), 5)]);
        assert!(positions.is_settled([&partition(1)]));
        assert!(!positions.is_settled([&partition(0), &partition(1)]));
        positions.acknowledge(third);
        assert_eq!(positions.request(), [(partition(0), 20)]);
        assert!(positions.is_settled([&partition(0), &partition(1)]));
    }

    #[test]
    fn a_partition_that_was_given_up_is_never_committed_again() {
        let mut positions = holding(&[0, 1]);
        let receipt = positions.deliver(&partition(0), 10);
        let assignment = Arc::clone(positions.assignment(&partition(0)).unwrap());
        positions.forget([&partition(0)]);
        assert!(assignment.is_over());
        positions.acknowledge(receipt);
        assert_eq!(positions.request(), []);
        assert!(positions.is_settled([&partition(0)]), "nothing is owed for it");
    }

    #[test]
    fn what_was_handed_out_before_a_partition_came_back_counts_for_nothing() {
        let mut positions = holding(&[0]);
        let before = positions.deliver(&partition(0), 10);
        positions.forget([&partition(0)]);
        positions.assign(partition(0), Arc::default(), Some(3));
        assert_eq!(positions.expected(&partition(0)), Some(3));
        let after = positions.deliver(&partition(0), 7);
        positions.acknowledge(before);
        assert_eq!(positions.request(), []);
        positions.acknowledge(after);
        assert_eq!(positions.request(), [(partition(0), 7)]);
    }

    #[test]
    fn what_the_broker_refused_is_asked_for_again() {
        let mut positions = holding(&[0]);
        let receipt = positions.deliver(&partition(0), 10);
        positions.acknowledge(receipt);
        assert_eq!(positions.request(), [(partition(0), 10)]);
        positions.refuse(&partition(0), 10);
        assert_eq!(positions.request(), [(partition(0), 10)]);
        assert_eq!(positions.unconfirmed([&partition(0)]), [(partition(0), 10)]);
        positions.confirm(&partition(0), 10);
        assert_eq!((positions.request(), positions.unconfirmed([&partition(0)])), (vec![], vec![]));
    }

    #[test]
    fn a_late_refusal_does_not_undo_a_later_request() {
        let mut positions = holding(&[0]);
        for offset in [10, 20] {
            let receipt = positions.deliver(&partition(0), offset);
            positions.acknowledge(receipt);
            positions.request();
        }
        positions.refuse(&partition(0), 10);
        assert_eq!(positions.request(), []);
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
            let mut positions = holding(&[0, 1, 2]);
            // Offsets of each partition: handed out in this assignment with receipts, and the next.
            let mut handed: Vec<Vec<(Receipt, i64)>> = vec![Vec::new(); 3];
            let mut next = [0i64; 3];
            let (mut acknowledged, mut asked) = (Receipt(0), Vec::new());
            for step in steps {
                match step {
                    Step::Deliver(number) => {
                        let at = usize::try_from(number).unwrap();
                        next[at] += 10;
                        let receipt = positions.deliver(&partition(number), next[at]);
                        handed[at].push((receipt, next[at]));
                    }
                    Step::Acknowledge(part) => {
                        let upto = positions.last_receipt * u64::from(part) / 255;
                        acknowledged = acknowledged.max(Receipt(upto));
                        positions.acknowledge(Receipt(upto));
                    }
                    Step::Request => {
                        for (partition, offset) in positions.request() {
                            let at = usize::try_from(partition.number).unwrap();
                            let allowed = handed[at].iter().filter(|(receipt, _)| *receipt <= acknowledged);
                            prop_assert_eq!(allowed.map(|(_, next)| *next).max(), Some(offset));
                            asked.push((partition, offset));
                        }
                    }
                    Step::Confirm => asked.drain(..).for_each(|(partition, offset)| positions.confirm(&partition, offset)),
                    Step::Refuse => asked.drain(..).for_each(|(partition, offset)| positions.refuse(&partition, offset)),
                    Step::Move(number) => {
                        positions.forget([&partition(number)]);
                        positions.assign(partition(number), Arc::default(), None);
                        handed[usize::try_from(number).unwrap()].clear();
                        asked.retain(|(partition, _)| partition.number != number);
                    }
                }
            }
            positions.acknowledge(Receipt(positions.last_receipt));
            prop_assert!(positions.open.is_empty());
            let all = [partition(0), partition(1), partition(2)];
            prop_assert!(positions.is_settled(&all));
            positions.request();
            for (at, handed) in handed.iter().enumerate() {
                let held = &positions.held[&all[at]];
                prop_assert_eq!(held.requested.or(held.committed), handed.last().map(|(_, next)| *next));
            }
        }
    }
}
