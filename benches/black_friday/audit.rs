//! The account of every send, from three sides that know nothing of each other: what the producer has sent, what the forwarders
//! say (books and log), and what came to Datadog.
//!
//! One process is killed. What it had committed has its outcome, and what it had not is counted by others; so its share of the
//! truth is what the broker says that it had committed, and all that it sent beyond that was counted twice. By the contract that
//! is at most the flush that was under way; the audit allows for one before it that was over, by the log, no longer than a commit
//! takes.

use std::collections::BTreeMap;

use super::arrivals::{Arrival, Fate};
use super::lives::{Flush, Life, name};
use super::plan::{COMMIT, Plan, Treatment, treatment};
use super::population::Population;
use super::sends::tag_of;
use super::truth::Truth;

/// What does not hold where the machine is too slow for its day, or a forwarder drops what it should not.
const UNEXPLAINED: &str = "dropped for another reason than how Datadog treats the connection";

/// What it is made of.
#[derive(Debug, Clone)]
pub(crate) struct Evidence<'e> {
    pub(crate) plan: &'e Plan,
    pub(crate) population: &'e Population,
    pub(crate) truth: &'e Truth,
    pub(crate) lives: &'e [Life],
    pub(crate) arrivals: &'e [Arrival],
    /// Accepted sends of the connections that are judged, by connection and tags.
    pub(crate) judged: &'e BTreeMap<(u16, Vec<String>), u64>,
    /// Requests that the real Datadog would not have taken.
    pub(crate) violations: usize,
    /// Requests with a key that nobody has, or a body that is none.
    pub(crate) spoilt: u64,
    /// Messages that the one that was killed had committed.
    pub(crate) committed_by_killed: u64,
    /// Messages in the topic at the end.
    pub(crate) messages: u64,
}

/// Two numbers that must be as the words say.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) words: String,
    pub(crate) left: u64,
    pub(crate) right: u64,
    pub(crate) holds: bool,
}

/// What the audit found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) checks: Vec<Check>,
    /// Sends that were accepted, as Datadog says.
    pub(crate) accepted: u64,
    /// Sends that were dropped, by reason, as the forwarders say.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Sends of the killed process that it lost with their requests: under way, or dropped without a word.
    pub(crate) lost_by_killed: u64,
    /// Sends that were counted once more after the kill.
    pub(crate) repeated: u64,
    /// Accepted by Datadog, and dropped by the forwarder, which had not got the answer in time.
    pub(crate) both: u64,
    /// Sends of the killed process that were in no flush of which its log says that it was settled.
    pub(crate) under_way: u64,
}

impl Audit {
    pub(crate) fn is_sound(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// What it comes to, as a sentence.
    pub(crate) fn in_words(&self) -> &'static str {
        if self.is_sound() {
            "`kill -9` apart nothing was counted twice, and nothing was lost without a reason; what Datadog took after the forwarder had \
             given up is booked as a drop without an answer."
        } else if self.checks.iter().all(|check| check.holds || check.words == UNEXPLAINED) {
            "`kill -9` apart nothing was counted twice, and nothing was lost without a reason. **But connections that are treated well \
             dropped sends, too**: the machine had no room for the day, or it is a fault."
        } else {
            "**The account does not come out**: what does not hold is marked below."
        }
    }

    fn equal(&mut self, words: &str, left: u64, right: u64) {
        self.checks.push(Check { words: words.to_owned(), left, right, holds: left == right });
    }

    fn at_most(&mut self, words: &str, left: u64, right: u64) {
        self.checks.push(Check { words: words.to_owned(), left, right, holds: left <= right });
    }
}

pub(crate) fn audit(day: &Evidence<'_>) -> Audit {
    let mut audit = Audit::default();
    let (killed, clean): (Vec<&Life>, Vec<&Life>) = day.lives.iter().partition(|life| life.killed.is_some());
    audit.accepted = sends(day.arrivals, |arrival| arrival.fate == Fate::Accepted);
    for life in day.lives {
        for ((_, reason), sends) in &life.log.drops {
            *audit.dropped.entry(reason.clone()).or_default() += sends;
        }
    }
    audit.equal("messages in Kafka = sends produced", day.messages, day.truth.sends);
    audit.equal("requests with a key that nobody has, or a body that is none", day.spoilt, 0);
    let mut received = 0;
    for life in clean {
        received += books(day, life, &mut audit);
    }
    audit.equal(
        "sends received by forwarders that ended well + committed by the one that was killed = sends produced",
        received + day.committed_by_killed,
        day.truth.sends,
    );
    for life in killed {
        let at = life.killed.unwrap();
        after_the_kill(day, life, at, &mut audit);
    }
    by_connection(day, &mut audit);
    audit.equal(UNEXPLAINED, unexplained(day), 0);
    by_tag_set(day, &mut audit);
    let errors: Vec<&String> = day.lives.iter().flat_map(|life| &life.log.errors).collect();
    audit.equal("ERROR lines of the forwarders that tell of no drop", errors.len() as u64, 0);
    audit.equal("requests that Datadog would not have taken", day.violations as u64, 0);
    audit
}

fn sends(arrivals: &[Arrival], is_meant: impl Fn(&Arrival) -> bool) -> u64 {
    arrivals.iter().filter(|arrival| is_meant(arrival)).map(|arrival| arrival.sends).sum()
}

/// Drops of which Datadog may have heard, and accepted them.
fn is_ambiguous(reason: &str) -> bool {
    matches!(reason, "timeout" | "connect" | "http_invalid" | "shutdown")
}

/// The books of a process that ended well against its log and what came to Datadog; what it has received.
fn books(day: &Evidence<'_>, life: &Life, audit: &mut Audit) -> u64 {
    let number = life.number;
    let [received, accepted, dropped] =
        life.log.stopped.unwrap_or_else(|| panic!("process {number} has not said how it ended"));
    audit.equal(&format!("process {number}: received = accepted + dropped"), received, accepted + dropped);
    let logged: u64 = life.log.drops.values().sum();
    audit.equal(&format!("process {number}: dropped, in its books = in its log"), dropped, logged);
    let came = sends(day.arrivals, |one| one.sender.life == number && one.fate == Fate::Accepted);
    let both = came.saturating_sub(accepted);
    audit.at_most(
        &format!("process {number}: accepted, as it says ≤ accepted, as Datadog says"),
        accepted,
        came,
    );
    let ambiguous: u64 =
        life.log.drops.iter().filter(|((_, reason), _)| is_ambiguous(reason)).map(|(_, sends)| sends).sum();
    audit.at_most(
        &format!("process {number}: accepted too late ≤ dropped without an answer"),
        both,
        ambiguous,
    );
    audit.both += both;
    received
}

/// Sends of the killed process that were not accepted, by connection: as Datadog knows it, or as its log says, whichever is
/// more, for neither has heard of all.
fn lost(day: &Evidence<'_>, life: &Life) -> BTreeMap<u16, u64> {
    let mut unheard: BTreeMap<u16, u64> =
        (0..day.plan.connections).map(|connection| (connection, 0)).collect();
    for arrival in day.arrivals.iter().filter(|arrival| arrival.sender.life == life.number) {
        let not_accepted = if arrival.fate == Fate::Accepted { 0 } else { arrival.sends };
        *unheard.entry(arrival.sender.connection).or_default() += not_accepted;
    }
    for (connection, lost) in &mut unheard {
        *lost = (*lost).max(logged(life, *connection));
    }
    unheard
}

/// Sends of a connection that a process says to have dropped.
fn logged(life: &Life, connection: u16) -> u64 {
    logged_as(life, connection, |_| true)
}

/// The same for some reasons.
fn logged_as(life: &Life, connection: u16, is_meant: impl Fn(&str) -> bool) -> u64 {
    let name = name(connection);
    let of_it = life.log.drops.range((name.clone(), String::new())..).take_while(|((of, _), _)| *of == name);
    of_it.filter(|((_, reason), _)| is_meant(reason)).map(|(_, sends)| sends).sum()
}

fn after_the_kill(day: &Evidence<'_>, life: &Life, killed: i64, audit: &mut Audit) {
    let accepted = sends(day.arrivals, |one| one.sender.life == life.number && one.fate == Fate::Accepted);
    let lost: u64 = lost(day, life).values().sum();
    let logged: u64 = life.log.drops.values().sum();
    audit.lost_by_killed = lost.saturating_sub(logged);
    let flushes = &life.log.flushes;
    let told: u64 = flushes.iter().map(|flush| flush.sends).sum();
    let certain = told - flushes.last().map_or(0, |flush| flush.sends);
    let fates = accepted + lost;
    audit.under_way = fates.saturating_sub(settled(flushes, killed, day.plan.flush));
    audit.repeated = fates.saturating_sub(day.committed_by_killed);
    audit.at_most(
        "killed: in flushes but the last one that it told of ≤ committed",
        certain,
        day.committed_by_killed,
    );
    audit.at_most("killed: committed ≤ accepted + dropped", day.committed_by_killed, fates);
    audit.at_most("counted again ≤ under way when it was killed", audit.repeated, audit.under_way);
}

/// Sends of a killed process that were committed, if it kept its promise: of all flushes, in the order in which they began, up to
/// the first that was not over for long enough to be committed.
fn settled(flushes: &[Flush], killed: i64, interval: u32) -> u64 {
    /// By then each flush is over that ever will be, in milliseconds.
    const OVER: i64 = 30_000;
    let commit = i64::try_from(COMMIT.as_millis()).unwrap();
    let mut flushes = flushes.to_vec();
    flushes.sort_unstable_by_key(|flush| flush.begun());
    let mut before = None;
    let settled = flushes.iter().take_while(|flush| {
        let begun = flush.begun();
        // One that is not over keeps those that began after it from being committed. It is in no log, but leaves a gap.
        let gap = begun - before.replace(begun).unwrap_or(begun);
        let is_behind_one = begun > killed - OVER && 2 * gap > 3 * 1000 * i64::from(interval);
        flush.over < killed - commit && !is_behind_one
    });
    settled.map(|flush| flush.sends).sum()
}

/// Sends that were dropped for a reason that is not Datadog's treatment of their connection.
fn unexplained(day: &Evidence<'_>) -> u64 {
    let drops = day.lives.iter().flat_map(|life| &life.log.drops);
    let unexplained = drops.filter(|((connection, reason), _)| {
        let number = connection.trim_start_matches('c').parse().unwrap();
        !treatment(number, day.plan.connections).explains(reason)
    });
    unexplained.map(|(_, sends)| sends).sum()
}

/// Every connection has what was sent for it, and what was counted again on top.
fn by_connection(day: &Evidence<'_>, audit: &mut Audit) {
    let connections = day.plan.connections;
    let truth = day.truth.by_connection(day.population, connections);
    let mut fates = vec![0; usize::from(connections)];
    for arrival in day.arrivals.iter().filter(|arrival| arrival.fate == Fate::Accepted) {
        fates[usize::from(arrival.sender.connection)] += arrival.sends;
    }
    for life in day.lives {
        let of_killed = if life.killed.is_some() { lost(day, life) } else { BTreeMap::new() };
        for connection in 0..connections {
            let lost = of_killed.get(&connection).copied().unwrap_or_else(|| logged(life, connection));
            fates[usize::from(connection)] += lost;
        }
    }
    let short = truth.iter().zip(&fates).filter(|(truth, fates)| fates < truth).count();
    audit.equal("connections with fewer sends accepted or dropped than were produced", short as u64, 0);
    // What is accepted too late is no more than its own connection dropped for want of an answer, and nothing is counted twice but after
    // the kill. (What the killed process had accepted too late is in what was counted again.)
    let beyond = (0..connections).zip(truth.iter().zip(&fates)).map(|(connection, (truth, fates))| {
        let clean = day.lives.iter().filter(|life| life.killed.is_none());
        let too_late = match treatment(connection, connections) {
            Treatment::Failing => 0,
            // One that is treated well has none, while the machine has room.
            Treatment::Slow | Treatment::Well | Treatment::Judged => {
                clean.map(|life| logged_as(life, connection, is_ambiguous)).sum()
            }
        };
        fates.saturating_sub(truth + too_late)
    });
    audit.at_most(
        "more than was produced and its connection dropped without an answer, over all connections ≤ counted again",
        beyond.sum(),
        audit.repeated,
    );
}

/// The same for each tag set of the connections that are judged, which drop nothing while the machine has room.
fn by_tag_set(day: &Evidence<'_>, audit: &mut Audit) {
    let connections = day.plan.connections;
    let judged = (0..connections).filter(|one| treatment(*one, connections) == Treatment::Judged);
    let judged: Vec<u16> = judged.collect();
    let dropped: u64 = judged.iter().flat_map(|one| day.lives.iter().map(|life| logged(life, *one))).sum();
    let mut by_tag = BTreeMap::<&str, u64>::new();
    for ((_, tags), sends) in day.judged {
        let of_set = |tag: &&String| tag.starts_with("campaign_id:") || tag.starts_with("canvas_step_id:");
        let tag = tags.iter().find(of_set).unwrap_or_else(|| panic!("a series of no tag set: {tags:?}"));
        *by_tag.entry(tag).or_default() += sends;
    }
    let sets: Vec<u32> = judged.iter().flat_map(|one| day.population.sets_of(*one)).collect();
    let (mut short, mut more, mut found) = (0, 0, 0);
    for set in &sets {
        let truth = u64::from(day.truth.sets[*set as usize]);
        let came = by_tag.remove(&*tag_of(*set)).unwrap_or_default();
        short += truth.saturating_sub(came);
        more += came.saturating_sub(truth);
        found += u64::from(came > 0);
    }
    audit.at_most(
        &format!("sends missing of {found} tag sets that were looked at one by one ≤ dropped of these"),
        short,
        dropped,
    );
    audit.equal("tag sets of judged connections that nobody has sent", by_tag.len() as u64, 0);
    audit.at_most("more than was produced of these ≤ counted again", more, audit.repeated);
}
