//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Counts the messages that Braze sends and forwards the counts to Datadog.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the forwarder, until SIGTERM or SIGINT
    Run(RunArguments),
    /// Read and validate the configuration, and show each connection (never a key)
    Check(ConfigArgument),
    /// Ask the running forwarder whether it can take events (for container health checks)
    Health(ConfigArgument),
    /// Watch a running forwarder in this terminal: whether sends flow, connections, campaigns, search
    Top(TopArguments),
}

#[derive(Debug, Args)]
pub(super) struct TopArguments {
    /// The admin port to look at, here or on another machine [default: that of --config, else `http://127.0.0.1:8081`]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Take the admin port's address from this configuration
    #[arg(long, value_name = "PATH", conflicts_with = "url")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) config: ConfigArgument,
    #[command(flatten)]
    pub(super) import: ImportArguments,
}

#[derive(Debug, Args)]
pub(super) struct ConfigArgument {
    /// The configuration file [default: `$BRAZE_DATADOG_CONFIG`, else /etc/braze-datadog/braze-datadog.toml]
    #[arg(long, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// First count the events in these files: NDJSON, a JSON array or an envelope, an Avro object container, each
    /// also gzipped; a directory stands for the files below it, `-` for standard input
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub(super) import: Vec<PathBuf>,
    /// Count files anew that were counted before
    #[arg(long, requires = "import")]
    pub(super) again: bool,
    /// Stop when the imports and the queue are empty and the last flush has settled; push is not opened
    #[arg(long)]
    pub(super) once: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn several_files_can_be_imported_and_standard_input() {
        let given = [
            "braze-datadog",
            "run",
            "--config",
            "c",
            "--import",
            "a",
            "b",
            "--again",
            "--import",
            "-",
            "--once",
        ];
        let Command::Run(run) = Arguments::try_parse_from(given).unwrap().command else { panic!("not run") };
        assert_eq!(run.import.import, [PathBuf::from("a"), "b".into(), "-".into()]);
        assert!(run.import.again && run.import.once);
    }
}
