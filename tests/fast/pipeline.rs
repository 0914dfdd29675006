//! The pipeline, between a scripted queue and a scripted intake. The clock is real, for the lanes are threads
//! that a paused clock would run away from; intervals are short instead.
#![expect(clippy::disallowed_methods, reason = "a test that ends takes its tasks down with its runtime")]
#![expect(clippy::cast_possible_truncation, reason = "numbers are small")]

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braze_datadog::connection::Connection;
use braze_datadog::forwarder_points::heartbeat;
use braze_datadog::forwarder_points::metrics::{ProcessProbe, ProcessState, READY};
use braze_datadog::pipeline::{Ended, Pipeline, PipelineCommand, PipelineSettings};
use datadog_points::ApiKey;
use datadog_points::outcome::FailureReason;
use datadog_points::site::Site;
use event_lanes::LaneSettings;
use event_lanes::clock::Clock;
use event_lanes::stats::{DropReason, Stats};
use proptest::prelude::*;
use send_counts::aggregate::AggregateSettings;
use send_counts::aggregate::Late;
use send_counts::aggregate::tags::{self, Layout, Names, Tag};
use send_counts::dedup;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::fakes::{Behaviour, FakeIntake, FakeQueue};

const NOW: u64 = 1_800_000_000;

fn connection(name: &str, app_groups: &[&str]) -> Connection {
    Connection {
        site: Site { name: "US1".into(), base_url: "https://api.datadoghq.com".into() },
        api_key: ApiKey::new("k"),
        app_group_ids: app_groups.iter().map(|id| (*id).into()).collect(),
        metric: "braze.messaging.sent".into(),
        dry_run: false,
        ..Connection::named(name.into())
    }
}

fn layout(static_tags: &[&str]) -> Arc<Layout> {
    let static_tags = static_tags.iter().map(|tag| (*tag).into()).collect();
    Arc::new(Layout::new(&tags::TagSettings {
        include: Tag::ALL.to_vec(),
        static_tags,
        names: Names::Latest,
    }))
}

/// A reload, and what tells that it is in force.
fn reload(connections: Vec<Connection>, static_tags: &[&str]) -> (PipelineCommand, oneshot::Receiver<()>) {
    let (in_force, is_in_force) = oneshot::channel();
    let connections = connections.into();
    (PipelineCommand::Reload { connections, layout: layout(static_tags), in_force }, is_in_force)
}

fn settings() -> PipelineSettings {
    PipelineSettings {
        lanes: LaneSettings {
            lanes: 3,
            event_types: vec!["users.messages.email.Send".into()],
            aggregate: AggregateSettings {
                flush_interval: Duration::from_millis(50),
                flush_timeout: Duration::from_millis(300),
                ..send_counts::testing::aggregate_settings(1000)
            },
            dedup: dedup::DedupSettings { window: Duration::from_mins(10), max_ids: 1_000_000 },
        },
        shutdown_timeout: Duration::from_secs(10),
    }
}

/// Those of [`settings`], with another flush interval.
fn flushing_every(flush_interval: Duration) -> PipelineSettings {
    let mut settings = settings();
    settings.lanes.aggregate.flush_interval = flush_interval;
    settings
}

/// Those of [`settings`], with another time for a request.
fn with_timeout(flush_timeout: Duration) -> PipelineSettings {
    let mut settings = settings();
    settings.lanes.aggregate.flush_timeout = flush_timeout;
    settings
}

fn line(id: u64, app_group: &str, campaign: &str) -> String {
    line_at(NOW, id, app_group, campaign)
}

fn line_at(time: u64, id: u64, app_group: &str, campaign: &str) -> String {
    format!(
        r#"{{"event_type":"users.messages.email.Send","id":"id-{id}","time":{time},"properties":{{"app_group_id":"{app_group}","campaign_id":"{campaign}"}}}}"#
    )
}

/// `deliveries` deliveries of ten sends each, two app groups in turn.
fn bodies(deliveries: u64) -> Vec<String> {
    let body = |delivery: u64| {
        let one = |event: u64| {
            line(delivery * 10 + event, if event.is_multiple_of(2) { "even" } else { "odd" }, "c1") + "\n"
        };
        (0..10).map(one).collect()
    };
    (0..deliveries).map(body).collect()
}

struct Rig {
    intake: Arc<FakeIntake>,
    stats: Arc<Stats>,
    pipeline: Pipeline<FakeIntake>,
    commands: mpsc::Sender<PipelineCommand>,
    commanded: mpsc::Receiver<PipelineCommand>,
    /// What the clock shows.
    now: Arc<AtomicU64>,
}

impl Rig {
    /// Both connections answer when a permit is given.
    fn shut(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        for connection in ["a", "b"] {
            self.intake.set(connection, Behaviour::Gate(Arc::clone(&gate)));
        }
        gate
    }

    fn new(settings: PipelineSettings, connections: Vec<Connection>) -> Self {
        let (intake, stats) = (Arc::new(FakeIntake::default()), Arc::new(Stats::new()));
        let now = Arc::new(AtomicU64::new(NOW));
        let clock = Clock::set_by(Arc::clone(&now));
        let pipeline = Pipeline::start(
            Arc::clone(&intake),
            settings,
            connections.into(),
            layout(&[]),
            Arc::clone(&stats),
            clock,
        )
        .unwrap();
        let (commands, commanded) = mpsc::channel(4);
        Self { intake, stats, pipeline, commands, commanded, now }
    }

    /// Two connections: `a` serves `even`, `b` the rest.
    fn of_two(settings: PipelineSettings) -> Self {
        Self::new(settings, vec![connection("a", &["even"]), connection("b", &[])])
    }

    async fn run(&mut self, queue: &mut FakeQueue) -> Ended {
        self.pipeline.run(queue, &mut self.commanded).await.unwrap()
    }

    fn dropped(&self, connection: &str) -> HashMap<DropReason, u64> {
        self.stats.snapshot().connections[connection].dropped.clone().into_iter().collect()
    }
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_queue_is_counted_to_its_end_and_acknowledged_whole() {
    let mut rig = Rig::of_two(settings());
    let mut queue = FakeQueue::new(bodies(100));
    assert_eq!(rig.run(&mut queue).await, Ended::QueueEnded);
    assert_eq!((rig.intake.total("a"), rig.intake.total("b")), (500, 500));
    assert_eq!(queue.acknowledged(), 100);
    let books = rig.stats.snapshot();
    assert!(books.balance());
    assert_eq!((books.received, books.accepted(), books.pending()), (1000, 1000, 0));
}

#[tokio::test]
async fn it_runs_for_years_until_it_is_stopped() {
    let mut rig = Rig::of_two(settings());
    let mut queue = FakeQueue::new(bodies(10)).waiting();
    let (feed, stats, commands) = (queue.clone(), Arc::clone(&rig.stats), rig.commands.clone());
    let mut years = Box::pin(async {
        for year in 1..=3 {
            eventually("all are accepted", || stats.snapshot().accepted() == 100 * year).await;
            tokio::time::pause();
            tokio::time::advance(Duration::from_hours(366 * 24)).await;
            tokio::time::resume();
            tokio::time::sleep(Duration::from_millis(100)).await;
            bodies(10 * (year + 1)).drain(10 * year as usize..).for_each(|body| feed.push(body));
        }
        eventually("all are accepted", || stats.snapshot().accepted() == 400).await;
    });
    {
        let mut run = Box::pin(rig.run(&mut queue));
        tokio::select! {
            ended = &mut run => panic!("it ended by itself: {ended:?}"),
            () = &mut years => {}
        }
        commands.send(PipelineCommand::Stop).await.unwrap();
        assert_eq!(run.await, Ended::Stopped);
    }
    assert_eq!((queue.acknowledged(), rig.stats.snapshot().dropped()), (40, 0));
}

/// Counts 100 sends for `a` and as many for `b`, sets the clock before any is sent, and runs on to the end.
async fn set_the_clock(late: Late, seconds: u64) -> Rig {
    let mut settings = flushing_every(Duration::from_mins(1));
    settings.lanes.aggregate.late = late;
    let mut rig = Rig::of_two(settings);
    let mut queue = FakeQueue::new(bodies(20)).waiting();
    let (stats, now, commands) = (Arc::clone(&rig.stats), Arc::clone(&rig.now), rig.commands.clone());
    let mut setting = JoinSet::new();
    setting.spawn(async move {
        eventually("all are counted", || stats.snapshot().counted() == 200).await;
        now.store(seconds, Ordering::Relaxed);
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    assert_eq!(rig.run(&mut queue).await, Ended::Stopped);
    assert_eq!(queue.acknowledged(), 20);
    let books = rig.stats.snapshot();
    assert!(books.balance());
    assert_eq!((books.counted(), books.pending()), (200, 0));
    rig
}

#[tokio::test]
async fn what_left_the_window_before_it_is_sent_is_not_booked_as_accepted() {
    for (now, reason) in [(NOW + 86_403, DropReason::Late), (NOW - 86_403, DropReason::Early)] {
        let rig = set_the_clock(Late::Drop, now).await;
        for name in ["a", "b"] {
            assert_eq!((rig.intake.requests(name), rig.dropped(name)), (0, HashMap::from([(reason, 100)])));
        }
    }
    let rig = set_the_clock(Late::Restamp, NOW + 86_403).await;
    for name in ["a", "b"] {
        assert_eq!((rig.intake.total(name), rig.dropped(name)), (100, HashMap::new()));
        assert_eq!(rig.intake.series(name)[0][0]["points"][0][0], NOW + 86_400);
    }
}

#[tokio::test]
async fn a_flush_makes_one_point_per_series_however_many_lanes_counted_it() {
    let settings = flushing_every(Duration::from_mins(1));
    let mut rig = Rig::of_two(settings);
    rig.run(&mut FakeQueue::new(bodies(200))).await;
    for name in ["a", "b"] {
        let payloads = rig.intake.series(name);
        assert_eq!((payloads.len(), payloads[0].len()), (1, 1));
        assert_eq!(payloads[0][0]["points"], serde_json::json!([[NOW, [1000]]]));
    }
}

/// Or the minimum over several forwarders would be that of one of them, in turn.
#[tokio::test]
async fn own_points_have_the_first_second_of_their_interval_whenever_a_forwarder_flushes() {
    for phase in [5, 35, 59] {
        let teller = Connection { heartbeat: true, forwarder_metrics: true, ..connection("a", &["even"]) };
        let mut rig = Rig::new(flushing_every(Duration::from_mins(1)), vec![teller, connection("b", &[])]);
        rig.pipeline.probe(ProcessProbe::new(ProcessState::default));
        rig.now.store(NOW + phase, Ordering::Relaxed);
        rig.run(&mut FakeQueue::new(bodies(1))).await;
        let series = rig.intake.series("a").concat();
        for metric in [READY, heartbeat::METRIC, "braze.messaging.sent"] {
            let one = series.iter().find(|series| series["metric"] == metric).expect(metric);
            assert_eq!(one["points"][0][0], NOW, "{metric}, {phase} seconds later");
        }
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_every_batch_that_answers_for_it_has_an_outcome() {
    let mut settings = settings();
    settings.lanes.aggregate.flush_timeout = Duration::from_secs(30);
    let mut rig = Rig::of_two(settings);
    let gate = Arc::new(Semaphore::new(0));
    rig.intake.set("a", Behaviour::Gate(Arc::clone(&gate)));
    let mut queue = FakeQueue::new(bodies(3));
    let (watched, intake) = (queue.clone(), Arc::clone(&rig.intake));
    let opened = tokio::spawn(async move {
        eventually("both are sent to", || intake.requests("a") > 0 && intake.requests("b") > 0).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let early = watched.acknowledged();
        gate.add_permits(1000);
        early
    });
    rig.run(&mut queue).await;
    assert_eq!(opened.await.unwrap(), 0, "acknowledged while a request was open");
    assert_eq!(queue.acknowledged(), 3);
}

#[tokio::test]
async fn a_request_that_fails_is_dropped_once_and_booked_with_its_reason() {
    let refused =
        [FailureReason::Http400, FailureReason::Http403, FailureReason::Http5xx, FailureReason::Connect];
    let outcomes = refused.map(|reason| (Behaviour::Refuse(reason), reason));
    for (behaviour, reason) in outcomes.into_iter().chain([(Behaviour::Panic, FailureReason::Defect)]) {
        let mut rig = Rig::of_two(settings());
        rig.intake.set("a", behaviour);
        let mut queue = FakeQueue::new(bodies(2));
        rig.run(&mut queue).await;
        assert_eq!(rig.dropped("a"), HashMap::from([(DropReason::Failed(reason), 10)]));
        assert_eq!(rig.intake.total("a"), 10, "each send went out exactly once");
        assert_eq!(rig.intake.total("b"), 10);
        assert_eq!(queue.acknowledged(), 2, "a drop is an outcome");
        assert!(rig.stats.snapshot().balance());
    }
}

#[tokio::test]
async fn a_connection_that_hangs_delays_nobody() {
    // Longer than `eventually` waits.
    let mut rig = Rig::of_two(with_timeout(Duration::from_mins(1)));
    let gate = Arc::new(Semaphore::new(0));
    rig.intake.set("a", Behaviour::Gate(Arc::clone(&gate)));
    let mut queue = FakeQueue::new([]).waiting();
    let (feed, intake, commands) = (queue.clone(), Arc::clone(&rig.intake), rig.commands.clone());
    let stats = Arc::clone(&rig.stats);
    let feeding = tokio::spawn(async move {
        for (number, body) in (1..).zip(bodies(30)) {
            feed.push(body);
            eventually("b gets it", || intake.total("b") == 5 * number).await;
        }
        eventually("b is booked", || stats.snapshot().accepted() == 150).await;
        let early = (feed.acknowledged(), stats.snapshot().dropped());
        gate.add_permits(1000);
        commands.send(PipelineCommand::Stop).await.unwrap();
        early
    });
    rig.run(&mut queue).await;
    assert_eq!(feeding.await.unwrap(), (0, 0), "a has hung all the time");
    assert_eq!((rig.intake.total("a"), rig.intake.total("b")), (150, 150));
    assert_eq!(queue.acknowledged(), 30);
}

#[tokio::test]
async fn the_sends_of_a_connection_that_hangs_are_dropped_as_timeout() {
    let mut rig = Rig::of_two(settings());
    rig.intake.set("a", Behaviour::Hang);
    let mut queue = FakeQueue::new(bodies(30));
    rig.run(&mut queue).await;
    assert_eq!(rig.dropped("a"), HashMap::from([(DropReason::Failed(FailureReason::Timeout), 150)]));
    assert_eq!((rig.intake.total("b"), rig.dropped("b")), (150, HashMap::new()));
    assert_eq!(queue.acknowledged(), 30);
}

#[tokio::test]
async fn what_the_queue_recalls_is_flushed_and_acknowledged_at_once() {
    let mut rig = Rig::of_two(flushing_every(Duration::from_mins(1)));
    let mut queue = FakeQueue::new(bodies(4)).waiting().recalling_at(2);
    let (recalled, commands) = (queue.clone(), rig.commands.clone());
    tokio::spawn(async move {
        eventually("what was recalled is acknowledged", || recalled.acknowledged() >= 3).await;
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    assert_eq!(rig.run(&mut queue).await, Ended::Stopped);
    assert_eq!(queue.acknowledged(), 4);
}

#[tokio::test]
async fn a_stop_flushes_what_is_counted_and_waits_for_its_outcome() {
    let settings = flushing_every(Duration::from_mins(1));
    let mut rig = Rig::of_two(settings);
    rig.intake.set("a", Behaviour::Slow(Duration::from_millis(200)));
    let mut queue = FakeQueue::new(bodies(5)).waiting();
    let (stats, commands) = (Arc::clone(&rig.stats), rig.commands.clone());
    tokio::spawn(async move {
        eventually("all are counted", || stats.snapshot().counted() == 50).await;
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    assert_eq!(rig.run(&mut queue).await, Ended::Stopped);
    assert_eq!((rig.intake.total("a"), rig.intake.total("b")), (25, 25));
    assert_eq!(queue.acknowledged(), 5);
}

#[tokio::test]
async fn a_stop_waits_no_longer_than_it_may_and_books_the_rest_as_shutdown() {
    let shutdown_timeout = Duration::from_millis(200);
    let settings = PipelineSettings { shutdown_timeout, ..with_timeout(Duration::from_mins(1)) };
    let mut rig = Rig::of_two(settings);
    rig.intake.set("a", Behaviour::Hang);
    let mut queue = FakeQueue::new(bodies(5)).waiting();
    let (stats, commands) = (Arc::clone(&rig.stats), rig.commands.clone());
    tokio::spawn(async move {
        eventually("all are counted", || stats.snapshot().counted() == 50).await;
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    let started = Instant::now();
    rig.run(&mut queue).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(rig.dropped("a"), HashMap::from([(DropReason::Failed(FailureReason::Shutdown), 25)]));
    assert_eq!(rig.intake.total("b"), 25);
    assert_eq!(queue.acknowledged(), 5);
    assert!(rig.stats.snapshot().balance());
}

#[tokio::test]
async fn a_reload_changes_connections_and_tags_without_losing_a_count() {
    let settings = flushing_every(Duration::from_mins(1));
    let mut rig = Rig::of_two(settings);
    let mut queue = FakeQueue::new(bodies(4)).waiting();
    let (feed, stats, commands) = (queue.clone(), Arc::clone(&rig.stats), rig.commands.clone());
    tokio::spawn(async move {
        eventually("the first are counted", || stats.snapshot().counted() == 40).await;
        let renamed = Connection { metric: "renamed".into(), ..connection("b", &[]) };
        let (reload, in_force) = reload(vec![connection("c", &["odd"]), renamed], &["env:new"]);
        commands.send(reload).await.unwrap();
        in_force.await.unwrap();
        feed.push(bodies(5).pop().unwrap());
        eventually("the last is counted", || stats.snapshot().counted() == 50).await;
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    rig.run(&mut queue).await;
    let tag = |sends: BTreeMap<String, u64>| {
        sends.into_iter().map(|(tags, sends)| (tags.contains("env:new"), sends)).collect::<Vec<_>>()
    };
    assert_eq!(tag(rig.intake.sends("a")), [(false, 20)], "what was counted before it was removed");
    assert_eq!(tag(rig.intake.sends("c")), [(true, 5)]);
    let mut b = tag(rig.intake.sends("b"));
    b.sort_unstable();
    assert_eq!(b, [(false, 20), (true, 5)], "odd before, even after");
    let metrics: Vec<_> =
        rig.intake.series("b").into_iter().flatten().map(|series| series["metric"].clone()).collect();
    assert_eq!(metrics, ["renamed", "renamed"], "what was counted before goes out as the connection is now");
    assert!(rig.stats.snapshot().balance());
}

/// The flush thread waits for a busy lane while as many cuts as it takes wait for it, and then has more to
/// hand over than fits.
#[tokio::test]
async fn a_reload_while_the_flush_thread_is_behind_does_not_stand_still() {
    let names: Vec<String> = (0..40).map(|number| format!("c{number}")).collect();
    let connections: Vec<Connection> = names.iter().map(|name| connection(name, &[name])).collect();
    let settings = flushing_every(Duration::from_millis(3));
    let mut rig = Rig::new(settings, connections.clone());
    let mut ids = 0..;
    let mut body = |events: usize| -> String {
        names.iter().cycle().take(events).map(|name| line(ids.next().unwrap(), name, "x") + "\n").collect()
    };
    let (large, small) = (body(300_000), (0..6).map(|_| body(40)).collect::<Vec<_>>());
    let mut queue = FakeQueue::new([large]).waiting();
    let (feed, stats, commands) = (queue.clone(), Arc::clone(&rig.stats), rig.commands.clone());
    let mut feeding = JoinSet::new();
    feeding.spawn(async move {
        for body in small {
            feed.push(body);
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        let (reload, in_force) = reload(connections, &[]);
        commands.send(reload).await.unwrap();
        in_force.await.unwrap();
        eventually("all are counted", || stats.snapshot().counted() == 300_240).await;
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    let ended = tokio::time::timeout(Duration::from_secs(30), rig.run(&mut queue)).await;
    assert_eq!(ended, Ok(Ended::Stopped), "the pipeline stands still");
    assert_eq!(rig.stats.snapshot().accepted(), 300_240);
}

#[tokio::test]
async fn when_the_queue_can_not_be_read_on_what_was_received_is_flushed_and_acknowledged() {
    let settings = flushing_every(Duration::from_mins(1));
    let mut rig = Rig::of_two(settings);
    let mut queue = FakeQueue::new(bodies(5)).failing_at(3);
    let error = rig.pipeline.run(&mut queue, &mut rig.commanded).await.unwrap_err();
    assert!(error.to_string().contains("scripted failure"), "{error}");
    assert_eq!(rig.intake.total("a") + rig.intake.total("b"), 30);
    assert_eq!(queue.acknowledged(), 3, "or the next start would count them again");
}

/// What is counted while a flush is under way stays until the next one, which is far enough away; a request waits for
/// as long as the test does.
fn long_between_flushes() -> PipelineSettings {
    let mut settings = flushing_every(Duration::from_secs(2));
    settings.lanes.aggregate.flush_timeout = Duration::from_secs(20);
    settings
}

#[tokio::test]
async fn after_an_acknowledgement_that_failed_nothing_more_is_sent() {
    let settings = long_between_flushes();
    let mut rig = Rig::of_two(settings);
    let mut queue = FakeQueue::new(bodies(3)).waiting();
    queue.refuse_to_acknowledge();
    let gate = rig.shut();
    let (feed, stats, intake) = (queue.clone(), Arc::clone(&rig.stats), Arc::clone(&rig.intake));
    let mut feeding = JoinSet::new();
    feeding.spawn(async move {
        eventually("the first flush is on its way", || intake.requests("a") + intake.requests("b") == 2)
            .await;
        bodies(9).into_iter().skip(3).for_each(|body| feed.push(body));
        eventually("all are counted", || stats.snapshot().counted() == 90).await;
        gate.add_permits(1000);
    });
    let ended =
        tokio::time::timeout(Duration::from_secs(30), rig.pipeline.run(&mut queue, &mut rig.commanded));
    let error = ended.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("scripted refusal"), "{error}");
    let books = rig.stats.snapshot();
    let sent = rig.intake.total("a") + rig.intake.total("b");
    assert_eq!(
        (sent, books.accepted(), books.dropped()),
        (30, 30, 0),
        "more than the flush that was on its way"
    );
    assert_eq!(books.pending(), 60, "what is not sent is not dropped, but still in the queue");
    assert!(books.balance());
    assert_eq!(queue.acknowledged(), 0);
}

/// Ends what the queue can acknowledge when all of its 70 events are counted; to be kept until then.
fn end_acknowledging_once_counted(queue: &FakeQueue, stats: &Arc<Stats>) -> JoinSet<()> {
    let (failing, stats) = (queue.clone(), Arc::clone(stats));
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        eventually("all are counted", || stats.snapshot().counted() == 70).await;
        failing.end_acknowledging();
    });
    watching
}

#[tokio::test]
async fn what_the_queue_can_not_acknowledge_any_more_is_not_sent() {
    let settings = flushing_every(Duration::from_secs(1));
    let mut rig = Rig::of_two(settings);
    let mut queue = FakeQueue::new(bodies(7)).waiting();
    let _watching = end_acknowledging_once_counted(&queue, &rig.stats);
    let ended =
        tokio::time::timeout(Duration::from_secs(30), rig.pipeline.run(&mut queue, &mut rig.commanded));
    let error = ended.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("scripted end"), "{error}");
    assert_eq!(rig.intake.requests("a") + rig.intake.requests("b"), 0);
    assert_eq!((rig.stats.snapshot().pending(), queue.acknowledged()), (70, 0));
}

/// What is logged in a test.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps what this thread logs from here on.
    fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::set_default(lines)
    }

    /// How many lines have all of these.
    fn lines_with(&self, parts: &[&str]) -> usize {
        let said = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        said.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_was_dropped_before_a_run_ends_without_a_flush_is_told() {
    let settings = flushing_every(Duration::from_mins(10));
    let mut rig = Rig::new(settings, vec![connection("a", &["even"])]);
    let mut queue = FakeQueue::new(bodies(7)).waiting();
    let _watching = end_acknowledging_once_counted(&queue, &rig.stats);
    let log = Log::default();
    let logging = log.keep();
    rig.pipeline.run(&mut queue, &mut rig.commanded).await.unwrap_err();
    let told = || log.lines_with(&["sends were dropped", "sends=35"]);
    assert_eq!(told(), 0);
    let books = rig.stats.snapshot();
    assert_eq!(rig.dropped("_unrouted"), HashMap::from([(DropReason::Unrouted, 35)]));
    rig.pipeline.log_rest(&books);
    rig.pipeline.log_rest(&books);
    drop(logging);
    assert_eq!(told(), 1, "each drop is told once: {log:?}");
}

/// How many payloads have been made.
fn payloads(stats: &Stats) -> u64 {
    stats.snapshot().payload_bytes.buckets.iter().sum()
}

#[tokio::test]
async fn what_waits_for_its_turn_when_acknowledgements_end_is_not_sent_and_what_is_under_way_is_waited_for() {
    let mut rig = Rig::of_two(with_timeout(Duration::from_secs(20)));
    let mut queue = FakeQueue::new(bodies(1)).waiting();
    let gate = rig.shut();
    let (feed, stats, intake) = (queue.clone(), Arc::clone(&rig.stats), Arc::clone(&rig.intake));
    let mut feeding = JoinSet::new();
    feeding.spawn(async move {
        for (number, body) in bodies(20).into_iter().enumerate().skip(1) {
            let flushes = || payloads(&stats) / 2;
            eventually("the body before is flushed", || flushes() >= number as u64).await;
            feed.push(body);
        }
        eventually("all are flushed", || payloads(&stats) == 40).await;
        assert_eq!((intake.requests("a"), intake.requests("b")), (16, 16), "each has its turns");
        feed.end_acknowledging();
        // The loop sees it at its next flush or tick.
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.add_permits(1000);
    });
    let ended =
        tokio::time::timeout(Duration::from_secs(30), rig.pipeline.run(&mut queue, &mut rig.commanded));
    ended.await.unwrap().unwrap_err();
    feeding.join_all().await;
    assert_eq!((rig.intake.requests("a"), rig.intake.requests("b")), (16, 16));
    let books = rig.stats.snapshot();
    assert_eq!((books.accepted(), books.dropped(), books.pending()), (160, 0, 40));
    assert!(books.balance());
}

/// Acknowledgements end while a flush of 40 sends is on its way and ten more are counted.
async fn end_acknowledging_beside_a_flush(queue: FakeQueue, intake: Arc<FakeIntake>, stats: Arc<Stats>) {
    eventually("the flush is on its way", || intake.requests("a") + intake.requests("b") == 2).await;
    queue.push(bodies(5).remove(4));
    eventually("all are counted", || stats.snapshot().counted() == 50).await;
    queue.end_acknowledging();
}

#[tokio::test]
async fn what_was_on_its_way_when_the_queue_failed_is_acknowledged_if_that_is_possible() {
    let mut rig = Rig::of_two(long_between_flushes());
    let mut queue = FakeQueue::new(bodies(4)).waiting();
    let gate = rig.shut();
    let ending =
        end_acknowledging_beside_a_flush(queue.clone(), Arc::clone(&rig.intake), Arc::clone(&rig.stats));
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        ending.await;
        gate.add_permits(1000);
    });
    let ended =
        tokio::time::timeout(Duration::from_secs(30), rig.pipeline.run(&mut queue, &mut rig.commanded));
    ended.await.unwrap().unwrap_err();
    let books = rig.stats.snapshot();
    assert_eq!((books.accepted(), books.pending(), queue.acknowledged()), (40, 10, 4));
}

#[tokio::test]
async fn a_stop_because_nothing_can_be_acknowledged_drops_only_what_has_no_answer() {
    let mut settings = long_between_flushes();
    settings.lanes.aggregate.flush_timeout = Duration::from_mins(1);
    settings.shutdown_timeout = Duration::from_millis(200);
    let mut rig = Rig::of_two(settings);
    let mut queue = FakeQueue::new(bodies(4)).waiting();
    let _never_opened = rig.shut();
    let mut watching = JoinSet::new();
    watching.spawn(end_acknowledging_beside_a_flush(
        queue.clone(),
        Arc::clone(&rig.intake),
        Arc::clone(&rig.stats),
    ));
    let log = Log::default();
    let logging = log.keep();
    let run = rig.pipeline.run(&mut queue, &mut rig.commanded);
    tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap_err();
    drop(logging);
    let books = rig.stats.snapshot();
    assert_eq!((books.dropped(), books.pending(), queue.acknowledged()), (40, 10, 4));
    assert_eq!(log.lines_with(&["what has no answer is dropped", "requests=2", "sends=40"]), 1, "{log:?}");
}

#[tokio::test]
async fn while_the_queue_cannot_acknowledge_everything_waits_and_goes_on_afterwards() {
    let mut rig = Rig::of_two(settings());
    let mut queue = FakeQueue::new(bodies(2)).waiting();
    let (held, stats, intake) = (queue.clone(), Arc::clone(&rig.stats), Arc::clone(&rig.intake));
    let commands = rig.commands.clone();
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        eventually("the first are acknowledged", || held.acknowledged() == 2).await;
        held.hold(true);
        // The pipeline may be waiting for a delivery already.
        held.push(bodies(3).remove(2));
        held.push(bodies(4).remove(3));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let counted = stats.snapshot().counted();
        assert!(counted <= 30, "at most the one that was waited for: {counted}");
        assert_eq!((intake.total("a") + intake.total("b"), held.acknowledged()), (20, 2));
        held.hold(false);
        eventually("the others are acknowledged", || held.acknowledged() == 4).await;
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    let ended =
        tokio::time::timeout(Duration::from_secs(30), rig.pipeline.run(&mut queue, &mut rig.commanded));
    assert_eq!(ended.await.unwrap().unwrap(), Ended::Stopped);
    watching.join_next().await.unwrap().unwrap();
    assert_eq!(rig.intake.total("a") + rig.intake.total("b"), 40);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_queue_that_cannot_acknowledge_and_sends_nothing() {
    let mut rig = Rig::of_two(long_between_flushes());
    let mut queue = FakeQueue::new(bodies(3)).waiting();
    let (held, stats, commands) = (queue.clone(), Arc::clone(&rig.stats), rig.commands.clone());
    let mut watching = JoinSet::new();
    watching.spawn(async move {
        eventually("all are counted", || stats.snapshot().counted() == 30).await;
        held.hold(true);
        commands.send(PipelineCommand::Stop).await.unwrap();
    });
    let ended =
        tokio::time::timeout(Duration::from_secs(30), rig.pipeline.run(&mut queue, &mut rig.commanded));
    let error = ended.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("scripted hold"), "{error}");
    assert_eq!((rig.intake.requests("a") + rig.intake.requests("b"), queue.acknowledged()), (0, 0));
    assert_eq!(rig.stats.snapshot().pending(), 30);
}

#[tokio::test]
async fn what_is_redelivered_retried_or_split_counts_once() {
    let mut rig = Rig::of_two(settings());
    let mut twice = bodies(10);
    twice.extend(bodies(10));
    twice.extend(bodies(10).iter().flat_map(|body| body.lines().map(String::from)));
    rig.run(&mut FakeQueue::new(twice)).await;
    assert_eq!(rig.intake.total("a") + rig.intake.total("b"), 100);
    let books = rig.stats.snapshot();
    assert_eq!((books.received, books.duplicate), (300, 200));
    assert!(books.balance());
}

#[tokio::test]
async fn sends_that_no_connection_serves_are_booked_as_unrouted() {
    let mut rig = Rig::new(settings(), vec![connection("a", &["even"])]);
    rig.run(&mut FakeQueue::new(bodies(2))).await;
    assert_eq!(rig.intake.total("a"), 10);
    assert_eq!(rig.dropped("_unrouted"), HashMap::from([(DropReason::Unrouted, 10)]));
}

#[tokio::test]
async fn five_hundred_connections_each_get_their_own_sends() {
    let names: Vec<String> = (0..500).map(|number| format!("c{number}")).collect();
    let mut rig = Rig::new(settings(), names.iter().map(|name| connection(name, &[name])).collect());
    let body = |round: u64| (0..500).map(|n| line(round * 500 + n, &names[n as usize], "x") + "\n").collect();
    rig.run(&mut FakeQueue::new((0..4).map(body))).await;
    for name in &names {
        assert_eq!(rig.intake.total(name), 4, "{name}");
    }
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        3 => Just(Behaviour::Accept),
        1 => Just(Behaviour::Refuse(FailureReason::Http5xx)),
        1 => Just(Behaviour::Hang),
        1 => Just(Behaviour::Panic),
        1 => (0u64..80).prop_map(|ms| Behaviour::Slow(Duration::from_millis(ms))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the outcomes, whenever it is reloaded, stopped or killed: the books balance, what they count went out
    /// once and to its connection, an acknowledged delivery is in them, and after restarts every event was counted at least once.
    #[test]
    fn the_books_balance_for_any_outcomes_and_any_stop(
        deliveries in 1u64..40, a in behaviour(), b in behaviour(), stop_after in 0u64..120, kill in any::<bool>(),
        reload_after in prop::option::of(0u64..120),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut quick = flushing_every(Duration::from_millis(10));
            quick.lanes.aggregate.flush_timeout = Duration::from_millis(60);
            let mut queue = FakeQueue::new(bodies(deliveries));
            let mut rig = Rig::of_two(quick.clone());
            rig.intake.set("a", a);
            rig.intake.set("b", b);
            let mut meddling = JoinSet::new();
            if let Some(reload_after) = reload_after {
                let commands = rig.commands.clone();
                let rotated = |connection: Connection| Connection { api_key: ApiKey::new("other"), ..connection };
                let connections = vec![rotated(connection("b", &[])), rotated(connection("a", &["even"]))];
                meddling.spawn(async move {
                    tokio::time::sleep(Duration::from_millis(reload_after)).await;
                    let _ended = commands.send(reload(connections, &["env:x"]).0).await;
                });
            }
            let killed = if kill {
                tokio::time::timeout(Duration::from_millis(stop_after), rig.run(&mut queue)).await.is_err()
            } else {
                let commands = rig.commands.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(stop_after)).await;
                    let _ended = commands.send(PipelineCommand::Stop).await;
                });
                rig.run(&mut queue).await;
                false
            };
            meddling.join_all().await;
            let books = rig.stats.snapshot();
            assert!(books.balance(), "{books:?}");
            for name in ["a", "b"] {
                let counted = books.connections.get(name).map_or(0, |connection| connection.counted);
                let sent = rig.intake.total(name);
                assert!(sent == counted || killed && sent < counted, "{sent} of {counted} went out to {name}");
            }
            let acknowledged = queue.acknowledged() as u64 * 10;
            assert!(books.accepted() + books.dropped() >= acknowledged);
            if !killed {
                assert_eq!(books.pending(), 0);
                assert_eq!(books.counted(), acknowledged, "a clean stop acknowledges all that it counted");
            }
            drop(rig);
            let mut again = Rig::of_two(quick);
            again.run(&mut queue.reopen()).await;
            assert_eq!(queue.acknowledged() as u64, deliveries);
            assert_eq!(again.stats.snapshot().counted() + acknowledged, deliveries * 10, "exactly the rest is redelivered");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Sends are conserved whatever their time: each is in a point of its own bucket, or booked as late or early.
    #[test]
    fn late_and_early_sends_are_booked_and_all_others_are_in_points(
        times in prop::collection::vec(prop::sample::select(vec![0, NOW - 4000, NOW - 3000, NOW - 7, NOW, NOW + 500, NOW + 1000]), 1..200),
        deliveries in 1usize..10,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let lines: Vec<String> = (0..).zip(&times).map(|(id, time)| line_at(*time, id, "odd", "c1") + "\n").collect();
            let bodies = lines.chunks(lines.len().div_ceil(deliveries)).map(<[String]>::concat);
            let mut rig = Rig::of_two(flushing_every(Duration::from_secs(10)));
            rig.run(&mut FakeQueue::new(bodies)).await;
            let (mut expected, mut actual) = (BTreeMap::new(), BTreeMap::new());
            for time in times.iter().filter(|time| (NOW - 3500..=NOW + 600).contains(*time)) {
                *expected.entry(time - time % 10).or_insert(0) += 1;
            }
            for series in rig.intake.series("b").into_iter().flatten() {
                for point in series["points"].as_array().unwrap() {
                    *actual.entry(point[0].as_u64().unwrap()).or_insert(0) += point[1][0].as_u64().unwrap();
                }
            }
            assert_eq!(actual, expected);
            let dropped = rig.dropped("b");
            let number = |outside: &dyn Fn(u64) -> bool| times.iter().filter(|time| outside(**time)).count() as u64;
            assert_eq!(dropped.get(&DropReason::Late).copied().unwrap_or(0), number(&|time| time < NOW - 3500));
            assert_eq!(dropped.get(&DropReason::Early).copied().unwrap_or(0), number(&|time| time > NOW + 600));
            assert!(rig.stats.snapshot().balance());
        });
    }
}

#[tokio::test]
async fn while_an_acknowledgement_waits_for_its_disk_outcomes_are_booked_and_nothing_is_sent() {
    let mut rig = Rig::of_two(settings());
    let mut queue = FakeQueue::new(bodies(1)).waiting();
    let gate = rig.shut();
    let (feed, stats, intake, loop_status) =
        (queue.clone(), Arc::clone(&rig.stats), Arc::clone(&rig.intake), rig.pipeline.loop_status());
    let commands = rig.commands.clone();
    queue.stall(true);
    let feeding = async move {
        let requests = || intake.requests("a") + intake.requests("b");
        eventually("the first flush is on its way", || requests() == 2).await;
        feed.push(bodies(2).remove(1));
        eventually("so is the second", || requests() == 4).await;
        // The outcomes of the first flush, and then one of the second.
        gate.add_permits(2);
        eventually("an acknowledgement waits", || loop_status.acknowledging_for().is_some()).await;
        gate.add_permits(2);
        eventually("the rest is booked", || stats.snapshot().accepted() == 20).await;
        assert_eq!(feed.acknowledged(), 0);
        feed.push(bodies(3).remove(2));
        let has_turned =
            || loop_status.acknowledging_for().is_some_and(|waits| loop_status.since_last_turn() < waits);
        eventually("the loop turns meanwhile", has_turned).await;
        assert_eq!((requests(), stats.snapshot().counted()), (4, 20), "nothing more is counted or sent");
        feed.stall(false);
        gate.add_permits(1000);
        eventually("all is acknowledged", || feed.acknowledged() == 3).await;
        assert_eq!(loop_status.acknowledging_for(), None);
        commands.send(PipelineCommand::Stop).await.unwrap();
    };
    let (ended, ()) = tokio::join!(rig.run(&mut queue), feeding);
    assert_eq!(ended, Ended::Stopped);
    assert_eq!((rig.stats.snapshot().accepted(), queue.acknowledged()), (30, 3));
}

#[tokio::test]
async fn with_a_clock_that_is_not_set_events_wait_and_are_counted_once_it_is() {
    let mut rig = Rig::of_two(settings());
    rig.now.store(60, Ordering::Relaxed);
    let mut queue = FakeQueue::new(bodies(5)).waiting();
    let (now, loop_status, stats) =
        (Arc::clone(&rig.now), rig.pipeline.loop_status(), Arc::clone(&rig.stats));
    let (commands, log) = (rig.commands.clone(), Log::default());
    let logging = log.keep();
    let said = log.clone();
    let setting = async move {
        eventually("it is told", || said.lines_with(&["clock is not set"]) == 1).await;
        assert!(loop_status.ready().unwrap_err().contains("clock is not set"));
        assert_eq!(stats.snapshot().counted(), 0);
        now.store(NOW, Ordering::Relaxed);
        eventually("all is accepted", || stats.snapshot().accepted() == 50).await;
        assert_eq!(loop_status.ready(), Ok(()));
        commands.send(PipelineCommand::Stop).await.unwrap();
    };
    let (ended, ()) = tokio::join!(rig.run(&mut queue), setting);
    assert_eq!(ended, Ended::Stopped);
    drop(logging);
    assert!(rig.dropped("a").is_empty() && rig.dropped("b").is_empty());
    assert_eq!(queue.acknowledged(), 5);
}
