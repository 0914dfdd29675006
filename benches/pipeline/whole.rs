//! The whole path: a file, the lanes, the ledger, the books, a flush every second, and an intake in memory
//! that takes everything.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braze_datadog::connection::Connection;
use braze_datadog::connection::Intake;
use braze_datadog::pipeline::{Pipeline, PipelineSettings};
use datadog_points::ApiKey;
use datadog_points::outcome::Outcome;
use datadog_points::payload::Payload;
use datadog_points::site::Site;
use event_lanes::LaneSettings;
use event_lanes::clock::Clock;
use event_lanes::stats::Stats;
use event_queues::{Delivery, Queue, QueueError, Receipt, files};
use send_counts::aggregate::AggregateSettings;
use send_counts::dedup;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::measure::{Cost, Watch};
use crate::stations::{COUNTED, aggregate, layout};

/// What a run cost, and the longest time between two deliveries that were taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carried {
    pub(crate) cost: Cost,
    pub(crate) pause: Duration,
}

/// One way to run it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a> {
    pub(crate) path: &'a Path,
    pub(crate) lanes: usize,
    pub(crate) dedup: bool,
    /// How often counts are cut.
    pub(crate) flush_interval: Duration,
    /// What is in the file.
    pub(crate) sends: u64,
    pub(crate) events: u64,
}

/// A queue, and when it was last asked for more.
struct Timed<Q> {
    queue: Q,
    taken: Option<Instant>,
    pause: Duration,
}

impl<Q: Queue> Queue for Timed<Q> {
    async fn receive(&mut self) -> Result<Option<Delivery>, QueueError> {
        let delivery = self.queue.receive().await?;
        let now = Instant::now();
        self.pause = self.pause.max(self.taken.map_or(Duration::ZERO, |taken| now - taken));
        self.taken = Some(now);
        Ok(delivery)
    }

    async fn acknowledge(&mut self, receipt: Receipt) -> Result<(), QueueError> {
        self.queue.acknowledge(receipt).await
    }
}

struct Accepts;

impl Intake for Accepts {
    async fn submit(&self, _connection: Arc<Connection>, _payload: Payload) -> Outcome {
        Outcome::Accepted
    }
}

impl Whole<'_> {
    /// Starts it all, carries the file, and takes it all down.
    pub(crate) fn run(self) -> Result<Carried, Box<dyn Error>> {
        let watch = Watch::process()?;
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let stats = Arc::new(Stats::new());
        let pause = runtime.block_on(self.carry(&stats))?;
        drop(runtime);
        let cost = watch.cost(self.events)?;
        let books = stats.snapshot();
        assert!(books.balance(), "the books balance");
        assert_eq!((books.received, books.accepted()), (self.events, self.sends), "all is counted");
        Ok(Carried { cost, pause })
    }

    async fn carry(self, stats: &Arc<Stats>) -> Result<Duration, Box<dyn Error>> {
        let clock = Clock::system();
        let import =
            files::FilesSettings { files: vec![self.path.to_owned()], state_directory: None, again: true };
        let (queue, _notices) = files::open(&import, clock.unix_seconds())?;
        let mut queue = Timed { queue, taken: None, pause: Duration::ZERO };
        let mut pipeline = Pipeline::start(
            Arc::new(Accepts),
            self.settings(),
            vec![connection()].into(),
            layout(),
            Arc::clone(stats),
            clock,
        )?;
        let (_commands, mut commanded) = mpsc::channel(1);
        pipeline.run(&mut queue, &mut commanded).await?;
        Ok(queue.pause)
    }

    fn settings(self) -> PipelineSettings {
        let window = if self.dedup { Duration::from_mins(10) } else { Duration::ZERO };
        let aggregate = AggregateSettings { flush_interval: self.flush_interval, ..aggregate() };
        PipelineSettings {
            shutdown_timeout: Duration::from_secs(20),
            lanes: LaneSettings {
                lanes: self.lanes,
                event_types: COUNTED.map(Box::from).to_vec(),
                aggregate,
                dedup: dedup::DedupSettings { window, max_ids: 4_000_000 },
            },
        }
    }
}

fn connection() -> Connection {
    Connection {
        site: Site { name: "US1".into(), base_url: "https://api.datadoghq.com".into() },
        api_key: ApiKey::new("none"),
        metric: "braze.messaging.sent".into(),
        dry_run: false,
        ..Connection::named("bench".into())
    }
}
