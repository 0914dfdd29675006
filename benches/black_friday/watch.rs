//! Looks every second at what the machine and the broker say: CPU and memory of each forwarder, and how far the group is
//! behind.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::plan::PARTITIONS;

const INTERVAL: Duration = Duration::from_secs(1);

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The group, seen from outside.
pub(crate) struct Group {
    consumer: BaseConsumer,
    topic: &'static str,
    name: &'static str,
}

impl Group {
    pub(crate) fn new(mut client: ClientConfig, topic: &'static str, name: &'static str) -> Self {
        Self { consumer: client.set("group.id", name).create().unwrap(), topic, name }
    }

    /// What is committed, by partition.
    pub(crate) fn committed(&self) -> Vec<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(self.topic, 0, PARTITIONS - 1);
        let committed = self.consumer.committed_offsets(asked, PATIENCE).unwrap();
        let offset = |partition| match committed.find_partition(self.topic, partition).unwrap().offset() {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        (0..PARTITIONS).map(offset).collect()
    }

    /// How many messages there are, by partition.
    pub(crate) fn ends(&self) -> Vec<i64> {
        let end = |partition| self.consumer.fetch_watermarks(self.topic, partition, PATIENCE).unwrap().1;
        (0..PARTITIONS).map(end).collect()
    }

    /// The partitions of each member, by the name that it gives itself; none while the group is being arranged.
    pub(crate) fn assignment(&self) -> Option<BTreeMap<String, Vec<i32>>> {
        let groups = self.consumer.fetch_group_list(Some(self.name), PATIENCE).unwrap();
        let group = groups.groups().first().filter(|group| group.state() == "Stable")?;
        let mut partitions = BTreeMap::<String, Vec<i32>>::new();
        for member in group.members() {
            let found = member.assignment().map(read_assignment).unwrap_or_default();
            partitions.entry(member.client_id().to_owned()).or_default().extend(found);
        }
        Some(partitions)
    }
}

/// Source: Kafka's `ConsumerProtocolAssignment`, whose first fields all versions have: a version, and topics with partitions.
fn read_assignment(bytes: &[u8]) -> Vec<i32> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut take = |length: usize| {
        let (taken, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        taken
    };
    let long = |bytes: &[u8]| bytes.try_into().map_or(0, i32::from_be_bytes);
    let mut partitions = Vec::new();
    for _topic in 0..long(take(4)) {
        let name = take(2).try_into().map_or(0, u16::from_be_bytes);
        take(name.into());
        for _partition in 0..long(take(4)) {
            partitions.push(long(take(4)));
        }
    }
    partitions
}

/// A process at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// CPU seconds since its start, by the name of the thread.
    pub(crate) threads: BTreeMap<String, f64>,
    /// CPU seconds of all of it, with threads that are gone.
    pub(crate) cpu: f64,
    pub(crate) memory: u64,
    pub(crate) memory_peak: u64,
    pub(crate) files: usize,
}

impl Usage {
    /// None where the process is gone.
    pub(crate) fn of(process: u32) -> Option<Self> {
        let folder = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        };
        let mut usage = Self {
            threads: BTreeMap::new(),
            cpu: read_cpu(&format!("{folder}/stat"))?.1,
            memory: kib("VmRSS:")? << 10,
            memory_peak: kib("VmHWM:")? << 10,
            files: fs::read_dir(format!("{folder}/fd")).ok()?.count(),
        };
        for thread in fs::read_dir(format!("{folder}/task")).ok()?.flatten() {
            // A thread may end at any moment.
            let Some((name, cpu)) = read_cpu(&thread.path().join("stat").to_string_lossy()) else { continue };
            *usage.threads.entry(name).or_default() += cpu;
        }
        Some(usage)
    }
}

/// Name, and CPU seconds, which `/proc` counts in hundredths. Source: `proc_pid_stat(5)`.
fn read_cpu(path: &str) -> Option<(String, f64)> {
    let stat = fs::read_to_string(path).ok()?;
    let (head, fields) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let ticks: Option<Vec<u32>> =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse().ok()).collect();
    Some((name, f64::from(ticks?.iter().sum::<u32>()) / 100.0))
}

/// A look.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Seconds since the first event.
    pub(crate) at: f64,
    /// By life.
    pub(crate) forwarders: BTreeMap<u8, Usage>,
    pub(crate) broker: Usage,
    /// This process: producer, Datadog, and who looks.
    pub(crate) bench: Usage,
    /// By partition.
    pub(crate) committed: Vec<i64>,
    pub(crate) ends: Vec<i64>,
}

/// The processes that are looked at, by life.
pub(crate) type Processes = Arc<Mutex<BTreeMap<u8, u32>>>;

/// Looks until it is told to stop, by `is_over`.
pub(crate) fn start(
    group: Group,
    broker: u32,
    processes: Processes,
    is_over: Arc<Mutex<bool>>,
    begun: Instant,
) -> JoinHandle<Vec<Look>> {
    let work = move || {
        let mut looks = Vec::new();
        while !*is_over.lock().unwrap() {
            let asked = Instant::now();
            let alive = processes.lock().unwrap().clone();
            let forwarders = alive.iter().filter_map(|(life, process)| Some((*life, Usage::of(*process)?)));
            looks.push(Look {
                at: begun.elapsed().as_secs_f64(),
                forwarders: forwarders.collect(),
                broker: Usage::of(broker).unwrap_or_default(),
                bench: Usage::of(std::process::id()).unwrap_or_default(),
                committed: group.committed(),
                ends: group.ends(),
            });
            thread::sleep(INTERVAL.saturating_sub(asked.elapsed()));
        }
        looks
    };
    thread::Builder::new().name("watch".into()).spawn(work).unwrap()
}
