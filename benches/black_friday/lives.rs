//! What is known of each life of a process: when it was what, and what its log says. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// A process, from its start to its end.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) number: u8,
    /// Which of the forwarders it is.
    pub(crate) member: usize,
    pub(crate) process: u32,
    /// From the start until it was ready.
    pub(crate) ready_after: Duration,
    /// When it was killed, if it was: Unix milliseconds.
    pub(crate) killed: Option<i64>,
    /// How long its stop took.
    pub(crate) stopped_after: Duration,
    pub(crate) log: Log,
}

/// What is read out of a log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    /// Sends that were dropped, by connection and reason.
    pub(crate) drops: BTreeMap<(String, String), u64>,
    pub(crate) flushes: Vec<Flush>,
    /// Received, accepted and dropped in all, as the last line says.
    pub(crate) stopped: Option<[u64; 3]>,
    /// Lines of level ERROR that tell of no drop.
    pub(crate) errors: Vec<String>,
}

/// A flush that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flush {
    pub(crate) series: u64,
    pub(crate) sends: u64,
    pub(crate) milliseconds: u64,
    /// When it was over: Unix milliseconds.
    pub(crate) over: i64,
}

impl Flush {
    /// When it began: Unix milliseconds.
    pub(crate) fn begun(self) -> i64 {
        self.over.saturating_sub_unsigned(self.milliseconds)
    }
}

/// The connection's name.
pub(crate) fn name(connection: u16) -> String {
    format!("c{connection:04}")
}

/// Reads what a process has said.
pub(crate) fn read_log(text: &str) -> Log {
    let mut log = Log::default();
    for line in text.lines() {
        // The last line of one that was killed may be cut off.
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let number = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("no {key} in {line}"));
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        match line["message"].as_str().unwrap_or_default() {
            "sends were dropped" => {
                *log.drops.entry((text("connection"), text("reason"))).or_default() += number("sends");
            }
            "flushed" => log.flushes.push(Flush {
                series: number("series"),
                sends: number("accepted") + number("dropped"),
                milliseconds: number("milliseconds"),
                over: text("timestamp").parse::<Timestamp>().unwrap().as_millisecond(),
            }),
            "stopped" => log.stopped = Some(["received", "accepted", "dropped"].map(number)),
            _ if line["level"] == "ERROR" => log.errors.push(line.to_string()),
            _ => {}
        }
    }
    log
}
