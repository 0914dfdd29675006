//! The binary: reads the command line, and says how it ended.

use std::process::ExitCode;

use braze_datadog::app;

fn main() -> ExitCode {
    app::main()
}
