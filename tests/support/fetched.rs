//! What tests have from a registry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::children;

/// How long a registry may take, over a slow line, too. One that gives no answer can hold its client for hours.
const PATIENCE: Duration = Duration::from_mins(5);

/// A program that asks a registry: it is ended when the test process is gone, and with status 124 when it takes too long.
pub(crate) fn client(program: &str) -> Command {
    client_within(PATIENCE, program)
}

pub(crate) fn client_within(limit: Duration, program: &str) -> Command {
    let mut command = children::command("timeout");
    // Who is killed can't end what he has started.
    command.args([
        "--kill-after=10",
        &limit.as_secs().to_string(),
        "setpriv",
        "--pdeathsig",
        "KILL",
        program,
    ]);
    command
}

/// What is fetched when the first test asks for it, once: where that fails, it fails for all tests that ask, in the same
/// words, and nobody waits for the registry again.
pub(crate) struct Fetched<T>(OnceLock<Result<T, String>>);

impl<T> Fetched<T> {
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// What `fetch` returns; it stops the test when it fails. Tests that ask at the same time wait for the first one.
    pub(crate) fn get(&self, fetch: impl FnOnce() -> T) -> &T {
        let fetched = self.0.get_or_init(|| {
            catch_unwind(AssertUnwindSafe(fetch)).map_err(|panic| {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it can't be fetched").to_owned()
            })
        });
        fetched.as_ref().unwrap_or_else(|words| panic!("{words}"))
    }
}
