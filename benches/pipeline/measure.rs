//! Time and CPU time.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

/// `/proc` counts CPU time in hundredths of a second, whatever the kernel's own tick is. Source: `proc(5)`,
/// `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that Rust's standard library runs on.
const TICK: Duration = Duration::from_millis(10);

/// What something cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Events, or series.
    pub(crate) pieces: u64,
    /// By the clock on the wall.
    pub(crate) elapsed: Duration,
    /// User and system.
    pub(crate) cpu: Duration,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people to read")]
impl Cost {
    pub(crate) fn per_second(self) -> f64 {
        self.pieces as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    pub(crate) fn cpu_per_million(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.pieces as f64
    }
}

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
        Ok(Self { started: Instant::now(), cpu: process_cpu()?, read: process_cpu })
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

/// The 14th and 15th field of `stat`: user and system time of the process. The second is the program's name
/// in parentheses, which may hold anything.
fn process_cpu() -> Result<Duration, Box<dyn Error>> {
    cpu_of(std::process::id())
}

/// The same of any process.
pub(crate) fn cpu_of(process: u32) -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or("stat has no name")?;
    let ticks: Vec<u32> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}
