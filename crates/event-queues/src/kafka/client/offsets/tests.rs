use proptest::collection::vec;
use proptest::prelude::*;

use super::gaps::GAPS_MAX;
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
    let loss = offsets.update_watermarks(&partition(0), marks(1800, 3000)).unwrap();
    assert_eq!(loss, Loss { messages: 1 + 800 + 800, expected: 10, offset: 1800 });
    assert_eq!(offsets.update_watermarks(&partition(0), marks(1800, 3000)), None, "it is told once");
    offsets.leave_out(&partition(0), 2100, 2101);
    assert_eq!(offsets.update_watermarks(&partition(0), marks(1800, 3000)), None, "a marker is no message");
    offsets.leave_out(&partition(0), 2200, 2300);
    let loss = offsets.update_watermarks(&partition(0), marks(2250, 3000)).unwrap();
    assert_eq!(loss.messages, 50, "what lies behind the first message was left out by the broker");
}

#[test]
fn watermarks_from_before_a_message_was_fetched_say_nothing_of_the_gap_before_it() {
    let mut offsets = holding(&[0]);
    offsets.deliver(&partition(0), 100, 100);
    offsets.leave_out(&partition(0), 100, 505);
    // Of the time before the deletion; then of the refused fetch, which says nothing of a first message.
    for old in [marks(0, 101), marks(-1, 101), Watermarks { next: -1001, ..marks(-1, 505) }, marks(-1, 605)] {
        assert_eq!(offsets.update_watermarks(&partition(0), old), None);
    }
    let loss = offsets.update_watermarks(&partition(0), marks(505, 605)).unwrap();
    assert_eq!(loss, Loss { messages: 405, expected: 100, offset: 505 });
    assert_eq!(offsets.update_watermarks(&partition(0), marks(505, 605)), None, "it is told once");
}

#[test]
fn a_partition_that_goes_back_forgets_what_it_left_out() {
    let mut offsets = holding(&[0]);
    offsets.leave_out(&partition(0), 100, 505);
    offsets.go_back(&partition(0));
    assert_eq!(offsets.update_watermarks(&partition(0), marks(505, 605)), None);
}

#[test]
fn many_small_gaps_make_room_for_a_large_one() {
    let mut offsets = holding(&[0]);
    (0..10_000).for_each(|at| offsets.leave_out(&partition(0), 10 * at, 10 * at + 1));
    offsets.leave_out(&partition(0), 200_000, 200_500);
    assert_eq!(offsets.assigned[&partition(0)].gaps.len(), GAPS_MAX);
    let loss = offsets.update_watermarks(&partition(0), marks(200_500, 200_501)).unwrap();
    assert!(loss.messages >= 500, "{loss:?}");
}

#[test]
fn an_end_is_reached_though_the_group_has_committed_what_lies_beyond_it() {
    let mut offsets = PartitionOffsets::default();
    offsets.assign(partition(0), Arc::default(), Some(1000));
    offsets.update_watermarks(&partition(0), Watermarks { next: -1001, is_at_end: false, ..marks(0, 0) });
    offsets.pass_ends();
    assert!(!offsets.are_at_end());
    offsets.update_watermarks(&partition(0), marks(0, 0));
    assert_eq!(offsets.pass_ends(), []);
    assert!(offsets.are_at_end());
    assert_eq!(offsets.lag(), 0);
}

#[test]
fn what_comes_while_fetching_is_paused_is_left_to_read() {
    let mut offsets = holding(&[0]);
    offsets.raise_end(&partition(0), 5);
    assert_eq!((offsets.end(&partition(0)), offsets.waiting()), (-1, 0), "nothing is known of it yet");
    offsets.update_watermarks(&partition(0), marks(0, 10));
    offsets.raise_end(&partition(0), 50_010);
    assert_eq!((offsets.end(&partition(0)), offsets.waiting()), (50_010, 50_010));
}

#[test]
fn a_marker_at_the_end_and_what_was_deleted_are_not_left_to_read() {
    let mut offsets = holding(&[0]);
    offsets.update_watermarks(&partition(0), marks(0, 11));
    assert!(!offsets.are_at_end());
    assert_eq!(offsets.lag(), 11);
    let receipt = offsets.deliver(&partition(0), 10, 10);
    assert_eq!(offsets.lag(), 11, "ten to be committed, one that may be a message");
    assert_eq!(offsets.waiting(), 1);
    assert_eq!(offsets.pass_ends(), [], "a marker is no loss");
    assert_eq!(offsets.expected(&partition(0)), Some(11), "what follows follows the marker");
    assert!(offsets.are_at_end());
    assert_eq!(offsets.request(), [], "nothing is committed before its outcome");
    offsets.acknowledge(receipt);
    assert_eq!(offsets.request(), [(partition(0), 11)], "the marker with what stands before it");
    assert!(offsets.is_settled([&partition(0)]));
    assert_eq!((offsets.lag(), offsets.waiting()), (10, 0));
    offsets.confirm(&partition(0), 11);
    assert_eq!((offsets.lag(), offsets.request(), offsets.unconfirmed([&partition(0)])), (0, vec![], vec![]));
    offsets
        .update_watermarks(&partition(0), Watermarks { start: 500, end: 600, next: 520, is_at_end: false });
    assert_eq!((offsets.lag(), offsets.waiting()), (100, 100), "what was deleted is not there to be read");
    assert!(offsets.are_at_end(), "what came since it began is not waited for");
}

#[test]
fn what_was_deleted_to_the_end_is_told_without_a_message_behind_it() {
    let mut offsets = PartitionOffsets::default();
    offsets.assign(partition(0), Arc::default(), Some(100));
    offsets.update_watermarks(&partition(0), marks(600, 600));
    assert_eq!(offsets.lag(), 0);
    let loss = Loss { messages: 500, expected: 100, offset: 600 };
    assert_eq!(offsets.pass_ends(), [(partition(0), loss)]);
    assert_eq!((offsets.expected(&partition(0)), offsets.pass_ends()), (Some(600), vec![]));
    // Whoever reads on does not take it for lost once more.
    assert_eq!(offsets.request(), [(partition(0), 600)]);
    offsets.confirm(&partition(0), 600);
    assert_eq!((offsets.lag(), offsets.counted_again([&partition(0)])), (0, 0));
}

#[test]
fn an_end_that_is_passed_is_committed_when_all_before_it_has_its_outcome_and_only_then() {
    let mut offsets = holding(&[0]);
    let first = offsets.deliver(&partition(0), 10, 10);
    offsets.update_watermarks(&partition(0), marks(0, 1011));
    offsets.pass_ends();
    let second = offsets.deliver(&partition(0), 1020, 9);
    offsets.acknowledge(first);
    assert_eq!(offsets.request(), [(partition(0), 10)], "of what came since not all is settled");
    offsets.acknowledge(second);
    assert_eq!(offsets.request(), [(partition(0), 1020)]);
    // Of a partition without messages, that nobody has read before, there is nothing to remember.
    let mut offsets = holding(&[0]);
    offsets.update_watermarks(&partition(0), marks(0, 0));
    offsets.pass_ends();
    assert_eq!((offsets.request(), offsets.are_at_end()), (vec![], true));
    // What the group has committed beyond the end stays: the partition may have been cut off for a moment.
    let mut offsets = PartitionOffsets::default();
    offsets.assign(partition(0), Arc::default(), Some(1000));
    offsets.update_watermarks(&partition(0), marks(0, 900));
    offsets.pass_ends();
    assert_eq!(offsets.request(), []);
}

#[test]
fn a_partition_that_grows_all_the_time_is_at_its_end_where_it_ended_first() {
    let mut offsets = holding(&[0, 1]);
    let growing = |end| Watermarks { is_at_end: false, ..marks(0, end) };
    offsets.update_watermarks(&partition(0), growing(100));
    offsets
        .update_watermarks(&partition(1), Watermarks { next: -1001, is_at_end: false, ..marks(-1, -1001) });
    offsets.deliver(&partition(0), 99, 99);
    offsets.update_watermarks(&partition(0), growing(150));
    offsets.deliver(&partition(0), 120, 21);
    assert!(!offsets.are_at_end(), "the end of the other one is not known");
    offsets.update_watermarks(&partition(1), growing(7));
    assert!(!offsets.are_at_end());
    offsets.deliver(&partition(1), 7, 7);
    assert!(offsets.are_at_end());
}

#[test]
fn an_end_that_is_not_known_for_want_of_a_leader_stays_that_which_was_known() {
    let mut offsets = holding(&[0]);
    offsets.update_watermarks(&partition(0), marks(0, 100));
    offsets.update_watermarks(&partition(0), Watermarks { next: -1001, is_at_end: false, ..marks(-1, -1) });
    assert_eq!((offsets.end(&partition(0)), offsets.waiting()), (100, 100));
}

#[test]
fn before_a_partition_is_given_up_gaps_longer_than_a_marker_are_examined() {
    let mut offsets = holding(&[0, 1]);
    let all = [partition(0), partition(1)];
    for (from, to) in [(10, 11), (20, 21)] {
        for partition in &all {
            offsets.leave_out(partition, from, to);
        }
    }
    assert_eq!(offsets.unexamined(&all), []);
    offsets.leave_out(&partition(1), 100, 600);
    assert_eq!(offsets.unexamined(&all), [partition(1)]);
    let loss = Loss { messages: 1 + 1 + 500, expected: 10, offset: 600 };
    assert_eq!(offsets.examine_all(&partition(1), 700), Some(loss));
    assert_eq!((offsets.unexamined(&all), offsets.examine_all(&partition(1), 700)), (vec![], None));
}

#[test]
fn what_is_counted_again_is_what_was_acknowledged_and_not_confirmed() {
    let mut offsets = holding(&[0, 1]);
    let all = [partition(0), partition(1)];
    let receipts =
        [(0, 10), (1, 30), (0, 20)].map(|(number, offset)| offsets.deliver(&partition(number), offset, 7));
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
            let assigned = &offsets.assigned[&all[at]];
            prop_assert_eq!(assigned.requested.or(assigned.committed), handed.last().map(|(_, next)| *next));
        }
    }
}
