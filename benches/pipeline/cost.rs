//! What something cost, and the CPU time of a process.

use std::error::Error;
use std::fs;
use std::time::Duration;

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

/// The 14th and 15th field of `/proc/PROCESS/stat`: user and system time. The second is the program's name in
/// parentheses, which may hold anything. A process is its number, or `self`.
pub(crate) fn process_cpu(process: &str) -> Result<Duration, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').ok_or("stat has no name")?;
    let ticks: Vec<u32> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}
