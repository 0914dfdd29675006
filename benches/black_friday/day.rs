//! The day from its morning to its evening: who is started, what happens when, and what is known at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::apache::Cluster;
use super::arrivals::{Arrival, Fate, Sender};
use super::audit::Evidence;
use super::datadog::Datadog;
use super::fleet::{Member, Place, client};
use super::lives::Life;
use super::plan::{COMMIT, FORWARDERS, PARTITIONS, Plan, Times};
use super::population::Population;
use super::producer;
use super::truth::Truth;
use super::watch::{self, Group, Look, Processes};
use crate::support::intake::Intake;
use crate::support::{self};

const TOPIC: &str = "braze.sends";
const GROUP: &str = "braze-datadog";

/// How long the group may take to be arranged, and what waits to be counted.
const PATIENCE: Duration = Duration::from_mins(5);

/// How soon a service manager starts one again that has died.
const RESTART: Duration = Duration::from_secs(5);

/// How often the admin port is asked, as Prometheus does.
const SCRAPE: Duration = Duration::from_secs(15);

/// All that is known of the day.
pub(crate) struct Day {
    pub(crate) plan: Plan,
    pub(crate) population: Arc<Population>,
    pub(crate) truth: Truth,
    pub(crate) lives: Vec<Life>,
    pub(crate) arrivals: Vec<Arrival>,
    /// Accepted sends of the connections that are judged, by connection and tags.
    pub(crate) judged: BTreeMap<(u16, Vec<String>), u64>,
    /// What the real Datadog would not have taken.
    pub(crate) violations: Vec<String>,
    pub(crate) looks: Vec<Look>,
    pub(crate) scrapes: Vec<Scrape>,
    pub(crate) handshakes: u64,
    /// Requests with a key that nobody has, or a body that is none.
    pub(crate) spoilt: u64,
    /// Messages that the one that was killed had committed.
    pub(crate) committed_by_killed: u64,
    /// Messages in the topic at the end.
    pub(crate) messages: u64,
    /// When it really happened.
    pub(crate) times: Times,
    /// The last one is ready again after the upgrade.
    pub(crate) upgraded: f64,
    /// After the last event everything was committed.
    pub(crate) drained: f64,
}

/// What the admin port took for a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrape {
    pub(crate) path: &'static str,
    pub(crate) bytes: usize,
    pub(crate) seconds: f64,
}

impl Day {
    /// What the audit is of.
    pub(crate) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            plan: &self.plan,
            population: &self.population,
            truth: &self.truth,
            lives: &self.lives,
            arrivals: &self.arrivals,
            judged: &self.judged,
            violations: self.violations.len(),
            spoilt: self.spoilt,
            committed_by_killed: self.committed_by_killed,
            messages: self.messages,
        }
    }
}

struct Stage {
    group: Group,
    members: Vec<Member>,
    processes: Processes,
    lives: Vec<Life>,
    started: u8,
    begun: Instant,
    scrapes: Vec<Scrape>,
    scraped: Instant,
}

pub(crate) async fn spend(plan: &Plan) -> Day {
    let broker = Cluster::of_one();
    broker.create_topic(TOPIC, PARTITIONS).await;
    let (datadog, judge) = (Datadog::start(plan.connections), Intake::start());
    let place = Place {
        plan: plan.clone(),
        broker: broker.addresses()[0].clone(),
        topic: TOPIC,
        group: GROUP,
        datadog: datadog.url(),
        certificate: datadog.certificate().to_owned(),
        judge: judge.url(),
    };
    let population = Arc::new(Population::new(plan.connections, plan.tag_sets));
    let mut stage = Stage {
        group: Group::new(broker.client(), TOPIC, GROUP),
        members: (0..FORWARDERS).map(|number| Member::new(number, &place)).collect(),
        processes: Processes::default(),
        lives: Vec::new(),
        started: 0,
        begun: Instant::now(),
        scrapes: Vec::new(),
        scraped: Instant::now(),
    };
    for member in 0..FORWARDERS {
        stage.start(member).await;
    }
    stage.arranged().await;
    let begun = Instant::now();
    stage.begun = begun;
    datadog.begin(begun);
    let is_over = Arc::new(Mutex::new(false));
    let group = Group::new(broker.client(), TOPIC, GROUP);
    let looks =
        watch::start(group, broker.process(0), Arc::clone(&stage.processes), Arc::clone(&is_over), begun);
    let producer = producer::start(broker.client(), TOPIC, plan.clone(), Arc::clone(&population), begun);
    let (mut times, committed_by_killed) = stage.day(plan.times()).await;
    times.upgrade = stage.now();
    stage.upgrade().await;
    let upgraded = stage.now();
    stage.until(times.end).await;
    let truth = tokio::task::spawn_blocking(move || producer.join().unwrap()).await.unwrap();
    let drained = stage.drained().await;
    for member in 0..FORWARDERS {
        stage.stop(member).await;
    }
    *is_over.lock().unwrap() = true;
    let looks = tokio::task::spawn_blocking(move || looks.join().unwrap()).await.unwrap();
    let messages = stage.group.ends().iter().sum::<i64>().try_into().unwrap();
    let mut arrivals = datadog.arrivals();
    let mut judged = BTreeMap::new();
    judgement(&judge, begun, &mut arrivals, &mut judged);
    arrivals.sort_by_key(|arrival| arrival.at);
    Day {
        plan: plan.clone(),
        population,
        truth,
        lives: stage.lives,
        arrivals,
        judged,
        violations: judge.violations(),
        looks,
        scrapes: stage.scrapes,
        handshakes: datadog.handshakes(),
        spoilt: datadog.spoilt(),
        committed_by_killed,
        messages,
        times,
        upgraded,
        drained,
    }
}

impl Stage {
    fn now(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    async fn start(&mut self, member: usize) {
        let number = self.started;
        self.started += 1;
        self.members[member].start(number).await;
        let process = self.members[member].life().process;
        self.processes.lock().unwrap().insert(number, process);
    }

    async fn stop(&mut self, member: usize) {
        let life = self.members[member].stop().await;
        self.processes.lock().unwrap().remove(&life.number);
        self.lives.push(life);
    }

    /// Waits until the partitions are shared evenly.
    async fn arranged(&self) {
        let give_up = Instant::now() + PATIENCE;
        let fair = PARTITIONS as usize / FORWARDERS;
        loop {
            let assignment = self.group.assignment().unwrap_or_default();
            let is_fair = assignment.values().filter(|partitions| partitions.len() == fair).count();
            if is_fair == FORWARDERS {
                return;
            }
            assert!(Instant::now() < give_up, "the group is not arranged: {assignment:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits for a time of the day, and asks the admin ports meanwhile.
    async fn until(&mut self, second: f64) {
        while self.now() < second {
            if self.scraped.elapsed() > SCRAPE {
                self.scraped = Instant::now();
                self.scrape().await;
            }
            let left = Duration::from_secs_f64((second - self.now()).max(0.0));
            tokio::time::sleep(left.min(Duration::from_millis(500))).await;
        }
    }

    async fn scrape(&mut self) {
        let client = support::client(None);
        for member in &self.members {
            for path in ["/metrics", "/status"] {
                let asked = Instant::now();
                let answer = client.get(member.admin_url(path)).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{path}");
                let bytes = answer.bytes().await.unwrap().len();
                self.scrapes.push(Scrape { path, bytes, seconds: asked.elapsed().as_secs_f64() });
            }
        }
    }

    /// Until the upgrade; how many messages the one that is killed had committed.
    async fn day(&mut self, mut times: Times) -> (Times, u64) {
        self.until(times.reload).await;
        times.reload = self.now();
        self.members.iter_mut().for_each(Member::reload);
        self.until(times.kill).await;
        let assignment = self.group.assignment().unwrap_or_default();
        let killed = 0;
        let partitions = assignment.get(&client(killed)).cloned().unwrap_or_default();
        assert_eq!(partitions.len(), PARTITIONS as usize / FORWARDERS, "the group has not changed by itself");
        times.kill = self.now();
        let life = self.members[killed].kill().await;
        self.processes.lock().unwrap().remove(&life.number);
        self.lives.push(life);
        // A commit may still have been on its way. Nobody else has these partitions yet.
        tokio::time::sleep(COMMIT).await;
        let committed = self.group.committed();
        let sum: i64 =
            partitions.iter().map(|partition| committed[usize::try_from(*partition).unwrap()]).sum();
        tokio::time::sleep(RESTART.saturating_sub(COMMIT)).await;
        self.start(killed).await;
        self.until(times.upgrade).await;
        (times, sum.try_into().unwrap())
    }

    async fn upgrade(&mut self) {
        for member in 0..FORWARDERS {
            self.stop(member).await;
            self.start(member).await;
        }
    }

    /// Waits until everything is committed; when that was.
    async fn drained(&self) -> f64 {
        let give_up = Instant::now() + PATIENCE;
        let ends = self.group.ends();
        loop {
            let committed = self.group.committed();
            if committed == ends {
                return self.now();
            }
            assert!(Instant::now() < give_up, "committed {committed:?}, and there are {ends:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What came to the intake that judges, in the words of the other one.
fn judgement(
    judge: &Intake,
    begun: Instant,
    arrivals: &mut Vec<Arrival>,
    judged: &mut BTreeMap<(u16, Vec<String>), u64>,
) {
    for request in judge.requests() {
        let sender = Sender::of_key(request.key()).unwrap();
        let fate = match request.answered {
            Some(202) => Fate::Accepted,
            Some(status) => Fate::Refused(status),
            None => Fate::Unanswered,
        };
        arrivals.push(Arrival {
            sender,
            at: u32::try_from(request.at.duration_since(begun).as_millis()).unwrap(),
            points: u32::try_from(request.points.len()).unwrap(),
            sends: request.sends(),
            bytes: u32::try_from(request.body.len()).unwrap(),
            fate,
        });
        if fate == Fate::Accepted {
            for point in request.points {
                *judged.entry((sender.connection, point.tags)).or_default() += point.value;
            }
        }
    }
}
