//! Apache Kafka itself for tests: TLS, SASL, ACLs, transactions and both group protocols, as they are where events
//! come from. A JVM and Maven are needed; see [`distribution`]. Where neither matters, `support/broker.rs` starts in
//! milliseconds.
//!
//! Taken in by `#[path = "../support/apache.rs"] mod broker;`, beside the rig, the other broker and its proxy.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![expect(dead_code, reason = "not every part is used today; see NEVER_USED")]

#[path = "apache/certificates.rs"]
pub(crate) mod certificates;
#[path = "apache/distribution.rs"]
mod distribution;
#[path = "apache/listeners.rs"]
pub(crate) mod listeners;
#[path = "apache/node.rs"]
mod node;
#[path = "apache/tools.rs"]
pub(crate) mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tempfile::TempDir;

use certificates::{Authority, Flaw};
pub(crate) use listeners::{LISTENERS, Listener};
use node::Node;
pub(crate) use tools::Tool;

use crate::broker::Compression;
pub(crate) use crate::broker::Producer;
pub(crate) use crate::broker::topics::PATIENCE;
use crate::broker::topics::{self, options};
use crate::proxy::Proxy;
use crate::support::children;

/// Keeps the expectation of dead code true.
const NEVER_USED: () = ();

/// Brokers that know each other.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    addresses: Vec<String>,
    _home: TempDir,
}

/// One broker with every [`Listener`].
pub(crate) struct Broker {
    cluster: Cluster,
    ports: BTreeMap<Listener, u16>,
    pub(crate) authority: Authority,
    pub(crate) proxy: Proxy,
}

impl Deref for Broker {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Broker {
    /// The one that the tests of a binary share: each has topics and groups of its own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let home = home();
        let authority = Authority::new(&home.path().join("tls"));
        for (name, flaw) in [("server", Flaw::None), ("expired", Flaw::Expired), ("misnamed", Flaw::Misnamed)]
        {
            authority.server(name, flaw);
        }
        let ports: BTreeMap<Listener, u16> =
            LISTENERS.into_iter().zip(node::free_ports::<{ LISTENERS.len() }>()).collect();
        let [controller] = node::free_ports();
        let (listener, advertised) = Proxy::reserve();
        let settings = listeners::all(&ports, controller, advertised.port(), &authority);
        let users = listeners::scram_users();
        let node = Node::new(1, "-Xmx512m", home.path().join("1"), &settings, &users);
        let addresses = vec![local(ports[&Listener::Plain])];
        let cluster = Cluster::start(vec![node], addresses, home);
        let proxy = Proxy::open(listener, ([127, 0, 0, 1], ports[&Listener::Proxied]).into());
        Self { cluster, ports, authority, proxy }
    }

    /// Where clients of a listener connect, `host:port`.
    pub(crate) fn at(&self, listener: Listener) -> String {
        match listener {
            Listener::Proxied => self.proxy.address().to_string(),
            listener => local(self.ports[&listener]),
        }
    }

    /// Has a listener take up the certificate that was written anew.
    pub(crate) fn reload_certificate(&self, listener: Listener) {
        let setting = |name: &str| listener.setting(&format!("ssl.keystore.{name}"));
        let file = self.authority.path(&format!("{}.pem", listener.certificate()));
        let change = format!("{}={file},{}=PEM", setting("location"), setting("type"));
        self.admin(
            Tool::Configs,
            &["--alter", "--entity-type", "brokers", "--entity-name", "1", "--add-config", &change],
        );
    }

    /// How many clients were refused at a listener, since the start.
    pub(crate) fn refusals(&self, listener: Listener) -> usize {
        let port = format!("127.0.0.1:{}-", self.ports[&listener]);
        let log = self.cluster.nodes[0].log();
        log.lines().filter(|line| line.contains("Failed authentication") && line.contains(&port)).count()
    }
}

impl Cluster {
    /// Three brokers, that keep a copy each of what [`Cluster::create_topic`] makes. They know no users.
    pub(crate) fn of_three() -> Self {
        let home = home();
        let ports = node::free_ports::<6>();
        let ports: Vec<(u16, u16)> = ports.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let make = |id: usize| {
            let settings = listeners::plain(id, &ports);
            Node::new(id, "-Xmx256m", home.path().join(id.to_string()), &settings, &[])
        };
        let nodes = (1..=ports.len()).map(make).collect();
        Self::start(nodes, ports.iter().map(|(port, _)| local(*port)).collect(), home)
    }

    /// One broker, which knows no users, for a great many messages.
    pub(crate) fn of_one() -> Self {
        let home = home();
        let [port, controller] = node::free_ports();
        let settings = listeners::plain(1, &[(port, controller)]);
        let node = Node::new(1, "-Xmx1g", home.path().join("1"), &settings, &[]);
        Self::start(vec![node], vec![local(port)], home)
    }

    fn start(mut nodes: Vec<Node>, addresses: Vec<String>, home: TempDir) -> Self {
        nodes.iter_mut().for_each(Node::begin);
        for node in &mut nodes {
            assert!(node.is_up(1), "the broker did not start: {}", node.log());
        }
        Self { nodes, addresses, _home: home }
    }

    /// Where clients connect, `host:port`, of each broker.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The process of one of them, counted from 0; it must run.
    pub(crate) fn process(&self, node: usize) -> u32 {
        self.nodes[node].process()
    }

    /// `SIGKILL` for one of them, counted from 0.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Stops one in good order.
    pub(crate) fn stop(&mut self, node: usize) {
        self.nodes[node].stop();
    }

    /// Starts one again that was killed or stopped, and waits until it can be used.
    pub(crate) fn start_again(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let starts = node.starts() + 1;
        node.begin();
        assert!(node.is_up(starts), "a broker does not come back: {}", node.log());
    }

    /// Makes a topic with a copy on each broker, and waits until clients see it.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) {
        let copies = i32::try_from(self.nodes.len()).unwrap();
        self.create(NewTopic::new(name, partitions, TopicReplication::Fixed(copies))).await;
    }

    /// Makes a topic, and waits until clients see it.
    pub(crate) async fn create(&self, topic: NewTopic<'_>) {
        topics::create(&self.client(), &topic).await;
    }

    /// Adds partitions to a topic, so that it has so many.
    pub(crate) async fn widen_topic(&self, name: &str, partitions: i32) {
        let wanted = NewPartitions::new(name, usize::try_from(partitions).unwrap());
        for made in self.by_client().create_partitions([&wanted], &options()).await.unwrap() {
            made.unwrap_or_else(|(name, error)| panic!("the topic {name} could not be widened: {error}"));
        }
        topics::wait_for_partitions(&self.client(), name, partitions);
    }

    /// Deletes a topic, and waits until clients don't see it any more.
    pub(crate) async fn delete_topic(&self, name: &str) {
        for gone in self.by_client().delete_topics(&[name], &options()).await.unwrap() {
            gone.unwrap_or_else(|(name, error)| panic!("the topic {name} could not be deleted: {error}"));
        }
        topics::wait_for_partitions(&self.client(), name, 0);
    }

    /// Deletes what lies before `offset` in a partition.
    pub(crate) async fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        let deleted = self.by_client().delete_records(&wanted, &options()).await.unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Has retention throw away all that is in a topic of one partition, and goes on to keep what comes.
    pub(crate) async fn retain_nothing(&self, topic: &str) {
        let (_, end) = self.marks(topic, 0);
        self.retain(topic, "1").await;
        let give_up = Instant::now() + PATIENCE;
        while self.marks(topic, 0).0 != end {
            assert!(Instant::now() < give_up, "the topic {topic} keeps what it should not");
            std::thread::sleep(Duration::from_millis(50));
        }
        self.retain(topic, "-1").await;
    }

    async fn retain(&self, topic: &str, milliseconds: &str) {
        let wanted = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("retention.ms", milliseconds);
        for altered in self.by_client().alter_configs([&wanted], &options()).await.unwrap() {
            altered.unwrap_or_else(|(_, error)| panic!("the topic {topic} could not be altered: {error}"));
        }
    }

    /// A producer that sends nothing twice, whatever becomes of a broker.
    pub(crate) fn producer(&self) -> Producer {
        let mut client = self.client();
        client.set("enable.idempotence", "true");
        Producer::new(client, Compression::Lz4)
    }

    /// What a group has committed, by partition: the offset of the next message to be read. A partition
    /// without a commit has no entry.
    pub(crate) fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        topics::committed(&self.client(), group, topic)
    }

    /// The first offset of a partition, and the one behind its last.
    pub(crate) fn marks(&self, topic: &str, partition: i32) -> (i64, i64) {
        let consumer: BaseConsumer = self.client().create().unwrap();
        consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap()
    }

    /// What every client needs that may do everything.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.addresses.join(","));
        client
    }

    fn by_client(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A folder of this process. What processes left behind that were killed, or whose brokers lasted until their end, is
/// removed.
fn home() -> TempDir {
    let runs = distribution::root().join("runs");
    fs::create_dir_all(&runs).unwrap();
    for run in fs::read_dir(&runs).unwrap().filter_map(Result::ok) {
        let name = run.file_name().into_string().unwrap();
        let process = name.split('-').next().unwrap();
        if !Path::new("/proc").join(process).exists() {
            // Another one may be at it.
            let _ = fs::remove_dir_all(run.path());
        }
    }
    tempfile::Builder::new().prefix(&format!("{}-", std::process::id())).tempdir_in(runs).unwrap()
}
