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
