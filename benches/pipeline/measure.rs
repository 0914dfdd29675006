//! Time and CPU time.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use crate::cost::process_cpu;

pub(crate) use crate::cost::Cost;

/// A clock that runs since it was made.
#[derive(Debug)]
pub(crate) struct Watch {
    started: Instant,
    cpu: Duration,
    read: fn() -> Result<Duration, Box<dyn Error>>,
}

impl Watch {
    /// Over this thread alone, exact.
    pub(crate) fn thread() -> Result<Self, Box<dyn Error>> {
        Ok(Self { started: Instant::now(), cpu: thread_cpu()?, read: thread_cpu })
    }

    /// Over all threads, those that have ended too; in hundredths of a second.
    pub(crate) fn process() -> Result<Self, Box<dyn Error>> {
        Ok(Self { started: Instant::now(), cpu: process_cpu("self")?, read: || process_cpu("self") })
    }

    /// What `pieces` cost since then.
    pub(crate) fn cost(&self, pieces: u64) -> Result<Cost, Box<dyn Error>> {
        let cpu = (self.read)()?.saturating_sub(self.cpu);
        Ok(Cost { pieces, elapsed: self.started.elapsed(), cpu })
    }
}

/// The median by CPU time of so many rounds, after one to warm up.
pub(crate) fn median(
    rounds: usize,
    mut round: impl FnMut() -> Result<Cost, Box<dyn Error>>,
) -> Result<Cost, Box<dyn Error>> {
    round()?;
    let mut costs = (0..rounds).map(|_| round()).collect::<Result<Vec<_>, _>>()?;
    costs.sort_unstable_by_key(|cost| cost.cpu);
    Ok(costs[rounds / 2])
}

/// The first number of `schedstat`: nanoseconds on a CPU.
fn thread_cpu() -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = text.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}
