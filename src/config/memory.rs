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
mod tests {
    use super::*;

    fn available_with(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available_below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16384 kB\nMemFree:        1 kB\n");

    #[test]
    fn the_least_of_machine_container_and_service_counts() {
        let machine = 16 << 20;
        assert_eq!(available_with(&[]), UNKNOWN);
        assert_eq!(available_with(&[MEMINFO]), machine);
        let v2 = "sys/fs/cgroup/memory.max";
        assert_eq!(available_with(&[MEMINFO, (v2, "max\n")]), machine);
        assert_eq!(available_with(&[MEMINFO, (v2, "5000\n")]), 5000);
        let v1 = "sys/fs/cgroup/memory/memory.limit_in_bytes";
        assert_eq!(available_with(&[MEMINFO, (v1, "9223372036854771712\n")]), machine);
        assert_eq!(available_with(&[MEMINFO, (v1, "6000\n")]), 6000);
        let service = ("proc/self/cgroup", "0::/system.slice/braze-datadog.service\n");
        let limit = ("sys/fs/cgroup/system.slice/braze-datadog.service/memory.max", "7000\n");
        assert_eq!(available_with(&[MEMINFO, service, limit]), 7000);
        let slice = ("sys/fs/cgroup/system.slice/memory.max", "4000\n");
        assert_eq!(available_with(&[MEMINFO, service, limit, slice]), 4000);
        let group = ("proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory:/docker/b\n");
        let limit = ("sys/fs/cgroup/memory/docker/b/memory.limit_in_bytes", "8000\n");
        assert_eq!(available_with(&[MEMINFO, group, limit]), 8000);
    }

    #[test]
    fn what_can_not_be_read_sets_no_limit() {
        let outside = ("proc/self/cgroup", "0::/../../other\nnonsense\n");
        assert_eq!(available_with(&[("proc/meminfo", "MemTotal: many kB\n"), outside]), UNKNOWN);
        assert_eq!(available_with(&[MEMINFO, outside, ("sys/fs/cgroup/memory.max", "-1\n")]), 16 << 20);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available() > 1 << 20);
    }
}
