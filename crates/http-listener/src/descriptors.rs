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
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             62879                62879                processes \n\
                      Max open files            1024                 1048576              files     \n";
        assert_eq!(parse(limits), 1024);
        assert_eq!(parse(&limits.replace("1024 ", "unlimited ")), UNKNOWN);
        assert_eq!(parse(""), UNKNOWN);
        assert!(soft_limit() > 0);
    }
}
