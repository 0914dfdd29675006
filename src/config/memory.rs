//! The memory that this process may use, as far as Linux tells.

use std::fs;
use std::path::Path;

/// The assumption where no system tells.
const UNKNOWN: u64 = 1 << 30;

/// The memory of the machine, or of the container or service if that has less.
pub(super) fn available() -> u64 {
    available_below(Path::new("/"))
}

/// The same, by the files below `root`. A missing file, or `max`, is no limit.
fn available_below(root: &Path) -> u64 {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let machine = read("proc/meminfo").as_deref().and_then(total);
    let groups = read("proc/self/cgroup").unwrap_or_default();
    // The root, too: a container often mounts its group there, whatever the path outside is.
    let limits = groups.lines().chain(["0::/", "0:memory:/"]).flat_map(limit_files);
    let limits = limits.filter_map(|file| read(&file)?.trim().parse().ok());
    limits.chain(machine).min().unwrap_or(UNKNOWN)
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limit files of a group, given as a line of /proc/self/cgroup, and of the groups around it.
fn limit_files(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mount, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let group = Path::new(group.trim_start_matches('/'));
    // Never outside the mount: the path of a group outside the container's begins with `..`.
    let is_inside = |group: &&Path| !group.components().any(|part| part.as_os_str() == "..");
    let groups = group.ancestors().filter(is_inside);
    groups.map(|group| Path::new(mount).join(group).join(file).to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests;
