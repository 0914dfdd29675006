//! The binary: runs the command line and returns the exit status.

use std::process::ExitCode;

use braze_datadog::commands;

// With musl's own a push costs three tenths more.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::main()
}
