//! The commands of the command line. Each is a module here, but `run`, which is [`crate::app`].

mod check;
mod command_line;
mod connections;
#[cfg(feature = "generate")]
mod generate;
mod health;
mod monitors;
mod online;
mod reconcile;
mod top;
mod version;

use std::process::ExitCode;

use clap::Parser;

use self::command_line::{Arguments, Command};
#[cfg(not(feature = "generate"))]
use crate::app::left_out;
use crate::app::{FAILED, Failure, print_stderr, serve};
use crate::signal;

/// The default address of the admin port: that of `admin.listen`.
const ADMIN_URL: &str = "http://127.0.0.1:8081";

/// Runs the command of the command line and returns the exit status.
pub fn main() -> ExitCode {
    signal::leave_no_core_dump();
    signal::raise_open_files_limit();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version go to standard output, mistakes to standard error.
        Err(error) => {
            return match error.print() {
                Ok(()) if !error.use_stderr() => ExitCode::SUCCESS,
                _ => ExitCode::from(FAILED),
            };
        }
    };
    let ended = match arguments.command {
        Command::Run(run) => serve::start(&run),
        Command::Check(arguments) => check::run(&arguments),
        Command::Connections(arguments) => connections::run(*arguments),
        Command::Health(config) => health::run(&config),
        #[cfg(feature = "generate")]
        Command::Generate(arguments) => generate::run(&arguments),
        #[cfg(not(feature = "generate"))]
        Command::Generate(arguments) => Err(left_out::generate(&arguments.directory)),
        Command::Monitors(arguments) => monitors::run(*arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Reconcile(arguments) => reconcile::run(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, message }) => {
            print_stderr(&message);
            ExitCode::from(status)
        }
    }
}
