//! `braze-datadog health`: asks the running forwarder whether it can take events.

use std::time::Duration;

use admin_api::{Client, reachable};

use crate::app::arguments::ConfigArgument;
use crate::app::{Failure, local_runtime};
use crate::config::Config;

/// How long it waits for an answer; orchestrators give up after a few seconds themselves.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);

/// A process that has refused its new configuration goes on with the old one.
pub(super) fn run(given: &ConfigArgument) -> Result<(), Failure> {
    let listen = Config::admin_listen(&given.path()).map_err(Failure::failed)?;
    let runtime = local_runtime()?;
    let client = Client::local(listen, HEALTH_TIMEOUT).map_err(Failure::failed)?;
    let ready = runtime.block_on(client.health("/readyz"));
    ready.map_err(|error| Failure::failed(format!("{}{error}", reachable(listen))))
}
