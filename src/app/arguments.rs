//! What `run` can be told on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;

const AFTER_HELP: &str = "\
Imported files are read in place. How far they have been counted is kept in the queue's directory, so an interrupted import
resumes there when it is run again, and a file that is finished is skipped unless --again.
  braze-datadog run --import dataexport/ --once           count files and stop
  braze-datadog run --import s3://BUCKET/PREFIX/ --once    count the objects of a bucket ([queue.storage] has its options)
  zcat *.ndjson.gz | braze-datadog run --import - --once  count standard input (nothing is remembered)
Points in Datadog can't be removed: use --again on files that were counted before only with an empty metric, or with
dry_run = true in the connection.";

/// The arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) config: ConfigArgument,
    /// Refuse the whole configuration if one connection's is wrong, at the start and at a reload; otherwise that
    /// connection is left out, and sends of its app groups are dropped
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) import: ImportArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgument {
    /// The configuration file [default: `$BRAZE_DATADOG_CONFIG`, else /etc/braze-datadog/braze-datadog.toml]
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,
}

impl ConfigArgument {
    /// The configuration file, whether or not it was given.
    pub(crate) fn path(&self) -> PathBuf {
        Config::path(self.config.clone(), std::env::var_os("BRAZE_DATADOG_CONFIG"))
    }
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// First count the events in these files: NDJSON, a JSON array or an envelope, an Avro object container, each
    /// plain or compressed by gzip, bzip2, xz or zstandard; a directory stands for the files below it, except those whose
    /// name, or whose directory's, begins with `_` or `.`; `-` for standard input
    #[arg(long, value_name = "FILE", num_args = 1.., action = clap::ArgAction::Append)]
    pub(crate) import: Vec<PathBuf>,
    /// Count files again that were counted before
    #[arg(long, requires = "import")]
    pub(crate) again: bool,
    /// Stop when the imports and the queue are empty and the last flush has its outcome; the push port is not opened
    #[arg(long)]
    pub(crate) once: bool,
}
