//! `braze-datadog top`: watches a running forwarder in the terminal.

use admin_api::reachable;

use super::ADMIN_URL;
use super::command_line::TopArguments;
use crate::app::{Failure, load};

/// Watches it until the user leaves.
pub(super) fn run(arguments: TopArguments) -> Result<(), Failure> {
    let url = match (arguments.url, arguments.config) {
        (Some(url), _) => url,
        (None, Some(path)) => {
            let (config, _) = load(&path)?;
            format!("http://{}", reachable(config.admin.listen))
        }
        (None, None) => ADMIN_URL.to_owned(),
    };
    top_at(&url)
}

#[cfg(feature = "top")]
fn top_at(url: &str) -> Result<(), Failure> {
    crate::app::runtime(1)?.block_on(::top::run(url)).map_err(Failure::failed)
}

#[cfg(not(feature = "top"))]
fn top_at(url: &str) -> Result<(), Failure> {
    Err(crate::app::left_out::top(url))
}
