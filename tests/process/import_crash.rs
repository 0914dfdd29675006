//! An import under `kill -9`: each flush carries exactly the next events of the file, a run goes on where the
//! settled flushes of the one before it ended, and what is counted twice is the one flush that was under way.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use event_queues::files::testing::settled_positions;
use serde_json::Value;

use crate::support;
use crate::support::forwarder::{Configuration, Forwarder};
use crate::support::intake::{Behaviour, Intake, Request};

/// The state of imports, in the queue's directory.
const STATE: &str = "imports-v3.redb";
/// An earlier version's; what takes its place; its copy.
const OLD: &str = "imports.json";
const OLD_NEW: &str = "imports.json.new";
const ASIDE: &str = "imports.json.taken-over";

const EVENTS: usize = 1_500_000;

/// So many events in a row have one campaign, so that its tag says where in the file a send was.
const IN_A_ROW: usize = 1_000;

/// When a run is killed.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// Before its first request.
    BeforeAnyRequest,
    /// While this request is being received, which is then accepted: nobody hears the answer.
    WithinRequest(usize),
    /// When this request has gone out, which is never answered.
    BeforeTheAnswer(usize),
    /// So long after this request was accepted.
    After(usize, Duration),
}

const KILLS: [Kill; 8] = [
    Kill::BeforeAnyRequest,
    Kill::WithinRequest(1),
    Kill::After(1, Duration::ZERO),
    Kill::BeforeTheAnswer(2),
    Kill::WithinRequest(2),
    Kill::After(1, Duration::from_millis(1)),
    Kill::After(1, Duration::from_millis(3)),
    Kill::After(1, Duration::from_millis(100)),
];

/// The file that is imported.
struct File {
    text: String,
    /// Where each event begins, and where the last one ends.
    starts: Vec<u64>,
}

impl File {
    /// Sends of this moment, in lines of different lengths.
    fn generate() -> Self {
        let (mut text, mut starts, now) = (String::new(), Vec::new(), support::unix_now());
        for number in 0..EVENTS {
            starts.push(text.len() as u64);
            let (campaign, padding) = (number / IN_A_ROW, "x".repeat(number * 7 % 150));
            writeln!(
                text,
                r#"{{"event_type":"users.messages.email.Send","id":"{number:032x}","time":{now},"user":{{"user_id":"{padding}"}},"properties":{{"app_group_id":"a","campaign_id":"{campaign}"}}}}"#
            )
            .unwrap();
        }
        starts.push(text.len() as u64);
        Self { text, starts }
    }

    /// How many events lie before a position, which is between two of them.
    fn events_before(&self, position: u64) -> usize {
        self.starts.binary_search(&position).unwrap()
    }
}

/// The sends by campaign of some events of the file.
fn sends_of(events: Range<usize>) -> BTreeMap<usize, usize> {
    let mut sends = BTreeMap::new();
    for number in events {
        *sends.entry(number / IN_A_ROW).or_default() += 1;
    }
    sends
}

/// The sends by campaign of a request.
fn sends_in(request: &Request) -> BTreeMap<usize, usize> {
    let campaign =
        |tags: &[String]| tags.iter().find_map(|tag| tag.strip_prefix("campaign_id:")?.parse().ok());
    let points = request.points.iter();
    points.map(|point| (campaign(&point.tags).unwrap(), usize::try_from(point.value).unwrap())).collect()
}

/// How many bytes of the only file are settled, as the next run will read it.
fn settled(configuration: &Configuration) -> u64 {
    settled_positions(&configuration.home().join("queue")).unwrap().first().copied().unwrap_or_default()
}

/// When the state was written last.
fn written(configuration: &Configuration) -> SystemTime {
    fs::metadata(configuration.home().join("queue").join(STATE)).unwrap().modified().unwrap()
}

/// Waits until a settlement is written that was not `before`, and whole.
async fn wait_until_written(run: &Run<'_>, before: SystemTime, number: usize) {
    let give_up = Instant::now() + support::PATIENCE;
    let (mut last, mut since) = (before, Instant::now());
    while last == before || since.elapsed() < Duration::from_millis(30) {
        assert!(Instant::now() < give_up, "no flush {number}: {:?}", run.kill);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = written(run.configuration);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// Holds a run back until it has made so many requests: between two flushes it stands still for as long as
/// their interval, or it would be at the end of the file with the first one. It never stands still within a
/// flush, so that there is only one under way at a time.
async fn hold_back(run: &Run<'_>, forwarder: &Forwarder, requests: usize) {
    for number in 1..=requests {
        forwarder.signal("STOP");
        tokio::time::sleep(Duration::from_millis(1_020)).await;
        let before = written(run.configuration);
        forwarder.signal("CONT");
        if number < requests {
            wait_until_written(run, before, number).await;
            continue;
        }
        let give_up = Instant::now() + support::PATIENCE;
        while run.requests().len() < number {
            assert!(Instant::now() < give_up, "no flush {number}: {:?}", run.kill);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One run that is killed.
struct Run<'r> {
    configuration: &'r Configuration,
    arguments: &'r [&'r str],
    intake: &'r Intake,
    key: &'r str,
    kill: Kill,
}

impl Run<'_> {
    fn requests(&self) -> Vec<Request> {
        self.intake.requests().into_iter().filter(|request| request.key() == self.key).collect()
    }

    /// Starts the import and kills it.
    async fn run_and_kill(&self) {
        let forwarder = self.configuration.spawn(self.arguments);
        self.lay_trap(forwarder.id());
        support::eventually("the import has begun", async || {
            forwarder.stderr().contains("\"started\"").then_some(())
        })
        .await;
        match self.kill {
            Kill::BeforeAnyRequest => tokio::time::sleep(Duration::from_millis(20)).await,
            Kill::WithinRequest(last) | Kill::BeforeTheAnswer(last) => {
                hold_back(self, &forwarder, last).await;
            }
            Kill::After(last, delay) => {
                hold_back(self, &forwarder, last).await;
                tokio::time::sleep(delay).await;
            }
        }
        forwarder.crash().await;
    }

    /// Lets the intake do its part of the kill.
    fn lay_trap(&self, process: u32) {
        let (requests, kill) = (AtomicUsize::new(0), self.kill);
        let signal = move |name: &str| {
            let sent = Command::new("/bin/kill").args([&format!("-{name}"), &process.to_string()]).status();
            assert!(sent.unwrap().success());
        };
        self.intake.decide(move |_| {
            let number = requests.fetch_add(1, Ordering::Relaxed) + 1;
            match kill {
                Kill::WithinRequest(last) if number == last => {
                    signal("KILL");
                }
                Kill::BeforeTheAnswer(last) if number == last => {
                    // Or the next flush would be under way, too, by the time that the test has a core for the kill.
                    signal("STOP");
                    return Behaviour::Hang;
                }
                _ => {}
            }
            Behaviour::Accept
        });
    }
}

/// The requests of one run carry the events from `start` on, each the next ones. Says where each request
/// ended, `start` first, and which of them were accepted.
fn follow(requests: &[Request], start: usize) -> (Vec<usize>, Vec<bool>) {
    let (mut ends, mut accepted) = (vec![start], Vec::new());
    for request in requests {
        let start = ends[ends.len() - 1];
        let end = start + usize::try_from(request.sends()).unwrap();
        assert_eq!(sends_in(request), sends_of(start..end), "a request holds other events than the next");
        ends.push(end);
        accepted.push(request.answered == Some(202));
    }
    (ends, accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_goes_on_where_its_settled_flushes_ended() {
    let (file, intake) = (File::generate(), Intake::start());
    let configuration = Configuration::new().text("flush.timeout", "20s").set("lanes", "2");
    let path = configuration.file("events.ndjson", &file.text);
    let arguments = ["run", "--once", "--import", path.to_str().unwrap()];
    // A key for each run, so that a request says whose it is.
    let key = |run: usize| format!("{run:032x}");
    let mut positions = vec![0];
    for (run, kill) in KILLS.into_iter().enumerate() {
        let configuration = configuration.clone().connection("acme", &intake.url(), &key(run), &[]);
        let (arguments, key) = (&arguments, &*key(run));
        let run = Run { configuration: &configuration, arguments, intake: &intake, key, kill };
        run.run_and_kill().await;
        positions.push(file.events_before(settled(&configuration)));
    }
    assert!((1..EVENTS).contains(&positions[KILLS.len()]), "there was nothing left to kill: {positions:?}");
    intake.always(Behaviour::Accept);
    let last = configuration.clone().connection("acme", &intake.url(), &key(KILLS.len()), &[]);
    let finished = last.run(&arguments).await;
    assert!(finished.status.success(), "{finished:?}");
    positions.push(file.events_before(settled(&configuration)));
    assert_eq!(positions[KILLS.len() + 1], EVENTS);

    let mut twice = 0;
    for (run, position) in positions.windows(2).enumerate() {
        let (start, settled) = (position[0], position[1]);
        let requests: Vec<_> =
            intake.requests().into_iter().filter(|request| request.key() == key(run)).collect();
        let (ends, accepted) = follow(&requests, start);
        let kill = KILLS.get(run);
        let told = format!("run {run}, {kill:?}: from {start}, requests to {ends:?}, settled {settled}");
        // What is settled are whole flushes, and all of them but the one that was under way.
        let flushes = ends.iter().position(|end| *end == settled).unwrap_or_else(|| unreachable!("{told}"));
        assert!(accepted[..flushes].iter().all(|accepted| *accepted), "{told}");
        assert!(requests.len() - flushes <= 1, "{told}");
        match kill {
            Some(Kill::BeforeAnyRequest) => assert_eq!(requests.len(), 0, "{told}"),
            Some(Kill::WithinRequest(_) | Kill::BeforeTheAnswer(_)) => {
                assert_eq!(requests.len() - flushes, 1, "{told}");
            }
            Some(Kill::After(..)) => {}
            None => assert_eq!(flushes, requests.len(), "{told}"),
        }
        twice += ends
            .windows(2)
            .zip(&accepted)
            .skip(flushes)
            .filter(|(_, accepted)| **accepted)
            .map(|(request, _)| request[1] - request[0])
            .sum::<usize>();
    }
    assert_eq!(intake.sends(), (EVENTS + twice) as u64);
    assert!(twice > 0, "no kill met a request that was accepted and not settled");
    assert_eq!(intake.violations(), Vec::<String>::new());
}

/// What an earlier version remembered, of so many files that are gone and of these.
fn old_state(gone: usize, files: &[(&str, &[u8])]) -> String {
    let record = |path: &str, bytes: usize, sum: u32| {
        format!(
            r#"{}:{{"layout":"lines","position":{bytes},"finished":true,"fingerprint":{{"end":{bytes},"head":{sum},"tail":{sum}}},"settled_at":5}}"#,
            Value::from(path)
        )
    };
    let gone = (0..gone).map(|number| record(&format!("/gone/{number:08}"), number + 1_000, 7));
    let there = files.iter().map(|(path, content)| record(path, content.len(), crc32fast::hash(content)));
    format!(r#"{{"version":1,"files":{{{}}}}}"#, gone.chain(there).collect::<Vec<_>>().join(","))
}

/// So many files of an earlier version's state are gone.
const GONE: usize = 10_000;

/// A queue's directory with an earlier version's state, and a file that it has counted.
struct Earlier {
    configuration: Configuration,
    file: PathBuf,
    queue: PathBuf,
    state: String,
}

impl Earlier {
    fn new(intake: &Intake) -> Self {
        let content = "{\"event_type\":\"users.messages.email.Send\",\"id\":\"1\"}\n".repeat(50);
        let configuration = Configuration::new().connection("acme", &intake.url(), "acme-key", &[]);
        let file = configuration.file("counted.ndjson", &content);
        let key = fs::canonicalize(&file).unwrap();
        let queue = configuration.home().join("queue");
        fs::create_dir(&queue).unwrap();
        let state = old_state(GONE, &[(key.to_str().unwrap(), content.as_bytes())]);
        fs::write(queue.join(OLD), &state).unwrap();
        Self { configuration, file, queue, state }
    }

    fn arguments(&self) -> [&str; 4] {
        ["run", "--once", "--import", self.file.to_str().unwrap()]
    }

    /// What a file of the queue's directory holds, if it is there.
    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.queue.join(name)).ok()
    }

    /// Puts a pipe in the place of a file: whoever opens it waits for somebody at the other end.
    fn put_pipe(&self, name: &str) -> PathBuf {
        let path = self.queue.join(name);
        // It may be there, or not.
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    fn put_file(&self, name: &str, content: &str) {
        let path = self.queue.join(name);
        let new = self.queue.join("put");
        fs::write(&new, content).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// How many records the new state holds by itself.
    fn records(&self) -> usize {
        let alone = tempfile::tempdir().unwrap();
        fs::copy(self.queue.join(STATE), alone.path().join(STATE)).unwrap();
        settled_positions(alone.path()).unwrap().len()
    }

    /// Runs to the end.
    async fn finish(&self) {
        let finished = self.configuration.run(&self.arguments()).await;
        assert!(finished.status.success(), "{finished:?}");
        assert!(finished.stderr.contains("was counted on"), "{}", finished.stderr);
        assert_eq!(self.read(ASIDE).as_ref(), Some(&self.state));
        assert_eq!(settled_positions(&self.queue).unwrap().len(), GONE + 1);
    }
}

/// When taking over is killed. It stands still at a pipe until it is, so that the kill can't come too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The new state is there, and nothing in it.
    BeforeTheCommit,
    /// What was put aside once is being replaced.
    AfterTheCommit,
    /// A copy of the old state is put aside.
    PutAside,
    /// The old state is replaced; this one is killed as it goes on.
    Replaced,
}

impl Moment {
    /// Starts taking over, and kills it.
    async fn kill(self, earlier: &Earlier) {
        earlier.put_file(ASIDE, "an older one");
        match self {
            Self::BeforeTheCommit => {
                let pipe = earlier.put_pipe(OLD);
                let state = earlier.state.clone();
                // It is read once before the new state is begun, and once more behind that.
                thread::spawn(move || fs::write(pipe, state));
            }
            Self::AfterTheCommit | Self::PutAside => drop(earlier.put_pipe(OLD_NEW)),
            Self::Replaced => {}
        }
        let forwarder = earlier.configuration.spawn(&earlier.arguments());
        support::eventually(&format!("{self:?}"), async || {
            let is_reached = match self {
                Self::BeforeTheCommit => earlier.queue.join(STATE).exists(),
                Self::AfterTheCommit => earlier.read(ASIDE).as_deref() != Some("an older one"),
                Self::PutAside => earlier.read(ASIDE).as_ref() == Some(&earlier.state),
                Self::Replaced => earlier.read(OLD).as_ref() != Some(&earlier.state),
            };
            is_reached.then_some(())
        })
        .await;
        forwarder.crash().await;
        match self {
            Self::BeforeTheCommit => earlier.put_file(OLD, &earlier.state),
            Self::AfterTheCommit | Self::PutAside => earlier.put_file(OLD_NEW, "half a li"),
            Self::Replaced => {}
        }
    }
}

#[tokio::test]
async fn an_earlier_versions_state_is_whole_on_either_side_of_the_commit_that_takes_it_over() {
    let intake = Intake::start();
    for moment in [Moment::BeforeTheCommit, Moment::AfterTheCommit, Moment::PutAside, Moment::Replaced] {
        let earlier = Earlier::new(&intake);
        moment.kill(&earlier).await;
        let records = if moment == Moment::BeforeTheCommit { 0 } else { GONE + 1 };
        assert_eq!(earlier.records(), records, "{moment:?}");
        let is_in_place = earlier.read(OLD).as_ref() == Some(&earlier.state);
        assert_eq!(is_in_place, moment != Moment::Replaced, "{moment:?}");
        let is_aside = earlier.read(ASIDE).as_ref() == Some(&earlier.state);
        assert!(is_aside || is_in_place, "{moment:?}");
        earlier.finish().await;
    }
    assert_eq!(intake.requests().len(), 0, "nothing is counted again");
}

#[tokio::test]
async fn what_an_earlier_version_remembered_is_taken_over_whole_whenever_that_is_killed() {
    const KILLS: u32 = 12;
    let intake = Intake::start();
    let begun = Instant::now();
    Earlier::new(&intake).finish().await;
    let whole = begun.elapsed();
    let earlier = Earlier::new(&intake);
    for step in 0..KILLS {
        let forwarder = earlier.configuration.spawn(&earlier.arguments());
        tokio::time::sleep(whole * step / KILLS).await;
        forwarder.crash().await;
    }
    earlier.finish().await;
    assert_eq!(intake.requests().len(), 0, "nothing is counted again");
}
