//! One process of Apache Kafka: broker and controller in one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::{children, ports};

use super::PATIENCE;
use super::distribution::{Distribution, distribution, run};

/// Any text of 16 bytes, in base64.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// What it says when it can be used.
const STARTED: &str = "Kafka Server started";

/// Its own loggers: silent, but for what tests look for.
const LOG: [&str; 3] = [
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    // Tells each client that is refused.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.network.Selector=info",
];

/// Whatever a node is for.
const SETTINGS: &str = "\
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
auto.create.topics.enable=false
num.network.threads=1
num.io.threads=4
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=500
group.consumer.min.heartbeat.interval.ms=100
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
controlled.shutdown.retry.backoff.ms=500
replica.lag.time.max.ms=3000
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=4194304
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=500
";

/// A node, running or not. It is killed when it is dropped.
pub(super) struct Node {
    id: usize,
    heap: &'static str,
    home: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// One that has never run. `settings` are its own, beside [`SETTINGS`]; `users` those of SCRAM.
    pub(super) fn new(
        id: usize,
        heap: &'static str,
        home: PathBuf,
        settings: &str,
        users: &[String],
    ) -> Self {
        fs::create_dir_all(&home).unwrap();
        let settings =
            format!("{SETTINGS}node.id={id}\nlog.dirs={}\n{settings}", home.join("data").display());
        fs::write(home.join("server.properties"), settings).unwrap();
        let node = Self { id, heap, home, child: None };
        let mut format = distribution().java(&LOG, "kafka.tools.StorageTool");
        format.args(["format", "-t", CLUSTER_ID, "-c"]).arg(node.settings());
        format.args(users.iter().flat_map(|user| ["--add-scram", user]));
        run(&mut format);
        node
    }

    fn settings(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    /// What it has said since its first start.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.home.join("broker.log")
    }

    /// Starts it, and waits for nothing.
    pub(super) fn begin(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        // Libraries that it unpacks, and leaves when it is killed.
        let temporary = format!("-Djava.io.tmpdir={}", self.home.display());
        let options = [LOG.as_slice(), &[self.heap, &temporary]].concat();
        let mut java = distribution().java(&options, "kafka.Kafka");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        java.arg(self.settings()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(launch(java));
    }

    /// Waits until it can be used. `false`: it has ended instead.
    pub(super) fn is_up(&mut self, starts: usize) -> bool {
        let give_up = Instant::now() + PATIENCE;
        while self.log().matches(STARTED).count() < starts {
            assert!(Instant::now() < give_up, "node {} did not start: {}", self.id, self.log());
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Its number with the system; it must run.
    pub(super) fn process(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// How often it was seen to be up.
    pub(super) fn starts(&self) -> usize {
        self.log().matches(STARTED).count()
    }

    /// `SIGKILL`.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill, and waiting returns at once.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `SIGTERM`, and waits for its end.
    pub(super) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let sent = Command::new("/bin/kill").arg(child.id().to_string()).status().unwrap();
        assert!(sent.success(), "node {} could not be stopped", self.id);
        let give_up = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < give_up, "node {} does not stop: {}", self.id, self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(command: Command) -> Child {
    let started = format!("{command:?}");
    children::spawn(command).unwrap_or_else(|error| panic!("{started} could not be started: {error}"))
}

/// So many ports, which stay free while a node is down.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    ports::free().map(|address| address.port())
}

/// Runs a broker with this JVM until it is up, and ends it in good order.
pub(super) fn run_once(mut java: Command, home: &Path, distribution: &Distribution) {
    let [port, controller] = free_ports();
    let settings = super::listeners::plain(1, &[(port, controller)]);
    let home = home.join("node");
    fs::create_dir_all(&home).unwrap();
    let file = home.join("server.properties");
    let data = home.join("data");
    fs::write(&file, format!("{SETTINGS}node.id=1\nlog.dirs={}\n{settings}", data.display())).unwrap();
    let mut format = distribution.bare();
    run(format.args(LOG).args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&file));
    let log = File::create(home.join("broker.log")).unwrap();
    java.args(LOG).arg("kafka.Kafka").arg(file).stdout(log.try_clone().unwrap()).stderr(log);
    let mut node = Node { id: 1, heap: "", home, child: Some(launch(java)) };
    assert!(node.is_up(1), "the first broker ended: {}", node.log());
    node.stop();
}
