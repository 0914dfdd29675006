//! How many file descriptors this process may have.

use std::fs;

/// The limit where the system states none.
const UNKNOWN: usize = usize::MAX;

/// The soft limit of open files (`ulimit -n`, `LimitNOFILE=`).
pub(crate) fn soft_limit() -> usize {
    fs::read_to_string("/proc/self/limits").map_or(UNKNOWN, |limits| parse(&limits))
}

/// Source: `proc_pid_limits(5)`: name, soft limit, hard limit, unit, with white space between.
fn parse(limits: &str) -> usize {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests;
