//! What the day is like: how many there are of everything, how the rate goes up and down, and what happens when. Pure.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// How many forwarders share the group.
pub(crate) const FORWARDERS: usize = 4;

/// Partitions of the topic: they divide evenly among 2, 3, 4, 6, 8 and 12 forwarders.
pub(crate) const PARTITIONS: i32 = 24;

/// The part of the full rate that there is when nothing in particular happens.
const CALM: f64 = 0.6;

/// Every so many seconds there are some at the full rate.
const BURST_EVERY: f64 = 30.0;
const BURST: f64 = 5.0;

/// How long a commit may be on its way.
pub(crate) const COMMIT: Duration = Duration::from_secs(1);

/// How many of a hundred sends of the worst minute are of one newsletter.
pub(crate) const NEWSLETTER_PERCENT: u64 = 20;

/// The platform's worst day on one machine: real forwarders in one Kafka group, each send accounted for.
#[derive(Debug, Clone, Parser)]
#[command(name = "black_friday")]
pub(crate) struct Plan {
    /// How long events come, in seconds
    #[arg(long, default_value_t = 480)]
    pub(crate) seconds: u32,
    /// Sends a second in the worst minute
    #[arg(long, default_value_t = 60_000)]
    pub(crate) rate: u32,
    /// Datadog connections, each a customer with one app group
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u16).range(100..))]
    pub(crate) connections: u16,
    /// Tag sets of all customers: campaigns and Canvas steps
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) tag_sets: u32,
    /// `flush.interval` in seconds: with the default's N-fold, and an N-th of the rate, each flush is as large as at the
    /// whole rate
    #[arg(long, default_value_t = 10)]
    pub(crate) flush: u32,
    /// After how many seconds the group gives up a forwarder that is gone: `session.timeout.ms` [default: librdkafka's 45,
    /// and less in a run that is too short for them]
    #[arg(long)]
    pub(crate) session: Option<u32>,
    /// What the report is called: a page, and a folder of charts beside it
    #[arg(long, default_value = "black-friday")]
    pub(crate) name: String,
    /// The folder that the report is written to
    #[arg(long, default_value = "target/black-friday")]
    pub(crate) output: PathBuf,
    /// What `cargo bench` says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// When something happens, in seconds since the first event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    /// Every connection of every forwarder gets another key, by SIGHUP.
    pub(crate) reload: f64,
    /// From here on the full rate and the newsletter, ...
    pub(crate) worst: f64,
    /// ... until here.
    pub(crate) worst_end: f64,
    /// `kill -9` for one forwarder, which its service manager starts again soon.
    pub(crate) kill: f64,
    /// Each forwarder is stopped and started again, one after the other.
    pub(crate) upgrade: f64,
    /// The last event.
    pub(crate) end: f64,
}

impl Plan {
    pub(crate) fn times(&self) -> Times {
        let end = f64::from(self.seconds);
        let worst = end * 0.3;
        let worst_end = worst + (end / 6.0).min(60.0);
        Times {
            reload: end * 0.18,
            worst,
            worst_end,
            kill: f64::midpoint(worst, worst_end),
            upgrade: end * 0.66,
            end,
        }
    }

    pub(crate) fn is_worst(&self, second: f64) -> bool {
        let times = self.times();
        (times.worst..times.worst_end).contains(&second)
    }

    /// The command that repeats it.
    pub(crate) fn command(&self) -> String {
        let mut command =
            format!("make black-friday SECONDS={} RATE={} FLUSH={}", self.seconds, self.rate, self.flush);
        let defaults = Self::parse_from(["black_friday"]);
        if self.connections != defaults.connections {
            let _ = write!(command, " CONNECTIONS={}", self.connections);
        }
        if self.tag_sets != defaults.tag_sets {
            let _ = write!(command, " TAG_SETS={}", self.tag_sets);
        }
        command
    }

    /// Sends a second at that moment.
    pub(crate) fn rate_at(&self, second: f64) -> f64 {
        let is_burst = second % BURST_EVERY > BURST_EVERY - BURST;
        let part = if self.is_worst(second) || is_burst { 1.0 } else { CALM };
        if second < self.times().end { f64::from(self.rate) * part } else { 0.0 }
    }

    pub(crate) fn session(&self) -> Duration {
        let seconds = self.session.unwrap_or_else(|| (self.seconds / 8).clamp(6, 45));
        Duration::from_secs(seconds.into())
    }
}

/// How Datadog treats a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Answers after some ten milliseconds.
    Well,
    /// Answers after some hundred milliseconds up to beyond `flush.timeout`.
    Slow,
    /// Answers 500 or 429, or hangs up.
    Failing,
    /// As [`Treatment::Well`], by an intake that judges every request and keeps every point.
    Judged,
}

impl Treatment {
    /// Whether this is why a forwarder drops sends for that reason: one that is treated well has none, while the machine has
    /// room.
    pub(crate) fn explains(self, reason: &str) -> bool {
        match self {
            Self::Well | Self::Judged => false,
            Self::Slow => reason == "timeout",
            Self::Failing => matches!(reason, "http_429" | "http_5xx" | "connect"),
        }
    }
}

/// A tenth is slow, a twentieth fails; some of all sizes are judged, the largest of which has a few thousand tag sets.
pub(crate) fn treatment(connection: u16, connections: u16) -> Treatment {
    let judged = [250, 25, 5, 2].map(|part| (connections / part).next_multiple_of(20));
    match connection {
        judge if judged.contains(&judge) => Treatment::Judged,
        slow if slow % 10 == 3 => Treatment::Slow,
        failing if failing % 20 == 7 => Treatment::Failing,
        _ => Treatment::Well,
    }
}
