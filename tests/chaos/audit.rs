//! The audit at the end of a run: the books of all lives, what came to the intakes, and the truth, held against each
//! other. Each finding is a sentence; a run that has none has kept its promises.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::life::{End, Life};
use super::schedule::{Fault, Trouble};
use super::seen::Seen;
use super::truth::{Cell, Group, Pushed, Truth};

/// Findings that are told, at most.
const FINDINGS_MAX: usize = 20;

/// What the audit compares.
pub(crate) struct Evidence<'e> {
    pub(crate) truth: &'e Truth,
    pub(crate) seen: &'e Seen,
    /// In order; the last one has ended clean, and left nothing in its queue.
    pub(crate) lives: &'e [Life],
}

/// What an audit found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) findings: Vec<String>,
    /// Sends that were counted again after a life that did not end clean.
    pub(crate) repeated: u64,
    /// Sends that were accepted in flushes that were over when their life was cut short.
    pub(crate) settled: u64,
    /// Sends that were dropped, by reason.
    pub(crate) dropped: BTreeMap<String, u64>,
}

impl Verdict {
    fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }

    fn hold(&mut self, is_so: bool, otherwise: impl FnOnce() -> String) {
        if !is_so {
            self.find(otherwise());
        }
    }
}

/// Drops after which the points may be with Datadog all the same: the answer did not come in time.
fn is_ambiguous(reason: &str) -> bool {
    matches!(reason, "timeout" | "connect" | "http_invalid" | "shutdown")
}

/// Drops of which the intake may never have heard.
fn is_unheard(reason: &str) -> bool {
    is_ambiguous(reason) || matches!(reason, "dns" | "late" | "early")
}

pub(crate) fn audit(evidence: &Evidence<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let under_way = UnderWay::of(evidence);
    let mut missing = Missing::default();
    for (number, batch) in (0..).zip(&evidence.truth.batches) {
        if batch.acknowledged.is_none() {
            verdict.find(format!("batch {number} was never answered with 200"));
        }
        for (&(group, campaign), &sends) in &batch.sends {
            let cell = (number, group, campaign);
            judge_cell(evidence, &under_way, batch, cell, sends, &mut missing, &mut verdict);
        }
    }
    let known = evidence.truth.batches.len() as u64;
    for cell in evidence.seen.counted.keys() {
        let is_known = cell.0 < known
            && evidence.truth.batches[usize::try_from(cell.0).unwrap()].sends.contains_key(&(cell.1, cell.2));
        verdict.hold(is_known, || format!("{cell:?} was counted, and nobody has pushed it"));
    }
    for group in Group::ALL {
        judge_drops(evidence, &under_way, group, &missing, &mut verdict);
    }
    for life in evidence.lives {
        judge_life(evidence, life, &mut verdict);
        for drop in &life.log.drops {
            *verdict.dropped.entry(drop.reason.clone()).or_default() += drop.sends;
        }
    }
    for pair in evidence.lives.windows(2) {
        judge_queue(evidence, &pair[0], &pair[1], &mut verdict);
    }
    judge_settled(evidence, &under_way, &mut verdict);
    verdict
}

/// How many of the last requests of a connection may not have been acknowledged when a life ended, of all lives.
struct UnderWay(BTreeMap<(u32, Group), usize>);

impl UnderWay {
    fn of(evidence: &Evidence<'_>) -> Self {
        let of_life = |life: &Life, group| {
            let came = evidence.seen.came(life.number, group).accepted.iter();
            ((life.number, group), life.requests_under_way(came.map(|(at, _)| *at)))
        };
        let lives = evidence.lives.iter();
        Self(lives.flat_map(|life| Group::ALL.map(|group| of_life(life, group))).collect())
    }

    fn requests(&self, life: u32, group: Group) -> usize {
        self.0[&(life, group)]
    }

    /// A flush has at most one request of a connection.
    fn flushes(&self, life: u32) -> usize {
        Group::ALL.map(|group| self.requests(life, group)).into_iter().max().unwrap_or_default()
    }
}

/// A run in which everything that a kill met may be counted again has not shown that the rest is not.
fn judge_settled(evidence: &Evidence<'_>, under_way: &UnderWay, verdict: &mut Verdict) {
    let settled = |life: &Life, group| {
        let accepted = &evidence.seen.came(life.number, group).accepted;
        let over = accepted.len().saturating_sub(under_way.requests(life.number, group));
        accepted.iter().take(over).map(|(_, sends)| sends).sum::<u64>()
    };
    let killed: Vec<&Life> = evidence.lives.iter().filter(|life| life.end == End::Abrupt).collect();
    verdict.hold(killed.iter().any(|life| settled(life, Group::Calm) > 0), || {
        format!("of {} lives that were cut short none had a flush that was certainly over", killed.len())
    });
    verdict.settled =
        killed.iter().map(|life| Group::ALL.map(|group| settled(life, group)).iter().sum::<u64>()).sum();
}

/// Sends that were acknowledged and are not with the intake.
#[derive(Debug, Default)]
struct Missing {
    all: BTreeMap<Group, u64>,
    /// Those that the intake has never refused either.
    unheard: BTreeMap<Group, u64>,
}

/// Holds the sends of one batch that have the same tags against what came of them.
fn judge_cell(
    evidence: &Evidence<'_>,
    under_way: &UnderWay,
    batch: &Pushed,
    cell: Cell,
    sends: u64,
    missing: &mut Missing,
    verdict: &mut Verdict,
) {
    let (number, group, campaign) = cell;
    let none = Vec::new();
    let counted = evidence.seen.counted.get(&cell).unwrap_or(&none);
    let mut by_life: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for part in counted {
        let (in_life, may_repeat) = by_life.entry(part.life).or_default();
        *in_life += part.sends;
        let requests = evidence.seen.came(part.life, group).accepted.len();
        if part.request + under_way.requests(part.life, group) >= requests {
            *may_repeat += part.sends;
        }
    }
    for (life, (in_life, _)) in &by_life {
        verdict.hold(*in_life <= sends, || {
            format!("batch {number}: {in_life} of {sends} {group:?} sends were counted in life {life} alone")
        });
    }
    let total: u64 = by_life.values().map(|(in_life, _)| in_life).sum();
    // Whoever got no answer pushes again, and a new life does not know the ids of the one before. What was pushed twice in
    // one life may be read in two.
    let pushed_again = batch.unanswered.len() as u64;
    let in_batch = sends + u64::from(batch.twice == Some((group, campaign)));
    // What was counted in a flush that was over is counted in no later life.
    let mut certain = 0;
    for (life, (in_life, may_repeat)) in &by_life {
        verdict.hold(certain + in_life <= in_batch * (1 + pushed_again), || {
            format!(
                "batch {number}: {in_life} of {sends} {group:?} sends were counted in life {life}, and {certain} before \
                 in flushes that were over when their life ended: {counted:?}"
            )
        });
        certain += in_life - may_repeat;
    }
    verdict.repeated += total.saturating_sub(sends);
    let lost = sends.saturating_sub(total);
    let refused = evidence.seen.refused.get(&cell).copied().unwrap_or_default();
    *missing.all.entry(group).or_default() += lost;
    *missing.unheard.entry(group).or_default() += lost.saturating_sub(refused);
}

/// Whatever is missing was booked and logged as dropped, and hardly more than that.
fn judge_drops(
    evidence: &Evidence<'_>,
    under_way: &UnderWay,
    group: Group,
    missing: &Missing,
    verdict: &mut Verdict,
) {
    let sum = |what: &dyn Fn(&Life) -> u64| evidence.lives.iter().map(what).sum::<u64>();
    let dropped = sum(&|life| life.dropped(group, |_| true));
    let unheard = sum(&|life| life.dropped(group, is_unheard));
    let all = missing.all.get(&group).copied().unwrap_or_default();
    let missing_unheard = missing.unheard.get(&group).copied().unwrap_or_default();
    verdict.hold(all <= dropped, || {
        format!("{all} {group:?} sends were acknowledged and are missing, and {dropped} were dropped")
    });
    verdict.hold(missing_unheard <= unheard, || {
        format!(
            "{missing_unheard} {group:?} sends were acknowledged and have never come, and {unheard} were dropped for \
             reasons of which the intake does not hear"
        )
    });
    // Every send has one fate; two only if its first one was not acknowledged.
    let acknowledged = evidence.truth.acknowledged(group);
    let accepted = sum(&|life| evidence.seen.came(life.number, group).sum());
    let ambiguous = sum(&|life| life.dropped(group, is_ambiguous));
    let under_way = sum(&|life| {
        let accepted = evidence.seen.came(life.number, group).accepted.iter().rev();
        let requests = under_way.requests(life.number, group);
        accepted.take(requests).map(|(_, sends)| sends).sum::<u64>()
            + life.dropped_under_way(group, under_way.flushes(life.number))
    });
    let again: u64 = evidence.truth.batches.iter().map(|batch| again(batch, group)).sum();
    let (fates, most) = (accepted + dropped, acknowledged + under_way + ambiguous + again);
    verdict.hold(acknowledged <= fates && fates <= most, || {
        format!(
            "{acknowledged} {group:?} sends were acknowledged; {accepted} were accepted and {dropped} dropped, which \
             may be {most} in all: {under_way} under way when a life ended, {ambiguous} without an answer, {again} \
             pushed again"
        )
    });
}

/// Sends of a batch that may be in the queue once more, because nobody knew of the first time.
fn again(batch: &Pushed, group: Group) -> u64 {
    let of_group = batch.sends.iter().filter(|((of, _), _)| *of == group);
    of_group.map(|(_, sends)| sends).sum::<u64>() * batch.unanswered.len() as u64
}

/// The books of one life against what came to the intakes in it.
fn judge_life(evidence: &Evidence<'_>, life: &Life, verdict: &mut Verdict) {
    let (number, end) = (life.number, life.end);
    for group in Group::ALL {
        let came = evidence.seen.came(number, group).sum();
        let told = life.told.accepted.get(&group).copied().unwrap_or_default();
        verdict.hold(told <= came, || {
            format!(
                "life {number} told that {told} {group:?} sends were accepted, and the intake took {came}"
            )
        });
    }
    let is_calm_troubled = life.troubles.iter().any(|trouble| troubles_calm(trouble.fault));
    let calm = life.dropped(Group::Calm, |_| true);
    verdict.hold(calm == 0 || is_calm_troubled, || {
        format!("life {number} dropped {calm} sends of the connection that nothing has happened to")
    });
    judge_log(life, verdict);
    let Some([_, accepted, dropped]) = life.log.stopped else {
        verdict.hold(end != End::Clean, || format!("life {number} ended clean and did not say so"));
        return;
    };
    let sum = |of: &dyn Fn(Group) -> u64| Group::ALL.into_iter().map(of).sum::<u64>();
    let came = sum(&|group| evidence.seen.came(number, group).sum());
    let ambiguous = sum(&|group| life.dropped(group, is_ambiguous));
    verdict.hold(accepted <= came && came <= accepted + ambiguous, || {
        format!(
            "life {number} booked {accepted} sends as accepted, and the intakes took {came}; {ambiguous} had no answer"
        )
    });
    let logged = sum(&|group| life.dropped(group, |_| true));
    verdict.hold(logged == dropped, || {
        format!("life {number} booked {dropped} sends as dropped, and logged {logged}")
    });
}

/// What came out of the queue in a life that ended clean is what was in it before and what was put in, without what
/// the next one found.
fn judge_queue(evidence: &Evidence<'_>, life: &Life, next: &Life, verdict: &mut Verdict) {
    let (Some([received, ..]), Some(before), Some(after)) =
        (life.log.stopped, life.log.waiting, next.log.waiting)
    else {
        return;
    };
    let (certainly, perhaps) = evidence.truth.taken_in(life.number);
    let (least, most) = (before + certainly, before + certainly + perhaps);
    verdict.hold(life.end != End::Clean || (least..=most).contains(&(received + after)), || {
        format!(
            "life {} found {before} events in the queue, took {certainly} (perhaps {perhaps} more), received \
             {received}, and left {after}",
            life.number
        )
    });
}

/// Every ERROR has its reason in what was done to the process.
fn judge_log(life: &Life, verdict: &mut Verdict) {
    let number = life.number;
    for drop in &life.log.drops {
        let explains = |trouble: &Trouble| {
            trouble.concerns(drop.group) && reasons(trouble.fault).contains(&drop.reason.as_str())
        };
        verdict.hold(life.troubles.iter().any(explains), || {
            format!("life {number}: {drop:?}, and nothing explains it: {:?}", life.troubles)
        });
    }
    for error in &life.log.errors {
        let is_explained = life.troubles.iter().any(|trouble| explains(trouble.fault, error));
        verdict
            .hold(is_explained, || format!("life {number}: nothing explains {error}: {:?}", life.troubles));
    }
    for complaint in &life.log.complaints {
        let is_last_word = complaint.starts_with("braze-datadog: ")
            && matches!(life.end, End::QueueStopped | End::NeverStarted | End::Uncommitted);
        verdict.hold(is_last_word, || format!("life {number} said {complaint:?}"));
    }
}

/// Whether a fault can cost sends of the connection whose intake is always well.
fn troubles_calm(fault: Fault) -> bool {
    matches!(fault, Fault::Frozen | Fault::NoDescriptors | Fault::ClockHoursBack | Fault::ClockHoursAhead)
}

/// The reasons for drops that a fault explains.
fn reasons(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::IntakeHangs => &["timeout"],
        // It ends when the connection does.
        Fault::HandshakeStops => &["timeout", "connect"],
        Fault::IntakeResets | Fault::ConnectionRefused | Fault::UnknownAuthority => &["connect"],
        Fault::IntakeAnswersGarbage => &["http_invalid"],
        // It begins with the end of all connections, and of a request that is under way.
        Fault::NameNotResolved => &["dns", "connect"],
        // A full house: a connection that can't be opened, or a file that a resolver can't read.
        Fault::NoDescriptors | Fault::Frozen => &["connect", "dns", "timeout"],
        Fault::IntakeAnswers(400) => &["http_400"],
        Fault::IntakeAnswers(403) => &["http_403"],
        Fault::IntakeAnswers(413) => &["http_413"],
        Fault::IntakeAnswers(429) => &["http_429"],
        Fault::IntakeAnswers(404) => &["http_4xx"],
        Fault::IntakeAnswers(500..) | Fault::IntakeAnswersWithoutEnd(500) => &["http_5xx"],
        Fault::IntakeAnswers(_) | Fault::IntakeRedirects => &["http_unexpected"],
        Fault::ClockHoursBack => &["early"],
        Fault::ClockHoursAhead => &["late"],
        _ => &[],
    }
}

/// Whether a fault explains an ERROR that is no drop.
fn explains(fault: Fault, error: &str) -> bool {
    let is_any = |texts: &[&str]| texts.iter().any(|text| error.contains(text));
    match fault {
        Fault::BadReload => error.contains("the configuration was refused"),
        // It came while the process was about to end, asked or not.
        Fault::GoodReload => {
            error.contains("the configuration was refused") && error.contains("the process is stopping")
        }
        // Neither the configuration nor a new segment can be opened.
        Fault::NoDescriptors => {
            is_any(&["the configuration was refused", "refused a push"])
                && error.contains("Too many open files")
        }
        Fault::DiskFull => error.contains("refused a push") && error.contains("no space left on device"),
        Fault::BrokerGone | Fault::BrokerFrozen => error.contains("kafka: "),
        Fault::SyncFails | Fault::DiskReadOnly => {
            is_any(&["the queue has stopped", "the queue failed", "the queue can't acknowledge any more"])
        }
        _ => false,
    }
}
