//! A system that gives few threads: the start says so, however few they are.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::image::is_root;
use crate::support::forwarder::Configuration;
use crate::support::intake::Intake;
use crate::support::{KEY, children};

/// Of nobody: the limit counts all threads of a user.
const USER: u32 = 54_321;

/// More than a start takes.
const THREADS_MAX: u32 = 60;

/// Runs the binary where there may be so many threads; one that has started is stopped after a while.
fn run(binary: &Path, configuration: &Path, threads: u32, is_root: bool) -> Output {
    let mut command = children::command("timeout");
    command.args(["--signal", "TERM", "10", "prlimit", &format!("--nproc={threads}")]);
    if is_root {
        let user = USER.to_string();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
    }
    command.arg(binary).arg("run").arg("--config").arg(configuration).output().unwrap()
}

#[test]
fn a_start_that_gets_too_few_threads_says_so_however_few_they_are() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let (file, home) = (configuration.write(), configuration.home());
    let is_root = is_root();
    let binary = home.join("binary");
    children::install(Path::new(env!("CARGO_BIN_EXE_braze-datadog")), Stdio::null(), &binary);
    if is_root {
        fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
        for path in [home, &file, &binary] {
            chown(path, Some(USER), Some(USER)).unwrap();
        }
    }
    // Root's threads are not limited, and those of any other user are more than one.
    let most = if is_root { THREADS_MAX } else { 1 };
    for threads in 1..=most {
        let Output { status, stderr, .. } = run(&binary, &file, threads, is_root);
        let log = String::from_utf8_lossy(&stderr);
        // What `timeout` ends with, where it had to.
        if status.code() == Some(124) {
            assert!(threads > 4 && log.contains("\"started\""), "{threads}: {log}");
            return;
        }
        assert_eq!(status.code(), Some(1), "{threads}: {log}");
        // Log lines come from a thread of their own.
        let is_it = |line: &str| line.starts_with("braze-datadog: ") && line.contains("ulimit -u");
        assert!(log.lines().any(is_it), "{threads}: {log}");
    }
    assert!(!is_root, "it has not started with {most} threads");
}

#[tokio::test]
async fn as_many_files_may_be_open_as_the_hard_limit_allows() {
    let intake = Intake::start();
    let configuration = Configuration::new().connection("acme", &intake.url(), KEY, &[]);
    let forwarder = configuration.wrapper("ulimit -S -n 128 && ulimit -H -n 4096 && exec").start().await;
    assert_eq!(forwarder.metrics().await.sum("process_max_fds", &[]), 4096);
    assert!(!forwarder.log().contains("push takes fewer connections"), "{}", forwarder.log());
}
