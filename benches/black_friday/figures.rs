//! What the report shows, out of what was seen. Pure.

use std::collections::BTreeMap;

use super::arrivals::Fate;
use super::audit::Audit;
use super::chart::Line;
use super::day::Day;
use super::lives::{Flush, Life};
use super::plan::FORWARDERS;
use super::watch::Usage;

/// What a thread of a forwarder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// The Kafka client and the lanes: read, decode, count.
    Counting,
    /// The flush thread: merge, name, encode, compress.
    Flushing,
    /// The runtime: requests, TLS, the loop.
    Sending,
    /// Start, reloads, history, files, log.
    Rest,
}

impl Work {
    fn of(thread: &str) -> Self {
        match thread {
            thread if thread.starts_with("lane-") || thread.starts_with("rdk:") || thread == "kafka" => {
                Self::Counting
            }
            "flush" => Self::Flushing,
            thread if thread.starts_with("tokio") => Self::Sending,
            _ => Self::Rest,
        }
    }
}

/// CPU seconds of all forwarders, and what they were for.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    pub(crate) cpu: BTreeMap<Work, f64>,
    pub(crate) sends: f64,
    pub(crate) series: f64,
    pub(crate) points: f64,
    pub(crate) requests: f64,
    /// Of bodies, as they are sent.
    pub(crate) bytes: f64,
    /// Seconds of all processes.
    pub(crate) seconds: f64,
}

impl Costs {
    pub(crate) fn of(day: &Day, audit: &Audit) -> Self {
        let mut costs = Self::default();
        for life in &day.lives {
            let seen: Vec<(f64, &Usage)> = day
                .looks
                .iter()
                .filter_map(|look| Some((look.at, look.forwarders.get(&life.number)?)))
                .collect();
            let (Some((first, _)), Some((last, usage))) = (seen.first(), seen.last()) else { continue };
            costs.seconds += last - first;
            let mut all = 0.0;
            for (thread, cpu) in &usage.threads {
                *costs.cpu.entry(Work::of(thread)).or_default() += cpu;
                all += cpu;
            }
            // Threads that are gone.
            *costs.cpu.entry(Work::Rest).or_default() += (usage.cpu - all).max(0.0);
            costs.series += flushes(life).map(|flush| whole(flush.series)).sum::<f64>();
        }
        costs.sends = whole(day.truth.sends + audit.repeated);
        costs.points = day.arrivals.iter().map(|arrival| f64::from(arrival.points)).sum();
        costs.bytes = day.arrivals.iter().map(|arrival| f64::from(arrival.bytes)).sum();
        costs.requests = whole(day.arrivals.len() as u64);
        costs
    }

    pub(crate) fn cpu(&self, work: Work) -> f64 {
        self.cpu.get(&work).copied().unwrap_or_default()
    }
}

fn flushes(life: &Life) -> impl Iterator<Item = &Flush> {
    life.log.flushes.iter()
}

#[expect(clippy::cast_precision_loss, reason = "figures for people to read")]
pub(crate) fn whole(number: u64) -> f64 {
    number as f64
}

/// The value below which a part of them lies.
pub(crate) fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let place = (whole(values.len() as u64) * part) as usize;
    values.get(place.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// One forwarder, over all its lives.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) cpu: f64,
    pub(crate) memory_peak: u64,
    pub(crate) points: u64,
    pub(crate) sends: u64,
    pub(crate) files: usize,
    /// Milliseconds, and series, of flushes.
    pub(crate) took: Vec<f64>,
    pub(crate) series: Vec<f64>,
}

pub(crate) fn rows(day: &Day) -> Vec<Row> {
    (0..FORWARDERS).map(|member| row(day, member)).collect()
}

fn row(day: &Day, member: usize) -> Row {
    let lives: Vec<&Life> = day.lives.iter().filter(|life| life.member == member).collect();
    let usages = |life: u8| day.looks.iter().filter_map(move |look| look.forwarders.get(&life));
    let all = || lives.iter().flat_map(|life| usages(life.number));
    let is_of = |life: u8| lives.iter().any(|one| one.number == life);
    let accepted = || day.arrivals.iter().filter(|one| is_of(one.sender.life) && one.fate == Fate::Accepted);
    Row {
        cpu: lives.iter().filter_map(|life| usages(life.number).last()).map(|usage| usage.cpu).sum(),
        memory_peak: all().map(|usage| usage.memory_peak).max().unwrap_or_default(),
        points: accepted().map(|arrival| u64::from(arrival.points)).sum(),
        sends: accepted().map(|arrival| arrival.sends).sum(),
        files: all().map(|usage| usage.files).max().unwrap_or_default(),
        took: lives.iter().flat_map(|life| flushes(life)).map(|flush| whole(flush.milliseconds)).collect(),
        series: lives.iter().flat_map(|life| flushes(life)).map(|flush| whole(flush.series)).collect(),
    }
}

/// Something of each forwarder over time, from each two looks.
pub(crate) fn by_forwarder(day: &Day, value: impl Fn(f64, &Usage, &Usage) -> f64) -> Vec<Line> {
    let line = |member: usize| {
        let lives = day.lives.iter().filter(|life| life.member == member).map(|life| life.number);
        let lives: Vec<u8> = lives.collect();
        let points = day.looks.windows(2).map(|pair| {
            let alive = lives
                .iter()
                .find_map(|life| Some((pair[0].forwarders.get(life)?, pair[1].forwarders.get(life)?)));
            let seconds = pair[1].at - pair[0].at;
            (pair[1].at, alive.map_or(0.0, |(before, now)| value(seconds, before, now)))
        });
        (format!("forwarder {}", member + 1), points.collect())
    };
    (0..FORWARDERS).map(line).collect()
}

/// Points a second of each forwarder, over ten seconds each.
pub(crate) fn points(day: &Day) -> Vec<Line> {
    let lines = (0..FORWARDERS).map(|member| {
        let mut slots = BTreeMap::<u32, f64>::new();
        let is_of = |life: u8| day.lives.iter().any(|one| one.number == life && one.member == member);
        for arrival in day.arrivals.iter().filter(|arrival| is_of(arrival.sender.life)) {
            *slots.entry(arrival.at / 10_000).or_default() += f64::from(arrival.points) / 10.0;
        }
        let last = slots.keys().last().copied().unwrap_or_default();
        let point = |slot: u32| (f64::from(slot) * 10.0 + 5.0, slots.get(&slot).copied().unwrap_or_default());
        (format!("forwarder {}", member + 1), (0..=last).map(point).collect())
    });
    lines.collect()
}

/// Sends a second into Kafka and out to Datadog, over five seconds each.
pub(crate) fn flow(day: &Day) -> Vec<Line> {
    const SLOT: usize = 5;
    let slots = |seconds: Vec<f64>| {
        let of = |(slot, part): (usize, &[f64])| {
            let middle = whole((slot * SLOT) as u64) + whole(SLOT as u64) / 2.0;
            (middle, part.iter().sum::<f64>() / whole(SLOT as u64))
        };
        seconds.chunks(SLOT).enumerate().map(of).collect::<Vec<_>>()
    };
    let mut out = vec![0.0; day.arrivals.last().map_or(0, |last| last.at as usize / 1000 + 1)];
    for arrival in day.arrivals.iter().filter(|arrival| arrival.fate == Fate::Accepted) {
        out[arrival.at as usize / 1000] += whole(arrival.sends);
    }
    let produced = day.truth.seconds.iter().map(|sends| whole(*sends)).collect();
    vec![("into Kafka".into(), slots(produced)), ("accepted by Datadog".into(), slots(out))]
}

/// Messages that are not committed.
pub(crate) fn lag(day: &Day) -> Vec<Line> {
    let of = |look: &super::watch::Look| {
        let behind = look.ends.iter().zip(&look.committed).map(|(end, committed)| (end - committed).max(0));
        (look.at, whole(behind.sum::<i64>().try_into().unwrap_or_default()))
    };
    vec![("messages".into(), day.looks.iter().map(of).collect())]
}

/// How old the oldest send is that is not committed: of all partitions, and of the one in the middle.
pub(crate) fn delay(day: &Day) -> Vec<Line> {
    let (mut slowest, mut middle) = (Vec::new(), Vec::new());
    for look in &day.looks {
        let ages: Vec<f64> =
            (0..look.ends.len()).map(|partition| age(day, look.at, partition, look)).collect();
        slowest.push((look.at, quantile(ages.clone(), 1.0)));
        middle.push((look.at, quantile(ages, 0.5)));
    }
    vec![("slowest partition".into(), slowest), ("median partition".into(), middle)]
}

/// How long ago the broker had as many messages as are committed now.
fn age(day: &Day, at: f64, partition: usize, look: &super::watch::Look) -> f64 {
    let committed = look.committed[partition];
    if committed >= look.ends[partition] {
        return 0.0;
    }
    let mut before = (0.0, 0.0);
    for earlier in &day.looks {
        let end = whole(earlier.ends[partition].try_into().unwrap_or_default());
        let wanted = whole(committed.try_into().unwrap_or_default());
        if end > wanted {
            let part = (wanted - before.1) / (end - before.1);
            return at - (before.0 + (earlier.at - before.0) * part);
        }
        before = (earlier.at, end);
    }
    0.0
}

/// The most in a span of time.
pub(crate) fn most(line: &Line, from: f64, to: f64) -> f64 {
    line.1.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, value)| *value).fold(0.0, f64::max)
}

/// When a line was last above a bound, in a span of time.
pub(crate) fn last_above(line: &Line, bound: f64, from: f64, to: f64) -> Option<f64> {
    line.1.iter().filter(|(at, value)| (from..to).contains(at) && *value > bound).map(|(at, _)| *at).last()
}
