//! Which offsets may be committed: receipts on one side, partitions on the other.
//!
//! A partition belongs to this process from [`PartitionOffsets::assign`] to [`PartitionOffsets::forget`]. Messages handed
//! out in that time are remembered by receipt; later acknowledgements count for nothing, so that the offsets of a partition
//! that another member has taken over are never touched.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) use self::gaps::Loss;
use self::gaps::{OffsetGap, OffsetGaps};
use crate::{EventDefaults, Receipt};

mod gaps;

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
    pub(super) defaults: Arc<EventDefaults>,
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

/// The state of a partition while it belongs to this process. Messages are counted since it was assigned.
#[derive(Debug, Default)]
struct AssignedPartition {
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
    /// The end that was known first.
    first_end: Option<i64>,
    gaps: OffsetGaps,
}

impl AssignedPartition {
    /// The offset that the next message should have.
    fn expected(&self) -> Option<i64> {
        self.passed.max(self.delivered).or(self.committed)
    }

    /// What lies before an end that was passed and is no message has no outcome to wait for: once all messages have theirs, the
    /// end may be committed, and whoever reads on from there does not take it for lost when it is deleted.
    fn settle_end(&mut self) {
        let known = self.delivered.max(self.committed);
        if let Some(passed) = self.passed.filter(|passed| known.is_some_and(|known| known < *passed))
            && self.delivered == self.acknowledged
        {
            self.delivered = Some(passed);
            self.acknowledged = Some(passed);
            self.unconfirmed.push_back((passed, self.acknowledged_messages));
        }
    }

    /// Whether it is read to its end, or to where it ended first: what is committed may lie beyond both, and is no sign.
    fn is_at_end(&self) -> bool {
        let expected = self.expected();
        self.marks.is_some_and(|marks| marks.is_at_end && expected == Some(marks.next))
            || self.first_end.is_some_and(|end| self.passed.max(self.delivered) >= Some(end))
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
    assigned: HashMap<Partition, AssignedPartition>,
    /// In ascending order of receipts.
    open: VecDeque<Open>,
}

impl PartitionOffsets {
    /// Adds `partition`, which belongs to this process from here on; `committed` is the group's committed offset.
    pub(super) fn assign(
        &mut self,
        partition: Partition,
        defaults: Arc<EventDefaults>,
        committed: Option<i64>,
    ) {
        let assignment = Arc::new(Assignment { defaults, is_over: AtomicBool::new(false) });
        let assigned =
            AssignedPartition { assignment, requested: committed, committed, ..AssignedPartition::default() };
        if let Some(before) = self.assigned.insert(partition, assigned) {
            before.assignment.is_over.store(true, Ordering::Release);
        }
    }

    /// Removes partitions, which belong to other members from here on.
    pub(super) fn forget<'a>(&mut self, partitions: impl IntoIterator<Item = &'a Partition>) {
        for partition in partitions {
            if let Some(assigned) = self.assigned.remove(partition) {
                assigned.assignment.is_over.store(true, Ordering::Release);
            }
        }
        self.open.retain(|open| !open.assignment.is_over());
    }

    /// The partitions that belong to this process, in no order.
    pub(super) fn assigned(&self) -> impl Iterator<Item = &Partition> {
        self.assigned.keys()
    }

    /// The assignment of a partition that belongs to this process.
    pub(super) fn assignment(&self, partition: &Partition) -> Option<&Arc<Assignment>> {
        self.assigned.get(partition).map(|assigned| &assigned.assignment)
    }

    /// The offset that the next message of `partition` should have, as far as it is known.
    pub(super) fn expected(&self, partition: &Partition) -> Option<i64> {
        self.assigned.get(partition).and_then(AssignedPartition::expected)
    }

    /// Notes that this many messages of `partition`, up to before `next_offset`, are handed out.
    pub(super) fn deliver(&mut self, partition: &Partition, next_offset: i64, messages: usize) -> Receipt {
        let receipt = self.receipt();
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.delivered = Some(next_offset);
            assigned.delivered_messages += messages as u64;
            // It goes back if the topic was made anew.
            assigned.passed = assigned.passed.filter(|passed| *passed <= next_offset);
            let (partition, assignment) = (partition.clone(), Arc::clone(&assigned.assignment));
            let messages = assigned.delivered_messages;
            self.open.push_back(Open { receipt, partition, assignment, next_offset, messages });
        }
        receipt
    }

    /// Notes a gap: the message at `to` followed the one before `from`.
    pub(super) fn leave_out(&mut self, partition: &Partition, from: i64, to: i64) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.gaps.add(OffsetGap { from, to });
        }
    }

    /// Forgets the gaps of a partition that goes back: what it left out it will leave out again.
    pub(super) fn go_back(&mut self, partition: &Partition) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.gaps = OffsetGaps::default();
        }
    }

    /// Updates the watermarks of a partition. Returns what is lost of the gaps that they can judge. Where no broker leads the
    /// partition its end is unknown, and stays the last one that was known.
    pub(super) fn update_watermarks(&mut self, partition: &Partition, marks: Watermarks) -> Option<Loss> {
        let assigned = self.assigned.get_mut(partition)?;
        let end = if marks.end < 0 { assigned.marks.map_or(marks.end, |known| known.end) } else { marks.end };
        assigned.first_end = assigned.first_end.or((end >= 0).then_some(end));
        assigned.marks = Some(Watermarks { end, ..marks });
        assigned.gaps.examine(marks)
    }

    /// Those of the partitions with gaps that wait to be examined, and are longer than a marker.
    pub(super) fn unexamined(&self, partitions: &[Partition]) -> Vec<Partition> {
        let is_one =
            |one: &&Partition| self.assigned.get(one).is_some_and(|assigned| assigned.gaps.are_long());
        partitions.iter().filter(is_one).cloned().collect()
    }

    /// What is lost of the gaps of a partition, if the broker's first message was at `start` after all of them.
    pub(super) fn examine_all(&mut self, partition: &Partition, start: i64) -> Option<Loss> {
        self.assigned.get_mut(partition)?.gaps.examine_all(start)
    }

    /// Where a partition ends, as far as is known; negative where it is not.
    pub(super) fn end(&self, partition: &Partition) -> i64 {
        self.assigned.get(partition).and_then(|assigned| assigned.marks).map_or(-1, |marks| marks.end)
    }

    /// Notes where a partition ends that is not fetched at present, and so goes on from where it ended.
    pub(super) fn raise_end(&mut self, partition: &Partition, end: i64) {
        if let Some(marks) = self.assigned.get_mut(partition).and_then(|assigned| assigned.marks.as_mut()) {
            marks.end = marks.end.max(end);
        }
    }

    /// All fetched messages have been handed out: a partition without more has reached its end, whatever lies before it that
    /// is no message. Returns the losses among that.
    pub(super) fn pass_ends(&mut self) -> Vec<(Partition, Loss)> {
        let mut lost = Vec::new();
        for (partition, assigned) in &mut self.assigned {
            let Some(marks) = assigned.marks.filter(|marks| marks.is_at_end) else { continue };
            // A committed offset may lie beyond the end: of a topic that was made anew, say.
            let read = assigned.passed.max(assigned.delivered);
            if read.is_some_and(|read| read >= marks.next) {
                continue;
            }
            let expected = assigned.expected();
            assigned.passed = Some(marks.next);
            assigned.settle_end();
            if let Some(expected) = expected {
                let gap = OffsetGap { from: expected, to: marks.next };
                lost.extend(gap.loss(marks.start).map(|loss| (partition.clone(), loss)));
            }
        }
        lost
    }

    /// Whether all partitions are read to their end, as far as the client knows, or to where they ended first: to some of them
    /// more may come all the time.
    pub(super) fn are_at_end(&self) -> bool {
        self.assigned.values().all(AssignedPartition::is_at_end)
    }

    /// Messages that are left to be read, or to be committed.
    pub(super) fn lag(&self) -> u64 {
        self.assigned.values().map(AssignedPartition::lag).sum()
    }

    /// Messages that are left to be read.
    pub(super) fn waiting(&self) -> u64 {
        self.assigned.values().map(AssignedPartition::waiting).sum()
    }

    /// Messages of `partitions` that are counted and not confirmed by the broker.
    pub(super) fn counted_again<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> u64 {
        let assigned = partitions.into_iter().filter_map(|partition| self.assigned.get(partition));
        assigned.map(|assigned| assigned.acknowledged_messages - assigned.committed_messages).sum()
    }

    /// A receipt for a delivery without messages.
    pub(super) fn receipt(&mut self) -> Receipt {
        self.last_receipt += 1;
        Receipt(self.last_receipt)
    }

    /// Notes that every delivery up to and including `receipt` has an outcome.
    pub(super) fn acknowledge(&mut self, receipt: Receipt) {
        while let Some(open) = self.open.pop_front_if(|open| open.receipt <= receipt) {
            if let Some(assigned) = self.assigned.get_mut(&open.partition)
                && Arc::ptr_eq(&assigned.assignment, &open.assignment)
            {
                assigned.acknowledged = Some(open.next_offset);
                assigned.acknowledged_messages = open.messages;
                assigned.unconfirmed.push_back((open.next_offset, open.messages));
                assigned.settle_end();
            }
        }
    }

    /// Whether everything that was handed out of `partitions` is acknowledged.
    pub(super) fn is_settled<'a>(&self, partitions: impl IntoIterator<Item = &'a Partition>) -> bool {
        partitions
            .into_iter()
            .filter_map(|partition| self.assigned.get(partition))
            .all(|assigned| assigned.delivered == assigned.acknowledged)
    }

    /// The acknowledged offsets that are not requested yet; they count as requested from here on.
    pub(super) fn request(&mut self) -> Vec<(Partition, i64)> {
        let due = self.assigned.iter_mut().filter_map(|(partition, assigned)| {
            let offset = assigned.acknowledged.filter(|_| assigned.acknowledged != assigned.requested)?;
            assigned.requested = Some(offset);
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
            let assigned = self.assigned.get(partition)?;
            let offset = assigned.acknowledged.filter(|_| assigned.acknowledged != assigned.committed)?;
            Some((partition.clone(), offset))
        });
        unconfirmed.collect()
    }

    /// Notes that the broker has confirmed `offset`. Answers come in the order of the requests.
    pub(super) fn confirm(&mut self, partition: &Partition, offset: i64) {
        if let Some(assigned) = self.assigned.get_mut(partition) {
            assigned.committed = Some(offset);
            // Offsets only grow, except for a topic that was made anew.
            let is_known = assigned.unconfirmed.iter().any(|(known, _)| *known == offset);
            while let Some((known, messages)) =
                assigned.unconfirmed.pop_front_if(|(known, _)| is_known || *known <= offset)
            {
                assigned.committed_messages = messages;
                if known == offset {
                    break;
                }
            }
        }
    }

    /// Notes that the broker has refused `offset`: it is requested again, unless a greater one was requested meanwhile.
    pub(super) fn refuse(&mut self, partition: &Partition, offset: i64) {
        if let Some(assigned) = self.assigned.get_mut(partition)
            && assigned.requested == Some(offset)
        {
            assigned.requested = assigned.committed;
        }
    }
}

#[cfg(test)]
mod tests;
