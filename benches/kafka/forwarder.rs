//! The real binary between the broker and a loopback intake.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use crate::broker::{self, Broker};
use crate::cost::{Cost, process_cpu};
use crate::support;
use crate::support::forwarder::{Configuration, Forwarder, quote};
use crate::support::intake::Intake;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// How often the books are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// One way to run it, in a group of its own.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) lanes: u32,
    /// What is in the topic.
    pub(crate) events: u64,
    pub(crate) sends: u64,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Time from the first event to the last flush; CPU time of the process from its start.
    pub(crate) cost: Cost,
    /// The most memory that the process had.
    pub(crate) peak_bytes: u64,
}

impl Run<'_> {
    /// Starts it, lets it carry everything, and stops it.
    pub(crate) async fn measure(self) -> Result<Measured, Box<dyn Error>> {
        let intake = Intake::start();
        // Not until it is ready: by then it may have read it all.
        let forwarder = self.configuration(&intake).spawn(&["run"]);
        let (client, url) = (support::client(None), forwarder.admin_url("/livez"));
        support::eventually("the admin port is open", async || client.get(&url).send().await.ok().map(drop))
            .await;
        let elapsed = self.carried(&forwarder).await?;
        let (cpu, peak_bytes) = (process_cpu(&forwarder.id().to_string())?, peak_bytes(forwarder.id())?);
        assert!(forwarder.stop().await.success(), "the forwarder stops");
        assert_eq!(intake.sends(), self.sends, "all is counted, once");
        Ok(Measured { cost: Cost { pieces: self.events, elapsed, cpu }, peak_bytes })
    }

    fn configuration(self, intake: &Intake) -> Configuration {
        Configuration::new()
            .without("queue.embedded.directory")
            .without("push.listen")
            .text("queue.kind", "kafka")
            .set("queue.kafka.brokers", &format!("[{}]", quote(&self.broker.address())))
            .set("queue.kafka.topics", &format!("[{}]", quote(crate::TOPIC)))
            .text("queue.kafka.group_id", &format!("lanes-{}", self.lanes))
            .text("queue.kafka.options.\"session.timeout.ms\"", broker::SESSION_TIMEOUT_MS)
            .set("lanes", &self.lanes.to_string())
            .connection("acme", &intake.url(), "acme", &[])
    }

    /// Waits until every event has its outcome; how long that took from the first one on.
    async fn carried(self, forwarder: &Forwarder) -> Result<Duration, Box<dyn Error>> {
        let started = Instant::now();
        let mut first = None;
        loop {
            let books = forwarder.metrics().await.books();
            if books.received > 0 && first.is_none() {
                first = Some(Instant::now());
            }
            if books.received == self.events && books.pending == 0 {
                return Ok(first.map_or_else(Duration::default, |first| first.elapsed()));
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("not all was counted within {PATIENCE:?}: {books:?}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// `VmHWM` of `status`, which is in KiB.
fn peak_bytes(process: u32) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("status has no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
