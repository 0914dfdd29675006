//! The stations one by one, on the thread at hand.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use braze_datadog::pipeline::collapse::Collapse;
use braze_datadog::pipeline::encode::encode;
use braze_events::decode::Decoder;
use braze_events::{Decoded, Field, SEND_TYPES, SendEvent};
use datadog_points::payload::PayloadLimits;
use event_queues::{EventDefaults, Framing};
use foldhash::fast::RandomState;
use send_counts::aggregate::names::KnownNames;
use send_counts::aggregate::prepared::PreparedSends;
use send_counts::aggregate::tags::{self, Layout, Names, Tag};
use send_counts::aggregate::{self, Aggregator, Timestamp};
use send_counts::dedup::{self, Dedup, IdHasher, OwnedId};
use send_counts::route::ConnectionId;

use crate::measure::{Cost, Watch};

/// What is counted by default.
pub(crate) const COUNTED: [&str; 8] = {
    let mut names = [""; 8];
    let mut number = 0;
    while number < names.len() {
        names[number] = SEND_TYPES[number].0;
        number += 1;
    }
    names
};

/// What a delivery from a file holds, roughly.
const CHUNK_BYTES: usize = 512 * 1024;

/// Sends that are counted together.
const GROUP: usize = 128;

/// Ids in the dedup row, more than fit into a cache.
const IDS: usize = 1_000_000;

const METRIC: &str = "braze.messaging.sent";
const NOW: u64 = 1_800_000_000;

/// How sends become counts in every row.
pub(crate) fn aggregate() -> aggregate::AggregateSettings {
    aggregate::AggregateSettings {
        timestamp: Timestamp::Arrival,
        flush_interval: Duration::from_secs(1),
        ..send_counts::testing::aggregate_settings(1_000_000)
    }
}

/// The default tags.
pub(crate) fn layout() -> Arc<Layout> {
    let include = Tag::ALL.into_iter().filter(|tag| *tag != Tag::Channel).collect();
    Arc::new(Layout::new(&tags::TagSettings { include, static_tags: Vec::new(), names: Names::Latest }))
}

fn decoder() -> Decoder {
    Decoder::new(&COUNTED.map(Box::from), false)
}

/// Whole lines, as the files' queue delivers them.
fn deliveries(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        let at_least = rest.len().min(CHUNK_BYTES);
        let end = rest[at_least..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |at| at_least + at + 1);
        let (chunk, left) = rest.split_at(end);
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn decoded(lines: &[u8], mut emit: impl FnMut(Decoded<'_>)) -> u64 {
    let (mut decoder, defaults, mut events) = (decoder(), EventDefaults::default(), 0);
    for chunk in deliveries(lines) {
        decoder.decode(chunk, &Framing::Lines, &defaults, |decoded| {
            events += 1;
            emit(decoded);
        });
    }
    events
}

/// Reads NDJSON.
pub(crate) fn decode(lines: &[u8], sends: u64) -> Result<Cost, Box<dyn Error>> {
    let watch = Watch::thread()?;
    let mut found = 0;
    let events = decoded(lines, |decoded| found += u64::from(matches!(black_box(decoded), Decoded::Send(_))));
    let cost = watch.cost(events)?;
    assert_eq!(found, sends, "every send is found");
    Ok(cost)
}

/// Reads NDJSON and counts its sends, by the group as a lane does.
pub(crate) fn decode_and_record(lines: &[u8], sends: u64) -> Result<Cost, Box<dyn Error>> {
    let watch = Watch::thread()?;
    let mut aggregator = Aggregator::new(layout(), &aggregate(), RandomState::default());
    let (mut prepared, mut waiting) = (PreparedSends::default(), 0);
    let events = decoded(lines, |decoded| {
        if let Decoded::Send(event) = decoded {
            aggregator.prepare(&mut prepared, ConnectionId(0), &event, "email", NOW, NOW);
            waiting += 1;
            if waiting == GROUP {
                settle(&mut aggregator, &mut prepared, std::mem::take(&mut waiting));
            }
        }
    });
    settle(&mut aggregator, &mut prepared, waiting);
    let cost = watch.cost(events)?;
    assert_eq!(aggregator.sends(), sends, "every send is counted");
    Ok(cost)
}

fn settle(aggregator: &mut Aggregator, prepared: &mut PreparedSends, sends: usize) {
    aggregator.prefetch(prepared);
    (0..sends).for_each(|number| aggregator.count(prepared, number));
    prepared.clear();
}

/// Event ids, a million of them.
pub(crate) fn ids(lines: &[u8]) -> Vec<Box<[u8]>> {
    let mut ids = Vec::with_capacity(IDS);
    while ids.len() < IDS {
        let round = [b'a' + u8::try_from(ids.len() * 20 / IDS).unwrap_or_default()];
        decoded(lines, |decoded| {
            if let Decoded::Send(event) = decoded {
                ids.push([event.id, &round].concat().into());
            }
        });
    }
    ids
}

/// Remembers ids, all of them new.
pub(crate) fn dedup(ids: &[Box<[u8]>]) -> Result<Cost, Box<dyn Error>> {
    let watch = Watch::thread()?;
    let hasher = IdHasher::default();
    let mut dedup = Dedup::new(dedup::DedupSettings { window: Duration::from_mins(10), max_ids: ids.len() });
    let (mut new, mut group) = (0, Vec::new());
    // A lane's group of sends, divided over the shards.
    for ids in ids.chunks(GROUP / 8) {
        group.extend(ids.iter().map(|id| OwnedId::new(hasher.hash(id), Some(ConnectionId(0)))));
        dedup.prefetch(group.iter().copied());
        new += group.drain(..).filter(|id| dedup.insert(*id, 0)).count();
    }
    let cost = watch.cost(ids.len() as u64)?;
    assert_eq!(new, ids.len(), "no id is taken for another");
    Ok(cost)
}

/// Two lanes' counts of the same series.
pub(crate) fn cut(series: u32) -> [Aggregator; 2] {
    let hasher = RandomState::default();
    [0, 1].map(|_| {
        let mut aggregator = Aggregator::new(layout(), &aggregate(), hasher.clone());
        record_all(&mut aggregator, series);
        aggregator
    })
}

/// One lane's counts.
pub(crate) fn lane(series: u32) -> Aggregator {
    let mut aggregator = Aggregator::new(layout(), &aggregate(), RandomState::default());
    record_all(&mut aggregator, series);
    aggregator
}

/// One send for each of so many series.
pub(crate) fn record_all(aggregator: &mut Aggregator, series: u32) {
    for number in 0..series {
        let ids = [number % 5, number, number / 4].map(|id| format!("{id:08x}-2c45-40c4-81be-043f90821002"));
        let name = format!("Summer Sale, 20% off: “last call” {number}");
        let mut fields: [&[u8]; 8] = [b""; 8];
        fields[Field::AppGroupId as usize] = ids[0].as_bytes();
        fields[Field::CanvasStepId as usize] = ids[1].as_bytes();
        fields[Field::CanvasStepName as usize] = name.as_bytes();
        fields[Field::CanvasId as usize] = ids[2].as_bytes();
        let event = SendEvent { event_type: 0, id: b"id", time: None, fields };
        aggregator.record(ConnectionId(0), &event, "email", NOW, NOW);
    }
}

/// Writes request bodies.
pub(crate) fn encode_all(cuts: &[Aggregator; 2]) -> Result<Cost, Box<dyn Error>> {
    let watch = Watch::thread()?;
    let numbers: Vec<u32> = (0u32..).take(cuts[0].len()).collect();
    let mut series = 0;
    encode(&cuts[0], &numbers, METRIC, [], PayloadLimits::default(), |payload| {
        series += black_box(payload).series as u64;
    });
    watch.cost(series)
}

/// All that a flush does, from the lanes' cuts to request bodies.
pub(crate) fn flush(cuts: &mut [Aggregator; 2], names_max: u32) -> Result<Cost, Box<dyn Error>> {
    let watch = Watch::thread()?;
    let [merged, other] = cuts;
    merged.merge(other);
    let mut names = KnownNames::new(2 * names_max as usize);
    names.settle(merged);
    black_box(Collapse::default().follow(&mut names));
    let mut series = 0;
    for (_, numbers) in merged.by_connection() {
        encode(merged, &numbers, METRIC, [], PayloadLimits::default(), |payload| {
            series += black_box(payload).series as u64;
        });
    }
    watch.cost(series)
}
