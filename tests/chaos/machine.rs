//! The machine as the process sees it: its disk, its clock, its resolver, its descriptors. They fail by a shim in C
//! that is loaded in front of the C library; it is compiled when a laboratory opens.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The state of the queue's disk. The numbers are those of the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disk {
    Sound = 0,
    Full = 1,
    SyncFails = 2,
    ReadOnly = 3,
}

/// What is spoiled now. The places of the numbers in the page are those of the shim.
pub(crate) struct Machine {
    page: File,
    page_path: PathBuf,
    shim: PathBuf,
    /// A bit for each storm.
    names_gone: i64,
}

/// The name of a storm's intake, which the shim knows.
pub(crate) fn host(storm: u8) -> String {
    format!("storm-{storm}.localhost")
}

impl Machine {
    /// Compiles the shim into `home`.
    pub(crate) fn new(home: &Path) -> Self {
        let (page_path, shim) = (home.join("page"), home.join("shim.so"));
        fs::write(&page_path, [0; 24]).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/shim.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .args([&shim, &source])
            .arg("-ldl")
            .output()
            .unwrap_or_else(|error| panic!("cc could not be run: {error}; `make tools` installs it"));
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let page = File::options().write(true).open(&page_path).unwrap();
        Self { page, page_path, shim, names_gone: 0 }
    }

    /// What a process needs in its environment for `directory` to be on the disk that fails.
    pub(crate) fn environment(&self, directory: &Path) -> [(&'static str, String); 3] {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            ("LD_PRELOAD", text(&self.shim)),
            ("CHAOS_PAGE", text(&self.page_path)),
            ("CHAOS_DIRECTORY", text(directory)),
        ]
    }

    pub(crate) fn set_clock_ahead(&self, seconds: i64) {
        self.write(0, seconds);
    }

    pub(crate) fn set_disk(&self, disk: Disk) {
        self.write(1, disk as i64);
    }

    /// Whether the name of this storm's intake is found.
    pub(crate) fn set_name_gone(&mut self, storm: u8, is_gone: bool) {
        let bit = 1 << storm;
        self.names_gone = if is_gone { self.names_gone | bit } else { self.names_gone & !bit };
        self.write(2, self.names_gone);
    }

    fn write(&self, place: u64, number: i64) {
        self.page.write_all_at(&number.to_ne_bytes(), place * 8).unwrap();
    }
}

/// Leaves a process fewer descriptors than it has: what it closes it can't open again.
pub(crate) fn take_descriptors(process: u32) {
    let open = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
    limit_descriptors(process, &(open / 2).to_string());
}

/// Gives it as many as a service has by default.
pub(crate) fn give_descriptors(process: u32) {
    limit_descriptors(process, "1024");
}

/// The soft limit. A process that is gone has no use for it.
fn limit_descriptors(process: u32, limit: &str) {
    let arguments = ["--pid", &process.to_string(), &format!("--nofile={limit}:")].map(str::to_owned);
    let limited = Command::new("prlimit").args(arguments).output().unwrap();
    let is_gone = || !fs::exists(format!("/proc/{process}")).unwrap();
    assert!(limited.status.success() || is_gone(), "prlimit: {limited:?}");
}

/// Whether a process has been stopped, and not been told to go on.
pub(crate) fn is_stopped(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
}

/// The most memory that a process has had, in KiB; 0 for one that is gone.
pub(crate) fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}
