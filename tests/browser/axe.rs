//! axe-core, which finds what keeps people out: downloaded from `PyPI` once, inside a package that carries it, checked,
//! and kept below cargo's target directory. It is given to the page by the browser's driver, not by the page.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::support::fetched::{self, Fetched};

const PACKAGE: &str = "axe-playwright-python==0.1.8";
const WHEEL: &str = "axe_playwright_python-0.1.8-py3-none-any.whl";
const WHEEL_SHA256: &str = "fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8";

/// Where the wheel keeps it.
const SCRIPT: &str = "axe_playwright_python/axe.min.js";

/// The script; downloads it where it is missing. Tests that ask at the same time wait for the first one.
pub(crate) fn script() -> &'static str {
    static FETCHED: Fetched<String> = Fetched::new();
    FETCHED.get(fetch)
}

fn fetch() -> String {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    fs::create_dir_all(&directory).unwrap();
    let script = directory.join(format!("axe-{}.js", &WHEEL_SHA256[..16]));
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    if !script.exists() {
        let work = tempfile::tempdir_in(&directory).unwrap();
        let into = work.path().to_str().unwrap();
        let mut pip = fetched::client("python3");
        run(pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest", into, PACKAGE]));
        let wheel = work.path().join(WHEEL);
        let sum = run(Command::new("sha256sum").arg(&wheel));
        assert!(sum.starts_with(WHEEL_SHA256), "{PACKAGE} is not the one that these tests know: {sum}");
        run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(into));
        // Under its name it is whole: a download that is cut off leaves nothing there.
        fs::rename(work.path().join(SCRIPT), &script).unwrap();
    }
    fs::read_to_string(script).unwrap()
}

/// Runs a command to its end; what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("axe-core for the tests: {command:?} could not be run: {error}; `make tools` installs what is missing")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "axe-core for the tests: {command:?} ended with {}: {said}",
        output.status
    );
    String::from_utf8(output.stdout).unwrap()
}
