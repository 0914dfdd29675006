//! How many lanes there are, and how many series they may hold together: by default as many as the machine has cores and
//! memory for.

use std::num::NonZeroUsize;

use super::check::Check;
use super::memory;
use super::settings::Settings;

/// The default number of lanes is at most this.
const LANES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);
/// What a series takes in memory, on average, with its key and its names.
const SERIES_BYTES: u64 = 512;
/// The part of the memory that series may take by default.
const SERIES_MEMORY_PART: u64 = 4;

/// What the machine has for this process. Found out once: what follows from it changes with a restart only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    cores: NonZeroUsize,
    /// In bytes.
    memory: u64,
}

impl Default for Machine {
    /// As it is now.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { cores, memory: memory::available() }
    }
}

impl Check<'_> {
    /// How many series all connections may have together, and how many lanes there are.
    pub(super) fn lanes(&mut self, Settings { flush, lanes, .. }: &mut Settings) -> NonZeroUsize {
        const KEY: &str = "flush.max_series_total";
        let Machine { cores, memory } = self.purpose.machine;
        let one = flush.max_series;
        let is_by_memory = flush.max_series_total == 0;
        if is_by_memory {
            let fitting = memory / SERIES_MEMORY_PART / SERIES_BYTES;
            flush.max_series_total = usize::try_from(fitting).unwrap_or(usize::MAX).max(one);
        }
        let total = flush.max_series_total;
        let count = NonZeroUsize::new(*lanes).unwrap_or_else(|| lanes_by_default(cores, total, one));
        *lanes = count.get();
        if total < one {
            let reason = format!(
                "{total} is less than flush.max_series, {one}, so that no connection could have as many; raise it, or \
                 lower flush.max_series"
            );
            self.diagnostics.error(KEY, reason);
        } else if total / count < one {
            let overflows = "a connection whose sends come in all lanes overflows before it has as many";
            let each = total / count;
            if is_by_memory {
                let reason = format!(
                    "{count} lanes have room for {each} series each in a quarter of the memory here, less than \
                     flush.max_series, {one}: {overflows}; lower lanes or flush.max_series, give it more memory, or set {KEY}"
                );
                self.diagnostics.warn("lanes", reason);
            } else {
                let reason = format!(
                    "{total} is {each} for each of the {count} lanes, less than flush.max_series, {one}: {overflows}"
                );
                self.diagnostics.warn(KEY, reason);
            }
        }
        count
    }
}

/// A lane for each core, but no more than have room for the series of a connection: each has its part of the `total`.
fn lanes_by_default(cores: NonZeroUsize, total: usize, series_max: usize) -> NonZeroUsize {
    let with_room = NonZeroUsize::new(total / series_max.max(1)).unwrap_or(NonZeroUsize::MIN);
    cores.min(LANES_MAX).min(with_room)
}

#[cfg(test)]
mod tests;
