//! A look at the state of imports from outside, and a way to fill it, for tests and measurements.

use std::path::Path;

use twox_hash::XxHash3_128;

use super::ImportError;
use super::fingerprint::{Fingerprint, Whole};
use super::import_state::{FileRecord, Id, ImportState, Mark};
use super::plan::PlanError;
use super::record_table::RecordTable;
use crate::content::FileLayout;

/// How many records are written at once.
const AT_ONCE: u64 = 50_000;

/// Up to which position of its content each file is settled, in the order in which they were first settled.
///
/// # Errors
/// As [`open`](super::open).
pub fn settled_positions(directory: &Path) -> Result<Vec<u64>, ImportError> {
    let state = ImportState::open(directory)?;
    let read = |records: Option<&mut RecordTable<'_>>| {
        let Some(records) = records else { return Ok(Vec::new()) };
        let of = |id: Id| Ok(records.get(id)?.map(|record| record.mark.position));
        (0..records.next()).filter_map(|id| of(id).transpose()).collect::<Result<_, PlanError>>()
    };
    state.plan(read, |_| false)
}

/// Remembers so many files that never were, which begin alike for their first 5 KB and then differ, as Avro containers of one
/// schema do.
///
/// # Errors
/// As [`open`](super::open).
pub fn remember(directory: &Path, files: u64) -> Result<(), ImportError> {
    let state = ImportState::open(directory)?;
    for from in (0..files).step_by(usize::try_from(AT_ONCE).unwrap_or(usize::MAX)) {
        let write = |records: Option<&mut RecordTable<'_>>| {
            let Some(records) = records else { return Ok(()) };
            let add = |records: &mut RecordTable<'_>, number| records.add(&record(number)).map(drop);
            (from..files.min(from + AT_ONCE)).try_for_each(|number| add(records, number))?;
            Ok(())
        };
        state.plan(write, |()| false)?;
    }
    Ok(())
}

fn record(number: u64) -> FileRecord {
    let noise = |seed: u64| XxHash3_128::oneshot(&[number.to_le_bytes(), seed.to_le_bytes()].concat());
    // A hundred digits of the schema, then those of the events, as many as a file of 0.2 MB has.
    let events = [0, 1, 2].map(|seed| format!("{:032x}", noise(seed))).concat();
    let beginnings = ["0123456789".repeat(10), events[..84].to_owned()].concat();
    let bytes = 150_000 + number % 100_000;
    let whole = Some(Whole { hash: noise(7), beginnings: beginnings.into() });
    let [head, tail] = [8, 9].map(|seed| u32::try_from(noise(seed) >> 96).unwrap_or_default());
    let fingerprint = Fingerprint { end: bytes, head, tail, whole };
    let mark = Mark { layout: FileLayout::Avro, position: bytes, finished: true, container: 0, fingerprint };
    let path = format!(
        "/data/currents/event_type=users.messages.email.Send/date=2026-11-{:02}-{:02}/part-{number:012}.avro",
        number % 28 + 1,
        number % 24
    );
    FileRecord { path, mark, changed: Some(number << 20), settled_at: 1_795_000_000 + number / 10 }
}
