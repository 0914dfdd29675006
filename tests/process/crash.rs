//! `kill -9`, again and again under load: every event that was answered with 200 is counted; counted again is
//! at most what the flush held that was under way at a kill.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::support;
use crate::support::braze::{BATCH, Load, by_mark};
use crate::support::forwarder::Configuration;
use crate::support::intake::{Behaviour, Intake, Request};

const ROUNDS: u64 = 6;
const CLIENTS: usize = 4;

/// Flushes are a second apart, and all requests of one come within much less.
const FLUSH: Duration = Duration::from_millis(700);

/// The requests of one run, from its start to its end.
pub(crate) struct Round {
    accepted: Vec<Request>,
}

impl Round {
    pub(crate) fn of(requests: &[Request], is_of_round: impl Fn(&Request) -> bool) -> Self {
        let accepted = |request: &&Request| request.answered == Some(202) && is_of_round(request);
        Self { accepted: requests.iter().filter(accepted).cloned().collect() }
    }

    /// The marks that were counted, each once and whole.
    fn marks(&self) -> BTreeSet<u64> {
        let sums = by_mark(self.accepted.iter().flat_map(|request| &request.points));
        for (mark, sends) in &sums {
            assert_eq!(*sends, BATCH, "batch {mark} was counted in part, or twice in one run");
        }
        sums.into_keys().collect()
    }

    /// The marks of the last flush: the only one that can have been under way when the run was killed.
    fn last_flush(&self) -> BTreeSet<u64> {
        let Some(last) = self.accepted.iter().map(|request| request.at).max() else {
            return BTreeSet::new();
        };
        let under_way = self.accepted.iter().filter(|request| request.at + FLUSH > last);
        by_mark(under_way.flat_map(|request| &request.points)).into_keys().collect()
    }
}

pub(crate) fn kill(process: u32) {
    // The second request of a flush finds the process gone.
    Command::new("/bin/kill").arg("-KILL").arg(process.to_string()).output().unwrap();
}

#[tokio::test]
async fn kill_9_under_load_loses_nothing_and_repeats_at_most_the_flush_under_way() {
    let intake = Intake::start();
    // Each run has keys of its own, by which its requests are known.
    let keys_of = |run: u64| [format!("acme-key-{run}"), format!("rest-key-{run}")];
    let configuration = Configuration::new();
    let of_run = |run: u64| {
        let [acme, rest] = keys_of(run);
        let configuration = configuration.clone().connection("acme", &intake.url(), &acme, &["group-a"]);
        configuration.connection("rest", &intake.url(), &rest, &[])
    };
    let mut forwarder = of_run(0).start().await;
    let load = Load::start(&forwarder.push_url("/v1/events"), CLIENTS, &["group-a", "group-b"]);

    for round in 0..ROUNDS {
        load.more(40).await;
        if round % 2 == 0 {
            // Datadog has the points, and the process is gone before it could hear of it.
            let process = forwarder.id();
            intake.decide(move |_| {
                kill(process);
                Behaviour::Accept
            });
        } else {
            tokio::time::sleep(Duration::from_millis(500 + 170 * round)).await;
            forwarder.signal("KILL");
        }
        assert!(!forwarder.wait().await.success());
        intake.always(Behaviour::Accept);
        forwarder = of_run(round + 1).start().await;
    }
    let batches = load.finish().await;
    let all = async || (by_mark(&intake.accepted()).len() as u64 >= batches).then_some(());
    support::eventually("every batch is counted", all).await;
    assert!(forwarder.stop().await.success());

    assert_eq!(intake.violations(), Vec::<String>::new());
    let requests = intake.requests();
    let of_run = |run| Round::of(&requests, |request| keys_of(run).iter().any(|key| request.key() == key));
    assert_rounds((0..=ROUNDS).map(of_run), batches);
}

/// Holds what the intake has got, run by run, against the promise.
pub(crate) fn assert_rounds(rounds: impl IntoIterator<Item = Round>, batches: u64) {
    let (mut counted, mut repeated, mut may_repeat) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for round in rounds {
        let marks = round.marks();
        let again: BTreeSet<u64> = &marks & &counted;
        let wrong = &again - &may_repeat;
        assert!(wrong.is_empty(), "counted again, though no flush with them was under way: {wrong:?}");
        // A run that was killed before it had counted them leaves them to the next one.
        may_repeat = &(&may_repeat - &marks) | &round.last_flush();
        repeated.extend(again);
        counted.extend(marks);
    }
    assert_eq!(counted, (0..batches).collect(), "of {batches} batches");
    assert!(!repeated.is_empty(), "no kill has hit a flush: this test has shown nothing");
}
