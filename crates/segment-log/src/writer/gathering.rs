//! How long a group waits for more appends: an fsync costs the same for one frame as for ten, 50 µs of CPU time, and so does
//! waking those behind it.
//!
//! Two kinds of senders are told apart. Who waits for an answer before sending the next is there again soon after it, so the
//! group waits, in short steps, until as many appends are there as the last time. Where many send when they please, more keep
//! coming, however long the group waits; it then waits for a fixed time. Which of the two it is shows in whether the second
//! half of that time brings anything: it is tried now and then.

use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{GROUP_MAX, WriterCommand};

/// For those who wait for answers: so many steps at most.
const STEPS: usize = 4;
const STEP: Duration = Duration::from_micros(250);

/// For those who don't: two of these.
const HALF: Duration = Duration::from_millis(1);

/// Groups from one trial to the next: two waits in vain are less than a hundredth of them.
const TRIAL_EVERY: u32 = 512;

/// Second halves in vain, more than those that brought something, that end a trial.
const TRIAL_CREDIT: u8 = 2;

/// The same, at most, after many that brought something.
const CREDIT_MAX: u8 = 8;

/// What the last groups say about the senders.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Appends of the last group.
    together: usize,
    /// Above 0 the fixed time is waited.
    credit: u8,
    /// Groups since the last trial.
    since_trial: u32,
    /// Some group since then had several appends: a single sender who waits for answers is never held up.
    has_several: bool,
}

impl Gathering {
    /// Waits for what may come soon, and adds it to `group`.
    pub(super) fn gather(
        &mut self,
        group: &mut Vec<WriterCommand>,
        commands: &mut mpsc::Receiver<WriterCommand>,
    ) {
        if self.credit > 0 && appends_in(group) > 0 {
            wait(HALF, group, commands);
            let first_half = appends_in(group);
            wait(HALF, group, commands);
            self.note_second_half(appends_in(group) > first_half);
        } else {
            for _ in 0..STEPS {
                if appends_in(group) >= self.together {
                    break;
                }
                wait(STEP, group, commands);
            }
        }
        self.note(appends_in(group));
    }

    /// The second half of the fixed time has brought something, or not.
    fn note_second_half(&mut self, has_brought: bool) {
        self.credit = if has_brought { CREDIT_MAX.min(self.credit + 1) } else { self.credit - 1 };
    }

    /// A group had so many appends.
    fn note(&mut self, appends: usize) {
        self.together = appends;
        self.has_several |= appends > 1;
        self.since_trial = if self.credit > 0 { 0 } else { self.since_trial + 1 };
        if self.since_trial >= TRIAL_EVERY {
            self.since_trial = 0;
            if std::mem::take(&mut self.has_several) {
                self.credit = TRIAL_CREDIT;
            }
        }
    }
}

fn wait(time: Duration, group: &mut Vec<WriterCommand>, commands: &mut mpsc::Receiver<WriterCommand>) {
    thread::sleep(time);
    while group.len() < GROUP_MAX
        && let Ok(command) = commands.try_recv()
    {
        group.push(command);
    }
}

fn appends_in(group: &[WriterCommand]) -> usize {
    group.iter().filter(|command| matches!(command, WriterCommand::Append(..))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many groups in a row, each with so many appends, and whether the second half of a wait brings any; returns in how many
    /// the fixed time was waited.
    fn waited(gathering: &mut Gathering, groups: u32, appends: usize, brings: impl Fn(u32) -> bool) -> u32 {
        let mut waited = 0;
        for number in 0..groups {
            if gathering.credit > 0 {
                waited += 1;
                gathering.note_second_half(brings(number));
            }
            gathering.note(appends);
        }
        waited
    }

    #[test]
    fn a_single_sender_who_waits_for_answers_is_never_held_up() {
        assert_eq!(waited(&mut Gathering::default(), 10_000, 1, |_| false), 0);
    }

    #[test]
    fn several_who_wait_for_answers_are_held_up_twice_in_a_while() {
        assert_eq!(waited(&mut Gathering::default(), 10 * (TRIAL_EVERY + 2), 8, |_| false), 20);
    }

    #[test]
    fn where_appends_keep_coming_they_are_waited_for_until_they_do_no_more() {
        let mut gathering = Gathering::default();
        // Two of three bring something.
        let groups = TRIAL_EVERY + 10_000;
        assert_eq!(waited(&mut gathering, groups, 3, |number| number % 3 > 0), 10_000);
        assert_eq!(waited(&mut gathering, 100, 3, |_| false), u32::from(CREDIT_MAX));
        // And again, with the next trial.
        assert!(waited(&mut gathering, groups, 3, |_| true) > 9_000);
    }
}
