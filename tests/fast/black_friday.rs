//! What the platform's worst day (`benches/black_friday.rs`) makes of what it has seen. A benchmark runs no tests of its own.

#[path = "../../benches/black_friday/arrivals.rs"]
mod arrivals;
#[path = "../../benches/black_friday/audit.rs"]
mod audit;
#[path = "../../benches/black_friday/lives.rs"]
mod lives;
#[path = "../../benches/black_friday/plan.rs"]
mod plan;
#[path = "../../benches/black_friday/population.rs"]
mod population;
#[path = "../../benches/black_friday/sends.rs"]
mod sends;
#[path = "../../benches/black_friday/truth.rs"]
mod truth;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Parser as _;

use arrivals::{Arrival, Fate, Sender};
use audit::{Audit, Evidence, audit};
use lives::{Flush, Life, Log, name};
use plan::{Plan, Treatment, treatment};
use population::Population;
use sends::tag_of;
use truth::Truth;

/// When the first process is killed, in Unix milliseconds.
const KILLED: i64 = 60_000;

/// How often each tag set is sent.
const SENDS: u32 = 2;

/// A day of two processes: the first counts half of what there is, and is killed; the second counts the rest.
struct Case {
    plan: Plan,
    population: Population,
    truth: Truth,
    lives: Vec<Life>,
    arrivals: Vec<Arrival>,
    judged: BTreeMap<(u16, Vec<String>), u64>,
    committed: u64,
}

impl Case {
    fn new() -> Self {
        let plan = Plan::parse_from(["black_friday", "--connections", "200", "--tag-sets", "2000"]);
        let population = Population::new(plan.connections, plan.tag_sets);
        let sets = vec![SENDS; population.tag_sets() as usize];
        let sends = u64::from(SENDS) * u64::from(population.tag_sets());
        let truth = Truth { sets, sends, seconds: Vec::new(), bytes: 0, behind: Duration::ZERO };
        let (mut lives, mut arrivals, mut judged) = (Vec::new(), Vec::new(), BTreeMap::new());
        for number in 0..2 {
            let (mut log, mut sums) = (Log::default(), [0; 3]);
            for (connection, sends) in (0..).zip(truth.by_connection(&population, plan.connections)) {
                let (sends, treatment) = (sends / 2, treatment(connection, plan.connections));
                let is_failing = treatment == Treatment::Failing;
                let is_slow = treatment == Treatment::Slow;
                // The second one gives up what it sends to slow connections; half of them accept it all the same.
                let is_given_up = is_slow && number == 1;
                let fate = match treatment {
                    Treatment::Failing => Fate::Refused(500),
                    _ if is_given_up && connection % 20 == 3 => Fate::Unanswered,
                    _ => Fate::Accepted,
                };
                let sender = Sender { life: number, generation: 0, connection };
                arrivals.push(Arrival { sender, at: 0, points: 1, sends, bytes: 1, fate });
                if is_failing || is_given_up {
                    let reason = if is_slow { "timeout" } else { "http_5xx" };
                    log.drops.insert((name(connection), reason.to_owned()), sends);
                    sums[2] += sends;
                } else {
                    sums[1] += sends;
                }
                sums[0] += sends;
                if treatment == Treatment::Judged {
                    for set in population.sets_of(connection) {
                        *judged.entry((connection, vec![tag_of(set)])).or_default() += u64::from(SENDS) / 2;
                    }
                }
            }
            // The last one was over too shortly before the kill for its commit to be sure.
            let last = truth.sets.len() as u64 / 10;
            let flush = |sends, over| Flush { series: 1, sends, milliseconds: 1_000, over };
            log.flushes = vec![flush(sums[0] - last, KILLED - 10_000), flush(last, KILLED - 1)];
            let killed = (number == 0).then_some(KILLED);
            log.stopped = (number == 1).then_some(sums);
            let (process, ready_after) = (u32::from(number), Duration::ZERO);
            let member = usize::from(number);
            lives.push(Life {
                number,
                member,
                process,
                ready_after,
                killed,
                stopped_after: ready_after,
                log,
            });
        }
        let committed = sends / 2;
        Self { plan, population, truth, lives, arrivals, judged, committed }
    }

    fn audit(&self) -> Audit {
        audit(&Evidence {
            plan: &self.plan,
            population: &self.population,
            truth: &self.truth,
            lives: &self.lives,
            arrivals: &self.arrivals,
            judged: &self.judged,
            violations: 0,
            spoilt: 0,
            committed_by_killed: self.committed,
            messages: self.truth.sends,
        })
    }

    /// What a process has sent to the smallest connection that is treated like this.
    fn arrival(&self, life: u8, how: Treatment) -> Arrival {
        let is_it = |one: &&Arrival| {
            one.sender.life == life && treatment(one.sender.connection, self.plan.connections) == how
        };
        *self.arrivals.iter().rev().find(is_it).unwrap()
    }
}

fn broken(audit: &Audit) -> Vec<&str> {
    audit.checks.iter().filter(|check| !check.holds).map(|check| check.words.as_str()).collect()
}

#[test]
fn a_day_without_a_fault_is_sound_and_what_was_accepted_too_late_is_no_fault() {
    let audit = Case::new().audit();
    assert_eq!(broken(&audit), [""; 0]);
    assert!(audit.both > 0 && audit.repeated == 0, "{audit:?}");
    assert!(audit.in_words().contains("nothing was counted twice"));
}

#[test]
fn a_request_that_comes_twice_to_a_connection_that_answers_at_once_is_counted_twice() {
    for treatment in [Treatment::Well, Treatment::Judged] {
        let mut case = Case::new();
        case.arrivals.push(case.arrival(1, treatment));
        let audit = case.audit();
        // It is less than what was dropped without an answer elsewhere.
        let found = broken(&audit);
        assert!(found.len() == 1 && found[0].starts_with("more than was produced and"), "{found:?}");
        assert!(audit.in_words().contains("does not come out"));
    }
}

#[test]
fn a_slow_connection_has_no_more_too_late_than_it_dropped_without_an_answer() {
    let mut case = Case::new();
    case.arrivals.push(case.arrival(1, Treatment::Slow));
    assert!(!case.audit().is_sound());
}

#[test]
fn a_machine_that_has_no_room_is_told_from_a_send_that_is_counted_twice() {
    let mut case = Case::new();
    // Accepted, and given up for want of an answer.
    let late = case.arrival(1, Treatment::Well);
    let log = &mut case.lives[1].log;
    let [_, accepted, dropped] = log.stopped.as_mut().unwrap();
    (*accepted, *dropped) = (*accepted - late.sends, *dropped + late.sends);
    *log.drops.entry((name(late.sender.connection), "timeout".to_owned())).or_default() += late.sends;
    let audit = case.audit();
    assert_eq!(broken(&audit), ["dropped for another reason than how Datadog treats the connection"]);
    let words = audit.in_words();
    assert!(words.contains("no room") && words.contains("nothing was counted twice"), "{words}");
}

#[test]
fn a_tag_set_that_is_counted_twice_is_seen() {
    let mut case = Case::new();
    *case.judged.values_mut().next().unwrap() += 1;
    assert_eq!(broken(&case.audit()), ["more than was produced of these ≤ counted again"]);
}

#[test]
fn what_the_killed_process_had_not_committed_may_come_again_as_far_as_it_was_under_way() {
    let again = |sends: u64| {
        let mut case = Case::new();
        // What it had not committed another process counts, too.
        case.committed -= sends;
        let mut arrival = case.arrival(1, Treatment::Well);
        arrival.sends = sends;
        case.arrivals.push(arrival);
        let books = case.lives[1].log.stopped.as_mut().unwrap();
        (books[0], books[1]) = (books[0] + sends, books[1] + sends);
        case.audit()
    };
    let under_way = again(0).under_way;
    assert!(under_way > 0);
    let audit = again(under_way);
    assert_eq!((broken(&audit), audit.repeated), (Vec::new(), under_way));
    assert!(!again(under_way + 1).is_sound());
}

#[test]
fn a_send_that_came_nowhere_is_missing() {
    let mut case = Case::new();
    let lost = case.arrival(0, Treatment::Well).sender;
    case.arrivals.retain(|arrival| arrival.sender != lost);
    assert!(!case.audit().is_sound());
}

#[test]
fn the_command_of_a_short_try_is_that_of_a_short_try() {
    let plan = Plan::parse_from([
        "black_friday",
        "--seconds",
        "60",
        "--rate",
        "5000",
        "--flush",
        "2",
        "--connections",
        "200",
        "--tag-sets",
        "20000",
    ]);
    let command = "make black-friday SECONDS=60 RATE=5000 FLUSH=2 CONNECTIONS=200 TAG_SETS=20000";
    assert_eq!(plan.command(), command);
    let command = "make black-friday SECONDS=480 RATE=60000 FLUSH=10";
    assert_eq!(Plan::parse_from(["black_friday"]).command(), command);
}
