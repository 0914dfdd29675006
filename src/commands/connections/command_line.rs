//! The arguments of `braze-datadog connections`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::key::KeyPlace;
use crate::app::arguments::ConfigArgument;

const AFTER_HELP: &str = "\
A connection is a file NAME.toml in connections_directory, with its API key in NAME.key beside it. A running forwarder picks
both up by itself; a command waits for that, and says so.
  braze-datadog connections add acme --app-group 5f3e8f0a-1234-4cde-9abc-0123456789ab
  vault read -field=key secret/acme | braze-datadog connections rotate acme --json

Exit status: 0; 1 it failed, or Datadog or the forwarder did not answer; 78 it is refused: a key that is not valid, a name
that is taken, an app group that another connection has.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(in crate::commands) struct ConnectionsArguments {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Add a connection. It asks for the API key without echo, or reads it from standard input
    Add(AddArguments),
    /// List the connections, and their state in the running forwarder
    List(Common),
    /// Ask Datadog whether a connection's API key is valid on its site
    Test(TestArguments),
    /// Replace a connection's API key; it asks for the new one, or reads it from standard input
    Rotate(NamedArguments),
    /// Remove a connection and its key. What is counted for it by then is still sent
    Remove(NamedArguments),
}

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) config: ConfigArgument,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// How many seconds to wait for the running forwarder to pick the change up; 0: do not wait
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub(super) wait: Duration,
}

#[derive(Debug, Args)]
pub(super) struct AddArguments {
    /// Its name: lower-case letters, digits and _
    pub(super) name: String,
    /// The app groups (Braze also calls them workspaces) whose sends it gets. None: every one that no other connection names
    #[arg(long = "app-group", value_name = "ID", num_args = 1..)]
    pub(super) app_groups: Vec<String>,
    /// The name of an app group, instead of one that events carry
    #[arg(long = "app-group-name", value_name = "ID=NAME", value_parser = id_and_name)]
    pub(super) app_group_names: Vec<(String, String)>,
    /// The Datadog site: US1, EU1, … Without it, all of Datadog's sites but the US government's are asked whether the key
    /// belongs there
    #[arg(long, conflicts_with = "url")]
    pub(super) site: Option<String>,
    /// A full base URL instead of a site, for proxies; the key is not validated then
    #[arg(long)]
    pub(super) url: Option<String>,
    /// The name of the metric, if it is not braze.messaging.sent
    #[arg(long)]
    pub(super) metric: Option<String>,
    /// Do not ask Datadog whether the key is valid on the site
    #[arg(long, requires = "site")]
    pub(super) no_validate: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct NamedArguments {
    /// The connection's name
    pub(super) name: String,
    /// Do not ask Datadog whether the key is valid on the site
    #[arg(long)]
    pub(super) no_validate: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct TestArguments {
    /// The connection's name
    pub(super) name: String,
    /// Also send one point, braze.forwarder.test, to look for in the Metrics Explorer
    #[arg(long)]
    pub(super) send: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

fn id_and_name(text: &str) -> Result<(String, String), String> {
    let parted = text.split_once('=').filter(|(id, name)| !id.is_empty() && !name.is_empty());
    parted.map(|(id, name)| (id.to_owned(), name.to_owned())).ok_or_else(|| "has to be ID=NAME".to_owned())
}

impl AddArguments {
    /// The connection's file.
    pub(super) fn file(&self, site: Option<&str>, key: KeyPlace<'_>) -> String {
        let mut lines = Vec::new();
        let mut set = |key: &str, value: Value| lines.push(format!("{key} = {value}\n"));
        if let Some(site) = site {
            set("site", site.into());
        }
        if let Some(url) = &self.url {
            set("url", (&**url).into());
        }
        match key {
            KeyPlace::Inline(key) => set("api_key", key.into()),
            KeyPlace::File(name) => set("api_key_file", format!("./{name}.key").into()),
        }
        set("app_group_ids", self.app_groups.clone().into());
        if let Some(metric) = &self.metric {
            set("metric", (&**metric).into());
        }
        if !self.app_group_names.is_empty() {
            lines.push("\n[app_group_names]\n".to_owned());
        }
        // A text of JSON is one of TOML.
        let names = self.app_group_names.iter();
        lines.extend(names.map(|(id, name)| format!("{} = {}\n", Value::from(&**id), Value::from(&**name))));
        lines.concat()
    }
}
