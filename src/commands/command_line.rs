//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::connections::ConnectionsArguments;
use super::monitors::MonitorsArguments;
use super::reconcile::ReconcileArguments;
use super::version::version;
use crate::app::arguments::{ConfigArgument, RunArguments};

const AFTER_HELP: &str = "\
A first look, without an account, in the folder of the sources or of the archive (Debian: /usr/share/braze-datadog):
  braze-datadog run --config config/quickstart.toml --again --import samples/currents.ndjson
Before a configuration goes live:
  braze-datadog check --config /etc/braze-datadog/braze-datadog.toml
Count last week's files (the last line of the output is the books, as JSON):
  braze-datadog run --once --import exports/ --config …

Exit status: 0; 1 the run failed; 3 run --once has dropped sends, or reconcile found more than its tolerance;
78 the configuration is wrong.
Signals: SIGHUP reloads the configuration; SIGTERM and SIGINT flush and stop, a second one stops at once.
While it runs: http://127.0.0.1:8081/ for people, /status as JSON, /metrics for Prometheus.";

/// Counts the messages that Braze sends and forwards the counts to Datadog.
#[derive(Debug, Parser)]
#[command(version = version(), about, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the forwarder, until SIGTERM or SIGINT
    Run(RunArguments),
    /// Read and validate the configuration, and show each connection (never a key)
    Check(CheckArguments),
    /// Add, list, test, rotate and remove the connections of the connections directory
    Connections(Box<ConnectionsArguments>),
    /// Ask the running forwarder whether it can take events (for container health checks)
    Health(ConfigArgument),
    /// Watch a running forwarder in this terminal: whether sends flow, connections, campaigns, search
    Top(TopArguments),
    /// Write man pages and shell completions (bash, zsh, fish) into a directory
    Generate(GenerateArguments),
    /// Print a Datadog monitor on a campaign, a Canvas, a step or the forwarder, ready to be posted
    Monitors(Box<MonitorsArguments>),
    /// Compare what Datadog has accepted with Braze's dashboard, by campaign, Canvas, step and day, and explain the differences
    Reconcile(Box<ReconcileArguments>),
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
pub(super) struct GenerateArguments {
    /// The directory; it is created if it does not exist, and files in it are replaced
    #[arg(value_name = "DIRECTORY")]
    pub(super) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    pub(super) config: ConfigArgument,
    /// Exit with status 78 if there are warnings, too
    #[arg(long)]
    pub(super) deny_warnings: bool,
    /// Also ask Datadog whether each connection's API key is valid on its site; exit status 78 if one is not, 1 if
    /// Datadog can't be asked
    #[arg(long)]
    pub(super) online: bool,
    /// If a key is not valid, ask all of Datadog's other sites whether it belongs there. This shows the key to Datadog's
    /// other regions, the US government's included
    #[arg(long, requires = "online")]
    pub(super) find_site: bool,
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
    fn a_key_is_shown_to_other_sites_only_when_that_is_asked_for_beside_online() {
        let parse = |given: &[&str]| match Arguments::try_parse_from(given).map(|parsed| parsed.command) {
            Ok(Command::Check(check)) => Some((check.online, check.find_site)),
            _ => None,
        };
        assert_eq!(parse(&["braze-datadog", "check"]), Some((false, false)));
        assert_eq!(parse(&["braze-datadog", "check", "--online"]), Some((true, false)));
        assert_eq!(parse(&["braze-datadog", "check", "--online", "--find-site"]), Some((true, true)));
        assert_eq!(parse(&["braze-datadog", "check", "--find-site"]), None);
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
