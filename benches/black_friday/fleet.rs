//! The forwarders: the real binary, one directory of connections each, and each life of a process with what its log says.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::arrivals::Sender;
use super::lives::{Life, Log, name, read_log};
use super::plan::{Plan, Treatment, treatment};
use super::population::{IdOf, id_text};
use crate::support;
use crate::support::forwarder::{Configuration, Forwarder, quote};

/// How long a forwarder may take to be ready, or to end, on a machine that is busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is the same for all forwarders.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) plan: Plan,
    pub(crate) broker: String,
    pub(crate) topic: &'static str,
    pub(crate) group: &'static str,
    pub(crate) datadog: String,
    pub(crate) certificate: String,
    /// Of the intake that judges.
    pub(crate) judge: String,
}

/// One of the forwarders, which may be started again and again.
pub(crate) struct Member {
    number: usize,
    place: Place,
    configuration: Configuration,
    forwarder: Option<Forwarder>,
    generation: u8,
    life: Option<Life>,
}

impl Member {
    pub(crate) fn new(number: usize, place: &Place) -> Self {
        let configuration = Configuration::new()
            .without("queue.embedded.directory")
            .without("push.listen")
            .text("queue.kind", "kafka")
            .set("queue.kafka.brokers", &format!("[{}]", quote(&place.broker)))
            .set("queue.kafka.topics", &format!("[{}]", quote(place.topic)))
            .text("queue.kafka.group_id", place.group)
            .text(&option("client.id"), &client(number))
            .text(&option("session.timeout.ms"), &place.plan.session().as_millis().to_string())
            .text("flush.interval", &format!("{}s", place.plan.flush))
            // A share of it is one in 5,001; so many ids are the last ten minutes at 87,500 a second and more.
            .set("dedup.max_ids", "60000000")
            .set("flush.max_series_total", "4000000")
            .text("connections_directory", "connections")
            .trust(&place.certificate);
        let member =
            Self { number, place: place.clone(), configuration, forwarder: None, generation: 0, life: None };
        member.write_connections();
        member
    }

    fn directory(&self) -> PathBuf {
        self.configuration.home().join("connections")
    }

    /// As `braze-datadog connections add` writes them: a file and a key each.
    fn write_connections(&self) {
        fs::create_dir_all(self.directory()).unwrap();
        let connections = self.place.plan.connections;
        for connection in 0..connections {
            let url = match treatment(connection, connections) {
                Treatment::Judged => &self.place.judge,
                _ => &self.place.datadog,
            };
            let name = name(connection);
            let group = id_text(IdOf::AppGroup, connection.into());
            let text =
                format!("url = {url:?}\napi_key_file = \"{name}.key\"\napp_group_ids = [\"{group}\"]\n");
            let file = self.directory().join(format!("{name}.toml"));
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        }
    }

    fn write_keys(&self, life: u8) {
        for connection in 0..self.place.plan.connections {
            let key = Sender { life, generation: self.generation, connection }.key();
            let (path, new) = (format!("{}.key", name(connection)), format!(".{}.new", name(connection)));
            let (path, new) = (self.directory().join(path), self.directory().join(new));
            let mut file = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)
                .unwrap();
            file.write_all(key.as_bytes()).unwrap();
            fs::rename(new, path).unwrap();
        }
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(&mut self, number: u8) {
        self.generation = 0;
        self.write_keys(number);
        let started = Instant::now();
        let mut forwarder = self.configuration.spawn(&["run"]);
        let (client, url) = (support::client(None), forwarder.admin_url("/readyz"));
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200) {
                break;
            }
            let ended = forwarder.ended();
            assert!(ended.is_none(), "forwarder {} ended at its start: {}", self.number, forwarder.log());
            assert!(started.elapsed() < PATIENCE, "forwarder {} is not ready", self.number);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.life = Some(Life {
            number,
            member: self.number,
            process: forwarder.id(),
            ready_after: started.elapsed(),
            killed: None,
            stopped_after: Duration::ZERO,
            log: Log::default(),
        });
        self.forwarder = Some(forwarder);
    }

    /// The life that it lives now.
    pub(crate) fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }

    pub(crate) fn admin_url(&self, path: &str) -> String {
        self.forwarder.as_ref().unwrap().admin_url(path)
    }

    /// Gives every connection another key, and has them read.
    pub(crate) fn reload(&mut self) {
        self.generation += 1;
        self.write_keys(self.life().number);
        self.forwarder.as_ref().unwrap().signal("HUP");
    }

    /// `SIGTERM`, and its end.
    pub(crate) async fn stop(&mut self) -> Life {
        let mut forwarder = self.forwarder.take().unwrap();
        let asked = Instant::now();
        forwarder.signal("TERM");
        let status = loop {
            if let Some(status) = forwarder.ended() {
                break status;
            }
            assert!(asked.elapsed() < PATIENCE, "forwarder {} does not stop", self.number);
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let stopped_after = asked.elapsed();
        assert!(status.success(), "forwarder {} ended with {status}: {}", self.number, tail(&forwarder));
        self.conclude(&forwarder, None, stopped_after)
    }

    /// `SIGKILL`.
    pub(crate) async fn kill(&mut self) -> Life {
        let mut forwarder = self.forwarder.take().unwrap();
        let killed = Timestamp::now().as_millisecond();
        forwarder.signal("KILL");
        while forwarder.ended().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.conclude(&forwarder, Some(killed), Duration::ZERO)
    }

    fn conclude(&mut self, forwarder: &Forwarder, killed: Option<i64>, stopped_after: Duration) -> Life {
        let life = self.life.take().unwrap();
        let log = read_log(&forwarder.stderr());
        Life { killed, stopped_after, log, ..life }
    }
}

/// What a forwarder calls itself before the broker.
pub(crate) fn client(member: usize) -> String {
    format!("forwarder-{member}")
}

fn option(name: &str) -> String {
    format!("queue.kafka.options.{}", quote(name))
}

fn tail(forwarder: &Forwarder) -> String {
    let log = forwarder.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
