//! Hands on which commit the binary is built from, and of which time, for `--version`; `src/commands/version.rs` words it.
//!
//! What a packager says comes first: `BRAZE_DATADOG_COMMIT`, and `SOURCE_DATE_EPOCH` in Unix seconds. Git is asked only by
//! the profile `dist`, so that a commit costs nobody who develops a build. Where neither knows, the version stands alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a packager names the commit in.
const COMMIT: &str = "BRAZE_DATADOG_COMMIT";
/// What a packager names the time in. Source: reproducible-builds.org.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// What the binary is made of.
const SOURCES: [&str; 5] = ["build.rs", "Cargo.toml", "Cargo.lock", "src", "crates"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rerun-if-env-changed={EPOCH}");
    let given = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let (mut commit, mut seconds) = (given(COMMIT), given(EPOCH));
    if (commit.is_none() || seconds.is_none()) && is_shipped() && is_checked_out() {
        watch();
        commit = commit.or_else(|| git(&["describe", "--always", "--dirty", "--exclude=*", "--abbrev=9"]));
        seconds = seconds.or_else(|| git(&["log", "-1", "--format=%ct"]));
    }
    if let Some(commit) = commit {
        println!("cargo::rustc-env=BRAZE_DATADOG_BUILD_COMMIT={commit}");
    }
    if let Some(seconds) = seconds {
        if seconds.parse::<u32>().is_err() {
            println!("cargo::error={EPOCH} is `{seconds}`, but must be Unix seconds, such as 1700000000");
        }
        println!("cargo::rustc-env=BRAZE_DATADOG_BUILD_SECONDS={seconds}");
    }
}

/// Whether the profile is `dist`: cargo names it in no variable, but builds in a directory of that name.
fn is_shipped() -> bool {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    out.ancestors().take(5).any(|directory| directory.ends_with("dist"))
}

/// Whether git knows this very file: a package that was unpacked below somebody else's repository is not of its commits.
fn is_checked_out() -> bool {
    git(&["ls-files", "--error-unmatch", "build.rs"]).is_some()
}

/// Has cargo ask anew after a commit, a checkout, and a change that makes the tree another one than the commit's.
fn watch() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let refs = ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref());
    let refs = refs.filter_map(|name| git(&["rev-parse", "--git-path", name]));
    // What does not exist would have it asked every time.
    for path in refs.chain(SOURCES.map(str::to_owned)).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
}

/// What git prints; nothing if it fails, or is not there.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}
